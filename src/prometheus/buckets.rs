//! The share of answers that were slower than a threshold, from the cumulative buckets of a histogram.
//!
//! A share and not a quantile: a quantile is no number without answers, jumps between edges, and has no confidence
//! bound. Between two edges answers are taken to be spread evenly, as Prometheus's `histogram_quantile` does.

/// What the buckets say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Distribution {
    /// How many answers there are.
    pub(super) total: f64,
    /// The share above the threshold; 0 without answers.
    pub(super) slow_share: f64,
    /// Where the threshold lies.
    pub(super) fit: Fit,
}

/// Where a threshold lies among a histogram's edges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fit {
    /// On an edge: the share is exact.
    Edge,
    /// Between these two; the lower one is 0 below the first.
    Between(f64, f64),
    /// Above the last edge that is a number: all that is slower than this one counts as slow.
    Above(f64),
}

/// How much of all answers may be out of order among the buckets: extrapolation puts them out by a little, and more
/// means that they aren't of one histogram.
const DISORDER_MAX: f64 = 0.1;

/// Reads `buckets`, upper edges with cumulative counts in any order, against `threshold` in the histogram's unit.
pub(super) fn read(buckets: &[(f64, f64)], threshold: f64) -> Result<Distribution, String> {
    let buckets = ordered(buckets)?;
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    let (mut lower, mut below) = (0.0_f64, 0.0_f64);
    for (edge, count) in buckets {
        if edge == threshold {
            return Ok(distribution(total, count, Fit::Edge));
        }
        if edge > threshold {
            if edge.is_infinite() {
                return Ok(distribution(total, below, Fit::Above(lower)));
            }
            let part = (threshold - lower) / (edge - lower);
            let quick = below + (count - below) * part.clamp(0.0, 1.0);
            return Ok(distribution(total, quick, Fit::Between(lower, edge)));
        }
        (lower, below) = (edge.max(0.0), count);
    }
    Err("the threshold is no number".to_owned())
}

/// The answers that aren't among `part`: one histogram less another of the same edges.
pub(super) fn without(all: &[(f64, f64)], part: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let of_part = |edge: f64| part.iter().filter(|(other, _)| *other == edge).map(|(_, count)| count).sum::<f64>();
    all.iter().map(|(edge, count)| (*edge, (count - of_part(*edge)).max(0.0))).collect()
}

fn distribution(total: f64, quick: f64, fit: Fit) -> Distribution {
    let slow_share = if total > 0.0 { ((total - quick) / total).clamp(0.0, 1.0) } else { 0.0 };
    Distribution { total, slow_share, fit }
}

/// The buckets by rising edges, with what came under two spellings of one edge added up and small disorder repaired.
fn ordered(buckets: &[(f64, f64)]) -> Result<Vec<(f64, f64)>, String> {
    let mut sorted = buckets.to_vec();
    sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut merged: Vec<(f64, f64)> = Vec::with_capacity(sorted.len());
    for (edge, count) in sorted {
        match merged.last_mut() {
            Some((last, sum)) if *last == edge => *sum += count,
            _ => merged.push((edge, count)),
        }
    }
    if merged.last().is_none_or(|(edge, _)| *edge != f64::INFINITY) {
        return Err("the histogram has no bucket +Inf".to_owned());
    }
    let (mut highest, mut disorder) = (0.0_f64, 0.0_f64);
    for (_, count) in &mut merged {
        disorder = disorder.max(highest - *count);
        highest = highest.max(*count);
        *count = highest;
    }
    if disorder > DISORDER_MAX * highest {
        return Err(format!("the buckets are not cumulative: one has {disorder:.1} less than a smaller one"));
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INF: f64 = f64::INFINITY;

    #[test]
    fn a_share_is_exact_on_an_edge_and_interpolated_between_two() {
        let buckets = [(INF, 100.0), (100.0, 40.0), (500.0, 90.0), (250.0, 80.0)];
        let share = |threshold| {
            let read = read(&buckets, threshold).unwrap();
            (read.slow_share, read.fit)
        };
        assert_eq!(share(250.0), (0.2, Fit::Edge));
        assert_eq!(share(375.0), (0.15, Fit::Between(250.0, 500.0)));
        assert_eq!(share(50.0), (0.8, Fit::Between(0.0, 100.0)));
        assert_eq!(share(600.0), (0.1, Fit::Above(500.0)));
    }

    #[test]
    fn without_answers_nothing_is_slow() {
        let read = read(&[(1.0, 0.0), (INF, 0.0)], 1.0).unwrap();
        assert_eq!((read.total, read.slow_share), (0.0, 0.0));
    }

    #[test]
    fn one_edge_in_two_spellings_is_one() {
        // An old and a new Envoy: `250` and `250.0` are two series, each with its own instances' answers.
        let read = read(&[(250.0, 30.0), (250.0, 50.0), (INF, 100.0)], 250.0).unwrap();
        assert_eq!(read.slow_share, 0.2);
    }

    #[test]
    fn a_little_disorder_is_repaired_and_much_is_refused() {
        let repaired = read(&[(1.0, 90.0), (2.0, 88.0), (INF, 100.0)], 2.0).unwrap();
        assert!((repaired.slow_share - 0.1).abs() < 1e-9);
        assert!(read(&[(1.0, 90.0), (2.0, 20.0), (INF, 100.0)], 2.0).unwrap_err().contains("not cumulative"));
        assert!(read(&[(1.0, 90.0), (2.0, 95.0)], 2.0).unwrap_err().contains("+Inf"));
        assert!(read(&[], 2.0).is_err());
    }

    #[test]
    fn a_part_is_taken_out_edge_by_edge() {
        let all = [(1.0, 10.0), (INF, 20.0)];
        assert_eq!(without(&all, &[(1.0, 4.0), (INF, 4.0)]), [(1.0, 6.0), (INF, 16.0)]);
        assert_eq!(without(&all, &[(1.0, 40.0)]), [(1.0, 0.0), (INF, 20.0)]);
    }

    proptest! {
        #[test]
        fn a_share_is_one_and_falls_with_the_threshold(
            counts in proptest::collection::vec(0.0_f64..1e9, 1..8), one in 0.0_f64..9.0, other in 0.0_f64..9.0,
        ) {
            let mut cumulative = 0.0;
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for (index, count) in counts.iter().enumerate() {
                cumulative += count;
                buckets.push((index as f64 + 1.0, cumulative));
            }
            buckets.push((INF, cumulative));
            let share = |threshold| read(&buckets, threshold).unwrap().slow_share;
            let (low, high) = (share(one.min(other)), share(one.max(other)));
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            prop_assert!(low + 1e-9 >= high);
        }
    }
}
