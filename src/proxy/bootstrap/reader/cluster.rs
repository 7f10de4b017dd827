//! Clusters.

use std::time::Duration;

use super::super::model::{
    CircuitBreakers, Cluster, Discovery, DnsLookupFamily, Endpoint, Host, LoadBalancing, UpstreamProtocol,
};
use super::super::object::Object;
use super::super::value::Value;
use super::http::{self, CommonOptions};
use super::listener::BUFFER_LIMIT_BYTES;
use super::{health, outlier, values};

const PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

const MILLISECOND: Duration = Duration::from_millis(1);

/// One element of `clusters`.
pub(super) fn read(value: &Value<'_>) -> Option<Cluster> {
    value.object(|cluster| {
        let name = cluster.required_text("name");
        let discovery = discovery(cluster);
        let endpoints = cluster.required("load_assignment").and_then(|value| {
            value.object(|assignment| {
                assignment.required_text("cluster_name");
                let localities = assignment.list("endpoints", |locality| {
                    locality.object(|it| it.list("lb_endpoints", |endpoint| read_endpoint(&endpoint, discovery)))
                });
                localities.into_iter().flatten().collect()
            })
        });
        let (protocol, options) = protocol(cluster);
        let older_max_requests = cluster.optional_count("max_requests_per_connection", 0..=u32::MAX);
        Cluster {
            alt_stat_name: cluster.optional_text("alt_stat_name"),
            discovery,
            connect_timeout: cluster.optional_duration("connect_timeout", MILLISECOND).unwrap_or(5000 * MILLISECOND),
            load_balancing: load_balancing(cluster),
            endpoints: endpoints.unwrap_or_default(),
            protocol,
            idle_timeout: options.idle_timeout,
            max_connection_duration: options.max_connection_duration,
            max_requests_per_connection: options
                .max_requests_per_connection
                .or(older_max_requests.filter(|requests| *requests > 0)),
            per_connection_buffer_limit_bytes: cluster.count(
                "per_connection_buffer_limit_bytes",
                1..=u32::MAX,
                BUFFER_LIMIT_BYTES,
            ),
            circuit_breakers: cluster.get("circuit_breakers").map(|value| circuit_breakers(&value)).unwrap_or_default(),
            outlier_detection: cluster.object("outlier_detection", outlier::read),
            health_checks: cluster.list("health_checks", |value| health::read(&value)),
            healthy_panic_threshold: cluster
                .object("common_lb_config", |config| {
                    config.object("healthy_panic_threshold", |percent| {
                        percent.get("value").map_or(Some(0.0), |value| value.number(0.0..=100.0))
                    })
                })
                .flatten()
                .flatten()
                .unwrap_or(50.0),
            metadata: cluster.get("metadata").and_then(|value| values::metadata(&value)).unwrap_or_default(),
            name,
        }
    })
}

fn discovery(cluster: &mut Object<'_>) -> Discovery {
    const FAMILIES: [(&str, DnsLookupFamily); 5] = [
        ("AUTO", DnsLookupFamily::Auto),
        ("V4_ONLY", DnsLookupFamily::V4Only),
        ("V6_ONLY", DnsLookupFamily::V6Only),
        ("V4_PREFERRED", DnsLookupFamily::V4Preferred),
        ("ALL", DnsLookupFamily::All),
    ];
    let is_static = cluster.choice("type", &[("STATIC", true), ("STRICT_DNS", false)], true);
    let refresh_rate = cluster.optional_duration("dns_refresh_rate", MILLISECOND).unwrap_or(5000 * MILLISECOND);
    let lookup_family = cluster.choice("dns_lookup_family", &FAMILIES, DnsLookupFamily::Auto);
    if is_static { Discovery::Static } else { Discovery::StrictDns { refresh_rate, lookup_family } }
}

fn read_endpoint(value: &Value<'_>, discovery: Discovery) -> Option<Endpoint> {
    value.object(|outer| {
        let weight = outer.count("load_balancing_weight", 1..=u32::MAX, 1);
        outer.required_object("endpoint", |endpoint| {
            let hostname = endpoint.text("hostname");
            let health_check_port =
                endpoint.object("health_check_config", |config| config.count("port_value", 0..=65_535, 0));
            let (host, port) = values::socket_address(&endpoint.required("address")?)?;
            let host = match discovery {
                Discovery::Static => Host::Address(host.ip_address()?),
                Discovery::StrictDns { .. } => {
                    let text = host.word()?;
                    text.parse().map_or_else(|_| Host::Name(text.to_owned()), Host::Address)
                }
            };
            let health_check_port =
                health_check_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            Some(Endpoint { host, port, hostname, weight, health_check_port })
        })?
    })?
}

fn load_balancing(cluster: &mut Object<'_>) -> LoadBalancing {
    let policy = cluster.choice("lb_policy", &[("ROUND_ROBIN", false), ("LEAST_REQUEST", true)], false);
    let config = cluster.get("least_request_lb_config");
    let choice_count = config.and_then(|value| value.object(|it| it.count("choice_count", 2..=u32::MAX, 2)));
    if policy {
        LoadBalancing::LeastRequest { choice_count: choice_count.unwrap_or(2) }
    } else {
        LoadBalancing::RoundRobin
    }
}

/// What is spoken, in the extension's options or in the cluster's older fields.
fn protocol(cluster: &mut Object<'_>) -> (UpstreamProtocol, CommonOptions) {
    let older = cluster.object("http2_protocol_options", http::http2_settings);
    let older_http1 = cluster.object("http_protocol_options", |_| ());
    let older_common = cluster.object("common_http_protocol_options", |it| http::common_options(it, false));
    let has_older = older.is_some() || older_http1.is_some() || older_common.is_some();
    let entries = cluster.get("typed_extension_protocol_options").map(|value| value.entries()).unwrap_or_default();
    let mut result = (older.map_or(UpstreamProtocol::Http1, UpstreamProtocol::Http2), older_common.unwrap_or_default());
    for (name, value) in entries {
        if name != PROTOCOL_OPTIONS {
            value.mistake(format!(
                "'{name}' is an extension that tidegate-proxy doesn't know; it knows {PROTOCOL_OPTIONS}"
            ));
        } else if has_older {
            value.mistake("stands beside older fields of the cluster with the same meaning; leave those out");
        } else {
            result = protocol_options(&value).unwrap_or(result);
        }
    }
    result
}

fn protocol_options(value: &Value<'_>) -> Option<(UpstreamProtocol, CommonOptions)> {
    let mut options = value.open()?;
    let result = match options.type_name() {
        Some(PROTOCOL_OPTIONS) => {
            let common = options.object("common_http_protocol_options", |it| http::common_options(it, false));
            let protocol = options.required_one_of(&["explicit_http_config"]).and_then(|(_, value)| {
                value.object(|config| {
                    match config.required_one_of(&["http_protocol_options", "http2_protocol_options"])? {
                        ("http_protocol_options", value) => value.object(|_| UpstreamProtocol::Http1),
                        (_, value) => value.object(http::http2_settings).map(UpstreamProtocol::Http2),
                    }
                })?
            });
            Some((protocol.unwrap_or(UpstreamProtocol::Http1), common.unwrap_or_default()))
        }
        Some(other) => {
            options.unknown_type(other, &[PROTOCOL_OPTIONS]);
            None
        }
        None => None,
    };
    options.finish();
    result
}

fn circuit_breakers(value: &Value<'_>) -> CircuitBreakers {
    let thresholds = value.object(|breakers| {
        breakers.list("thresholds", |value| {
            value.object(|thresholds| {
                thresholds.choice("priority", &[("DEFAULT", ())], ());
                let default = CircuitBreakers::default();
                let mut count = |name, default| thresholds.count(name, 0..=u32::MAX, default);
                CircuitBreakers {
                    max_connections: count("max_connections", default.max_connections),
                    max_pending_requests: count("max_pending_requests", default.max_pending_requests),
                    max_requests: count("max_requests", default.max_requests),
                    max_retries: count("max_retries", default.max_retries),
                }
            })
        })
    });
    // Of several for one priority Envoy takes the first.
    thresholds.and_then(|thresholds| thresholds.first().copied()).unwrap_or_default()
}
