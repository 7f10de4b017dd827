//! The task that governs: every replica runs it, one decides.
//!
//! ```text
//! every 1 s   poll     gates, hands, replicas        all replicas: keeps their fallback, counts and pages up to date
//! every 3 s   lead     acquire or renew the lease    all replicas
//! interval    tick     ask, judge, write             the leader, for each service (governor)
//! ```
//!
//! Nothing here waits for anything else: polls, leases and ticks are under way side by side, each with an end of its
//! own. At most [`TICKS_MAX`] ticks are, and one for each service; what is due meanwhile waits its turn.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hashbrown::HashMap;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::governor::{Governor, Outcome, Surroundings};
use super::record::{Epoch, Lease, LeaseClock, Poll, RENEWAL_INTERVAL, RecordError, RecordStore};
use super::seen::Seen;
use super::source::SignalSource;
use crate::clock::{Clock, SystemClock};
use crate::rules::service::PrometheusServer;
use crate::table::{Generation, LimitTable, Snapshot};

/// Makes the source that asks a Prometheus, or says why it can't be made.
pub trait OpenSource: Send + 'static {
    /// What it makes.
    type Source: SignalSource;

    /// A source that asks `server`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with its settings.
    fn open(&self, server: &PrometheusServer) -> Result<Self::Source, String>;
}

/// Governs the services of the rules in force.
pub struct Controller<R, O: OpenSource> {
    table: LimitTable,
    records: Arc<R>,
    sources: O,
    with: Arc<Surroundings<R, O::Source>>,
    server: Option<PrometheusServer>,
    /// The rules that are followed.
    snapshot: Option<Arc<Snapshot>>,
    names: Arc<[Arc<str>]>,
    /// By service: its place in the rules, and its governor unless that is taken out for a tick.
    governed: HashMap<Arc<str>, Governed>,
    /// When the governors that are here are due.
    queue: BTreeSet<(Instant, Arc<str>)>,
    lease: LeaseClock,
    /// The leadership that was told last.
    told_epoch: Option<Epoch>,
    /// Whether the last poll failed.
    is_away: bool,
}

/// Time between two polls.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Most ticks under way at once.
pub const TICKS_MAX: usize = 256;

/// Time to give the lease back at the end.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(1);

/// A service and who governs it.
struct Governed {
    /// Position of the service in the rules.
    service: usize,
    governor: Option<Governor>,
}

type TickDone = (Governor, Outcome);

/// A tick under way.
type Ticking = Pin<Box<dyn Future<Output = TickDone> + Send>>;

// === impl Controller ===

impl<R: RecordStore, O: OpenSource> Controller<R, O> {
    /// A controller of the services in `table`, whose records are in `records`.
    pub fn new(table: LimitTable, records: Arc<R>, sources: O) -> Self {
        let with =
            Arc::new(Surroundings { records: Arc::clone(&records), source: None, seen: Arc::new(Seen::default()) });
        Controller {
            table,
            records,
            sources,
            with,
            server: None,
            snapshot: None,
            names: Arc::default(),
            governed: HashMap::new(),
            queue: BTreeSet::new(),
            lease: LeaseClock::default(),
            told_epoch: None,
            is_away: false,
        }
    }

    /// Governs until `stop`, then lets another replica lead.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut polls, mut leases) = (interval(POLL_INTERVAL), interval(RENEWAL_INTERVAL));
        for ticks in [&mut polls, &mut leases] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let (mut polling, mut leading) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut ticking: FuturesUnordered<Ticking> = FuturesUnordered::new();
        loop {
            let due = self.next_due(ticking.len());
            tokio::select! {
                () = stop.cancelled() => break,
                _ = polls.tick(), if polling.is_empty() => {
                    self.follow_rules();
                    let (records, names) = (Arc::clone(&self.records), Arc::clone(&self.names));
                    polling.push(async move { (records.poll(&names).await, names) });
                }
                Some((polled, names)) = polling.next() => self.heard(polled, &names),
                _ = leases.tick(), if leading.is_empty() => {
                    let records = Arc::clone(&self.records);
                    leading.push(async move { records.lead().await });
                }
                Some(lease) = leading.next() => self.heard_of_lease(lease),
                () = sleep_until(due) => self.start_due(&mut ticking),
                Some(done) = ticking.next() => self.ticked(done),
            }
        }
        drop(ticking);
        if self.lease.may_decide(Instant::now()).is_some()
            && !matches!(timeout(RESIGN_TIMEOUT, self.records.resign()).await, Ok(Ok(())))
        {
            tracing::warn!("the lease of the adaptive limits could not be given back; it runs out by itself");
        }
    }

    /// Takes over what a reload changed.
    fn follow_rules(&mut self) {
        let Some(snapshot) = self.table.load() else { return };
        let known: Option<Generation> = self.snapshot.as_ref().map(|snapshot| snapshot.generation);
        if known == Some(snapshot.generation) {
            return;
        }
        let services = snapshot.rules.services();
        self.names = services.iter().map(|service| Arc::clone(&service.name)).collect();
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.governed);
        self.queue.clear();
        self.snapshot = Some(Arc::clone(&snapshot));
        for (number, service) in services.iter().enumerate() {
            let governor = match before.remove(&service.name) {
                // One that is under way comes back by itself.
                Some(known) => known.governor,
                // Ticks are spread over the interval, so that ten thousand services don't ask at once.
                None => {
                    let offset = service.interval.mul_f64(number as f64 / services.len() as f64);
                    Some(Governor::new(service.clone(), now + offset))
                }
            };
            self.governed.insert(Arc::clone(&service.name), Governed { service: number, governor: None });
            if let Some(governor) = governor {
                self.put_back(governor);
            }
        }
        self.open_source(snapshot.rules.prometheus());
    }

    /// Lets a governor wait for its next tick. One whose service a reload has taken away is forgotten.
    fn put_back(&mut self, mut governor: Governor) {
        let Some(snapshot) = &self.snapshot else { return };
        let Some(place) = self.governed.get_mut(&governor.service.name) else { return };
        if place.governor.is_none() {
            governor.follow(&snapshot.rules.services()[place.service]);
            self.queue.insert((governor.due, Arc::clone(&governor.service.name)));
            place.governor = Some(governor);
        }
    }

    fn open_source(&mut self, server: Option<&PrometheusServer>) {
        if self.server.as_ref() == server {
            return;
        }
        self.server = server.cloned();
        let source = server.and_then(|server| match self.sources.open(server) {
            Ok(source) => Some(Arc::new(source)),
            Err(error) => {
                tracing::error!("adaptive limits have no signals: {error}");
                None
            }
        });
        let (records, seen) = (Arc::clone(&self.records), Arc::clone(&self.with.seen));
        self.with = Arc::new(Surroundings { records, source, seen });
    }

    /// Keeps what a poll told, for this replica's own gates too.
    fn heard(&mut self, polled: Result<Poll, RecordError>, names: &[Arc<str>]) {
        let poll = match polled {
            Ok(poll) => poll,
            Err(error) => {
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!("adaptive limits stand as they are: {error}");
                }
                return self.show();
            }
        };
        if std::mem::take(&mut self.is_away) {
            tracing::info!("adaptive limits: the store of records is there again");
        }
        if let Some(snapshot) = &self.snapshot {
            let by_name: HashMap<&Arc<str>, _> = names.iter().zip(&poll.services).collect();
            for service in snapshot.rules.services() {
                if let Some(gate) = by_name.get(&service.name).and_then(|standing| standing.gate) {
                    let age_ms = poll.now.as_millis().saturating_sub(gate.governed.written_at_ms);
                    snapshot.gate(service).learn(gate.governed, age_ms, poll.replicas, SystemClock.now());
                }
            }
        }
        self.with.seen.heard(names, poll, Instant::now());
        self.show();
    }

    fn heard_of_lease(&mut self, lease: Result<Lease, RecordError>) {
        match lease {
            Ok(lease) => {
                self.lease.heard(&lease);
                match lease {
                    Lease::Leader { epoch, .. } if self.told_epoch != Some(epoch) => {
                        self.told_epoch = Some(epoch);
                        tracing::info!(epoch = epoch.number(), "this replica decides about adaptive limits");
                    }
                    Lease::Follower { leader } if self.told_epoch.take().is_some() => {
                        let leader = leader.map_or_else(|| "another one".to_owned(), |leader| leader.to_string());
                        tracing::info!("this replica decides about adaptive limits no more: {leader} does");
                    }
                    _ => {}
                }
            }
            // The poll says so already.
            Err(error) => tracing::debug!("no lease: {error}"),
        }
    }

    /// When the next service is due, if one may start.
    fn next_due(&self, under_way: usize) -> Instant {
        let far = Instant::now() + POLL_INTERVAL;
        if under_way >= TICKS_MAX || self.lease.may_decide(Instant::now()).is_none() {
            return far;
        }
        self.queue.first().map_or(far, |(due, _)| (*due).min(far))
    }

    /// Starts the ticks that are due, those first that have waited longest.
    fn start_due(&mut self, ticking: &mut FuturesUnordered<Ticking>) {
        let now = Instant::now();
        let Some(epoch) = self.lease.may_decide(now) else { return };
        while ticking.len() < TICKS_MAX && self.queue.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, name)) = self.queue.pop_first() else { return };
            let governor = self.governed.get_mut(&name).and_then(|place| place.governor.take());
            let Some(mut governor) = governor else { continue };
            let (with, lease) = (Arc::clone(&self.with), self.lease);
            ticking.push(Box::pin(async move {
                let outcome = governor.tick(epoch, &lease, &with).await;
                (governor, outcome)
            }));
        }
    }

    /// Takes a governor back, and hears what came of its tick.
    fn ticked(&mut self, (governor, outcome): TickDone) {
        let name = Arc::clone(&governor.service.name);
        match outcome {
            Outcome::Decided(_) | Outcome::NotYet => {}
            Outcome::Superseded => tracing::info!(service = &*name, "{name}: its record was changed by another hand"),
            Outcome::Deposed => {
                self.lease.deposed();
                tracing::info!("this replica decides about adaptive limits no more: it has a successor");
                self.told_epoch = None;
            }
            Outcome::Failed(error) => tracing::debug!(service = &*name, "{name}: nothing decided: {error}"),
        }
        self.put_back(governor);
    }

    /// Shows how things stand.
    fn show(&self) {
        // filled when the view lands
    }
}
