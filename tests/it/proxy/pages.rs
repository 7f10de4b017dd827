//! The admin interface's pages for people: the hosts with their state, and what was read.

use serde_json::{Value, json};

use super::config::{bootstrap, cluster, listener, route, with};
use super::stage::{Places, Stage, same};
use super::subject::Kind;
use crate::support::{PATIENCE, eventually};

/// What is compared of `/clusters`; what is under way at the moment isn't.
const SHOWN: [&str; 14] = [
    "observability_name",
    "max_connections",
    "max_pending_requests",
    "max_requests",
    "max_retries",
    "added_via_api",
    "cx_connect_fail",
    "cx_total",
    "rq_error",
    "rq_success",
    "rq_timeout",
    "rq_total",
    "health_flags",
    "weight",
];

fn config(places: &Places<'_>) -> Value {
    let up = json!({
        "circuit_breakers": { "thresholds": [{ "max_requests": 77 }] },
        "outlier_detection": { "consecutive_5xx": 2, "base_ejection_time": "60s", "max_ejection_percent": 100 },
    });
    let routes = [
        route("/dead", "dead"),
        with(route("/short", "up"), &json!({ "route": { "timeout": "0.2s" } })),
        route("/", "up"),
    ];
    let clusters = [with(cluster("up", &[places.upstream]), &up), cluster("dead", &[places.nobody])];
    bootstrap(&[listener("main", places.folder, &[], &routes)], &clusters)
}

/// The lines of `/clusters` that are compared.
async fn shown(stage: &Stage) -> Vec<String> {
    let page = stage.subject.admin.get("/clusters").await.text();
    let is_shown = |line: &&str| {
        // There is one priority here.
        !line.contains("::high_priority::") && line.rsplit("::").nth(1).is_some_and(|what| SHOWN.contains(&what))
    };
    let mut lines: Vec<String> = page.lines().filter(is_shown).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn hosts_are_listed_with_what_became_of_them() {
    same(config, async |stage| {
        let host = "up::UPSTREAM::health_flags::";
        for (paths, state) in [
            (&["/hello", "/404", "/dead", "/short/never", "/hello"][..], "healthy"),
            (&["/503", "/503"], "/failed_outlier_check"),
        ] {
            for path in paths {
                stage.get(path).await;
            }
            let upstream = stage.upstream.address().to_string();
            let wanted = format!("{host}{state}").replace("UPSTREAM", &upstream);
            let lines = eventually(&wanted, PATIENCE, async || {
                Some(shown(stage).await).filter(|lines| lines.contains(&wanted))
            })
            .await;
            assert!(lines.iter().any(|line| line.ends_with("::max_requests::77")), "{lines:?}");
            for line in lines {
                // The other host's port is each proxy's own.
                let other = line.strip_prefix("dead::127.0.0.1:").and_then(|rest| rest.split_once("::"));
                stage.note(other.map_or(line.clone(), |(_, rest)| format!("dead::NOBODY::{rest}")));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_dump_holds_what_was_read_and_what_stands_for_the_rest() {
    let Some(stage) = Stage::start(Kind::Ours, config).await else { return };
    let dump = stage.subject.admin.get("/config_dump").await;
    assert_eq!(dump.status, 200);
    let dump = dump.text();
    let upstream = format!("port: {}", stage.upstream.address().port());
    for part in ["\"main\"", "\"up\"", "\"dead\"", "\"/short\"", "200ms", "max_requests: 77", &upstream] {
        assert!(dump.contains(part), "what was read: {part} is missing in {dump}");
    }
    for part in ["max_connections: 1024", "max_retries: 3", "max_ejection_percent: 100"] {
        assert!(dump.contains(part), "{part} is missing in {dump}");
    }
}
