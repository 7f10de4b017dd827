//! The proxy as a whole: made from a bootstrap in one step, ended in another.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::{self, Admin};
use super::bootstrap::model::{AccessLogSink, Bootstrap};
use super::cluster::Cluster;
use super::server::log_sink::{LogSink, LogWriter};
use super::server::{Context, DrainSettings, HttpListener};
use crate::web::server::{WebLimits, serve_router};

/// A proxy that serves. Dropping it cuts everything off; [`Proxy::drain`] ends it well.
#[derive(Debug)]
pub struct Proxy {
    admin: Option<SocketAddr>,
    listeners: Arc<Vec<Arc<HttpListener>>>,
    context: Arc<Context>,
    requests: TaskTracker,
    background: TaskTracker,
    shutdown: CancellationToken,
    quit: CancellationToken,
    live: CancellationToken,
}

/// Why a proxy can't serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address can't be listened on.
    #[error("{what} can't listen on {address}: {source}{}", advice(source))]
    Bind {
        /// The listener, or the admin interface.
        what: String,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An access log can't be opened.
    #[error("the access log {sink} can't be opened: {source}; its folder must exist and be writable")]
    AccessLog {
        /// The log.
        sink: String,
        /// Why.
        source: io::Error,
    },
}

/// Requests under way get this long once the proxy is asked to end.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a proxy. When this returns all ports are bound and the admin interface answers; the listeners begin to accept
/// once names have been looked up and hosts been checked, which [`Proxy::live`] waits for. `drain` is how a drain goes if
/// the operator asks for a graceful one.
///
/// # Errors
/// When an address can't be listened on, or a log can't be opened.
pub async fn serve(bootstrap: Bootstrap, drain: DrainSettings) -> Result<Proxy, ServeError> {
    let mut sinks: Vec<(AccessLogSink, Arc<LogSink>)> = Vec::new();
    for log in bootstrap.listeners.iter().flat_map(|listener| &listener.http.access_log) {
        if !sinks.iter().any(|(sink, _)| *sink == log.sink) {
            let opened = LogSink::open(&log.sink)
                .map_err(|source| ServeError::AccessLog { sink: format!("{:?}", log.sink), source })?;
            sinks.push((log.sink.clone(), Arc::new(opened)));
        }
    }
    let mut sockets = Vec::with_capacity(bootstrap.listeners.len());
    for listener in &bootstrap.listeners {
        sockets.push(bind(&format!("listener {:?}", listener.name), listener.address).await?);
    }
    let admin_socket = match bootstrap.admin {
        Some(address) => Some(bind("the admin interface", address).await?),
        None => None,
    };

    let clusters: BTreeMap<String, Arc<Cluster>> =
        bootstrap.clusters.iter().map(|cluster| (cluster.name.clone(), Cluster::new(cluster.clone()))).collect();
    let context = Arc::new(Context::new(bootstrap.node.clone(), clusters, drain));
    let mut listeners = Vec::with_capacity(sockets.len());
    for (settings, (_, address)) in bootstrap.listeners.iter().zip(&sockets) {
        let logs = settings.http.access_log.iter().filter_map(|log| {
            let (_, sink) = sinks.iter().find(|(sink, _)| *sink == log.sink)?;
            Some(LogWriter::new(log, Arc::clone(sink)))
        });
        listeners.push(Arc::new(HttpListener::new(settings.clone(), *address, logs.collect(), Arc::clone(&context))));
    }

    let proxy = Proxy {
        admin: admin_socket.as_ref().map(|(_, address)| *address),
        listeners: Arc::new(listeners),
        context,
        requests: TaskTracker::new(),
        background: TaskTracker::new(),
        shutdown: CancellationToken::new(),
        quit: CancellationToken::new(),
        live: CancellationToken::new(),
    };
    if let Some((socket, _)) = admin_socket {
        let admin = Admin {
            bootstrap: Arc::new(bootstrap),
            context: Arc::clone(&proxy.context),
            listeners: Arc::clone(&proxy.listeners),
            live: proxy.live.clone(),
            quit: proxy.quit.clone(),
            started: Instant::now(),
        };
        let limits = WebLimits { drain_timeout: Duration::from_secs(1), ..WebLimits::default() };
        proxy.background.spawn(serve_router(socket, admin::router(admin), limits, proxy.shutdown.clone()));
    }
    proxy.start(sockets.into_iter().map(|(socket, _)| socket).collect());
    Ok(proxy)
}

async fn bind(what: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Bind { what: what.to_owned(), address, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process has the port, end it or choose another (0 is any free one)",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
        io::ErrorKind::AddrNotAvailable => "; the address must be one of this machine",
        _ => "",
    }
}

// === impl Proxy ===

impl Proxy {
    /// Where the admin interface listens.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where the listener of that name listens.
    #[must_use]
    pub fn listener_address(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|listener| listener.name == name).map(|listener| listener.address)
    }

    /// Every listener's name and address.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.listeners.iter().map(|listener| (listener.name.as_str(), listener.address))
    }

    /// Waits until the listeners accept.
    pub async fn live(&self) {
        self.live.cancelled().await;
    }

    /// Waits until the admin interface is told to end the process.
    pub async fn quit(&self) {
        self.quit.cancelled().await;
    }

    /// Ends it: accepts no more, lets requests under way finish for as long as `limit`, cuts off what is left, and
    /// writes the access logs to their end.
    pub async fn drain(self, limit: Duration) {
        for listener in self.listeners.iter() {
            listener.stopped.cancel();
            listener.drained.cancel();
        }
        self.requests.close();
        if timeout(limit, self.requests.wait()).await.is_err() {
            tracing::warn!(connections = self.requests.len(), "connections are cut off, they took too long to finish");
        }
        self.listeners.iter().for_each(|listener| listener.cut.cancel());
        self.requests.wait().await;
        self.shutdown.cancel();
        self.background.close();
        self.background.wait().await;
    }

    fn start(&self, sockets: Vec<TcpListener>) {
        let (listeners, context) = (Arc::clone(&self.listeners), Arc::clone(&self.context));
        let (requests, background) = (self.requests.clone(), self.background.clone());
        let (shutdown, live) = (self.shutdown.clone(), self.live.clone());
        self.background.spawn(async move {
            let warm_up = async {
                let starting = context.clusters.values().map(|cluster| cluster.start(&background, &shutdown));
                futures_util::future::join_all(starting).await;
            };
            tokio::select! {
                () = warm_up => {}
                () = shutdown.cancelled() => return,
            }
            for (listener, socket) in listeners.iter().zip(sockets) {
                requests.spawn(Arc::clone(listener).accept(socket, requests.clone()));
            }
            live.cancel();
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for listener in self.listeners.iter() {
            listener.stopped.cancel();
            listener.drained.cancel();
            listener.cut.cancel();
        }
        self.shutdown.cancel();
    }
}
