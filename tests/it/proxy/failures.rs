//! What a client sees when something fails, and what the log says of it.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::config::{bootstrap, cluster, http, listener, route, with};
use super::stage::{Places, same};
use crate::support::{PATIENCE, eventually};

fn clusters(places: &Places<'_>) -> Vec<Value> {
    let breakers = |limits: &Value| json!({ "circuit_breakers": { "thresholds": [limits] } });
    vec![
        cluster("up", &[places.upstream]),
        cluster("dead", &[places.nobody]),
        cluster("empty", &[]),
        with(
            cluster("narrow", &[places.upstream]),
            &breakers(&json!({ "max_connections": 1, "max_pending_requests": 1 })),
        ),
        with(cluster("single", &[places.upstream]), &breakers(&json!({ "max_requests": 1 }))),
        with(cluster("no-retries", &[places.upstream]), &breakers(&json!({ "max_retries": 0 }))),
    ]
}

fn retried(prefix: &str, cluster: &str, policy: &Value) -> Value {
    with(route(prefix, cluster), &json!({ "route": { "retry_policy": policy } }))
}

fn routes() -> Vec<Value> {
    vec![
        route("/dead", "dead"),
        route("/empty", "empty"),
        // Long enough to see them wait on a machine that is held up; who comes first is given up well before the one who
        // waits.
        with(route("/narrow-first", "narrow"), &json!({ "route": { "timeout": "6s" } })),
        with(route("/narrow", "narrow"), &json!({ "route": { "timeout": "12s" } })),
        with(route("/single", "single"), &json!({ "route": { "timeout": "6s" } })),
        retried("/no-retries", "no-retries", &json!({ "retry_on": "5xx", "num_retries": 3 })),
        retried("/retried", "up", &json!({ "retry_on": "5xx,reset,connect-failure", "num_retries": 2 })),
        retried("/retried-dead", "dead", &json!({ "retry_on": "connect-failure", "num_retries": 2 })),
        retried("/gateway", "up", &json!({ "retry_on": "gateway-error", "num_retries": 1 })),
        retried("/per-try", "up", &json!({ "retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.2s" })),
        retried(
            "/conflict",
            "up",
            &json!({ "retry_on": "retriable-4xx,retriable-status-codes",
            "retriable_status_codes": [418], "num_retries": 1 }),
        ),
        with(route("/short", "up"), &json!({ "route": { "timeout": "1s" } })),
        with(route("/idle", "up"), &json!({ "route": { "idle_timeout": "1s" } })),
        route("/", "up"),
    ]
}

fn config(places: &Places<'_>) -> Value {
    bootstrap(&[listener("main", places.folder, &[], &routes())], &clusters(places))
}

#[tokio::test]
async fn an_upstream_that_can_not_be_reached() {
    same(config, async |stage| {
        for path in ["/dead", "/empty", "/dead"] {
            stage.get(path).await;
        }
        stage.ask_http2("main", "/dead").await;
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_resets_closes_or_talks_nonsense() {
    same(config, async |stage| {
        for path in ["/reset", "/close", "/garbage", "/cut", "/cut-head", "/cut-chunks", "/big-head"] {
            stage.get(path).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_never_answers_or_stalls() {
    same(config, async |stage| {
        for path in ["/short/never", "/short/stall", "/idle/never", "/idle/stall"] {
            stage.get(path).await;
        }
    })
    .await;
}

#[tokio::test]
async fn retries_are_counted_at_the_upstream() {
    same(config, async |stage| {
        for path in [
            "/retried/503",
            "/retried/third-time",
            "/retried/reset",
            "/retried/404",
            "/retried/limited",
            "/retried-dead",
            "/gateway/500",
            "/gateway/502",
            "/gateway/close",
            "/per-try/never",
            "/conflict/409",
            "/conflict/418",
            "/conflict/503",
            "/no-retries/503",
        ] {
            stage.get(path).await;
            let count = stage.upstream.count(path);
            stage.note(format!("{path} reached upstream {count} times"));
        }
        let body = Request::post("/retried/third-time-post/third-time").body(Bytes::from_static(b"again and again"));
        stage.ask("main", body.unwrap()).await;
    })
    .await;
}

#[tokio::test]
async fn a_breaker_that_is_open_refuses_at_once() {
    same(config, async |stage| {
        let address = stage.subject.address("main");
        // One request is carried, then one waits, and whoever comes now is refused.
        let hold = |path: &'static str| {
            tokio::spawn(async move { crate::support::client::Http::new(address).get(path).await.status })
        };
        let carried = hold("/narrow-first/never");
        eventually("one is carried", PATIENCE, async || {
            (stage.upstream.count("/narrow-first/never") == 1).then_some(())
        })
        .await;
        let held = [carried, hold("/narrow/never")];
        eventually("one waits", PATIENCE, async || {
            (stage.subject.statistic("cluster.narrow.upstream_rq_pending_active").await == 1).then_some(())
        })
        .await;
        held.iter().for_each(|_| stage.expect_log_line());
        stage.get("/narrow/hello").await;
        for request in held {
            let status = request.await.unwrap();
            stage.note(format!("the held one got {status}"));
        }
    })
    .await;
}

#[tokio::test]
async fn one_request_more_than_may_be_under_way_is_refused() {
    same(config, async |stage| {
        let address = stage.subject.address("main");
        let held =
            tokio::spawn(async move { crate::support::client::Http::new(address).get("/single/never").await.status });
        eventually("one is under way", PATIENCE, async || (stage.upstream.count("/single/never") == 1).then_some(()))
            .await;
        stage.expect_log_line();
        stage.get("/single/hello").await;
        let open = stage.subject.statistic("cluster.single.circuit_breakers.default.rq_open").await;
        stage.note(format!("open: {open}"));
        let status = held.await.unwrap();
        stage.note(format!("the held one got {status}"));
        stage.get("/single/hello").await;
        let open = stage.subject.statistic("cluster.single.circuit_breakers.default.rq_open").await;
        stage.note(format!("open: {open}"));
    })
    .await;
}

#[tokio::test]
async fn a_request_that_does_not_arrive() {
    let config = |places: &Places<'_>| {
        let mut main = listener("main", places.folder, &[], &routes());
        http(&mut main)["request_timeout"] = json!("0.3s");
        bootstrap(&[main], &clusters(places))
    };
    same(config, async |stage| {
        stage.expect_log_line();
        let head = "POST /hello HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nslow";
        let answer = super::bad_input::raw(stage.subject.address("main"), head.as_bytes()).await;
        let first = answer.lines().next().unwrap_or_default().to_owned();
        stage.note(first);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves() {
    same(config, async |stage| {
        stage.expect_log_line();
        let head = "GET /never HTTP/1.1\r\nhost: test\r\n\r\n";
        super::bad_input::leave_after(stage.subject.address("main"), head.as_bytes(), async || {
            (stage.upstream.count("/never") == 1).then_some(())
        })
        .await;
    })
    .await;
}
