//! A decision in proto3 JSON: `RateLimitRequest` in, `RateLimitResponse` out.
//!
//! Requests are read by [`read_request`], answers are written by the generated code.
//!
//! Every failure to decide is 400 `Bad Request`, as in the reference service; the reason goes to the log.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::body::{BodyError, read_body};
use super::request::read_request;
use super::{Answer, WebLimits};
use crate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use crate::trace::{CallTrace, Ended};

/// What a request to `/json` may cost and who decides it.
#[derive(Clone, Debug)]
struct Decider<A> {
    answer: A,
    body_bytes_max: usize,
    body_timeout: Duration,
}

/// The route `/json`.
pub(super) fn router<A: Answer>(answer: A, limits: &WebLimits) -> Router {
    let decider = Decider { answer, body_bytes_max: limits.body_bytes_max, body_timeout: limits.body_timeout };
    Router::new().route("/json", any(decide::<A>)).with_state(decider)
}

async fn decide<A: Answer>(State(decider): State<Decider<A>>, request: axum::extract::Request) -> Response {
    let trace = decider.answer.trace(request.method(), request.headers());
    let response = answer(&decider, request, trace.as_ref()).await;
    if let Some(trace) = trace {
        trace.end(Ended::Http(response.status()));
    }
    response
}

async fn answer<A: Answer>(
    decider: &Decider<A>,
    request: axum::extract::Request,
    trace: Option<&CallTrace>,
) -> Response {
    let body = match read_body(request.into_body(), decider.body_bytes_max, decider.body_timeout).await {
        Ok(body) => body,
        Err(error) => return refuse_body(&error),
    };
    let request = match read_request(&body) {
        Ok(request) => request,
        Err(error) => {
            tracing::debug!(%error, "a JSON request cannot be read");
            return bad_request();
        }
    };
    let answered = match trace {
        None => decider.answer.answer(request).await,
        Some(trace) => decider.answer.answer_traced(request, trace).await,
    };
    match answered {
        Ok(response) => write_response(&response),
        Err(error) => {
            tracing::debug!(%error, "a JSON request cannot be decided");
            bad_request()
        }
    }
}

// === bodies ===

fn refuse_body(error: &BodyError) -> Response {
    tracing::debug!(%error, "a JSON request has no readable body");
    let (status, text) = match error {
        BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large\n"),
        BodyError::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "Request Timeout\n"),
        BodyError::Broken(_) => (StatusCode::BAD_REQUEST, "Bad Request\n"),
    };
    // The rest of the body may still be on its way: nothing else can be read from this connection.
    (status, [(header::CONNECTION, "close")], text).into_response()
}

// === answers ===

fn bad_request() -> Response {
    (StatusCode::BAD_REQUEST, "Bad Request\n").into_response()
}

fn write_response(response: &RateLimitResponse) -> Response {
    let status = match Code::try_from(response.overall_code) {
        Ok(Code::Ok) => StatusCode::OK,
        Ok(Code::OverLimit) => StatusCode::TOO_MANY_REQUESTS,
        Ok(Code::Unknown) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    match serde_json::to_vec(response) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer has no form in JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n").into_response()
        }
    }
}
