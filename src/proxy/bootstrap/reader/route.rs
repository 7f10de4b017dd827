//! Route configurations, virtual hosts and routes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::super::model::{
    ClusterSpecifier, DirectResponse, DomainPattern, HttpFilter, PathMatch, PathRewrite, PerFilterConfig, Redirect,
    RedirectPath, Route, RouteAction, RouteConfiguration, RouteMatch, RouteTo, VirtualHost, WeightedCluster,
};
use super::super::object::Object;
use super::super::value::Value;
use super::rate_limit::{self, Origin};
use super::{Surroundings, filter, matching, retry, status, values};

/// Most bytes of a direct response's body; Envoy's default.
const BODY_BYTES_MAX: usize = 4096;

/// What the routes of one connection manager need to know.
#[derive(Clone, Copy, Debug)]
struct Routes<'s, 'n> {
    filters: &'s [HttpFilter],
    surroundings: &'s Surroundings<'n>,
    /// Whether the clusters that they name must exist.
    validate_clusters: bool,
}

/// `route_config`
pub(super) fn read(
    value: &Value<'_>,
    filters: &[HttpFilter],
    surroundings: &Surroundings<'_>,
) -> Option<RouteConfiguration> {
    value.object(|config| {
        let validate_clusters = config.boolean("validate_clusters", true);
        let routes = Routes { filters, surroundings, validate_clusters };
        let mut domains = BTreeSet::new();
        let name = config.text("name");
        let headers = values::header_mutations(config);
        let virtual_hosts = config.list("virtual_hosts", |value| virtual_host(&value, routes, &mut domains));
        RouteConfiguration { name, virtual_hosts, headers }
    })
}

fn virtual_host(value: &Value<'_>, routes: Routes<'_, '_>, domains: &mut BTreeSet<String>) -> Option<Arc<VirtualHost>> {
    value.object(|host| {
        Arc::new(VirtualHost {
            name: host.required_text("name"),
            domains: host.required_list("domains", |value| {
                let domain = value.text()?.to_ascii_lowercase();
                if !domains.insert(domain.clone()) {
                    value.mistake(format!("the domain '{domain}' stands twice in this route_config"));
                }
                Some(domain_pattern(&domain))
            }),
            routes: host.list("routes", |value| route(&value, routes)),
            rate_limits: rate_limit::list(host, "rate_limits", Origin::Route, &routes.surroundings.runtime),
            headers: values::header_mutations(host),
            retry_policy: host.get("retry_policy").and_then(|value| retry::read(&value)),
            include_request_attempt_count: host.boolean("include_request_attempt_count", false),
            include_attempt_count_in_response: host.boolean("include_attempt_count_in_response", false),
            per_filter: per_filter(host, routes),
        })
    })
}

fn domain_pattern(domain: &str) -> DomainPattern {
    match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
        (Some(""), _) => DomainPattern::Any,
        (Some(suffix), _) => DomainPattern::Suffix(suffix.to_owned()),
        (None, Some(prefix)) => DomainPattern::Prefix(prefix.to_owned()),
        (None, None) => DomainPattern::Exact(domain.to_owned()),
    }
}

/// `typed_per_filter_config`
fn per_filter(object: &mut Object<'_>, routes: Routes<'_, '_>) -> BTreeMap<String, PerFilterConfig> {
    let entries = object.get("typed_per_filter_config").map(|value| value.entries()).unwrap_or_default();
    let entries = entries.into_iter().filter_map(|(name, value)| {
        let Some(filter) = routes.filters.iter().find(|filter| filter.name == name) else {
            value.mistake(format!("'{name}' is the name of no filter in http_filters, so this would have no effect"));
            return None;
        };
        Some((name.to_owned(), filter::read_per_route(&value, filter, routes.surroundings)?))
    });
    entries.collect()
}

fn route(value: &Value<'_>, routes: Routes<'_, '_>) -> Option<Arc<Route>> {
    value.object(|route| {
        let name = route.text("name");
        let matches = route.required("match").and_then(|value| route_match(&value));
        let action = match route.required_one_of(&["route", "direct_response", "redirect"]) {
            None => None,
            Some(("route", value)) => route_action(&value, routes).map(|action| RouteTo::Cluster(Box::new(action))),
            Some(("direct_response", value)) => direct_response(&value).map(RouteTo::DirectResponse),
            Some((_, value)) => redirect(&value).map(RouteTo::Redirect),
        };
        let metadata = route.get("metadata").and_then(|value| values::metadata(&value)).unwrap_or_default();
        let headers = values::header_mutations(route);
        let per_filter = per_filter(route, routes);
        Some(Arc::new(Route { name, matches: matches?, action: action?, metadata, headers, per_filter }))
    })?
}

fn route_match(value: &Value<'_>) -> Option<RouteMatch> {
    value.object(|rule| {
        let path = match rule.required_one_of(&["prefix", "path", "path_separated_prefix", "safe_regex"]) {
            None => None,
            Some(("prefix", value)) => value.text().map(|text| PathMatch::Prefix(text.to_owned())),
            Some(("path", value)) => value.text().map(|text| PathMatch::Path(text.to_owned())),
            Some(("safe_regex", value)) => matching::regex(&value).map(PathMatch::Regex),
            Some((_, value)) => path_separated_prefix(&value),
        };
        let case_sensitive = rule.boolean("case_sensitive", true);
        let headers = rule.list("headers", |value| matching::header(&value));
        let query_parameters = rule.list("query_parameters", |value| matching::query_parameter(&value));
        Some(RouteMatch { path: path?, case_sensitive, headers, query_parameters })
    })?
}

fn path_separated_prefix(value: &Value<'_>) -> Option<PathMatch> {
    let text = value.text()?;
    if text.len() < 2 || text.contains(['?', '#']) || text.ends_with('/') {
        value.mistake(format!("'{text}' where a path without query and without a slash at its end is needed"));
    }
    Some(PathMatch::PathSeparatedPrefix(text.to_owned()))
}

fn route_action(value: &Value<'_>, routes: Routes<'_, '_>) -> Option<RouteAction> {
    const NOT_FOUND: [(&str, StatusCode); 3] = [
        ("SERVICE_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE),
        ("NOT_FOUND", StatusCode::NOT_FOUND),
        ("INTERNAL_SERVER_ERROR", StatusCode::INTERNAL_SERVER_ERROR),
    ];
    value.object(|action| {
        let cluster = match action.required_one_of(&["cluster", "cluster_header", "weighted_clusters"]) {
            None => None,
            Some(("cluster", value)) => known_cluster(&value, routes).map(ClusterSpecifier::Cluster),
            Some(("cluster_header", value)) => values::header_name(&value).map(ClusterSpecifier::Header),
            Some((_, value)) => weighted_clusters(&value, routes).map(ClusterSpecifier::Weighted),
        };
        let not_found = StatusCode::SERVICE_UNAVAILABLE;
        let runtime = &routes.surroundings.runtime;
        let read = RouteAction {
            cluster: cluster?,
            cluster_not_found_response_code: action.choice("cluster_not_found_response_code", &NOT_FOUND, not_found),
            timeout: action.timeout("timeout", Some(Duration::from_secs(15))),
            idle_timeout: action
                .optional_duration("idle_timeout", Duration::ZERO)
                .map(|timeout| Some(timeout).filter(|timeout| !timeout.is_zero())),
            retry_policy: action.get("retry_policy").and_then(|value| retry::read(&value)),
            rate_limits: rate_limit::list(action, "rate_limits", Origin::Route, runtime),
            include_vh_rate_limits: action.boolean("include_vh_rate_limits", false),
            path_rewrite: path_rewrite(action),
            host_rewrite_literal: action.optional_text("host_rewrite_literal"),
        };
        Some(read)
    })?
}

/// `prefix_rewrite` or `regex_rewrite`, of which an empty prefix is none.
fn path_rewrite(action: &mut Object<'_>) -> Option<PathRewrite> {
    let prefix = action.get("prefix_rewrite");
    let prefix = prefix.as_ref().and_then(Value::text).filter(|text| !text.is_empty());
    let regex = action.get("regex_rewrite");
    if let (Some(_), Some(regex)) = (prefix, &regex) {
        regex.mistake("stands beside prefix_rewrite; only one of them is possible");
    }
    match (prefix, regex) {
        (Some(prefix), _) => Some(PathRewrite::Prefix(prefix.to_owned())),
        (None, Some(regex)) => matching::regex_rewrite(&regex).map(PathRewrite::Regex),
        (None, None) => None,
    }
}

/// The name of a cluster, which must exist if that is validated.
fn known_cluster(value: &Value<'_>, routes: Routes<'_, '_>) -> Option<String> {
    let name = value.word()?;
    if routes.validate_clusters && !routes.surroundings.clusters.contains(name) {
        value.mistake(format!("'{name}' is the name of no cluster in static_resources.clusters"));
    }
    Some(name.to_owned())
}

fn weighted_clusters(value: &Value<'_>, routes: Routes<'_, '_>) -> Option<Vec<WeightedCluster>> {
    value.object(|weighted| {
        let clusters = weighted.required_list("clusters", |value| {
            value.object(|cluster| {
                let name = cluster.required("name").and_then(|value| known_cluster(&value, routes));
                let weight = cluster.required("weight").and_then(|value| value.count(0..=u32::MAX));
                Some(WeightedCluster { name: name?, weight: weight? })
            })?
        });
        let sum: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
        if sum == 0 || sum > u64::from(u32::MAX) {
            weighted.value.mistake(format!("the weights add up to {sum}; they must to 1 to {}", u32::MAX));
        }
        clusters
    })
}

fn direct_response(value: &Value<'_>) -> Option<DirectResponse> {
    value.object(|response| {
        let status = response.required("status").and_then(|value| status::code(&value, 200));
        let body = response.object("body", |body| {
            let (_, value) = body.required_one_of(&["inline_string"])?;
            let text = value.text()?;
            if text.len() > BODY_BYTES_MAX {
                value.mistake(format!("a body of {} bytes; at most {BODY_BYTES_MAX} are possible", text.len()));
            }
            Some(text.to_owned().into())
        });
        Some(DirectResponse { status: status?, body: body.flatten() })
    })?
}

fn redirect(value: &Value<'_>) -> Option<Redirect> {
    const CODES: [(&str, StatusCode); 5] = [
        ("MOVED_PERMANENTLY", StatusCode::MOVED_PERMANENTLY),
        ("FOUND", StatusCode::FOUND),
        ("SEE_OTHER", StatusCode::SEE_OTHER),
        ("TEMPORARY_REDIRECT", StatusCode::TEMPORARY_REDIRECT),
        ("PERMANENT_REDIRECT", StatusCode::PERMANENT_REDIRECT),
    ];
    value.object(|redirect| Redirect {
        https_redirect: redirect.boolean("https_redirect", false),
        host_redirect: redirect.optional_text("host_redirect"),
        port_redirect: redirect.optional_count("port_redirect", 1..=65_535).and_then(|port| u16::try_from(port).ok()),
        path: match redirect.one_of(&["path_redirect", "prefix_rewrite"]) {
            None => None,
            Some(("path_redirect", value)) => value.text().map(|text| RedirectPath::Path(text.to_owned())),
            Some((_, value)) => value.text().map(|text| RedirectPath::PrefixRewrite(text.to_owned())),
        },
        response_code: redirect.choice("response_code", &CODES, StatusCode::MOVED_PERMANENTLY),
        strip_query: redirect.boolean("strip_query", false),
    })
}
