//! Clusters that are spoken to in HTTP/2: bodies both ways, and the ways in which a stream or its connection can end.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::config::{bootstrap, cluster, http2, listener, route, with};
use super::stage::{Places, Stage, same};
use super::subject::Kind;
use super::upstream_http2::ScriptedHttp2;
use crate::support::{PATIENCE, eventually};

fn retried(prefix: &str, policy: &Value) -> Value {
    with(route(prefix, "two"), &json!({ "route": { "retry_policy": policy } }))
}

/// Plays on both proxies, each with an upstream of its own.
async fn same_over_http2(play: impl AsyncFn(&mut Stage, &ScriptedHttp2)) {
    let upstreams = [ScriptedHttp2::start().await, ScriptedHttp2::start().await];
    let next = AtomicUsize::new(0);
    let config = |places: &Places<'_>| {
        let upstream = upstreams[next.fetch_add(1, Ordering::Relaxed)].address();
        let routes = [
            retried("/retried-refused", &json!({ "retry_on": "refused-stream", "num_retries": 2 })),
            retried("/retried-reset", &json!({ "retry_on": "reset", "num_retries": 2 })),
            retried("/retried-connect", &json!({ "retry_on": "connect-failure", "num_retries": 2 })),
            retried("/retried-grpc", &json!({ "retry_on": "unavailable", "num_retries": 2 })),
            with(route("/short", "two"), &json!({ "route": { "timeout": "0.2s" } })),
            route("/dead", "dead"),
            route("/mistaken", "mistaken"),
            with(route("/patient", "two"), &json!({ "route": { "timeout": "15s" } })),
            route("/", "two"),
        ];
        let clusters = [
            http2(cluster("two", &[upstream])),
            http2(cluster("dead", &[places.nobody])),
            // Spoken to in HTTP/2, and speaks HTTP/1.
            http2(cluster("mistaken", &[places.upstream])),
        ];
        bootstrap(&[listener("main", places.folder, &[], &routes)], &clusters)
    };
    same(config, async |stage| {
        let upstream = &upstreams[usize::from(stage.subject.kind == Kind::Ours)];
        play(stage, upstream).await;
        let connections = upstream.connections();
        stage.note(format!("{connections} connections"));
    })
    .await;
}

async fn no_connection_is_left(stage: &Stage) {
    eventually("no connection is left", PATIENCE, async || {
        (stage.subject.statistic("cluster.two.upstream_cx_active").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn heads_and_bodies_pass_over_http2() {
    same_over_http2(async |stage, upstream| {
        for path in ["/hello", "/503", "/large", "/trailers"] {
            stage.get(path).await;
            let head = upstream.last_head();
            stage.note(head);
        }
        for length in [0, 5, 400_000] {
            let body = Bytes::from(vec![b'y'; length]);
            stage.ask("main", Request::post("/patient/echo").body(body).unwrap()).await;
            let head = upstream.last_head();
            stage.note(head);
        }
        for path in ["/hello", "/late-end"] {
            stage.ask("main", Request::head(path).header("te", "trailers").body(Bytes::new()).unwrap()).await;
        }
        stage.ask_http2("main", "/hello").await;
        stage.ask_http2("main", "/large").await;
        let head = upstream.last_head();
        stage.note(head);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_reset_is_told_as_what_it_was() {
    same_over_http2(async |stage, upstream| {
        for path in [
            "/reset",
            "/cancel",
            "/refused",
            "/cut",
            "/cut-head",
            "/short/never",
            "/retried-refused/refused-once",
            "/retried-refused/refused",
            "/retried-refused/reset",
            "/retried-reset/reset",
            "/retried-reset/refused",
        ] {
            stage.get(path).await;
            let count = upstream.count(path);
            stage.note(format!("{path} reached upstream {count} times"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_grpc_status_is_retried_in_the_head_and_not_in_trailers() {
    same_over_http2(async |stage, upstream| {
        for path in ["/retried-grpc/unavailable", "/retried-grpc/unavailable-last", "/unavailable"] {
            let request = Request::post(path).header("content-type", "application/grpc").body(Bytes::new()).unwrap();
            stage.ask("main", request).await;
            let count = upstream.count(path);
            stage.note(format!("{path} reached upstream {count} times"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_told_to_go_away_is_replaced() {
    same_over_http2(async |stage, upstream| {
        for path in ["/hello", "/goaway", "/hello", "/hello"] {
            stage.get(path).await;
            if path == "/goaway" {
                no_connection_is_left(stage).await;
            }
            let connections = upstream.connections();
            stage.note(format!("after {path}: {connections} connections"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_ends_under_a_request() {
    same_over_http2(async |stage, upstream| {
        for path in [
            "/close",
            "/abrupt",
            "/retried-refused/abrupt",
            "/retried-reset/abrupt",
            "/retried-connect/abrupt",
            "/hello",
        ] {
            stage.get(path).await;
            let (count, connections) = (upstream.count(path), upstream.connections());
            stage.note(format!("{path} reached upstream {count} times, {connections} connections"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_host_that_is_not_there_or_speaks_no_http2() {
    same_over_http2(async |stage, _| {
        stage.get("/dead").await;
        stage.get("/mistaken/hello").await;
    })
    .await;
}
