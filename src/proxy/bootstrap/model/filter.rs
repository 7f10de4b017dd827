//! HTTP filters and what routes change in them.

use std::time::Duration;

use http::StatusCode;

use super::{FractionalPercent, HeaderValueOption, InitialMetadata, LocalRateLimit, RateLimit};
use crate::proxy::matching::HeaderMatcher;

/// `http_filters[]`
#[derive(Clone, Debug)]
pub struct HttpFilter {
    /// `name`: what `typed_per_filter_config` calls it.
    pub name: String,
    /// `disabled`: off unless a route switches it on; default no.
    pub disabled: bool,
    /// What it is.
    pub config: FilterConfig,
}

/// What a filter is.
#[derive(Clone, Debug)]
pub enum FilterConfig {
    /// `envoy.extensions.filters.http.ratelimit.v3.RateLimit`
    RateLimit(RateLimitFilter),
    /// `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`
    LocalRateLimit(LocalRateLimit),
    /// `envoy.extensions.filters.http.fault.v3.HTTPFault`
    Fault(Fault),
    /// `envoy.extensions.filters.http.health_check.v3.HealthCheck`
    HealthCheck(HealthCheckFilter),
    /// `envoy.extensions.filters.http.router.v3.Router`
    Router(Router),
}

/// `typed_per_filter_config`'s value for one filter.
#[derive(Clone, Debug)]
pub enum PerFilterConfig {
    /// `envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute`
    RateLimit(RateLimitPerRoute),
    /// `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`, in place of the filter's
    LocalRateLimit(LocalRateLimit),
    /// `envoy.extensions.filters.http.fault.v3.HTTPFault`, in place of the filter's
    Fault(Fault),
    /// `envoy.config.route.v3.FilterConfig` with `disabled: true`
    Disabled,
}

/// The filter that asks a rate limit service.
#[derive(Clone, Debug)]
pub struct RateLimitFilter {
    /// `domain`; never empty.
    pub domain: String,
    /// `stage`, 0 to 10; default 0.
    pub stage: u32,
    /// `request_type`; default both.
    pub request_type: RequestType,
    /// `timeout`: of the call; default 20 ms. `None` for 0, which means none.
    pub timeout: Option<Duration>,
    /// `failure_mode_deny`: whether a call that fails refuses the request; default no.
    pub failure_mode_deny: bool,
    /// `rate_limited_as_resource_exhausted`: of gRPC requests; default no, that is UNAVAILABLE.
    pub rate_limited_as_resource_exhausted: bool,
    /// `rate_limit_service.grpc_service.envoy_grpc.cluster_name`
    pub cluster: String,
    /// `rate_limit_service.grpc_service.envoy_grpc.authority`; default the cluster's name.
    pub authority: Option<String>,
    /// `rate_limit_service.grpc_service.initial_metadata`
    pub initial_metadata: Vec<InitialMetadata>,
    /// `enable_x_ratelimit_headers`: DRAFT_VERSION_03; default no.
    pub enable_x_ratelimit_headers: bool,
    /// `enable_retry_after_header`: on refusals; default no.
    pub enable_retry_after_header: bool,
    /// `disable_x_envoy_ratelimited_header`; default no.
    pub disable_x_envoy_ratelimited_header: bool,
    /// `rate_limited_status`; default 429, also for codes below 400.
    pub rate_limited_status: StatusCode,
    /// `status_on_error`: when a call fails and that refuses; default 500, also for codes below 400.
    pub status_on_error: StatusCode,
    /// `response_headers_to_add`, to refusals only.
    pub response_headers_to_add: Vec<HeaderValueOption>,
    /// `stat_prefix`: a part of the counters' names; may be empty.
    pub stat_prefix: String,
    /// `filter_enabled`: share of requests that are asked for; default all.
    pub filter_enabled: FractionalPercent,
    /// `filter_enforced`: share of refusals that are carried out; default all.
    pub filter_enforced: FractionalPercent,
    /// `failure_mode_deny_percent`: in place of `failure_mode_deny`, if it is there.
    pub failure_mode_deny_percent: Option<FractionalPercent>,
    /// `rate_limits`: in place of the routes' and virtual hosts', if there are any.
    pub rate_limits: Vec<RateLimit>,
    /// `metadata_namespace`: of the answer's metadata; default `envoy.filters.http.ratelimit`.
    pub metadata_namespace: String,
}

/// `request_type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestType {
    /// Every request.
    #[default]
    Both,
    /// Those with `x-envoy-internal: true` only.
    Internal,
    /// The others only.
    External,
}

/// What a route changes in the rate limit filter.
#[derive(Clone, Debug)]
pub struct RateLimitPerRoute {
    /// `vh_rate_limits`; default OVERRIDE.
    pub vh_rate_limits: VirtualHostRateLimits,
    /// `override_option`; default DEFAULT.
    pub override_option: OverrideOption,
    /// `rate_limits`: in place of all others, if there are any.
    pub rate_limits: Vec<RateLimit>,
    /// `domain`: in place of the filter's; empty: the filter's.
    pub domain: String,
}

/// `vh_rate_limits`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VirtualHostRateLimits {
    /// The virtual host's apply where the route has none.
    #[default]
    Override,
    /// They apply besides the route's.
    Include,
    /// They never apply.
    Ignore,
}

/// `override_option`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverrideOption {
    /// As `vh_rate_limits` or `include_vh_rate_limits` say.
    #[default]
    Default,
    /// `OVERRIDE_POLICY`
    OverridePolicy,
    /// `INCLUDE_POLICY`
    IncludePolicy,
    /// `IGNORE_POLICY`
    IgnorePolicy,
}

/// The filter that delays and aborts on purpose.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `delay`
    pub delay: Option<FaultDelay>,
    /// `abort`
    pub abort: Option<FaultAbort>,
    /// `upstream_cluster`: only for requests routed there; empty: any.
    pub upstream_cluster: String,
    /// `headers`: only for requests that match.
    pub headers: Vec<HeaderMatcher>,
    /// `max_active_faults`; default any number.
    pub max_active_faults: Option<u32>,
}

/// `delay`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultDelay {
    /// `fixed_delay`, more than 0.
    pub fixed_delay: Duration,
    /// `percentage`; default none.
    pub percentage: FractionalPercent,
}

/// `abort`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultAbort {
    /// `http_status`, 200 to 599.
    pub http_status: StatusCode,
    /// `percentage`; default none.
    pub percentage: FractionalPercent,
}

/// The filter that answers health checks of the proxy itself; `pass_through_mode` is off.
#[derive(Clone, Debug)]
pub struct HealthCheckFilter {
    /// `headers`: which requests are health checks; all of them if there are none.
    pub headers: Vec<HeaderMatcher>,
}

/// The filter that sends requests upstream.
#[derive(Clone, Debug, Default)]
pub struct Router {
    /// `suppress_envoy_headers`: no `x-envoy-*` of its own; default no.
    pub suppress_envoy_headers: bool,
}
