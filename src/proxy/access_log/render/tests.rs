//! What each operator prints of a record, known and unknown.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::proxy::access_log::{JsonFormat, Protocol, ResponseFlag, ResponseFlags};
use crate::proxy::request::RequestHead;

/// 2024-02-29 23:59:59.5 UTC.
fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_709_251_199_500)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
}

/// Prints a request that was answered by an upstream, and one of which nothing is known.
fn print(format: &str) -> (String, String) {
    let format = Format::parse(format).unwrap();
    let request_headers = headers(&[("user-agent", "curl/8"), ("x-forwarded-for", "1.2.3.4"), ("x-long", "abcdef")]);
    let response_headers = headers(&[("x-envoy-upstream-service-time", "7")]);
    let trailers = headers(&[("grpc-status", "0")]);
    let mut flags = ResponseFlags::default();
    flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
    flags.set(ResponseFlag::UpstreamRequestTimeout);
    let metadata: Metadata = serde_json::from_value(json!({
        "space": { "text": "a b", "whole": 5.0, "half": 0.5, "deep": { "key": true }, "nothing": null },
    }))
    .unwrap();
    let known = Record {
        request: Some(RequestHead {
            method: "GET",
            scheme: "http",
            authority: "shop",
            path: "/a?b=c",
            headers: &request_headers,
        }),
        response_headers: Some(&response_headers),
        response_trailers: Some(&trailers),
        protocol: Some(Protocol::Http11),
        response_code: Some(504),
        response_code_details: Some("upstream response timeout"),
        bytes_received: 12,
        bytes_sent: 24,
        duration: Some(Duration::from_micros(12_999)),
        request_duration: Some(Duration::ZERO),
        response_duration: Some(Duration::from_millis(5)),
        response_tx_duration: Some(Duration::from_millis(6)),
        upstream_host: Some("[::1]:80".parse().unwrap()),
        upstream_local_address: Some("[::1]:4000".parse().unwrap()),
        upstream_cluster: Some("inventory"),
        upstream_transport_failure_reason: Some("connection refused"),
        upstream_request_attempt_count: 2,
        downstream_remote_address: Some("1.2.3.4:5".parse().unwrap()),
        route_name: Some(""),
        route_metadata: Some(&metadata),
        connection_id: Some(3),
        ..Record::new(start(), &flags, &metadata)
    };
    let (no_flags, no_metadata) = (ResponseFlags::default(), Metadata::new());
    let unknown = Record::new(start(), &no_flags, &no_metadata);
    (format.render_text(&known), format.render_text(&unknown))
}

#[test]
fn every_operator_prints_what_is_known_and_a_dash_for_what_is_not() {
    for (format, known, unknown) in [
        ("%RESPONSE_CODE%", "504", "0"),
        ("%RESPONSE_CODE_DETAILS%", "upstream_response_timeout", "-"),
        ("%RESPONSE_FLAGS%", "URX,UT", "-"),
        ("%RESPONSE_FLAGS_LONG%", "UpstreamRetryLimitExceeded,UpstreamRequestTimeout", "-"),
        ("%PROTOCOL%", "HTTP/1.1", "-"),
        ("%BYTES_RECEIVED% %BYTES_SENT%", "12 24", "0 0"),
        ("%DURATION%", "12", "-"),
        ("%REQUEST_DURATION% %REQUEST_TX_DURATION%", "0 -", "- -"),
        ("%RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "5 6", "- -"),
        ("%UPSTREAM_HOST%", "[::1]:80", "-"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%", "::1 80", "- -"),
        ("%UPSTREAM_CLUSTER%", "inventory", "-"),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "connection_refused", "-"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "2", "0"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "1.2.3.4:5", "-"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%", "1.2.3.4 5", "- -"),
        ("%DOWNSTREAM_LOCAL_ADDRESS%", "-", "-"),
        ("%ROUTE_NAME%", "-", "-"),
        ("%REQUESTED_SERVER_NAME% %VIRTUAL_CLUSTER_NAME%", "- -", "- -"),
        ("%CONNECTION_ID%", "3", "-"),
        ("%START_TIME%", "2024-02-29T23:59:59.500Z", "2024-02-29T23:59:59.500Z"),
        ("%START_TIME(%s)%", "1709251199", "1709251199"),
        ("%REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)% %REQ(HOST)%", "GET /a?b=c shop shop", "- - - -"),
        ("%REQ(X-LONG):3% %REQ(X-LONG):0%|%REQ(NONE):3%", "abc |-", "- -|-"),
        ("%REQ(NONE?X-LONG)% %REQ(X-LONG?NONE)%", "abcdef abcdef", "- -"),
        ("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "7", "-"),
        ("%TRAILER(GRPC-STATUS)%", "0", "-"),
        ("%DYNAMIC_METADATA(space:text)%", "a b", "-"),
        ("%DYNAMIC_METADATA(space:whole)% %DYNAMIC_METADATA(space:half)%", "5 0.5", "- -"),
        ("%DYNAMIC_METADATA(space:deep)% %DYNAMIC_METADATA(space:deep:key)%", r#"{"key":true} true"#, "- -"),
        ("%DYNAMIC_METADATA(space:nothing)% %DYNAMIC_METADATA(space:text:x)%", "- -", "- -"),
        ("%METADATA(ROUTE:space:text):1% %CLUSTER_METADATA(space)%", "a -", "- -"),
        ("%%%RESPONSE_CODE%%%", "%504%", "%0%"),
    ] {
        assert_eq!(print(format), (known.to_owned(), unknown.to_owned()), "{format}");
    }
}

#[test]
fn the_default_line_is_envoys() {
    let (known, unknown) = print(super::super::DEFAULT_FORMAT);
    assert_eq!(
        known,
        "[2024-02-29T23:59:59.500Z] \"GET /a?b=c HTTP/1.1\" 504 URX,UT 12 24 12 7 \"1.2.3.4\" \"curl/8\" \"-\" \
         \"shop\" \"[::1]:80\"\n"
    );
    assert_eq!(unknown, "[2024-02-29T23:59:59.500Z] \"- - -\" 0 - 0 0 - - \"-\" \"-\" \"-\" \"-\" \"-\"\n");
}

#[test]
fn a_format_may_omit_what_is_missing_but_for_the_flags() {
    let format = Format::parse("%PROTOCOL%|%RESPONSE_FLAGS%|%RESPONSE_CODE%").unwrap().omit_empty_values(true);
    let (flags, metadata) = (ResponseFlags::default(), Metadata::new());
    assert_eq!(format.render_text(&Record::new(start(), &flags, &metadata)), "|-|0");
}

#[test]
fn an_object_keeps_the_types_of_single_operators() {
    let text = |text: &str| JsonFormat::Text(Format::parse(text).unwrap());
    let format = JsonFormat::Object(vec![
        ("z".to_owned(), text("%RESPONSE_CODE%")),
        ("a".to_owned(), text("%PROTOCOL%")),
        ("m".to_owned(), text("code %RESPONSE_CODE% %PROTOCOL%")),
        ("list".to_owned(), JsonFormat::List(vec![text("plain"), JsonFormat::Value(json!(1))])),
    ]);
    let (flags, metadata) = (ResponseFlags::default(), Metadata::new());
    let line = format.render_line(&Record::new(start(), &flags, &metadata));
    assert_eq!(String::from_utf8(line).unwrap(), "{\"a\":null,\"list\":[\"plain\",1],\"m\":\"code 0 -\",\"z\":0}\n");
}

#[test]
fn a_value_that_is_no_text_is_logged_as_it_came() {
    let headers: HeaderMap =
        [(http::header::USER_AGENT, HeaderValue::from_bytes(b"caf\xe9").unwrap())].into_iter().collect();
    let (flags, metadata) = (ResponseFlags::default(), Metadata::new());
    let request = RequestHead { method: "GET", scheme: "http", authority: "", path: "/", headers: &headers };
    let record = Record { request: Some(request), ..Record::new(start(), &flags, &metadata) };
    let format = Format::parse("%REQ(USER-AGENT)% %REQ(:AUTHORITY)%").unwrap();
    assert_eq!(format.render(&record), b"caf\xe9 -");
}

proptest! {
    #[test]
    fn no_header_makes_a_line_longer_than_its_length_says(value in "[ -~]{0,40}", length in 0..50_usize) {
        let headers: HeaderMap =
            [(http::header::USER_AGENT, HeaderValue::from_str(&value).unwrap())].into_iter().collect();
        let (flags, metadata) = (ResponseFlags::default(), Metadata::new());
        let request = RequestHead { method: "GET", scheme: "http", authority: "", path: "/", headers: &headers };
        let record = Record { request: Some(request), ..Record::new(start(), &flags, &metadata) };
        let format = Format::parse(&format!("%REQ(USER-AGENT):{length}%")).unwrap();
        prop_assert!(value.as_bytes().starts_with(&format.render(&record)));
        prop_assert!(format.render(&record).len() <= length);
    }
}
