//! One step of the law.
//!
//! ```text
//! settling? ─► hold          data absent? ─► stale          bad, or perhaps bad? ─► tighten
//! near the target? few answers? at the upper bound? unused? ─► hold          else ─► relax
//! ```

use super::constants::Law;
use super::decision::{Action, Cause, Decision};
use super::judge::{Verdict, judge};
use super::observation::{Observation, Reading, believed};
use super::state::{GoodRate, Last, State, seconds_between};
use super::tighten::{self, Certainty};
use super::window::{known_seconds, settle_left};
use super::{relax, stale};
use crate::clock::Timestamp;
use crate::signal::{Absence, AbsenceKind, Counts, Sample};

/// What a step knows besides the state.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    pub(super) law: &'a Law,
    pub(super) seen: &'a Observation,
    pub(super) now: Timestamp,
}

/// The windows of a sample that was accepted.
#[derive(Debug)]
pub(super) struct Readings {
    pub(super) newest: Option<Reading>,
    pub(super) fast: Reading,
    pub(super) slow: Option<Reading>,
    pub(super) long: Option<Reading>,
    /// Seconds before the sample that show the limit in force.
    pub(super) known: f64,
}

/// What a sample is worth.
enum Worth {
    Readings(Box<Readings>),
    Absent(Absence),
    /// Its windows reach back before the last change.
    TooLong,
    /// It is not later than the last one.
    Repeated,
}

/// How much longer than what is known a window may be: they are rounded to nanoseconds on their way.
const ROUNDING: f64 = 1e-3;

/// One step of the law: what becomes of the limit, and why.
///
/// Whatever it is given, the limit that comes out lies within the bounds, and a limit is constant until its effect can
/// be seen.
#[must_use]
pub fn step(state: &State, law: &Law, observation: &Observation, now: Timestamp) -> (State, Decision) {
    let state = state.clone().rewound(now).fitted(law, now);
    let seen = observation.sound();
    let situation = Situation { law, seen: &seen, now };
    if settle_left(&state, law, now).is_some() {
        return situation.hold(state, Cause::Settling);
    }
    match worth(&state, &situation) {
        Worth::TooLong => situation.hold(state, Cause::Settling),
        Worth::Repeated => situation.hold(state, Cause::NothingNew),
        Worth::Absent(absence) => stale::without_data(state, &situation, &absence),
        Worth::Readings(readings) => judged(state, &situation, &readings),
    }
}

fn worth(state: &State, situation: &Situation<'_>) -> Worth {
    let Situation { law, seen, now } = *situation;
    let Some(sample) = &seen.sample else {
        return Worth::Absent(Absence::new(AbsenceKind::Stale, "the metrics were not asked"));
    };
    // A sample of the future is one of now: clocks differ a little.
    let at = sample.at.min(now);
    if at <= state.judged_at {
        return Worth::Repeated;
    }
    let age = seconds_between(at, now);
    let oldest = 2.0 * law.scrape + law.interval;
    if age > oldest {
        let reason = format!("the answer is {age:.0} s old, of which at most {oldest:.0} are believed");
        return Worth::Absent(Absence::new(AbsenceKind::Stale, reason));
    }
    let Some(known) = known_seconds(state, law, at) else { return Worth::TooLong };
    let Sample { windows, newest, fast, slow, long, .. } = sample;
    if windows.long.as_secs_f64().max(windows.fast.as_secs_f64()) > known + ROUNDING {
        return Worth::TooLong;
    }
    let admitted = &seen.admitted_in;
    let reading = |window: &Result<Counts, Absence>, length: std::time::Duration, admitted: f64| {
        let counts = believed(window, law.latency.is_some())?;
        Ok(Reading { counts, admitted, length: length.as_secs_f64() })
    };
    match reading(fast, windows.fast, admitted.fast) {
        Err(absence) => Worth::Absent(absence),
        Ok(fast) => Worth::Readings(Box::new(Readings {
            newest: reading(newest, windows.newest, admitted.newest).ok(),
            fast,
            slow: reading(slow, windows.slow, admitted.slow).ok(),
            long: reading(long, windows.long, admitted.long).ok(),
            known,
        })),
    }
}

/// There is data.
fn judged(state: State, situation: &Situation<'_>, readings: &Readings) -> (State, Decision) {
    let Situation { law, seen, now } = *situation;
    let constants = &law.constants;
    let judged_at = situation.judged_at();
    let mut state = State { fresh_at: now, judged_at, confirmed: true, ..state };

    let is_thin = |reading: &Reading| reading.counts.answered < constants.min_answers_to_cut;
    let (mut reading, mut slow) = (readings.fast, readings.slow.unwrap_or(readings.fast));
    if is_thin(&reading) {
        reading = slow;
        if let Some(long) = readings.long.filter(|_| is_thin(&reading)) {
            (reading, slow) = (long, long);
        }
    }
    let verdicts = judge(&state, law, &reading, &slow);
    let worst = |is: fn(&Verdict) -> bool| verdicts.iter().find(|verdict| is(verdict)).map(|verdict| verdict.signal);
    if let Some(signal) = worst(|verdict| verdict.is_bad) {
        return tighten::tighten(state, situation, readings, (reading, verdicts), signal, Certainty::Hard);
    }
    let (times, more) = constants.refusing;
    let is_refusing = seen.offered > times * seen.admitted + more || seen.admitted > constants.used * state.limit;
    if let Some(signal) = worst(|verdict| verdict.is_over)
        && is_refusing
        && state.limit < law.max
    {
        return tighten::tighten(state, situation, readings, (reading, verdicts), signal, Certainty::Soft);
    }

    // Clean is what is clean beside the normal of the last step: one that followed this sample down would hold fewer
    // failures against the limit where more raise it.
    state = normals_questioned(state, law, now);
    let is_short = is_thin(&reading);
    let is_clean = |verdict: &Verdict| {
        let ratio = if is_short { verdict.ratio.max(verdict.ratio_slow) } else { verdict.ratio };
        let normal = state.normal(verdict.signal);
        ratio <= normal + constants.clean * (verdict.threshold - normal)
    };
    let all_clean = verdicts.iter().all(is_clean);
    state = normals_followed(state, law, &verdicts);
    let hold = |state: State, cause: Cause| {
        let (state, decision) = situation.hold(state, cause);
        (state, decision.with_judged(&reading, &verdicts))
    };
    if !all_clean {
        return hold(state, Cause::NearTarget);
    }
    if reading.counts.answered < constants.min_answers_to_raise {
        return hold(state, Cause::FewAnswers);
    }
    state = learned(state, law, &reading, now);
    if state.limit >= law.max {
        return hold(state, Cause::Open);
    }
    if is_refusing {
        state.unused_since = None;
        let (state, decision) = relax::relax(state, situation);
        return (state, decision.with_judged(&reading, &verdicts));
    }
    let since = *state.unused_since.get_or_insert(now);
    if seconds_between(since, now) <= constants.idle {
        return hold(state, Cause::Unused);
    }
    let wanted = state.limit * (1.0 + constants.drift * law.interval / 60.0);
    let (state, decision) = situation.drift(state, wanted, Cause::UnusedLong);
    (state, decision.with_judged(&reading, &verdicts))
}

/// Learned normals are questioned after a while: what was learned once may have passed.
fn normals_questioned(mut state: State, law: &Law, now: Timestamp) -> State {
    let constants = &law.constants;
    if let Some(times) = state.normal.count.checked_sub(1) {
        let doublings = f64::from(times.min(constants.relearn_doublings));
        if seconds_between(state.normal.at, now) > constants.relearn * doublings.exp2() {
            (state.normal.errors, state.normal.latency, state.normal.at) = (0.0, 0.0, now);
        }
    }
    state
}

/// They follow a falling ratio down.
fn normals_followed(mut state: State, law: &Law, verdicts: &[Verdict]) -> State {
    let constants = &law.constants;
    for verdict in verdicts {
        let normal = state.normal(verdict.signal);
        if normal > 0.0 && verdict.ratio_slow < normal {
            let share = (law.interval / constants.normal_falls).min(1.0);
            let followed = normal + (verdict.ratio_slow - normal) * share;
            let is_none = followed < constants.normal_least * verdict.target;
            state.normal.set(verdict.signal, if is_none { 0.0 } else { followed });
        }
    }
    state
}

/// All is well: how it looks then.
fn learned(mut state: State, law: &Law, reading: &Reading, now: Timestamp) -> State {
    let constants = &law.constants;
    state.trial = None;
    if let Some(latency) = reading.counts.latency {
        let share = (law.interval / constants.usual_latency).min(1.0);
        state.usual_latency = Some(state.usual_latency.map_or(latency, |usual| usual + (latency - usual) * share));
    }
    let is_news = state
        .good
        .is_none_or(|good| reading.admitted >= good.rate || seconds_between(good.at, now) > constants.good_for);
    if is_news {
        state.good = Some(GoodRate { rate: reading.admitted, at: now });
    }
    state
}

// === impl Situation ===

impl Situation<'_> {
    /// The instant of the sample, no later than now.
    pub(super) fn judged_at(&self) -> Timestamp {
        self.seen.sample.as_ref().map_or(self.now, |sample| sample.at.min(self.now))
    }

    /// The limit stays.
    pub(super) fn hold(&self, state: State, cause: Cause) -> (State, Decision) {
        let (from, to) = (state.limit, state.limit);
        let decision = self.decision(&state, Action::Hold, cause, from, to);
        (state, decision)
    }

    /// The limit moves to what is wanted, as far as the bounds let it.
    pub(super) fn change(
        &self,
        state: State,
        wanted: f64,
        (last, action): (Last, Action),
        cause: Cause,
    ) -> (State, Decision) {
        let from = state.limit;
        let state = state.moved(self.law.within_bounds(wanted), last, self.now);
        let decision = self.decision(&state, action, cause, from, wanted);
        (state, decision)
    }

    /// The limit moves a little, which is no change whose effect has to be seen.
    pub(super) fn drift(&self, state: State, wanted: f64, cause: Cause) -> (State, Decision) {
        let from = state.limit;
        let state = State { limit: self.law.within_bounds(wanted), ..state };
        let action = if state.limit == from { Action::Hold } else { Action::Drift };
        let decision = self.decision(&state, action, cause, from, wanted);
        (state, decision)
    }

    fn decision(&self, state: &State, action: Action, cause: Cause, from: f64, wanted: f64) -> Decision {
        Decision::new(state, self.law, self.now, (action, cause), from, wanted, (self.seen.offered, self.seen.admitted))
    }
}
