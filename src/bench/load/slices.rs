//! A run in stretches of equal length: what became of the calls that were due in each.
//!
//! A percentile over a whole run hides when it was bad. With stretches one sees how long a server needs to be itself
//! again after an overload.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is told from longer ones, in nanoseconds: a minute. A call without an answer counts as one.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// Shortest difference that is shown near zero, in nanoseconds.
const LATENCY_MIN_NS: u64 = 1_000;
/// Digits of a latency that are kept: a histogram of two takes some kilobytes.
const DIGITS: u8 = 2;

/// Most stretches of a run; what is due later counts for the last.
const SLICES_MAX: usize = 2_000;

/// A stretch of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Where it begins, in milliseconds from the beginning of the measured time.
    pub from_ms: f64,
    /// Calls that were due in it.
    pub due: u64,
    /// … that were answered after their deadline or never.
    pub missed: u64,
    /// Half of the calls took no longer, in microseconds.
    pub p50_us: f64,
    /// Of a hundred calls, 99. A call without an answer counts as a minute.
    pub p99_us: f64,
}

/// Counts a run in stretches.
#[derive(Debug)]
pub struct Slices {
    length_ns: u64,
    counted: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    missed: u64,
    latency: Histogram<u32>,
}

// === impl Slices ===

impl Slices {
    /// Stretches of that length, which is at least a nanosecond.
    #[must_use]
    pub fn new(length: Duration) -> Slices {
        Slices { length_ns: (length.as_nanos() as u64).max(1), counted: Vec::new() }
    }

    /// Counts a call that was due so long after the beginning; `latency_ns` is `None` for one without an answer.
    pub fn count(&mut self, due_ns: u64, latency_ns: Option<u64>, missed: bool) {
        let at = usize::try_from(due_ns / self.length_ns).unwrap_or(usize::MAX).min(SLICES_MAX - 1);
        if self.counted.len() <= at {
            self.counted.resize_with(at + 1, Counted::default);
        }
        let slice = &mut self.counted[at];
        slice.missed += u64::from(missed);
        slice.latency.saturating_record(latency_ns.unwrap_or(LATENCY_MAX_NS));
    }

    /// All stretches up to the last in which a call was due.
    #[must_use]
    pub fn finished(&self) -> Vec<Slice> {
        let one = |(at, counted): (usize, &Counted)| Slice {
            from_ms: at as f64 * self.length_ns as f64 / 1e6,
            due: counted.latency.len(),
            missed: counted.missed,
            p50_us: counted.latency.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: counted.latency.value_at_quantile(0.99) as f64 / 1e3,
        };
        self.counted.iter().enumerate().map(one).collect()
    }
}

// === impl Counted ===

impl Default for Counted {
    fn default() -> Counted {
        let latency = Histogram::new_with_bounds(LATENCY_MIN_NS, LATENCY_MAX_NS, DIGITS)
            .expect("the bounds are constants that a histogram allows");
        Counted { missed: 0, latency }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_call_counts_where_it_was_due_and_without_an_answer_it_is_slow() {
        let mut slices = Slices::new(Duration::from_millis(100));
        slices.count(0, Some(MS), false);
        slices.count(99 * MS, Some(900 * MS), true);
        slices.count(250 * MS, None, true);
        let found = slices.finished();
        assert_eq!(found.iter().map(|slice| (slice.due, slice.missed)).collect::<Vec<_>>(), [(2, 1), (0, 0), (1, 1)]);
        assert_eq!(found.iter().map(|slice| slice.from_ms).collect::<Vec<_>>(), [0.0, 100.0, 200.0]);
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.02;
        assert!(near(found[0].p50_us, 1_000.0) && near(found[0].p99_us, 900_000.0), "{found:?}");
        assert!(near(found[2].p99_us, 60e6), "{found:?}");
    }

    #[test]
    fn a_run_that_is_longer_than_its_stretches_grows_no_further() {
        let mut slices = Slices::new(Duration::from_nanos(1));
        for due_ns in [0, u64::MAX, u64::MAX - 1] {
            slices.count(due_ns, Some(1), false);
        }
        assert_eq!(slices.finished().len(), SLICES_MAX);
        assert_eq!(slices.finished()[SLICES_MAX - 1].due, 2);
    }
}
