//! Rate limits: actions, overrides and hits.

use super::super::model::{
    Action, AddressRange, FractionalPercent, Hits, HitsAddend, LimitOverride, MetadataKey, MetadataSource, RateLimit,
    RateLimitUnit, Template, XRateLimitOption,
};
use super::super::object::Object;
use super::super::value::Value;
use super::runtime::Runtime;
use super::{matching, values};

/// Most hits that a configuration may give a descriptor.
const HITS_MAX: i64 = 1_000_000_000;

/// Where a rate limit stands, which decides whether its `hits_addend` has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// In a route or virtual host: none.
    Route,
    /// In a filter's configuration, or a route's for that filter.
    Filter,
    /// The same of a local rate limit, which has no limits that could be overridden.
    LocalFilter,
}

/// A list of rate limits.
pub(super) fn list(
    object: &mut Object<'_>,
    name: &'static str,
    origin: Origin,
    runtime: &Runtime<'_>,
) -> Vec<RateLimit> {
    object.list(name, |value| read(&value, origin, runtime))
}

fn read(value: &Value<'_>, origin: Origin, runtime: &Runtime<'_>) -> Option<RateLimit> {
    const OPTIONS: [(&str, XRateLimitOption); 3] = [
        ("UNSPECIFIED", XRateLimitOption::Unspecified),
        ("OFF", XRateLimitOption::Off),
        ("DRAFT_VERSION_03", XRateLimitOption::DraftVersion03),
    ];
    value.object(|limit| {
        // Envoy knows these two in routes and virtual hosts only.
        let of_route = origin == Origin::Route;
        let stage = of_route.then(|| limit.count("stage", 0..=10, 0));
        let disable_key = if of_route { limit.optional_text("disable_key") } else { None };
        let has_disable_key = disable_key.is_some();
        let enabled = disable_key.and_then(|key| runtime.share(&format!("ratelimit.{key}.http_filter_enabled")));
        let hits_addend = limit.get("hits_addend").and_then(|value| {
            let hits = hits_addend(&value);
            if of_route {
                value.warning(
                    "has no effect in a route's or virtual host's own rate_limits, in Envoy as here; put it into the \
                     rate_limits of typed_per_filter_config or of the filter",
                );
                return None;
            }
            hits
        });
        RateLimit {
            stage,
            enabled: enabled.unwrap_or(FractionalPercent::ALL),
            has_disable_key,
            actions: limit.required_list("actions", |value| action(&value, runtime)),
            limit: match origin {
                Origin::Route | Origin::Filter => limit.get("limit").and_then(|value| limit_override(&value)),
                Origin::LocalFilter => None,
            },
            hits_addend,
            apply_on_stream_done: limit.boolean("apply_on_stream_done", false),
            x_ratelimit_option: limit.choice("x_ratelimit_option", &OPTIONS, XRateLimitOption::Unspecified),
        }
    })
}

fn action(value: &Value<'_>, runtime: &Runtime<'_>) -> Option<Action> {
    const KINDS: [&str; 11] = [
        "source_cluster",
        "destination_cluster",
        "request_headers",
        "query_parameters",
        "remote_address",
        "generic_key",
        "header_value_match",
        "metadata",
        "masked_remote_address",
        "query_parameter_value_match",
        "remote_address_match",
    ];
    value.object(|action| {
        let (kind, value) = action.required_one_of(&KINDS)?;
        value.object(|action| match kind {
            "source_cluster" => Some(Action::SourceCluster),
            "destination_cluster" => Some(Action::DestinationCluster),
            "remote_address" => Some(Action::RemoteAddress),
            "request_headers" => {
                let header = matching::header_key(action, "header_name");
                let key = action.required_text("descriptor_key");
                let skip_if_absent = action.boolean("skip_if_absent", false);
                Some(Action::RequestHeaders { header: header?, key, skip_if_absent })
            }
            "query_parameters" => Some(Action::QueryParameters {
                name: action.required_text("query_parameter_name"),
                key: action.required_text("descriptor_key"),
                skip_if_absent: action.boolean("skip_if_absent", false),
            }),
            "masked_remote_address" => Some(Action::MaskedRemoteAddress {
                v4_prefix: prefix_length(action, "v4_prefix_mask_len", 32),
                v6_prefix: prefix_length(action, "v6_prefix_mask_len", 128),
            }),
            "generic_key" => {
                let key = key_or(action, "generic_key");
                Some(Action::GenericKey { key, value: template(action, runtime.formats_descriptors())? })
            }
            "header_value_match" => {
                let key = key_or(action, "header_match");
                let value = template(action, runtime.formats_descriptors());
                let expect_match = action.boolean("expect_match", true);
                let headers = action.required_list("headers", |value| matching::header(&value));
                Some(Action::HeaderValueMatch { key, value: value?, expect_match, headers })
            }
            "query_parameter_value_match" => {
                let key = key_or(action, "query_match");
                let value = template(action, runtime.formats_descriptors());
                let expect_match = action.boolean("expect_match", true);
                let query_parameters =
                    action.required_list("query_parameters", |value| matching::query_parameter(&value));
                Some(Action::QueryParameterValueMatch { key, value: value?, expect_match, query_parameters })
            }
            "remote_address_match" => remote_address_match(action),
            _ => metadata(action),
        })?
    })?
}

fn key_or(action: &mut Object<'_>, default: &str) -> String {
    action.optional_text("descriptor_key").unwrap_or_else(|| default.to_owned())
}

fn prefix_length(object: &mut Object<'_>, name: &'static str, max: u8) -> u8 {
    object.count(name, 0..=u32::from(max), u32::from(max)).try_into().unwrap_or(max)
}

/// `descriptor_value` and `default_value`; command operators are read where they have a meaning.
fn template(action: &mut Object<'_>, is_formatted: bool) -> Option<Template> {
    let value = action.required("descriptor_value");
    let default_value = action.text("default_value");
    let value = value?;
    let text = value.word()?;
    if !is_formatted {
        return Some(Template::Literal(text.to_owned()));
    }
    let format = values::format(&value)?.omit_empty_values(true);
    Some(Template::Formatted { format, default_value })
}

fn metadata(action: &mut Object<'_>) -> Option<Action> {
    const SOURCES: [(&str, MetadataSource); 3] = [
        ("DYNAMIC", MetadataSource::Dynamic),
        ("ROUTE_ENTRY", MetadataSource::RouteEntry),
        ("CLUSTER_ENTRY", MetadataSource::ClusterEntry),
    ];
    let key = action.required_text("descriptor_key");
    let metadata_key = action.required("metadata_key").and_then(|value| read_metadata_key(&value));
    Some(Action::Metadata {
        key,
        metadata_key: metadata_key?,
        default_value: action.text("default_value"),
        source: action.choice("source", &SOURCES, MetadataSource::Dynamic),
        skip_if_absent: action.boolean("skip_if_absent", false),
    })
}

fn read_metadata_key(value: &Value<'_>) -> Option<MetadataKey> {
    value.object(|key| MetadataKey {
        namespace: key.required_text("key"),
        path: key.required_list("path", |segment| segment.object(|segment| segment.required_text("key"))),
    })
}

fn remote_address_match(action: &mut Object<'_>) -> Option<Action> {
    let key = key_or(action, "remote_address_match");
    let value = template(action, true);
    let matcher = action.required_object("address_matcher", |matcher| {
        let ranges = matcher.required_list("ranges", |range| {
            range.object(|range| {
                let address = range.required("address_prefix").and_then(|value| value.ip_address())?;
                let max = if address.is_ipv4() { 32 } else { 128 };
                let prefix_length = range.count("prefix_len", 0..=max, 0);
                Some(AddressRange { address, prefix_length: prefix_length.try_into().unwrap_or(u8::MAX) })
            })?
        });
        (ranges, matcher.boolean("invert_match", false))
    });
    let (ranges, invert_match) = matcher?;
    Some(Action::RemoteAddressMatch { key, value: value?, ranges, invert_match })
}

fn limit_override(value: &Value<'_>) -> Option<LimitOverride> {
    value.object(|limit| match limit.required_one_of(&["dynamic_metadata", "rate_limit"])? {
        ("dynamic_metadata", value) => value.object(|limit| {
            let key = limit.required("metadata_key").and_then(|value| read_metadata_key(&value));
            key.map(LimitOverride::DynamicMetadata)
        })?,
        (_, value) => value.object(|limit| LimitOverride::Static {
            requests_per_unit: limit.count("requests_per_unit", 0..=u32::MAX, 0),
            unit: limit.choice("unit", &RateLimitUnit::NAMES, RateLimitUnit::Unknown),
        }),
    })?
}

fn hits_addend(value: &Value<'_>) -> Option<HitsAddend> {
    value.object(|addend| {
        let is_negative = addend.boolean("is_negative_hits", false);
        let hits = match addend.required_one_of(&["number", "format"])? {
            ("number", value) => Hits::Number(value.integer(0..=HITS_MAX)?.unsigned_abs()),
            (_, value) => {
                let format = values::format(&value)?;
                if !format.is_single_operator() {
                    value.mistake("must be a single command operator such as %REQ(x-hits)%");
                }
                Hits::Format(format)
            }
        };
        Some(HitsAddend { hits, is_negative })
    })?
}
