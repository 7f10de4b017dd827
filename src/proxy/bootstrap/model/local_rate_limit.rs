//! The filter with token buckets of its own.

use std::time::Duration;

use http::StatusCode;

use super::{FractionalPercent, HeaderValueOption, RateLimit, VirtualHostRateLimits};

/// The filter with token buckets of its own: one for all requests, and one for each descriptor.
#[derive(Clone, Debug)]
pub struct LocalRateLimit {
    /// `stat_prefix`; never empty.
    pub stat_prefix: String,
    /// `status`; default 429, also for codes below 400.
    pub status: StatusCode,
    /// `token_bucket`; `None`: requests without a descriptor pass. There is one where a route says this of the filter.
    pub token_bucket: Option<TokenBucket>,
    /// `filter_enabled`: share of requests that take tokens; default **none**.
    pub filter_enabled: FractionalPercent,
    /// `filter_enforced`: share of those without a token that are refused; default **none**.
    pub filter_enforced: FractionalPercent,
    /// `request_headers_to_add_when_not_enforced`
    pub request_headers_to_add_when_not_enforced: Vec<HeaderValueOption>,
    /// `response_headers_to_add`, to refusals.
    pub response_headers_to_add: Vec<HeaderValueOption>,
    /// `enable_x_ratelimit_headers`: DRAFT_VERSION_03; default no.
    pub enable_x_ratelimit_headers: bool,
    /// `rate_limited_as_resource_exhausted`; default no.
    pub rate_limited_as_resource_exhausted: bool,
    /// `descriptors`: those with a bucket of their own; no two have the same entries.
    pub descriptors: Vec<LocalDescriptor>,
    /// `rate_limits`: what describes a request, in place of the routes' and virtual hosts', if there are any.
    pub rate_limits: Vec<RateLimit>,
    /// `stage`, 0 to 10; default 0. Of the routes' rate limits those of the same stage count.
    pub stage: u32,
    /// `vh_rate_limits`; default OVERRIDE.
    pub vh_rate_limits: VirtualHostRateLimits,
    /// `always_consume_default_token_bucket`: whether a request takes a token from `token_bucket` besides those of its
    /// descriptors; default yes.
    pub always_consume_default_token_bucket: bool,
    /// `max_dynamic_descriptors`: buckets kept of each descriptor that leaves values open, at least 1; default 20. One
    /// more replaces the one that was not used for longest.
    pub max_dynamic_descriptors: u32,
}

/// `descriptors[]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalDescriptor {
    /// `entries`: at least one key with its value, `None`: any value, each with a bucket of its own.
    pub entries: Vec<(String, Option<String>)>,
    /// `token_bucket`
    pub token_bucket: TokenBucket,
    /// `shadow_mode`: whether requests that find no token here pass, and are only counted; default no.
    pub shadow_mode: bool,
}

/// `token_bucket`; it begins full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// `max_tokens`; with 0 there is never one.
    pub max_tokens: u32,
    /// `tokens_per_fill`, at least 1; default 1.
    pub tokens_per_fill: u32,
    /// `fill_interval`, at least 50 ms.
    pub fill_interval: Duration,
}
