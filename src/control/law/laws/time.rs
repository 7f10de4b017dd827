//! What doesn't depend on when and how often the law is asked.

use proptest::prelude::*;

use super::super::tests::{absent, law, observe, sample};
use super::super::{Action, Cause, Law, State, step, windows};
use super::any::{EPOCH_S, laws, observation, rates, said, states};
use crate::clock::Timestamp;
use crate::signal::AbsenceKind;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(EPOCH_S * 1_000 + millis)
}

fn with_state() -> impl Strategy<Value = (Law, State)> {
    laws().prop_flat_map(|law| (Just(law.clone()), states(&law)))
}

proptest! {
    // Invariant 5. A drift is no change: it is one small step of a way that takes minutes, and nothing waits for its
    // effect.
    #[test]
    fn between_a_change_and_its_settle_the_limit_is_constant(
        (law, state) in with_state(), millis in 0..30_000_000_u64, first in said(), own in [rates(), rates()],
        later in proptest::collection::vec((0.0..1.0_f64, said(), [rates(), rates()]), 1..6)
    ) {
        let now = at(millis);
        let seen = observation(&state, &law, now, first, own, true);
        let (changed, decision) = step(&state, &law, &seen, now);
        if !decision.is_change() || decision.action == Action::Drift {
            return Ok(());
        }
        for (share, said, own) in later {
            let then = Timestamp::from_micros(now.as_micros() + (share * (law.settle() - 1e-3) * 1e6) as u64);
            prop_assert_eq!(windows(&changed, &law, then), None);
            let seen = observation(&changed, &law, then, said, own, true);
            let (same, decision) = step(&changed, &law, &seen, then);
            prop_assert_eq!(&same, &changed);
            prop_assert_eq!((decision.action, decision.cause), (Action::Hold, Cause::Settling));
            prop_assert!(decision.settle_left.unwrap() <= law.settle());
        }
    }

    #[test]
    fn without_a_newer_answer_nothing_moves(
        (law, state) in with_state(), millis in 0..30_000_000_u64, said in said(), own in [rates(), rates()], later in 0..9_000_u64
    ) {
        let now = at(millis);
        let seen = observation(&state, &law, now, said, own, true);
        let (next, first) = step(&state, &law, &seen, now);
        let (again, decision) = step(&next, &law, &seen, at(millis + later));
        // A sample "of the future" is one of now, so an answer dated later than the clock counts as a new one.
        // And one that came while a change settled has not been read.
        let is_read = first.cause != Cause::Settling && seen.sample.as_ref().is_some_and(|sample| sample.at <= now);
        if !is_read {
            return Ok(());
        }
        prop_assert_eq!(&again, &next, "{}", decision);
    }

    // Invariant 6.
    #[test]
    fn the_same_input_gives_the_same_bytes_also_after_a_restart(
        (law, state) in with_state(), millis in 0..30_000_000_u64, said in said(), own in [rates(), rates()]
    ) {
        let now = at(millis);
        let seen = observation(&state, &law, now, said, own, true);
        let bytes = |state: &State| {
            let (state, decision) = step(state, &law, &seen, now);
            (serde_json::to_string(&state).unwrap(), serde_json::to_string(&decision).unwrap())
        };
        let read: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        prop_assert_eq!(&read, &state);
        prop_assert_eq!(bytes(&read), bytes(&state));
        let (_, decision) = step(&state, &law, &seen, now);
        let text = serde_json::to_string(&decision).unwrap();
        prop_assert_eq!(serde_json::from_str::<super::super::Decision>(&text).unwrap(), decision);
    }

    #[test]
    fn a_clock_that_steps_back_settles_for_at_most_one_settle((law, state) in with_state(), back in 1..20_000_000_u64) {
        let now = at(20_000_000 - back);
        let nothing = observe(None, 0.0, 0.0);
        let (state, _) = step(&state, &law, &nothing, now);
        let settled = Timestamp::from_micros(now.as_micros() + (law.settle() * 1e6).ceil() as u64 + 1_000);
        prop_assert!(windows(&state, &law, settled).is_some());
    }
}

#[test]
fn no_data_holds_then_moves_to_where_the_operator_wants_the_limit() {
    let law = Law { start: 100.0, ..law() };
    let mut state = State::start(&law, at(0));
    let tick = |state: &State, seconds: u64, kind| {
        let sample = absent(state, &law, at(seconds * 1_000), kind);
        step(state, &law, &observe(sample, 90.0, 90.0), at(seconds * 1_000))
    };
    for seconds in (20..600).step_by(5) {
        let (next, decision) = tick(&state, seconds, AbsenceKind::Unreachable);
        assert_eq!((decision.cause, next.limit()), (Cause::NoData, 100.0), "at {seconds} s");
        state = next;
    }
    for seconds in (600..1_200).step_by(5) {
        state = tick(&state, seconds, AbsenceKind::Unreachable).0;
    }
    // After one time constant 1 − 1/e of the way from 100 to 500 is behind it.
    assert!((state.limit() - (100.0 + 400.0 * (1.0 - (-1.0_f64).exp()))).abs() < 3.0, "{}", state.limit());
}

#[test]
fn an_unconfirmed_raise_is_taken_back_and_a_confirmed_one_is_not() {
    let law = Law { start: 100.0, ..law() };
    let start = State::start(&law, at(0));
    let seen = observe(sample(&start, &law, at(100_000), 100.0, 0.0, 0.0), 200.0, 100.0);
    let (raised, decision) = step(&start, &law, &seen, at(100_000));
    assert_eq!(decision.action, Action::Raise);
    let blind = |state: &State, seconds: u64| {
        let now = at(seconds * 1_000);
        step(state, &law, &observe(absent(state, &law, now, AbsenceKind::TimedOut), 200.0, 100.0), now)
    };
    let (undone, decision) = blind(&raised, 115);
    assert_eq!((decision.cause, undone.limit()), (Cause::RaiseUnconfirmed, 100.0));
    let seen = observe(sample(&raised, &law, at(115_000), 60.0, 0.0, 0.0), 60.0, 60.0);
    let (confirmed, _) = step(&raised, &law, &seen, at(115_000));
    assert_eq!(blind(&confirmed, 120).1.cause, Cause::NoData);
}

#[test]
fn no_data_is_as_it_should_be_when_nobody_asks() {
    let law = Law { start: 100.0, ..law() };
    let mut state = State::start(&law, at(0));
    for seconds in (20..3_000).step_by(5) {
        let now = at(seconds * 1_000);
        let seen = observe(absent(&state, &law, now, AbsenceKind::Empty), 0.0, 0.0);
        let (next, decision) = step(&state, &law, &seen, now);
        assert_eq!((decision.cause, next.limit()), (Cause::Idle, 100.0));
        state = next;
    }
}

#[test]
fn other_targets_forget_what_was_learned_and_keep_the_limit() {
    let law = law();
    let mut state = State::start(&law, at(0));
    for seconds in (20..200).step_by(5) {
        let now = at(seconds * 1_000);
        let sample = sample(&state, &law, now, state.limit().min(300.0), 0.2, 0.0);
        state = step(&state, &law, &observe(sample, 300.0, state.limit().min(300.0)), now).0;
    }
    assert!(state.normal.errors > 0.15 && state.bad.is_some(), "{state:?}");
    let other = Law { fingerprint: 2, ..law };
    let (next, _) = step(&state, &other, &observe(None, 300.0, 300.0), at(200_000));
    assert_eq!((next.normal.errors, next.bad, next.trial), (0.0, None, None));
    assert_eq!(next.limit(), state.limit());
}
