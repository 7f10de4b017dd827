//! The collector that spans are sent to: one connection, made when it is needed and kept while it is good.
//!
//! Both ways of the protocol are one POST over hyper: protobuf over HTTP/1.1 ([`http`]), and gRPC's framing of the same
//! message over HTTP/2 ([`grpc`]). What an answer means is decided in [`answer`], which is pure.

mod answer;
mod grpc;
mod http;

use std::io;
use std::time::Duration;

use ::http::header::USER_AGENT;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

pub(super) use self::answer::Outcome;
use crate::connect;
use crate::tls::Tls;

/// Where spans go, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectorOptions {
    /// Which of the two ways.
    pub protocol: Protocol,
    /// IP address (without brackets) or name.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path of the requests over HTTP.
    pub path: String,
    /// How TLS is spoken, if it is.
    pub tls: Option<Tls>,
    /// What every request carries besides. The values are secrets, and marked as such: nothing shows them.
    pub headers: HeaderMap,
    /// Longest time for one attempt, the connecting included.
    pub timeout: Duration,
}

/// A way of the OpenTelemetry protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf over HTTP/1.1.
    Http,
    /// gRPC.
    Grpc,
}

/// The way to the collector.
#[derive(Debug)]
pub(super) struct Collector {
    options: CollectorOptions,
    connection: Option<Connection>,
}

/// An open connection.
#[derive(Debug)]
enum Connection {
    Http(http::Sender),
    Grpc(grpc::Sender),
}

/// Bytes of an answer that are read: an error's text, or what was not taken and why.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Longest wait for an answer's body, when its status is there: that says the most.
const BODY_TIME_MAX: Duration = Duration::from_secs(1);

// === impl Collector ===

impl Collector {
    pub(super) fn new(options: CollectorOptions) -> Collector {
        Collector { options, connection: None }
    }

    /// Its name for the log.
    pub(super) fn name(&self) -> String {
        let CollectorOptions { host, port, .. } = &self.options;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Sends a message once, and says what came of it.
    pub(super) async fn send(&mut self, message: &Bytes) -> Outcome {
        let time = self.options.timeout;
        let outcome = timeout(time, self.attempt(message))
            .await
            .unwrap_or_else(|_| Outcome::again(format!("it did not answer within {} ms", time.as_millis())));
        // Whatever is wrong with a connection, the next one hasn't got it.
        if !matches!(outcome, Outcome::Taken { .. }) {
            self.connection = None;
        }
        match outcome {
            Outcome::Taken { rejected, reason } => Outcome::Taken { rejected, reason: self.without_secrets(reason) },
            Outcome::Again { reason, after } => Outcome::Again { reason: self.without_secrets(reason), after },
            Outcome::Refused { reason } => Outcome::Refused { reason: self.without_secrets(reason) },
        }
    }

    /// What a collector says, which may repeat what it was told.
    fn without_secrets(&self, mut text: String) -> String {
        for secret in self.options.headers.values().filter_map(|value| value.to_str().ok()) {
            if !secret.is_empty() && text.contains(secret) {
                text = text.replace(secret, "…");
            }
        }
        text
    }

    async fn attempt(&mut self, message: &Bytes) -> Outcome {
        // A collector may close a connection that nobody uses, and just now: that is no failure worth a word.
        if let Some(connection) = self.connection.take_if(|connection| connection.is_open())
            && let Ok(outcome) = self.exchange(connection, message).await
        {
            return outcome;
        }
        let connection = match self.connect().await {
            Ok(connection) => connection,
            Err(reason) => return Outcome::again(reason),
        };
        self.exchange(connection, message).await.unwrap_or_else(Outcome::again)
    }

    /// Sends over this connection, and keeps it if it has answered. The error is a sentence.
    async fn exchange(&mut self, mut connection: Connection, message: &Bytes) -> Result<Outcome, String> {
        let outcome = match &mut connection {
            Connection::Http(sender) => http::exchange(sender, &self.options, self.request(message.clone())).await?,
            Connection::Grpc(sender) => {
                grpc::exchange(sender, &self.options, self.request(grpc::framed(message)?)).await?
            }
        };
        self.connection = Some(connection);
        Ok(outcome)
    }

    /// What both ways' requests have in common.
    fn request(&self, message: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.extend(self.options.headers.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
        request
    }

    async fn connect(&self) -> Result<Connection, String> {
        let CollectorOptions { host, port, tls, protocol, .. } = &self.options;
        let sentence = |error: io::Error| error.to_string();
        let socket = connect::tcp(host, *port, self.options.timeout).await.map_err(sentence)?;
        socket.set_nodelay(true).map_err(sentence)?;
        let alpn = (*protocol == Protocol::Grpc).then_some("h2");
        match tls {
            None => handshake(*protocol, socket).await,
            Some(tls) => {
                let socket = tls.seal_for(alpn, socket, host).await.map_err(sentence)?;
                handshake(*protocol, socket).await
            }
        }
    }
}

// === impl Connection ===

impl Connection {
    fn is_open(&self) -> bool {
        match self {
            Connection::Http(sender) => sender.is_ready(),
            Connection::Grpc(sender) => sender.is_ready(),
        }
    }
}

async fn handshake<S>(protocol: Protocol, socket: S) -> Result<Connection, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let socket = TokioIo::new(socket);
    let connection = match protocol {
        Protocol::Http => http::handshake(socket).await.map(Connection::Http),
        Protocol::Grpc => grpc::handshake(socket).await.map(Connection::Grpc),
    };
    connection.map_err(|error| error.to_string())
}

/// Whether a header is the protocol's own, so that nobody else may set it.
pub(crate) fn is_protocols_own(name: &HeaderName) -> bool {
    const OWN: [&str; 8] =
        ["connection", "content-length", "content-type", "grpc-timeout", "host", "te", "transfer-encoding", "upgrade"];
    OWN.contains(&name.as_str())
}
