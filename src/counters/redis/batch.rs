//! Combines decisions into calls.
//!
//! 1. Decisions are written into a call while they wait (`call`, `queue`). The one that finds the queue empty wakes the
//!    batcher. It yields once to the runtime, so that everything that is already readable on the sockets joins, and sends
//!    the call.
//! 2. While calls are under way the queue fills; the next call leaves when one of `calls_in_flight` places is free.
//!    Batches thus grow with load and no timer is needed.
//! 3. One alarm per core, set to the earliest deadline, answers those whose time is over: in the queue they are never
//!    sent, under way their reply is dropped when it comes. One member's deadline cancels nobody else's call. Who can't
//!    be answered in time isn't asked for at all (`forecast`).
//! 4. A broken connection is made anew, with pauses that grow until a call has succeeded. The calls that were under way
//!    fail and are not repeated; those that wait stay for the first new attempt, and are told when it fails.
//! 5. A connection that carried nothing for a second is asked for a sign of life, so that one which died in silence is
//!    made anew before a decision needs it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, Sleep, interval, sleep, sleep_until};

use super::call::Call;
use super::link::{Connector, ConnectorError, load_script, send};
use super::queue::Queue;
use super::script::{Batch, sha1};
use super::{BatchOptions, FAR};
use crate::counters::StoreError;

/// The task that sends one core's calls.
pub(super) struct Batcher {
    queue: Weak<Queue>,
    signal: Arc<Notify>,
    connector: Connector,
    reached: watch::Sender<bool>,
    link: Link,
    /// Counts the connections, so that what an old one says late is known as such.
    generation: u64,
    /// Connections in a row that broke before a call on them succeeded.
    setbacks: u32,
    calls: FuturesUnordered<BoxFuture<'static, Called>>,
    /// Nothing was sent since the connection was last asked for a sign of life.
    idle: bool,
    flights: Vec<Option<Flight>>,
}

enum Link {
    Up(MultiplexedConnection),
    Connecting {
        attempt: BoxFuture<'static, Result<MultiplexedConnection, ConnectorError>>,
        /// Attempts in a row that failed.
        failures: u32,
    },
}

/// A call under way.
struct Flight {
    call: Call,
    sent: Instant,
}

/// A call that has ended.
struct Called {
    /// Its place among the flights; `None` for a sign of life.
    flight: Option<usize>,
    generation: u64,
    result: Result<Value, RedisError>,
}

/// How long a connection may carry nothing before it is asked for a sign of life.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Shortest and longest pause between two attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

// === impl Batcher ===

impl Batcher {
    pub(super) fn new(
        queue: Weak<Queue>,
        signal: Arc<Notify>,
        connector: Connector,
        options: BatchOptions,
        reached: watch::Sender<bool>,
    ) -> Batcher {
        let link = Link::Connecting { attempt: attempt(&connector, Duration::ZERO), failures: 0 };
        let flights = (0..options.calls_in_flight).map(|_| None).collect();
        Batcher {
            queue,
            signal,
            connector,
            reached,
            link,
            generation: 0,
            setbacks: 0,
            calls: FuturesUnordered::new(),
            idle: true,
            flights,
        }
    }

    /// Runs until the last store is gone and the last call is back.
    pub(super) async fn run(mut self) {
        let mut alarm = std::pin::pin!(sleep(FAR));
        let mut idle = interval(IDLE_MAX);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let signal = Arc::clone(&self.signal);
        loop {
            tokio::select! {
                Some(called) = self.calls.next(), if !self.calls.is_empty() => self.finish(called),
                connected = self.link.connected() => self.connected(connected),
                () = signal.notified() => tokio::task::yield_now().await,
                () = alarm.as_mut() => alarm.as_mut().reset(self.expire()),
                _ = idle.tick() => self.ask_for_life(),
            }
            let Some(queue) = self.queue.upgrade() else {
                if self.calls.is_empty() {
                    return;
                }
                continue;
            };
            self.send(&queue);
            self.arm(&queue, alarm.as_mut());
        }
    }

    /// Sends a call, if there is a place for it and somebody waits.
    ///
    /// One at a time, with a turn of the runtime between: calls that reach Redis in one read are answered in one write,
    /// after the last of them, and then this core waits while Redis works, and Redis while this core does. What leaves
    /// apart is answered apart, and the two work side by side.
    fn send(&mut self, queue: &Queue) {
        let Some(place) = self.flights.iter().position(Option::is_none) else { return };
        let Link::Up(connection) = &self.link else { return };
        let now = Instant::now();
        let Some(call) = queue.take(now) else { return };
        let asked = ask(connection.clone(), command(&call.batch));
        let generation = self.generation;
        self.calls.push(Box::pin(async move { Called { flight: Some(place), generation, result: asked.await } }));
        self.flights[place] = Some(Flight { call, sent: now });
        self.idle = false;
        if queue.has_waiting() {
            self.signal.notify_one();
        }
    }

    /// Sends a PING if nothing was sent since the last time and nothing is under way.
    fn ask_for_life(&mut self) {
        let Link::Up(connection) = &self.link else { return };
        if std::mem::replace(&mut self.idle, true) && self.calls.is_empty() {
            let (mut connection, generation) = (connection.clone(), self.generation);
            self.calls.push(Box::pin(async move {
                let result = send(&mut connection, &redis::cmd("PING")).await;
                Called { flight: None, generation, result }
            }));
        }
    }

    /// Hands the answers of a call to its members.
    fn finish(&mut self, called: Called) {
        let Some(Flight { mut call, sent }) = called.flight.and_then(|place| self.flights[place].take()) else {
            if let Err(error) = called.result {
                self.note_error(&error, called.generation);
            }
            return;
        };
        let now = Instant::now();
        let mut took = Some(now - sent);
        match called.result {
            Ok(Value::BulkString(reply)) => {
                self.note_success(called.generation);
                call.answer(&reply);
            }
            Ok(other) => {
                let reason = format!("it answered {other:?} to a batch");
                call.fail(&StoreError::Refused { reason: reason.chars().take(200).collect() });
            }
            Err(error) => {
                // Neither what broke nor what was refused unseen says how long a call takes.
                took = None;
                call.fail(&store_error(&error));
                self.note_error(&error, called.generation);
            }
        }
        if let Some(queue) = self.queue.upgrade() {
            queue.ended(call, took, now);
        }
    }

    /// The connection has shown that it works.
    fn note_success(&mut self, called_on: u64) {
        if self.generation == called_on && std::mem::take(&mut self.setbacks) > 0 {
            self.connector.tell_up();
        }
    }

    /// Gives a connection up when its error says that it won't work again.
    fn note_error(&mut self, error: &RedisError, called_on: u64) {
        // Replies of a connection that was given up already say nothing about its successor.
        if self.generation != called_on || !is_broken(error) {
            return;
        }
        self.connector.tell_broken(error);
        // Made anew at once. But a server that takes connections and no calls, such as a replica, is not hurried, and
        // nobody waits for it.
        let pause = if self.setbacks == 0 { Duration::ZERO } else { pause(self.setbacks) };
        if let Some(queue) = self.queue.upgrade().filter(|_| self.setbacks > 0) {
            queue.down(&store_error(error));
        }
        self.link = Link::Connecting { attempt: attempt(&self.connector, pause), failures: 0 };
        self.generation += 1;
        self.setbacks = self.setbacks.saturating_add(1);
    }

    fn connected(&mut self, result: Result<MultiplexedConnection, ConnectorError>) {
        let Link::Connecting { failures, .. } = self.link else { return };
        match result {
            Ok(connection) => {
                if self.setbacks <= 1 {
                    self.connector.tell_up();
                }
                self.link = Link::Up(connection);
                self.reached.send_replace(true);
                if let Some(queue) = self.queue.upgrade() {
                    queue.up();
                }
            }
            Err(error) => {
                let pause = pause(failures);
                self.connector.tell_failed(&error);
                if let Some(queue) = self.queue.upgrade() {
                    queue.down(&StoreError::Unreachable { reason: error.to_string() });
                }
                let attempt = attempt(&self.connector, pause);
                self.link = Link::Connecting { attempt, failures: failures.saturating_add(1) };
            }
        }
    }

    /// Answers all whose time is over; says when to look again.
    fn expire(&mut self) -> Instant {
        let now = Instant::now();
        let flying = self.flights.iter_mut().flatten().filter_map(|flight| flight.expire(now)).min();
        let waiting = self.queue.upgrade().and_then(|queue| queue.expire(now));
        flying.into_iter().chain(waiting).min().unwrap_or(now + FAR)
    }

    /// Sets the alarm forward if somebody's time is over before it.
    fn arm(&self, queue: &Queue, alarm: std::pin::Pin<&mut Sleep>) {
        let flying = self.flights.iter().flatten().filter_map(|flight| flight.call.earliest()).min();
        if let Some(earliest) = flying.into_iter().chain(queue.earliest()).min()
            && earliest < alarm.deadline()
        {
            alarm.reset(earliest);
        }
    }
}

impl Drop for Batcher {
    /// Tells those that wait when this task ends without having been asked to, so that nobody waits for ever.
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.down(&StoreError::Unreachable { reason: "the task that asks it has ended".to_owned() });
        }
    }
}

// === impl Link ===

impl Link {
    /// Waits for an attempt to end; for ever where none is under way.
    async fn connected(&mut self) -> Result<MultiplexedConnection, ConnectorError> {
        match self {
            Link::Connecting { attempt, .. } => attempt.await,
            Link::Up(_) => std::future::pending().await,
        }
    }
}

fn attempt(
    connector: &Connector,
    pause: Duration,
) -> BoxFuture<'static, Result<MultiplexedConnection, ConnectorError>> {
    let connector = connector.clone();
    let at = Instant::now() + pause;
    Box::pin(async move {
        sleep_until(at).await;
        connector.connect().await
    })
}

fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX)
}

fn command(batch: &Batch) -> Cmd {
    const WORDS: usize = 64;
    let arguments = batch.arguments();
    let bytes = batch.key_bytes() + arguments.iter().map(Vec::len).sum::<usize>() + WORDS;
    let mut command = Cmd::with_capacity(3 + batch.keys().len() + arguments.len(), bytes);
    command.arg("EVALSHA").arg(sha1()).arg(batch.keys().len());
    for key in batch.keys() {
        command.arg(key);
    }
    for argument in &arguments {
        command.arg(&argument[..]);
    }
    command
}

async fn ask(mut connection: MultiplexedConnection, command: Cmd) -> Result<Value, RedisError> {
    match send(&mut connection, &command).await {
        // Redis was restarted or its scripts were flushed. The call had no effect, so it may be made again.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            load_script(&mut connection).await?;
            send(&mut connection, &command).await
        }
        result => result,
    }
}

/// Whether a connection is of no more use: it broke, it is silent, or its server has become a replica. Redis before 7
/// hides the last inside the text of the script's error.
fn is_broken(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_timeout()
        || error.is_io_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.detail().is_some_and(|detail| detail.contains("READONLY"))
}

fn store_error(error: &RedisError) -> StoreError {
    let reason = error.to_string();
    if is_broken(error) { StoreError::Unreachable { reason } } else { StoreError::Refused { reason } }
}

// === impl Flight ===

impl Flight {
    /// Answers the members whose time is over; says when the next one's will be.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.call.expire(now);
        self.call.earliest()
    }
}
