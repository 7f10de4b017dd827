//! The store that the settings chose: memory or Redis, told apart by one branch.

use std::sync::Arc;

use tokio::time::Instant;

use super::memory::MemoryStore;
use super::redis::RedisStore;
use super::{Charges, CounterStore, StoreError, Tallies};

/// One of the two stores.
#[derive(Clone, Debug)]
pub enum AnyStore {
    /// Counters of this process, shared by its cores.
    Memory(Arc<MemoryStore>),
    /// Counters in Redis, by way of one core's connection.
    Redis(RedisStore),
}

impl CounterStore for AnyStore {
    async fn charge(&self, charges: Charges, deadline: Instant) -> Result<Tallies, StoreError> {
        match self {
            AnyStore::Memory(store) => store.charge(charges, deadline).await,
            AnyStore::Redis(store) => store.charge(charges, deadline).await,
        }
    }
}
