//! The admin interface: what the proxy is, what it has done, and the few things that an operator may tell it.
//!
//! Paths, texts and statuses are Envoy's, for the part of it that tests and dashboards use. What changes something must be
//! a POST.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bootstrap::model::{Bootstrap, CircuitBreakers};
use super::cluster::Cluster;
use super::server::{Context, HttpListener};
use super::stats::{Sample, Scope, Value, prometheus, text};

/// What the admin interface speaks of.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What was read.
    pub bootstrap: Arc<Bootstrap>,
    /// What listeners have in common.
    pub context: Arc<Context>,
    /// The listeners.
    pub listeners: Arc<Vec<Arc<HttpListener>>>,
    /// When the proxy began to serve; cancelled from then on.
    pub live: CancellationToken,
    /// Asks the process to end.
    pub quit: CancellationToken,
    /// When it started.
    pub started: Instant,
}

type Parameters = Query<BTreeMap<String, String>>;

/// The routes.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/server_info", get(server_info))
        .route("/stats", get(stats))
        .route("/stats/prometheus", get(stats_prometheus))
        .route("/clusters", get(clusters))
        .route("/listeners", get(listeners))
        .route("/config_dump", get(config_dump))
        .route("/healthcheck/fail", post(healthcheck_fail))
        .route("/healthcheck/ok", post(healthcheck_ok))
        .route("/drain_listeners", post(drain_listeners))
        .route("/reset_counters", post(reset_counters))
        .route("/quitquitquit", post(quitquitquit))
        .method_not_allowed_fallback(|| async { answer(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed") })
        .fallback(|| async {
            answer(
                StatusCode::NOT_FOUND,
                "invalid path. admin commands are:\n  /ready\n  /server_info\n  /stats\n  /stats/prometheus\n  \
                 /clusters\n  /listeners\n  /config_dump\n  /healthcheck/fail (POST)\n  /healthcheck/ok (POST)\n  \
                 /drain_listeners (POST)\n  /reset_counters (POST)\n  /quitquitquit (POST)\n",
            )
        })
        .with_state(admin)
}

fn answer(status: StatusCode, body: impl Into<String>) -> Response {
    of_type(status, "text/plain; charset=UTF-8", body)
}

fn json_answer(value: &serde_json::Value) -> Response {
    of_type(StatusCode::OK, "application/json", format!("{value:#}"))
}

fn of_type(status: StatusCode, content_type: &'static str, body: impl Into<String>) -> Response {
    let mut response = (status, body.into()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.insert(header::SERVER, HeaderValue::from_static("envoy"));
    response
}

// === what it is ===

impl Admin {
    /// `LIVE`, or why it is not.
    fn state(&self) -> &'static str {
        if !self.live.is_cancelled() {
            "INITIALIZING"
        } else if self.context.is_failing_health_checks.load(Ordering::Relaxed) {
            "DRAINING"
        } else {
            "LIVE"
        }
    }

    fn with_samples<T>(&self, use_them: impl FnOnce(&[Sample<'_>]) -> T) -> T {
        let server = Scope::plain("server");
        let mut samples = Vec::new();
        let state = match self.state() {
            "LIVE" => 0,
            "DRAINING" => 1,
            _ => 3,
        };
        samples.push(server.sample("live", Value::Gauge(u64::from(state == 0))));
        samples.push(server.sample("state", Value::Gauge(state)));
        samples.push(server.sample("uptime", Value::Gauge(self.started.elapsed().as_secs())));
        for cluster in self.context.clusters.values() {
            cluster.stats.list(&mut samples);
        }
        let named = self.context.stats.all();
        named.list(&mut samples);
        use_them(&samples)
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    let state = admin.state();
    let status = if state == "LIVE" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, format!("{state}\n"))
}

async fn server_info(State(admin): State<Admin>) -> Response {
    json_answer(&json!({
        "version": concat!("tidegate-proxy/", env!("CARGO_PKG_VERSION")),
        "state": admin.state(),
        "uptime_current_epoch": format!("{}s", admin.started.elapsed().as_secs()),
        "node": { "id": admin.context.node.id, "cluster": admin.context.node.cluster },
    }))
}

async fn config_dump(State(admin): State<Admin>) -> Response {
    answer(StatusCode::OK, format!("{:#?}\n", admin.bootstrap))
}

async fn listeners(State(admin): State<Admin>, Query(parameters): Parameters) -> Response {
    if parameters.get("format").is_some_and(|format| format == "json") {
        let statuses: Vec<serde_json::Value> = admin
            .listeners
            .iter()
            .map(|listener| {
                let (address, port_value) = (listener.address.ip().to_string(), listener.address.port());
                let local_address = json!({ "socket_address": { "address": address, "port_value": port_value } });
                json!({ "name": listener.name, "local_address": local_address })
            })
            .collect();
        return json_answer(&json!({ "listener_statuses": statuses }));
    }
    let lines = admin.listeners.iter().map(|listener| format!("{}::{}\n", listener.name, listener.address));
    answer(StatusCode::OK, lines.collect::<String>())
}

async fn clusters(State(admin): State<Admin>) -> Response {
    answer(StatusCode::OK, admin.context.clusters.values().map(|cluster| describe(cluster)).collect::<String>())
}

fn describe(cluster: &Cluster) -> String {
    let name = &cluster.settings.name;
    let mut text = String::new();
    let mut line = |of: &str, what: &str, value: &dyn std::fmt::Display| {
        let of = if of.is_empty() { String::new() } else { format!("{of}::") };
        text.push_str(&format!("{name}::{of}{what}::{value}\n"));
    };
    line("", "observability_name", name);
    let CircuitBreakers { max_connections, max_pending_requests, max_requests, max_retries } =
        cluster.settings.circuit_breakers;
    for (what, value) in [
        ("max_connections", max_connections),
        ("max_pending_requests", max_pending_requests),
        ("max_requests", max_requests),
        ("max_retries", max_retries),
    ] {
        line("default_priority", what, &value);
    }
    line("", "added_via_api", &false);
    for host in cluster.hosts() {
        let (of, stats) = (host.address.to_string(), &host.stats);
        for (what, value) in [
            ("cx_active", stats.cx_active.get()),
            ("cx_connect_fail", stats.cx_connect_fail.get()),
            ("cx_total", stats.cx_total.get()),
            ("rq_active", stats.rq_active.get()),
            ("rq_error", stats.rq_error.get()),
            ("rq_success", stats.rq_success.get()),
            ("rq_timeout", stats.rq_timeout.get()),
            ("rq_total", stats.rq_total.get()),
        ] {
            line(&of, what, &value);
        }
        line(&of, "hostname", &host.hostname);
        line(&of, "health_flags", &host.health_flags());
        line(&of, "weight", &host.weight);
    }
    text
}

// === what it has done ===

async fn stats(State(admin): State<Admin>, Query(parameters): Parameters) -> Response {
    let format = parameters.get("format").map_or("text", String::as_str);
    if format == "prometheus" {
        return stats_prometheus(State(admin), Query(parameters)).await;
    }
    let filter = match parameters.get("filter").map(|filter| regex::Regex::new(filter)).transpose() {
        Ok(filter) => filter,
        Err(error) => return answer(StatusCode::BAD_REQUEST, format!("Invalid re2 regex: {error}\n")),
    };
    let used_only = parameters.contains_key("usedonly");
    admin.with_samples(|samples| {
        let kept: Vec<Sample<'_>> = samples
            .iter()
            .filter(|sample| !used_only || !sample.value.is_unused())
            .filter(|sample| filter.as_ref().is_none_or(|filter| filter.is_match(&sample.text_name())))
            .cloned()
            .collect();
        match format {
            "json" => json_answer(&text::json(&kept)),
            _ => answer(StatusCode::OK, text::lines(&kept)),
        }
    })
}

async fn stats_prometheus(State(admin): State<Admin>, Query(parameters): Parameters) -> Response {
    let used_only = parameters.contains_key("usedonly");
    let exposition = admin.with_samples(|samples| {
        let kept: Vec<Sample<'_>> =
            samples.iter().filter(|sample| !used_only || !sample.value.is_unused()).cloned().collect();
        prometheus::exposition(&kept)
    });
    answer(StatusCode::OK, exposition)
}

// === what it is told ===

async fn healthcheck_fail(State(admin): State<Admin>) -> Response {
    admin.context.is_failing_health_checks.store(true, Ordering::Relaxed);
    answer(StatusCode::OK, "OK\n")
}

async fn healthcheck_ok(State(admin): State<Admin>) -> Response {
    admin.context.is_failing_health_checks.store(false, Ordering::Relaxed);
    answer(StatusCode::OK, "OK\n")
}

async fn drain_listeners(State(admin): State<Admin>, Query(parameters): Parameters) -> Response {
    if parameters.contains_key("graceful") {
        if let Some(time) = admin.context.drain.begin(Instant::now()) {
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                admin.listeners.iter().for_each(|listener| listener.stopped.cancel());
            });
        }
    } else {
        // Connections that there are go on.
        admin.listeners.iter().for_each(|listener| listener.stopped.cancel());
    }
    answer(StatusCode::OK, "OK\n")
}

async fn reset_counters(State(admin): State<Admin>) -> Response {
    admin.context.clusters.values().for_each(|cluster| cluster.stats.reset());
    admin.context.stats.all().reset();
    answer(StatusCode::OK, "OK\n")
}

async fn quitquitquit(State(admin): State<Admin>) -> Response {
    admin.quit.cancel();
    answer(StatusCode::OK, "OK\n")
}
