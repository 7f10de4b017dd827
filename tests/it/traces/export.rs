//! How spans reach a collector, and what happens when they don't.

use std::path::Path;

use tidegate::demo::ports::HeldPort;
use tonic::Code;

use super::{SERVER, STORE, TRACE, call, hex, launch, metric, traceparent, user};
use crate::support::collector::{Collector, Refusal};
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

const EXPORTED: &str = "tidegate_trace_spans_exported";
const DROPPED: &str = "tidegate_trace_spans_dropped";
const FAILED: &str = "tidegate_trace_spans_failed";

/// The same over gRPC.
fn launch_grpc(collector: &Collector) -> Launch {
    launch(collector).setting("TRACING_EXPORTER_PROTOCOL", "grpc")
}

/// Waits until the metric has that value.
async fn counts(tidegate: &Tidegate, name: &str, value: u64) {
    let what = format!("{name} is {value}");
    eventually(&what, PATIENCE, async || (metric(tidegate, name).await == value).then_some(())).await;
}

/// Makes one call and waits until its spans have arrived, over this collector.
async fn is_exported(tidegate: &Tidegate, collector: &Collector) {
    assert_eq!(call(tidegate, user("ann"), &[("traceparent", &traceparent("01"))]).await, Code::Ok);
    let server = collector.span(SERVER).await;
    assert_eq!(hex(&server.span.trace_id), TRACE);
    assert_eq!(collector.span(STORE).await.span.parent_span_id, server.span.span_id);
    counts(tidegate, EXPORTED, 2).await;
    assert_eq!((metric(tidegate, DROPPED).await, metric(tidegate, FAILED).await), (0, 0));
}

#[tokio::test]
async fn spans_go_over_grpc_with_the_headers_that_are_set() {
    let collector = Collector::start().await;
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret,tenant=a");
    let tidegate = launch_grpc(&collector)
        .setting(headers.0, headers.1)
        .setting("LOG_LEVEL", "trace")
        .setting("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .start()
        .await;
    is_exported(&tidegate, &collector).await;
    let taken = collector.span(SERVER).await;
    assert_eq!(
        (&taken.headers["authorization"], &taken.headers["tenant"]),
        (&"Bearer s3cret".parse().unwrap(), &"a".parse().unwrap())
    );
    tidegate.logs("OTEL_EXPORTER_OTLP_COMPRESSION is left alone").await;
    assert!(!tidegate.log().contains("s3cret"), "{}", tidegate.log());
}

#[tokio::test]
async fn headers_go_over_http_and_are_in_no_log() {
    let collector = Collector::start().await;
    let tidegate = launch(&collector)
        .setting("OTEL_EXPORTER_OTLP_HEADERS", "authorization=wrong")
        .setting("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=Bearer%20s3cret")
        .setting("LOG_LEVEL", "trace")
        .start()
        .await;
    collector.refuse(Refusal::Http(401, None));
    assert_eq!(call(&tidegate, user("ann"), &[]).await, Code::Ok);
    counts(&tidegate, FAILED, 2).await;
    assert_eq!(call(&tidegate, user("ann"), &[]).await, Code::Ok);
    assert_eq!(collector.span(SERVER).await.headers["authorization"], "Bearer s3cret");
    tidegate.logs("it answered 401 Unauthorized").await;
    assert!(!tidegate.log().contains("s3cret"), "{}", tidegate.log());
}

#[tokio::test]
async fn both_ways_go_over_tls_to_a_collector_that_is_trusted_and_to_no_other() {
    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/certificates/port/ca.pem");
    for protocol in ["http", "grpc"] {
        let collector = Collector::start_tls().await;
        let over_tls = || {
            launch(&collector)
                .setting("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{}", collector.address()))
                .setting("TRACING_EXPORTER_PROTOCOL", protocol)
        };
        let trusting = over_tls().setting("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.display()).start().await;
        is_exported(&trusting, &collector).await;

        let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/certificates/redis/ca.pem");
        let wary = over_tls().setting("OTEL_EXPORTER_OTLP_CERTIFICATE", foreign.display()).start().await;
        assert_eq!(call(&wary, user("ann"), &[]).await, Code::Ok);
        let told = "its certificate comes from no authority that is trusted";
        eventually("that is told", PATIENCE, async || wary.log().contains(told).then_some(())).await;
        assert_eq!(collector.spans().len(), 2, "over {protocol}");
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_and_arrives_once() {
    for (refusal, protocol) in [
        (Refusal::Http(503, Some("0")), "http"),
        (Refusal::Http(429, None), "http"),
        (Refusal::Grpc(Code::Unavailable), "grpc"),
    ] {
        let collector = Collector::start().await;
        let tidegate = launch(&collector).setting("TRACING_EXPORTER_PROTOCOL", protocol).start().await;
        collector.refuse(refusal);
        is_exported(&tidegate, &collector).await;
        assert_eq!((collector.requests(), collector.spans().len()), (2, 2), "{refusal:?}");
        tidegate.logs_once("spans cannot be exported").await;
        tidegate.logs_once("spans are exported again").await;
    }
}

#[tokio::test]
async fn a_collector_that_does_not_answer_is_given_up_and_asked_again() {
    let collector = Collector::start().await;
    let tidegate = launch(&collector).setting("OTEL_EXPORTER_OTLP_TIMEOUT", "700").start().await;
    collector.refuse(Refusal::Silence);
    is_exported(&tidegate, &collector).await;
    // One more for each time that the machine was held up for as long as the silent one is waited for.
    assert!(collector.requests() >= 2, "{}", collector.requests());
    tidegate.logs("it did not answer within 700 ms").await;
}

#[tokio::test]
async fn what_the_collector_does_not_take_is_counted_and_told_with_its_reason() {
    let collector = Collector::start().await;
    let tidegate = launch(&collector).start().await;
    collector.refuse(Refusal::Partial(1));
    assert_eq!(call(&tidegate, user("ann"), &[]).await, Code::Ok);
    counts(&tidegate, FAILED, 1).await;
    counts(&tidegate, EXPORTED, 1).await;
    tidegate.logs("it did not take 1 of 2 spans: too many").await;

    let over_grpc = launch_grpc(&collector).start().await;
    collector.refuse(Refusal::Grpc(Code::PermissionDenied));
    assert_eq!(call(&over_grpc, user("ann"), &[]).await, Code::Ok);
    counts(&over_grpc, FAILED, 2).await;
    over_grpc.logs("it answered gRPC status 7: not").await;
}

#[tokio::test]
async fn without_a_collector_calls_are_answered_and_what_finds_no_room_is_counted() {
    let nobody = HeldPort::any().unwrap();
    let tidegate = Launch::new(&[("rules.yaml", super::RULES)])
        .setting("TRACING_ENABLED", "true")
        .setting("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", nobody.address()))
        .setting("TIDEGATE_TRACING_EXPORT_INTERVAL", "20ms")
        .setting("OTEL_BSP_MAX_QUEUE_SIZE", "4")
        .start()
        .await;
    // A batch of four under way, four that wait, and the rest.
    for number in 0..50 {
        assert_eq!(call(&tidegate, user(&number.to_string()), &[]).await, Code::Ok);
    }
    // A call's spans are made when it has been answered. A batch that is given up meanwhile makes room for another.
    eventually("all others are dropped", PATIENCE, async || {
        let (dropped, failed) = (metric(&tidegate, DROPPED).await, metric(&tidegate, FAILED).await);
        (dropped > 0 && dropped + failed >= 100 - 8).then_some(())
    })
    .await;
    tidegate.logs_once("spans cannot be exported").await;
    tidegate.logs("spans are dropped").await;
    assert_eq!(metric(&tidegate, EXPORTED).await, 0);
    tidegate.stop().await;
}

#[tokio::test]
async fn the_last_spans_are_exported_before_the_process_ends() {
    for protocol in ["http", "grpc"] {
        let collector = Collector::start().await;
        let tidegate = launch(&collector)
            .setting("TIDEGATE_TRACING_EXPORT_INTERVAL", "1h")
            .setting("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000")
            .setting("TRACING_EXPORTER_PROTOCOL", protocol)
            .start()
            .await;
        for number in 0..20 {
            assert_eq!(call(&tidegate, user(&number.to_string()), &[]).await, Code::Ok);
        }
        assert_eq!(collector.spans().len(), 0);
        tidegate.stop().await;
        assert_eq!(collector.spans().len(), 40, "over {protocol}");
    }
}

#[tokio::test]
async fn a_full_batch_does_not_wait_for_the_interval() {
    let collector = Collector::start().await;
    let tidegate = launch(&collector)
        .setting("TIDEGATE_TRACING_EXPORT_INTERVAL", "1h")
        .setting("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
        .start()
        .await;
    for number in 0..5 {
        assert_eq!(call(&tidegate, user(&number.to_string()), &[]).await, Code::Ok);
    }
    counts(&tidegate, EXPORTED, 10).await;
    assert_eq!(collector.spans().len(), 10);
}
