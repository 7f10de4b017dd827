//! A call through the gRPC port, from the bytes that come to the bytes that go: HTTP/2, gRPC, conversion, decision.
//!
//! The measured thread does what a core's worker does, and nothing else; the client is another thread and only its
//! bytes meet the counter.

use std::net::SocketAddr;
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::StreamExt;
use h2::client::SendRequest;
use http::Request;
use prost::Message;
use tidegate::counters::any::AnyStore;
use tidegate::metrics::Metrics;
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use tidegate::rls::RlsService;
use tidegate::rls::connection::{self, ConnectionLimits, Core};
use tidegate::rls::pace::Line;
use tidegate::rls::places::Places;
use tidegate::rls::registry;
use tidegate::rls::router::Router;
use tidegate::settings::Settings;
use tidegate::trace;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::{Allocations, CALL_IN_MEMORY, CALL_IN_REDIS, CALL_IN_REDIS_AMONG_MANY, CALLS_AT_ONCE};
use crate::service::{in_redis, memory, question, runtime, service};
use crate::support::redis::Redis;

/// Calls that are measured, and as many before them to warm up.
const CALLS: usize = 1_000;

const LIMITS: ConnectionLimits = ConnectionLimits {
    streams_max: 1_000,
    handshake_timeout: Duration::from_secs(10),
    age_max: None,
    age_grace: Duration::from_secs(10),
    keepalive_interval: None,
    keepalive_timeout: Duration::from_secs(10),
};

/// A client on a thread of its own, with one connection.
struct Client {
    orders: std::sync::mpsc::Sender<Order>,
}

/// So many calls, and where to say that they are answered.
struct Order {
    calls: usize,
    at_once: usize,
    done: oneshot::Sender<()>,
}

// === impl Client ===

impl Client {
    fn start(address: SocketAddr, descriptors: usize) -> Client {
        let (orders, received) = std::sync::mpsc::channel::<Order>();
        std::thread::spawn(move || {
            let runtime = runtime();
            let (sender, connection) = runtime.block_on(async {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                h2::client::handshake(stream).await.unwrap()
            });
            runtime.spawn(connection);
            let message = question(descriptors).encode_to_vec();
            let length = u32::try_from(message.len()).unwrap();
            let body: Bytes = [&[0], &length.to_be_bytes()[..], &message[..]].concat().into();
            for Order { calls, at_once, done } in received {
                let one = |_| call(sender.clone(), address, body.clone(), descriptors);
                runtime.block_on(futures_util::stream::iter(0..calls).map(one).buffer_unordered(at_once).count());
                done.send(()).expect("the test waits for it");
            }
        });
        Client { orders }
    }

    /// Makes so many calls, and ends when all are answered.
    fn make(&self, calls: usize, at_once: usize) -> oneshot::Receiver<()> {
        let (done, answered) = oneshot::channel();
        self.orders.send(Order { calls, at_once, done }).unwrap();
        answered
    }
}

async fn call(sender: SendRequest<Bytes>, address: SocketAddr, body: Bytes, descriptors: usize) {
    let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    let request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "30S");
    let mut sender = sender.ready().await.unwrap();
    let (response, mut stream) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(body, true).unwrap();
    let mut answer = response.await.unwrap().into_body();
    let data = answer.data().await.expect("an answer").unwrap();
    answer.flow_control().release_capacity(data.len()).unwrap();
    let decoded = RateLimitResponse::decode(&data[5..]).unwrap();
    assert_eq!(decoded.statuses.len(), descriptors);
    let trailers = answer.trailers().await.unwrap().expect("gRPC ends with trailers");
    assert_eq!(trailers["grpc-status"], "0");
}

/// Allocations of a call with `at_once` of them under way.
fn allocations(runtime: &Runtime, service: &RlsService<AnyStore>, at_once: usize) -> Allocations {
    let of = |descriptors: usize| {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let client = Client::start(listener.local_addr().unwrap(), descriptors);
        let (stream, _) = runtime.block_on(listener.accept()).unwrap();
        stream.set_nodelay(true).unwrap();
        let (others, _) = registry::services(false).unwrap();
        let router = Router::new(service.clone(), others, 256 << 10);
        let place = Places::new(1, LIMITS.streams_max, 1, Metrics::new(1)).take().expect("it is the first");
        let core = Core { stop: CancellationToken::new(), tasks: TaskTracker::new(), line: Line::default() };
        runtime.spawn(core.line.clone().call());
        runtime.spawn(connection::serve(stream, None, router, LIMITS, place, core));
        runtime.block_on(client.make(CALLS, at_once)).expect("calls to warm up are answered");
        let answered = client.make(CALLS, at_once);
        let spent = measure(|| runtime.block_on(answered).expect("calls are answered"));
        spent.count_total as f64 / CALLS as f64
    };
    Allocations { one: of(1), four: of(4) }
}

#[test]
fn a_call_in_memory_allocates_no_more_than_its_budget() {
    CALL_IN_MEMORY.check("a call in memory", allocations(&runtime(), &service(memory()), 1));
}

#[test]
fn a_call_that_traces_leave_out_allocates_no_more_than_without_traces() {
    let on = [("TRACING_ENABLED", "true"), ("TRACING_SAMPLING_RATE", "0")];
    let (settings, _) = Settings::load(None, on).unwrap();
    let (tracer, _exporter) = trace::start(settings.tracing.unwrap(), trace::Store::Memory, &Metrics::new(1));
    let service = service(memory()).traced_by(Some(tracer));
    CALL_IN_MEMORY.check("a call that traces leave out", allocations(&runtime(), &service, 1));
}

#[test]
fn a_call_in_redis_allocates_no_more_than_its_budget() {
    let Some(redis) = Redis::start_blocking() else { return };
    let runtime = runtime();
    let service = service(in_redis(&redis, &runtime));
    CALL_IN_REDIS.check("a call in Redis", allocations(&runtime, &service, 1));
}

#[test]
fn a_call_among_many_in_redis_allocates_no_more_than_its_budget() {
    let Some(redis) = Redis::start_blocking() else { return };
    let runtime = runtime();
    let service = service(in_redis(&redis, &runtime));
    let what = format!("a call in Redis among {CALLS_AT_ONCE}");
    // A client that is held up asks for fewer at once, and so it is the least of three that counts.
    let measured = [(); 3].map(|()| allocations(&runtime, &service, CALLS_AT_ONCE));
    let least = |of: fn(&Allocations) -> f64| measured.iter().map(of).fold(f64::INFINITY, f64::min);
    let least = Allocations { one: least(|measured| measured.one), four: least(|measured| measured.four) };
    CALL_IN_REDIS_AMONG_MANY.check(&what, least);
}
