//! Every row of what a real Envoy was seen to send, with the rate limits written as a bootstrap has them.

use std::time::UNIX_EPOCH;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::proxy::access_log::ResponseFlags;
use crate::proxy::bootstrap;
use crate::proxy::bootstrap::model::Metadata;
use crate::proxy::request::RequestHead;

/// The rate limits of a filter, read from a whole bootstrap.
fn limits(rate_limits: &Value, with_formats: bool) -> Vec<RateLimit> {
    let name = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    let flag = "envoy.reloadable_features.enable_formatter_for_ratelimit_action_descriptor_value";
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster_header": "to", "rate_limits": [
        { "actions": [{ "generic_key": { "descriptor_value": "so that the flag is read" } }] },
    ] } });
    let filters = json!([
        { "name": "limit", "typed_config": {
            "@type": name("http.ratelimit.v3.RateLimit"),
            "domain": "shop",
            "rate_limits": rate_limits,
            "rate_limit_service": {
                "transport_api_version": "V3", "grpc_service": { "envoy_grpc": { "cluster_name": "limits" } },
            },
        } },
        { "name": "router", "typed_config": { "@type": name("http.router.v3.Router") } },
    ]);
    let text = json!({
        "layered_runtime": { "layers": [{ "name": "static", "static_layer": { flag: with_formats } }] },
        "static_resources": { "listeners": [{ "address": address, "filter_chains": [{ "filters": [{
            "name": "http",
            "typed_config": {
                "@type": name("network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "p",
                "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
                "http_filters": filters,
            },
        }] }] }] },
    });
    let bootstrap = bootstrap::read(&text.to_string(), "test").unwrap_or_else(|errors| panic!("{errors}"));
    let FilterConfig::RateLimit(filter) = &bootstrap.listeners[0].http.http_filters[0].config else {
        panic!("a rate limit filter")
    };
    filter.rate_limits.clone()
}

/// A request with two values of `x-user`, dynamic metadata and a query.
fn with_request<T>(check: impl FnOnce(Described<'_>) -> T) -> T {
    let mut headers = HeaderMap::new();
    for (name, value) in [("x-user", "ann"), ("x-user", "bob"), ("x-empty", ""), ("x-hits", "7")] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let metadata: Metadata = serde_json::from_value(json!({ "space": {
        "text": "gold", "number": 5, "empty": "", "deep": { "key": "inside" }, "hits": 12.0,
        "limit": { "requests_per_unit": 42, "unit": "HOUR" },
        "week": { "requests_per_unit": 42, "unit": "WEEK" },
        "no_unit": { "requests_per_unit": 42 },
    } }))
    .unwrap();
    let route: Metadata = serde_json::from_value(json!({ "space": { "text": "of the route" } })).unwrap();
    let cluster: Metadata = serde_json::from_value(json!({ "space": { "text": "of the cluster" } })).unwrap();
    let flags = ResponseFlags::default();
    let head = RequestHead {
        method: "GET",
        scheme: "http",
        authority: "shop",
        path: "/cart?a=b%20c&a=second&e=",
        headers: &headers,
    };
    let record = Record {
        request: Some(head),
        downstream_remote_address: Some("10.1.2.3:4000".parse().unwrap()),
        route_metadata: Some(&route),
        cluster_metadata: Some(&cluster),
        ..Record::new(UNIX_EPOCH, &flags, &metadata)
    };
    check(Described { record: &record, node_cluster: "edge", routed_cluster: "up" })
}

fn described(rate_limit: Value, with_formats: bool) -> Vec<Descriptor> {
    let limits = limits(&json!([rate_limit]), with_formats);
    with_request(|request| describe(&limits, 0, Moment::Request, request, 0))
}

/// The entries of the only descriptor of these actions as `key=value` texts; `None` if it is dropped.
fn entries(actions: Value, with_formats: bool) -> Option<String> {
    let descriptor = described(json!({ "actions": actions }), with_formats).into_iter().next()?;
    let entries = descriptor.entries.iter().map(|(key, value)| format!("{key}={value}"));
    Some(entries.collect::<Vec<_>>().join(" "))
}

#[test]
fn each_action_makes_the_entry_that_envoy_sends() {
    let range = |address: &str, length: u8| json!({ "address_prefix": address, "prefix_len": length });
    let address_match = |ranges: Value, invert: bool| {
        json!({ "remote_address_match": {
            "descriptor_value": "%REQ(x-user)%!", "address_matcher": { "ranges": ranges, "invert_match": invert },
        } })
    };
    let metadata = |key: &str, more: Value| {
        let mut action = json!({
            "descriptor_key": "m", "metadata_key": { "key": "space", "path": [{ "key": key }] },
        });
        action.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "metadata": action })
    };
    let header_match = |matcher: Value, expect: bool| json!({ "header_value_match": { "descriptor_value": "v", "expect_match": expect, "headers": [matcher] } });
    let query_match = |value: &str, expect: bool| {
        json!({ "query_parameter_value_match": { "descriptor_value": "v", "expect_match": expect, "query_parameters": [
            { "name": "a", "string_match": { "exact": value } },
        ] } })
    };
    for (action, entry) in [
        (json!({ "source_cluster": {} }), Some("source_cluster=edge")),
        (json!({ "destination_cluster": {} }), Some("destination_cluster=up")),
        (json!({ "request_headers": { "header_name": "X-User", "descriptor_key": "user" } }), Some("user=ann")),
        (
            json!({ "request_headers": { "header_name": ":path", "descriptor_key": "path" } }),
            Some("path=/cart?a=b%20c&a=second&e="),
        ),
        (json!({ "request_headers": { "header_name": ":method", "descriptor_key": "m" } }), Some("m=GET")),
        (json!({ "request_headers": { "header_name": "x-empty", "descriptor_key": "e" } }), Some("e=")),
        (json!({ "request_headers": { "header_name": "none", "descriptor_key": "n" } }), None),
        (
            json!({ "request_headers": { "header_name": "none", "descriptor_key": "n", "skip_if_absent": true } }),
            Some(""),
        ),
        (json!({ "query_parameters": { "query_parameter_name": "a", "descriptor_key": "q" } }), Some("q=b c")),
        (json!({ "query_parameters": { "query_parameter_name": "e", "descriptor_key": "q" } }), Some("q=")),
        (json!({ "query_parameters": { "query_parameter_name": "z", "descriptor_key": "q" } }), None),
        (json!({ "remote_address": {} }), Some("remote_address=10.1.2.3")),
        (json!({ "masked_remote_address": {} }), Some("masked_remote_address=10.1.2.3/32")),
        (json!({ "masked_remote_address": { "v4_prefix_mask_len": 16 } }), Some("masked_remote_address=10.1.0.0/16")),
        (json!({ "masked_remote_address": { "v4_prefix_mask_len": 0 } }), Some("masked_remote_address=0.0.0.0/0")),
        (json!({ "generic_key": { "descriptor_value": "a" } }), Some("generic_key=a")),
        (json!({ "generic_key": { "descriptor_value": "%REQ(x)%", "descriptor_key": "k" } }), Some("k=%REQ(x)%")),
        (header_match(json!({ "name": "x-user", "string_match": { "exact": "bob" } }), true), Some("header_match=v")),
        (header_match(json!({ "name": "none" }), true), None),
        (header_match(json!({ "name": "none" }), false), Some("header_match=v")),
        (query_match("b c", true), Some("query_match=v")),
        (query_match("b%20c", true), None),
        (query_match("b%20c", false), Some("query_match=v")),
        (metadata("text", json!({})), Some("m=gold")),
        (metadata("text", json!({ "source": "ROUTE_ENTRY" })), Some("m=of the route")),
        (metadata("text", json!({ "source": "CLUSTER_ENTRY" })), Some("m=of the cluster")),
        (metadata("number", json!({})), None),
        (metadata("empty", json!({})), None),
        (metadata("none", json!({ "skip_if_absent": true })), Some("")),
        (metadata("none", json!({ "default_value": "silver" })), Some("m=silver")),
        (
            json!({ "metadata": { "descriptor_key": "m", "metadata_key": {
                "key": "space", "path": [{ "key": "deep" }, { "key": "key" }],
            } } }),
            Some("m=inside"),
        ),
        (address_match(json!([range("10.1.0.0", 16)]), false), Some("remote_address_match=ann!")),
        (address_match(json!([range("10.2.0.0", 16), range("::", 0)]), false), None),
        (address_match(json!([range("10.2.0.0", 16)]), true), Some("remote_address_match=ann!")),
    ] {
        assert_eq!(entries(json!([action]), false).as_deref(), entry, "{action}");
    }
}

#[test]
fn one_action_without_anything_to_say_drops_the_descriptor_or_is_skipped() {
    let key = json!({ "generic_key": { "descriptor_value": "a" } });
    let header = |skip: bool| json!({ "request_headers": { "header_name": "none", "descriptor_key": "n", "skip_if_absent": skip } });
    assert_eq!(entries(json!([key, header(false)]), false), None);
    assert_eq!(entries(json!([header(true), key]), false).as_deref(), Some("generic_key=a"));
}

#[test]
fn values_are_formats_where_the_runtime_says_so() {
    let key = |value: &str, default: &str| json!([{ "generic_key": { "descriptor_value": value, "default_value": default } }]);
    for (value, default, entry) in [
        ("%REQ(x-user)%/%REQ(none)%", "", Some("generic_key=ann/")),
        ("%REQ(none)%", "nobody", Some("generic_key=nobody")),
        ("%REQ(none)%", "", None),
        ("%RESPONSE_FLAGS%", "", Some("generic_key=-")),
    ] {
        assert_eq!(entries(key(value, default), true).as_deref(), entry, "{value}");
    }
}

#[test]
fn hits_are_whole_numbers_in_bounds_or_the_descriptor_is_dropped() {
    let hits = |addend: Value| {
        let limit = json!({ "hits_addend": addend, "actions": [{ "remote_address": {} }] });
        described(limit, false).first().map(|descriptor| (descriptor.hits_addend, descriptor.is_negative_hits))
    };
    assert_eq!(hits(json!({ "number": 0 })), Some((Some(0), false)));
    assert_eq!(hits(json!({ "number": 3, "is_negative_hits": true })), Some((Some(3), true)));
    assert_eq!(hits(json!({ "format": "%REQ(x-hits)%" })), Some((Some(7), false)));
    assert_eq!(hits(json!({ "format": "%DYNAMIC_METADATA(space:hits)%" })), Some((Some(12), false)));
    assert_eq!(hits(json!({ "format": "%BYTES_RECEIVED%" })), Some((Some(0), false)));
    assert_eq!(hits(json!({ "format": "%REQ(none)%" })), None);
    assert_eq!(hits(json!({ "format": "%REQ(x-user)%" })), None);
    let header = |text: &str| {
        let headers: HeaderMap =
            [(HeaderName::from_static("x-hits"), HeaderValue::from_str(text).unwrap())].into_iter().collect();
        let (flags, metadata) = (ResponseFlags::default(), Metadata::new());
        let head = RequestHead { method: "GET", scheme: "http", authority: "", path: "/", headers: &headers };
        let record = Record { request: Some(head), ..Record::new(UNIX_EPOCH, &flags, &metadata) };
        let format = crate::proxy::access_log::Format::parse("%REQ(x-hits)%").unwrap();
        hits::read(&bootstrap::model::Hits::Format(format), &record)
    };
    for (text, hits) in [
        ("1.5", Some(1)),
        ("007", Some(7)),
        ("1000000000", Some(1_000_000_000)),
        ("1000000001", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("ten", None),
    ] {
        assert_eq!(header(text), hits, "{text}");
    }
}

#[test]
fn a_limit_goes_along_if_it_can_be_read() {
    let limit = |limit: Value| {
        let limit = json!({ "limit": limit, "actions": [{ "remote_address": {} }] });
        described(limit, false).first().expect("the descriptor is sent anyway").limit
    };
    let metadata = |key: &str| {
        limit(json!({ "dynamic_metadata": { "metadata_key": { "key": "space", "path": [{ "key": key }] } } }))
    };
    assert_eq!(metadata("limit"), Some((42, RateLimitUnit::Hour)));
    assert_eq!(metadata("week"), None);
    assert_eq!(metadata("no_unit"), None);
    assert_eq!(metadata("text"), None);
    assert_eq!(metadata("none"), None);
    let fixed = limit(json!({ "rate_limit": { "requests_per_unit": 5, "unit": "MINUTE" } }));
    assert_eq!(fixed, Some((5, RateLimitUnit::Minute)));
}

#[test]
fn stage_moment_and_disable_key_choose_rate_limits() {
    let key = |name: &str| json!([{ "generic_key": { "descriptor_value": name } }]);
    let limits =
        limits(&json!([{ "actions": key("now") }, { "actions": key("later"), "apply_on_stream_done": true }]), false);
    let of_route = |stage: u32, limit: &RateLimit| RateLimit { stage: Some(stage), ..limit.clone() };
    let staged = [of_route(0, &limits[0]), of_route(0, &limits[1]), of_route(1, &limits[0]), of_route(1, &limits[0])];
    let count = |stage, moment| with_request(|request| describe(&staged, stage, moment, request, 0).len());
    assert_eq!([0, 1, 2].map(|stage| count(stage, Moment::Request)), [1, 2, 0]);
    assert_eq!([0, 1, 2].map(|stage| count(stage, Moment::StreamDone)), [1, 0, 0]);
    let values = |stage: u32, moment: Moment| {
        let descriptors = with_request(|request| describe(&limits, stage, moment, request, 0));
        descriptors.into_iter().map(|descriptor| descriptor.entries[0].1.clone()).collect::<Vec<_>>()
    };
    assert_eq!(values(0, Moment::Request), ["now"]);
    assert_eq!(values(0, Moment::StreamDone), ["later"]);
    assert_eq!(values(7, Moment::Request), ["now"], "a filter's own rate limits have no stage");
    let half = RateLimit { enabled: bootstrap::model::FractionalPercent::of(50, 100), ..limits[0].clone() };
    let count = |random| with_request(|request| describe([&half], 0, Moment::Request, request, random).len());
    assert_eq!((count(499_999), count(500_000)), (1, 0));
}

#[test]
fn a_descriptor_on_the_wire_says_all_of_it() {
    let limit = json!({
        "actions": [{ "remote_address": {} }],
        "limit": { "rate_limit": { "requests_per_unit": 5, "unit": "YEAR" } },
        "hits_addend": { "number": 0 },
    });
    let descriptors = described(limit, false);
    let wire = RateLimitDescriptor::from(&descriptors[0]);
    assert_eq!((&*wire.entries[0].key, &*wire.entries[0].value), ("remote_address", "10.1.2.3"));
    let limit = wire.limit.unwrap();
    assert_eq!((limit.requests_per_unit, limit.unit), (5, 6));
    assert_eq!(wire.hits_addend.map(|hits| hits.value), Some(0), "a present 0");
}

proptest! {
    #[test]
    fn an_address_is_in_its_own_network_and_in_no_longer_prefix_of_another(bits: u32, other: u32, length in 0..=32_u8) {
        let address = |bits: u32| std::net::IpAddr::V4(std::net::Ipv4Addr::from_bits(bits));
        let range = bootstrap::model::AddressRange { address: address(bits), prefix_length: length };
        let same = length == 0 || bits >> (32 - length) == other >> (32 - length);
        prop_assert_eq!(range.contains(address(other)), same);
    }
}
