//! Connections beside the request path to a server that is spoken to in the clear: deadpool-redis makes them.
//!
//! It opens its sockets itself, and those know neither authorities beside the system's nor a name left unverified, nor
//! who asks sentinels: such servers are connected to by our own sockets (`socket`).

use deadpool_redis::{Manager, Pool, PoolConfig, PoolError};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

use super::link::{Address, Timeouts};

/// Where a server is that this way leads to.
pub(super) struct Plain(ConnectionAddr);

// === impl Plain ===

impl Plain {
    /// The server at that address, unless others say where it is.
    pub(super) fn of(address: &Address) -> Option<Plain> {
        match address {
            Address::Tcp(host, port) => Some(Plain(ConnectionAddr::Tcp(host.clone(), *port))),
            Address::Unix(path) => Some(Plain(ConnectionAddr::Unix(path.clone()))),
            Address::Sentinel(_) | Address::Cluster(_) => None,
        }
    }

    /// Makes one connection. A pool is made for each, because the password is read for each. The error is a sentence.
    pub(super) async fn connect(
        self,
        settings: RedisConnectionInfo,
        timeouts: Timeouts,
    ) -> Result<MultiplexedConnection, String> {
        let info = self.0.into_connection_info().map_err(|error| error.to_string())?;
        let info = info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let times = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response));
        let manager = Manager::new_with_config(info, times).map_err(|error| error.to_string())?;
        let pool = Pool::builder(manager).config(PoolConfig::new(1)).build().map_err(|error| error.to_string())?;
        let pooled = pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error.to_string(),
            other => other.to_string(),
        })?;
        Ok(deadpool_redis::Connection::take(pooled))
    }
}
