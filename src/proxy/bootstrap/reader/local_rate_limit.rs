//! The filter with token buckets of its own.

use std::time::Duration;

use super::super::model::{FractionalPercent, LocalDescriptor, LocalRateLimit, TokenBucket};
use super::super::object::Object;
use super::super::value::Value;
use super::filter::{percent, vh_rate_limits, x_ratelimit_headers};
use super::rate_limit::{self, Origin};
use super::runtime::Runtime;
use super::status::{self, StatusField};
use super::values;

/// Envoy's shortest `fill_interval` of a local token bucket.
const FILL_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Envoy's default of `max_dynamic_descriptors`.
const DYNAMIC_DESCRIPTORS_MAX: u32 = 20;

/// `LocalRateLimit` of the filter.
pub(super) fn read(config: &mut Object<'_>, runtime: &Runtime<'_>) -> LocalRateLimit {
    let mut entries = Vec::new();
    LocalRateLimit {
        stat_prefix: config.required_text("stat_prefix"),
        status: status::read(config, StatusField::LOCAL),
        token_bucket: config.get("token_bucket").and_then(|value| token_bucket(&value)),
        filter_enabled: percent(config, "filter_enabled", runtime).unwrap_or(FractionalPercent::NONE),
        filter_enforced: percent(config, "filter_enforced", runtime).unwrap_or(FractionalPercent::NONE),
        request_headers_to_add_when_not_enforced: values::headers_to_add(
            config,
            "request_headers_to_add_when_not_enforced",
        ),
        response_headers_to_add: values::headers_to_add(config, "response_headers_to_add"),
        enable_x_ratelimit_headers: x_ratelimit_headers(config),
        rate_limited_as_resource_exhausted: config.boolean("rate_limited_as_resource_exhausted", false),
        descriptors: config.list("descriptors", |value| {
            let descriptor = descriptor(&value)?;
            if entries.contains(&descriptor.entries) {
                value.mistake("has the entries of a descriptor before it; give both one bucket");
            }
            entries.push(descriptor.entries.clone());
            Some(descriptor)
        }),
        rate_limits: rate_limit::list(config, "rate_limits", Origin::LocalFilter, runtime),
        stage: config.count("stage", 0..=10, 0),
        vh_rate_limits: vh_rate_limits(config),
        always_consume_default_token_bucket: config.boolean("always_consume_default_token_bucket", true),
        max_dynamic_descriptors: config.count("max_dynamic_descriptors", 1..=u32::MAX, DYNAMIC_DESCRIPTORS_MAX),
    }
}

/// The same, said by a route or virtual host.
pub(super) fn read_per_route(config: &mut Object<'_>, runtime: &Runtime<'_>) -> LocalRateLimit {
    config.required("token_bucket");
    read(config, runtime)
}

fn descriptor(value: &Value<'_>) -> Option<LocalDescriptor> {
    value.object(|descriptor| {
        let entries = descriptor.required_list("entries", |entry| {
            entry.object(|entry| (entry.required_text("key"), entry.optional_text("value")))
        });
        let token_bucket = descriptor.required("token_bucket").and_then(|value| token_bucket(&value));
        let shadow_mode = descriptor.boolean("shadow_mode", false);
        Some(LocalDescriptor { entries, token_bucket: token_bucket?, shadow_mode })
    })?
}

fn token_bucket(value: &Value<'_>) -> Option<TokenBucket> {
    value.object(|bucket| {
        let max_tokens = bucket.required("max_tokens").and_then(|value| value.count(0..=u32::MAX));
        let tokens_per_fill = bucket.count("tokens_per_fill", 1..=u32::MAX, 1);
        let fill_interval = bucket.required("fill_interval").and_then(|value| value.duration(FILL_INTERVAL_MIN));
        Some(TokenBucket { max_tokens: max_tokens?, tokens_per_fill, fill_interval: fill_interval? })
    })?
}
