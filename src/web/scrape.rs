//! The metrics over HTTP.
//!
//! With 100,000 busy rules the text has tens of megabytes: it is written in pieces and never held whole (`pieces.rs`),
//! unless it is written by a mapping, which sums first.

use std::fmt::Write;
use std::sync::Arc;

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
use crate::metrics::mapped::MappedMetrics;

/// Writes the metrics for whoever asks. Clones share the places.
#[derive(Clone, Debug)]
pub struct Scraper {
    metrics: Metrics,
    adaptive: Option<AdaptiveLimits>,
    /// The metrics under other names, in their stead.
    mapped: Option<Arc<MappedMetrics>>,
    places: Places,
}

// === impl Scraper ===

impl Scraper {
    /// Writes these metrics, and those of adaptive limits where limits adapt.
    #[must_use]
    pub fn new(metrics: Metrics, adaptive: Option<AdaptiveLimits>) -> Scraper {
        Scraper { metrics, adaptive, mapped: None, places: Places::default() }
    }

    /// Writes the metrics under these names instead. What is known of the process and of adaptive limits keeps its own.
    #[must_use]
    pub fn mapped(self, mapped: Option<MappedMetrics>) -> Scraper {
        Scraper { mapped: mapped.map(Arc::new), ..self }
    }

    /// A route to them, for the HTTP port or a listener of its own.
    pub fn router(&self, path: &str) -> Router {
        Router::new().route(path, get(scrape)).with_state(self.clone())
    }
}

async fn scrape(State(scraper): State<Scraper>) -> Response {
    let Some(place) = scraper.places.take() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at once\n").into_response();
    };
    let body = pieces::body(place, move |writer| {
        let mut registry = Registry::default();
        let mapped = scraper.mapped.map(|mapped| mapped.text());
        if mapped.is_none() {
            registry.register_collector(Box::new(scraper.metrics));
        }
        registry.register_collector(Box::new(Process));
        if let Some(adaptive) = scraper.adaptive {
            registry.register_collector(Box::new(adaptive));
        }
        let mut lines = mapped.iter().flat_map(|text| text.split_inclusive('\n'));
        lines.try_for_each(|line| writer.write_str(line))?;
        encode_registry(writer, &registry)
    });
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response()
}
