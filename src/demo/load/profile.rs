//! How much load comes when: a calm beginning, an overload, and the calm after it.

use std::ops::Range;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::bench::arrivals::{Arrivals, Spacing};

/// A stretch of time with one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// How long it takes.
    pub length: Duration,
    /// Calls that are due in a second, on average; zero or above.
    pub rate: f64,
}

/// The load of a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Before the overload.
    pub before: Phase,
    /// What is measured.
    pub overload: Phase,
    /// After it.
    pub after: Phase,
}

/// Share of the capacity that is asked for while all is calm.
const CALM: f64 = 0.5;

/// Shares of a stage's time.
pub const SHARES: [f64; 3] = [0.15, 0.55, 0.3];

// === impl Profile ===

impl Profile {
    /// A stage of that length for a service of that capacity (calls a second), `factor` times which is asked for in
    /// the overload.
    #[must_use]
    pub fn new(capacity: f64, factor: f64, length: Duration) -> Profile {
        Profile::with_shares(capacity, factor, length, SHARES)
    }

    /// The same with other shares of the time for the calm before, the overload, and the calm after it.
    #[must_use]
    pub fn with_shares(capacity: f64, factor: f64, length: Duration, shares: [f64; 3]) -> Profile {
        let phase = |share: f64, rate: f64| Phase { length: length.mul_f64(share), rate };
        Profile {
            before: phase(shares[0], capacity * CALM),
            overload: phase(shares[1], capacity * factor),
            after: phase(shares[2], capacity * CALM),
        }
    }

    /// One rate all the time.
    #[must_use]
    pub fn steady(rate: f64, length: Duration) -> Profile {
        let phase = |length: Duration| Phase { length, rate };
        Profile { before: phase(Duration::ZERO), overload: phase(length), after: phase(Duration::ZERO) }
    }

    /// Its phases, in order.
    #[must_use]
    pub fn phases(&self) -> [Phase; 3] {
        [self.before, self.overload, self.after]
    }

    /// The time of all phases.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.phases().iter().map(|phase| phase.length).sum()
    }

    /// From when to when the overload lasts.
    #[must_use]
    pub fn overload_time(&self) -> Range<Duration> {
        self.before.length..self.before.length + self.overload.length
    }

    /// When calls are due, ascending: as independent callers send them. The seed decides.
    pub fn instants(&self, seed: u64) -> impl Iterator<Item = Duration> + use<> {
        instants(self.phases(), seed)
    }
}

/// When the calls of phases, one after the other, are due, ascending: as independent callers send them. The seed
/// decides. A phase without a rate has none.
pub fn instants(phases: impl IntoIterator<Item = Phase>, seed: u64) -> impl Iterator<Item = Duration> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut start = Duration::ZERO;
    phases.into_iter().flat_map(move |Phase { length, rate }| {
        let mut due = Vec::new();
        if rate > 0.0 {
            let mut arrivals = Arrivals::new(rate, Spacing::Poisson);
            while Duration::from_nanos(arrivals.next_ns()) < length {
                due.push(start + Duration::from_nanos(arrivals.next_ns()));
                arrivals.advance(&mut random);
            }
        }
        start += length;
        due
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_its_rate_and_calls_are_due_in_order() {
        let profile = Profile::new(1_000.0, 2.0, Duration::from_secs(100));
        assert_eq!(profile.length(), Duration::from_secs(100));
        let instants: Vec<Duration> = profile.instants(1).collect();
        assert!(instants.is_sorted());
        let overload = profile.overload_time();
        let within = instants.iter().filter(|due| overload.contains(*due)).count();
        assert!(within.abs_diff(110_000) < 1_500, "{within} in 55 s at 2,000 a second");
        let calm = instants.len() - within;
        assert!(calm.abs_diff(22_500) < 600, "{calm} in 45 s at 500 a second");
        assert!(instants.last().is_some_and(|last| *last < profile.length()));
    }

    #[test]
    fn a_phase_without_load_has_no_calls() {
        let phase = |rate| Phase { length: Duration::from_secs(10), rate };
        let due: Vec<Duration> = super::instants([phase(0.0), phase(100.0), phase(0.0)], 1).collect();
        assert!(due.len() > 800, "{}", due.len());
        assert!(due.iter().all(|due| (10..20).contains(&due.as_secs())));
    }
}
