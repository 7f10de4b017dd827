//! The leader's hand on one service: ask, judge, write.
//!
//! A governor is taken out for each tick and comes back with what came of it, so a service is never asked about twice at
//! once. What it knows of the service's state is what the store holds: when a write's answer is lost, or the store says
//! that the record is another, it forgets and loads again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::doubt;
use super::law::{Admitted, Cause, Decision, Law, Observation, Recorded, State, advance, prospect, windows};
use super::record::{DecisionRecord, Epoch, LeaseClock, RecordError, RecordStore, Update, Written};
use super::seen::Seen;
use super::source::SignalSource;
use crate::clock::Timestamp;
use crate::rate::Rate;
use crate::rules::service::{Service, ServiceMode, Stale};
use crate::signal::{Absence, AbsenceKind, Sample, Windows};

/// What governs one service.
#[derive(Debug)]
pub(super) struct Governor {
    pub(super) service: Arc<Service>,
    law: Law,
    scrape: Scrape,
    loaded: Option<Loaded>,
    backoff: Backoff,
    /// Why the source had no data when it was asked last.
    absence: Option<Absence>,
    /// What was told of the data last.
    told: Told,
    /// When the windows ended that had data last.
    signal_at: Option<Timestamp>,
    /// The questions since the last tick that had no usable answer.
    pub(super) failures: Vec<AbsenceKind>,
    /// When it decides next.
    pub(super) due: Instant,
}

/// What the log says of the data; what is worse comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// There is some.
    Data,
    /// There is none.
    Absent,
    /// There is, and it is not believed.
    Doubted,
}

/// The record as it was last loaded or written.
#[derive(Debug)]
struct Loaded {
    state: State,
    /// 0 if there is no record.
    generation: u64,
    epoch: Epoch,
}

/// What a decision was made of.
#[derive(Debug, Default)]
struct Basis {
    queries: Vec<String>,
    made_of: Option<Box<Recorded>>,
}

/// The time between two samples of the service's metrics.
#[derive(Debug)]
struct Scrape {
    known: Duration,
    measured: Option<Instant>,
}

/// What a tick has around it.
pub(super) struct Surroundings<R, S> {
    pub(super) records: Arc<R>,
    /// The source, or why there is none.
    pub(super) source: Result<Arc<S>, Absence>,
    /// Whether this replica may decide, as it is renewed.
    pub(super) lease: Arc<Mutex<LeaseClock>>,
    pub(super) seen: Arc<Seen>,
}

// === impl Surroundings ===

impl<R, S> Surroundings<R, S> {
    /// In whose leadership this replica may decide at that instant, if it may.
    pub(super) fn epoch(&self, now: Instant) -> Option<Epoch> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).may_decide(now)
    }
}

/// What came of a tick.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was decided, and what is decided is in force.
    Decided(Arc<DecisionRecord>),
    /// Nothing could be decided yet: the store's time or our own counts are not known.
    NotYet,
    /// The lease ran out while the answers were waited for.
    TooLate,
    /// There is a later leader.
    Deposed,
    /// The record is another than was thought; it is loaded at the next tick.
    Superseded,
    /// The store failed.
    Failed(RecordError),
}

/// The scrape interval that is taken for true until it was measured: Prometheus's own examples have it.
const SCRAPE_UNKNOWN: Duration = Duration::from_secs(15);

/// Time in which a replica leads after another has gone: the lease, and what passes until it is asked for.
const TAKE_OVER: Duration = Duration::from_secs(15);

/// How often the scrape interval is measured, and how often as long as that failed.
const MEASURED_EVERY: Duration = Duration::from_secs(300);
const MEASURED_AGAIN: Duration = Duration::from_secs(15);

// === impl Governor ===

impl Governor {
    pub(super) fn new(service: Arc<Service>, due: Instant) -> Governor {
        let known = service.scrape_interval.unwrap_or(SCRAPE_UNKNOWN);
        let law = Law::of(&service, known);
        let scrape = Scrape { known, measured: None };
        Governor {
            service,
            law,
            scrape,
            loaded: None,
            backoff: Backoff::default(),
            absence: None,
            told: Told::Data,
            signal_at: None,
            failures: Vec::new(),
            due,
        }
    }

    /// Goes on with what a reload made of the service. Bounds that moved are obeyed at once: a gate may stand in the place
    /// of the rule whose limit was lowered.
    pub(super) fn follow(&mut self, service: &Arc<Service>, now: Instant) {
        if self.service.bounds != service.bounds {
            self.due = self.due.min(now);
        }
        if self.service != *service {
            let known = service.scrape_interval.unwrap_or(self.scrape.known);
            self.scrape = Scrape { known, measured: None };
            self.law = Law::of(service, known);
            // What failed may have been what was changed.
            self.backoff = Backoff::default();
        }
        self.service = Arc::clone(service);
    }

    /// One tick: asks, decides, writes.
    pub(super) async fn tick<R: RecordStore, S: SignalSource>(
        &mut self,
        epoch: Epoch,
        with: &Surroundings<R, S>,
    ) -> Outcome {
        self.due = next_due(self.due, self.service.interval, Instant::now());
        let outcome = match self.decide(epoch, with).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        };
        if matches!(outcome, Outcome::Deposed | Outcome::Superseded | Outcome::Failed(_)) {
            self.loaded = None;
        }
        outcome
    }

    async fn decide<R: RecordStore, S: SignalSource>(
        &mut self,
        epoch: Epoch,
        with: &Surroundings<R, S>,
    ) -> Result<Outcome, RecordError> {
        self.measure_scrapes(with).await;
        let Some(begun) = with.seen.now(Instant::now()) else { return Ok(Outcome::NotYet) };
        let is_known = self.loaded.as_ref().is_some_and(|loaded| loaded.epoch == epoch);
        if !is_known && let Some((state, generation)) = self.load(epoch, with, begun).await? {
            let decision = Decision::started(&state, &self.law);
            return self.write(epoch, with, state, generation, decision, Basis::default()).await;
        }
        let Some(Loaded { state, generation, .. }) = &self.loaded else { return Ok(Outcome::NotYet) };
        let (state, generation) = (state.clone(), *generation);
        let lengths = windows(&state, &self.law, begun).filter(|_| self.service.mode != ServiceMode::Off);
        let (sample, queries) = match lengths {
            Some(lengths) => self.ask(with, &lengths, begun).await,
            None => (None, Vec::new()),
        };
        // What was decided is dated when it is decided: the answers may have taken a while.
        let Some(now) = with.seen.now(Instant::now()) else { return Ok(Outcome::NotYet) };
        let Some(observation) = self.observe(with, sample, now) else { return Ok(Outcome::NotYet) };
        let hand = with.seen.hand(&self.service, now);
        let (law, mode) = (self.law.clone(), self.service.mode);
        let judge = |seen: &Observation| advance(mode, hand, &state, &law, seen, now);
        let seen = self.believe(with, observation, now, |seen| judge(seen).1);
        let (next, decision) = judge(&seen);
        let made_of = Recorded { now, hand, scrape: self.law.scrape, state, seen };
        let basis = Basis { queries, made_of: Some(Box::new(made_of)) };
        if with.epoch(Instant::now()) != Some(epoch) {
            return Ok(Outcome::TooLate);
        }
        self.write(epoch, with, next, generation, decision, basis).await
    }

    /// Writes what was decided, tells it, and keeps it if it is in force.
    async fn write<R: RecordStore, S: SignalSource>(
        &mut self,
        epoch: Epoch,
        with: &Surroundings<R, S>,
        state: State,
        known: u64,
        decision: Decision,
        Basis { queries, made_of }: Basis,
    ) -> Result<Outcome, RecordError> {
        let text = serde_json::to_string(&state).map_err(|error| RecordError::Refused { reason: error.to_string() })?;
        let mut record = DecisionRecord {
            at: Timestamp::default(),
            service: self.service.name.to_string(),
            generation: known,
            epoch,
            mode: self.service.mode,
            prospect: prospect(&state, &self.law, &decision),
            decision,
            signal_at: self.signal_at,
            queries,
            doubts: with.source.as_ref().map_or_else(|_| Vec::new(), |source| source.doubts(&self.service)),
            made_of,
        };
        let update = Update {
            service: &self.service.name,
            known,
            state: &text,
            limit: Rate::from_per_second(state.limit()),
            stale: self.stale(),
            decision: &record,
        };
        match with.records.write(epoch, &update).await? {
            Written::Done { generation, at } => {
                (record.generation, record.at) = (generation, at);
                self.loaded = Some(Loaded { state, generation, epoch });
                let is_of_hand = matches!(record.decision.cause, Cause::Frozen | Cause::Overridden);
                let hand = if is_of_hand { with.seen.hand_sentence(&self.service, at) } else { None };
                self.tell(&record, hand);
                Ok(Outcome::Decided(Arc::new(record)))
            }
            Written::Deposed => Ok(Outcome::Deposed),
            Written::Superseded => Ok(Outcome::Superseded),
        }
    }

    /// What becomes of the limit when nobody writes any more: which is not before a few ticks were missed and another
    /// replica has had the time to lead. Who is off stands at its upper bound, governed or not.
    fn stale(&self) -> Stale {
        let Service { stale, interval, bounds, mode, .. } = &*self.service;
        let toward = if *mode == ServiceMode::Off { bounds.max } else { stale.toward };
        Stale { hold: stale.hold.max(*interval * 3 + TAKE_OVER), decay: stale.decay, toward }
    }

    /// Takes over what the store has. Where that is nothing, or so old that the gate has gone its own way meanwhile, a new
    /// state begins: it is given back, with the generation that is known, and is to be written.
    async fn load<R: RecordStore, S: SignalSource>(
        &mut self,
        epoch: Epoch,
        with: &Surroundings<R, S>,
        now: Timestamp,
    ) -> Result<Option<(State, u64)>, RecordError> {
        let name = &*self.service.name;
        let record = with.records.load(name).await?;
        let generation = record.as_ref().map_or(0, |record| record.generation);
        let written_at = record.as_ref().map(|record| record.written_at);
        let state =
            record.and_then(|record| serde_json::from_str::<State>(&record.state).ok()).and_then(State::accepted);
        let abandoned = written_at.is_some_and(|at| now > at.saturating_add(self.stale().hold));
        let (why, start) = match (state, with.seen.standing(name).and_then(|standing| standing.gate)) {
            (Some(_), Some(gate)) if abandoned => (
                "nobody has governed it for a while",
                gate.limit_at(now).per_second().clamp(self.law.min, self.law.max),
            ),
            (Some(state), _) => {
                self.loaded = Some(Loaded { state, generation, epoch });
                return Ok(None);
            }
            (None, _) if generation == 0 => ("nothing is known of it", self.law.start),
            (None, _) => ("its record is unreadable", self.law.start),
        };
        let state = State::start(&Law { start, ..self.law.clone() }, now);
        tracing::info!(service = name, "{name}: starts at {}, {why}", Rate::from_per_second(state.limit()));
        Ok(Some((state, generation)))
    }

    /// Asks the source, unless it failed too often lately: then its last answer stands.
    async fn ask<R, S: SignalSource>(
        &mut self,
        with: &Surroundings<R, S>,
        lengths: &Windows,
        now: Timestamp,
    ) -> (Option<Sample>, Vec<String>) {
        let source = match &with.source {
            Ok(source) => source,
            Err(absence) => return (Some(Sample::absent(now, *lengths, absence)), Vec::new()),
        };
        if let (Some(pause), Some(last)) = (self.backoff.pause(Instant::now()), &self.absence) {
            let reason = format!(
                "{last}; asked {} times in vain, and again in {} s",
                self.backoff.failures(),
                pause.as_secs() + 1
            );
            return (Some(Sample::absent(now, *lengths, &Absence::new(last.kind, reason))), Vec::new());
        }
        let sample = source.sample(&self.service, lengths, now).await;
        let queries = source.questions(&self.service, lengths);
        self.absence = sample.fast.as_ref().err().cloned();
        match &sample.fast {
            Err(absence) => {
                self.failures.push(absence.kind);
                // An empty answer is an answer: a service that nobody asks is not asked about less often.
                if absence.kind == AbsenceKind::Empty {
                    self.backoff.succeeded();
                } else {
                    self.backoff.failed(self.service.interval, Instant::now());
                }
            }
            Ok(_) => self.backoff.succeeded(),
        }
        (Some(sample), queries)
    }

    /// What the law is told: the sample, and our own counts. `None` until two polls have seen the gate.
    fn observe<R, S>(&self, with: &Surroundings<R, S>, sample: Option<Sample>, now: Timestamp) -> Option<Observation> {
        let rates = |length: Duration| with.seen.rates(&self.service.name, now, length);
        let lately = with.seen.lately(&self.service, now)?;
        let admitted = |length: Duration| rates(length).map_or(lately.admitted, |rates| rates.admitted);
        let admitted_in =
            sample.as_ref().map_or_else(Admitted::default, |sample| Admitted::over(&sample.windows, admitted));
        Some(Observation { sample, offered: lately.offered, admitted: lately.admitted, admitted_in })
    }

    /// What is believed of what was seen, held against what passed the gate; `judge` says what would be decided.
    fn believe<R, S>(
        &mut self,
        with: &Surroundings<R, S>,
        observation: Observation,
        now: Timestamp,
        judge: impl Fn(&Observation) -> Decision,
    ) -> Observation {
        let Some(sample) = &observation.sample else { return observation };
        let passed = |length: Duration| {
            let rates = with.seen.rates(&self.service.name, now, length);
            rates.map_or(0.0, |rates| rates.admitted * rates.covered.as_secs_f64())
        };
        let seen = match doubt::contradiction(sample, sample.windows.newest + self.service.flush, passed) {
            Some(doubt) => doubt::believed(observation, &doubt, judge),
            None => observation,
        };
        match seen.sample.as_ref().map(|sample| (sample.at, &sample.fast)) {
            Some((at, Ok(_))) => self.signal_at = Some(at),
            Some((_, Err(absence))) if absence.kind == AbsenceKind::Implausible => self.failures.push(absence.kind),
            _ => {}
        }
        seen
    }

    /// Measures the scrape interval now and then, where the operator doesn't say it.
    async fn measure_scrapes<R, S: SignalSource>(&mut self, with: &Surroundings<R, S>) {
        let now = Instant::now();
        let is_due = self.scrape.measured.is_none_or(|next| next <= now);
        if self.service.scrape_interval.is_some() || self.service.mode == ServiceMode::Off || !is_due {
            return;
        }
        let Ok(source) = &with.source else { return };
        match source.scrape_interval(&self.service).await {
            Some(interval) => {
                if interval != self.scrape.known {
                    self.scrape.known = interval;
                    self.law = Law::of(&self.service, interval);
                }
                self.scrape.measured = Some(now + MEASURED_EVERY);
            }
            None => self.scrape.measured = Some(now + MEASURED_AGAIN),
        }
    }

    /// Logs what is new: each change, and the begin and end of a time without data.
    /// What an operator did is told in the operator's words.
    fn tell(&mut self, record: &DecisionRecord, hand: Option<String>) {
        let decision = &record.decision;
        let name = &*self.service.name;
        let is_blind = matches!(decision.cause, Cause::NoData | Cause::NoDataLong | Cause::RaiseUnconfirmed);
        let sample = record.made_of.as_ref().and_then(|made_of| made_of.seen.sample.as_ref());
        let absence = sample.and_then(|sample| sample.fast.as_ref().err());
        let is_doubted = absence.is_some_and(|absence| absence.kind == AbsenceKind::Implausible);
        // That it is another's data is told also where there was none before.
        let now = if is_doubted { Told::Doubted } else { Told::Absent };
        if is_blind && now > self.told {
            let reason = decision.absence.as_deref().unwrap_or("no reason was given");
            tracing::warn!(service = name, "{name}: no data: {reason}; the limit stands at {}/s", decision.to);
            self.told = now;
        } else if !decision.judged.is_empty() && std::mem::replace(&mut self.told, Told::Data) != Told::Data {
            tracing::info!(service = name, "{name}: there is data again");
        }
        if decision.is_news() {
            tracing::info!(
                service = name,
                action = decision.action.name(),
                from = decision.from,
                to = decision.to,
                "{name}: {decision}{}",
                hand.map(|hand| format!("; {hand}")).unwrap_or_default()
            );
        } else {
            tracing::debug!(service = name, "{name}: {decision}");
        }
    }
}

/// The tick after the one that was due: one interval later, or as many as have passed meanwhile.
fn next_due(due: Instant, interval: Duration, now: Instant) -> Instant {
    let late = now.saturating_duration_since(due);
    let missed = (late.as_nanos() / interval.as_nanos().max(1)).min(u128::from(u32::MAX)) as u32;
    due + interval * (missed.saturating_add(1))
}
