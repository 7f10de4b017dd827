//! What every counter store promises, as one suite that runs over each of them.
//!
//! Windows are a day or a week long here, so that no budget returns while a test runs: whatever the clock, the answers
//! are the same over memory, over Redis and over a Redis Cluster. What depends on the instant is held equal call by call elsewhere, where
//! the script is given the instant.

use std::future::Future;
use std::sync::Arc;

use smallvec::SmallVec;
use tidegate::clock::SystemClock;
use tidegate::counters::any::{AnyStore, InRedis};
use tidegate::counters::memory::{MemoryLimits, MemoryStore};
use tidegate::counters::{Charge, Charges, CounterStore, Tallies};
use tidegate::descriptor::Hits;
use tidegate::key::CounterKey;
use tidegate::limit::{Unit, Window};
use tidegate::window::{Charging, Enforcement, FixedWindow, Policy, Precision, SlidingWindow, TokenBucket, Verdict};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::PATIENCE;
use crate::support::cluster::Cluster;
use crate::support::redis::Redis;
use crate::support::store::redis_store;

/// Each of the three algorithms with the same limit over a week; a bucket of that size refills one token in hours.
fn policies(limit: u32) -> [Policy; 3] {
    let week = Window::from(Unit::Week);
    [
        Policy::SlidingWindow(SlidingWindow::new(limit, week, Precision::DEFAULT)),
        Policy::FixedWindow(FixedWindow::new(limit, week)),
        Policy::TokenBucket(TokenBucket::new(limit, week, limit)),
    ]
}

fn charge(name: &str, policy: Policy, hits: Hits) -> Charge {
    let mut key = CounterKey::write(b"contract:", 1);
    key.value(name);
    // The algorithm belongs to a counter's identity, as in rules.
    key.value(match policy {
        Policy::SlidingWindow(_) => "s",
        Policy::FixedWindow(_) | Policy::ReferenceWindow(_) => "f",
        Policy::TokenBucket(_) => "b",
        Policy::Gate(_) => "g",
    });
    Charge { key: key.finish(), policy, hits, enforcement: Enforcement::Enforced }
}

fn with(enforcement: Enforcement, charge: Charge) -> Charge {
    Charge { enforcement, ..charge }
}

async fn ask(store: &AnyStore, charging: Charging, members: impl IntoIterator<Item = Charge>) -> Tallies {
    let charges = Charges { members: members.into_iter().collect::<SmallVec<_>>(), charging };
    store.charge(&charges, Instant::now() + PATIENCE).await.expect("the store answers")
}

async fn one(store: &AnyStore, name: &str, policy: Policy, hits: Hits) -> (Verdict, bool, u64) {
    let tallies = ask(store, Charging::AllOrNothing, [charge(name, policy, hits)]).await;
    (tallies[0].verdict, tallies[0].charged, tallies[0].used)
}

/// Runs a claim over all stores and all algorithms.
async fn over_all<F: Future<Output = ()>>(limit: u32, claim: impl Fn(AnyStore, Policy) -> F) {
    let memory = Arc::new(MemoryStore::new(SystemClock, MemoryLimits { keys_max: 10_000 }));
    let mut stores = vec![AnyStore::Memory(memory)];
    let redis = Redis::start().await;
    if let Some(redis) = &redis {
        stores.push(AnyStore::Redis(InRedis::One(redis_store(redis).await)));
    }
    let cluster = Cluster::start(3, false).await;
    if let Some(cluster) = &cluster {
        stores.push(cluster.store().await);
    }
    for store in stores {
        for policy in policies(limit) {
            println!("over {store:?} with {policy:?}");
            claim(store.clone(), policy).await;
        }
    }
}

#[tokio::test]
async fn hits_are_admitted_up_to_the_limit_and_no_further() {
    over_all(3, |store, policy| async move {
        for used in 1..=3 {
            assert_eq!(one(&store, "plain", policy, Hits::Add(1)).await, (Verdict::Within, true, used));
        }
        for _ in 0..3 {
            assert_eq!(one(&store, "plain", policy, Hits::Add(1)).await, (Verdict::Over, false, 3));
        }
        assert_eq!(one(&store, "other", policy, Hits::Add(1)).await, (Verdict::Within, true, 1), "another counter");
    })
    .await;
}

#[tokio::test]
async fn a_charge_that_does_not_fit_whole_is_not_charged_in_part() {
    over_all(5, |store, policy| async move {
        assert_eq!(one(&store, "whole", policy, Hits::Add(4)).await, (Verdict::Within, true, 4));
        assert_eq!(one(&store, "whole", policy, Hits::Add(2)).await, (Verdict::Over, false, 4));
        assert_eq!(one(&store, "whole", policy, Hits::Add(1)).await, (Verdict::Within, true, 5));
    })
    .await;
}

#[tokio::test]
async fn looking_charges_nothing_and_is_over_only_above_the_limit() {
    over_all(2, |store, policy| async move {
        assert_eq!(one(&store, "look", policy, Hits::Add(0)).await.0, Verdict::Within);
        assert_eq!(one(&store, "look", policy, Hits::Add(2)).await, (Verdict::Within, true, 2));
        let (verdict, _, used) = one(&store, "look", policy, Hits::Add(0)).await;
        assert_eq!((verdict, used), (Verdict::Within, 2));
    })
    .await;
}

#[tokio::test]
async fn given_back_hits_can_be_used_again_and_never_make_a_debt() {
    over_all(3, |store, policy| async move {
        assert_eq!(one(&store, "back", policy, Hits::GiveBack(5)).await.0, Verdict::Within);
        assert_eq!(one(&store, "back", policy, Hits::Add(3)).await, (Verdict::Within, true, 3));
        assert_eq!(one(&store, "back", policy, Hits::Add(1)).await.0, Verdict::Over);
        assert_eq!(one(&store, "back", policy, Hits::GiveBack(2)).await.2, 1);
        assert_eq!(one(&store, "back", policy, Hits::Add(2)).await, (Verdict::Within, true, 3));
        assert_eq!(one(&store, "back", policy, Hits::GiveBack(u64::MAX)).await.2, 0);
        assert_eq!(one(&store, "back", policy, Hits::Add(3)).await, (Verdict::Within, true, 3));
    })
    .await;
}

#[tokio::test]
async fn hits_above_the_limit_say_that_they_never_pass() {
    over_all(3, |store, policy| async move {
        for hits in [4, 1 << 32, (1 << 53) + 1, u64::MAX] {
            assert_eq!(one(&store, "never", policy, Hits::Add(hits)).await, (Verdict::Never, false, 0), "{hits} hits");
        }
        assert_eq!(one(&store, "never", policy, Hits::Add(3)).await, (Verdict::Within, true, 3));
    })
    .await;
}

#[tokio::test]
async fn a_limit_of_zero_refuses_every_hit() {
    over_all(0, |store, policy| async move {
        assert!(one(&store, "zero", policy, Hits::Add(1)).await.0.is_over());
        assert_eq!(one(&store, "zero", policy, Hits::Add(0)).await.0, Verdict::Within);
    })
    .await;
}

#[tokio::test]
async fn a_refused_decision_is_charged_to_none_of_its_counters() {
    over_all(2, |store, policy| async move {
        one(&store, "full", policy, Hits::Add(2)).await;
        for _ in 0..5 {
            let members = [charge("room", policy, Hits::Add(1)), charge("full", policy, Hits::Add(1))];
            let tallies = ask(&store, Charging::AllOrNothing, members).await;
            assert_eq!((tallies[0].verdict, tallies[0].charged, tallies[0].used), (Verdict::Within, false, 0));
            assert_eq!((tallies[1].verdict, tallies[1].charged, tallies[1].used), (Verdict::Over, false, 2));
        }
        assert_eq!(one(&store, "room", policy, Hits::Add(2)).await, (Verdict::Within, true, 2));
    })
    .await;
}

#[tokio::test]
async fn charging_each_charges_whoever_has_room() {
    over_all(2, |store, policy| async move {
        one(&store, "full", policy, Hits::Add(2)).await;
        let members = [charge("room", policy, Hits::Add(1)), charge("full", policy, Hits::Add(1))];
        let tallies = ask(&store, Charging::Each, members).await;
        assert_eq!((tallies[0].charged, tallies[0].used), (true, 1));
        assert_eq!(tallies[1].verdict, Verdict::Over);
        assert_eq!(one(&store, "room", policy, Hits::Add(1)).await, (Verdict::Within, true, 2));
    })
    .await;
}

#[tokio::test]
async fn a_shadow_neither_refuses_nor_is_charged_when_it_is_over() {
    over_all(2, |store, policy| async move {
        one(&store, "shadow", policy, Hits::Add(2)).await;
        let members =
            [with(Enforcement::Shadow, charge("shadow", policy, Hits::Add(1))), charge("room", policy, Hits::Add(1))];
        let tallies = ask(&store, Charging::AllOrNothing, members).await;
        assert_eq!((tallies[0].verdict, tallies[0].charged, tallies[0].used), (Verdict::Over, false, 2));
        assert_eq!((tallies[1].charged, tallies[1].used), (true, 1));
    })
    .await;
}

#[tokio::test]
async fn quotas_refuse_only_when_all_of_them_are_over() {
    over_all(1, |store, policy| async move {
        let quota = |name| with(Enforcement::Quota, charge(name, policy, Hits::Add(1)));
        one(&store, "first", policy, Hits::Add(1)).await;
        let tallies = ask(&store, Charging::AllOrNothing, [quota("first"), quota("second")]).await;
        assert_eq!((tallies[0].charged, tallies[1].charged), (false, true), "the one with room is charged");
        let with_room = charge("third", policy, Hits::Add(1));
        let tallies = ask(&store, Charging::AllOrNothing, [quota("first"), quota("second"), with_room]).await;
        assert!(tallies.iter().all(|tally| !tally.charged), "now both are over: nothing is charged");
    })
    .await;
}

#[tokio::test]
async fn the_same_counter_twice_in_one_decision_counts_twice() {
    over_all(3, |store, policy| async move {
        let twice = || [charge("twice", policy, Hits::Add(1)), charge("twice", policy, Hits::Add(1))];
        let tallies = ask(&store, Charging::AllOrNothing, twice()).await;
        assert_eq!((tallies[0].used, tallies[1].used), (1, 2));
        let tallies = ask(&store, Charging::AllOrNothing, twice()).await;
        assert_eq!((tallies[0].verdict, tallies[1].verdict), (Verdict::Within, Verdict::Over));
        assert!(tallies.iter().all(|tally| !tally.charged));
        assert_eq!(one(&store, "twice", policy, Hits::Add(1)).await, (Verdict::Within, true, 3));
    })
    .await;
}

#[tokio::test]
async fn concurrent_decisions_on_one_counter_admit_exactly_the_limit() {
    over_all(50, |store, policy| async move {
        let mut asked = JoinSet::new();
        for _ in 0..400 {
            let store = store.clone();
            asked.spawn(async move { one(&store, "crowd", policy, Hits::Add(1)).await.1 });
        }
        let admitted = asked.join_all().await.into_iter().filter(|charged| *charged).count();
        assert_eq!(admitted, 50);
    })
    .await;
}

#[tokio::test]
async fn concurrent_decisions_over_two_counters_keep_all_or_nothing() {
    over_all(40, |store, policy| async move {
        let mut asked = JoinSet::new();
        for index in 0..200 {
            let store = store.clone();
            asked.spawn(async move {
                // In both orders, so that locks taken in the caller's order would be found out.
                let names = if index % 2 == 0 { ["left", "right"] } else { ["right", "left"] };
                let members = names.map(|name| charge(name, policy, Hits::Add(1)));
                let tallies = ask(&store, Charging::AllOrNothing, members).await;
                assert_eq!(tallies[0].charged, tallies[1].charged);
                usize::from(tallies[0].charged)
            });
        }
        assert_eq!(asked.join_all().await.into_iter().sum::<usize>(), 40);
        for name in ["left", "right"] {
            assert_eq!(one(&store, name, policy, Hits::Add(0)).await.2, 40);
        }
    })
    .await;
}

#[tokio::test]
async fn a_lowered_limit_holds_at_once_and_a_raised_one_too() {
    over_all(4, |store, policy| async move {
        one(&store, "moved", policy, Hits::Add(4)).await;
        let index = match policy {
            Policy::SlidingWindow(_) => 0,
            Policy::FixedWindow(_) | Policy::ReferenceWindow(_) => 1,
            Policy::TokenBucket(_) | Policy::Gate(_) => 2,
        };
        assert_eq!(one(&store, "moved", policies(2)[index], Hits::Add(1)).await.0, Verdict::Over);
        assert_eq!(one(&store, "moved", policies(6)[index], Hits::Add(2)).await.0, Verdict::Within);
        assert_eq!(one(&store, "moved", policies(6)[index], Hits::Add(1)).await.0, Verdict::Over);
    })
    .await;
}
