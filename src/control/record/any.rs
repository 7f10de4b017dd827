//! The store of records that the settings chose: memory or Redis, told apart by one branch.

use std::sync::Arc;

use super::{
    Change, Epoch, Lease, MemoryRecords, Poll, Record, RecordError, RecordStore, RedisRecords, Remembered, Update,
    Written,
};
use crate::control::hand::{OperatorsHand, Order, Signature};

/// One of the two stores. Clones are the same store.
#[derive(Clone, Debug)]
pub enum AnyRecords {
    /// Records of this process.
    Memory(Arc<MemoryRecords>),
    /// Records in Redis.
    Redis(Arc<RedisRecords>),
}

impl RecordStore for AnyRecords {
    async fn lead(&self) -> Result<Lease, RecordError> {
        match self {
            AnyRecords::Memory(records) => records.lead().await,
            AnyRecords::Redis(records) => records.lead().await,
        }
    }

    async fn resign(&self) -> Result<(), RecordError> {
        match self {
            AnyRecords::Memory(records) => records.resign().await,
            AnyRecords::Redis(records) => records.resign().await,
        }
    }

    async fn poll(&self, services: &[Arc<str>]) -> Result<Poll, RecordError> {
        match self {
            AnyRecords::Memory(records) => records.poll(services).await,
            AnyRecords::Redis(records) => records.poll(services).await,
        }
    }

    async fn load(&self, service: &str) -> Result<Option<Record>, RecordError> {
        match self {
            AnyRecords::Memory(records) => records.load(service).await,
            AnyRecords::Redis(records) => records.load(service).await,
        }
    }

    async fn write(&self, epoch: Epoch, update: &Update<'_>) -> Result<Written, RecordError> {
        match self {
            AnyRecords::Memory(records) => records.write(epoch, update).await,
            AnyRecords::Redis(records) => records.write(epoch, update).await,
        }
    }

    async fn latest(&self, services: &[Arc<str>]) -> Result<Vec<Option<Change>>, RecordError> {
        match self {
            AnyRecords::Memory(records) => records.latest(services).await,
            AnyRecords::Redis(records) => records.latest(services).await,
        }
    }

    async fn remembered(&self, service: &str) -> Result<Remembered, RecordError> {
        match self {
            AnyRecords::Memory(records) => records.remembered(service).await,
            AnyRecords::Redis(records) => records.remembered(service).await,
        }
    }

    async fn ticks(&self, service: &str) -> Result<Vec<Change>, RecordError> {
        match self {
            AnyRecords::Memory(records) => records.ticks(service).await,
            AnyRecords::Redis(records) => records.ticks(service).await,
        }
    }

    async fn lay(&self, service: &str, order: &Order) -> Result<OperatorsHand, RecordError> {
        match self {
            AnyRecords::Memory(records) => records.lay(service, order).await,
            AnyRecords::Redis(records) => records.lay(service, order).await,
        }
    }

    async fn lift(&self, service: &str, by: &Signature) -> Result<bool, RecordError> {
        match self {
            AnyRecords::Memory(records) => records.lift(service, by).await,
            AnyRecords::Redis(records) => records.lift(service, by).await,
        }
    }

    async fn reset(&self, service: &str, by: &Signature) -> Result<bool, RecordError> {
        match self {
            AnyRecords::Memory(records) => records.reset(service, by).await,
            AnyRecords::Redis(records) => records.reset(service, by).await,
        }
    }
}
