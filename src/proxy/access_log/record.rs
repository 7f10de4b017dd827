//! What is known of one request, as far as it is known: at its end for the access log, on its way for headers that are
//! added to it and for descriptors.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::ResponseFlags;
use crate::proxy::bootstrap::model::Metadata;
use crate::proxy::request::RequestHead;

/// The version of HTTP that the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
    /// `HTTP/2`
    Http2,
}

/// A request and what became of it. What is not known, or not yet, is `None`.
#[derive(Clone, Debug)]
pub struct Record<'r> {
    /// When its first byte came.
    pub start_time: SystemTime,
    /// Its head, as it is sent upstream; `None` if none could be read.
    pub request: Option<RequestHead<'r>>,
    /// The answer's headers, without `:status`.
    pub response_headers: Option<&'r HeaderMap>,
    /// The answer's trailers.
    pub response_trailers: Option<&'r HeaderMap>,
    /// The client's version of HTTP.
    pub protocol: Option<Protocol>,
    /// The answer's status.
    pub response_code: Option<u16>,
    /// Why it has that status, such as `via_upstream`.
    pub response_code_details: Option<&'r str>,
    /// Why we ended the client's connection.
    pub connection_termination_details: Option<&'r str>,
    /// Reasons in a few letters.
    pub response_flags: &'r ResponseFlags,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    /// From the request's first byte to the answer's last; while under way, to now.
    pub duration: Option<Duration>,
    /// From the request's first byte to its last.
    pub request_duration: Option<Duration>,
    /// From the request's first byte to its last sent upstream.
    pub request_tx_duration: Option<Duration>,
    /// From the request's first byte to the first of the upstream's answer.
    pub response_duration: Option<Duration>,
    /// From the first byte of the upstream's answer to the last that the client was sent.
    pub response_tx_duration: Option<Duration>,
    /// The upstream that was tried last.
    pub upstream_host: Option<SocketAddr>,
    /// Our end of the connection to it.
    pub upstream_local_address: Option<SocketAddr>,
    /// The routed cluster.
    pub upstream_cluster: Option<&'r str>,
    /// Why there is no connection to the upstream.
    pub upstream_transport_failure_reason: Option<&'r str>,
    /// How often it was tried; 0 if never.
    pub upstream_request_attempt_count: u32,
    /// The client's address: of the connection, or from x-forwarded-for.
    pub downstream_remote_address: Option<SocketAddr>,
    /// The other end of the connection.
    pub downstream_direct_remote_address: Option<SocketAddr>,
    /// Our end of the connection.
    pub downstream_local_address: Option<SocketAddr>,
    /// The route's name.
    pub route_name: Option<&'r str>,
    /// The connection's number, from 1.
    pub connection_id: Option<u64>,
    /// The stream's id, which is the request's.
    pub stream_id: Option<&'r str>,
    /// What filters said of the request.
    pub dynamic_metadata: &'r Metadata,
    /// The route's metadata.
    pub route_metadata: Option<&'r Metadata>,
    /// The routed cluster's metadata.
    pub cluster_metadata: Option<&'r Metadata>,
}

// === impl Record ===

impl<'r> Record<'r> {
    /// A record of which nothing is known yet but when it began.
    #[must_use]
    pub fn new(start_time: SystemTime, response_flags: &'r ResponseFlags, dynamic_metadata: &'r Metadata) -> Self {
        Record {
            start_time,
            request: None,
            response_headers: None,
            response_trailers: None,
            protocol: None,
            response_code: None,
            response_code_details: None,
            connection_termination_details: None,
            response_flags,
            bytes_received: 0,
            bytes_sent: 0,
            duration: None,
            request_duration: None,
            request_tx_duration: None,
            response_duration: None,
            response_tx_duration: None,
            upstream_host: None,
            upstream_local_address: None,
            upstream_cluster: None,
            upstream_transport_failure_reason: None,
            upstream_request_attempt_count: 0,
            downstream_remote_address: None,
            downstream_direct_remote_address: None,
            downstream_local_address: None,
            route_name: None,
            connection_id: None,
            stream_id: None,
            dynamic_metadata,
            route_metadata: None,
            cluster_metadata: None,
        }
    }
}

// === impl Protocol ===

impl Protocol {
    /// As a log names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }
}
