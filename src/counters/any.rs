//! The store that the settings chose: memory or Redis, told apart by one branch.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::Either;
use tokio::time::Instant;

use super::memory::MemoryStore;
use super::over_limit::Remembering;
use super::redis::RedisStore;
use super::{Charges, CounterStore, StoreError, Tallies};

/// One of the stores.
#[derive(Clone, Debug)]
pub enum AnyStore {
    /// Counters of this process, shared by its cores.
    Memory(Arc<MemoryStore>),
    /// Counters in Redis, by way of one core's connection.
    Redis(RedisStore),
    /// The same, with those that are over remembered.
    Remembering(Remembering<RedisStore>),
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
            AnyStore::Remembering(store) => Either::Right(Either::Right(store.charge(charges, deadline))),
        }
    }
}
