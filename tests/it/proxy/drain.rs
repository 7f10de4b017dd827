//! Listeners that are drained, and what is asked of clients meanwhile.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::{bootstrap, cluster, filter, http, listener, route};
use super::kept::Kept;
use super::stage::{Places, Stage, same, same_with};
use crate::support::{PATIENCE, eventually};

/// With so much time between a connection's turn to be drained and its end, if it is idle.
fn config(places: &Places<'_>, drain_timeout: &str) -> Value {
    let mut main = listener("main", places.folder, &[], &[route("/", "up")]);
    http(&mut main)["drain_timeout"] = json!(drain_timeout);
    // Envoy gives clients so much time to close first.
    http(&mut main)["delayed_close_timeout"] = json!("0.1s");
    bootstrap(&[main], &[cluster("up", &[places.upstream])])
}

async fn tell(stage: &mut Stage, path: &str) {
    let answer = stage.subject.admin.post(path, "").await;
    stage.note(format!("{path}: {} {:?}", answer.status, answer.text()));
}

async fn nobody_listens(stage: &Stage) {
    let address = stage.subject.address("main");
    eventually("nobody listens any more", PATIENCE, async || TcpStream::connect(address).await.is_err().then_some(()))
        .await;
}

#[tokio::test]
async fn a_graceful_drain_asks_clients_to_go_and_still_takes_connections() {
    // In the first moments of so long a time a gradual drain asks nobody.
    for arguments in [
        ["--drain-time-s", "1000", "--drain-strategy", "immediate"],
        ["--drain-time-s", "1000000", "--drain-strategy", "gradual"],
    ] {
        same_with(
            &arguments,
            |places| config(places, "600s"),
            async |stage| {
                let address = stage.subject.address("main");
                let mut kept = Kept::open(address).await;
                stage.note(kept.get("/hello").await);
                tell(stage, "/drain_listeners?graceful").await;
                stage.note(kept.get("/hello").await);
                stage.note(Kept::open(address).await.get("/hello").await);
                tell(stage, "/drain_listeners?graceful").await;
                (0..3).for_each(|_| stage.expect_log_line());
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_graceful_drain_ends_with_the_listener_closed() {
    same_with(
        &["--drain-time-s", "1", "--drain-strategy", "immediate"],
        |places| config(places, "600s"),
        async |stage| {
            let mut kept = Kept::open(stage.subject.address("main")).await;
            stage.note(kept.get("/hello").await);
            tell(stage, "/drain_listeners?graceful").await;
            nobody_listens(stage).await;
            stage.note(kept.get("/hello").await);
            (0..2).for_each(|_| stage.expect_log_line());
        },
    )
    .await;
}

#[tokio::test]
async fn a_graceful_drain_ends_idle_connections() {
    for strategy in ["gradual", "immediate"] {
        let arguments = ["--drain-time-s", "1", "--drain-strategy", strategy];
        same_with(
            &arguments,
            |places| config(places, "0.1s"),
            async |stage| {
                let mut kept = Kept::open(stage.subject.address("main")).await;
                stage.note(kept.get("/hello").await);
                stage.expect_log_line();
                tell(stage, "/drain_listeners?graceful").await;
                let says_nothing = kept.is_closed().await;
                stage.note(format!("closed without a word: {says_nothing}"));
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_plain_drain_leaves_connections_alone() {
    same(
        |places| config(places, "600s"),
        async |stage| {
            let mut kept = Kept::open(stage.subject.address("main")).await;
            stage.note(kept.get("/hello").await);
            tell(stage, "/drain_listeners").await;
            nobody_listens(stage).await;
            stage.note(kept.get("/hello").await);
            stage.note(kept.get("/hello").await);
            (0..3).for_each(|_| stage.expect_log_line());
        },
    )
    .await;
}

#[tokio::test]
async fn an_http2_client_is_told_to_go_away() {
    same(
        |places| config(places, "0.1s"),
        async |stage| {
            let socket = TokioIo::new(TcpStream::connect(stage.subject.address("main")).await.unwrap());
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
            let connection = tokio::spawn(connection);
            for _ in 0..2 {
                let request = Request::get("http://test/hello").body(Empty::<Bytes>::new()).unwrap();
                let answer = sender.send_request(request).await.unwrap();
                let (status, body) = (answer.status(), answer.into_body().collect().await.unwrap().to_bytes());
                stage.note(format!("{status} {body:?}"));
                stage.expect_log_line();
                tell(stage, "/healthcheck/fail").await;
            }
            drop(timeout(PATIENCE, connection).await.expect("it ends by itself"));
        },
    )
    .await;
}

#[tokio::test]
async fn the_health_check_filter_answers_for_the_proxy() {
    const KIND: &str = "filters.http.health_check.v3.HealthCheck";
    let check = |headers: &Value| {
        filter("envoy.filters.http.health_check", KIND, &json!({ "pass_through_mode": false, "headers": headers }))
    };
    let config = |places: &Places<'_>| {
        let path = json!([{ "name": ":path", "string_match": { "exact": "/healthz" } }]);
        let probe = json!([{ "name": "x-probe", "present_match": true }, { "name": ":method", "string_match": { "exact": "GET" } }]);
        let routes = [route("/", "up")];
        let main = listener("main", places.folder, &[check(&path)], &routes);
        let other = listener("other", places.folder, &[check(&probe)], &[]);
        let every = listener("every", places.folder, &[check(&json!([]))], &routes);
        bootstrap(&[main, other, every], &[cluster("up", &[places.upstream])])
    };
    same(config, async |stage| {
        for told in ["", "/healthcheck/fail", "/healthcheck/ok"] {
            if !told.is_empty() {
                tell(stage, told).await;
            }
            for path in ["/healthz", "/hello", "/healthz?x", "/healthz/hello"] {
                stage.get(path).await;
            }
            stage.ask("main", Request::head("/healthz").body(Bytes::new()).unwrap()).await;
            let grpc = Request::get("/healthz").header("content-type", "application/grpc");
            stage.ask("main", grpc.body(Bytes::new()).unwrap()).await;
            stage.ask_http2("main", "/healthz").await;
            for listener in ["other", "every"] {
                stage.ask(listener, Request::get("/nowhere").header("x-probe", "1").body(Bytes::new()).unwrap()).await;
                stage.ask(listener, Request::get("/nowhere").body(Bytes::new()).unwrap()).await;
            }
        }
    })
    .await;
}
