//! Decisions that leave together, and who waits for them.
//!
//! A call is filled while it waits in the queue: a decision's charges are written into it at once and are needed no
//! longer. So what waits is small, and nothing is moved when the call leaves. Who gives up meanwhile leaves a gap; a call
//! with gaps is written anew without them before it is sent.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::FAR;
use super::script::Batch;
use crate::counters::{StoreError, Tallies};

/// One decision's caller.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Tallies, StoreError>>,
}

/// The decisions of one script call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) batch: Batch,
    /// Parallel to the batch's decisions; `None` for those that have their answer.
    callers: Vec<Option<Caller>>,
    /// Callers that have no answer yet.
    open: usize,
    /// No deadline of those is earlier.
    earliest: Instant,
}

// === impl Caller ===

impl Caller {
    /// Answers. Whoever asked may have gone away.
    pub(super) fn answer(self, answer: Result<Tallies, StoreError>) {
        drop(self.answer.send(answer));
    }

    /// Says that the time is over.
    pub(super) fn expire(self, now: Instant) {
        let waited = now.saturating_duration_since(self.since);
        self.answer(Err(StoreError::DeadlineExceeded { waited }));
    }
}

// === impl Call ===

impl Call {
    pub(super) fn new(now: Instant) -> Call {
        Call { batch: Batch::new(), callers: Vec::new(), open: 0, earliest: now + FAR }
    }

    /// How many decisions it holds, those that have their answer included.
    pub(super) fn len(&self) -> usize {
        self.callers.len()
    }

    /// How many of them have no answer yet.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// No deadline of those that have no answer yet is earlier; `None` if all have one.
    pub(super) fn earliest(&self) -> Option<Instant> {
        (self.open > 0).then_some(self.earliest)
    }

    /// The latest deadline of those that have no answer yet.
    pub(super) fn latest(&self) -> Option<Instant> {
        self.callers.iter().flatten().map(|caller| caller.deadline).max()
    }

    /// Adds the decision that `push` writes; gives the caller back if it doesn't fit.
    pub(super) fn try_push(&mut self, caller: Caller, push: impl FnOnce(&mut Batch) -> bool) -> Result<(), Caller> {
        if !push(&mut self.batch) {
            return Err(caller);
        }
        self.earliest = self.earliest.min(caller.deadline);
        self.callers.push(Some(caller));
        self.open += 1;
        Ok(())
    }

    /// Takes out those whom `goes` picks; they are handed to `gone` to be answered.
    pub(super) fn take_out(&mut self, mut goes: impl FnMut(&Caller) -> bool, mut gone: impl FnMut(Caller)) {
        for place in &mut self.callers {
            if let Some(caller) = place.take_if(|caller| goes(caller)) {
                self.open -= 1;
                gone(caller);
            }
        }
    }

    /// Answers the callers whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.open > 0 && self.earliest <= now {
            self.take_out(|caller| caller.deadline <= now, |caller| caller.expire(now));
            let next = self.callers.iter().flatten().map(|caller| caller.deadline).min();
            self.earliest = next.unwrap_or(now + FAR);
        }
    }

    /// Leaves the decisions out that have their answer already, as long as nothing is sent.
    pub(super) fn close_gaps(&mut self) {
        if self.open < self.callers.len() {
            let mut batch = Batch::new();
            let kept = self.batch.decisions().zip(&self.callers).filter(|(_, caller)| caller.is_some());
            for (decision, _) in kept {
                let fits = batch.try_push_again(&decision);
                debug_assert!(fits, "what fitted among more fits among fewer");
            }
            self.batch = batch;
            self.callers.retain(Option::is_some);
        }
    }

    /// Leaves out those whose time is over, who have gone away, or who have their answer, as long as nothing is sent.
    pub(super) fn settle(&mut self, now: Instant) {
        self.expire(now);
        self.take_out(|caller| caller.answer.is_closed(), drop);
        self.close_gaps();
    }

    /// A call for each decision that has no answer yet.
    pub(super) fn into_single(self, now: Instant) -> Vec<Call> {
        let (batch, callers) = self.into_parts();
        let alone = batch.decisions().zip(callers).filter_map(|(decision, caller)| {
            let mut call = Call::new(now);
            let pushed = call.try_push(caller?, |batch| batch.try_push_again(&decision));
            debug_assert!(pushed.is_ok(), "what fitted among more fits alone");
            Some(call)
        });
        alone.collect()
    }

    /// The decisions and, parallel to them, who waits for them.
    pub(super) fn into_parts(self) -> (Batch, Vec<Option<Caller>>) {
        (self.batch, self.callers)
    }

    /// Hands out what the script answered.
    pub(super) fn answer(&mut self, reply: &[u8]) {
        match self.batch.decode(reply) {
            Ok(answers) => {
                for (caller, answer) in self.callers.drain(..).zip(answers) {
                    if let Some(caller) = caller {
                        caller.answer(answer);
                    }
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Tells all callers the same error.
    pub(super) fn fail(&mut self, error: &StoreError) {
        self.callers.drain(..).flatten().for_each(|caller| caller.answer(Err(error.clone())));
    }

    /// Forgets everything and keeps the memory for the next decisions.
    pub(super) fn clear(&mut self, now: Instant) {
        self.batch.clear();
        self.callers.clear();
        self.open = 0;
        self.earliest = now + FAR;
    }
}
