//! Traces: a real collector of the test's own receives what the program exports.

mod export;
mod front;

use tidegate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tidegate::proto::opentelemetry::proto::trace::v1::span::SpanKind;
use tidegate::proto::opentelemetry::proto::trace::v1::status::StatusCode;
use tonic::metadata::MetadataKey;
use tonic::{Code, Request};

use crate::support::client::{descriptor, request};
use crate::support::collector::{Collector, Taken};
use crate::support::redis::Redis;
use crate::support::relay::Relay;
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

const RULES: &str = "
domain: shop
descriptors:
- {key: user, rate_limit: {unit: hour, requests_per_unit: 2}}
- {key: path, value: /cart, rate_limit: {name: carts, unit: hour, requests_per_unit: 1}}
";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const SERVER: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const STORE: &str = "charge counters";

/// Tidegate that exports to this collector over HTTP, at once.
fn launch(collector: &Collector) -> Launch {
    Launch::new(&[("rules.yaml", RULES)])
        .setting("TRACING_ENABLED", "true")
        .setting("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address()))
        .setting("TIDEGATE_TRACING_EXPORT_INTERVAL", "20ms")
}

fn user(name: &str) -> RateLimitRequest {
    request("shop", &[("user", name)])
}

/// A call with these headers.
async fn call(tidegate: &Tidegate, message: RateLimitRequest, headers: &[(&str, &str)]) -> Code {
    let mut request = Request::new(message);
    for (name, value) in headers {
        let name = MetadataKey::from_bytes(name.as_bytes()).unwrap();
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    tidegate.grpc().should_rate_limit(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// A call whose trace is recorded, with that digit at the end of its name; what comes before it is exported before it.
async fn recorded(tidegate: &Tidegate, collector: &Collector, digit: char) -> Vec<Taken> {
    let trace = format!("{}{digit}", &TRACE[1..]);
    call(tidegate, user("last"), &[("traceparent", &format!("00-{trace}-{SPAN}-01"))]).await;
    collector.spans_with("the last span", |taken| taken.is(SERVER) && hex(&taken.span.trace_id) == trace).await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(taken: &Taken, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| taken.attribute(key).unwrap_or_default()).collect()
}

/// The value of a metric without labels; 0 while it isn't shown.
async fn metric(tidegate: &Tidegate, name: &str) -> u64 {
    let text = tidegate.http().get("/metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_recorded_call_is_a_span_of_its_callers_trace_with_a_child_for_the_counters() {
    let collector = Collector::start().await;
    let tidegate = launch(&collector)
        .setting("TRACING_SERVICE_NAME", "limits")
        .setting("TRACING_SERVICE_NAMESPACE", "edge")
        .setting("TRACING_SERVICE_INSTANCE_ID", "limits-0")
        .setting("OTEL_RESOURCE_ATTRIBUTES", "zone=a")
        .start()
        .await;
    let headers = [("traceparent", &*traceparent("01")), ("tracestate", "vendor=1")];
    assert_eq!(call(&tidegate, user("ann@example.com"), &headers).await, Code::Ok);

    let server = collector.span(SERVER).await;
    assert_eq!((hex(&server.span.trace_id).as_str(), hex(&server.span.parent_span_id).as_str()), (TRACE, SPAN));
    assert_eq!((server.span.kind(), server.span.trace_state.as_str()), (SpanKind::Server, "vendor=1"));
    assert_eq!(server.span.flags, 0x301, "recorded, and the parent is known to be another process's");
    assert_eq!(server.span.status, None);
    let rpc = ["rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"];
    let expected = ["grpc", "envoy.service.ratelimit.v3.RateLimitService", "ShouldRateLimit", "0"];
    assert_eq!(attributes(&server, &rpc), expected);
    let ours = ["tidegate.domain", "tidegate.descriptor_count", "tidegate.descriptors", "tidegate.code"];
    assert_eq!(attributes(&server, &ours), ["shop", "1", "user", "OK"]);
    let process = ["service.name", "service.namespace", "service.instance.id", "zone"];
    assert_eq!(process.map(|key| server.resource(key).unwrap()), ["limits", "edge", "limits-0", "a"]);
    assert!(!format!("{server:?}").contains("ann@example.com"), "values may be personal");

    let store = collector.span(STORE).await;
    let (outer, inner) = (&server.span, &store.span);
    assert_eq!((&inner.trace_id, &inner.parent_span_id), (&outer.trace_id, &outer.span_id));
    assert_eq!((inner.kind(), inner.flags), (SpanKind::Internal, 0x101));
    let told = inner.attributes.iter().map(|attribute| attribute.key.as_str()).collect::<Vec<_>>();
    assert_eq!(told, ["tidegate.store", "tidegate.counter_count"]);
    let instants = [
        1_700_000_000_000_000_000,
        outer.start_time_unix_nano,
        inner.start_time_unix_nano,
        inner.end_time_unix_nano,
        outer.end_time_unix_nano,
    ];
    assert!(instants.is_sorted(), "a child lies within its parent: {instants:?}");
    tidegate.stop().await;
}

#[tokio::test]
async fn a_refused_call_names_its_rules_and_values_are_told_if_they_may_be() {
    let collector = Collector::start().await;
    let tidegate = launch(&collector).setting("TIDEGATE_TRACING_DESCRIPTOR_VALUES", "true").start().await;
    let asked = RateLimitRequest {
        descriptors: vec![descriptor(&[("path", "/cart")]), descriptor(&[("user", "ann")]), descriptor(&[("x", "y")])],
        hits_addend: 3,
        ..user("ann")
    };
    assert_eq!(call(&tidegate, asked, &[]).await, Code::Ok);
    let server = collector.span(SERVER).await;
    let keys = ["tidegate.code", "tidegate.over_limit_rules", "tidegate.descriptor_count", "tidegate.descriptors"];
    assert_eq!(attributes(&server, &keys), ["OVER_LIMIT", "carts,user", "3", "path=/cart,user=ann,x=y"]);
    assert_eq!(server.span.status, None, "to refuse is no error");
    assert_eq!(server.span.parent_span_id, b"", "its trace begins here");
}

#[tokio::test]
async fn what_the_caller_does_not_record_is_not_recorded() {
    let collector = Collector::start().await;
    let tidegate = launch(&collector).start().await;
    let b3 = format!("{TRACE}-{SPAN}-0");
    let several = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "0")];
    for headers in [&[("traceparent", &*traceparent("00"))][..], &[("b3", &b3)], &[("b3", "0")], &several] {
        assert_eq!(call(&tidegate, user("ann"), headers).await, Code::Ok);
    }
    let spans = recorded(&tidegate, &collector, 'a').await;
    assert_eq!(spans.len(), 2, "those of the last call alone: {spans:?}");
}

#[tokio::test]
async fn both_forms_of_b3_name_the_parent() {
    let collector = Collector::start().await;
    let tidegate = launch(&collector).setting("TRACING_SAMPLING_RATE", "0").start().await;
    let several = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")];
    let single = format!("{SPAN}-{SPAN}-d");
    for (headers, trace) in [(&several[..], TRACE.to_owned()), (&[("b3", &*single)], format!("{:0>32}", SPAN))] {
        assert_eq!(call(&tidegate, user("ann"), headers).await, Code::Ok);
        let is_ours = |taken: &Taken| taken.is(SERVER) && hex(&taken.span.trace_id) == trace;
        let spans = collector.spans_with("the span", is_ours).await;
        let span = &spans.iter().find(|taken| is_ours(taken)).unwrap().span;
        assert_eq!(hex(&span.parent_span_id), SPAN, "{headers:?}");
    }
}

#[tokio::test]
async fn of_the_traces_that_begin_here_a_share_is_recorded() {
    let collector = Collector::start().await;
    let none = launch(&collector).setting("TRACING_SAMPLING_RATE", "0.0").start().await;
    for _ in 0..10 {
        assert_eq!(call(&none, request("shop", &[("x", "y")]), &[]).await, Code::Ok);
    }
    assert_eq!(recorded(&none, &collector, 'b').await.len(), 2, "those of the last call alone");
    none.stop().await;

    let all = launch(&collector).setting("TRACING_SAMPLING_RATE", "1.0").start().await;
    for _ in 0..10 {
        // No counter is asked for what no rule limits.
        assert_eq!(call(&all, request("shop", &[("x", "y")]), &[]).await, Code::Ok);
    }
    let roots = |spans: &[Taken]| spans.iter().filter(|taken| taken.span.parent_span_id.is_empty()).count();
    eventually("all are recorded", PATIENCE, async || (roots(&collector.spans()) == 10).then_some(())).await;
    assert_eq!(collector.spans().len(), 12);
    assert!(!all.log().contains("WARN"), "{}", all.log());
}

#[tokio::test]
async fn a_request_in_json_is_a_span_too() {
    let collector = Collector::start().await;
    let tidegate = launch(&collector).start().await;
    let question = r#"{"domain": "shop", "descriptors": [{"entries": [{"key": "path", "value": "/cart"}]}]}"#;
    for expected in [200, 429] {
        let request = http::Request::post("/json").header("traceparent", traceparent("01"));
        let answer = tidegate.http().send(request.body(question.into()).unwrap()).await.unwrap();
        assert_eq!(answer.status.as_u16(), expected);
    }
    let is_refused = |taken: &Taken| taken.attribute("http.response.status_code").as_deref() == Some("429");
    let spans = collector.spans_with("the refusal", is_refused).await;
    let refused = spans.iter().find(|taken| is_refused(taken)).unwrap();
    assert_eq!((refused.span.name.as_str(), refused.span.kind()), ("POST /json", SpanKind::Server));
    assert_eq!((hex(&refused.span.trace_id).as_str(), hex(&refused.span.parent_span_id).as_str()), (TRACE, SPAN));
    let keys = ["http.request.method", "http.route", "tidegate.code", "tidegate.over_limit_rules"];
    assert_eq!(attributes(refused, &keys), ["POST", "/json", "OVER_LIMIT", "carts"]);
}

#[tokio::test]
async fn what_went_wrong_is_told_on_the_span() {
    let collector = Collector::start().await;
    let tidegate = launch(&collector).start().await;
    assert_eq!(call(&tidegate, request("", &[("user", "ann")]), &[]).await, Code::Unknown);
    let server = collector.span(SERVER).await;
    assert_eq!(attributes(&server, &["error.type", "rpc.grpc.status_code"]), ["invalid_request", "2"]);
    let status = server.span.status.unwrap();
    assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "rate limit domain must not be empty"));

    let unreadable = [("grpc-encoding", "gzip"), ("b3", &*format!("{TRACE}-{SPAN}-1"))];
    assert_eq!(
        call(&tidegate, user("ann"), &unreadable).await,
        Code::Unimplemented,
        "it goes by the generated service"
    );
    let is_unread = |taken: &Taken| taken.attribute("error.type").as_deref() == Some("request_not_read");
    let spans = collector.spans_with("the unreadable call", is_unread).await;
    let unread = spans.iter().find(|taken| is_unread(taken)).unwrap();
    assert_eq!(
        (hex(&unread.span.trace_id).as_str(), unread.attribute("rpc.grpc.status_code").as_deref()),
        (TRACE, Some("12"))
    );
}

#[tokio::test]
async fn a_store_that_does_not_answer_and_a_caller_that_goes_are_told() {
    let Some(redis) = Redis::start().await else { return };
    let (collector, relay) = (Collector::start().await, Relay::to(&redis).await);
    let tidegate = launch(&collector)
        .setting("REDIS_URL", format!("127.0.0.1:{}", relay.port()))
        .setting("TIDEGATE_STORE_DEADLINE", "10s")
        .setting("TIDEGATE_STORE_REDIS_RESPONSE_TIMEOUT", "1m")
        .start()
        .await;
    let is_ok = async || (call(&tidegate, user("first"), &[]).await == Code::Ok).then_some(());
    eventually("Redis is reached", PATIENCE, is_ok).await;
    let is_redis = |taken: &Taken| taken.is(STORE) && taken.attribute("error.type").is_none();
    let spans = collector.spans_with("a span of Redis", is_redis).await;
    let store = spans.iter().find(|taken| is_redis(taken)).unwrap();
    assert_eq!(attributes(store, &["tidegate.store", "db.system.name"]), ["redis", "redis"]);
    assert_eq!(store.span.kind(), SpanKind::Client);

    relay.hold();
    let mut gone = tidegate.grpc();
    {
        let mut calling = Box::pin(gone.should_rate_limit(user("gone")));
        // It is on its way when Redis has made it; then nobody waits for it any more.
        let before = redis.script_calls().await;
        let on_its_way = async {
            eventually("the call has reached Redis", PATIENCE, async || {
                (redis.script_calls().await > before).then_some(())
            })
            .await;
        };
        tokio::select! {
            answer = &mut calling => panic!("Redis is held back, but there is {answer:?}"),
            () = on_its_way => {}
        }
    }
    let is_cancelled =
        |taken: &Taken| taken.is(SERVER) && taken.attribute("error.type").as_deref() == Some("cancelled");
    let spans = collector.spans_with("the cancelled call", is_cancelled).await;
    let cancelled = spans.iter().find(|taken| is_cancelled(taken)).unwrap();
    assert_eq!(cancelled.attribute("rpc.grpc.status_code").as_deref(), Some("1"));
    assert_eq!(cancelled.span.status.as_ref().map(|status| status.code()), Some(StatusCode::Error));

    let is_late =
        |taken: &Taken| taken.is(STORE) && taken.attribute("error.type").as_deref() == Some("deadline_exceeded");
    // On a machine that is held up the caller may be the first to give up, and then the call was cancelled.
    let spans = eventually("a call's counters are late", PATIENCE, async || {
        let mut late = Request::new(user("late"));
        late.set_timeout(std::time::Duration::from_millis(300));
        assert!(tidegate.grpc().should_rate_limit(late).await.is_err());
        Some(collector.spans()).filter(|spans| spans.iter().any(is_late))
    })
    .await;
    let parent = &spans.iter().find(|taken| is_late(taken)).unwrap().span.parent_span_id;
    let server = spans.iter().find(|taken| taken.span.span_id == *parent).expect("both are exported together");
    assert_eq!(server.attribute("error.type").as_deref(), Some("deadline_exceeded"));
}
