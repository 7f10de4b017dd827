//! The gRPC edge: `envoy.service.ratelimit.v3.RateLimitService`.
//!
//! [`RlsService`] is the one place where a wire request meets the limiter; `/json` goes through it too. What a caller
//! does wrong, and what the store fails to do, become the status codes of the reference service: almost everything is
//! UNKNOWN there, and Envoy treats all codes alike.

pub mod announce;
pub mod authority;
pub mod backlog;
pub mod body;
pub mod connection;
pub mod convert;
pub mod deadline;
pub mod headers;
pub mod keepalive;
pub mod listening;
pub mod message;
pub mod metadata;
pub mod pace;
pub mod places;
pub mod preface;
pub mod read;
pub mod registry;
pub mod router;
pub mod server;
pub mod stream;
pub mod streams;
pub mod tls;
mod traced;
pub mod unread;
pub mod write;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use self::convert::Converted;
use self::headers::HeaderNames;
use crate::counters::{CounterStore, StoreError};
use crate::descriptor::QueryError;
use crate::limiter::{Answer, Limiter, LimiterError};
use crate::metrics::{GrpcMethod, Metrics};
use crate::proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::trace::{CallTrace, CalledBy, Tracer};
use crate::web::{self, AnswerError};

/// Answers rate limit calls.
#[derive(Clone, Debug)]
pub struct RlsService<S> {
    limiter: Limiter<S>,
    metrics: Metrics,
    options: Arc<RlsOptions>,
    /// Only if calls are traced.
    tracer: Option<Tracer>,
}

/// What holds for all answers of a process.
#[derive(Clone, Debug)]
pub struct RlsOptions {
    /// Longest time that a decision may take; a caller's `grpc-timeout` can only shorten it.
    pub decision_time_max: Duration,
    /// Names of the `RateLimit-*` headers, where they are wanted.
    pub headers: Option<HeaderNames>,
    /// Whether answers carry the question and the rules' metadata as dynamic metadata.
    pub dynamic_metadata: bool,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The caller asked what can't be answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The service can't answer.
    #[error(transparent)]
    Limiter(#[from] LimiterError),
}

// === impl RlsService ===

impl<S: CounterStore + Clone> RlsService<S> {
    /// A service that decides by `limiter`.
    pub fn new(limiter: Limiter<S>, metrics: Metrics, options: Arc<RlsOptions>) -> RlsService<S> {
        RlsService { limiter, metrics, options, tracer: None }
    }

    /// The same service with calls traced.
    #[must_use]
    pub fn traced_by(self, tracer: Option<Tracer>) -> RlsService<S> {
        RlsService { tracer, ..self }
    }

    /// Whether no call waits for its decision.
    fn answers_at_once(&self) -> bool {
        self.limiter.answers_at_once()
    }

    /// Answers one call until `deadline`.
    ///
    /// # Errors
    /// When the request is none, no rules are loaded, or the store gives no answer.
    pub async fn call(&self, request: &RateLimitRequest, deadline: Instant) -> Result<RateLimitResponse, CallError> {
        let answered = match convert::query(request) {
            Ok(converted) => self.decide(&converted, deadline).await.map_err(CallError::Limiter),
            Err(error) => Err(error.into()),
        };
        let answer = answered.inspect_err(|error| self.count(error, &request.domain))?;
        Ok(self.response(request, &answer))
    }

    /// Answers one call whose message came as bytes with bytes, the prefix of the answer's message included.
    ///
    /// # Errors
    /// As [`RlsService::call`], and when the bytes are no request; as the status to be sent.
    pub async fn call_message(&self, message: &[u8], deadline: Instant) -> Result<Bytes, Status> {
        // What was read is gone before the wait: it would be carried along.
        let answering = pin!(self.ask(message, deadline));
        let Some(answering) = answering.as_pin_mut() else {
            return Box::pin(self.call_generated(message, deadline)).await;
        };
        let answer = answering.await.map_err(CallError::Limiter).inspect_err(|error| {
            let domain = read::query(message).map_or("", |converted| converted.query.domain());
            self.count(error, domain);
        })?;
        if self.options.headers.is_none() && !answer.decision.needs_metadata() {
            return Ok(write::response(&answer.decision));
        }
        Ok(message::encode(&self.response(&RateLimitRequest::default(), &answer)))
    }

    /// Asks the limiter, if the message is one that is understood without the generated types.
    fn ask(
        &self,
        message: &[u8],
        deadline: Instant,
    ) -> Option<impl Future<Output = Result<Answer, LimiterError>> + Send + use<'_, S>> {
        // The question itself is part of the answer there.
        if self.options.dynamic_metadata {
            return None;
        }
        read::query(message).map(|converted| self.decide(&converted, deadline))
    }

    async fn call_generated(&self, message: &[u8], deadline: Instant) -> Result<Bytes, Status> {
        let request = RateLimitRequest::decode(message).map_err(|error| Status::internal(error.to_string()))?;
        Ok(message::encode(&self.call(&request, deadline).await?))
    }

    /// When a call that started at `started` is to be answered; see [`deadline::decision_deadline`].
    fn deadline(&self, started: Instant, usable: Option<Duration>, received: Instant) -> Instant {
        deadline::decision_deadline(started, usable, received, self.options.decision_time_max)
    }

    fn decide(
        &self,
        converted: &Converted<'_>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answer, LimiterError>> + Send + use<'_, S> {
        self.count_ignored(converted);
        self.limiter.decide(&converted.query, deadline)
    }

    fn count_ignored(&self, converted: &Converted<'_>) {
        if converted.overrides_ignored > 0 {
            self.metrics.totals().overrides_ignored.add(converted.overrides_ignored);
        }
    }

    /// The answer as the settings want it told.
    fn response(&self, request: &RateLimitRequest, answer: &Answer) -> RateLimitResponse {
        let mut response = convert::response(&answer.decision);
        if let Some(names) = &self.options.headers {
            response.response_headers_to_add = headers::headers(&answer.decision, names);
        }
        response.dynamic_metadata = metadata::metadata(request, answer, self.options.dynamic_metadata);
        response
    }

    fn count(&self, error: &CallError, domain: &str) {
        error.count(&self.metrics);
        tracing::debug!(domain, error = %error, "call failed");
    }
}

#[tonic::async_trait]
impl<S: CounterStore + Clone> RateLimitService for RlsService<S> {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let started = Instant::now();
        let deadline = self.deadline(started, deadline::usable_timeout(request.metadata().as_ref()), started);
        let result = match request.extensions().get::<Arc<CallTrace>>() {
            None => self.call(request.get_ref(), deadline).await,
            Some(trace) => self.call_traced(request.get_ref(), deadline, trace).await,
        };
        self.metrics.calls(GrpcMethod::ShouldRateLimit).observe(started.elapsed());
        Ok(Response::new(result?))
    }
}

impl<S: CounterStore + Clone> web::Answer for RlsService<S> {
    async fn answer(&self, request: RateLimitRequest) -> Result<RateLimitResponse, AnswerError> {
        let deadline = Instant::now() + self.options.decision_time_max;
        self.call(&request, deadline).await.map_err(AnswerError::from)
    }

    fn trace(&self, method: &Method, headers: &HeaderMap) -> Option<CallTrace> {
        self.tracer.as_ref()?.begin(headers, || CalledBy::Json(method.clone()))
    }

    async fn answer_traced(
        &self,
        request: RateLimitRequest,
        trace: &CallTrace,
    ) -> Result<RateLimitResponse, AnswerError> {
        let deadline = Instant::now() + self.options.decision_time_max;
        self.call_traced(&request, deadline, trace).await.map_err(AnswerError::from)
    }
}

// === impl CallError ===

impl CallError {
    fn count(&self, metrics: &Metrics) {
        match self {
            CallError::Limiter(LimiterError::Store(error)) => {
                metrics.totals().redis_errors.increment();
                metrics.store_error(error.kind());
            }
            CallError::Limiter(LimiterError::NoRules) | CallError::Query(_) => {
                metrics.totals().service_errors.increment()
            }
        }
    }
}

impl From<CallError> for AnswerError {
    fn from(error: CallError) -> AnswerError {
        let reason = error.to_string();
        match error {
            CallError::Query(_) => AnswerError::Invalid { reason },
            CallError::Limiter(_) => AnswerError::Unavailable { reason },
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Status {
        let text = error.to_string();
        match error {
            CallError::Query(QueryError::EmptyDomain | QueryError::NoDescriptors)
            | CallError::Limiter(LimiterError::NoRules) => Status::unknown(text),
            CallError::Query(QueryError::TooManyDescriptors { .. } | QueryError::TooManyEntries { .. }) => {
                Status::invalid_argument(text)
            }
            CallError::Limiter(LimiterError::Store(StoreError::Overloaded { .. })) => Status::resource_exhausted(text),
            CallError::Limiter(LimiterError::Store(_)) => Status::unknown(text),
        }
    }
}
