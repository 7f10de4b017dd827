//! HTTP filters, and what routes change in them.

use std::time::Duration;

use super::super::model::{
    Fault, FaultAbort, FaultDelay, FilterConfig, FractionalPercent, HealthCheckFilter, HttpFilter, InitialMetadata,
    OverrideOption, PerFilterConfig, RateLimitFilter, RateLimitPerRoute, RequestType, Router, VirtualHostRateLimits,
};
use super::super::object::Object;
use super::super::value::Value;
use super::rate_limit::{self, Origin};
use super::runtime::Runtime;
use super::status::{self, StatusField};
use super::{Surroundings, local_rate_limit, matching, values};

const RATE_LIMIT: &str = "envoy.extensions.filters.http.ratelimit.v3.RateLimit";
const RATE_LIMIT_PER_ROUTE: &str = "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute";
const LOCAL_RATE_LIMIT: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
const HEALTH_CHECK: &str = "envoy.extensions.filters.http.health_check.v3.HealthCheck";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
/// What a route may say of a filter of any type.
const ANY_FILTER: &str = "envoy.config.route.v3.FilterConfig";

/// One element of `http_filters`.
pub(super) fn read(value: &Value<'_>, surroundings: &Surroundings<'_>) -> Option<HttpFilter> {
    value.object(|filter| {
        let name = filter.required_text("name");
        let disabled = filter.boolean("disabled", false);
        let mut config = filter.required("typed_config")?.open()?;
        let runtime = &surroundings.runtime;
        let result = match config.type_name() {
            Some(RATE_LIMIT) => rate_limit_filter(&mut config, surroundings).map(FilterConfig::RateLimit),
            Some(LOCAL_RATE_LIMIT) => Some(FilterConfig::LocalRateLimit(local_rate_limit::read(&mut config, runtime))),
            Some(FAULT) => Some(FilterConfig::Fault(fault(&mut config))),
            Some(HEALTH_CHECK) => health_check(&mut config).map(FilterConfig::HealthCheck),
            Some(ROUTER) => {
                let suppress_envoy_headers = config.boolean("suppress_envoy_headers", false);
                Some(FilterConfig::Router(Router { suppress_envoy_headers }))
            }
            Some(other) => {
                config.unknown_type(other, &[RATE_LIMIT, LOCAL_RATE_LIMIT, FAULT, HEALTH_CHECK, ROUTER]);
                None
            }
            None => None,
        };
        config.finish();
        Some(HttpFilter { name, disabled, config: result? })
    })?
}

/// What a route or virtual host says of this filter.
pub(super) fn read_per_route(
    value: &Value<'_>,
    filter: &HttpFilter,
    surroundings: &Surroundings<'_>,
) -> Option<PerFilterConfig> {
    let runtime = &surroundings.runtime;
    let mut config = value.open()?;
    let result = match (config.type_name(), &filter.config) {
        (Some(ANY_FILTER), _) => {
            if !config.boolean("disabled", false) {
                value.mistake("disabled: true is the only thing that tidegate-proxy knows here");
            }
            Some(PerFilterConfig::Disabled)
        }
        (Some(RATE_LIMIT_PER_ROUTE), FilterConfig::RateLimit(_)) => {
            Some(PerFilterConfig::RateLimit(rate_limit_per_route(&mut config, runtime)))
        }
        (Some(LOCAL_RATE_LIMIT), FilterConfig::LocalRateLimit(_)) => {
            Some(PerFilterConfig::LocalRateLimit(local_rate_limit::read_per_route(&mut config, runtime)))
        }
        (Some(FAULT), FilterConfig::Fault(_)) => Some(PerFilterConfig::Fault(fault(&mut config))),
        (Some(other), config_of_filter) => {
            let own = match config_of_filter {
                FilterConfig::RateLimit(_) => RATE_LIMIT_PER_ROUTE,
                FilterConfig::LocalRateLimit(_) => LOCAL_RATE_LIMIT,
                FilterConfig::Fault(_) => FAULT,
                FilterConfig::HealthCheck(_) | FilterConfig::Router(_) => ANY_FILTER,
            };
            config.unknown_type(other, &[own, ANY_FILTER]);
            None
        }
        (None, _) => None,
    };
    config.finish();
    result
}

fn rate_limit_filter(config: &mut Object<'_>, surroundings: &Surroundings<'_>) -> Option<RateLimitFilter> {
    const TYPES: [(&str, RequestType); 4] = [
        ("", RequestType::Both),
        ("both", RequestType::Both),
        ("internal", RequestType::Internal),
        ("external", RequestType::External),
    ];
    let runtime = &surroundings.runtime;
    let service = config.required("rate_limit_service").and_then(|value| service(&value, surroundings));
    let filter_enabled = percent(config, "filter_enabled", runtime);
    let filter_enforced = percent(config, "filter_enforced", runtime);
    let mut filter = RateLimitFilter {
        domain: config.required_text("domain"),
        stage: config.count("stage", 0..=10, 0),
        request_type: config.choice("request_type", &TYPES, RequestType::Both),
        timeout: config.timeout("timeout", Some(Duration::from_millis(20))),
        failure_mode_deny: config.boolean("failure_mode_deny", false),
        rate_limited_as_resource_exhausted: config.boolean("rate_limited_as_resource_exhausted", false),
        cluster: String::new(),
        authority: None,
        initial_metadata: Vec::new(),
        enable_x_ratelimit_headers: x_ratelimit_headers(config),
        enable_retry_after_header: config.boolean("enable_retry_after_header", false),
        disable_x_envoy_ratelimited_header: config.boolean("disable_x_envoy_ratelimited_header", false),
        rate_limited_status: status::read(config, StatusField::RATE_LIMITED),
        status_on_error: status::read(config, StatusField::ON_ERROR),
        response_headers_to_add: values::headers_to_add(config, "response_headers_to_add"),
        stat_prefix: config.text("stat_prefix"),
        filter_enabled: runtime
            .share("ratelimit.http_filter_enabled")
            .or(filter_enabled)
            .unwrap_or(FractionalPercent::ALL),
        filter_enforced: runtime
            .share("ratelimit.http_filter_enforcing")
            .or(filter_enforced)
            .unwrap_or(FractionalPercent::ALL),
        failure_mode_deny_percent: percent(config, "failure_mode_deny_percent", runtime),
        rate_limits: rate_limit::list(config, "rate_limits", Origin::Filter, runtime),
        metadata_namespace: config
            .optional_text("metadata_namespace")
            .unwrap_or_else(|| "envoy.filters.http.ratelimit".to_owned()),
    };
    (filter.cluster, filter.authority, filter.initial_metadata) = service?;
    Some(filter)
}

/// `rate_limit_service`: cluster, authority and headers of each call.
fn service(
    value: &Value<'_>,
    surroundings: &Surroundings<'_>,
) -> Option<(String, Option<String>, Vec<InitialMetadata>)> {
    value.object(|service| {
        // Absent it is AUTO, which is V3 since there is no other left.
        service.choice("transport_api_version", &[("V3", ()), ("AUTO", ())], ());
        service.required_object("grpc_service", |grpc| {
            let initial_metadata = grpc.list("initial_metadata", |value| {
                let (name, value) = values::header_value(&value)?;
                Some(InitialMetadata { name, value })
            });
            let (_, target) = grpc.required_one_of(&["envoy_grpc"])?;
            let (cluster, authority) = target.object(|envoy| {
                let cluster = envoy.required("cluster_name").and_then(|value| {
                    let name = value.word()?;
                    if !surroundings.clusters.contains(name) {
                        value.warning(format!(
                            "'{name}' is the name of no cluster in static_resources.clusters: every call will fail"
                        ));
                    }
                    Some(name.to_owned())
                });
                (cluster, envoy.optional_text("authority"))
            })?;
            Some((cluster?, authority, initial_metadata))
        })?
    })?
}

/// A share of requests that a runtime key may stand in for.
pub(super) fn percent(config: &mut Object<'_>, name: &'static str, runtime: &Runtime<'_>) -> Option<FractionalPercent> {
    config.get(name).and_then(|value| values::runtime_percent(&value, runtime))
}

/// `enable_x_ratelimit_headers`
pub(super) fn x_ratelimit_headers(config: &mut Object<'_>) -> bool {
    config.choice("enable_x_ratelimit_headers", &[("OFF", false), ("DRAFT_VERSION_03", true)], false)
}

/// `vh_rate_limits`
pub(super) fn vh_rate_limits(config: &mut Object<'_>) -> VirtualHostRateLimits {
    const OPTIONS: [(&str, VirtualHostRateLimits); 3] = [
        ("OVERRIDE", VirtualHostRateLimits::Override),
        ("INCLUDE", VirtualHostRateLimits::Include),
        ("IGNORE", VirtualHostRateLimits::Ignore),
    ];
    config.choice("vh_rate_limits", &OPTIONS, VirtualHostRateLimits::Override)
}

fn rate_limit_per_route(config: &mut Object<'_>, runtime: &Runtime<'_>) -> RateLimitPerRoute {
    const OPTIONS: [(&str, OverrideOption); 4] = [
        ("DEFAULT", OverrideOption::Default),
        ("OVERRIDE_POLICY", OverrideOption::OverridePolicy),
        ("INCLUDE_POLICY", OverrideOption::IncludePolicy),
        ("IGNORE_POLICY", OverrideOption::IgnorePolicy),
    ];
    RateLimitPerRoute {
        vh_rate_limits: vh_rate_limits(config),
        override_option: config.choice("override_option", &OPTIONS, OverrideOption::Default),
        rate_limits: rate_limit::list(config, "rate_limits", Origin::Filter, runtime),
        domain: config.text("domain"),
    }
}

fn fault(config: &mut Object<'_>) -> Fault {
    let share = |object: &mut Object<'_>| {
        let percentage = object.get("percentage").and_then(|value| values::fractional_percent(&value));
        percentage.unwrap_or(FractionalPercent::NONE)
    };
    let delay = config.object("delay", |delay| {
        let percentage = share(delay);
        let (_, value) = delay.required_one_of(&["fixed_delay"])?;
        Some(FaultDelay { fixed_delay: value.duration(Duration::from_nanos(1))?, percentage })
    });
    let abort = config.object("abort", |abort| {
        let percentage = share(abort);
        let (_, value) = abort.required_one_of(&["http_status"])?;
        Some(FaultAbort { http_status: status::code(&value, 200)?, percentage })
    });
    Fault {
        delay: delay.flatten(),
        abort: abort.flatten(),
        upstream_cluster: config.text("upstream_cluster"),
        headers: config.list("headers", |value| matching::header(&value)),
        max_active_faults: config.optional_count("max_active_faults", 0..=u32::MAX),
    }
}

fn health_check(config: &mut Object<'_>) -> Option<HealthCheckFilter> {
    let pass_through = config.required("pass_through_mode")?;
    if pass_through.boolean()? {
        pass_through.mistake("true is not known to tidegate-proxy, which answers health checks itself; say false");
    }
    Some(HealthCheckFilter { headers: config.list("headers", |value| matching::header(&value)) })
}
