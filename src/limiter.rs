//! One question, one answer: match, charge, decide.
//!
//! Everything a request needs is loaded once, at the top. Matching builds the counters' keys as it goes; all charges
//! of the request leave in one call to the store, the only await; the answer is folded from what came back. There is
//! no lock here, and no work that grows with the number of rules.
//!
//! Whatever the request brought is used up before the wait. What waits is small (`plan`): an HTTP/2 server moves
//! the future of a call several times before it runs.

mod gated;
mod plan;
mod shared;

use std::future::Future;
use std::sync::Arc;

use thiserror::Error;
use tokio::time::Instant;

use self::plan::Plan;
use crate::clock::{Clock, SystemClock};
use crate::counters::{CounterStore, StoreError, Tallies};
use crate::decision::{Decision, ProcessModes};
use crate::descriptor::RateQuery;
use crate::metrics::Metrics;
use crate::table::{LimitTable, Snapshot};

/// Decides by the rules in force and the counters of a store. Cheap to clone where the store is.
#[derive(Clone, Debug)]
pub struct Limiter<S> {
    table: LimitTable,
    store: S,
    metrics: Metrics,
    options: Arc<LimiterOptions>,
}

/// What holds for all decisions of a process.
#[derive(Clone, Debug)]
pub struct LimiterOptions {
    /// First bytes of every counter's key.
    pub key_prefix: Box<[u8]>,
    /// Shadow mode and quota mode of the whole process.
    pub modes: ProcessModes,
    /// Share of a limit, 0 to 1, above which hits are counted as near it.
    pub near_limit_ratio: f32,
    /// Chooses the windows of counters that are shared with envoyproxy/ratelimit, as that service's own does.
    pub clock: Arc<dyn Clock>,
    /// Seconds, less than which chance adds to the expiry of such a counter in Redis; 0 for none.
    pub expiry_jitter_max_s: u32,
}

/// An answer, with the rules that it was given by.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The answer itself.
    pub decision: Decision,
    /// The rules in force when it was given: statuses name theirs by position.
    pub snapshot: Arc<Snapshot>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LimiterError {
    /// No rules were ever in force. The text is the reference service's.
    #[error("no rate limit configuration loaded")]
    NoRules,
    /// The store gave none.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S: CounterStore> Limiter<S> {
    /// A limiter over `store`, by whatever rules `table` holds at each request.
    pub fn new(table: LimitTable, store: S, metrics: Metrics, options: Arc<LimiterOptions>) -> Limiter<S> {
        Limiter { table, store, metrics, options }
    }

    /// The same limiter over what `wrap` makes of the store, for one call.
    pub fn over<T: CounterStore>(&self, wrap: impl FnOnce(&S) -> T) -> Limiter<T> {
        let Limiter { table, store, metrics, options } = self;
        Limiter { table: table.clone(), store: wrap(store), metrics: metrics.clone(), options: Arc::clone(options) }
    }

    /// Whether no decision waits for the store.
    pub fn answers_at_once(&self) -> bool {
        self.store.answers_at_once()
    }

    /// Answers `query` before `deadline`. The store is asked at once; the future is the wait for its answer.
    ///
    /// # Errors
    /// When no rules were ever in force, and when the store gives no answer and no adaptive service's gate refuses by what
    /// this replica knows. Charges may have happened in the second case, where the error says so; they are never made
    /// twice.
    pub fn decide(
        &self,
        query: &RateQuery<'_>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answer, LimiterError>> + Send + use<'_, S> {
        let mut asked = self.table.load().map(|snapshot| {
            let (plan, charges) = Plan::of(query, &snapshot, &self.metrics, &self.options);
            let tallies = (!charges.members.is_empty()).then(|| self.store.charge(&charges, deadline));
            (snapshot, plan, tallies)
        });
        async move {
            // By reference: what is moved inside a future is kept in it twice.
            let Some((snapshot, plan, tallies)) = &mut asked else { return Err(LimiterError::NoRules) };
            let tallies = match tallies {
                Some(tallies) => tallies.await,
                None => Ok(Tallies::new()),
            };
            let tallies = tallies.and_then(|tallies| plan.accepted(tallies, snapshot));
            let tallies = tallies.inspect_err(|_| plan.unanswered(snapshot));
            let modes = self.options.modes;
            let decision = match tallies {
                Ok(tallies) => plan.decide(&tallies, snapshot, &self.options),
                // The caller may let pass what it gets no answer to. What protects a service goes on protecting it.
                Err(error) => plan.decide_without_store(snapshot, modes, || SystemClock.now()).ok_or(error)?,
            };
            if decision.shadowed {
                self.metrics.totals().global_shadow_mode.increment();
            }
            Ok(Answer { decision, snapshot: Arc::clone(snapshot) })
        }
    }
}
