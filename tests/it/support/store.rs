//! A Redis store as the service makes it, on the runtime of the test.

use std::time::Duration;

use tidegate::counters::redis::{Address, BatchOptions, Connector, RedisStore, Server, Timeouts};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::PATIENCE;
use super::redis::Redis;

/// The settings' own defaults.
pub(crate) const BATCH: BatchOptions = BatchOptions { decisions_max: 128, calls_in_flight: 4 };

/// A connector to `redis`.
pub(crate) fn connector(redis: &Redis) -> Connector {
    connector_to(redis.port())
}

/// A connector to a port of this machine.
pub(crate) fn connector_to(port: u16) -> Connector {
    connector_with(port, PATIENCE)
}

/// A connector to a port of this machine that waits so long for an answer.
pub(crate) fn connector_with(port: u16, response: Duration) -> Connector {
    Connector::new(server(port), Timeouts { connect: PATIENCE, response })
}

/// A server on a port of this machine, without TLS and for anybody.
pub(crate) fn server(port: u16) -> Server {
    Server {
        address: Address::Tcp("127.0.0.1".to_owned(), port),
        tls: None,
        database: 0,
        username: None,
        password: None,
        password_file: None,
    }
}

/// A store over `redis` that has reached it.
pub(crate) async fn redis_store(redis: &Redis) -> RedisStore {
    let store = RedisStore::start(connector(redis), BATCH, &TaskTracker::new());
    reached(&store).await;
    store
}

/// Waits until Redis was reached.
pub(crate) async fn reached(store: &RedisStore) {
    let mut reached = store.reached();
    let waited = timeout(PATIENCE, reached.wait_for(|reached| *reached)).await;
    waited.expect("Redis is reached").expect("the store lives");
}
