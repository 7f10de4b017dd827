//! Records of this process, for a replica that shares with nobody. Gates are the memory store's.
//!
//! The lease is always held, in one epoch. What is kept ends as it does in Redis: a record some time after the last
//! write, a hand at its time; what has ended is thrown away at a poll. All is lost with the process, hands included.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::change::{Change, Event};
use super::{
    CHANGES_MAX, Epoch, LATEST_MAX, Lease, Poll, REMEMBERED_FOR, Record, RecordError, RecordStore, Remembered,
    ReplicaId, Standing, TICKS_MAX, Update, Written,
};
use crate::clock::Timestamp;
use crate::control::hand::{OperatorsHand, Order, Signature};
use crate::counters::memory::MemoryStore;
use crate::key::CounterKey;

/// Records in memory.
#[derive(Debug)]
pub struct MemoryRecords {
    /// Has the gates, and the clock.
    store: Arc<MemoryStore>,
    key_prefix: Box<[u8]>,
    id: ReplicaId,
    /// At most as many as there are services, and those that were removed within the time that records are kept.
    services: Mutex<HashMap<Box<str>, Kept>>,
}

/// What is kept of a service.
#[derive(Debug, Default)]
struct Kept {
    record: Option<Record>,
    /// Survives a reset, so that no number is given twice.
    generation: u64,
    hand: Option<OperatorsHand>,
    changes: VecDeque<Change>,
    ticks: VecDeque<Change>,
    until: Timestamp,
}

/// The only leadership.
const EPOCH: Epoch = Epoch::new(1);

/// Time for which the lease is granted: it is renewed every few seconds and needs no end.
const FAR: Duration = Duration::from_secs(365 * 86_400);

// === impl MemoryRecords ===

impl MemoryRecords {
    /// No records, beside a store whose keys begin with that prefix; instants are the store's.
    #[must_use]
    pub fn new(store: Arc<MemoryStore>, key_prefix: &[u8], id: ReplicaId) -> MemoryRecords {
        MemoryRecords { store, key_prefix: key_prefix.into(), id, services: Mutex::default() }
    }

    fn gate(&self, service: &str) -> CounterKey {
        CounterKey::gate(&self.key_prefix, service)
    }

    fn services(&self) -> MutexGuard<'_, HashMap<Box<str>, Kept>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is kept of a service, at the clock's present.
    fn with<T>(&self, service: &str, act: impl FnOnce(&mut Kept, Timestamp) -> T) -> T {
        let mut services = self.services();
        let now = self.store.now();
        let kept = services.entry(service.into()).or_default();
        kept.expire(now);
        act(kept, now)
    }
}

impl RecordStore for MemoryRecords {
    async fn lead(&self) -> Result<Lease, RecordError> {
        Ok(Lease::Leader { epoch: EPOCH, until: Instant::now() + FAR })
    }

    async fn resign(&self) -> Result<(), RecordError> {
        Ok(())
    }

    async fn poll(&self, services: &[Arc<str>]) -> Result<Poll, RecordError> {
        let mut all = self.services();
        let now = self.store.now();
        all.retain(|_, kept| {
            kept.expire(now);
            now < kept.until
        });
        let standing = |name: &Arc<str>| Standing {
            gate: self.store.gate(&self.gate(name)),
            hand: all.get(&**name).and_then(|kept| kept.hand.clone()),
        };
        let services = services.iter().map(standing).collect();
        Ok(Poll { now, replicas: 1, leader: Some(self.id.clone()), services })
    }

    async fn load(&self, service: &str) -> Result<Option<Record>, RecordError> {
        Ok(self.with(service, |kept, _| kept.record.clone()))
    }

    async fn write(&self, epoch: Epoch, update: &Update<'_>) -> Result<Written, RecordError> {
        update.checked_entries()?;
        let gate = self.gate(update.service);
        Ok(self.with(update.service, |kept, now| {
            let written = kept.write(epoch, update, now);
            // Under the lock, so that gates are governed in the order in which records are written.
            if let Written::Done { generation, at } = written {
                self.store.govern(&gate, update.governed(generation, at));
            }
            written
        }))
    }

    async fn latest(&self, services: &[Arc<str>]) -> Result<Vec<Option<Change>>, RecordError> {
        let all = self.services();
        let latest = |name: &Arc<str>| all.get(&**name)?.ticks.front().cloned();
        Ok(services.iter().take(LATEST_MAX).map(latest).collect())
    }

    async fn remembered(&self, service: &str) -> Result<Remembered, RecordError> {
        Ok(self.with(service, |kept, _| Remembered {
            changes: kept.changes.iter().cloned().collect(),
            ticks: kept.ticks.iter().cloned().collect(),
        }))
    }

    async fn ticks(&self, service: &str) -> Result<Vec<Change>, RecordError> {
        Ok(self.with(service, |kept, _| kept.ticks.iter().cloned().collect()))
    }

    async fn lay(&self, service: &str, order: &Order) -> Result<OperatorsHand, RecordError> {
        Ok(self.with(service, |kept, now| {
            let hand = order.laid_at(now);
            kept.hand = Some(hand.clone());
            kept.remember(now, Event::Laid(hand.clone()));
            hand
        }))
    }

    async fn lift(&self, service: &str, by: &Signature) -> Result<bool, RecordError> {
        Ok(self.with(service, |kept, now| {
            let was_on = kept.hand.take().is_some();
            if was_on {
                kept.remember(now, Event::Lifted(by.clone()));
            }
            was_on
        }))
    }

    async fn reset(&self, service: &str, by: &Signature) -> Result<bool, RecordError> {
        Ok(self.with(service, |kept, now| {
            let had_state = kept.record.take().is_some();
            kept.remember(now, Event::Reset(by.clone()));
            had_state
        }))
    }
}

// === impl Kept ===

impl Kept {
    /// Forgets what has ended.
    fn expire(&mut self, now: Timestamp) {
        self.hand = self.hand.take().filter(|hand| hand.is_on(now));
        if self.until <= now {
            *self = Kept::default();
        }
    }

    fn write(&mut self, epoch: Epoch, update: &Update<'_>, now: Timestamp) -> Written {
        let before = self.record.as_ref();
        if before.is_some_and(|record| record.epoch > epoch) {
            return Written::Deposed;
        }
        if before.map_or(0, |record| record.generation) != update.known {
            return Written::Superseded;
        }
        if before.is_none_or(|record| record.limit != update.limit) {
            self.generation += 1;
        }
        let generation = self.generation;
        self.record =
            Some(Record { state: update.state.to_owned(), limit: update.limit, generation, epoch, written_at: now });
        self.until = now.saturating_add(update.kept());
        if let Some(change) = update.change() {
            push(&mut self.changes, Change::dated(now, generation, change), CHANGES_MAX);
        }
        let step = Event::Decided(Box::new(update.decision.clone()));
        push(&mut self.ticks, Change::dated(now, generation, step), TICKS_MAX);
        Written::Done { generation, at: now }
    }

    /// Remembers what an operator did, for a day and more even if nobody writes.
    fn remember(&mut self, now: Timestamp, event: Event) {
        push(&mut self.changes, Change { at: now, generation: self.generation, event }, CHANGES_MAX);
        self.until = self.until.max(now.saturating_add(REMEMBERED_FOR));
    }
}

fn push(kept: &mut VecDeque<Change>, change: Change, max: usize) {
    kept.truncate(max - 1);
    kept.push_front(change);
}
