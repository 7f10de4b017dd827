//! Which gRPC service a request is for, and the way of a rate limit call from HTTP to the limiter and back.
//!
//! A rate limit call is told apart by one comparison and answered here, with nothing made that it doesn't need: no boxed
//! future, no buffer for encoding or decoding. What asks for more of gRPC than that (a compressed message, another
//! method of the service) takes the generated service, and everything else (health, reflection, unknown services) takes
//! tonic's router. ARCHITECTURE.md has what each step gave.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::Either;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Status;
use tonic::service::Routes;
use tower_service::Service;

use super::body::BoundedBody;
use super::message::{self, AnswerBody, Bounds};
use super::registry::SideServices;
use super::{RlsService, deadline, traced};
use crate::counters::CounterStore;
use crate::metrics::{GrpcMethod, Metrics};
use crate::proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use crate::trace::CallTrace;

/// Prefix of the paths of the rate limit service.
const RLS_PREFIX: &str = "/envoy.service.ratelimit.v3.RateLimitService/";

/// Its method, as it follows the prefix.
const RLS_METHOD: &str = "ShouldRateLimit";

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

/// One call under way.
struct Call<S>(Arc<Connected<S>>);

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

    /// Answers one request.
    pub fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + Send + use<S> {
        self.0.spoke.store(true, Ordering::Relaxed);
        match Kind::of(&request) {
            Kind::Plain => match self.0.services.0.rls.begin_trace(request.headers()) {
                None => Either::Left(plain(Call::start(&self.0), request)),
                Some(trace) => Either::Right(Box::pin(recorded(Call::start(&self.0), request, trace)) as Boxed),
            },
            Kind::Unusual => {
                let call = Call::start(&self.0);
                let answer = async move { call.0.services.0.unusual(request).await };
                Either::Right(Box::pin(answer) as Boxed)
            }
            Kind::Other => {
                let services = Router(Arc::clone(&self.0.services.0));
                Either::Right(Box::pin(async move { services.0.other(request).await }) as Boxed)
            }
        }
    }
}

type Boxed = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>;

/// Answers a rate limit call. What of the request isn't needed any more is left behind before the first wait.
fn plain<S: CounterStore + Clone>(
    call: Call<S>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + Send + use<S> {
    let timeout = deadline::usable_timeout(request.headers());
    let body = request.into_body();
    async move {
        let services = &call.0.services.0;
        let started = Instant::now();
        let answer = services.answer(body, started, timeout).await;
        services.metrics.calls(GrpcMethod::ShouldRateLimit).observe(started.elapsed());
        Ok(message::respond(answer))
    }
}

/// Answers a rate limit call that is recorded.
async fn recorded<S: CounterStore + Clone>(
    call: Call<S>,
    request: Request<Incoming>,
    trace: CallTrace,
) -> Result<Response<AnswerBody>, Infallible> {
    let services = &call.0.services.0;
    let timeout = deadline::usable_timeout(request.headers());
    let answer = services.answer_traced(request.into_body(), timeout, &trace).await;
    services.metrics.calls(GrpcMethod::ShouldRateLimit).observe(trace.started().elapsed());
    traced::end(&trace, answer.as_ref().err());
    Ok(message::respond(answer))
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
    headers.get("grpc-encoding").is_some_and(|encoding| encoding != "identity")
}

// === impl Services ===

impl<S: CounterStore + Clone> Services<S> {
    async fn answer(
        &self,
        body: Incoming,
        started: Instant,
        timeout: Option<Duration>,
    ) -> Result<bytes::Bytes, Status> {
        let received = message::receive(body, arrival_time(timeout), &self.bounds).await?;
        // Nearly always at once: then there is no need to look at the clock again.
        let at = if received.waited { Instant::now() } else { started };
        self.rls.call_message(&received.message, self.rls.deadline(started, timeout, at)).await
    }

    async fn answer_traced(
        &self,
        body: Incoming,
        timeout: Option<Duration>,
        trace: &CallTrace,
    ) -> Result<bytes::Bytes, Status> {
        let received = message::receive(body, arrival_time(timeout), &self.bounds).await?;
        let deadline = self.rls.deadline(trace.started(), timeout, Instant::now());
        self.rls.call_message_traced(&received.message, deadline, trace).await
    }

    async fn unusual(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
        let timeout = deadline::usable_timeout(request.headers());
        let mut request = request.map(|body| BoundedBody::new(body, arrival_time(timeout), &self.bounds.budget));
        let is_call = request.uri().path().strip_prefix(RLS_PREFIX) == Some(RLS_METHOD);
        let trace = if is_call { self.rls.begin_trace(request.headers()).map(Arc::new) } else { None };
        if let Some(trace) = &trace {
            // The generated service hands it to ours.
            request.extensions_mut().insert(Arc::clone(trace));
        }
        let answer = self.generated.clone().call(request).await?;
        if let Some(trace) = trace {
            // A status in the head is an error's.
            traced::end(&trace, Status::from_header_map(answer.headers()).as_ref());
        }
        Ok(answer.map(AnswerBody::from))
    }

    /// Asks one of the side services; the methods that the reference service counts are counted.
    async fn other(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
        let counted = match request.uri().path() {
            "/grpc.health.v1.Health/Check" => Some(GrpcMethod::Check),
            "/grpc.health.v1.Health/List" => Some(GrpcMethod::List),
            _ => None,
        };
        let started = Instant::now();
        let answer = self.others.clone().call(request).await;
        if let Some(method) = counted {
            self.metrics.calls(method).observe(started.elapsed());
        }
        Ok(answer?.map(AnswerBody::from))
    }
}

/// How long a request may take to arrive whose caller left `timeout` of its own.
fn arrival_time(timeout: Option<Duration>) -> Duration {
    timeout.map_or(ARRIVAL_TIME_MAX, |timeout| timeout.min(ARRIVAL_TIME_MAX))
}

// === impl Call ===

impl<S> Call<S> {
    fn start(connected: &Arc<Connected<S>>) -> Call<S> {
        connected.calls.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(connected))
    }
}

impl<S> Drop for Call<S> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}
