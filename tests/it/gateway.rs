//! Envoy Gateway's acceptance list without Kubernetes: one Envoy, a server of snapshots, and our program started as Envoy
//! Gateway starts it, under the name `ratelimit` and with its variables.
//!
//! Each row has the name of an end-to-end test of Envoy Gateway's, and does what that test does: the same rules in the same
//! form, the same requests, the same answers. All rows share the programs and no counter, since each has a domain of its
//! own. A row that fails doesn't hide the others.

mod rows;
mod rules;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tempfile::TempDir;
use tidegate::clock::{Clock, SystemClock};
use tonic_health::pb::health_check_response::ServingStatus;

use self::rows::{Row, Step};
use crate::support::client::Http;
use crate::support::envoy::{Envoy, rate_limit_service, upstream};
use crate::support::redis::Redis;
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::upstream::Upstream;
use crate::support::xds::SnapshotServer;
use crate::support::{PATIENCE, eventually};

const NODE: &str = "envoy-ratelimit";

/// What Envoy Gateway mounts: the statsd exporter's form, over the reference service's names, two levels of keys deep.
const MAPPING: &str = r#"
mappings:
- match: '^ratelimit\.service\.rate_limit\.([^.]+)\.([^.]+)\.([a-z_]+)$'
  match_type: regex
  name: ratelimit_service_rate_limit_$3
  labels: {domain: "$1", key1: "$2"}
- match: '^ratelimit\.service\.rate_limit\.([^.]+)\.([^.]+)\.([^.]+)(\..*)?\.([a-z_]+)$'
  match_type: regex
  name: ratelimit_service_rate_limit_$5
  labels: {domain: "$1", key1: "$2", key2: "$3"}
- {match: ratelimit.service.call.should_rate_limit.*, name: ratelimit_service_should_rate_limit_error, match_metric_type: counter, labels: {err_type: "$1"}}
- {match: ratelimit_server.*.total_requests, name: ratelimit_service_total_requests, match_metric_type: counter, labels: {grpc_method: "$1"}}
- {match: ratelimit_server.*.response_time, name: ratelimit_service_response_time_seconds, timer_type: histogram, labels: {grpc_method: "$1"}}
- {match: ratelimit.service.config_load_success, name: ratelimit_service_config_load_success, match_metric_type: counter}
- {match: ratelimit.service.config_load_error, name: ratelimit_service_config_load_error, match_metric_type: counter}
"#;

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/certificates/gateway").join(name)
}

/// Our program as Envoy Gateway starts it; its own ports are those of `Launch`, and the xDS server speaks no TLS here.
fn launch(server: &SnapshotServer, redis: &Redis, folder: &Path) -> Launch {
    let (program, mapping) = (folder.join("ratelimit"), folder.join("conf.yaml"));
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tidegate"), &program).unwrap();
    std::fs::write(&mapping, MAPPING).unwrap();
    let file = |name: &str| certificate(name).display().to_string();
    let variables = [
        ("CONFIG_TYPE", "GRPC_XDS_SOTW".to_owned()),
        ("CONFIG_GRPC_XDS_SERVER_URL", server.address().to_string()),
        ("CONFIG_GRPC_XDS_NODE_ID", NODE.to_owned()),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true".to_owned()),
        ("GRPC_SERVER_USE_TLS", "true".to_owned()),
        ("GRPC_SERVER_TLS_CERT", file("ratelimit.pem")),
        ("GRPC_SERVER_TLS_KEY", file("ratelimit.key")),
        ("GRPC_SERVER_TLS_CA_CERT", file("ca.pem")),
        ("RUNTIME_ROOT", "/data".to_owned()),
        ("RUNTIME_SUBDIRECTORY", "ratelimit".to_owned()),
        ("RUNTIME_IGNOREDOTFILES", "true".to_owned()),
        ("RUNTIME_WATCH_ROOT", "false".to_owned()),
        ("LOG_LEVEL", "info".to_owned()),
        ("USE_STATSD", "false".to_owned()),
        ("REDIS_SOCKET_TYPE", "tcp".to_owned()),
        ("REDIS_URL", format!("127.0.0.1:{}", redis.port())),
        ("USE_PROMETHEUS", "true".to_owned()),
        ("PROMETHEUS_ADDR", ":0".to_owned()),
        ("PROMETHEUS_MAPPER_YAML", mapping.display().to_string()),
    ];
    let launch = Launch::new(&[]).program(program);
    variables.into_iter().fold(launch, |launch, (name, value)| launch.setting(name, value))
}

/// Envoy's cluster for it, as Envoy Gateway writes it.
fn service(tidegate: &Tidegate) -> serde_json::Value {
    let mut service = rate_limit_service("ratelimit_cluster", tidegate.grpc_address());
    service["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": { "filename": certificate("ratelimit.pem") },
                    "private_key": { "filename": certificate("ratelimit.key") },
                }],
                "validation_context": { "trusted_ca": { "filename": certificate("ca.pem") } },
            },
        },
    });
    service
}

/// Limits are per hour of the clock: none may end in the middle.
async fn far_from_the_end_of_an_hour() {
    const ROOM_S: u64 = 120;
    let what = "the hour is young enough";
    eventually(what, Duration::from_secs(ROOM_S) + PATIENCE, async || {
        let now = SystemClock.now().as_millis() / 1_000;
        (now % 3_600 < 3_600 - ROOM_S).then_some(())
    })
    .await;
}

#[tokio::test]
async fn envoy_gateways_acceptance_list_passes() {
    let Some(redis) = Redis::start().await else { return };
    if crate::support::envoy::binary().is_none() {
        return;
    }
    far_from_the_end_of_an_hour().await;
    let (server, behind, folder) = (SnapshotServer::start().await, Upstream::start().await, TempDir::new().unwrap());
    let tidegate = launch(&server, &redis, folder.path()).start().await;
    tidegate.becomes_healthy().await;
    let rows = rows::all();
    let resources: Vec<_> = rows.iter().flat_map(|row| row.resources.clone()).collect();
    server.tell(NODE, &resources);
    server.is_accepted("1").await;
    let listeners: Vec<_> = rows.iter().flat_map(|row| row.listeners.clone()).collect();
    let clusters = [upstream(behind.address()), service(&tidegate)];
    let Some(envoy) = Envoy::start(&listeners, &clusters).await else { return };
    let mut failed = Vec::new();
    for row in rows {
        match walk(&row, &envoy, &tidegate).await {
            Ok(()) => println!("{} ok", row.name),
            Err(why) => {
                println!("{} FAILED: {why}", row.name);
                failed.push(row.name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(envoy.statistic("cluster.upstream.ratelimit.error").await, 0);
    assert_ne!(redis.ask("DBSIZE").await, "0", "the counters are in Redis");
}

/// Does what a row says; the error is the first thing that was otherwise.
async fn walk(row: &Row, envoy: &Envoy, tidegate: &Tidegate) -> Result<(), String> {
    for (index, step) in row.steps.iter().enumerate() {
        let told = |why: String| format!("step {}: {why}", index + 1);
        match step {
            Step::Ask { listener, method, path, headers, times, status, limit } => {
                for turn in 1..=*times {
                    let http = envoy.http(listener);
                    let answer = send(http, method, path, headers).await;
                    if answer.status != *status {
                        return Err(told(format!("request {turn} is answered {}, not {status}", answer.status)));
                    }
                    let stated = answer.all("x-ratelimit-limit");
                    if limit.is_some_and(|limit| stated != [limit]) {
                        return Err(told(format!("request {turn} has the limit {stated:?}, not {limit:?}")));
                    }
                }
            }
            Step::NoHeaders { listener, path } => {
                let answer = send(envoy.http(listener), "GET", path, &[]).await;
                let stated = answer.all("x-ratelimit-limit");
                if !stated.is_empty() {
                    return Err(told(format!("the limit {stated:?} is stated")));
                }
            }
            Step::UseUp { listener, path } => {
                let http = envoy.http(listener);
                let answer = send(http, "GET", path, &[]).await;
                let left: u32 = answer.header("x-ratelimit-remaining").parse().unwrap();
                for turn in 1..=left {
                    let status = send(http, "GET", path, &[]).await.status;
                    if status != http::StatusCode::OK {
                        return Err(told(format!("of {left} requests number {turn} is answered {status}")));
                    }
                }
            }
            Step::Left { domain, entries, left } => {
                let entries: Vec<_> = entries.iter().map(|entry| json!({ "key": entry, "value": entry })).collect();
                let look = json!({ "domain": domain, "descriptors": [{ "entries": entries, "hitsAddend": 0 }] });
                let what = format!("{}: {left} are left", row.name);
                eventually(&what, PATIENCE, async || {
                    let answer = tidegate.json(&look).await.json();
                    let now = answer["statuses"][0]["limitRemaining"].as_u64().unwrap_or_default();
                    (now == u64::from(*left)).then_some(())
                })
                .await;
            }
            Step::Shown { series } => {
                let http = Http::new(tidegate.prometheus_address());
                let what = format!("{}: {series} is shown", row.name);
                eventually(&what, PATIENCE, async || {
                    let text = http.get("/metrics").await.text();
                    let (name, label) = series.split_once('{').expect("a series has labels here");
                    let label = label.trim_end_matches('}');
                    // Other rows have the same label: the domain has the name of the row.
                    let is_own = |line: &str| line.contains(row.name) && line.contains(label);
                    let is_it = |line: &&str| line.starts_with(name) && is_own(line) && !line.ends_with(" 0");
                    text.lines().find(is_it).map(drop)
                })
                .await;
            }
        }
    }
    Ok(())
}

async fn send(http: Http, method: &str, path: &str, headers: &[(&str, &str)]) -> crate::support::client::Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Bytes::new()).expect("test requests are well formed");
    http.send(request).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

impl Tidegate {
    /// As Kubernetes asks: over HTTP, since the gRPC port speaks TLS.
    async fn becomes_healthy(&self) {
        let what = format!("health becomes {:?}", ServingStatus::Serving);
        let is_healthy = async || self.http().get("/healthcheck").await.status == http::StatusCode::OK;
        eventually(&what, PATIENCE, async || is_healthy().await.then_some(())).await;
    }
}
