//! Which virtual host, route and cluster a request goes to.
//!
//! The virtual host is the one with the request's host among its domains: an exact domain before a suffix (`*.example`),
//! a suffix before a prefix (`shop.*`), of those the longest, and `*` last. Its routes are tried in their order, and no
//! other virtual host's: a host without a route for the path is a miss.

use std::borrow::Cow;
use std::sync::Arc;

use super::bootstrap::model::{
    ClusterSpecifier, DomainPattern, PathMatch, PathRewrite, Route, RouteConfiguration, RouteMatch, VirtualHost,
};
use super::matching::headers_match;
use super::request::{HeaderKey, RequestHead};

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'c> {
    /// The virtual host.
    pub virtual_host: &'c Arc<VirtualHost>,
    /// Its route.
    pub route: &'c Arc<Route>,
}

/// The route of a request; `None` if there is none, which is answered with 404 and the flag NR.
#[must_use]
pub fn find<'c>(routes: &'c RouteConfiguration, request: &RequestHead<'_>) -> Option<Matched<'c>> {
    let virtual_host = virtual_host(&routes.virtual_hosts, request.authority)?;
    let route = virtual_host.routes.iter().find(|route| matches(&route.matches, request))?;
    Some(Matched { virtual_host, route })
}

/// The virtual host that a host, with its port if it has one, belongs to.
fn virtual_host<'c>(hosts: &'c [Arc<VirtualHost>], authority: &str) -> Option<&'c Arc<VirtualHost>> {
    let host: Cow<'_, str> = match authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(authority.to_ascii_lowercase()),
        false => Cow::Borrowed(authority),
    };
    let domains = hosts.iter().flat_map(|host| host.domains.iter().map(move |domain| (domain, host)));
    let ranked = domains.filter_map(|(domain, virtual_host)| Some((rank(domain, &host)?, virtual_host)));
    // No two domains of a configuration are the same, so no two ranks are.
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, virtual_host)| virtual_host)
}

/// How well a domain fits a host; `None`: not at all.
fn rank(domain: &DomainPattern, host: &str) -> Option<(u8, usize)> {
    // A wildcard stands for at least one character.
    match domain {
        DomainPattern::Exact(exact) => (exact == host).then_some((3, exact.len())),
        DomainPattern::Suffix(suffix) => {
            (host.len() > suffix.len() && host.ends_with(suffix.as_str())).then_some((2, suffix.len()))
        }
        DomainPattern::Prefix(prefix) => {
            (host.len() > prefix.len() && host.starts_with(prefix.as_str())).then_some((1, prefix.len()))
        }
        DomainPattern::Any => Some((0, 0)),
    }
}

/// Whether a request is a route's.
#[must_use]
pub fn matches(rule: &RouteMatch, request: &RequestHead<'_>) -> bool {
    matched_length(rule, request.path_only()).is_some()
        && headers_match(&rule.headers, request)
        && rule.query_parameters.iter().all(|matcher| matcher.matches_raw(request))
}

/// How many bytes of a path, without its query, a route's rule matches; `None`: it doesn't.
fn matched_length(rule: &RouteMatch, path: &str) -> Option<usize> {
    let starts_with = |prefix: &str| {
        let start = path.as_bytes().get(..prefix.len())?;
        let same = match rule.case_sensitive {
            true => start == prefix.as_bytes(),
            false => start.eq_ignore_ascii_case(prefix.as_bytes()),
        };
        same.then_some(prefix.len())
    };
    match &rule.path {
        PathMatch::Prefix(prefix) => starts_with(prefix),
        PathMatch::Path(whole) => starts_with(whole).filter(|length| *length == path.len()),
        PathMatch::PathSeparatedPrefix(prefix) => {
            starts_with(prefix).filter(|length| matches!(path.as_bytes().get(*length), None | Some(b'/')))
        }
        PathMatch::Regex(regex) => regex.matches(path.as_bytes()).then_some(path.len()),
    }
}

/// The path, with its query, after `prefix_rewrite` has taken the place of what the route's rule matched.
#[must_use]
pub fn rewritten_path(rule: &RouteMatch, request: &RequestHead<'_>, prefix_rewrite: &str) -> String {
    let matched = matched_length(rule, request.path_only()).unwrap_or_default();
    // The rule may match ASCII only, or in the middle of a character that the request's path has.
    let rest = request.path.get(matched..).unwrap_or_default();
    format!("{prefix_rewrite}{rest}")
}

/// The path, with its query, that the cluster is sent.
#[must_use]
pub fn path_to_cluster(rule: &RouteMatch, request: &RequestHead<'_>, rewrite: &PathRewrite) -> String {
    match rewrite {
        PathRewrite::Prefix(prefix) => rewritten_path(rule, request, prefix),
        PathRewrite::Regex(rewrite) => {
            let path = request.path_only();
            let rest = request.path.get(path.len()..).unwrap_or_default();
            rewrite.apply(path) + rest
        }
    }
}

// === impl ClusterSpecifier ===

impl ClusterSpecifier {
    /// The name of the cluster that a request goes to, given a random number; `None` if the header that should name it
    /// is absent.
    #[must_use]
    pub fn choose<'c>(&'c self, request: &RequestHead<'c>, random: u64) -> Option<&'c str> {
        match self {
            ClusterSpecifier::Cluster(name) => Some(name),
            ClusterSpecifier::Header(name) => {
                let value = request.first(&HeaderKey::Header(name.clone()))?;
                std::str::from_utf8(value).ok().filter(|name| !name.is_empty())
            }
            ClusterSpecifier::Weighted(clusters) => {
                let sum: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
                let mut left = random % sum.max(1);
                let mut clusters = clusters.iter().filter(|cluster| cluster.weight > 0);
                let chosen = clusters.find(|cluster| match left.checked_sub(u64::from(cluster.weight)) {
                    Some(rest) => {
                        left = rest;
                        false
                    }
                    None => true,
                });
                chosen.map(|cluster| cluster.name.as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::bootstrap::model::{DirectResponse, HeaderMutations, RouteTo, WeightedCluster};
    use crate::proxy::matching::FullRegex;

    fn request<'r>(authority: &'r str, path: &'r str, headers: &'r HeaderMap) -> RequestHead<'r> {
        RequestHead { method: "GET", scheme: "http", authority, path, headers }
    }

    fn route(name: &str, path: PathMatch) -> Arc<Route> {
        let matches = RouteMatch { path, case_sensitive: true, headers: Vec::new(), query_parameters: Vec::new() };
        Arc::new(Route {
            name: name.to_owned(),
            matches,
            action: RouteTo::DirectResponse(DirectResponse { status: http::StatusCode::OK, body: None }),
            metadata: Default::default(),
            headers: HeaderMutations::default(),
            per_filter: Default::default(),
        })
    }

    fn host(name: &str, domains: &[DomainPattern], routes: Vec<Arc<Route>>) -> Arc<VirtualHost> {
        Arc::new(VirtualHost {
            name: name.to_owned(),
            domains: domains.to_vec(),
            routes,
            rate_limits: Vec::new(),
            headers: HeaderMutations::default(),
            retry_policy: None,
            include_request_attempt_count: false,
            include_attempt_count_in_response: false,
            per_filter: Default::default(),
        })
    }

    #[test]
    fn exact_domains_go_before_suffixes_before_prefixes_before_any() {
        use DomainPattern::{Any, Exact, Prefix, Suffix};
        let hosts: Vec<Arc<VirtualHost>> = [
            ("any", Any),
            ("exact", Exact("shop.example".to_owned())),
            ("suffix", Suffix(".example".to_owned())),
            ("long suffix", Suffix(".b.example".to_owned())),
            ("prefix", Prefix("shop.".to_owned())),
            ("port", Exact("shop.x:81".to_owned())),
            ("dash", Suffix("-x.y".to_owned())),
            ("long prefix", Prefix("shop.z.".to_owned())),
        ]
        .into_iter()
        .map(|(name, domain)| host(name, &[domain], Vec::new()))
        .collect();
        for (authority, name) in [
            ("shop.example", "exact"),
            ("SHOP.EXAMPLE", "exact"),
            ("a.example", "suffix"),
            (".example", "any"),
            ("a.b.example", "long suffix"),
            ("shop.foo", "prefix"),
            ("shop.", "any"),
            ("shop.z.k", "long prefix"),
            ("shop.x:81", "port"),
            ("shop.x", "prefix"),
            ("shop.example:80", "prefix"),
            ("-x.y", "any"),
            ("a-x.y", "dash"),
            ("", "any"),
        ] {
            assert_eq!(virtual_host(&hosts, authority).unwrap().name, name, "{authority}");
        }
        assert!(virtual_host(&hosts[1..], "elsewhere").is_none());
    }

    #[test]
    fn the_first_route_that_matches_is_taken_and_no_other_host_is_asked() {
        let routes = vec![
            route("exact", PathMatch::Path("/a".to_owned())),
            route("prefix", PathMatch::Prefix("/a".to_owned())),
            route("later", PathMatch::Prefix("/ab".to_owned())),
        ];
        let all = host("all", &[DomainPattern::Any], vec![route("all", PathMatch::Prefix("/".to_owned()))]);
        let one = host("one", &[DomainPattern::Exact("one".to_owned())], routes);
        let config = RouteConfiguration {
            name: String::new(),
            virtual_hosts: vec![all, one],
            headers: HeaderMutations::default(),
        };
        let headers = HeaderMap::new();
        let name = |authority, path| find(&config, &request(authority, path, &headers)).map(|found| &*found.route.name);
        assert_eq!(name("one", "/a?x"), Some("exact"));
        assert_eq!(name("one", "/abc"), Some("prefix"));
        assert_eq!(name("one", "/b"), None);
        assert_eq!(name("two", "/b"), Some("all"));
    }

    #[test]
    fn paths_are_matched_without_their_query() {
        let prefix = |text: &str| PathMatch::Prefix(text.to_owned());
        let separated = || PathMatch::PathSeparatedPrefix("/a/b".to_owned());
        let regex = |source: &str| PathMatch::Regex(FullRegex::new(source).unwrap());
        for (path, case_sensitive, requested, matched) in [
            (prefix(""), true, "/x", true),
            (prefix("/a?b"), true, "/a?b=1", false),
            (prefix("/A"), false, "/ab", true),
            (PathMatch::Path("/a".to_owned()), true, "/a?x=1", true),
            (PathMatch::Path("/a".to_owned()), true, "/a/", false),
            (PathMatch::Path("/a".to_owned()), false, "/A", true),
            (separated(), true, "/a/b", true),
            (separated(), true, "/a/b/", true),
            (separated(), true, "/a/b?x", true),
            (separated(), true, "/a/bc", false),
            (separated(), false, "/A/B/c", true),
            (regex("/a|/ab"), true, "/ab?x", true),
            (regex("/a"), true, "/ab", false),
            (regex("/a"), false, "/A", false),
        ] {
            let headers = HeaderMap::new();
            let told = format!("{path:?} {requested}");
            let rule = RouteMatch { path, case_sensitive, headers: Vec::new(), query_parameters: Vec::new() };
            assert_eq!(matches(&rule, &request("", requested, &headers)), matched, "{told}");
        }
    }

    #[test]
    fn a_rewrite_takes_the_place_of_what_matched() {
        for (path, requested, rewritten) in [
            (PathMatch::Prefix("/api/".to_owned()), "/api/a?b", "/a?b"),
            (PathMatch::Path("/api".to_owned()), "/api?b", "/?b"),
            (PathMatch::PathSeparatedPrefix("/api".to_owned()), "/api/a", "//a"),
            (PathMatch::Regex(FullRegex::new("/a.*").unwrap()), "/api/a?b", "/?b"),
        ] {
            let headers = HeaderMap::new();
            let rule = RouteMatch { path, case_sensitive: true, headers: Vec::new(), query_parameters: Vec::new() };
            assert_eq!(rewritten_path(&rule, &request("", requested, &headers), "/"), rewritten);
        }
    }

    proptest! {
        #[test]
        fn weights_are_kept_over_all_random_numbers(weights in prop::collection::vec(0..20_u32, 1..6)) {
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            let named = |(index, weight): (usize, &u32)| WeightedCluster { name: index.to_string(), weight: *weight };
            let clusters = ClusterSpecifier::Weighted(weights.iter().enumerate().map(named).collect());
            let headers = HeaderMap::new();
            let mut counts = vec![0; weights.len()];
            for random in 0..u64::from(sum) {
                let name = clusters.choose(&request("", "/", &headers), random).unwrap();
                counts[name.parse::<usize>().unwrap()] += 1;
            }
            prop_assert_eq!(counts, weights);
        }

        #[test]
        fn no_path_and_no_host_make_it_panic(path in ".{0,20}", authority in ".{0,20}", prefix in ".{0,5}") {
            let headers = HeaderMap::new();
            let rule = RouteMatch {
                path: PathMatch::Prefix(prefix),
                case_sensitive: false,
                headers: Vec::new(),
                query_parameters: Vec::new(),
            };
            let request = request(&authority, &path, &headers);
            let rewritten = rewritten_path(&rule, &request, "");
            prop_assert!(path.ends_with(&rewritten));
            virtual_host(&[host("a", &[DomainPattern::Suffix("é".to_owned())], Vec::new())], &authority);
        }
    }
}
