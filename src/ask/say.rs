//! An answer in lines for a terminal.

use pbjson_types::value::Kind;
use pbjson_types::{Duration, Struct};

use crate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::{DescriptorStatus, RateLimit};
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

/// Characters of one text of the server's that are shown; `--json` has all of it.
const SHOWN_MAX: usize = 500;

/// The answer as it came, in proto3 JSON.
pub(super) fn json(response: &RateLimitResponse) -> String {
    serde_json::to_value(response).map_or_else(|error| error.to_string(), |told| format!("{told:#}"))
}

/// The overall code, then a line for each descriptor and for each header.
pub(super) fn words(request: &RateLimitRequest, response: &RateLimitResponse) -> String {
    let mut told = response.overall_code().as_str_name().to_owned();
    let own = response.dynamic_metadata.as_ref().and_then(own_metadata);
    let never = own.map(never_passes).unwrap_or_default();
    for (index, descriptor) in request.descriptors.iter().enumerate() {
        let status = response.statuses.get(index);
        let status = status.map_or_else(|| "the answer says nothing of it".to_owned(), status_words);
        let never = if never.contains(&index) { "; so many hits never pass" } else { "" };
        told.push_str(&format!("\n{}: {status}{never}", entries(descriptor)));
    }
    if let Some(Kind::StringValue(gate)) = own.and_then(|own| own.fields.get("gate")?.kind.as_ref()) {
        told.push_str(&format!("\nrefused by the limit of the adaptive service {}", printable(gate)));
    }
    for header in &response.response_headers_to_add {
        told.push_str(&format!("\nheader {}: {}", printable(&header.key), printable(&header.value)));
    }
    told
}

/// A text without control characters, cut where it is too long.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(SHOWN_MAX).collect()
}

fn entries(descriptor: &RateLimitDescriptor) -> String {
    let entries = descriptor.entries.iter().map(|entry| printable(&format!("{}={}", entry.key, entry.value)));
    entries.collect::<Vec<_>>().join(", ")
}

/// `OVER_LIMIT, limit 5 per minute ("per-user"), 0 remaining, resets in 42 s`.
fn status_words(status: &DescriptorStatus) -> String {
    let code = status.code().as_str_name();
    let Some(limit) = &status.current_limit else {
        let limit = if status.limit_remaining == u32::MAX { "unlimited" } else { "no limit applies" };
        return format!("{code}, {limit}");
    };
    let mut told = format!("{code}, limit {}", limit_words(limit));
    if !limit.name.is_empty() {
        told.push_str(&format!(" (\"{}\")", printable(&limit.name)));
    }
    told.push_str(&format!(", {} remaining", status.limit_remaining));
    if let Some(reset) = &status.duration_until_reset {
        told.push_str(&format!(", resets in {}", seconds(reset)));
    }
    told
}

fn limit_words(limit: &RateLimit) -> String {
    let requests = limit.requests_per_unit;
    let unit = match limit.unit() {
        Unit::Unknown => return format!("{requests} per window"),
        unit => unit.as_str_name().to_ascii_lowercase(),
    };
    match limit.unit_multiplier.as_ref().map_or(1, |multiplier| multiplier.value) {
        1 => format!("{requests} per {unit}"),
        multiplier => format!("{requests} per {multiplier} {unit}s"),
    }
}

/// `42 s`, `0.25 s`.
fn seconds(duration: &Duration) -> String {
    let mut told = duration.seconds.to_string();
    let millis = duration.nanos.max(0) / 1_000_000;
    if millis > 0 {
        told.push('.');
        told.push_str(format!("{millis:03}").trim_end_matches('0'));
    }
    told + " s"
}

fn own_metadata(metadata: &Struct) -> Option<&Struct> {
    match metadata.fields.get("tidegate")?.kind.as_ref()? {
        Kind::StructValue(own) => Some(own),
        _ => None,
    }
}

/// Positions of the descriptors whose hits are more than their limit can ever hold.
fn never_passes(own: &Struct) -> Vec<usize> {
    match own.fields.get("never_passes").and_then(|value| value.kind.as_ref()) {
        Some(Kind::ListValue(list)) => {
            let positions = list.values.iter().filter_map(|value| match value.kind {
                Some(Kind::NumberValue(position)) if position >= 0.0 => Some(position as usize),
                _ => None,
            });
            positions.collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use pbjson_types::UInt32Value;

    use super::*;
    use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;

    fn limit(unit: Unit, multiplier: Option<u32>) -> RateLimit {
        RateLimit {
            requests_per_unit: 5,
            unit: unit.into(),
            name: "per-user\u{1b}[31m".to_owned(),
            unit_multiplier: multiplier.map(|value| UInt32Value { value }),
        }
    }

    #[test]
    fn a_status_is_told_in_words_without_control_characters() {
        let status = |current_limit, limit_remaining, nanos| DescriptorStatus {
            code: Code::OverLimit.into(),
            current_limit,
            limit_remaining,
            duration_until_reset: Some(Duration { seconds: 42, nanos }),
        };
        assert_eq!(
            status_words(&status(Some(limit(Unit::Minute, None)), 0, 250_000_000)),
            "OVER_LIMIT, limit 5 per minute (\"per-user[31m\"), 0 remaining, resets in 42.25 s"
        );
        assert_eq!(limit_words(&limit(Unit::Second, Some(10))), "5 per 10 seconds");
        assert_eq!(limit_words(&limit(Unit::Unknown, None)), "5 per window");
        assert_eq!(status_words(&status(None, u32::MAX, 0)), "OVER_LIMIT, unlimited");
        assert_eq!(status_words(&status(None, 0, 0)), "OVER_LIMIT, no limit applies");
    }
}
