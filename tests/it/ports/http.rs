//! The HTTP port, line by line as section 6.1 of the reference's behaviour has it, and 5.4 for its health check.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::support::client::{Answer, Http};
use crate::support::redis::Redis;
use crate::support::tidegate::{Launch, Tidegate};

const RULES: &str = "\
domain: shop
descriptors:
  - { key: user, rate_limit: { unit: hour, requests_per_unit: 3 } }
  - { key: blocked, rate_limit: { unit: hour, requests_per_unit: 0 } }
";

/// One line: what is sent, and what must come.
struct Line {
    says: &'static str,
    method: Method,
    path: &'static str,
    body: &'static str,
    status: u16,
    content_type: Option<&'static str>,
    answer: Body,
}

enum Body {
    Text(&'static str),
    Json(Value),
    Any,
}

const JSON: Option<&str> = Some("application/json");
const TEXT: Option<&str> = Some("text/plain; charset=utf-8");
const BAD: Body = Body::Text("Bad Request\n");

fn question(says: &'static str, body: &'static str, status: u16, answer: Value) -> Line {
    Line { says, method: Method::POST, path: "/json", body, status, content_type: JSON, answer: Body::Json(answer) }
}

fn refused(says: &'static str, body: &'static str) -> Line {
    Line { says, method: Method::POST, path: "/json", body, status: 400, content_type: TEXT, answer: BAD }
}

fn got(says: &'static str, method: Method, path: &'static str, status: u16, answer: Body) -> Line {
    Line { says, method, path, body: "", status, content_type: None, answer }
}

async fn sent(http: Http, method: Method, path: &str, body: &'static str) -> Answer {
    let request = Request::builder().method(method).uri(path).body(Bytes::from_static(body.as_bytes())).unwrap();
    http.send(request).await.unwrap()
}

async fn hold(tidegate: &Tidegate, lines: Vec<Line>) {
    for Line { says, method, path, body, status, content_type, answer } in lines {
        let came = sent(tidegate.http(), method, path, body).await;
        assert_eq!(came.status.as_u16(), status, "{says}: {came:?}");
        if let Some(content_type) = content_type {
            assert_eq!(came.header("content-type"), content_type, "{says}");
        }
        match answer {
            Body::Text(text) => assert_eq!(came.text(), text, "{says}"),
            Body::Json(expected) => assert_eq!(without_times(came.json()), expected, "{says}"),
            Body::Any => {}
        }
    }
}

/// The answer, its durations checked to be such as `"20s"` and left out.
fn without_times(mut answer: Value) -> Value {
    for status in answer["statuses"].as_array_mut().into_iter().flatten() {
        if let Some(reset) = status.as_object_mut().unwrap().remove("durationUntilReset") {
            let seconds = reset.as_str().and_then(|text| text.strip_suffix('s'));
            assert!(seconds.is_some_and(|seconds| seconds.parse::<f64>().is_ok()), "{reset}");
        }
    }
    answer
}

fn allowed(remaining: u32) -> Value {
    let limit = json!({ "requestsPerUnit": 3, "unit": "HOUR" });
    let mut status = json!({ "code": "OK", "currentLimit": limit });
    if remaining > 0 {
        status["limitRemaining"] = json!(remaining);
    }
    json!({ "overallCode": "OK", "statuses": [status] })
}

#[tokio::test]
async fn json_answers_as_the_reference_does() {
    let tidegate = Launch::new(&[("rules.yaml", RULES)]).start().await;
    let over = json!({ "overallCode": "OVER_LIMIT", "statuses": [
        { "code": "OVER_LIMIT", "currentLimit": { "requestsPerUnit": 3, "unit": "HOUR" } }] });
    let unmatched = json!({ "overallCode": "OK", "statuses": [{ "code": "OK" }] });
    let lines = vec![
        question(
            "an allowed call, names in lowerCamelCase",
            r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"a"}]}],"hitsAddend":1}"#,
            200,
            allowed(2),
        ),
        question(
            "original names, hits of a descriptor as text",
            r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"a"}],"hits_addend":"1"}]}"#,
            200,
            allowed(1),
        ),
        question(
            "hits of a descriptor as a number, and a remaining of 0 left out",
            r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"a"}],"hitsAddend":1}]}"#,
            200,
            allowed(0),
        ),
        question(
            "over the limit is 429",
            r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"a"}]}]}"#,
            429,
            over,
        ),
        question(
            "an unmatched call",
            r#"{"domain":"shop","descriptors":[{"entries":[{"key":"other","value":"a"}]}]}"#,
            200,
            unmatched.clone(),
        ),
        question(
            "an unknown domain",
            r#"{"domain":"unknown","descriptors":[{"entries":[{"key":"user","value":"a"}]}]}"#,
            200,
            unmatched,
        ),
        question(
            "an override's unit by name",
            r#"{"domain":"shop","descriptors":[{"entries":[{"key":"o","value":"a"}],"limit":{"requestsPerUnit":3,"unit":"HOUR"}}]}"#,
            200,
            allowed(2),
        ),
        question(
            "an override's unit by number",
            r#"{"domain":"shop","descriptors":[{"entries":[{"key":"o","value":"a"}],"limit":{"requestsPerUnit":3,"unit":3}}]}"#,
            200,
            allowed(1),
        ),
        refused("nothing", ""),
        refused("no JSON", "{"),
        refused("an unknown field", r#"{"domain":"shop","nonsense":1}"#),
        refused("an empty domain is a service error", r#"{"domain":"","descriptors":[{"entries":[{"key":"a"}]}]}"#),
        refused("no descriptors is a service error", r#"{"domain":"shop"}"#),
    ];
    hold(&tidegate, lines).await;
}

#[tokio::test]
async fn any_method_asks_json_and_the_health_check_and_other_paths_are_not_there() {
    let tidegate = Launch::new(&[("rules.yaml", RULES)]).start().await;
    let body = r#"{"domain":"shop","descriptors":[{"entries":[{"key":"other","value":"a"}]}]}"#;
    let mut lines = Vec::new();
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        lines.push(Line {
            says: "a call by any method",
            method: method.clone(),
            path: "/json",
            body,
            status: 200,
            content_type: JSON,
            answer: Body::Any,
        });
        lines.push(got("health by any method", method.clone(), "/healthcheck", 200, Body::Text("OK")));
        for path in ["/", "/json/", "/healthcheck/", "/rlconfig", "/stats", "/debug/pprof/"] {
            lines.push(got("another path", method.clone(), path, 404, Body::Any));
        }
    }
    lines.push(got("a HEAD has no body", Method::HEAD, "/healthcheck", 200, Body::Text("")));
    lines.push(got("a HEAD asks with nothing", Method::HEAD, "/json", 400, Body::Text("")));
    lines.push(got("metrics are read", Method::GET, "/metrics", 200, Body::Any));
    lines.push(got("metrics have a head", Method::HEAD, "/metrics", 200, Body::Text("")));
    lines.push(got("and nothing else", Method::POST, "/metrics", 405, Body::Any));
    hold(&tidegate, lines).await;
}

#[tokio::test]
async fn a_store_that_is_away_is_a_bad_request_and_no_bad_health() {
    let Some(mut redis) = Redis::start().await else { return };
    let tidegate = Tidegate::serving(&redis, &[("rules.yaml", RULES)]).await;
    redis.stop();
    let body = r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"a"}]}]}"#;
    let health = got("Redis lost after the start does not show", Method::GET, "/healthcheck", 200, Body::Text("OK"));
    hold(&tidegate, vec![refused("Redis is away", body), health]).await;
}

#[tokio::test]
async fn a_process_that_waits_for_redis_is_not_healthy_and_says_nothing() {
    let Some(redis) = Redis::stopped() else { return };
    let tidegate = Launch::new(&[("rules.yaml", RULES)]).redis(&redis).start().await;
    let line = got("unhealthy", Method::GET, "/healthcheck", 500, Body::Text(""));
    hold(&tidegate, vec![line]).await;
}

#[tokio::test]
async fn headers_of_the_decision_are_in_the_body_alone() {
    let launch = Launch::new(&[("rules.yaml", RULES)]).setting("LIMIT_RESPONSE_HEADERS_ENABLED", true);
    let tidegate = launch.start().await;
    let body = json!({ "domain": "shop", "descriptors": [{ "entries": [{ "key": "user", "value": "a" }] }] });
    let answer = tidegate.json(&body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.json()["responseHeadersToAdd"].as_array().is_some_and(|headers| headers.len() == 3), "{answer:?}");
    assert!(answer.headers.keys().all(|name| !name.as_str().contains("limit")), "{answer:?}");
}

/// The reference crashes there.
#[tokio::test]
async fn an_override_of_an_unknown_unit_gets_an_answer_and_ends_nothing() {
    let tidegate = Launch::new(&[("rules.yaml", RULES)]).start().await;
    let body = json!({ "domain": "shop", "descriptors": [
        { "entries": [{ "key": "user", "value": "a" }], "limit": { "requestsPerUnit": 1, "unit": 99 } }] });
    assert!([200, 400].contains(&tidegate.json(&body).await.status.as_u16()));
    assert_eq!(tidegate.http().get("/healthcheck").await.status, StatusCode::OK);
}
