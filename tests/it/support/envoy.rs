//! A real Envoy, and the configuration it is given.
//!
//! The configuration is written as JSON, which every YAML reader takes and which has no words that turn into
//! booleans. Envoy chooses all its ports and tells them through its admin interface, so several run side by side.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Http;
use super::process::Process;
use super::{PATIENCE, eventually, program};

/// A running Envoy; killed when dropped.
#[derive(Debug)]
pub(crate) struct Envoy {
    process: Process,
    _folder: TempDir,
    admin: Http,
    listeners: HashMap<String, SocketAddr>,
}

/// Where Envoy's binary is; `None` where there is none, see [`program`].
pub(crate) fn binary() -> Option<PathBuf> {
    let in_checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/envoy/envoy");
    program("envoy", Some(in_checkout), "REQUIRE_ENVOY")
}

// === impl Envoy ===

impl Envoy {
    /// An Envoy that serves, with these listeners and clusters.
    pub(crate) async fn start(listeners: &[Value], clusters: &[Value]) -> Option<Envoy> {
        Envoy::start_with(&json!({
            "node": { "id": "test", "cluster": "test" },
            "admin": { "address": address(([127, 0, 0, 1], 0).into()) },
            "static_resources": { "listeners": listeners, "clusters": clusters },
            "layered_runtime": { "layers": [{ "name": "static", "static_layer": {
                "envoy.reloadable_features.enable_formatter_for_ratelimit_action_descriptor_value": true,
            } }] },
        }))
        .await
    }

    /// An Envoy that serves, with this bootstrap configuration.
    pub(crate) async fn start_with(bootstrap: &Value) -> Option<Envoy> {
        let binary = binary()?;
        let folder = TempDir::new().unwrap();
        let (config, admin) = (folder.path().join("envoy.json"), folder.path().join("admin"));
        std::fs::write(&config, bootstrap.to_string()).unwrap();
        let mut command = Command::new(binary);
        command.arg("-c").arg(&config).arg("--admin-address-path").arg(&admin);
        command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
        let mut process = Process::spawn("envoy", &mut command);

        let (admin, listeners) = live(&mut process, &admin).await;
        Some(Envoy { process, _folder: folder, admin, listeners })
    }

    /// A client of the listener of that name.
    pub(crate) fn http(&self, listener: &str) -> Http {
        Http::new(self.listeners[listener])
    }

    /// Where its admin interface listens.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The value of a counter or gauge; 0 while it has none.
    pub(crate) async fn statistic(&self, name: &str) -> u64 {
        assert!(self.process.id() > 0);
        let answer = self.admin.get(&format!("/stats?format=json&filter=^{name}$")).await.json();
        let first = answer["stats"].as_array().and_then(|all| all.first()).map(|one| one["value"].as_u64());
        first.flatten().unwrap_or_default()
    }
}

/// Waits until a proxy, Envoy or one that behaves as Envoy does, is live: its admin interface, whose address it writes to
/// that file, and its listeners by name.
pub(crate) async fn live(process: &mut Process, admin: &Path) -> (Http, HashMap<String, SocketAddr>) {
    let admin = eventually("the proxy is live", PATIENCE, async || {
        assert!(process.exit_status().is_none(), "it ended at start: {}", process.stderr());
        let admin = Http::new(std::fs::read_to_string(admin).ok()?.trim().parse().ok()?);
        let ready = http::Request::get("/ready").body(bytes::Bytes::new()).expect("is well formed");
        (admin.send(ready).await.ok()?.status == StatusCode::OK).then_some(admin)
    })
    .await;
    let listeners = listening(&admin.get("/listeners?format=json").await.json());
    (admin, listeners)
}

fn listening(answer: &Value) -> HashMap<String, SocketAddr> {
    let listener = |status: &Value| {
        let socket = &status["local_address"]["socket_address"];
        let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
        Some((status["name"].as_str()?.to_owned(), SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port)))
    };
    answer["listener_statuses"].as_array().expect("a list").iter().filter_map(listener).collect()
}

// === configuration ===

/// A socket address in Envoy's form.
fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// A listener on a port of Envoy's choice: these filters before the router, these routes for every host.
pub(crate) fn listener(name: &str, filters: Vec<Value>, routes: &[Value]) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    });
    let filters: Vec<Value> = filters.into_iter().chain([router]).collect();
    json!({
        "name": name,
        "address": address(([127, 0, 0, 1], 0).into()),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
                "http_filters": filters,
            },
        }] }],
    })
}

/// The rate limit filter: it asks that cluster, waits long, refuses when it gets no answer, and sends the
/// X-RateLimit headers.
pub(crate) fn rate_limit_filter(domain: &str, cluster: &str) -> Value {
    json!({
        "name": format!("envoy.filters.http.ratelimit/{domain}"),
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
            "domain": domain,
            // Failing open on a slow machine would turn a slow test into a wrong result.
            "timeout": "10s",
            "failure_mode_deny": true,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": { "envoy_grpc": { "cluster_name": cluster } },
            },
        },
    })
}

/// A route of every path below `prefix` to the cluster `upstream`, with these rate limits.
pub(crate) fn route(prefix: &str, rate_limits: &Value) -> Value {
    json!({ "match": { "prefix": prefix }, "route": { "cluster": "upstream", "rate_limits": rate_limits } })
}

/// A route as [`route`] makes it, whose rate limits stand in the filter's own form, which knows more.
pub(crate) fn route_per_filter(prefix: &str, domain: &str, rate_limits: &Value) -> Value {
    let mut route = route(prefix, &json!([]));
    route["typed_per_filter_config"] = json!({ format!("envoy.filters.http.ratelimit/{domain}"): {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
        "rate_limits": rate_limits,
    } });
    route
}

/// Rate limits of one descriptor with the entry `(generic_key, value)`.
pub(crate) fn generic_key(value: &str) -> Value {
    json!([{ "actions": [{ "generic_key": { "descriptor_value": value } }] }])
}

/// The service behind Envoy.
pub(crate) fn upstream(at: SocketAddr) -> Value {
    cluster("upstream", at)
}

/// A rate limit service, spoken to in HTTP/2.
pub(crate) fn rate_limit_service(name: &str, at: SocketAddr) -> Value {
    let mut cluster = cluster(name, at);
    cluster["typed_extension_protocol_options"] = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    } });
    cluster
}

/// The same, on a socket of this machine.
pub(crate) fn rate_limit_service_at(name: &str, socket: &Path) -> Value {
    let mut cluster = rate_limit_service(name, ([127, 0, 0, 1], 1).into());
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] =
        json!({ "pipe": { "path": socket } });
    cluster
}

fn cluster(name: &str, at: SocketAddr) -> Value {
    json!({
        "name": name,
        "connect_timeout": "5s",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(at) } }] }],
        },
    })
}
