//! The process: everything is made here, in the order in which it is needed, and ended in reverse.
//!
//! [`App::bind`] checks what can be wrong before anything is served: the rules are loaded, or waited for where a server
//! tells them, and both ports are bound, so their addresses are known. [`App::run`] serves until its shutdown future ends, and then keeps the promise that
//! nothing is lost: health says no first, then the ports are closed and clients told by GOAWAY, then every call under
//! way is answered. Redis may be away all the while: the service comes up, says so, and is not healthy until it has
//! been reached.

mod adaptive;
mod debug;
mod error;
mod metrics;
mod port_tls;
mod redis_server;
mod rules;
mod store_health;
mod traces;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::adaptive::Adaptive;
use self::debug::DebugPort;
pub use self::error::{RunError, StartError};
use self::metrics::ShownMetrics;
use self::redis_server::RedisMaker;
use self::rules::RulesFrom;
use crate::clock::SystemClock;
use crate::counters::any::AnyStore;
use crate::counters::memory::{MemoryLimits, MemoryStore};
use crate::counters::over_limit::OverLimitMemory;
use crate::decision::ProcessModes;
use crate::descriptor::{Descriptor, Entry, Hits};
use crate::health::{Component, Health};
use crate::limiter::{Limiter, LimiterOptions};
use crate::metrics::Metrics;
use crate::rls::connection::ConnectionLimits;
use crate::rls::headers::HeaderNames;
use crate::rls::listening::Listening;
use crate::rls::registry::{self, SideServices};
use crate::rls::router::Router;
use crate::rls::server::{ServerLimits, Workers};
use crate::rls::tls::Acceptor;
use crate::rls::tls::renewal::{self, renew};
use crate::rls::{RlsOptions, RlsService};
use crate::rules::RuleSet;
use crate::settings::{GrpcSettings, Settings, StoreKind};
use crate::statsd::Statsd;
use crate::table::{LimitTable, limit_table};
use crate::trace::{Store, Tracer};
use crate::web::{self, AdaptiveLimits, WebLimits, WebState};

/// A process that is ready to serve.
#[derive(Debug)]
pub struct App {
    settings: Settings,
    metrics: Metrics,
    health: Health,
    table: LimitTable,
    rules: RulesFrom,
    store: StoreMaker,
    grpc: Listening,
    /// Only if the gRPC port speaks TLS.
    acceptor: Option<Acceptor>,
    http: TcpListener,
    /// Only if there are adaptive services.
    admin: Option<TcpListener>,
    shown: ShownMetrics,
    debug: DebugPort,
}

/// Makes a core's store.
#[derive(Clone, Debug)]
enum StoreMaker {
    Memory(Arc<MemoryStore>),
    Redis(Arc<RedisMaker>),
}

/// Makes a core's service: everything that the cores share, and the way to a store of their own.
#[derive(Clone, Debug)]
struct ServiceMaker {
    table: LimitTable,
    metrics: Metrics,
    store: StoreMaker,
    over_limit: Option<Arc<OverLimitMemory>>,
    tracer: Option<Tracer>,
    limiter: Arc<LimiterOptions>,
    rls: Arc<RlsOptions>,
    /// Where each core's store says that Redis was reached.
    reached: mpsc::Sender<watch::Receiver<bool>>,
}

/// What a process prints at its start: where it listens, what it read, and what to try.
#[derive(Debug)]
pub struct Greeting<'a>(&'a App);

/// How often expired counters are looked for in memory; each time a slice of them is.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

// === impl App ===

impl App {
    /// Loads the rules and binds the ports. Nothing is served yet.
    ///
    /// # Errors
    /// When the rules have mistakes or a port can't be had.
    pub async fn bind(settings: Settings) -> Result<App, StartError> {
        let metrics = Metrics::new(settings.metrics.series_max);
        let store = StoreMaker::new(&settings, &metrics);
        let health = Health::new(&needed(&settings, &store));
        let (mut writer, table) = limit_table(metrics.clone(), settings.near_limit_ratio);
        if settings.rules.needed_for_health {
            writer.report_to(health.clone());
        }
        let rules = RulesFrom::open(&settings.rules, writer, &metrics).await?;
        let acceptor = port_tls::acceptor(&settings.grpc)?;
        let grpc = listen_grpc(&settings.grpc).await?;
        let http = listen(&settings.http.host, settings.http.port, "http.port").await?;
        let admin = adaptive::admin_listener(&settings.admin, &table).await?;
        let shown = ShownMetrics::bind(&settings.metrics.prometheus, &metrics).await?;
        let debug = DebugPort::bind(&settings.debug).await;
        Ok(App { settings, metrics, health, table, rules, store, grpc, acceptor, http, admin, shown, debug })
    }

    /// Where the HTTP port listens.
    ///
    /// # Errors
    /// When the system doesn't know.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// What to print at the start.
    #[must_use]
    pub fn greeting(&self) -> Greeting<'_> {
        Greeting(self)
    }

    /// Serves until `shutdown` ends, then answers what is under way.
    ///
    /// # Errors
    /// When a worker can't be started.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RunError> {
        let App { settings, metrics, health, table, rules, store, grpc, acceptor, http, admin, mut shown, debug } =
            self;
        // In this order: nothing new is let in, what was let in is answered, everything else ends.
        let (stop, drain, end) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let workers = settings.runtime.workers.or_else(|| std::thread::available_parallelism().ok());
        let workers = workers.map_or(1, NonZeroUsize::get);

        let stores = (workers + 1) * store.stores_per_core();
        // Memory is there from the start, but a channel has a place.
        let (reached, receivers) = mpsc::channel(stores.max(1));
        let mut maker = ServiceMaker::new(&settings, table.clone(), metrics.clone(), store.clone(), reached);
        if let Some((tracer, exporter)) = traces::start(&settings, store.traced_as(), &metrics) {
            maker.tracer = Some(tracer);
            // The last spans are those of the last calls.
            tasks.spawn(exporter.run(end.clone()));
        }
        let (others, reporter) = registry::services(settings.grpc.reflection)?;
        registry::announce(&health, &reporter).await;
        tasks.spawn(registry::follow(health.clone(), reporter.clone(), end.clone()));
        tasks.spawn(rules.follow(stop.clone()));
        tasks.spawn(metrics::forget_idle_series(metrics.clone(), stop.clone()));
        let key_prefix = settings.store.key_prefix.as_bytes();
        let admin = (settings.admin.clone(), admin);
        let adaptive = Adaptive::new(table.clone(), &store, key_prefix, admin, settings.shutdown.timeout);
        let adaptive_view = adaptive.view();
        tasks.spawn(adaptive.run(stop.clone()));
        if let Some(statsd) = &settings.metrics.statsd {
            // The last flush comes when every call was answered.
            tasks.spawn(Statsd::new(statsd.clone(), metrics.clone()).run(end.clone()));
        }
        tasks.spawn(debug.serve(table.clone(), metrics.clone(), settings.shutdown.timeout, stop.clone()));
        match &store {
            StoreMaker::Memory(store) => {
                tasks.spawn(sweep(Arc::clone(store), metrics.clone(), stop.clone()));
            }
            StoreMaker::Redis(redis) => {
                let connections = redis.open_connections();
                tasks.spawn(store_health::follow(receivers, stores, connections, health.clone(), stop.clone()));
            }
        }
        let web_store = TaskTracker::new();
        let answer = maker.service(&web_store);
        let web_state = WebState {
            answer,
            health: health.clone(),
            scraper: shown.scraper(&metrics, AdaptiveLimits::new(adaptive_view)),
        };
        let web_limits = WebLimits {
            connections_max: settings.http.connections_max,
            body_bytes_max: settings.http.request_bytes_max,
            header_timeout: settings.http.header_timeout,
            drain_timeout: settings.shutdown.timeout,
            ..WebLimits::default()
        };
        tasks.spawn(shown.serve(web_state.scraper.clone(), web_limits, end.clone()));
        let request_bytes_max = settings.grpc.request_bytes_max;
        let router = move |background: &TaskTracker| maker.router(&others, request_bytes_max, background);
        if let Some(acceptor) = &acceptor {
            tasks.spawn(renew(acceptor.clone(), SystemClock, renewal::INTERVAL, metrics.clone(), stop.clone()));
        }
        let workers = Workers::start(workers, server_limits(&settings), acceptor, metrics, &drain, router)?;

        let serving = async {
            let web = web::serve(http, web_state, web_limits, stop.clone());
            let accepting = async {
                workers.accept(grpc, stop.clone()).await;
                drain.cancel();
            };
            tokio::join!(accepting, web);
        };
        let stopping = async {
            shutdown.await;
            tracing::info!("stopping: health says no from now on");
            health.shut_down();
            registry::announce(&health, &reporter).await;
            sleep(settings.shutdown.delay).await;
            stop.cancel();
        };
        tokio::join!(serving, stopping);
        if workers.join().await {
            tracing::info!("stopped: every call was answered");
        } else {
            let timeout_ms = settings.shutdown.timeout.as_millis();
            tracing::warn!(timeout_ms, "stopped: some connections did not end in time and were cut");
        }
        end.cancel();
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

/// The gRPC port: at a path if there is one, else at host and port.
async fn listen_grpc(settings: &GrpcSettings) -> Result<Listening, StartError> {
    match &settings.unix_socket {
        Some(path) => {
            Listening::bind_unix(path).map_err(|source| StartError::UnixSocket { path: path.clone(), source })
        }
        None => listen(&settings.host, settings.port, "grpc.port").await.map(Listening::from),
    }
}

/// The parts without which this process should get no requests.
fn needed(settings: &Settings, store: &StoreMaker) -> Vec<Component> {
    let rules = settings.rules.needed_for_health.then_some(Component::Rules);
    let store = matches!(store, StoreMaker::Redis(_)).then_some(Component::Store);
    rules.into_iter().chain(store).collect()
}

async fn listen(host: &str, port: u16, setting: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind((host, port)).await.map_err(|source| StartError::Port {
        host: host.to_owned(),
        port,
        setting,
        source,
    })
}

fn server_limits(settings: &Settings) -> ServerLimits {
    let grpc = &settings.grpc;
    ServerLimits {
        connections_max: grpc.connections_max,
        connection: ConnectionLimits {
            streams_max: grpc.streams_per_connection_max,
            handshake_timeout: grpc.handshake_timeout,
            age_max: grpc.connection_age,
            age_grace: grpc.connection_age_grace,
            keepalive_interval: grpc.keepalive_interval,
            keepalive_timeout: grpc.keepalive_timeout,
        },
        drain_timeout: settings.shutdown.timeout,
    }
}

/// Drops expired counters, a slice at a time.
async fn sweep(store: Arc<MemoryStore>, metrics: Metrics, stop: CancellationToken) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        store.sweep();
        let evictions = store.evictions();
        metrics.totals().memory_keys.set(store.len() as u64);
        metrics.totals().memory_evictions.set(evictions);
        if evictions > 0 && !std::mem::replace(&mut told, true) {
            tracing::warn!("store.memory.keys_max is reached: counters are dropped, the least filled first");
        }
    }
}

// === impl StoreMaker ===

impl StoreMaker {
    /// How many stores of a core say that they have reached Redis.
    fn stores_per_core(&self) -> usize {
        match self {
            StoreMaker::Memory(_) => 0,
            StoreMaker::Redis(redis) => redis.stores(),
        }
    }

    /// What traces call it.
    fn traced_as(&self) -> Store {
        match self {
            StoreMaker::Memory(_) => Store::Memory,
            StoreMaker::Redis(_) => Store::Redis,
        }
    }

    fn new(settings: &Settings, metrics: &Metrics) -> StoreMaker {
        match &settings.store.kind {
            StoreKind::Memory => {
                let limits = MemoryLimits { keys_max: settings.store.memory.keys_max };
                StoreMaker::Memory(Arc::new(MemoryStore::new(SystemClock, limits)))
            }
            StoreKind::Redis(redis) => StoreMaker::Redis(Arc::new(RedisMaker::new(redis, metrics))),
        }
    }
}

// === impl ServiceMaker ===

impl ServiceMaker {
    fn new(
        settings: &Settings,
        table: LimitTable,
        metrics: Metrics,
        store: StoreMaker,
        reached: mpsc::Sender<watch::Receiver<bool>>,
    ) -> ServiceMaker {
        let response = &settings.response;
        let headers = response.headers_enabled.then(|| HeaderNames {
            limit: response.limit_header.clone(),
            remaining: response.remaining_header.clone(),
            reset: response.reset_header.clone(),
        });
        let limiter = LimiterOptions {
            key_prefix: settings.store.key_prefix.as_bytes().into(),
            modes: ProcessModes { shadow_mode: settings.shadow_mode, quota_mode: settings.quota_mode },
            near_limit_ratio: settings.near_limit_ratio,
            clock: Arc::new(SystemClock),
            expiry_jitter_max_s: settings.store.expiry_jitter_max_s,
        };
        let rls = RlsOptions {
            decision_time_max: settings.store.deadline,
            headers,
            dynamic_metadata: response.dynamic_metadata,
        };
        let over_limit = settings.store.over_limit_memory.map(|bytes| Arc::new(OverLimitMemory::new(bytes)));
        let (limiter, rls) = (Arc::new(limiter), Arc::new(rls));
        ServiceMaker { table, metrics, store, over_limit, tracer: None, limiter, rls, reached }
    }

    /// A service on the runtime of the caller, whose background work is among `background`.
    fn service(&self, background: &TaskTracker) -> RlsService<AnyStore> {
        let store = match &self.store {
            StoreMaker::Memory(store) => AnyStore::Memory(Arc::clone(store)),
            StoreMaker::Redis(redis) => redis.start(background, &self.reached, self.over_limit.as_ref()),
        };
        let limiter = Limiter::new(self.table.clone(), store, self.metrics.clone(), Arc::clone(&self.limiter));
        RlsService::new(limiter, self.metrics.clone(), Arc::clone(&self.rls)).traced_by(self.tracer.clone())
    }

    fn router(&self, others: &SideServices, request_bytes_max: usize, background: &TaskTracker) -> Router<AnyStore> {
        Router::new(self.service(background), others.clone(), request_bytes_max)
    }
}

// === impl Greeting ===

impl fmt::Display for Greeting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let app = self.0;
        let address = |address: io::Result<SocketAddr>| address.map_or_else(|_| "?".to_owned(), |a| a.to_string());
        let store = match &app.store {
            StoreMaker::Memory(_) => "memory".to_owned(),
            StoreMaker::Redis(redis) => redis.to_string(),
        };
        writeln!(f, "tidegate {}", env!("CARGO_PKG_VERSION"))?;
        let services = "envoy.service.ratelimit.v3.RateLimitService, health, reflection";
        let over = port_tls::described(app.settings.grpc.tls.as_ref());
        writeln!(f, "  grpc   {}  {services}{over}", app.grpc)?;
        writeln!(f, "  http   {}  /json, /healthcheck, /metrics", address(app.http_address()))?;
        write!(f, "{}", app.shown)?;
        if let Some(admin) = &app.admin {
            writeln!(f, "  admin  {}  /, /adaptive", address(admin.local_addr()))?;
        }
        writeln!(f, "  debug  {}", app.debug)?;
        writeln!(f, "  rules  {}", app.rules.line(&app.table))?;
        writeln!(f, "  store  {store}")?;
        let http = app.http_address().map_or_else(|_| "?".to_owned(), reachable);
        let question = app.table.load().and_then(|table| question(&table.rules));
        let question = question.unwrap_or_else(|| json!({ "domain": "none", "descriptors": [{ "entries": [] }] }));
        write!(f, "  try    curl -s {http}/json -d '{question}'")
    }
}

/// A question that one of the rules answers with a limit, to try the service with.
fn question(rules: &RuleSet) -> Option<Value> {
    const LOOKED_AT_MAX: usize = 100;
    rules.rules().iter().take(LOOKED_AT_MAX).find_map(|rule| {
        // A level matches its own text as a key, whatever the value; quotes would end the shell's.
        let keys: Vec<&str> = rule.path.iter().map(AsRef::as_ref).collect();
        let descriptor = Descriptor {
            entries: keys.iter().map(|key| Entry { key, value: "try" }).collect(),
            hits: Hits::Add(1),
            limit_override: None,
        };
        let found = rules.domain(&rule.domain)?.find(&descriptor, b"");
        let is_limited = found.first().is_some_and(|found| found.rule.is_limited());
        let entries: Vec<Value> = keys.iter().map(|key| json!({ "key": key, "value": "try" })).collect();
        let question = json!({ "domain": &*rule.domain, "descriptors": [{ "entries": entries }] });
        (is_limited && !question.to_string().contains('\'')).then_some(question)
    })
}

/// Where somebody on this machine reaches what listens at `address`.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("localhost:{}", address.port()) } else { address.to_string() }
}

/// `1 rule`, `2 rules`.
#[must_use]
pub fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
