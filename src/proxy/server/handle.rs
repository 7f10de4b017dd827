//! One request: checked, routed, sent through the filters, answered.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, LOCATION, SERVER};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::answer::{Answer, Source, Upstream};
use super::exchange::{ConnectionFacts, Exchange, Head};
use super::heads;
use super::listener::HttpListener;
use super::redirect;
use super::replay::Replay;
use super::reply::LocalReply;
use super::router::{self, Decided, HostAnswer, Routing};
use crate::proxy::access_log::{Protocol, ResponseFlag};
use crate::proxy::body;
use crate::proxy::bootstrap::model::{HeaderMutations, RedirectPath, RetryPolicy, Route, RouteAction, RouteTo};
use crate::proxy::route::{self, Matched};

/// Bytes of a request's body that are kept so that it can be sent again: Envoy's bound.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Answers a request.
pub async fn handle(
    listener: Arc<HttpListener>,
    connection: Arc<ConnectionFacts>,
    request: Request<Incoming>,
) -> Response<Answer> {
    let (mut parts, body) = request.into_parts();
    let protocol = match parts.version {
        Version::HTTP_2 => Protocol::Http2,
        Version::HTTP_10 | Version::HTTP_09 => Protocol::Http10,
        _ => Protocol::Http11,
    };
    let head = Head {
        authority: heads::take_authority(&parts.uri, &mut parts.headers),
        path: parts.uri.path_and_query().map_or_else(String::new, |path| path.as_str().to_owned()),
        method: parts.method,
        headers: parts.headers,
    };
    let mut exchange = Box::new(Exchange::new(Arc::clone(&listener), connection, protocol, head));
    if let Err(reply) = check(&exchange) {
        return respond(exchange, Decided::Local(reply), None);
    }
    prepare(&mut exchange);
    find_route(&mut exchange);

    let keeps = retry_policy(&exchange).is_some();
    let body = Replay::new(body, Arc::clone(&exchange.progress), keeps.then_some(KEPT_BYTES_MAX));
    let progress = Arc::clone(&exchange.progress);
    let (request_timeout, idle, begun) = (listener.settings.request_timeout, idle_timeout(&exchange), exchange.begun);
    let arrives_too_late = async {
        let Some(limit) = request_timeout else { return std::future::pending().await };
        tokio::select! {
            biased;
            _ = progress.completed() => std::future::pending().await,
            () = sleep_until(begun + limit) => {}
        }
    };
    let decided = tokio::select! {
        biased;
        decided = decide(&mut exchange, &body) => decided,
        () = arrives_too_late => {
            listener.stats.downstream.downstream_rq_timeout.increment();
            let status = StatusCode::REQUEST_TIMEOUT;
            Decided::local(LocalReply::new(status, "request timeout", "request_overall_timeout"))
        }
        () = progress.idle(idle) => {
            listener.stats.downstream.downstream_rq_idle_timeout.increment();
            let is_complete = progress.completed_at().is_some();
            let status = if is_complete { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT };
            let reply = LocalReply::new(status, "stream timeout", "stream_idle_timeout");
            Decided::local(reply.flag(ResponseFlag::StreamIdleTimeout))
        }
    };
    let still_arriving = progress.completed_at().is_none().then_some(body);
    respond(exchange, decided, still_arriving)
}

/// Whether the request can be served at all.
fn check(exchange: &Exchange) -> Result<(), Box<LocalReply>> {
    if exchange.protocol == Protocol::Http10 {
        let reply = LocalReply::new(StatusCode::UPGRADE_REQUIRED, "Upgrade Required", "low_version");
        return Err(Box::new(reply.flag(ResponseFlag::DownstreamProtocolError)));
    }
    if exchange.head.authority.is_empty() {
        return Err(Box::new(LocalReply::new(StatusCode::BAD_REQUEST, "", "missing_host_header")));
    }
    if !exchange.head.path.starts_with('/') {
        return Err(Box::new(LocalReply::new(StatusCode::NOT_FOUND, "", "absolute_path_rejected")));
    }
    let (max, headers) = (exchange.listener.settings.max_headers_count as usize, exchange.head.headers.len());
    if headers > max {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let details = match exchange.protocol {
            Protocol::Http2 => "http2.too_many_headers",
            Protocol::Http10 | Protocol::Http11 => "http1.too_many_headers",
        };
        let reply = LocalReply::new(status, "Request Header Fields Too Large", details);
        return Err(Box::new(reply.flag(ResponseFlag::DownstreamProtocolError)));
    }
    Ok(())
}

/// Makes the head what it is on this side of the proxy.
fn prepare(exchange: &mut Exchange) {
    let listener = Arc::clone(&exchange.listener);
    let headers = &mut exchange.head.headers;
    heads::remove_hop_by_hop(headers);
    let own_address = listener.context.own_address;
    exchange.client = heads::forwarded(headers, &listener.settings, exchange.connection.remote, own_address);
    heads::set_request_id(headers, &listener.settings, rand::random());
}

fn find_route(exchange: &mut Exchange) {
    let listener = Arc::clone(&exchange.listener);
    let Some(Matched { virtual_host, route }) = route::find(&listener.settings.route_config, &exchange.head.borrow())
    else {
        return;
    };
    if let RouteTo::Cluster(action) = &route.action {
        let name = action.cluster.choose(&exchange.head.borrow(), rand::random());
        exchange.cluster = name.and_then(|name| listener.context.clusters.get(name).cloned());
    }
    exchange.virtual_host = Some(Arc::clone(virtual_host));
    exchange.route = Some(Arc::clone(route));
}

/// The route's retry policy, else its virtual host's.
fn retry_policy(exchange: &Exchange) -> Option<&RetryPolicy> {
    let of_route = exchange.route.as_deref().and_then(|route| match &route.action {
        RouteTo::Cluster(action) => action.retry_policy.as_ref(),
        RouteTo::DirectResponse(_) | RouteTo::Redirect(_) => None,
    });
    of_route.or_else(|| exchange.virtual_host.as_deref().and_then(|host| host.retry_policy.as_ref()))
}

fn idle_timeout(exchange: &Exchange) -> Option<Duration> {
    let of_route = exchange.route.as_deref().and_then(|route| match &route.action {
        RouteTo::Cluster(action) => action.idle_timeout,
        RouteTo::DirectResponse(_) | RouteTo::Redirect(_) => None,
    });
    of_route.unwrap_or(exchange.listener.settings.stream_idle_timeout)
}

async fn decide(exchange: &mut Exchange, body: &Replay<Incoming>) -> Decided {
    let listener = Arc::clone(&exchange.listener);
    if let Err(reply) = listener.filters.pass(exchange).await {
        return Decided::Local(reply);
    }
    let downstream = &listener.stats.downstream;
    downstream.rq_total.increment();
    let Some(route) = exchange.route.clone() else {
        downstream.no_route.increment();
        let reply = LocalReply::new(StatusCode::NOT_FOUND, "", "route_not_found");
        return Decided::local(reply.flag(ResponseFlag::NoRouteFound));
    };
    match &route.action {
        RouteTo::DirectResponse(response) => {
            downstream.rq_direct_response.increment();
            let body = response.body.clone().unwrap_or_default();
            Decided::local(LocalReply::new(response.status, body, "direct_response"))
        }
        RouteTo::Redirect(redirect) => {
            downstream.rq_direct_response.increment();
            let location = redirect::location(&route, redirect, &exchange.head.borrow());
            if let Some(RedirectPath::PrefixRewrite(prefix)) = &redirect.path {
                exchange.head.path = route::rewritten_path(&route.matches, &exchange.head.borrow(), prefix);
            }
            let mut reply = LocalReply::new(redirect.response_code, "", "direct_response");
            if let Ok(location) = HeaderValue::from_str(&location) {
                reply.headers.insert(LOCATION, location);
            }
            Decided::local(reply)
        }
        RouteTo::Cluster(action) => to_cluster(exchange, &route, action, body).await,
    }
}

async fn to_cluster(exchange: &mut Exchange, route: &Route, action: &RouteAction, body: &Replay<Incoming>) -> Decided {
    let listener = Arc::clone(&exchange.listener);
    let Some(cluster) = exchange.cluster.clone() else {
        listener.stats.downstream.no_cluster.increment();
        let reply = LocalReply::new(action.cluster_not_found_response_code, "", "cluster_not_found");
        return Decided::local(reply.flag(ResponseFlag::NoClusterFound));
    };
    mutate_request(exchange, route);
    if let Some(rewrite) = &action.path_rewrite {
        let path = route::path_to_cluster(&route.matches, &exchange.head.borrow(), rewrite);
        let original = std::mem::replace(&mut exchange.head.path, path);
        if let Ok(original) = HeaderValue::from_str(&original)
            && !listener.filters.suppresses_envoy_headers
        {
            exchange.head.headers.insert(HeaderName::from_static("x-envoy-original-path"), original);
        }
    }
    let virtual_host = exchange.virtual_host.clone();
    let of_host = virtual_host.as_deref();
    let routing = Routing {
        action,
        retry_policy: action.retry_policy.as_ref().or_else(|| of_host.and_then(|host| host.retry_policy.as_ref())),
        tells_attempt: of_host.is_some_and(|host| host.include_request_attempt_count),
        suppresses_envoy_headers: listener.filters.suppresses_envoy_headers,
    };
    router::route(exchange, &cluster, routing, body).await
}

/// The levels at which headers are added and removed, in the order in which that is done.
fn mutations(exchange: &Exchange) -> [Option<HeaderMutations>; 3] {
    [
        exchange.route.as_deref().map(|route| route.headers.clone()),
        exchange.virtual_host.as_deref().map(|host| host.headers.clone()),
        Some(exchange.listener.settings.route_config.headers.clone()),
    ]
}

fn mutate_request(exchange: &mut Exchange, route: &Route) {
    debug_assert!(exchange.route.as_deref().is_some_and(|found| std::ptr::eq(found, route)));
    for level in mutations(exchange).into_iter().flatten() {
        let mut headers = exchange.head.headers.clone();
        heads::add(&mut headers, &level.request_headers_to_add, &exchange.record());
        for name in &level.request_headers_to_remove {
            headers.remove(name);
        }
        exchange.head.headers = headers;
    }
}

fn mutate_response(exchange: &Exchange, headers: &mut http::HeaderMap) {
    for level in mutations(exchange).into_iter().flatten() {
        heads::add(headers, &level.response_headers_to_add, &exchange.record());
        for name in &level.response_headers_to_remove {
            headers.remove(name);
        }
    }
}

/// Makes the answer.
fn respond(
    mut exchange: Box<Exchange>,
    decided: Decided,
    still_arriving: Option<Replay<Incoming>>,
) -> Response<Answer> {
    let listener = Arc::clone(&exchange.listener);
    let (mut response, source, deadline) = match decided {
        Decided::Local(reply) => local(&mut exchange, *reply),
        Decided::Upstream(answer) => upstream(&mut exchange, *answer),
    };
    // To the headers that a route adds, an answer of the proxy's own has no status yet.
    exchange.status = matches!(source, Source::Upstream(_)).then_some(response.status().as_u16());
    exchange.response_headers.clone_from(response.headers());
    if exchange.route.is_some() {
        mutate_response(&exchange, response.headers_mut());
    }
    exchange.status = Some(response.status().as_u16());
    let filters_headers = std::mem::take(&mut exchange.answer_headers);
    // An answer goes through the filters the other way round.
    for (name, value) in filters_headers.iter().rev().flatten() {
        response.headers_mut().append(name, value.clone());
    }
    if let Ok(server) = HeaderValue::from_str(&listener.settings.server_name) {
        response.headers_mut().insert(SERVER, server);
    }
    if listener.settings.always_set_request_id_in_response
        && let Some(id) = exchange.head.headers.get("x-request-id")
    {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), id.clone());
    }
    let is_leaving = listener.wants_connections_to_end();
    if is_leaving {
        exchange.connection.leaving.cancel();
    }
    if exchange.protocol != Protocol::Http2 && (is_leaving || closes(&exchange)) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    exchange.response_headers.clone_from(response.headers());
    if !exchange.is_health_check {
        listener.stats.count_response(response.status().as_u16());
    }
    if exchange.progress.completed_at().is_none() {
        listener.stats.downstream.downstream_rq_response_before_rq_complete.increment();
    }
    exchange.progress.moved();
    let idle = idle_timeout(&exchange);
    response.map(|()| Answer::new(source, exchange, deadline, idle, still_arriving))
}

/// Whether the connection can't go on after this answer.
fn closes(exchange: &Exchange) -> bool {
    exchange.protocol == Protocol::Http10 || exchange.progress.completed_at().is_none()
}

fn local(exchange: &mut Exchange, reply: LocalReply) -> (Response<()>, Source, Option<Instant>) {
    reply.flags.iter().for_each(|flag| exchange.flags.set(*flag));
    exchange.details = reply.details.clone();
    let response = reply.into_response(exchange.head.is_grpc());
    let (parts, mut body) = response.into_parts();
    if exchange.head.method == Method::HEAD {
        body = body::empty();
    }
    (Response::from_parts(parts, ()), Source::Local(body), None)
}

fn upstream(exchange: &mut Exchange, answer: HostAnswer) -> (Response<()>, Source, Option<Instant>) {
    let HostAnswer { response, host, cluster, deadline } = answer;
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_11;
    // Among them the upstream's own words for its status.
    parts.extensions.clear();
    exchange.details = "via_upstream".into();
    heads::remove_hop_by_hop(&mut parts.headers);
    // Two lengths would make two answers of one for whoever reads the other.
    if parts.headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        let first = parts.headers.get(CONTENT_LENGTH).cloned();
        parts.headers.remove(CONTENT_LENGTH);
        first.map(|first| parts.headers.insert(CONTENT_LENGTH, first));
    }
    if let Some(completed) = exchange.progress.completed_at()
        && !exchange.listener.filters.suppresses_envoy_headers
    {
        let milliseconds = u64::try_from(completed.elapsed().as_millis()).unwrap_or(u64::MAX);
        let name = HeaderName::from_static("x-envoy-upstream-service-time");
        parts.headers.insert(name, HeaderValue::from(milliseconds));
    }
    if exchange.virtual_host.as_deref().is_some_and(|host| host.include_attempt_count_in_response) {
        parts.headers.insert(HeaderName::from_static("x-envoy-attempt-count"), HeaderValue::from(exchange.attempts));
    }
    (Response::from_parts(parts, ()), Source::Upstream(Box::new(Upstream { body, host, cluster })), deadline)
}
