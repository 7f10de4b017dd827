//! The metrics in Prometheus's form: the same series with the same labels.

use std::collections::BTreeMap;

use super::config::{bootstrap, cluster, listener, route};
use super::stage::{Places, Stage};
use super::subject::Kind;
use crate::support::{PATIENCE, eventually};

/// What adaptive control and dashboards read.
const FAMILIES: [&str; 24] = [
    "envoy_cluster_upstream_rq",
    "envoy_cluster_upstream_rq_xx",
    "envoy_cluster_upstream_rq_completed",
    "envoy_cluster_external_upstream_rq",
    "envoy_cluster_external_upstream_rq_xx",
    "envoy_cluster_upstream_rq_total",
    "envoy_cluster_upstream_rq_active",
    "envoy_cluster_upstream_rq_pending_active",
    "envoy_cluster_upstream_rq_pending_overflow",
    "envoy_cluster_upstream_rq_timeout",
    "envoy_cluster_upstream_cx_overflow",
    "envoy_cluster_upstream_cx_none_healthy",
    "envoy_cluster_upstream_cx_active",
    "envoy_cluster_upstream_rq_time_bucket",
    "envoy_cluster_upstream_rq_time_count",
    "envoy_cluster_external_upstream_rq_time_count",
    "envoy_cluster_circuit_breakers_default_rq_pending_open",
    "envoy_cluster_circuit_breakers_default_cx_open",
    "envoy_cluster_membership_healthy",
    "envoy_http_downstream_rq_xx",
    "envoy_http_downstream_rq_total",
    "envoy_http_downstream_rq_time_bucket",
    "envoy_http_downstream_rq_time_count",
    "envoy_http_downstream_cx_total",
];

fn config(places: &Places<'_>) -> serde_json::Value {
    let main = listener("main", places.folder, &[], &[route("/dead", "dead"), route("/", "up")]);
    bootstrap(&[main], &[cluster("up", &[places.upstream]), cluster("dead", &[places.nobody])])
}

/// The watched series with sorted labels, and their values where these don't depend on speed.
async fn series(stage: &Stage) -> BTreeMap<String, String> {
    let text = stage.subject.admin.get("/stats/prometheus").await.text();
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let (family, labels) = name.split_once('{').unwrap_or((name, "}"));
        if !FAMILIES.contains(&family) || labels.contains("\"admin\"") {
            continue;
        }
        let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
        labels.sort_unstable();
        let value = if family.ends_with("_bucket") { "some" } else { value };
        let key = format!("{family} {}", labels.join(","));
        assert!(series.insert(key.clone(), value.to_owned()).is_none(), "{key} is there twice");
    }
    series
}

#[tokio::test]
async fn series_labels_and_values_are_envoys() {
    let (mut stages, mut both) = (Vec::new(), Vec::new());
    for kind in [Kind::Envoy, Kind::Ours] {
        let Some(mut stage) = Stage::start(kind, config).await else { return };
        for path in ["/hello", "/hello", "/404", "/503", "/dead", "/close"] {
            stage.get(path).await;
        }
        // Histograms show what came in the last interval once it is over.
        let seen = eventually("the histograms are shown", PATIENCE, async || {
            let seen = series(&stage).await;
            let count = seen.get("envoy_cluster_upstream_rq_time_count envoy_cluster_name=\"up\"")?;
            let active = seen.get("envoy_http_downstream_rq_time_count envoy_http_conn_manager_prefix=\"main\"")?;
            (count == "4" && active == "6").then_some(seen)
        })
        .await;
        both.push(seen);
        stages.push(stage);
    }
    // What is told of connections may change a little after what is told of requests.
    let settled = async || {
        for (stage, seen) in stages.iter().zip(&mut both) {
            *seen = series(stage).await;
        }
        let differences = differences(&both[0], &both[1]);
        println!("{differences}");
        differences.is_empty().then_some(())
    };
    eventually("the series are the same", PATIENCE / 4, settled).await;
}

/// Where our series differ from Envoy's, a line each.
fn differences(envoy: &BTreeMap<String, String>, ours: &BTreeMap<String, String>) -> String {
    let differing = envoy.iter().filter(|(name, value)| ours.get(*name) != Some(value));
    let differing = differing.map(|(name, value)| format!("{name} is {value} and not {:?}\n", ours.get(name)));
    let surplus = ours.keys().filter(|name| !envoy.contains_key(*name));
    differing.chain(surplus.map(|name| format!("{name} is not Envoy's\n"))).collect()
}

#[tokio::test]
async fn counters_go_back_to_zero_when_told_so() {
    for kind in [Kind::Envoy, Kind::Ours] {
        let Some(mut stage) = Stage::start(kind, config).await else { return };
        stage.get("/hello").await;
        assert_eq!(stage.subject.statistic("cluster.up.upstream_rq_total").await, 1);
        stage.subject.admin.post("/reset_counters", "").await;
        assert_eq!(stage.subject.statistic("cluster.up.upstream_rq_total").await, 0);
        assert_eq!(stage.subject.statistic("cluster.up.membership_total").await, 1, "gauges stay");
    }
}
