//! The chain of filters of a listener: what the file configures, made ready to run.

use std::collections::HashMap;
use std::sync::Arc;

use super::context::Context;
use super::exchange::Exchange;
use super::fault;
use super::health_check;
use super::local_limit::LocalLimiter;
use super::reply::LocalReply;
use crate::proxy::bootstrap::model::{
    Fault, FilterConfig, HealthCheckFilter, HttpConnections, HttpFilter, LocalRateLimit, PerFilterConfig,
};

/// The filters of a listener in their order, without the router.
#[derive(Debug)]
pub struct FilterChain {
    filters: Vec<Filter>,
    /// Whether the router adds no `x-envoy-*` headers.
    pub suppresses_envoy_headers: bool,
}

#[derive(Debug)]
struct Filter {
    name: String,
    is_disabled: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    RateLimit(Box<super::rate_limit::RateLimiter>),
    LocalRateLimit {
        own: Box<LocalLimiter>,
        /// Those of routes and virtual hosts, by where their settings lie: the settings outlive the chain.
        others: HashMap<usize, LocalLimiter>,
    },
    Fault(Fault),
    HealthCheck(HealthCheckFilter),
}

// === impl FilterChain ===

impl FilterChain {
    /// The filters that those settings configure.
    #[must_use]
    pub fn new(settings: &HttpConnections, context: &Arc<Context>) -> FilterChain {
        let mut chain = FilterChain { filters: Vec::new(), suppresses_envoy_headers: false };
        let limiter = |limit: &LocalRateLimit| {
            LocalLimiter::new(limit, context.stats.local_rate_limit(&limit.stat_prefix), context)
        };
        for filter in &settings.http_filters {
            let kind = match &filter.config {
                FilterConfig::Router(router) => {
                    chain.suppresses_envoy_headers = router.suppress_envoy_headers;
                    continue;
                }
                FilterConfig::Fault(fault) => Kind::Fault(fault.clone()),
                FilterConfig::HealthCheck(filter) => Kind::HealthCheck(filter.clone()),
                FilterConfig::RateLimit(limit) => {
                    Kind::RateLimit(Box::new(super::rate_limit::RateLimiter::new(limit, context)))
                }
                FilterConfig::LocalRateLimit(limit) => {
                    let own = Box::new(limiter(limit));
                    let others = overrides(settings, filter)
                        .filter_map(|other| match other {
                            PerFilterConfig::LocalRateLimit(limit) => Some((place(other), limiter(limit))),
                            PerFilterConfig::Fault(_) | PerFilterConfig::RateLimit(_) | PerFilterConfig::Disabled => {
                                None
                            }
                        })
                        .collect();
                    Kind::LocalRateLimit { own, others }
                }
            };
            chain.filters.push(Filter { name: filter.name.clone(), is_disabled: filter.disabled, kind });
        }
        chain
    }

    /// Lets the request through all filters.
    ///
    /// # Errors
    /// The answer of the filter that refuses it.
    pub async fn pass(&self, exchange: &mut Exchange) -> Result<(), Box<LocalReply>> {
        for filter in &self.filters {
            let route = exchange.route.clone();
            let virtual_host = exchange.virtual_host.clone();
            let changed = (route.as_deref().and_then(|route| route.per_filter.get(&filter.name)))
                .or_else(|| virtual_host.as_deref().and_then(|host| host.per_filter.get(&filter.name)));
            if matches!(changed, Some(PerFilterConfig::Disabled)) || (filter.is_disabled && changed.is_none()) {
                continue;
            }
            match (&filter.kind, changed) {
                (Kind::Fault(_), Some(PerFilterConfig::Fault(fault))) | (Kind::Fault(fault), _) => {
                    fault::inject(fault, exchange).await?;
                }
                (Kind::HealthCheck(filter), _) => health_check::check(filter, exchange)?,
                (Kind::LocalRateLimit { own, others }, changed) => {
                    let limiter = changed.and_then(|changed| others.get(&place(changed))).unwrap_or(own);
                    limiter.check(exchange)?;
                }
                (Kind::RateLimit(limiter), changed) => {
                    let per_route = match changed {
                        Some(PerFilterConfig::RateLimit(per_route)) => Some(per_route),
                        _ => None,
                    };
                    limiter.check(exchange, per_route).await?;
                }
            }
        }
        Ok(())
    }
}

/// What routes and virtual hosts say in the place of a filter's settings.
fn overrides<'s>(settings: &'s HttpConnections, filter: &'s HttpFilter) -> impl Iterator<Item = &'s PerFilterConfig> {
    settings.route_config.virtual_hosts.iter().flat_map(|host| {
        let routes = host.routes.iter().filter_map(|route| route.per_filter.get(&filter.name));
        host.per_filter.get(&filter.name).into_iter().chain(routes)
    })
}

/// Where settings lie; they are behind an `Arc` and never move.
fn place(settings: &PerFilterConfig) -> usize {
    std::ptr::from_ref(settings).addr()
}
