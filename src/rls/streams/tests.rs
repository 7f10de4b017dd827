//! One connection between an HTTP/2 client and the streams, over a pipe.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use h2::client::SendRequest;
use http::Request;
use prost::Message;
use tokio::io::{DuplexStream, ReadBuf, duplex};

use super::*;
use crate::clock::SystemClock;
use crate::counters::memory::{MemoryLimits, MemoryStore};
use crate::counters::{Charges, StoreError, Tallies};
use crate::decision::ProcessModes;
use crate::limiter::{Limiter, LimiterOptions};
use crate::metrics::Metrics;
use crate::proto::envoy::extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry};
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::rls::pace::Line;
use crate::rls::router::Router;
use crate::rls::{RlsOptions, RlsService, message, registry};
use crate::rules::{Options, SourceFile, load};
use crate::table::limit_table;

const RULES: &str =
    "domain: shop\ndescriptors:\n  - { key: user, rate_limit: { unit: hour, requests_per_unit: 1000 } }\n";

/// The user whose calls panic.
const BOMB: &str = "bomb";

/// Counters in memory, and a user whom they can't bear.
#[derive(Clone)]
struct Touchy(Arc<MemoryStore>);

impl CounterStore for Touchy {
    fn answers_at_once(&self) -> bool {
        true
    }

    fn charge<'s>(
        &'s self,
        charges: &Charges,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s> {
        let is_bomb = |key: &[u8]| key.windows(BOMB.len()).any(|part| part == BOMB.as_bytes());
        assert!(!charges.members.iter().any(|charge| is_bomb(charge.key.as_bytes())), "as the test wants it");
        self.0.charge(charges, deadline)
    }
}

/// The server's end of the pipe, with a count of its writes.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A client, and what there is to see of the server.
struct World {
    client: SendRequest<Bytes>,
    turns: Arc<Turns>,
    store: Arc<MemoryStore>,
    metrics: Metrics,
    writes: Arc<AtomicUsize>,
}

impl World {
    async fn new() -> World {
        let metrics = Metrics::new(100);
        let store = Arc::new(MemoryStore::new(SystemClock, MemoryLimits::default()));
        let (mut writer, table) = limit_table(metrics.clone(), 0.8);
        let source = SourceFile { name: "rules.yaml".to_owned(), text: RULES.to_owned() };
        writer.publish(load(&[source], &Options::default()).unwrap().0);
        let options = LimiterOptions {
            key_prefix: b"t:".as_slice().into(),
            modes: ProcessModes::default(),
            near_limit_ratio: 0.8,
            clock: Arc::new(SystemClock),
            expiry_jitter_max_s: 0,
        };
        let limiter = Limiter::new(table, Touchy(Arc::clone(&store)), metrics.clone(), Arc::new(options));
        // What the store has is no matter of how long a caller waits.
        let decision_time_max = Duration::from_millis(50);
        let options = RlsOptions { decision_time_max, headers: None, dynamic_metadata: false };
        let service = RlsService::new(limiter, metrics.clone(), Arc::new(options));
        let router = Router::new(service, registry::services(false).unwrap().0, 1 << 16).for_connection();

        let (near, far) = duplex(1 << 16);
        let (turns, writes) = (Turns::new(&Line::default()), Arc::<AtomicUsize>::default());
        let serving = {
            let (turns, far) = (Arc::clone(&turns), Counted(far, Arc::clone(&writes)));
            async move {
                let http2 = h2::server::handshake(far).await.unwrap();
                Streams::new(http2, router, turns, TaskTracker::new()).await
            }
        };
        drop(tokio::spawn(serving));
        let (client, connection) = h2::client::handshake(near).await.unwrap();
        drop(tokio::spawn(connection));
        World { client: client.ready().await.unwrap(), turns, store, metrics, writes }
    }

    /// Calls at once about these users: the gRPC status of each, or the reason why its stream was reset.
    async fn ask(&mut self, users: &[&str]) -> Vec<Result<String, Option<Reason>>> {
        let mut answers = Vec::new();
        for user in users {
            let (answer, mut body) = self.client.send_request(head(), false).unwrap();
            body.send_data(question(user), true).unwrap();
            answers.push(answer);
        }
        let mut statuses = Vec::new();
        for answer in answers {
            statuses.push(status(answer).await.map_err(|error| error.reason()));
        }
        statuses
    }
}

fn head() -> Request<()> {
    let path = "http://tidegate/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    Request::post(path).header("grpc-timeout", "1S").body(()).unwrap()
}

fn question(user: &str) -> Bytes {
    let entry = Entry { key: "user".to_owned(), value: user.to_owned() };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..Default::default() };
    let question = RateLimitRequest { domain: "shop".to_owned(), descriptors: vec![descriptor], hits_addend: 1 };
    message::encode(&question)
}

async fn status(answer: h2::client::ResponseFuture) -> Result<String, h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    let status = |headers: &http::HeaderMap| headers.get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
    if let Some(code) = status(&head.headers) {
        return Ok(code);
    }
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    Ok(status(&body.trailers().await?.expect("a status")).expect("a status"))
}

fn ok() -> Result<String, Option<Reason>> {
    Ok("0".to_owned())
}

#[tokio::test]
async fn calls_that_come_together_are_answered_together() {
    let mut world = World::new().await;
    assert_eq!(world.ask(&["first"]).await, [ok()]);
    let before = world.writes.load(Ordering::Relaxed);
    assert!(world.ask(&["someone"; 50]).await.iter().all(Result::is_ok));
    let writes = world.writes.load(Ordering::Relaxed) - before;
    assert!(writes <= 5, "{writes} writes for 50 answers");
}

#[tokio::test]
async fn an_answer_is_a_message_and_then_its_status_and_a_refusal_a_head_alone() {
    let mut world = World::new().await;
    let (answer, mut body) = world.client.send_request(head(), false).unwrap();
    body.send_data(question("one"), true).unwrap();
    let (head_of_answer, mut body) = answer.await.unwrap().into_parts();
    assert_eq!(head_of_answer.headers["content-type"], "application/grpc");
    let data = body.data().await.unwrap().unwrap();
    let answer = RateLimitResponse::decode(&data[message::PREFIX..]).unwrap();
    assert_eq!((answer.overall_code(), answer.statuses.len()), (Code::Ok, 1));
    assert!(body.data().await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");

    let (answer, mut body) = world.client.send_request(head(), false).unwrap();
    body.send_data(message::encode(&RateLimitRequest::default()), true).unwrap();
    let (head_of_refusal, body) = answer.await.unwrap().into_parts();
    assert_eq!(head_of_refusal.headers["grpc-status"], "2");
    assert!(!head_of_refusal.headers["grpc-message"].is_empty());
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn a_panic_ends_its_call_and_no_other() {
    let mut world = World::new().await;
    let answers = world.ask(&["one", BOMB, "two"]).await;
    assert_eq!(answers, [ok(), Err(Some(Reason::INTERNAL_ERROR)), ok()]);
    assert_eq!(world.ask(&["three"]).await, [ok()], "the connection goes on");
}

#[tokio::test]
async fn what_waited_for_half_of_its_time_is_refused_and_not_charged() {
    let mut world = World::new().await;
    assert_eq!(world.ask(&["one"]).await, [ok()]);
    // Nine tenths of the caller's second are for us.
    world.turns.note_age(Duration::from_millis(451));
    assert_eq!(world.ask(&["two", "three"]).await, [Ok("8".to_owned()), Ok("8".to_owned())]);
    assert_eq!((world.store.len(), world.metrics.totals().late_calls.get()), (1, 2));
    world.turns.note_age(Duration::from_millis(100));
    assert_eq!(world.ask(&["two"]).await, [ok()]);
    assert_eq!((world.store.len(), world.metrics.totals().late_calls.get()), (2, 2));
}

#[tokio::test]
async fn refused_calls_whose_messages_come_later_do_not_end_their_connection() {
    let mut world = World::new().await;
    assert_eq!(world.ask(&["one"]).await, [ok()]);
    world.turns.note_age(Duration::from_secs(1));
    // More than the HTTP/2 library bears of what a client sends on streams that are over.
    for _ in 0..300 {
        let (answer, mut body) = world.client.send_request(head(), false).unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        body.send_data(question("two"), true).unwrap();
        assert_eq!(status(answer).await.unwrap(), "8");
    }
    world.turns.note_age(Duration::ZERO);
    assert_eq!(world.ask(&["three"]).await, [ok()]);
}
