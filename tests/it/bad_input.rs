//! What anyone with a connection can send. Every case must end in an answer or a closed connection within bounded
//! time, must leave the process answering others, and, repeated, must not leave memory behind.

use std::net::SocketAddr;

use bytes::Bytes;
use http::StatusCode;
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::client::{descriptor, request};
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

const RULES: &str =
    "domain: shop\ndescriptors:\n  - { key: user, rate_limit: { unit: hour, requests_per_unit: 900000 } }\n";
/// What memory may grow by over many repetitions, in KiB: allocators keep some pages, leaks keep growing.
const GROWTH_KIB_MAX: u64 = 24 * 1_024;

/// Tidegate with counters in memory.
async fn start() -> Tidegate {
    start_with("1m").await
}

/// The same with so much patience for a connection's first words: little for clients that never say them, and more than
/// a machine that is held up takes from all others.
async fn start_with(patience: &str) -> Tidegate {
    let launch = Launch::new(&[("rules.yaml", RULES)]).setting("TIDEGATE_GRPC_HANDSHAKE_TIMEOUT", patience);
    let tidegate = launch.setting("TIDEGATE_HTTP_HEADER_TIMEOUT", patience).start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    tidegate
}

fn sound_request() -> RateLimitRequest {
    request("shop", &[("user", "ann")])
}

async fn assert_still_answers(tidegate: &Tidegate) {
    // Where there is little patience, a machine that is held up may take a sound client for a silent one.
    let answer = async || tidegate.grpc().should_rate_limit(sound_request()).await.ok();
    let answer = eventually("a call is answered", PATIENCE, answer).await;
    assert_eq!(answer.into_inner().overall_code(), Code::Ok);
    let health = eventually("health is told", PATIENCE, async || {
        let request = http::Request::get("/healthcheck").body(Bytes::new()).expect("it is well formed");
        tidegate.http().send(request).await.ok()
    });
    assert_eq!(health.await.status, StatusCode::OK);
}

/// Asserts that a call is answered for every descriptor, or refused with a code that blames the caller.
async fn assert_answered_or_refused(tidegate: &Tidegate, call: RateLimitRequest) {
    let descriptors = call.descriptors.len();
    match timeout(PATIENCE, tidegate.grpc().should_rate_limit(call)).await.expect("an answer in time") {
        Ok(answer) => assert_eq!(answer.into_inner().statuses.len(), descriptors),
        Err(status) => {
            let blames_the_caller =
                [tonic::Code::InvalidArgument, tonic::Code::ResourceExhausted, tonic::Code::OutOfRange];
            assert!(blames_the_caller.contains(&status.code()), "{status:?}");
            assert!(!status.message().is_empty(), "a refusal says why: {status:?}");
        }
    }
}

/// Sends `bytes` and reads until the other side closes, which it must. A reset is as good as an end.
async fn until_closed(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    let exchange = async {
        // The other side may well close before it has read all.
        drop(stream.write_all(bytes).await);
        drop(stream.read_to_end(&mut answer).await);
    };
    let closed = timeout(PATIENCE, exchange).await;
    assert!(closed.is_ok(), "{address} keeps the connection after {} bytes", bytes.len());
    answer
}

#[tokio::test]
async fn a_request_of_ten_megabytes_is_refused() {
    let tidegate = start().await;
    let value = "x".repeat(1_000);
    let call = RateLimitRequest { descriptors: vec![descriptor(&[("user", &*value)]); 10_000], ..request("shop", &[]) };
    let refused = tidegate.grpc().should_rate_limit(call).await.expect_err("more than a request may hold");
    let too_large = [tonic::Code::ResourceExhausted, tonic::Code::OutOfRange];
    assert!(too_large.contains(&refused.code()), "{refused:?}");
    assert_still_answers(&tidegate).await;
}

#[tokio::test]
async fn ten_megabytes_of_json_are_refused() {
    let tidegate = start().await;
    let body = Bytes::from(vec![b' '; 10_000_000]);
    let request = http::Request::post("/json").body(body).unwrap();
    // The answer may come before the body is read; whether the client then still reads it is a race it may lose.
    if let Ok(answer) = timeout(PATIENCE, tidegate.http().send(request)).await.expect("an answer in time") {
        assert!(answer.status.is_client_error(), "{answer:?}");
    }
    assert_still_answers(&tidegate).await;
}

#[tokio::test]
async fn ten_thousand_descriptors_are_answered_or_refused() {
    let tidegate = start().await;
    let descriptors = (0..10_000).map(|number| descriptor(&[("user", &*number.to_string())])).collect();
    assert_answered_or_refused(&tidegate, RateLimitRequest { descriptors, ..request("shop", &[]) }).await;
    assert_still_answers(&tidegate).await;
}

#[tokio::test]
async fn a_value_of_a_megabyte_is_answered_or_refused() {
    let tidegate = start().await;
    let value = "x".repeat(1_000_000);
    assert_answered_or_refused(&tidegate, request("shop", &[("user", &value)])).await;
    assert_still_answers(&tidegate).await;
}

#[tokio::test]
async fn garbage_closes_the_connection() {
    let tidegate = start_with("1s").await;
    // Bytes that look like nothing: a fixed pseudo-random sequence, so that a failure can be repeated.
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(64 * 1_024)
    .collect();
    let preface_then_garbage = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &garbage[..]].concat();
    for bytes in [&garbage[..], &preface_then_garbage, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0\0\0\0"] {
        until_closed(tidegate.grpc_address(), bytes).await;
    }
    until_closed(tidegate.http_address(), &garbage).await;
    until_closed(tidegate.http_address(), &preface_then_garbage).await;
    assert_still_answers(&tidegate).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away() {
    let tidegate = start_with("1s").await;
    until_closed(tidegate.grpc_address(), b"").await;
    until_closed(tidegate.grpc_address(), b"PRI * HTTP/2.0\r\n").await;
    until_closed(tidegate.http_address(), b"").await;
    assert_still_answers(&tidegate).await;
}

#[tokio::test]
async fn an_http_header_without_end_is_cut_off() {
    let tidegate = start_with("1s").await;
    let endless = [b"GET /healthcheck HTTP/1.1\r\nhost: a\r\nx-a: ", &[b'a'; 4 * 1_024 * 1_024][..]].concat();
    let answer = String::from_utf8_lossy(&until_closed(tidegate.http_address(), &endless).await).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    // The slow form of the same: a header begun and never ended.
    until_closed(tidegate.http_address(), b"GET /healthcheck HTTP/1.1\r\nhost: a\r\nx-a: a").await;
    assert_still_answers(&tidegate).await;
}

#[tokio::test]
async fn json_that_is_none_is_a_bad_request() {
    let tidegate = start().await;
    let deep = "[".repeat(100_000);
    for body in ["", "{", "{\"domain\": \"shop\", \"descriptors\": [{", "null", "[]", "{\"domain\": 7}", "\u{0}", &deep]
    {
        let answer = tidegate.http().post("/json", body.to_owned()).await;
        let start: String = body.chars().take(40).collect();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{start:?} got {answer:?}");
    }
    assert_still_answers(&tidegate).await;
}

#[tokio::test]
async fn memory_stays_where_it_is_however_often_it_is_tried() {
    let mut tidegate = start().await;
    let value = "x".repeat(1_000);
    let large = RateLimitRequest { descriptors: vec![descriptor(&[("user", &*value)]); 5_000], ..request("shop", &[]) };
    let round = async |tidegate: &Tidegate| {
        let refused = tidegate.grpc().should_rate_limit(large.clone()).await;
        drop(refused);
        until_closed(tidegate.grpc_address(), &[0xFF; 16 * 1_024]).await;
        until_closed(tidegate.http_address(), &[0xFF; 16 * 1_024]).await;
        let answer = tidegate.http().post("/json", "{\"domain\": ").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        for number in 0..20 {
            let domain = format!("nobody-{number}");
            tidegate.ask(request(&domain, &[("user", &format!("{number}"))])).await;
        }
    };
    for _ in 0..10 {
        round(&tidegate).await;
    }
    let before = tidegate.process().resident_kib();
    for _ in 0..60 {
        round(&tidegate).await;
    }
    let after = tidegate.process().resident_kib();
    assert!(after < before + GROWTH_KIB_MAX, "memory grew from {before} to {after} KiB");
    assert_still_answers(&tidegate).await;
}
