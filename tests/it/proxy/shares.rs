//! For which requests the rate limit filter asks, and how often it acts on what it is told.
//!
//! Shares are none or all here: what lies between is chance, which a unit test of the share itself covers.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tidegate::proto::envoy::config::core::v3::HeaderValue;
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};

use super::config::{bootstrap, cluster, listener, rate_limit, route, with};
use super::limits::{generic, limited, same_questions};
use super::recorder::Recorder;
use super::stage::{Places, same};

fn share(percent: u32) -> Value {
    json!({ "default_value": { "numerator": percent } })
}

fn over_limit() -> RateLimitResponse {
    let header = |value: &str| HeaderValue { key: "x-added".into(), value: value.into(), ..HeaderValue::default() };
    let status = DescriptorStatus {
        code: Code::OverLimit.into(),
        duration_until_reset: Some(pbjson_types::Duration { seconds: 5, nanos: 0 }),
        ..DescriptorStatus::default()
    };
    RateLimitResponse {
        overall_code: Code::OverLimit.into(),
        statuses: vec![status],
        response_headers_to_add: vec![header("by the service")],
        raw_body: b"try later".to_vec(),
        ..RateLimitResponse::default()
    }
}

#[tokio::test]
async fn requests_from_outside_are_asked_for_as_the_request_type_says() {
    for (request_type, calls) in [("internal", 0), ("external", 4), ("both", 4), ("", 4)] {
        same_questions(
            json!({ "request_type": request_type }),
            vec![limited("/", &generic("all"))],
            |_| {},
            async |stage| {
                // Neither a header that only proxies may set nor a private address makes a client one from inside.
                for (name, value) in [
                    ("x-plain", "1"),
                    ("x-envoy-internal", "true"),
                    ("x-forwarded-for", "10.0.0.1"),
                    ("x-forwarded-for", "127.0.0.1"),
                ] {
                    let request = Request::get("/hello").header(name, value).body(Bytes::new()).unwrap();
                    stage.ask("main", request).await;
                }
            },
            calls,
        )
        .await;
    }
}

#[tokio::test]
async fn a_filter_that_is_enabled_for_no_request_asks_nothing() {
    for (filter, calls) in [(json!({ "filter_enabled": share(0) }), 0), (json!({ "filter_enabled": share(100) }), 1)] {
        same_questions(
            filter,
            vec![limited("/", &generic("all"))],
            |recorder| recorder.answer_with(over_limit()),
            async |stage| {
                stage.get("/hello").await;
            },
            calls,
        )
        .await;
    }
}

#[tokio::test]
async fn a_refusal_that_is_not_enforced_is_counted_and_passes() {
    for percent in [0, 100] {
        same_questions(
            json!({
                "filter_enforced": share(percent),
                "enable_retry_after_header": true,
                "response_headers_to_add": [{ "header": { "key": "x-cost", "value": "by the filter" } }],
            }),
            vec![limited("/", &generic("all"))],
            |recorder: &Recorder| recorder.answer_with(over_limit()),
            async |stage| {
                stage.get("/hello").await;
            },
            1,
        )
        .await;
    }
}

#[tokio::test]
async fn the_share_of_failures_that_refuse_goes_before_the_plain_setting() {
    for filter in [
        json!({ "failure_mode_deny": true, "failure_mode_deny_percent": share(0) }),
        json!({ "failure_mode_deny": false, "failure_mode_deny_percent": share(100) }),
        json!({ "failure_mode_deny_percent": share(100), "status_on_error": { "code": "ServiceUnavailable" } }),
    ] {
        let config = |places: &Places<'_>| {
            let routes = [with(route("/", "up"), &json!({ "route": { "rate_limits": generic("all") } }))];
            bootstrap(
                &[listener("main", places.folder, &[rate_limit(&filter)], &routes)],
                &[cluster("up", &[places.upstream]), super::config::http2(cluster("service", &[places.nobody]))],
            )
        };
        same(config, async |stage| {
            stage.get("/hello").await;
        })
        .await;
    }
}
