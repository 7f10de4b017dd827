//! The metrics over HTTP.
//!
//! With 100,000 busy rules the text has tens of megabytes: it is written in pieces and never held whole (`pieces.rs`).

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

use super::adaptive::AdaptiveLimits;
use super::pieces::{self, Places};
use super::process::Process;
use crate::metrics::Metrics;
use crate::metrics::exposition::CONTENT_TYPE;

#[derive(Clone, Debug)]
struct Scraper {
    metrics: Metrics,
    adaptive: Option<AdaptiveLimits>,
    places: Places,
}

/// The route `/metrics`, also for a listener of its own.
pub fn router(metrics: Metrics, adaptive: Option<AdaptiveLimits>) -> Router {
    let scraper = Scraper { metrics, adaptive, places: Places::default() };
    Router::new().route("/metrics", get(scrape)).with_state(scraper)
}

async fn scrape(State(scraper): State<Scraper>) -> Response {
    let Some(place) = scraper.places.take() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at once\n").into_response();
    };
    let body = pieces::body(place, move |writer| {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(scraper.metrics));
        registry.register_collector(Box::new(Process));
        if let Some(adaptive) = scraper.adaptive {
            registry.register_collector(Box::new(adaptive));
        }
        encode_registry(writer, &registry)
    });
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response()
}
