//! Redis Cluster: counters and records in seventeen slots, wherever these are, and however they move meanwhile.

mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate::counters::any::AnyStore;
use tidegate::counters::redis::cluster::slot;
use tidegate::counters::redis::lanes::Lane;
use tidegate::counters::redis::{Address, Connector, RedisStore, Server, SlotStore, Timeouts};
use tidegate::counters::spread::{InCluster, Reach, SpreadStore};
use tidegate::counters::{Charge, Charges, CounterStore, StoreError, Tallies};
use tidegate::demo::ports::HeldPort;
use tidegate::descriptor::Hits;
use tidegate::key::CounterKey;
use tidegate::limit::{Unit, Window};
use tidegate::metrics::Metrics;
use tidegate::window::{Charging, Counter, Enforcement, FixedWindow, Policy, ReferenceWindow};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::cluster::{Cluster, PASSWORD, alone, store, tagged};
use crate::support::redis::{Redis, free_port, value_of};
use crate::support::relay::Relay;
use crate::support::store::{BATCH, server};
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

fn key(name: &str) -> CounterKey {
    let mut key = CounterKey::write(b"cluster:", 1);
    key.value(name);
    key.finish()
}

fn policy(limit: u32) -> Policy {
    Policy::FixedWindow(FixedWindow::new(limit, Window::from(Unit::Week)))
}

fn charge(name: &str, limit: u32) -> Charge {
    Charge { key: key(name), policy: policy(limit), hits: Hits::Add(1), enforcement: Enforcement::Enforced }
}

async fn ask(
    store: &impl CounterStore,
    members: impl IntoIterator<Item = Charge>,
    within: Duration,
) -> Result<Tallies, StoreError> {
    let charges = Charges { members: members.into_iter().collect(), charging: Charging::AllOrNothing };
    store.charge(&charges, Instant::now() + within).await
}

// === resharding ===

/// Counters, their limit, and who asks.
const COUNTERS: usize = 96;
const LIMIT: u32 = 1_500;
const TASKS: usize = 48;

/// What came of the decisions about each counter.
struct Outcome {
    admitted: Vec<AtomicU64>,
    /// Decisions without an answer: they may have been charged.
    unknown: Vec<AtomicU64>,
    /// Refused decisions over this counter and another, which may have been charged.
    refused_together: Vec<AtomicU64>,
    alone_failed: AtomicU64,
    together: AtomicU64,
    together_failed: AtomicU64,
    is_over: AtomicBool,
}

impl Outcome {
    fn new() -> Arc<Outcome> {
        let zeros = || (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Outcome {
            admitted: zeros(),
            unknown: zeros(),
            refused_together: zeros(),
            alone_failed: AtomicU64::new(0),
            together: AtomicU64::new(0),
            together_failed: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    fn note(&self, counters: &[usize], answer: &Result<Tallies, StoreError>) {
        let add = |to: &[AtomicU64]| {
            for counter in counters {
                to[*counter].fetch_add(1, Ordering::Relaxed);
            }
        };
        match answer {
            Ok(tallies) if tallies.iter().all(|tally| tally.charged) => add(&self.admitted),
            Ok(_) if counters.len() > 1 => add(&self.refused_together),
            Ok(_) => {}
            Err(_) => add(&self.unknown),
        }
    }
}

/// Asks about one counter after the other until it is over; now and then about two at once, as a service would that waits
/// a tenth of a second.
async fn load(store: AnyStore, outcome: Arc<Outcome>, task: usize) {
    let name = |counter: usize| format!("counter {counter}");
    let mut counter = task;
    while !outcome.is_over.load(Ordering::Relaxed) {
        counter = (counter + 7) % COUNTERS;
        if !counter.is_multiple_of(4) {
            let answer = ask(&store, [charge(&name(counter), LIMIT)], PATIENCE).await;
            if let Err(error) = &answer {
                println!("alone: {error}");
                outcome.alone_failed.fetch_add(1, Ordering::Relaxed);
            }
            outcome.note(&[counter], &answer);
        } else {
            let both = [counter, (counter + 4 * task) % COUNTERS];
            if both[0] == both[1] {
                continue;
            }
            let members = both.map(|counter| charge(&name(counter), LIMIT));
            let answer = ask(&store, members, Duration::from_millis(100)).await;
            outcome.together.fetch_add(1, Ordering::Relaxed);
            outcome.together_failed.fetch_add(u64::from(answer.is_err()), Ordering::Relaxed);
            outcome.note(&both, &answer);
        }
    }
}

#[tokio::test]
async fn slots_that_move_under_load_admit_no_hit_too_many_and_lose_no_decision_over_one_counter() {
    let Some(cluster) = Cluster::start(3, true).await else { return };
    let metrics = Metrics::new(0);
    let replicas = [cluster.store().await, store(&cluster.connector().counted(&metrics)).await];
    let outcome = Outcome::new();
    let mut asking = JoinSet::new();
    for task in 0..TASKS {
        asking.spawn(load(replicas[task % 2].clone(), Arc::clone(&outcome), task));
    }
    // What is moved is live: every counter that is asked for alone is there.
    eventually("each counter is there", PATIENCE, async || {
        let mut alone = outcome.admitted.iter().enumerate().filter(|(counter, _)| !counter.is_multiple_of(4));
        alone.all(|(_, admitted)| admitted.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    let mut moved = 0;
    for round in 1..=2 {
        for lane in Lane::all() {
            let to = (cluster.owner(lane.slot()).await + round) % 3;
            moved += cluster.move_slot(lane.slot(), to).await;
        }
    }
    let redirects = || metrics.totals().redis_redirects.get();
    eventually("a decision was redirected", PATIENCE, async || (redirects() > 0).then_some(())).await;
    outcome.is_over.store(true, Ordering::Relaxed);
    while asking.join_next().await.transpose().expect("the load doesn't panic").is_some() {}

    let read = |numbers: &AtomicU64| numbers.load(Ordering::Relaxed);
    let admitted: u64 = outcome.admitted.iter().map(read).sum();
    println!(
        "{moved} keys moved; {admitted} decisions admitted meanwhile; over one counter {} failed; over two {} of {} failed \
         within 100 ms; {} redirects on one replica",
        read(&outcome.alone_failed),
        read(&outcome.together_failed),
        read(&outcome.together),
        redirects(),
    );
    assert!(moved > COUNTERS, "live counters were moved");
    assert_eq!(read(&outcome.alone_failed), 0, "a decision over one counter has its answer on one side or the other");
    for counter in 0..COUNTERS {
        let (admitted, unknown) = (read(&outcome.admitted[counter]), read(&outcome.unknown[counter]));
        let look = Charge { hits: Hits::Add(0), ..charge(&format!("counter {counter}"), LIMIT) };
        let used = ask(&replicas[0], [look], PATIENCE).await.expect("it answers")[0].used;
        assert!(admitted <= used && used <= u64::from(LIMIT), "counter {counter}: {admitted} admitted, {used} counted");
        // Nobody is charged twice: all that may be charged without having been admitted is what has no answer, and a
        // decision over two lanes that one of them refused.
        let refused = read(&outcome.refused_together[counter]);
        assert!(
            used <= admitted + unknown + refused,
            "counter {counter}: {used} counted, {admitted} + {unknown} + {refused}"
        );
        if !counter.is_multiple_of(4) {
            assert_eq!((used, unknown + refused), (admitted, 0), "counter {counter} is only asked for alone");
        }
    }
}

// === what is shared with envoyproxy/ratelimit ===

/// A counter under a key that a cluster places by itself.
fn shared(user: usize) -> Charge {
    let name = user.to_string();
    let mut key = CounterKey::reference(b"", "shop", [("user", name.as_str())].into_iter());
    key.begin_window(0);
    let window = ReferenceWindow::try_new(1_000_000, Window::from(Unit::Week)).expect("a week is whole");
    Charge { key, policy: Policy::ReferenceWindow(window), hits: Hits::Add(1), enforcement: Enforcement::Enforced }
}

#[tokio::test]
async fn a_counter_shared_with_the_reference_service_is_charged_once_wherever_its_slot_goes() {
    const USERS: usize = 32;
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let replicas = [cluster.store().await, cluster.store().await];
    let charged: Arc<Vec<AtomicU64>> = Arc::new((0..USERS).map(|_| AtomicU64::new(0)).collect());
    let is_over = Arc::new(AtomicBool::new(false));
    let mut asking = JoinSet::new();
    for task in 0..24 {
        let (store, charged, is_over) = (replicas[task % 2].clone(), Arc::clone(&charged), Arc::clone(&is_over));
        asking.spawn(async move {
            let mut user = task;
            while !is_over.load(Ordering::Relaxed) {
                user = (user + 5) % USERS;
                // Three counters, in three slots; each is charged on its own.
                let users = [user, (user + 11) % USERS, (user + 22) % USERS];
                let charges = Charges { members: users.map(shared).into_iter().collect(), charging: Charging::Each };
                let tallies = store.charge(&charges, Instant::now() + PATIENCE).await.expect("all three answer");
                assert!(tallies.iter().all(|tally| tally.charged));
                for user in users {
                    charged[user].fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    eventually("each counter is there", PATIENCE, async || {
        charged.iter().all(|charged| charged.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    let mut moved = 0;
    for round in 1..=2 {
        for user in 0..USERS {
            let slot = slot(shared(user).key.as_bytes());
            moved += cluster.move_slot(slot, (cluster.owner(slot).await + round) % 3).await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    while asking.join_next().await.transpose().expect("every decision has its answer").is_some() {}
    assert!(moved >= USERS, "live counters were moved");
    for user in 0..USERS {
        let look = Charges {
            members: [Charge { hits: Hits::Add(0), ..shared(user) }].into_iter().collect(),
            charging: Charging::Each,
        };
        let used = replicas[0].charge(&look, Instant::now() + PATIENCE).await.expect("it answers")[0].used;
        assert_eq!(used, charged[user].load(Ordering::Relaxed), "user {user}");
    }
}

/// The counters that a cluster places by itself, and no lanes: those would look for their masters, and for these too.
fn without_lanes(connector: &Connector) -> SpreadStore {
    let nowhere = Connector::new(named(free_port()), Timeouts { connect: PATIENCE, response: PATIENCE });
    let lanes = nowhere.lanes().expect("it leads to a cluster");
    let lanes = lanes.map(|lane| RedisStore::start(lane, BATCH, &TaskTracker::new()));
    let slots = SlotStore::new(connector).expect("it leads to a cluster");
    SpreadStore::new(Reach::Cluster(Box::new(InCluster { lanes, slots })), None)
}

#[tokio::test]
async fn many_who_need_the_map_ask_once_although_those_who_came_first_have_left() {
    let Some((node, _)) = alone().await else { return };
    let relay = Relay::to(&node).await;
    relay.hold();
    // A node is waited for far longer than anybody here waits for an answer.
    let timeouts = Timeouts { connect: 10 * PATIENCE, response: PATIENCE };
    let store = without_lanes(&Connector::new(named(relay.port()), timeouts));
    for _ in 0..20 {
        let answer = ask(&store, [shared(1)], Duration::from_millis(5)).await;
        assert!(answer.is_err(), "nobody knows yet where the counter is: {answer:?}");
    }
    let mut asking = JoinSet::new();
    for user in 0..200 {
        let store = store.clone();
        asking.spawn(async move { ask(&store, [shared(user)], PATIENCE).await.map(|tallies| tallies[0].used) });
    }
    eventually("the node is asked", PATIENCE, async || (relay.connections() > 0).then_some(())).await;
    relay.release();
    let used: Result<Vec<u64>, StoreError> = asking.join_all().await.into_iter().collect();
    assert_eq!(used.expect("all are answered"), vec![1; 200], "those who left were not charged");
    assert_eq!(node.calls().await.get("cluster|slots"), Some(&1));
    assert_eq!(relay.connections(), 1, "the question of the first was that of all");
}

#[tokio::test]
async fn a_node_that_says_it_serves_nothing_is_left_for_the_one_that_does() {
    let (Some((one, _)), Some((other, _))) = (alone().await, alone().await) else { return };
    // They know nothing of each other; the first is believed.
    assert_eq!(one.ask("CLUSTER SET-CONFIG-EPOCH 1").await, "+OK");
    let nodes = [&one, &other].map(|node| ("127.0.0.1".to_owned(), node.port()));
    let server = Server { address: Address::Cluster(nodes.into()), ..server(0) };
    let store = without_lanes(&Connector::new(server, Timeouts { connect: PATIENCE, response: PATIENCE }));
    let used = async || Some(ask(&store, [shared(1)], PATIENCE).await.ok()?[0].used);
    assert_eq!((used().await, used().await), (Some(1), Some(2)));

    assert_eq!(other.ask("CLUSTER SET-CONFIG-EPOCH 2").await, "+OK");
    assert_eq!(one.ask("CLUSTER DELSLOTSRANGE 0 16383").await, "+OK");
    assert_eq!(used().await, None, "there is no redirect to follow");
    assert_eq!(eventually("the other node is asked", PATIENCE, used).await, 1);
}

#[tokio::test]
async fn a_master_that_falls_silent_is_left_for_its_replica_although_nobody_waits_that_long() {
    let Some(mut cluster) = Cluster::start(3, true).await else { return };
    let timeouts = Timeouts { connect: Duration::from_secs(2), response: Duration::from_millis(500) };
    let store = without_lanes(&Connector::new(cluster.server(), timeouts));
    let user = (0..).find(|user| slot(shared(*user).key.as_bytes()) < 5_000).expect("some are");
    let charged = async || {
        let answer = ask(&store, [shared(user)], Duration::from_millis(100)).await;
        answer.ok().filter(|tallies| tallies[0].charged).map(drop)
    };
    eventually("the master is asked", PATIENCE, charged).await;
    cluster.pause(0);
    assert_eq!(charged().await, None);
    eventually("the replica is asked", PATIENCE, charged).await;
}

// === failover ===

#[tokio::test]
async fn a_master_that_dies_is_replaced_and_costs_at_most_what_replication_had_not_delivered() {
    const LIMIT: u32 = 20_000;
    let Some(mut cluster) = Cluster::start(3, true).await else { return };
    let store = cluster.store().await;
    // A counter on the first master.
    let name = (0..).map(|number| format!("user {number}"));
    let name = name.into_iter().find(|name| Lane::of(&key(name)).slot() < 5_000).expect("some are");
    let held = async |redis: &Redis| {
        let bytes = value_of(redis, PASSWORD, &tagged(&key(&name))).await;
        bytes.and_then(|bytes| policy(LIMIT).decode_counter(&bytes)).as_ref().map_or(0, Counter::used)
    };
    // Everybody asks until no answer comes, and never again.
    let ask_all = async |asked: usize| {
        let mut asking = JoinSet::new();
        for _ in 0..64 {
            let (store, name) = (store.clone(), name.clone());
            asking.spawn(async move {
                let mut admitted = 0;
                for _ in 0..asked {
                    match ask(&store, [charge(&name, LIMIT)], PATIENCE).await {
                        Ok(tallies) => admitted += u64::from(tallies[0].charged),
                        Err(_) => break,
                    }
                }
                admitted
            });
        }
        asking.join_all().await.into_iter().sum::<u64>()
    };
    let (before, ()) = tokio::join!(ask_all(usize::MAX), async {
        eventually("a good part of the budget is used", PATIENCE, async || {
            (held(&cluster.masters()[0].redis).await > 2_000).then_some(())
        })
        .await;
        cluster.stop(0);
    });
    let replica = cluster.replica(0);
    eventually("the replica serves the slots of its master", PATIENCE, async || {
        let well = replica.ask("CLUSTER INFO").await.contains("cluster_state:ok");
        (well && replica.ask("INFO replication").await.contains("role:master")).then_some(())
    })
    .await;
    let kept = held(&replica.redis).await;
    let lost = before.saturating_sub(kept);
    let mut after = 0;
    eventually("decisions are made again", PATIENCE, async || {
        let tallies = ask(&store, [charge(&name, LIMIT)], PATIENCE).await.ok()?;
        after += u64::from(tallies[0].charged);
        Some(())
    })
    .await;
    // Until the budget is used up, which an answer says; that there is none says nothing.
    eventually("the budget is used up", PATIENCE, async || {
        after += ask_all(100).await;
        let one_more = ask(&store, [charge(&name, LIMIT)], PATIENCE).await.ok()?[0].charged;
        after += u64::from(one_more);
        (!one_more).then_some(())
    })
    .await;
    println!("{before} admitted before, {kept} of them replicated, {after} admitted after");
    assert!(
        before + after <= u64::from(LIMIT) + lost,
        "{before} + {after} are over by more than {lost}, which were lost"
    );
    assert_eq!(held(&replica.redis).await, u64::from(LIMIT), "the new master admits all that it knows to be left");
}

// === what can be wrong ===

/// Why a lane's decisions fail for good.
async fn reason(server: Server, lane: usize) -> String {
    let connector = Connector::new(server, Timeouts { connect: PATIENCE, response: PATIENCE });
    let lanes = connector.lanes().expect("it leads to a cluster");
    let store = RedisStore::start(lanes[lane].clone(), BATCH, &TaskTracker::new());
    eventually("an attempt has failed", PATIENCE, async || {
        let error = ask(&store, [charge("x", 1)], PATIENCE).await.err()?;
        Some(error.to_string()).filter(|text| !text.contains("not reached yet"))
    })
    .await
}

fn named(port: u16) -> Server {
    Server { address: Address::Cluster(vec![("127.0.0.1".to_owned(), port)]), ..server(0) }
}

#[tokio::test]
async fn what_is_no_cluster_or_not_all_of_one_is_said_in_a_sentence() {
    let Some(single) = Redis::start().await else { return };
    let nobody = HeldPort::any().unwrap();
    let port = nobody.address().port();
    let text = reason(named(port), 0).await;
    assert!(text.contains(&format!("the cluster of 127.0.0.1:{port}: node 127.0.0.1:{port}: ")), "{text}");
    let text = reason(named(single.port()), 0).await;
    assert!(text.contains("cluster support disabled"), "{text}");

    let arguments = |bus: u16| {
        let arguments = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-port"];
        arguments.into_iter().map(str::to_owned).chain([bus.to_string()]).collect()
    };
    let half = Redis::start_with_two_ports(arguments).await.expect("there is a Redis");
    assert_eq!(half.ask("CLUSTER ADDSLOTSRANGE 0 8191").await, "+OK");
    let text = reason(named(half.port()), 12).await;
    assert!(text.contains("no node serves slot 12774; 8192 of 16384 slots are served"), "{text}");
    let text = reason(Server { password: Some("hunter2".to_owned()), ..named(half.port()) }, 0).await;
    assert!(text.contains("Password authentication failed") && !text.contains("hunter2"), "{text}");
}

// === the service ===

const RULES: &str = "domain: shop
descriptors:
- key: who
  rate_limit: {unit: week, requests_per_unit: 1}
- key: path
  rate_limit: {unit: week, requests_per_unit: 100}
";

#[tokio::test]
async fn the_references_variables_lead_into_a_cluster() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    for profile in ["none", "envoyproxy"] {
        let tidegate = Launch::new(&[("rules.yaml", RULES)])
            .setting("REDIS_TYPE", "CLUSTER")
            .setting("REDIS_URL", cluster.reference_url())
            .setting("REDIS_AUTH", PASSWORD)
            .setting("TIDEGATE_COMPATIBILITY", profile)
            .start()
            .await;
        tidegate.becomes(ServingStatus::Serving).await;
        admits_one_of_each(&tidegate).await;
        assert!(!tidegate.log().contains(PASSWORD), "{}", tidegate.log());
    }
}

/// Asks twice for each of twenty.
async fn admits_one_of_each(tidegate: &Tidegate) {
    let ask = async |who: &str| {
        let question = format!(
            r#"{{"domain": "shop", "descriptors": [{{"entries": [{{"key": "who", "value": "{who}"}}]}},
                {{"entries": [{{"key": "path", "value": "/"}}]}}]}}"#
        );
        tidegate.http().post("/json", question).await.status
    };
    for number in 0..20 {
        let who = format!("user {number}");
        assert_eq!((ask(&who).await, ask(&who).await), (http::StatusCode::OK, http::StatusCode::TOO_MANY_REQUESTS));
    }
}
