//! What the requests of one core and its batcher share: the queue, and the connection that empties it.
//!
//! A decision that is asked does three things here. It takes its place in the queue; it sends the last call if that is
//! full now and may leave; and while calls are under way it looks whether replies are there. The last two are the
//! batcher's work, done early: on a busy core the batcher's turn comes after hundreds of requests, and meanwhile Redis
//! would have nothing to do, and answers that are there would miss their deadlines.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::BatchOptions;
use super::detour::Redirected;
use super::line::{Broken, Ended, Line};
use super::queue::{Answer, Queue};
use super::redirect::Redirect;
use crate::counters::{Charges, StoreError};

/// The queue and the connection of one core. The lock is all but uncontended: all that take it share a thread.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Notified when the batcher has something to look at.
    signal: Notify,
}

struct State {
    queue: Queue,
    line: Option<Line>,
    /// Calls that belong elsewhere, until the batcher takes them.
    redirected: Vec<Redirected>,
    /// Nobody can ask any more.
    closed: bool,
}

/// Which calls may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// Those that take no more decisions.
    Full,
    /// Those, and one that isn't full.
    Any,
}

// === impl Shared ===

impl Shared {
    /// Nothing waits, and nothing is connected.
    pub(super) fn new(options: BatchOptions) -> Shared {
        let state = State { queue: Queue::new(options), line: None, redirected: Vec::new(), closed: false };
        Shared { state: Mutex::new(state), signal: Notify::new() }
    }

    /// Lets a decision wait for its call, unless it would wait in vain.
    pub(super) fn push(&self, charges: &Charges, deadline: Instant) -> Result<Answer, StoreError> {
        let now = Instant::now();
        let mut state = self.lock();
        let freed = state.is_busy() && state.read(now);
        let pushed = state.queue.push(charges, deadline, now);
        state.send(Leaving::Full, now);
        let wakes = freed || state.is_broken() || pushed.as_ref().is_ok_and(|(_, wakes)| *wakes);
        drop(state);
        if wakes {
            self.signal.notify_one();
        }
        pushed.map(|(answer, _)| answer)
    }

    /// Nobody can ask any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.signal.notify_one();
    }

    /// Whether the batcher has nothing more to do.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// Waits until somebody has something for the batcher to look at.
    pub(super) async fn signal(&self) {
        self.signal.notified().await;
    }

    /// Waits until the connection breaks; hands replies out and calls in meanwhile.
    pub(super) async fn broken(&self) -> Broken {
        std::future::poll_fn(|cx| self.poll_broken(cx)).await
    }

    fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<Broken> {
        let mut state = self.lock();
        let Some(line) = &mut state.line else { return Poll::Pending };
        line.set_waker(cx.waker());
        let now = Instant::now();
        if state.read(now) {
            state.send(Leaving::Any, now);
        }
        if !state.redirected.is_empty() {
            self.signal.notify_one();
        }
        if let Some(line) = &mut state.line {
            line.flush();
            if let Some(broken) = line.broken() {
                return Poll::Ready(broken.clone());
            }
        }
        if state.is_over() {
            self.signal.notify_one();
        }
        Poll::Pending
    }

    /// Sends what may leave, a call that isn't full included; gives back the calls that belong elsewhere.
    #[must_use]
    pub(super) fn send(&self, now: Instant) -> Vec<Redirected> {
        let mut state = self.lock();
        state.send(Leaving::Any, now);
        std::mem::take(&mut state.redirected)
    }

    /// Asks a connection for a sign of life that carried nothing since the last time.
    pub(super) fn ask_for_life(&self, now: Instant) {
        if let Some(line) = &mut self.lock().line
            && line.was_idle()
        {
            line.ask_for_life(now);
            line.flush();
        }
    }

    /// Answers all those whose time is over.
    pub(super) fn expire(&self, now: Instant) {
        let mut state = self.lock();
        // A reply that is there counts, however late its turn.
        if state.read(now) {
            state.send(Leaving::Any, now);
        }
        state.queue.expire(now);
        if let Some(line) = &mut state.line {
            line.expire(now);
        }
    }

    /// When [`Shared::expire`] is due next.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let state = self.lock();
        state.line.as_ref().and_then(Line::next_expiry).into_iter().chain(state.queue.earliest()).min()
    }

    /// Decisions may come, by this connection.
    pub(super) fn up(&self, line: Line) {
        let mut state = self.lock();
        state.line = Some(line);
        state.queue.up();
    }

    /// Whether calls are under way.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().is_busy()
    }

    /// Whether a call on the present connection has succeeded.
    pub(super) fn has_succeeded(&self) -> bool {
        self.lock().line.as_ref().is_some_and(Line::has_succeeded)
    }

    /// Ends the connection; says whether a call on it has succeeded. The calls under way fail; those that wait stay.
    pub(super) fn hang_up(&self, error: &StoreError) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(line) = state.line.take() else { return false };
        let succeeded = line.has_succeeded();
        for mut call in line.into_calls() {
            call.fail(error);
            state.queue.ended(call, None, now);
        }
        succeeded
    }

    /// Nothing can be asked for now: all that wait are told so, and so is whoever comes.
    pub(super) fn down(&self, error: &StoreError) {
        let calls = self.lock().queue.down(error);
        calls.into_iter().for_each(|mut call| call.fail(error));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way; a poisoned state is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// Whether nobody can ask any more, and all have their answer.
    fn is_over(&self) -> bool {
        self.closed && !self.is_busy()
    }

    /// Whether calls are under way.
    fn is_busy(&self) -> bool {
        self.queue.under_way() > 0
    }

    /// Hands out the replies that are there; says whether that made room for calls that wait, or calls belong elsewhere.
    fn read(&mut self, now: Instant) -> bool {
        let State { queue, line: Some(line), redirected, .. } = self else { return false };
        let before = line.calls();
        line.read(now, |ended| match ended {
            Ended::Answered { call, took } => queue.ended(call, took, now),
            Ended::Redirected(call) => {
                queue.left();
                if let Redirect::Moved(_) = call.redirect {
                    queue.hold();
                }
                redirected.push(call);
            }
        });
        line.calls() < before && (queue.has_waiting() || !redirected.is_empty())
    }

    fn send(&mut self, leaving: Leaving, now: Instant) {
        let mut rest = leaving == Leaving::Any;
        let mut sent = false;
        while self.has_place() && (self.queue.has_full() || std::mem::take(&mut rest)) {
            let (Some(line), Some(call)) = (&mut self.line, self.queue.take(now)) else { break };
            line.ask(call, now);
            sent = true;
        }
        if let Some(line) = self.line.as_mut().filter(|_| sent) {
            line.flush();
        }
    }

    /// Whether a call could leave.
    fn has_place(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.broken().is_none()) && self.queue.has_place()
    }

    fn is_broken(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.broken().is_some())
    }
}
