//! Whether a decision can still be answered in time: arithmetic over the round trips of late.
//!
//! Who will miss the deadline anyway is better refused at once: the caller needn't wait, and Redis isn't charged for an
//! answer that nobody reads. But a refusal costs an answer, and a forecast can be wrong, so this one errs on the side of
//! asking:
//!
//! - A round trip is expected to take as long as **the quickest of the last eight**. Seven slow calls refuse nobody, and
//!   one quick call is enough to be trusted again.
//! - **A second without an answer and all is forgotten**: a store that is cold, or was idle, refuses nobody.
//! - **When nothing is under way, one decision is asked whatever the forecast**: somebody has to find out. So a store
//!   that is slower than the deadlines is asked once in a round trip, and trusted again one round trip after it is
//!   quick again.
//!
//! Waiting adds to that: calls leave one by one as places get free, all places once in a round trip.

use std::time::Duration;

use tokio::time::Instant;

/// What the round trips of late say.
#[derive(Debug)]
pub(super) struct Forecast {
    /// Calls that can be under way at once, at least 1.
    places: u32,
    /// When and how long, the oldest overwritten first.
    latest: [Option<(Instant, Duration)>; Forecast::REMEMBERED],
    next: usize,
    /// The quickest of those that ended within [`Forecast::MEMORY`] of the last one.
    quickest: Duration,
    forget_at: Option<Instant>,
}

/// What is before a decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    /// Calls under way.
    pub(super) under_way: usize,
    /// Calls that wait, this decision's own not among them.
    pub(super) calls: usize,
    /// Whether this one would be the only one that asks.
    pub(super) nobody: bool,
}

// === impl Forecast ===

impl Forecast {
    /// How many round trips are remembered.
    pub(super) const REMEMBERED: usize = 8;

    /// For how long anything is.
    pub(super) const MEMORY: Duration = Duration::from_secs(1);

    /// A forecast that knows nothing yet, for so many calls at once.
    pub(super) fn new(places: usize) -> Forecast {
        Forecast {
            places: u32::try_from(places).unwrap_or(u32::MAX).max(1),
            latest: [None; Forecast::REMEMBERED],
            next: 0,
            quickest: Duration::ZERO,
            forget_at: None,
        }
    }

    /// Takes note of a call that was answered at `now`, so long after it was sent.
    pub(super) fn note(&mut self, took: Duration, now: Instant) {
        self.latest[self.next] = Some((now, took));
        self.next = (self.next + 1) % Forecast::REMEMBERED;
        let recent = self.latest.iter().flatten().filter(|(at, _)| now.saturating_duration_since(*at) < Self::MEMORY);
        self.quickest = recent.map(|(_, took)| *took).min().unwrap_or(took);
        self.forget_at = Some(now + Forecast::MEMORY);
    }

    /// How long a call that is sent now takes at least; zero if nothing is known.
    pub(super) fn round_trip(&self, now: Instant) -> Duration {
        if self.forget_at.is_some_and(|at| now < at) { self.quickest } else { Duration::ZERO }
    }

    /// How long a decision with so much before it takes at least, from now to its answer.
    pub(super) fn answer(&self, ahead: Ahead, now: Instant) -> Duration {
        if ahead.nobody {
            return Duration::ZERO;
        }
        let round_trip = self.round_trip(now);
        let turns = match u32::try_from(ahead.calls).unwrap_or(u32::MAX) {
            0 if ahead.under_way < self.places as usize => 0,
            calls => calls.saturating_add(1),
        };
        round_trip.saturating_add(round_trip.saturating_mul(turns) / self.places)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUICK: Duration = Duration::from_micros(300);
    const SLOW: Duration = Duration::from_millis(40);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn behind(under_way: usize, calls: usize) -> Ahead {
        Ahead { under_way, calls, nobody: false }
    }

    /// A forecast after calls that took so long and ended so long after one another, and the instant of the last end.
    fn after(calls: &[(Duration, Duration)], start: Instant) -> (Forecast, Instant) {
        let (mut forecast, mut now) = (Forecast::new(4), start);
        for (took, gap) in calls {
            now += *gap;
            forecast.note(*took, now);
        }
        (forecast, now)
    }

    #[test]
    fn who_knows_nothing_refuses_nobody() {
        let forecast = Forecast::new(4);
        assert_eq!(forecast.answer(behind(4, 8), Instant::now()), Duration::ZERO);
    }

    #[test]
    fn a_store_that_got_slow_is_known_after_eight_calls_and_trusted_again_after_one() {
        let mut calls = vec![(QUICK, ms(1)); 20];
        let start = Instant::now();
        for slow in 1..=Forecast::REMEMBERED {
            calls.push((SLOW, ms(40)));
            let (forecast, now) = after(&calls, start);
            let expected = if slow < Forecast::REMEMBERED { QUICK } else { SLOW };
            assert_eq!(forecast.round_trip(now), expected, "after {slow} slow calls");
        }
        calls.push((QUICK, ms(1)));
        let (forecast, now) = after(&calls, start);
        assert_eq!(forecast.round_trip(now), QUICK);
    }

    #[test]
    fn a_place_that_is_free_costs_one_round_trip_and_a_full_queue_two_more() {
        let (forecast, now) = after(&[(ms(4), ms(0))], Instant::now());
        assert_eq!(forecast.answer(behind(3, 0), now), ms(4));
        assert_eq!(forecast.answer(behind(4, 0), now), ms(5), "until the next of four places is free, and its own");
        assert_eq!(forecast.answer(behind(4, 7), now), ms(12));
    }

    proptest! {
        #[test]
        fn the_first_is_always_asked(took in prop::collection::vec(0..10_000_u64, 0..30)) {
            let calls: Vec<_> = took.iter().map(|took| (ms(*took), ms(1))).collect();
            let (forecast, now) = after(&calls, Instant::now());
            prop_assert_eq!(forecast.answer(Ahead { under_way: 0, calls: 0, nobody: true }, now), Duration::ZERO);
        }

        #[test]
        fn nothing_is_expected_to_take_longer_than_the_quickest_of_the_last_eight_did(
            calls in prop::collection::vec((0..10_000_u64, 0..700_u64), 1..40), under_way in 0..9_usize, ahead in 0..9_usize,
        ) {
            let calls: Vec<_> = calls.into_iter().map(|(took, gap)| (ms(took), ms(gap))).collect();
            let (forecast, now) = after(&calls, Instant::now());
            let latest = &calls[calls.len().saturating_sub(Forecast::REMEMBERED)..];
            let slowest = latest.iter().map(|(took, _)| *took).max().unwrap();
            prop_assert!(forecast.round_trip(now) <= slowest);
            let last = latest.last().unwrap().0;
            prop_assert!(forecast.round_trip(now) <= last, "one quick call is enough");
            prop_assert!(forecast.answer(behind(under_way, ahead), now) <= slowest * (ahead as u32 + 5) / 4);
        }

        #[test]
        fn more_before_it_never_shortens_a_wait(
            took in prop::collection::vec(0..10_000_u64, 1..20), under_way in 0..9_usize, ahead in 0..100_usize,
        ) {
            let calls: Vec<_> = took.iter().map(|took| (ms(*took), ms(1))).collect();
            let (forecast, now) = after(&calls, Instant::now());
            let here = forecast.answer(behind(under_way, ahead), now);
            prop_assert!(here <= forecast.answer(behind(under_way, ahead + 1), now));
            prop_assert!(here <= forecast.answer(behind(under_way + 1, ahead), now));
            prop_assert!(here >= forecast.round_trip(now));
        }

        #[test]
        fn a_second_without_an_answer_and_all_is_forgotten(
            calls in prop::collection::vec((0..10_000_u64, 0..700_u64), 1..40), later in 1_000..5_000_u64,
        ) {
            let calls: Vec<_> = calls.into_iter().map(|(took, gap)| (ms(took), ms(gap))).collect();
            let (mut forecast, now) = after(&calls, Instant::now());
            prop_assert_eq!(forecast.answer(behind(4, 8), now + ms(later)), Duration::ZERO);
            forecast.note(QUICK, now + ms(later));
            prop_assert_eq!(forecast.round_trip(now + ms(later)), QUICK);
            forecast.note(SLOW, now + ms(2 * later));
            prop_assert_eq!(forecast.round_trip(now + ms(2 * later)), SLOW, "what came before is too long ago");
        }
    }
}
