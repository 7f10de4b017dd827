//! A listener: accepts connections, serves HTTP on them, and ends them well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::Activity;
use super::connection::serve_connection;
use super::context::Context;
use super::exchange::ConnectionFacts;
use super::filters::FilterChain;
use super::log_sink::LogWriter;
use crate::proxy::bootstrap::model::{HttpConnections, Listener};
use crate::proxy::stats::{HttpStats, ListenerStats};

/// A listener and the HTTP behind it.
#[derive(Debug)]
pub struct HttpListener {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What the file says of HTTP on it.
    pub settings: HttpConnections,
    /// Its filters.
    pub filters: FilterChain,
    /// Statistics of HTTP.
    pub stats: Arc<HttpStats>,
    /// Statistics of its connections.
    pub connections: Arc<ListenerStats>,
    /// Where its requests are logged.
    pub access_logs: Vec<LogWriter>,
    /// What it has in common with the others.
    pub context: Arc<Context>,
    /// No more connections.
    pub stopped: CancellationToken,
    /// Connections end after the request under way, and those without one at once.
    pub drained: CancellationToken,
    /// Connections end now.
    pub cut: CancellationToken,
}

/// Connections of one listener at once. Envoy has no bound unless an overload rule sets one; here it is what a machine
/// can hold, at 4 to 70 KiB each.
const CONNECTIONS_MAX: usize = 100_000;

/// Wait after the kernel refused to accept, which it does when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// === impl HttpListener ===

impl HttpListener {
    /// A listener with those settings at that address, which may differ from the settings' in its port.
    #[must_use]
    pub fn new(
        settings: Listener,
        address: SocketAddr,
        access_logs: Vec<LogWriter>,
        context: Arc<Context>,
    ) -> HttpListener {
        let label = settings.stat_prefix.clone().unwrap_or_else(|| settings.address.to_string());
        HttpListener {
            filters: FilterChain::new(&settings.http, &context),
            connections: context.stats.listener(&label),
            stats: context.stats.http(&settings.http.stat_prefix),
            name: settings.name,
            address,
            settings: settings.http,
            access_logs,
            context,
            stopped: CancellationToken::new(),
            drained: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Whether answers should ask their clients to end the connection.
    #[must_use]
    pub fn wants_connections_to_end(&self) -> bool {
        self.drained.is_cancelled()
            || self.context.is_failing_health_checks.load(Ordering::Relaxed)
            || self.context.drain.asks_to_go(Instant::now(), rand::random())
    }

    /// Accepts until it is stopped, and then closes the socket.
    pub async fn accept(self: Arc<HttpListener>, socket: TcpListener, tasks: TaskTracker) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stopped.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "connections cannot be accepted");
                    tokio::select! {
                        () = self.stopped.cancelled() => return,
                        () = sleep(ACCEPT_PAUSE) => continue,
                    }
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.connections.connections.downstream_cx_overflow.increment();
                continue;
            };
            let facts = Arc::new(ConnectionFacts {
                id: self.context.number_connection(),
                remote,
                local: stream.local_addr().unwrap_or(self.address),
                activity: Arc::new(Activity::new(Instant::now())),
                leaving: CancellationToken::new(),
            });
            let listener = Arc::clone(&self);
            tasks.spawn(async move {
                serve_connection(listener, stream, facts).await;
                drop(place);
            });
        }
    }
}
