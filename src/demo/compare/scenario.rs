//! The disturbances: how much is asked for, and what the inventory can do, second by second.

use std::ops::Range;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::demo::load::profile::Phase;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Scenario {
    /// Twice the capacity is asked for
    Overload,
    /// The capacity halves and comes back
    Halved,
    /// Everything fails, and works again
    Outage,
    /// The load vanishes and returns
    Lull,
}

/// A stretch of time in which nothing changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// How long, in seconds.
    pub seconds: u32,
    /// Requests a second.
    pub rate: f64,
    /// Workers of the inventory, each of which does [`PER_WORKER`] a second.
    pub workers: u64,
    /// Whether it fails whatever it is asked.
    pub is_broken: bool,
}

/// What one worker of the inventory does in a second: services take 40 ms.
pub const PER_WORKER: f64 = 25.0;

/// Workers of an inventory that is well.
pub const WORKERS: u64 = 4;

/// What an inventory can do that is well, in requests a second.
pub const CAPACITY: f64 = PER_WORKER * WORKERS as f64;

/// A stretch in which the inventory is well.
const fn well(seconds: u32, rate: f64) -> Stretch {
    Stretch { seconds, rate, workers: WORKERS, is_broken: false }
}

// === impl Scenario ===

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 4] = [Scenario::Overload, Scenario::Halved, Scenario::Outage, Scenario::Lull];

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scenario::Overload => "load at twice the capacity",
            Scenario::Halved => "capacity halves and comes back",
            Scenario::Outage => "everything fails, and works again",
            Scenario::Lull => "load vanishes and returns",
        }
    }

    /// What happens, one stretch after the other.
    #[must_use]
    pub const fn stretches(self) -> &'static [Stretch] {
        const OVERLOAD: &[Stretch] = &[well(15, 50.0), well(60, 200.0), well(30, 50.0)];
        const HALVED: &[Stretch] =
            &[well(15, 85.0), Stretch { workers: WORKERS / 2, ..well(40, 85.0) }, well(125, 85.0)];
        const OUTAGE: &[Stretch] = &[well(15, 80.0), Stretch { is_broken: true, ..well(30, 80.0) }, well(60, 80.0)];
        const LULL: &[Stretch] = &[well(15, 50.0), well(30, 200.0), well(40, 0.0), well(40, 200.0)];
        match self {
            Scenario::Overload => OVERLOAD,
            Scenario::Halved => HALVED,
            Scenario::Outage => OUTAGE,
            Scenario::Lull => LULL,
        }
    }

    /// The seconds over which goodput is taken.
    #[must_use]
    #[expect(clippy::single_range_in_vec_init, reason = "a list of ranges, of which there may be one")]
    pub const fn judged(self) -> &'static [Range<u32>] {
        match self {
            Scenario::Overload => &[15..75],
            Scenario::Halved => &[15..55],
            Scenario::Outage => &[45..105],
            Scenario::Lull => &[15..45, 85..125],
        }
    }

    /// From when to when clients are to be protected: from the onset of what overloads the service to its end. After an
    /// outage, which is no overload, from the return.
    #[must_use]
    pub const fn protected(self) -> Range<u32> {
        match self {
            Scenario::Overload => 15..75,
            Scenario::Halved => 15..55,
            Scenario::Outage => 45..105,
            Scenario::Lull => 85..125,
        }
    }

    /// When the cause ends, for those scenarios that go on without it.
    #[must_use]
    pub const fn ends(self) -> Option<u32> {
        match self {
            Scenario::Overload => Some(75),
            Scenario::Halved => Some(55),
            Scenario::Outage => Some(45),
            Scenario::Lull => None,
        }
    }

    /// The seconds of calm traffic, in which nobody should be refused.
    #[must_use]
    #[expect(clippy::single_range_in_vec_init, reason = "a list of ranges, of which there may be one")]
    pub const fn calm(self) -> &'static [Range<u32>] {
        match self {
            Scenario::Overload => &[0..15, 75..105],
            Scenario::Halved | Scenario::Outage | Scenario::Lull => &[0..15],
        }
    }

    /// How long it takes, in seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.stretches().iter().map(|stretch| stretch.seconds).sum()
    }

    /// The load.
    #[must_use]
    pub fn phases(self) -> Vec<Phase> {
        let phase =
            |stretch: &Stretch| Phase { length: Duration::from_secs(u64::from(stretch.seconds)), rate: stretch.rate };
        self.stretches().iter().map(phase).collect()
    }

    /// What the inventory can do in that second, in requests.
    #[must_use]
    pub fn capacity(self, second: u32) -> f64 {
        let mut begins = 0;
        for stretch in self.stretches() {
            begins += stretch.seconds;
            if second < begins {
                return if stretch.is_broken { 0.0 } else { stretch.workers as f64 * PER_WORKER };
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_judged_is_within_the_scenario_and_calm_is_below_the_capacity() {
        for scenario in Scenario::ALL {
            let rate = |second: u32| {
                let mut ends = 0;
                let stretch = scenario.stretches().iter().find(|stretch| {
                    ends += stretch.seconds;
                    second < ends
                });
                stretch.unwrap().rate
            };
            for judged in scenario.judged().iter().chain([&scenario.protected()]) {
                assert!(judged.end <= scenario.seconds() && !judged.is_empty(), "{scenario:?}");
                assert!(judged.clone().all(|second| scenario.capacity(second) > 0.0), "{scenario:?}");
            }
            for second in scenario.calm().iter().cloned().flatten() {
                assert!(rate(second) <= 0.9 * scenario.capacity(second), "{scenario:?} {second}");
            }
        }
        assert_eq!([0, 20, 60].map(|second| Scenario::Halved.capacity(second)), [100.0, 50.0, 100.0]);
        assert_eq!([0, 20, 60].map(|second| Scenario::Outage.capacity(second)), [100.0, 0.0, 100.0]);
    }
}
