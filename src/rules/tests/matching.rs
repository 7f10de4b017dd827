//! Which rule applies, which counter it has, what metrics call it: the matching cases of the reference service.

use super::*;

#[test]
fn an_entry_matches_its_value_first_then_its_key_alone() {
    check(
        "
domain: shop
descriptors:
- {key: user, rate_limit: {unit: hour, requests_per_unit: 3}}
- {key: user, value: vip, rate_limit: {unit: hour, requests_per_unit: 10}}
- {key: user, value: root}
",
        &[
            ("(user=a)", "user: 3 per hour"),
            ("(user=)", "user: 3 per hour"),
            ("(user=vip)", "user_vip: 10 per hour"),
            ("(user=root)", "none"),
            ("(User=a)", "none"),
            ("", "none"),
        ],
    );
}

#[test]
fn a_choice_is_final_and_only_the_last_entry_s_limit_counts() {
    check(
        "
domain: shop
descriptors:
- {key: a, value: 1, descriptors: [{key: x, rate_limit: {unit: hour, requests_per_unit: 5}}]}
- {key: a, descriptors: [{key: y, rate_limit: {unit: hour, requests_per_unit: 7}}]}
- key: p
  value: 1
  rate_limit: {unit: hour, requests_per_unit: 4}
  descriptors: [{key: q, rate_limit: {unit: hour, requests_per_unit: 2}}]
",
        &[
            ("(a=1)(y=q)", "none"),
            ("(a=2)(y=q)", "a.y: 7 per hour"),
            ("(p=1)", "p_1: 4 per hour"),
            ("(p=1)(q=z)", "p_1.q: 2 per hour"),
            ("(p=1)(q=z)(r=w)", "none"),
            ("(p=2)", "none"),
            ("(q=z)(p=1)", "none"),
        ],
    );
}

#[test]
fn wildcards_come_after_exact_values_in_the_order_of_declaration() {
    check(
        "
domain: d
descriptors:
- {key: path, value: /v1/*, rate_limit: {unit: hour, requests_per_unit: 5}}
- {key: path, value: /v1/admin/*, rate_limit: {unit: hour, requests_per_unit: 1}}
- {key: path, value: /v1/admin/z, rate_limit: {unit: hour, requests_per_unit: 9}}
- {key: path, rate_limit: {unit: hour, requests_per_unit: 40}}
- {key: h, value: a*z, rate_limit: {unit: hour, requests_per_unit: 3}}
- {key: h2, value: ab*ba, rate_limit: {unit: hour, requests_per_unit: 3}}
- {key: g, value: x*y*z, rate_limit: {unit: hour, requests_per_unit: 3}}
- {key: s, value: '*', rate_limit: {unit: hour, requests_per_unit: 3}}
- {key: s, rate_limit: {unit: hour, requests_per_unit: 8}}
",
        &[
            ("(path=/v1/admin/x)", "path_/v1/*: 5 per hour"),
            ("(path=/v1/admin/z)", "path_/v1/admin/z: 9 per hour"),
            ("(path=/v2)", "path: 40 per hour"),
            ("(path=/v1/*)", "path_/v1/*: 5 per hour"),
            ("(h=az)", "h_a*z: 3 per hour"),
            ("(h=abz)", "h_a*z: 3 per hour"),
            ("(h=abzc)", "none"),
            ("(h=za)", "none"),
            ("(h2=aba)", "none"),
            ("(h2=abba)", "h2_ab*ba: 3 per hour"),
            ("(g=xyyz)", "g_x*y*z: 3 per hour"),
            ("(g=xz)", "none"),
            ("(s=q)", "s_*: 3 per hour"),
            ("(s=)", "s_*: 3 per hour"),
        ],
    );
}

#[test]
fn key_and_value_are_matched_as_one_joined_text() {
    check(
        "
domain: d
descriptors:
- {key: region_eu, rate_limit: {unit: hour, requests_per_unit: 2}}
- {key: a, value: b*, rate_limit: {unit: hour, requests_per_unit: 3}}
- {key: foo*, rate_limit: {unit: hour, requests_per_unit: 4}}
- {key: x, value: y, rate_limit: {unit: hour, requests_per_unit: 5}}
",
        &[
            ("(region=eu)", "region_eu: 2 per hour"),
            ("(region_eu=z)", "region_eu: 2 per hour"),
            ("(a_bc=z)", "a_b*: 3 per hour"),
            ("(foobar=z)", "foo*: 4 per hour"),
            ("(x_y=anything)", "x_y: 5 per hour"),
        ],
    );
}

#[test]
fn counters_are_those_of_the_values_that_a_rule_leaves_open() {
    let rules = rules(
        "
domain: d
descriptors:
- {key: user, rate_limit: {unit: hour, requests_per_unit: 3}}
- {key: path, value: /v1/*, rate_limit: {unit: hour, requests_per_unit: 2}}
- {key: file, value: /v1/*, share_threshold: true, rate_limit: {unit: hour, requests_per_unit: 2}}
- key: r
  value: api/*
  share_threshold: true
  descriptors: [{key: m, rate_limit: {unit: hour, requests_per_unit: 5}}]
- {key: region_eu, rate_limit: {unit: hour, requests_per_unit: 2}}
- key: a
  value: b_c
  descriptors: [{key: a, value: b_c, rate_limit: {unit: hour, requests_per_unit: 5}}]
",
    );
    let shared = |one, other| share_a_counter(&rules, one, other);
    assert!(!shared("(user=a)", "(user=b)"));
    assert!(shared("(user=a)", "(user=a)"));
    assert!(!shared("(path=/v1/a)", "(path=/v1/b)"));
    assert!(shared("(file=/v1/a)", "(file=/v1/b)"));
    assert!(shared("(file=/v1/a)", "(file=/v1/*)"));
    assert!(shared("(r=api/1)(m=GET)", "(r=api/2)(m=GET)"));
    assert!(!shared("(r=api/1)(m=GET)", "(r=api/1)(m=PUT)"));
    assert!(!shared("(region=eu)", "(region_eu=eu)"));
    // Reached by another split of the same text, on one level or the other.
    assert!(!shared("(a=b_c)(a_b=c)", "(a_b=c)(a=b_c)"));
    assert!(!shared("(a=b_c)(a=b_c)", "(a_b=c)(a_b=c)"));
}

#[test]
fn the_reference_s_shared_counters_of_different_rules_are_apart() {
    // D15: there, (a, b_c) and (a_b, c) are one counter.
    let rules = rules(
        "
domain: d
descriptors:
- {key: a, rate_limit: {unit: hour, requests_per_unit: 2}}
- {key: a_b, rate_limit: {unit: hour, requests_per_unit: 2}}
",
    );
    assert_eq!(answer(&rules, "(a=b_c)"), "a: 2 per hour");
    assert_eq!(answer(&rules, "(a_b=c)"), "a_b: 2 per hour");
    assert!(!share_a_counter(&rules, "(a=b_c)", "(a_b=c)"));
}

#[test]
fn unlimited_rules_match_and_have_no_counter() {
    check(
        "
domain: d
descriptors:
- {key: svc, value: x, rate_limit: {unlimited: true, name: free, replaces: [{name: base}]}}
- {key: user, rate_limit: {unit: hour, requests_per_unit: 5, name: base}}
",
        &[("(svc=x)", "svc_x: unlimited"), ("(user=a)", "user: 5 per hour")],
    );
}

#[test]
fn an_unknown_domain_has_no_rules_and_a_domain_without_rules_is_known() {
    let rules = rules("domain: d");
    assert!(rules.domain("nope").is_none());
    assert_eq!(answer(&rules, "(user=a)"), "none");
    assert!(load_texts(&[], false).unwrap().0.is_empty());
}

#[test]
fn an_override_has_its_own_counter_for_each_window() {
    let rules = rules("domain: d\ndescriptors: [{key: x, rate_limit: {unit: hour, requests_per_unit: 1}}]");
    let domain = rules.domain("d").unwrap();
    let limit = |requests_per_unit, unit: crate::limit::Unit| Limit { requests_per_unit, window: unit.into() };
    let key = |request, limit| domain.find_override(&descriptor(request), limit, b"").1;
    use crate::limit::Unit::{Hour, Minute};
    assert_eq!(key("(x=1)", limit(1, Hour)), key("(x=1)", limit(2, Hour)));
    assert_ne!(key("(x=1)", limit(1, Hour)), key("(x=1)", limit(1, Minute)));
    assert_ne!(key("(x=1)", limit(1, Hour)), key("(x=2)", limit(1, Hour)));
    assert_ne!(key("", limit(1, Hour)), key("(x=2)", limit(1, Hour)));
    assert_ne!(key("(a=b)(c=d)", limit(1, Hour)), key("(c=d)(a=b)", limit(1, Hour)));
    assert_ne!(Some(key("(x=1)", limit(1, Hour))), domain.find(&descriptor("(x=1)"), b"")[0].key);
    assert_eq!(domain.find_override(&descriptor(""), limit(7, Hour), b"").0.capacity(), 7);
    assert_eq!(domain.override_metric_path(&descriptor("(a=)(host=10.0.0.1:80)")), ["a", "host_10_0_0_1_80"]);
}

/// The metric path of the only rule that applies.
fn metric(text: &str, request: &str) -> String {
    let rules = rules(text);
    let found = rules.domain("d").unwrap().find(&descriptor(request), b"");
    match &found[0].metric_path {
        Some(path) => path.join("."),
        None => found[0].rule.metric_path.join("."),
    }
}

#[test]
fn metrics_have_the_reference_s_names() {
    let limit = "rate_limit: {unit: hour, requests_per_unit: 5}";
    let flat = |node: &str| format!("domain: d\ndescriptors: [{{{node}, {limit}}}]");
    let cases = [
        (flat("key: user, detailed_metric: true"), "(user=a)", "user_a"),
        (flat("key: user, detailed_metric: true"), "(user=)", "user_"),
        (flat("key: user, value_to_metric: true"), "(user=a)", "user_a"),
        (flat("key: user, value_to_metric: true"), "(user=)", "user"),
        (flat("key: user"), "(user=a)", "user"),
        (flat("key: user, value: a"), "(user=a)", "user_a"),
        (flat("key: user, value: a, value_to_metric: true"), "(user=a)", "user_a"),
        (flat("key: path, value: /v1/*"), "(path=/v1/a)", "path_/v1/*"),
        (flat("key: path, value: /v1/*, value_to_metric: true"), "(path=/v1/a)", "path_/v1/a"),
        (flat("key: path, value: /v1/*, value_to_metric: true, share_threshold: true"), "(path=/v1/a)", "path_/v1/*"),
        (flat("key: host, detailed_metric: true"), "(host=10.0.0.1:80)", "host_10_0_0_1_80"),
        (
            format!("domain: d\ndescriptors: [{{key: r, value_to_metric: true, descriptors: [{{key: m, {limit}}}]}}]"),
            "(r=x)(m=GET)",
            "r_x.m",
        ),
        (
            format!(
                "domain: d\ndescriptors: [{{key: r, value: api/*, share_threshold: true, value_to_metric: true, \
                 descriptors: [{{key: m, detailed_metric: true, {limit}}}]}}]"
            ),
            "(r=api/7)(m=GET)",
            "r_api/*.m_GET",
        ),
        (
            format!(
                "domain: d\nsubsets: [{{entries: [{{key: s, value: x}}, {{key: u}}], detailed_metric: true, {limit}}}]"
            ),
            "(u=1.2.3.4)(s=x)",
            "s_x.u_1_2_3_4",
        ),
        (
            format!("domain: d\nsubsets: [{{entries: [{{key: s, value: x}}, {{key: u}}], {limit}}}]"),
            "(u=a)(s=x)",
            "s_x.u",
        ),
    ];
    for (text, request, expected) in cases {
        assert_eq!(metric(&text, request), expected, "{text}");
    }
}

#[test]
fn runtime_metric_paths_are_made_only_where_flags_ask_for_them() {
    let rules = rules(
        "
domain: d
descriptors:
- {key: user, rate_limit: {unit: hour, requests_per_unit: 3}}
- {key: path, value: /a, value_to_metric: true, rate_limit: {unit: hour, requests_per_unit: 3}}
",
    );
    for request in ["(user=a)", "(path=/a)"] {
        assert!(rules.domain("d").unwrap().find(&descriptor(request), b"")[0].metric_path.is_none());
    }
}

#[test]
fn a_rule_keeps_its_identity_through_edits_that_count_the_same() {
    let id = |text: &str, path: &str| {
        let (rules, _) = load_texts(&[text], false).unwrap();
        rules.rules().iter().find(|rule| rule.path.join(".") == path).unwrap().id
    };
    let before = "
domain: d
descriptors: [{key: user, rate_limit: {unit: minute, requests_per_unit: 3}}]
subsets: [{entries: [{key: a, value: x}, {key: b}], rate_limit: {unit: minute, requests_per_unit: 3}}]
";
    let after = "
domain: d
descriptors:
- {key: other, rate_limit: {unit: minute, requests_per_unit: 3}}
- key: user
  shadow_mode: true
  rate_limit: {window: 60s, requests_per_unit: 4, name: n}
subsets: [{entries: [{key: b}, {key: a, value: x}], rate_limit: {unit: minute, requests_per_unit: 5}}]
";
    assert_eq!(id(before, "user"), id(after, "user"));
    assert_eq!(id(before, "a_x.b"), id(after, "b.a_x"));
    let longer = before.replace("minute", "hour");
    assert_ne!(id(before, "user"), id(&longer, "user"));
    let other = before.replace("requests_per_unit", "algorithm: fixed_window, requests_per_unit");
    assert_ne!(id(before, "user"), id(&other, "user"));
}
