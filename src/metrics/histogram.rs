//! Durations sorted into buckets.
//!
//! A histogram of our own, because the usual one takes a lock for each observation. Here one costs a walk over a few
//! constants and two relaxed additions. There is no separate count: it is the sum of the buckets, so a scrape can
//! never show a count that its buckets contradict.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper edges in nanoseconds, inclusive, ascending: 50 µs to 2.5 ms, where decisions lie, then the reference service's
/// own 5 ms to 10 s, so that its dashboards find their edges.
const EDGES_NANOS: [u64; 17] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// The edges and the one without end.
pub(super) const BUCKETS: usize = EDGES_NANOS.len() + 1;

/// Durations since the start, in seconds when they are shown.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

/// A reading of a [`Histogram`].
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// All durations together, in seconds.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
    /// Upper edge in seconds and observations of that bucket alone.
    pub buckets: [(f64, u64); BUCKETS],
}

// === impl Histogram ===

impl Histogram {
    /// Sorts one duration in.
    pub fn observe(&self, duration: Duration) {
        // The sum wraps after 584 years of waiting.
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // Most durations end the walk within the first few edges.
        let bucket = EDGES_NANOS.iter().position(|edge| nanos <= *edge).unwrap_or(BUCKETS - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What there is by now.
    #[must_use]
    pub fn read(&self) -> Reading {
        let buckets = std::array::from_fn(|index| {
            let edge = EDGES_NANOS.get(index).map_or(f64::INFINITY, |nanos| *nanos as f64 / 1e9);
            (edge, self.buckets[index].load(Ordering::Relaxed))
        });
        Reading {
            sum: self.sum_nanos.load(Ordering::Relaxed) as f64 / 1e9,
            count: buckets.iter().map(|(_, observations)| observations).sum(),
            buckets,
        }
    }
}

// === impl Reading ===

impl Reading {
    /// The same in milliseconds.
    #[must_use]
    pub fn in_milliseconds(self) -> Reading {
        let buckets = self.buckets.map(|(edge, observations)| (edge * 1e3, observations));
        Reading { sum: self.sum * 1e3, count: self.count, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_at_an_edge_belongs_below_it() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let reading = histogram.read();
        assert_eq!(reading.buckets[0], (50e-6, 2));
        assert_eq!(reading.buckets[1], (100e-6, 1));
        assert_eq!(reading.buckets[16], (10.0, 1));
        assert_eq!(reading.buckets[17], (f64::INFINITY, 1));
        assert_eq!(reading.count, 5);
        assert!((reading.sum - 20.000_102).abs() < 1e-9);
    }

    #[test]
    fn the_edges_ascend_and_include_those_of_the_reference_service() {
        assert!(EDGES_NANOS.is_sorted());
        for edge in [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0] {
            assert!(Histogram::default().read().buckets.iter().any(|(seconds, _)| *seconds == edge), "{edge}");
        }
    }
}
