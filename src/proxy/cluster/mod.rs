//! Clusters: hosts, how they are chosen, guarded and judged, and the connections to them.
//!
//! | File | What |
//! |---|---|
//! | `balance` | which host is next |
//! | `breaker` | how much there may be at once |
//! | `outlier`, `rates` | who answers badly |
//! | `health`, `check` | who says that it is well: the counting, and the asking |
//! | `resolve` | the addresses of a name |
//! | `host`, `pool`, `connection`, `stream` | a host, its connections, a connection, one request on it |
//! | `reset` | why a request had no answer |

mod balance;
mod breaker;
mod check;
mod connection;
mod health;
mod host;
mod outlier;
mod pool;
mod rates;
mod reset;
mod resolve;
mod stream;
#[cfg(test)]
mod test_settings;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use balance::Balancer;

pub use breaker::{Breaker, CircuitBreakers, Permit};
pub use host::{Host, HostStats, Unhealthy};
pub use outlier::Outcome;
use outlier::{Consequence, Detection, OutlierDetector, Reason};
use pool::{Pool, PoolSettings};
pub use reset::{Reset, ResetReason};
pub use stream::{AnswerBody, Stream};

use crate::proxy::bootstrap::model;
use crate::proxy::stats::ClusterStats;

/// A cluster at work.
#[derive(Debug)]
pub struct Cluster {
    /// What the file says of it.
    pub settings: model::Cluster,
    /// Its statistics.
    pub stats: Arc<ClusterStats>,
    pool_settings: Arc<PoolSettings>,
    hosts: ArcSwap<Hosts>,
    balancer: Balancer,
    outliers: Option<Mutex<OutlierDetector>>,
}

/// The hosts at one time.
#[derive(Debug, Default)]
struct Hosts {
    all: Vec<Arc<Host>>,
    healthy: Vec<Arc<Host>>,
}

/// Between two looks at connections that are idle or too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long the start waits for the first addresses and the first health checks; then the proxy serves without.
const WARM_UP_MAX: Duration = Duration::from_secs(15);

// === impl Cluster ===

impl Cluster {
    /// A cluster whose hosts are known if it is static.
    #[must_use]
    pub fn new(settings: model::Cluster) -> Arc<Cluster> {
        let stats = Arc::new(ClusterStats::new(settings.alt_stat_name.as_ref().unwrap_or(&settings.name)));
        let pool_settings = Arc::new(PoolSettings {
            protocol: settings.protocol,
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
            max_connection_duration: settings.max_connection_duration,
            max_requests_per_connection: settings.max_requests_per_connection,
            breakers: CircuitBreakers::new(&settings.circuit_breakers, &stats),
            stats: Arc::clone(&stats),
        });
        let cluster = Cluster {
            balancer: Balancer::new(settings.load_balancing, rand::random()),
            outliers: settings.outlier_detection.clone().map(|settings| Mutex::new(OutlierDetector::new(settings))),
            hosts: ArcSwap::default(),
            pool_settings,
            stats,
            settings,
        };
        let fixed = cluster.settings.endpoints.iter().filter_map(|endpoint| match endpoint.host {
            model::Host::Address(address) => Some((SocketAddr::new(address, endpoint.port), endpoint)),
            model::Host::Name(_) => None,
        });
        cluster.set_hosts(&fixed.collect::<Vec<_>>());
        Arc::new(cluster)
    }

    /// Does what goes on in the background, until `shutdown`. Returns when the cluster can be used: names have been
    /// looked up and hosts been checked for the first time.
    pub async fn start(self: &Arc<Cluster>, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let spawn = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = task => {}
                    () = shutdown.cancelled() => {}
                }
            });
        };
        let ready = Arc::new(tokio::sync::Notify::new());
        if matches!(self.settings.discovery, model::Discovery::StrictDns { .. }) {
            spawn(Box::pin(resolve::keep_resolving(Arc::clone(self), Arc::clone(&ready))));
            drop(timeout(WARM_UP_MAX, ready.notified()).await);
        }
        if !self.settings.health_checks.is_empty() {
            spawn(Box::pin(check::keep_checking(Arc::clone(self), Arc::clone(&ready))));
            drop(timeout(WARM_UP_MAX, ready.notified()).await);
        }
        if let Some(outliers) = &self.outliers {
            let period = lock(outliers).interval();
            spawn(Box::pin(Arc::clone(self).sweep_outliers(period)));
        }
        spawn(Box::pin(Arc::clone(self).close_idle_connections()));
    }

    /// The host for the next request; `None` if no healthy one is to be had. With too few healthy hosts all are used
    /// (panic), as their failing is then more likely the judges' fault.
    #[must_use]
    pub fn choose(&self) -> Option<Arc<Host>> {
        let hosts = self.hosts.load();
        #[allow(clippy::cast_precision_loss)] // numbers of hosts
        let healthy_percent = match hosts.all.len() {
            0 => 0.0,
            all => 100.0 * hosts.healthy.len() as f64 / all as f64,
        };
        let is_panic = healthy_percent < self.settings.healthy_panic_threshold;
        if is_panic {
            self.stats.traffic.lb_healthy_panic.increment();
        }
        let candidates = if is_panic { &hosts.all } else { &hosts.healthy };
        let index = self.balancer.choose(candidates, rand::random)?;
        Some(Arc::clone(&candidates[index]))
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.hosts.load().all.clone()
    }

    /// The bound on retries.
    #[must_use]
    pub fn retries(&self) -> &Arc<Breaker> {
        &self.pool_settings.breakers.retries
    }

    /// Says how one request to a host ended.
    pub fn report(&self, host: &Host, outcome: Outcome) {
        if let Some(outliers) = &self.outliers {
            let detections = lock(outliers).report(host.address, outcome, rand::random(), Instant::now());
            self.act_on(&detections);
        }
    }

    /// Sets or takes back the result of active health checks.
    fn set_checked(&self, host: &Host, is_healthy: bool) {
        let mut has_changed = host.mark(Unhealthy::FailedActiveCheck, !is_healthy);
        if is_healthy && let Some(outliers) = &self.outliers {
            let mut outliers = lock(outliers);
            if outliers.health_check_brings_back() && outliers.bring_back(host.address) {
                self.stats.outlier.ejections_active.set(outliers.ejected() as u64);
                has_changed |= host.mark(Unhealthy::Ejected, false);
            }
        }
        if has_changed {
            self.count_healthy();
        }
    }

    /// The hosts are these from now on. Who was there before stays who it is.
    fn set_hosts(&self, wanted: &[(SocketAddr, &model::Endpoint)]) {
        let before = self.hosts.load_full();
        let mut all: Vec<Arc<Host>> = Vec::with_capacity(wanted.len());
        for (address, endpoint) in wanted {
            let known = |hosts: &[Arc<Host>]| hosts.iter().find(|host| host.address == *address).cloned();
            if known(&all).is_none() {
                all.push(known(&before.all).unwrap_or_else(|| self.new_host(*address, endpoint)));
            }
        }
        let has_changed = all.len() != before.all.len()
            || all.iter().any(|host| !before.all.iter().any(|other| Arc::ptr_eq(host, other)));
        if has_changed {
            self.stats.traffic.membership_change.increment();
        }
        for gone in before.all.iter().filter(|host| !all.iter().any(|other| Arc::ptr_eq(host, other))) {
            gone.pool.close();
        }
        if let Some(outliers) = &self.outliers {
            let mut outliers = lock(outliers);
            outliers.set_hosts(all.iter().map(|host| host.address));
            self.stats.outlier.ejections_active.set(outliers.ejected() as u64);
        }
        self.stats.traffic.membership_total.set(all.len() as u64);
        self.publish(all);
    }

    fn new_host(&self, address: SocketAddr, endpoint: &model::Endpoint) -> Arc<Host> {
        let stats = Arc::new(HostStats::default());
        let pool = Pool::new(address, Arc::clone(&self.pool_settings), Arc::clone(&stats));
        let host = Host::new(address, endpoint, stats, Arc::new(pool));
        host.mark(Unhealthy::FailedActiveCheck, !self.settings.health_checks.is_empty());
        Arc::new(host)
    }

    fn count_healthy(&self) {
        self.publish(self.hosts.load().all.clone());
    }

    /// Two threads that publish at once both read the flags after they were set, so the later one is right.
    fn publish(&self, all: Vec<Arc<Host>>) {
        let healthy: Vec<Arc<Host>> = all.iter().filter(|host| host.is_healthy()).cloned().collect();
        self.stats.traffic.membership_healthy.set(healthy.len() as u64);
        self.stats.health_check.healthy.set(if self.settings.health_checks.is_empty() {
            0
        } else {
            healthy.len() as u64
        });
        self.hosts.store(Arc::new(Hosts { all, healthy }));
    }

    fn act_on(&self, detections: &[Detection]) {
        let stats = &self.stats.outlier;
        for Detection { host, reason, consequence } in detections {
            let (detected, enforced) = match reason {
                Reason::Consecutive5xx => {
                    stats.ejections_consecutive_5xx.increment();
                    stats.ejections_total.increment();
                    (Some(&stats.ejections_detected_consecutive_5xx), Some(&stats.ejections_enforced_consecutive_5xx))
                }
                Reason::ConsecutiveGatewayFailure => (
                    Some(&stats.ejections_detected_consecutive_gateway_failure),
                    Some(&stats.ejections_enforced_consecutive_gateway_failure),
                ),
                Reason::ConsecutiveLocalOriginFailure | Reason::SuccessRate | Reason::FailurePercentage => (None, None),
            };
            if let Some(counter) = detected {
                counter.increment();
            }
            match consequence {
                Consequence::Overflow => stats.ejections_overflow.increment(),
                Consequence::NotEnforced => {}
                Consequence::Ejected => {
                    stats.ejections_enforced_total.increment();
                    if let Some(counter) = enforced {
                        counter.increment();
                    }
                    tracing::info!(cluster = self.settings.name, %host, ?reason, "a host is ejected");
                    self.mark_ejected(*host, true);
                }
            }
        }
    }

    fn mark_ejected(&self, address: SocketAddr, is_ejected: bool) {
        let hosts = self.hosts.load();
        if let Some(host) = hosts.all.iter().find(|host| host.address == address)
            && host.mark(Unhealthy::Ejected, is_ejected)
        {
            if is_ejected {
                self.stats.outlier.ejections_active.increment();
                host.pool.close_unused();
            } else {
                self.stats.outlier.ejections_active.decrement();
            }
            self.count_healthy();
        }
    }

    async fn sweep_outliers(self: Arc<Cluster>, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let Some(outliers) = &self.outliers else { return };
            let (back, detections) = lock(outliers).sweep(rand::random(), Instant::now());
            for address in back {
                tracing::info!(cluster = self.settings.name, host = %address, "an ejected host is back");
                self.mark_ejected(address, false);
            }
            self.act_on(&detections);
        }
    }

    async fn close_idle_connections(self: Arc<Cluster>) {
        let mut ticks = interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for host in &self.hosts.load().all {
                host.pool.close_idle(Instant::now());
            }
        }
    }
}

fn lock(outliers: &Mutex<OutlierDetector>) -> MutexGuard<'_, OutlierDetector> {
    outliers.lock().unwrap_or_else(PoisonError::into_inner)
}
