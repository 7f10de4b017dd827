//! `gate: rule`: the gate stands in the place of the one rule that it governs.

use super::*;
use crate::support::eventually;
use tidegate::metrics::RuleTotals;

/// A total of fifteen a second, of which the gate begins with three.
const RULE: &str = "
domain: shop
descriptors:
  - key: service
    value: inventory
    rate_limit: { unit: second, requests_per_unit: 15, name: total }
  - key: other
    rate_limit: { unit: hour, requests_per_unit: 1000 }
  - key: few
    rate_limit: { unit: hour, requests_per_unit: 2 }
prometheus: { url: 'http://127.0.0.1:1', timeout: 1s }
services:
  - name: inventory
    mode: MODE
    gate: rule
    governs: [ { domain: shop, descriptor: [ { service: inventory } ] } ]
    start: 3/s
    signals: { preset: envoy, cluster: inventory }
";

fn rule(mode: &str) -> String {
    RULE.replace("MODE", mode)
}

/// What the rule's own series has counted.
fn counted(door: &Door) -> RuleTotals {
    let snapshot = door.table.load().unwrap();
    snapshot.meter(&snapshot.rules.rules()[0]).counters.totals()
}

/// How many of thirty requests pass.
async fn of_thirty(door: &Door, descriptors: &[Asked]) -> Passed {
    let started = Instant::now();
    let mut count = 0;
    for _ in 0..3 {
        count += of_ten(door, descriptors).await;
    }
    Passed { count, took: started.elapsed() }
}

/// Whether so many of thirty passed a limit of so many a second, with what comes in while they are asked for.
fn is_about(passed: Passed, limit: usize) {
    let most = limit + 9 + limit * passed.took.as_secs() as usize;
    assert!((limit..=most).contains(&passed.count), "{passed:?} of thirty at a limit of {limit} a second");
}

/// Asks until it is refused.
async fn is_refused(door: &Door) -> Decision {
    eventually("one is refused", PATIENCE, async || {
        Some(door.ask(&[INVENTORY]).await).filter(|decision| decision.code == Code::OverLimit)
    })
    .await
}

#[tokio::test]
async fn the_status_is_the_rules_and_carries_the_limit_of_the_moment_and_what_is_left() {
    over_all(&rule("enforce"), ProcessModes::default(), |door| async move {
        let first = door.ask(&[INVENTORY]).await;
        let status = &first.statuses[0];
        let limit = status.current_limit.clone().unwrap();
        assert_eq!((limit.limit.requests_per_unit, limit.limit.window.millis()), (3, 1_000));
        assert_eq!(limit.name.as_deref(), Some("total"));
        assert_eq!((status.rule, status.gate, status.code), (Some(0), None, Code::Ok));
        assert!(status.limit_remaining <= 2, "{}", status.limit_remaining);
        assert!((1..=334).contains(&status.reset_after_ms.unwrap()), "{:?}", status.reset_after_ms);
        assert_eq!(first.passed.as_slice(), [0], "the rule has passed");
        assert!(!first.needs_metadata());
        let refused = is_refused(&door).await;
        let status = &refused.statuses[0];
        assert_eq!((status.rule, status.gate, status.limit_remaining), (Some(0), Some(0), 0));
        assert_eq!(status.current_limit.as_ref().unwrap().name.as_deref(), Some("total"));
        assert!(refused.needs_metadata() && refused.passed.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_rules_metrics_count_what_the_gate_lets_through_and_refuses() {
    over_all(&rule("enforce"), ProcessModes::default(), |door| async move {
        let passed = of_thirty(&door, &[INVENTORY]).await;
        is_about(passed, 3);
        let totals = counted(&door);
        let passed = passed.count as u64;
        assert_eq!((totals.total_hits, totals.within_limit, totals.over_limit), (30, passed, 30 - passed));
    })
    .await;
}

#[tokio::test]
async fn a_request_passes_once_whatever_it_costs_and_nothing_brings_it_back() {
    over_all(&rule("enforce"), ProcessModes::default(), |door| async move {
        let costly = [("service", "inventory", Hits::Add(50)), INVENTORY];
        is_about(of_thirty(&door, &costly).await, 3);
        assert_eq!(counted(&door).total_hits, 30);
        let back = door.ask(&[("service", "inventory", Hits::GiveBack(3))]).await;
        assert_eq!((back.code, back.statuses[0].rule), (Code::Ok, Some(0)));
        assert_eq!((counted(&door).total_hits, counted(&door).negative_hits), (30, 3));
        // Asked in so short a time that the gate itself lets fewer pass; a machine that is held up is asked again.
        eventually("three are asked for in half a second", PATIENCE, async || {
            of_thirty(&door, &[INVENTORY]).await;
            let begun = Instant::now();
            door.ask(&[("service", "inventory", Hits::GiveBack(3))]).await;
            let mut passed = 0;
            for _ in 0..3 {
                passed += usize::from(door.passes(&[INVENTORY]).await);
            }
            let is_quick = begun.elapsed() < Duration::from_millis(500);
            assert!(!is_quick || passed < 3, "what was given back would have let all three pass");
            is_quick.then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_another_rule_refuses_is_not_taken_from_it() {
    over_all(&rule("enforce"), ProcessModes::default(), |door| async move {
        let few = ("few", "x", ONE);
        assert_eq!(of_ten(&door, &[INVENTORY, few]).await, 2, "two an hour");
        let refused = door.ask(&[INVENTORY, few]).await;
        assert_eq!(refused.statuses.iter().map(|status| status.rule).collect::<Vec<_>>(), [Some(0), Some(2)]);
        assert!(door.passes(&[INVENTORY]).await, "there was room for three, of which two were taken");
    })
    .await;
}

#[tokio::test]
async fn what_passes_is_told_in_the_order_of_the_descriptors() {
    over_all(&rule("enforce"), ProcessModes::default(), |door| async move {
        let decision = door.ask(&[INVENTORY, ("other", "x", ONE)]).await;
        assert_eq!(decision.passed.as_slice(), [0, 1]);
    })
    .await;
}

#[tokio::test]
async fn a_limit_that_is_not_enforced_leaves_the_rule_as_it_is() {
    // Off, the gate stands at the highest limit, which is the rule's own; a sliding window is the stricter of the two.
    for mode in ["observe", "off"] {
        over_all(&rule(mode), ProcessModes::default(), |door| async move {
            is_about(of_thirty(&door, &[INVENTORY]).await, 15);
            let status = is_refused(&door).await.statuses[0].clone();
            let limit = status.current_limit.unwrap();
            assert_eq!((limit.limit.requests_per_unit, limit.name.as_deref()), (15, Some("total")), "{mode}");
        })
        .await;
    }
    let quota = ProcessModes { shadow_mode: false, quota_mode: true };
    over_all(&rule("enforce"), quota, |door| async move {
        is_about(of_thirty(&door, &[INVENTORY]).await, 3);
        let refused = is_refused(&door).await;
        assert_eq!((refused.statuses[0].gate, refused.statuses[0].rule), (Some(0), None), "they are two");
    })
    .await;
}

#[tokio::test]
async fn a_limit_that_a_request_brings_takes_the_rules_place_and_not_the_gates() {
    over_all(&rule("enforce"), ProcessModes::default(), |door| async move {
        let own = Some(Limit { requests_per_unit: 1_000, window: Window::from(Unit::Hour) });
        let (mut count, started) = (0, Instant::now());
        for _ in 0..30 {
            let entries = [Entry { key: "service", value: "inventory" }].into_iter().collect();
            let descriptor = Descriptor { entries, hits: ONE, limit_override: own };
            let query = RateQuery::try_new("shop", [descriptor].into_iter().collect()).unwrap();
            let answer = door.limiter.decide(&query, Instant::now() + PATIENCE).await.unwrap();
            count += usize::from(answer.decision.code == Code::Ok);
            assert_eq!(answer.decision.statuses[0].rule, None, "the rule was not asked");
        }
        is_about(Passed { count, took: started.elapsed() }, 3);
    })
    .await;
}

#[tokio::test]
async fn there_is_one_counter_and_it_is_the_gates() {
    let Some(redis) = Redis::start().await else { return };
    let store = AnyStore::Redis(InRedis::One(redis_store(&redis).await));
    let door = Door::new(store.clone(), &rule("enforce"), ProcessModes::default());
    assert!(door.passes(&[INVENTORY]).await);
    assert_eq!(redis.ask("KEYS gates:*").await, "*1");
    assert_eq!(redis.ask("EXISTS gates:{}ginventory").await, ":1");
    let observed = Door::new(store, &rule("observe"), ProcessModes::default());
    assert!(observed.passes(&[INVENTORY]).await);
    assert_eq!(redis.ask("KEYS gates:*").await, "*2", "and then the rule has its own");
}

#[tokio::test]
async fn without_its_store_the_rule_goes_on_with_the_replicas_share() {
    let Some(mut redis) = Redis::start().await else { return };
    let tasks = TaskTracker::new();
    let store = RedisStore::start(connector(&redis), BATCH, &tasks);
    let door = Door::new(AnyStore::Redis(InRedis::One(store.clone())), &rule("enforce"), ProcessModes::default());
    store.reached().wait_for(|reached| *reached).await.unwrap();
    assert!(door.passes(&[INVENTORY]).await);
    redis.stop();
    let (mut refused, mut unanswered) = (0, 0);
    for _ in 0..10 {
        match door.try_ask(&[INVENTORY]).await {
            Ok(decision) => {
                let status = &decision.statuses[0];
                assert_eq!((decision.code, status.rule, status.gate), (Code::OverLimit, Some(0), Some(0)));
                refused += 1;
            }
            Err(_) => unanswered += 1,
        }
    }
    assert!(refused >= 1 && unanswered >= 1, "{unanswered} left to the caller's policy, {refused} refused");
    let totals = counted(&door);
    assert_eq!((totals.total_hits, totals.within_limit, totals.over_limit), (11, 1, refused));
}
