//! What is held against the targets, from what clients saw.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::scenario::Scenario;
use super::seconds::Seconds;
use crate::demo::load::outcome::Outcome;

/// The figures of one protection in one scenario. Shares are from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Good answers in the judged seconds, as a share of what the inventory could serve of what was asked for.
    pub goodput: f64,
    /// The same from the end of the cause to the end of the scenario.
    pub goodput_after: Option<f64>,
    /// Failed requests (5xx) in the judged seconds, as a share of all.
    pub failed: f64,
    /// Seconds until the first five in a row in which at most one request of a hundred failed.
    pub protect_s: Option<u32>,
    /// Requests that failed after that, while protection was asked for.
    pub failed_after: Option<u64>,
    /// Requests that were due in that time.
    pub offered_after: Option<u64>,
    /// Seconds from the end of the cause until the first ten in a row that together have 95 % of what could be served.
    pub recover_s: Option<u32>,
    /// Requests in calm traffic that were refused or failed, as a share of all.
    pub calm_refused: f64,
    /// 99th percentile of the latency of good answers in the judged seconds, in ms.
    pub p99_ms: Option<f64>,
}

/// Seconds in a row that count as protected, and the share of them that may fail.
const PROTECTED_S: u32 = 5;
const PROTECTED_FAILED: f64 = 0.01;

/// Seconds in a row that count as recovered, and the share of what could be served that must be.
const RECOVERED_S: u32 = 10;
const RECOVERED_GOOD: f64 = 0.95;

// === impl Figures ===

impl Figures {
    /// The figures of what clients saw.
    #[must_use]
    pub fn of(scenario: Scenario, seen: &Seconds) -> Figures {
        let judged = scenario.judged();
        let (good, could) = judged.iter().cloned().fold((0.0, 0.0), |(good, could), range| {
            (good + seen.count(range.clone(), Outcome::Good) as f64, could + could_serve(scenario, seen, range))
        });
        let failed: u64 = judged.iter().cloned().map(|range| seen.failed(range)).sum();
        let offered: u64 = judged.iter().cloned().map(|range| seen.offered(range)).sum();
        let protected = scenario.protected();
        let protect_at = first(protected.clone(), PROTECTED_S, |range| {
            seen.failed(range.clone()) as f64 <= PROTECTED_FAILED * seen.offered(range) as f64
        });
        let after = scenario.ends().map(|ends| ends..scenario.seconds());
        let recover_at = after.clone().and_then(|after| {
            first(after, RECOVERED_S, |range| {
                let good = seen.count(range.clone(), Outcome::Good) as f64;
                good >= RECOVERED_GOOD * could_serve(scenario, seen, range)
            })
        });
        let (refused, calm) = scenario.calm().iter().cloned().fold((0, 0), |(refused, calm), range| {
            let offered = seen.offered(range.clone());
            (refused + offered - seen.count(range, Outcome::Good), calm + offered)
        });
        Figures {
            goodput: share(good, could),
            goodput_after: after.map(|after| {
                share(seen.count(after.clone(), Outcome::Good) as f64, could_serve(scenario, seen, after))
            }),
            failed: share(failed as f64, offered as f64),
            protect_s: protect_at.map(|at| at - protected.start),
            failed_after: protect_at.map(|at| seen.failed(at..protected.end)),
            offered_after: protect_at.map(|at| seen.offered(at..protected.end)),
            recover_s: recover_at.zip(scenario.ends()).map(|(at, ends)| at - ends),
            calm_refused: share(refused as f64, calm as f64),
            p99_ms: seen.p99_ms(),
        }
    }
}

/// Requests that an inventory could have served of those that were due in these seconds.
fn could_serve(scenario: Scenario, seen: &Seconds, seconds: Range<u32>) -> f64 {
    seconds.map(|second| scenario.capacity(second).min(seen.offered(second..second + 1) as f64)).sum()
}

/// The first second from which on `length` of them, all within `seconds`, are as they should be.
fn first(seconds: Range<u32>, length: u32, is_right: impl Fn(Range<u32>) -> bool) -> Option<u32> {
    let last = seconds.end.checked_sub(length)?;
    (seconds.start..=last).find(|from| is_right(*from..from + length))
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::load::driver::Notes;

    /// Requests of the scenario's rates, evenly spaced, with what `fate` makes of the n-th in its second.
    fn seen(scenario: Scenario, fate: impl Fn(u32, u32) -> Outcome) -> Seconds {
        let mut seconds = Seconds::new(scenario);
        let mut begins = 0;
        for stretch in scenario.stretches() {
            for second in begins..begins + stretch.seconds {
                for number in 0..stretch.rate as u32 {
                    let due = Duration::from_secs(second.into()) + Duration::from_millis(u64::from(number) * 4);
                    seconds.end(due, due + Duration::from_millis(50), fate(second, number));
                }
            }
            begins += stretch.seconds;
        }
        seconds
    }

    #[test]
    fn a_perfect_protection_has_perfect_figures() {
        for scenario in Scenario::ALL {
            let told = Figures::of(
                scenario,
                &seen(scenario, |second, number| {
                    if f64::from(number) < scenario.capacity(second) { Outcome::Good } else { Outcome::Refused }
                }),
            );
            assert_eq!((told.goodput, told.failed, told.calm_refused), (1.0, 0.0, 0.0), "{scenario:?}");
            assert_eq!((told.protect_s, told.failed_after), (Some(0), Some(0)), "{scenario:?}");
            assert_eq!(told.recover_s, scenario.ends().map(|_| 0), "{scenario:?}");
            assert!(told.p99_ms.is_some_and(|p99| (49.0..51.0).contains(&p99)));
        }
    }

    #[test]
    fn time_to_protect_and_to_recover_are_those_in_which_it_was_bad() {
        let told = Figures::of(
            Scenario::Halved,
            &seen(Scenario::Halved, |second, number| match second {
                15..23 if number >= 40 => Outcome::Overloaded,
                23..100 if number >= 50 => Outcome::Refused,
                _ => Outcome::Good,
            }),
        );
        // A second too early: what is missing in it is less than a twentieth of ten seconds.
        assert_eq!((told.protect_s, told.failed_after, told.recover_s), (Some(8), Some(0), Some(44)));
        assert!((told.goodput - (8.0 * 40.0 + 32.0 * 50.0) / 2_000.0).abs() < 1e-9, "{told:?}");
        assert!(told.goodput_after.is_some_and(|after| after < 0.9));
    }

    #[test]
    fn who_never_protects_and_never_recovers_has_no_time() {
        let told = Figures::of(Scenario::Overload, &seen(Scenario::Overload, |_, _| Outcome::TimedOut));
        assert_eq!((told.protect_s, told.recover_s, told.failed_after), (None, None, None));
        assert_eq!((told.goodput, told.failed, told.calm_refused, told.p99_ms), (0.0, 1.0, 1.0, None));
    }
}
