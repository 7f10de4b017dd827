//! Counters in Redis, so that all replicas enforce one limit.
//!
//! ```text
//! request ─ charge() ─► queue ─► batcher ─► one EVALSHA ─► Redis
//!                                   ▲  up to 4 calls in flight
//!         ◄── one oneshot each ─────┴────── one reply
//! ```
//!
//! Each core has a store of its own: one queue, one batcher task, one connection. What arrives while calls are under
//! way leaves together as the next call (`batch`), so under load a call carries many decisions and at low load none
//! waits. There is no timer in that path. The connection is the path's own (`line`, `link`): a pool's checkout for every
//! request would ping Redis each time and give one request the whole connection, and a task between the batcher and the
//! socket costs each call a turn of the run queue on its way out and on its way back.
//!
//! A Redis Cluster is seventeen such stores, each for the keys of one slot (`lanes`). Where its slot is is known by the
//! nodes (`nodes`); when it moves, the connection follows, and the calls that came too late are made anew (`detour`).
//!
//! A reply that is lost after its call was sent is not asked for again: the charge may have happened, and a second
//! one would be a double charge. Errors then under-admit, never over.

mod batch;
mod call;
pub mod cluster;
mod detour;
mod expiry;
mod forecast;
mod greeting;
mod handshakes;
pub mod lanes;
mod line;
mod link;
mod links;
mod nodes;
mod pooled;
mod queue;
mod redirect;
mod route;
pub mod script;
mod sentinel;
mod shared;
mod single_flight;
mod slots;
mod socket;
mod wire;

use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use self::link::{Address, Connector, ConnectorError, Server, Timeouts};
use self::script::Batch;
pub use self::sentinel::Sentinels;
use self::shared::Shared;
pub use self::slots::SlotStore;
use super::{Charges, CounterStore, StoreError, Tallies};
pub use crate::tls::{Identity, NameCheck, Tls};

/// The counters of one core. Clones share its queue and connection.
#[derive(Clone, Debug)]
pub struct RedisStore {
    desk: Arc<Desk>,
    reached: watch::Receiver<bool>,
}

/// What the clones of a store have in common: when the last is gone, nobody can ask any more.
struct Desk(Arc<Shared>);

/// How decisions are combined.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    /// Most decisions of one call, 1 to [`Batch::DECISIONS_MAX`]: others wait for Redis's only thread meanwhile.
    pub decisions_max: usize,
    /// Most calls under way at once. With one, a decision at low load waits for the round trip before its own.
    pub calls_in_flight: usize,
}

// === impl RedisStore ===

impl RedisStore {
    /// A store that connects through `connector`, again and again until it succeeds. Its batcher runs on the runtime
    /// of the caller, among `tasks`, until the last clone of the store is dropped.
    #[must_use]
    pub fn start(connector: Connector, options: BatchOptions, tasks: &TaskTracker) -> RedisStore {
        let options = BatchOptions {
            decisions_max: options.decisions_max.clamp(1, Batch::DECISIONS_MAX),
            calls_in_flight: options.calls_in_flight.max(1),
        };
        let shared = Arc::new(Shared::new(options));
        let (reached_sender, reached) = watch::channel(false);
        let detours_max = 4 * options.calls_in_flight * options.decisions_max;
        tasks.spawn(batch::Batcher::new(Arc::clone(&shared), connector, reached_sender, detours_max).run());
        RedisStore { desk: Arc::new(Desk(shared)), reached }
    }

    /// Lets a decision wait for its call; the error is an answer that is known already.
    fn ask(&self, charges: &Charges, deadline: Instant) -> Result<queue::Answer, Result<Tallies, StoreError>> {
        if !Batch::can_hold(charges) {
            let reason = format!("{} limits at once are more than one call holds", charges.members.len());
            return Err(Err(StoreError::Refused { reason }));
        }
        if charges.members.is_empty() {
            return Err(Ok(Tallies::new()));
        }
        self.desk.0.push(charges, deadline).map_err(Err)
    }

    /// Turns true when Redis has answered for the first time.
    #[must_use]
    pub fn reached(&self) -> watch::Receiver<bool> {
        self.reached.clone()
    }
}

// === impl Desk ===

impl Drop for Desk {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl CounterStore for RedisStore {
    fn charge<'s>(
        &'s self,
        charges: &Charges,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s> {
        self.ask(charges, deadline).map_or_else(
            |answer| Either::Left(ready(answer)),
            |answered| {
                // The batcher answers at the deadline at the latest; it goes away only with the last store.
                let stopping = || StoreError::Unreachable { reason: "the service is stopping".into() };
                Either::Right(answered.map(move |answer| answer.unwrap_or_else(|_| Err(stopping()))))
            },
        )
    }
}

/// Time after which a deadline is looked at again when nothing else is known: far away, but representable.
const FAR: Duration = Duration::from_secs(86_400);
