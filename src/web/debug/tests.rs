//! The lines of the debug port.

use super::*;
use crate::rules::{Algorithm, Defaults, Options, RuleSet, SourceFile, load};
use crate::table::limit_table;

/// Rules under the reference's own way of counting.
fn fixed(text: &str) -> RuleSet {
    let file = SourceFile { name: "rules.yaml".to_owned(), text: text.to_owned() };
    let defaults = Defaults { algorithm: Algorithm::FixedWindow, ..Defaults::default() };
    load(&[file], &Options { defaults, ..Options::default() }).unwrap().0
}

fn lines_of(rules: &RuleSet) -> String {
    let mut text = String::new();
    rules::write(&mut text, rules).unwrap();
    text
}

const REFERENCE: &str = "\
domain: test-domain
descriptors:
  - { key: all, rate_limit: { unlimited: true, name: free } }
  - key: key1
    value: value1
    rate_limit: { unit: Day, requests_per_unit: 4294967295 }
    descriptors:
      - { key: subkey1, rate_limit: { unit: second, requests_per_unit: 20 }, shadow_mode: true }
      - { key: subkey2, value: a*, rate_limit: { unit: week, requests_per_unit: 0 }, quota_mode: true }
      - { key: allowed }
";

#[test]
fn what_the_reference_can_say_is_said_in_its_form() {
    let expected = "\
test-domain.all: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, quota_mode: false
test-domain.key1_value1: unit=DAY requests_per_unit=4294967295, shadow_mode: false, quota_mode: false
test-domain.key1_value1.subkey1: unit=SECOND requests_per_unit=20, shadow_mode: true, quota_mode: false
test-domain.key1_value1.subkey2_a*: unit=WEEK requests_per_unit=0, shadow_mode: false, quota_mode: true
";
    let lines: std::collections::BTreeSet<String> = lines_of(&fixed(REFERENCE)).lines().map(str::to_owned).collect();
    assert_eq!(lines, expected.lines().map(str::to_owned).collect());
}

#[test]
fn what_the_reference_cannot_say_stands_at_the_end_of_the_line() {
    let rules = fixed(
        "domain: d
descriptors:
  - { key: a, rate_limit: { window: 10s, requests_per_unit: 5, algorithm: sliding_window } }
  - { key: b, rate_limit: { window: 1500ms, requests_per_unit: 5 } }
  - { key: c, rate_limit: { unit: minute, requests_per_unit: 60, algorithm: token_bucket, burst: 7 } }
",
    );
    let modes = "shadow_mode: false, quota_mode: false";
    assert_eq!(
        lines_of(&rules),
        format!(
            "d.a: unit=SECOND requests_per_unit=5, {modes}, unit_multiplier: 10, algorithm: sliding_window\n\
             d.b: unit=UNKNOWN requests_per_unit=5, {modes}, window: 1500ms\n\
             d.c: unit=MINUTE requests_per_unit=60, {modes}, algorithm: token_bucket, burst: 7\n"
        )
    );
}

#[test]
fn a_name_cannot_make_a_line_of_its_own() {
    let rules = fixed("domain: d\ndescriptors: [{ key: \"a\\nb\", rate_limit: { unit: day, requests_per_unit: 1 } }]");
    assert_eq!(lines_of(&rules).lines().count(), 1);
    assert!(lines_of(&rules).starts_with("d.a\\nb: unit=DAY "));
}

#[test]
fn counts_have_the_references_names_and_are_there_before_anything_was_counted() {
    let metrics = Metrics::default();
    let (mut writer, table) = limit_table(metrics.clone(), 0.8);
    let text = || {
        let mut text = String::new();
        counts::write(&mut text, table.load().as_deref(), &metrics).unwrap();
        text
    };
    assert!(text().contains("ratelimit.service.config_load_error: 0\n"));
    assert!(!text().contains("rate_limit.test-domain"));
    writer.publish(fixed(REFERENCE));
    let snapshot = table.load().unwrap();
    let rule = snapshot.rules.rules().iter().find(|rule| rule.path.len() == 2).unwrap();
    snapshot.meter(rule).counters.record_unanswered(3);
    let name = format!("ratelimit.service.rate_limit.test-domain.{}", rule.path.join("."));
    assert!(text().contains(&format!("{name}.total_hits: 3\n{name}.over_limit: 0\n")), "{}", text());
}
