//! The operators' edge: what adaptive limits are, why, and the hand on them.
//!
//! | path | answer |
//! |---|---|
//! | `GET /` | a page that shows the others (`page.html`) |
//! | `GET /adaptive` | all services: limit, bounds, mode, last decision, hand, leader |
//! | `GET /adaptive/{service}` | one service: everything that is known, and the last changes with their reasons |
//! | `POST /adaptive/{service}/{act}` | `freeze`, `override`, `resume`, `reset`, with what `act.rs` says in JSON |
//!
//! Every replica answers: what its controller has published, and what the store of records remembers. A wish goes through
//! the controller's queue.
//!
//! It asks nobody who they are, hence a listener of its own that is on loopback unless the operator wants it otherwise;
//! and a browser on that machine must not be made to speak for its user (`guard.rs`). Connections, heads, bodies and
//! answers have the bounds of the HTTP port.

mod act;
pub mod cli;
mod client;

mod guard;
mod json;
mod record;
mod say;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::control::command::Commands;
use crate::control::record::{AnyRecords, LATEST_MAX, RecordStore};
use crate::control::view::{ControllerView, ServiceView};
use crate::web::WebLimits;
use crate::web::server::serve_router;

/// What the routes need.
#[derive(Clone, Debug)]
pub struct AdminState {
    view: watch::Receiver<Arc<ControllerView>>,
    commands: Commands,
    records: AnyRecords,
    /// The host that the listener is called by, besides addresses and `localhost`.
    host: Arc<str>,
    readers: Arc<Semaphore>,
}

/// Requests that read records at once: each may bring megabytes from the store.
const READERS_MAX: usize = 4;

/// Connections at once: a few people with a browser each, and their tools.
const CONNECTIONS_MAX: usize = 64;

/// Longest body of a request: a wish has a few hundred bytes.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Names of services in an answer to somebody who asked for another.
const NAMES_TOLD_MAX: usize = 10;

const PAGE: &str = include_str!("page.html");

/// The page runs its own script and speaks to nobody else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                           frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Serves all routes until `shutdown`, then lets the requests that are under way finish.
pub async fn serve(listener: TcpListener, state: AdminState, drain_timeout: Duration, shutdown: CancellationToken) {
    let limits = WebLimits {
        connections_max: CONNECTIONS_MAX,
        body_bytes_max: BODY_BYTES_MAX,
        drain_timeout,
        ..WebLimits::default()
    };
    serve_router(listener, router(state, &limits), limits, shutdown).await;
}

/// All routes.
fn router(state: AdminState, limits: &WebLimits) -> Router {
    let guarded = Arc::clone(&state.host);
    let bounds = act::BodyBounds { bytes_max: limits.body_bytes_max, timeout: limits.body_timeout };
    Router::new()
        .route("/", get(page))
        .route("/adaptive", get(overview))
        .route("/adaptive/{service}", get(detail))
        .route("/adaptive/{service}/ticks", get(ticks))
        .route("/adaptive/{service}/{act}", post(act::act).with_state((state.clone(), bounds)))
        .fallback(async || refuse(StatusCode::NOT_FOUND, ["there is nothing here; try / or /adaptive"]))
        .with_state(state)
        .layer(middleware::from_fn(move |request, next| guard::guard(Arc::clone(&guarded), request, next)))
}

async fn page() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], Html(PAGE))
        .into_response()
}

async fn overview(State(state): State<AdminState>) -> Response {
    let _place = state.readers.acquire().await;
    let view = state.view();
    // Who doesn't lead may have decided long ago; the store remembers what the leader decided last.
    let unknown = |service: &&ServiceView| view.epoch.is_none() || service.last.is_none();
    let unknown = view.services.iter().filter(unknown).take(LATEST_MAX);
    let names: Vec<Arc<str>> = unknown.map(|service| Arc::clone(&service.service.name)).collect();
    let (latest, trouble) = match state.records.latest(&names).await {
        Ok(latest) => (latest, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Json(json::overview(&view, &names, &latest, trouble)).into_response()
}

async fn detail(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    let _place = state.readers.acquire().await;
    let view = state.view();
    let service = match state.find(&view, &name) {
        Ok(service) => service,
        Err(refusal) => return *refusal,
    };
    let (record, remembered) = (state.records.load(&name).await, state.records.remembered(&name).await);
    Json(json::detail(&view, service, record, remembered)).into_response()
}

/// The last ticks with what they were made of: what a recording follows.
async fn ticks(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    let _place = state.readers.acquire().await;
    let view = state.view();
    let service = match state.find(&view, &name) {
        Ok(service) => service,
        Err(refusal) => return *refusal,
    };
    match state.records.ticks(&name).await {
        Ok(ticks) => Json(json::ticks(service, ticks)).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, [error.to_string()]),
    }
}

/// An answer that says what is wrong, a sentence each.
fn refuse<S: Into<String>>(status: StatusCode, sentences: impl IntoIterator<Item = S>) -> Response {
    let errors: Vec<String> = sentences.into_iter().map(Into::into).collect();
    (status, Json(json!({ "errors": errors }))).into_response()
}

// === impl AdminState ===

impl AdminState {
    /// What a listener on `host` shows and asks.
    #[must_use]
    pub fn new(
        view: watch::Receiver<Arc<ControllerView>>,
        commands: Commands,
        records: AnyRecords,
        host: &str,
    ) -> AdminState {
        AdminState { view, commands, records, host: host.into(), readers: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    fn view(&self) -> Arc<ControllerView> {
        Arc::clone(&self.view.borrow())
    }

    /// The service of that name, or an answer that says which there are.
    fn find<'v>(&self, view: &'v ControllerView, name: &str) -> Result<&'v ServiceView, Box<Response>> {
        view.service(name).ok_or_else(|| {
            let mut names: Vec<&str> = view.services.iter().map(|view| &*view.service.name).collect();
            let more = names.len().saturating_sub(NAMES_TOLD_MAX);
            names.truncate(NAMES_TOLD_MAX);
            let there_are = match (names.is_empty(), more) {
                (true, _) => "there are none".to_owned(),
                (false, 0) => format!("there are {}", names.join(", ")),
                (false, more) => format!("there are {} and {more} more", names.join(", ")),
            };
            let shown: String = name.chars().take(80).collect();
            Box::new(refuse(StatusCode::NOT_FOUND, [format!("no adaptive service is called {shown:?}; {there_are}")]))
        })
    }
}
