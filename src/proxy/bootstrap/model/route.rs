//! Virtual hosts and routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};

use super::{HeaderMutations, Metadata, PerFilterConfig, RateLimit, RetryPolicy};
use crate::proxy::matching::{FullRegex, HeaderMatcher, QueryParameterMatcher};
use crate::proxy::rewrite::RegexRewrite;

/// `route_config`
#[derive(Clone, Debug)]
pub struct RouteConfiguration {
    /// `name`; may be empty.
    pub name: String,
    /// `virtual_hosts`; no domain stands twice.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// Headers added and removed for all of them.
    pub headers: HeaderMutations,
}

/// `virtual_hosts[]`
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// `name`; never empty.
    pub name: String,
    /// `domains`; at least one.
    pub domains: Vec<DomainPattern>,
    /// `routes`, in their order: the first that matches.
    pub routes: Vec<Arc<Route>>,
    /// `rate_limits`
    pub rate_limits: Vec<RateLimit>,
    /// Headers added and removed.
    pub headers: HeaderMutations,
    /// `retry_policy`, for routes that have none of their own.
    pub retry_policy: Option<RetryPolicy>,
    /// `include_request_attempt_count`: `x-envoy-attempt-count` towards upstreams; default no.
    pub include_request_attempt_count: bool,
    /// `include_attempt_count_in_response`: `x-envoy-attempt-count` towards clients; default no.
    pub include_attempt_count_in_response: bool,
    /// `typed_per_filter_config`, by the name of the filter.
    pub per_filter: BTreeMap<String, PerFilterConfig>,
}

/// `domains[]`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DomainPattern {
    /// `shop.example`: that host.
    Exact(String),
    /// `*.example` or `*-shop.example`: ends so, with something before it.
    Suffix(String),
    /// `shop.*`: begins so, with something behind it.
    Prefix(String),
    /// `*`
    Any,
}

/// `routes[]`
#[derive(Clone, Debug)]
pub struct Route {
    /// `name`, for the access log; may be empty.
    pub name: String,
    /// `match`
    pub matches: RouteMatch,
    /// What becomes of the request.
    pub action: RouteTo,
    /// `metadata`
    pub metadata: Metadata,
    /// Headers added and removed.
    pub headers: HeaderMutations,
    /// `typed_per_filter_config`, by the name of the filter.
    pub per_filter: BTreeMap<String, PerFilterConfig>,
}

/// `match`: all of it must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    /// The path, without the query.
    pub path: PathMatch,
    /// `case_sensitive`, of all but regular expressions; default yes.
    pub case_sensitive: bool,
    /// `headers`
    pub headers: Vec<HeaderMatcher>,
    /// `query_parameters`
    pub query_parameters: Vec<QueryParameterMatcher>,
}

/// How the path must look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// `prefix`: begins so.
    Prefix(String),
    /// `path`: is so.
    Path(String),
    /// `path_separated_prefix`: is so, or begins so with a `/` behind it.
    PathSeparatedPrefix(String),
    /// `safe_regex`: all of it matches.
    Regex(FullRegex),
}

/// What a route does with a request.
#[derive(Clone, Debug)]
pub enum RouteTo {
    /// `route`: sends it to a cluster.
    Cluster(Box<RouteAction>),
    /// `direct_response`: answers it. Filters still see it.
    DirectResponse(DirectResponse),
    /// `redirect`: sends the client elsewhere.
    Redirect(Redirect),
}

/// `route`
#[derive(Clone, Debug)]
pub struct RouteAction {
    /// Which cluster.
    pub cluster: ClusterSpecifier,
    /// `cluster_not_found_response_code`: 503 (default), 404 or 500.
    pub cluster_not_found_response_code: StatusCode,
    /// `timeout`: for the whole answer, all tries together; default 15 s, `None` for 0, which means none.
    pub timeout: Option<Duration>,
    /// `idle_timeout`: in place of the connection manager's `stream_idle_timeout`. Outer `None`: not said; inner
    /// `None`: 0, which means none.
    pub idle_timeout: Option<Option<Duration>>,
    /// `retry_policy`: this one alone if there is one, else the virtual host's.
    pub retry_policy: Option<RetryPolicy>,
    /// `rate_limits`
    pub rate_limits: Vec<RateLimit>,
    /// `include_vh_rate_limits`: whether the virtual host's rate limits apply besides; default no, but they also apply
    /// where the route has none.
    pub include_vh_rate_limits: bool,
    /// `prefix_rewrite` or `regex_rewrite`
    pub path_rewrite: Option<PathRewrite>,
    /// `host_rewrite_literal`
    pub host_rewrite_literal: Option<String>,
}

/// What the path becomes towards the cluster.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// `prefix_rewrite`: takes the place of what the route matched. Never empty.
    Prefix(String),
    /// `regex_rewrite`: of the path without its query.
    Regex(RegexRewrite),
}

/// Which cluster a request goes to.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterSpecifier {
    /// `cluster`: that one; it exists unless `validate_clusters` is false.
    Cluster(String),
    /// `cluster_header`: the one that the header names; 404 without the header.
    Header(HeaderName),
    /// `weighted_clusters`: by chance; never empty and their weights are not all 0.
    Weighted(Vec<WeightedCluster>),
}

/// `weighted_clusters.clusters[]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedCluster {
    /// `name` of a cluster, as of [`ClusterSpecifier::Cluster`].
    pub name: String,
    /// `weight`; the share is the weight in their sum.
    pub weight: u32,
}

/// `direct_response`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// `status`, 200 to 599.
    pub status: StatusCode,
    /// `body`, at most 4096 bytes; sent as `text/plain`.
    pub body: Option<Bytes>,
}

/// `redirect`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `https_redirect`; default no.
    pub https_redirect: bool,
    /// `host_redirect`
    pub host_redirect: Option<String>,
    /// `port_redirect`
    pub port_redirect: Option<u16>,
    /// `path_redirect` or `prefix_rewrite`.
    pub path: Option<RedirectPath>,
    /// `response_code`; default 301.
    pub response_code: StatusCode,
    /// `strip_query`; default no.
    pub strip_query: bool,
}

/// What becomes of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPath {
    /// `path_redirect`: this one.
    Path(String),
    /// `prefix_rewrite`: as [`PathRewrite::Prefix`].
    PrefixRewrite(String),
}
