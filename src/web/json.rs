//! A decision in proto3 JSON: `RateLimitRequest` in, `RateLimitResponse` out.
//!
//! Requests are read by [`read_request`], answers are written by the generated code.
//!
//! Every failure to decide is 400 `Bad Request`, as in the reference service; the reason goes to the log.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use thiserror::Error;
use tokio::time::timeout;

use super::request::read_request;
use super::{Answer, WebLimits};
use crate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;

/// What a request to `/json` may cost and who decides it.
#[derive(Clone, Debug)]
struct Decider<A> {
    answer: A,
    body_bytes_max: usize,
    body_timeout: Duration,
}

/// Why there is no body to read a request from.
#[derive(Debug, Error)]
enum BodyError {
    #[error("the body is longer than {max} bytes")]
    TooLarge { max: usize },
    #[error("the body did not arrive within {} ms", waited.as_millis())]
    TooSlow { waited: Duration },
    #[error("the body broke off: {0}")]
    Broken(axum::Error),
}

/// How much of a body that is too large is read and thrown away, so that its sender, who writes before reading, gets
/// to see the answer instead of a reset connection.
const DISCARDED_BYTES_MAX: usize = 1 << 20;

/// The route `/json`.
pub(super) fn router<A: Answer>(answer: A, limits: &WebLimits) -> Router {
    let decider = Decider { answer, body_bytes_max: limits.body_bytes_max, body_timeout: limits.body_timeout };
    Router::new().route("/json", any(decide::<A>)).with_state(decider)
}

async fn decide<A: Answer>(State(decider): State<Decider<A>>, request: axum::extract::Request) -> Response {
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
    match decider.answer.answer(request).await {
        Ok(response) => write_response(&response),
        Err(error) => {
            tracing::debug!(%error, "a JSON request cannot be decided");
            bad_request()
        }
    }
}

// === bodies ===

async fn read_body(body: Body, bytes_max: usize, patience: Duration) -> Result<Bytes, BodyError> {
    timeout(patience, collect(body, bytes_max)).await.map_err(|_| BodyError::TooSlow { waited: patience })?
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes, BodyError> {
    let too_large = BodyError::TooLarge { max: bytes_max };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max.saturating_add(DISCARDED_BYTES_MAX) {
        return Err(too_large);
    }
    let mut collected = BytesMut::new();
    let mut length: usize = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= bytes_max {
            collected.extend_from_slice(&data);
        } else if length > bytes_max.saturating_add(DISCARDED_BYTES_MAX) {
            return Err(too_large);
        } else {
            collected = BytesMut::new();
        }
    }
    if length > bytes_max { Err(too_large) } else { Ok(collected.freeze()) }
}

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
