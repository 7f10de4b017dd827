//! How far back the metrics may be asked.

use std::time::Duration;

use super::constants::Law;
use super::state::State;
use crate::clock::Timestamp;
use crate::signal::Windows;

/// The windows to ask for at `now`, or `None` while the metrics can't show the last change yet.
///
/// No window reaches back before the last change took effect, and none is shorter than two scrapes and a second.
#[must_use]
pub fn windows(state: &State, law: &Law, now: Timestamp) -> Option<Windows> {
    let known = known_seconds(state, law, now)?;
    let [newest, fast, slow, long] = lengths(law).map(|length| Duration::from_secs_f64(length.min(known)));
    Some(Windows { newest, fast, slow, long })
}

/// Seconds after a change from which on no window is shortened by it, whatever the law's own numbers are.
#[must_use]
pub fn full_after(law: &Law) -> f64 {
    law.settle() + lengths(law).into_iter().fold(0.0, f64::max)
}

/// Newest, fast, slow and long when the last change is long ago, in seconds.
fn lengths(law: &Law) -> [f64; 4] {
    [law.newest(), law.fast(), law.slow(), law.constants.long.max(law.slow())]
}

/// Seconds before `now` that show the limit in force and nothing else, if that is long enough for a window.
pub(super) fn known_seconds(state: &State, law: &Law, now: Timestamp) -> Option<f64> {
    let known = state.seconds_since_change(now) - law.lead();
    (known >= law.newest()).then_some(known)
}

/// Seconds until there are windows; none if there are.
pub(super) fn settle_left(state: &State, law: &Law, now: Timestamp) -> Option<f64> {
    match known_seconds(state, law, now) {
        Some(_) => None,
        None => Some((law.settle() - state.seconds_since_change(now)).min(law.settle())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::law;
    use super::*;

    #[test]
    fn windows_reach_back_to_the_change_and_no_further() {
        let (law, start) = (law(), Timestamp::from_millis(1_000_000));
        let state = State::start(&law, start);
        let at = |millis: u64| {
            let windows = windows(&state, &law, Timestamp::from_millis(1_000_000 + millis))?;
            Some([windows.newest, windows.fast, windows.slow, windows.long].map(|length| length.as_secs_f64()))
        };
        assert_eq!(law.settle(), 13.5);
        assert_eq!(at(0), None);
        assert_eq!(at(13_499), None);
        assert_eq!(at(13_500), Some([11.0, 11.0, 11.0, 11.0]));
        assert_eq!(at(17_500), Some([11.0, 15.0, 15.0, 15.0]));
        assert_eq!(at(1_000_000), Some([11.0, 15.0, 60.0, 300.0]));
    }

    #[test]
    fn slow_scrapes_lengthen_every_window_and_the_settle() {
        let law = Law { scrape: 60.0, ..law() };
        let state = State::start(&law, Timestamp::from_millis(0));
        let windows = windows(&state, &law, Timestamp::from_millis(10_000_000)).unwrap();
        assert_eq!([windows.newest, windows.fast, windows.slow].map(|length| length.as_secs()), [121, 180, 480]);
        assert!(windows.long >= windows.slow);
        assert_eq!(law.settle(), 123.5);
    }

    #[test]
    fn a_clock_that_stepped_back_before_the_change_is_settling() {
        let law = law();
        let state = State::start(&law, Timestamp::from_millis(1_000_000));
        assert_eq!(windows(&state, &law, Timestamp::from_millis(1)), None);
        assert_eq!(settle_left(&state, &law, Timestamp::from_millis(1)), Some(law.settle()));
    }
}
