//! The gate of an adaptive service as a request meets it: the limiter with rules that a service governs, over both
//! stores. What moves its limit is tested elsewhere; here nobody does, so it stands where it begins.

mod rule;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::SystemClock;
use tidegate::counters::any::{AnyStore, InRedis};
use tidegate::counters::memory::{MemoryLimits, MemoryStore};
use tidegate::counters::redis::RedisStore;
use tidegate::decision::{Code, Decision, ProcessModes};
use tidegate::descriptor::{Descriptor, Entry, Hits, RateQuery};
use tidegate::limit::{Limit, Unit, Window};
use tidegate::limiter::{Limiter, LimiterError, LimiterOptions};
use tidegate::metrics::Metrics;
use tidegate::rate::Rate;
use tidegate::rules::{Options, SourceFile, load};
use tidegate::table::{LimitTable, limit_table};
use tidegate::window::Governed;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::support::redis::Redis;
use crate::support::store::{BATCH, connector, redis_store};
use crate::support::{PATIENCE, cluster};

/// A service behind three rules, whose gate lets five requests through at once and one more in 100 s.
const RULES: &str = "
domain: shop
descriptors:
  - key: service
    value: inventory
    rate_limit: { unit: hour, requests_per_unit: 1000 }
  - key: user
    rate_limit: { unit: hour, requests_per_unit: 2 }
  - key: free
    rate_limit: { unlimited: true }
  - key: other
    rate_limit: { unit: hour, requests_per_unit: 1000 }
prometheus: { url: 'http://127.0.0.1:1', timeout: 1s }
services:
  - name: inventory
    mode: MODE
    governs:
      - { domain: shop, descriptor: [ { service: inventory } ] }
      - { domain: shop, descriptor: [ { user: } ] }
      - { domain: shop, descriptor: [ { free: } ] }
    bounds: { min: 1/s, max: 5/s }
    signals: { preset: envoy, cluster: inventory }
    scale_rules: SCALE
";

/// A limiter over one of the stores, and the rules it goes by.
#[derive(Clone)]
struct Door {
    limiter: Limiter<AnyStore>,
    table: LimitTable,
}

/// A descriptor of one entry: its key, its value, its hits.
type Asked = (&'static str, &'static str, Hits);

impl Door {
    fn new(store: AnyStore, rules: &str, modes: ProcessModes) -> Door {
        let metrics = Metrics::new(100);
        let (mut writer, table) = limit_table(metrics.clone(), 0.8);
        let file = SourceFile { name: "rules.yaml".to_owned(), text: rules.to_owned() };
        let (rules, _) = load(&[file], &Options::default()).unwrap_or_else(|errors| panic!("{errors:?}"));
        writer.publish(rules);
        let options = LimiterOptions {
            key_prefix: (*b"gates:").into(),
            modes,
            near_limit_ratio: 0.8,
            clock: Arc::new(SystemClock),
            expiry_jitter_max_s: 0,
        };
        Door { limiter: Limiter::new(table.clone(), store, metrics, Arc::new(options)), table }
    }

    async fn try_ask(&self, descriptors: &[Asked]) -> Result<Decision, LimiterError> {
        let descriptor = |(key, value, hits): &Asked| Descriptor {
            entries: [Entry { key, value }].into_iter().collect(),
            hits: *hits,
            limit_override: None,
        };
        let query = RateQuery::try_new("shop", descriptors.iter().map(descriptor).collect()).unwrap();
        let answer = self.limiter.decide(&query, Instant::now() + PATIENCE).await?;
        Ok(answer.decision)
    }

    async fn ask(&self, descriptors: &[Asked]) -> Decision {
        self.try_ask(descriptors).await.unwrap()
    }

    async fn passes(&self, descriptors: &[Asked]) -> bool {
        self.ask(descriptors).await.code == Code::Ok
    }
}

const ONE: Hits = Hits::Add(1);
const INVENTORY: Asked = ("service", "inventory", ONE);

/// Shows a claim for all stores. In a cluster a gate and the rules beside it are in different places.
async fn over_all<F: Future<Output = ()>>(rules: &str, modes: ProcessModes, claim: impl Fn(Door) -> F) {
    let memory = Arc::new(MemoryStore::new(SystemClock, MemoryLimits::default()));
    claim(Door::new(AnyStore::Memory(memory), rules, modes)).await;
    if let Some(redis) = Redis::start().await {
        claim(Door::new(AnyStore::Redis(InRedis::One(redis_store(&redis).await)), rules, modes)).await;
    }
    if let Some((_node, connector)) = cluster::alone().await {
        claim(Door::new(AnyStore::Redis(cluster::in_cluster(&connector).await), rules, modes)).await;
    }
}

/// The rules above; what drips in during a test is next to nothing at a hundredth of the rate.
fn rules(mode: &str) -> String {
    RULES.replace("MODE", mode).replace("SCALE", "false")
}

/// How many requests passed, and how long they were under way: so long is what a gate or a window gives back.
#[derive(Clone, Copy, Debug)]
struct Passed {
    count: usize,
    took: Duration,
}

/// The same of ten requests and the time that they took.
async fn ten_timed(door: &Door, descriptors: &[Asked]) -> Passed {
    let started = Instant::now();
    Passed { count: of_ten(door, descriptors).await, took: started.elapsed() }
}

/// How many of ten such requests pass.
async fn of_ten(door: &Door, descriptors: &[Asked]) -> usize {
    let mut passed = 0;
    for _ in 0..10 {
        passed += usize::from(door.passes(descriptors).await);
    }
    passed
}

/// With the gate's one second of burst and what comes in while they are asked for.
fn is_about_five(passed: Passed) {
    let most = 5 + (5.0 * passed.took.as_secs_f64()).ceil() as usize + 1;
    assert!((5..=most).contains(&passed.count), "{passed:?} of ten at a gate of five a second");
}

#[tokio::test]
async fn requests_of_all_governed_rules_pass_one_gate() {
    over_all(&rules("enforce"), ProcessModes::default(), |door| async move {
        let (mut passed, mut refused) = (0, None);
        for number in 0..30 {
            let which = [INVENTORY, ("free", "x", ONE)][number % 2];
            let decision = door.ask(&[which]).await;
            passed += usize::from(decision.code == Code::Ok);
            if decision.code == Code::OverLimit {
                refused = Some(decision);
            }
        }
        assert!(passed < 20, "{passed} of 30 passed a gate of five a second");
        let refused = refused.expect("some are refused");
        let status = &refused.statuses[0];
        let limit = status.current_limit.as_ref().unwrap().limit;
        assert_eq!((limit.requests_per_unit, limit.window.millis()), (5, 1_000), "the gate's limit is told");
        assert_eq!((status.gate, status.limit_remaining), (Some(0), 0));
        assert!((1..=200).contains(&status.reset_after_ms.unwrap()), "and when the next one fits");
        assert!(refused.needs_metadata());
    })
    .await;
}

#[tokio::test]
async fn a_request_passes_its_gate_once_whatever_it_costs_and_however_many_descriptors_lead_to_it() {
    over_all(&rules("enforce"), ProcessModes::default(), |door| async move {
        let costly = [("service", "inventory", Hits::Add(50)), ("free", "x", Hits::Add(9)), ("free", "x", ONE)];
        is_about_five(ten_timed(&door, &costly).await);
    })
    .await;
}

#[tokio::test]
async fn what_another_rule_refuses_is_not_charged_to_the_gate() {
    over_all(&rules("enforce"), ProcessModes::default(), |door| async move {
        let of_ada = [("user", "ada", ONE)];
        assert_eq!(of_ten(&door, &of_ada).await, 2, "two an hour");
        let status = door.ask(&of_ada).await.statuses[0].clone();
        assert_eq!((status.gate, status.current_limit.unwrap().limit.requests_per_unit), (None, 2));
        let passed = of_ten(&door, &[INVENTORY]).await;
        assert!(passed >= 3, "{passed}: the gate had room for five, of which ada took two");
    })
    .await;
}

#[tokio::test]
async fn looking_and_giving_back_take_nothing_from_the_gate_and_other_rules_know_none() {
    over_all(&rules("enforce"), ProcessModes::default(), |door| async move {
        for hits in [Hits::Add(0), Hits::GiveBack(3)] {
            assert_eq!(of_ten(&door, &[("service", "inventory", hits)]).await, 10, "{hits:?}");
        }
        assert_eq!(of_ten(&door, &[("other", "x", ONE)]).await, 10);
        is_about_five(ten_timed(&door, &[INVENTORY]).await);
    })
    .await;
}

#[tokio::test]
async fn an_observed_gate_and_a_process_in_shadow_mode_refuse_nobody() {
    let shadow = ProcessModes { shadow_mode: true, quota_mode: false };
    for (mode, modes) in [("observe", ProcessModes::default()), ("enforce", shadow)] {
        over_all(&rules(mode), modes, |door| async move {
            assert_eq!(of_ten(&door, &[INVENTORY]).await, 10);
        })
        .await;
    }
}

#[tokio::test]
async fn a_gate_that_is_off_stands_at_its_upper_bound() {
    over_all(
        &rules("off").replace("max: 5/s }", "max: 5/s }\n    start: 1/s"),
        ProcessModes::default(),
        |door| async move {
            is_about_five(ten_timed(&door, &[INVENTORY]).await);
        },
    )
    .await;
}

fn governed(per_second: f64) -> Governed {
    let limit = Rate::from_per_second(per_second);
    Governed { limit, toward: limit, written_at_ms: 0, hold_ms: 600_000, decay_ms: 1, generation: 1 }
}

#[tokio::test]
async fn without_its_store_a_replica_goes_on_with_its_share_of_the_gate() {
    let Some(mut redis) = Redis::start().await else { return };
    let tasks = TaskTracker::new();
    let store = RedisStore::start(connector(&redis), BATCH, &tasks);
    let door = Door::new(AnyStore::Redis(InRedis::One(store.clone())), &rules("enforce"), ProcessModes::default());
    store.reached().wait_for(|reached| *reached).await.unwrap();
    assert!(door.passes(&[INVENTORY]).await);
    let snapshot = door.table.load().unwrap();
    let now = tidegate::clock::Clock::now(&SystemClock);
    snapshot.gate(&snapshot.rules.services()[0]).learn(governed(4.0), 0, 4, now);
    redis.stop();
    let (mut refused, mut unanswered) = (0, 0);
    for _ in 0..10 {
        match door.try_ask(&[INVENTORY]).await {
            Ok(decision) => {
                assert_eq!((decision.code, decision.statuses[0].gate), (Code::OverLimit, Some(0)));
                refused += 1;
            }
            Err(error) => {
                assert!(matches!(error, LimiterError::Store(_)), "{error}");
                unanswered += 1;
            }
        }
    }
    assert!(unanswered >= 1 && refused >= 1, "{unanswered} left to the caller's policy, {refused} refused");
    let elsewhere = door.try_ask(&[("other", "x", ONE)]).await;
    assert!(elsewhere.is_err(), "what no service governs is the caller's to decide");
}

#[tokio::test]
async fn scaled_rules_keep_their_share_of_what_the_service_bears() {
    let text = RULES
        .replace("MODE", "enforce")
        .replace("SCALE", "true")
        .replace("requests_per_unit: 2 ", "requests_per_unit: 8 ");
    over_all(&text.replace("max: 5/s", "max: 400/s"), ProcessModes::default(), |door| async move {
        let snapshot = door.table.load().unwrap();
        let now = tidegate::clock::Clock::now(&SystemClock);
        snapshot.gate(&snapshot.rules.services()[0]).learn(governed(100.0), 0, 1, now);
        let of_ada = [("user", "ada", ONE)];
        assert_eq!(of_ten(&door, &of_ada).await, 2, "a quarter of eight");
        assert_eq!(door.ask(&of_ada).await.statuses[0].current_limit.as_ref().unwrap().limit.requests_per_unit, 2);
        snapshot.gate(&snapshot.rules.services()[0]).learn(governed(400.0), 0, 1, now);
        assert_eq!(of_ten(&door, &of_ada).await, 6, "and the rest when it recovers");
        snapshot.gate(&snapshot.rules.services()[0]).learn(governed(1.0), 0, 1, now);
        assert_eq!(of_ten(&door, &[("user", "bob", ONE)]).await, 1, "never below one");
    })
    .await;
}
