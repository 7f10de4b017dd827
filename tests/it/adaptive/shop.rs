//! The shop with an adaptive limit: Redis, Prometheus, replicas, a proxy, an inventory that breaks when it is asked too
//! much, load, and watchers of the limit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tidegate::demo::adaptive::rules_with;
use tidegate::demo::load::driver::{Notes, client, send};
use tidegate::demo::load::outcome::Outcome;
use tidegate::demo::load::profile::Profile;
use tidegate::shop::inventory::{Inventory, LivePlant};
use tidegate::shop::plant::PlantSettings;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::front::Front;
use super::watch::{Watch, metric};
use crate::support::eventually;
use crate::support::pauses::Pauses;
use crate::support::prometheus::Prometheus;
use crate::support::proxy::{Kind, Ports, Proxy};
use crate::support::redis::Redis;
use crate::support::shop::{Door, Service};
use crate::support::tidegate::Tidegate;

/// What the plant can do a second: 4 workers of 40 ms.
pub(super) const CAPACITY: f64 = 100.0;

/// The bounds in the shipped rules.
pub(super) const BOUNDS: (f64, f64) = (20.0, 400.0);

/// A limit is found in a few steps of five to six seconds, on a busy machine later.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// More than any test here takes.
const LOAD: Duration = Duration::from_secs(600);

/// What is opened.
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) replicas: usize,
    /// Requests a second to the inventory.
    pub(super) offered: f64,
    /// The same to the users' service, which no limit protects.
    pub(super) offered_to_users: f64,
    /// In the place of the shipped rules' bounds.
    pub(super) bounds: &'static str,
    /// In the place of the cluster whose signals are read.
    pub(super) cluster: &'static str,
}

/// The shop; everything ends when it is dropped.
pub(super) struct Shop {
    pub(super) redis: Redis,
    pub(super) prometheus: Prometheus,
    pub(super) front: Front,
    pub(super) tidegates: Vec<Tidegate>,
    pub(super) plant: LivePlant,
    pub(super) watch: Watch,
    seen: Arc<Mutex<Seen>>,
    pauses: Pauses,
    _load: JoinSet<()>,
    _proxy: Proxy,
    _services: [Service; 2],
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    counts: BTreeMap<&'static str, u64>,
    /// What was neither answered well nor refused by the limit: from when to when it was under way.
    failed: Vec<(Instant, Instant, Outcome)>,
}

impl Notes for Seen {
    fn offer(&mut self, _due: Duration) {}

    fn end(&mut self, due: Duration, ended: Duration, outcome: Outcome) {
        *self.counts.entry(outcome.name()).or_default() += 1;
        if !matches!(outcome, Outcome::Good | Outcome::Refused) {
            let now = Instant::now();
            self.failed.push((now.checked_sub(ended.saturating_sub(due)).unwrap_or(now), now, outcome));
        }
    }
}

/// The bounds in the shipped rules, and the cluster.
pub(super) const SHIPPED_BOUNDS: &str = "bounds: { min: 20/s, max: 400/s }";
pub(super) const SHIPPED_CLUSTER: &str = "inventory_service";

// === impl Plan ===

impl Plan {
    /// Two replicas with the shipped rules, and twice the load that the inventory bears.
    pub(super) fn overload(kind: Kind) -> Plan {
        Plan {
            kind,
            replicas: 2,
            offered: 2.0 * CAPACITY,
            offered_to_users: 0.0,
            bounds: SHIPPED_BOUNDS,
            cluster: SHIPPED_CLUSTER,
        }
    }

    /// A limit that begins so low that it is raised at each look for a minute and more, before an inventory that bears
    /// all that is asked of it: whatever keeps it from rising is the fault.
    pub(super) fn climbing() -> Plan {
        Plan {
            offered: 0.95 * CAPACITY,
            bounds: "bounds: { min: 20/s, max: 400/s }\n    start: 30/s",
            ..Plan::overload(Kind::Bundled)
        }
    }

    /// The rules, with that Prometheus.
    pub(super) fn rules(&self, prometheus: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules/adaptive.yaml");
        let rules = rules_with(&path, prometheus).unwrap();
        let (cluster, shipped) = (format!("cluster: {}", self.cluster), format!("cluster: {SHIPPED_CLUSTER}"));
        assert!(rules.contains(SHIPPED_BOUNDS) && rules.contains(&shipped), "{rules}");
        rules.replace(SHIPPED_BOUNDS, self.bounds).replace(&shipped, &cluster)
    }
}

// === impl Shop ===

impl Shop {
    /// `None` where a program is missing.
    pub(super) async fn open(plan: &Plan) -> Option<Shop> {
        let ports = Ports::any();
        let redis = Redis::start().await?;
        let prometheus = Prometheus::of_proxy(ports.admin()).await?;
        let front = Front::before(prometheus.address()).await;
        let rules = plan.rules(&front.url());
        let mut tidegates = Vec::new();
        for _ in 0..plan.replicas {
            tidegates.push(Tidegate::serving(&redis, &[("adaptive.yaml", rules.as_str())]).await);
        }
        let settings = PlantSettings::default().changed(&json!({ "service_time_ms": 40 })).unwrap();
        assert_eq!(settings.capacity(), CAPACITY);
        let (inventory, users, plant) = (Door::open().await, Door::open().await, LivePlant::new(settings, 1));
        let services = [users.address(), inventory.address(), inventory.address()];
        let proxied: Vec<&Tidegate> = tidegates.iter().collect();
        let proxy = Proxy::start(plan.kind, "adaptive.yaml", ports, services, &proxied).await?;
        let services = [users.user(), inventory.inventory(&Inventory::Capacity(plant.clone()))];
        eventually("the inventory is served", PATIENCE, async || {
            (proxy.http.get("/inventory/1").await.status == 200).then_some(())
        })
        .await;

        let (seen, pauses) = (Arc::new(Mutex::new(Seen::default())), Pauses::watch());
        let mut load = JoinSet::new();
        load.spawn(ask(proxy.http.address(), "inventory", plan.offered, Arc::clone(&seen)));
        if plan.offered_to_users > 0.0 {
            load.spawn(ask(proxy.http.address(), "users", plan.offered_to_users, Arc::default()));
        }
        let watch = Watch::begin(redis.url(), tidegates.iter().map(Tidegate::http_address).collect());
        Some(Shop {
            redis,
            prometheus,
            front,
            tidegates,
            plant,
            watch,
            seen,
            pauses,
            _load: load,
            _proxy: proxy,
            _services: services,
        })
    }

    pub(super) fn count(&self, outcome: Outcome) -> u64 {
        self.seen.lock().unwrap().counts.get(outcome.name()).copied().unwrap_or_default()
    }

    /// Requests that the service or the breakers before it could not take.
    pub(super) fn overloaded(&self) -> u64 {
        self.count(Outcome::Overloaded) + self.count(Outcome::Shed) + self.count(Outcome::TimedOut)
    }

    /// Requests that were neither answered well nor refused by the limit, and for which no pause of the machine answers:
    /// what is due meanwhile comes all at once, and is more than the service's breakers take.
    pub(super) fn failed(&self) -> Vec<Outcome> {
        self.failed_since(0)
    }

    /// How many requests were neither answered well nor refused by the limit so far, whatever answers for it.
    pub(super) fn ended_badly(&self) -> usize {
        self.seen.lock().unwrap().failed.len()
    }

    /// The same as [`Shop::failed`] without the first so many of [`Shop::ended_badly`].
    pub(super) fn failed_since(&self, before: usize) -> Vec<Outcome> {
        let failed = self.seen.lock().unwrap().failed[before..].to_vec();
        let failed = failed.into_iter().filter(|(from, to, _)| !self.pauses.touched(*from, *to));
        failed.map(|(_, _, outcome)| outcome).collect()
    }

    /// Waits until so many more requests were answered well.
    pub(super) async fn serves(&self, good: u64) {
        let served = self.count(Outcome::Good);
        eventually("more are served", PATIENCE, async || (self.count(Outcome::Good) >= served + good).then_some(()))
            .await;
    }

    /// Waits until the gate's limit is above `rate`.
    pub(super) async fn limit_rises_above(&self, rate: f64) {
        let what = format!("the limit rises above {rate}");
        eventually(&what, PATIENCE, async || self.watch.limit().filter(|limit| *limit > rate)).await;
    }

    /// Waits until one of the replicas that live says that it decides, and returns its place.
    pub(super) async fn leader(&self) -> usize {
        eventually("somebody decides", PATIENCE, async || {
            for (place, tidegate) in self.tidegates.iter().enumerate() {
                if metric(tidegate.http(), "tidegate_adaptive_leader").await == Some(1.0) {
                    return Some(place);
                }
            }
            None
        })
        .await
    }

    /// Questions that had no usable answer, of that kind, by whichever replica they were asked.
    async fn fetch_failures(&self, kind: &str) -> Option<f64> {
        let name = format!("tidegate_adaptive_fetch_failures_total{{kind=\"{kind}\"}}");
        let mut failures = 0.0;
        for tidegate in &self.tidegates {
            failures += metric(tidegate.http(), &name).await?;
        }
        Some(failures)
    }

    /// Waits until so many more questions had no usable answer, of that kind.
    pub(super) async fn has_asked_in_vain(&self, kind: &str, times: u32) {
        let before = eventually("failures are counted", PATIENCE, async || self.fetch_failures(kind).await).await;
        eventually(&format!("{times} more questions are {kind}"), PATIENCE, async || {
            self.fetch_failures(kind).await.filter(|failures| *failures >= before + f64::from(times))
        })
        .await;
    }
}

/// Asks a service through the proxy for ever.
async fn ask(proxy: SocketAddr, service: &'static str, per_second: f64, seen: Arc<Mutex<Seen>>) {
    let instants = Profile::steady(per_second, LOAD).instants(7);
    send(&client(), |id| format!("http://{proxy}/{service}/{id}"), instants, Instant::now(), &seen).await;
}
