//! Random laws, states, samples and clocks.

use std::time::Duration;

use proptest::prelude::*;

use super::super::state::{BadRate, Episode, GoodRate, Last, Normal, Trial};
use super::super::tests::law;
use super::super::{Action, Admitted, Cause, Constants, Hand, Law, Observation, StaleTerms, State, windows};
use crate::clock::Timestamp;
use crate::rate::Rate;
use crate::rules::service::LawConstant;
use crate::signal::{Absence, AbsenceKind, Counts, Sample, Windows};

/// When the random histories take place.
pub(super) const EPOCH_S: u64 = 1_000_000;

/// The longest time between two instants of a history, in seconds.
const SPAN_S: u64 = 20_000;

/// A share of the bounds' width, as a rate within them.
fn at_share(law: &Law, share: f64) -> f64 {
    law.within_bounds(law.min * (law.max / law.min).powf(share))
}

prop_compose! {
    pub(super) fn laws()(
        max in prop_oneof![0.4..5.0_f64, 5.0..5_000.0_f64, 1e6..1e9_f64],
        width in 1.1..500.0_f64,
        start in 0.0..=1.0_f64,
        toward in 0.0..=1.0_f64,
        errors in 0.001..0.5_f64,
        latency in proptest::option::of(0.01..0.9_f64),
        interval in 1.0..60.0_f64,
        scrape in 1.0..60.0_f64,
        hold in 1.0..2_000.0_f64,
        decay in 1.0..2_000.0_f64,
        brittle: bool,
    ) -> Law {
        let bounds = Law { min: max / width, max, ..law() };
        let (start, toward) = (at_share(&bounds, start), at_share(&bounds, toward));
        Law { start, errors, latency, interval, scrape, stale: StaleTerms { hold, decay, toward }, brittle, ..bounds }
    }
}

/// The same with numbers that an operator may set.
pub(super) fn tuned_laws() -> impl Strategy<Value = Law> {
    let number = (proptest::sample::select(LawConstant::ALL), 0.0..=1.0_f64);
    (laws(), proptest::collection::vec(number, 0..8)).prop_map(|(law, numbers)| {
        let within = |(constant, share): (LawConstant, f64)| {
            let (lowest, highest) = constant.range();
            (constant, lowest + share * (highest - lowest))
        };
        let numbers: Vec<_> = numbers.into_iter().map(within).collect();
        Law { constants: Constants::with(&numbers), ..law }
    })
}

fn instants() -> impl Strategy<Value = Timestamp> {
    (0..SPAN_S * 1_000).prop_map(|millis| Timestamp::from_millis(EPOCH_S * 1_000 + millis))
}

fn shares() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0_f64]
}

prop_compose! {
    /// A state that a law can have written.
    pub(super) fn states(law: &Law)(
        limit in 0.0..=1.0_f64,
        changed_at in instants(),
        last in prop_oneof![
            Just(Last::None), Just(Last::Cut), Just(Last::Undo), Just(Last::Raise), Just(Last::Restore)
        ],
        before in proptest::option::of(0.0..=1.0_f64),
        confirmed: bool,
        bad in proptest::option::of((0.0..=1.5_f64, instants(), any::<bool>())),
        good in proptest::option::of((0.0..=1.5_f64, instants())),
        normal in (prop_oneof![Just(0.0), 0.0..0.95_f64], prop_oneof![Just(0.0), 0.0..0.95_f64], instants(), 0..9_u32),
        trial in proptest::option::of((shares(), shares(), 0.0..=1.0_f64, 0.0..=1.5_f64, 0..5_u32)),
        usual_latency in proptest::option::of(0.0..10.0_f64),
        (fresh_at, judged_at, unused_since) in (instants(), instants(), proptest::option::of(instants())),
        big: bool,
        law in Just(law.clone()),
    ) -> State {
        State {
            limit: at_share(&law, limit),
            changed_at,
            last,
            before: before.map(|share| at_share(&law, share)),
            confirmed,
            bad: bad.map(|(rate, at, toppled)| BadRate { rate: rate * law.max, at, toppled }),
            good: good.map(|(rate, at)| GoodRate { rate: rate * law.max, at }),
            normal: Normal { errors: normal.0, latency: normal.1, at: normal.2, count: normal.3 },
            trial: trial.map(|(errors, latency, limit, admitted, cuts)| Trial {
                errors, latency, limit: at_share(&law, limit), admitted: admitted * law.max, cuts,
                is_settled: cuts % 2 == 1,
            }),
            usual_latency,
            big,
            fresh_at,
            judged_at,
            unused_since,
            ..State::start(&law, changed_at)
        }
    }
}

/// Any number that a store or a network can give.
pub(super) fn wild() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-1.0),
        Just(1e9),
        Just(9_007_199_254_740_992.0),
        Just(f64::MAX),
        Just(f64::MIN_POSITIVE),
        any::<f64>(),
        0.0..1.0_f64,
        0.0..10_000.0_f64,
    ]
}

prop_compose! {
    /// Whatever a store can hold, refused or not.
    pub(super) fn wild_states(law: &Law)(
        state in states(law),
        numbers in proptest::collection::vec(proptest::option::weighted(0.15, wild()), 14),
        hand in proptest::option::weighted(0.2, prop_oneof![
            Just(Hand::Freeze), (0..2_000_000_u64).prop_map(|millis| Hand::Override(Rate::from_millis(millis)))
        ]),
        version in prop_oneof![9 => Just(None), 1 => any::<u32>().prop_map(Some)],
        episode: bool,
    ) -> State {
        let mut state = state;
        let mut next = numbers.into_iter();
        let mut put = |place: &mut f64| if let Some(number) = next.next().flatten() { *place = number };
        put(&mut state.limit);
        put(&mut state.min);
        put(&mut state.max);
        put(&mut state.normal.errors);
        put(&mut state.normal.latency);
        for place in state.before.iter_mut().chain(&mut state.usual_latency) {
            put(place);
        }
        if let Some(bad) = &mut state.bad { put(&mut bad.rate) }
        if let Some(good) = &mut state.good { put(&mut good.rate) }
        if let Some(trial) = &mut state.trial {
            put(&mut trial.errors);
            put(&mut trial.latency);
            put(&mut trial.limit);
            put(&mut trial.admitted);
        }
        state.version = version.unwrap_or(state.version);
        state.hand = hand;
        let since = state.changed_at;
        state.episode = episode.then_some(Episode { since, action: Action::Cut, cause: Cause::OverTarget, to: 1.0 });
        state
    }
}

prop_compose! {
    fn counts()(
        answered in prop_oneof![Just(0.0), 1.0..300.0_f64, 100.0..1e7_f64, Just(9_007_199_254_740_992.0)],
        failed in shares(), slow in shares(), locally in shares(),
        latency in proptest::option::of(0.0..30.0_f64),
    ) -> Counts {
        let (failed, slow) = (answered * failed, answered * slow);
        Counts { answered, failed, failed_locally: failed * locally, slow, latency }
    }
}

prop_compose! {
    fn wild_counts()(
        answered in wild(), failed in wild(), failed_locally in wild(), slow in wild(),
        latency in proptest::option::of(wild()),
    ) -> Counts {
        Counts { answered, failed, failed_locally, slow, latency }
    }
}

fn answers() -> impl Strategy<Value = Result<Counts, Absence>> {
    let kinds = proptest::sample::select(&AbsenceKind::ALL[..]);
    prop_oneof![
        8 => counts().prop_map(Ok),
        1 => wild_counts().prop_map(Ok),
        1 => kinds.prop_map(|kind| Err(Absence::new(kind, "no answer"))),
    ]
}

/// What a source says: its four windows, and how old the answer is in seconds.
pub(super) type Said = ([Result<Counts, Absence>; 4], f64);

pub(super) fn said() -> impl Strategy<Value = Said> {
    let age = prop_oneof![8 => Just(0.0), 1 => 0.0..200.0_f64, 1 => Just(-5.0)];
    ([answers(), answers(), answers(), answers()], age)
}

pub(super) fn rates() -> impl Strategy<Value = f64> {
    prop_oneof![9 => 0.0..2_000.0_f64, 1 => Just(1e9), 1 => wild()]
}

/// What a controller hands to the law at `now`: what it would ask for, or any windows where it would ask for none.
pub(super) fn observation(
    state: &State,
    law: &Law,
    now: Timestamp,
    (said, age): Said,
    [offered, admitted]: [f64; 2],
    is_asked: bool,
) -> Observation {
    let micros = (now.as_micros() as f64 - age * 1e6).max(0.0) as u64;
    let at = Timestamp::from_micros(micros);
    let seconds = Duration::from_secs;
    let any = Windows { newest: seconds(11), fast: seconds(15), slow: seconds(60), long: seconds(300) };
    let windows = windows(state, law, at).unwrap_or(any);
    let [newest, fast, slow, long] = said;
    let sample = is_asked.then_some(Sample { at, windows, newest, fast, slow, long });
    let admitted_in = Admitted { newest: admitted, fast: admitted, slow: admitted, long: admitted };
    Observation { sample, offered, admitted, admitted_in }
}
