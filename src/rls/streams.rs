//! The HTTP/2 streams of one connection, answered in the turn that read them.
//!
//! First everything that was read is taken from the HTTP/2 library; then each call is answered, in order, if its answer
//! needs no waiting (counters in memory); then all answers are written at once. So a call is one allocation and no task,
//! and an honest client's call waits behind others once instead of three times. In between would be wrong: the library
//! writes what there is to write each time that it is asked for another stream.
//!
//! What has to wait, for Redis or for the rest of its request, becomes a task of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::server::{Connection, SendResponse};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::pace::Turns;
use super::router::{Arrival, Asked, ConnectionRouter};
use super::stream::{Answered, Exchange, RequestBody, exchange, send_answer};
use crate::counters::CounterStore;

#[cfg(test)]
mod tests;

/// The streams of one connection.
#[derive(Debug)]
pub struct Streams<T, S: CounterStore> {
    http2: Connection<T, Bytes>,
    router: ConnectionRouter<S>,
    turns: Arc<Turns>,
    /// Runs what has to wait.
    tasks: TaskTracker,
    /// What was read and has yet to be answered.
    arrived: Vec<(Asked<S>, SendResponse<Bytes>)>,
}

// === impl Streams ===

impl<T, S> Streams<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: CounterStore + Clone,
{
    /// Those of a connection that was greeted.
    #[must_use]
    pub fn new(
        http2: Connection<T, Bytes>,
        router: ConnectionRouter<S>,
        turns: Arc<Turns>,
        tasks: TaskTracker,
    ) -> Streams<T, S> {
        Streams { http2, router, turns, tasks, arrived: Vec::new() }
    }

    /// Tells the client to open no more streams; the connection ends when those that are open have.
    pub fn end(&mut self) {
        self.http2.graceful_shutdown();
    }

    /// Takes the streams that were opened, until there is none.
    fn take_arrived(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match pin!(self.http2.accept()).poll(context) {
                Poll::Ready(Some(Ok((request, reply)))) => {
                    self.arrived.push((self.router.sort(request.map(RequestBody::new)), reply));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Begins to answer what has arrived. Says whether anything was answered at once.
    fn answer_arrived(&mut self, context: &mut Context<'_>) -> bool {
        let at_once = self.router.answers_at_once();
        let mut answered = false;
        // The clock is read once for each call: what the one before it said is the present.
        let mut now = Instant::now();
        let arrived_at = now.checked_sub(self.turns.age()).unwrap_or(now);
        // One place for the calls of a turn, each behind the other.
        let mut place = None;
        for (asked, mut reply) in self.arrived.drain(..) {
            let call = match asked {
                Asked::Call(call) => call,
                Asked::Other(answering) => {
                    drop(self.tasks.spawn(exchange(answering, reply)));
                    continue;
                }
            };
            let arrival = Arrival { at: arrived_at, read_at: now };
            if !at_once && !call.is_late(arrival) {
                drop(self.tasks.spawn(Exchange::new(call.answer(arrival), reply)));
                continue;
            }
            let mut answering = put(&mut place, call.answer(arrival));
            // A panic kills this call, as it would in a task of its own, and not the connection.
            match catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(context))) {
                Ok(Poll::Ready(Answered { message, at })) => {
                    (now, place) = (at, Some(answering));
                    send_answer(reply, message);
                    answered = true;
                }
                Ok(Poll::Pending) => drop(self.tasks.spawn(Exchange::new(answering, reply))),
                Err(_) => reply.send_reset(Reason::INTERNAL_ERROR),
            }
        }
        answered
    }
}

/// Puts a future where another one was, which has ended, or somewhere new.
fn put<F>(place: &mut Option<Pin<Box<F>>>, future: F) -> Pin<Box<F>> {
    match place.take() {
        Some(mut place) => {
            place.set(future);
            place
        }
        None => Box::pin(future),
    }
}

impl<T, S> Future for Streams<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: CounterStore + Clone,
{
    /// What broke the connection, if anything did: the socket, or a client that doesn't keep to the protocol.
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let streams = self.get_mut();
        loop {
            let ended = streams.take_arrived(context);
            if ended.is_ready() || !streams.answer_arrived(context) {
                return ended;
            }
        }
    }
}
