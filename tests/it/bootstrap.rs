//! The reader of the bundled proxy against Envoy's own validation: the same bootstraps are accepted and refused.
//!
//! Each case is a bootstrap that both accept with one change. Where only Envoy accepts, that is on purpose and its
//! reason stands with the case; there is no case that only we accept.

mod clusters;
mod limits;
mod listeners;
mod routes;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::proxy::bootstrap;

use crate::support::envoy;

/// Where in the bootstrap a change is made.
#[derive(Clone, Copy, Debug)]
enum At {
    Root,
    Listener,
    Http,
    VirtualHost,
    Route,
    /// `route` of the route.
    Action,
    /// `match` of the route.
    Match,
    /// The rate limit filter's configuration.
    RateLimit,
    LocalRateLimit,
    Fault,
    Cluster,
}

/// What both say, or why only Envoy accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    BothAccept,
    BothRefuse,
    OnlyEnvoyAccepts,
}

use Verdict::{BothAccept, BothRefuse, OnlyEnvoyAccepts};

// === impl At ===

impl At {
    fn pointer(self) -> String {
        let http = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let host = format!("{http}/route_config/virtual_hosts/0");
        let filter = |index: usize| format!("{http}/http_filters/{index}/typed_config");
        match self {
            At::Root => String::new(),
            At::Listener => "/static_resources/listeners/0".to_owned(),
            At::Http => http.to_owned(),
            At::VirtualHost => host,
            At::Route => format!("{host}/routes/0"),
            At::Action => format!("{host}/routes/0/route"),
            At::Match => format!("{host}/routes/0/match"),
            At::RateLimit => filter(0),
            At::LocalRateLimit => filter(1),
            At::Fault => filter(2),
            At::Cluster => "/static_resources/clusters/0".to_owned(),
        }
    }
}

fn type_url(name: &str) -> String {
    format!("type.googleapis.com/envoy.{name}")
}

fn base() -> Value {
    let filter = |name: &str, message: &str| json!({ "name": name, "typed_config": { "@type": type_url(&format!("extensions.filters.http.{message}")) } });
    let mut filters = [
        filter("ratelimit", "ratelimit.v3.RateLimit"),
        filter("local_ratelimit", "local_ratelimit.v3.LocalRateLimit"),
        filter("fault", "fault.v3.HTTPFault"),
        filter("router", "router.v3.Router"),
    ];
    filters[0]["typed_config"]["domain"] = json!("shop");
    filters[0]["typed_config"]["rate_limit_service"] =
        json!({ "transport_api_version": "V3", "grpc_service": { "envoy_grpc": { "cluster_name": "up" } } });
    filters[1]["typed_config"]["stat_prefix"] = json!("local");
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "up" } });
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    json!({
        "node": { "id": "test", "cluster": "test" },
        "admin": { "address": address(0) },
        "static_resources": {
            "listeners": [{ "name": "main", "address": address(0), "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": type_url("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                    "stat_prefix": "main",
                    "http_filters": filters,
                    "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
                },
            }] }] }],
            "clusters": [{
                "name": "up",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "up",
                    "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(8080) } }] }],
                },
            }],
        },
    })
}

/// The base with the fields of `change` in the place of those of the same name; `"REMOVED"` takes a field away.
fn changed(at: At, change: &str) -> Value {
    let change: Value = serde_yaml::from_str(change).unwrap_or_else(|error| panic!("{change}: {error}"));
    let mut bootstrap = base();
    let message = bootstrap.pointer_mut(&at.pointer()).and_then(Value::as_object_mut).expect("the base has this");
    for (name, value) in change.as_object().expect("a change is a map") {
        match value.as_str() {
            Some("REMOVED") => drop(message.remove(name)),
            _ => drop(message.insert(name.clone(), value.clone())),
        }
    }
    bootstrap
}

/// Whether Envoy accepts the file, and its last words.
fn envoy_accepts(binary: &Path, file: &Path) -> (bool, String) {
    let mut command = Command::new(binary);
    command.args(["--mode", "validate", "-l", "error", "-c"]).arg(file).stdin(Stdio::null());
    let output = command.output().expect("envoy runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text.lines().rev().take(2).collect::<Vec<_>>().join(" "))
}

fn compare(binary: &Path, folder: &Path, at: At, change: &str, expected: Verdict) -> Option<String> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let text = changed(at, change).to_string();
    let file = folder.join(format!("{}.yaml", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&file, &text).unwrap();
    let (envoy, words) = envoy_accepts(binary, &file);
    let ours = bootstrap::read(&text, "proxy.yaml").map(|_| ());
    let found = (envoy, ours.is_ok());
    let wanted = match expected {
        BothAccept => (true, true),
        BothRefuse => (false, false),
        OnlyEnvoyAccepts => (true, false),
    };
    let said = ours.err().map(|errors| errors.to_string()).unwrap_or_default();
    (found != wanted).then(|| format!("{at:?} {change}\n  {expected:?}, found {found:?}\n  {words}\n  {said}"))
}

fn check(cases: &[(At, &str, Verdict)]) {
    let Some(binary) = envoy::binary() else { return };
    let folder = TempDir::new().unwrap();
    let differences: Vec<String> = cases
        .iter()
        .filter_map(|(at, change, expected)| compare(&binary, folder.path(), *at, change, *expected))
        .collect();
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn the_configurations_that_are_shipped_are_accepted_by_both() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> =
        std::fs::read_dir(root.join("config/envoy")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 5, "one for each stage of the story");
    files.push(root.join("docker/envoy.yaml"));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let read = bootstrap::read(&text, &file.display().to_string()).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
        if let Some(binary) = envoy::binary() {
            let (accepted, words) = envoy_accepts(&binary, &file);
            assert!(accepted, "{}: {words}", file.display());
        }
    }
}
