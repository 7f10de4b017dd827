//! Limits per second on a Redis of their own: each counter where it belongs, and decisions over both all or none.

use smallvec::smallvec;
use tidegate::counters::redis::RedisStore;
use tidegate::counters::spread::{Reach, SpreadStore};
use tidegate::counters::{Charge, Charges, CounterStore, StoreError, Tallies};
use tidegate::descriptor::Hits;
use tidegate::key::CounterKey;
use tidegate::limit::{Unit, Window};
use tidegate::window::{Charging, Enforcement, Policy, Precision, SlidingWindow};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::redis::Redis;
use crate::support::store::redis_store;
use crate::support::tidegate::Launch;
use crate::support::{PATIENCE, eventually};

fn charge(name: &str, limit: u32, unit: Unit) -> Charge {
    let mut key = CounterKey::write(b"two:", 1);
    key.value(name);
    let policy = Policy::SlidingWindow(SlidingWindow::new(limit, Window::from(unit), Precision::DEFAULT));
    Charge { key: key.finish(), policy, hits: Hits::Add(1), enforcement: Enforcement::Enforced }
}

/// A decision over a counter on each server, of which the weekly one has this limit.
fn over_both(weekly: u32) -> Charges {
    let members = smallvec![charge("second", 1_000_000, Unit::Second), charge("week", weekly, Unit::Week)];
    Charges { members, charging: Charging::AllOrNothing }
}

async fn ask(store: &SpreadStore, charges: &Charges) -> Result<Tallies, StoreError> {
    store.charge(charges, Instant::now() + PATIENCE).await
}

async fn stores(main: &Redis, per_second: &Redis) -> (SpreadStore, RedisStore) {
    let main = redis_store(main).await;
    (SpreadStore::new(Reach::Server(main.clone()), Some(Reach::Server(redis_store(per_second).await))), main)
}

#[tokio::test]
async fn decisions_over_both_servers_admit_exactly_the_limit() {
    let (Some(main), Some(per_second)) = (Redis::start().await, Redis::start().await) else { return };
    let (store, alone) = stores(&main, &per_second).await;
    let mut asked = JoinSet::new();
    for _ in 0..300 {
        let store = store.clone();
        asked.spawn(async move {
            let tallies = ask(&store, &over_both(40)).await.expect("both answer");
            assert_eq!(tallies[0].charged, tallies[1].charged, "both or none");
            usize::from(tallies[0].charged)
        });
    }
    assert_eq!(asked.join_all().await.into_iter().sum::<usize>(), 40);
    let week = Charges { members: smallvec![charge("week", 40, Unit::Week)], charging: Charging::AllOrNothing };
    let left = alone.charge(&week, Instant::now() + PATIENCE).await.expect("it answers");
    assert_eq!((left[0].used, left[0].verdict.is_over()), (40, true));
}

#[tokio::test]
async fn a_refused_decision_leaves_no_trace_on_the_other_server() {
    let (Some(main), Some(per_second)) = (Redis::start().await, Redis::start().await) else { return };
    let (store, _) = stores(&main, &per_second).await;
    let tallies = ask(&store, &over_both(0)).await.expect("both answer");
    assert!(tallies[1].verdict.is_over() && !tallies[0].verdict.is_over());
    assert!(tallies.iter().all(|tally| !tally.charged));
    assert_eq!((main.ask("DBSIZE").await, per_second.ask("DBSIZE").await), (":0".to_owned(), ":0".to_owned()));
}

#[tokio::test]
async fn a_server_that_is_gone_leaves_the_decisions_of_the_other_as_they_are() {
    let (Some(main), Some(mut per_second)) = (Redis::start().await, Redis::start().await) else { return };
    let (store, _) = stores(&main, &per_second).await;
    per_second.stop();
    let week = Charges { members: smallvec![charge("week", 9, Unit::Week)], charging: Charging::AllOrNothing };
    for used in 1..=3 {
        assert_eq!(ask(&store, &week).await.expect("the main server answers")[0].used, used);
        assert!(ask(&store, &over_both(9)).await.is_err(), "without one of them there is no decision over both");
    }
    per_second.start_again().await;
    eventually("decisions over both are made again", PATIENCE, async || ask(&store, &over_both(9)).await.ok()).await;
}

const RULES: &str = "domain: shop
descriptors:
- key: second
  rate_limit: {unit: second, requests_per_unit: 1000}
- key: week
  rate_limit: {unit: week, requests_per_unit: 1}
";

/// Tidegate over both servers, named by the reference's variables.
fn launch(rules: &str, main: &Redis, per_second: &Redis) -> Launch {
    Launch::new(&[("rules.yaml", rules)])
        .setting("REDIS_SOCKET_TYPE", "tcp")
        .setting("REDIS_URL", format!("127.0.0.1:{}", main.port()))
        .setting("REDIS_PERSECOND", "true")
        .setting("REDIS_PERSECOND_SOCKET_TYPE", "tcp")
        .setting("REDIS_PERSECOND_URL", format!("127.0.0.1:{}", per_second.port()))
}

#[tokio::test]
async fn the_references_variables_name_the_second_server() {
    let (Some(main), Some(per_second)) = (Redis::start().await, Redis::start().await) else { return };
    let tidegate = launch(RULES, &main, &per_second).start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    let ask = async |keys: &[&str]| {
        let descriptors: Vec<_> =
            keys.iter().map(|key| serde_json::json!({ "entries": [{ "key": key, "value": "me" }] })).collect();
        tidegate.json(&serde_json::json!({ "domain": "shop", "descriptors": descriptors })).await.status
    };
    assert_eq!(ask(&["second", "week"]).await, http::StatusCode::OK);
    assert_eq!(ask(&["second", "week"]).await, http::StatusCode::TOO_MANY_REQUESTS);
    let charged = async |redis: &Redis| redis.script_calls().await;
    let before = (charged(&main).await, charged(&per_second).await);
    assert_eq!(ask(&["second"]).await, http::StatusCode::OK);
    assert_eq!((charged(&main).await, charged(&per_second).await), (before.0, before.1 + 1));
    assert_eq!(ask(&["week"]).await, http::StatusCode::TOO_MANY_REQUESTS);
    assert_eq!((charged(&main).await, charged(&per_second).await), (before.0 + 1, before.1 + 1));
}

#[tokio::test]
async fn d35_in_the_profile_each_counter_lies_under_the_references_key_on_its_own_server() {
    let (Some(main), Some(per_second)) = (Redis::start().await, Redis::start().await) else { return };
    let rules = "\
domain: d
descriptors:
  - { key: s, rate_limit: { unit: second, requests_per_unit: 5 } }
  - { key: m, rate_limit: { unit: minute, requests_per_unit: 5 } }
";
    let profile = launch(rules, &main, &per_second).setting("TIDEGATE_COMPATIBILITY", "envoyproxy");
    let tidegate = profile.start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    let descriptors = ["s", "m"].map(|key| serde_json::json!({ "entries": [{ "key": key, "value": "1" }] }));
    // Chance may let a key of one second go before it is looked for.
    eventually("both servers hold the key of their counter and no other", PATIENCE, async || {
        tidegate.json(&serde_json::json!({ "domain": "d", "descriptors": descriptors })).await;
        let (of_main, of_second) = (main.ask_all("KEYS *").await, per_second.ask_all("KEYS *").await);
        assert!(!of_main.contains("d_s_1_") && !of_second.contains("d_m_1_"), "{of_main} {of_second}");
        (of_main.contains("d_m_1_") && of_second.contains("d_s_1_")).then_some(())
    })
    .await;
}
