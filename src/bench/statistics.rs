//! The few numbers that stand for several rounds: a median, and how far the rounds lay apart.
//!
//! A ratio is taken **within a round**, where both sides had the same machine, and the median over the rounds; the
//! ratio of two medians would compare a quiet round of one with a noisy one of the other. Lowest and highest are
//! printed beside it and no standard deviation: with five rounds, noise that only ever slows down, and readers who want
//! to know how far a figure can be trusted, those say more.

use serde::Serialize;

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
    /// How many there were, at least 1.
    pub rounds: usize,
}

// === impl Spread ===

impl Spread {
    /// The figure of these rounds; `None` when there are none. What isn't a number is left out.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let rounds = values.len();
        let median = (values[(rounds - 1) / 2] + values[rounds / 2]) / 2.0;
        Some(Spread { median, lowest, highest, rounds })
    }

    /// The figure of `ours` divided by `theirs`, round by round. Rounds in which one of them is missing or `theirs` is
    /// nothing are left out.
    #[must_use]
    pub fn of_ratios(
        ours: impl IntoIterator<Item = Option<f64>>,
        theirs: impl IntoIterator<Item = Option<f64>>,
    ) -> Option<Spread> {
        let pairs = ours.into_iter().zip(theirs);
        Spread::of(pairs.filter_map(|(ours, theirs)| Some(ours? / theirs.filter(|theirs| *theirs > 0.0)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two_in_the_middle() {
        let of = |values: &[f64]| Spread::of(values.iter().copied()).map(|s| (s.median, s.lowest, s.highest, s.rounds));
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0, 3)));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Some((2.5, 1.0, 4.0, 4)));
        assert_eq!(of(&[7.0, f64::NAN]), Some((7.0, 7.0, 7.0, 1)));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine is half as fast in the second round and all of it is noise: the ratio is 2 throughout.
        let ratio = Spread::of_ratios([Some(20.0), Some(10.0), None], [Some(10.0), Some(5.0), Some(1.0)]).unwrap();
        assert_eq!((ratio.median, ratio.lowest, ratio.highest, ratio.rounds), (2.0, 2.0, 2.0, 2));
        assert_eq!(Spread::of_ratios([Some(1.0)], [Some(0.0)]), None);
    }
}
