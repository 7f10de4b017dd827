//! What the services share: how they listen, `/healthz`, `/metrics`, and their end.
//!
//! The caller binds and says when to stop, so that a test can run a service beside itself on a port of the system's
//! choice. Connections are served by the same loop as Tidegate's own HTTP port, with the same care for peers.

use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::traffic::{Traffic, count_strays};
use crate::metrics::exposition::CONTENT_TYPE;
use crate::web::server::{WebLimits, serve_router};

/// More connections than a collapsing service has requests under way in any of the stories told here.
const CONNECTIONS_MAX: usize = 4_096;

/// Longer than proxies keep an idle connection: one that is closed just when a request goes out on it looks like a
/// failure of the service.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Serves until `shutdown`, then lets requests under way finish for ten seconds.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let limits = WebLimits { connections_max: CONNECTIONS_MAX, header_timeout: IDLE_TIMEOUT, ..WebLimits::default() };
    serve_router(listener, router, limits, shutdown).await;
}

/// A service's routes with the two that all have, and an answer for every other path. `gauges` are scraped beside
/// what `traffic` counts.
pub fn complete<G: Collector + Clone>(router: Router, traffic: &Traffic, gauges: Option<G>) -> Router {
    let scraped = traffic.clone();
    let scrape = async move || write(&scraped, gauges.clone());
    let router = router.route("/healthz", get(async || "OK\n")).route("/metrics", get(scrape));
    count_strays(traffic, router)
}

fn write<G: Collector>(traffic: &Traffic, gauges: Option<G>) -> Response {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(traffic.clone()));
    if let Some(gauges) = gauges {
        registry.register_collector(Box::new(gauges));
    }
    let mut text = String::new();
    match encode_registry(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics have no form as text");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
