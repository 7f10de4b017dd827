//! The way of a rate limit call that is recorded ([`crate::trace`]).
//!
//! It takes the generated types and a limiter of its own, whose store notes its times, so that the way of all other calls
//! holds nothing of it. Both give the same answers: a property test holds reader and writer of the other way equal to
//! the generated types.

use bytes::Bytes;
use http::HeaderMap;
use prost::Message;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{CallError, RlsService, convert, message};
use crate::counters::CounterStore;
use crate::counters::timed::Timed;
use crate::limiter::{Answer, LimiterError};
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::trace::{CallTrace, CalledBy, Ended};

impl<S: CounterStore + Clone> RlsService<S> {
    /// Begins the record of a call with these headers; `None` if it is not to be recorded.
    pub(super) fn begin_trace(&self, headers: &HeaderMap) -> Option<CallTrace> {
        self.tracer.as_ref()?.begin(headers, || CalledBy::Grpc)
    }

    /// As [`RlsService::call_message`], recorded.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn call_message_traced(
        &self,
        message: &[u8],
        deadline: Instant,
        trace: &CallTrace,
    ) -> Result<Bytes, Status> {
        let request = RateLimitRequest::decode(message).map_err(|error| Status::internal(error.to_string()))?;
        Ok(message::encode(&self.call_traced(&request, deadline, trace).await?))
    }

    /// As [`RlsService::call`], recorded.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn call_traced(
        &self,
        request: &RateLimitRequest,
        deadline: Instant,
        trace: &CallTrace,
    ) -> Result<RateLimitResponse, CallError> {
        trace.asked(request);
        let answered = self.decide_traced(request, deadline, trace).await;
        let answer = answered.inspect_err(|error| {
            self.count(error, &request.domain);
            trace.failed(error.kind(), &error.to_string(), matches!(error, CallError::Limiter(_)));
        })?;
        trace.decided(&answer);
        Ok(self.response(request, &answer))
    }

    async fn decide_traced(
        &self,
        request: &RateLimitRequest,
        deadline: Instant,
        trace: &CallTrace,
    ) -> Result<Answer, CallError> {
        let converted = convert::query(request)?;
        self.count_ignored(&converted);
        let limiter = self.limiter.over(|store| Timed::new(store.clone(), trace.timing()));
        Ok(limiter.decide(&converted.query, deadline).await?)
    }
}

/// Ends the record of a call that was answered, with this status if it was no success.
pub(super) fn end(trace: &CallTrace, status: Option<&Status>) {
    if let Some(status) = status {
        trace.not_read(status.message());
    }
    trace.end(Ended::Grpc(status.map_or(Code::Ok, Status::code).into()));
}

impl CallError {
    /// The kind of the error in one word.
    fn kind(&self) -> &'static str {
        match self {
            CallError::Query(_) => "invalid_request",
            CallError::Limiter(LimiterError::NoRules) => "no_rules",
            CallError::Limiter(LimiterError::Store(error)) => error.kind(),
        }
    }
}
