//! A connection of the request path: calls leave in order, replies come in order, and whoever finds a reply hands it
//! out.
//!
//! It is nobody's task. The batcher waits for the socket, but a decision that is being asked may read and write here
//! too: on a busy core a task waits behind hundreds of others for its turn, and replies that wait with it would miss
//! their deadlines although they are there. The socket always wakes the batcher, whoever touched it last.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::call::Call;
use super::detour::Redirected;
use super::redirect::{LaneEnd, Node, Redirect};
use super::script::SCRIPT;
use super::socket::Socket;
use super::wire::{REPLY_BYTES_MAX, Reply, read, write_call, write_command};
use crate::counters::StoreError;

/// A connection, and the calls under way on it.
pub(super) struct Line {
    socket: Box<dyn Socket>,
    /// Wakes the batcher.
    waker: Waker,
    /// Written by us, and how much of it the socket has taken.
    outgoing: Vec<u8>,
    gone: usize,
    /// The socket has taken bytes that it may still hold: TLS does.
    held_back: bool,
    /// Read from the socket and not understood yet: the first so many bytes.
    incoming: Box<[u8]>,
    filled: usize,
    asked: VecDeque<Asked>,
    /// Calls among those.
    calls: usize,
    /// Time in which Redis must answer.
    patience: Duration,
    /// A call was made since [`Line::was_idle`] was called last.
    used: bool,
    /// When something was read last.
    heard: Option<Instant>,
    /// A call was answered.
    succeeded: bool,
    /// Which lane of a cluster it is, and where it ends, if it is one.
    end: Option<LaneEnd>,
    /// The node whose the lane's slot is now: the connection ends when the calls under way have their replies.
    leaves_for: Option<Node>,
    broken: Option<Broken>,
}

/// Something that waits for its reply.
struct Asked {
    /// `None` for what is asked for our own sake: the script's loading, a sign of life.
    call: Option<Call>,
    /// The call was sent before, to a Redis that didn't know the script.
    again: bool,
    since: Instant,
}

/// A call that is not under way any more.
pub(super) enum Ended {
    /// It has its answers.
    Answered {
        call: Call,
        /// How long it took, unless it was refused unseen.
        took: Option<Duration>,
    },
    /// It was not executed, and belongs elsewhere.
    Redirected(Redirected),
}

/// Why a connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Broken {
    /// The system says so.
    #[error("{0}")]
    Socket(String),
    /// Redis has closed it.
    #[error("Redis has closed the connection")]
    Closed,
    /// Redis is silent.
    #[error("Redis has said nothing for {} ms", after.as_millis())]
    Silent { after: Duration },
    /// What came is no reply.
    #[error("{0}")]
    Odd(String),
    /// The server has become a replica.
    #[error("the server takes no writes: {0}")]
    ReadOnly(String),
    /// The sentinels have found the right server elsewhere.
    #[error("the sentinels name another master: {to}")]
    Moved { to: String },
    /// The lane's slot is another node's.
    #[error("slot {slot} is served by {}:{} now", to.0, to.1)]
    Redirected { slot: u16, to: Node },
    /// The cluster serves nothing, or not this slot.
    #[error("{0}")]
    ClusterDown(String),
}

// === impl Line ===

impl Line {
    /// A line over a socket whose server knows us. `waker` is the batcher's.
    pub(super) fn new(socket: Box<dyn Socket>, waker: Waker, patience: Duration, end: Option<LaneEnd>) -> Line {
        Line {
            socket,
            waker,
            outgoing: Vec::new(),
            gone: 0,
            held_back: false,
            incoming: vec![0; 2 * REPLY_BYTES_MAX].into_boxed_slice(),
            filled: 0,
            asked: VecDeque::new(),
            calls: 0,
            patience,
            used: true,
            heard: None,
            succeeded: false,
            end,
            leaves_for: None,
            broken: None,
        }
    }

    /// Whom the socket wakes from now on.
    pub(super) fn set_waker(&mut self, waker: &Waker) {
        if !self.waker.will_wake(waker) {
            self.waker.clone_from(waker);
        }
    }

    /// Whether a call on it was answered.
    pub(super) fn has_succeeded(&self) -> bool {
        self.succeeded
    }

    /// How many calls are under way.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Writes a call, for [`Line::flush`] to send.
    pub(super) fn ask(&mut self, call: Call, now: Instant) {
        self.write(&call);
        self.calls += 1;
        self.used = true;
        self.push(Some(call), false, now);
    }

    /// Writes a PING.
    pub(super) fn ask_for_life(&mut self, now: Instant) {
        write_command(&[b"PING"], &mut self.outgoing);
        self.push(None, false, now);
    }

    /// Whether no call was made since the last time, and nothing is under way.
    pub(super) fn was_idle(&mut self) -> bool {
        !std::mem::take(&mut self.used) && self.asked.is_empty()
    }

    /// Sends what was written, as far as the socket takes it.
    pub(super) fn flush(&mut self) {
        while self.broken.is_none() && self.gone < self.outgoing.len() {
            let mut cx = Context::from_waker(&self.waker);
            match Pin::new(&mut self.socket).poll_write(&mut cx, &self.outgoing[self.gone..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => self.broken = Some(Broken::Closed),
                Poll::Ready(Ok(written)) => {
                    self.gone += written;
                    self.held_back = true;
                }
                Poll::Ready(Err(error)) => self.broken = Some(Broken::of(&error)),
            }
        }
        if self.held_back && self.broken.is_none() {
            let mut cx = Context::from_waker(&self.waker);
            match Pin::new(&mut self.socket).poll_flush(&mut cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.held_back = false,
                Poll::Ready(Err(error)) => self.broken = Some(Broken::of(&error)),
            }
        }
        // What is gone is forgotten, also when the socket never takes the last of it: then there is always more, and
        // twice what is under way is all that stays. Moving less than half each time keeps it cheap.
        if self.gone > self.outgoing.len() / 2 {
            self.outgoing.drain(..self.gone);
            self.gone = 0;
        }
    }

    /// Reads what is there and answers those who asked; each call that has ended goes to `ended`.
    pub(super) fn read(&mut self, now: Instant, mut ended: impl FnMut(Ended)) {
        while self.broken.is_none() {
            let mut cx = Context::from_waker(&self.waker);
            let mut room = ReadBuf::new(&mut self.incoming[self.filled..]);
            match Pin::new(&mut self.socket).poll_read(&mut cx, &mut room) {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => self.broken = Some(Broken::of(&error)),
                Poll::Ready(Ok(())) if room.filled().is_empty() => self.broken = Some(Broken::Closed),
                Poll::Ready(Ok(())) => {
                    self.filled += room.filled().len();
                    self.heard = Some(now);
                    self.understand(now, &mut ended);
                }
            }
        }
    }

    /// Answers the members whose time is over; breaks if Redis is silent for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        for call in self.asked.iter_mut().filter_map(|asked| asked.call.as_mut()) {
            call.expire(now);
        }
        if self.silent_at().is_some_and(|at| at <= now) {
            self.broken.get_or_insert(Broken::Silent { after: self.patience });
        }
    }

    /// When [`Line::expire`] is due.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let members = self.asked.iter().filter_map(|asked| asked.call.as_ref()?.earliest());
        members.chain(self.silent_at()).min()
    }

    /// Why it is of no more use, if so.
    pub(super) fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    /// Ends the connection: the calls under way, none of which will be answered.
    pub(super) fn into_calls(self) -> impl Iterator<Item = Call> {
        self.asked.into_iter().filter_map(|asked| asked.call)
    }

    fn silent_at(&self) -> Option<Instant> {
        let asked = self.asked.front()?;
        Some(self.heard.map_or(asked.since, |heard| heard.max(asked.since)) + self.patience)
    }

    fn push(&mut self, call: Option<Call>, again: bool, since: Instant) {
        self.asked.push_back(Asked { call, again, since });
    }

    /// Takes whole replies off the front of what was read.
    fn understand(&mut self, now: Instant, ended: &mut impl FnMut(Ended)) {
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = &incoming[..self.filled];
        while self.broken.is_none() {
            match read(rest) {
                Ok(None) => break,
                Ok(Some((reply, taken))) => {
                    rest = &rest[taken..];
                    self.hand_out(reply, now, ended);
                }
                Err(sentence) => self.broken = Some(Broken::Odd(sentence)),
            }
        }
        let left = rest.len();
        let begin = self.filled - left;
        self.incoming = incoming;
        self.incoming.copy_within(begin..self.filled, 0);
        self.filled = left;
    }

    fn hand_out(&mut self, reply: Reply<'_>, now: Instant, ended: &mut impl FnMut(Ended)) {
        let Some(Asked { call, again, since }) = self.asked.pop_front() else {
            self.broken = Some(Broken::Odd("it answered what was not asked".to_owned()));
            return;
        };
        let Some(mut call) = call else { return self.note(reply) };
        // Redis was restarted or its scripts were flushed. The call had no effect, so it may be made again.
        if let Reply::Error(text) = reply
            && text.starts_with(b"NOSCRIPT")
            && !again
        {
            write_command(&[b"SCRIPT", b"LOAD", SCRIPT.as_bytes()], &mut self.outgoing);
            self.push(None, false, now);
            self.write(&call);
            self.push(Some(call), true, now);
            return self.flush();
        }
        self.calls -= 1;
        if let Reply::Error(text) = reply
            && let Some(end) = &self.end
            && let Some(redirect) = Redirect::read(text, &end.node.0)
        {
            if let Redirect::Moved(to) = &redirect {
                self.leaves_for.get_or_insert_with(|| to.clone());
            }
            ended(Ended::Redirected(Redirected { call, redirect, by: end.clone() }));
            return self.leave();
        }
        let mut took = Some(now.saturating_duration_since(since));
        match reply {
            Reply::String(answers) => {
                self.succeeded = true;
                call.answer(answers);
            }
            Reply::Status(text) => {
                let shown = String::from_utf8_lossy(&text[..text.len().min(64)]);
                let reason = format!("it answered `{shown}` to a batch");
                call.fail(&StoreError::Refused { reason });
            }
            Reply::Error(text) => {
                // What was refused unseen doesn't say how long a call takes.
                took = None;
                let reason = String::from_utf8_lossy(text).into_owned();
                call.fail(&match Broken::of_error(&reason) {
                    Some(broken) => StoreError::Unreachable { reason: broken.to_string() },
                    None => StoreError::Refused { reason },
                });
                self.note(reply);
            }
        }
        ended(Ended::Answered { call, took });
        self.leave();
    }

    /// Gives the connection up when the last call under way has its reply, if the slot is another node's.
    fn leave(&mut self) {
        if self.calls == 0
            && let (Some(to), Some(end)) = (self.leaves_for.take(), &self.end)
        {
            self.broken.get_or_insert(Broken::Redirected { slot: end.lane.slot(), to });
        }
    }

    fn write(&mut self, call: &Call) {
        write_call(&call.batch, self.end.as_ref().map(|end| end.lane), &mut self.outgoing);
    }

    /// Gives the connection up if an error says that it won't work again.
    fn note(&mut self, reply: Reply<'_>) {
        if let Reply::Error(text) = reply
            && let Some(broken) = Broken::of_error(&String::from_utf8_lossy(text))
        {
            self.broken = Some(broken);
        }
    }
}

// === impl Broken ===

impl Broken {
    fn of(error: &io::Error) -> Broken {
        Broken::Socket(error.to_string())
    }

    /// What an error of Redis means for the connection, if it means that nothing works there any more.
    fn of_error(error: &str) -> Option<Broken> {
        // Redis before 7 hides it inside the text of the script's error.
        if error.contains("READONLY") {
            return Some(Broken::ReadOnly(error.to_owned()));
        }
        error.starts_with("CLUSTERDOWN").then(|| Broken::ClusterDown(error.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::sync::oneshot;

    use super::super::call::Caller;
    use super::super::lanes::Lane;
    use super::*;
    use crate::counters::{Charge, Charges};
    use crate::descriptor::Hits;
    use crate::key::CounterKey;
    use crate::limit::{Unit, Window};
    use crate::window::{Charging, Enforcement, FixedWindow, Policy};

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn what_the_socket_has_taken_is_forgotten_although_there_is_always_more() {
        let (near, mut far) = duplex(64);
        let mut line = Line::new(Box::new(near), Waker::noop().clone(), PATIENCE, None);
        let mut taken = [0; 14];
        for _ in 0..10 {
            line.ask_for_life(Instant::now());
        }
        for _ in 0..1_000 {
            line.ask_for_life(Instant::now());
            line.flush();
            far.read_exact(&mut taken).await.unwrap();
            assert_eq!(&taken, b"*1\r\n$4\r\nPING\r\n");
            assert!(line.outgoing.len() <= 2 * 11 * taken.len(), "{} bytes are kept", line.outgoing.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_word() {
        let (near, mut far) = duplex(1_024);
        let mut line = Line::new(Box::new(near), Waker::noop().clone(), PATIENCE, None);
        for _ in 0..3 {
            line.ask_for_life(Instant::now());
        }
        for _ in 0..3 {
            tokio::time::advance(PATIENCE - Duration::from_millis(1)).await;
            line.expire(Instant::now());
            assert_eq!(line.broken(), None, "each word is in time");
            far.write_all(b"+PONG\r\n").await.unwrap();
            line.read(Instant::now(), |_| ());
        }
        assert_eq!(line.next_expiry(), None, "nothing is waited for any more");
        line.ask_for_life(Instant::now());
        tokio::time::advance(PATIENCE).await;
        line.expire(Instant::now());
        assert_eq!(line.broken(), Some(&Broken::Silent { after: PATIENCE }));
    }

    #[tokio::test]
    async fn a_lane_whose_slot_has_moved_waits_for_the_replies_that_are_due() {
        let call = |now: Instant| {
            let (answer, answered) = oneshot::channel();
            let key = CounterKey::write(b"line:", 1).finish();
            let policy = Policy::FixedWindow(FixedWindow::new(1, Window::from(Unit::Week)));
            let charge = Charge { key, policy, hits: Hits::Add(1), enforcement: Enforcement::Enforced };
            let charges = Charges { members: smallvec![charge], charging: Charging::AllOrNothing };
            let mut call = Call::new(now);
            let caller = Caller { since: now, deadline: now + PATIENCE, answer };
            call.try_push(caller, |batch| batch.try_push(&charges)).unwrap();
            (call, answered)
        };
        let (near, mut far) = duplex(8_192);
        let end = LaneEnd { lane: Lane::RECORDS, node: ("here".to_owned(), 1) };
        let mut line = Line::new(Box::new(near), Waker::noop().clone(), PATIENCE, Some(end));
        let now = Instant::now();
        let ((first, mut redirected), (second, mut answered)) = (call(now), call(now));
        line.ask(first, now);
        line.ask(second, now);
        line.flush();
        let mut elsewhere = Vec::new();
        let mut read = |line: &mut Line| {
            line.read(now, |ended| match ended {
                Ended::Redirected(call) => elsewhere.push(call.redirect),
                Ended::Answered { .. } => {}
            });
        };
        far.write_all(b"-MOVED 15835 there:2\r\n").await.unwrap();
        read(&mut line);
        assert_eq!(line.broken(), None, "a reply is due");
        assert!(redirected.try_recv().is_err(), "it is asked elsewhere");
        far.write_all(b"-ERR no\r\n").await.unwrap();
        read(&mut line);
        let to = ("there".to_owned(), 2);
        assert_eq!(line.broken(), Some(&Broken::Redirected { slot: 15_835, to: to.clone() }));
        assert!(matches!(answered.try_recv(), Ok(Err(StoreError::Refused { .. }))));
        assert_eq!(elsewhere, [Redirect::Moved(to)]);
    }

    #[tokio::test]
    async fn what_was_not_asked_for_ends_the_connection() {
        let (near, mut far) = duplex(1_024);
        let mut line = Line::new(Box::new(near), Waker::noop().clone(), PATIENCE, None);
        far.write_all(b"+PONG\r\n").await.unwrap();
        line.read(Instant::now(), |_| ());
        assert!(matches!(line.broken(), Some(Broken::Odd(_))), "{:?}", line.broken());
        drop(far);
        let (near, far) = duplex(1_024);
        let mut line = Line::new(Box::new(near), Waker::noop().clone(), PATIENCE, None);
        drop(far);
        line.read(Instant::now(), |_| ());
        assert_eq!(line.broken(), Some(&Broken::Closed));
    }
}
