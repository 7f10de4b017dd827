//! The store that the settings chose: memory, Redis or two of them, told apart by one branch.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::Either;
use tokio::time::Instant;

use super::memory::MemoryStore;
use super::per_second::PerSecondStore;
use super::redis::RedisStore;
use super::{Charges, CounterStore, StoreError, Tallies};

/// One of the stores.
#[derive(Clone, Debug)]
pub enum AnyStore {
    /// Counters of this process, shared by its cores.
    Memory(Arc<MemoryStore>),
    /// Counters in Redis, by way of one core's connection.
    Redis(RedisStore),
    /// Counters in two Redis.
    PerSecond(PerSecondStore),
}

impl CounterStore for AnyStore {
    fn charge<'s>(
        &'s self,
        charges: &Charges,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s> {
        match self {
            AnyStore::Memory(store) => Either::Left(store.charge(charges, deadline)),
            AnyStore::Redis(store) => Either::Right(Either::Left(store.charge(charges, deadline))),
            AnyStore::PerSecond(store) => Either::Right(Either::Right(store.charge(charges, deadline))),
        }
    }
}
