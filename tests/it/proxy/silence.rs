//! Connections on which nothing comes: between requests, and in the middle of a head. What must not happen in some time is
//! shown by something else that has happened in it.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::{bootstrap, cluster, http, listener, route, with};
use super::kept::Kept;
use super::stage::{Places, same};
use crate::support::PATIENCE;

fn config(places: &Places<'_>, more: &Value) -> Value {
    let mut main = listener("main", places.folder, &[], &[route("/", "up")]);
    let settings = http(&mut main);
    // Envoy gives clients so much time to close first.
    *settings = with(with(settings.clone(), &json!({ "delayed_close_timeout": "0.1s" })), more);
    bootstrap(&[main], &[cluster("up", &[places.upstream])])
}

const BEGUN: &str = "GET /late HTTP/1.1\r\nho";

#[tokio::test]
async fn a_head_that_does_not_arrive_is_given_up_and_an_idle_connection_is_not() {
    same(
        |places| config(places, &json!({ "request_headers_timeout": "0.3s" })),
        async |stage| {
            let address = stage.subject.address("main");
            let (mut fresh, mut used) = (Kept::open(address).await, Kept::open(address).await);
            stage.note(used.get("/hello").await);
            let mut late = Kept::open(address).await;
            late.send(BEGUN).await;
            stage.note(late.answer().await);
            assert!(late.is_closed().await);
            // Both have been idle for longer than a head may take.
            for kept in [&mut fresh, &mut used] {
                stage.note(kept.get("/hello").await);
            }
            // A second request's head has the same limit.
            used.send(BEGUN).await;
            stage.note(used.answer().await);
            (0..5).for_each(|_| stage.expect_log_line());
        },
    )
    .await;
}

#[tokio::test]
async fn the_limits_on_requests_and_streams_hold_for_a_head_too() {
    for limit in ["request_timeout", "stream_idle_timeout"] {
        same(
            |places| config(places, &json!({ limit: "0.3s" })),
            async |stage| {
                let mut late = Kept::open(stage.subject.address("main")).await;
                late.send(BEGUN).await;
                stage.note(late.answer().await);
                stage.expect_log_line();
            },
        )
        .await;
    }
}

#[tokio::test]
async fn the_limit_on_a_request_counts_from_its_first_byte() {
    same(
        |places| config(places, &json!({ "request_timeout": "8s" })),
        async |stage| {
            let address = stage.subject.address("main");
            let (mut first, mut second) = (Kept::open(address).await, Kept::open(address).await);
            first.send("POST /first HTTP/1.1\r\nho").await;
            // Each of these takes 0.4 s.
            stage.get("/slow").await;
            second.send("POST /second HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nlate").await;
            stage.get("/slow").await;
            first.send("st: test\r\ncontent-length: 9\r\n\r\nlate").await;
            // By its head's end the first would be the last to be given up.
            let (earlier, answer) = tokio::select! {
                answer = first.answer() => ("first", answer),
                answer = second.answer() => ("second", answer),
            };
            stage.note(format!("the {earlier} is given up earlier: {answer}"));
            let other = if earlier == "first" { &mut second } else { &mut first };
            stage.note(other.answer().await);
            (0..2).for_each(|_| stage.expect_log_line());
        },
    )
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_a_begun_head_is_not() {
    same(
        |places| config(places, &json!({ "common_http_protocol_options": { "idle_timeout": "2s" } })),
        async |stage| {
            let address = stage.subject.address("main");
            let mut begun = Kept::open(address).await;
            begun.send(BEGUN).await;
            let (mut fresh, mut used) = (Kept::open(address).await, Kept::open(address).await);
            stage.note(used.get("/hello").await);
            let closed = (fresh.is_closed().await, used.is_closed().await);
            stage.note(format!("closed: {closed:?}"));
            begun.send("st: test\r\n\r\n").await;
            stage.note(begun.answer().await);
            (0..2).for_each(|_| stage.expect_log_line());
        },
    )
    .await;
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed() {
    same(
        |places| {
            let idle = json!({ "idle_timeout": "2s" });
            config(places, &json!({ "common_http_protocol_options": idle, "drain_timeout": "0.1s" }))
        },
        async |stage| {
            let socket = TokioIo::new(TcpStream::connect(stage.subject.address("main")).await.unwrap());
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
            let connection = tokio::spawn(connection);
            let request = Request::get("http://test/hello").body(Empty::<Bytes>::new()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            let (status, body) = (answer.status(), answer.into_body().collect().await.unwrap().to_bytes());
            stage.note(format!("{status} {body:?}"));
            stage.expect_log_line();
            drop(timeout(PATIENCE, connection).await.expect("it ends by itself"));
        },
    )
    .await;
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_of_a_head_is_logged() {
    same(
        |places| config(places, &json!({})),
        async |stage| {
            let mut begun = Kept::open(stage.subject.address("main")).await;
            begun.send(BEGUN).await;
            drop(begun);
            let mut used = Kept::open(stage.subject.address("main")).await;
            stage.note(used.get("/hello").await);
            used.send(BEGUN).await;
            drop(used);
            (0..3).for_each(|_| stage.expect_log_line());
        },
    )
    .await;
}
