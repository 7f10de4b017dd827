//! What a bootstrap means, after everything that can be checked is checked.
//!
//! Fields bear the names of Envoy's API. A default is applied by the reader and stated with each field, so nobody who
//! uses these types must know it again; `None` only stands where "nothing" is a meaning of its own.

mod cluster;
mod filter;
mod listener;
mod local_rate_limit;
mod rate_limit;
mod retry;
mod route;
mod values;

use std::net::SocketAddr;
use std::time::Duration;

use crate::rules::Finding;

pub use cluster::{
    CircuitBreakers, Cluster, Discovery, DnsLookupFamily, Endpoint, HealthCheck, Host, LoadBalancing, OutlierDetection,
    UpstreamProtocol,
};
pub use filter::{
    Fault, FaultAbort, FaultDelay, FilterConfig, HealthCheckFilter, HttpFilter, OverrideOption, PerFilterConfig,
    RateLimitFilter, RateLimitPerRoute, RequestType, Router, VirtualHostRateLimits,
};
pub use listener::{AccessLog, AccessLogSink, Codec, Http2Settings, HttpConnections, Listener};
pub use local_rate_limit::{LocalDescriptor, LocalRateLimit, TokenBucket};
pub use rate_limit::{
    Action, AddressRange, Hits, HitsAddend, InitialMetadata, LimitOverride, MetadataKey, MetadataSource, RateLimit,
    RateLimitUnit, Template, XRateLimitOption,
};
pub use retry::{GrpcStatus, RetryOn, RetryPolicy};
pub use route::{
    ClusterSpecifier, DirectResponse, DomainPattern, PathMatch, PathRewrite, Redirect, RedirectPath, Route,
    RouteAction, RouteConfiguration, RouteMatch, RouteTo, VirtualHost, WeightedCluster,
};
pub use values::{AppendAction, FractionalPercent, HeaderMutations, HeaderValueOption, Metadata};

/// The whole file.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// `node`: who this proxy is.
    pub node: Node,
    /// `admin.address.socket_address`; `None` if there is no admin interface. Port 0: any free one.
    pub admin: Option<SocketAddr>,
    /// `static_resources.listeners`, at least one is not asked for.
    pub listeners: Vec<Listener>,
    /// `static_resources.clusters`; no two of the same name.
    pub clusters: Vec<Cluster>,
    /// `stats_flush_interval`; Envoy's default 5 s. Histograms show new values only once in this time.
    pub stats_flush_interval: Duration,
    /// What is accepted because Envoy accepts it and has no effect, each with its place.
    pub warnings: Vec<Finding>,
}

/// `node`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `node.id`; empty if not said.
    pub id: String,
    /// `node.cluster`, which the rate limit action `source_cluster` names; empty if not said.
    pub cluster: String,
}
