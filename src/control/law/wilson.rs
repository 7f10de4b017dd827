//! Wilson's interval: between which shares the true one lies, when `k` of `n` answers were of a kind.
//!
//! The plain interval around k / n has no width at k = 0 and reaches below zero near it, which is where services are
//! when they are well. Wilson's is made by asking which true shares would make k / n likely, and has neither fault.

/// Lower and upper bound at `z` standard deviations; 0 and 1 without answers. Both lie between 0 and 1.
pub(super) fn bounds(k: f64, n: f64, z: f64) -> (f64, f64) {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let p = (k / n).clamp(0.0, 1.0);
    let z2 = z * z;
    let scale = 1.0 + z2 / n;
    let centre = p + z2 / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).max(0.0).sqrt();
    (((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0))
}

/// The lower bound, with more than `counted` answers taken for that many.
pub(super) fn lower(k: f64, n: f64, z: f64, counted: f64) -> f64 {
    bounds(k * (counted / n.max(f64::MIN_POSITIVE)).min(1.0), n.min(counted), z).0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bounds_are_those_of_published_tables() {
        // 10 of 100 at 1.96: 0.0552 to 0.1744 (Agresti and Coull 1998, by hand from the formula).
        let (low, high) = bounds(10.0, 100.0, 1.96);
        assert!((low - 0.0552).abs() < 1e-4 && (high - 0.1744).abs() < 1e-4, "{low} {high}");
        // None of 10: zero to z² / (n + z²).
        let (low, high) = bounds(0.0, 10.0, 2.0);
        assert!(low == 0.0 && (high - 4.0 / 14.0).abs() < 1e-12, "{high}");
        assert_eq!(bounds(0.0, 0.0, 3.0), (0.0, 1.0));
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_share_and_narrows_with_more_answers(
            share in 0.0..=1.0_f64, n in 1.0..1e16_f64, z in 0.1..6.0_f64
        ) {
            let (low, high) = bounds(share * n, n, z);
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            prop_assert!(low <= share + 1e-9 && share <= high + 1e-9);
            let (low_of_more, high_of_more) = bounds(share * n * 4.0, n * 4.0, z);
            prop_assert!(low_of_more >= low - 1e-9 && high_of_more <= high + 1e-9);
        }

        #[test]
        fn more_failures_never_lower_a_bound(n in 1.0..1e9_f64, one in 0.0..=1.0_f64, two in 0.0..=1.0_f64) {
            let (fewer, more) = (one.min(two) * n, one.max(two) * n);
            prop_assert!(lower(fewer, n, 3.0, 1e3) <= lower(more, n, 3.0, 1e3) + 1e-12);
        }
    }
}
