//! What was added since last time: from sums, as the process keeps them, to differences, as statsd wants them.
//!
//! A sum is asked for when its difference is about to be used, and only then taken as used: a walk that is broken off
//! leaves what it didn't reach for the next. So while nothing can be sent, nothing is lost and nothing is queued: the
//! counters themselves are the buffer.

use std::collections::HashMap;

use super::dotted::Identity;
use super::histogram::{BUCKETS, Reading};

/// What was used of each metric. Holds as many as were asked about in the last whole walk, and in walks broken off
/// since.
#[derive(Debug, Default)]
pub struct Deltas {
    counters: HashMap<Identity, (u64, u64)>,
    timers: HashMap<Identity, [u64; BUCKETS]>,
    /// Walks that came to their end.
    walks: u64,
}

// === impl Deltas ===

impl Deltas {
    /// What was added to a counter whose sum is `total`, which is used from now on.
    pub fn of_counter(&mut self, counter: Identity, total: u64) -> u64 {
        if total == 0 {
            return 0;
        }
        let (used, walk) = self.counters.entry(counter).or_default();
        *walk = self.walks;
        total.saturating_sub(std::mem::replace(used, total))
    }

    /// The same for the buckets of a timer.
    pub fn of_timer(&mut self, timer: Identity, reading: &Reading) -> [u64; BUCKETS] {
        let used = self.timers.entry(timer).or_insert([0; BUCKETS]);
        std::array::from_fn(|index| {
            let (_, total) = reading.buckets[index];
            total.saturating_sub(std::mem::replace(&mut used[index], total))
        })
    }

    /// Says that all metrics there are were asked about, so what was not is gone.
    pub fn walked(&mut self) {
        let walks = self.walks;
        self.counters.retain(|_, (_, walk)| *walk == walks);
        self.walks += 1;
    }

    /// Counters that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether nothing was used so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::time::Duration;

    use super::super::dotted::Value;
    use super::super::{GrpcMethod, Metrics};
    use super::*;

    /// What a walk gives for counters of rules, all together, and for timers.
    fn walk(metrics: &Metrics, deltas: &mut Deltas, limit: usize) -> (u64, u64) {
        let (mut hits, mut calls, mut left) = (0, 0, limit);
        let walked = metrics.each(|name, value| {
            match value {
                Value::Counter(total) if name.to_string().ends_with("total_hits") => {
                    if left == 0 {
                        return ControlFlow::Break(());
                    }
                    left -= 1;
                    hits += deltas.of_counter(name.identity(), total);
                }
                Value::Timer(reading) => {
                    calls += deltas.of_timer(name.identity(), reading).iter().sum::<u64>();
                }
                Value::Counter(_) | Value::Gauge(_) => {}
            }
            ControlFlow::Continue(())
        });
        if walked.is_continue() {
            deltas.walked();
        }
        (hits, calls)
    }

    #[test]
    fn each_hit_and_call_is_given_once() {
        let (metrics, mut deltas) = (Metrics::default(), Deltas::default());
        let counters = metrics.rule("d", &["a"]);
        counters.record_unlimited(3);
        metrics.calls(GrpcMethod::Check).observe(Duration::from_millis(3));
        assert_eq!(walk(&metrics, &mut deltas, 9), (3, 1));
        assert_eq!(walk(&metrics, &mut deltas, 9), (0, 0));
        counters.record_unlimited(2);
        assert_eq!(walk(&metrics, &mut deltas, 9), (2, 0));
    }

    #[test]
    fn what_a_broken_walk_did_not_reach_is_given_by_the_next() {
        let (metrics, mut deltas) = (Metrics::default(), Deltas::default());
        let held: Vec<_> = ["a", "b", "c"].map(|key| metrics.rule("d", &[key])).into();
        held.iter().for_each(|counters| counters.record_unlimited(5));
        let given: u64 = [1, 0, 2, 9].into_iter().map(|limit| walk(&metrics, &mut deltas, limit).0).sum();
        assert_eq!(given, 15);
    }

    #[test]
    fn a_series_that_comes_back_begins_at_zero_and_what_is_gone_is_forgotten() {
        let (metrics, mut deltas) = (Metrics::default(), Deltas::default());
        metrics.runtime("d", &["a".to_owned()]).record_unlimited(5);
        assert_eq!(walk(&metrics, &mut deltas, 9), (5, 0));
        metrics.forget_idle();
        metrics.forget_idle();
        metrics.runtime("d", &["a".to_owned()]).record_unlimited(2);
        assert_eq!(walk(&metrics, &mut deltas, 9), (2, 0));
        assert_eq!(deltas.len(), 1);
        metrics.forget_idle();
        metrics.forget_idle();
        walk(&metrics, &mut deltas, 9);
        assert!(deltas.is_empty());
    }
}
