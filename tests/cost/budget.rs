//! What may be spent. Lower a number when it became less; raise one only for something that is worth it.
//!
//! Allocations are an average over many calls after a warm-up. A buffer that grows counts each time it
//! grows.

/// Allocations of one decision or call, by the number of descriptors asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocations {
    pub(crate) one: f64,
    pub(crate) four: f64,
}

/// [`Limiter::decide`](tidegate::limiter::Limiter::decide) with counters in memory.
pub(crate) const DECISION_IN_MEMORY: Allocations = Allocations { one: 0.0, four: 0.0 };

/// The same over Redis, where each decision is a script call of its own because none comes meanwhile: the whole way
/// to the socket and back.
pub(crate) const DECISION_IN_REDIS: Allocations = Allocations { one: 3.0, four: 3.0 };

/// A call through the gRPC port, from bytes to bytes, with counters in memory.
pub(crate) const CALL_IN_MEMORY: Allocations = Allocations { one: 8.0, four: 8.0 };

/// The same over Redis, one call after the other.
pub(crate) const CALL_IN_REDIS: Allocations = Allocations { one: 11.0, four: 11.0 };

/// The same with [`CALLS_AT_ONCE`] calls under way, which share script calls: how many share one is chance, so there is
/// some room here. So many calls with four descriptors take several turns of their connection to be read, and those of
/// one turn share.
pub(crate) const CALL_IN_REDIS_AMONG_MANY: Allocations = Allocations { one: 10.0, four: 12.0 };

/// Calls under way at once where a measure is about many.
pub(crate) const CALLS_AT_ONCE: usize = 64;

/// What an average may exceed its budget by: queues and tables that grow now and then, and the start and end of a
/// measurement. Less than half an allocation, so that one more in each call is always seen.
pub(crate) const TOLERANCE: f64 = 0.4;

/// Bytes that stay for a counter in memory with a limit above 64, its share of the table included.
pub(crate) const COUNTER_HIT_ONCE_BYTES: usize = 120;
pub(crate) const COUNTER_FULL_BYTES: usize = 320;

/// Bytes of the future of one decision: what each call under way holds at least. Eight of them lead to the gates of
/// adaptive services, where there are any.
pub(crate) const DECISION_FUTURE_BYTES: usize = 408;

// === impl Allocations ===

impl Allocations {
    /// Asserts that `measured` keeps these budgets.
    pub(crate) fn check(self, what: &str, measured: Allocations) {
        println!("{what}: {:.2} allocations for one descriptor, {:.2} for four", measured.one, measured.four);
        for (descriptors, budget, spent) in [("one", self.one, measured.one), ("four", self.four, measured.four)] {
            assert!(
                spent <= budget + TOLERANCE,
                "{what}, {descriptors} descriptor(s): {spent:.2} allocations, {budget} may be spent"
            );
        }
    }
}
