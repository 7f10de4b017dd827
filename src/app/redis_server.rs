//! From the settings of Redis to the connections that a core has: to one server, or to several.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::counters::any::{AnyStore, InRedis};
use crate::counters::over_limit::{OverLimitMemory, Remembering};
use crate::counters::redis::lanes::Lane;
use crate::counters::redis::{Address, BatchOptions, Connector, RedisStore, Sentinels, Server, SlotStore, Timeouts};
use crate::counters::spread::{InCluster, Reach, SpreadStore};
use crate::metrics::Metrics;
use crate::settings::{RedisAddress, RedisCredentials, RedisServer, RedisSettings};

/// Makes a core's store.
#[derive(Debug)]
pub(super) struct RedisMaker {
    main: Way,
    /// Where counters with a window of one second are, if they are apart.
    per_second: Option<Way>,
    batch: BatchOptions,
    health_follows: bool,
}

/// The way to one Redis, made once: all cores share what is known and what was told.
#[derive(Debug)]
struct Way {
    connector: Connector,
    /// Of a cluster.
    lanes: Option<Box<[Connector; Lane::COUNT]>>,
}

// === impl RedisMaker ===

impl RedisMaker {
    pub(super) fn new(redis: &RedisSettings, metrics: &Metrics) -> RedisMaker {
        let timeouts = Timeouts { connect: redis.connect_timeout, response: redis.response_timeout };
        let way = |redis: &RedisServer| Way::new(Connector::new(server(redis), timeouts).counted(metrics));
        RedisMaker {
            main: way(&redis.main),
            per_second: redis.per_second.as_ref().map(way),
            batch: BatchOptions { decisions_max: redis.batch_max, calls_in_flight: redis.calls_in_flight },
            health_follows: redis.health_follows_connection,
        }
    }

    /// The way to the Redis where everything is but counters with a window of one second; of a cluster, to the node with
    /// gates and records.
    pub(super) fn main(&self) -> &Connector {
        &self.main.connector
    }

    /// How many connections to Redis a core's store must make.
    pub(super) fn stores(&self) -> usize {
        self.main.connections() + self.per_second.as_ref().map_or(0, Way::connections)
    }

    /// The number of open connections to each Redis, if health is to follow it.
    pub(super) fn open_connections(&self) -> Vec<watch::Receiver<usize>> {
        let all = [Some(&self.main), self.per_second.as_ref()].into_iter().flatten();
        all.filter(|_| self.health_follows).map(|way| way.connector.open()).collect()
    }

    /// Starts a store on the runtime of the caller, behind a memory of what is over if there is one; each Redis says by
    /// way of `reached` that it was.
    pub(super) fn start(
        &self,
        background: &TaskTracker,
        reached: &mpsc::Sender<watch::Receiver<bool>>,
        over_limit: Option<&Arc<OverLimitMemory>>,
    ) -> AnyStore {
        let start = |connector: &Connector| {
            let store = RedisStore::start(connector.clone(), self.batch, background);
            // There is a place for each; without a listener nobody wants to know.
            drop(reached.try_send(store.reached()));
            store
        };
        let reach = |way: &Way| match (&way.lanes, SlotStore::new(&way.connector)) {
            (Some(lanes), Some(slots)) => {
                Reach::Cluster(Box::new(InCluster { lanes: lanes.each_ref().map(start), slots }))
            }
            _ => Reach::Server(start(&way.connector)),
        };
        let store = match (reach(&self.main), &self.per_second) {
            (Reach::Server(store), None) => InRedis::One(store),
            (main, per_second) => InRedis::Spread(SpreadStore::new(main, per_second.as_ref().map(reach))),
        };
        match over_limit {
            None => AnyStore::Redis(store),
            Some(memory) => AnyStore::Remembering(Remembering::new(store, Arc::clone(memory))),
        }
    }
}

impl fmt::Display for RedisMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis at {}", self.main.connector.address())?;
        let other = self.per_second.as_ref().map(|other| other.connector.address());
        other.map_or(Ok(()), |address| write!(f, ", limits per second at {address}"))
    }
}

// === impl Way ===

impl Way {
    fn new(connector: Connector) -> Way {
        Way { lanes: connector.lanes().map(Box::new), connector }
    }

    /// How many connections a core makes.
    fn connections(&self) -> usize {
        self.lanes.as_ref().map_or(1, |lanes| lanes.len())
    }
}

/// The server that these settings mean.
fn server(redis: &RedisServer) -> Server {
    let credentials = redis.url.credentials();
    Server {
        address: match redis.url.address() {
            RedisAddress::Tcp { host, port } => Address::Tcp(host.clone(), *port),
            RedisAddress::Unix { path } => Address::Unix(path.clone()),
            RedisAddress::Cluster { nodes } => Address::Cluster(nodes.clone()),
            RedisAddress::Sentinel(sentinels) => Address::Sentinel(Box::new(Sentinels {
                master: sentinels.master.clone(),
                addresses: sentinels.addresses.clone(),
                username: sentinels.credentials.username.clone(),
                password: exposed(&sentinels.credentials),
                password_file: sentinels.password_file.clone(),
            })),
        },
        tls: redis.tls.clone(),
        database: redis.url.database(),
        username: credentials.username.clone(),
        password: exposed(credentials),
        password_file: redis.password_file.clone(),
    }
}

fn exposed(credentials: &RedisCredentials) -> Option<String> {
    credentials.password.as_ref().map(|password| password.expose().to_owned())
}
