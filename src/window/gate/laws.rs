//! What a gate promises, checked by brute force over random histories.

use proptest::prelude::*;

use super::*;
use crate::window::{Charging, Enforcement, FixedWindow, Member, Policy, decide};

const START_MS: u64 = 1_700_000_000_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(START_MS + millis)
}

fn gate(start: Rate) -> Gate {
    Gate { start, observed: false }
}

fn governed(limit: u64, toward: u64, hold_ms: u64, decay_ms: u64) -> Governed {
    let (limit, toward) = (Rate::from_millis(limit), Rate::from_millis(toward));
    Governed { limit, toward, written_at_ms: START_MS, hold_ms, decay_ms, generation: 1 }
}

fn member(counter: usize, policy: Policy, hits: u64) -> Member {
    Member { counter, policy, hits: Hits::Add(hits), enforcement: Enforcement::Enforced }
}

fn ask(counter: &mut [Counter; 1], gate: Gate, hits: u64, now: Timestamp) -> Tally {
    decide(counter, &[member(0, Policy::Gate(gate), hits)], Charging::AllOrNothing, now)[0]
}

fn state(counter: &Counter) -> GateState {
    match counter {
        Counter::Gate(Some(state)) => *state,
        other => panic!("{other:?} is no gate's"),
    }
}

/// From one request in 1,000 s to a million a second.
fn any_rate() -> impl Strategy<Value = u64> {
    prop_oneof![1..1_000_u64, 1_000..100_000_u64, 100_000..1_000_000_000_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interval_holds_more_than_a_second_and_its_rate(
        limit in any_rate(),
        asked in prop::collection::vec((prop_oneof![4 => 0..5_u64, 2 => 0..2_000_u64, 1 => 0..200_000_u64], 1..4_u64), 1..150),
    ) {
        let gate = gate(Rate::from_millis(limit));
        let mut counter = [Counter::Gate(None)];
        let (mut now_ms, mut passed): (u64, Vec<(u64, u64)>) = (0, Vec::new());
        for (wait, hits) in asked {
            now_ms += wait;
            // More at once than a second's worth takes the whole gate, so that it isn't refused for ever.
            let hits = hits.min((limit / 1_000).max(1));
            let tally = ask(&mut counter, gate, hits, at(now_ms));
            if tally.charged {
                passed.push((now_ms, hits));
                let mut held = 0_u128;
                for (then, hits) in passed.iter().rev() {
                    held += u128::from(*hits) * u128::from(REQUEST);
                    let room = u128::from(burst(gate.start)) + u128::from(limit) * u128::from(now_ms - then);
                    prop_assert!(held <= room, "{held} since {then}, room {room}");
                }
            } else {
                let after = |millis: u64| ask(&mut counter.clone(), gate, hits, at(now_ms + millis)).verdict;
                prop_assert_eq!(after(tally.reset_after_ms), Verdict::Within, "its reset is when it fits");
                prop_assert_eq!(after(tally.reset_after_ms - 1), Verdict::Over, "and no sooner");
            }
        }
    }

    #[test]
    fn what_the_rate_promises_passes(limit in any_rate(), seconds in 1..2_000_u64) {
        let gate = gate(Rate::from_millis(limit));
        let mut counter = [Counter::Gate(None)];
        let burst_requests = burst(gate.start) / REQUEST;
        ask(&mut counter, gate, burst_requests, at(0));
        // As often as a request's worth has come in, one passes.
        let spacing_ms = 1_000_000_u64.div_ceil(limit);
        for number in 1..=seconds.min(300) {
            prop_assert!(ask(&mut counter, gate, 1, at(number * spacing_ms)).charged);
        }
    }

    #[test]
    fn a_charge_in_place_says_and_leaves_what_any_other_does(
        limits in prop::collection::vec((any_rate(), any_rate(), 1..2_000_u64, 1..5_000_u64), 1..5),
        asked in prop::collection::vec((0..1_500_u64, 0..4_u64, any::<bool>()), 1..100),
    ) {
        let mut counter = [Counter::Gate(Some(GateState::new(governed(1_000, 1_000, 1, 1), at(0))))];
        let mut now_ms = 0;
        for (number, (wait, hits, observed)) in asked.into_iter().enumerate() {
            now_ms += wait;
            let gate = Gate { start: Rate::MIN, observed };
            if number % 7 == 0 {
                let (limit, toward, hold, decay) = limits[number % limits.len()];
                let governed = Governed { written_at_ms: START_MS + now_ms, ..governed(limit, toward, hold, decay) };
                counter = [Counter::Gate(Some(state(&counter[0]).governed_by(governed)))];
            }
            let mut packed = counter[0].with_packed(<[u8]>::to_vec);
            let in_place = Policy::Gate(gate).charge_in_place(&packed, Hits::Add(hits), Charging::Each, at(now_ms));
            let tally = ask(&mut counter, gate, hits, at(now_ms));
            prop_assert_eq!(in_place.is_some(), tally.charged);
            if let Some(change) = in_place {
                change.write(&mut packed);
                prop_assert_eq!(change.tally, tally);
                prop_assert_eq!(counter[0].with_packed(<[u8]>::to_vec), packed.clone());
                prop_assert_eq!(counter[0].empty_from_ms(&Policy::Gate(gate)), change.empty_from_ms);
                prop_assert_eq!(GateState::decode(&packed), Some(state(&counter[0])));
            }
        }
    }

    #[test]
    fn what_a_gate_with_room_says_is_what_it_holds(
        limit in any_rate(),
        asked in prop::collection::vec((0..1_500_u64, 0..1_000_u64), 1..50),
    ) {
        let gate = gate(Rate::from_millis(limit));
        let mut counter = [Counter::Gate(None)];
        let mut now_ms = 0;
        for (wait, hits) in asked {
            now_ms += wait;
            let tally = ask(&mut counter, gate, hits.min(limit / 4_000).max(1), at(now_ms));
            if tally.charged {
                let held = state(&counter[0]).tokens / REQUEST;
                let said = Gate::room(Rate::from_millis(tally.used), tally.reset_after_ms);
                prop_assert!(said <= held && held - said <= limit / 1_000_000 + 1, "{said} of {held}");
                let full = ask(&mut counter.clone(), gate, 0, at(now_ms + tally.reset_after_ms));
                prop_assert_eq!(full.reset_after_ms, 0);
            }
        }
    }

    #[test]
    fn an_abandoned_limit_stands_and_then_goes_where_it_should(
        limit in any_rate(), toward in any_rate(), hold in 0..100_000_u64, decay in 1..100_000_u64, ages in prop::collection::vec(0..300_000_u64, 1..20),
    ) {
        let governed = governed(limit, toward, hold, decay);
        let mut ages = ages;
        ages.sort_unstable();
        let mut before = governed.limit;
        for age in ages {
            let now = governed.limit_at(at(age));
            prop_assert!(if limit <= toward { now >= before } else { now <= before }, "{before} then {now}");
            prop_assert!(age > hold || now == governed.limit);
            prop_assert!(age < hold + decay || now == governed.toward);
            before = now;
        }
    }

    #[test]
    fn whatever_stands_under_its_key_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), mark in any::<bool>(), now in any::<u64>()) {
        let mut bytes = bytes;
        if mark && !bytes.is_empty() {
            bytes[0] = MARK;
        }
        if let Some(state) = GateState::decode(&bytes) {
            prop_assert_eq!(&state.to_bytes()[..], &bytes[..]);
            let mut counter = [Counter::Gate(Some(state))];
            ask(&mut counter, gate(Rate::MIN), u64::MAX, Timestamp::from_micros(now));
        }
    }
}

#[test]
fn only_decisions_that_pass_are_admitted_and_only_those_that_gates_refuse_are_counted_as_refused() {
    let full = Policy::FixedWindow(FixedWindow::new(2, crate::limit::Window::from_millis(60_000).unwrap()));
    let gate = Policy::Gate(gate(Rate::from_millis(3_000)));
    for charging in [Charging::AllOrNothing, Charging::Each] {
        let mut counters = [full.empty_counter(), gate.empty_counter()];
        let mut run = |hits, expected: (Verdict, Verdict, u64, u64)| {
            let members = [member(0, full, hits), member(1, gate, 1)];
            let tallies = decide(&mut counters, &members, charging, at(0));
            let (admitted, refused) = match &counters[1] {
                Counter::Gate(Some(state)) => (state.admitted, state.refused),
                _ => (0, 0),
            };
            assert_eq!((tallies[0].verdict, tallies[1].verdict, admitted, refused), expected, "{charging:?}");
        };
        run(1, (Verdict::Within, Verdict::Within, 1, 0));
        run(1, (Verdict::Within, Verdict::Within, 2, 0));
        // The rule is full: the gate, which has room for one, doesn't hear of it.
        run(1, (Verdict::Over, Verdict::Within, 2, 0));
        // A look takes nothing from the rule, and uses the gate up.
        run(
            0,
            if charging == Charging::Each {
                (Verdict::Over, Verdict::Within, 2, 0)
            } else {
                (Verdict::Within, Verdict::Within, 3, 0)
            },
        );
    }
    let mut counters = [gate.empty_counter(), full.empty_counter()];
    let members = [member(1, full, 0), member(0, gate, 1)];
    for (admitted, refused) in [(1, 0), (2, 0), (3, 0), (3, 1), (3, 2)] {
        decide(&mut counters, &members, Charging::AllOrNothing, at(0));
        assert_eq!((state(&counters[0]).admitted, state(&counters[0]).refused), (admitted, refused));
    }
}

#[test]
fn a_cut_takes_the_tokens_of_the_old_limit_with_it() {
    let mut counter = [Counter::Gate(Some(GateState::new(governed(500_000, 500_000, 60_000, 1), at(0))))];
    let gate = gate(Rate::MIN);
    let cut = GateState { governed: governed(2_000, 2_000, 60_000, 1), ..state(&counter[0]) };
    counter = [Counter::Gate(Some(cut))];
    let passed = (0..10).filter(|_| ask(&mut counter, gate, 1, at(5)).charged).count();
    assert_eq!(passed, 2, "a second's worth of the new limit");
}

#[test]
fn an_observed_gate_counts_and_never_refuses() {
    let gate = Gate { start: Rate::MIN, observed: true };
    let mut counter = [Counter::Gate(None)];
    assert!((0..100).all(|_| ask(&mut counter, gate, 1, at(0)).charged));
    assert_eq!(state(&counter[0]).admitted, 100);
}
