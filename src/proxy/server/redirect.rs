//! Where a redirect sends its client.

use crate::proxy::bootstrap::model::{Redirect, RedirectPath, Route};
use crate::proxy::request::RequestHead;
use crate::proxy::route;

/// The value of `location`.
#[must_use]
pub fn location(route: &Route, redirect: &Redirect, head: &RequestHead<'_>) -> String {
    let scheme = if redirect.https_redirect { "https" } else { head.scheme };
    let host = match (&redirect.host_redirect, redirect.port_redirect) {
        (Some(host), None) => host.clone(),
        (host, port) => {
            let host = host.as_deref().unwrap_or(head.authority);
            let (name, before) = split_port(host);
            // The port of the scheme left behind means nothing in the new one.
            let kept = before.filter(|port| !(redirect.https_redirect && *port == "80"));
            match port.map(|port| port.to_string()).or(kept.map(str::to_owned)) {
                Some(port) => format!("{name}:{port}"),
                None => name.to_owned(),
            }
        }
    };
    let path = match &redirect.path {
        None => head.path.to_owned(),
        Some(RedirectPath::PrefixRewrite(prefix)) => route::rewritten_path(&route.matches, head, prefix),
        // A path that has a query of its own keeps that one.
        Some(RedirectPath::Path(path)) if path.contains('?') || head.query().is_empty() => path.clone(),
        Some(RedirectPath::Path(path)) => format!("{path}?{}", head.query()),
    };
    let path = if redirect.strip_query { path.split('?').next().unwrap_or_default() } else { &path };
    format!("{scheme}://{host}{path}")
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    }
}
