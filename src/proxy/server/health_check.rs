//! The filter that answers health checks of the proxy itself, from its own state.

use std::sync::atomic::Ordering;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::exchange::Exchange;
use super::reply::LocalReply;
use crate::proxy::access_log::ResponseFlag;
use crate::proxy::bootstrap::model::HealthCheckFilter;
use crate::proxy::matching::headers_match;

/// Answers the request if it is a health check. While the proxy is to look unhealthy every answer says so.
///
/// # Errors
/// The answer to a health check.
pub fn check(filter: &HealthCheckFilter, exchange: &mut Exchange) -> Result<(), Box<LocalReply>> {
    let context = &exchange.listener.context;
    let is_failing = context.is_failing_health_checks.load(Ordering::Relaxed);
    let own_cluster = HeaderValue::from_str(&context.node.cluster);
    if is_failing {
        let name = HeaderName::from_static("x-envoy-immediate-health-check-fail");
        exchange.answer_headers.push(HeaderMap::from_iter([(name, HeaderValue::from_static("true"))]));
    }
    if !headers_match(&filter.headers, &exchange.head.borrow()) {
        return Ok(());
    }
    exchange.is_health_check = true;
    if let Ok(own_cluster) = own_cluster {
        let name = HeaderName::from_static("x-envoy-upstream-healthchecked-cluster");
        exchange.answer_headers.push(HeaderMap::from_iter([(name, own_cluster)]));
    }
    let stats = &exchange.listener.stats.health_check;
    stats.request_total.increment();
    let reply = if is_failing {
        stats.failed.increment();
        let reply = LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, "", "health_check_failed");
        reply.flag(ResponseFlag::FailedLocalHealthCheck)
    } else {
        stats.ok.increment();
        LocalReply::new(StatusCode::OK, "", "health_check_ok")
    };
    Err(Box::new(reply))
}
