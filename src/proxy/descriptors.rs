//! What a rate limit service is asked of a request, or a local limit counts it by: rate limits make descriptors.
//!
//! Each rate limit makes one descriptor, an entry for each of its actions in their order. An action that has nothing to
//! say drops the whole descriptor, unless it is to be skipped; then its entry alone is left out, and a descriptor may
//! end up without any.

mod action;
mod hits;

use super::access_log::Record;
use super::bootstrap::model::{
    FilterConfig, HttpFilter, LimitOverride, LocalRateLimit, PerFilterConfig, RateLimit, RateLimitFilter,
    RateLimitPerRoute, RateLimitUnit, Route, RouteTo, VirtualHost, VirtualHostRateLimits, XRateLimitOption,
};
use crate::proto::envoy::extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor};

#[cfg(test)]
mod tests;

/// A request, as far as actions look at it.
#[derive(Clone, Copy, Debug)]
pub struct Described<'r> {
    /// Its head, addresses and metadata; at the end of its stream also what became of it.
    pub record: &'r Record<'r>,
    /// `node.cluster`
    pub node_cluster: &'r str,
    /// The name of the routed cluster.
    pub routed_cluster: &'r str,
}

/// When descriptors are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the request is routed: those without `apply_on_stream_done`.
    Request,
    /// At the end of its stream: those with it.
    StreamDone,
}

/// One descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Keys and values, in the order of the actions; may be empty.
    pub entries: Vec<(String, String)>,
    /// A limit that goes along: requests in a unit.
    pub limit: Option<(u32, RateLimitUnit)>,
    /// Its own number of hits; a present 0 is sent as such.
    pub hits_addend: Option<u64>,
    /// Whether the hits are given back.
    pub is_negative_hits: bool,
    /// Whether its status speaks in `x-ratelimit-*`.
    pub x_ratelimit_option: XRateLimitOption,
}

/// The rate limits that apply to a request of a route, of every stage, in the order in which they are sent.
///
/// Those of the route's configuration of the filter go before the filter's own, and either replaces the route's and
/// virtual host's. A route that isn't to a cluster has none.
#[must_use]
pub fn applicable<'c>(
    filter: &'c RateLimitFilter,
    per_route: Option<&'c RateLimitPerRoute>,
    virtual_host: &'c VirtualHost,
    route: &'c Route,
) -> Vec<&'c RateLimit> {
    if !matches!(route.action, RouteTo::Cluster(_)) {
        return Vec::new();
    }
    if let Some(per_route) = per_route.filter(|per_route| !per_route.rate_limits.is_empty()) {
        return per_route.rate_limits.iter().collect();
    }
    if !filter.rate_limits.is_empty() {
        return filter.rate_limits.iter().collect();
    }
    of_route(per_route.map(|per_route| per_route.vh_rate_limits).unwrap_or_default(), virtual_host, route)
}

/// The rate limits of a route and, as `option` says, of its virtual host.
fn of_route<'c>(option: VirtualHostRateLimits, virtual_host: &'c VirtualHost, route: &'c Route) -> Vec<&'c RateLimit> {
    let RouteTo::Cluster(action) = &route.action else { return Vec::new() };
    let includes_virtual_host = match option {
        _ if action.include_vh_rate_limits => true,
        VirtualHostRateLimits::Include => true,
        VirtualHostRateLimits::Ignore => false,
        VirtualHostRateLimits::Override => action.rate_limits.is_empty(),
    };
    let of_virtual_host = virtual_host.rate_limits.iter().filter(|_| includes_virtual_host);
    action.rate_limits.iter().chain(of_virtual_host).collect()
}

/// What a route, or its virtual host where the route is silent, says of a filter.
#[must_use]
pub fn per_route_config<'c>(
    filter: &HttpFilter,
    virtual_host: &'c VirtualHost,
    route: &'c Route,
) -> Option<&'c PerFilterConfig> {
    route.per_filter.get(&filter.name).or_else(|| virtual_host.per_filter.get(&filter.name))
}

/// As [`per_route_config`], of a rate limit filter.
#[must_use]
pub fn rate_limit_per_route<'c>(
    filter: &HttpFilter,
    virtual_host: &'c VirtualHost,
    route: &'c Route,
) -> Option<&'c RateLimitPerRoute> {
    match (per_route_config(filter, virtual_host, route), &filter.config) {
        (Some(PerFilterConfig::RateLimit(per_route)), FilterConfig::RateLimit(_)) => Some(per_route),
        _ => None,
    }
}

/// The descriptors that rate limits make of a request. None at all: the service is not asked.
///
/// `random` decides on rate limits that are only partly enabled.
#[must_use]
pub fn describe<'c>(
    limits: impl IntoIterator<Item = &'c RateLimit>,
    stage: u32,
    moment: Moment,
    request: Described<'_>,
    random: u64,
) -> Vec<Descriptor> {
    let of_moment = |limit: &&RateLimit| limit.apply_on_stream_done == (moment == Moment::StreamDone);
    let limits =
        limits.into_iter().filter(|limit| limit.stage.is_none_or(|own| own == stage) && limit.enabled.includes(random));
    limits.filter(of_moment).filter_map(|limit| descriptor(limit, request)).collect()
}

/// The descriptors that a local rate limit makes of a request: by its own rate limits if it has any, which need no
/// route, else by those of the route and virtual host.
///
/// Of the latter Envoy passes over those with a `disable_key`, and takes those of the end of the stream too.
#[must_use]
pub fn describe_locally(
    limit: &LocalRateLimit,
    found: Option<(&VirtualHost, &Route)>,
    request: Described<'_>,
) -> Vec<Descriptor> {
    if limit.descriptors.is_empty() {
        return Vec::new();
    }
    if !limit.rate_limits.is_empty() {
        let own = limit.rate_limits.iter().filter(|limit| !limit.apply_on_stream_done);
        return own.filter_map(|limit| descriptor(limit, request)).collect();
    }
    let Some((virtual_host, route)) = found else { return Vec::new() };
    let limits = of_route(limit.vh_rate_limits, virtual_host, route).into_iter();
    let limits = limits.filter(|one| one.stage.is_none_or(|own| own == limit.stage) && !one.has_disable_key);
    limits.filter_map(|limit| descriptor(limit, request)).collect()
}

/// The descriptor of one rate limit; `None` if it is dropped.
fn descriptor(limit: &RateLimit, request: Described<'_>) -> Option<Descriptor> {
    let mut entries = Vec::with_capacity(limit.actions.len());
    for action in &limit.actions {
        match action.entry(request) {
            action::Outcome::Entry(key, value) => entries.push((key, value)),
            action::Outcome::Skip => {}
            action::Outcome::Drop => return None,
        }
    }
    let (hits_addend, is_negative_hits) = match &limit.hits_addend {
        None => (None, false),
        Some(addend) => (Some(hits::read(&addend.hits, request.record)?), addend.is_negative),
    };
    let carried = limit.limit.as_ref().and_then(|limit| limit_override(limit, request));
    Some(Descriptor {
        entries,
        limit: carried,
        hits_addend,
        is_negative_hits,
        x_ratelimit_option: limit.x_ratelimit_option,
    })
}

/// The limit that goes along; metadata that is missing or of a wrong form leaves the descriptor without.
fn limit_override(limit: &LimitOverride, request: Described<'_>) -> Option<(u32, RateLimitUnit)> {
    match limit {
        LimitOverride::Static { requests_per_unit, unit } => Some((*requests_per_unit, *unit)),
        LimitOverride::DynamicMetadata(key) => {
            let value = action::metadata_value(request.record.dynamic_metadata, key)?.as_object()?;
            let requests = value.get("requests_per_unit")?.as_f64()?;
            // Names only, as they stand in the enumeration.
            let unit = RateLimitUnit::from_name(value.get("unit")?.as_str()?)?;
            Some((requests as u32, unit))
        }
    }
}

// === impl Descriptor ===

impl From<&Descriptor> for RateLimitDescriptor {
    fn from(descriptor: &Descriptor) -> RateLimitDescriptor {
        let entry =
            |(key, value): &(String, String)| rate_limit_descriptor::Entry { key: key.clone(), value: value.clone() };
        RateLimitDescriptor {
            entries: descriptor.entries.iter().map(entry).collect(),
            limit: descriptor.limit.map(|(requests_per_unit, unit)| rate_limit_descriptor::RateLimitOverride {
                requests_per_unit,
                unit: unit as i32,
                unit_multiplier: None,
            }),
            hits_addend: descriptor.hits_addend.map(Into::into),
            is_negative_hits: descriptor.is_negative_hits,
        }
    }
}
