//! What one rule has counted.
//!
//! A rule asks for its [`RuleCounters`] once, when it is loaded, and keeps them: a decision adds to a few atomics and
//! looks no label up. The split of hits into over, near and within is [`Tallied::of`], pure, with the reference
//! service's arithmetic where its windows are used, and with the plain consequence of it where a refused decision is
//! charged to nobody: hits that were not written cannot have been partly within.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use super::series::Labels;
use crate::window::Tally;

/// The counters of one series, shared by all rules with the same domain and path. They are in one line of a processor's
/// cache: where rules are many, a decision waits for each line that it touches.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct RuleCounters {
    total_hits: AtomicU64,
    over_limit: AtomicU64,
    near_limit: AtomicU64,
    within_limit: AtomicU64,
    shadow_mode: AtomicU64,
    negative_hits: AtomicU64,
    remembered: AtomicU64,
    labels: Labels,
}

/// A reading of [`RuleCounters`]: hits since the series began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTotals {
    /// All hits asked for, refused ones and those that the store gave no answer to included.
    pub total_hits: u64,
    /// Hits above the limit.
    pub over_limit: u64,
    /// Hits between the near-limit threshold and the limit.
    pub near_limit: u64,
    /// Hits of charges that had room.
    pub within_limit: u64,
    /// Hits above the limit that a rule in shadow mode let pass.
    pub shadow_mode: u64,
    /// Hits given back.
    pub negative_hits: u64,
    /// Hits above the limit that were answered from the memory of what is over; they are among `over_limit` too.
    pub remembered: u64,
}

/// How the hits of one charge divide. Near hits are also within, or were the last to fit below an overrun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallied {
    /// Hits above the limit.
    pub over: u64,
    /// Hits between the near-limit threshold and the limit.
    pub near: u64,
    /// Hits of a charge that had room.
    pub within: u64,
}

/// The count above which hits are near the limit: `limit · ratio` in single precision, rounded down, as in the
/// reference service, where 10 · 0.8 is 8 and 1 · 0.8 is 0. Never above the limit; a ratio that is no number gives 0.
#[must_use]
pub fn near_threshold(limit: u64, ratio: f32) -> u64 {
    // The conversion of a float saturates: neither a negative nor an endless product can leave the range.
    ((limit as f32 * ratio).floor() as u64).min(limit)
}

// === impl Tallied ===

impl Tallied {
    /// Divides the hits of one charge. `capacity` is the limit, `near` its [`near_threshold`].
    ///
    /// | charge | over | near | within |
    /// |---|---|---|---|
    /// | had room | 0 | those above the threshold | all |
    /// | over, written (a fixed window charged on its own) | those above the limit | the rest above the threshold | 0 |
    /// | over, not written | all | 0 | 0 |
    ///
    /// A charge that had room but was not written, because another counter refused the decision, counts as if it had
    /// been written: this rule had no objection.
    #[must_use]
    pub fn of(tally: &Tally, hits: u64, capacity: u64, near: u64) -> Tallied {
        let before = if tally.charged { tally.used.saturating_sub(hits) } else { tally.used };
        let after = before.saturating_add(hits);
        if !tally.verdict.is_over() {
            let near = if after <= near { 0 } else { after - near.max(before) };
            return Tallied { over: 0, near, within: hits };
        }
        if !tally.charged || before >= capacity {
            return Tallied { over: hits, near: 0, within: 0 };
        }
        let near = after.min(capacity).saturating_sub(near.max(before));
        Tallied { over: after.saturating_sub(capacity), near, within: 0 }
    }
}

// === impl RuleTotals ===

impl RuleTotals {
    /// The hits of both.
    pub(super) fn plus(self, other: RuleTotals) -> RuleTotals {
        RuleTotals {
            total_hits: self.total_hits.saturating_add(other.total_hits),
            over_limit: self.over_limit.saturating_add(other.over_limit),
            near_limit: self.near_limit.saturating_add(other.near_limit),
            within_limit: self.within_limit.saturating_add(other.within_limit),
            shadow_mode: self.shadow_mode.saturating_add(other.shadow_mode),
            negative_hits: self.negative_hits.saturating_add(other.negative_hits),
            remembered: self.remembered.saturating_add(other.remembered),
        }
    }
}

// === impl RuleCounters ===

impl RuleCounters {
    pub(super) fn new(labels: Labels) -> RuleCounters {
        RuleCounters {
            labels,
            total_hits: AtomicU64::new(0),
            over_limit: AtomicU64::new(0),
            near_limit: AtomicU64::new(0),
            within_limit: AtomicU64::new(0),
            shadow_mode: AtomicU64::new(0),
            negative_hits: AtomicU64::new(0),
            remembered: AtomicU64::new(0),
        }
    }

    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Counts one charge and its answer. `capacity` is the limit in force, `near_threshold` what [`near_threshold`]
    /// gives for it; `shadow` says that the rule lets pass what it would refuse.
    pub fn record(&self, tally: &Tally, hits: u64, capacity: u64, shadow: bool, near_threshold: u64) {
        let Tallied { over, near, within } = Tallied::of(tally, hits, capacity, near_threshold);
        add(&self.total_hits, hits);
        add(&self.over_limit, over);
        add(&self.near_limit, near);
        add(&self.within_limit, within);
        if shadow {
            add(&self.shadow_mode, over);
        }
    }

    /// Begins to fetch the line that a record will write.
    pub(crate) fn warm(&self) {
        black_box(self.total_hits.load(Ordering::Relaxed));
    }

    /// Counts a match of an unlimited rule: every hit is within.
    pub fn record_unlimited(&self, hits: u64) {
        add(&self.total_hits, hits);
        add(&self.within_limit, hits);
    }

    /// Counts hits that the store gave no answer to.
    pub fn record_unanswered(&self, hits: u64) {
        add(&self.total_hits, hits);
    }

    /// Counts hits above the limit that no store was asked about. They are recorded as any others besides.
    pub fn record_remembered(&self, hits: u64) {
        add(&self.remembered, hits);
    }

    /// Counts hits given back. They are in no other counter.
    pub fn record_given_back(&self, hits: u64) {
        add(&self.negative_hits, hits);
    }

    /// What has been counted so far. The values are read one after the other, so hits under way may be in some only.
    #[must_use]
    pub fn totals(&self) -> RuleTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RuleTotals {
            total_hits: read(&self.total_hits),
            over_limit: read(&self.over_limit),
            near_limit: read(&self.near_limit),
            within_limit: read(&self.within_limit),
            shadow_mode: read(&self.shadow_mode),
            negative_hits: read(&self.negative_hits),
            remembered: read(&self.remembered),
        }
    }
}

/// Most additions are of zero: those leave the cache line alone.
/// Most hits that one call adds to a series: the largest limit there is. Without it a caller could send 2^64 - 1 and
/// wrap the counter, which reads as a restart to whoever takes rates of it.
const HITS_COUNTED_MAX: u64 = u32::MAX as u64;

fn add(counter: &AtomicU64, hits: u64) {
    if hits != 0 {
        counter.fetch_add(hits.min(HITS_COUNTED_MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::window::Verdict;

    const RATIO: f32 = 0.8;

    /// A counter charged on its own, over or not: the reference service's way.
    fn fixed(before: u64, hits: u64, limit: u64) -> Tally {
        let verdict = if before + hits > limit { Verdict::Over } else { Verdict::Within };
        Tally { verdict, charged: true, used: before + hits, reset_after_ms: 1 }
    }

    fn totals_after(limit: u64, charges: impl IntoIterator<Item = u64>) -> RuleTotals {
        let counters = RuleCounters::new(Labels::of("d", &["user"]));
        let mut used = 0;
        for hits in charges {
            counters.record(&fixed(used, hits, limit), hits, limit, false, near_threshold(limit, RATIO));
            used += hits;
        }
        counters.totals()
    }

    fn divided(total_hits: u64, within_limit: u64, near_limit: u64, over_limit: u64) -> RuleTotals {
        RuleTotals { total_hits, within_limit, near_limit, over_limit, ..RuleTotals::default() }
    }

    #[test]
    fn the_near_threshold_is_the_single_precision_product_rounded_down() {
        let cases = [(0, 0), (1, 0), (2, 1), (3, 2), (5, 4), (7, 5), (10, 8), (15, 12), (20, 16), (1_000_003, 800_002)];
        for (limit, threshold) in cases {
            assert_eq!(near_threshold(limit, RATIO), threshold, "limit {limit}");
        }
        assert_eq!(near_threshold(10, f32::NAN), 0);
        assert_eq!(near_threshold(10, -1.0), 0);
        assert_eq!(near_threshold(10, f32::INFINITY), 10);
    }

    #[test]
    fn each_case_of_a_written_charge_divides_as_in_the_reference_service() {
        // before, hits, limit, over, near, within; the threshold of 10 is 8.
        let cases = [
            (0, 5, 10, 0, 0, 5),
            (3, 5, 10, 0, 0, 5),
            (8, 1, 10, 0, 1, 1),
            (9, 1, 10, 0, 1, 1),
            (6, 3, 10, 0, 1, 3),
            (0, 10, 10, 0, 2, 10),
            (10, 4, 10, 4, 0, 0),
            (12, 4, 10, 4, 0, 0),
            (9, 4, 10, 3, 1, 0),
            (5, 9, 10, 4, 2, 0),
            (10, 0, 10, 0, 0, 0),
        ];
        for (before, hits, limit, over, near, within) in cases {
            let tallied = Tallied::of(&fixed(before, hits, limit), hits, limit, near_threshold(limit, RATIO));
            assert_eq!(tallied, Tallied { over, near, within }, "{before} + {hits} of {limit}");
        }
    }

    #[test]
    fn a_history_of_calls_counts_as_in_the_reference_service() {
        assert_eq!(totals_after(10, [8, 5, 2]), divided(15, 8, 2, 5));
        assert_eq!(totals_after(5, [2, 2, 2]), divided(6, 4, 1, 1));
        assert_eq!(totals_after(0, [1]), divided(1, 0, 0, 1));
        assert_eq!(totals_after(10, [1; 8]), divided(8, 8, 0, 0));
        assert_eq!(totals_after(10, [1; 9]), divided(9, 9, 1, 0));
    }

    #[test]
    fn a_refused_charge_that_was_not_written_is_over_with_all_its_hits() {
        for verdict in [Verdict::Over, Verdict::Never] {
            let tally = Tally { verdict, charged: false, used: 9, reset_after_ms: 1 };
            assert_eq!(Tallied::of(&tally, 4, 10, 8), Tallied { over: 4, near: 0, within: 0 });
        }
    }

    #[test]
    fn a_charge_with_room_that_another_refused_counts_as_within() {
        let tally = Tally { verdict: Verdict::Within, charged: false, used: 7, reset_after_ms: 1 };
        assert_eq!(Tallied::of(&tally, 3, 10, 8), Tallied { over: 0, near: 2, within: 3 });
    }

    #[test]
    fn shadow_mode_grows_with_what_is_over() {
        let counters = RuleCounters::new(Labels::of("d", &["user"]));
        counters.record(&fixed(9, 4, 10), 4, 10, true, 8);
        counters.record(&fixed(0, 4, 10), 4, 10, true, 8);
        assert_eq!(counters.totals().shadow_mode, 3);
    }

    #[test]
    fn an_unlimited_match_is_counted_within() {
        let counters = RuleCounters::new(Labels::of("d", &["user"]));
        counters.record_unlimited(3);
        counters.record_unanswered(2);
        counters.record_given_back(7);
        assert_eq!(counters.totals(), RuleTotals { negative_hits: 7, ..divided(5, 3, 0, 0) });
    }

    #[test]
    fn additions_from_many_threads_are_all_counted() {
        let counters = RuleCounters::new(Labels::of("d", &["user"]));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counters.record(&fixed(9, 2, 10), 2, 10, true, 8);
                    }
                });
            }
        });
        let expected = RuleTotals { shadow_mode: 40_000, ..divided(80_000, 0, 40_000, 40_000) };
        assert_eq!(counters.totals(), expected);
    }

    proptest! {
        #[test]
        fn no_charge_counts_more_hits_than_it_has(
            used in any::<u64>(), hits in any::<u64>(), capacity in any::<u64>(), near in any::<u64>(),
            charged in any::<bool>(), over in any::<bool>(),
        ) {
            let verdict = if over { Verdict::Over } else { Verdict::Within };
            let tally = Tally { verdict, charged, used: if charged { used.max(hits) } else { used }, reset_after_ms: 0 };
            let tallied = Tallied::of(&tally, hits, capacity, near.min(capacity));
            prop_assert!(tallied.over <= hits && tallied.near <= hits && tallied.within <= hits);
            prop_assert!(tallied.over == 0 || tallied.within == 0);
        }
    }
}
