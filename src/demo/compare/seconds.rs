//! What clients saw, by the second in which a request was due.

use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::scenario::Scenario;
use crate::demo::load::driver::Notes;
use crate::demo::load::outcome::Outcome;

/// Requests by the second in which they were due, and by what became of them.
#[derive(Clone, Debug)]
pub struct Seconds {
    seconds: Vec<[u64; Outcome::ALL.len()]>,
    judged: &'static [Range<u32>],
    /// From due to answered, in µs, of requests that were due in the judged seconds and ended well.
    latency_us: Histogram<u64>,
}

// === impl Seconds ===

impl Seconds {
    /// Nothing, as yet.
    #[must_use]
    pub fn new(scenario: Scenario) -> Seconds {
        let latency_us = Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order");
        Seconds {
            seconds: vec![Default::default(); scenario.seconds() as usize],
            judged: scenario.judged(),
            latency_us,
        }
    }

    /// Requests that were due in these seconds.
    #[must_use]
    pub fn offered(&self, seconds: Range<u32>) -> u64 {
        seconds.filter_map(|second| self.seconds.get(second as usize)).flatten().sum()
    }

    /// Of those, the ones with that outcome.
    #[must_use]
    pub fn count(&self, seconds: Range<u32>, outcome: Outcome) -> u64 {
        seconds.filter_map(|second| self.seconds.get(second as usize)).map(|counts| counts[outcome as usize]).sum()
    }

    /// Of those, the ones that failed though no limit refused them: answered with a 5xx, or not at all.
    #[must_use]
    pub fn failed(&self, seconds: Range<u32>) -> u64 {
        let good_or_refused =
            self.count(seconds.clone(), Outcome::Good) + self.count(seconds.clone(), Outcome::Refused);
        self.offered(seconds) - good_or_refused
    }

    /// The 99th percentile of the latency of good answers in the judged seconds, in ms.
    #[must_use]
    pub fn p99_ms(&self) -> Option<f64> {
        (!self.latency_us.is_empty()).then(|| self.latency_us.value_at_quantile(0.99) as f64 / 1_000.0)
    }
}

impl Notes for Seconds {
    fn offer(&mut self, _due: Duration) {}

    fn end(&mut self, due: Duration, ended: Duration, outcome: Outcome) {
        let second = due.as_secs() as u32;
        if let Some(counts) = self.seconds.get_mut(second as usize) {
            counts[outcome as usize] += 1;
        }
        if outcome == Outcome::Good && self.judged.iter().any(|judged| judged.contains(&second)) {
            let latency = u64::try_from(ended.saturating_sub(due).as_micros()).unwrap_or(u64::MAX);
            self.latency_us.saturating_record(latency);
        }
    }
}
