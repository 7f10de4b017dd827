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
//! waits. There is no timer in that path. The connection comes from a deadpool pool but is taken out of it
//! (`link`): a checkout for every request would ping Redis each time and give one request the whole connection.
//!
//! A reply that is lost after its call was sent is not asked for again: the charge may have happened, and a second
//! one would be a double charge. Errors then under-admit, never over.

mod batch;
mod link;
mod queue;
pub mod script;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use self::link::{Address, Connector, ConnectorError, Server, Timeouts};
use self::queue::{Pending, Queue};
use self::script::Batch;
use super::{Charges, CounterStore, StoreError, Tallies};

/// The counters of one core. Clones share its queue and connection.
#[derive(Clone, Debug)]
pub struct RedisStore {
    queue: Arc<Queue>,
    reached: watch::Receiver<bool>,
}

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
        // What two rounds of full calls can carry away; more would only wait to miss its deadline.
        let queue = Arc::new(Queue::new(2 * options.decisions_max * options.calls_in_flight));
        let (reached_sender, reached) = watch::channel(false);
        tasks.spawn(
            batch::Batcher::new(Arc::downgrade(&queue), queue.signal(), connector, options, reached_sender).run(),
        );
        RedisStore { queue, reached }
    }

    /// Turns true when Redis has answered for the first time.
    #[must_use]
    pub fn reached(&self) -> watch::Receiver<bool> {
        self.reached.clone()
    }
}

impl CounterStore for RedisStore {
    async fn charge(&self, charges: Charges, deadline: Instant) -> Result<Tallies, StoreError> {
        if !Batch::can_hold(&charges) {
            let reason = format!("{} limits at once are more than one call holds", charges.members.len());
            return Err(StoreError::Refused { reason });
        }
        let (answer, answered) = oneshot::channel();
        self.queue.push(Pending { charges, queued: Instant::now(), deadline, answer })?;
        // The batcher answers at the deadline at the latest; it goes away only with the last store.
        answered.await.unwrap_or_else(|_| Err(StoreError::Unreachable { reason: "the service is stopping".into() }))
    }
}

impl Pending {
    /// Tells the decision that its time is over.
    fn expire(self, now: Instant) {
        let waited = now.saturating_duration_since(self.queued);
        self.answer(Err(StoreError::DeadlineExceeded { waited }));
    }

    /// Answers the decision. Whoever asked may have gone away.
    fn answer(self, answer: Result<Tallies, StoreError>) {
        drop(self.answer.send(answer));
    }
}

/// Time after which a deadline is looked at again when nothing else is known: far away, but representable.
const FAR: Duration = Duration::from_secs(86_400);
