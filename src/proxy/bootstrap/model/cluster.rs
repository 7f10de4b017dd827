//! Clusters: hosts, and how they are chosen, guarded and judged.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::{Http2Settings, Metadata};

/// `clusters[]`
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `name`; never empty.
    pub name: String,
    /// `alt_stat_name`: what statistics call it; default its name.
    pub alt_stat_name: Option<String>,
    /// `type`; default STATIC.
    pub discovery: Discovery,
    /// `connect_timeout`, more than 0; default 5 s.
    pub connect_timeout: Duration,
    /// `lb_policy`; default ROUND_ROBIN.
    pub load_balancing: LoadBalancing,
    /// Every `lb_endpoints[]` of `load_assignment`, in its order. Localities are not told apart.
    pub endpoints: Vec<Endpoint>,
    /// What is spoken with its hosts; default HTTP/1.1.
    pub protocol: UpstreamProtocol,
    /// `common_http_protocol_options.idle_timeout`: of pooled connections; default 1 h, `None` for 0, which means none.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`; default none.
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection`, and the older field of the cluster; default any.
    pub max_requests_per_connection: Option<u32>,
    /// `per_connection_buffer_limit_bytes`; default 1 MiB.
    pub per_connection_buffer_limit_bytes: u32,
    /// `circuit_breakers.thresholds` of the priority DEFAULT.
    pub circuit_breakers: CircuitBreakers,
    /// `outlier_detection`; `None`: no host is ejected.
    pub outlier_detection: Option<OutlierDetection>,
    /// `health_checks`, over HTTP; empty: every host is well.
    pub health_checks: Vec<HealthCheck>,
    /// `common_lb_config.healthy_panic_threshold`, in per cent: below this share of healthy hosts all are used; default
    /// 50, 0 for never.
    pub healthy_panic_threshold: f64,
    /// `metadata`
    pub metadata: Metadata,
}

/// `type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// Addresses as they stand.
    #[default]
    Static,
    /// Every address that a name has, asked for again and again.
    StrictDns {
        /// `dns_refresh_rate`, at least 1 ms; default 5 s.
        refresh_rate: Duration,
        /// `dns_lookup_family`; default AUTO.
        lookup_family: DnsLookupFamily,
    },
}

/// `dns_lookup_family`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsLookupFamily {
    /// IPv6 if the name has any, else IPv4.
    #[default]
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4 if the name has any, else IPv6.
    V4Preferred,
    /// Both.
    All,
}

/// `lb_policy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest active requests among some taken by chance.
    LeastRequest {
        /// `least_request_lb_config.choice_count`, at least 2; default 2.
        choice_count: u32,
    },
}

/// `lb_endpoints[]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `endpoint.address.socket_address.address`
    pub host: Host,
    /// `endpoint.address.socket_address.port_value`, never 0.
    pub port: u16,
    /// `endpoint.hostname`: for health checks; may be empty.
    pub hostname: String,
    /// `load_balancing_weight`, at least 1; default 1.
    pub weight: u32,
    /// `endpoint.health_check_config.port_value`: asked instead of its own; `None`: its own.
    pub health_check_port: Option<u16>,
}

/// An address or a name that has some.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name; of STRICT_DNS clusters only.
    Name(String),
}

/// What is spoken with a cluster's hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1: a connection carries one request at a time.
    Http1,
    /// HTTP/2 with prior knowledge. A connection carries `max_concurrent_streams` at most.
    Http2(Http2Settings),
}

/// `circuit_breakers.thresholds[]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// `max_connections`; default 1024.
    pub max_connections: u32,
    /// `max_pending_requests`; default 1024.
    pub max_pending_requests: u32,
    /// `max_requests`: under way; default 1024.
    pub max_requests: u32,
    /// `max_retries`: under way; default 3.
    pub max_retries: u32,
}

/// `outlier_detection`. Per cents are whole numbers from 0 to 100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// `consecutive_5xx`; default 5.
    pub consecutive_5xx: u32,
    /// `enforcing_consecutive_5xx`, per cent; default 100.
    pub enforcing_consecutive_5xx: u32,
    /// `consecutive_gateway_failure`; default 5.
    pub consecutive_gateway_failure: u32,
    /// `enforcing_consecutive_gateway_failure`, per cent; default 0.
    pub enforcing_consecutive_gateway_failure: u32,
    /// `split_external_local_origin_errors`; default no.
    pub split_external_local_origin_errors: bool,
    /// `consecutive_local_origin_failure`; default 5.
    pub consecutive_local_origin_failure: u32,
    /// `enforcing_consecutive_local_origin_failure`, per cent; default 100.
    pub enforcing_consecutive_local_origin_failure: u32,
    /// `interval` between sweeps that judge rates and bring hosts back, more than 0; default 10 s.
    pub interval: Duration,
    /// `base_ejection_time`, times the number of times a host was ejected; default 30 s.
    pub base_ejection_time: Duration,
    /// `max_ejection_time`; default 300 s, or the base if that is longer.
    pub max_ejection_time: Duration,
    /// `max_ejection_time_jitter`: a random time up to this is added; default 0.
    pub max_ejection_time_jitter: Duration,
    /// `max_ejection_percent` of the hosts; default 10, but one host may always be ejected if
    /// `always_eject_one_host`.
    pub max_ejection_percent: u32,
    /// `always_eject_one_host`, whatever `max_ejection_percent` says; default no.
    pub always_eject_one_host: bool,
    /// `successful_active_health_check_uneject_host`; default yes.
    pub successful_active_health_check_uneject_host: bool,
    /// `enforcing_success_rate`, per cent; default 100.
    pub enforcing_success_rate: u32,
    /// `enforcing_local_origin_success_rate`, per cent; default 100.
    pub enforcing_local_origin_success_rate: u32,
    /// `success_rate_minimum_hosts`; default 5.
    pub success_rate_minimum_hosts: u32,
    /// `success_rate_request_volume` of a host in an interval; default 100.
    pub success_rate_request_volume: u32,
    /// `success_rate_stdev_factor`, in thousandths; default 1900.
    pub success_rate_stdev_factor: u32,
    /// `failure_percentage_threshold`, per cent; default 85.
    pub failure_percentage_threshold: u32,
    /// `enforcing_failure_percentage`, per cent; default 0.
    pub enforcing_failure_percentage: u32,
    /// `enforcing_failure_percentage_local_origin`, per cent; default 0.
    pub enforcing_failure_percentage_local_origin: u32,
    /// `failure_percentage_minimum_hosts`; default 5.
    pub failure_percentage_minimum_hosts: u32,
    /// `failure_percentage_request_volume` of a host in an interval; default 50.
    pub failure_percentage_request_volume: u32,
}

/// `health_checks[]`, over HTTP
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `timeout`, more than 0.
    pub timeout: Duration,
    /// `interval`, more than 0.
    pub interval: Duration,
    /// `initial_jitter`: a random time up to this before the first; default 0.
    pub initial_jitter: Duration,
    /// `interval_jitter`: a random time up to this is added; default 0.
    pub interval_jitter: Duration,
    /// `unhealthy_threshold`: failures in a row, but a 503 (outside `retriable_statuses`) is enough at once.
    pub unhealthy_threshold: u32,
    /// `healthy_threshold`: successes in a row; the very first one is enough at once.
    pub healthy_threshold: u32,
    /// `reuse_connection`; default yes.
    pub reuse_connection: bool,
    /// `no_traffic_interval`, until the cluster is used for the first time; default 60 s.
    pub no_traffic_interval: Duration,
    /// `unhealthy_interval`, while a host is unhealthy; default the interval.
    pub unhealthy_interval: Duration,
    /// `unhealthy_edge_interval`, after the first failure; default the unhealthy interval.
    pub unhealthy_edge_interval: Duration,
    /// `healthy_edge_interval`, after the first success; default the interval.
    pub healthy_edge_interval: Duration,
    /// `http_health_check.host`; empty: the endpoint's hostname, else the cluster's name.
    pub host: String,
    /// `http_health_check.path`; begins with `/`.
    pub path: String,
    /// `http_health_check.method`; default GET.
    pub method: Method,
    /// `http_health_check.request_headers_to_add`, without command operators.
    pub request_headers_to_add: HeaderMap,
    /// `http_health_check.expected_statuses`, the end excluded; default 200 alone.
    pub expected_statuses: Vec<std::ops::Range<u16>>,
    /// `http_health_check.retriable_statuses`: they count towards the threshold and are not failures at once.
    pub retriable_statuses: Vec<std::ops::Range<u16>>,
}

// === impl CircuitBreakers ===

impl Default for CircuitBreakers {
    fn default() -> CircuitBreakers {
        CircuitBreakers { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024, max_retries: 3 }
    }
}
