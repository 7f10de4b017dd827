//! How much reached a service lately: rates over any window of the last minutes, from counts that only grow.
//!
//! A gate counts who passed and who was refused, over all replicas. Each poll brings the two sums; a [`History`] keeps
//! them with their instants, thinner the older they are, and draws a line between two points. So a window may begin
//! anywhere, and its rate is off by no more than happened within a tenth of its length.
//!
//! When polls failed for a while, the store was away perhaps, and what passed meanwhile was counted nowhere; when sums went
//! back the gate was lost. What lies before is forgotten then: a rate that is too high or too low would move a limit.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;

/// What passed a gate, and what it refused, over the last minutes.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Oldest first, instants strictly rising, sums never falling.
    points: VecDeque<Point>,
}

/// Requests per second over a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Those that would have reached the service but for the gate.
    pub offered: f64,
    /// Those that did.
    pub admitted: f64,
    /// The stretch that was counted: shorter than the window that was asked for while the history is younger.
    pub covered: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    at_ms: u64,
    admitted: u64,
    refused: u64,
}

/// Longest window that is answered whole.
pub const WINDOW_MAX: Duration = Duration::from_secs(300);

/// Most points of a history, whatever the polls: 74 with one each second.
pub const POINTS_MAX: usize = 100;

/// A history whose newest point is older than this says nothing: the store is away, and others count meanwhile.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// Points nearer together than this are as good as one.
const GAP_MIN_MS: u64 = 2_000;

/// Points may lie as far apart as this part of their age.
const AGE_PER_GAP: u64 = 10;

// === impl History ===

impl History {
    /// Notes the sums of a poll.
    pub fn note(&mut self, at: Timestamp, admitted: u64, refused: u64) {
        let point = Point { at_ms: at.as_millis(), admitted, refused };
        if let Some(newest) = self.points.back() {
            let gate_was_lost = admitted < newest.admitted || refused < newest.refused;
            let store_was_away = point.at_ms > newest.at_ms + millis(STALE_AFTER);
            if gate_was_lost || store_was_away || point.at_ms < newest.at_ms {
                self.points.clear();
            } else if point.at_ms == newest.at_ms {
                self.points.pop_back();
            }
        }
        self.points.push_back(point);
        self.thin();
    }

    /// The rates over a window that ends now; over the part of it that is known, if its beginning isn't. `None` if
    /// nothing is known of it: after less than two polls, or long after the last.
    #[must_use]
    pub fn rates(&self, now: Timestamp, window: Duration) -> Option<Rates> {
        let (oldest, newest) = (self.points.front()?, self.points.back()?);
        let now_ms = now.as_millis();
        if now_ms.saturating_sub(newest.at_ms) > millis(STALE_AFTER) {
            return None;
        }
        let end_ms = now_ms.min(newest.at_ms);
        let begin_ms = end_ms.saturating_sub(millis(window)).max(oldest.at_ms);
        let covered_ms = end_ms.checked_sub(begin_ms).filter(|covered| *covered > 0)?;
        let (begin, end) = (self.sums_at(begin_ms)?, self.sums_at(end_ms)?);
        let per_second = 1_000.0 / covered_ms as f64;
        let admitted = (end.0 - begin.0).max(0.0) * per_second;
        let refused = (end.1 - begin.1).max(0.0) * per_second;
        Some(Rates { offered: admitted + refused, admitted, covered: Duration::from_millis(covered_ms) })
    }

    /// The sums at an instant between the oldest and the newest point, counted from the oldest, so that they are exact.
    fn sums_at(&self, at_ms: u64) -> Option<(f64, f64)> {
        let origin = self.points.front()?;
        let next = self.points.partition_point(|point| point.at_ms < at_ms);
        let after = self.points.get(next)?;
        let before = next.checked_sub(1).and_then(|index| self.points.get(index)).unwrap_or(after);
        let share = match after.at_ms - before.at_ms {
            0 => 1.0,
            length => (at_ms - before.at_ms) as f64 / length as f64,
        };
        let between = |origin: u64, before: u64, after: u64| (before - origin) as f64 + (after - before) as f64 * share;
        Some((
            between(origin.admitted, before.admitted, after.admitted),
            between(origin.refused, before.refused, after.refused),
        ))
    }

    /// Drops points without which the others are near enough together, and those that no window reaches.
    fn thin(&mut self) {
        let Some(newest_ms) = self.points.back().map(|newest| newest.at_ms) else { return };
        let age = |point: &Point| newest_ms - point.at_ms;
        while self.points.get(1).is_some_and(|second| age(second) >= millis(WINDOW_MAX)) {
            self.points.pop_front();
        }
        let mut index = 1;
        while index + 1 < self.points.len() {
            let (older, newer) = (self.points[index - 1], self.points[index + 1]);
            let gap_max = GAP_MIN_MS.max(age(&newer) / AGE_PER_GAP);
            if newer.at_ms - older.at_ms <= gap_max {
                self.points.remove(index);
            } else {
                index += 1;
            }
        }
        // The gaps alone keep the number below this.
        while self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START_MS: u64 = 1_700_000_000_000;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_millis(START_MS + (seconds * 1_000.0) as u64)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_poll_says_nothing_and_two_do() {
        let mut history = History::default();
        assert_eq!(history.rates(at(0.0), seconds(5)), None);
        history.note(at(0.0), 1_000_000, 50);
        assert_eq!(history.rates(at(0.5), seconds(5)), None);
        history.note(at(2.0), 1_000_200, 150);
        let expected = Rates { offered: 150.0, admitted: 100.0, covered: seconds(2) };
        assert_eq!(history.rates(at(2.9), seconds(5)), Some(expected));
        assert_eq!(history.rates(at(2.0), Duration::ZERO), None);
    }

    #[test]
    fn a_short_gap_is_bridged_and_a_long_one_forgets_what_was_before() {
        let mut history = History::default();
        history.note(at(0.0), 0, 0);
        history.note(at(10.0), 1_000, 100);
        let rates = history.rates(at(10.0), seconds(5)).unwrap();
        assert_eq!((rates.admitted, rates.offered), (100.0, 110.0));
        // While the store was away requests passed that nobody counted: fifty seconds of nothing are none.
        history.note(at(60.0), 1_010, 100);
        assert_eq!(history.rates(at(60.0), seconds(15)), None);
        history.note(at(61.0), 1_110, 100);
        assert_eq!(history.rates(at(61.0), seconds(15)).unwrap().admitted, 100.0);
    }

    #[test]
    fn a_gate_that_was_lost_makes_no_rate_of_what_was_not_seen() {
        for (admitted, refused) in [(0, 0), (999, 100), (5_000, 99)] {
            let mut history = History::default();
            history.note(at(0.0), 900, 90);
            history.note(at(1.0), 1_000, 100);
            history.note(at(2.0), admitted, refused);
            assert_eq!(history.rates(at(2.0), seconds(5)), None, "{admitted}, {refused}");
            history.note(at(3.0), admitted + 7, refused);
            assert_eq!(history.rates(at(3.0), seconds(5)).unwrap().offered, 7.0);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_begins_a_new_history() {
        let mut history = History::default();
        history.note(at(100.0), 100, 0);
        history.note(at(101.0), 200, 0);
        history.note(at(50.0), 300, 0);
        assert_eq!(history.rates(at(50.0), seconds(5)), None);
        assert_eq!(history.rates(at(40.0), seconds(5)), None, "before anything is known");
        history.note(at(51.0), 310, 0);
        assert_eq!(history.rates(at(51.0), seconds(5)).unwrap().admitted, 10.0);
    }

    #[test]
    fn a_history_nobody_goes_on_with_says_nothing() {
        let mut history = History::default();
        history.note(at(0.0), 0, 0);
        history.note(at(1.0), 100, 0);
        assert!(history.rates(at(11.0), seconds(5)).is_some());
        assert_eq!(history.rates(at(11.001), seconds(5)), None);
    }

    proptest! {
        #[test]
        fn a_steady_stream_has_its_rate_in_every_window(
            polls in prop::collection::vec(200_u64..3_000, 2..1_000),
            per_second in 1_u64..1_000,
            window in 1_u64..300,
        ) {
            let (mut history, mut now) = (History::default(), 0);
            for poll in polls {
                now += poll;
                // A whole number at each millisecond, so that no rounding is in the sums.
                history.note(Timestamp::from_millis(now), now * per_second, now * per_second / 1_000 * 1_000);
                prop_assert!(history.points.len() <= POINTS_MAX);
            }
            let rates = history.rates(Timestamp::from_millis(now), seconds(window)).unwrap();
            let expected = per_second as f64 * 1_000.0;
            prop_assert!((rates.admitted - expected).abs() <= 1e-6 * expected, "{rates:?} instead of {expected}");
        }

        /// The answer is off by no more than what happened between the points around the window's beginning, which lie
        /// no farther apart than a tenth of their age, or two seconds and a poll.
        #[test]
        fn a_rate_is_off_by_no_more_than_happened_near_its_beginning(
            polls in prop::collection::vec((300_u64..2_000, 0_u64..500, 0_u64..500), 2..700),
            window in 1_u64..=300,
        ) {
            let (mut history, mut all) = (History::default(), vec![(0_u64, 0_u64, 0_u64)]);
            history.note(Timestamp::from_millis(0), 0, 0);
            for (after, admitted, refused) in polls {
                let (at, passed, stopped) = *all.last().unwrap();
                let next = (at + after, passed + admitted, stopped + refused);
                history.note(Timestamp::from_millis(next.0), next.1, next.2);
                all.push(next);
            }
            let end = *all.last().unwrap();
            let rates = history.rates(Timestamp::from_millis(end.0), seconds(window)).unwrap();
            let begin = end.0 - rates.covered.as_millis() as u64;
            prop_assert!(rates.covered == seconds(window) || begin == 0, "all that is known is used");
            prop_assert!(rates.admitted >= 0.0 && rates.offered >= rates.admitted && rates.offered.is_finite());

            let gap = 4_000.max((end.0 - begin) / 8 + 2_000);
            let (low, high) = (begin.saturating_sub(gap), begin + gap);
            let before = all.iter().rev().find(|point| point.0 <= low).unwrap_or(&all[0]);
            let after = all.iter().find(|point| point.0 >= high).unwrap_or(&end);
            let admitted = rates.admitted * rates.covered.as_secs_f64();
            prop_assert!(admitted >= (end.1 - after.1) as f64 - 1e-6, "{admitted} is too few");
            prop_assert!(admitted <= (end.1 - before.1) as f64 + 1e-6, "{admitted} is too many");
        }

        #[test]
        fn no_history_makes_a_rate_that_is_none(
            notes in prop::collection::vec((0_u64..1 << 53, 0_u64..1 << 53, 0_u64..1 << 53), 0..30),
            now in 0_u64..1 << 53,
            window in 0_u64..1 << 40,
        ) {
            let mut history = History::default();
            for (at, admitted, refused) in notes {
                history.note(Timestamp::from_millis(at), admitted, refused);
            }
            if let Some(rates) = history.rates(Timestamp::from_millis(now), Duration::from_millis(window)) {
                prop_assert!(rates.offered.is_finite() && rates.admitted >= 0.0 && rates.offered >= rates.admitted);
            }
        }

        #[test]
        fn however_often_it_is_noted_a_history_stays_small(polls in prop::collection::vec(0_u64..1_500, 0..3_000)) {
            let (mut history, mut now) = (History::default(), 0);
            for poll in polls {
                now += poll;
                history.note(Timestamp::from_millis(now), now, 0);
                prop_assert!(history.points.len() <= POINTS_MAX);
            }
        }
    }
}
