//! What the memory store promises beyond the contract of all stores: its bounds, its sweeping, its size.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::counters::Charge;
use crate::descriptor::Hits;
use crate::key::CounterKey;
use crate::limit::Window;
use crate::window::{
    Charging, Enforcement, FixedWindow, Policy, Precision, SlidingWindow, TokenBucket, Verdict, decide,
};

const SECOND_MS: u64 = 1_000;

fn key(number: u64) -> CounterKey {
    let mut writer = CounterKey::write(b"t:", 7);
    writer.value(&format!("caller-{number}"));
    writer.finish()
}

fn window(millis: u64) -> Window {
    Window::from_millis(millis).unwrap()
}

fn sliding(limit: u32, millis: u64) -> Policy {
    Policy::SlidingWindow(SlidingWindow::new(limit, window(millis), Precision::DEFAULT))
}

fn charges(members: &[(u64, Policy, Hits)]) -> Charges {
    let member = |(number, policy, hits): &(u64, Policy, Hits)| Charge {
        key: key(*number),
        policy: *policy,
        hits: *hits,
        enforcement: Enforcement::Enforced,
    };
    Charges { members: members.iter().map(member).collect(), charging: Charging::AllOrNothing }
}

fn store(keys_max: usize) -> (MemoryStore, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    (MemoryStore::new(clock.clone(), MemoryLimits { keys_max }), clock)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_answers_as_the_arithmetic_alone_does(
        steps in prop::collection::vec(
            (0..300_u64, prop::collection::vec((0..6_u64, prop_oneof![3 => (0..4_u64).prop_map(Hits::Add), 1 => (0..4_u64).prop_map(Hits::GiveBack)]), 1..5)),
            1..80,
        ),
    ) {
        let (store, clock) = store(100_000);
        let policy = |number: u64| match number % 3 {
            0 => sliding(5, SECOND_MS),
            1 => Policy::FixedWindow(FixedWindow::new(5, window(SECOND_MS))),
            _ => Policy::TokenBucket(TokenBucket::new(5, window(SECOND_MS), 7)),
        };
        let mut model: Vec<Counter> = (0..6).map(|number| policy(number).empty_counter()).collect();
        for (wait, asked) in steps {
            clock.advance(Duration::from_millis(wait));
            if wait > 200 {
                store.sweep();
            }
            let asked: Vec<(u64, Policy, Hits)> = asked.iter().map(|(number, hits)| (*number, policy(*number), *hits)).collect();
            let members: Vec<Member> = asked
                .iter()
                .map(|(number, policy, hits)| Member {
                    counter: *number as usize, policy: *policy, hits: *hits, enforcement: Enforcement::Enforced,
                })
                .collect();
            let expected = decide(&mut model, &members, Charging::AllOrNothing, clock.now());
            prop_assert_eq!(store.decide(&charges(&asked)), expected);
        }
    }
}

#[test]
fn looks_and_refusals_make_no_counter_and_the_last_give_back_drops_it() {
    let (store, _) = store(10);
    let policy = sliding(3, SECOND_MS);
    for hits in [Hits::Add(0), Hits::Add(4), Hits::Add(u64::MAX), Hits::GiveBack(1), Hits::GiveBack(u64::MAX)] {
        store.decide(&charges(&[(1, policy, hits)]));
    }
    store.decide(&charges(&[(1, policy, Hits::Add(1)), (2, policy, Hits::Add(4))]));
    assert!(store.is_empty());
    store.decide(&charges(&[(1, policy, Hits::Add(3))]));
    assert_eq!(store.len(), 1);
    store.decide(&charges(&[(1, policy, Hits::GiveBack(3))]));
    assert!(store.is_empty());
}

#[test]
fn another_algorithm_under_the_same_key_begins_anew() {
    let (store, _) = store(10);
    for policy in [
        sliding(3, SECOND_MS),
        Policy::FixedWindow(FixedWindow::new(3, window(SECOND_MS))),
        Policy::TokenBucket(TokenBucket::new(3, window(SECOND_MS), 3)),
        sliding(3, SECOND_MS),
    ] {
        assert_eq!(store.decide(&charges(&[(1, policy, Hits::Add(2))]))[0].used, 2);
    }
}

#[test]
fn the_sweep_drops_what_is_over_and_nothing_else() {
    let (store, clock) = store(100_000);
    for number in 0..10_000 {
        let millis = if number % 2 == 0 { SECOND_MS } else { 60 * SECOND_MS };
        store.decide(&charges(&[(number, sliding(3, millis), Hits::Add(1))]));
    }
    assert_eq!(store.len(), 10_000);
    assert_eq!((0..60).map(|_| store.sweep()).sum::<usize>(), 0);
    clock.advance(Duration::from_millis(2 * SECOND_MS));
    assert_eq!((0..60).map(|_| store.sweep()).sum::<usize>(), 5_000, "a minute of sweeps passes over everything");
    assert_eq!(store.len(), 5_000);
    assert_eq!(store.decide(&charges(&[(1, sliding(3, 60 * SECOND_MS), Hits::Add(0))]))[0].used, 1);
}

#[test]
fn a_full_store_forgets_the_emptiest_and_says_so() {
    let (store, clock) = store(1_000);
    // A tenth of the counters is nearly used up, the others are hardly used.
    for number in 0..1_000 {
        let hits = if number % 10 == 0 { 90 } else { 1 };
        store.decide(&charges(&[(number, sliding(100, 60 * SECOND_MS), Hits::Add(hits))]));
    }
    assert_eq!((store.len(), store.evictions()), (1_000, 0));
    for number in 1_000..1_500 {
        store.decide(&charges(&[(number, sliding(100, 60 * SECOND_MS), Hits::Add(1))]));
    }
    assert_eq!((store.len(), store.evictions()), (1_000, 500));
    let used = |number| store.decide(&charges(&[(number, sliding(100, 60 * SECOND_MS), Hits::Add(0))]))[0].used;
    assert!((0..100).filter(|number| used(number * 10) == 90).count() >= 98, "nearly used up ones are kept");
    // What is over makes room without a loss.
    clock.advance(Duration::from_secs(200));
    for number in 2_000..2_900 {
        store.decide(&charges(&[(number, sliding(100, 60 * SECOND_MS), Hits::Add(1))]));
    }
    assert_eq!(store.len(), 1_000);
    assert!(store.evictions() <= 520, "only where none of the few looked at was over");
}

#[test]
fn the_bound_on_keys_holds_whatever_it_is() {
    for keys_max in [0, 1, 2, 1_023, 2_500, 5_000] {
        let (store, _) = store(keys_max);
        for number in 0..6_000 {
            store.decide(&charges(&[(number, sliding(3, 60 * SECOND_MS), Hits::Add(1))]));
        }
        assert!(store.len() <= keys_max.max(1));
        assert!(store.len() * 2 >= keys_max);
    }
}

#[test]
fn a_counter_is_small() {
    let (full, clock) = store(1_000_000);
    let (store, _) = store(1_000_000);
    let policy = sliding(1_000, 64 * SECOND_MS);
    let per_counter = |store: &MemoryStore| {
        let bytes: usize = store.shards.iter().map(|shard| lock(shard).allocated_bytes()).sum();
        bytes / store.len()
    };
    for number in 0..60_000 {
        store.decide(&charges(&[(number, policy, Hits::Add(1))]));
    }
    assert!(per_counter(&store) <= 120, "{} bytes when hit once", per_counter(&store));
    for _ in 0..64 {
        clock.advance(Duration::from_secs(1));
        for number in 0..3_000 {
            full.decide(&charges(&[(number, policy, Hits::Add(1))]));
        }
    }
    assert!(per_counter(&full) <= 320, "{} bytes when full", per_counter(&full));
}

#[test]
fn threads_that_charge_two_counters_in_opposite_order_admit_exactly_the_limit() {
    let (store, _) = store(100_000);
    let store = Arc::new(store);
    let policy = sliding(1_000, 60 * SECOND_MS);
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let order = if thread % 2 == 0 { [1, 2] } else { [2, 1] };
                let both = charges(&order.map(|number| (number, policy, Hits::Add(1))));
                (0..500).filter(|_| store.decide(&both).iter().all(|tally| tally.verdict == Verdict::Within)).count()
            })
        })
        .collect();
    let admitted: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(admitted, 1_000);
}

#[test]
fn random_seeds_spread_equal_prefixes_over_all_shards() {
    let (store, _) = store(100_000);
    let mut per_shard: HashMap<usize, usize> = HashMap::new();
    for number in 0..64_000_u64 {
        *per_shard.entry(store.shard_of(store.hasher.hash_one(key(number).as_bytes()))).or_default() += 1;
    }
    assert_eq!(per_shard.len(), 64);
    assert!(per_shard.values().all(|keys| (700..1_300).contains(keys)));
}
