//! The rows: one for each end-to-end test of Envoy Gateway on global rate limits, under its name.

use http::StatusCode;
use serde_json::{Value, json};
use tidegate::proto::ratelimit::config::ratelimit::v3::RateLimitConfig;

use super::rules::{Rule, Selector, asked, resource, rule};
use crate::support::envoy::{listener, rate_limit_filter, route};

/// A test.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// What the rate limit service is told.
    pub(super) resources: Vec<RateLimitConfig>,
    /// What Envoy is told.
    pub(super) listeners: Vec<Value>,
    pub(super) steps: Vec<Step>,
}

/// What is done and expected.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// So many requests, each of which is answered so.
    Ask {
        listener: &'static str,
        method: &'static str,
        path: &'static str,
        headers: Vec<(&'static str, &'static str)>,
        times: u32,
        status: StatusCode,
        /// The literal `x-ratelimit-limit`, where it is looked at.
        limit: Option<&'static str>,
    },
    /// A request whose answer states no limit.
    NoHeaders { listener: &'static str, path: &'static str },
    /// As many requests as the first of them says are left; each is allowed.
    UseUp { listener: &'static str, path: &'static str },
    /// In the end so many are left in the counter at these keys, whose values are themselves.
    Left { domain: String, entries: Vec<String>, left: u32 },
    /// In the end a series of the row's domain with that label is above zero.
    Shown { series: &'static str },
}

const OK: StatusCode = StatusCode::OK;
const OVER: StatusCode = StatusCode::TOO_MANY_REQUESTS;

/// What all tests but a few state.
const THREE: Option<&str> = Some("3, 3;w=3600");

/// Where the tests' routes are.
const NAMESPACE: &str = "gateway-conformance-infra";

/// The domain of a listener's own rules.
fn own_domain(listener: &str) -> String {
    format!("{NAMESPACE}/same-namespace/{listener}")
}

/// The name of a route's rules.
fn route_key(route: &str) -> String {
    format!("httproute/{NAMESPACE}/{route}/rule/0/match/0/*")
}

/// A request, answered so. Its listener is the row's.
fn ask(
    listener: &'static str,
    path: &'static str,
    times: u32,
    status: StatusCode,
    limit: Option<&'static str>,
) -> Step {
    ask_with(listener, "GET", path, &[], times, status, limit)
}

fn ask_with(
    listener: &'static str,
    method: &'static str,
    path: &'static str,
    headers: &[(&'static str, &'static str)],
    times: u32,
    status: StatusCode,
    limit: Option<&'static str>,
) -> Step {
    Step::Ask { listener, method, path, headers: headers.to_vec(), times, status, limit }
}

/// A route with what is asked for it, by domain.
fn limited_route(prefix: &str, limits: &[(&str, Vec<Value>)]) -> Value {
    let mut route = route(prefix, &json!([]));
    let filter = |(domain, limits): &(&str, Vec<Value>)| {
        let per_route = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
            "domain": domain,
            "rate_limits": limits,
        });
        (format!("envoy.filters.http.ratelimit/{domain}"), per_route)
    };
    route["typed_per_filter_config"] = limits.iter().map(filter).collect();
    route
}

fn filter(domain: &str) -> Value {
    rate_limit_filter(domain, "ratelimit_cluster")
}

/// A row of one listener, one route for all paths, and rules of its own.
fn one_route(name: &'static str, rules: &[Rule], steps: Vec<Step>) -> Row {
    let (domain, key) = (own_domain(name), route_key(name));
    let numbered: Vec<(usize, Rule)> = rules.iter().cloned().enumerate().collect();
    let limits = numbered.iter().map(|(index, rule)| asked(&key, *index, rule)).collect();
    let route = limited_route("/", &[(&domain, limits)]);
    Row {
        name,
        resources: vec![resource(&domain, &[(&key, &numbered)])],
        listeners: vec![listener(name, vec![filter(&domain)], &[route])],
        steps,
    }
}

/// A row of two routes, `/foo` and `/bar`, which share the rules of one policy; `cost` is what a request costs.
fn shared(name: &'static str, rule: &Rule, cost: Option<u32>, steps: Vec<Step>) -> Row {
    let domain = format!("{NAMESPACE}/{name}");
    let key = format!("{domain}/rule/0");
    let mut limit = asked(&key, 0, rule);
    if let Some(cost) = cost {
        limit["hits_addend"] = json!({ "number": cost });
    }
    let routes = ["/foo", "/bar"].map(|prefix| limited_route(prefix, &[(&domain, vec![limit.clone()])]));
    Row {
        name,
        resources: vec![resource(&domain, &[(&key, &[(0, rule.clone())])])],
        listeners: vec![listener(name, vec![filter(&domain)], &routes)],
        steps,
    }
}

/// All rows.
pub(super) fn all() -> Vec<Row> {
    vec![
        cidr_match(),
        cidr_invert_match_always_enforce(),
        cidr_invert_always_exempt(),
        method_match(),
        path_match(),
        header_match("RateLimitHeaderMatch", THREE),
        header_invert_match(),
        headers_disabled(),
        based_jwt_claims(),
        multiple_listeners(),
        headers_and_cidr_match(),
        usage(),
        global_shared_cidr_match(),
        global_shared_gateway_header_match(),
        global_merge(),
        global_shadow_mode(),
        query_parameters(),
        global_shared_with_cost(),
    ]
}

fn cidr_match() -> Row {
    const NAME: &str = "RateLimitCIDRMatch";
    let series = r#"ratelimit_service_rate_limit_over_limit{key2="masked_remote_address_0_0_0_0/0"}"#;
    let steps = vec![ask(NAME, "/", 3, OK, THREE), ask(NAME, "/", 1, OVER, None), Step::Shown { series }];
    one_route(NAME, &[rule(&[Selector::Within("0.0.0.0", 0)], 3)], steps)
}

fn cidr_invert_match_always_enforce() -> Row {
    const NAME: &str = "RateLimitCIDRInvertMatchAlwaysEnforce";
    let series = r#"ratelimit_service_rate_limit_over_limit{key2="masked_remote_address_invert_192_0_2_0/24"}"#;
    let steps = vec![ask(NAME, "/", 3, OK, THREE), ask(NAME, "/", 1, OVER, None), Step::Shown { series }];
    one_route(NAME, &[rule(&[Selector::Without("192.0.2.0", 24)], 3)], steps)
}

fn cidr_invert_always_exempt() -> Row {
    const NAME: &str = "RateLimitCIDRInvertAlwaysExempt";
    let steps = vec![ask(NAME, "/", 5, OK, None), Step::NoHeaders { listener: NAME, path: "/" }];
    one_route(NAME, &[rule(&[Selector::Without("0.0.0.0", 0)], 3)], steps)
}

fn method_match() -> Row {
    const NAME: &str = "RateLimitMethodMatch";
    let ask = |method, times, status, limit| ask_with(NAME, method, "/get", &[], times, status, limit);
    let steps = vec![
        ask("POST", 3, OK, THREE),
        ask("POST", 1, OVER, None),
        ask("DELETE", 1, OVER, None),
        ask("GET", 4, OK, None),
    ];
    one_route(NAME, &[rule(&[Selector::Method("POST|DELETE")], 3)], steps)
}

fn path_match() -> Row {
    const NAME: &str = "RateLimitPathMatch";
    let steps = vec![
        ask(NAME, "/get/specific-path", 3, OK, THREE),
        ask(NAME, "/get/specific-path", 1, OVER, None),
        ask(NAME, "/get/specific-path/subpath", 1, OVER, None),
        ask(NAME, "/get/specific-path2", 1, OK, None),
        ask(NAME, "/get/no-specific-path", 4, OK, None),
    ];
    one_route(NAME, &[rule(&[Selector::Path("/get/specific-path([/?].*)?")], 3)], steps)
}

fn header_match(name: &'static str, limit: Option<&'static str>) -> Row {
    let both = [("x-user-id", "one"), ("x-user-org", "acme")];
    let steps = vec![
        ask_with(name, "GET", "/get", &both, 3, OK, limit),
        ask_with(name, "GET", "/get", &both, 1, OVER, None),
        ask_with(name, "GET", "/get", &both[..1], 4, OK, None),
    ];
    let selectors = both.map(|(header, value)| Selector::Header(header, value));
    one_route(name, &[rule(&selectors, 3)], steps)
}

fn header_invert_match() -> Row {
    const NAME: &str = "GlobalRateLimitHeaderInvertMatch";
    let ask =
        |user, times, status, limit| ask_with(NAME, "GET", "/get", &[("x-user-name", user)], times, status, limit);
    let steps = vec![ask("username", 3, OK, THREE), ask("username", 1, OVER, None), ask("admin", 4, OK, None)];
    let selectors = [Selector::EachHeader("x-user-name"), Selector::NotHeader("x-user-name", "admin")];
    one_route(NAME, &[rule(&selectors, 3)], steps)
}

fn headers_disabled() -> Row {
    const NAME: &str = "RateLimitHeadersDisabled";
    let mut row = header_match(NAME, None);
    let filters = &mut row.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
    filters[0]["typed_config"]["enable_x_ratelimit_headers"] = json!("OFF");
    row.steps.push(Step::NoHeaders { listener: NAME, path: "/get" });
    row
}

/// Envoy reads the token and puts the claim into a header, which a rule asks for.
fn based_jwt_claims() -> Row {
    const NAME: &str = "RateLimitBasedJwtClaims";
    // Tokens for two people and the key that they were signed with, made up for this test.
    let made: Value = serde_json::from_str(include_str!("../support/certificates/gateway/jwt.json")).unwrap();
    let token = |name: &str| -> &'static str { format!("Bearer {}", made[name].as_str().unwrap()).leak() };
    let ask = |token: &'static str, times, status, limit| {
        ask_with(NAME, "GET", "/foo", &[("authorization", token)], times, status, limit)
    };
    let (john, tom) = (token("john"), token("tom"));
    let none = ask_with(NAME, "GET", "/foo", &[], 1, StatusCode::UNAUTHORIZED, None);
    let steps = vec![ask(john, 3, OK, THREE), ask(john, 1, OVER, None), ask(tom, 4, OK, None), none];
    let mut row = one_route(NAME, &[rule(&[Selector::Header("x-claim-name", "John Doe")], 3)], steps);
    let reader = json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": { "example": {
                "local_jwks": { "inline_string": made["jwks"] },
                "claim_to_headers": [{ "header_name": "x-claim-name", "claim_name": "name" }],
            } },
            "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "example" } }],
        },
    });
    add_filter(&mut row, reader);
    row
}

fn add_filter(row: &mut Row, filter: Value) {
    let filters = &mut row.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
    filters.as_array_mut().expect("a listener has filters").insert(0, filter);
}

fn multiple_listeners() -> Row {
    const NAMES: [&str; 2] = ["http-80", "http-8080"];
    let rows = NAMES.map(|name| {
        let steps = vec![ask(name, "/", 3, OK, THREE), ask(name, "/", 1, OVER, None)];
        one_route(name, &[rule(&[Selector::Within("0.0.0.0", 0)], 3)], steps)
    });
    let mut both = Row { name: "RateLimitMultipleListeners", resources: vec![], listeners: vec![], steps: vec![] };
    for row in rows {
        both.resources.extend(row.resources);
        both.listeners.extend(row.listeners);
        both.steps.extend(row.steps);
    }
    both
}

fn headers_and_cidr_match() -> Row {
    const NAME: &str = "RateLimitHeadersAndCIDRMatch";
    let both = [("x-user-id", "one"), ("x-user-org", "acme")];
    let ask = |headers: &[_], times, status, limit| ask_with(NAME, "GET", "/get", headers, times, status, limit);
    let steps =
        vec![ask(&both, 3, OK, THREE), ask(&both, 1, OVER, None), ask(&both[..1], 4, OK, None), ask(&[], 4, OK, None)];
    let [id, org] = both.map(|(header, value)| Selector::Header(header, value));
    one_route(NAME, &[rule(&[id, org, Selector::Within("0.0.0.0", 0)], 3)], steps)
}

/// A request costs nothing and looks; its answer costs 10, whatever is left.
fn usage() -> Row {
    const NAME: &str = "UsageRateLimit";
    const LIMIT: Option<&str> = Some("21, 21;w=3600");
    let one = [("x-user-id", "one")];
    let ask = |status, limit| ask_with(NAME, "GET", "/get", &one, 1, status, limit);
    let left = |left| Step::Left {
        domain: own_domain(NAME),
        entries: vec![route_key(NAME), "rule-0-match-0".to_owned()],
        left,
    };
    let steps = vec![ask(OK, LIMIT), left(11), ask(OK, LIMIT), left(1), ask(OK, LIMIT), left(0), ask(OVER, None)];
    let mut row = one_route(NAME, &[rule(&[Selector::Header("x-user-id", "one")], 21)], steps);
    let config = &mut row.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"];
    let route = &mut config["route_config"]["virtual_hosts"][0]["routes"][0];
    let filter = format!("envoy.filters.http.ratelimit/{}", own_domain(NAME));
    let limits = &mut route["typed_per_filter_config"][filter]["rate_limits"];
    let (mut look, mut charge) = (limits[0].clone(), limits[0].clone());
    look["hits_addend"] = json!({ "number": 0 });
    charge["hits_addend"] = json!({ "format": "%DYNAMIC_METADATA(usage:cost)%" });
    charge["apply_on_stream_done"] = json!(true);
    *limits = json!([look, charge]);
    // In Envoy Gateway's test an external processor says what an answer cost.
    let metadata = json!({
        "name": "envoy.filters.http.set_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
            "metadata": [{ "metadata_namespace": "usage", "value": { "cost": 10 } }],
        },
    });
    add_filter(&mut row, metadata);
    row
}

fn global_shared_cidr_match() -> Row {
    const NAME: &str = "RateLimitGlobalSharedCidrMatch";
    let series = r#"ratelimit_service_rate_limit_over_limit{key2="masked_remote_address_0_0_0_0/0"}"#;
    let steps = vec![
        ask(NAME, "/foo", 2, OK, THREE),
        ask(NAME, "/bar", 1, OK, THREE),
        ask(NAME, "/bar", 1, OVER, None),
        Step::Shown { series },
    ];
    shared(NAME, &rule(&[Selector::Within("0.0.0.0", 0)], 3), None, steps)
}

fn global_shared_gateway_header_match() -> Row {
    const NAME: &str = "RateLimitGlobalSharedGatewayHeaderMatch";
    let ask = |path, times, status, limit| ask_with(NAME, "GET", path, &[("x-user-id", "one")], times, status, limit);
    let series = r#"ratelimit_service_rate_limit_over_limit{key2="rule-0-match-0_rule-0-match-0"}"#;
    let steps =
        vec![ask("/foo", 2, OK, THREE), ask("/bar", 1, OK, THREE), ask("/bar", 1, OVER, None), Step::Shown { series }];
    shared(NAME, &rule(&[Selector::Header("x-user-id", "one")], 3), None, steps)
}

/// Rules of two policies, shared and not, on two routes: a request makes a call for each domain.
fn global_merge() -> Row {
    const NAME: &str = "RateLimitGlobalMerge";
    let (own, of_route, of_gateway) =
        (own_domain(NAME), format!("{NAMESPACE}/route-policy"), format!("{NAMESPACE}/gateway-policy"));
    let user = |user| rule(&[Selector::Header("x-user-id", user)], 3);
    let own_rules = [(0, user("two")), (1, user("four"))];
    let (one, three, all) = (user("one"), user("three"), rule(&[], 100));
    let keys = ["header-ratelimit-1", "header-ratelimit-2"].map(route_key);
    let (route_rule, gateway_rules) =
        (format!("{of_route}/rule/0"), [0, 1].map(|index| format!("{of_gateway}/rule/{index}")));
    let resources = vec![
        resource(&own, &[(&keys[0], &own_rules), (&keys[1], &own_rules)]),
        resource(&of_route, &[(&route_rule, &[(0, one.clone())])]),
        resource(&of_gateway, &[(&gateway_rules[0], &[(0, three.clone())]), (&gateway_rules[1], &[(1, all.clone())])]),
    ];
    let routes: Vec<Value> = ["/foo", "/bar"]
        .iter()
        .zip(&keys)
        .map(|(prefix, key)| {
            let own_limits = own_rules.iter().map(|(index, rule)| asked(key, *index, rule)).collect();
            let of_gateway_limits = vec![asked(&gateway_rules[0], 0, &three), asked(&gateway_rules[1], 1, &all)];
            limited_route(
                prefix,
                &[(&own, own_limits), (&of_route, vec![asked(&route_rule, 0, &one)]), (&of_gateway, of_gateway_limits)],
            )
        })
        .collect();
    let filters = [&own, &of_route, &of_gateway].map(|domain| filter(domain)).to_vec();
    let ask = |user, path, times, status| ask_with(NAME, "GET", path, &[("x-user-id", user)], times, status, None);
    let mut steps = Vec::new();
    for user in ["one", "three"] {
        steps.extend([ask(user, "/bar", 2, OK), ask(user, "/foo", 1, OK), ask(user, "/foo", 1, OVER)]);
    }
    for user in ["two", "four"] {
        steps.extend(["/foo", "/bar"].into_iter().flat_map(|path| [ask(user, path, 3, OK), ask(user, path, 1, OVER)]));
    }
    let hundred = Some("100, 100;w=3600");
    steps.extend([
        self::ask(NAME, "/bar", 1, OK, hundred),
        Step::UseUp { listener: NAME, path: "/bar" },
        self::ask(NAME, "/bar", 1, OVER, None),
    ]);
    Row { name: NAME, resources, listeners: vec![listener(NAME, filters, &routes)], steps }
}

fn global_shadow_mode() -> Row {
    const NAME: &str = "RateLimitGlobalShadowMode";
    let shadow = Rule { shadow: true, ..rule(&[Selector::Method("GET")], 3) };
    one_route(NAME, &[shadow], vec![ask(NAME, "/shadow", 5, OK, THREE)])
}

fn query_parameters() -> Row {
    const NAME: &str = "RateLimitQueryParameters";
    let series = r#"ratelimit_service_rate_limit_over_limit{key2="rule-0-match-0"}"#;
    let steps = vec![
        ask(NAME, "/get?user=alice", 3, OK, THREE),
        ask(NAME, "/get?user=alice", 1, OVER, None),
        ask(NAME, "/get?name=bob", 4, OK, None),
        Step::Shown { series },
    ];
    one_route(NAME, &[rule(&[Selector::EachQuery("user")], 3)], steps)
}

fn global_shared_with_cost() -> Row {
    const NAME: &str = "RateLimitGlobalSharedWithCost";
    const LIMIT: Option<&str> = Some("6, 6;w=3600");
    let ask = |path, times, status, limit| ask_with(NAME, "GET", path, &[("x-user-id", "one")], times, status, limit);
    let steps = vec![ask("/foo", 2, OK, LIMIT), ask("/bar", 1, OK, LIMIT), ask("/bar", 1, OVER, None)];
    shared(NAME, &rule(&[Selector::Header("x-user-id", "one")], 6), Some(2), steps)
}
