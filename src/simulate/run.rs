//! The law over the plant, closed loop.

use std::collections::VecDeque;

use super::plant::{Chance, Course, Gate, Metrics, MetricsTerms, Service, ServiceTerms};
use crate::clock::Timestamp;
use crate::control::law::{Action, Admitted, Decision, Law, Observation, State, advance, windows};
use crate::rules::service::ServiceMode;
use crate::signal::Sample;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The law of the service.
    pub law: Law,
    /// Whether the limit is enforced.
    pub mode: ServiceMode,
    /// How the service behaves.
    pub service: ServiceTerms,
    /// How its metrics come about.
    pub metrics: MetricsTerms,
    /// Requests that clients would make in a second, retries left out, over time.
    pub demand: Course,
    /// Length in seconds.
    pub length: u32,
    /// From when to when something is wrong, in seconds: what measures are taken of.
    pub disturbance: (f64, f64),
    /// Chance.
    pub seed: u64,
}

/// One second of a run. Counts are of that second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Second {
    /// When it began, in seconds.
    pub at: f64,
    /// Requests that clients made, retries left out.
    pub demand: f64,
    /// Requests with retries.
    pub offered: f64,
    /// Those that passed the gate.
    pub admitted: f64,
    /// Answers that clients could use.
    pub good: f64,
    /// Answers, failed ones included.
    pub answered: f64,
    /// Answers that were of no use: failed, or too late.
    pub bad: f64,
    /// Answers that were slow, as the metrics have it.
    pub slow: f64,
    /// Mean time of an answer in seconds.
    pub latency: f64,
    /// The limit that was enforced.
    pub limit: f64,
    /// What the service can do in such a second when it is treated well.
    pub capacity: f64,
    /// What the service could do in this one.
    pub left: f64,
    /// What fails whatever the load, as a share.
    pub errors: f64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Each tick's decision and its second.
    pub decisions: Vec<(f64, Decision)>,
}

/// The present of second 0: any instant will do.
const EPOCH_S: f64 = 1_000_000.0;

/// Our own counts are kept this long: the longest window.
const KEPT_S: usize = 700;

/// Rates of our own are taken over this long at least, in seconds.
const OWN_S: f64 = 5.0;

/// The instant of a second.
pub(super) fn instant(seconds: f64) -> Timestamp {
    Timestamp::from_micros(((EPOCH_S + seconds) * 1e6) as u64)
}

/// Runs a scenario to its end. The same scenario gives the same run.
#[must_use]
pub fn run(scenario: &Scenario) -> Run {
    let Scenario { law, mode, demand, length, .. } = scenario;
    let mut chance = Chance::new(scenario.seed);
    let mut service = Service::new(scenario.service.clone());
    let mut metrics = Metrics::new(scenario.metrics.clone());
    let mut state = State::start(law, instant(0.0));
    let mut gate = Gate::new(enforced(&state, law, *mode));
    // Limits on their way to the gate, with the second from which they hold.
    let mut coming: VecDeque<(f64, f64)> = VecDeque::new();
    let mut own = Own::default();
    let (mut retried, mut next_tick) = (0.0, law.interval);
    let mut limit = enforced(&state, law, *mode);
    let mut run = Run { seconds: Vec::with_capacity(*length as usize), decisions: Vec::new() };

    for second in 0..*length {
        let at = f64::from(second);
        while let Some((_, new)) = coming.front().copied().filter(|(from, _)| *from <= at) {
            coming.pop_front();
            limit = new;
            gate.set_limit(limit);
        }
        let asked = chance.poisson(demand.at(at));
        let offered = asked + chance.poisson(retried);
        let admitted = gate.admit(offered);
        let outcome = service.serve(at, (admitted, admitted < offered), &mut chance);
        retried = outcome.retried;
        let end = at + 1.0;
        metrics.count(end, &outcome, &mut chance);
        own.count(offered, admitted);
        run.seconds.push(Second {
            at,
            demand: asked,
            offered,
            admitted,
            good: outcome.good,
            answered: outcome.answered,
            bad: (outcome.answered - outcome.good).max(0.0),
            slow: outcome.slow,
            latency: outcome.latency,
            limit,
            capacity: scenario.service.capacity.at(at),
            left: outcome.capacity,
            errors: scenario.service.errors.at(at),
        });
        if end >= next_tick {
            next_tick += law.interval;
            let seen = observe(&state, law, &metrics, &own, end);
            let (next, decision) = advance(*mode, None, &state, law, &seen, instant(end));
            if next.limit() != state.limit() {
                coming.push_back((end + law.propagation, enforced(&next, law, *mode)));
            }
            state = next;
            run.decisions.push((end, decision));
        }
    }
    run
}

/// What the gate lets pass: where nothing is enforced there is none, and a billion a second is as good.
fn enforced(state: &State, law: &Law, mode: ServiceMode) -> f64 {
    match mode {
        ServiceMode::Enforce => state.limit(),
        ServiceMode::Off => law.max,
        ServiceMode::Observe => 1e9,
    }
}

fn observe(state: &State, law: &Law, metrics: &Metrics, own: &Own, now: f64) -> Observation {
    let lately = law.interval.max(OWN_S);
    let lengths = windows(state, law, instant(now));
    let admitted = |length: std::time::Duration| own.admitted(length.as_secs_f64());
    let sample = lengths.map(|windows| {
        let oldest = 2.0 * law.scrape + law.interval;
        let counts = |length: std::time::Duration| metrics.window(now, length.as_secs_f64(), oldest);
        Sample::of(instant(now), windows, counts)
    });
    let admitted_in = lengths.map_or(Admitted::default(), |windows| Admitted::over(&windows, admitted));
    Observation { sample, offered: own.offered(lately), admitted: own.admitted(lately), admitted_in }
}

/// What the gate counted, newest second first.
#[derive(Debug, Default)]
struct Own {
    seconds: VecDeque<(f64, f64)>,
}

// === impl Own ===

impl Own {
    fn count(&mut self, offered: f64, admitted: f64) {
        self.seconds.push_front((offered, admitted));
        self.seconds.truncate(KEPT_S);
    }

    fn offered(&self, length: f64) -> f64 {
        self.rate(length, |(offered, _)| *offered)
    }

    fn admitted(&self, length: f64) -> f64 {
        self.rate(length, |(_, admitted)| *admitted)
    }

    fn rate(&self, length: f64, of: impl Fn(&(f64, f64)) -> f64) -> f64 {
        let seconds = (length.round() as usize).clamp(1, self.seconds.len().max(1));
        self.seconds.iter().take(seconds).map(of).sum::<f64>() / seconds as f64
    }
}

// === impl Run ===

impl Run {
    /// Decisions that moved the limit, or would have.
    pub fn news(&self) -> impl Iterator<Item = &(f64, Decision)> {
        self.decisions.iter().filter(|(_, decision)| decision.is_news())
    }

    /// Cuts and undos of 3 % or more.
    #[must_use]
    pub fn cuts(&self) -> usize {
        let is_cut = |decision: &Decision| {
            matches!(decision.action, Action::Cut | Action::Undo) && decision.to <= 0.97 * decision.from
        };
        self.decisions.iter().filter(|(_, decision)| is_cut(decision)).count()
    }
}
