//! Every rejection of the reference service, with its text, and what it accepts silently, with our warning.

use super::*;

/// Checks that `text` has exactly one mistake, which begins and goes on as given.
fn rejected(text: &str, place: &str, parts: &[&str]) {
    let mistakes = mistakes(text);
    assert_eq!(mistakes.lines().count(), 1, "{mistakes}");
    assert!(mistakes.starts_with(&format!("rules.yaml:{place}: ")), "{mistakes}");
    for part in parts {
        assert!(mistakes.contains(part), "{mistakes}");
    }
}

#[test]
fn v1_a_text_that_is_no_yaml_is_rejected() {
    rejected("domain: [d", "2:1", &["error loading config file: "]);
    rejected("domain: d\nkey: *nobody\n", "2:6", &["error loading config file: ", "anchor"]);
    rejected("domain: !!int d\n", "1:9", &["error loading config file: ", "cannot decode"]);
    rejected("domain: d\n<<: [1]\n", "2:6", &["error loading config file: ", "map merge requires map"]);
}

#[test]
fn v2_a_key_that_is_no_text_is_rejected() {
    rejected(
        "domain: d\ndescriptors:\n- {key: a, yes: b}\n",
        "3:12",
        &["descriptors[0](a): ", "config error, key is not of type string: ", "yes"],
    );
    rejected("domain: d\n12: b\n", "2:1", &["config error, key is not of type string: the number 12"]);
}

#[test]
fn v3_an_unknown_word_is_rejected_and_the_nearest_is_offered() {
    rejected(
        "domain: d\ndescriptors:\n- key: a\n  ratelimit: {unit: hour}\n",
        "4:3",
        &["descriptors[0](a).ratelimit: ", "config error, unknown key 'ratelimit'", "did you mean 'rate_limit'?"],
    );
    rejected("domain: d\nholder: &h {key: a}\n", "2:1", &["config error, unknown key 'holder'"]);
    rejected("domain: d\nkey: {nested: 1}\n", "2:7", &["key.nested: config error, unknown key 'nested'"]);
}

#[test]
fn v4_a_list_of_anything_but_maps_is_rejected() {
    let text = "config error, yaml file contains list of type other than map: ";
    rejected("domain: d\ndescriptors:\n- a\n", "3:3", &["descriptors[0]: ", text, "'a'"]);
    rejected("domain: d\ndescriptors:\n- \n", "3:3", &["descriptors[0]: ", text, "nothing"]);
    rejected("domain: d\nvalue: [[]]\n", "2:9", &["value[0]: ", text, "a list"]);
}

#[test]
fn v5_a_float_or_a_number_beyond_64_bits_is_rejected() {
    rejected(
        "domain: d\ndescriptors: [{key: a, value: 1.5}]\n",
        "2:31",
        &["descriptors[0](a_1.5).value: error checking config"],
    );
    rejected("domain: 18446744073709551615\n", "1:9", &["domain: error checking config"]);
    rejected("domain: d\nunit: 1e3\n", "2:7", &["unit: error checking config"]);
}

#[test]
fn v6_a_value_of_another_type_is_rejected() {
    let text = "error loading config file: yaml: unmarshal errors: ";
    let limit = |limit: &str| format!("domain: d\ndescriptors:\n- key: a\n  rate_limit: {{unit: hour, {limit}}}\n");
    let path = "descriptors[0](a).rate_limit.requests_per_unit: ";
    rejected(&limit("requests_per_unit: \"5\""), "4:47", &[path, text, "the text '5'", "0 to 4294967295"]);
    rejected(&limit("requests_per_unit: -1"), "4:47", &[path, text, "the number -1"]);
    rejected(&limit("requests_per_unit: 4294967296"), "4:47", &[path, text]);
    rejected(&limit("unlimited: \"true\""), "4:39", &["rate_limit.unlimited: ", text, "without quotes"]);
    rejected("domain: d\ndescriptors: {key: a}\n", "2:14", &["descriptors: ", text, "a map where a list is needed"]);
    rejected("domain: d\ndescriptors: [{key: [], value: b}]\n", "2:21", &["descriptors[0].key: ", text]);
    rejected("domain: d\ndescriptors: [{key: a, metadata: 1}]\n", "2:34", &["descriptors[0](a).metadata: ", text]);
    rejected("[]", "1:1", &[text, "a list where a map is needed"]);
}

#[test]
fn v7_a_file_without_a_domain_is_rejected() {
    for text in ["", "# nothing\n", "descriptors: []\n", "domain: ''\n", "domain: ~\n"] {
        rejected(text, "1:1", &["config file cannot have empty domain"]);
    }
}

#[test]
fn v8_two_files_of_one_domain_are_joined_only_if_that_is_allowed() {
    let node = |key: &str| {
        format!("domain: d\ndescriptors: [{{key: {key}, rate_limit: {{unit: hour, requests_per_unit: 1}}}}]\n")
    };
    let files = [node("a"), node("b")];
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let apart = listed(&load_texts(&files, false).unwrap_err());
    assert!(
        apart.starts_with("rules2.yaml:1:9: domain: duplicate domain 'd' in config file: rules.yaml has"),
        "{apart}"
    );
    let (joined, _) = load_texts(&files, true).unwrap();
    assert_eq!(answer(&joined, "(a=1)"), "a: 1 per hour");
    assert_eq!(answer(&joined, "(b=1)"), "b: 1 per hour");
}

#[test]
fn v9_a_descriptor_without_a_key_is_rejected() {
    for node in ["{value: b}", "{key: '', value: b}", "{key: ~}", "{}"] {
        rejected(&format!("domain: d\ndescriptors:\n- {node}\n"), "3:3", &["descriptors[0]: descriptor has empty key"]);
    }
}

#[test]
fn v10_siblings_of_the_same_joined_text_are_rejected() {
    let text = "
domain: d
descriptors:
- key: p
  descriptors:
  - {key: a, value: b_c}
  - {key: a_b, value: c}
";
    rejected(
        text,
        "7:5",
        &[
            "descriptors[0](p).descriptors[1](a_b_c): ",
            "duplicate descriptor composite key 'd.p.a_b_c'",
            "rules.yaml:6",
        ],
    );
    let merged = load_texts(&["domain: d\ndescriptors: [{key: a}]", "domain: d\ndescriptors: [{key: a}]"], true);
    let merged = merged.unwrap_err().to_string();
    assert!(
        merged.contains("rules2.yaml:2:15: descriptors[0](a): duplicate descriptor composite key 'd.a'"),
        "{merged}"
    );
}

#[test]
fn v11_a_limit_without_a_known_unit_is_rejected() {
    let limit = |limit: &str| format!("domain: d\ndescriptors:\n- key: a\n  rate_limit: {limit}\n");
    rejected(
        &limit("{unit: seconds, requests_per_unit: 1}"),
        "4:22",
        &["descriptors[0](a).rate_limit.unit: invalid rate limit unit 'seconds'", "did you mean second?"],
    );
    rejected(&limit("{unit: unknown, requests_per_unit: 1}"), "4:22", &["invalid rate limit unit 'unknown'"]);
    rejected(&limit("{requests_per_unit: 1}"), "4:15", &["invalid rate limit unit ''"]);
    rejected(&limit("{}"), "4:15", &["invalid rate limit unit ''"]);
}

#[test]
fn v12_a_unit_next_to_unlimited_is_rejected() {
    let limit =
        |limit: &str| format!("domain: d\ndescriptors:\n- key: a\n  rate_limit: {{unlimited: true, {limit}}}\n");
    rejected(&limit("unit: hour"), "4:39", &["rate_limit.unit: should not specify rate limit unit when unlimited"]);
    assert!(warnings(&limit("unit: foo")).contains("rate_limit.unit: 'foo' is no unit"));
    assert!(warnings(&limit("requests_per_unit: 5")).contains("requests_per_unit: has no effect next to unlimited"));
}

#[test]
fn v13_and_v14_replaces_names_others() {
    let limit = |replaces: &str| {
        format!(
            "domain: d\ndescriptors:\n- key: a\n  rate_limit: {{unit: hour, requests_per_unit: 1, name: n, replaces: [{replaces}]}}\n"
        )
    };
    rejected(&limit("{name: ''}"), "4:77", &["replaces[0]: should not have an empty replaces entry"]);
    rejected(&limit("{}"), "4:70", &["replaces[0]: should not have an empty replaces entry"]);
    rejected(&limit("{name: n}"), "4:77", &["replaces[0](n): replaces should not contain name of same descriptor"]);
    assert!(warnings(&limit("{name: nobody}")).contains("no rate_limit of this domain has the name 'nobody'"));
}

#[test]
fn v15_a_threshold_is_shared_by_a_wildcard_only() {
    rejected(
        "domain: d\ndescriptors:\n- {key: a, value: b, share_threshold: true}\n",
        "3:39",
        &[
            "descriptors[0](a_b).share_threshold: ",
            "share_threshold can only be used with wildcard values (containing '*'), but found key 'a_b'",
        ],
    );
    rules("domain: d\ndescriptors:\n- {key: a, value: b, share_threshold: false}\n");
}

#[test]
fn v16_metadata_is_text_numbers_booleans_lists_and_maps() {
    let node = |metadata: &str| {
        format!(
            "domain: d\ndescriptors:\n- key: a\n  rate_limit: {{unit: hour, requests_per_unit: 1}}\n  metadata: {metadata}\n"
        )
    };
    rejected(&node("{x: [!!binary /w==]}"), "5:18", &["metadata.x[0]: error parsing metadata: "]);
    let rules = rules(&node("{yes: 1, 12: .nan, day: 2024-01-31, deep: {m: [1.5, ~, 010]}, b: !!binary aGk=}"));
    let metadata = serde_json::Value::Object(rules.rules()[0].metadata.clone().unwrap());
    let expected = serde_json::json!({
        "true": 1, "12": "NaN", "day": "2024-01-31", "deep": {"m": [1.5, null, 8]}, "b": "hi",
    });
    assert_eq!(metadata, expected);
}

#[test]
fn what_the_reference_ignores_is_accepted_with_a_warning() {
    let text = "
domain: d
key: nonsense
descriptors:
- key: a
  unit: hour
  rate_limit: {unit: hour, requests_per_unit: 3, requests_per_unit: 4, shadow_mode: true}
- key: b
  rate_limit: {unit: hour}
---
domain: other
";
    let warnings = warnings(text);
    for warning in [
        "rules.yaml:3:1: key: means nothing in the root of a file; it belongs in a descriptor or an entry of a subset",
        "rules.yaml:6:3: descriptors[0](a).unit: means nothing in a descriptor; it belongs in rate_limit",
        "descriptors[0](a).rate_limit.shadow_mode: means nothing in rate_limit; it belongs in a descriptor or a subset",
        "descriptors[0](a).rate_limit.requests_per_unit: stands here twice; the last one counts",
        "descriptors[1](b).rate_limit: requests_per_unit is missing, so everything is blocked",
        "only the first document of a file is read",
    ] {
        assert!(warnings.contains(warning), "{warning}\n---\n{warnings}");
    }
    assert_eq!(warnings.lines().count(), 6, "{warnings}");
    check(text, &[("(a=1)", "a: 4 per hour"), ("(b=1)", "b: 0 per hour")]);
    let rules = rules(text);
    assert!(matches!(rules.rules()[0].action, Action::Limited { shadow_mode: false, .. }));
}

#[test]
fn limits_that_replace_each_other_are_warned_of() {
    let text = "
domain: d
descriptors:
- {key: a, rate_limit: {unit: hour, requests_per_unit: 1, name: A, replaces: [{name: B}]}}
- {key: b, rate_limit: {unit: hour, requests_per_unit: 1, name: B, replaces: [{name: A}]}}
";
    assert!(warnings(text).contains("'A' and 'B' replace each other"));
    let one_unlimited = text.replacen("unit: hour, requests_per_unit: 1", "unlimited: true", 1);
    assert_eq!(warnings(&one_unlimited), "");
    let rules = rules(text);
    assert_eq!(rules.rules()[0].name.as_deref(), Some("A"));
    assert_eq!(*rules.rules()[0].replaces, [Arc::from("B")]);
}

#[test]
fn scalars_are_those_of_yaml_1_1() {
    let limit = |requests: &str| {
        format!("domain: d\ndescriptors: [{{key: a, rate_limit: {{unit: MiNuTe, requests_per_unit: {requests}}}}}]\n")
    };
    for (text, number) in [("010", 8), ("0x10", 16), ("1_000", 1000), ("4294967295", u32::MAX)] {
        check(&limit(text), &[("(a=1)", &format!("a: {number} per minute"))]);
    }
    assert!(mistakes(&limit("1.0")).contains("error checking config"));
    check(
        "
domain: d
descriptors:
- {key: a, value: yes, rate_limit: {unit: hour, requests_per_unit: 1}}
- {key: a, value: 12, rate_limit: {unit: hour, requests_per_unit: 2}}
- {key: a, value: \"010\", rate_limit: {unit: hour, requests_per_unit: 3}}
- {key: off, value: ~, rate_limit: {unit: hour, requests_per_unit: 4}}
- {key: n, rate_limit: }
",
        &[
            ("(a=yes)", "a_yes: 1 per hour"),
            ("(a=true)", "none"),
            ("(a=12)", "a_12: 2 per hour"),
            ("(a=010)", "a_010: 3 per hour"),
            ("(off=x)", "off: 4 per hour"),
            ("(n=x)", "none"),
        ],
    );
}

#[test]
fn anchors_and_merges_work_as_in_the_reference_s_parser() {
    check(
        "
domain: d
descriptors:
- &base
  key: a
  rate_limit: &limit {unit: hour, requests_per_unit: 1}
- {<<: *base, key: b}
- {key: c, <<: *base, value: x}
- {key: d, rate_limit: *limit}
- {<<: *base, key: e, rate_limit: {unit: minute}}
- {<<: [{key: f}, {key: g, value: h}], rate_limit: *limit}
",
        &[
            ("(a=1)", "a: 1 per hour"),
            ("(b=1)", "b: 1 per hour"),
            // The merge stands after the key, so its key wins.
            ("(a=x)", "a_x: 1 per hour"),
            ("(d=1)", "d: 1 per hour"),
            // A repeated rate_limit is laid over the one before.
            ("(e=1)", "e: 1 per minute"),
            ("(f=h)", "f_h: 1 per hour"),
        ],
    );
}

#[test]
fn every_mistake_in_every_file_is_reported_at_once() {
    let files = [
        "domain: d\ndescriptors:\n- key: a\n  rate_limit: {unit: hours, requests_per_unit: x}\n- {value: b}\n",
        "domain: [",
        "descriptors:\n- key: a\n  rate_limit: {unlimited: true, unit: day}\n  oops: 1\n",
    ];
    let errors = load_texts(&files, false).unwrap_err();
    let lines: Vec<String> = errors.to_string().lines().map(str::to_owned).collect();
    let expected = [
        "7 mistakes in 3 files:",
        "rules.yaml:4:22: descriptors[0](a).rate_limit.unit: invalid rate limit unit 'hours'",
        "rules.yaml:4:48: descriptors[0](a).rate_limit.requests_per_unit: error loading config file",
        "rules.yaml:5:3: descriptors[1]: descriptor has empty key",
        "rules2.yaml:2:1: error loading config file",
        "rules3.yaml:1:1: config file cannot have empty domain",
        "rules3.yaml:3:39: descriptors[0](a).rate_limit.unit: should not specify rate limit unit when unlimited",
        "rules3.yaml:4:3: descriptors[0](a).oops: config error, unknown key 'oops'",
    ];
    assert_eq!(lines.len(), expected.len(), "{errors}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{expected}\n---\n{errors}");
    }
}

#[test]
fn a_long_list_of_mistakes_is_cut_and_no_file_is_left_out() {
    let long = |count: usize| format!("domain: d\ndescriptors:\n{}", "- {value: b}\n".repeat(count));
    let errors = load_texts(&[&long(5_000), "domain: [", &long(2).replace(": d", ": e")], false).unwrap_err();
    assert_eq!(errors.findings().len(), FINDINGS_KEPT_MAX);
    let text = errors.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), FINDINGS_MAX + 2);
    assert_eq!(lines[0], "5003 mistakes in 3 files:");
    for (file, count) in [("rules.yaml:", 97), ("rules2.yaml:", 1), ("rules3.yaml:", 2)] {
        assert_eq!(lines.iter().filter(|line| line.starts_with(file)).count(), count, "{file}");
    }
    assert_eq!(lines[101], "and 4903 more");
    assert_eq!(errors.all().to_string().lines().count(), FINDINGS_KEPT_MAX + 2);
    let one = load_texts(&["domain: ["], false).unwrap_err().to_string();
    assert!(one.starts_with("1 mistake in 1 file:\n"), "{one}");
}

#[test]
fn a_path_of_keys_has_the_index_in_the_file() {
    let list = |list: &str| mistakes(&format!("domain: d\n{list}\n"));
    let limit = "unit: hour, requests_per_unit: 1, name: n";
    for (text, expected) in [
        (
            "descriptors: [1, {key: x, rate_limit: {unit: foo}}]".to_owned(),
            "descriptors[1](x).rate_limit.unit: invalid",
        ),
        (
            format!("descriptors: [{{key: x, rate_limit: {{{limit}, replaces: [1, {{name: n}}]}}}}]"),
            "replaces[1](n): replaces should not",
        ),
        ("subsets: [1, {entries: [{key: a}]}]".to_owned(), "subsets[1](a): a subset without rate_limit"),
        (format!("subsets: [{{entries: [1, {{}}], rate_limit: {{{limit}}}}}]"), "entries[1]: descriptor has empty key"),
    ] {
        let mistakes = list(&text);
        assert!(mistakes.contains(expected) && mistakes.lines().count() == 2, "{text}\n---\n{mistakes}");
    }
}

#[test]
fn one_mistake_is_one_message() {
    let limit = "rate_limit: {unit: hour, requests_per_unit: 1}";
    for text in [
        format!("domain: d\nsubsets: [{{entries: x, {limit}}}]"),
        format!("domain: d\nsubsets: [{{entries: [x], {limit}}}]"),
        format!("domain: d\nsubsets: [{{entrys: [{{key: a}}], {limit}}}]"),
        "domain: d\nsubsets: [{entries: [{key: a}], ratelimit: {}}]".to_owned(),
        "domain: d\ndescriptors: [{ky: a}]".to_owned(),
        "domain: d\ndescriptors: [{key: a, vaule: b}, {key: a}]".to_owned(),
        "domain: d\ndescriptors: [{key: a, vaule: 'b*', share_threshold: true}]".to_owned(),
        "domain: d\ndescriptors: [{key: a, rate_limit: {unt: hour, requests_per_unit: 1}}]".to_owned(),
        "domian: d\ndescriptors: [{key: a}]".to_owned(),
    ] {
        let mistakes = mistakes(&text);
        assert!(mistakes != "none" && mistakes.lines().count() == 1, "{text}\n---\n{mistakes}");
    }
}
