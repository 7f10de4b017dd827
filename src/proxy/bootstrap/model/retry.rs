//! When and how often a request is tried again.

use std::time::Duration;

use crate::proxy::matching::HeaderMatcher;

/// `retry_policy` of a virtual host or a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `retry_on`: what is worth another try; empty: nothing.
    pub retry_on: Vec<RetryOn>,
    /// `num_retries`; default 1.
    pub num_retries: u32,
    /// `per_try_timeout`; default none: the route's timeout alone.
    pub per_try_timeout: Option<Duration>,
    /// `retry_back_off.base_interval`, at least 1 ms; default 25 ms. The nth wait is a random time below
    /// `base × (2^n - 1)`, at most the maximum.
    pub base_interval: Duration,
    /// `retry_back_off.max_interval`, at least the base; default ten times the base.
    pub max_interval: Duration,
    /// `retriable_status_codes`
    pub retriable_status_codes: Vec<u16>,
    /// `retriable_headers`: of the answer. None of them names a pseudo-header.
    pub retriable_headers: Vec<HeaderMatcher>,
    /// `retriable_request_headers`: only requests of which one matches are tried again; all requests if there are none.
    pub retriable_request_headers: Vec<HeaderMatcher>,
}

/// A word of `retry_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// `5xx`: any answer of that class, or none at all.
    ServerError,
    /// `gateway-error`: 502, 503 or 504.
    GatewayError,
    /// `reset`: no answer at all (disconnect, reset, read timeout).
    Reset,
    /// `reset-before-request`: as `reset`, before the request's headers were sent.
    ResetBeforeRequest,
    /// `connect-failure`: no connection.
    ConnectFailure,
    /// `envoy-ratelimited`: `x-envoy-ratelimited` is in the answer. Without it such an answer is never retried.
    EnvoyRateLimited,
    /// `retriable-4xx`: 409.
    Retriable4xx,
    /// `refused-stream`: the upstream reset the stream with REFUSED_STREAM.
    RefusedStream,
    /// `retriable-status-codes`: one of [`RetryPolicy::retriable_status_codes`].
    RetriableStatusCodes,
    /// `retriable-headers`: one of [`RetryPolicy::retriable_headers`] matches.
    RetriableHeaders,
    /// A gRPC status in the head of the answer, where it stands when nothing else follows.
    Grpc(GrpcStatus),
}

/// A gRPC status that is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrpcStatus {
    /// `cancelled`
    Cancelled = 1,
    /// `deadline-exceeded`
    DeadlineExceeded = 4,
    /// `resource-exhausted`
    ResourceExhausted = 8,
    /// `internal`
    Internal = 13,
    /// `unavailable`
    Unavailable = 14,
}

// === impl RetryOn ===

impl RetryOn {
    /// Every word.
    pub const ALL: [RetryOn; 15] = [
        RetryOn::ServerError,
        RetryOn::GatewayError,
        RetryOn::Reset,
        RetryOn::ResetBeforeRequest,
        RetryOn::ConnectFailure,
        RetryOn::EnvoyRateLimited,
        RetryOn::Retriable4xx,
        RetryOn::RefusedStream,
        RetryOn::RetriableStatusCodes,
        RetryOn::RetriableHeaders,
        RetryOn::Grpc(GrpcStatus::Cancelled),
        RetryOn::Grpc(GrpcStatus::DeadlineExceeded),
        RetryOn::Grpc(GrpcStatus::ResourceExhausted),
        RetryOn::Grpc(GrpcStatus::Internal),
        RetryOn::Grpc(GrpcStatus::Unavailable),
    ];

    /// As it stands in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RetryOn::ServerError => "5xx",
            RetryOn::GatewayError => "gateway-error",
            RetryOn::Reset => "reset",
            RetryOn::ResetBeforeRequest => "reset-before-request",
            RetryOn::ConnectFailure => "connect-failure",
            RetryOn::EnvoyRateLimited => "envoy-ratelimited",
            RetryOn::Retriable4xx => "retriable-4xx",
            RetryOn::RefusedStream => "refused-stream",
            RetryOn::RetriableStatusCodes => "retriable-status-codes",
            RetryOn::RetriableHeaders => "retriable-headers",
            RetryOn::Grpc(GrpcStatus::Cancelled) => "cancelled",
            RetryOn::Grpc(GrpcStatus::DeadlineExceeded) => "deadline-exceeded",
            RetryOn::Grpc(GrpcStatus::ResourceExhausted) => "resource-exhausted",
            RetryOn::Grpc(GrpcStatus::Internal) => "internal",
            RetryOn::Grpc(GrpcStatus::Unavailable) => "unavailable",
        }
    }
}
