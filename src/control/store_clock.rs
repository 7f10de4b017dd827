//! The store's time between two times it was told.
//!
//! Instants of records mean the same on every replica because they are the store's. Between two polls it runs on with
//! this machine's monotonic clock.

use tokio::time::Instant;

use crate::clock::Timestamp;

/// The store's clock as it was heard last.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreClock {
    told: Timestamp,
    heard: Instant,
}

// === impl StoreClock ===

impl StoreClock {
    /// It was `told` at `heard`.
    pub(super) fn new(told: Timestamp, heard: Instant) -> StoreClock {
        StoreClock { told, heard }
    }

    /// The store's time at an instant of ours, not before it was heard.
    pub(super) fn at(&self, instant: Instant) -> Timestamp {
        self.told.saturating_add(instant.saturating_duration_since(self.heard))
    }
}
