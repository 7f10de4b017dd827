//! What time it is for Prometheus, and how often it takes samples.
//!
//! Windows must end at an instant of Prometheus's own clock, by which its samples are dated: by ours, a machine a
//! minute ahead would ask about a minute that hasn't come. So it is asked for its `time()` once a minute. The answer is
//! taken to be of the middle of the round trip; the error is half of it at most, milliseconds where a window is seconds.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Timestamp;

/// How long an estimate holds: two clocks that drift by 100 parts in a million are 6 ms apart by then.
const HOLDS: Duration = Duration::from_secs(60);

/// A clock that is off by more than it can have drifted was set, or is another server's.
const STEP_MICROS: u64 = 2_000_000;

/// How far Prometheus's clock is ahead of ours, and since when that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skew {
    /// Microseconds; negative if it is behind.
    ahead_micros: i64,
    measured: Instant,
    /// What our clock said then.
    ours: Timestamp,
}

// === impl Skew ===

impl Skew {
    /// From an answer to `time()`, in seconds since the epoch. Ours was `now` at `started`, when the question was put;
    /// the answer is here at `ended`.
    pub(super) fn measured(server_seconds: f64, now: Timestamp, started: Instant, ended: Instant) -> Skew {
        let middle = now.saturating_add(ended.saturating_duration_since(started) / 2);
        // Casts cut to the range of the integer.
        let server = (server_seconds * 1e6) as i64;
        let ours = i64::try_from(middle.as_micros()).unwrap_or(i64::MAX);
        let now = now.saturating_add(ended.saturating_duration_since(started));
        Skew { ahead_micros: server.saturating_sub(ours), measured: ended, ours: now }
    }

    /// Whether it holds at an instant of ours that our clock calls `now`: it was measured lately, and that clock has not
    /// been set meanwhile.
    pub(super) fn holds(&self, at: Instant, now: Timestamp) -> bool {
        let since = at.saturating_duration_since(self.measured);
        let expected = self.ours.saturating_add(since);
        since < HOLDS && now.as_micros().abs_diff(expected.as_micros()) < STEP_MICROS
    }

    /// The instant `now` by Prometheus's clock, in milliseconds since the epoch.
    pub(super) fn server_millis(&self, now: Timestamp) -> u64 {
        now.as_micros().saturating_add_signed(self.ahead_micros) / 1_000
    }
}

/// Shortest and longest time between two scrapes that we go by.
const SCRAPE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// The usual time between samples, from their instants in seconds: the median, as now and then a scrape is lost. To a
/// tenth of a second, which is less than scrapes are late by.
pub(super) fn usual_gap(series: &[Vec<f64>]) -> Option<Duration> {
    let mut gaps: Vec<f64> =
        series.iter().flat_map(|instants| instants.windows(2)).map(|pair| pair[1] - pair[0]).collect();
    gaps.retain(|gap| gap.is_finite() && *gap > 0.0);
    if gaps.is_empty() {
        return None;
    }
    let middle = gaps.len() / 2;
    let (_, median, _) = gaps.select_nth_unstable_by(middle, f64::total_cmp);
    let [shortest, longest] = SCRAPE;
    let tenths = (*median * 10.0).round().min(1e6);
    Some(Duration::from_secs_f64(tenths / 10.0).clamp(shortest, longest))
}

/// The time between samples of which there are so many in a range, rather too long than too short: windows that are
/// shorter than two scrapes hold nothing.
pub(super) fn gap_of_count(count: f64, range: Duration) -> Option<Duration> {
    let [shortest, longest] = SCRAPE;
    (count >= 2.0).then(|| range.div_f64((count - 1.0).min(1e6)).clamp(shortest, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_gives_a_gap_that_is_never_too_short() {
        let range = Duration::from_secs(121);
        for (every, counts) in [(1, 121..=122), (5, 24..=25), (15, 8..=9), (60, 2..=3)] {
            for count in counts {
                let gap = gap_of_count(f64::from(count), range).unwrap();
                assert!(
                    gap >= Duration::from_secs(every).mul_f64(0.99) && gap <= Duration::from_secs(every) * 2,
                    "{gap:?}"
                );
            }
        }
        assert!(gap_of_count(1.0, range).is_none() && gap_of_count(f64::NAN, range).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_ahead_or_behind_moves_no_window() {
        let (started, now) = (Instant::now(), Timestamp::from_millis(1_000_000));
        let ended = started + Duration::from_millis(40);
        for server_millis in [1_090_020_u64, 910_020, 1_000_020, 20] {
            let skew = Skew::measured(server_millis as f64 / 1e3, now, started, ended);
            assert_eq!(skew.server_millis(now), server_millis - 20, "{server_millis}");
            let later = now.saturating_add(Duration::from_secs(5));
            assert_eq!(skew.server_millis(later), server_millis + 4_980);
        }
        let skew = Skew::measured(f64::NAN, now, started, ended);
        assert_eq!(skew.server_millis(now), 0, "what is no time is the epoch, and no panic");
        let (ours, after) = (now.saturating_add(Duration::from_millis(40)), |seconds| Duration::from_secs(seconds));
        let holds = |seconds| skew.holds(ended + after(seconds), ours.saturating_add(after(seconds)));
        assert!(holds(59) && !holds(60));
        assert!(!skew.holds(ended + after(10), ours), "our clock was set back by ten seconds");
        assert!(!skew.holds(ended + after(10), ours.saturating_add(after(20))), "or forward");
    }

    #[test]
    fn the_usual_gap_outlives_lost_and_late_scrapes() {
        let series = |instants: &[f64]| vec![instants.to_vec()];
        let gap = |instants: &[f64]| usual_gap(&series(instants)).map(|gap| gap.as_millis());
        assert_eq!(gap(&[0.0, 15.001, 30.002, 60.0, 75.0]), Some(15_000));
        assert_eq!(gap(&[0.0, 0.25, 0.5]), Some(1_000), "shorter than a second is a second");
        assert_eq!(gap(&[0.0, 300.0]), Some(60_000));
        assert_eq!(gap(&[5.0]), None);
        assert_eq!(gap(&[]), None);
        assert_eq!(gap(&[5.0, 5.0, f64::NAN, f64::INFINITY]), None);
        // Two proxies at different phases: gaps within each series count.
        assert_eq!(usual_gap(&[vec![0.0, 10.0, 20.0], vec![3.0, 13.0]]), Some(Duration::from_secs(10)));
    }
}
