//! What an adaptive limit does when something is wrong with whoever tells of the service, decides, or keeps the limit.
//!
//! In each test the limit is on its way up: begun low, before a service that bears all that is asked of it. So with a
//! good signal each look is a raise, and a bad one that were believed would show.

use super::shop::{BOUNDS, PATIENCE, Plan, SHIPPED_CLUSTER, Shop};
use super::watch::metric;
use crate::support::eventually;

/// Where a climbing limit begins.
const START: f64 = 30.0;

/// The limit has been raised, so it would be again.
async fn climbs(shop: &Shop) {
    shop.limit_rises_above(START).await;
}

/// The limit is raised again, above where it stands.
async fn climbs_again(shop: &Shop) {
    shop.limit_rises_above(shop.watch.limit().unwrap()).await;
}

/// The log of all replicas.
fn log(shop: &Shop) -> String {
    shop.tidegates.iter().map(|tidegate| tidegate.log()).collect()
}

/// Waits until one of them has logged these words.
async fn is_told(shop: &Shop, words: &str) {
    eventually(&format!("{words:?} is logged"), PATIENCE, async || log(shop).contains(words).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_never_rises_while_prometheus_stalls_and_requests_go_on() {
    let Some(mut shop) = Shop::open(&Plan::climbing()).await else { return };
    climbs(&shop).await;
    shop.prometheus.pause();
    shop.has_asked_in_vain("timed_out", 1).await;
    let mark = shop.watch.mark();
    shop.has_asked_in_vain("timed_out", 2).await;
    shop.serves(50).await;
    shop.watch.has_not_risen_since(mark);
    is_told(&shop, "no data: Prometheus did not answer within ").await;

    shop.prometheus.resume();
    climbs_again(&shop).await;
    is_told(&shop, "there is data again").await;
    assert_eq!(shop.failed(), [], "no request has noticed");
    shop.watch.stays_within(BOUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_never_rises_without_prometheus_and_only_on_new_answers_of_an_empty_one() {
    let Some(mut shop) = Shop::open(&Plan::climbing()).await else { return };
    climbs(&shop).await;
    shop.prometheus.kill();
    // The front before it answers in its place that it can't be reached.
    shop.has_asked_in_vain("refused", 1).await;
    let mark = shop.watch.mark();
    shop.has_asked_in_vain("refused", 1).await;
    shop.serves(50).await;
    shop.watch.has_not_risen_since(mark);

    shop.prometheus.start_again_empty().await;
    climbs_again(&shop).await;
    is_told(&shop, "there is data again").await;
    let told = log(&shop);
    let [blind, sees] = ["no data: ", "there is data again"].map(|words| told.find(words).expect("it is told"));
    assert!(blind < sees, "{told}");
    assert_eq!(shop.failed(), [], "no request has noticed");
    shop.watch.stays_within(BOUNDS);
}

/// A vector of one term.
fn vector(term: &str, value: &str) -> String {
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"q":"{term}"}},"value":[1,"{value}"]}}]}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_never_rises_on_answers_that_are_none() {
    let Some(shop) = Shop::open(&Plan::climbing()).await else { return };
    let error = |kind: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"it was too much"}}"#);
    let nothing = (200, r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#.to_owned());
    let wrong = [
        ("refused", (503, "overloaded".to_owned())),
        ("refused", (422, error("execution"))),
        ("timed_out", (503, error("timeout"))),
        ("invalid", (200, "<!DOCTYPE html><title>Sign in</title>".to_owned())),
        ("invalid", (200, "a".repeat(3 << 20))),
        ("invalid", (200, vector("n", "NaN"))),
        ("invalid", (200, vector("n", "-3"))),
    ];
    climbs(&shop).await;
    shop.front.answer(&nothing);
    shop.has_asked_in_vain("empty", 1).await;
    let mark = shop.watch.mark();
    for (kind, answer) in &wrong {
        shop.front.answer(answer);
        shop.has_asked_in_vain(kind, 1).await;
        // An answer that there is nothing is one: who asked in vain but once goes on asking each second.
        shop.front.answer(&nothing);
        shop.has_asked_in_vain("empty", 1).await;
    }
    shop.watch.has_not_risen_since(mark);
    shop.front.pass();
    climbs_again(&shop).await;
    assert_eq!(shop.failed(), [], "no request has noticed");
    shop.watch.stays_within(BOUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_never_rises_on_the_answers_of_another_service() {
    // The users' service is well, and is asked a twentieth of what the inventory is.
    let plan = Plan { cluster: "user_service", offered_to_users: 1.5, ..Plan::climbing() };
    let Some(shop) = Shop::open(&plan).await else { return };
    shop.has_asked_in_vain("implausible", 10).await;
    assert!(shop.watch.gate().iter().all(|(_, limit)| *limit <= START), "{:?}", shop.watch.gate());
    is_told(&shop, "no data: the metrics are not believed: they have ").await;

    let rules = Plan { cluster: SHIPPED_CLUSTER, ..plan }.rules(&shop.front.url());
    for tidegate in &shop.tidegates {
        tidegate.rules().write("adaptive.yaml", &rules);
    }
    climbs(&shop).await;
    assert_eq!(shop.failed(), [], "no request has noticed");
    shop.watch.stays_within(BOUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_goes_on_without_a_jump_when_leaders_are_killed_in_the_middle_of_a_change() {
    let Some(mut shop) = Shop::open(&Plan { replicas: 3, ..Plan::climbing() }).await else { return };
    climbs(&shop).await;

    // At the instant at which a change is in force: whoever made it hardly knows.
    let leader = shop.leader().await;
    let begun = begins(&shop);
    let changes = shop.watch.gate().len();
    eventually("the limit changes", PATIENCE, async || (shop.watch.gate().len() > changes).then_some(())).await;
    let mut begun_by_dead = kill(&mut shop, leader);
    climbs_again(&shop).await;

    // At the instant at which the answers come that a raise would be decided by.
    let leader = shop.leader().await;
    shop.front.keep();
    eventually("the leader asks", PATIENCE, async || (shop.front.waiting() >= 4).then_some(())).await;
    shop.front.pass();
    begun_by_dead += kill(&mut shop, leader);
    climbs_again(&shop).await;

    assert_eq!(shop.tidegates.len(), 1, "one replica is left");
    assert_eq!(begins(&shop) + begun_by_dead, begun, "it goes on with what was known");
    let gate = shop.watch.gate();
    for pair in gate.windows(2) {
        let [(before, from), (after, to)] = pair else { unreachable!() };
        assert_eq!(*after, before + 1, "no change is lost or made twice: {gate:?}");
        assert!(*to <= 1.1 * from + 1e-6, "none is more than a step: {gate:?}");
    }
    shop.watch.stays_within(BOUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_outlives_a_redis_that_kept_it_and_begins_anew_in_one_that_did_not() {
    let Some(mut shop) = Shop::open(&Plan::climbing()).await else { return };
    climbs(&shop).await;
    let begun = begins(&shop);
    shop.redis.stop_saved().await;
    store_is_away(&shop, 1.0).await;
    // From here on no raise is on its way. One may have been saved that the watcher didn't see any more.
    let (known, mark) = (shop.watch.gate().len(), shop.watch.mark());
    let before = shop.watch.gate()[known - 1];
    shop.serves(50).await;
    shop.watch.has_not_risen_since(mark);
    shop.redis.start_again().await;
    store_is_away(&shop, 0.0).await;
    climbs_again(&shop).await;
    let gate = shop.watch.gate();
    let next = gate[known];
    assert!(next.0 <= before.0 + 1 && next.1 <= 1.1 * before.1 + 1e-6, "it goes on: {before:?}, {gate:?}");
    assert_eq!(begins(&shop), begun, "nobody starts anew");

    shop.redis.stop();
    store_is_away(&shop, 1.0).await;
    shop.redis.start_again().await;
    eventually("it starts anew, and says so", PATIENCE, async || (begins(&shop) > begun).then_some(())).await;
    eventually("all see it", PATIENCE, async || (shop.watch.mark().highest <= START).then_some(())).await;
    climbs(&shop).await;
    shop.serves(50).await;
    shop.watch.stays_within(BOUNDS);
}

/// Kills a replica; how often it had said that it begins where nothing is known.
fn kill(shop: &mut Shop, place: usize) -> usize {
    let mut replica = shop.tidegates.remove(place);
    replica.process().kill();
    replica.log().matches(BEGINS).count()
}

/// What a replica says that begins where nothing is known.
const BEGINS: &str = "inventory: starts at 30/s, nothing is known of it";

/// How often a replica said that it begins where nothing is known.
fn begins(shop: &Shop) -> usize {
    log(shop).matches(BEGINS).count()
}

/// Waits until every replica tells that the store is away (1), or that it isn't.
async fn store_is_away(shop: &Shop, away: f64) {
    eventually("every replica notices the store", PATIENCE, async || {
        for tidegate in &shop.tidegates {
            if metric(tidegate.http(), "tidegate_adaptive_store_away").await != Some(away) {
                return None;
            }
        }
        Some(())
    })
    .await;
}
