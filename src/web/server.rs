//! Accepts HTTP/1.1 connections and holds their peers to their time.
//!
//! A loop of our own over hyper's connections, because what protects a server from its peers is not in the ready-made
//! one: a bound on connections, on the time for a head (which also ends connections that say nothing), for a body and
//! for reading an answer, and an end that waits for requests under way, but not for ever.
//!
//! Connections above the bound are closed at once. Leaving them in the kernel's queue instead would make health checks
//! wait behind whoever holds the places.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stall::StallGuard;

/// What peers may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebLimits {
    /// Connections at once.
    pub connections_max: usize,
    /// Time for the head of a request, counted from the connection's start or the answer before. A connection that is
    /// idle for as long is closed.
    pub header_timeout: Duration,
    /// Time for the body of a request.
    pub body_timeout: Duration,
    /// Bytes of the body of a request.
    pub body_bytes_max: usize,
    /// Time in which a peer must take some bytes of an answer.
    pub write_timeout: Duration,
    /// Time for requests under way once the server stops.
    pub drain_timeout: Duration,
}

/// Says something once per burst: at the first of several events, none of which is long after the one before.
#[derive(Debug, Default)]
struct Burst {
    last: Option<Instant>,
}

/// Bytes of a request's head. Browsers and proxies stay below 16 KiB; hyper needs 8 KiB at least.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Wait after the kernel refused to accept, which it does when the process has no file descriptor left: without it the
/// loop would spin until somebody closes one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Quiet time after which a burst is over.
const BURST_GAP: Duration = Duration::from_secs(10);

/// Serves a router until `shutdown`; then accepts no more, lets requests under way finish for as long as the limits
/// say, and cuts off what is left. Dropping the future cuts all connections off.
pub async fn serve_router(listener: TcpListener, router: Router, limits: WebLimits, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let _cut_when_dropped = cut.clone().drop_guard();

    accept(listener, &limits, &shutdown, |stream, place| {
        let (router, shutdown, cut) = (router.clone(), shutdown.clone(), cut.clone());
        connections.spawn(async move {
            tokio::select! {
                () = serve_connection(stream, router, limits, shutdown) => {}
                () = cut.cancelled() => {}
            }
            drop(place);
        });
    })
    .await;

    connections.close();
    if timeout(limits.drain_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "HTTP connections are cut off, they took too long to finish");
        cut.cancel();
        connections.wait().await;
    }
}

/// Accepts until `shutdown` and hands on each connection with its place.
async fn accept(
    listener: TcpListener,
    limits: &WebLimits,
    shutdown: &CancellationToken,
    mut serve: impl FnMut(TcpStream, tokio::sync::OwnedSemaphorePermit),
) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut refused = Burst::default();
    let mut failed = Burst::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if failed.begins(Instant::now()) {
                    tracing::warn!(%error, "HTTP connections cannot be accepted");
                }
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = sleep(ACCEPT_PAUSE) => continue,
                }
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => serve(stream, place),
            Err(_) => {
                if refused.begins(Instant::now()) {
                    let max = limits.connections_max;
                    tracing::warn!(%peer, max, "HTTP connections are refused, there are too many");
                }
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, limits: WebLimits, shutdown: CancellationToken) {
    // An answer is one small write: there is nothing to gain by waiting for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let stream = TokioIo::new(StallGuard::new(stream, limits.write_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(stream, TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

// === impl WebLimits ===

impl Default for WebLimits {
    /// 1,024 connections with bodies of up to 256 KiB: 256 MiB if every one of them is hostile.
    fn default() -> WebLimits {
        WebLimits {
            connections_max: 1_024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            body_bytes_max: 256 << 10,
            write_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

// === impl Burst ===

impl Burst {
    /// Notes an event and says whether it is the first of its burst.
    fn begins(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        last.is_none_or(|last| now.saturating_duration_since(last) > BURST_GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_begins_once() {
        let start = Instant::now();
        let mut burst = Burst::default();
        assert!(burst.begins(start));
        assert!(!burst.begins(start + BURST_GAP / 2));
        assert!(!burst.begins(start + BURST_GAP));
        assert!(burst.begins(start + BURST_GAP * 3));
    }
}
