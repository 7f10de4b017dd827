//! The store that the settings chose: memory, Redis or two of them, told apart by one branch.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::Either;
use tokio::time::Instant;

use super::memory::MemoryStore;
use super::over_limit::Remembering;
use super::redis::RedisStore;
use super::spread::SpreadStore;
use super::{Charges, CounterStore, StoreError, Tallies};

/// One of the stores.
#[derive(Clone, Debug)]
pub enum AnyStore {
    /// Counters of this process, shared by its cores.
    Memory(Arc<MemoryStore>),
    /// Counters in Redis.
    Redis(InRedis),
    /// Counters in Redis, in front of which those that are over are remembered.
    Remembering(Remembering<InRedis>),
}

/// Counters in Redis, by way of one core's connections.
#[derive(Clone, Debug)]
pub enum InRedis {
    /// All on one server.
    One(RedisStore),
    /// On several: the nodes of a cluster, or a server of their own for limits per second.
    Spread(SpreadStore),
}

impl CounterStore for AnyStore {
    fn answers_at_once(&self) -> bool {
        match self {
            AnyStore::Memory(store) => store.answers_at_once(),
            AnyStore::Redis(store) => store.answers_at_once(),
            AnyStore::Remembering(store) => store.answers_at_once(),
        }
    }

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

impl CounterStore for InRedis {
    fn charge<'s>(
        &'s self,
        charges: &Charges,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s> {
        match self {
            InRedis::One(store) => Either::Left(store.charge(charges, deadline)),
            InRedis::Spread(store) => Either::Right(store.charge(charges, deadline)),
        }
    }
}
