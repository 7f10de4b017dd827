//! Which hosts are used: health checks, outlier detection, several hosts, draining.

use serde_json::{Value, json};

use super::config::{bootstrap, cluster, listener, route, with};
use super::stage::{Places, Stage, same};
use crate::support::{PATIENCE, eventually};

fn config(places: &Places<'_>, more: &Value) -> Value {
    let up = with(cluster("up", &[places.upstream]), more);
    bootstrap(&[listener("main", places.folder, &[], &[route("/", "up")])], &[up])
}

async fn becomes(stage: &Stage, name: &str, wanted: u64) {
    eventually(&format!("{name} becomes {wanted}"), PATIENCE, async || {
        (stage.subject.statistic(name).await == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_host_that_answers_badly_is_ejected_and_comes_back() {
    let more = json!({
        // Long enough to be seen.
        "outlier_detection": { "consecutive_5xx": 3, "interval": "0.2s", "base_ejection_time": "4s",
            "max_ejection_percent": 100 },
        "common_lb_config": { "healthy_panic_threshold": { "value": 0 } },
    });
    same(
        |places| config(places, &more),
        async |stage| {
            for path in ["/503", "/503", "/hello", "/503", "/500", "/503"] {
                stage.get(path).await;
            }
            becomes(stage, "cluster.up.outlier_detection.ejections_active", 1).await;
            stage.until("/hello", 503).await;
            becomes(stage, "cluster.up.outlier_detection.ejections_active", 0).await;
            stage.until("/hello", 200).await;
            stage.get("/hello").await;
        },
    )
    .await;
}

#[tokio::test]
async fn as_many_hosts_are_ejected_as_may_be() {
    let more = json!({
        "outlier_detection": { "consecutive_5xx": 1, "interval": "0.2s", "base_ejection_time": "0.5s",
            "max_ejection_percent": 10 },
    });
    same(
        |places| config(places, &more),
        async |stage| {
            stage.get("/503").await;
            becomes(stage, "cluster.up.outlier_detection.ejections_overflow", 1).await;
            stage.get("/hello").await;
        },
    )
    .await;
}

#[tokio::test]
async fn with_too_few_healthy_hosts_all_are_used() {
    let more = json!({
        "outlier_detection": { "consecutive_5xx": 1, "interval": "0.2s", "base_ejection_time": "60s",
            "max_ejection_percent": 100 },
    });
    same(
        |places| config(places, &more),
        async |stage| {
            stage.get("/503").await;
            becomes(stage, "cluster.up.outlier_detection.ejections_active", 1).await;
            stage.get("/hello").await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_failed_health_check_takes_a_host_out_and_a_good_one_brings_it_back() {
    let more = json!({
        "health_checks": [{ "timeout": "15s", "interval": "0.1s", "no_traffic_interval": "0.1s",
            "unhealthy_threshold": 2, "healthy_threshold": 2, "http_health_check": { "path": "/check" } }],
        "common_lb_config": { "healthy_panic_threshold": { "value": 0 } },
    });
    same(
        |places| config(places, &more),
        async |stage| {
            stage.get("/hello").await;
            stage.upstream.answer_all(Some(503));
            becomes(stage, "cluster.up.membership_healthy", 0).await;
            stage.until("/hello", 503).await;
            stage.get("/hello").await;
            stage.upstream.answer_all(None);
            becomes(stage, "cluster.up.membership_healthy", 1).await;
            stage.until("/hello", 200).await;
            stage.get("/hello").await;
            let head = stage.upstream.heads().into_iter().find(|head| head.contains("/check")).unwrap();
            stage.note(head.to_ascii_lowercase().replace("\r\n", " | "));
        },
    )
    .await;
}

#[tokio::test]
async fn hosts_by_name_are_looked_up() {
    let more = json!({ "type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY", "dns_refresh_rate": "0.2s" });
    let config = |places: &Places<'_>| {
        let mut up = with(cluster("up", &[places.upstream]), &more);
        let endpoint = &mut up["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
        endpoint["address"]["socket_address"]["address"] = json!("localhost");
        bootstrap(&[listener("main", places.folder, &[], &[route("/", "up")])], &[up])
    };
    same(config, async |stage| {
        stage.get("/hello").await;
        stage.get("/hello").await;
    })
    .await;
}

#[tokio::test]
async fn a_request_to_a_dead_host_is_tried_again_on_the_next() {
    let config = |places: &Places<'_>| {
        let pair = [places.upstream, places.nobody];
        let retried = json!({ "route": { "retry_policy": { "retry_on": "connect-failure", "num_retries": 1 } } });
        let routes = [with(route("/", "up"), &retried)];
        bootstrap(&[listener("main", places.folder, &[], &routes)], &[cluster("up", &pair)])
    };
    // Where the turn begins is random, so the log would differ: only what clients see is compared.
    for kind in [super::subject::Kind::Envoy, super::subject::Kind::Ours] {
        let Some(mut stage) = Stage::start(kind, config).await else { return };
        for _ in 0..6 {
            assert_eq!(stage.get("/hello").await, 200, "a retry goes to the other host");
        }
        let failed = stage.subject.statistic("cluster.up.upstream_cx_connect_fail").await;
        // Two tries a request take two turns, so once it is the dead one's turn first it stays so.
        assert!((5..=6).contains(&failed), "{kind:?}: {failed} of 6 should have gone to the dead one first");
    }
}

#[tokio::test]
async fn drained_listeners_end_requests_well_and_take_no_more() {
    same(
        |places| config(places, &json!({})),
        async |stage| {
            let address = stage.subject.address("main");
            stage.expect_log_line();
            let slow =
                tokio::spawn(async move { crate::support::client::Http::new(address).get("/slow").await.status });
            eventually("the slow one is under way", PATIENCE, async || {
                (stage.upstream.count("/slow") == 1).then_some(())
            })
            .await;
            let drained = stage.subject.admin.post("/drain_listeners", "").await;
            stage.note(format!("draining: {} {:?}", drained.status, drained.text()));
            eventually("nobody listens any more", PATIENCE, async || {
                tokio::net::TcpStream::connect(address).await.is_err().then_some(())
            })
            .await;
            let status = slow.await.unwrap();
            stage.note(format!("the slow one got {status}"));
        },
    )
    .await;
}

#[tokio::test]
async fn failing_its_own_health_check_asks_clients_to_go() {
    same(
        |places| config(places, &json!({})),
        async |stage| {
            for path in ["/healthcheck/fail", "/healthcheck/ok"] {
                let answer = stage.subject.admin.post(path, "").await;
                stage.note(format!("{path}: {} {:?}", answer.status, answer.text()));
                let ready = stage.subject.admin.get("/ready").await;
                stage.note(format!("ready: {} {:?}", ready.status, ready.text()));
                stage.get("/hello").await;
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_grpc_answer_is_judged_by_the_status_in_its_head() {
    // 503 is asked for last: once it has been noticed, so have the others.
    const STATUSES: [&str; 19] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "15", "16", "17", "x", "14"];
    let config = |places: &Places<'_>| {
        let judged = json!({ "outlier_detection": { "consecutive_5xx": 1, "consecutive_gateway_failure": 1,
            "enforcing_consecutive_gateway_failure": 100, "base_ejection_time": "60s", "max_ejection_percent": 100 } });
        let names = STATUSES.iter().flat_map(|status| [format!("grpc{status}"), format!("plain{status}")]);
        let names: Vec<String> = names.collect();
        let routes: Vec<Value> = names.iter().map(|name| route(&format!("/{name}/"), name)).collect();
        let clusters: Vec<Value> = names.iter().map(|name| with(cluster(name, &[places.upstream]), &judged)).collect();
        bootstrap(&[listener("main", places.folder, &[], &routes)], &clusters)
    };
    same(config, async |stage| {
        for status in STATUSES {
            stage.get(&format!("/plain{status}/grpc-{status}")).await;
            let request = http::Request::post(format!("/grpc{status}/grpc-{status}"));
            let request = request.header("content-type", "application/grpc").body(bytes::Bytes::new()).unwrap();
            stage.ask("main", request).await;
        }
        becomes(stage, "cluster.grpc14.outlier_detection.ejections_active", 1).await;
    })
    .await;
}
