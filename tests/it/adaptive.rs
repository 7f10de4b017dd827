//! Adaptive limits with the real parts: Prometheus, Redis, two replicas of the program, a proxy, and a service that
//! breaks when it is asked too much. What is claimed is counts and limits; how long anything took is not.

mod faults;
mod front;
mod recording;
mod shop;
mod watch;

use serde_json::json;
use tidegate::demo::load::outcome::Outcome;

use self::shop::{BOUNDS, CAPACITY, PATIENCE, Plan, Shop};
use crate::support::eventually;
use crate::support::proxy::Kind;

async fn limit_comes_below(shop: &Shop, bound: f64) {
    let what = format!("the limit comes below {bound}");
    eventually(&what, PATIENCE, async || shop.watch.limit().filter(|limit| *limit < bound)).await;
}

/// Waits until so many more requests were answered well and none of those that came meanwhile was too much, but for what
/// came all at once after a pause of the machine.
async fn serves_without_overload(shop: &Shop, good: u64) {
    eventually("so many are served and none is too much", PATIENCE, async || {
        let before = shop.ended_badly();
        shop.serves(good).await;
        let is_overload =
            |outcome: &Outcome| matches!(outcome, Outcome::Overloaded | Outcome::Shed | Outcome::TimedOut);
        (!shop.failed_since(before).iter().any(is_overload)).then_some(())
    })
    .await;
}

async fn protects(kind: Kind) {
    let plan = Plan::overload(kind);
    let Some(shop) = Shop::open(&plan).await else { return };
    limit_comes_below(&shop, plan.offered).await;
    serves_without_overload(&shop, 200).await;
    assert!(shop.overloaded() > 0, "it was too much at first");
    shop.plant.change(|settings| settings.changed(&json!({ "workers": 2 }))).unwrap();
    limit_comes_below(&shop, CAPACITY * 0.7).await;
    serves_without_overload(&shop, 100).await;
    assert!(shop.count(Outcome::Refused) > 0, "who is too much is told so by the limit");
    shop.watch.stays_within(BOUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_follows_what_a_service_can_bear_behind_the_bundled_proxy() {
    protects(Kind::Bundled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_follows_what_a_service_can_bear_behind_envoy() {
    protects(Kind::Envoy).await;
}
