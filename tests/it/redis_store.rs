//! The Redis store when Redis is slow, silent, gone, or not itself: every decision has an answer, in time, and the
//! store finds back by itself.

use std::sync::Arc;
use std::time::Duration;

use smallvec::smallvec;
use tidegate::counters::redis::RedisStore;
use tidegate::counters::{Charge, Charges, CounterStore, StoreError, Tallies};
use tidegate::descriptor::Hits;
use tidegate::key::CounterKey;
use tidegate::limit::{Unit, Window};
use tidegate::window::{Charging, Enforcement, Policy, Precision, SlidingWindow};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::support::redis::Redis;
use crate::support::store::{BATCH, connector, connector_with, reached, redis_store};
use crate::support::{PATIENCE, eventually};

fn charges(name: &str) -> Charges {
    let mut key = CounterKey::write(b"faults:", 1);
    key.value(name);
    let policy = Policy::SlidingWindow(SlidingWindow::new(1_000_000, Window::from(Unit::Week), Precision::DEFAULT));
    let charge = Charge { key: key.finish(), policy, hits: Hits::Add(1), enforcement: Enforcement::Enforced };
    Charges { members: smallvec![charge], charging: Charging::AllOrNothing }
}

async fn ask(store: &RedisStore, name: &str, within: Duration) -> Result<Tallies, StoreError> {
    store.charge(&charges(name), Instant::now() + within).await
}

async fn used(store: &RedisStore, name: &str) -> u64 {
    ask(store, name, PATIENCE).await.expect("the store answers")[0].used
}

/// Waits until decisions are answered again.
async fn recovers(store: &RedisStore) {
    let what = "decisions are answered again";
    eventually(what, PATIENCE, async || ask(store, "probe", PATIENCE).await.ok().map(drop)).await;
}

#[tokio::test]
async fn a_redis_that_forgot_the_script_is_given_it_again() {
    let Some(redis) = Redis::start().await else { return };
    let store = redis_store(&redis).await;
    assert_eq!(used(&store, "forgot").await, 1);
    assert_eq!(redis.ask("SCRIPT FLUSH").await, "+OK");
    assert_eq!(used(&store, "forgot").await, 2, "the call that found no script was made again, once");
}

#[tokio::test]
async fn before_redis_was_reached_decisions_are_refused_at_once() {
    let Some(mut redis) = Redis::stopped() else { return };
    let store = RedisStore::start(connector(&redis), BATCH, &TaskTracker::new());
    let started = Instant::now();
    let error = ask(&store, "early", PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), "unreachable");
    assert!(started.elapsed() < PATIENCE / 2, "long before the deadline");
    assert!(!*store.reached().borrow());
    redis.start_again().await;
    reached(&store).await;
    assert_eq!(used(&store, "early").await, 1);
}

#[tokio::test]
async fn a_redis_that_dies_and_returns_is_found_again() {
    let Some(mut redis) = Redis::start().await else { return };
    let store = redis_store(&redis).await;
    used(&store, "dies").await;
    redis.stop();
    let error = ask(&store, "dies", PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), "unreachable", "{error}");
    redis.start_again().await;
    recovers(&store).await;
}

#[tokio::test]
async fn a_silent_redis_costs_no_decision_more_than_its_deadline() {
    let Some(mut redis) = Redis::start().await else { return };
    let store = redis_store(&redis).await;
    used(&store, "silent").await;
    redis.pause();
    let mut asked = JoinSet::new();
    // More than the calls under way can carry, so that some wait in the queue for a place.
    for index in 0..900u64 {
        let store = store.clone();
        asked.spawn(async move {
            let (within, started) = (Duration::from_millis(20 + index % 200), Instant::now());
            (ask(&store, "silent", within).await, within, started.elapsed())
        });
    }
    for (answer, within, took) in asked.join_all().await {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), "deadline_exceeded", "{error}");
        // It may not be answered early. That it is answered at all is what the deadline is for: nobody waits for Redis
        // less than two minutes, and it says nothing before all of them are answered.
        assert!(took >= within && took < PATIENCE / 2, "{took:?} for {within:?}");
    }
    redis.resume();
    recovers(&store).await;
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left_and_tried_again() {
    let Some(redis) = Redis::start().await else { return };
    let store = redis_store(&redis).await;
    used(&store, "replica").await;
    // Nothing listens on port 1: the replica keeps its data and only refuses to write.
    assert_eq!(redis.ask("REPLICAOF 127.0.0.1 1").await, "+OK");
    assert!(ask(&store, "replica", PATIENCE).await.is_err());
    assert_eq!(redis.ask("REPLICAOF NO ONE").await, "+OK");
    recovers(&store).await;
    assert_eq!(used(&store, "replica").await, 2, "the refused one was not charged");
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_made_anew_before_it_is_needed() {
    let Some(redis) = Redis::start().await else { return };
    let store = redis_store(&redis).await;
    used(&store, "idle").await;
    redis.ask("CLIENT KILL TYPE normal").await;
    // Whoever has said something else than the test's own questions is the store.
    let is_store = |line: &str| line.contains(" cmd=") && !line.contains(" cmd=client|");
    let what = "the store has connected again by itself: no decision is the one that finds out";
    eventually(what, PATIENCE, async || {
        redis.ask_all("CLIENT LIST TYPE normal").await.lines().any(is_store).then_some(())
    })
    .await;
    // Redis may know of the connection a moment before the store does; who is refused until then is not charged.
    let again = async || Some(ask(&store, "idle", PATIENCE).await.ok()?[0].used);
    assert_eq!(eventually("decisions are answered again", PATIENCE, again).await, 2);
}

#[tokio::test]
async fn an_idle_connection_is_kept_as_long_as_it_answers() {
    let Some(redis) = Redis::start().await else { return };
    // Signs of life are a second apart: one that isn't heard ends the connection before the next.
    let store = RedisStore::start(connector_with(redis.port(), Duration::from_millis(500)), BATCH, &TaskTracker::new());
    reached(&store).await;
    used(&store, "kept").await;
    let own = async || {
        let clients = redis.ask_all("CLIENT LIST TYPE normal").await;
        let named = |line: &&str| line.contains("cmd=ping") || line.contains("cmd=evalsha");
        clients.lines().find(named).and_then(|line| Some(line.split_once("id=")?.1.split(' ').next()?.to_owned()))
    };
    let pings = async || {
        let text = redis.ask_all("INFO commandstats").await;
        let count =
            text.lines().find_map(|line| line.strip_prefix("cmdstat_ping:calls=")?.split(',').next()?.parse().ok());
        count.unwrap_or(0_u64)
    };
    // A machine that is held up may break a connection, which says nothing; if silence itself broke it, each would be new.
    eventually("a connection outlives three signs of life", PATIENCE, async || {
        let (before, first) = (own().await?, pings().await);
        eventually("three signs of life were asked for", PATIENCE, async || (pings().await >= first + 3).then_some(()))
            .await;
        (own().await? == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_takes_connections_and_no_calls_is_not_hurried() {
    let Some(redis) = Redis::start().await else { return };
    let store = redis_store(&redis).await;
    used(&store, "hurry").await;
    assert_eq!(redis.ask("REPLICAOF 127.0.0.1 1").await, "+OK");
    assert_eq!(redis.ask("CONFIG RESETSTAT").await, "+OK");
    let end = Instant::now() + Duration::from_millis(500);
    let mut asked = 0u32;
    while Instant::now() < end {
        assert!(ask(&store, "hurry", PATIENCE).await.is_err());
        asked += 1;
        tokio::task::yield_now().await;
    }
    let text = redis.ask_all("INFO stats").await;
    let received = text.lines().find_map(|line| line.strip_prefix("total_connections_received:")).expect("it is there");
    let received: u32 = received.trim().parse().expect("a number");
    // Half a second has room for four of the growing pauses; the test's own questions connect a few times too.
    assert!(received <= 20, "{received} connections for {asked} decisions");
    assert_eq!(redis.ask("REPLICAOF NO ONE").await, "+OK");
    recovers(&store).await;
}

#[tokio::test]
async fn a_redis_out_of_memory_is_an_error_and_not_an_admission() {
    let Some(redis) = Redis::start().await else { return };
    let store = redis_store(&redis).await;
    assert_eq!(redis.ask("CONFIG SET maxmemory 1").await, "+OK");
    let error = ask(&store, "memory", PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), "refused", "{error}");
    assert_eq!(redis.ask("CONFIG SET maxmemory 0").await, "+OK");
    assert_eq!(used(&store, "memory").await, 1);
}

#[tokio::test]
async fn the_batcher_ends_with_the_last_store() {
    let Some(redis) = Redis::start().await else { return };
    let tasks = TaskTracker::new();
    let store = RedisStore::start(connector(&redis), BATCH, &tasks);
    reached(&store).await;
    let other = Arc::new(store.clone());
    drop(store);
    assert!(ask(&other, "last", PATIENCE).await.is_ok());
    drop(other);
    tasks.close();
    tokio::time::timeout(PATIENCE, tasks.wait()).await.expect("the batcher ends");
}
