//! Adaptive limits with the real parts: Prometheus, Redis, two replicas of the program, a proxy, and a service that
//! breaks when it is asked too much. What is claimed is counts and limits; how long anything took is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tidegate::demo::adaptive::rules_with;
use tidegate::demo::load::driver::{Notes, client, send};
use tidegate::demo::load::outcome::Outcome;
use tidegate::demo::load::profile::Profile;
use tidegate::key::CounterKey;
use tidegate::shop::inventory::{Inventory, LivePlant};
use tidegate::shop::plant::PlantSettings;
use tidegate::window::GateState;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use crate::support::eventually;
use crate::support::prometheus::Prometheus;
use crate::support::proxy::{Kind, Ports, Proxy};
use crate::support::redis::Redis;
use crate::support::shop::{Door, Service};
use crate::support::tidegate::Tidegate;

/// What the plant can do a second: 4 workers of 40 ms.
const CAPACITY: f64 = 100.0;

/// What it is asked for.
const OFFERED: f64 = 2.0 * CAPACITY;

/// The bounds in the shipped rules.
const BOUNDS: (f64, f64) = (20.0, 400.0);

/// A limit is found in a few steps of five to six seconds, on a busy machine later.
const PATIENCE: Duration = Duration::from_secs(90);

/// More than any test here takes.
const LOAD: Duration = Duration::from_secs(600);

/// The shop with an adaptive limit and twice the load that it bears.
struct Shop {
    redis: Redis,
    prometheus: Option<Prometheus>,
    tidegates: Vec<Tidegate>,
    plant: LivePlant,
    seen: Arc<Mutex<Seen>>,
    gate: Arc<Mutex<Vec<(u64, f64)>>>,
    watching: JoinHandle<()>,
    load: JoinHandle<()>,
    _proxy: Proxy,
    _inventory: Service,
}

/// What clients saw.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, u64>);

impl Notes for Seen {
    fn offer(&mut self, _due: Duration) {}

    fn end(&mut self, _due: Duration, _ended: Duration, outcome: Outcome) {
        *self.0.entry(outcome.name()).or_default() += 1;
    }
}

// === impl Shop ===

impl Shop {
    /// `None` where a program is missing.
    async fn open(kind: Kind) -> Option<Shop> {
        let ports = Ports::any();
        let redis = Redis::start().await?;
        let prometheus = Prometheus::of_proxy(ports.admin()).await?;
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules/adaptive.yaml");
        let rules = rules_with(&path, &prometheus.url()).unwrap();
        let files = [("adaptive.yaml", rules.as_str())];
        let tidegates = vec![Tidegate::serving(&redis, &files).await, Tidegate::serving(&redis, &files).await];
        let settings = PlantSettings::default().changed(&json!({ "service_time_ms": 40 })).unwrap();
        assert_eq!(settings.capacity(), CAPACITY);
        let (door, plant) = (Door::open().await, LivePlant::new(settings, 1));
        let address = door.address();
        let proxy = Proxy::start(kind, "adaptive.yaml", ports, [address; 3], &[&tidegates[0], &tidegates[1]]).await?;
        let inventory = door.inventory(&Inventory::Capacity(plant.clone()));
        eventually("the inventory is served", PATIENCE, async || {
            (proxy.http.get("/inventory/1").await.status == 200).then_some(())
        })
        .await;

        let (seen, target) = (Arc::new(Mutex::new(Seen::default())), proxy.http.address());
        let load = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                let instants = Profile::steady(OFFERED, LOAD).instants(7);
                let url = |id: u64| format!("http://{target}/inventory/{id}");
                send(&client(), url, instants, Instant::now(), &seen).await;
            }
        });
        let gate = Arc::new(Mutex::new(Vec::new()));
        let watching = tokio::spawn(watch(redis.url(), Arc::clone(&gate)));
        Some(Shop {
            redis,
            prometheus: Some(prometheus),
            tidegates,
            plant,
            seen,
            gate,
            watching,
            load,
            _proxy: proxy,
            _inventory: inventory,
        })
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.seen.lock().unwrap().0.get(outcome.name()).copied().unwrap_or_default()
    }

    /// Requests that the service or the breakers before it could not take.
    fn overloaded(&self) -> u64 {
        self.count(Outcome::Overloaded) + self.count(Outcome::Shed) + self.count(Outcome::TimedOut)
    }

    /// The limit as it was seen last.
    fn limit(&self) -> Option<f64> {
        self.gate.lock().unwrap().last().map(|(_, limit)| *limit)
    }

    /// Waits until so many more requests were answered well and none of those that came meanwhile was too much.
    async fn serves_without_overload(&self, good: u64) {
        eventually("so many are served and none is too much", PATIENCE, async || {
            let (served, overloaded) = (self.count(Outcome::Good), self.overloaded());
            eventually("more are served", PATIENCE, async || {
                (self.count(Outcome::Good) >= served + good).then_some(())
            })
            .await;
            (self.overloaded() == overloaded).then_some(())
        })
        .await;
    }

    async fn limit_comes_below(&self, bound: f64) {
        let what = format!("the limit comes below {bound}");
        eventually(&what, PATIENCE, async || self.limit().filter(|limit| *limit < bound)).await;
    }

    /// The number of the replica that decides.
    fn leader(&self) -> usize {
        let leads = |tidegate: &Tidegate| tidegate.log().contains("this replica decides about adaptive limits epoch");
        self.tidegates.iter().position(leads).expect("somebody has decided")
    }

    /// Ends the watching, and returns every limit that was seen with its generation.
    fn close(self) -> Vec<(u64, f64)> {
        self.watching.abort();
        self.load.abort();
        let gate = self.gate.lock().unwrap();
        gate.clone()
    }
}

/// Looks at the gate for ever, and notes each limit that is new.
async fn watch(url: String, gate: Arc<Mutex<Vec<(u64, f64)>>>) {
    let client = redis::Client::open(url).unwrap();
    let key = CounterKey::gate(b"tidegate:", "inventory");
    let mut ticks = interval(Duration::from_millis(20));
    let mut connection = None;
    loop {
        ticks.tick().await;
        if connection.is_none() {
            connection = client.get_connection().ok();
        }
        let Some(open) = &mut connection else { continue };
        match redis::cmd("GET").arg(key.as_bytes()).query::<Option<Vec<u8>>>(open) {
            Ok(bytes) => {
                let Some(state) = bytes.and_then(|bytes| GateState::decode(&bytes)) else { continue };
                let now = (state.governed.generation, state.governed.limit.per_second());
                let mut seen = gate.lock().unwrap();
                if seen.last() != Some(&now) {
                    seen.push(now);
                }
            }
            Err(_) => connection = None,
        }
    }
}

fn stays_within_its_bounds(seen: &[(u64, f64)]) {
    assert!(seen.len() > 1, "it moved: {seen:?}");
    for (_, limit) in seen {
        assert!((BOUNDS.0..=BOUNDS.1).contains(limit), "{limit} in {seen:?}");
    }
}

async fn protects(kind: Kind) {
    let Some(shop) = Shop::open(kind).await else { return };
    shop.limit_comes_below(OFFERED).await;
    shop.serves_without_overload(200).await;
    assert!(shop.overloaded() > 0, "it was too much at first");
    shop.plant.change(|settings| settings.changed(&json!({ "workers": 2 }))).unwrap();
    shop.limit_comes_below(CAPACITY * 0.7).await;
    shop.serves_without_overload(100).await;
    assert!(shop.count(Outcome::Refused) > 0, "who is too much is told so by the limit");
    stays_within_its_bounds(&shop.close());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_follows_what_a_service_can_bear_behind_the_bundled_proxy() {
    protects(Kind::Bundled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_follows_what_a_service_can_bear_behind_envoy() {
    protects(Kind::Envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_outlives_its_leader_and_prometheus_and_starts_anew_in_an_empty_redis() {
    let Some(mut shop) = Shop::open(Kind::Bundled).await else { return };
    shop.limit_comes_below(OFFERED).await;

    // The leader goes without a word.
    let leader = shop.leader();
    shop.tidegates[leader].process().kill();
    let killed_at = shop.gate.lock().unwrap().len();
    let mut heir = shop.tidegates.remove(1 - leader);
    eventually("the other one decides", PATIENCE, async || {
        heir.log().contains("this replica decides about adaptive limits epoch").then_some(())
    })
    .await;
    assert!(!heir.log().contains("starts at"), "it goes on with what was known");
    eventually("it changes the limit", PATIENCE, async || (shop.gate.lock().unwrap().len() > killed_at).then_some(()))
        .await;

    // Nobody knows how the service is.
    shop.prometheus = None;
    eventually("it says so", PATIENCE, async || heir.log().contains("no data: ").then_some(())).await;
    let begun = shop.limit();
    let held = eventually("the limit holds while requests go on", PATIENCE, async || {
        let (held, good) = (shop.limit(), shop.count(Outcome::Good));
        eventually("more are served", PATIENCE, async || (shop.count(Outcome::Good) > good + 100).then_some(())).await;
        (shop.limit() == held).then_some(held)
    })
    .await;
    assert!(held <= begun, "an unconfirmed raise may be taken back, and none is made: {begun:?}, {held:?}");

    let seen = shop.gate.lock().unwrap().clone();
    stays_within_its_bounds(&seen);
    for pair in seen.windows(2) {
        let [(before, from), (after, to)] = pair else { unreachable!() };
        assert_eq!(*after, before + 1, "no change is lost or made twice: {seen:?}");
        assert!(*to <= 2.0 * from, "it never jumps up: {seen:?}");
    }

    // All that was known is lost.
    shop.redis.stop();
    shop.redis.start_again().await;
    eventually("it starts anew", PATIENCE, async || (shop.limit() == Some(BOUNDS.1)).then_some(())).await;
    eventually("and says so", PATIENCE, async || {
        heir.log().contains("inventory: starts at 400/s, nothing is known of it").then_some(())
    })
    .await;
    assert!(heir.process().exit_status().is_none());
    shop.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_of_a_run_is_replayed_to_the_same_decisions() {
    let Some(shop) = Shop::open(Kind::Bundled).await else { return };
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let admin = shop.tidegates[0].admin_address().to_string();
    let mut recorder = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    recorder.args(["adaptive", "record", "inventory", "--for", "10m", "--admin", &admin]);
    let recorder = recorder.stdout(std::fs::File::create(path("ticks")).unwrap()).kill_on_drop(true).spawn().unwrap();
    shop.limit_comes_below(OFFERED).await;
    shop.serves_without_overload(100).await;
    let lines = eventually("a cut and a raise are recorded", PATIENCE, async || {
        let text = std::fs::read_to_string(path("ticks")).unwrap();
        // What follows the last line break is still being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]).to_owned();
        (whole.contains("\"action\":\"cut\"") && whole.contains("\"action\":\"raise\"")).then_some(whole)
    })
    .await;
    drop(recorder);
    std::fs::write(path("recording"), &lines).unwrap();
    let rules = std::fs::read_to_string("config/rules/adaptive.yaml").unwrap();
    let replayed = async |rules: &str| {
        std::fs::write(path("rules.yaml"), rules).unwrap();
        let (rules, recording) = (path("rules.yaml"), path("recording"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["simulate", "--service", "inventory", "--rules", &rules, "--replay", &recording]);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let same = replayed(&rules).await;
    assert!(same.contains("each decision is as it was recorded") && !same.contains("begins anew"), "{same}");
    assert!(
        same.contains(&format!("inventory, {} decisions", lines.lines().count())) && same.contains("(cut)"),
        "{same}"
    );
    let other = replayed(&rules.replace("max: 400/s", "max: 300/s")).await;
    assert!(other.contains("this is not the law of the recording"), "{other}");
    shop.close();
}
