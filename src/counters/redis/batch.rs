//! Combines decisions into calls.
//!
//! 1. Decisions are written into a call while they wait (`call`, `queue`). The one that finds the queue empty wakes the
//!    batcher, whose turn comes after those that are ready now, so they join. If calls are under way it yields once more,
//!    and what is readable on the sockets joins too. A call that is full leaves at once (`shared`).
//! 2. While calls are under way the queue fills; the next call leaves when one of `calls_in_flight` places is free.
//!    Batches thus grow with load and no timer is needed.
//! 3. One alarm per core, set to the earliest deadline, answers those whose time is over: in the queue they are never
//!    sent, under way their reply is dropped when it comes. One member's deadline cancels nobody else's call. Who can't
//!    be answered in time isn't asked for at all (`forecast`).
//! 4. A broken connection is made anew, with pauses that grow until a call has succeeded. The calls that were under way
//!    fail and are not repeated; those that wait stay for the first new attempt, and are told when it fails.
//! 5. A lane of a Redis Cluster connects to the node that a redirect names. The calls that were redirected are not made
//!    here any more (`detour`).
//! 6. A connection that carried nothing for a second is asked for a sign of life, so that one which died in silence is
//!    made anew before a decision needs it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, Sleep, interval, sleep, sleep_until};

use super::FAR;
use super::detour::{Apart, Detours, LINKS_MAX, Redirected};
use super::line::{Broken, Line};
use super::link::{Address, Connected, Connector, ConnectorError};
use super::redirect::Node;
use super::shared::Shared;
use crate::counters::StoreError;

/// The task that connects one core's queue, and sends what waits there.
pub(super) struct Batcher {
    shared: Arc<Shared>,
    connector: Connector,
    reached: watch::Sender<bool>,
    link: Link,
    /// Connections in a row that broke before a call on them succeeded.
    setbacks: u32,
    /// Calls that were redirected.
    detours: Detours,
    under_way: FuturesUnordered<BoxFuture<'static, Returned>>,
    /// Decisions of those that had no answer when they left.
    on_detour: usize,
    detours_max: usize,
    /// Ticks of the idle clock since the last redirect.
    quiet: u32,
}

/// A call that is back from its detour.
struct Returned {
    /// How many of its decisions had no answer when it left.
    decisions: usize,
    /// What must be asked for one by one, if anything.
    apart: Option<Apart>,
}

enum Link {
    Up {
        /// Ends when another server is the right one.
        moved: BoxFuture<'static, (String, u16)>,
    },
    Connecting {
        attempt: BoxFuture<'static, Result<Connected, ConnectorError>>,
        /// Attempts in a row that failed.
        failures: u32,
    },
}

/// What became of a link.
enum Changed {
    Connected(Result<Connected, ConnectorError>),
    /// Where the right server is.
    Moved(String, u16),
}

/// How long a connection may carry nothing before it is asked for a sign of life.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Ticks without a redirect after which the connections of detours are dropped.
const QUIET_MIN: u32 = 2;

/// Shortest and longest pause between two attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

// === impl Batcher ===

impl Batcher {
    /// At most `detours_max` decisions are on a detour at once.
    pub(super) fn new(
        shared: Arc<Shared>,
        connector: Connector,
        reached: watch::Sender<bool>,
        detours_max: usize,
    ) -> Batcher {
        let link = Link::Connecting { attempt: attempt(&connector, Duration::ZERO, None), failures: 0 };
        let (detours, under_way) = (Detours::new(connector.clone(), LINKS_MAX), FuturesUnordered::new());
        Batcher {
            shared,
            connector,
            reached,
            link,
            setbacks: 0,
            detours,
            under_way,
            on_detour: 0,
            detours_max,
            quiet: 0,
        }
    }

    /// Runs until the last store is gone and the last call is back.
    pub(super) async fn run(mut self) {
        let mut alarm = std::pin::pin!(sleep(FAR));
        let mut idle = interval(IDLE_MAX);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.shared);
        while !shared.is_over() || !self.under_way.is_empty() {
            tokio::select! {
                // In the order of their haste; none can keep those behind it waiting, as all are followed by sending.
                biased;
                broken = shared.broken() => self.broke(&broken),
                changed = self.link.changed() => match changed {
                    Changed::Connected(connected) => self.connected(connected),
                    Changed::Moved(host, port) => {
                        self.broke(&Broken::Moved { to: Address::Tcp(host, port).to_string() });
                    }
                },
                () = alarm.as_mut() => {
                    shared.expire(Instant::now());
                    alarm.as_mut().reset(shared.next_expiry().unwrap_or_else(|| Instant::now() + FAR));
                }
                Some(returned) = self.under_way.next() => self.returned(returned),
                _ = idle.tick() => {
                    shared.ask_for_life(Instant::now());
                    self.quiet = self.quiet.saturating_add(1);
                    if self.quiet >= QUIET_MIN && self.under_way.is_empty() {
                        self.detours.rest();
                    }
                }
                () = shared.signal() => {
                    if shared.is_busy() {
                        tokio::task::yield_now().await;
                    }
                }
            }
            shared.send(Instant::now()).into_iter().for_each(|call| self.redirected(call));
            if self.setbacks > 0 && shared.has_succeeded() {
                self.setbacks = 0;
                self.connector.tell_up();
            }
            arm(&shared, alarm.as_mut());
        }
    }

    /// Makes a call elsewhere, unless too many decisions are on their way there.
    fn redirected(&mut self, mut redirected: Redirected) {
        self.quiet = 0;
        let (decisions, waiting) = (redirected.call.open(), self.on_detour);
        if waiting + decisions > self.detours_max {
            return redirected.call.fail(&StoreError::Overloaded { waiting });
        }
        self.on_detour += decisions;
        let made = self.detours.clone().make(redirected);
        self.under_way.push(Box::pin(async move { Returned { decisions, apart: made.await } }));
    }

    /// Takes note of a call that is back. Each decision of one that was taken apart has its place for itself, so that
    /// nobody's place waits for another's answer.
    fn returned(&mut self, Returned { decisions, apart }: Returned) {
        self.on_detour = self.on_detour.saturating_sub(decisions);
        let Some(apart) = apart else { return };
        for alone in apart.into_single(Instant::now()) {
            self.on_detour += 1;
            let made = self.detours.clone().make_alone(alone);
            self.under_way.push(Box::pin(async move {
                made.await;
                Returned { decisions: 1, apart: None }
            }));
        }
    }

    /// Connects anew.
    fn broke(&mut self, broken: &Broken) {
        // A redirect was told when its calls were, and says where to go: whoever waits may go on waiting.
        let to = if let Broken::Redirected { to, .. } = broken { Some(to.clone()) } else { None };
        if to.is_none() {
            self.connector.tell_broken(broken);
        }
        self.connector.note_closed();
        let error = StoreError::Unreachable { reason: broken.to_string() };
        if self.shared.hang_up(&error) {
            self.setbacks = 0;
        }
        // Made anew at once. But a server that takes connections and no calls, such as a replica, is not hurried, and
        // nobody waits for it. Two nodes may each name the other while a slot changes hands.
        let counted = self.setbacks.saturating_sub(u32::from(to.is_some()));
        let pause = if counted == 0 { Duration::ZERO } else { pause(counted) };
        if self.setbacks > 0 && to.is_none() {
            self.shared.down(&error);
        }
        self.link = Link::Connecting { attempt: attempt(&self.connector, pause, to), failures: 0 };
        self.setbacks = self.setbacks.saturating_add(1);
    }

    fn connected(&mut self, result: Result<Connected, ConnectorError>) {
        let Link::Connecting { failures, .. } = self.link else { return };
        match result {
            Ok(Connected { socket, moved, end }) => {
                if self.setbacks <= 1 {
                    self.connector.tell_up();
                }
                self.link = Link::Up { moved };
                // The batcher puts its own waker in as soon as it waits.
                self.shared.up(Line::new(socket, Waker::noop().clone(), self.connector.patience(), end));
                // In this order: whoever follows both never sees a Redis that was reached and has no connection.
                self.connector.note_opened();
                self.reached.send_replace(true);
            }
            Err(error) => {
                let pause = pause(failures);
                self.connector.tell_failed(&error);
                self.shared.down(&StoreError::Unreachable { reason: error.to_string() });
                let attempt = attempt(&self.connector, pause, None);
                self.link = Link::Connecting { attempt, failures: failures.saturating_add(1) };
            }
        }
    }
}

impl Drop for Batcher {
    /// Tells those that wait when this task ends without having been asked to, so that nobody waits for ever.
    fn drop(&mut self) {
        let error = StoreError::Unreachable { reason: "the task that asks it has ended".to_owned() };
        self.shared.hang_up(&error);
        self.shared.down(&error);
        self.shared.send(Instant::now()).into_iter().for_each(|mut redirected| redirected.call.fail(&error));
    }
}

// === impl Link ===

impl Link {
    /// Waits for an attempt to end, or for another server to be the right one.
    async fn changed(&mut self) -> Changed {
        match self {
            Link::Connecting { attempt, .. } => Changed::Connected(attempt.await),
            Link::Up { moved } => {
                let (host, port) = moved.await;
                Changed::Moved(host, port)
            }
        }
    }
}

/// Connects after a pause, of a cluster to the node `to` if one is named.
fn attempt(
    connector: &Connector,
    pause: Duration,
    to: Option<Node>,
) -> BoxFuture<'static, Result<Connected, ConnectorError>> {
    let connector = connector.clone();
    let at = Instant::now() + pause;
    Box::pin(async move {
        sleep_until(at).await;
        connector.connect(to).await
    })
}

/// Grows with the failures, and is between half of that and all of it by chance: the connections of all lanes, cores and
/// replicas break at once, and would come back at once.
fn pause(failures: u32) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
    longest.mul_f64((1.0 + rand::random::<f64>()) / 2.0)
}

/// Sets the alarm forward if somebody's time is over before it.
fn arm(shared: &Shared, alarm: Pin<&mut Sleep>) {
    if let Some(earliest) = shared.next_expiry()
        && earliest < alarm.deadline()
    {
        alarm.reset(earliest);
    }
}
