//! What our language has on top of the reference's, and what is wrong with it.

use super::*;
use crate::window::{FixedWindow, SlidingWindow, TokenBucket};

fn policy(root: &str, limit: &str) -> Policy {
    let rules = rules(&format!("domain: d\n{root}\ndescriptors:\n- key: a\n  rate_limit: {{{limit}}}\n"));
    match rules.rules()[0].action {
        Action::Limited { policy, .. } => policy,
        Action::Unlimited => panic!("unlimited"),
    }
}

fn window(millis: u64) -> crate::limit::Window {
    crate::limit::Window::from_millis(millis).unwrap()
}

fn sliding(limit: u32, millis: u64, precision: u32) -> Policy {
    Policy::SlidingWindow(SlidingWindow::new(limit, window(millis), Precision::try_new(precision).unwrap()))
}

#[test]
fn windows_are_units_multiples_or_durations() {
    assert_eq!(policy("", "unit: hour, requests_per_unit: 5"), sliding(5, 3_600_000, 64));
    assert_eq!(policy("", "window: 10s, requests_per_unit: 5"), sliding(5, 10_000, 64));
    assert_eq!(policy("", "window: 1m30s, requests_per_unit: 5"), sliding(5, 90_000, 64));
    assert_eq!(policy("", "unit: minute, unit_multiplier: 5, requests_per_unit: 5"), sliding(5, 300_000, 64));
}

#[test]
fn algorithms_are_named_by_the_rule_or_by_the_file_or_by_the_process() {
    let fixed = Policy::FixedWindow(FixedWindow::new(5, window(60_000)));
    let bucket = |burst| Policy::TokenBucket(TokenBucket::new(5, window(60_000), burst));
    let limit = "unit: minute, requests_per_unit: 5";
    assert_eq!(policy("", &format!("{limit}, algorithm: fixed_window")), fixed);
    assert_eq!(policy("algorithm: fixed_window", limit), fixed);
    assert_eq!(policy("algorithm: fixed_window", &format!("{limit}, algorithm: token_bucket")), bucket(5));
    assert_eq!(policy("", &format!("{limit}, algorithm: token_bucket, burst: 20")), bucket(20));
    assert_eq!(policy("", &format!("{limit}, precision: 8")), sliding(5, 60_000, 8));
    assert_eq!(policy("precision: 1024", limit), sliding(5, 60_000, 1024));
    let defaults = Defaults { algorithm: Algorithm::FixedWindow, charging: Charging::Each, ..Defaults::default() };
    let text = format!("domain: d\ndescriptors: [{{key: a, rate_limit: {{{limit}}}}}]");
    let (rules, _) = load(&sources(&[&text]), &Options { defaults, merge_domains: false }).unwrap();
    let domain = rules.domain("d").unwrap();
    assert_eq!(domain.charging(), Charging::Each);
    let minute = Limit { requests_per_unit: 5, window: window(60_000) };
    assert_eq!(domain.find_override(&descriptor("(a=1)"), minute, b"").0, fixed);
}

#[test]
fn a_domain_s_charging_is_named_by_its_file() {
    let charging = |text: &str| rules(text).domain("d").unwrap().charging();
    assert_eq!(charging("domain: d"), Charging::AllOrNothing);
    assert_eq!(charging("domain: d\ncharging: each"), Charging::Each);
    assert_eq!(charging("domain: d\ncharging: all_or_nothing"), Charging::AllOrNothing);
}

#[test]
fn files_of_one_domain_agree_on_its_defaults() {
    let merge = |one: &str, other: &str| load_texts(&[one, other], true);
    let (rules, _) = merge("domain: d\ncharging: each", "domain: d").unwrap();
    assert_eq!(rules.domain("d").unwrap().charging(), Charging::Each);
    assert!(merge("domain: d\ncharging: each", "domain: d\ncharging: each").is_ok());
    let errors = merge("domain: d\nalgorithm: fixed_window", "domain: d\nalgorithm: token_bucket").unwrap_err();
    assert!(
        listed(&errors).starts_with("rules2.yaml:2:12: algorithm: algorithm is another in rules.yaml:2"),
        "{errors}"
    );
    // What one file gives holds for rules of the other, whichever comes first.
    let rule = "domain: d\ndescriptors: [{key: a, rate_limit: {unit: hour, requests_per_unit: 1}}]";
    let (rules, _) = merge(rule, "domain: d\nalgorithm: fixed_window").unwrap();
    assert!(matches!(rules.rules()[0].action, Action::Limited { policy: Policy::FixedWindow(_), .. }));
}

#[test]
fn mistakes_in_our_words_are_rejected() {
    let limit = |limit: &str| mistakes(&format!("domain: d\ndescriptors:\n- key: a\n  rate_limit: {{{limit}}}\n"));
    let minute = "unit: minute, requests_per_unit: 5";
    for (text, expected) in [
        (format!("{minute}, window: 10s"), "rate_limit.window: window and unit both say"),
        (
            "window: 10, requests_per_unit: 5".to_owned(),
            "rate_limit.window: the number 10 where a length of time such as 10s",
        ),
        ("window: 0s, requests_per_unit: 5".to_owned(), "rate_limit.window: a window of 0 ms is outside 1 ms"),
        ("window: 9999d, requests_per_unit: 5".to_owned(), "rate_limit.window: a window of 863913600000 ms is outside"),
        (
            "unit_multiplier: 5, requests_per_unit: 5".to_owned(),
            "rate_limit.unit_multiplier: unit_multiplier multiplies",
        ),
        (
            format!("{minute}, unit_multiplier: 0"),
            "rate_limit.unit_multiplier: the number 0 where a whole number from 1,",
        ),
        (format!("{minute}, precision: 1.5"), "rate_limit.precision: the number 1.5 where a whole number of ticks"),
        (format!("{minute}, burst: x"), "rate_limit.burst: the text 'x' where a whole number from 0"),
        (
            format!("{minute}, algorithm: leaky"),
            "algorithm: the text 'leaky' where one of sliding_window, fixed_window, token_bucket",
        ),
        (format!("{minute}, algorithm: slidingwindow"), "did you mean sliding_window?"),
        (
            format!("{minute}, burst: 5"),
            "rate_limit.burst: burst is for token_bucket, and this rule is a sliding_window",
        ),
        (format!("{minute}, algorithm: token_bucket, burst: 0"), "a burst of 0"),
        ("unit: minute, requests_per_unit: 0, algorithm: token_bucket, burst: 5".to_owned(), "never filled"),
        (format!("{minute}, algorithm: fixed_window, precision: 5"), "precision is for sliding_window"),
        (format!("{minute}, precision: 0"), "a whole number of ticks from 1 to 1024"),
        (format!("{minute}, precision: 1025"), "a whole number of ticks from 1 to 1024"),
        ("unlimited: true, window: 10s".to_owned(), "rate_limit.window: window means nothing next to unlimited"),
        ("unlimited: true, algorithm: fixed_window".to_owned(), "algorithm means nothing next to unlimited"),
        (format!("{minute}, charging: each"), "'charging' can't stand in rate_limit; it belongs in the root of a file"),
    ] {
        let mistakes = limit(&text);
        assert!(mistakes.contains(expected) && mistakes.lines().count() == 1, "{text}\n---\n{mistakes}");
    }
    let root =
        mistakes("domain: d\nburst: 1\nwindow: 1s\ncharging: some\ndescriptors: [{key: a, algorithm: fixed_window}]");
    for expected in [
        "rules.yaml:2:1: burst: 'burst' can't stand in the root of a file; it belongs in rate_limit",
        "rules.yaml:3:1: window: 'window' can't stand in the root of a file",
        "rules.yaml:4:11: charging: ",
        "descriptors[0](a).algorithm: 'algorithm' can't stand in a descriptor",
    ] {
        assert!(root.contains(expected), "{root}");
    }
}

const SUBSETS: &str = "
domain: d
descriptors:
- {key: user, rate_limit: {unit: hour, requests_per_unit: 1}}
- key: user
  value: ann
  descriptors: [{key: service, rate_limit: {unit: hour, requests_per_unit: 2}}]
subsets:
- {entries: [{key: service, value: inventory}, {key: user}], rate_limit: {unit: hour, requests_per_unit: 3}}
- {entries: [{key: service}], shadow_mode: true, rate_limit: {window: 10s, requests_per_unit: 4}}
- {entries: [{key: service, value: open}], rate_limit: {unlimited: true}}
";

#[test]
fn subsets_apply_in_any_order_among_others_and_besides_the_tree() {
    check(
        SUBSETS,
        &[
            ("(user=ann)", "none"),
            ("(user=bob)", "user: 1 per hour"),
            ("(user=ann)(service=shop)", "user_ann.service: 2 per hour | service: 4 per 10 seconds"),
            (
                "(user=ann)(service=inventory)",
                "user_ann.service: 2 per hour | service_inventory.user: 3 per hour | service: 4 per 10 seconds",
            ),
            ("(x=1)(service=inventory)(y=2)(user=z)", "service_inventory.user: 3 per hour | service: 4 per 10 seconds"),
            ("(service=open)", "service: 4 per 10 seconds | service_open: unlimited"),
            ("(service=)", "service: 4 per 10 seconds"),
            ("(other=1)", "none"),
        ],
    );
}

#[test]
fn a_subset_has_one_counter_for_each_value_that_it_leaves_open() {
    let rules = rules(
        "
domain: d
subsets:
- {entries: [{key: s, value: x}, {key: u}, {key: a}], rate_limit: {unit: hour, requests_per_unit: 3}}
",
    );
    let shared = |one, other| share_a_counter(&rules, one, other);
    assert!(shared("(s=x)(u=1)(a=2)", "(a=2)(other=9)(u=1)(s=x)"));
    assert!(!shared("(s=x)(u=1)(a=2)", "(s=x)(u=2)(a=1)"));
    // Of a repeated key the first value counts, and a fixed value may be any of them.
    assert!(shared("(s=x)(u=1)(a=2)", "(s=y)(s=x)(u=1)(a=2)(u=7)"));
}

#[test]
fn mistakes_in_subsets_are_rejected() {
    let limit = "rate_limit: {unit: hour, requests_per_unit: 3}";
    let subset = |subset: &str| mistakes(&format!("domain: d\nsubsets:\n- {{{subset}}}\n"));
    let nine: Vec<String> = (0..9).map(|number| format!("{{key: k{number}}}")).collect();
    for (text, expected) in [
        (format!("entries: [], {limit}"), "rules.yaml:3:3: subsets[0]: a subset needs entries"),
        (limit.to_owned(), "subsets[0]: a subset needs entries"),
        (format!("entries: [{}], {limit}", nine.join(", ")), "a subset of 9 entries; at most 8 are matched"),
        (format!("entries: [{{value: x}}], {limit}"), "subsets[0].entries[0]: descriptor has empty key"),
        (
            format!("entries: [{{key: a}}, {{key: a, value: x}}], {limit}"),
            "subsets[0](a, a_x).entries[1](a): this subset names the key already",
        ),
        (
            format!("entries: [{{key: a, value: 'x*'}}], {limit}"),
            "entries[0](a).value: 'x*': a subset has no wildcards",
        ),
        (format!("entries: [{{key: a, value: ''}}], {limit}"), "an empty value; leave value out"),
        ("entries: [{key: a}]".to_owned(), "subsets[0](a): a subset without rate_limit does nothing"),
        (format!("entries: [{{key: a}}], share_threshold: true, {limit}"), "'share_threshold' can't stand in a subset"),
        (format!("entries: [{{key: a}}], key: b, {limit}"), "'key' can't stand in a subset"),
        (format!("entries: [{{key: a, unit: hour}}], {limit}"), "'unit' can't stand in an entry of a subset"),
    ] {
        let mistakes = subset(&text);
        assert!(mistakes.contains(expected) && mistakes.lines().count() == 1, "{text}\n---\n{mistakes}");
    }
    let twice = format!(
        "domain: d\nsubsets:\n- {{entries: [{{key: a}}, {{key: b, value: c}}], {limit}}}\n- {{entries: [{{key: b, value: c}}, {{key: a}}], {limit}}}\n"
    );
    let twice = mistakes(&twice);
    assert!(twice.contains("rules.yaml:4:3: subsets[1](b_c, a): duplicate subset: rules.yaml:3 has"), "{twice}");
    let inside = mistakes("domain: d\ndescriptors: [{key: a, subsets: []}]");
    assert!(inside.contains("'subsets' can't stand in a descriptor; it belongs in the root of a file"), "{inside}");
}

#[test]
fn the_example_file_loads_without_a_warning_and_shows_what_it_says() {
    let text = include_str!("../../../config/rules.yaml");
    assert_eq!(warnings(text), "");
    check(
        text,
        &[
            ("(user=ann)", "user: 5 per minute"),
            ("(user=vip)", "user_vip: 50 per minute"),
            ("(user=monitoring)", "none"),
            ("(client=internal)", "client_internal: unlimited"),
            ("(path=/v1/reports/7)", "path_/v1/reports/*: 3 per 10 seconds"),
            ("(plan=free)(user=ann)", "plan_free.user: 20 per hour"),
            ("(upload=ann)", "upload: 2 per second"),
        ],
    );
}
