//! The rate limit filter: what the service is asked, and what is made of its answers.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tidegate::demo::ports::HeldPort;
use tidegate::proto::envoy::config::core::v3::HeaderValue;
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit, rate_limit::Unit,
};

use super::config::{bootstrap, cluster, formatting_descriptors, http2, listener, of_type, rate_limit, route, with};
use super::recorder::Recorder;
use super::stage::{Places, same};
use super::subject::Kind;
use crate::support::tidegate::Launch;
use crate::support::{PATIENCE, eventually};

pub(super) fn limited(prefix: &str, rate_limits: &Value) -> Value {
    with(route(prefix, "up"), &json!({ "route": { "rate_limits": rate_limits } }))
}

pub(super) fn generic(value: &str) -> Value {
    json!([{ "actions": [{ "generic_key": { "descriptor_value": value } }] }])
}

fn config(places: &Places<'_>, service: std::net::SocketAddr, filter: &Value, routes: &[Value]) -> Value {
    let config = bootstrap(
        &[listener("main", places.folder, &[rate_limit(filter)], routes)],
        &[cluster("up", &[places.upstream]), http2(cluster("service", &[service])), cluster("dead", &[places.nobody])],
    );
    // A setting that nothing in a file needs is a mistake in it.
    let is_formatted = |route: &Value| {
        let text = route.to_string();
        // Of remote_address_match it is always a format.
        text.contains("\"descriptor_value\":\"%") && !text.contains("remote_address_match")
    };
    let has_formats = routes.iter().any(is_formatted);
    if has_formats { formatting_descriptors(config) } else { config }
}

#[tokio::test]
async fn tidegate_refuses_what_is_over_the_limit() {
    let rules = "domain: shop\ndescriptors:\n  - key: generic_key\n    value: all\n    rate_limit: { unit: hour, requests_per_unit: 2 }\n";
    // Each proxy has a Tidegate of its own, so that both begin with a full budget.
    let tidegate =
        [Launch::new(&[("rules.yaml", rules)]).start().await, Launch::new(&[("rules.yaml", rules)]).start().await];
    let next = std::sync::atomic::AtomicUsize::new(0);
    let config = |places: &Places<'_>| {
        let service = tidegate[next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)].grpc_address();
        let filter = json!({ "enable_x_ratelimit_headers": "DRAFT_VERSION_03", "enable_retry_after_header": true,
            "failure_mode_deny": true,
            "response_headers_to_add": [{ "header": { "key": "x-added", "value": "by the filter" } }] });
        config(places, service, &filter, &[limited("/", &generic("all"))])
    };
    same(config, async |stage| {
        for _ in 0..4 {
            stage.get("/hello").await;
        }
        let grpc = Request::post("/hello").header("content-type", "application/grpc").body(Bytes::new()).unwrap();
        stage.ask("main", grpc).await;
        let head = Request::head("/hello").body(Bytes::new()).unwrap();
        stage.ask("main", head).await;
    })
    .await;
}

/// Plays on both proxies with a recorder each, and compares what the recorders were asked, too.
pub(super) async fn same_questions(
    filter: Value,
    routes: Vec<Value>,
    prepare: impl Fn(&Recorder),
    play: impl AsyncFn(&mut super::stage::Stage),
    calls: usize,
) {
    same_questions_of(|places, service| config(places, service, &filter, &routes), prepare, play, calls).await;
}

/// The same with a bootstrap of one's own, which is told where the recorder is.
pub(super) async fn same_questions_of(
    config: impl Fn(&Places<'_>, std::net::SocketAddr) -> Value,
    prepare: impl Fn(&Recorder),
    play: impl AsyncFn(&mut super::stage::Stage),
    calls: usize,
) {
    let recorders = [Recorder::start().await, Recorder::start().await];
    recorders.iter().for_each(&prepare);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let config = |places: &Places<'_>| {
        config(places, recorders[next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)].address())
    };
    same(config, async |stage| {
        let recorder = &recorders[usize::from(stage.subject.kind == Kind::Ours)];
        play(stage).await;
        let mut asked = eventually("the service was asked", PATIENCE, async || {
            let asked = recorder.asked();
            (asked.len() >= calls).then_some(asked)
        })
        .await;
        // A call at the end of a stream may come after the next one's first.
        asked.sort();
        for question in asked {
            stage.note(format!("asked: {question}"));
        }
    })
    .await;
}

#[tokio::test]
async fn every_action_describes_alike() {
    let one = |action: Value| json!([{ "actions": [action] }]);
    let header = |name: &str| json!({ "request_headers": { "header_name": name, "descriptor_key": "header" } });
    let actions = [
        json!({ "source_cluster": {} }),
        json!({ "destination_cluster": {} }),
        header(":path"),
        header(":method"),
        header(":authority"),
        header("x-tenant"),
        json!({ "remote_address": {} }),
        json!({ "masked_remote_address": { "v4_prefix_mask_len": 16 } }),
        json!({ "generic_key": { "descriptor_value": "fixed", "descriptor_key": "own" } }),
        json!({ "generic_key": { "descriptor_value": "%REQ(x-tenant)%-%REQ(:METHOD)%" } }),
        json!({ "generic_key": { "descriptor_value": "%REQ(x-absent)%", "default_value": "nobody" } }),
        json!({ "header_value_match": { "descriptor_value": "matched", "headers":
            [{ "name": "x-tenant", "string_match": { "prefix": "a" } }] } }),
        json!({ "header_value_match": { "descriptor_value": "not matched", "expect_match": false, "headers":
            [{ "name": "x-absent", "present_match": true }] } }),
        json!({ "query_parameters": { "query_parameter_name": "q", "descriptor_key": "query" } }),
        json!({ "query_parameter_value_match": { "descriptor_value": "asked", "query_parameters":
            [{ "name": "q", "string_match": { "exact": "a b" } }] } }),
        json!({ "metadata": { "descriptor_key": "meta", "source": "ROUTE_ENTRY",
            "metadata_key": { "key": "shop", "path": [{ "key": "tier" }] } } }),
        json!({ "metadata": { "descriptor_key": "meta", "default_value": "none",
            "metadata_key": { "key": "absent", "path": [{ "key": "tier" }] } } }),
    ];
    let mut routes: Vec<Value> = actions
        .iter()
        .enumerate()
        .map(|(index, action)| limited(&format!("/{index}-"), &one(action.clone())))
        .collect();
    routes[15]["metadata"] = json!({ "filter_metadata": { "shop": { "tier": "gold" } } });
    routes.push(limited("/skip", &json!([
        { "actions": [{ "request_headers": { "header_name": "x-absent", "descriptor_key": "header", "skip_if_absent": true } }] },
        { "actions": [{ "generic_key": { "descriptor_value": "stays" } },
            { "request_headers": { "header_name": "x-absent", "descriptor_key": "header", "skip_if_absent": true } }] },
        { "actions": [{ "generic_key": { "descriptor_value": "goes" } }, header("x-absent")] },
    ])));
    routes.push(limited(
        "/stage",
        &json!([
            { "stage": 1, "actions": [{ "generic_key": { "descriptor_value": "other stage" } }] },
            { "actions": [{ "generic_key": { "descriptor_value": "this stage" } }] },
        ]),
    ));
    let count = routes.len();
    same_questions(
        json!({}),
        routes,
        |_| {},
        async |stage| {
            for index in 0..17 {
                let uri = format!("/{index}-/hello?q=a%20b&q=c");
                let request = Request::get(uri).header("x-tenant", "acme").header("x-tenant", "second");
                stage.ask("main", request.body(Bytes::new()).unwrap()).await;
            }
            stage.get("/skip/hello").await;
            stage.get("/stage/hello").await;
        },
        count,
    )
    .await;
}

#[tokio::test]
async fn hits_overrides_and_the_end_of_the_stream() {
    let key = |value: &str| json!([{ "generic_key": { "descriptor_value": value } }]);
    let per_route = |prefix: &str, limits: &Value| {
        let settings =
            of_type("filters.http.ratelimit.v3.RateLimitPerRoute", &json!({ "domain": "own", "rate_limits": limits }));
        with(route(prefix, "up"), &json!({ "typed_per_filter_config": { "envoy.filters.http.ratelimit": settings } }))
    };
    let routes = vec![
        limited(
            "/override",
            &json!([{ "actions": key("o"), "limit":
            { "rate_limit": { "requests_per_unit": 42, "unit": "HOUR" } } }]),
        ),
        per_route(
            "/hits",
            &json!([
                { "actions": key("number"), "hits_addend": { "number": 0 } },
                { "actions": key("header"), "hits_addend": { "format": "%REQ(x-hits)%" } },
                { "actions": key("absent"), "hits_addend": { "format": "%REQ(x-absent)%" } },
            ]),
        ),
        limited(
            "/end",
            &json!([
                { "actions": key("begin") },
                { "actions": key("%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"), "apply_on_stream_done": true },
            ]),
        ),
        per_route(
            "/cost",
            &json!([
                { "actions": key("cost"), "hits_addend": { "format": "%RESP(x-cost)%" }, "apply_on_stream_done": true },
            ]),
        ),
        with(
            limited(
                "/end-dead",
                &json!([
                    { "actions": key("%RESPONSE_CODE% %RESPONSE_FLAGS%"), "apply_on_stream_done": true },
                ]),
            ),
            &json!({ "route": { "cluster": "dead" } }),
        ),
    ];
    same_questions(
        json!({ "rate_limit_service": { "grpc_service": { "initial_metadata": [{ "key": "x-own", "value": "%REQ(:PATH)%" }] } } }),
        routes,
        |_| {},
        async |stage| {
            stage.get("/override").await;
            let hits = Request::get("/hits").header("x-hits", "7").body(Bytes::new()).unwrap();
            stage.ask("main", hits).await;
            stage.get("/end/503").await;
            stage.get("/cost/cost").await;
        },
        5,
    )
    .await;
}

fn status(code: Code, requests: u32, remaining: u32, unit: Unit, seconds: i64) -> DescriptorStatus {
    DescriptorStatus {
        code: code.into(),
        current_limit: Some(RateLimit { requests_per_unit: requests, unit: unit.into(), ..RateLimit::default() }),
        limit_remaining: remaining,
        duration_until_reset: Some(pbjson_types::Duration { seconds, nanos: 999_000_000 }),
    }
}

fn header(key: &str, value: &str) -> HeaderValue {
    HeaderValue { key: key.to_owned(), value: value.to_owned(), ..HeaderValue::default() }
}

fn answers() -> Vec<RateLimitResponse> {
    let answer = |code: Code| RateLimitResponse { overall_code: code.into(), ..RateLimitResponse::default() };
    let headers = |answer: RateLimitResponse| RateLimitResponse {
        response_headers_to_add: vec![header("x-added", "by the service"), header("x-from", "service")],
        request_headers_to_add: vec![header("x-tenant", "from the service")],
        ..answer
    };
    vec![
        answer(Code::Unknown),
        headers(answer(Code::Ok)),
        headers(RateLimitResponse { raw_body: b"try later".to_vec(), ..answer(Code::OverLimit) }),
        RateLimitResponse {
            statuses: vec![
                status(Code::OverLimit, 100, 10, Unit::Hour, 30),
                status(Code::Ok, 10, 3, Unit::Minute, 7),
                DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() },
            ],
            ..answer(Code::OverLimit)
        },
        RateLimitResponse { statuses: vec![status(Code::Ok, 5, 5, Unit::Unknown, 0)], ..answer(Code::Ok) },
    ]
}

#[tokio::test]
async fn answers_of_the_service_have_the_same_effect() {
    for answer in answers() {
        same_questions(
            json!({ "enable_x_ratelimit_headers": "DRAFT_VERSION_03", "enable_retry_after_header": true }),
            vec![limited("/", &generic("all"))],
            |recorder| recorder.answer_with(answer.clone()),
            async |stage| {
                stage.get("/hello").await;
                let head = stage.upstream.heads().last().cloned().unwrap_or_default();
                let tenant = head.lines().find(|line| line.starts_with("x-tenant")).unwrap_or("no tenant").to_owned();
                stage.note(tenant);
            },
            1,
        )
        .await;
    }
}

#[tokio::test]
async fn what_is_over_the_limit_gets_the_status_that_was_asked_for() {
    for (code, resource_exhausted) in [("ServiceUnavailable", false), ("TooManyRequests", true), ("OK", false)] {
        same_questions(
            json!({ "rate_limited_status": { "code": code },
                "rate_limited_as_resource_exhausted": resource_exhausted }),
            vec![limited("/", &generic("all"))],
            |recorder| {
                recorder.answer_with(RateLimitResponse {
                    overall_code: Code::OverLimit.into(),
                    ..RateLimitResponse::default()
                });
            },
            async |stage| {
                stage.get("/hello").await;
                let grpc = Request::post("/hello").header("content-type", "application/grpc");
                stage.ask("main", grpc.body(Bytes::new()).unwrap()).await;
            },
            2,
        )
        .await;
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_lets_pass_or_refuses() {
    for filter in [
        json!({}),
        json!({ "failure_mode_deny": true }),
        json!({ "failure_mode_deny": true, "status_on_error": { "code": "ServiceUnavailable" } }),
    ] {
        let config = |places: &Places<'_>| {
            config(
                places,
                places.nobody,
                &filter,
                &[
                    json!({ "match": { "prefix": "/direct" }, "direct_response": { "status": 200 } }),
                    limited("/limited", &generic("all")),
                    route("/", "up"),
                ],
            )
        };
        same(config, async |stage| {
            for path in ["/limited/hello", "/limited/hello", "/hello", "/direct"] {
                stage.get(path).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up() {
    for deny in [false, true] {
        same_questions(
            json!({ "timeout": "0.2s", "failure_mode_deny": deny }),
            vec![limited("/", &generic("all"))],
            Recorder::never_answer,
            async |stage| {
                stage.get("/hello").await;
            },
            1,
        )
        .await;
    }
}

#[tokio::test]
async fn a_service_that_comes_back_is_asked_again() {
    let rules = "domain: shop\ndescriptors:\n  - key: generic_key\n    value: all\n    rate_limit: { unit: hour, requests_per_unit: 900 }\n";
    let port = HeldPort::any().unwrap();
    let address = port.address();
    let launch = || Launch::new(&[("rules.yaml", rules)]).setting("TIDEGATE_GRPC_PORT", address.port());
    let mut tidegate = launch().start().await;
    let config = |places: &Places<'_>| {
        config(places, address, &json!({ "failure_mode_deny": true }), &[limited("/", &generic("all"))])
    };
    let Some(mut stage) = super::stage::Stage::start(Kind::Ours, config).await else { return };
    assert_eq!(stage.get("/hello").await, 200);
    tidegate.process().kill();
    stage.until("/hello", 500).await;
    let _again = launch().start().await;
    stage.until("/hello", 200).await;
}
