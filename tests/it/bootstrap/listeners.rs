//! Listeners, the connection manager and access logs.

use super::Verdict::{BothAccept, BothRefuse, OnlyEnvoyAccepts};
use super::{At, Verdict, check, type_url};

#[test]
fn listeners_and_http_are_judged_alike() {
    check(&[
        (At::Root, "{}", BothAccept),
        (At::Root, "{ stats_flush_interval: 1s }", BothAccept),
        (At::Root, "{ stats_flush_interval: 0s }", BothRefuse),
        (At::Root, "{ foo: 1 }", BothRefuse),
        (At::Root, "{ static_resources: REMOVED }", OnlyEnvoyAccepts), // nothing could be served
        (At::Root, "{ node: REMOVED, admin: REMOVED }", BothAccept),
        (At::Root, "{ admin: {} }", OnlyEnvoyAccepts), // an admin interface without an address is none
        (At::Root, "{ layered_runtime: { layers: [{ name: a, static_layer: { b: 1 } }] } }", OnlyEnvoyAccepts), // no effect
        (At::Root, "{ layered_runtime: { layers: [{ static_layer: {} }] } }", BothRefuse),
        (At::Listener, "{ name: REMOVED }", BothAccept),
        (At::Listener, "{ address: REMOVED }", BothRefuse),
        (At::Listener, "{ filter_chains: [] }", BothRefuse),
        (At::Listener, "{ address: { socket_address: { address: localhost, port_value: 1 } } }", BothRefuse),
        (At::Listener, "{ address: { socket_address: { address: '::1', port_value: 65536 } } }", BothRefuse),
        (At::Listener, "{ address: { socket_address: { address: '::1', port_value: '0' } } }", BothAccept),
        (At::Listener, "{ per_connection_buffer_limit_bytes: 1000, stat_prefix: x }", BothAccept),
        (At::Http, "{ stat_prefix: '' }", BothRefuse),
        (At::Http, "{ stat_prefix: 5 }", BothRefuse),
        (At::Http, "{ stat_prefix: null }", BothRefuse),
        (At::Http, "{ route_config: REMOVED }", BothRefuse),
        (At::Http, "{ codec_type: HTTP2 }", BothAccept),
        (At::Http, "{ codecType: http1 }", BothAccept),
        (At::Http, "{ codec_type: HTTP9 }", BothRefuse),
        (At::Http, "{ codec_type: 1 }", OnlyEnvoyAccepts), // the number of an enumeration's value: write its name
        (At::Http, "{ codec_type: null }", BothAccept),
        (At::Http, "{ codec_type: AUTO, codecType: AUTO }", OnlyEnvoyAccepts), // one field by two names
        (At::Http, "{ http_filters: [] }", OnlyEnvoyAccepts),                  // nothing would answer
        (At::Http, "{ request_timeout: 1.5s, stream_idle_timeout: 0s, request_headers_timeout: 1s }", BothAccept),
        (At::Http, "{ request_timeout: 1 }", BothRefuse),
        (At::Http, "{ request_timeout: -1s }", BothRefuse),
        (At::Http, "{ request_timeout: 1ms }", BothRefuse),
        (At::Http, "{ common_http_protocol_options: { idle_timeout: 5s, max_headers_count: 10 } }", BothAccept),
        (At::Http, "{ common_http_protocol_options: { max_headers_count: 0 } }", BothRefuse),
        (At::Http, "{ common_http_protocol_options: { max_requests_per_connection: 5 } }", BothAccept),
        (At::Http, "{ max_request_headers_kb: 0 }", BothRefuse),
        (At::Http, "{ max_request_headers_kb: 8193 }", BothRefuse),
        (At::Http, "{ http2_protocol_options: { initial_stream_window_size: 1 } }", BothRefuse),
        (At::Http, "{ http2_protocol_options: { max_concurrent_streams: 1 } }", BothAccept),
        (At::Http, "{ use_remote_address: true, xff_num_trusted_hops: 2, skip_xff_append: true }", BothAccept),
        (At::Http, "{ use_remote_address: 1 }", BothRefuse),
        (At::Http, "{ use_remote_address: 'true' }", BothAccept),
        (At::Http, "{ generate_request_id: false, preserve_external_request_id: true, server_name: x }", BothAccept),
        (At::Http, "{ drain_timeout: 1s, delayed_close_timeout: 0s, via: x }", OnlyEnvoyAccepts), // via isn't known
    ]);
}

#[test]
fn access_logs_and_formats_are_judged_alike() {
    let log = |config: &str| {
        let url = type_url("extensions.access_loggers.file.v3.FileAccessLog");
        format!("{{ access_log: [{{ name: a, typed_config: {{ '@type': {url}, path: /dev/null, {config} }} }}] }}")
    };
    let text = |format: &str| log(&format!("log_format: {{ text_format_source: {{ inline_string: '{format}' }} }}"));
    let mut cases: Vec<(At, String, Verdict)> = [
        ("%DURATION% %% %REQ(a?b):5%", BothAccept),
        ("", BothAccept),
        ("50%", BothRefuse),
        ("%DURATION:5%", BothRefuse),
        ("%DURATION(x)%", BothRefuse),
        ("%REQ%", BothRefuse),
        ("%REQ()%", BothRefuse),
        ("%REQ(a b)%", BothRefuse),
        ("%REQ(a?b?c)%", BothRefuse),
        ("%REQ(x):y%", BothRefuse),
        ("%START_TIME(%Y/%m/%dT%H:%M:%S%z %s %3f %E6S)%", BothAccept),
        ("%START_TIME:3%", BothRefuse),
        ("%START_TIME(%n)%", BothRefuse),
        ("%START_TIME(%Q)%", OnlyEnvoyAccepts), // a conversion that isn't known prints nothing of use
        ("%METADATA(ROUTE:a:b):3%", BothAccept),
        ("%METADATA(HOST:a)%", BothRefuse),
        ("%DYNAMIC_METADATA(a:b):3%", BothAccept),
        ("%DYNAMIC_METADATA(:a)%", OnlyEnvoyAccepts), // no namespace has that name
        ("%CLUSTER_METADATA(a:b):3%", BothRefuse),
        ("%NONSENSE%", BothRefuse),
        ("%HOSTNAME%", OnlyEnvoyAccepts), // an operator that isn't known
    ]
    .into_iter()
    .map(|(format, verdict)| (At::Http, text(format), verdict))
    .collect();
    let fields: Vec<String> =
        tidegate::proxy::access_log::Field::ALL.iter().map(|(name, _)| format!("%{name}%")).collect();
    cases.push((At::Http, text(&fields.join(" ")), BothAccept));
    for (config, verdict) in [
        ("", BothAccept),
        ("format: x", BothAccept),
        ("log_format: {}", BothRefuse),
        ("log_format: { text_format: '%REQ(a)%', omit_empty_values: true }", BothAccept),
        ("log_format: { json_format: { a: '%DURATION%', b: { c: [1, true, null, x] } } }", BothAccept),
        ("log_format: { json_format: { a: '%NONSENSE%' } }", BothRefuse),
        ("path: ''", BothRefuse),
    ] {
        let case = log(config).replace(if config.starts_with("path") { "path: /dev/null, " } else { "\0" }, "");
        cases.push((At::Http, case, verdict));
    }
    let cases: Vec<(At, &str, Verdict)> =
        cases.iter().map(|(at, case, verdict)| (*at, case.as_str(), *verdict)).collect();
    check(&cases);
}

#[test]
fn the_health_check_filter_is_judged_alike() {
    let filters = |settings: &str| {
        let filter = |name: &str, settings: &str| {
            let url = type_url(&format!("extensions.filters.http.{name}"));
            format!("{{ name: a, typed_config: {{ '@type': {url}, {settings} }} }}")
        };
        let check = filter("health_check.v3.HealthCheck", settings);
        format!("{{ http_filters: [{check}, {}] }}", filter("router.v3.Router", ""))
    };
    let path = "headers: [{ name: ':path', string_match: { exact: /healthz } }]";
    let cases: Vec<(At, String, Verdict)> = [
        (format!("pass_through_mode: false, {path}"), BothAccept),
        ("pass_through_mode: false".to_owned(), BothAccept),
        (path.to_owned(), BothRefuse),
        (format!("pass_through_mode: 1, {path}"), BothRefuse),
        (format!("pass_through_mode: false, cache_time: 1s, {path}"), BothRefuse),
        ("pass_through_mode: false, headers: [{ string_match: { exact: a } }]".to_owned(), BothRefuse),
        (format!("pass_through_mode: true, {path}"), OnlyEnvoyAccepts), // the upstream would be asked
        // Of the clusters' health, nothing is known here.
        (
            "pass_through_mode: false, cluster_min_healthy_percentages: { up: { value: 5 } }".to_owned(),
            OnlyEnvoyAccepts,
        ),
    ]
    .into_iter()
    .map(|(settings, verdict)| (At::Http, filters(&settings), verdict))
    .collect();
    let cases: Vec<(At, &str, Verdict)> =
        cases.iter().map(|(at, case, verdict)| (*at, case.as_str(), *verdict)).collect();
    check(&cases);
}
