//! Which gRPC service a request is for, and the way of a rate limit call from HTTP to the limiter and back.
//!
//! A rate limit call is told apart by one comparison and answered here, with nothing made that it doesn't need: no boxed
//! future, no buffer for encoding or decoding. What asks for more of gRPC than that (a compressed message, another
//! method of the service) takes the generated service, and everything else (health, reflection, unknown services) takes
//! tonic's router. ARCHITECTURE.md has what each step gave.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, Request};
use tokio::time::Instant;
use tonic::Status;
use tonic::service::Routes;
use tower_service::Service;

use super::body::BoundedBody;
use super::message::{self, Bounds};
use super::registry::SideServices;
use super::stream::{Answer, Answered, RequestBody};
use super::{RlsService, deadline, traced};
use crate::counters::CounterStore;
use crate::metrics::{GrpcMethod, Metrics};
use crate::proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use crate::trace::CallTrace;

/// Prefix of the paths of the rate limit service.
const RLS_PREFIX: &str = "/envoy.service.ratelimit.v3.RateLimitService/";

/// Its method, as it follows the prefix.
const RLS_METHOD: &str = "ShouldRateLimit";

static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Longest time that a request may take to arrive, where its `grpc-timeout` isn't shorter.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(10);

/// The services of the gRPC port, for the connections of one core.
#[derive(Clone, Debug)]
pub struct Router<S>(Arc<Services<S>>);

#[derive(Debug)]
struct Services<S> {
    rls: RlsService<S>,
    /// The same service, by all the rules of gRPC.
    generated: RateLimitServiceServer<RlsService<S>>,
    others: Routes,
    bounds: Bounds,
    metrics: Metrics,
}

/// The services as one connection sees them, with a count of the calls it has under way.
#[derive(Clone, Debug)]
pub struct ConnectionRouter<S>(Arc<Connected<S>>);

#[derive(Debug)]
struct Connected<S> {
    services: Router<S>,
    calls: Arc<AtomicUsize>,
    spoke: Arc<AtomicBool>,
}

/// A call under way, as it counts.
#[derive(Debug)]
struct UnderWay<S>(Arc<Connected<S>>);

/// What a stream asks for.
pub enum Asked<S> {
    /// A rate limit call as every client makes it.
    Call(Call<S>),
    /// Anything else.
    Other(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// When a call arrived, as far as is known, and when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it arrived.
    pub at: Instant,
    /// When it was read, and others before it were answered.
    pub read_at: Instant,
}

/// A rate limit call, and no more of its request than is needed.
#[derive(Debug)]
pub struct Call<S> {
    under_way: UnderWay<S>,
    /// What of the caller's time is left.
    usable: Option<Duration>,
    body: RequestBody,
}

// === impl Router ===

impl<S: CounterStore + Clone> Router<S> {
    /// A router to `rls` with messages of at most `request_bytes_max`, and to `others` for all other paths.
    #[must_use]
    pub fn new(rls: RlsService<S>, others: SideServices, request_bytes_max: usize) -> Router<S> {
        let metrics = rls.metrics.clone();
        let generated = RateLimitServiceServer::new(rls.clone()).max_decoding_message_size(request_bytes_max);
        let bounds = Bounds { bytes_max: request_bytes_max, budget: Default::default() };
        Router(Arc::new(Services { rls, generated, others: others.0, bounds, metrics }))
    }

    /// Counts a client whose TLS handshake failed.
    pub(super) fn count_failed_handshake(&self) {
        self.0.metrics.totals().tls_handshake_failures.increment();
    }

    /// The router of a new connection.
    #[must_use]
    pub fn for_connection(&self) -> ConnectionRouter<S> {
        let services = Router(Arc::clone(&self.0));
        ConnectionRouter(Arc::new(Connected { services, calls: Arc::default(), spoke: Arc::default() }))
    }
}

// === impl ConnectionRouter ===

impl<S: CounterStore + Clone> ConnectionRouter<S> {
    /// Rate limit calls of this connection that are being answered.
    #[must_use]
    pub fn calls(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0.calls)
    }

    /// Whether a stream was ever opened on this connection.
    #[must_use]
    pub fn spoke(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.spoke)
    }

    /// Whether a call whose message is there is answered without a wait.
    #[must_use]
    pub fn answers_at_once(&self) -> bool {
        self.0.services.0.rls.answers_at_once()
    }

    /// Says what a request asks for; nothing is done about it yet.
    pub fn sort(&self, request: Request<RequestBody>) -> Asked<S> {
        self.0.spoke.store(true, Ordering::Relaxed);
        match Kind::of(&request) {
            Kind::Plain => {
                let call = UnderWay::start(&self.0);
                match self.0.services.0.rls.begin_trace(request.headers()) {
                    None => {
                        let usable = deadline::usable_timeout(request.headers());
                        Asked::Call(Call { under_way: call, usable, body: request.into_body() })
                    }
                    Some(trace) => Asked::Other(Box::pin(recorded(call, request, trace))),
                }
            }
            Kind::Unusual => {
                let call = UnderWay::start(&self.0);
                Asked::Other(Box::pin(async move { call.0.services.0.unusual(request).await }))
            }
            Kind::Other => {
                let services = Router(Arc::clone(&self.0.services.0));
                Asked::Other(Box::pin(async move { services.0.other(request).await }))
            }
        }
    }
}

/// Answers a rate limit call that is recorded.
async fn recorded<S: CounterStore + Clone>(
    call: UnderWay<S>,
    request: Request<RequestBody>,
    trace: CallTrace,
) -> Answer {
    let services = &call.0.services.0;
    let timeout = deadline::usable_timeout(request.headers());
    let answer = services.answer_traced(request.into_body(), timeout, &trace).await;
    services.metrics.calls(GrpcMethod::ShouldRateLimit).observe(trace.started().elapsed());
    traced::end(&trace, answer.as_ref().err());
    Answer::Call(answer)
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A rate limit call as every client makes it.
    Plain,
    /// Something else of the rate limit service.
    Unusual,
    /// Another service.
    Other,
}

impl Kind {
    fn of<B>(request: &Request<B>) -> Kind {
        let Some(method) = request.uri().path().strip_prefix(RLS_PREFIX) else { return Kind::Other };
        let is_plain = method == RLS_METHOD && request.method() == Method::POST && !is_encoded(request.headers());
        if is_plain { Kind::Plain } else { Kind::Unusual }
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(&GRPC_ENCODING).is_some_and(|encoding| encoding != "identity")
}

// === impl Services ===

impl<S: CounterStore + Clone> Services<S> {
    async fn answer(
        &self,
        body: RequestBody,
        arrival: Arrival,
        timeout: Option<Duration>,
    ) -> Result<bytes::Bytes, Status> {
        let received = message::receive(body, arrival_time(timeout), &self.bounds).await?;
        // Nearly always at once: then there is no need to look at the clock again.
        let at = if received.waited { Instant::now() } else { arrival.read_at };
        self.rls.call_message(&received.message, self.rls.deadline(arrival.at, timeout, at)).await
    }

    /// Refuses a call that is late, once it is there as a whole: what came of it later would be a mistake of its
    /// client's to the HTTP/2 library, which ends the connection at too many.
    async fn refuse(&self, body: RequestBody, timeout: Option<Duration>) -> Result<bytes::Bytes, Status> {
        message::discard(body, arrival_time(timeout), &self.bounds).await;
        self.metrics.totals().late_calls.increment();
        Err(Status::resource_exhausted("the service is overloaded: the call waited too long to be read"))
    }

    async fn answer_traced(
        &self,
        body: RequestBody,
        timeout: Option<Duration>,
        trace: &CallTrace,
    ) -> Result<bytes::Bytes, Status> {
        let received = message::receive(body, arrival_time(timeout), &self.bounds).await?;
        let deadline = self.rls.deadline(trace.started(), timeout, Instant::now());
        self.rls.call_message_traced(&received.message, deadline, trace).await
    }

    async fn unusual(&self, request: Request<RequestBody>) -> Answer {
        let timeout = deadline::usable_timeout(request.headers());
        let mut request = request.map(|body| BoundedBody::new(body, arrival_time(timeout), &self.bounds.budget));
        let is_call = request.uri().path().strip_prefix(RLS_PREFIX) == Some(RLS_METHOD);
        let trace = if is_call { self.rls.begin_trace(request.headers()).map(Arc::new) } else { None };
        if let Some(trace) = &trace {
            // The generated service hands it to ours.
            request.extensions_mut().insert(Arc::clone(trace));
        }
        let Ok(answer) = self.generated.clone().call(request).await;
        if let Some(trace) = trace {
            // A status in the head is an error's.
            traced::end(&trace, Status::from_header_map(answer.headers()).as_ref());
        }
        Answer::Response(answer)
    }

    /// Asks one of the side services; the methods that the reference service counts are counted.
    async fn other(&self, request: Request<RequestBody>) -> Answer {
        let counted = match request.uri().path() {
            "/grpc.health.v1.Health/Check" => Some(GrpcMethod::Check),
            "/grpc.health.v1.Health/List" => Some(GrpcMethod::List),
            _ => None,
        };
        let started = Instant::now();
        let Ok(answer) = self.others.clone().call(request).await;
        if let Some(method) = counted {
            self.metrics.calls(method).observe(started.elapsed());
        }
        Answer::Response(answer)
    }
}

/// How long a request may take to arrive whose caller left `timeout` of its own.
fn arrival_time(timeout: Option<Duration>) -> Duration {
    timeout.map_or(ARRIVAL_TIME_MAX, |timeout| timeout.min(ARRIVAL_TIME_MAX))
}

// === impl Call ===

impl<S: CounterStore + Clone> Call<S> {
    /// Whether it waited to be read for half of its caller's time. What follows is as late, and the caller had it wait
    /// too, which nobody sees here: to answer such calls is to answer all of them a moment after their callers have
    /// gone.
    #[must_use]
    pub fn is_late(&self, arrival: Arrival) -> bool {
        let age = arrival.read_at.saturating_duration_since(arrival.at);
        !age.is_zero() && 2 * age >= arrival_time(self.usable)
    }

    /// Answers it, or refuses it if it is late.
    pub fn answer(self, arrival: Arrival) -> impl Future<Output = Answered> + Send + use<S> {
        let is_late = self.is_late(arrival);
        let Call { under_way, usable, body } = self;
        async move {
            let services = &under_way.0.services.0;
            let message = if is_late {
                services.refuse(body, usable).await
            } else {
                services.answer(body, arrival, usable).await
            };
            let at = Instant::now();
            services.metrics.calls(GrpcMethod::ShouldRateLimit).observe(at - arrival.at);
            Answered { message, at }
        }
    }
}

impl<S> fmt::Debug for Asked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Asked::Call(_) => "Call",
            Asked::Other(_) => "Other",
        })
    }
}

// === impl UnderWay ===

impl<S> UnderWay<S> {
    fn start(connected: &Arc<Connected<S>>) -> UnderWay<S> {
        connected.calls.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(connected))
    }
}

impl<S> Drop for UnderWay<S> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}
