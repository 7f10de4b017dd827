//! Rules while the service runs, and what ends it: what must not take limits away, and what must not take answers.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

const RULES: &str = "domain: shop\ndescriptors:\n  - { key: user, rate_limit: { unit: day, requests_per_unit: 1 } }\n";

async fn status(tidegate: &Tidegate) -> StatusCode {
    let call = json!({ "domain": "shop", "descriptors": [{ "entries": [{ "key": "user", "value": "ann" }] }] });
    tidegate.json(&call).await.status
}

/// Waits until the metrics have this line.
async fn shows(tidegate: &Tidegate, line: &str) {
    let what = format!("/metrics shows {line}");
    let shown = async || tidegate.http().get("/metrics").await.text().lines().any(|shown| shown == line).then_some(());
    eventually(&what, PATIENCE, shown).await;
}

#[tokio::test]
async fn rules_stay_in_force_when_their_files_vanish() {
    let tidegate = Launch::new(&[("rules.yaml", RULES)]).start().await;
    assert_eq!(status(&tidegate).await, StatusCode::OK);
    std::fs::remove_file(tidegate.rules().path().join("rules.yaml")).unwrap();
    shows(&tidegate, "tidegate_config_rejected 1").await;
    assert_eq!(status(&tidegate).await, StatusCode::TOO_MANY_REQUESTS, "the limit is still there");
    tidegate.rules().write("rules.yaml", RULES);
    shows(&tidegate, "tidegate_config_rejected 0").await;
    assert_eq!(status(&tidegate).await, StatusCode::TOO_MANY_REQUESTS, "and so is its counter");
}

#[tokio::test]
async fn rules_with_a_mistake_are_shown_as_rejected_until_it_is_mended() {
    let tidegate = Launch::new(&[("rules.yaml", RULES)]).start().await;
    tidegate.rules().write("rules.yaml", &RULES.replace("day", "dya"));
    shows(&tidegate, "tidegate_config_rejected 1").await;
    tidegate.rules().write("rules.yaml", &RULES.replace(": 1 }", ": 2 }"));
    shows(&tidegate, "tidegate_config_rejected 0").await;
    for expected in [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        assert_eq!(status(&tidegate).await, expected);
    }
}

#[tokio::test]
async fn without_a_rule_file_the_built_in_example_is_served() {
    let nothing = TempDir::new().unwrap();
    let launch = Launch::new(&[]).setting("TIDEGATE_RULES_PATHS", "config/rules.yaml").in_folder(nothing.path());
    let mut tidegate = launch.start().await;
    let stdout = tidegate.process().stdout();
    assert!(stdout.contains("the built-in example rules"), "{stdout}");
    let call = json!({ "domain": "example", "descriptors": [{ "entries": [{ "key": "user", "value": "ann" }] }] });
    for _ in 0..5 {
        assert_eq!(tidegate.json(&call).await.status, StatusCode::OK);
    }
    assert_eq!(tidegate.json(&call).await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_signal_sent_twice_is_one() {
    for _ in 0..5 {
        let mut tidegate = Launch::new(&[("rules.yaml", RULES)]).start().await;
        tidegate.process().terminate();
        tidegate.process().terminate();
        let ended = tidegate.process().wait(PATIENCE).await;
        assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    }
}

#[tokio::test]
async fn a_call_whose_body_never_comes_does_not_hold_the_end() {
    let launch = Launch::new(&[("rules.yaml", RULES)]).setting("TIDEGATE_SHUTDOWN_TIMEOUT", "2m");
    let mut tidegate = launch.start().await;
    let stream = tokio::net::TcpStream::connect(tidegate.grpc_address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let call = |path: &str| {
        let call = http::Request::post(format!("http://tidegate{path}")).header("content-type", "application/grpc");
        call.header("te", "trailers").header("grpc-timeout", "2S").body(()).unwrap()
    };
    let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    let (unfinished, _body_that_never_comes) = client.send_request(call(path), false).unwrap();
    // What came later on the connection was answered, so the service knows of the first.
    client.send_request(call("/nothing"), true).unwrap().0.await.unwrap();
    let started = Instant::now();
    tidegate.process().terminate();
    let answer = unfinished.await.unwrap();
    assert_eq!(answer.headers().get("grpc-status").map(|status| status.as_bytes()), Some(&b"4"[..]), "{answer:?}");
    let ended = tidegate.process().wait(PATIENCE).await;
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    assert!(started.elapsed() < Duration::from_secs(100), "it ended before its time limit");
    drop(connection);
}
