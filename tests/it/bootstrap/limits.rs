//! Rate limits and filters.

use super::Verdict::{BothAccept, BothRefuse, OnlyEnvoyAccepts};
use super::{At, Verdict, check};

#[test]
fn rate_limits_and_filters_are_judged_alike() {
    let limit = |text: &str| format!("{{ rate_limits: [{text}] }}");
    let action = |text: &str| limit(&format!("{{ actions: [{text}] }}"));
    let mut cases: Vec<(At, String, Verdict)> = Vec::new();
    for (text, verdict) in [
        ("{ source_cluster: {} }, { destination_cluster: {} }, { remote_address: {} }", BothAccept),
        ("{}", BothRefuse),
        ("{ remote_address: {}, source_cluster: {} }", BothRefuse),
        ("{ request_headers: { header_name: ':path', descriptor_key: a, skip_if_absent: true } }", BothAccept),
        ("{ request_headers: { header_name: a } }", BothRefuse),
        ("{ request_headers: { descriptor_key: a } }", BothRefuse),
        ("{ query_parameters: { query_parameter_name: a, descriptor_key: b, skip_if_absent: true } }", BothAccept),
        ("{ query_parameters: { query_parameter_name: a } }", BothRefuse),
        ("{ masked_remote_address: { v4_prefix_mask_len: 32, v6_prefix_mask_len: 128 } }", BothAccept),
        ("{ masked_remote_address: { v4_prefix_mask_len: 33 } }", BothRefuse),
        ("{ masked_remote_address: { v6_prefix_mask_len: 129 } }", BothRefuse),
        ("{ generic_key: { descriptor_value: '%REQ(a)% 50%' } }", BothAccept),
        ("{ generic_key: { descriptor_value: '' } }", BothRefuse),
        ("{ generic_key: { descriptor_key: a } }", BothRefuse),
        ("{ generic_key: { descriptor_value: 5 } }", BothRefuse),
        ("{ generic_key: { descriptor_value: 1.5 } }", BothAccept),
        ("{ header_value_match: { descriptor_value: a, headers: [{ name: b }], expect_match: false } }", BothAccept),
        ("{ header_value_match: { descriptor_value: a } }", BothRefuse),
        ("{ header_value_match: { headers: [{ name: b }] } }", BothRefuse),
        ("{ query_parameter_value_match: { descriptor_value: a, query_parameters: [{ name: b }] } }", BothAccept),
        ("{ query_parameter_value_match: { descriptor_value: a } }", BothRefuse),
        (
            "{ metadata: { descriptor_key: a, metadata_key: { key: b, path: [{ key: c }] }, source: CLUSTER_ENTRY } }",
            BothAccept,
        ),
        ("{ metadata: { descriptor_key: a, metadata_key: { key: b, path: [] } } }", BothRefuse),
        ("{ metadata: { descriptor_key: a, metadata_key: { path: [{ key: c }] } } }", BothRefuse),
        ("{ metadata: { metadata_key: { key: b, path: [{ key: c }] } } }", BothRefuse),
        ("{ metadata: { descriptor_key: a, metadata_key: { key: b, path: [{ key: '' }] } } }", BothRefuse),
        (
            "{ dynamic_metadata: { descriptor_key: a, metadata_key: { key: b, path: [{ key: c }] }, default_value: d } }",
            BothRefuse,
        ),
        (
            "{ remote_address_match: { descriptor_value: '%REQ(a)%', address_matcher: { ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] } } }",
            BothAccept,
        ),
        (
            "{ remote_address_match: { descriptor_value: '%NONSENSE%', address_matcher: { ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] } } }",
            BothRefuse,
        ),
        (
            "{ remote_address_match: { descriptor_value: a, address_matcher: { ranges: [{ address_prefix: x }] } } }",
            BothRefuse,
        ),
        ("{ remote_address_match: { descriptor_value: a } }", BothRefuse),
    ] {
        cases.push((At::Action, action(text), verdict));
    }
    let act = "actions: [{ remote_address: {} }]";
    for (text, verdict) in [
        (format!("{{ {act}, apply_on_stream_done: true, x_ratelimit_option: OFF }}"), BothAccept),
        (format!("{{ {act}, stage: 1 }}"), BothRefuse),
        (format!("{{ {act}, disable_key: a }}"), BothRefuse),
        ("{ actions: [] }".to_owned(), BothRefuse),
        (format!("{{ {act}, hits_addend: {{ number: 1000000001 }} }}"), BothRefuse),
        (format!("{{ {act}, hits_addend: {{ number: 0, is_negative_hits: true }} }}"), BothAccept),
        (format!("{{ {act}, hits_addend: {{ format: '%REQ(a)%' }} }}"), BothAccept),
        (format!("{{ {act}, hits_addend: {{ format: 'a %REQ(a)%' }} }}"), BothRefuse),
        (format!("{{ {act}, hits_addend: {{ format: '%REQ(a)%%REQ(b)%' }} }}"), BothRefuse),
        (format!("{{ {act}, hits_addend: {{}} }}"), BothRefuse),
        (format!("{{ {act}, limit: {{ rate_limit: {{ requests_per_unit: 5, unit: DAY }} }} }}"), BothAccept),
        (format!("{{ {act}, limit: {{ rate_limit: {{ requests_per_unit: 5, unit: WEEK }} }} }}"), BothRefuse),
        (format!("{{ {act}, limit: {{}} }}"), BothRefuse),
        (
            format!(
                "{{ {act}, limit: {{ dynamic_metadata: {{ metadata_key: {{ key: b, path: [{{ key: c }}] }} }} }} }}"
            ),
            BothAccept,
        ),
    ] {
        cases.push((At::RateLimit, limit(&text), verdict));
    }
    for (text, verdict) in [
        (format!("{{ {act}, stage: 10, disable_key: a, apply_on_stream_done: true }}"), BothAccept),
        (format!("{{ {act}, stage: 11 }}"), BothRefuse),
        // Accepted, and without effect.
        (format!("{{ {act}, hits_addend: {{ number: 5 }} }}"), BothAccept),
    ] {
        cases.push((At::Action, limit(&text), verdict));
    }
    let cases: Vec<(At, &str, Verdict)> =
        cases.iter().map(|(at, case, verdict)| (*at, case.as_str(), *verdict)).collect();
    check(&cases);
    check(&[
        (At::RateLimit, "{ domain: '' }", BothRefuse),
        (At::RateLimit, "{ rate_limit_service: REMOVED }", BothRefuse),
        (At::RateLimit, "{ rate_limit_service: { transport_api_version: V3, grpc_service: {} } }", BothRefuse),
        (At::RateLimit, "{ rate_limit_service: { grpc_service: { envoy_grpc: { cluster_name: up } } } }", BothAccept),
        (
            At::RateLimit,
            "{ rate_limit_service: { transport_api_version: V3, grpc_service: { envoy_grpc: { cluster_name: no } } } }",
            BothAccept,
        ),
        (At::RateLimit, "{ stage: 10, request_type: internal, timeout: 0s, failure_mode_deny: true }", BothAccept),
        (At::RateLimit, "{ stage: 11 }", BothRefuse),
        (At::RateLimit, "{ request_type: inside }", BothRefuse),
        (
            At::RateLimit,
            "{ enable_x_ratelimit_headers: DRAFT_VERSION_03, enable_retry_after_header: true }",
            BothAccept,
        ),
        (
            At::RateLimit,
            "{ rate_limited_status: { code: ServiceUnavailable }, status_on_error: { code: 418 } }",
            BothRefuse,
        ),
        (
            At::RateLimit,
            "{ rate_limited_status: { code: ServiceUnavailable }, status_on_error: { code: 503 } }",
            BothAccept,
        ),
        (At::RateLimit, "{ rate_limited_status: { code: 430 } }", BothRefuse),
        (At::RateLimit, "{ rate_limited_status: {} }", BothRefuse),
        (At::RateLimit, "{ response_headers_to_add: [{ header: { key: a, value: b } }], stat_prefix: p }", BothAccept),
        (At::RateLimit, "{ filter_enabled: { default_value: { numerator: 5 } }, metadata_namespace: a }", BothAccept),
        (At::RateLimit, "{ filter_enabled: {} }", BothRefuse),
        (
            At::RateLimit,
            "{ filter_enforced: { runtime_key: a, default_value: { numerator: 5, denominator: MILLION } } }",
            BothAccept,
        ),
        (At::LocalRateLimit, "{ stat_prefix: '' }", BothRefuse),
        (At::LocalRateLimit, "{ token_bucket: { max_tokens: 1, fill_interval: 0.05s } }", BothAccept),
        (At::LocalRateLimit, "{ token_bucket: { max_tokens: 1, fill_interval: 0.04s } }", BothRefuse),
        (At::LocalRateLimit, "{ token_bucket: { max_tokens: 0, fill_interval: 1s } }", BothAccept),
        (At::LocalRateLimit, "{ token_bucket: { max_tokens: 1, tokens_per_fill: 0, fill_interval: 1s } }", BothRefuse),
        (At::LocalRateLimit, "{ token_bucket: { max_tokens: 1 } }", BothRefuse),
        (
            At::LocalRateLimit,
            "{ status: { code: 503 }, filter_enabled: { default_value: { numerator: 100 } } }",
            BothAccept,
        ),
        (At::LocalRateLimit, "{ local_rate_limit_per_downstream_connection: true }", OnlyEnvoyAccepts), // not known
        (At::Fault, "{ delay: { fixed_delay: 1s, percentage: { numerator: 5 } } }", BothAccept),
        (At::Fault, "{ delay: { fixed_delay: 0s } }", BothRefuse),
        (At::Fault, "{ delay: {} }", BothRefuse),
        (
            At::Fault,
            "{ abort: { http_status: 503, percentage: { numerator: 5 } }, headers: [{ name: a }] }",
            BothAccept,
        ),
        (At::Fault, "{ abort: { http_status: 199 } }", BothRefuse),
        (At::Fault, "{ abort: {} }", BothRefuse),
        (At::Fault, "{ upstream_cluster: up, max_active_faults: 1 }", BothAccept),
    ]);
}

#[test]
fn descriptors_of_local_rate_limits_are_judged_alike() {
    let bucket = "token_bucket: { max_tokens: 1, fill_interval: 1s }";
    let mut cases: Vec<(String, Verdict)> = Vec::new();
    for (descriptors, verdict) in [
        ("".to_owned(), BothAccept),
        (format!("{{ entries: [{{ key: a, value: b }}, {{ key: c }}], {bucket}, shadow_mode: true }}"), BothAccept),
        (format!("{{ entries: [], {bucket} }}"), BothRefuse),
        (format!("{{ entries: [{{ key: '', value: b }}], {bucket} }}"), BothRefuse),
        ("{ entries: [{ key: a, value: b }] }".to_owned(), BothRefuse),
        ("{ entries: [{ key: a }], token_bucket: { max_tokens: 1, fill_interval: 0.04s } }".to_owned(), BothRefuse),
        (
            format!("{{ entries: [{{ key: a, value: b }}], {bucket} }}, {{ entries: [{{ key: a }}], {bucket} }}"),
            BothAccept,
        ),
        (
            format!(
                "{{ entries: [{{ key: a, value: b }}], {bucket} }}, {{ entries: [{{ key: a, value: b }}], {bucket} }}"
            ),
            BothRefuse,
        ),
        (
            format!("{{ entries: [{{ key: a }}], {bucket} }}, {{ entries: [{{ key: a, value: '' }}], {bucket} }}"),
            BothRefuse,
        ),
    ] {
        cases.push((format!("{{ descriptors: [{descriptors}] }}"), verdict));
    }
    let act = "actions: [{ remote_address: {} }]";
    for (rate_limit, verdict) in [
        (format!("{{ {act}, hits_addend: {{ number: 2 }}, apply_on_stream_done: true }}"), BothAccept),
        (format!("{{ {act}, x_ratelimit_option: OFF }}"), BothAccept),
        (format!("{{ {act}, stage: 1 }}"), BothRefuse),
        (format!("{{ {act}, disable_key: a }}"), BothRefuse),
        (format!("{{ {act}, limit: {{ rate_limit: {{ requests_per_unit: 1, unit: DAY }} }} }}"), BothRefuse),
        ("{ actions: [] }".to_owned(), BothRefuse),
    ] {
        cases.push((format!("{{ rate_limits: [{rate_limit}] }}"), verdict));
    }
    for (field, verdict) in [
        ("max_dynamic_descriptors: 1", BothAccept),
        ("max_dynamic_descriptors: 0", BothRefuse),
        ("stage: 10", BothAccept),
        ("stage: 11", BothRefuse),
        ("vh_rate_limits: IGNORE", BothAccept),
        ("vh_rate_limits: SOMETIMES", BothRefuse),
        ("always_consume_default_token_bucket: false", BothAccept),
    ] {
        cases.push((format!("{{ {field} }}"), verdict));
    }
    let cases: Vec<(At, &str, Verdict)> =
        cases.iter().map(|(case, verdict)| (At::LocalRateLimit, case.as_str(), *verdict)).collect();
    check(&cases);
    let local = "'@type': x.y/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: a";
    let per_route = |more: &str| format!("{{ typed_per_filter_config: {{ local_ratelimit: {{ {local}{more} }} }} }}");
    check(&[
        (At::Route, per_route("").as_str(), BothRefuse),
        (At::Route, per_route(&format!(", {bucket}")).as_str(), BothAccept),
    ]);
}
