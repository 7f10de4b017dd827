//! From the settings of Redis to the connections that a core has: to one, or to two.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::counters::any::{AnyStore, InRedis};
use crate::counters::over_limit::{OverLimitMemory, Remembering};
use crate::counters::per_second::PerSecondStore;
use crate::counters::redis::{Address, BatchOptions, Connector, RedisStore, Sentinels, Server, Timeouts};
use crate::settings::{RedisAddress, RedisCredentials, RedisServer, RedisSettings};

/// Makes a core's store.
#[derive(Debug)]
pub(super) struct RedisMaker {
    main: Connector,
    /// Where counters with a window of one second are, if they are apart.
    per_second: Option<Connector>,
    batch: BatchOptions,
    health_follows: bool,
}

// === impl RedisMaker ===

impl RedisMaker {
    pub(super) fn new(redis: &RedisSettings) -> RedisMaker {
        let timeouts = Timeouts { connect: redis.connect_timeout, response: redis.response_timeout };
        let connector = |redis: &RedisServer| Connector::new(server(redis), timeouts);
        RedisMaker {
            main: connector(&redis.main),
            per_second: redis.per_second.as_ref().map(connector),
            batch: BatchOptions { decisions_max: redis.batch_max, calls_in_flight: redis.calls_in_flight },
            health_follows: redis.health_follows_connection,
        }
    }

    /// The way to the Redis where everything is but counters with a window of one second.
    pub(super) fn main(&self) -> &Connector {
        &self.main
    }

    /// How many Redis a core's store must reach.
    pub(super) fn stores(&self) -> usize {
        1 + usize::from(self.per_second.is_some())
    }

    /// The number of open connections to each Redis, if health is to follow it.
    pub(super) fn open_connections(&self) -> Vec<watch::Receiver<usize>> {
        let all = [Some(&self.main), self.per_second.as_ref()].into_iter().flatten();
        all.filter(|_| self.health_follows).map(Connector::open).collect()
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
        let main = start(&self.main);
        let store = match &self.per_second {
            None => InRedis::One(main),
            Some(per_second) => InRedis::Two(PerSecondStore::new(main, start(per_second))),
        };
        match over_limit {
            None => AnyStore::Redis(store),
            Some(memory) => AnyStore::Remembering(Remembering::new(store, Arc::clone(memory))),
        }
    }
}

impl fmt::Display for RedisMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis at {}", self.main.address())?;
        self.per_second.as_ref().map_or(Ok(()), |other| write!(f, ", limits per second at {}", other.address()))
    }
}

/// The server that these settings mean.
fn server(redis: &RedisServer) -> Server {
    let credentials = redis.url.credentials();
    Server {
        address: match redis.url.address() {
            RedisAddress::Tcp { host, port } => Address::Tcp(host.clone(), *port),
            RedisAddress::Unix { path } => Address::Unix(path.clone()),
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
