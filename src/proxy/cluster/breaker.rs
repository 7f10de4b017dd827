//! Circuit breakers: how many of something a cluster may have at once.
//!
//! A breaker hands out permits, and what holds one gives it back by being dropped, whatever happens to it. The counts are
//! exact over all threads; Envoy's are not, its workers may overshoot a little.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::proxy::bootstrap::model;
use crate::proxy::stats::{ClusterStats, Gauge};

/// The four breakers of a cluster.
#[derive(Debug)]
pub struct CircuitBreakers {
    /// Connections, being made or there.
    pub connections: Arc<Breaker>,
    /// Requests that wait for a connection.
    pub pending_requests: Arc<Breaker>,
    /// Requests that a connection carries.
    pub requests: Arc<Breaker>,
    /// Requests that are being tried again.
    pub retries: Arc<Breaker>,
}

/// A bound on how many of one thing there are.
#[derive(Debug)]
pub struct Breaker {
    max: u32,
    taken: AtomicU32,
    active: Arc<Gauge>,
    open: Arc<Gauge>,
}

/// The right to be one of them, until dropped.
#[derive(Debug)]
pub struct Permit(Arc<Breaker>);

// === impl CircuitBreakers ===

impl CircuitBreakers {
    /// Closed breakers with those limits, which show themselves in those statistics.
    #[must_use]
    pub fn new(limits: &model::CircuitBreakers, stats: &ClusterStats) -> CircuitBreakers {
        let (traffic, open) = (&stats.traffic, &stats.breakers);
        CircuitBreakers {
            connections: Breaker::new(limits.max_connections, &traffic.upstream_cx_active, &open.cx_open),
            pending_requests: Breaker::new(
                limits.max_pending_requests,
                &traffic.upstream_rq_pending_active,
                &open.rq_pending_open,
            ),
            requests: Breaker::new(limits.max_requests, &traffic.upstream_rq_active, &open.rq_open),
            retries: Breaker::new(limits.max_retries, &Arc::default(), &open.rq_retry_open),
        }
    }
}

// === impl Breaker ===

impl Breaker {
    fn new(max: u32, active: &Arc<Gauge>, open: &Arc<Gauge>) -> Arc<Breaker> {
        let breaker = Breaker { max, taken: AtomicU32::new(0), active: Arc::clone(active), open: Arc::clone(open) };
        breaker.show(0);
        Arc::new(breaker)
    }

    /// One more, unless there are as many as may be.
    #[must_use]
    pub fn try_acquire(self: &Arc<Breaker>) -> Option<Permit> {
        let more = |taken: u32| (taken < self.max).then(|| taken + 1);
        let before = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(self.permit(before + 1))
    }

    /// One more in any case. A host without any connection gets one although other hosts have used them up, else its
    /// requests would wait for ever.
    #[must_use]
    pub fn acquire_anyway(self: &Arc<Breaker>) -> Permit {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        self.permit(before + 1)
    }

    /// The most there may be.
    #[must_use]
    pub fn max(&self) -> u32 {
        self.max
    }

    fn permit(self: &Arc<Breaker>, taken: u32) -> Permit {
        self.active.increment();
        self.show(taken);
        Permit(Arc::clone(self))
    }

    fn show(&self, taken: u32) {
        self.open.set(u64::from(taken >= self.max));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.active.decrement();
        self.0.show(before.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_opens_at_its_limit_and_closes_when_a_permit_is_dropped() {
        let stats = ClusterStats::new("up");
        let limits = model::CircuitBreakers { max_requests: 2, ..model::CircuitBreakers::default() };
        let breakers = CircuitBreakers::new(&limits, &stats);
        let first = breakers.requests.try_acquire().unwrap();
        let _second = breakers.requests.try_acquire().unwrap();
        assert!(breakers.requests.try_acquire().is_none());
        assert_eq!((stats.breakers.rq_open.get(), stats.traffic.upstream_rq_active.get()), (1, 2));
        drop(first);
        assert_eq!((stats.breakers.rq_open.get(), stats.traffic.upstream_rq_active.get()), (0, 1));
        assert!(breakers.requests.try_acquire().is_some());
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_through_and_is_open_from_the_start() {
        let stats = ClusterStats::new("up");
        let limits = model::CircuitBreakers { max_retries: 0, ..model::CircuitBreakers::default() };
        let breakers = CircuitBreakers::new(&limits, &stats);
        assert!(breakers.retries.try_acquire().is_none());
        assert_eq!(stats.breakers.rq_retry_open.get(), 1);
        drop(breakers.retries.acquire_anyway());
    }
}
