//! All is well, and the limit is what holds traffic back: one step up, towards the knee, or a look past it.

use super::constants::Law;
use super::decision::{Action, Cause, Decision};
use super::state::{BadRate, Last, State, seconds_between};
use super::step::Situation;
use crate::clock::Timestamp;

pub(super) fn relax(mut state: State, situation: &Situation<'_>) -> (State, Decision) {
    let Situation { law, now, .. } = *situation;
    let constants = &law.constants;
    let limit = state.limit;
    // All is well here: this is what a raise, the last one as well, would be taken back to.
    state.before = Some(limit);
    if state.bad.is_some_and(|bad| limit > bad.rate * (1.0 + constants.probe)) {
        // It is well above the rate that was bad: the knee has moved, and nobody knows how far.
        state.bad = None;
        state.big = true;
    }
    let top = top(law, state.bad, now);
    let step = limit * (1.0 + if state.big { constants.big_step } else { constants.step });
    let leap = limit * constants.leap;
    // An operator may have made leaps smaller than steps.
    let (mut to, mut cause) = if leap > step && leap <= state.good.map_or(0.0, |good| good.rate).min(top.rate) {
        (leap, Cause::Leap)
    } else {
        (step, Cause::Step)
    };
    if to > top.rate {
        if limit < 0.98 * top.rate {
            (to, cause) = (top.rate, Cause::UpToKnee);
        } else if top.is_remembered {
            return situation.hold(state, Cause::AtKnee);
        } else {
            (to, cause) = (limit * (1.0 + constants.probe), Cause::Probe);
        }
    }
    situation.change(state, to, (Last::Raise, Action::Raise), cause)
}

/// How far up it is known to go well.
struct Top {
    /// Just below the knee; infinite without one.
    rate: f64,
    /// Whether the knee is so young that it is not looked past.
    is_remembered: bool,
}

fn top(law: &Law, bad: Option<BadRate>, now: Timestamp) -> Top {
    let constants = &law.constants;
    let Some(bad) = bad else { return Top { rate: f64::INFINITY, is_remembered: false } };
    let near = if law.brittle && bad.toppled { constants.near_brittle } else { constants.near };
    let is_remembered = seconds_between(bad.at, now) < law.memory(bad.toppled);
    Top { rate: bad.rate * if is_remembered { near } else { constants.near }, is_remembered }
}
