//! Redis behind sentinels: the master is found, followed when it fails over, and what a failover can lose is what
//! asynchronous replication loses, no more.

use std::time::Duration;

use smallvec::smallvec;
use tidegate::control::record::{LeaseTimes, RecordStore, RedisRecords, ReplicaId};
use tidegate::counters::redis::{Connector, RedisStore, Server, Timeouts};
use tidegate::counters::{Charge, Charges, CounterStore};
use tidegate::descriptor::Hits;
use tidegate::key::CounterKey;
use tidegate::limit::{Unit, Window};
use tidegate::window::{Charging, Counter, Enforcement, FixedWindow, Policy};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::redis::{Redis, value_of};
use crate::support::sentinel::{SENTINELS_PASSWORD, SERVERS_PASSWORD, Trio};
use crate::support::store::{BATCH, reached};
use crate::support::tidegate::Launch;
use crate::support::{PATIENCE, eventually};

const LIMIT: u32 = 20_000;

/// After how much silence a master is taken for dead: where it dies, and where it doesn't.
const SOON: Duration = Duration::from_secs(4);
const LATE: Duration = Duration::from_secs(60);

fn policy() -> Policy {
    Policy::FixedWindow(FixedWindow::new(LIMIT, Window::from(Unit::Week)))
}

fn key() -> CounterKey {
    let mut key = CounterKey::write(b"sentinel:", 1);
    key.value("failover");
    key.finish()
}

/// Whether one more hit was admitted; `None` where the store gave no answer.
async fn admits(store: &RedisStore) -> Option<bool> {
    let charge = Charge { key: key(), policy: policy(), hits: Hits::Add(1), enforcement: Enforcement::Enforced };
    let charges = Charges { members: smallvec![charge], charging: Charging::AllOrNothing };
    store.charge(&charges, Instant::now() + PATIENCE).await.ok().map(|tallies| tallies[0].charged)
}

fn connector(server: Server) -> Connector {
    Connector::new(server, Timeouts { connect: PATIENCE, response: PATIENCE })
}

/// Hits that the counter holds on one server.
async fn held(redis: &Redis) -> u64 {
    let bytes = value_of(redis, SERVERS_PASSWORD, key().as_bytes()).await;
    let counter = bytes.and_then(|bytes| policy().decode_counter(&bytes));
    counter.as_ref().map_or(0, Counter::used)
}

/// Asks from many tasks until each has had `enough` answers or none comes, and counts the admitted.
async fn admitted(store: &RedisStore, tasks: usize, asked: usize) -> u64 {
    let mut asking = JoinSet::new();
    for _ in 0..tasks {
        let store = store.clone();
        asking.spawn(async move {
            let mut admitted = 0;
            for _ in 0..asked {
                match admits(&store).await {
                    Some(true) => admitted += 1,
                    Some(false) => {}
                    None => break,
                }
            }
            admitted
        });
    }
    asking.join_all().await.into_iter().sum()
}

#[tokio::test]
async fn a_master_that_dies_under_load_costs_at_most_what_replication_had_not_delivered() {
    let Some(mut trio) = Trio::start(SOON).await else { return };
    let store = RedisStore::start(connector(trio.server()), BATCH, &TaskTracker::new());
    reached(&store).await;

    // The load ends by itself when the master is gone: every task stops at its first error.
    let load = tokio::spawn({
        let store = store.clone();
        async move { admitted(&store, 64, usize::MAX).await }
    });
    eventually("a good part of the budget is used", PATIENCE, async || {
        (held(&trio.master).await > 2_000).then_some(())
    })
    .await;
    trio.master.stop();
    let before = load.await.expect("the load doesn't panic");
    assert!(before > 2_000 && before <= u64::from(LIMIT), "{before} were admitted by the old master");

    // What the replica will go on from: nobody asks until this is known.
    eventually("the replica knows that its master is gone", PATIENCE, async || {
        let text = trio.replica.ask_as(SERVERS_PASSWORD, "INFO replication").await;
        (text.contains("master_link_status:down") || text.contains("role:master")).then_some(())
    })
    .await;
    let kept = held(&trio.replica).await;
    let lost = before.saturating_sub(kept);

    let mut after = 0;
    eventually("decisions are made again", PATIENCE, async || {
        after += u64::from(admits(&store).await?);
        Some(())
    })
    .await;
    // Until the budget is used up, which an answer says; that there is none says nothing.
    eventually("the budget is used up", PATIENCE, async || {
        after += admitted(&store, 64, 100).await;
        let one_more = admits(&store).await?;
        after += u64::from(one_more);
        (!one_more).then_some(())
    })
    .await;
    println!("{before} admitted before, {kept} of them replicated, {after} admitted after");
    assert!(
        before + after <= u64::from(LIMIT) + lost,
        "{before} + {after} are over by more than {lost}, which were lost"
    );
    assert_eq!(held(&trio.replica).await, u64::from(LIMIT), "the new master admits all that it knows to be left");
}

#[tokio::test]
async fn a_master_that_is_deposed_while_it_lives_is_left_and_records_follow() {
    let Some(trio) = Trio::start(LATE).await else { return };
    let store = RedisStore::start(connector(trio.server()), BATCH, &TaskTracker::new());
    reached(&store).await;
    let records =
        RedisRecords::new(connector(trio.server()), b"sentinel:", ReplicaId::draw("a"), LeaseTimes::default());
    assert_eq!(admits(&store).await, Some(true));
    assert!(records.lead().await.is_ok());
    trio.fail_over().await;
    // Asked of the new master, which counts on from what was replicated to it.
    eventually("the new master is charged", PATIENCE, async || {
        admits(&store).await;
        let text = trio.replica.ask_as(SERVERS_PASSWORD, "INFO replication").await;
        (text.contains("role:master") && held(&trio.replica).await > 2).then_some(())
    })
    .await;
    eventually("records are kept by the new master", PATIENCE, async || records.lead().await.ok().map(drop)).await;
}

#[tokio::test]
async fn without_a_master_of_that_name_or_the_right_password_the_sentinels_are_named() {
    let Some(trio) = Trio::start(LATE).await else { return };
    let reason = async |change: fn(&mut tidegate::counters::redis::Sentinels)| {
        let mut server = trio.server();
        if let tidegate::counters::redis::Address::Sentinel(sentinels) = &mut server.address {
            change(sentinels);
        }
        let store = RedisStore::start(connector(server), BATCH, &TaskTracker::new());
        let charge = Charge { key: key(), policy: policy(), hits: Hits::Add(1), enforcement: Enforcement::Enforced };
        let charges = Charges { members: smallvec![charge], charging: Charging::AllOrNothing };
        eventually("an attempt has failed", PATIENCE, async || {
            let error = store.charge(&charges, Instant::now() + PATIENCE).await.expect_err("there is no way to Redis");
            Some(error.to_string()).filter(|text| !text.contains("not reached yet"))
        })
        .await
    };
    let unknown = reason(|sentinels| "other".clone_into(&mut sentinels.master)).await;
    assert!(unknown.contains("master \"other\" of the sentinels 127.0.0.1:"), "{unknown}");
    assert!(unknown.contains("it knows no master called \"other\""), "{unknown}");
    let stranger = reason(|sentinels| sentinels.password = Some("hunter2".to_owned())).await;
    assert!(stranger.contains("Password authentication failed"), "{stranger}");
    assert!(!stranger.contains("hunter2") && !stranger.contains(SENTINELS_PASSWORD), "{stranger}");
}

const RULES: &str = "domain: shop
descriptors:
- key: who
  rate_limit: {unit: week, requests_per_unit: 1}
";

#[tokio::test]
async fn the_references_variables_lead_through_sentinels() {
    let Some(trio) = Trio::start(LATE).await else { return };
    let tidegate = Launch::new(&[("rules.yaml", RULES)])
        .setting("REDIS_TYPE", "SENTINEL")
        .setting("REDIS_URL", trio.reference_url())
        .setting("REDIS_AUTH", SERVERS_PASSWORD)
        .setting("REDIS_SENTINEL_AUTH", SENTINELS_PASSWORD)
        .start()
        .await;
    tidegate.becomes(ServingStatus::Serving).await;
    let question = r#"{"domain": "shop", "descriptors": [{"entries": [{"key": "who", "value": "me"}]}]}"#;
    let ask = async || tidegate.http().post("/json", question).await.status;
    assert_eq!((ask().await, ask().await), (http::StatusCode::OK, http::StatusCode::TOO_MANY_REQUESTS));
    assert!(!tidegate.log().contains("secret"), "{}", tidegate.log());
}
