//! Clusters.

use super::Verdict::{BothAccept, BothRefuse, OnlyEnvoyAccepts};
use super::{At, check};

#[test]
fn clusters_are_judged_alike() {
    let protocol = |config: &str| {
        let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        format!(
            "{{ typed_extension_protocol_options: {{ {name}: {{ '@type': type.googleapis.com/{name}, {config} }} }} }}"
        )
    };
    let http2 = protocol("explicit_http_config: { http2_protocol_options: { max_concurrent_streams: 5 } }");
    let http1 = protocol(
        "common_http_protocol_options: { idle_timeout: 5s }, explicit_http_config: { http_protocol_options: {} }",
    );
    let none = protocol("explicit_http_config: {}");
    let check_of = |more: &str| {
        format!(
            "{{ health_checks: [{{ timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, {more} }}] }}"
        )
    };
    let health =
        check_of("http_health_check: { path: /, expected_statuses: [{ start: 200, end: 300 }], method: HEAD }");
    let no_kind = check_of("no_traffic_interval: 1s");
    let empty_range = check_of("http_health_check: { path: /, expected_statuses: [{ start: 300, end: 300 }] }");
    let no_path = check_of("http_health_check: {}");
    check(&[
        (At::Cluster, "{ name: '' }", BothRefuse),
        (At::Cluster, "{ type: STRICT_DNS, dns_refresh_rate: 1s, dns_lookup_family: V4_ONLY }", BothAccept),
        (At::Cluster, "{ type: STRICT_DNS, dns_refresh_rate: 0s }", BothRefuse),
        (At::Cluster, "{ type: LOGICAL_DNS }", OnlyEnvoyAccepts), // not known
        (At::Cluster, "{ type: REMOVED }", BothAccept),
        (At::Cluster, "{ connect_timeout: 0s }", BothRefuse),
        (
            At::Cluster,
            "{ connect_timeout: 0.25s, lb_policy: LEAST_REQUEST, least_request_lb_config: { choice_count: 3 } }",
            BothAccept,
        ),
        (At::Cluster, "{ lb_policy: LEAST_REQUEST, least_request_lb_config: { choice_count: 1 } }", BothRefuse),
        (At::Cluster, "{ lb_policy: RANDOM }", OnlyEnvoyAccepts), // not known
        (At::Cluster, "{ load_assignment: { endpoints: [] } }", BothRefuse),
        (At::Cluster, "{ load_assignment: { cluster_name: up } }", BothAccept),
        (
            At::Cluster,
            "{ load_assignment: { cluster_name: up, endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: shop, port_value: 1 } } } }] }] } }",
            BothRefuse,
        ),
        (
            At::Cluster,
            "{ type: STRICT_DNS, load_assignment: { cluster_name: up, endpoints: [{ lb_endpoints: [{ load_balancing_weight: 3, endpoint: { hostname: a, address: { socket_address: { address: shop, port_value: 1 } } } }] }] } }",
            BothAccept,
        ),
        (
            At::Cluster,
            "{ load_assignment: { cluster_name: up, endpoints: [{ lb_endpoints: [{ load_balancing_weight: 0, endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } } }] }] } }",
            BothRefuse,
        ),
        (At::Cluster, &http2, BothAccept),
        (At::Cluster, &http1, BothAccept),
        (At::Cluster, &none, BothRefuse),
        (At::Cluster, "{ http2_protocol_options: {} }", BothAccept),
        (
            At::Cluster,
            "{ circuit_breakers: { thresholds: [{ max_connections: 0, max_pending_requests: 1, max_requests: 1, max_retries: 0 }] } }",
            BothAccept,
        ),
        (At::Cluster, "{ circuit_breakers: { thresholds: [{ priority: HIGH }] } }", OnlyEnvoyAccepts), // one priority is known
        (At::Cluster, "{ outlier_detection: {} }", BothAccept),
        (
            At::Cluster,
            "{ outlier_detection: { consecutive_5xx: 0, interval: 1s, base_ejection_time: 1s, max_ejection_time: 2s } }",
            BothAccept,
        ),
        (At::Cluster, "{ outlier_detection: { max_ejection_percent: 101 } }", BothRefuse),
        (At::Cluster, "{ outlier_detection: { interval: 0s } }", BothRefuse),
        (At::Cluster, "{ outlier_detection: { base_ejection_time: 5s, max_ejection_time: 2s } }", BothRefuse),
        (
            At::Cluster,
            "{ outlier_detection: { max_ejection_time_jitter: 1s, always_eject_one_host: true, split_external_local_origin_errors: true } }",
            BothAccept,
        ),
        (At::Cluster, &health, BothAccept),
        (At::Cluster, &no_kind, BothRefuse),
        (At::Cluster, &empty_range, BothRefuse),
        (At::Cluster, &no_path, BothRefuse),
        (At::Cluster, "{ health_checks: [{ http_health_check: { path: / } }] }", BothRefuse),
        (At::Cluster, "{ common_lb_config: { healthy_panic_threshold: { value: 0.5 } } }", BothAccept),
        (At::Cluster, "{ common_lb_config: { healthy_panic_threshold: { value: 101 } } }", BothRefuse),
        (
            At::Cluster,
            "{ per_connection_buffer_limit_bytes: 32768, alt_stat_name: a, max_requests_per_connection: 1 }",
            BothAccept,
        ),
        (At::Cluster, "{ metadata: { filter_metadata: { a: { b: c } } } }", BothAccept),
    ]);
}
