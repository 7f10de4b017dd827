//! A connection to a host, made and handed over as hyper's two halves: what sends requests, and what drives it.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pool::PoolSettings;
use super::reset::{Reset, ResetReason};
use crate::proxy::body::Body;
use crate::proxy::bootstrap::model::UpstreamProtocol;

/// What sends requests over a connection.
#[derive(Debug)]
pub(super) enum Sender {
    /// One at a time.
    Http1(http1::SendRequest<Body>),
    /// Many.
    Http2(http2::SendRequest<Body>),
}

/// A connection.
pub(super) struct Connected {
    pub(super) sender: Sender,
    pub(super) local_address: Option<SocketAddr>,
    /// What ended it, where that is known; there before its streams end.
    pub(super) failure: Failure,
    /// Must be awaited for anything to be sent; ends with the connection.
    pub(super) driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What ended a connection. hyper tells a request that it had not begun to send only that the connection is closed.
pub(super) type Failure = Arc<OnceLock<ResetReason>>;

/// Bytes of an answer's head, and of a body that are read ahead. Envoy's bound on heads is 60 KiB.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Headers of an answer; Envoy's bound.
const HEADERS_MAX: usize = 100;

// === impl Sender ===

impl Sender {
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

/// Connects to a host.
pub(super) async fn connect(address: SocketAddr, settings: &PoolSettings) -> Result<Connected, Reset> {
    timeout(settings.connect_timeout, establish(address, settings))
        .await
        .unwrap_or_else(|_| Err(ResetReason::ConnectionTimeout.into()))
}

async fn establish(address: SocketAddr, settings: &PoolSettings) -> Result<Connected, Reset> {
    let socket = TcpStream::connect(address).await.map_err(|error| Reset::connection_failure(&error))?;
    // Heads and small bodies must not wait for more.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let local_address = socket.local_addr().ok();
    let socket = TokioIo::new(socket);
    let failure = Failure::default();
    // hyper's handshake only prepares; what it can fail with is a connection that is already gone.
    match settings.protocol {
        UpstreamProtocol::Http1 => {
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(BUFFER_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .handshake(socket)
                .await
                .map_err(|error| Reset::of(&error))?;
            Ok(Connected { sender: Sender::Http1(sender), local_address, driver: drive(connection, &failure), failure })
        }
        UpstreamProtocol::Http2(http2) => {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(http2.initial_stream_window_size.min(WINDOW_BYTES_MAX))
                .initial_connection_window_size(http2.initial_connection_window_size)
                .max_header_list_size(BUFFER_BYTES_MAX as u32)
                .handshake(socket)
                .await
                .map_err(|error| Reset::of(&error))?;
            Ok(Connected { sender: Sender::Http2(sender), local_address, driver: drive(connection, &failure), failure })
        }
    }
}

/// Bytes of one answer that may arrive before somebody reads them. Envoy pauses a stream whose buffer holds 1 MiB; here
/// the window is that buffer.
const WINDOW_BYTES_MAX: u32 = 1 << 20;

fn drive(
    connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    failure: &Failure,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let failure = Arc::clone(failure);
    Box::pin(async move {
        // Requests that it holds learn of its end when it is dropped, which is after this.
        let mut connection = pin!(connection);
        if let Err(error) = connection.as_mut().await {
            failure.get_or_init(|| Reset::of(&error).reason);
            tracing::debug!(%error, "a connection to a host ended early");
        }
    })
}
