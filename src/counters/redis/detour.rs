//! Calls that a node of a Redis Cluster has redirected, made where they belong.
//!
//! A redirected call was not executed, so it is made again: nothing is charged twice, and nobody waits beyond his
//! deadline. This happens when a slot moves, so it is kept apart from the request path, over connections of its own.
//!
//! ```text
//! MOVED      the same call to that node, whose the slot is now
//! ASK        the same call to that node, this once; a call of several decisions is taken apart first
//! TRYAGAIN   a call of several decisions is taken apart; one decision is asked for again after a pause
//! ```
//! **Why apart.** While a slot is on its way a call is answered only if all of its counters are on one side. One decision
//! over one counter always has its answer, on this side or on that; one over several counters of the slot waits until all
//! have gone over, and if one of them is new, until the slot has.
//!
//! **Bounds.** Who follows redirects without end does so in pauses, and only until his deadline. Decisions on a detour
//! are bounded by the batcher; connections, by [`LINKS_MAX`].

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::time::{Instant, sleep, sleep_until};

use super::call::Call;
use super::greeting::send;
use super::lanes::{Lane, halves};
use super::link::{Connector, load_script};
use super::links::Links;
use super::redirect::{LaneEnd, Node, Redirect};
use super::script::{Batch, sha1};
use crate::counters::StoreError;

/// The detours of one lane and core. Clones share the connections.
#[derive(Clone)]
pub(super) struct Detours {
    connector: Connector,
    links: Links,
}

/// A call that was redirected, and by whom.
pub(super) struct Redirected {
    pub(super) call: Call,
    pub(super) redirect: Redirect,
    pub(super) by: LaneEnd,
}

/// A call whose decisions must be asked for one by one.
pub(super) struct Apart {
    call: Call,
    lane: Option<Lane>,
    home: Node,
}

/// One decision of such a call.
pub(super) struct Alone(Apart);

/// What to do next with a call.
enum Step {
    Ask(Node),
    /// The same, of a node that is still receiving the slot.
    AskInAdvance(Node),
    /// Ask at home again, a little later.
    Wait,
}

/// Most connections for detours: to where a slot comes from and where it goes, twice.
pub(super) const LINKS_MAX: usize = 4;

/// Redirects in a row that are followed without a pause.
const HASTY_MAX: u32 = 5;

/// Shortest and longest pause.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

// === impl Detours ===

impl Detours {
    /// Detours over at most so many connections.
    pub(super) fn new(connector: Connector, links_max: usize) -> Detours {
        Detours { links: Links::new(connector.clone(), links_max), connector }
    }

    /// Makes a call where it belongs. When this ends everybody has an answer, or it is given back to be taken apart.
    pub(super) async fn make(
        self,
        Redirected { call, redirect, by: LaneEnd { lane, node } }: Redirected,
    ) -> Option<Apart> {
        self.connector.tell_redirected(&redirect);
        self.follow(call, redirect, Some(lane), node).await
    }

    /// Makes one decision of a call that was taken apart, beginning at home. When this ends it has its answer.
    pub(super) async fn make_alone(self, Alone(Apart { call, lane, home }): Alone) {
        drop(self.follow(call, Redirect::Moved(home.clone()), lane, home).await);
    }

    /// Drops the connections.
    pub(super) fn rest(&self) {
        self.links.clear();
    }

    /// Makes a call, beginning with a redirect that was told already; when this ends everybody has an answer, or a call of
    /// several decisions is given back. `home` is the node whose the slot is, as far as is known; keys get the tag of their
    /// lane, if they are in one.
    pub(super) async fn follow(
        &self,
        mut call: Call,
        first: Redirect,
        lane: Option<Lane>,
        mut home: Node,
    ) -> Option<Apart> {
        let (mut redirect, mut hasty, mut pauses) = (first, 0, 0);
        loop {
            if let Redirect::Moved(node) = &redirect {
                home = node.clone();
            } else if call.len() > 1 {
                return Some(Apart { call, lane, home });
            }
            hasty += 1;
            let step = match redirect {
                Redirect::TryAgain => Step::Wait,
                _ if hasty > HASTY_MAX => Step::Wait,
                Redirect::Moved(node) => Step::Ask(node),
                Redirect::Ask(node) => Step::AskInAdvance(node),
            };
            let asked = match step {
                Step::Ask(node) => self.ask(&mut call, lane, &node, false).await,
                Step::AskInAdvance(node) => self.ask(&mut call, lane, &node, true).await,
                Step::Wait => {
                    let pause = PAUSE_MIN.saturating_mul(1 << pauses).min(PAUSE_MAX);
                    (hasty, pauses) = (0, (pauses + 1).min(16));
                    in_time(&mut call, sleep(pause)).await?;
                    self.ask(&mut call, lane, &home, false).await
                }
            };
            redirect = asked?;
            self.connector.tell_redirected(&redirect);
        }
    }

    /// Makes a call at a node: the redirect that it answered, or `None` if everybody has an answer.
    async fn ask(&self, call: &mut Call, lane: Option<Lane>, node: &Node, in_advance: bool) -> Option<Redirect> {
        call.settle(Instant::now());
        if call.open() == 0 {
            return None;
        }
        let command = command(&call.batch, lane);
        let error = match in_time(call, self.send(&command, node, in_advance)).await? {
            Ok(Value::BulkString(answers)) => {
                call.answer(&answers);
                return None;
            }
            Ok(_) => StoreError::Refused { reason: "it answered no string to a batch".to_owned() },
            Err(Failure::Unsent(reason)) => {
                self.connector.doubt();
                StoreError::Unreachable { reason }
            }
            Err(Failure::Said(error)) => {
                let said = [error.code().unwrap_or_default(), error.detail().unwrap_or_default()].join(" ");
                if let Some(redirect) = Redirect::read(said.as_bytes(), &node.0) {
                    return Some(redirect);
                }
                match error.code() {
                    // Another node may serve the slot, of which this one was not told: it is cut off from the others.
                    _ if serves_nothing(&said) => {
                        self.connector.doubt();
                        StoreError::Unreachable { reason: said }
                    }
                    Some(_) => StoreError::Refused { reason: said },
                    None => {
                        self.links.forget(node);
                        StoreError::Unreachable { reason: error.to_string() }
                    }
                }
            }
        };
        call.fail(&error);
        None
    }

    async fn send(&self, command: &Cmd, node: &Node, in_advance: bool) -> Result<Value, Failure> {
        let mut connection = self.links.to(node).await.map_err(Failure::Unsent)?;
        let asked = send_once(&mut connection, command, in_advance).await;
        if !asked.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT")) {
            return asked.map_err(Failure::Said);
        }
        // Its scripts were flushed. The call had no effect, so it may be made again.
        load_script(&mut connection).await.map_err(|error| Failure::Unsent(error.to_string()))?;
        send_once(&mut connection, command, in_advance).await.map_err(Failure::Said)
    }
}

async fn send_once(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    in_advance: bool,
) -> Result<Value, RedisError> {
    if !in_advance {
        return send(connection, command).await;
    }
    let mut both = Pipeline::with_capacity(2);
    both.cmd("ASKING").add_command(command.clone());
    let answers = connection.req_packed_commands(&both, 1, 1).await?;
    answers.into_iter().next().unwrap_or(Value::Nil).extract_error()
}

// === impl Apart ===

impl Apart {
    /// The decisions that have no answer yet.
    pub(super) fn into_single(self, now: Instant) -> impl Iterator<Item = Alone> {
        let Apart { call, lane, home } = self;
        call.into_single(now).into_iter().map(move |call| Alone(Apart { call, lane, home: home.clone() }))
    }
}

/// Why a node gave no answer.
enum Failure {
    /// It can't be reached; nothing was sent.
    Unsent(String),
    /// What the node said, or the way to it: then the call may have been made.
    Said(RedisError),
}

/// Whether an error says that the node can't serve the slot, whatever is asked. Redis before 7 hides `READONLY` inside
/// the text of the script's error.
fn serves_nothing(said: &str) -> bool {
    ["CLUSTERDOWN ", "MASTERDOWN ", "LOADING "].iter().any(|word| said.starts_with(word)) || said.contains("READONLY")
}

/// The script call of a batch.
fn command(batch: &Batch, lane: Option<Lane>) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(sha1()).arg(batch.keys().len());
    for key in batch.keys() {
        match lane {
            Some(lane) => {
                let (before, after) = halves(key);
                command.arg([before, lane.tag().as_bytes(), after].concat());
            }
            None => {
                command.arg(key);
            }
        }
    }
    for argument in batch.arguments() {
        command.arg(argument);
    }
    command
}

/// Waits as long as somebody waits for the call, and tells those whose time is over; `None` when nobody is left.
pub(super) async fn in_time<T>(call: &mut Call, awaited: impl Future<Output = T>) -> Option<T> {
    let mut awaited = pin!(awaited);
    loop {
        let earliest = call.earliest()?;
        tokio::select! {
            biased;
            it = &mut awaited => return Some(it),
            () = sleep_until(earliest) => call.expire(Instant::now()),
        }
    }
}
