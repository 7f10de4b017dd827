//! Claims about mappings: the reference service's own, Envoy Gateway's, and what can be wrong with one.

use proptest::prelude::*;

use super::*;

/// What the reference service maps by itself, in words of our own: one level by globs, more by expressions that are
/// not anchored.
fn reference() -> Mapping {
    let mut text = "mappings:\n".to_owned();
    for measure in ["near_limit", "over_limit", "total_hits", "within_limit", "shadow_mode"] {
        text += &format!(
            "- match: ratelimit.service.rate_limit.*.*.{measure}\n  name: ratelimit_service_rate_limit_{measure}\n  \
             timer_type: histogram\n  labels: {{domain: \"$1\", key1: \"${{2}}\"}}\n\
             - match: 'ratelimit\\.service\\.rate_limit\\.([^.]+)\\.([^.]+)\\.([^.]+)(\\..*)?\\.{measure}'\n  \
             match_type: regex\n  name: ratelimit_service_rate_limit_{measure}\n  \
             labels: {{domain: \"$1\", key1: \"$2\", key2: \"$3\"}}\n"
        );
    }
    text += "
- match: ratelimit.service.call.should_rate_limit.*
  name: ratelimit_service_should_rate_limit_error
  match_metric_type: counter
  labels: {err_type: $1}
- match: ratelimit_server.*.total_requests
  name: ratelimit_service_total_requests
  match_metric_type: counter
  labels: {grpc_method: $1}
- match: ratelimit_server.*.response_time
  name: ratelimit_service_response_time_seconds
  timer_type: histogram
  scale: 0.001
  labels: {grpc_method: $1}
- {match: ratelimit.service.config_load_success, name: ratelimit_service_config_load_success, match_metric_type: counter}
- {match: ratelimit.service.config_load_error, name: ratelimit_service_config_load_error, match_metric_type: counter}
";
    Mapping::read("m.yaml", &text).unwrap()
}

/// Family and labels as Prometheus writes them.
fn shown(mapping: &Mapping, name: &str, kind: Kind) -> String {
    match mapping.apply(name, kind) {
        Mapped::Dropped => "dropped".to_owned(),
        Mapped::Member { family, labels, .. } => {
            let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
            format!("{family}{{{}}}", labels.join(","))
        }
    }
}

fn mistakes(text: &str) -> Vec<String> {
    Mapping::read("m.yaml", text).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn the_references_mapping_gives_its_names_and_labels() {
    let mapping = reference();
    let start = "ratelimit.service.rate_limit";
    for (name, expected) in [
        (format!("{start}.d.user.over_limit"), "ratelimit_service_rate_limit_over_limit{domain=d,key1=user}"),
        (
            format!("{start}.d.user_a.path_/x/*.near_limit"),
            "ratelimit_service_rate_limit_near_limit{domain=d,key1=user_a,key2=path_/x/*}",
        ),
        (
            format!("{start}.d.a.masked_remote_address_192_0_2_0/24.c.d.total_hits"),
            "ratelimit_service_rate_limit_total_hits{domain=d,key1=a,key2=masked_remote_address_192_0_2_0/24}",
        ),
        (
            "ratelimit.service.call.should_rate_limit.redis_error".to_owned(),
            "ratelimit_service_should_rate_limit_error{err_type=redis_error}",
        ),
        (
            "ratelimit_server.ShouldRateLimit.total_requests".to_owned(),
            "ratelimit_service_total_requests{grpc_method=ShouldRateLimit}",
        ),
        ("ratelimit.service.config_load_error".to_owned(), "ratelimit_service_config_load_error{}"),
        ("tidegate.store_errors.un-reachable".to_owned(), "tidegate_store_errors_un_reachable{}"),
    ] {
        assert_eq!(shown(&mapping, &name, Kind::Counter), expected);
    }
    let timer = mapping.apply("ratelimit_server.ShouldRateLimit.response_time", Kind::Observer);
    let Mapped::Member { family, observer, scale, .. } = timer else { panic!("{timer:?}") };
    assert_eq!((family.as_str(), scale), ("ratelimit_service_response_time_seconds", 0.001));
    assert!(matches!(observer, Observer::Histogram(edges) if edges.len() == 11));
}

#[test]
fn a_star_of_a_glob_is_one_part_and_the_first_pattern_of_the_file_wins() {
    let text = "
mappings:
- {match: 'a\\..*', match_type: regex, name: by_expression}
- {match: a.*.c, name: 'first_$1'}
- {match: a.b.c, name: second}
";
    let mapping = Mapping::read("m.yaml", text).unwrap();
    assert_eq!(shown(&mapping, "a.b.c", Kind::Gauge), "first_b{}", "globs come before expressions");
    assert_eq!(shown(&mapping, "a.b.x.c", Kind::Gauge), "by_expression{}");
    assert_eq!(shown(&mapping, "0.b", Kind::Gauge), "_0_b{}");
}

#[test]
fn a_pattern_can_be_for_one_kind_of_metric_and_can_drop() {
    let text = "
mappings:
- {match: 'a.*', match_metric_type: timer, name: time}
- {match: 'a.*', match_metric_type: gauge, name: x, action: drop}
";
    let mapping = Mapping::read("m.yaml", text).unwrap();
    let kinds = [Kind::Observer, Kind::Gauge, Kind::Counter].map(|kind| shown(&mapping, "a.b", kind));
    assert_eq!(kinds, ["time{}", "dropped", "a_b{}"]);
}

#[test]
fn defaults_hold_where_a_mapping_says_nothing() {
    let text = "
defaults:
  observer_type: histogram
  histogram_options: {buckets: [1, 2.5]}
  match_type: regex
  ttl: 5m
mappings:
- {match: '^a$', name: a}
- {match: b, match_type: glob, name: b, observer_type: summary, quantiles: [{quantile: 0.5, error: 0.1}]}
- {match: '^c$', name: c, buckets: [7]}
";
    let mapping = Mapping::read("m.yaml", text).unwrap();
    let observer = |name| match mapping.apply(name, Kind::Observer) {
        Mapped::Member { observer, .. } => observer.clone(),
        Mapped::Dropped => panic!("{name} is dropped"),
    };
    assert_eq!(observer("a"), Observer::Histogram(vec![1.0, 2.5]));
    assert_eq!(observer("b"), Observer::Summary(vec![0.5]));
    assert_eq!(observer("c"), Observer::Histogram(vec![7.0]));
    assert_eq!(observer("unknown"), Observer::Histogram(vec![1.0, 2.5]));
}

#[test]
fn an_empty_file_maps_nothing() {
    for text in ["", "mappings:\n", "# nothing\n", "defaults:\nmappings: []\n"] {
        assert_eq!(shown(&Mapping::read("m.yaml", text).unwrap(), "a.b", Kind::Counter), "a_b{}", "{text:?}");
    }
}

#[test]
fn a_label_of_one_letter_is_none_of_the_mistakes() {
    assert_eq!(mistakes("mappings:\n- {match: a, name: a, labels: {a: $1}}\n"), Vec::<String>::new());
}

#[test]
fn every_mistake_is_told_with_its_place_and_all_at_once() {
    let text = "mappings:
- name: a
- match: 'a.b*'
  name: b
- match: '('
  match_type: regex
  name: c
- match: d
  action: keep
- match: e
  name: e
  labels: {0a: x, le: y, fine: z}
- match: f
  name: f
  scale: much
  buckets: [2, 1]
- match: g
  nmae: g
";
    let expected = [
        "m.yaml:2:3: mappings[0]: `match` is missing",
        "m.yaml:3:10: mappings[1]: `match` is 'a.b*', but a * of a glob stands for a whole part between dots",
        "m.yaml:5:10: mappings[2]: `match` is no regular expression: error: unclosed group",
        "m.yaml:9:11: mappings[3]: `action` is the text 'keep', but must be one of map, drop",
        "m.yaml:8:3: mappings[3]: `name` is missing, and `action` is not drop",
        "m.yaml:12:12: mappings[4].labels: the label '0a' must be named with letters, digits and _",
        "m.yaml:12:19: mappings[4].labels: the label 'le' must be named with letters, digits and _",
        "m.yaml:15:10: mappings[5].scale: the text 'much' where a number is needed",
        "m.yaml:16:12: mappings[5].buckets: each number must be larger than the one before",
        "m.yaml:18:3: mappings[6]: the text 'nmae' is no word here; known are match",
        "m.yaml:17:3: mappings[6]: `name` is missing",
    ];
    let found = mistakes(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    for text in ["mappings: 5", "- a", "mappings: [a]", "a: [", &"#".repeat((1 << 20) + 1)] {
        assert_eq!(mistakes(text).len(), 1, "{:?}", mistakes(text));
    }
}

proptest! {
    #[test]
    fn any_text_is_a_mapping_or_mistakes(
        text in "\\PC{0,60}|(mappings:\n)?(- ?\\{?(match|name|labels|buckets): ?[\\[{a$*.0-9(]{0,6}[,}]?\n? {0,3}){0,6}",
        name in "[a-z.]{0,20}",
    ) {
        match Mapping::read("m.yaml", &text) {
            Ok(mapping) => drop(mapping.apply(&name, Kind::Counter)),
            Err(mistakes) => prop_assert!(!mistakes.is_empty()),
        }
    }

    #[test]
    fn every_family_has_a_name_that_prometheus_allows(name in "\\PC{0,30}") {
        let clean = allowed(&name);
        prop_assert!(!clean.starts_with(|c: char| c.is_ascii_digit()) && !clean.is_empty());
        prop_assert!(clean.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    }
}
