//! What a statistic is made of: counters, gauges and histograms of atomics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, until somebody resets it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that follows how many of something there are.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// Holds a [`Gauge`] one higher until dropped.
#[derive(Debug)]
pub struct GaugeGuard(Arc<Gauge>);

/// Upper bounds of Envoy's histogram buckets. Times are in milliseconds.
pub(super) const BOUNDS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 300000.0,
    600000.0, 1800000.0, 3600000.0,
];

/// How often values fell into each bucket, and their sum.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    sum: AtomicU64,
}

/// A histogram as it was at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Values at or below each of the bounds, growing.
    pub cumulative: [u64; BOUNDS.len()],
    /// All values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

// === impl Counter ===

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Back to zero.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

// === impl Gauge ===

impl Gauge {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less; stays at zero.
    pub fn decrement(&self) {
        // Every decrement pairs with an increment, so the floor is never reached; a gauge of 2^64 would be worse.
        let less = |value: u64| Some(value.saturating_sub(1));
        if let Err(unreachable) = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            debug_assert!(false, "the change is never refused, at {unreachable}");
        }
    }

    /// Exactly that many.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, for as long as the guard lives.
    #[must_use]
    pub fn guard(self: &Arc<Gauge>) -> GaugeGuard {
        self.increment();
        GaugeGuard(Arc::clone(self))
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.decrement();
    }
}

// === impl Histogram ===

impl Histogram {
    /// One value more. Envoy records whole milliseconds; so do we.
    pub fn record(&self, value: u64) {
        #[allow(clippy::cast_precision_loss)] // milliseconds stay far below 2^53
        let as_float = value as f64;
        if let Some(bucket) = BOUNDS.iter().position(|bound| as_float <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Its present state. Values recorded meanwhile may be in a part of it only.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut total = 0;
        let cumulative = std::array::from_fn(|bucket| {
            total += self.buckets[bucket].load(Ordering::Relaxed);
            total
        });
        let count = self.count.load(Ordering::Relaxed).max(total);
        HistogramSnapshot { cumulative, count, sum: self.sum.load(Ordering::Relaxed) }
    }
}

// === impl HistogramSnapshot ===

impl HistogramSnapshot {
    /// The value below which that part of all values lies (0 to 1), interpolated within its bucket.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // an estimate anyway
    pub fn quantile(&self, part: f64) -> f64 {
        let rank = part * self.count as f64;
        let mut below = (0.0, 0.0);
        for (bound, cumulative) in BOUNDS.iter().zip(self.cumulative) {
            let cumulative = cumulative as f64;
            if cumulative >= rank && cumulative > below.1 {
                let within = (rank - below.1) / (cumulative - below.1);
                return below.0 + (bound - below.0) * within.clamp(0.0, 1.0);
            }
            below = (*bound, cumulative);
        }
        BOUNDS[BOUNDS.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_hold_their_bound() {
        let histogram = Histogram::default();
        for value in [0, 1, 5, 6, 4_000_000] {
            histogram.record(value);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.cumulative[..4], [1, 2, 3, 4]);
        assert_eq!(snapshot.cumulative[18], 4);
        assert_eq!((snapshot.count, snapshot.sum), (5, 4_000_012));
    }

    #[test]
    fn a_gauge_follows_its_guards_and_does_not_wrap() {
        let gauge = Arc::new(Gauge::default());
        let guard = gauge.guard();
        assert_eq!(gauge.get(), 1);
        drop(guard);
        gauge.decrement();
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_rank() {
        let histogram = Histogram::default();
        (0..99).for_each(|_| histogram.record(3));
        histogram.record(900);
        let snapshot = histogram.snapshot();
        assert!((1.0..=5.0).contains(&snapshot.quantile(0.5)));
        assert!((500.0..=1000.0).contains(&snapshot.quantile(0.999)));
    }
}
