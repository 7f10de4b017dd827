//! What a limit may be, and when it may rise.

use proptest::prelude::*;

use super::super::state::GoodRate;
use super::super::tests::observe;
use super::super::{Action, Cause, Decision, Hand, Law, Observation, State, advance, step, windows};
use super::any::{EPOCH_S, Said, laws, observation, rates, said, states, tuned_laws, wild_states};
use crate::clock::Timestamp;
use crate::rate::Rate;
use crate::rules::service::ServiceMode;
use crate::signal::{Counts, Sample};

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(EPOCH_S * 1_000 + millis)
}

fn with_state() -> impl Strategy<Value = (Law, State)> {
    laws().prop_flat_map(|law| (Just(law.clone()), states(&law)))
}

/// Ticks: milliseconds since the last, what the source says, offered and admitted, whether it is asked.
fn ticks() -> impl Strategy<Value = Vec<(i64, Said, [f64; 2], bool)>> {
    let tick = (
        prop_oneof![8 => 0..120_000_i64, 1 => 0..2_000_000_i64, 1 => -500_000..0_i64],
        said(),
        [rates(), rates()],
        prop_oneof![9 => Just(true), 1 => Just(false)],
    );
    proptest::collection::vec(tick, 1..12)
}

/// Every number of a decision is one, and its sentence has no `NaN` in it.
fn is_whole(decision: &Decision) -> bool {
    let numbers = [decision.from, decision.to, decision.wanted, decision.offered, decision.admitted];
    let judged = decision.judged.iter();
    let shares = judged.flat_map(|one| [one.ratio, one.locally, one.lower, one.threshold, one.normal, one.window]);
    let rest = [decision.admitted_judged, decision.completed, decision.settle_left].into_iter().flatten();
    // An absence may well name the number that was none.
    let text = Decision { absence: None, ..decision.clone() }.sentence();
    numbers.into_iter().chain(shares).chain(rest).all(f64::is_finite) && !text.contains("NaN") && !text.contains("inf")
}

proptest! {
    // Invariants 1 and 9.
    #[test]
    fn the_limit_is_within_its_bounds_after_every_step_from_whatever_state(
        (law, state) in tuned_laws().prop_flat_map(|law| (Just(law.clone()), wild_states(&law))), ticks in ticks()
    ) {
        let mut now = at(10_000_000);
        let mut state = state.accepted().unwrap_or_else(|| State::start(&law, now));
        for (millis, said, own, is_asked) in ticks {
            now = Timestamp::from_millis(now.as_millis().saturating_add_signed(millis));
            let seen = observation(&state, &law, now, said, own, is_asked);
            let (next, decision) = step(&state, &law, &seen, now);
            prop_assert!(law.min <= next.limit() && next.limit() <= law.max, "{} by {decision:?}", next.limit());
            prop_assert!(is_whole(&decision), "{decision:?}");
            prop_assert_eq!(decision.to, next.limit());
            // What is written is accepted, and read as it was written.
            let text = serde_json::to_string(&next).unwrap();
            let read: Option<State> = serde_json::from_str::<State>(&text).unwrap().accepted();
            prop_assert_eq!(read.as_ref(), Some(&next), "{}", text);
            state = next;
        }
    }

    #[test]
    fn under_any_mode_and_hand_only_an_operator_takes_the_limit_out_of_its_bounds(
        (law, state) in laws().prop_flat_map(|law| (Just(law.clone()), wild_states(&law))), ticks in ticks(),
        hands in proptest::collection::vec((0..3_u8, proptest::option::of(prop_oneof![
            Just(Hand::Freeze), (1..3_000_000_u64).prop_map(|millis| Hand::Override(Rate::from_millis(millis)))
        ])), 12)
    ) {
        let mut now = at(10_000_000);
        let mut state = state.accepted().unwrap_or_else(|| State::start(&law, now));
        for ((millis, said, own, is_asked), (mode, hand)) in ticks.into_iter().zip(hands) {
            now = Timestamp::from_millis(now.as_millis().saturating_add_signed(millis));
            let mode = [ServiceMode::Off, ServiceMode::Observe, ServiceMode::Enforce][usize::from(mode)];
            let seen = observation(&state, &law, now, said, own, is_asked);
            let (next, decision) = advance(mode, hand, &state, &law, &seen, now);
            let is_overridden = matches!(hand, Some(Hand::Override(_))) && mode != ServiceMode::Off;
            prop_assert!(is_overridden || (law.min <= next.limit() && next.limit() <= law.max), "{decision:?}");
            prop_assert!(is_whole(&decision), "{decision:?}");
            prop_assert_eq!(decision.to, next.limit());
            let is_moved_by_law = !matches!(decision.action, Action::Hold | Action::Operator);
            prop_assert!(!is_moved_by_law || (mode == ServiceMode::Enforce && hand.is_none()), "{decision:?}");
            prop_assert!(next.clone().accepted().is_some());
            state = next;
        }
    }

    // Invariants 2 and 3. The exceptions are those of the design: restore, drift when unused, decay.
    #[test]
    fn a_limit_rises_only_on_fresh_clean_answers_after_the_last_change_and_at_most_doubles(
        (law, state) in tuned_laws().prop_flat_map(|law| (Just(law.clone()), states(&law))), millis in 0..30_000_000_u64, said in said(), own in [rates(), rates()], asked: bool
    ) {
        let now = at(millis);
        let seen = observation(&state, &law, now, said, own, asked);
        let (next, decision) = step(&state, &law, &seen, now);
        if next.limit() <= state.limit() {
            return Ok(());
        }
        match (decision.action, decision.cause) {
            (Action::Restore, cause) => {
                prop_assert_eq!(cause, Cause::CutsChangeNothing);
                prop_assert!(next.limit() <= state.trial.unwrap().limit);
            }
            (Action::Drift, Cause::NoDataLong) => prop_assert!(next.limit() <= law.stale.toward * (1.0 + 1e-12)),
            (Action::Raise, _) | (Action::Drift, Cause::UnusedLong) => {
                let sample = seen.sample.as_ref().unwrap();
                prop_assert!(sample.fast.is_ok());
                let begin = sample.at.as_micros() as f64 / 1e6 - sample.windows.fast.as_secs_f64();
                let effect = state.changed_at().as_micros() as f64 / 1e6 + law.propagation + law.flush;
                prop_assert!(begin >= effect, "judged from {begin}, in effect from {effect}");
                prop_assert_eq!(decision.judged.len(), 1 + usize::from(law.latency.is_some()));
                for judged in &decision.judged {
                    prop_assert!(judged.ratio <= judged.threshold && judged.answered >= 20.0 && !judged.is_bad);
                }
                prop_assert!(next.limit() <= 2.0 * state.limit() * (1.0 + 1e-12));
            }
            other => prop_assert!(false, "raised by {other:?}"),
        }
    }

    // Invariant 4. The exception is the restore. An undo is none here: it never ends above the limit in force.
    #[test]
    fn more_failed_or_slow_answers_never_yield_a_higher_limit(
        (law, state) in with_state(), millis in 0..30_000_000_u64, offered in 0.0..3_000.0_f64, admitted in 0.0..3_000.0_f64,
        windows_said in proptest::array::uniform4((
            prop_oneof![1.0..400.0_f64, 400.0..1e6_f64], 0.0..=1.0_f64, 0.0..=1.0_f64, 0.0..=1.0_f64, 0.0..=1.0_f64
        )),
        latency in proptest::option::of(0.0..5.0_f64),
    ) {
        let now = at(millis);
        let said = |worse: bool| windows_said.map(|(answered, failed, slow, more_failed, more_slow)| {
            let share = |least: f64, more: f64| if worse { least + (1.0 - least) * more } else { least };
            // Small shares are where the thresholds are.
            let (failed, slow) = (share(failed.powi(3), more_failed.powi(2)), share(slow.powi(3), more_slow.powi(2)));
            Ok(Counts { answered, failed: answered * failed, failed_locally: 0.0, slow: answered * slow, latency })
        });
        let decide = |worse: bool| {
            let seen = observation(&state, &law, now, (said(worse), 0.0), [offered, admitted], true);
            step(&state, &law, &seen, now)
        };
        let ((well, one), (badly, two)) = (decide(false), decide(true));
        prop_assert!(
            badly.limit() <= well.limit() * (1.0 + 1e-12) || two.action == Action::Restore,
            "{} by {}, {} by {}", well.limit(), one, badly.limit(), two
        );
    }

    // Invariant 7. Rates are scaled by powers of two, which loses nothing.
    #[test]
    fn all_rates_times_a_number_give_the_limits_times_it(
        (law, state) in with_state().prop_filter("samples large enough", |(law, _)| law.max >= 1_000.0 && law.max < 1e5),
        millis in 0..30_000_000_u64, power in 1..10_i32, refusing: bool, admitted in 0.1..1.0_f64,
        shares in proptest::array::uniform4((0.0..1.0_f64, 0.0..1.0_f64)),
    ) {
        let now = at(millis);
        let decide = |times: f64| {
            let law = Law {
                min: law.min * times, max: law.max * times, start: law.start * times,
                stale: super::super::StaleTerms { toward: law.stale.toward * times, ..law.stale }, ..law.clone()
            };
            let mut state = state.clone();
            for rate in [&mut state.limit, &mut state.min, &mut state.max].into_iter().chain(&mut state.before) {
                *rate *= times;
            }
            if let Some(bad) = &mut state.bad { bad.rate *= times }
            if let Some(good) = &mut state.good { good.rate *= times }
            if let Some(trial) = &mut state.trial { (trial.limit, trial.admitted) = (trial.limit * times, trial.admitted * times) }
            let admitted = admitted * 1e4 * times;
            let offered = if refusing { 1.1 * admitted } else { admitted };
            let said = shares.map(|(failed, slow)| {
                let answered = 1e5 * times;
                let (failed, slow) = (answered * failed.powi(3), answered * slow.powi(3));
                Ok(Counts { answered, failed, failed_locally: 0.0, slow, latency: None })
            });
            let seen = observation(&state, &law, now, (said, 0.0), [offered, admitted], true);
            step(&state, &law, &seen, now).0.limit()
        };
        let times = f64::from(power).exp2();
        prop_assert_eq!(decide(1.0) * times, decide(times));
    }

    // Invariant 7, the other half: what the gate counts in.
    #[test]
    fn a_rate_is_converted_both_ways_without_loss(millis in 1..=Rate::MAX.millis()) {
        let rate = Rate::from_millis(millis);
        prop_assert_eq!(Rate::from_per_second(rate.per_second()), rate);
    }

    // Invariant 8: upwards. Beyond the page's count there are at most five: the memory and the way rounded up to whole
    // steps, and the three looks of 3 % that lead across a knee.
    #[test]
    fn with_clean_answers_and_demand_the_limit_reaches_its_upper_bound_in_the_stated_steps(
        (law, state) in with_state().prop_filter("enough answers", |(law, _)| law.min * law.newest() > 1_000.0)
    ) {
        let law = Law { brittle: false, ..law };
        let memory = law.memory(false) / law.settle();
        let most = ((law.max / law.min).ln() / 1.1_f64.ln() + memory).ceil() as usize + 5;
        let settle = (law.settle() * 1e3).ceil() as u64 + 1;
        let mut now = at(21_000_000);
        // A knee is remembered from its instant on, so the longest wait is one that was found just now.
        let mut state = state.rewound(now);
        if let Some(bad) = &mut state.bad { bad.at = now }
        let mut steps = 0;
        while state.limit() < law.max {
            let sample = super::super::tests::sample(&state, &law, now, state.limit(), 0.0, 0.0);
            let seen = observe(sample, state.limit() * 2.0, state.limit());
            let (next, decision) = step(&state, &law, &seen, now);
            prop_assert!(decision.action == Action::Raise || matches!(decision.cause, Cause::AtKnee | Cause::Settling));
            steps += 1;
            prop_assert!(steps <= most, "more than {most} steps: {decision}");
            (state, now) = (next, Timestamp::from_millis(now.as_millis() + settle));
        }
    }

    // Whatever numbers an operator writes under `law:`.
    #[test]
    fn with_any_numbers_windows_grow_and_clean_answers_that_are_held_back_raise_the_limit(
        law in tuned_laws(), good in 0.0..=1.0_f64
    ) {
        let law = Law { start: law.min, latency: None, ..law };
        let (begun, now) = (at(0), at(86_400_000));
        let mut state = State::start(&law, begun);
        state.good = Some(GoodRate { rate: good * law.max, at: now });
        let asked = windows(&state, &law, now).unwrap();
        prop_assert!(asked.newest <= asked.fast && asked.fast <= asked.slow && asked.slow <= asked.long, "{asked:?}");
        let sample = super::super::tests::sample(&state, &law, now, 1e6, 0.0, 0.0);
        let (next, decision) = step(&state, &law, &observe(sample, 2e6, 1e6), now);
        prop_assert!(decision.action == Action::Raise && next.limit() > state.limit(), "{decision}");
    }

    // Invariant 8: a service that certainly fails whatever the load is given back its limit. At the upper bound a
    // violation that is not certain cuts nothing.
    #[test]
    fn errors_that_follow_no_cut_end_in_the_limit_before_it(
        law in laws().prop_filter("enough answers", |law| law.min * law.newest() > 10_000.0 && law.max > 20.0 * law.min),
        share in 0.15..0.45_f64,
    ) {
        let ratio = 1.0 - (1.0 - law.errors) * (1.0 - share);
        let mut state = State::start(&Law { start: law.max, ..law.clone() }, at(0));
        let (mut now, mut restored) = (at(1_000_000), None);
        for _ in 0..40 {
            now = Timestamp::from_millis(now.as_millis() + (law.interval * 1e3) as u64);
            let sample = super::super::tests::sample(&state, &law, now, state.limit(), ratio, 0.0);
            let (next, decision) = step(&state, &law, &observe(sample, law.max, state.limit()), now);
            if decision.action == Action::Restore { restored = Some(next.limit()) }
            prop_assert!(restored.is_none() || next.limit() > law.min, "{decision}");
            state = next;
            // The normal is questioned after a while, and all begins anew.
            if restored.is_some() { break }
            now = Timestamp::from_millis(now.as_millis() + (law.settle() * 1e3) as u64);
        }
        prop_assert_eq!(restored, Some(law.max));
    }

    // Invariant 10.
    #[test]
    fn every_change_names_signal_value_threshold_and_answers_or_why_there_are_none(
        (law, state) in with_state(), millis in 0..30_000_000_u64, said in said(), own in [rates(), rates()]
    ) {
        let now = at(millis);
        let seen = observation(&state, &law, now, said, own, true);
        let (_, decision) = step(&state, &law, &seen, now);
        if !decision.is_change() || decision.action == Action::Operator {
            return Ok(());
        }
        let text = decision.sentence();
        if decision.judged.is_empty() {
            prop_assert!(decision.absence.as_ref().is_some_and(|absence| text.contains(absence)), "{text}");
        } else {
            for word in ["% errors", "answers in", if decision.judged[0].normal > 0.0 { "threshold" } else { "target" }] {
                prop_assert!(text.contains(word), "{word} in {text}");
            }
        }
        prop_assert!(text.contains(" → ") && text.contains(decision.action.name()), "{text}");
    }
}

#[test]
fn an_outage_cuts_to_the_lower_bound_and_the_way_back_doubles() {
    let law = super::super::tests::law();
    let run = |state: &State, share: f64, millis: u64| {
        let sample = super::super::tests::sample(state, &law, at(millis), 300.0, share, 0.0);
        step(state, &law, &observe(sample, 300.0, state.limit().min(300.0)), at(millis))
    };
    let start = State::start(&law, at(0));
    let (state, _) = run(&start, 0.0, 60_000);
    let (mut state, cut) = run(&state, 1.0, 120_000);
    assert_eq!((cut.action, state.limit()), (Action::Cut, law.min));
    let mut limits = Vec::new();
    for millis in (200_000..260_000).step_by(15_000) {
        state = run(&state, 0.0, millis).0;
        limits.push(state.limit().round());
    }
    assert_eq!(limits, [50.0, 100.0, 200.0, 220.0], "twice, up to the rate that was well");
}

/// The type is what it says it is: nothing of a sample is read while it settles.
#[test]
fn windows_and_step_agree_on_when_a_change_has_settled() {
    let law = super::super::tests::law();
    let state = State::start(&law, at(0));
    for millis in (0..30_000).step_by(250) {
        let windows = windows(&state, &law, at(millis));
        let counts = Ok(Counts { answered: 1e4, failed: 9e3, ..Counts::default() });
        let long = windows.unwrap_or(crate::signal::Windows {
            newest: std::time::Duration::from_secs(11),
            fast: std::time::Duration::from_secs(11),
            slow: std::time::Duration::from_secs(11),
            long: std::time::Duration::from_secs(11),
        });
        let [newest, fast, slow] = [counts.clone(), counts.clone(), counts.clone()];
        let sample = Sample { at: at(millis), windows: long, newest, fast, slow, long: counts };
        let seen: Observation = observe(Some(sample), 500.0, 500.0);
        let (_, decision) = step(&state, &law, &seen, at(millis));
        assert_eq!(windows.is_some(), decision.is_change(), "at {millis} ms");
    }
}
