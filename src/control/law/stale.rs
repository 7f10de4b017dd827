//! There is no data: the limit stands, then drifts to where the operator wants it.
//!
//! Holding protects, decaying serves, and nobody can have both while blind. A raise is never made here for its own
//! sake; the way to the operator's value may be one.

use super::decision::{Action, Cause, Decision};
use super::state::{Last, State, seconds_between};
use super::step::Situation;
use crate::signal::{Absence, AbsenceKind};

pub(super) fn without_data(state: State, situation: &Situation<'_>, absence: &Absence) -> (State, Decision) {
    let law = situation.law;
    // Nothing was asked: that says nothing of the raise.
    let was_asked = situation.seen.sample.is_some();
    let state = if was_asked { State { judged_at: situation.judged_at(), ..state } } else { state };
    let (state, decision) = decide(state, situation, absence, was_asked);
    debug_assert!(law.min <= state.limit && state.limit <= law.max, "every way here ends within the bounds");
    (state, Decision { absence: Some(absence.reason.clone()), ..decision })
}

fn decide(state: State, situation: &Situation<'_>, absence: &Absence, was_asked: bool) -> (State, Decision) {
    let law = situation.law;
    let is_nobody = situation.seen.admitted < law.constants.nobody;
    if was_asked && absence.kind == AbsenceKind::Empty && is_nobody {
        return situation.hold(State { fresh_at: situation.now, ..state }, Cause::Idle);
    }
    if was_asked
        && state.last == Last::Raise
        && !state.confirmed
        && let Some(before) = state.before
    {
        let to = before.min(state.limit);
        return situation.change(state, to, (Last::Undo, Action::Undo), Cause::RaiseUnconfirmed);
    }
    if seconds_between(state.fresh_at, situation.now) < law.stale.hold {
        return situation.hold(state, Cause::NoData);
    }
    let share = (law.interval / law.stale.decay).min(1.0);
    let wanted = state.limit + (law.stale.toward - state.limit) * share;
    situation.drift(state, wanted, Cause::NoDataLong)
}
