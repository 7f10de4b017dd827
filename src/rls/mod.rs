//! The gRPC edge: `envoy.service.ratelimit.v3.RateLimitService`.
//!
//! [`RlsService`] is the one place where a wire request meets the limiter; `/json` goes through it too. What a caller
//! does wrong, and what the store fails to do, become the status codes of the reference service: almost everything is
//! UNKNOWN there, and Envoy treats all codes alike.

pub mod authority;
pub mod body;
pub mod connection;
pub mod convert;
pub mod deadline;
pub mod headers;
pub mod metadata;
pub mod preface;
pub mod registry;
pub mod router;
pub mod server;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use self::headers::HeaderNames;
use crate::counters::{CounterStore, StoreError};
use crate::descriptor::QueryError;
use crate::limiter::{Limiter, LimiterError};
use crate::metrics::{GrpcMethod, Metrics};
use crate::proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::web::{Answer, AnswerError};

/// Answers rate limit calls.
#[derive(Clone, Debug)]
pub struct RlsService<S> {
    limiter: Limiter<S>,
    metrics: Metrics,
    options: Arc<RlsOptions>,
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
        RlsService { limiter, metrics, options }
    }

    /// Answers one call within `time`.
    ///
    /// # Errors
    /// When the request is none, no rules are loaded, or the store gives no answer.
    pub async fn call(&self, request: &RateLimitRequest, time: Duration) -> Result<RateLimitResponse, CallError> {
        let result = self.decide(request, time).await;
        if let Err(error) = &result {
            error.count(&self.metrics);
            tracing::debug!(domain = request.domain, error = %error, "call failed");
        }
        result
    }

    async fn decide(&self, request: &RateLimitRequest, time: Duration) -> Result<RateLimitResponse, CallError> {
        let converted = convert::query(request)?;
        if converted.overrides_ignored > 0 {
            self.metrics.totals().overrides_ignored.add(converted.overrides_ignored);
        }
        let answer = self.limiter.decide(&converted.query, Instant::now() + time).await?;
        let mut response = convert::response(&answer.decision);
        if let Some(names) = &self.options.headers {
            response.response_headers_to_add = headers::headers(&answer.decision, names);
        }
        response.dynamic_metadata = metadata::metadata(request, &answer, self.options.dynamic_metadata);
        Ok(response)
    }
}

#[tonic::async_trait]
impl<S: CounterStore + Clone> RateLimitService for RlsService<S> {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let started = Instant::now();
        let time = deadline::time_to_answer(request.metadata().as_ref(), self.options.decision_time_max);
        let result = self.call(request.get_ref(), time).await;
        self.metrics.calls(GrpcMethod::ShouldRateLimit).observe(started.elapsed());
        Ok(Response::new(result?))
    }
}

impl<S: CounterStore + Clone> Answer for RlsService<S> {
    async fn answer(&self, request: RateLimitRequest) -> Result<RateLimitResponse, AnswerError> {
        self.call(&request, self.options.decision_time_max).await.map_err(|error| {
            let reason = error.to_string();
            match error {
                CallError::Query(_) => AnswerError::Invalid { reason },
                CallError::Limiter(_) => AnswerError::Unavailable { reason },
            }
        })
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
