//! A controller's tick: the law under a mode and an operator's hand.
//!
//! Where the limit is not the law's to move (mode observe, freeze, override) the law watches. Its first wish opens an
//! *episode* and is told; the state doesn't advance past it, because a second step would be judged against an effect
//! that never came: cuts would always "change nothing". While the same is wanted the episode lasts, and when it isn't
//! any more its length is told.

use super::constants::Law;
use super::decision::{Action, Cause, Decision, Would};
use super::hand::Hand;
use super::observation::Observation;
use super::state::{Episode, Last, State, seconds_between};
use super::step::step;
use crate::clock::Timestamp;
use crate::rules::service::ServiceMode;

/// One tick: what becomes of the state, and why.
///
/// `hand` is what the operator wants at this instant, `None` when nothing or no longer. An override is taken as it
/// comes, also outside the bounds: whoever accepts one from an operator asks for `force`.
#[must_use]
pub fn advance(
    mode: ServiceMode,
    hand: Option<Hand>,
    state: &State,
    law: &Law,
    observation: &Observation,
    now: Timestamp,
) -> (State, Decision) {
    let tick = Tick { law, observation, now };
    let state = state.clone().rewound(now);
    if mode == ServiceMode::Off {
        return tick.off(state);
    }
    if hand != state.hand {
        return match hand {
            Some(hand) => tick.taken(state, hand),
            None => tick.resumed(state),
        };
    }
    let from = state.limit;
    if !matches!(hand, Some(Hand::Override(_))) {
        let fitted = state.clone().fitted(law, now);
        if fitted.limit != from {
            return tick.moved(fitted, from, Cause::BoundsChanged);
        }
    }
    match (hand, mode) {
        (None, ServiceMode::Enforce) => step(&State { episode: None, ..state }, law, observation, now),
        (Some(Hand::Freeze), _) => tick.watched(state, Some(Cause::Frozen)),
        (Some(Hand::Override(_)), _) => tick.watched(state, Some(Cause::Overridden)),
        (None, ServiceMode::Observe | ServiceMode::Off) => tick.watched(state, None),
    }
}

/// What a tick knows besides the state.
struct Tick<'a> {
    law: &'a Law,
    observation: &'a Observation,
    now: Timestamp,
}

// === impl Tick ===

impl Tick<'_> {
    /// The limit stands at its upper bound. Whoever turns the law on again begins there.
    fn off(&self, state: State) -> (State, Decision) {
        let from = state.limit;
        let state = cleared(State { hand: None, ..state }.fitted(self.law, self.now));
        let mut state = State { limit: self.law.max, ..state };
        if state.limit == from {
            let decision = self.decision(&state, Action::Hold, Cause::Off, from);
            return (state, decision);
        }
        state.changed_at = self.now;
        self.moved(state, from, Cause::Off)
    }

    /// The operator's hand is laid on the limit.
    fn taken(&self, state: State, hand: Hand) -> (State, Decision) {
        let from = state.limit;
        let state = cleared(State { hand: Some(hand), ..state });
        match hand {
            Hand::Freeze => self.moved(state.fitted(self.law, self.now), from, Cause::Frozen),
            Hand::Override(rate) => {
                let limit = rate.per_second();
                let changed_at = if limit == from { state.changed_at } else { self.now };
                self.moved(State { limit, changed_at, ..state }, from, Cause::Overridden)
            }
        }
    }

    /// It is taken off. The law goes on from the limit in force, as after a settle.
    fn resumed(&self, state: State) -> (State, Decision) {
        let from = state.limit;
        let state = cleared(State { hand: None, ..state }).fitted(self.law, self.now);
        self.moved(state, from, Cause::Resumed)
    }

    /// The law says what it would do.
    fn watched(&self, state: State, cause: Option<Cause>) -> (State, Decision) {
        let open = state.episode;
        // An override's limit may lie outside the bounds, which a step would take for a change.
        let inside = self.law.within_bounds(state.limit);
        let seen = State { limit: inside, episode: None, ..state.clone() };
        let (next, decided) = step(&seen, self.law, self.observation, self.now);
        let wants = decided.action != Action::Hold || decided.cause == Cause::AtFloor;
        let is_blind = matches!(decided.cause, Cause::NoData | Cause::NothingNew | Cause::Settling | Cause::Filling);
        let mut state = if wants {
            // Not past it; but what was read is read.
            State { judged_at: next.judged_at, fresh_at: next.fresh_at, ..state }
        } else {
            State { limit: state.limit, changed_at: state.changed_at, last: state.last, ..next }
        };
        let episode = if wants {
            let same = open.filter(|open| open.action == decided.action);
            let first = || Episode { since: self.now, action: decided.action, cause: decided.cause, to: decided.to };
            Some(same.unwrap_or_else(first))
        } else {
            open.filter(|_| is_blind)
        };
        state.episode = episode;
        let limit = state.limit;
        let told = episode.or(open);
        let would = told.map(|told| Would {
            action: told.action,
            cause: told.cause,
            to: told.to,
            seconds: seconds_between(told.since, self.now),
            is_over: episode.is_none(),
        });
        let cause = cause.unwrap_or(decided.cause);
        (state, Decision { action: Action::Hold, cause, from: limit, to: limit, wanted: limit, would, ..decided })
    }

    fn moved(&self, state: State, from: f64, cause: Cause) -> (State, Decision) {
        let decision = self.decision(&state, Action::Operator, cause, from);
        (state, decision)
    }

    fn decision(&self, state: &State, action: Action, cause: Cause, from: f64) -> Decision {
        let seen = self.observation.sound();
        Decision::new(state, self.law, self.now, (action, cause), from, state.limit, (seen.offered, seen.admitted))
    }
}

/// Without the law's last action, whose effect is no longer what there is to see.
fn cleared(state: State) -> State {
    State { last: Last::None, before: None, confirmed: true, trial: None, episode: None, unused_since: None, ..state }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{law, observe, sample};
    use super::*;
    use crate::rate::Rate;

    const OBSERVE: ServiceMode = ServiceMode::Observe;
    const ENFORCE: ServiceMode = ServiceMode::Enforce;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1_000)
    }

    /// A state that has settled, seen at 100 s by a service of which this share fails.
    fn seen(mode: ServiceMode, hand: Option<Hand>, state: &State, share: f64, seconds: u64) -> (State, Decision) {
        let law = law();
        let asked = sample(state, &law, at(seconds), 300.0, share, 0.0);
        advance(mode, hand, state, &law, &observe(asked, 300.0, 300.0), at(seconds))
    }

    #[test]
    fn an_observed_episode_is_told_once_and_its_length_at_its_end() {
        let start = State::start(&law(), at(0));
        let (state, first) = seen(OBSERVE, None, &start, 0.4, 100);
        let would = first.would.unwrap();
        assert_eq!((would.action, would.seconds, would.is_over), (Action::Cut, 0.0, false));
        assert!(first.is_news() && !first.is_change());
        assert_eq!(state.limit(), start.limit(), "nothing is enforced");

        let (state, second) = seen(OBSERVE, None, &state, 0.6, 105);
        let would = second.would.unwrap();
        assert_eq!((would.to, would.seconds), (first.would.unwrap().to, 5.0), "the first decision stands");
        assert!(!second.is_news());

        let (state, end) = seen(OBSERVE, None, &state, 0.0, 150);
        let would = end.would.unwrap();
        assert!(would.is_over && would.seconds == 50.0 && end.is_news());
        let (_, after) = seen(OBSERVE, None, &state, 0.0, 155);
        assert!(after.would.is_none() && !after.is_news());
    }

    #[test]
    fn a_service_that_always_fails_is_not_restored_in_observe_mode_as_it_was_never_cut() {
        let mut state = State::start(&law(), at(0));
        for seconds in (100..1_000).step_by(5) {
            let (next, decision) = seen(OBSERVE, None, &state, 0.4, seconds);
            assert_eq!(decision.would.map(|would| would.action), Some(Action::Cut), "at {seconds} s");
            state = next;
        }
        assert_eq!(state.normal, super::super::state::Normal::default());
    }

    #[test]
    fn a_frozen_limit_stays_and_what_would_be_done_is_told() {
        let start = State::start(&law(), at(0));
        let (state, taken) = seen(ENFORCE, Some(Hand::Freeze), &start, 0.4, 100);
        assert_eq!((taken.action, taken.cause), (Action::Operator, Cause::Frozen));
        let (state, tick) = seen(ENFORCE, Some(Hand::Freeze), &state, 0.4, 105);
        assert_eq!((tick.action, tick.cause), (Action::Hold, Cause::Frozen));
        assert_eq!(tick.would.map(|would| would.action), Some(Action::Cut));
        assert_eq!(state.limit(), start.limit());

        let (state, resumed) = seen(ENFORCE, None, &state, 0.4, 110);
        assert_eq!((resumed.cause, state.limit()), (Cause::Resumed, start.limit()));
        let (state, cut) = seen(ENFORCE, None, &state, 0.4, 115);
        assert_eq!(cut.action, Action::Cut, "no further settle is waited for");
        assert!(state.limit() < start.limit());
    }

    #[test]
    fn an_override_holds_also_outside_the_bounds_and_ends_within_them() {
        let law = law();
        let start = State::start(&law, at(0));
        let hand = Some(Hand::Override(Rate::from_per_second(2_000.0)));
        let (state, taken) = seen(ENFORCE, hand, &start, 0.0, 100);
        assert_eq!((taken.action, taken.cause, taken.to), (Action::Operator, Cause::Overridden, 2_000.0));
        assert_eq!(state.clone().accepted(), Some(state.clone()), "it is read back by the next leader");
        let (state, tick) = seen(ENFORCE, hand, &state, 0.4, 200);
        assert_eq!((tick.from, tick.to, tick.cause), (2_000.0, 2_000.0, Cause::Overridden));
        assert_eq!(tick.would.map(|would| would.action), Some(Action::Cut));
        let (state, resumed) = seen(ENFORCE, None, &state, 0.0, 205);
        assert_eq!((resumed.cause, state.limit(), state.changed_at()), (Cause::Resumed, law.max, at(205)));
    }

    #[test]
    fn off_is_the_upper_bound_and_the_law_begins_there_again() {
        let law = Law { start: 100.0, ..law() };
        let start = State::start(&law, at(0));
        let nothing = observe(None, 0.0, 0.0);
        let (state, decision) = advance(ServiceMode::Off, None, &start, &law, &nothing, at(10));
        assert_eq!((decision.cause, decision.from, state.limit()), (Cause::Off, 100.0, law.max));
        let (state, again) = advance(ServiceMode::Off, None, &state, &law, &nothing, at(15));
        assert!(!again.is_news());
        assert_eq!(state.changed_at(), at(10));
    }

    #[test]
    fn bounds_that_moved_take_the_limit_along_and_say_so() {
        let start = State::start(&law(), at(0));
        let tighter = Law { max: 120.0, start: 120.0, ..law() };
        let nothing = observe(None, 0.0, 0.0);
        let (state, decision) = advance(ENFORCE, None, &start, &tighter, &nothing, at(100));
        assert_eq!((decision.cause, decision.from, decision.to), (Cause::BoundsChanged, 500.0, 120.0));
        assert_eq!(state.changed_at(), at(100));
    }
}
