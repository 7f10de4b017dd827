//! The one connection of a store of records, made anew when it broke.
//!
//! Calls may be under way at once; the package sends them one behind the other. Each has a deadline. A call that got
//! none or a broken answer ends the connection for those that come after it; while Redis can't be reached, only one
//! attempt is made in [`RETRY_PAUSE`], and everybody gets its error.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ::redis::RedisError;
use ::redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::control::record::RecordError;
use crate::counters::redis::Connector;

/// The way to Redis. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    connector: Connector,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    /// The connection and its number.
    connection: Option<(u64, MultiplexedConnection)>,
    made: u64,
    failed: Option<(Instant, RecordError)>,
}

/// A connection for one call.
pub(super) struct Lent {
    pub(super) connection: MultiplexedConnection,
    number: u64,
}

/// Time after a failed attempt in which there is no other.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

// === impl Link ===

impl Link {
    pub(super) fn new(connector: Connector) -> Link {
        Link { connector, held: Arc::default() }
    }

    /// The connection, made if there is none.
    pub(super) async fn lend(&self) -> Result<Lent, RecordError> {
        let mut held = self.held.lock().await;
        if let Some((number, connection)) = &held.connection {
            return Ok(Lent { connection: connection.clone(), number: *number });
        }
        if let Some((at, error)) = &held.failed
            && at.elapsed() < RETRY_PAUSE
        {
            return Err(error.clone());
        }
        match self.connector.connect_beside().await {
            Ok(connection) => {
                held.made += 1;
                held.failed = None;
                held.connection = Some((held.made, connection.clone()));
                Ok(Lent { connection, number: held.made })
            }
            Err(error) => {
                let error = RecordError::Unreachable { reason: error.to_string() };
                held.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Waits for the answer to what was asked on the connection with that number.
    pub(super) async fn answer<T>(
        &self,
        number: u64,
        asked: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, RecordError> {
        let after = self.connector.patience();
        let error = match timeout(after, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if error.is_timeout() => RecordError::TimedOut { after },
            Ok(Err(error)) if error.is_io_error() || error.is_connection_dropped() => {
                RecordError::Unreachable { reason: error.to_string() }
            }
            // The slot of the records is elsewhere, on its way, or served by nobody: to be looked for anew.
            Ok(Err(error)) if error.is_cluster_error() => RecordError::Unreachable { reason: sentence(&error) },
            // A server that has become a replica is to be looked for anew; else the connection is as good as before.
            Ok(Err(error)) if error.code() == Some("READONLY") => RecordError::Refused { reason: sentence(&error) },
            Ok(Err(error)) => return Err(RecordError::Refused { reason: sentence(&error) }),
            Err(_) => RecordError::TimedOut { after },
        };
        let mut held = self.held.lock().await;
        if held.connection.as_ref().is_some_and(|(held, _)| *held == number) {
            held.connection = None;
        }
        Err(error)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("connector", &self.connector).finish_non_exhaustive()
    }
}

// === impl Lent ===

impl Lent {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// What Redis said, with what to do about it where that is known.
fn sentence(error: &RedisError) -> String {
    if error.to_string().contains("WRONGTYPE") {
        return "a key of the records holds something else; another program writes there".to_owned();
    }
    error.to_string()
}
