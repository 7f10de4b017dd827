//! What Envoy Gateway makes of a rule: a chain of descriptors for the rate limit service, and actions for Envoy.

use serde_json::{Value, json};
use tidegate::proto::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};

/// What a rule asks of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selector {
    /// A header with that value.
    Header(&'static str, &'static str),
    /// A header with any value but that one.
    NotHeader(&'static str, &'static str),
    /// A header; each of its values has a limit of its own.
    EachHeader(&'static str),
    /// A method, as a pattern.
    Method(&'static str),
    /// A path, as a pattern.
    Path(&'static str),
    /// An address within.
    Within(&'static str, u32),
    /// An address without.
    Without(&'static str, u32),
    /// A parameter of the query; each of its values has a limit of its own.
    EachQuery(&'static str),
}

/// A rule of a policy.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) selectors: Vec<Selector>,
    pub(super) requests: u32,
    pub(super) shadow: bool,
}

/// An hourly limit on what these selectors select.
pub(super) fn rule(selectors: &[Selector], requests: u32) -> Rule {
    Rule { selectors: selectors.to_vec(), requests, shadow: false }
}

/// The resource of a domain: for each route (or shared rule) its name, and the rules below it. A rule is numbered as it
/// stands in its policy.
pub(super) fn resource(domain: &str, routes: &[(&str, &[(usize, Rule)])]) -> RateLimitConfig {
    let descriptors = routes.iter().map(|(route, rules)| RateLimitDescriptor {
        key: (*route).to_owned(),
        value: (*route).to_owned(),
        shadow_mode: rules.iter().any(|(_, rule)| rule.shadow),
        descriptors: rules.iter().map(|(index, rule)| chain(*index, rule)).collect(),
        ..RateLimitDescriptor::default()
    });
    RateLimitConfig { name: domain.to_owned(), domain: domain.to_owned(), descriptors: descriptors.collect() }
}

/// A rule as a chain, one level for each selector, the limit on the last.
fn chain(index: usize, rule: &Rule) -> RateLimitDescriptor {
    let limit = RateLimitPolicy {
        unit: RateLimitUnit::Hour.into(),
        requests_per_unit: rule.requests,
        ..RateLimitPolicy::default()
    };
    let mut levels = levels(index, &rule.selectors).into_iter().rev();
    let level = |(key, value)| RateLimitDescriptor { key, value, shadow_mode: rule.shadow, ..Default::default() };
    let last = levels.next().map(level).expect("a rule has a level");
    let last = RateLimitDescriptor { rate_limit: Some(limit), ..last };
    levels.fold(last, |below, above| RateLimitDescriptor { descriptors: vec![below], ..level(above) })
}

/// The keys and values of a rule's levels.
fn levels(index: usize, selectors: &[Selector]) -> Vec<(String, String)> {
    if selectors.is_empty() {
        let key = format!("rule-{index}-match--1");
        return vec![(key.clone(), key)];
    }
    let own = |number: usize| format!("rule-{index}-match-{number}");
    let masked = |value: String| ("masked_remote_address".to_owned(), value);
    let numbered = selectors.iter().enumerate();
    numbered
        .map(|(number, selector)| match selector {
            Selector::Header(..) | Selector::NotHeader(..) => (own(number), own(number)),
            Selector::EachHeader(_) | Selector::EachQuery(_) => (own(number), String::new()),
            Selector::Method(_) => (format!("rule-{index}-method"), format!("rule-{index}-method")),
            Selector::Path(_) => (format!("rule-{index}-path"), format!("rule-{index}-path")),
            Selector::Within(prefix, length) => masked(format!("{prefix}/{length}")),
            Selector::Without(prefix, length) => masked(format!("invert:{prefix}/{length}")),
        })
        .collect()
}

/// The rate limit that makes Envoy ask for a rule of a route.
pub(super) fn asked(route: &str, index: usize, rule: &Rule) -> Value {
    let first = json!({ "generic_key": { "descriptor_key": route, "descriptor_value": route } });
    let levels = levels(index, &rule.selectors);
    let mut actions = vec![first];
    if rule.selectors.is_empty() {
        let (key, value) = &levels[0];
        actions.push(json!({ "generic_key": { "descriptor_key": key, "descriptor_value": value } }));
    }
    actions.extend(rule.selectors.iter().zip(&levels).map(|(selector, (key, value))| action(*selector, key, value)));
    json!({ "actions": actions })
}

fn action(selector: Selector, key: &str, value: &str) -> Value {
    let header = |name: &str, matches: Value, expected: bool| {
        json!({ "header_value_match": {
            "descriptor_key": key,
            "descriptor_value": value,
            "expect_match": expected,
            "headers": [{ "name": name, "string_match": matches }],
        } })
    };
    let address = |prefix: &str, length: u32, inverted: bool| {
        json!({ "remote_address_match": {
            "descriptor_key": key,
            "descriptor_value": value,
            "address_matcher": {
                "ranges": [{ "address_prefix": prefix, "prefix_len": length }],
                "invert_match": inverted,
            },
        } })
    };
    match selector {
        Selector::Header(name, value) => header(name, json!({ "exact": value }), true),
        Selector::NotHeader(name, value) => header(name, json!({ "exact": value }), false),
        Selector::Method(pattern) => header(":method", json!({ "safe_regex": { "regex": pattern } }), true),
        Selector::Path(pattern) => header(":path", json!({ "safe_regex": { "regex": pattern } }), true),
        Selector::EachHeader(name) => json!({ "request_headers": { "header_name": name, "descriptor_key": key } }),
        Selector::EachQuery(name) => {
            json!({ "query_parameters": { "query_parameter_name": name, "descriptor_key": key } })
        }
        Selector::Within(prefix, length) => address(prefix, length, false),
        Selector::Without(prefix, length) => address(prefix, length, true),
    }
}
