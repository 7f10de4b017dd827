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
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hashbrown::HashMap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::command::Command;
use super::governor::{Governor, Outcome, Surroundings};
use super::record::{
    DecisionRecord, Epoch, Lease, LeaseClock, Poll, RENEWAL_INTERVAL, RecordError, RecordStore, ReplicaId,
};
use super::seen::Seen;
use super::source::SignalSource;
use super::view::{Changes, ControllerView, ServiceView};
use crate::clock::{Clock, SystemClock};
use crate::rules::service::{PrometheusServer, Service};
use crate::signal::{Absence, AbsenceKind};
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
#[expect(missing_debug_implementations, reason = "nobody prints a task")]
pub struct Controller<R, O: OpenSource> {
    table: LimitTable,
    records: Arc<R>,
    sources: O,
    replica: ReplicaId,
    commands: mpsc::Receiver<Command>,
    views: watch::Sender<Arc<ControllerView>>,
    with: Arc<Surroundings<R, O::Source>>,
    server: Option<PrometheusServer>,
    /// The rules that are followed.
    snapshot: Option<Arc<Snapshot>>,
    names: Arc<[Arc<str>]>,
    /// By service: its place in the rules, and its governor unless that is taken out for a tick.
    governed: HashMap<Arc<str>, Governed>,
    /// When the governors that are here are due.
    queue: BTreeSet<(Instant, Arc<str>)>,
    /// When the source is tried again that could not be opened.
    reopen: Option<Instant>,
    /// The leadership that was told last.
    told_epoch: Option<Epoch>,
    /// Questions without a usable answer so far, by kind.
    failed_fetches: Vec<(AbsenceKind, u64)>,
    /// Why the last poll failed, if it did.
    trouble: Option<String>,
}

/// Time between two polls.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Most ticks under way at once.
pub const TICKS_MAX: usize = 256;

/// Most wishes of operators that are carried out at once.
const COMMANDS_MAX: usize = 4;

/// Time in which a poll shows what an operator did.
const SHOWN_AFTER: Duration = Duration::from_millis(200);

/// Time after which a source that could not be made is tried again.
const REOPENED_AFTER: Duration = Duration::from_secs(15);

/// Time to give the lease back at the end.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(1);

/// A service and who governs it.
struct Governed {
    service: Arc<Service>,
    governor: Option<Governor>,
    last: Option<Arc<DecisionRecord>>,
    changes: Changes,
    /// Whether an operator did something to it while its governor was out.
    is_urgent: bool,
}

type TickDone = (Governor, Outcome);

/// A tick under way.
type Ticking = Pin<Box<dyn Future<Output = TickDone> + Send>>;

// === impl Controller ===

impl<R: RecordStore, O: OpenSource> Controller<R, O> {
    /// A controller of the services in `table`, whose records are in `records`, on the replica of that name. It does what
    /// operators wish, and shows how things stand.
    pub fn new(
        table: LimitTable,
        records: R,
        sources: O,
        replica: ReplicaId,
        commands: mpsc::Receiver<Command>,
    ) -> (Controller<R, O>, watch::Receiver<Arc<ControllerView>>) {
        let (views, view) = watch::channel(Arc::new(ControllerView::empty(replica.clone())));
        let records = Arc::new(records);
        let with = Arc::new(Surroundings {
            records: Arc::clone(&records),
            source: Err(no_prometheus()),
            seen: Arc::new(Seen::default()),
            lease: Arc::default(),
        });
        let controller = Controller {
            table,
            records,
            sources,
            replica,
            commands,
            views,
            with,
            server: None,
            snapshot: None,
            names: Arc::default(),
            governed: HashMap::new(),
            queue: BTreeSet::new(),
            reopen: None,
            told_epoch: None,
            failed_fetches: AbsenceKind::ALL.map(|kind| (kind, 0)).to_vec(),
            trouble: None,
        };
        (controller, view)
    }

    /// Governs until `stop`, then lets another replica lead.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut polls, mut leases) = (interval(POLL_INTERVAL), interval(RENEWAL_INTERVAL));
        for ticks in [&mut polls, &mut leases] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let (mut polling, mut leading) = (FuturesUnordered::new(), FuturesUnordered::new());
        let (mut ticking, mut obeying) = (FuturesUnordered::<Ticking>::new(), FuturesUnordered::new());
        loop {
            let due = self.next_due(ticking.len());
            tokio::select! {
                () = stop.cancelled() => break,
                _ = polls.tick(), if polling.is_empty() => {
                    self.follow_rules();
                    self.open_source();
                    // Whoever has no services shares nothing.
                    if self.names.is_empty() {
                        continue;
                    }
                    let (records, names) = (Arc::clone(&self.records), Arc::clone(&self.names));
                    polling.push(async move { (records.poll(&names).await, names) });
                }
                Some((polled, names)) = polling.next() => self.heard(polled, &names),
                _ = leases.tick(), if leading.is_empty() && !self.names.is_empty() => {
                    let records = Arc::clone(&self.records);
                    leading.push(async move { records.lead().await });
                }
                Some(lease) = leading.next() => self.heard_of_lease(lease),
                () = sleep_until(due) => self.start_due(&mut ticking),
                Some(done) = ticking.next() => self.ticked(done),
                Some(command) = self.commands.recv(), if obeying.len() < COMMANDS_MAX => {
                    let records = Arc::clone(&self.records);
                    obeying.push(async move {
                        let service = Arc::clone(command.service());
                        command.carry_out(&*records).await;
                        service
                    });
                }
                Some(service) = obeying.next() => {
                    // Whoever asks next sees it, and the law hears of it when it has been seen.
                    self.hurry(&service);
                    polls.reset_immediately();
                }
            }
        }
        drop(ticking);
        if self.with.epoch(Instant::now()).is_some()
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
            let service = Arc::new(service.clone());
            let known = before.remove(&service.name);
            let (governor, last, changes) = match known {
                // One that is under way comes back by itself.
                Some(known) => (known.governor, known.last, known.changes),
                // Ticks are spread over the interval, so that ten thousand services don't ask at once.
                None => {
                    let offset = service.interval.mul_f64(number as f64 / services.len() as f64);
                    (Some(Governor::new(Arc::clone(&service), now + offset)), None, Changes::default())
                }
            };
            let place = Governed { service: Arc::clone(&service), governor: None, last, changes, is_urgent: false };
            self.governed.insert(Arc::clone(&service.name), place);
            if let Some(governor) = governor {
                self.put_back(governor);
            }
        }
        // Also when no service is left.
        self.show();
    }

    /// Lets a governor wait for its next tick. One whose service a reload has taken away is forgotten.
    fn put_back(&mut self, mut governor: Governor) {
        let Some(place) = self.governed.get_mut(&governor.service.name) else { return };
        for failure in governor.failures.drain(..) {
            self.failed_fetches.iter_mut().filter(|(kind, _)| *kind == failure).for_each(|(_, count)| *count += 1);
        }
        if place.governor.is_none() {
            governor.follow(&place.service, Instant::now());
            if std::mem::take(&mut place.is_urgent) {
                governor.due = governor.due.min(Instant::now() + SHOWN_AFTER);
            }
            self.queue.insert((governor.due, Arc::clone(&governor.service.name)));
            place.governor = Some(governor);
        }
    }

    /// Makes the source that the rules in force name, if it is another than before or could not be made.
    fn open_source(&mut self) {
        let now = Instant::now();
        let server = self.snapshot.as_ref().and_then(|snapshot| snapshot.rules.prometheus()).cloned();
        if self.server == server && self.reopen.is_none_or(|again| again > now) {
            return;
        }
        let is_first = self.reopen.is_none() || self.server != server;
        self.reopen = None;
        let source = match &server {
            None => Err(no_prometheus()),
            Some(server) => self.sources.open(server).map(Arc::new).map_err(|error| {
                if is_first {
                    tracing::error!("adaptive limits have no signals: {error}");
                }
                self.reopen = Some(now + REOPENED_AFTER);
                Absence::new(AbsenceKind::Unreachable, error)
            }),
        };
        self.server = server;
        let Surroundings { records, seen, lease, .. } = &*self.with;
        let (records, seen, lease) = (Arc::clone(records), Arc::clone(seen), Arc::clone(lease));
        self.with = Arc::new(Surroundings { records, source, seen, lease });
    }

    /// Keeps what a poll told, for this replica's own gates too.
    fn heard(&mut self, polled: Result<Poll, RecordError>, names: &[Arc<str>]) {
        let poll = match polled {
            Ok(poll) => poll,
            Err(error) => {
                if self.trouble.is_none() {
                    tracing::warn!("adaptive limits stand as they are: {error}");
                }
                self.trouble = Some(error.to_string());
                return self.show();
            }
        };
        if self.trouble.take().is_some() {
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
        for name in self.with.seen.heard(names, poll, Instant::now()) {
            self.hurry(&name);
        }
        self.show();
    }

    fn heard_of_lease(&mut self, lease: Result<Lease, RecordError>) {
        match lease {
            Ok(lease) => {
                self.lease(|clock| clock.heard(&lease));
                match lease {
                    Lease::Leader { epoch, .. } if self.told_epoch != Some(epoch) => {
                        self.told_epoch = Some(epoch);
                        tracing::info!(epoch = epoch.number(), "this replica decides about adaptive limits");
                    }
                    Lease::Follower { leader } if self.told_epoch.take().is_some() => {
                        self.forget_decisions();
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

    /// Changes what is known of the lease, for ticks under way too.
    fn lease(&self, change: impl FnOnce(&mut LeaseClock)) {
        change(&mut self.with.lease.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What this replica decided is not what is shown of the services any more.
    fn forget_decisions(&mut self) {
        self.governed.values_mut().for_each(|place| place.last = None);
    }

    /// When the next service is due, if one may start.
    fn next_due(&self, under_way: usize) -> Instant {
        let far = Instant::now() + POLL_INTERVAL;
        if under_way >= TICKS_MAX || self.with.epoch(Instant::now()).is_none() {
            return far;
        }
        self.queue.first().map_or(far, |(due, _)| (*due).min(far))
    }

    /// Starts the ticks that are due, those first that have waited longest.
    fn start_due(&mut self, ticking: &mut FuturesUnordered<Ticking>) {
        let now = Instant::now();
        let Some(epoch) = self.with.epoch(now) else { return };
        while ticking.len() < TICKS_MAX && self.queue.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, name)) = self.queue.pop_first() else { return };
            let governor = self.governed.get_mut(&name).and_then(|place| place.governor.take());
            let Some(mut governor) = governor else { continue };
            let with = Arc::clone(&self.with);
            ticking.push(Box::pin(async move {
                let outcome = governor.tick(epoch, &with).await;
                (governor, outcome)
            }));
        }
    }

    /// Takes a governor back, and hears what came of its tick.
    fn ticked(&mut self, (governor, outcome): TickDone) {
        let name = Arc::clone(&governor.service.name);
        match outcome {
            Outcome::Decided(record) => {
                if let Some(place) = self.governed.get_mut(&name) {
                    if record.decision.is_change() {
                        place.changes.count(record.decision.action);
                    }
                    place.last = Some(record);
                }
            }
            Outcome::NotYet => {}
            Outcome::TooLate => {
                tracing::warn!(service = &*name, "{name}: nothing decided: the lease ran out while it was asked about");
            }
            Outcome::Superseded => tracing::info!(service = &*name, "{name}: its record was changed by another hand"),
            Outcome::Deposed => {
                self.lease(LeaseClock::deposed);
                self.forget_decisions();
                tracing::info!("this replica decides about adaptive limits no more: it has a successor");
                self.told_epoch = None;
            }
            Outcome::Failed(error) => tracing::debug!(service = &*name, "{name}: nothing decided: {error}"),
        }
        self.put_back(governor);
    }

    /// Lets a service be looked at as soon as a poll has shown what an operator did; one that is being looked at, again.
    fn hurry(&mut self, name: &Arc<str>) {
        let Some(place) = self.governed.get_mut(name) else { return };
        let Some(governor) = place.governor.as_mut() else {
            place.is_urgent = true;
            return;
        };
        let soon = Instant::now() + SHOWN_AFTER;
        if governor.due > soon && self.queue.remove(&(governor.due, Arc::clone(name))) {
            governor.due = soon;
            self.queue.insert((soon, Arc::clone(name)));
        }
    }

    /// Shows how things stand.
    fn show(&self) {
        let now = Instant::now();
        let seen = &self.with.seen;
        let at = seen.now(now).unwrap_or_default();
        let service = |name: &Arc<str>| {
            let place = self.governed.get(name)?;
            let standing = seen.standing(name).unwrap_or_default();
            let service = Arc::clone(&place.service);
            Some(ServiceView {
                limit: standing.gate.map_or(service.first_limit(), |gate| gate.limit_at(at)),
                generation: standing.gate.map_or(0, |gate| gate.governed.generation),
                rates: seen.lately(&service, at),
                hand: standing.hand.filter(|hand| hand.is_on(at)),
                last: place.last.clone(),
                changes: place.changes,
                service,
            })
        };
        self.views.send_replace(Arc::new(ControllerView {
            at,
            replica: self.replica.clone(),
            leader: seen.leader(),
            epoch: self.with.epoch(now),
            replicas: seen.replicas(),
            trouble: self.trouble.clone(),
            failed_fetches: self.failed_fetches.clone(),
            services: self.names.iter().filter_map(service).collect(),
        }));
    }
}

fn no_prometheus() -> Absence {
    Absence::new(AbsenceKind::Unreachable, "no rule file names a Prometheus")
}
