//! One request and what becomes of it, from its head to the last byte of its answer.
//!
//! An exchange is owned by whoever works on the request at the moment: first the filters and the router, then the body
//! of the answer. Wherever it is dropped the request ends there, so its end is never missed: the statistics are counted
//! and the access log is written in `Drop`. One that is dropped before anybody called it complete was left by its client.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::listener::HttpListener;
use super::progress::Progress;
use crate::proxy::access_log::{Protocol, Record, ResponseFlag, ResponseFlags};
use crate::proxy::bootstrap::model::{Metadata, Route, RouteTo, VirtualHost};
use crate::proxy::cluster::Cluster;
use crate::proxy::request::RequestHead;

/// Something to do when an exchange ends.
pub type AtEnd = Box<dyn FnOnce(&Exchange) + Send + Sync>;

/// A request and what becomes of it.
pub struct Exchange {
    /// Where it came in.
    pub listener: Arc<HttpListener>,
    /// The connection it came over.
    pub connection: Arc<ConnectionFacts>,
    /// When the first byte of its head came, as far as that is known; `request_timeout` counts from here.
    pub begun: Instant,
    /// When its head was there.
    pub started: Instant,
    /// The same on the wall clock.
    pub start_time: SystemTime,
    /// The client's version of HTTP.
    pub protocol: Protocol,
    /// Its head as it is sent upstream.
    pub head: Head,
    /// How far its body has come.
    pub progress: Arc<Progress>,
    /// The client's address: the peer's, or what `x-forwarded-for` says.
    pub client: SocketAddr,
    /// Its virtual host, if one was found.
    pub virtual_host: Option<Arc<VirtualHost>>,
    /// Its route, if one was found.
    pub route: Option<Arc<Route>>,
    /// The cluster that the route leads to.
    pub cluster: Option<Arc<Cluster>>,
    /// What filters said of it.
    pub dynamic_metadata: Metadata,
    /// Headers that filters put on any answer to it, in the order in which it passed them.
    pub answer_headers: Vec<HeaderMap>,
    /// How often it was sent upstream.
    pub attempts: u32,
    /// The host that was tried last.
    pub upstream_host: Option<SocketAddr>,
    /// Our end of the connection to it.
    pub upstream_local_address: Option<SocketAddr>,
    /// Why there is no connection to it.
    pub transport_failure: Option<String>,
    /// When the head of the upstream's answer came.
    pub answered: Option<Instant>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// The headers of the answer.
    pub response_headers: HeaderMap,
    /// Why it has that status.
    pub details: Cow<'static, str>,
    /// Reasons in a few letters.
    pub flags: ResponseFlags,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    /// Whether it only asks how the proxy is, so that it is not counted among the clients' requests.
    pub is_health_check: bool,
    /// Whether the answer was sent to its end, or broken off for a reason that the flags say.
    pub is_complete: bool,
    /// Whether it was broken off after its head, so that its last byte never came.
    pub is_broken_off: bool,
    /// What filters want done at the end.
    pub at_end: Vec<AtEnd>,
}

/// The head of a request, in parts that can be changed.
#[derive(Clone, Debug)]
pub struct Head {
    /// `GET` and so on.
    pub method: Method,
    /// Host and port as the client named them.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// All headers but `host`.
    pub headers: HeaderMap,
}

/// A connection of a client.
#[derive(Debug)]
pub struct ConnectionFacts {
    /// Its number, from 1.
    pub id: u64,
    /// The other end.
    pub remote: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// What it is doing.
    pub activity: Arc<Activity>,
    /// An answer has asked the client to go: it ends when its requests have.
    pub leaving: CancellationToken,
}

// === impl Head ===

impl Head {
    /// The head as matchers and formats look at it.
    #[must_use]
    pub fn borrow(&self) -> RequestHead<'_> {
        RequestHead {
            method: self.method.as_str(),
            scheme: "http",
            authority: &self.authority,
            path: &self.path,
            headers: &self.headers,
        }
    }

    /// Whether it is a gRPC request.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        let content_type = self.headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        content_type.is_some_and(|value| {
            value.strip_prefix(b"application/grpc").is_some_and(|rest| rest.is_empty() || rest[0] == b'+')
        })
    }
}

// === impl Exchange ===

impl Exchange {
    /// A request that has just come in.
    #[must_use]
    pub fn new(
        listener: Arc<HttpListener>,
        connection: Arc<ConnectionFacts>,
        protocol: Protocol,
        head: Head,
    ) -> Exchange {
        let started = Instant::now();
        let start_time = listener.context.wall_clock();
        let downstream = &listener.stats.downstream;
        downstream.downstream_rq_total.increment();
        match protocol {
            Protocol::Http2 => downstream.downstream_rq_http2_total.increment(),
            Protocol::Http10 | Protocol::Http11 => downstream.downstream_rq_http1_total.increment(),
        }
        downstream.downstream_rq_active.increment();
        let begun = connection.activity.request_begins().unwrap_or(started);
        Exchange {
            client: connection.remote,
            listener,
            connection,
            begun,
            started,
            start_time,
            protocol,
            head,
            progress: Arc::new(Progress::new(started)),
            virtual_host: None,
            route: None,
            cluster: None,
            dynamic_metadata: Metadata::new(),
            answer_headers: Vec::new(),
            attempts: 0,
            upstream_host: None,
            upstream_local_address: None,
            transport_failure: None,
            answered: None,
            status: None,
            response_headers: HeaderMap::new(),
            details: Cow::Borrowed(""),
            flags: ResponseFlags::default(),
            bytes_sent: 0,
            is_health_check: false,
            is_complete: false,
            is_broken_off: false,
            at_end: Vec::new(),
        }
    }

    /// What is known of it now.
    #[must_use]
    pub fn record(&self) -> Record<'_> {
        let since_start = |instant: Instant| instant.saturating_duration_since(self.started);
        let now = Instant::now();
        let route = self.route.as_deref();
        let is_routed = route.is_some_and(|route| matches!(route.action, RouteTo::Cluster(_)));
        let is_sent = self.upstream_local_address.is_some();
        Record {
            request: Some(self.head.borrow()),
            response_headers: self.status.map(|_| &self.response_headers),
            protocol: Some(self.protocol),
            response_code: self.status,
            response_code_details: Some(&*self.details).filter(|details| !details.is_empty()),
            bytes_received: self.progress.received(),
            bytes_sent: self.bytes_sent,
            duration: Some(since_start(now)),
            request_duration: self.progress.completed_at().map(since_start),
            request_tx_duration: self.progress.completed_at().map(since_start).filter(|_| is_sent),
            response_duration: self.answered.map(since_start),
            response_tx_duration: self
                .answered
                .filter(|_| !self.is_broken_off)
                .map(|answered| now.saturating_duration_since(answered)),
            upstream_host: self.upstream_host,
            upstream_local_address: self.upstream_local_address,
            upstream_cluster: self.cluster.as_ref().filter(|_| is_routed).map(|cluster| cluster.settings.name.as_str()),
            upstream_transport_failure_reason: self.transport_failure.as_deref(),
            upstream_request_attempt_count: self.attempts,
            downstream_remote_address: Some(self.client),
            downstream_direct_remote_address: Some(self.connection.remote),
            downstream_local_address: Some(self.connection.local),
            route_name: route.map(|route| route.name.as_str()).filter(|name| !name.is_empty()),
            connection_id: Some(self.connection.id),
            stream_id: self.head.headers.get("x-request-id").and_then(|id| id.to_str().ok()),
            route_metadata: route.map(|route| &route.metadata),
            cluster_metadata: self.cluster.as_ref().map(|cluster| &cluster.settings.metadata),
            ..Record::new(self.start_time, &self.flags, &self.dynamic_metadata)
        }
    }

    /// The answer was sent to its end.
    pub fn complete(&mut self) {
        self.is_complete = true;
    }

    /// The answer is broken off, for that reason.
    pub fn break_off(&mut self, flag: ResponseFlag, details: impl Into<Cow<'static, str>>) {
        self.flags.set(flag);
        self.details = details.into();
        self.is_complete = true;
        self.is_broken_off = true;
    }

    /// How long ago its head came.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let stats = &self.listener.stats;
        if self.is_complete {
            stats.record_time(u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX));
        } else {
            stats.downstream.downstream_rq_rx_reset.increment();
            self.is_broken_off = true;
            self.flags.set(ResponseFlag::DownstreamConnectionTermination);
            self.details = Cow::Borrowed("downstream_remote_disconnect");
        }
        stats.downstream.downstream_rq_active.decrement();
        let has_rest = self.protocol != Protocol::Http2 && self.progress.completed_at().is_none();
        self.connection.activity.request_ends(!has_rest, Instant::now());
        for act in std::mem::take(&mut self.at_end) {
            act(self);
        }
        // One record for all logs: made anew for each it would give each another duration.
        let record = self.record();
        for log in &self.listener.access_logs {
            log.write(&record);
        }
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Exchange")
            .field("head", &self.head)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
