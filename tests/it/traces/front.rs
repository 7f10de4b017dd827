//! A real Envoy in front, with its own OpenTelemetry tracer: its spans and ours make one trace.

use http::StatusCode;
use serde_json::{Value, json};

use super::{SERVER, launch};
use crate::support::collector::Collector;
use crate::support::envoy::{Envoy, generic_key, listener, rate_limit_filter, rate_limit_service, route, upstream};
use crate::support::upstream::Upstream;

/// The listener with a tracer that exports to the cluster `collector` over gRPC.
fn traced(mut listener: Value) -> Value {
    listener["filter_chains"][0]["filters"][0]["typed_config"]["tracing"] = json!({
        "spawn_upstream_span": true,
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": "front",
                "grpc_service": { "envoy_grpc": { "cluster_name": "collector" }, "timeout": "5s" },
            },
        },
    });
    listener
}

#[tokio::test]
async fn envoys_spans_and_ours_are_of_one_trace() {
    let (collector, behind) = (Collector::start().await, Upstream::start().await);
    let tidegate = launch(&collector).setting("TRACING_SAMPLING_RATE", "0").start().await;
    let filter = rate_limit_filter("shop", "ratelimit");
    let main = traced(listener("main", vec![filter], &[route("/", &generic_key("all"))]));
    let clusters = [
        upstream(behind.address()),
        rate_limit_service("ratelimit", tidegate.grpc_address()),
        rate_limit_service("collector", collector.address()),
    ];
    let Some(envoy) = Envoy::start(&[main], &clusters).await else { return };
    assert_eq!(envoy.http("main").get("/cart").await.status, StatusCode::OK);

    let ours = collector.span(SERVER).await.span;
    let is_caller = |id: &[u8]| *id == *ours.parent_span_id;
    let spans = collector.spans_with("Envoy's span", |taken| is_caller(&taken.span.span_id)).await;
    let caller = spans.iter().find(|taken| is_caller(&taken.span.span_id)).unwrap();
    assert_eq!(caller.span.trace_id, ours.trace_id);
    assert_eq!(caller.resource("service.name").as_deref(), Some("front"));
}
