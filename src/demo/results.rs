//! What was seen, in numbers: what the table, the page and `--json` show.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::outcome::Outcome;
use super::load::profile::Profile;
use super::load::timeline::{Slice, Timeline, Totals};
use super::stage::Stage;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// What the inventory can do, in requests a second.
    pub capacity: f64,
    /// How many wait in it at most.
    pub queue_max: f64,
    /// How many times its capacity is asked for.
    pub overload: f64,
    /// The proxy's name.
    pub proxy: String,
    /// How Tidegate ran.
    pub tidegate: String,
    /// The stages, in the order in which they ran.
    pub stages: Vec<StageResults>,
}

/// A stage.
#[derive(Clone, Debug, Serialize)]
pub struct StageResults {
    /// Which.
    pub stage: Stage,
    /// What its limit lets through, in requests a second, if it has one that stays the same.
    pub limit: Option<f64>,
    /// What the inventory could do in the overload on average, in requests a second.
    pub capacity: f64,
    /// Calls that were due in the overload.
    pub during: Summary,
    /// Calls that were due after it.
    pub after: Summary,
    /// When the overload begins, in seconds.
    pub overload_from_s: f64,
    /// When it ends.
    pub overload_to_s: f64,
    /// How long the stage lasts.
    pub length_s: f64,
    /// What happened when.
    pub points: Vec<Point>,
}

/// Calls that were due in a stretch of time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Summary {
    /// How long it was.
    pub seconds: f64,
    /// How many there were.
    pub offered: u64,
    /// What became of them.
    #[serde(flatten)]
    pub counts: Counts,
    /// Median of the latency of those that ended well, in ms.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub p99_ms: Option<f64>,
}

/// Calls by outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// An order was made.
    pub good: u64,
    /// A limit refused it.
    pub refused: u64,
    /// The inventory had no place for it.
    pub overloaded: u64,
    /// The proxy had no host that it would use.
    pub ejected: u64,
    /// The proxy had no place for it.
    pub shed: u64,
    /// Somebody waited too long.
    pub timed_out: u64,
    /// Everything else.
    pub failed: u64,
    /// It never went out.
    pub unsent: u64,
}

/// A slice of a stage; counts are of what ended in it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// Where it begins, in seconds from the stage's beginning.
    pub at_s: f64,
    /// How long it is.
    pub seconds: f64,
    /// Calls that were due in it.
    pub offered: u64,
    /// What became of those that ended in it.
    #[serde(flatten)]
    pub counts: Counts,
    /// Median of the latency of those that ended well, in ms.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub p99_ms: Option<f64>,
    /// Requests that waited in the inventory.
    pub queued: Option<u64>,
    /// What the limit let through, in requests a second.
    pub limit: Option<f64>,
    /// What the inventory could do, in requests a second.
    pub capacity: f64,
}

// === impl StageResults ===

impl StageResults {
    /// A stage as its timeline tells it; `limit` and `capacity` are those of slices that say nothing of them.
    #[must_use]
    pub fn new(
        stage: Stage,
        limit: Option<f64>,
        capacity: f64,
        profile: &Profile,
        timeline: &Timeline,
    ) -> StageResults {
        let overload = profile.overload_time();
        let slice = timeline.slice_length();
        // What isn't known of a slice is as it was in the one before.
        let mut lately = (limit, capacity);
        let points = timeline.slices().iter().zip(0_u32..).map(|(one, number)| {
            lately = (one.limit.or(lately.0), one.capacity.unwrap_or(lately.1));
            Point::new(one, slice, number, lately)
        });
        let points = points.collect();
        StageResults {
            stage,
            limit,
            capacity: timeline.capacity().unwrap_or(capacity),
            during: Summary::new(&timeline.during, profile.overload.length),
            after: Summary::new(&timeline.after, profile.after.length),
            overload_from_s: overload.start.as_secs_f64(),
            overload_to_s: overload.end.as_secs_f64(),
            length_s: profile.length().as_secs_f64(),
            points,
        }
    }
}

// === impl Summary ===

impl Summary {
    fn new(totals: &Totals, length: Duration) -> Summary {
        Summary {
            seconds: length.as_secs_f64(),
            offered: totals.offered(),
            counts: Counts::new(&totals.ended),
            p50_ms: quantile_ms(&totals.latency_us, 0.5),
            p99_ms: quantile_ms(&totals.latency_us, 0.99),
        }
    }

    /// A count as calls a second.
    #[must_use]
    pub fn rate(&self, count: u64) -> f64 {
        count as f64 / self.seconds
    }

    /// Share of all calls that ended well; 1 if there were none.
    #[must_use]
    pub fn good_share(&self) -> f64 {
        if self.offered == 0 { 1.0 } else { self.counts.good as f64 / self.offered as f64 }
    }
}

// === impl Counts ===

impl Counts {
    fn new(ended: &[u64; Outcome::ALL.len()]) -> Counts {
        let of = |outcome: Outcome| ended[outcome as usize];
        Counts {
            good: of(Outcome::Good),
            refused: of(Outcome::Refused),
            overloaded: of(Outcome::Overloaded),
            ejected: of(Outcome::Ejected),
            shed: of(Outcome::Shed),
            timed_out: of(Outcome::TimedOut),
            failed: of(Outcome::Failed),
            unsent: of(Outcome::Unsent),
        }
    }

    /// The count of one outcome.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Good => self.good,
            Outcome::Refused => self.refused,
            Outcome::Overloaded => self.overloaded,
            Outcome::Ejected => self.ejected,
            Outcome::Shed => self.shed,
            Outcome::TimedOut => self.timed_out,
            Outcome::Failed => self.failed,
            Outcome::Unsent => self.unsent,
        }
    }

    /// What failed though no limit refused it.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.overloaded + self.ejected + self.shed + self.timed_out + self.failed + self.unsent
    }
}

// === impl Point ===

impl Point {
    fn new(slice: &Slice, length: Duration, number: u32, (limit, capacity): (Option<f64>, f64)) -> Point {
        Point {
            at_s: (length * number).as_secs_f64(),
            seconds: length.as_secs_f64(),
            offered: slice.offered,
            counts: Counts::new(&slice.ended),
            p50_ms: quantile_ms(&slice.latency_us, 0.5),
            p99_ms: quantile_ms(&slice.latency_us, 0.99),
            queued: slice.queued,
            limit,
            capacity,
        }
    }
}

fn quantile_ms(latency_us: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!latency_us.is_empty()).then(|| latency_us.value_at_quantile(quantile) as f64 / 1_000.0)
}
