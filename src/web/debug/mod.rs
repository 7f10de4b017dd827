//! The debug port: what this process limits and has counted, as text for people. It changes nothing.
//!
//! | path | answer |
//! |---|---|
//! | `/rlconfig` | the rules in force, a line each (`rules.rs`) |
//! | `/stats` | what was counted, `name: value` (`counts.rs`) |
//! | `/debug/pprof/…` | 404: there are no profiles |
//! | `/` and anything else | the list of the paths |
//!
//! Any method asks, as in the reference service. It asks nobody who they are, so it is on loopback unless the operator
//! wants it otherwise; there only who names it by address, `localhost` or its own host is answered (`web/host.rs`).

mod counts;
mod rules;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::pieces::{self, PieceWriter, Places};
use super::server::serve_router;
use super::{WebLimits, host};
use crate::metrics::Metrics;
use crate::table::{LimitTable, Snapshot};

/// What the debug port shows.
#[derive(Clone, Debug)]
pub struct DebugState {
    table: LimitTable,
    metrics: Metrics,
    places: Places,
}

/// Connections at once: a few people, and their tools.
const CONNECTIONS_MAX: usize = 64;

/// The paths, sorted, in the reference's form.
const INDEX: &str = "/rlconfig: print out the currently loaded configuration for debugging\n\
                     /stats: print out stats\n";

const NO_PROFILES: &str = "there are no profiles here: /debug/pprof is Go's. Use perf on the process, and /metrics on \
                           the HTTP port\n";

/// Serves all routes until `shutdown`, then lets the requests that are under way finish for `drain_timeout`.
/// `own_host` is the host that the listener was set to.
pub async fn serve(
    listener: TcpListener,
    state: DebugState,
    own_host: &str,
    drain_timeout: Duration,
    shutdown: CancellationToken,
) {
    let is_private = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let router = router(state, is_private.then(|| own_host.into()));
    let limits = WebLimits { connections_max: CONNECTIONS_MAX, drain_timeout, ..WebLimits::default() };
    serve_router(listener, router, limits, shutdown).await;
}

/// All routes. With `private_to` only requests that name that host, `localhost` or an address are answered.
fn router(state: DebugState, private_to: Option<Arc<str>>) -> Router {
    let routes = Router::new()
        .route("/rlconfig", any(rlconfig))
        .route("/stats", any(stats))
        .route("/debug/pprof", any(no_profiles))
        .route("/debug/pprof/{*rest}", any(no_profiles))
        .route("/debug/pprof/", any(no_profiles))
        .fallback(async || INDEX)
        .with_state(state);
    match private_to {
        Some(own_host) => {
            routes.layer(middleware::from_fn(move |request, next| guard(Arc::clone(&own_host), request, next)))
        }
        None => routes,
    }
}

async fn guard(own_host: Arc<str>, request: Request, next: Next) -> Response {
    let named = request.headers().get(header::HOST).and_then(|named| named.to_str().ok());
    if named.is_some_and(|named| host::is_ours(&own_host, named)) {
        return next.run(request).await;
    }
    let sentence = "the Host header must name an address, localhost, or the host of the setting debug.host\n";
    (StatusCode::MISDIRECTED_REQUEST, sentence).into_response()
}

async fn rlconfig(State(state): State<DebugState>) -> Response {
    state.show(|writer, snapshot, _metrics| match snapshot {
        Some(snapshot) => rules::write(writer, &snapshot.rules),
        None => Ok(()),
    })
}

async fn stats(State(state): State<DebugState>) -> Response {
    state.show(counts::write)
}

async fn no_profiles() -> Response {
    (StatusCode::NOT_FOUND, NO_PROFILES).into_response()
}

// === impl DebugState ===

impl DebugState {
    /// What shows these rules and these metrics.
    #[must_use]
    pub fn new(table: LimitTable, metrics: Metrics) -> DebugState {
        DebugState { table, metrics, places: Places::default() }
    }

    /// An answer written piece by piece, of the rules that are in force now.
    fn show(
        &self,
        write: impl FnOnce(&mut PieceWriter, Option<&Snapshot>, &Metrics) -> fmt::Result + Send + 'static,
    ) -> Response {
        let Some(place) = self.places.take() else {
            return (StatusCode::SERVICE_UNAVAILABLE, "too many ask at once\n").into_response();
        };
        let (snapshot, metrics) = (self.table.load(), self.metrics.clone());
        let body = pieces::body(place, move |writer| write(writer, snapshot.as_deref(), &metrics));
        ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
    }
}

#[cfg(test)]
mod tests;
