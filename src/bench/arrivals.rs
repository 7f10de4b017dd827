//! When the calls of an open loop are due: evenly, or as independent callers send them (a Poisson process, whose
//! gaps are exponential).
//!
//! The instants depend on rate and seed alone and never on how the server does: that is what makes the loop open.
//! They are kept as nanoseconds in a float, which is exact to well below a nanosecond for a day.

use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp1};

/// How arrivals follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Spacing {
    /// As independent callers send them: the gaps are exponential
    Poisson,
    /// One after the other at the same distance
    Even,
}

/// The instants at which calls are due, in nanoseconds from the start of the run, ascending and without end.
#[derive(Clone, Debug)]
pub struct Arrivals {
    spacing: Spacing,
    gap_ns: f64,
    next_ns: f64,
}

// === impl Arrivals ===

impl Arrivals {
    /// Arrivals at `rate` a second, which is above zero.
    #[must_use]
    pub fn new(rate: f64, spacing: Spacing) -> Arrivals {
        Arrivals { spacing, gap_ns: 1e9 / rate, next_ns: 0.0 }
    }

    /// When the next call is due.
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Goes on to the one after it.
    pub fn advance(&mut self, random: &mut SmallRng) {
        self.next_ns += match self.spacing {
            Spacing::Even => self.gap_ns,
            Spacing::Poisson => {
                let gap: f64 = Exp1.sample(random);
                gap * self.gap_ns
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn instants(rate: f64, spacing: Spacing, count: usize) -> Vec<u64> {
        let (mut arrivals, mut random) = (Arrivals::new(rate, spacing), SmallRng::seed_from_u64(7));
        let one = |_| {
            let at = arrivals.next_ns();
            arrivals.advance(&mut random);
            at
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn even_arrivals_are_a_gap_apart_and_do_not_drift() {
        let instants = instants(3.0, Spacing::Even, 3_001);
        assert_eq!(instants[..3], [0, 333_333_333, 666_666_666]);
        assert!(instants[3_000].abs_diff(1_000_000_000_000) <= 1_000);
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_their_gaps_are_exponential() {
        let instants = instants(1_000.0, Spacing::Poisson, 100_001);
        let seconds = instants[100_000] as f64 / 1e9;
        assert!((seconds - 100.0).abs() < 1.5, "100 000 calls at 1 000 a second took {seconds} s");
        let longer = instants.windows(2).filter(|pair| pair[1] - pair[0] > 1_000_000).count();
        // Of exponential gaps, 1/e are longer than the mean.
        assert!((longer as f64 / 100_000.0 - (-1.0_f64).exp()).abs() < 0.01, "{longer} gaps were above the mean");
    }
}
