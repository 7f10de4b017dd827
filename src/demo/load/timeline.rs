//! What happened when: counts and latencies in slices of time, and of the overload as a whole.
//!
//! A slice has what was offered and answered *in* it, which is what a plot shows. The totals have the calls that were
//! *due* in the overload, whenever they were answered, so that every call is counted once and the outcomes add up to
//! what was offered.

use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::outcome::Outcome;

/// Everything that was seen of a stage.
#[derive(Debug)]
pub struct Timeline {
    slices: Vec<Slice>,
    slice: Duration,
    overload: Range<Duration>,
    /// Calls that were due in the overload.
    pub during: Totals,
    /// Calls that were due after it.
    pub after: Totals,
}

/// A stretch of time.
#[derive(Debug)]
pub struct Slice {
    /// Calls that were due.
    pub offered: u64,
    /// Calls that ended, by outcome in the order of [`Outcome::ALL`].
    pub ended: [u64; Outcome::ALL.len()],
    /// From due to answered, in µs, of the calls that ended well.
    pub latency_us: Histogram<u64>,
    /// Requests that waited in the inventory when it was last asked.
    pub queued: Option<u64>,
    /// What it could do when it was last asked, in requests a second.
    pub capacity: Option<f64>,
    /// What an adaptive limit let through when it was last read, in requests a second.
    pub limit: Option<f64>,
}

/// Calls and what became of them.
#[derive(Debug)]
pub struct Totals {
    /// Calls by outcome, in the order of [`Outcome::ALL`].
    pub ended: [u64; Outcome::ALL.len()],
    /// From due to answered, in µs, of the calls that ended well.
    pub latency_us: Histogram<u64>,
}

// === impl Timeline ===

impl Timeline {
    /// Slices of that length for a stage of that length.
    #[must_use]
    pub fn new(length: Duration, slice: Duration, overload: Range<Duration>) -> Timeline {
        let count = length.as_nanos().div_ceil(slice.as_nanos().max(1)) as usize;
        Timeline {
            slices: (0..count).map(|_| Slice::default()).collect(),
            slice,
            overload,
            during: Totals::default(),
            after: Totals::default(),
        }
    }

    /// Notes that a call is due.
    pub fn offer(&mut self, due: Duration) {
        if let Some(slice) = self.at(due) {
            slice.offered += 1;
        }
    }

    /// Notes what became of a call that was due and ended then.
    pub fn end(&mut self, due: Duration, ended: Duration, outcome: Outcome) {
        let latency = ended.saturating_sub(due);
        if let Some(slice) = self.at(ended) {
            slice.ended[outcome as usize] += 1;
            if outcome == Outcome::Good {
                slice.latency_us.saturating_record(micros(latency));
            }
        }
        let totals = match due {
            due if due < self.overload.start => return,
            due if due < self.overload.end => &mut self.during,
            _ => &mut self.after,
        };
        totals.ended[outcome as usize] += 1;
        if outcome == Outcome::Good {
            totals.latency_us.saturating_record(micros(latency));
        }
    }

    /// Notes how many requests wait in the inventory, and what it can do.
    pub fn plant(&mut self, at: Duration, queued: u64, capacity: f64) {
        if let Some(slice) = self.at(at) {
            (slice.queued, slice.capacity) = (Some(queued), Some(capacity));
        }
    }

    /// Notes an adaptive limit.
    pub fn limit(&mut self, at: Duration, limit: f64) {
        if let Some(slice) = self.at(at) {
            slice.limit = Some(limit);
        }
    }

    /// What the inventory could do in the overload on average; `None` if it was never asked.
    #[must_use]
    pub fn capacity(&self) -> Option<f64> {
        let from = self.overload.start.as_nanos().div_ceil(self.slice.as_nanos().max(1)) as usize;
        let to = (self.overload.end.as_nanos() / self.slice.as_nanos().max(1)) as usize;
        let known: Vec<f64> = self.slices.get(from..to)?.iter().filter_map(|slice| slice.capacity).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// The slices, in order.
    #[must_use]
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// The length of each.
    #[must_use]
    pub fn slice_length(&self) -> Duration {
        self.slice
    }

    /// The slice with that instant; calls that end after the stage are in none.
    pub fn at(&mut self, at: Duration) -> Option<&mut Slice> {
        let index = at.as_nanos() / self.slice.as_nanos().max(1);
        self.slices.get_mut(usize::try_from(index).ok()?)
    }
}

// === impl Totals ===

impl Totals {
    /// All calls.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.ended.iter().sum()
    }

    /// Calls with that outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.ended[outcome as usize]
    }
}

impl Default for Totals {
    fn default() -> Totals {
        Totals { ended: Default::default(), latency_us: histogram() }
    }
}

impl Default for Slice {
    fn default() -> Slice {
        Slice {
            offered: 0,
            ended: Default::default(),
            latency_us: histogram(),
            queued: None,
            capacity: None,
            limit: None,
        }
    }
}

/// Up to a minute, to three digits. No call waits so long.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order and three digits are allowed")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_have_what_ended_in_them_and_totals_what_was_due() {
        let ms = Duration::from_millis;
        let mut timeline = Timeline::new(ms(950), ms(100), ms(200)..ms(600));
        assert_eq!(timeline.slices().len(), 10);
        for (due, ended, outcome) in [
            (50, 60, Outcome::Good),
            (199, 250, Outcome::Refused),
            (200, 230, Outcome::Good),
            (599, 900, Outcome::Good),
            (700, 5_000, Outcome::TimedOut),
        ] {
            timeline.offer(ms(due));
            timeline.end(ms(due), ms(ended), outcome);
        }
        timeline.plant(ms(200), 7, 100.0);
        timeline.plant(ms(500), 7, 50.0);
        timeline.plant(ms(5_000), 8, 10.0);
        timeline.limit(ms(310), 90.0);
        assert_eq!(
            timeline.slices().iter().map(|slice| slice.offered).collect::<Vec<_>>(),
            [1, 1, 1, 0, 0, 1, 0, 1, 0, 0]
        );
        assert_eq!(timeline.slices()[2].ended[..2], [1, 1]);
        assert_eq!((timeline.slices()[2].queued, timeline.slices()[3].limit), (Some(7), Some(90.0)));
        assert_eq!(timeline.capacity(), Some(75.0), "over the slices of the overload");
        assert_eq!((timeline.during.offered(), timeline.during.count(Outcome::Good)), (2, 2));
        assert_eq!((timeline.after.offered(), timeline.after.count(Outcome::TimedOut)), (1, 1));
        assert_eq!(timeline.during.latency_us.max() / 1_000, 301);
    }
}
