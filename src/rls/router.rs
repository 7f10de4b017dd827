//! Which gRPC service a request is for.
//!
//! Rate limit calls are told apart by one comparison and go straight to the generated service. Everything else
//! (health, reflection, unknown services) takes tonic's router, which costs a few allocations more.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service;

use super::body::{BoundedBody, Budget};
use super::registry::SideServices;
use super::{RlsService, deadline};
use crate::counters::CounterStore;
use crate::metrics::{GrpcMethod, Metrics};
use crate::proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;

/// Prefix of the paths of rate limit calls.
const RLS_PREFIX: &str = "/envoy.service.ratelimit.v3.RateLimitService/";

/// Longest time that a request may take to arrive, where its `grpc-timeout` isn't shorter.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// The services of the gRPC port.
#[derive(Clone, Debug)]
pub struct Router<S> {
    rls: RateLimitServiceServer<RlsService<S>>,
    others: Routes,
    budget: Budget,
    metrics: Metrics,
}

/// The services as one connection sees them, with a count of the calls it has under way.
#[derive(Clone, Debug)]
pub struct ConnectionRouter<S> {
    router: Router<S>,
    calls: Arc<AtomicUsize>,
    spoke: Arc<AtomicBool>,
}

/// One call under way.
struct Call(Arc<AtomicUsize>);

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

// === impl Router ===

impl<S: CounterStore + Clone> Router<S> {
    /// A router to `rls` with messages of at most `request_bytes_max`, and to `others` for all other paths.
    #[must_use]
    pub fn new(rls: RlsService<S>, others: SideServices, request_bytes_max: usize) -> Router<S> {
        let metrics = rls.metrics.clone();
        let rls = RateLimitServiceServer::new(rls).max_decoding_message_size(request_bytes_max);
        Router { rls, others: others.0, budget: Budget::default(), metrics }
    }

    /// The router of a new connection.
    #[must_use]
    pub fn for_connection(&self) -> ConnectionRouter<S> {
        ConnectionRouter { router: self.clone(), calls: Arc::default(), spoke: Arc::default() }
    }
}

// === impl ConnectionRouter ===

impl<S> ConnectionRouter<S> {
    /// Rate limit calls of this connection that are being answered.
    #[must_use]
    pub fn calls(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.calls)
    }

    /// Whether a stream was ever opened on this connection.
    #[must_use]
    pub fn spoke(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.spoke)
    }
}

impl<S: CounterStore + Clone> hyper::service::Service<Request<Incoming>> for ConnectionRouter<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.spoke.store(true, Ordering::Relaxed);
        if !request.uri().path().starts_with(RLS_PREFIX) {
            return Box::pin(other(self.router.others.clone(), self.router.metrics.clone(), request));
        }
        let limit = deadline::time_to_answer(request.headers(), BODY_TIME_MAX);
        let request = request.map(|body| BoundedBody::new(body, limit, &self.router.budget));
        let call = Call::start(&self.calls);
        let answer = self.router.rls.clone().call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(call);
            answer
        })
    }
}

/// Asks one of the side services; the methods that the reference service counts are counted.
async fn other(mut others: Routes, metrics: Metrics, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let counted = match request.uri().path() {
        "/grpc.health.v1.Health/Check" => Some(GrpcMethod::Check),
        "/grpc.health.v1.Health/List" => Some(GrpcMethod::List),
        _ => None,
    };
    let started = Instant::now();
    let answer = others.call(request).await;
    if let Some(method) = counted {
        metrics.calls(method).observe(started.elapsed());
    }
    answer
}

// === impl Call ===

impl Call {
    fn start(calls: &Arc<AtomicUsize>) -> Call {
        calls.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(calls))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
