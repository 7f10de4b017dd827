//! Random histories: calls of decisions over a few counters of every kind and two gates, whose limits somebody writes.

use proptest::prelude::*;
use tidegate::counters::{Charge, Charges};
use tidegate::descriptor::Hits;
use tidegate::rate::Rate;
use tidegate::window::{Charging, Enforcement, Governed, Policy};

use super::{GATES, bucket, charge, fixed, gate, key, reference, sliding};

/// How long windows are in one history, so that its steps can be of the same order.
pub(super) const WINDOWS: [u64; 6] = [1, 7, 249, 1_000, 60_000, 3_600_000];

/// Three counters per algorithm; their limits, precisions and bursts change from charge to charge.
pub(super) fn any_policy(millis: u64) -> impl Strategy<Value = (u64, Policy)> {
    let limit = || prop_oneof![4 => 0_u32..12, 3 => 60_u32..80, 2 => 900..1_100_u32, 1 => 60_000..80_000_u32, 1 => Just(u32::MAX)];
    let precision = prop_oneof![4 => Just(64_u32), 1 => 1..=20_u32, 1 => Just(249), 1 => Just(1_024)];
    prop_oneof![
        5 => (0_u64..3, limit(), precision).prop_map(move |(key, l, p)| (key, sliding(l, millis, p))),
        2 => (10_u64..12, limit()).prop_map(move |(key, l)| (key, fixed(l, millis))),
        2 => (40_u64..42, limit()).prop_map(move |(key, l)| (key, reference(l))),
        3 => (20_u64..23, limit(), limit()).prop_map(move |(key, l, burst)| (key, bucket(l, millis, burst))),
    ]
}

pub(super) fn any_hits() -> impl Strategy<Value = Hits> {
    prop_oneof![
        6 => Just(Hits::Add(1)),
        4 => (0_u64..6).prop_map(Hits::Add),
        2 => (0_u64..100).prop_map(Hits::Add),
        2 => (30_000_u64..80_000).prop_map(Hits::Add),
        1 => prop_oneof![Just(u64::MAX), Just(1 << 48), Just(u64::from(u32::MAX)), Just(1 << 32)].prop_map(Hits::Add),
        2 => (0_u64..8).prop_map(Hits::GiveBack),
        1 => prop_oneof![Just(u64::MAX), Just(40_000), Just(1_000)].prop_map(Hits::GiveBack),
    ]
}

pub(super) fn any_charges(millis: u64) -> impl Strategy<Value = Charges> {
    let enforcement =
        prop_oneof![4 => Just(Enforcement::Enforced), 1 => Just(Enforcement::Quota), 1 => Just(Enforcement::Shadow)];
    let member = (any_policy(millis), any_hits(), enforcement)
        .prop_map(|((number, policy), hits, enforcement)| Charge { key: key(number), policy, hits, enforcement });
    let charging =
        prop_oneof![3 => Just(Charging::AllOrNothing), 1 => Just(Charging::Each), 1 => Just(Charging::OnlyOver)];
    let members = (prop::collection::vec(member, 0..5), any_gates())
        .prop_filter("something is charged", |(members, gates)| !members.is_empty() || !gates.is_empty());
    (members, charging).prop_map(|((mut members, gates), charging)| {
        members.extend(gates);
        Charges { members: members.into(), charging }
    })
}

/// None, one or both gates, each once.
pub(super) fn any_gates() -> impl Strategy<Value = Vec<Charge>> {
    let hits = prop_oneof![6 => Just(Hits::Add(1)), 1 => any_hits()];
    let observed = prop::bool::weighted(0.2);
    let enforcement = prop_oneof![6 => Just(Enforcement::Enforced), 1 => Just(Enforcement::Shadow)];
    let member = (hits, observed, enforcement);
    (
        prop::collection::vec(member, 2),
        prop_oneof![1 => Just(0..0_usize), 3 => Just(0..1), 1 => Just(1..2), 1 => Just(0..2)],
    )
        .prop_map(|(members, which)| {
            let charge = |(number, (hits, observed, enforcement)): (&u64, (Hits, bool, Enforcement))| Charge {
                enforcement,
                ..charge(*number, gate(*number, observed), hits)
            };
            GATES[which.clone()].iter().zip(members[which].iter().copied()).map(charge).collect()
        })
}

/// What somebody who governs a gate may write, dated now.
pub(super) fn any_governed() -> impl Strategy<Value = Governed> {
    let rate = || {
        prop_oneof![1 => Just(1), 4 => 1..5_000_u64, 4 => 100_000..3_000_000_u64, 1 => Just(Rate::MAX.millis())]
            .prop_map(Rate::from_millis)
    };
    let millis = || prop_oneof![1 => 1..10_u64, 2 => 1..5_000_u64, 1 => 1..10_000_000_u64];
    (rate(), rate(), millis(), millis(), 0..1_000_u64).prop_map(|(limit, toward, hold_ms, decay_ms, generation)| {
        Governed { limit, toward, written_at_ms: 0, hold_ms, decay_ms, generation }
    })
}

/// Steps of time in thousandths of a window; some go back.
pub(super) fn any_step() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0_i64), 6 => 0..40_i64, 3 => 0..400_i64, 2 => 900..1_100_i64, 1 => 2_000..5_000_i64,
        1 => -300..0_i64]
}

/// One call: how much later than the one before, who writes a gate's limit before it, and the decisions.
pub(super) type Call = (i64, u16, Option<(usize, Governed)>, Vec<Charges>);

pub(super) type History = (u64, Vec<Call>);

pub(super) fn any_history() -> impl Strategy<Value = History> {
    prop::sample::select(&WINDOWS[..]).prop_flat_map(|millis| {
        let governed = prop::option::weighted(0.2, (0..2_usize, any_governed()));
        let call = (any_step(), 0..1_000_u16, governed, prop::collection::vec(any_charges(millis), 1..6));
        (Just(millis), prop::collection::vec(call, 1..60))
    })
}
