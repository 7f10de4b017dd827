//! Local rate limits: buckets of the filter, of routes and of descriptors.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::config::{bootstrap, cluster, filter, http, listener, of_type, route, with};
use super::limits::limited;
use super::stage::{Places, Stage, same};

const LOCAL: &str = "filters.http.local_ratelimit.v3.LocalRateLimit";
const NAME: &str = "envoy.filters.http.local_ratelimit";

fn per_route(prefix: &str, settings: &Value) -> Value {
    with(route(prefix, "up"), &json!({ "typed_per_filter_config": { NAME: of_type(LOCAL, settings) } }))
}

/// A limit of all requests, without a bucket.
fn enforced(stat_prefix: &str) -> Value {
    let all = json!({ "default_value": { "numerator": 100 } });
    json!({ "stat_prefix": stat_prefix, "filter_enabled": all, "filter_enforced": all })
}

/// A bucket that nothing flows into while a test takes.
fn tokens_of(tokens: u32) -> Value {
    json!({ "max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "3600s" })
}

/// A descriptor of one entry, with a bucket of its own; without a value it is open.
fn descriptor(key: &str, value: Option<&str>, tokens: u32) -> Value {
    let entry = value.map_or(json!({ "key": key }), |value| json!({ "key": key, "value": value }));
    json!({ "entries": [entry], "token_bucket": tokens_of(tokens) })
}

/// What describes a request by a header.
fn by(header: &str) -> Value {
    json!({ "actions": [{ "request_headers": { "header_name": header, "descriptor_key": header } }] })
}

/// A request with those headers, written as `a=1 b=2`, to a path.
async fn ask(stage: &mut Stage, listener: &str, path: &str, headers: &str) {
    let mut request = Request::get(path);
    for (name, value) in headers.split_whitespace().filter_map(|header| header.split_once('=')) {
        request = request.header(name, value);
    }
    stage.note(headers);
    stage.ask(listener, request.body(Bytes::new()).unwrap()).await;
}

/// A filter with descriptors, the routes before it, and requests by path and headers.
struct Scenario {
    name: &'static str,
    filter: Value,
    /// Of the virtual host.
    rate_limits: Value,
    routes: Vec<Value>,
    requests: &'static [(&'static str, &'static str)],
}

/// Plays all scenarios, each on a listener of its own.
async fn same_scenarios(scenarios: Vec<Scenario>) {
    let config = |places: &Places<'_>| {
        let listeners: Vec<Value> = scenarios
            .iter()
            .map(|Scenario { name, filter: settings, rate_limits, routes, .. }| {
                let told = json!({ "enable_x_ratelimit_headers": "DRAFT_VERSION_03" });
                let settings = with(with(enforced(name), &told), settings);
                let mut listener = listener(name, places.folder, &[filter(NAME, LOCAL, &settings)], routes);
                http(&mut listener)["route_config"]["virtual_hosts"][0]["rate_limits"] = rate_limits.clone();
                listener
            })
            .collect();
        bootstrap(&listeners, &[cluster("up", &[places.upstream])])
    };
    same(config, async |stage| {
        for scenario in &scenarios {
            for (path, headers) in scenario.requests {
                ask(stage, scenario.name, path, headers).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn descriptors_have_buckets_of_their_own() {
    let scenario = |name, filter, rate_limits, requests| Scenario {
        name,
        filter,
        rate_limits: json!([]),
        routes: vec![limited("/", &rate_limits)],
        requests,
    };
    same_scenarios(vec![
        scenario(
            "besides-the-default",
            json!({ "token_bucket": tokens_of(4), "descriptors": [descriptor("a", Some("1"), 2)] }),
            json!([by("a")]),
            &[("/", "a=1"), ("/", "a=1"), ("/", "a=1"), ("/", "a=2"), ("/", ""), ("/", "")],
        ),
        scenario(
            "instead-of-the-default",
            json!({ "token_bucket": tokens_of(2), "always_consume_default_token_bucket": false,
                "descriptors": [descriptor("a", Some("1"), 2)] }),
            json!([by("a")]),
            &[("/", "a=1"), ("/", "a=1"), ("/", "a=1"), ("/", ""), ("/", ""), ("/", "")],
        ),
        scenario(
            "without-a-default",
            json!({ "descriptors": [descriptor("a", Some("1"), 1)] }),
            json!([by("a")]),
            &[("/", "a=1"), ("/", "a=1"), ("/", "")],
        ),
        scenario(
            "two-at-once",
            json!({ "token_bucket": tokens_of(50),
                "descriptors": [descriptor("a", Some("1"), 3), descriptor("b", Some("1"), 1)] }),
            json!([by("a"), by("b")]),
            &[("/", "a=1 b=1"), ("/", "a=1 b=1"), ("/", "a=1 b=1"), ("/", "a=1"), ("/", "a=1"), ("/", "a=1")],
        ),
        scenario(
            "twice-the-same",
            json!({ "token_bucket": tokens_of(50), "descriptors": [descriptor("a", Some("1"), 5)] }),
            json!([by("a"), by("a")]),
            &[("/", "a=1"), ("/", "a=1"), ("/", "a=1")],
        ),
        scenario(
            "open-values",
            json!({ "token_bucket": tokens_of(50), "max_dynamic_descriptors": 2,
                "descriptors": [descriptor("a", None, 1), descriptor("a", Some("own"), 2)] }),
            json!([by("a")]),
            &[
                ("/", "a=1"),
                ("/", "a=1"),
                ("/", "a=2"),
                ("/", "a=1"),
                ("/", "a=3"),
                ("/", "a=1"),
                ("/", "a=2"),
                ("/", "a=own"),
                ("/", "a=own"),
                ("/", "a=own"),
            ],
        ),
        scenario(
            "shadow",
            json!({ "token_bucket": tokens_of(4), "descriptors": [
                with(descriptor("a", Some("1"), 1), &json!({ "shadow_mode": true })),
                descriptor("b", Some("1"), 2),
            ] }),
            json!([by("a"), by("b")]),
            &[("/", "a=1 b=1"), ("/", "a=1 b=1"), ("/", "a=1 b=1"), ("/", "a=1"), ("/", "a=1"), ("/", "a=1")],
        ),
    ])
    .await;
}

#[tokio::test]
async fn rate_limits_of_the_filter_and_of_routes_describe_as_in_envoy() {
    let one = || json!({ "token_bucket": tokens_of(50), "descriptors": [descriptor("a", Some("1"), 1)] });
    let direct = || json!({ "match": { "prefix": "/direct" }, "direct_response": { "status": 200 } });
    let in_filter = |name, rate_limit: Value, requests| Scenario {
        name,
        filter: with(
            with(one(), &json!({ "descriptors": [descriptor("a", Some("1"), 5)] })),
            &json!({ "rate_limits": [rate_limit] }),
        ),
        rate_limits: json!([]),
        routes: vec![limited("/routed", &json!([by("b")])), direct()],
        requests,
    };
    let in_route = |name, filter: Value, rate_limit: Value| Scenario {
        name,
        filter: with(one(), &filter),
        rate_limits: json!([]),
        routes: vec![direct(), limited("/", &json!([rate_limit]))],
        requests: &[("/", "a=1"), ("/", "a=1"), ("/direct", "a=1")],
    };
    let with_option = |option: &str| with(by("a"), &json!({ "x_ratelimit_option": option }));
    same_scenarios(vec![
        in_filter("filter", by("a"), &[("/routed", "a=1"), ("/direct", "a=1"), ("/nowhere", "a=1")]),
        in_filter(
            "filter-hits",
            with(by("a"), &json!({ "hits_addend": { "format": "%REQ(hits)%" } })),
            &[
                ("/routed", "a=1 hits=2"),
                ("/routed", "a=1 hits=0"),
                ("/routed", "a=1 hits=4"),
                ("/routed", "a=1 hits=3"),
                ("/routed", "a=1 hits=x"),
                ("/routed", "a=1 hits=1"),
            ],
        ),
        in_filter(
            "filter-gives-back",
            with(by("a"), &json!({ "hits_addend": { "number": 2, "is_negative_hits": true } })),
            &[("/routed", "a=1"), ("/routed", "a=1")],
        ),
        in_filter(
            "filter-at-end",
            with(by("a"), &json!({ "apply_on_stream_done": true })),
            &[("/routed", "a=1"), ("/routed", "a=1")],
        ),
        in_filter("filter-off", with_option("OFF"), &[("/routed", "a=1"), ("/routed", "b=1")]),
        in_route("route", json!({}), by("a")),
        in_route("route-at-end", json!({}), with(by("a"), &json!({ "apply_on_stream_done": true }))),
        in_route("route-named", json!({}), with(by("a"), &json!({ "disable_key": "key" }))),
        in_route("route-stage", json!({ "stage": 2 }), with(by("a"), &json!({ "stage": 2 }))),
        in_route("route-other-stage", json!({ "stage": 2 }), by("a")),
        in_route("route-off", json!({}), with_option("OFF")),
        in_route("route-on", json!({ "enable_x_ratelimit_headers": "OFF" }), with_option("DRAFT_VERSION_03")),
        in_route(
            "route-override",
            json!({}),
            with(by("a"), &json!({ "limit": { "rate_limit": { "requests_per_unit": 9, "unit": "DAY" } } })),
        ),
    ])
    .await;
}

#[tokio::test]
async fn rate_limits_of_a_virtual_host_go_instead_of_a_routes_besides_them_or_not_at_all() {
    let scenario = |(name, option): (&'static str, Option<&str>)| Scenario {
        name,
        filter: with(
            json!({ "token_bucket": tokens_of(50),
                "descriptors": [descriptor("a", Some("1"), 3), descriptor("b", Some("1"), 2)] }),
            &option.map_or(json!({}), |option| json!({ "vh_rate_limits": option })),
        ),
        rate_limits: json!([by("a")]),
        routes: vec![
            limited("/limited", &json!([by("b")])),
            with(limited("/included", &json!([by("b")])), &json!({ "route": { "include_vh_rate_limits": true } })),
            route("/", "up"),
        ],
        // Which bucket speaks, and how much is left in it, says who counted.
        requests: &[
            ("/limited", "a=1"),
            ("/limited", "b=1"),
            ("/bare", "a=1"),
            ("/included", "a=1"),
            ("/included", "b=1"),
            ("/limited", "a=1 b=1"),
            ("/bare", "a=1"),
            ("/bare", "a=1"),
            ("/limited", "a=1"),
        ],
    };
    let options = [
        ("host-unsaid", None),
        ("host-instead", Some("OVERRIDE")),
        ("host-besides", Some("INCLUDE")),
        ("host-ignored", Some("IGNORE")),
    ];
    same_scenarios(options.into_iter().map(scenario).collect()).await;
}

#[tokio::test]
async fn each_of_two_filters_says_what_it_has_left() {
    let config = |places: &Places<'_>| {
        let told = json!({ "enable_x_ratelimit_headers": "DRAFT_VERSION_03" });
        let one = |name: &str, header: &str, tokens: u32| {
            let own = json!({ "token_bucket": tokens_of(50), "rate_limits": [by(header)],
                "descriptors": [descriptor(header, Some("1"), tokens)] });
            filter(name, LOCAL, &with(with(enforced(name), &told), &own))
        };
        let filters = [one("first", "a", 3), one("second", "b", 2)];
        bootstrap(
            &[listener("main", places.folder, &filters, &[route("/", "up")])],
            &[cluster("up", &[places.upstream])],
        )
    };
    same(config, async |stage| {
        for headers in ["a=1 b=1", "a=1", "b=1", "", "a=1 b=1", "a=1 b=1"] {
            ask(stage, "main", "/hello", headers).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_route_has_descriptors_of_its_own() {
    let config = |places: &Places<'_>| {
        let more = json!({ "token_bucket": tokens_of(9), "rate_limits": [by("a")],
            "descriptors": [descriptor("a", None, 1)], "enable_x_ratelimit_headers": "DRAFT_VERSION_03" });
        let routes = [per_route("/own", &with(enforced("own"), &more)), route("/", "up")];
        let filters = [filter(NAME, LOCAL, &enforced("none"))];
        bootstrap(&[listener("main", places.folder, &filters, &routes)], &[cluster("up", &[places.upstream])])
    };
    same(config, async |stage| {
        for path in ["/own/hello", "/own/hello", "/hello", "/hello"] {
            ask(stage, "main", path, "a=1").await;
        }
        ask(stage, "main", "/own/hello", "a=2").await;
    })
    .await;
}

#[tokio::test]
async fn local_limits_refuse_what_has_no_token() {
    let bucket =
        |tokens: u32| with(enforced(&format!("bucket{tokens}")), &json!({ "token_bucket": tokens_of(tokens) }));
    let config = |places: &Places<'_>| {
        let added = json!({ "response_headers_to_add": [{ "header": { "key": "x-added", "value": "limited" } }] });
        let routes = [
            per_route("/own", &with(bucket(1), &with(added, &json!({ "status": { "code": "ServiceUnavailable" } })))),
            per_route("/off", &with(bucket(3), &json!({ "filter_enforced": { "default_value": { "numerator": 0 } } }))),
            route("/", "up"),
        ];
        let filters = [filter(NAME, LOCAL, &bucket(2))];
        bootstrap(&[listener("main", places.folder, &filters, &routes)], &[cluster("up", &[places.upstream])])
    };
    same(config, async |stage| {
        for path in ["/hello", "/hello", "/hello", "/own/hello", "/own/hello"] {
            stage.get(path).await;
        }
        for _ in 0..5 {
            stage.get("/off/hello").await;
        }
    })
    .await;
}
