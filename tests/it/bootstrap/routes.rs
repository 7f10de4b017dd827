//! Virtual hosts and routes.

use super::Verdict::{BothAccept, BothRefuse, OnlyEnvoyAccepts};
use super::{At, check};

#[test]
fn virtual_hosts_are_judged_alike() {
    check(&[
        (At::VirtualHost, "{ name: '' }", BothRefuse),
        (At::VirtualHost, "{ domains: [] }", BothRefuse),
        (At::VirtualHost, "{ domains: [a, A] }", BothRefuse),
        (At::VirtualHost, "{ domains: ['*', '*'] }", BothRefuse),
        (At::VirtualHost, "{ domains: ['*.a', 'a.*', 'a*b', '', '*.*', '-*'] }", BothAccept),
        (At::VirtualHost, "{ routes: [] }", BothAccept),
        (
            At::VirtualHost,
            "{ include_request_attempt_count: true, include_attempt_count_in_response: true }",
            BothAccept,
        ),
        (At::VirtualHost, "{ request_headers_to_add: [{ header: { key: a, value: '%REQ(b)%' } }] }", BothAccept),
        (At::VirtualHost, "{ request_headers_to_add: [{ header: { key: a, value: '%NONSENSE%' } }] }", BothRefuse),
        (At::VirtualHost, "{ request_headers_to_add: [{ header: { key: a, value: '' } }] }", BothAccept),
        (At::VirtualHost, "{ request_headers_to_add: [{ header: { key: ':path', value: x } }] }", BothRefuse),
        (At::VirtualHost, "{ request_headers_to_add: [{ header: { key: Host, value: x } }] }", BothRefuse),
        (At::VirtualHost, "{ request_headers_to_add: [{ header: { key: 'a b', value: x } }] }", OnlyEnvoyAccepts), // never sent
        (At::VirtualHost, "{ request_headers_to_add: [{ header: { value: x } }] }", BothRefuse),
        (At::VirtualHost, "{ request_headers_to_add: [{}] }", BothRefuse),
        (At::VirtualHost, "{ response_headers_to_add: [{ header: { key: a }, append: false }] }", BothAccept),
        (
            At::VirtualHost,
            "{ response_headers_to_add: [{ header: { key: a }, append: false, append_action: ADD_IF_ABSENT }] }",
            BothRefuse,
        ),
        (At::VirtualHost, "{ request_headers_to_remove: [a], response_headers_to_remove: [b] }", BothAccept),
        (At::VirtualHost, "{ request_headers_to_remove: [host] }", BothRefuse),
        (At::VirtualHost, "{ response_headers_to_remove: [':status'] }", BothRefuse),
        (At::VirtualHost, "{ retry_policy: { retry_on: '5xx,connect-failure', num_retries: '2' } }", BothAccept),
        (At::VirtualHost, "{ retry_policy: { retry_on: 6xx } }", OnlyEnvoyAccepts), // Envoy drops words it doesn't know
        (
            At::VirtualHost,
            "{ retry_policy: { retry_on: 'cancelled,deadline-exceeded,internal,resource-exhausted,unavailable' } }",
            BothAccept,
        ),
        (
            At::VirtualHost,
            "{ retry_policy: { retry_on: 'reset-before-request,envoy-ratelimited,retriable-headers' } }",
            BothAccept,
        ),
        (At::VirtualHost, "{ retry_policy: { retry_on: http3-post-connect-failure } }", OnlyEnvoyAccepts), // no HTTP/3
        (
            At::VirtualHost,
            "{ retry_policy: { retriable_headers: [{ name: a }], retriable_request_headers: [{ name: ':path' }] } }",
            BothAccept,
        ),
        (At::VirtualHost, "{ retry_policy: { retriable_headers: [{ name: ':path' }] } }", OnlyEnvoyAccepts), // never there
        (At::VirtualHost, "{ retry_policy: { retriable_headers: [{}] } }", BothRefuse),
        (At::VirtualHost, "{ retry_policy: { per_try_idle_timeout: 1s } }", OnlyEnvoyAccepts), // not known
        (At::VirtualHost, "{ retry_policy: { num_retries: 0, per_try_timeout: 1s } }", BothAccept),
        (At::VirtualHost, "{ retry_policy: { retry_back_off: { max_interval: 1s } } }", BothRefuse),
        (At::VirtualHost, "{ retry_policy: { retry_back_off: { base_interval: 0s } } }", BothRefuse),
        (At::VirtualHost, "{ retry_policy: { retry_back_off: { base_interval: 2s, max_interval: 1s } } }", BothRefuse),
        (At::VirtualHost, "{ retry_policy: { retriable_status_codes: [503, 429] } }", BothAccept),
    ]);
}

#[test]
fn routes_are_judged_alike() {
    check(&[
        (At::Route, "{ route: REMOVED }", BothRefuse),
        (At::Route, "{ match: REMOVED }", BothRefuse),
        (At::Route, "{ metadata: { filter_metadata: { a: { b: [1, x] } } }, name: x }", BothAccept),
        (At::Route, "{ metadata: { filter_metadata: { a: 1 } } }", BothRefuse),
        (At::Route, "{ route: REMOVED, direct_response: { status: 199 } }", BothRefuse),
        (At::Route, "{ route: REMOVED, direct_response: { status: 600 } }", BothRefuse),
        (At::Route, "{ route: REMOVED, direct_response: { status: 200, body: { inline_string: x } } }", BothAccept),
        (At::Route, "{ direct_response: { status: 200 } }", BothRefuse),
        (At::Route, "{ route: REMOVED, redirect: { host_redirect: a, response_code: FOUND } }", BothAccept),
        (
            At::Route,
            "{ typed_per_filter_config: { zzz: { '@type': x.y/envoy.extensions.filters.http.fault.v3.HTTPFault } } }",
            OnlyEnvoyAccepts,
        ), // no effect
        (
            At::Route,
            "{ typed_per_filter_config: { fault: { '@type': x.y/envoy.extensions.filters.http.fault.v3.HTTPFault } } }",
            BothAccept,
        ),
        (
            At::Route,
            "{ typed_per_filter_config: { fault: { '@type': envoy.extensions.filters.http.fault.v3.HTTPFault } } }",
            BothRefuse,
        ),
        (
            At::Route,
            "{ typed_per_filter_config: { fault: { '@type': x.y/envoy.config.route.v3.FilterConfig, disabled: true } } }",
            BothAccept,
        ),
        (At::Route, "{ typed_per_filter_config: { fault: {} } }", BothRefuse),
        (At::Match, "{ prefix: REMOVED }", BothRefuse),
        (At::Match, "{ path: / }", BothRefuse),
        (At::Match, "{ prefix: a, case_sensitive: false }", BothAccept),
        (At::Match, "{ prefix: REMOVED, path_separated_prefix: /a/ }", BothRefuse),
        (At::Match, "{ prefix: REMOVED, path_separated_prefix: '/a?b' }", BothRefuse),
        (At::Match, "{ prefix: REMOVED, path_separated_prefix: / }", BothRefuse),
        (At::Match, "{ prefix: REMOVED, path_separated_prefix: /a }", BothAccept),
        (At::Match, "{ prefix: REMOVED, safe_regex: { regex: '/a.*' } }", BothAccept),
        (At::Match, "{ prefix: REMOVED, safe_regex: { regex: '(' } }", BothRefuse),
        (At::Match, "{ prefix: REMOVED, safe_regex: { regex: 'a)|(b' } }", BothRefuse),
        (At::Match, "{ prefix: REMOVED, safe_regex: { regex: '' } }", BothRefuse),
        (At::Match, "{ prefix: REMOVED, safe_regex: { google_re2: {}, regex: '(?i)a[[:alpha:]]\\d+' } }", BothAccept),
        (At::Match, "{ prefix: REMOVED, safe_regex: { regex: '/[a&&b]' } }", OnlyEnvoyAccepts), // sets here
        (At::Match, "{ prefix: REMOVED, safe_regex: { regex: '/[a-z--b]' } }", OnlyEnvoyAccepts),
        (At::Match, "{ prefix: REMOVED, safe_regex: { regex: '/[a~~b]' } }", OnlyEnvoyAccepts),
        (At::Match, "{ prefix: REMOVED, safe_regex: { regex: '/[[a]b]' } }", OnlyEnvoyAccepts), // a class in a class here
        (At::Match, "{ prefix: REMOVED, safe_regex: { regex: '(?x)/ a' } }", BothRefuse),
        (At::Match, "{ prefix: REMOVED, safe_regex: { regex: '/[\\[\\]&-]' } }", BothAccept),
        (At::Match, "{ headers: [{ name: a }] }", BothAccept),
        (At::Match, "{ headers: [{ name: '' }] }", BothRefuse),
        (At::Match, "{ headers: [{ name: a, string_match: { prefix: '' } }] }", BothRefuse),
        (At::Match, "{ headers: [{ name: a, string_match: { exact: '' } }] }", BothAccept),
        (At::Match, "{ headers: [{ name: a, string_match: {} }] }", BothRefuse),
        (At::Match, "{ headers: [{ name: ':path', exact_match: x, invert_match: true }] }", BothAccept),
        (
            At::Match,
            "{ headers: [{ name: a, prefix_match: x }, { name: b, safe_regex_match: { regex: x } }] }",
            BothAccept,
        ),
        (
            At::Match,
            "{ headers: [{ name: a, string_match: { safe_regex: { regex: x }, ignore_case: true } }] }",
            BothRefuse,
        ),
        (At::Match, "{ headers: [{ name: a, range_match: { start: -5, end: '5' } }] }", BothAccept),
        (At::Match, "{ headers: [{ name: a, present_match: true, exact_match: b }] }", BothRefuse),
        (At::Match, "{ headers: [{ name: a, treat_missing_header_as_empty: true }] }", BothAccept),
        (At::Match, "{ query_parameters: [{ name: a }, { name: b, string_match: { contains: x } }] }", BothAccept),
        (At::Match, "{ query_parameters: [{ name: '' }] }", BothRefuse),
        (At::Action, "{ cluster: down }", BothRefuse),
        (At::Action, "{ cluster: '' }", BothRefuse),
        (At::Action, "{ cluster: REMOVED, cluster_header: to }", BothAccept),
        (At::Action, "{ cluster: REMOVED, cluster_header: '' }", BothRefuse),
        (At::Action, "{ cluster: REMOVED, weighted_clusters: { clusters: [{ name: up, weight: 1 }] } }", BothAccept),
        (At::Action, "{ cluster: REMOVED, weighted_clusters: { clusters: [{ name: up, weight: 0 }] } }", BothRefuse),
        (At::Action, "{ cluster: REMOVED, weighted_clusters: { clusters: [{ name: up }] } }", BothRefuse),
        (At::Action, "{ cluster: REMOVED, weighted_clusters: { clusters: [] } }", BothRefuse),
        (At::Action, "{ cluster: REMOVED, weighted_clusters: { clusters: [{ name: no, weight: 1 }] } }", BothRefuse),
        (At::Action, "{ timeout: 0s, idle_timeout: 0s, prefix_rewrite: /b, host_rewrite_literal: x }", BothAccept),
        (
            At::Action,
            "{ regex_rewrite: { pattern: { google_re2: {}, regex: '^/(a+)' }, substitution: '/\\1' } }",
            BothAccept,
        ),
        (At::Action, "{ regex_rewrite: { pattern: { regex: a } } }", BothAccept),
        (At::Action, "{ regex_rewrite: { pattern: { regex: '(' }, substitution: x } }", BothRefuse),
        (At::Action, "{ regex_rewrite: { pattern: { regex: '' }, substitution: x } }", BothRefuse),
        (At::Action, "{ regex_rewrite: { pattern: { regex: '[a&&b]' }, substitution: x } }", OnlyEnvoyAccepts), // sets here
        (At::Action, "{ regex_rewrite: { substitution: x } }", BothRefuse),
        (At::Action, "{ regex_rewrite: { pattern: { regex: a }, substitution: '\\1' } }", OnlyEnvoyAccepts), // no such group
        (At::Action, "{ regex_rewrite: { pattern: { regex: a }, substitution: '\\x' } }", OnlyEnvoyAccepts), // no rewrite
        (At::Action, "{ prefix_rewrite: /b, regex_rewrite: { pattern: { regex: a }, substitution: x } }", BothRefuse),
        (At::Action, "{ cluster_not_found_response_code: NOT_FOUND, include_vh_rate_limits: true }", BothAccept),
        (At::Action, "{ retry_policy: { retry_on: 5xx }, priority: HIGH }", OnlyEnvoyAccepts), // one priority is known
    ]);
}
