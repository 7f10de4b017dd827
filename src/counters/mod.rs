//! Where counters live: one trait, a memory store and a Redis store.
//!
//! A store is asked once per request: all charges of the request form one [`Charges`], decided in one atomic step,
//! all or none. What it answers is one [`Tally`] per charge, in order.

pub mod any;
pub mod local_gate;
pub mod memory;
pub mod over_limit;
pub mod redis;
mod split;
pub mod spread;
pub mod timed;

use std::future::Future;
use std::time::Duration;

use smallvec::SmallVec;
use thiserror::Error;
use tokio::time::Instant;

use crate::descriptor::Hits;
use crate::key::CounterKey;
use crate::window::{Charging, Enforcement, Policy, Tally};

/// One counter to charge, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Which counter.
    pub key: CounterKey,
    /// How it counts.
    pub policy: Policy,
    /// How much.
    pub hits: Hits,
    /// What it means for the decision when it is over.
    pub enforcement: Enforcement,
}

/// All charges of one decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charges {
    /// The charges, in the order of the answer. One counter may stand here twice; the second sees the first.
    pub members: SmallVec<[Charge; 4]>,
    /// Whether a refused decision is charged to none of them.
    pub charging: Charging,
}

/// The answers to [`Charges`], in the same order and number.
pub type Tallies = SmallVec<[Tally; 4]>;

/// Why a store gave no answer. The decision may or may not have been charged where the text says so.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The deadline passed first. The charge may have happened.
    #[error("the counter store did not answer within {} ms", waited.as_millis())]
    DeadlineExceeded {
        /// How long the decision waited.
        waited: Duration,
    },
    /// More decisions wait than can be answered in time, or than the queue holds; nothing was charged.
    #[error("the counter store is too busy to answer in time: {waiting} decisions wait")]
    Overloaded {
        /// Decisions that wait.
        waiting: usize,
    },
    /// There is no connection, or it broke. The charge may have happened if it broke while the call was under way.
    #[error("the counter store cannot be reached: {reason}")]
    Unreachable {
        /// What the connection said.
        reason: String,
    },
    /// The store refused the call or answered what it should not; nothing was charged.
    #[error("the counter store refused the call: {reason}")]
    Refused {
        /// What the store said.
        reason: String,
    },
}

/// A place for counters.
pub trait CounterStore: Send + Sync + 'static {
    /// Whether the answer is there when [`CounterStore::charge`] returns. It may still be waited for.
    fn answers_at_once(&self) -> bool {
        false
    }

    /// Decides and charges, atomically, and says what the counters hold afterwards. Answers before `deadline`, with
    /// an error if it must. It is asked when this is called; the future is the wait for its answer, and small.
    fn charge<'s>(
        &'s self,
        charges: &Charges,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s, Self>;
}

// === impl StoreError ===

impl StoreError {
    /// The kind of the error in one word, for a metric's label.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            StoreError::DeadlineExceeded { .. } => "deadline_exceeded",
            StoreError::Overloaded { .. } => "overloaded",
            StoreError::Unreachable { .. } => "unreachable",
            StoreError::Refused { .. } => "refused",
        }
    }

    /// Whether the same call may well succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !matches!(self, StoreError::Refused { .. })
    }
}
