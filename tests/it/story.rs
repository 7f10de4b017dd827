//! The story of the demo as a test: a shop that is asked for twice what it can do collapses behind a proxy that lets
//! everything pass, and doesn't behind a global limit.
//!
//! Client, shop and its plant run in this process; the proxy, two Tidegates and their Redis are the real programs. The
//! plant keeps a time of its own, so its capacity doesn't depend on how busy the machine is. What is claimed is counts;
//! how long anything took is not.

use std::time::Duration;

use serde_json::json;
use tidegate::demo::load::driver::Load;
use tidegate::demo::load::outcome::Outcome;
use tidegate::demo::load::profile::Profile;
use tidegate::shop::inventory::{self, Inventory, LivePlant};
use tidegate::shop::order;
use tidegate::shop::plant::PlantSettings;

use crate::support::pauses::Pauses;
use crate::support::proxy::{Kind, Ports, Proxy, shipped};
use crate::support::redis::Redis;
use crate::support::shop::{Door, Service};
use crate::support::tidegate::Tidegate;
use crate::support::{PATIENCE, eventually};

/// What the plant can do a second: 4 workers of 40 ms. Half of the demo's, so that a pause of a busy machine, after
/// which everybody comes at once, fits its queue.
const CAPACITY: f64 = 100.0;

/// How long it is asked for twice as much.
const OVERLOAD: Duration = Duration::from_secs(8);

/// What became of the orders, and of the inventory.
struct Story {
    orders: u64,
    good: u64,
    refused: u64,
    /// Answers of the inventory by status.
    inventory_200: u64,
    inventory_503: u64,
}

/// The file's rules for half of the capacity that it is written for.
fn rules() -> String {
    let (text, whole) = (shipped("rules/app_edge.yaml"), "window: 100ms");
    assert!(text.contains(whole), "{text}");
    text.replace(whole, "window: 200ms")
}

/// Sends twice the capacity through a proxy with that file.
async fn story(kind: Kind, file: &str, tidegates: &[&Tidegate]) -> Option<Story> {
    let (user, inventory, order) = (Door::open().await, Door::open().await, Door::open().await);
    let services = [&user, &inventory, &order].map(Door::address);
    let proxy = Proxy::start(kind, file, Ports::any(), services, tidegates).await?;
    let settings = PlantSettings::default().changed(&json!({ "service_time_ms": 40 })).unwrap();
    assert_eq!(settings.capacity(), CAPACITY);
    let services: [Service; 3] = [
        user.user(),
        inventory.inventory(&Inventory::Capacity(LivePlant::new(settings, 1))),
        order.order(proxy.http.address(), proxy.http.address()),
    ];
    let [_, inventory, order] = &services;
    // The first call makes connections, that to the rate limit service included.
    eventually("an order is made", PATIENCE, async || {
        (proxy.http.get("/orders/create/1/2").await.status == 200).then_some(())
    })
    .await;
    let warm_up = (order.traffic.answered(order::PATH, 200), inventory.traffic.answered(inventory::PATH, 200));

    let load = Load {
        target: format!("http://{}", proxy.http.address()),
        control: None,
        profile: Profile::steady(2.0 * CAPACITY, OVERLOAD),
        seed: 7,
        slice: OVERLOAD,
    };
    let timeline = load.timeline();
    load.run(&timeline).await;
    let timeline = timeline.lock().unwrap();
    let told = Story {
        orders: timeline.during.offered(),
        good: timeline.during.count(Outcome::Good),
        refused: timeline.during.count(Outcome::Refused),
        inventory_200: inventory.traffic.answered(inventory::PATH, 200) - warm_up.1,
        inventory_503: inventory.traffic.answered(inventory::PATH, 503),
    };
    let (served, late) =
        (order.traffic.answered(order::PATH, 200) - warm_up.0, timeline.during.count(Outcome::TimedOut));
    // What was made in the moment in which its client was told that it takes too long was seen by nobody.
    assert!((told.good..=told.good + late).contains(&served), "clients saw {} of {served} that were served", told.good);
    Some(told)
}

async fn collapses_without_a_limit(kind: Kind) {
    let Some(told) = story(kind, "pass_through.yaml", &[]).await else { return };
    let errors = told.orders - told.good;
    assert!(errors * 2 > told.orders, "{errors} of {} orders failed", told.orders);
    assert!(told.inventory_503 > 0, "it was the inventory that failed");
    assert_eq!(told.refused, 0, "there is no limit");
}

/// A run that lost more than this to a machine that stood still says nothing of what could have been done in it.
const LOST_MAX: Duration = Duration::from_millis(300);

/// How often such a run is made again.
const RUNS_MAX: usize = 5;

async fn survives_with_a_global_limit(kind: Kind) {
    for run in 1..=RUNS_MAX {
        let pauses = Pauses::watch();
        let Some((told, tidegates)) = limited(kind).await else { return };
        let could = CAPACITY * OVERLOAD.as_secs_f64();
        let share = told.good as f64 / could;
        if (told.inventory_503 > 0 || share < 0.85) && pauses.lost() > LOST_MAX && run < RUNS_MAX {
            println!("the machine stood still for {:?} of run {run}; once more", pauses.lost());
            continue;
        }
        assert_eq!(told.inventory_503, 0, "the inventory was overloaded");
        assert!(share >= 0.85, "{} of {could} orders that could be made were made", told.good);
        asks_both(&told, &tidegates).await;
        return;
    }
}

/// The story with a global limit, and the two who kept it.
async fn limited(kind: Kind) -> Option<(Story, [Tidegate; 2])> {
    let redis = Redis::start().await?;
    let rules = rules();
    let files = [("app_edge.yaml", rules.as_str())];
    let tidegates = [Tidegate::serving(&redis, &files).await, Tidegate::serving(&redis, &files).await];
    let told = story(kind, "global_limit.yaml", &[&tidegates[0], &tidegates[1]]).await?;
    Some((told, tidegates))
}

async fn asks_both(told: &Story, tidegates: &[Tidegate; 2]) {
    assert!(told.inventory_200 >= told.good);
    assert!(told.refused > 0, "the limit refuses the rest");
    for tidegate in tidegates {
        let metrics = tidegate.http().get("/metrics").await.text();
        let calls = metrics.lines().filter(|line| line.starts_with("ratelimit_service_total_requests{"));
        let calls: f64 = calls.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        assert!(calls > 0.0, "the proxy asks both replicas");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_limit_most_orders_fail_under_twice_the_load_behind_envoy() {
    collapses_without_a_limit(Kind::Envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_limit_most_orders_fail_under_twice_the_load_behind_the_bundled_proxy() {
    collapses_without_a_limit(Kind::Bundled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_global_limit_the_inventory_does_what_it_can_behind_envoy() {
    survives_with_a_global_limit(Kind::Envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_global_limit_the_inventory_does_what_it_can_behind_the_bundled_proxy() {
    survives_with_a_global_limit(Kind::Bundled).await;
}
