//! What replicas share about adaptive services: who decides, each service's state and limit, and what was done to it.
//!
//! ```text
//! leader ──── lead (every 3 s) ─► lease, epoch
//!        ──── write (a tick) ───► record │ gate │ what is remembered      one step, refused from a deposed leader
//! everyone ── poll (every 1 s) ─► gates, hands, replicas, the store's clock
//! operator ── lay, lift, reset ─► hand │ what is remembered               on any replica
//! ```
//!
//! One trait with two stores: Redis, where replicas meet, and this process's memory, where one replica leads for ever.
//! The contract is the same and one suite of tests holds both to it.
//!
//! **Fenced.** A leadership has a number, its [`Epoch`]. A write carries it and is refused when a higher one has
//! written, or leads: a deposed leader can't undo its successor's work.
//!
//! **Not blind.** A write also names the generation that its writer knows: 0 if it found no record. Where it is another,
//! because an earlier write's answer was lost, because the service was reset, or because the store came back empty, the
//! write is refused as [`Written::Superseded`], and the record is to be loaded again. So nobody brings back what an
//! operator has let go.
//!
//! **Gone is gone.** A store that came back empty has no record, and the caller starts anew. Bytes that are no record of
//! ours count as none; a key of another type is left alone, and said.

mod any;
mod change;
mod lease;
mod memory;
mod redis;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub use self::any::AnyRecords;
pub use self::change::{CHANGES_MAX, Change, DecisionRecord, ENTRY_BYTES_MAX, Event, Remembered, TICKS_MAX};
pub use self::lease::{Epoch, Lease, LeaseClock, LeaseTimes, RENEWAL_INTERVAL, ReplicaId};
pub use self::memory::MemoryRecords;
pub use self::redis::RedisRecords;

use super::hand::{OperatorsHand, Order, Signature};
use crate::clock::Timestamp;
use crate::rate::Rate;
use crate::rules::service::Stale;
use crate::window::{GateState, Governed};

/// What the leader keeps of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The law's state, in JSON. Whether it still understands it is the law's to say.
    pub state: String,
    /// The limit in force.
    pub limit: Rate,
    /// How often the limit has changed: every replica enforces one and the same.
    pub generation: u64,
    /// The leadership in which it was written.
    pub epoch: Epoch,
    /// When, by the store's clock.
    pub written_at: Timestamp,
}

/// What the leader writes about a service, in one step.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The service's name.
    pub service: &'a str,
    /// The generation that the writer knows: of the record it loaded or wrote last; 0 if there was none.
    pub known: u64,
    /// The law's state in JSON, at most [`STATE_BYTES_MAX`] bytes.
    pub state: &'a str,
    /// The limit from now on.
    pub limit: Rate,
    /// What becomes of the limit when nobody writes any more.
    pub stale: Stale,
    /// What was decided. The store dates and numbers it.
    pub decision: &'a DecisionRecord,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in force.
    Done {
        /// The limit's generation now.
        generation: u64,
        /// When, by the store's clock.
        at: Timestamp,
    },
    /// There is a later leader. Nothing was written, and nothing will be in this epoch.
    Deposed,
    /// The record is not the one that the writer knows. Nothing was written: load it again.
    Superseded,
}

/// How things stand, as every replica asks each second.
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// The store's time.
    pub now: Timestamp,
    /// Replicas that have polled within [`REPLICA_LIFETIME`], this one among them.
    pub replicas: u32,
    /// Who leads.
    pub leader: Option<ReplicaId>,
    /// The services, in the order in which they were asked for.
    pub services: Vec<Standing>,
}

/// How a service stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Its gate; `None` if there is none yet.
    pub gate: Option<GateState>,
    /// The operator's hand, if one lies on it.
    pub hand: Option<OperatorsHand>,
}

/// Why the store gave no answer. A write may or may not have been made where it was not refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// There is no connection, or it broke.
    #[error("the store of records cannot be reached: {reason}")]
    Unreachable {
        /// What the connection said.
        reason: String,
    },
    /// Nothing was heard in time.
    #[error("the store of records did not answer within {} ms", after.as_millis())]
    TimedOut {
        /// How long it was waited for.
        after: Duration,
    },
    /// The store said no, or answered what it should not; nothing was written.
    #[error("the store of records refused: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// What was to be written is too long; nothing was asked.
    #[error("the {what} has {bytes} bytes, and {max} are allowed")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
}

/// Longest state, in bytes. The law's has about 500.
pub const STATE_BYTES_MAX: usize = 16 << 10;

/// Most services whose last step is told at once: at 7 KiB each, seven megabytes.
pub const LATEST_MAX: usize = 1_000;

/// A replica that has not polled for so long doesn't count.
pub const REPLICA_LIFETIME: Duration = Duration::from_secs(5);

/// How long it is at least remembered what an operator did, if nobody writes any more: an hour longer than a hand lasts.
const REMEMBERED_FOR: Duration = Duration::from_secs(25 * 3_600);

/// The place where replicas meet. Every call has an end of its own; several may be under way at once.
pub trait RecordStore: Send + Sync + 'static {
    /// Acquires the lease, or renews it.
    fn lead(&self) -> impl Future<Output = Result<Lease, RecordError>> + Send;

    /// Gives the lease back, so that another replica need not wait for its end. Does nothing for who doesn't hold it.
    fn resign(&self) -> impl Future<Output = Result<(), RecordError>> + Send;

    /// Says that this replica lives, and asks how these services stand: one round trip, however many they are.
    fn poll(&self, services: &[Arc<str>]) -> impl Future<Output = Result<Poll, RecordError>> + Send;

    /// The record of a service; `None` if there is none, or nothing readable, or it was reset.
    fn load(&self, service: &str) -> impl Future<Output = Result<Option<Record>, RecordError>> + Send;

    /// Puts a decision in force, unless there is a later leader.
    fn write(&self, epoch: Epoch, update: &Update<'_>) -> impl Future<Output = Result<Written, RecordError>> + Send;

    /// The last step of the law for each of at most [`LATEST_MAX`] services, in their order: for who doesn't lead.
    fn latest(&self, services: &[Arc<str>]) -> impl Future<Output = Result<Vec<Option<Change>>, RecordError>> + Send;

    /// What is remembered of a service.
    fn remembered(&self, service: &str) -> impl Future<Output = Result<Remembered, RecordError>> + Send;

    /// Its last ticks, newest first: what is remembered without the changes, for who looks often.
    fn ticks(&self, service: &str) -> impl Future<Output = Result<Vec<Change>, RecordError>> + Send;

    /// Lays a hand on a service, in place of one that lies there, and gives it back with its instants.
    fn lay(&self, service: &str, order: &Order) -> impl Future<Output = Result<OperatorsHand, RecordError>> + Send;

    /// Takes the hand off a service and says whether there was one.
    fn lift(&self, service: &str, by: &Signature) -> impl Future<Output = Result<bool, RecordError>> + Send;

    /// Forgets the state of a service, so that its limit starts anew, and says whether there was one.
    fn reset(&self, service: &str, by: &Signature) -> impl Future<Output = Result<bool, RecordError>> + Send;
}

// === impl RecordError ===

impl RecordError {
    /// Whether the same call may well succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, RecordError::Unreachable { .. } | RecordError::TimedOut { .. })
    }
}

// === impl Update ===

impl Update<'_> {
    /// What the gate is given.
    fn governed(&self, generation: u64, now: Timestamp) -> Governed {
        Governed {
            limit: self.limit,
            toward: self.stale.toward,
            written_at_ms: now.as_millis(),
            hold_ms: whole_millis(self.stale.hold),
            decay_ms: whole_millis(self.stale.decay).max(1),
            generation,
        }
    }

    /// How long the record is kept if this is the last write: as long as the gate.
    fn kept(&self) -> Duration {
        Duration::from_millis(self.governed(0, Timestamp::default()).keep_ms())
    }

    /// The entries to remember, if everything has its length: the step, and the change if it is one.
    fn checked_entries(&self) -> Result<(String, Option<String>), RecordError> {
        if self.state.len() > STATE_BYTES_MAX {
            return Err(RecordError::TooLong { what: "state", bytes: self.state.len(), max: STATE_BYTES_MAX });
        }
        let change = self.change().map(|change| change.to_text()).transpose()?;
        Ok((Event::Decided(Box::new(self.decision.clone())).to_text()?, change))
    }

    /// What is remembered as a change, if the step is news. What it was made of is kept of the last steps only.
    fn change(&self) -> Option<Event> {
        let is_news = self.decision.decision.is_news();
        is_news.then(|| {
            Event::Decided(Box::new(DecisionRecord { made_of: None, doubts: Vec::new(), ..self.decision.clone() }))
        })
    }
}

/// Whole milliseconds, at most as many as the scripts reckon with exactly.
fn whole_millis(duration: Duration) -> u64 {
    const SIX_BYTES: u64 = (1 << 48) - 1;
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(SIX_BYTES)
}
