//! `x-ratelimit-*` and `retry-after`: what a client is told of its limits.
//!
//! The first number of `x-ratelimit-limit` is that of the status with the fewest remaining, of equal ones the first;
//! `-remaining` and `-reset` are that status's. Then follows every limit with its window in seconds, which is also how
//! a client tells how many there are.

use std::fmt::Write;

use http::HeaderValue;
use http::header::HeaderName;

use super::bootstrap::model::XRateLimitOption;
use super::descriptors::Descriptor;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit, rate_limit::Unit,
};

/// `x-ratelimit-limit`
pub const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
/// `x-ratelimit-remaining`
pub const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// `x-ratelimit-reset`
pub const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The three headers of an answer; `None` if there is nothing to tell.
///
/// Statuses belong to the descriptors of the same place. `enabled` is the filter's `enable_x_ratelimit_headers`.
#[must_use]
pub fn x_ratelimit(
    statuses: &[DescriptorStatus],
    descriptors: &[Descriptor],
    enabled: bool,
) -> Option<[(HeaderName, HeaderValue); 3]> {
    let speaks = |index: usize| match descriptors.get(index).map(|descriptor| descriptor.x_ratelimit_option) {
        Some(XRateLimitOption::Off) => false,
        Some(XRateLimitOption::DraftVersion03) => true,
        Some(XRateLimitOption::Unspecified) | None => enabled,
    };
    let limited =
        statuses.iter().enumerate().filter_map(|(index, status)| Some((index, status, status.current_limit.as_ref()?)));
    // The status with the fewest remaining decides alone: if it is silent, so are all.
    let (index, tightest, limit) = limited.clone().min_by_key(|(_, status, _)| status.limit_remaining)?;
    if !speaks(index) {
        return None;
    }
    let mut text = limit.requests_per_unit.to_string();
    for (_, _, limit) in limited.filter(|(index, ..)| speaks(*index)) {
        write_policy(limit, &mut text).expect("a String takes everything");
    }
    Some([
        // A rule's name may hold bytes that no header can.
        (LIMIT, HeaderValue::from_str(&text).ok()?),
        (REMAINING, HeaderValue::from(tightest.limit_remaining)),
        (RESET, HeaderValue::from(reset_seconds(tightest))),
    ])
}

/// `, 10;w=60;name="per-ip"`, or nothing if the unit isn't known.
fn write_policy(limit: &RateLimit, onto: &mut String) -> std::fmt::Result {
    let Some(seconds) = unit_seconds(limit.unit()) else { return Ok(()) };
    let multiplier = limit.unit_multiplier.as_ref().map_or(1, |multiplier| multiplier.value.max(1));
    write!(onto, ", {};w={}", limit.requests_per_unit, seconds.saturating_mul(u64::from(multiplier)))?;
    if !limit.name.is_empty() {
        write!(onto, ";name=\"{}\"", limit.name)?;
    }
    Ok(())
}

fn unit_seconds(unit: Unit) -> Option<u64> {
    const DAY: u64 = 86_400;
    match unit {
        Unit::Unknown => None,
        Unit::Second => Some(1),
        Unit::Minute => Some(60),
        Unit::Hour => Some(3600),
        Unit::Day => Some(DAY),
        Unit::Week => Some(7 * DAY),
        Unit::Month => Some(30 * DAY),
        Unit::Year => Some(365 * DAY),
    }
}

/// Whole seconds, the rest cut off; 0 if nothing is said.
fn reset_seconds(status: &DescriptorStatus) -> u64 {
    let seconds = status.duration_until_reset.as_ref().map_or(0, |duration| duration.seconds);
    u64::try_from(seconds).unwrap_or_default()
}

/// `retry-after` of a refusal, in seconds: the longest time until reset among the statuses that are over their limit,
/// at least 1. `None` if there is no such status.
#[must_use]
pub fn retry_after(statuses: &[DescriptorStatus]) -> Option<HeaderValue> {
    let over = statuses.iter().filter(|status| status.code() == Code::OverLimit);
    over.map(reset_seconds).max().map(|seconds| HeaderValue::from(seconds.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(requests_per_unit: u32, unit: Unit, name: &str, multiplier: u32) -> RateLimit {
        let unit_multiplier = (multiplier > 0).then(|| multiplier.into());
        RateLimit { requests_per_unit, unit: unit.into(), name: name.to_owned(), unit_multiplier }
    }

    fn status(code: Code, limit: Option<RateLimit>, remaining: u32, reset: (i64, i32)) -> DescriptorStatus {
        let duration_until_reset = Some(pbjson_types::Duration { seconds: reset.0, nanos: reset.1 });
        DescriptorStatus { code: code.into(), current_limit: limit, limit_remaining: remaining, duration_until_reset }
    }

    fn descriptor(x_ratelimit_option: XRateLimitOption) -> Descriptor {
        Descriptor { entries: Vec::new(), limit: None, hits_addend: None, is_negative_hits: false, x_ratelimit_option }
    }

    fn texts(statuses: &[DescriptorStatus], options: &[XRateLimitOption], enabled: bool) -> Option<[String; 3]> {
        let descriptors: Vec<Descriptor> = options.iter().copied().map(descriptor).collect();
        let headers = x_ratelimit(statuses, &descriptors, enabled)?;
        Some(headers.map(|(_, value)| value.to_str().unwrap().to_owned()))
    }

    const AS_THE_FILTER: XRateLimitOption = XRateLimitOption::Unspecified;

    #[test]
    fn the_status_with_the_fewest_remaining_speaks_and_every_limit_is_listed() {
        let statuses = [
            status(Code::Ok, Some(limit(10, Unit::Minute, "per-ip", 0)), 9, (30, 0)),
            status(Code::Ok, None, 0, (0, 0)),
            status(Code::Ok, Some(limit(100, Unit::Hour, "", 0)), 3, (1799, 999_999_999)),
            status(Code::Ok, Some(limit(7, Unit::Hour, "", 0)), 3, (5, 0)),
        ];
        assert_eq!(
            texts(&statuses, &[AS_THE_FILTER; 4], true).unwrap(),
            ["100, 10;w=60;name=\"per-ip\", 100;w=3600, 7;w=3600", "3", "1799"]
        );
        assert_eq!(texts(&statuses, &[AS_THE_FILTER; 4], false), None);
        assert_eq!(texts(&statuses[1..2], &[AS_THE_FILTER], true), None);
        assert_eq!(texts(&[], &[], true), None);
    }

    #[test]
    fn every_unit_has_its_seconds() {
        for (unit, multiplier, text) in [
            (Unit::Second, 0, "5, 5;w=1"),
            (Unit::Minute, 5, "5, 5;w=300"),
            (Unit::Hour, 1, "5, 5;w=3600"),
            (Unit::Day, 0, "5, 5;w=86400"),
            (Unit::Week, 0, "5, 5;w=604800"),
            (Unit::Month, 0, "5, 5;w=2592000"),
            (Unit::Year, 0, "5, 5;w=31536000"),
            (Unit::Unknown, 0, "5"),
        ] {
            let statuses = [status(Code::Ok, Some(limit(5, unit, "", multiplier)), 1, (1, 0))];
            assert_eq!(texts(&statuses, &[AS_THE_FILTER], true).unwrap()[0], text, "{unit:?}");
        }
    }

    #[test]
    fn a_silent_descriptor_leaves_the_list_and_silences_all_if_it_is_the_tightest() {
        let one = status(Code::Ok, Some(limit(10, Unit::Second, "", 0)), 5, (1, 0));
        let two = status(Code::Ok, Some(limit(20, Unit::Minute, "", 0)), 9, (2, 0));
        let off = XRateLimitOption::Off;
        let statuses = [one, two];
        assert_eq!(texts(&statuses, &[AS_THE_FILTER, off], true).unwrap()[0], "10, 10;w=1");
        assert_eq!(texts(&statuses, &[off, AS_THE_FILTER], true), None);
        let on = XRateLimitOption::DraftVersion03;
        assert_eq!(texts(&statuses, &[on, AS_THE_FILTER], false).unwrap()[0], "10, 10;w=1");
    }

    #[test]
    fn retry_after_is_the_longest_wait_of_those_over_their_limit() {
        let over = |seconds| status(Code::OverLimit, None, 0, (seconds, 0));
        let ok = status(Code::Ok, None, 0, (99, 0));
        let read =
            |statuses: &[DescriptorStatus]| retry_after(statuses).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(read(&[over(3), ok.clone(), over(10)]).as_deref(), Some("10"));
        assert_eq!(read(&[over(0)]).as_deref(), Some("1"));
        assert_eq!(read(&[ok]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn a_name_that_no_header_can_hold_gives_no_headers() {
        let statuses = [status(Code::Ok, Some(limit(5, Unit::Second, "a\nb", 0)), 1, (1, 0))];
        assert_eq!(texts(&statuses, &[AS_THE_FILTER], true), None);
    }
}
