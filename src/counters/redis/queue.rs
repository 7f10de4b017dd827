//! Decisions that wait for a call: bounded, and woken once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::counters::{Charges, StoreError, Tallies};

/// One decision, and who waits for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) charges: Charges,
    pub(super) queued: Instant,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Tallies, StoreError>>,
}

/// The queue of one core. Its lock is all but uncontended: requests and batcher share a thread.
#[derive(Debug)]
pub(super) struct Queue {
    waiting_max: usize,
    state: Mutex<State>,
    signal: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Pending>,
    /// No deadline of those that wait is earlier.
    earliest: Option<Instant>,
    /// Why there is no connection, while there is none.
    down: Option<StoreError>,
}

// === impl Queue ===

impl Drop for Queue {
    /// Wakes the batcher, so that it sees that nobody can ask any more.
    fn drop(&mut self) {
        self.signal.notify_one();
    }
}

impl Queue {
    /// An empty queue for at most `waiting_max` decisions. Until [`Queue::up`] is called, it refuses all.
    pub(super) fn new(waiting_max: usize) -> Queue {
        let reason = "it was not reached yet".to_owned();
        let down = Some(StoreError::Unreachable { reason });
        let state = Mutex::new(State { waiting: VecDeque::new(), earliest: None, down });
        Queue { waiting_max, state, signal: Arc::default() }
    }

    /// Notified when the batcher has something to look at.
    pub(super) fn signal(&self) -> Arc<Notify> {
        Arc::clone(&self.signal)
    }

    /// Lets a decision wait for the next call.
    pub(super) fn push(&self, pending: Pending) -> Result<(), StoreError> {
        let mut state = self.lock();
        if let Some(error) = &state.down {
            return Err(error.clone());
        }
        if state.waiting.len() >= self.waiting_max {
            return Err(StoreError::Overloaded { waiting: state.waiting.len() });
        }
        let sooner = state.earliest.is_none_or(|earliest| pending.deadline < earliest);
        if sooner {
            state.earliest = Some(pending.deadline);
        }
        let wake = state.waiting.is_empty() || sooner;
        state.waiting.push_back(pending);
        drop(state);
        if wake {
            self.signal.notify_one();
        }
        Ok(())
    }

    /// Takes decisions from the front for as long as `take` wants them: it is shown each one and says whether it
    /// fits. Those whose time is over, and those that nobody waits for any more, are sorted out on the way.
    pub(super) fn take(&self, now: Instant, mut take: impl FnMut(&Pending) -> bool, mut taken: impl FnMut(Pending)) {
        let mut state = self.lock();
        while let Some(first) = state.waiting.front() {
            if first.answer.is_closed() {
                state.waiting.pop_front();
            } else if first.deadline <= now {
                if let Some(late) = state.waiting.pop_front() {
                    late.expire(now);
                }
            } else if take(first) {
                state.waiting.pop_front().into_iter().for_each(&mut taken);
            } else {
                break;
            }
        }
        if state.waiting.is_empty() {
            state.earliest = None;
        }
    }

    /// Answers all those whose time is over, and says when the next one's will be.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let (late, waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut state.waiting).into_iter().partition(|pending| pending.deadline <= now);
        state.earliest = waiting.iter().map(|pending| pending.deadline).min();
        state.waiting = waiting;
        let earliest = state.earliest;
        drop(state);
        late.into_iter().for_each(|pending| pending.expire(now));
        earliest
    }

    /// The earliest deadline of those that wait.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.lock().earliest
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Decisions may come.
    pub(super) fn up(&self) {
        self.lock().down = None;
    }

    /// Nothing can be asked for now: all that wait are told so, and so is whoever comes.
    pub(super) fn down(&self, error: &StoreError) {
        let mut state = self.lock();
        state.down = Some(error.clone());
        state.earliest = None;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|pending| pending.answer(Err(error.clone())));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way; a poisoned queue is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
