//! Counts what became of the calls that a run measures: those that were due after the warm-up and before the end.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::client::{Call, Outcome};
use super::super::drive::Observer;
use super::super::failures::Failures;
use super::super::progress::Progress;
use super::slices::{Slice, Slices};

/// Longest latency that is told from longer ones, in nanoseconds: an hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
/// Shortest difference that the histogram shows near zero, in nanoseconds.
const LATENCY_MIN_NS: u64 = 100;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// What became of the calls so far.
#[derive(Debug)]
pub struct Tally {
    from_ns: u64,
    to_ns: u64,
    deadline_ns: u64,
    progress: Progress,
    /// Answers of any call that came within the measured time.
    pub(super) answered_within: u64,
    pub(super) ok: u64,
    pub(super) over_limit: u64,
    pub(super) failures: Failures,
    pub(super) unanswered: u64,
    pub(super) unsent: u64,
    pub(super) missed: u64,
    /// Answered in time, with an error.
    pub(super) failed_in_time: u64,
    /// Of all calls that were answered, errors among them, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    all_answered: u64,
    slices: Option<Slices>,
}

// === impl Tally ===

impl Tally {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(warm_up: Duration, duration: Duration, deadline: Duration) -> Tally {
        let from_ns = warm_up.as_nanos() as u64;
        Tally {
            from_ns,
            to_ns: from_ns + duration.as_nanos() as u64,
            deadline_ns: deadline.as_nanos() as u64,
            progress: Progress::new(),
            answered_within: 0,
            ok: 0,
            over_limit: 0,
            failures: Failures::default(),
            unanswered: 0,
            unsent: 0,
            missed: 0,
            failed_in_time: 0,
            latency: Histogram::new_with_bounds(LATENCY_MIN_NS, LATENCY_MAX_NS, DIGITS)
                .expect("the bounds are constants that a histogram allows"),
            all_answered: 0,
            slices: None,
        }
    }

    /// The same, with every stretch of that length counted by itself as well.
    #[must_use]
    pub fn sliced(mut self, length: Duration) -> Tally {
        self.slices = Some(Slices::new(length));
        self
    }

    /// The stretches so far, if they are counted.
    #[must_use]
    pub fn slices(&self) -> Vec<Slice> {
        self.slices.as_ref().map(Slices::finished).unwrap_or_default()
    }

    /// Milliseconds from the start of the run to the first call that is measured.
    #[must_use]
    pub fn from_ms(&self) -> u64 {
        self.from_ns / 1_000_000
    }

    /// Seconds in which calls were measured.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        (self.to_ns - self.from_ns) as f64 / 1e9
    }

    /// Calls with an answer, errors among them.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.ok + self.over_limit + self.failures.total()
    }

    /// Calls that were due, sent or not.
    #[must_use]
    pub fn due(&self) -> u64 {
        self.answered() + self.unanswered + self.unsent
    }

    fn measures(&self, at_ns: u64) -> bool {
        (self.from_ns..self.to_ns).contains(&at_ns)
    }
}

impl Observer for Tally {
    fn ended(&mut self, call: &Call, at_ns: u64, outcome: Outcome) {
        let answered = !matches!(outcome, Outcome::Unanswered | Outcome::Returned);
        self.all_answered += u64::from(answered);
        self.answered_within += u64::from(answered && self.measures(at_ns));
        if !self.measures(call.due_ns) {
            return;
        }
        let latency_ns = at_ns.saturating_sub(call.due_ns);
        let in_time = answered && latency_ns <= self.deadline_ns;
        self.missed += u64::from(!in_time);
        if let Some(slices) = &mut self.slices {
            slices.count(call.due_ns - self.from_ns, answered.then_some(latency_ns), !in_time);
        }
        if answered {
            self.latency.saturating_record(latency_ns);
        }
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::OverLimit => self.over_limit += 1,
            Outcome::Failed(failure) => {
                self.failed_in_time += u64::from(in_time);
                self.failures.count(failure);
            }
            Outcome::Returned | Outcome::Unanswered => self.unanswered += 1,
        }
    }

    fn unsent(&mut self, due_ns: u64) {
        if self.measures(due_ns) {
            self.unsent += 1;
            self.missed += 1;
            if let Some(slices) = &mut self.slices {
                slices.count(due_ns - self.from_ns, None, true);
            }
        }
    }

    fn progress(&mut self, now_ns: u64) {
        let phase = match now_ns {
            now_ns if now_ns < self.from_ns => "warming up",
            now_ns if now_ns < self.to_ns => "measuring",
            _ => "waiting for the last answers",
        };
        self.progress.show(phase, now_ns, self.to_ns, self.all_answered);
    }

    fn finished(&mut self) {
        self.progress.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::client::Failure;
    use super::*;

    const MS: u64 = 1_000_000;

    /// Warm-up to 100 ms, measured to 200 ms, deadline 20 ms.
    fn tally() -> Tally {
        Tally::new(Duration::from_millis(100), Duration::from_millis(100), Duration::from_millis(20))
    }

    fn call(due_ms: u64) -> Call {
        Call { due_ns: due_ms * MS, sent_ns: due_ms * MS, key: 0, returns: 0 }
    }

    #[test]
    fn a_call_counts_when_it_was_due_and_an_answer_for_the_rate_when_it_came() {
        let mut tally = tally();
        tally.ended(&call(99), 101 * MS, Outcome::Ok);
        tally.ended(&call(100), 101 * MS, Outcome::Ok);
        tally.ended(&call(199), 205 * MS, Outcome::OverLimit);
        tally.ended(&call(200), 205 * MS, Outcome::Ok);
        assert_eq!((tally.ok, tally.over_limit, tally.answered_within), (1, 1, 2));
    }

    #[test]
    fn whatever_comes_late_or_never_missed_its_deadline() {
        let mut tally = tally();
        tally.ended(&call(100), 120 * MS, Outcome::Ok);
        tally.ended(&call(100), 120 * MS + 1, Outcome::Ok);
        tally.ended(&call(100), 150 * MS, Outcome::Failed(Failure::Grpc(4)));
        tally.ended(&call(100), 101 * MS, Outcome::Failed(Failure::Grpc(8)));
        tally.ended(&call(100), 900 * MS, Outcome::Unanswered);
        tally.unsent(150 * MS);
        tally.unsent(250 * MS);
        assert_eq!((tally.missed, tally.failed_in_time, tally.unanswered, tally.unsent), (4, 1, 1, 1));
        assert_eq!((tally.answered(), tally.due(), tally.latency.len()), (4, 6, 4));
    }
}
