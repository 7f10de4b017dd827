//! What each service counts about its requests, under the names that Prometheus users expect.
//!
//! ```text
//! http_requests_total{method,path,code}                 requests answered
//! http_request_duration_seconds{method,path}            histogram: from the head of the request to that of its answer
//! ```
//!
//! `path` is the template of a route, never a caller's path, and `method` one of the known words: what callers send
//! can't make series. Requests that found no route have the path `other`; `/metrics` and `/healthz` aren't counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tokio::time::Instant;

use crate::metrics::Histogram;

/// Requests so far. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By method, path and code.
    answered: BTreeMap<(&'static str, &'static str, u16), u64>,
    /// By method and path.
    durations: BTreeMap<(&'static str, &'static str), Histogram>,
}

/// A path and where its requests are counted.
#[derive(Clone, Debug)]
struct Meter {
    traffic: Traffic,
    path: &'static str,
}

/// The path of requests without a route.
const OTHER: &str = "other";

/// A router with one route, for GET, whose requests are counted under its template.
pub fn route<H, X, S>(traffic: &Traffic, path: &'static str, handler: H) -> Router<S>
where
    H: Handler<X, S>,
    X: 'static,
    S: Clone + Send + Sync + 'static,
{
    let meter = Meter { traffic: traffic.clone(), path };
    Router::new().route(path, get(handler)).route_layer(from_fn_with_state(meter, measure))
}

/// Counts requests for which `router` has no route.
pub fn count_strays(traffic: &Traffic, router: Router) -> Router {
    let meter = Meter { traffic: traffic.clone(), path: OTHER };
    let not_found = get(async || (axum::http::StatusCode::NOT_FOUND, "Not Found\n"))
        .fallback(async || (axum::http::StatusCode::NOT_FOUND, "Not Found\n"));
    router.fallback_service(not_found.layer(from_fn_with_state(meter, measure)))
}

async fn measure(State(meter): State<Meter>, request: Request, next: Next) -> Response {
    let (method, started) = (known(request.method()), Instant::now());
    let response = next.run(request).await;
    meter.traffic.observe(method, meter.path, response.status().as_u16(), started.elapsed());
    response
}

fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|name| *name == method.as_str()).unwrap_or(OTHER)
}

// === impl Traffic ===

impl Traffic {
    /// Counts a request. All three labels must come from few values.
    pub fn observe(&self, method: &'static str, path: &'static str, code: u16, duration: Duration) {
        let mut counts = self.counts();
        *counts.answered.entry((method, path, code)).or_default() += 1;
        counts.durations.entry((method, path)).or_default().observe(duration);
    }

    /// Requests to a path that were answered with a code.
    #[must_use]
    pub fn answered(&self, path: &str, code: u16) -> u64 {
        let counts = self.counts();
        counts.answered.iter().filter(|((_, of, with), _)| *of == path && *with == code).map(|(_, count)| count).sum()
    }

    /// Nothing here can be half-done when a panic comes.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.counts();
        if counts.answered.is_empty() {
            return Ok(());
        }
        // As gauges under a heading that says counter: the package would put a second `_total` behind the name.
        let mut family =
            encoder.encode_descriptor("http_requests_total", "Requests answered.", None, MetricType::Counter)?;
        for ((method, path, code), count) in &counts.answered {
            let code = code.to_string();
            let labels = Labels(&[("method", method), ("path", path), ("code", &code)]);
            family.encode_family(&labels)?.encode_gauge(count)?;
        }
        let help = "Time from the head of a request to that of its answer.";
        let name = "http_request_duration_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for ((method, path), durations) in &counts.durations {
            let reading = durations.read();
            let labels = Labels(&[("method", method), ("path", path)]);
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                reading.sum,
                reading.count,
                &reading.buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// Names and values.
#[derive(Debug)]
struct Labels<'a>(&'a [(&'static str, &'a str)]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|label| label.encode(encoder.encode_label()))
    }
}
