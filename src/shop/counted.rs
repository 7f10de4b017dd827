//! A service that fails by count: a few answers, then failures, then all over again, and some failures at random.
//!
//! It depends on nothing but how often it was asked and on a seed, so whoever sends one request after the other knows
//! what comes.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// The cycle and where it is.
#[derive(Debug)]
pub struct Counted {
    count: u32,
    random: SmallRng,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is answered.
    Answered,
    /// It fails because so many came before it.
    TooMany,
    /// It fails for no reason.
    Unlucky,
}

/// Requests that are answered in each cycle.
pub const ANSWERED: u32 = 5;

/// Requests of a cycle; the ones above [`ANSWERED`] fail.
pub const CYCLE: u32 = 15;

/// Share of the others that fail at random.
pub const UNLUCKY_RATIO: f64 = 0.1;

// === impl Counted ===

impl Counted {
    /// A cycle that begins now. The same seed has the same bad luck.
    #[must_use]
    pub fn new(seed: u64) -> Counted {
        Counted { count: 0, random: SmallRng::seed_from_u64(seed) }
    }

    /// What becomes of the next request.
    pub fn next_fate(&mut self) -> Fate {
        let number = self.count;
        self.count = (number + 1) % CYCLE;
        // Drawn for each request, so that luck doesn't depend on the cycle.
        let unlucky = self.random.random_bool(UNLUCKY_RATIO);
        match (number < ANSWERED, unlucky) {
            (false, _) => Fate::TooMany,
            (true, true) => Fate::Unlucky,
            (true, false) => Fate::Answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(seed: u64, count: usize) -> Vec<Fate> {
        let mut counted = Counted::new(seed);
        (0..count).map(|_| counted.next_fate()).collect()
    }

    #[test]
    fn five_may_be_answered_then_ten_fail_and_then_it_begins_anew() {
        for cycle in fates(1, 1_500).chunks(15) {
            assert!(!cycle[..5].contains(&Fate::TooMany));
            assert_eq!(cycle[5..], [Fate::TooMany; 10]);
        }
    }

    #[test]
    fn one_in_ten_of_the_others_is_unlucky_and_the_seed_says_which() {
        let all = fates(1, 150_000);
        let unlucky = all.iter().filter(|fate| **fate == Fate::Unlucky).count();
        assert!((4_700..=5_300).contains(&unlucky), "{unlucky} of 50,000");
        assert_eq!(all[..100], fates(1, 100));
        assert_ne!(all[..100], fates(2, 100));
    }
}
