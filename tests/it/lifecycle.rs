//! How the process starts, what it says when it can't, and how it ends.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use prost::Message;
use serde_json::json;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::client::request;
use crate::support::process::Ended;
use crate::support::redis::Redis;
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

/// The exit codes of sysexits.h: something needed is not to be had; the configuration is wrong.
const UNAVAILABLE: i32 = 69;
const BAD_CONFIGURATION: i32 = 78;

/// How long it goes on serving after SIGTERM where a test looks at that time. A machine that is held up for as long lets
/// nobody see it, so then it is looked at again, for longer.
const SHUTDOWN_DELAYS: [Duration; 3] = [Duration::from_secs(4), Duration::from_secs(16), Duration::from_secs(60)];

const RULES: &str = "domain: shop\ndescriptors:\n  - { key: user, rate_limit: { unit: hour, requests_per_unit: 2 } }\n";
const WIDE_RULES: &str =
    "domain: shop\ndescriptors:\n  - { key: user, rate_limit: { unit: hour, requests_per_unit: 900000 } }\n";

/// Asserts that it ended in an orderly way that tells people what is wrong: all of `told`, in plain sentences.
fn assert_refused(ended: &Ended, code: i32, told: &[&str]) {
    assert_eq!(ended.status.code(), Some(code), "{ended:?}");
    for part in told {
        assert!(ended.stderr.contains(part), "{part:?} should be told, not only:\n{}", ended.stderr);
    }
    for noise in ["panicked", "backtrace", "src/"] {
        assert!(!ended.stderr.contains(noise), "{noise:?} does not help anyone:\n{}", ended.stderr);
    }
}

/// A connection that calls without pause until it is told to stop, as Envoy's connections do.
///
/// Returns how many calls were answered. Every call that could be sent must be: that is the claim.
async fn call_until_goaway(address: SocketAddr) -> u32 {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let body = call_body();
    let mut answers = 0;
    let told_to_go = loop {
        sender = match sender.ready().await {
            Ok(sender) => sender,
            Err(told_to_go) => break told_to_go,
        };
        let (response, mut request_body) = sender.send_request(call_head(address), false).unwrap();
        request_body.send_data(body.clone(), true).unwrap();
        let response = response.await.unwrap_or_else(|error| panic!("call {answers} had no answer: {error}"));
        assert_eq!(response.status(), StatusCode::OK);
        let mut response_body = response.into_body();
        while let Some(data) = response_body.data().await {
            let length = data.unwrap().len();
            response_body.flow_control().release_capacity(length).unwrap();
        }
        let trailers = response_body.trailers().await.unwrap().expect("gRPC ends with trailers");
        assert_eq!(trailers["grpc-status"], "0");
        answers += 1;
    };
    assert!(told_to_go.is_go_away(), "the connection broke instead of being closed: {told_to_go}");
    assert_eq!(told_to_go.reason(), Some(h2::Reason::NO_ERROR));
    // How the socket ends after that is nobody's business; that it ends is.
    drop(timeout(PATIENCE, connection).await.expect("a closed connection ends"));
    answers
}

fn call_head(address: SocketAddr) -> Request<()> {
    Request::post(format!("http://{address}/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// One call as gRPC frames it: not compressed, length, message.
fn call_body() -> Bytes {
    let message = request("shop", &[("user", "ann")]).encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], &message[..]].concat().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_sigterm_health_goes_first_and_every_call_under_way_is_answered() {
    let Some(redis) = Redis::start().await else { return };
    for delay in SHUTDOWN_DELAYS {
        if is_seen_to_end_in_order(&redis, delay).await {
            return;
        }
        println!("the machine was held up for {delay:?}; once more");
    }
    panic!("the machine is too slow for this test to say anything");
}

/// Asserts what the test claims; false if the delay was over before one could look at it.
async fn is_seen_to_end_in_order(redis: &Redis, delay: Duration) -> bool {
    let launch = Launch::new(&[("rules.yaml", WIDE_RULES)]).redis(redis);
    let mut tidegate = launch.setting("TIDEGATE_SHUTDOWN_DELAY", format!("{}s", delay.as_secs())).start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    assert_eq!(tidegate.http().get("/healthcheck").await.status, StatusCode::OK);

    let mut connections = JoinSet::new();
    for _ in 0..8 {
        connections.spawn(call_until_goaway(tidegate.grpc_address()));
    }
    eventually("calls are answered", PATIENCE, async || {
        (tidegate.ask(request("shop", &[("user", "ann")])).await.statuses[0].limit_remaining < 899_900).then_some(())
    })
    .await;

    // It is told to end after this instant, not before it.
    let terminated = Instant::now();
    tidegate.process().terminate();
    // Within the delay everybody is told to go elsewhere, and whoever comes all the same is served.
    let says_so = async || tidegate.health().await == Some(ServingStatus::NotServing);
    let said = eventually("health becomes NotServing, or it is too late", PATIENCE, async || {
        if says_so().await { Some(true) } else { (terminated.elapsed() >= delay).then_some(false) }
    })
    .await;
    let health = http::Request::get("/healthcheck").body(Bytes::new()).unwrap();
    let health = tidegate.http().send(health).await.map(|answer| answer.status);
    let call = tidegate.grpc().should_rate_limit(request("shop", &[("user", "ann")])).await;
    let is_open = connections.try_join_next().is_none();
    if terminated.elapsed() >= delay {
        return false;
    }
    assert!(said, "health says so within the delay");
    assert_eq!(health.unwrap(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(call.unwrap().into_inner().overall_code(), Code::Ok);
    assert!(is_open, "a connection was closed before the delay had passed");

    let answers: Vec<u32> = connections.join_all().await;
    assert!(terminated.elapsed() >= delay, "connections were closed before the delay had passed");
    assert!(answers.iter().all(|answers| *answers > 0), "{answers:?}");
    let ended = tidegate.process().wait(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    true
}

#[tokio::test]
async fn a_port_in_use_is_told_by_its_address() {
    for (name, argument) in [("TIDEGATE_GRPC_PORT", "grpc"), ("TIDEGATE_HTTP_PORT", "http")] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let launch = Launch::new(&[("rules.yaml", RULES)]).setting(name, address.port());
        let ended = launch.run().await;
        assert_refused(&ended, UNAVAILABLE, &[&address.to_string()]);
        assert!(!ended.stdout.contains("try "), "the {argument} port being taken, there is nothing to try");
    }
}

#[tokio::test]
async fn bad_rules_at_the_start_are_all_told_before_it_ends() {
    let one = "domain: shop\ndescriptors:\n  - { key: user, rate_limitt: { unit: hour } }\n";
    let two = "domain: bank\ndescriptors:\n  - { key: user, rate_limit: { unit: fortnight, requests_per_unit: 1 } }\n";
    let launch = Launch::new(&[("one.yaml", one), ("two.yaml", two)]);
    let ended = launch.run().await;
    assert_refused(&ended, BAD_CONFIGURATION, &["one.yaml", "rate_limitt", "two.yaml", "fortnight"]);
}

#[tokio::test]
async fn bad_settings_are_all_told_before_it_ends() {
    let launch = Launch::new(&[("rules.yaml", RULES)]);
    let ended =
        launch.setting("TIDEGATE_GRPC_PORT", "seventy").setting("TIDEGATE_SHUTDOWN_DELAY", "soonish").run().await;
    assert_refused(&ended, BAD_CONFIGURATION, &["seventy", "soonish"]);
}

#[tokio::test]
async fn check_says_whether_rules_would_load() {
    let good = Launch::new(&[("rules.yaml", RULES)]).check().await;
    assert_eq!(good.status.code(), Some(0), "{good:?}");

    let bad = Launch::new(&[("rules.yaml", "domain: shop\ndescriptors:\n  - { kee: user }\n")]);
    assert_refused(&bad.check().await, BAD_CONFIGURATION, &["rules.yaml", "kee"]);
}

#[test]
fn a_check_that_cannot_be_told_is_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    std::fs::write(&rules, RULES).unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let told = check.arg("check").arg(&rules).stdout(full).output().unwrap();
    let sentence = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(74), "{sentence}");
    assert!(sentence.starts_with("tidegate: a line cannot be written: "), "{sentence}");
}

#[tokio::test]
async fn it_waits_for_a_redis_that_is_not_there_yet() {
    let Some(mut redis) = Redis::stopped() else { return };
    let mut tidegate = Launch::new(&[("rules.yaml", RULES)]).redis(&redis).start().await;
    tidegate.becomes(ServingStatus::NotServing).await;
    assert_eq!(tidegate.http().get("/healthcheck").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    let address = redis.url().replace("redis://", "");
    eventually("it says what it waits for", PATIENCE, async || {
        let said = tidegate.process().stderr() + &tidegate.process().stdout();
        said.to_lowercase().contains("redis").then_some(()).filter(|()| said.contains(&address))
    })
    .await;

    redis.start_again().await;
    tidegate.becomes(ServingStatus::Serving).await;
    assert_eq!(tidegate.http().get("/healthcheck").await.status, StatusCode::OK);
    assert_eq!(tidegate.code(request("shop", &[("user", "ann")])).await, Code::Ok);
}

#[tokio::test]
async fn health_follows_the_connection_to_redis_where_that_is_asked_for_and_nowhere_else() {
    let Some(mut redis) = Redis::start().await else { return };
    let following =
        Launch::new(&[("rules.yaml", RULES)]).redis(&redis).setting("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true");
    let following = following.start().await;
    let other = Tidegate::serving(&redis, &[("rules.yaml", RULES)]).await;
    following.becomes(ServingStatus::Serving).await;
    redis.stop();
    following.becomes(ServingStatus::NotServing).await;
    assert_eq!(following.http().get("/healthcheck").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    // It has noticed too, and says the same as before.
    eventually("the other has lost its connection", PATIENCE, async || {
        other.log().contains("the connection to Redis broke").then_some(())
    })
    .await;
    assert_eq!(other.http().get("/healthcheck").await.status, StatusCode::OK);
    redis.start_again().await;
    following.becomes(ServingStatus::Serving).await;
}

#[tokio::test]
async fn a_redis_lost_under_traffic_is_an_answer_in_time_and_heals_by_itself() {
    let Some(mut redis) = Redis::start().await else { return };
    let tidegate = Tidegate::serving(&redis, &[("rules.yaml", RULES)]).await;
    let mut client = tidegate.grpc();
    let mut call = async |user: &str| {
        let started = Instant::now();
        let answer = client.should_rate_limit(request("shop", &[("user", user)])).await;
        let took = started.elapsed();
        // Nobody waits for the deadline, which is ten seconds here.
        assert!(took < Duration::from_secs(8), "an answer came after {took:?}: {answer:?}");
        answer.map(|answer| answer.into_inner().overall_code())
    };
    assert_eq!(call("ann").await.unwrap(), Code::Ok);
    assert_eq!(call("ann").await.unwrap(), Code::Ok);
    assert_eq!(call("ann").await.unwrap(), Code::OverLimit);

    redis.stop();
    for _ in 0..100 {
        let answer = call("ann").await;
        // What the failure policy says, or an error; never UNKNOWN, which Envoy takes for an OK.
        assert_ne!(answer.ok(), Some(Code::Unknown));
    }

    redis.start_again().await;
    eventually("it counts again", PATIENCE, async || (call("bob").await.ok()? == Code::OverLimit).then_some(())).await;
}

#[tokio::test]
async fn a_bad_rule_file_never_replaces_a_good_one() {
    let Some(redis) = Redis::start().await else { return };
    let mut tidegate = Tidegate::serving(&redis, &[("rules.yaml", RULES)]).await;
    let call = request("shop", &[("user", "ann")]);
    assert_eq!(tidegate.code(call.clone()).await, Code::Ok);

    tidegate.rules().write("rules.yaml", &RULES.replace("hour", "fortnight"));
    eventually("the refusal of the new rules is told", PATIENCE, async || {
        let said = tidegate.process().stderr() + &tidegate.process().stdout();
        said.contains("fortnight").then_some(())
    })
    .await;
    assert_eq!(tidegate.health().await, Some(ServingStatus::Serving));
    assert_eq!(tidegate.code(call.clone()).await, Code::Ok, "the second of two");
    assert_eq!(tidegate.code(call.clone()).await, Code::OverLimit, "the old rule still counts");

    tidegate.rules().write("rules.yaml", &RULES.replace("requests_per_unit: 2", "requests_per_unit: 9"));
    eventually("good rules are loaded again", PATIENCE, async || {
        let answer = tidegate.ask(call.clone()).await;
        let limit = answer.statuses[0].current_limit.as_ref()?;
        (limit.requests_per_unit == 9).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_start_up_text_says_how_to_try_it() {
    let Some(redis) = Redis::start().await else { return };
    let mut tidegate = Tidegate::serving(&redis, &[("rules.yaml", RULES)]).await;
    let said = eventually("it says how to try it", PATIENCE, async || {
        let stdout = tidegate.process().stdout();
        stdout.lines().find(|line| line.trim_start().starts_with("try ")).map(str::to_owned)
    })
    .await;
    assert!(said.contains(&tidegate.http_address().to_string()), "{said}");

    let call = json!({ "domain": "shop", "descriptors": [{ "entries": [{ "key": "user", "value": "ann" }] }] });
    for status in [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        assert_eq!(tidegate.json(&call).await.status, status);
    }
}
