//! What the reader makes of a file, and what it says of a wrong one.

use std::time::Duration;

use proptest::prelude::*;

use super::model::{
    Action, ClusterSpecifier, Discovery, DomainPattern, FilterConfig, Host, RouteTo, Template, UpstreamProtocol,
};
use super::*;

/// A listener with one route, two filters and one cluster: as short as a bootstrap can be that serves.
const SMALL: &str = r#"
node: { id: one, cluster: edge }
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 9901 } } }
static_resources:
  listeners:
    - name: main
      address: { socket_address: { address: 127.0.0.1, port_value: 10000 } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: main
                http_filters:
                  - name: limit
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
                      domain: shop
                      rate_limit_service:
                        transport_api_version: V3
                        grpc_service: { envoy_grpc: { cluster_name: up } }
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        - match: { prefix: / }
                          route: { cluster: up }
  clusters:
    - name: up
      load_assignment:
        cluster_name: up
        endpoints:
          - lb_endpoints:
              - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 8080 } } }
"#;

/// The small file with a piece of it replaced.
fn with(piece: &str, by: &str) -> String {
    assert!(SMALL.contains(piece), "{piece}");
    SMALL.replace(piece, by)
}

fn good(text: &str) -> Bootstrap {
    read(text, "proxy.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The mistakes of a file, without its name.
fn mistakes(text: &str) -> Vec<String> {
    let errors = read(text, "f").map(|_| ()).unwrap_err();
    errors.findings().iter().map(|finding| finding.to_string().split_once(": ").unwrap().1.to_owned()).collect()
}

fn only_mistake(piece: &str, by: &str) -> String {
    let mistakes = mistakes(&with(piece, by));
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes.into_iter().next().unwrap()
}

#[test]
fn what_is_not_said_has_envoys_default() {
    let bootstrap = good(SMALL);
    assert_eq!((bootstrap.node.id.as_str(), bootstrap.node.cluster.as_str()), ("one", "edge"));
    assert_eq!(bootstrap.admin, Some("127.0.0.1:9901".parse().unwrap()));
    let [listener] = &bootstrap.listeners[..] else { panic!("one listener") };
    assert_eq!((listener.name.as_str(), listener.address.port()), ("main", 10_000));
    let http = &listener.http;
    assert_eq!(http.stream_idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(http.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!((http.request_timeout, http.request_headers_timeout), (None, None));
    assert_eq!((http.max_headers_count, http.max_request_headers_kb), (100, 60));
    assert_eq!((http.generate_request_id, http.use_remote_address), (true, false));
    assert_eq!(http.server_name, "envoy");
    let [limit, router] = &http.http_filters[..] else { panic!("two filters") };
    let FilterConfig::RateLimit(limit) = &limit.config else { panic!("a rate limit filter") };
    assert_eq!((limit.timeout, limit.failure_mode_deny), (Some(Duration::from_millis(20)), false));
    assert_eq!((limit.rate_limited_status.as_u16(), limit.status_on_error.as_u16()), (429, 500));
    assert_eq!(limit.cluster, "up");
    assert!(matches!(router.config, FilterConfig::Router(_)));
    let host = &http.route_config.virtual_hosts[0];
    assert_eq!(host.domains, [DomainPattern::Any]);
    let RouteTo::Cluster(action) = &host.routes[0].action else { panic!("a route to a cluster") };
    assert_eq!(action.cluster, ClusterSpecifier::Cluster("up".to_owned()));
    assert_eq!((action.timeout, action.idle_timeout), (Some(Duration::from_secs(15)), None));
    let [cluster] = &bootstrap.clusters[..] else { panic!("one cluster") };
    assert_eq!((cluster.discovery, cluster.protocol), (Discovery::Static, UpstreamProtocol::Http1));
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    let breakers = cluster.circuit_breakers;
    assert_eq!((breakers.max_connections, breakers.max_pending_requests), (1024, 1024));
    assert_eq!((breakers.max_requests, breakers.max_retries), (1024, 3));
    assert_eq!(cluster.endpoints[0].host, Host::Address("127.0.0.1".parse().unwrap()));
    assert!((cluster.healthy_panic_threshold - 50.0).abs() < f64::EPSILON);
    assert!(bootstrap.warnings.is_empty());
}

#[test]
fn json_names_and_json_itself_are_read_alike() {
    let camel = ["static_resources", "filter_chains", "route_config", "virtual_hosts", "load_assignment", "port_value"];
    let camel = camel.iter().fold(SMALL.to_owned(), |text, name| {
        let (first, second) = name.split_once('_').unwrap();
        text.replace(name, &format!("{first}{}{}", second[..1].to_ascii_uppercase(), &second[1..]))
    });
    assert!(camel.contains("staticResources"));
    assert_eq!(format!("{:?}", good(&camel)), format!("{:?}", good(SMALL)));
    let json: serde_json::Value = serde_yaml::from_str(SMALL).unwrap();
    assert_eq!(format!("{:?}", good(&json.to_string())), format!("{:?}", good(SMALL)));
}

#[test]
fn an_unknown_field_is_told_with_its_path_its_line_and_the_nearest_known_one() {
    assert_eq!(
        only_mistake("stat_prefix: main", "stat_prefix: main\n                foo: { bar: 1 }"),
        "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.foo: is a field that tidegate-proxy \
         doesn't know here"
    );
    let text = only_mistake("route: { cluster: up }", "route: { cluster: up, time_out: 1s }");
    assert!(text.ends_with("route.time_out: is a field that tidegate-proxy doesn't know here; did you mean timeout?"));
    let errors = read(&with("domain: shop", "domain: shop\n                      domian: shop"), "f").unwrap_err();
    assert_eq!(
        errors.findings()[0].place.line,
        SMALL.lines().position(|line| line.contains("domain: shop")).unwrap() as u32 + 2
    );
}

#[test]
fn every_mistake_is_told_at_once_in_the_order_of_lines() {
    let text = with("port_value: 9901", "port_value: 99999").replace("- name: up\n", "- alt_stat_name: up\n");
    let text = text.replace("{ cluster: up }", "{ cluster: up, timeout: 15 }").replace("domain: shop", "stage: 11");
    let mistakes = mistakes(&text);
    assert_eq!(mistakes.len(), 6, "{mistakes:#?}");
    assert!(mistakes[0].starts_with("admin.address.socket_address.port_value: the number 99999 where a whole number"));
    assert!(mistakes.iter().any(|text| text.contains("stage: the number 11 where a whole number from 0 to 10")));
    assert!(mistakes.iter().any(|text| text.ends_with("typed_config: domain is missing")));
    assert!(mistakes.iter().any(|text| text.contains("timeout: the number 15 where a duration in seconds")));
    assert!(mistakes.iter().any(|text| text.ends_with("clusters[0]: name is missing")));
}

#[test]
fn a_wrong_value_is_told_with_what_would_be_right() {
    for (piece, by, told) in [
        ("\"*\"", "5", "domains[0]: the number 5 where a text is needed; put it in quotes"),
        ("domains: [\"*\"]", "domains: \"*\"", "domains: the text '*' where a list is needed"),
        ("domains: [\"*\"]", "domains: [a, A]", "the domain 'a' stands twice"),
        (
            "match: { prefix: / }",
            "match: {}",
            "match: one of prefix, path, path_separated_prefix, safe_regex is missing",
        ),
        ("match: { prefix: / }", "match: { prefix: /, path: / }", "match.path: stands beside prefix"),
        (
            "match: { prefix: / }",
            "match: { safe_regex: { regex: ( } }",
            "regex: is no regular expression: unclosed group",
        ),
        ("{ cluster: up }", "{ cluster: down }", "'down' is the name of no cluster"),
        ("{ cluster: up }", "{ cluster: up, timeout: -1s }", "the text '-1s' where a duration"),
        ("{ cluster: up }", "{ cluster: up, retry_policy: { retry_on: 6xx } }", "'6xx' is no condition"),
        ("{ cluster: up }", "{ cluster: up, cluster: up }", "route.cluster: stands twice"),
        ("- name: up", "- type: EDS\n      name: up", "the text 'EDS' where one of STATIC, STRICT_DNS is needed"),
        ("address: 127.0.0.1, port_value: 8080", "address: shop, port_value: 8080", "an IP address is needed"),
        ("http.router.v3.Router", "http.lua.v3.Lua", "envoy.extensions.filters.http.lua.v3.Lua is a type that"),
        ("transport_api_version: V3", "transport_api_version: V2", "where one of V3, AUTO is needed"),
        (
            "node: {",
            "layered_runtime: { layers: [{ name: a, static_layer: { b: 1 } }] }\nnode: {",
            "b is a runtime key that",
        ),
        ("node: {", "<<: { stats_flush_interval: 1s }\nnode: {", "comes by way of `<<`"),
    ] {
        let mistakes = mistakes(&with(piece, by));
        assert!(mistakes.iter().any(|text| text.contains(told)), "{by}: {mistakes:?}");
    }
}

#[test]
fn what_is_no_bootstrap_at_all_is_told() {
    assert!(mistakes("").iter().any(|text| text.contains("empty")));
    assert!(mistakes("a: [").len() == 1);
    assert!(mistakes("just text").iter().any(|text| text.contains("where a map is needed")));
    assert!(mistakes("node: {}").iter().any(|text| text.contains("static_resources is missing")));
    assert!(mistakes(&format!("{SMALL}---\na: 1\n")).iter().any(|text| text.contains("second document")));
    let many = format!("{{ static_resources: {{}}, {} }}", (0..150).map(|n| format!("f{n}: 1, ")).collect::<String>());
    let errors = read(&many, "f").unwrap_err();
    assert_eq!(errors.findings().len(), MISTAKES_MAX);
    assert!(errors.to_string().starts_with("150 mistakes in f:") && errors.to_string().ends_with("and 50 more"));
}

/// The value of the generic key of the small file's route.
fn generic_key(bootstrap: &Bootstrap) -> &Template {
    let RouteTo::Cluster(action) = &bootstrap.listeners[0].http.route_config.virtual_hosts[0].routes[0].action else {
        panic!("a route to a cluster")
    };
    let Action::GenericKey { value, .. } = &action.rate_limits[0].actions[0] else { panic!("a generic key") };
    value
}

#[test]
fn the_runtime_decides_whether_a_descriptors_value_is_a_format() {
    let text = with(
        "{ cluster: up }",
        "{ cluster: up, rate_limits: [{ actions: [{ generic_key: { descriptor_value: '%REQ(a)%' } }] }] }",
    );
    assert_eq!(generic_key(&good(&text)), &Template::Literal("%REQ(a)%".to_owned()));
    for layer in [
        "envoy.reloadable_features.enable_formatter_for_ratelimit_action_descriptor_value: true",
        "envoy: { reloadable_features: { enable_formatter_for_ratelimit_action_descriptor_value: true } }",
    ] {
        let runtime = format!("layered_runtime: {{ layers: [{{ name: a, static_layer: {{ {layer} }} }}] }}");
        let bootstrap = good(&format!("{runtime}\n{text}"));
        assert!(matches!(generic_key(&bootstrap), Template::Formatted { .. }), "{layer}");
    }
}

#[test]
fn a_share_stands_in_the_file_or_in_the_runtime() {
    let filter = "filter_enabled: { default_value: { numerator: 5, denominator: TEN_THOUSAND }, runtime_key: on.all }";
    let text = with("domain: shop", &format!("domain: shop\n                      {filter}"));
    let share = |text: &str| {
        let bootstrap = good(text);
        let FilterConfig::RateLimit(filter) = &bootstrap.listeners[0].http.http_filters[0].config else {
            panic!("a rate limit filter")
        };
        filter.filter_enabled.millionths()
    };
    assert_eq!(share(&text), 500);
    for (value, millionths) in [("20", 200_000), ("{ numerator: 3, denominator: MILLION }", 3)] {
        let layer = format!("layered_runtime: {{ layers: [{{ name: a, static_layer: {{ on.all: {value} }} }}] }}");
        assert_eq!(share(&format!("{layer}\n{text}")), millionths);
    }
}

#[test]
fn hits_addend_of_a_plain_route_is_warned_of_and_left_out() {
    let limits = "[{ hits_addend: { number: 3 }, actions: [{ remote_address: {} }] }]";
    let bootstrap = good(&with("{ cluster: up }", &format!("{{ cluster: up, rate_limits: {limits} }}")));
    assert_eq!(bootstrap.warnings.len(), 1);
    assert!(bootstrap.warnings[0].to_string().contains("rate_limits[0].hits_addend: has no effect"));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "([a-z_@]{1,12}|: |\n|  |- |\\[|\\]|\\{|\\}|, |\"|.){0,60}") {
        drop(read(&text, "f"));
    }

    #[test]
    fn no_damage_to_a_file_makes_the_reader_panic(at in 0..SMALL.len(), length in 0..40_usize, by in "(null|5|x|\\[\\]|\\{\\}|-1|'')?") {
        let mut text = SMALL.to_owned();
        text.replace_range(at..(at + length).min(SMALL.len()), &by);
        drop(read(&text, "f"));
    }
}
