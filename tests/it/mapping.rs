//! Metrics for a Prometheus that was set up for the reference service: its port, its path, and a mapping file as Envoy
//! Gateway mounts it, read by the real tool.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::client::Http;
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually, program};

const RULES: &str = "
domain: d
descriptors:
- {key: user, detailed_metric: true, rate_limit: {unit: hour, requests_per_unit: 10}}
- key: r
  value_to_metric: true
  descriptors: [{key: m, rate_limit: {unit: hour, requests_per_unit: 5}}]
- key: s
  value: api/*
  share_threshold: true
  value_to_metric: true
  descriptors: [{key: m, detailed_metric: true, rate_limit: {unit: hour, requests_per_unit: 5}}]
- {key: zero, rate_limit: {unit: hour, requests_per_unit: 0}}
- {key: few, rate_limit: {unit: hour, requests_per_unit: 5}}
- {key: ten, rate_limit: {unit: hour, requests_per_unit: 10}}
- {key: host, detailed_metric: true, rate_limit: {unit: hour, requests_per_unit: 5}}
- key: a
  descriptors: [{key: b, descriptors: [{key: c, rate_limit: {unit: hour, requests_per_unit: 5}}]}]
";

/// One line for each metric, as it is called without a mapping.
const PLAIN: &str = "mappings: []\n";

const MAPPING: &str = r#"
mappings:
- match: ratelimit.service.rate_limit.*.*.total_hits
  name: ratelimit_service_rate_limit_total_hits
  timer_type: histogram
  labels: {domain: "$1", key1: "$2"}
- match: '^ratelimit\.service\.rate_limit\.([^.]+)\.([^.]+)\.([a-z_]+)$'
  match_type: regex
  name: ratelimit_service_rate_limit_$3
  labels: {domain: "$1", key1: "$2"}
- match: '^ratelimit\.service\.rate_limit\.([^.]+)\.([^.]+)\.([^.]+)(\..*)?\.([a-z_]+)$'
  match_type: regex
  name: ratelimit_service_rate_limit_$5
  labels: {domain: "$1", key1: "$2", key2: "$3"}
- {match: ratelimit_server.*.response_time, name: ratelimit_service_response_time_seconds, timer_type: histogram, labels: {grpc_method: "$1"}}
"#;

async fn start(mapping: &str) -> (Tidegate, Http) {
    let launch = Launch::new(&[("rules.yaml", RULES)]);
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("conf.yaml");
    std::fs::write(&file, mapping).unwrap();
    let tidegate = launch
        .setting("USE_STATSD", "false")
        .setting("USE_PROMETHEUS", "true")
        .setting("PROMETHEUS_ADDR", "127.0.0.1:0")
        .setting("PROMETHEUS_PATH", "/prometheus")
        .setting("PROMETHEUS_MAPPER_YAML", file.display())
        .start()
        .await;
    let port = Http::new(tidegate.prometheus_address());
    (tidegate, port)
}

async fn ask(tidegate: &Tidegate, entries: &[(&str, &str)], hits: u64, times: u64) {
    let entries: Vec<serde_json::Value> =
        entries.iter().map(|(key, value)| serde_json::json!({"key": key, "value": value})).collect();
    let question = serde_json::json!({"domain": "d", "descriptors": [{"entries": entries}], "hitsAddend": hits});
    for _ in 0..times {
        tidegate.json(&question).await;
    }
}

/// The value of a series; none if it is not shown.
fn value<'t>(text: &'t str, series: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

#[tokio::test]
async fn the_cases_m1_to_m7_count_under_the_references_names() {
    let (tidegate, port) = start(PLAIN).await;
    ask(&tidegate, &[("user", "a")], 1, 1).await;
    ask(&tidegate, &[("r", "x"), ("m", "GET")], 1, 1).await;
    ask(&tidegate, &[("s", "api/7"), ("m", "GET")], 1, 1).await;
    ask(&tidegate, &[("few", "a")], 2, 3).await;
    ask(&tidegate, &[("host", "10.0.0.1:80")], 1, 1).await;
    ask(&tidegate, &[("zero", "a")], 1, 1).await;
    ask(&tidegate, &[("ten", "a")], 1, 9).await;
    let text = port.get("/prometheus").await.text();
    let of = |name: &str| value(&text, &format!("ratelimit_service_rate_limit_d_{name}"));
    assert_eq!(of("user_a_total_hits"), Some("1"), "M1");
    assert_eq!(of("r_x_m_total_hits"), Some("1"), "M2");
    assert_eq!(of("s_api___m_GET_total_hits"), Some("1"), "M3");
    // M4: without compatibility all or nothing is charged, so that of the third call both hits are over.
    let few = ["total_hits", "within_limit", "near_limit", "over_limit"].map(|last| of(&format!("few_{last}")));
    assert_eq!(few, ["6", "4", "0", "2"].map(Some), "M4");
    assert_eq!(of("host_10_0_0_1_80_total_hits"), Some("1"), "M5");
    let zero = ["over_limit", "near_limit", "within_limit"].map(|last| of(&format!("zero_{last}")));
    assert_eq!(zero, ["1", "0", "0"].map(Some), "M6");
    assert_eq!(of("ten_near_limit"), Some("1"), "M7");
}

#[tokio::test]
async fn a_mapping_file_names_the_series_on_both_ports() {
    let (tidegate, port) = start(MAPPING).await;
    ask(&tidegate, &[("few", "a")], 1, 2).await;
    ask(&tidegate, &[("a", "1"), ("b", "2"), ("c", "3")], 1, 3).await;
    let few = r#"ratelimit_service_rate_limit_total_hits{domain="d",key1="few"}"#;
    let deep = r#"ratelimit_service_rate_limit_total_hits{domain="d",key1="a",key2="b"}"#;
    for text in [port.get("/prometheus").await.text(), tidegate.http().get("/metrics").await.text()] {
        assert_eq!((value(&text, few), value(&text, deep)), (Some("2"), Some("3")), "{text}");
        assert!(text.contains("process_resident_memory_bytes ") && text.contains("tidegate_build_info{"), "{text}");
    }
    assert_eq!(port.get("/metrics").await.status.as_u16(), 404, "the path is the one that was set");
}

#[tokio::test]
async fn the_prometheus_tool_accepts_a_mapped_text() {
    let Some(promtool) = program("promtool", None, "REQUIRE_PROMETHEUS") else { return };
    let (tidegate, port) = start(MAPPING).await;
    ask(&tidegate, &[("host", "a\"b\\c")], 1, 1).await;
    tidegate.becomes(tonic_health::pb::health_check_response::ServingStatus::Serving).await;
    let text = port.get("/prometheus").await.text();
    assert!(text.contains("ratelimit_service_rate_limit_total_hits{"), "{text}");
    let mut tool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // It reads the text, then has opinions on names, which are the reference's.
    let complaints: Vec<&str> =
        said.lines().filter(|line| !line.ends_with("counter metrics should have \"_total\" suffix")).collect();
    assert_eq!(complaints, Vec::<&str>::new(), "{text}");
}

#[tokio::test]
async fn a_mapping_with_mistakes_leaves_the_built_in_names_and_is_told() {
    let (tidegate, port) = start("mappings:\n- {match: 'a*', name: b}\n- {match: c, action: keep, name: d}\n").await;
    ask(&tidegate, &[("few", "a")], 1, 1).await;
    let text = port.get("/prometheus").await.text();
    let few = r#"ratelimit_service_rate_limit_total_hits{domain="d",key1="few"}"#;
    assert_eq!(value(&text, few), Some("1"));
    assert_eq!(value(&text, "tidegate_metrics_mapping_rejected"), Some("1"));
    eventually("both mistakes are in the log", PATIENCE, async || {
        let log = tidegate.log();
        (log.contains("conf.yaml:2:11: mappings[0]") && log.contains("mappings[1]: `action`")).then_some(())
    })
    .await;
}
