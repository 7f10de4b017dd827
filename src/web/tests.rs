//! The edge as its callers see it: raw bytes over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::health::Component;
use crate::metrics::Metrics;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus, RateLimit};

/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

/// Decides by the name of the domain.
#[derive(Clone, Debug, Default)]
struct ByDomain {
    entered: Arc<Notify>,
    released: Arc<Notify>,
}

impl Answer for ByDomain {
    async fn answer(&self, request: RateLimitRequest) -> Result<RateLimitResponse, AnswerError> {
        let code = match request.domain.as_str() {
            "" => return Err(AnswerError::Invalid { reason: "the domain is empty".to_owned() }),
            "silent" => return Err(AnswerError::Unavailable { reason: "the store is silent".to_owned() }),
            "unknown" => Code::Unknown,
            "over" => Code::OverLimit,
            "slow" => {
                self.entered.notify_one();
                self.released.notified().await;
                Code::Ok
            }
            _ => Code::Ok,
        };
        let status = DescriptorStatus {
            code: code.into(),
            current_limit: Some(RateLimit { requests_per_unit: 3, unit: Unit::Hour.into(), ..RateLimit::default() }),
            limit_remaining: if code == Code::Ok { 2 } else { 0 },
            duration_until_reset: Some(pbjson_types::Duration { seconds: 20, nanos: 0 }),
        };
        Ok(RateLimitResponse { overall_code: code.into(), statuses: vec![status], ..RateLimitResponse::default() })
    }
}

struct Server {
    address: SocketAddr,
    answer: ByDomain,
    health: Health,
    metrics: Metrics,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Server {
        Server::with_limits(WebLimits::default()).await
    }

    async fn with_limits(limits: WebLimits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, metrics, shutdown) = (ByDomain::default(), Metrics::default(), CancellationToken::new());
        let health = Health::new(&[Component::Rules]);
        let state =
            WebState { answer: answer.clone(), health: health.clone(), scraper: Scraper::new(metrics.clone(), None) };
        let task = tokio::spawn(serve(listener, state, limits, shutdown.clone()));
        Server { address, answer, health, metrics, shutdown, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends the bytes and gives back everything that comes until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_to_end(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await
    }

    async fn json(&self, body: &str) -> String {
        self.exchange(post(body, "close").as_bytes()).await
    }
}

fn post(body: &str, connection: &str) -> String {
    let length = body.len();
    format!("POST /json HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\ncontent-length: {length}\r\n\r\n{body}")
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes").unwrap();
    String::from_utf8(bytes).unwrap()
}

fn assert_status(response: &str, status: u16) {
    assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "not {status}: {response}");
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").expect("a head and a body").1
}

// === /json ===

#[tokio::test]
async fn json_answers_with_the_status_of_the_reference_service() {
    let server = Server::start().await;
    let cases = [
        ("", 400),
        ("{}", 400),
        (r#"{"domain":"shop","unknown":1}"#, 400),
        (r#"{"domain":"shop""#, 400),
        (r#"{"domain":"shop"}"#, 200),
        (r#"{"domain":"over"}"#, 429),
        (r#"{"domain":"silent"}"#, 400),
        (r#"{"domain":"unknown"}"#, 500),
    ];
    for (request, status) in cases {
        let response = server.json(request).await;
        assert_status(&response, status);
        if status == 400 {
            assert!(response.contains("content-type: text/plain; charset=utf-8\r\n"), "{response}");
            assert_eq!(body(&response), "Bad Request\n");
        } else {
            assert!(response.contains("content-type: application/json\r\n"), "{response}");
        }
    }
    assert_status(&server.get("/json").await, 400);
}

#[tokio::test]
async fn json_leaves_zeros_out_and_writes_durations_as_text() {
    let server = Server::start().await;
    let allowed = server.json(r#"{"domain":"shop"}"#).await;
    assert_eq!(
        body(&allowed),
        r#"{"overallCode":"OK","statuses":[{"code":"OK","currentLimit":{"requestsPerUnit":3,"unit":"HOUR"},"limitRemaining":2,"durationUntilReset":"20s"}]}"#
    );
    let refused = server.json(r#"{"domain":"over"}"#).await;
    assert!(!body(&refused).contains("limitRemaining"), "{refused}");
}

#[tokio::test]
async fn a_body_that_is_too_large_gets_its_answer_even_if_it_is_sent_whole() {
    let limits = WebLimits { body_bytes_max: 1_000, ..WebLimits::default() };
    let server = Server::with_limits(limits).await;
    let padded = |length: usize| {
        let request = r#"{"domain":"shop"}"#;
        request.to_owned() + &" ".repeat(length - request.len())
    };
    assert_status(&server.json(&padded(1_000)).await, 200);
    assert_status(&server.json(&padded(1_001)).await, 413);
    assert_status(&server.json(&padded(500_000)).await, 413);

    let chunked = "POST /json HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n";
    let chunked = format!("{chunked}{}\r\n0\r\n\r\n", " ".repeat(1_001));
    assert_status(&server.exchange(chunked.as_bytes()).await, 413);
}

#[tokio::test]
async fn an_absurd_length_is_refused_before_anything_is_read() {
    let server = Server::start().await;
    let head = "POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000000\r\n\r\n";
    assert_status(&server.exchange(head.as_bytes()).await, 413);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let limits = WebLimits { body_timeout: Duration::from_millis(20), ..WebLimits::default() };
    let server = Server::with_limits(limits).await;
    let response = server.exchange(b"POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{").await;
    assert_status(&response, 408);
}

// === the other routes ===

#[tokio::test]
async fn the_health_check_follows_the_health() {
    let server = Server::start().await;
    let response = server.get("/healthcheck").await;
    assert_status(&response, 500);
    assert_eq!(body(&response), "");
    server.health.up(Component::Rules);
    let response = server.get("/healthcheck").await;
    assert_status(&response, 200);
    assert_eq!(body(&response), "OK");
    server.health.shut_down();
    assert_status(&server.get("/healthcheck").await, 500);
}

#[tokio::test]
async fn other_paths_are_not_found() {
    let server = Server::start().await;
    for path in ["/", "/json/", "/debug/pprof/"] {
        assert_status(&server.get(path).await, 404);
    }
}

#[tokio::test]
async fn metrics_are_text_with_the_rules_and_the_process() {
    let server = Server::start().await;
    server.metrics.rule("shop", &["user"]).record_unlimited(5);
    let response = server.get("/metrics").await;
    assert_status(&response, 200);
    assert!(response.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{response}");
    assert!(response.contains("ratelimit_service_rate_limit_total_hits{domain=\"shop\",key1=\"user\"} 5\n"));
    if cfg!(target_os = "linux") {
        for name in ["resident_memory_bytes", "virtual_memory_bytes", "start_time_seconds", "cpu_seconds_total"] {
            assert!(response.contains(&format!("\nprocess_{name} ")), "{name} is missing: {response}");
        }
    }
    assert!(response.ends_with("\r\n0\r\n\r\n"), "the text has no end");
}

#[tokio::test]
async fn scrapes_that_are_not_read_are_few_and_give_their_places_back() {
    let server = Server::start().await;
    // More text than the sockets' buffers and the waiting pieces hold, so that the writers have to wait.
    let rules: Vec<_> = (0..50_000)
        .map(|rule| server.metrics.rule("shop", &[&format!("a_rule_with_a_long_path_{rule:0100}")]))
        .collect();
    rules.iter().for_each(|counters| counters.record_unlimited(1));

    let mut lazy = Vec::new();
    loop {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut status)).await.unwrap().unwrap();
        if &status == b"HTTP/1.1 503" {
            break;
        }
        lazy.push(stream);
        assert!(lazy.len() < 100, "unread scrapes have no bound");
    }
    drop(lazy);
    timeout(PATIENCE, async { while !server.get("/metrics").await.starts_with("HTTP/1.1 200 ") {} }).await.unwrap();
}

// === connections ===

#[tokio::test]
async fn a_connection_without_a_whole_head_is_closed() {
    let limits = WebLimits { header_timeout: Duration::from_millis(20), ..WebLimits::default() };
    let server = Server::with_limits(limits).await;
    for head in ["", "GET /healthcheck HTTP/1.1\r\nhost:"] {
        let response = server.exchange(head.as_bytes()).await;
        assert!(!response.starts_with("HTTP/1.1 200 "), "{response}");
    }
    // A process that is held up just then finds so short a time over before it has read a head that is there.
    let after_an_answer =
        async { while !server.exchange(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 404 ") {} };
    timeout(PATIENCE, after_an_answer).await.expect("a whole head is answered");
}

#[tokio::test]
async fn connections_above_the_bound_are_closed_and_places_come_free_again() {
    let server = Server::with_limits(WebLimits { connections_max: 1, ..WebLimits::default() }).await;
    let mut first = server.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut status = [0; 12];
    first.read_exact(&mut status).await.unwrap();

    let mut second = server.connect().await;
    let refused = timeout(PATIENCE, second.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(refused, Ok(0) | Err(_)), "{refused:?}");

    drop(first);
    let answered = async {
        loop {
            let mut stream = server.connect().await;
            let sent = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            let mut response = Vec::new();
            if sent.is_ok() && stream.read_to_end(&mut response).await.is_ok() && response.starts_with(b"HTTP/1.1 404 ")
            {
                break;
            }
        }
    };
    timeout(PATIENCE, answered).await.expect("the place comes free");
}

#[tokio::test]
async fn garbage_behind_a_request_does_not_spoil_its_answer() {
    let server = Server::start().await;
    let bytes = post(r#"{"domain":"shop"}"#, "keep-alive") + "\x00\x01 garbage\r\n\r\n";
    let response = server.exchange(bytes.as_bytes()).await;
    assert_status(&response, 200);
    assert!(response.contains("HTTP/1.1 400 "), "{response}");
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let header = format!("a: {}\r\n", "b".repeat(1_000));
    let sending = async {
        stream.write_all(b"GET / HTTP/1.1\r\n").await?;
        for _ in 0..1_000 {
            stream.write_all(header.as_bytes()).await?;
        }
        // The answer may be lost to the reset that follows it; what counts is that the server stopped reading.
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.map(|_| response)
    };
    match timeout(PATIENCE, sending).await.expect("the server gives up") {
        Ok(response) => assert!(response.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&response)),
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::TimedOut),
    }
}

#[tokio::test]
async fn shutting_down_answers_what_is_under_way_and_closes_what_is_idle() {
    let server = Server::start().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    let mut busy = server.connect().await;
    busy.write_all(post(r#"{"domain":"slow"}"#, "keep-alive").as_bytes()).await.unwrap();
    server.answer.entered.notified().await;

    server.shutdown.cancel();
    read_to_end(&mut idle).await;
    assert!(!server.task.is_finished());
    server.answer.released.notify_one();
    assert_status(&read_to_end(&mut busy).await, 200);
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_ever() {
    let limits = WebLimits { drain_timeout: Duration::from_millis(20), ..WebLimits::default() };
    let server = Server::with_limits(limits).await;
    let mut busy = server.connect().await;
    busy.write_all(post(r#"{"domain":"slow"}"#, "keep-alive").as_bytes()).await.unwrap();
    server.answer.entered.notified().await;

    server.shutdown.cancel();
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
    assert_eq!(read_to_end(&mut busy).await, "");
}

#[tokio::test]
async fn dropping_the_server_closes_its_connections() {
    let server = Server::start().await;
    let mut busy = server.connect().await;
    busy.write_all(post(r#"{"domain":"slow"}"#, "keep-alive").as_bytes()).await.unwrap();
    server.answer.entered.notified().await;
    server.task.abort();
    assert_eq!(read_to_end(&mut busy).await, "");
}
