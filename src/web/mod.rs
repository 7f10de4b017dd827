//! The HTTP/1.1 edge: decisions in JSON, the health check, and the metrics.
//!
//! | path | answer |
//! |---|---|
//! | `/json`, any method | a decision, for whoever has no gRPC at hand ([`json`]) |
//! | `/healthcheck`, any method | 200 `OK` while requests should come, else 500 and nothing |
//! | `GET /metrics` | the metrics as text ([`scrape`]) |
//! | anything else | 404 |
//!
//! A port of its own shows the rules in force and their counts ([`debug`]).
//!
//! The routes are a plain function from state to router, and know nothing of sockets; [`server`] accepts connections
//! and holds callers to their time and number. The decision itself lies behind [`Answer`].

pub mod adaptive;
pub(crate) mod body;
pub mod debug;
pub(crate) mod host;
pub mod json;
mod pieces;
pub mod process;
pub mod request;
pub mod scrape;
pub mod server;
pub(crate) mod stall;

use std::future::Future;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use adaptive::AdaptiveLimits;
pub use scrape::Scraper;
pub use server::WebLimits;

use crate::health::Health;
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::trace::CallTrace;

/// Something that decides requests.
pub trait Answer: Clone + Send + Sync + 'static {
    /// Decides one request, within a deadline of its own.
    fn answer(&self, request: RateLimitRequest) -> impl Future<Output = Result<RateLimitResponse, AnswerError>> + Send;

    /// Begins the record of a request with this method and these headers; `None` if it is not to be recorded.
    fn trace(&self, _method: &Method, _headers: &HeaderMap) -> Option<CallTrace> {
        None
    }

    /// As [`Answer::answer`], recorded.
    fn answer_traced(
        &self,
        request: RateLimitRequest,
        _trace: &CallTrace,
    ) -> impl Future<Output = Result<RateLimitResponse, AnswerError>> + Send {
        self.answer(request)
    }
}

/// Why a request got no decision.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// It cannot be answered the way it is asked.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be answered now: no rules are loaded, or the counter store is silent.
    #[error("{reason}")]
    Unavailable {
        /// What is missing.
        reason: String,
    },
}

/// What the routes need.
#[derive(Clone, Debug)]
pub struct WebState<A> {
    /// Decides the requests of `/json`.
    pub answer: A,
    /// Shown by `/healthcheck`.
    pub health: Health,
    /// Writes what `/metrics` shows.
    pub scraper: Scraper,
}

/// Serves all routes until `shutdown`, then lets the requests that are under way finish.
pub async fn serve<A: Answer>(
    listener: TcpListener,
    state: WebState<A>,
    limits: WebLimits,
    shutdown: CancellationToken,
) {
    let router = router(state, &limits);
    server::serve_router(listener, router, limits, shutdown).await;
}

/// All routes.
pub fn router<A: Answer>(state: WebState<A>, limits: &WebLimits) -> Router {
    let WebState { answer, health, scraper } = state;
    json::router(answer, limits)
        .merge(Router::new().route("/healthcheck", any(healthcheck)).with_state(health))
        .merge(scraper.router("/metrics"))
        .fallback(not_found)
}

async fn healthcheck(State(health): State<Health>) -> Response {
    if health.is_serving() { "OK".into_response() } else { StatusCode::INTERNAL_SERVER_ERROR.into_response() }
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "Not Found\n").into_response()
}

#[cfg(test)]
mod tests;
