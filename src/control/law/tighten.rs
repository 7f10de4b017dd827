//! Something is bad: take back what we did, or cut, or find that load is not the cause.

use super::constants::Law;
use super::decision::{Action, Cause, Decision};
use super::judge::{Verdict, judge_again};
use super::observation::Reading;
use super::state::{BadRate, Last, State, Trial};
use super::step::{Readings, Situation};
use super::wilson;
use crate::signal::Signal;

/// How sure it is that something is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// For certain.
    Hard,
    /// Likely.
    Soft,
}

/// What is judged, in the end.
#[derive(Debug)]
struct Case {
    reading: Reading,
    verdicts: Vec<Verdict>,
    signal: Signal,
    certainty: Certainty,
    /// Of the capacity, what is left when a queue is to drain within one settle.
    spare: f64,
}

pub(super) fn tighten(
    state: State,
    situation: &Situation<'_>,
    readings: &Readings,
    (mut reading, mut verdicts): (Reading, Vec<Verdict>),
    signal: Signal,
    certainty: Certainty,
) -> (State, Decision) {
    let law = situation.law;
    // A cut is sized by the present: what is certain by a longer window may have changed within it.
    if certainty == Certainty::Hard
        && let Some(newest) = readings.newest
        && newest.length < readings.fast.length
        && newest.counts.answered >= 2.0 * law.constants.min_answers_to_cut
    {
        verdicts = judge_again(&verdicts, law, &newest);
        reading = newest;
    }
    let spare = 1.0 - drain(&state, law, &reading);
    let case = Case { reading, verdicts, signal, certainty, spare };
    let state = State { big: false, unused_since: None, ..state };
    let (state, decision) = case.decide(state, situation, readings.known);
    (state, decision.with_judged(&case.reading, &case.verdicts))
}

/// How much of the completed rate a queue needs to be worked off in one settle; 0 where nothing is known of it.
fn drain(state: &State, law: &Law, reading: &Reading) -> f64 {
    let (Some(latency), Some(usual)) = (reading.counts.latency, state.usual_latency) else { return 0.0 };
    let queued = (latency - usual).max(0.0);
    (law.constants.drain * queued / law.settle().max(law.interval)).min(law.constants.drain_max)
}

// === impl Case ===

impl Case {
    fn decide(&self, state: State, situation: &Situation<'_>, known: f64) -> (State, Decision) {
        let law = situation.law;
        let is_recent = known < law.slow() + law.fast();
        if state.last == Last::Raise
            && is_recent
            && let Some(before) = state.before
        {
            return self.undo(state, situation, before);
        }
        if let Some(trial) = state.trial
            && matches!(state.last, Last::Cut | Last::Undo)
        {
            let worst = self.ratio(Signal::Errors).max(self.ratio(Signal::Latency));
            if known < law.fast() && worst < law.constants.outage {
                return situation.hold(state, Cause::Filling);
            }
            if self.has_changed_nothing(&trial, law) {
                if trial.is_settled || self.is_quick(&state, &trial, law) {
                    return self.restore(state, situation, &trial);
                }
                // The trouble may have begun within the window that the first cut was judged by, so what it was like
                // isn't known well: half of the capacity, seen for a moment, looks like errors that no cut changes. Now
                // it is known.
                let (errors, latency) = (self.ratio(Signal::Errors), self.ratio(Signal::Latency));
                let trial = Trial { errors, latency, is_settled: true, ..trial };
                return self.cut(State { trial: Some(trial), ..state }, situation, is_recent);
            }
        }
        self.cut(state, situation, is_recent)
    }

    /// It was we who did it.
    fn undo(&self, mut state: State, situation: &Situation<'_>, before: f64) -> (State, Decision) {
        let Situation { law, now, .. } = *situation;
        let rate = state.bad.map_or(state.limit, |bad| bad.rate.min(state.limit));
        state.bad = Some(BadRate { rate, at: now, toppled: self.ratio_of_outage() >= law.constants.outage });
        if let Some(good) = &mut state.good {
            good.rate = good.rate.min(before);
        }
        let mut to = before * law.constants.undo;
        if law.brittle && self.certainty == Certainty::Hard {
            to = to.min(law.constants.cut * self.completed());
        }
        // What has drifted meanwhile must not make a raise of it.
        let to = (to * self.spare).min(state.limit);
        situation.change(state, to, (Last::Undo, Action::Undo), Cause::RaiseMadeWorse)
    }

    /// Whether load was taken away and the ratio is what it was.
    fn has_changed_nothing(&self, trial: &Trial, law: &Law) -> bool {
        let constants = &law.constants;
        let (was, is) = (trial.ratio(self.signal), self.ratio(self.signal));
        let tried = if was < constants.outage { constants.tried } else { constants.tried_outage };
        self.verdicts.iter().any(|verdict| verdict.signal == self.signal && was > verdict.target)
            && is >= constants.same * was
            && is < constants.never_normal
            && self.reading.admitted <= tried * trial.admitted
            && (self.signal == Signal::Errors || trial.cuts >= constants.tried_cuts)
    }

    /// Whether answers are as quick as ever while many of them fail, before the cut and after it: an overload is slow.
    fn is_quick(&self, state: &State, trial: &Trial, law: &Law) -> bool {
        if let Some(verdict) = self.verdicts.iter().find(|verdict| verdict.signal == Signal::Latency) {
            let clean = verdict.normal + law.constants.clean * (verdict.threshold - verdict.normal);
            return verdict.ratio.max(trial.latency) <= clean;
        }
        let (Some(latency), Some(usual)) = (self.reading.counts.latency, state.usual_latency) else { return false };
        latency <= law.constants.quick * usual
    }

    /// Load is not the cause: the limit before the cuts is back, and this ratio is normal for a while.
    fn restore(&self, mut state: State, situation: &Situation<'_>, trial: &Trial) -> (State, Decision) {
        let ratio = self.ratio(self.signal).min(trial.ratio(self.signal));
        let answered = self.reading.counts.answered;
        let (_, upper) = wilson::bounds(ratio * answered, answered, situation.law.constants.z_soft);
        state.normal.set(self.signal, upper);
        state.normal.at = situation.now;
        state.normal.count = state.normal.count.saturating_add(1);
        state.trial = None;
        situation.change(state, trial.limit, (Last::Restore, Action::Restore), Cause::CutsChangeNothing)
    }

    fn cut(&self, mut state: State, situation: &Situation<'_>, is_recent: bool) -> (State, Decision) {
        let Situation { law, seen, now } = *situation;
        let constants = &law.constants;
        let is_soft = self.certainty == Certainty::Soft;
        let mut trial = state.trial.unwrap_or_else(|| Trial {
            errors: self.ratio(Signal::Errors),
            latency: self.ratio(Signal::Latency),
            limit: state.limit,
            admitted: self.reading.admitted,
            cuts: 0,
            is_settled: false,
        });
        if state.trial.is_none() {
            if is_soft {
                let (rate, toppled) =
                    state.bad.map_or((state.limit, false), |bad| (bad.rate.min(state.limit), bad.toppled));
                state.bad = Some(BadRate { rate, at: now, toppled });
            } else if !(state.last == Last::Undo && is_recent) {
                let rate = self.reading.admitted.max(seen.admitted);
                state.bad = Some(BadRate { rate, at: now, toppled: false });
            }
        }
        trial.cuts = trial.cuts.saturating_add(1);
        state.trial = Some(trial);
        state.before = None;
        if state.limit <= law.min * 1.001 {
            state.changed_at = now;
            return situation.hold(state, Cause::AtFloor);
        }
        let (wanted, cause) = if is_soft {
            (state.limit * (1.0 - constants.nudge), Cause::SlightlyOverTarget)
        } else {
            let completed = constants.cut * self.completed() * self.spare;
            (completed.min(constants.cut_at_least * state.limit), Cause::OverTarget)
        };
        situation.change(state, wanted, (Last::Cut, Action::Cut), cause)
    }

    /// What the service completed of what was admitted, apart from what fails whatever the load.
    fn completed(&self) -> f64 {
        let errors = self.verdicts.iter().find(|verdict| verdict.signal == Signal::Errors);
        self.reading.admitted * (1.0 - errors.map_or(0.0, Verdict::excess))
    }

    /// A signal's share; 0 if it has no target.
    fn ratio(&self, signal: Signal) -> f64 {
        self.verdicts.iter().find(|verdict| verdict.signal == signal).map_or(0.0, |verdict| verdict.ratio)
    }

    /// The share that says whether the service is down: slowness counts only where it is what is judged.
    fn ratio_of_outage(&self) -> f64 {
        match self.signal {
            Signal::Errors => self.ratio(Signal::Errors),
            Signal::Latency => self.ratio(Signal::Errors).max(self.ratio(Signal::Latency)),
        }
    }
}
