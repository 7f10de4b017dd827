//! Which value each call asks about: one hot key, all keys alike, or a few often and most rarely (Zipf).
//!
//! A value is a number, written in the request in as many digits as the largest needs, so that every request of a run
//! has the same length and only its digits are patched. Numbers start at zero: `uniform:1000` asks about `000` to
//! `999`. The hot key is the text `hot`.

use std::str::FromStr;

use rand::RngExt;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

/// Most keys that a run may spread over: more than any server holds, and few enough that the numbers stay exact in
/// the arithmetic of Zipf.
pub const KEYS_MAX: u64 = 1_000_000_000;

/// The keys of a run, as the command line says them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyChoice {
    /// `hot`: every call asks about the same.
    Hot,
    /// `uniform:COUNT`: every key is as likely as another.
    Uniform {
        /// Number of keys, from 1 to [`KEYS_MAX`].
        count: u64,
    },
    /// `zipf:COUNT[:EXPONENT]`: the key of rank k is as likely as 1 / k^exponent; rank 1 is the number 0.
    Zipf {
        /// Number of keys, from 1 to [`KEYS_MAX`].
        count: u64,
        /// From 0, which is uniform, to 10.
        exponent: f64,
    },
}

/// Draws the numbers of keys.
#[derive(Clone, Debug)]
pub struct Keys {
    choice: Drawn,
}

#[derive(Clone, Debug)]
enum Drawn {
    Hot,
    Uniform(u64),
    Zipf(Zipf<f64>),
}

// === impl KeyChoice ===

impl KeyChoice {
    /// How many keys there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            KeyChoice::Hot => 1,
            KeyChoice::Uniform { count } | KeyChoice::Zipf { count, .. } => *count,
        }
    }

    /// Digits of a value; zero where the value is the text `hot`.
    #[must_use]
    pub fn digits(&self) -> usize {
        match self {
            KeyChoice::Hot => 0,
            KeyChoice::Uniform { count } | KeyChoice::Zipf { count, .. } => (count - 1).max(1).ilog10() as usize + 1,
        }
    }
}

impl FromStr for KeyChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<KeyChoice, String> {
        let wrong = || {
            format!(
                "must be hot, uniform:COUNT or zipf:COUNT[:EXPONENT], with 1 to {KEYS_MAX} keys and an exponent from \
                 0 to 10"
            )
        };
        let count = |text: &str| {
            let count = text.parse().ok().filter(|count| (1..=KEYS_MAX).contains(count));
            count.filter(|_| !text.starts_with('+')).ok_or_else(wrong)
        };
        let exponent = |text: &str| text.parse().ok().filter(|exponent| (0.0..=10.0).contains(exponent));
        match text.split(':').collect::<Vec<_>>()[..] {
            ["hot"] => Ok(KeyChoice::Hot),
            ["uniform", keys] => Ok(KeyChoice::Uniform { count: count(keys)? }),
            ["zipf", keys] => Ok(KeyChoice::Zipf { count: count(keys)?, exponent: 1.0 }),
            ["zipf", keys, power] => {
                Ok(KeyChoice::Zipf { count: count(keys)?, exponent: exponent(power).ok_or_else(wrong)? })
            }
            _ => Err(wrong()),
        }
    }
}

// === impl Keys ===

impl Keys {
    /// What draws the keys of that choice.
    #[must_use]
    pub fn new(choice: KeyChoice) -> Keys {
        let drawn = match choice {
            KeyChoice::Hot => Drawn::Hot,
            KeyChoice::Uniform { count } => Drawn::Uniform(count),
            // The numbers are within Zipf's own bounds; should they ever not be, all keys are alike.
            KeyChoice::Zipf { count, exponent } => {
                Zipf::new(count as f64, exponent).map_or(Drawn::Uniform(count), Drawn::Zipf)
            }
        };
        Keys { choice: drawn }
    }

    /// The number of the next call's key, from 0.
    pub fn draw(&self, random: &mut SmallRng) -> u64 {
        match &self.choice {
            Drawn::Hot => 0,
            Drawn::Uniform(count) => random.random_range(0..*count),
            // Zipf draws ranks from 1.
            Drawn::Zipf(zipf) => (zipf.sample(random) as u64).saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn counts(text: &str, draws: usize) -> Vec<usize> {
        let choice: KeyChoice = text.parse().unwrap();
        let keys = Keys::new(choice);
        let mut random = SmallRng::seed_from_u64(1);
        let mut counts = vec![0; usize::try_from(choice.count()).unwrap()];
        for _ in 0..draws {
            counts[usize::try_from(keys.draw(&mut random)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn what_is_no_choice_of_keys_is_refused_with_what_would_be() {
        for text in ["", "cold", "hot:1", "uniform", "uniform:0", "uniform:+1", "uniform:1000000001", "zipf:5:-1"] {
            let error = text.parse::<KeyChoice>().unwrap_err();
            assert!(error.contains("uniform:COUNT"), "{text}: {error}");
        }
        for text in ["zipf:5:11", "zipf:5:NaN", "zipf:5:1:1", "uniform:5:1"] {
            assert!(text.parse::<KeyChoice>().is_err(), "{text}");
        }
        assert_eq!("zipf:5".parse(), Ok(KeyChoice::Zipf { count: 5, exponent: 1.0 }));
    }

    #[test]
    fn uniform_keys_come_alike_and_all_of_them() {
        let counts = counts("uniform:10", 100_000);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_zipf_key_comes_as_often_as_its_rank_says() {
        let counts = counts("zipf:4:1", 120_000);
        // 1 + 1/2 + 1/3 + 1/4 = 25/12.
        for (rank, count) in (1..).zip(&counts) {
            let expected = 120_000.0 * 12.0 / 25.0 / f64::from(rank);
            assert!((*count as f64 / expected - 1.0).abs() < 0.05, "rank {rank}: {count} of {expected}");
        }
    }

    #[test]
    fn a_hot_key_is_always_the_same() {
        assert_eq!(counts("hot", 10), [10]);
    }

    #[test]
    fn digits_hold_the_largest_number_and_no_more() {
        for (text, digits) in [("hot", 0), ("uniform:1", 1), ("uniform:10", 1), ("uniform:11", 2), ("zipf:1000", 3)] {
            assert_eq!(text.parse::<KeyChoice>().unwrap().digits(), digits, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_drawn_number_is_below_the_count(
            count in 1..=KEYS_MAX, exponent in 0.0..10.0_f64, seed: u64, zipf: bool,
        ) {
            let choice = if zipf { KeyChoice::Zipf { count, exponent } } else { KeyChoice::Uniform { count } };
            let keys = Keys::new(choice);
            let mut random = SmallRng::seed_from_u64(seed);
            for _ in 0..20 {
                prop_assert!(keys.draw(&mut random) < count);
            }
        }
    }
}
