//! Adaptive services in rule files: what they mean.

mod gate;
mod rejections;

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::rate::Rate;
use crate::rules::service::{
    CustomSignals, EnvoySignals, HistogramSignals, IstioSignals, LatencyTarget, PrometheusAccess, Secret, Service,
    ServiceMode, SignalSpec, Stale,
};

/// Rules to govern, in a file of their own. The services' own file is the second.
const RULES: &str = "
domain: shop
descriptors:
- {key: service, value: inventory, rate_limit: {unit: second, requests_per_unit: 9}}
- key: service
  value: order
  descriptors:
  - {key: user, rate_limit: {unit: minute, requests_per_unit: 9}}
- {key: free, rate_limit: {unlimited: true}}
- {key: vip, rate_limit: {unit: hour, requests_per_unit: 9, name: vip, replaces: [{name: plain}]}}
- {key: plain, rate_limit: {unit: hour, requests_per_unit: 9, name: plain}}
subsets:
- {entries: [{key: service, value: order}, {key: plan}], rate_limit: {unit: hour, requests_per_unit: 9}}
";

const PROMETHEUS: &str = "prometheus: {url: 'http://p:9090'}\n";

/// A service of these words, on a line of its own; the words are the third line of its file.
fn service(words: &str) -> String {
    format!("{PROMETHEUS}services:\n- {{{words}}}\n")
}

const NAME: &str = "name: inventory";
const GOVERNS: &str = "governs: [{domain: shop, descriptor: [{service: inventory}]}]";
const BOUNDS: &str = "bounds: {max: 500/s}";
const SIGNALS: &str = "signals: {preset: envoy, cluster: c}";

/// A complete service in which one word is another.
fn with(word: &str) -> String {
    let mut words = vec![NAME, GOVERNS, BOUNDS, SIGNALS];
    words.retain(|complete| complete.split(':').next() != word.split(':').next());
    words.push(word);
    service(&words.join(", "))
}

fn without(word: &str) -> String {
    let mut words = vec![NAME, GOVERNS, BOUNDS, SIGNALS];
    words.retain(|complete| complete.split(':').next() != Some(word));
    service(&words.join(", "))
}

fn load_services(text: &str) -> Result<(RuleSet, Vec<Warning>), RuleErrors> {
    load_texts(&[RULES, text], false)
}

fn services(text: &str) -> Vec<Service> {
    let (rules, warnings) = load_services(text).unwrap_or_else(|errors| panic!("{text}\n---\n{errors}"));
    assert_eq!(warnings, [], "{text}");
    rules.services().to_vec()
}

/// The only service of a text.
fn only(text: &str) -> Service {
    let mut services = services(text);
    assert_eq!(services.len(), 1);
    services.remove(0)
}

#[test]
fn four_words_make_a_service_and_the_rest_has_its_default() {
    let service = only(&service(&[NAME, GOVERNS, BOUNDS, SIGNALS].join(", ")));
    assert_eq!((&*service.name, service.index, service.mode), ("inventory", 0, ServiceMode::Observe));
    assert_eq!(service.bounds.max, Rate::from_per_second(500.0));
    assert_eq!(service.bounds.min, Rate::from_per_second(25.0));
    assert_eq!(service.start, service.bounds.max);
    assert_eq!((service.targets.errors, service.targets.latency), (0.05, None));
    assert_eq!(service.interval, Duration::from_secs(5));
    assert_eq!(
        (service.scrape_interval, service.propagation, service.flush),
        (None, Duration::from_secs(1), Duration::ZERO)
    );
    let ten_minutes = Duration::from_secs(600);
    assert_eq!(service.stale, Stale { hold: ten_minutes, decay: ten_minutes, toward: service.bounds.max });
    assert!(!service.brittle && !service.scale_rules);
    assert_eq!(&*service.place, "rules2.yaml:3");
    let envoy = EnvoySignals {
        cluster: "c".to_owned(),
        matchers: String::new(),
        limited_status_is_5xx: false,
        failure_mode_deny: false,
    };
    assert_eq!(service.source, Some(SignalSpec::Envoy(envoy)));
}

#[test]
fn the_lowest_limit_is_by_default_a_twentieth_and_never_next_to_nothing() {
    assert_eq!(only(&with("bounds: {max: 2/s}")).bounds.min, Rate::from_per_second(0.2));
    assert_eq!(only(&with("bounds: {max: 40/s}")).bounds.min, Rate::from_per_second(2.0));
}

#[test]
fn what_is_governed_is_known_by_rule_whatever_its_form_and_place() {
    let text = "
services:
- {name: a, mode: off, bounds: {max: 9/s}, governs: [{domain: shop, descriptor: [{plan: }, {service: order}]}]}
- {name: b, mode: off, bounds: {max: 9/s}, governs: [{domain: shop, descriptor: [{service: order}, {user: ~}]}]}
";
    let (rules, _) = load_services(text).unwrap();
    let governed_by = |path: &[&str]| {
        let rule = rules.rules().iter().find(|rule| rule.path.iter().map(|part| &**part).eq(path.iter().copied()));
        rules.governing(rule.expect("it is a rule").index).map(|service| service.name.to_string())
    };
    assert_eq!(governed_by(&["service_order", "plan"]).as_deref(), Some("a"));
    assert_eq!(governed_by(&["service_order", "user"]).as_deref(), Some("b"));
    assert_eq!(governed_by(&["service_inventory"]), None);
    assert_eq!(rules.prometheus(), None);
}

#[test]
fn both_forms_of_a_latency_target_are_one() {
    let target = |latency: &str| only(&with(&format!("targets: {{latency: {latency}}}"))).targets.latency;
    let expected = Some(LatencyTarget { above: Duration::from_millis(250), at_most: 0.1 });
    for latency in ["{p90: 250ms}", "{above: 250ms, at_most: 10%}", "{at_most: 0.1, above: 250ms}"] {
        assert_eq!(target(latency), expected, "{latency}");
    }
}

#[test]
fn the_example_loads_and_says_what_it_says() {
    let text = include_str!("../../../../config/adaptive.yaml");
    let rules = rules(text);
    assert_eq!(warnings(text), "");
    let names: Vec<&str> = rules.services().iter().map(|service| &*service.name).collect();
    assert_eq!(names, ["inventory", "order", "search", "payment", "mail"]);
    let order = &rules.services()[1];
    assert_eq!(order.governs.len(), 2);
    assert_eq!(order.flush, Duration::from_secs(5));
    assert_eq!(order.targets.latency, Some(LatencyTarget { above: Duration::from_millis(250), at_most: 0.1 }));
    let second = Duration::from_secs(1);
    let histogram = HistogramSignals {
        metric: "http_server_request_duration_seconds".to_owned(),
        matchers: r#"app="payment", code!="429""#.to_owned(),
        error_matchers: r#"code=~"5..""#.to_owned(),
        unit: second,
    };
    assert_eq!(rules.services()[3].source, Some(SignalSpec::Histogram(histogram)));
    let istio =
        IstioSignals { service: "search".to_owned(), namespace: "shop".to_owned(), reporter: "source".to_owned() };
    assert_eq!(rules.services()[2].source, Some(SignalSpec::Istio(istio)));
    let Some(SignalSpec::Custom(CustomSignals { slow: Some(slow), .. })) = &rules.services()[4].source else {
        panic!("{:?}", rules.services()[4].source)
    };
    assert!(slow.contains("[$window]"));
    assert_eq!(rules.services()[4].bounds.min.to_string(), "0.1/s");
    // Everything that has a default is written with it.
    let bare = &rules.services()[0];
    assert_eq!((bare.mode, bare.interval, bare.stale.hold), (order.mode, order.interval, order.stale.hold));
    assert_eq!((bare.propagation, bare.scrape_interval), (order.propagation, order.scrape_interval));
    assert_eq!((bare.targets.errors, bare.brittle), (order.targets.errors, order.brittle));
    let server = rules.prometheus().expect("it has one");
    assert_eq!((server.url.as_str(), server.timeout), ("http://prometheus:9090", Duration::from_secs(2)));
}

#[test]
fn a_prometheus_says_who_we_are_by_value_or_file_and_no_one_reads_it_in_a_log() {
    let server = |words: &str| {
        let (rules, _) = load_services(&format!("prometheus: {{url: 'https://p:9090/', {words}}}\n")).unwrap();
        rules.prometheus().cloned().unwrap()
    };
    let plain = server("timeout: 500ms");
    assert_eq!((plain.url.as_str(), plain.timeout), ("https://p:9090", Duration::from_millis(500)));
    assert_eq!(plain.access, PrometheusAccess::Open);
    let by_value = server("bearer_token: s3cret, ca_file: ca.pem");
    assert_eq!(by_value.access, PrometheusAccess::Bearer(Secret::Value("s3cret".to_owned())));
    assert_eq!(by_value.ca_file, Some(PathBuf::from("ca.pem")));
    let by_file = server("basic_auth: {user: u, password_file: f}");
    let password = Secret::File(PathBuf::from("f"));
    assert_eq!(by_file.access, PrometheusAccess::Basic { user: "u".to_owned(), password });
    let basic = server("basic_auth: {user: u, password: s3cret}");
    for server in [by_value, basic] {
        let printed = format!("{server:?} {:?}", server.access);
        assert!(!printed.contains("s3cret"), "{printed}");
    }
}

#[test]
fn a_fingerprint_changes_with_targets_and_signals_and_with_nothing_else() {
    let base = only(&with(NAME));
    let print = |word: &str| only(&with(word)).fingerprint();
    for same in ["mode: enforce", "bounds: {max: 400/s}", "start: 100/s", "interval: 9s", "brittle: true"] {
        assert_eq!(print(same), base.fingerprint(), "{same}");
    }
    let others = [
        "targets: {errors: 4%}",
        "targets: {latency: {p90: 250ms}}",
        "targets: {latency: {p90: 251ms}}",
        "targets: {latency: {p91: 250ms}}",
        "signals: {preset: envoy, cluster: d}",
        "signals: {preset: envoy, cluster: c, limited_status: 503}",
        "signals: {preset: envoy, cluster: c, failure_mode_deny: true}",
        "signals: {preset: envoy, cluster: c, match: 'a=\"b\"'}",
        "signals: {preset: istio, service: c}",
        "signals: {preset: istio, service: c, reporter: destination}",
        "signals: {preset: histogram, metric: c, error_match: 'a=\"b\"'}",
        "signals: {preset: histogram, metric: c, error_match: 'a=\"b\"', unit: ms}",
        "signals: {preset: custom, queries: {answered: 'a[$window]', failed: 'b[$window]'}}",
        "signals: {preset: custom, queries: {answered: 'a[$window]', failed: 'b[$window]', slow: 'c[$window]'}}",
        "signals: {preset: custom, queries: {answered: 'a[$window]', failed: 'b[$window]', latency_sum: 'c[$window]'}}",
    ];
    let mut prints: Vec<u64> = others.into_iter().map(print).collect();
    prints.push(base.fingerprint());
    let count = prints.len();
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), count);
    // States outlive releases, so it must not change by itself.
    assert_eq!(format!("{:016x}", base.fingerprint()), "db79c2ce0723d395");
}
