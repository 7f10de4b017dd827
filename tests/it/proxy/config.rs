//! The words of configurations: small functions that make the parts of a bootstrap.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// What the access log says of a request: everything of it that doesn't depend on the machine's speed.
const LOG: &str = concat!(
    "%PROTOCOL% %REQ(:METHOD)% %REQ(:PATH)% -> %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% ",
    "received %BYTES_RECEIVED% sent %BYTES_SENT% tries %UPSTREAM_REQUEST_ATTEMPT_COUNT% ",
    "host %UPSTREAM_HOST% cluster %UPSTREAM_CLUSTER% failure %UPSTREAM_TRANSPORT_FAILURE_REASON% ",
    "route %ROUTE_NAME%\n"
);

/// A bootstrap of these listeners and clusters.
pub(super) fn bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "node": { "id": "test", "cluster": "test-cluster" },
        "admin": { "address": address(([127, 0, 0, 1], 0).into()) },
        "stats_flush_interval": "0.2s",
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

/// With values of descriptors as formats.
pub(super) fn formatting_descriptors(bootstrap: Value) -> Value {
    const KEY: &str = "envoy.reloadable_features.enable_formatter_for_ratelimit_action_descriptor_value";
    with(bootstrap, &json!({ "layered_runtime": { "layers": [{ "name": "static", "static_layer": { KEY: true } }] } }))
}

pub(super) fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// A listener that logs to `access.log` in the folder.
pub(super) fn listener(name: &str, folder: &Path, filters: &[Value], routes: &[Value]) -> Value {
    let router = filter("envoy.filters.http.router", "filters.http.router.v3.Router", &json!({}));
    let filters: Vec<&Value> = filters.iter().chain([&router]).collect();
    json!({
        "name": name,
        "address": address(([127, 0, 0, 1], 0).into()),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": name,
                "access_log": [{ "name": "log", "typed_config": {
                    "@type": format!("{TYPES}.access_loggers.file.v3.FileAccessLog"),
                    "path": folder.join("access.log"),
                    "log_format": { "text_format_source": { "inline_string": LOG } },
                } }],
                "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
                "http_filters": filters,
            },
        }] }],
    })
}

/// The settings of a listener's HTTP connection manager.
pub(super) fn http(listener: &mut Value) -> &mut Value {
    &mut listener["filter_chains"][0]["filters"][0]["typed_config"]
}

/// A filter, or what a route says of one.
pub(super) fn filter(name: &str, kind: &str, settings: &Value) -> Value {
    json!({ "name": name, "typed_config": of_type(kind, settings) })
}

pub(super) fn of_type(kind: &str, settings: &Value) -> Value {
    let mut settings = settings.clone();
    settings["@type"] = json!(format!("{TYPES}.{kind}"));
    settings
}

/// A route of every path below `prefix`, with a time limit that a machine that is held up doesn't reach.
pub(super) fn route(prefix: &str, cluster: &str) -> Value {
    json!({ "match": { "prefix": prefix }, "route": { "cluster": cluster, "timeout": "15s" } })
}

/// `value` with what `more` has besides; objects are merged.
pub(super) fn with(mut value: Value, more: &Value) -> Value {
    merge(&mut value, more);
    value
}

fn merge(onto: &mut Value, more: &Value) {
    match (onto, more) {
        (Value::Object(onto), Value::Object(more)) => {
            for (key, value) in more {
                merge(onto.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (onto, more) => *onto = more.clone(),
    }
}

/// A cluster of these hosts.
pub(super) fn cluster(name: &str, hosts: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = hosts.iter().map(|host| json!({ "endpoint": { "address": address(*host) } })).collect();
    json!({
        "name": name,
        "connect_timeout": "10s",
        "type": "STATIC",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}

/// The same, spoken to in HTTP/2.
pub(super) fn http2(cluster: Value) -> Value {
    with(
        cluster,
        &json!({ "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
            of_type("upstreams.http.v3.HttpProtocolOptions",
                &json!({ "explicit_http_config": { "http2_protocol_options": {} } })) } }),
    )
}

/// The rate limit filter of the domain `shop`, which waits long for the cluster `service`.
pub(super) fn rate_limit(more: &Value) -> Value {
    let settings = json!({
        "domain": "shop",
        "timeout": "10s",
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": "service" } },
        },
    });
    filter("envoy.filters.http.ratelimit", "filters.http.ratelimit.v3.RateLimit", &with(settings, more))
}
