//! The laws of the batch, against a real Redis behind a relay that holds its answers back: no clock decides, only what
//! Redis counted itself and what the callers were told.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::{join_all, poll_immediate};
use tidegate::counters::redis::{BatchOptions, RedisStore};
use tidegate::counters::{Charge, Charges, CounterStore, StoreError, Tallies};
use tidegate::descriptor::Hits;
use tidegate::key::CounterKey;
use tidegate::limit::{Unit, Window};
use tidegate::window::{Charging, Enforcement, Policy, Precision, SlidingWindow};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::support::redis::Redis;
use crate::support::relay::Relay;
use crate::support::store::{BATCH, connector_to, reached};
use crate::support::{PATIENCE, eventually};

type Asked = Pin<Box<dyn Future<Output = Result<Tallies, StoreError>>>>;

/// A store that asks a Redis through a relay.
struct Path {
    redis: Redis,
    relay: Relay,
    store: RedisStore,
}

// === impl Path ===

impl Path {
    /// `None` where there is no Redis to start.
    async fn open(decisions_max: usize, calls_in_flight: usize) -> Option<Path> {
        let redis = Redis::start().await?;
        let relay = Relay::to(&redis).await;
        let options = BatchOptions { decisions_max, calls_in_flight };
        let store = RedisStore::start(connector_to(relay.port()), options, &TaskTracker::new());
        reached(&store).await;
        Some(Path { redis, relay, store })
    }

    /// Asks for one hit; the decision stands in the queue when this returns.
    async fn ask(&self, name: &str) -> Asked {
        self.ask_for(charges(&[name], LARGE), PATIENCE).await.unwrap_or_else(|answer| panic!("{answer:?} at once"))
    }

    /// What is still to come, or the answer if it was given at once.
    async fn ask_for(&self, charges: Charges, within: Duration) -> Result<Asked, Result<Tallies, StoreError>> {
        let store = self.store.clone();
        let mut asked: Asked = Box::pin(async move { store.charge(&charges, Instant::now() + within).await });
        match poll_immediate(&mut asked).await {
            None => Ok(asked),
            Some(answer) => Err(answer),
        }
    }

    /// The hits that a counter holds, by one more decision, which adds one.
    async fn used(&self, name: &str) -> u64 {
        self.store.charge(&charges(&[name], LARGE), Instant::now() + PATIENCE).await.unwrap()[0].used
    }

    /// Waits until Redis has made so many calls.
    async fn made(&self, calls: u64) {
        let what = format!("Redis has made {calls} script calls");
        eventually(&what, PATIENCE, async || (self.redis.script_calls().await >= calls).then_some(())).await;
        assert_eq!(self.redis.script_calls().await, calls);
    }
}

/// Two limits that keep a counter in different forms: no call holds both.
const SMALL: u32 = 64;
const LARGE: u32 = 1_000_000;

fn charges(names: &[&str], limit: u32) -> Charges {
    let policy = Policy::SlidingWindow(SlidingWindow::new(limit, Window::from(Unit::Week), Precision::DEFAULT));
    let charge = |name: &&str| {
        let mut key = CounterKey::write(b"batch:", 1);
        key.value(name);
        Charge { key: key.finish(), policy, hits: Hits::Add(1), enforcement: Enforcement::Enforced }
    };
    Charges { members: names.iter().map(charge).collect(), charging: Charging::AllOrNothing }
}

async fn answers(asked: Vec<Asked>) -> Vec<Tallies> {
    join_all(asked).await.into_iter().map(|answer| answer.expect("it is answered")).collect()
}

fn used(answers: &[Tallies]) -> Vec<u64> {
    answers.iter().map(|tallies| tallies[0].used).collect()
}

#[tokio::test]
async fn a_lone_decision_is_one_call_and_nothing_else() {
    let Some(path) = Path::open(BATCH.decisions_max, BATCH.calls_in_flight).await else { return };
    path.used("lone").await;
    let before = path.redis.calls().await;
    path.used("lone").await;
    let mut during = path.redis.calls().await;
    for (name, count) in &before {
        *during.get_mut(name).expect("counts stay") -= count;
    }
    during.retain(|_, count| *count > 0);
    let during: Vec<_> = during.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    // The last three are the script's own: what time is it, read the counter, write it in place.
    assert_eq!(during, [("evalsha", 1), ("mget", 1), ("setrange", 1), ("time", 1)]);
}

#[tokio::test]
async fn a_thousand_decisions_of_one_moment_make_eight_calls() {
    let Some(path) = Path::open(BATCH.decisions_max, BATCH.calls_in_flight).await else { return };
    let asked = join_all((0..1_000).map(|_| path.ask("moment"))).await;
    let mut used = used(&answers(asked).await);
    used.sort_unstable();
    assert_eq!(used, (1..=1_000).collect::<Vec<_>>(), "each was charged once");
    let calls = path.redis.calls().await;
    assert_eq!((calls["evalsha"], calls["time"], calls["mget"]), (8, 8, 8), "a call holds 128");
    assert_eq!(calls["set"] + calls["setrange"], 8, "equal keys of a call are written once");
}

#[tokio::test]
async fn decisions_are_made_in_the_order_they_came_whatever_goes_together() {
    let Some(path) = Path::open(8, 1).await else { return };
    path.relay.hold();
    let mut asked = vec![path.ask("order").await];
    path.made(1).await;
    let others: Vec<String> = (0..300).map(|number| format!("other {number}")).collect();
    for number in 0..15 {
        // One in another form, one too large to join others, and many that go with everybody.
        let mut large = vec!["order"];
        large.extend(others.iter().map(String::as_str));
        let (limit, names) = match number % 5 {
            1 => (SMALL, vec!["order"]),
            3 => (LARGE, large),
            _ => (LARGE, vec!["order"]),
        };
        asked.push(path.ask_for(charges(&names, limit), PATIENCE).await.unwrap());
    }
    path.relay.release();
    assert_eq!(used(&answers(asked).await), (1..=16).collect::<Vec<_>>());
}

#[tokio::test]
async fn limits_that_keep_one_form_share_a_call() {
    let Some(path) = Path::open(BATCH.decisions_max, 1).await else { return };
    let limits = [1_000, 2_000, 3_000].repeat(20);
    let asked = join_all(limits.iter().map(|limit| path.ask_for(charges(&["limits"], *limit), PATIENCE))).await;
    let asked = asked.into_iter().map(|asked| asked.unwrap()).collect();
    assert_eq!(used(&answers(asked).await), (1..=60).collect::<Vec<_>>());
    assert_eq!(path.redis.script_calls().await, 1);
}

#[tokio::test]
async fn nobody_waits_for_more_than_the_calls_under_way_and_its_own() {
    let Some(path) = Path::open(64, 2).await else { return };
    path.relay.hold();
    let first = path.ask("wait").await;
    path.made(1).await;
    // A place is free: this one doesn't wait for the first one's answer.
    let mut second = path.ask("wait").await;
    path.made(2).await;
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(path.ask("wait").await);
    }
    path.relay.let_one_pass();
    assert_eq!(first.await.unwrap()[0].used, 1);
    path.made(3).await;
    assert!(poll_immediate(&mut second).await.is_none(), "all that waited left before the second answer was there");
    path.relay.release();
    assert_eq!(second.await.unwrap()[0].used, 2);
    assert_eq!(used(&answers(waiting).await), (3..=42).collect::<Vec<_>>());
    path.made(3).await;
}

#[tokio::test]
async fn what_waits_and_what_is_under_way_is_bounded_and_the_rest_is_refused_at_once() {
    let Some(path) = Path::open(8, 2).await else { return };
    path.relay.hold();
    let crowd = async || {
        let (mut asked, mut refused) = (Vec::new(), 0);
        for _ in 0..100 {
            match path.ask_for(charges(&["crowd"], LARGE), PATIENCE).await {
                Ok(waits) => asked.push(waits),
                Err(Err(StoreError::Overloaded { waiting: 32 })) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        (asked, refused)
    };
    let (asked, refused) = crowd().await;
    assert_eq!((asked.len(), refused), (48, 52), "two calls of eight have left, and twice as many decisions wait");
    path.made(2).await;
    let (more, refused) = crowd().await;
    assert_eq!((more.len(), refused), (0, 100), "no third call leaves");
    path.made(2).await;
    path.relay.release();
    assert_eq!(used(&answers(asked).await), (1..=48).collect::<Vec<_>>());
    assert_eq!(path.redis.script_calls().await, 6, "all of them full");
    assert_eq!(path.used("crowd").await, 49, "who was refused was not charged");
}

#[tokio::test]
async fn who_goes_away_before_the_call_leaves_is_not_asked_for() {
    let Some(path) = Path::open(BATCH.decisions_max, 1).await else { return };
    path.relay.hold();
    let first = path.ask("away").await;
    path.made(1).await;
    let (mut stay, mut go) = (Vec::new(), Vec::new());
    for number in 0..40 {
        let set = if number % 4 == 0 { &mut stay } else { &mut go };
        set.push(path.ask("away").await);
    }
    drop(go);
    path.relay.release();
    assert_eq!(first.await.unwrap()[0].used, 1);
    assert_eq!(used(&answers(stay).await), (2..=11).collect::<Vec<_>>());
    assert_eq!(path.used("away").await, 12);
    assert_eq!(path.redis.script_calls().await, 3);
}

#[tokio::test]
async fn a_call_that_everybody_left_is_not_made() {
    let Some(path) = Path::open(4, 1).await else { return };
    path.relay.hold();
    let first = path.ask("empty").await;
    path.made(1).await;
    // A whole call of four, and three of the next.
    let mut gone = Vec::new();
    for _ in 0..7 {
        gone.push(path.ask("empty").await);
    }
    let last = path.ask("empty").await;
    drop(gone);
    path.relay.release();
    assert_eq!((first.await.unwrap()[0].used, last.await.unwrap()[0].used), (1, 2));
    assert_eq!(path.redis.script_calls().await, 2);
}

#[tokio::test]
async fn who_goes_away_while_the_call_is_under_way_takes_nothing_from_the_others() {
    let Some(path) = Path::open(BATCH.decisions_max, 1).await else { return };
    path.relay.hold();
    let (mut stay, mut go) = (Vec::new(), Vec::new());
    for number in 0..40 {
        let set = if number % 4 == 0 { &mut stay } else { &mut go };
        set.push(path.ask("under way").await);
    }
    path.made(1).await;
    drop(go);
    path.relay.release();
    assert_eq!(used(&answers(stay).await), (1..=40).step_by(4).collect::<Vec<_>>());
    assert_eq!(path.used("under way").await, 41);
}

#[tokio::test]
async fn whose_time_is_over_is_told_so_and_not_asked_for() {
    let Some(path) = Path::open(BATCH.decisions_max, 1).await else { return };
    path.relay.hold();
    let first = path.ask("late").await;
    path.made(1).await;
    let short = path.ask_for(charges(&["late"], LARGE), Duration::from_millis(20)).await.unwrap();
    let patient = path.ask("late").await;
    assert!(matches!(short.await, Err(StoreError::DeadlineExceeded { .. })));
    path.relay.release();
    assert_eq!((first.await.unwrap()[0].used, patient.await.unwrap()[0].used), (1, 2));
    assert_eq!(path.redis.script_calls().await, 2);
    assert!(path.ask_for(charges(&["late"], LARGE), Duration::ZERO).await.is_err(), "no time at all is over at once");
}

#[tokio::test]
async fn a_connection_that_breaks_fails_its_own_calls_and_nobody_else() {
    let Some(path) = Path::open(BATCH.decisions_max, 1).await else { return };
    path.relay.hold();
    let lost = join_all((0..10).map(|_| path.ask("broken"))).await;
    path.made(1).await;
    let waiting = join_all((0..10).map(|_| path.ask("broken"))).await;
    path.relay.cut();
    for answer in join_all(lost).await {
        assert!(matches!(answer, Err(StoreError::Unreachable { .. })), "{answer:?}");
    }
    path.relay.release();
    assert_eq!(used(&answers(waiting).await), (11..=20).collect::<Vec<_>>(), "the lost ones were not made again");
}

#[tokio::test]
async fn a_call_that_redis_refuses_fails_for_its_own_members_only() {
    let Some(path) = Path::open(2, 3).await else { return };
    path.relay.hold();
    let two = async || join_all((0..2).map(|_| path.ask("refused"))).await;
    let before = two().await;
    path.made(1).await;
    assert_eq!(path.redis.ask("CONFIG SET maxmemory 1").await, "+OK");
    let refused = two().await;
    path.made(2).await;
    assert_eq!(path.redis.ask("CONFIG SET maxmemory 0").await, "+OK");
    let after = two().await;
    path.made(3).await;
    path.relay.release();
    assert_eq!(used(&answers(before).await), [1, 2]);
    for answer in join_all(refused).await {
        assert!(matches!(answer, Err(StoreError::Refused { .. })), "{answer:?}");
    }
    assert_eq!(used(&answers(after).await), [3, 4]);
}
