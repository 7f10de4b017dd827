//! `gate: rule`: which rules can be a gate, and what their limit says of the bounds.

use super::*;
use crate::rules::service::ServiceGate;

/// A service whose gate is the rule of these words and this limit, with more words of its own.
fn gated(rule: &str, limit: &str, words: &str) -> Vec<String> {
    vec![
        format!("domain: d\ndescriptors:\n- {{key: a, value: b, {rule} rate_limit: {{{limit}}}}}\n"),
        format!(
            "{PROMETHEUS}services:\n- {{name: x, gate: rule, governs: [{{domain: d, descriptor: [{{a: b}}]}}], \
             {SIGNALS}{words}}}\n"
        ),
    ]
}

fn loaded(texts: &[String]) -> Result<Service, String> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    match load_texts(&texts, false) {
        Ok((rules, _)) => Ok(rules.services()[0].clone()),
        Err(errors) => Err(listed(&errors)),
    }
}

const FIFTY: &str = "unit: second, requests_per_unit: 50";

#[test]
fn a_gate_is_made_unless_a_rule_is_named_as_it() {
    assert_eq!(only(&with(NAME)).gate, ServiceGate::Bucket);
    assert_eq!(only(&with("gate: bucket")).gate, ServiceGate::Bucket);
    let observed = loaded(&gated("", FIFTY, "")).unwrap();
    assert_eq!((observed.gate, observed.gate_is_rule()), (ServiceGate::Rule, false), "it isn't enforced");
    assert!(!loaded(&gated("", FIFTY, ", mode: off")).unwrap().gate_is_rule());
    assert!(loaded(&gated("", FIFTY, ", mode: enforce")).unwrap().gate_is_rule());
}

#[test]
fn the_limit_of_the_rule_is_the_highest_where_none_is_said() {
    let rate = Rate::from_per_second;
    for (words, max, min) in [
        ("", 50.0, 2.5),
        (", bounds: {}", 50.0, 2.5),
        (", bounds: {min: 5/s}", 50.0, 5.0),
        (", bounds: {max: 50/s}", 50.0, 2.5),
        (", bounds: {max: 40/s}", 40.0, 2.0),
    ] {
        let service = loaded(&gated("", FIFTY, words)).unwrap();
        assert_eq!((service.bounds.max, service.bounds.min), (rate(max), rate(min)), "{words}");
        assert_eq!((service.start, service.stale.toward), (rate(max), rate(max)), "{words}");
    }
    let above = loaded(&gated("", FIFTY, ", bounds: {max: 51/s}")).unwrap_err();
    assert_eq!(
        above,
        "rules2.yaml:3:123: services[0](x).bounds.max: 51/s is above the 50/s of rules.yaml:3, which is the gate; write \
         50/s at most, or raise the rule's limit"
    );
}

#[test]
fn a_rule_that_counts_otherwise_is_no_gate_and_says_why() {
    let cases = [
        ("", "unlimited: true", "it is unlimited; give it a limit per second"),
        (
            "",
            "unit: minute, requests_per_unit: 50",
            "it counts per minute, and a gate counts per second; write unit: second",
        ),
        ("", "window: 2s, requests_per_unit: 50", "it counts per 2 seconds, and a gate counts per second"),
        ("", "unit: second, requests_per_unit: 0", "it blocks everything; raise its requests_per_unit"),
        (
            "",
            "unit: second, requests_per_unit: 50, algorithm: token_bucket, burst: 70",
            "it has a burst of 70, and a gate holds one second's worth, 50; take out burst",
        ),
        ("shadow_mode: true,", FIFTY, "it is in shadow_mode, and a gate refuses; take out shadow_mode"),
        ("quota_mode: true,", FIFTY, "it is in quota_mode, and a gate refuses alone; take out quota_mode"),
        (
            "",
            "unit: second, requests_per_unit: 50, replaces: [{name: x}]",
            "it replaces other rules; take out replaces",
        ),
    ];
    for (rule, limit, part) in cases {
        let mistakes = loaded(&gated(rule, limit, "")).unwrap_err();
        assert_eq!(mistakes.lines().count(), 1, "{rule} {limit}\n---\n{mistakes}");
        let begin = "rules2.yaml:3:19: services[0](x).gate: rules.yaml:3 can't be the gate: ";
        assert!(mistakes.starts_with(begin) && mistakes.contains(part), "{rule} {limit}\n---\n{mistakes}");
        assert!(mistakes.ends_with(", or write gate: bucket"), "{mistakes}");
    }
    // Algorithms differ in what they let through within a second; all of them are a total per second.
    for algorithm in ["sliding_window", "fixed_window", "token_bucket"] {
        loaded(&gated("", &format!("{FIFTY}, algorithm: {algorithm}"), "")).unwrap();
    }
}

#[test]
fn a_rule_that_counts_values_apart_is_no_gate_and_a_shared_wildcard_is() {
    let text = |descriptors: &str, governed: &str| {
        let rules = format!("domain: d\n{descriptors}\n");
        let governs = format!("governs: [{{domain: d, descriptor: [{governed}]}}]");
        vec![rules, format!("{PROMETHEUS}services:\n- {{name: x, gate: rule, {governs}, {SIGNALS}}}\n")]
    };
    let limit = format!("rate_limit: {{{FIFTY}}}");
    for (descriptors, governed, is_total) in [
        (format!("descriptors: [{{key: a, {limit}}}]"), "{a: }", false),
        (format!("descriptors: [{{key: a, value: 'b*', {limit}}}]"), "{a: 'b*'}", false),
        (format!("descriptors: [{{key: a, value: 'b*', share_threshold: true, {limit}}}]"), "{a: 'b*'}", true),
        (format!("descriptors: [{{key: a, descriptors: [{{key: c, value: d, {limit}}}]}}]"), "{a: }, {c: d}", false),
        (
            format!("descriptors: [{{key: a, value: b, descriptors: [{{key: c, value: d, {limit}}}]}}]"),
            "{a: b}, {c: d}",
            true,
        ),
        (format!("subsets: [{{entries: [{{key: a, value: b}}], {limit}}}]"), "{a: b}", true),
        (format!("subsets: [{{entries: [{{key: a, value: b}}, {{key: c}}], {limit}}}]"), "{a: b}, {c: }", false),
    ] {
        match (loaded(&text(&descriptors, governed)), is_total) {
            (Ok(_), true) => {}
            (Err(mistakes), false) => {
                let part = "it counts each value apart, and a gate is one total; name a value, or a wildcard with";
                assert!(mistakes.contains(part) && mistakes.lines().count() == 1, "{descriptors}\n---\n{mistakes}");
            }
            (loaded, _) => panic!("{descriptors}\n---\n{loaded:?}"),
        }
    }
}

#[test]
fn everything_that_is_wrong_with_a_gate_is_said_at_once() {
    let mistakes =
        loaded(&gated("shadow_mode: true,", "unit: hour, requests_per_unit: 0", ", scale_rules: true")).unwrap_err();
    for part in ["scale_rules lowers the rules beside", "per hour", "blocks everything", "shadow_mode"] {
        assert_eq!(mistakes.lines().filter(|line| line.contains(part)).count(), 1, "{part}\n---\n{mistakes}");
    }
    assert_eq!(mistakes.lines().count(), 4, "a limit that can't be known is no second mistake\n---\n{mistakes}");
    let two = "governs: [{domain: shop, descriptor: [{service: inventory}]}, {domain: shop, descriptor: [{plain: }]}]";
    let mistakes = listed(&load_services(&service(&[NAME, two, SIGNALS, "gate: rule"].join(", "))).unwrap_err());
    let part = "governs leads to 2 (rules.yaml:4, rules.yaml:11); name one, or write gate: bucket";
    assert!(mistakes.contains(part) && mistakes.lines().count() == 1, "{mistakes}");
    // A rule that isn't found is one mistake, and not that the highest limit is missing too.
    let none = "governs: [{domain: shop, descriptor: [{service: nothing}]}]";
    let mistakes = listed(&load_services(&service(&[NAME, none, SIGNALS, "gate: rule"].join(", "))).unwrap_err());
    assert!(mistakes.contains("did you mean") && mistakes.lines().count() == 1, "{mistakes}");
}
