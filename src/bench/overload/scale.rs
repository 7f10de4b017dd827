//! How long and how much.

use std::time::Duration;

use super::attack::Kind;
use crate::bench::system::cores::Place;

/// The lengths of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// How often everything is measured.
    pub rounds: usize,
    /// Calls of the honest clients before they count.
    pub warm_up: Duration,
    /// Calls of the honest clients that count, beside an attacker.
    pub honest: Duration,
    /// Pause after an attack before memory is looked at.
    pub settle: Duration,
    /// Honest clients alone before an overload.
    pub calm: Duration,
    /// An overload.
    pub load: Duration,
    /// What is looked at after it.
    pub recovery: Duration,
    /// A stretch of that, by which it is judged.
    pub slice: Duration,
    /// Idle connections.
    pub idle: usize,
    /// Where attackers and overloads run.
    pub place: Place,
}

// === impl Scale ===

impl Scale {
    /// All of it, in about three minutes.
    #[must_use]
    pub fn full() -> Scale {
        Scale {
            rounds: 3,
            warm_up: Duration::from_millis(200),
            honest: Duration::from_millis(2_000),
            settle: Duration::from_millis(300),
            calm: Duration::from_millis(800),
            load: Duration::from_millis(1_500),
            recovery: Duration::from_millis(1_300),
            slice: Duration::from_millis(100),
            idle: 10_000,
            place: Place::Spare,
        }
    }

    /// The same cases once and for a moment: whether everything works.
    #[must_use]
    pub fn smoke() -> Scale {
        Scale {
            rounds: 1,
            warm_up: Duration::from_millis(20),
            honest: Duration::from_millis(100),
            settle: Duration::from_millis(10),
            calm: Duration::from_millis(100),
            load: Duration::from_millis(100),
            recovery: Duration::from_millis(200),
            slice: Duration::from_millis(20),
            idle: 50,
            // On a busy machine nothing would ever be spare.
            place: Place::Load,
        }
    }

    /// Connections of that kind of hostile clients.
    #[must_use]
    pub fn connections(&self, kind: Kind) -> usize {
        match kind {
            Kind::Resets | Kind::Garbage => 4,
            Kind::Unread => 100,
            Kind::Streams => 1,
            Kind::Idle => self.idle,
        }
    }

    /// About how long a run takes.
    #[must_use]
    pub fn time(&self) -> Duration {
        let starts = Duration::from_millis(300);
        let honest = self.warm_up + self.honest + starts;
        let kinds = Kind::ALL.len() as u32;
        let fairness = honest * (1 + 2 * kinds) + self.settle * kinds;
        let surge = self.warm_up + self.calm + self.load + self.recovery + starts;
        (fairness + surge * 6) * self.rounds as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_run_takes_about_three_minutes() {
        assert!(Scale::full().time() <= Duration::from_secs(190), "{:?}", Scale::full().time());
        assert!(Scale::smoke().time() <= Duration::from_secs(15), "{:?}", Scale::smoke().time());
    }
}
