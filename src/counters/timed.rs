//! A store that notes when it was asked and when it answered, for one call that somebody wants to know more of.
//!
//! Made for that call and gone after it: calls that nobody looks at pay nothing.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{Charges, CounterStore, StoreError, Tallies};

/// What is noted of one question.
#[derive(Debug, Default)]
pub struct Timing {
    asked: OnceLock<Asked>,
    answered: OnceLock<Answered>,
}

/// How a store was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When.
    pub at: Instant,
    /// How many counters were to be charged.
    pub charges: usize,
}

/// How a store answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// When.
    pub at: Instant,
    /// Why there is no answer, if there is none.
    pub error: Option<StoreError>,
}

/// A store whose next question is noted.
#[derive(Clone, Debug)]
pub struct Timed<S> {
    store: S,
    timing: Arc<Timing>,
}

// === impl Timing ===

impl Timing {
    /// How the store was asked; `None` if it was not.
    #[must_use]
    pub fn asked(&self) -> Option<Asked> {
        self.asked.get().copied()
    }

    /// How it answered; `None` if it has not, or nobody waited.
    #[must_use]
    pub fn answered(&self) -> Option<&Answered> {
        self.answered.get()
    }
}

// === impl Timed ===

impl<S> Timed<S> {
    /// Notes the first question to `store`.
    pub fn new(store: S, timing: Arc<Timing>) -> Timed<S> {
        Timed { store, timing }
    }
}

impl<S: CounterStore> CounterStore for Timed<S> {
    fn charge<'s>(
        &'s self,
        charges: &Charges,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s, S> {
        self.timing.asked.get_or_init(|| Asked { at: Instant::now(), charges: charges.members.len() });
        let timing = &self.timing;
        self.store.charge(charges, deadline).map(move |answer| {
            timing.answered.get_or_init(|| Answered { at: Instant::now(), error: answer.as_ref().err().cloned() });
            answer
        })
    }
}
