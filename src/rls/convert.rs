//! Between the wire and our words: parsed once, at the door.
//!
//! The wire has two zeros for hits: on the request 0 means 1, on a descriptor a present 0 means "look, don't charge".
//! That is settled here, and so are overrides: one whose unit is unknown or whose window is no window is left out and
//! the configured limit applies (the reference service dies of it). Nothing is copied on the way in.

use pbjson_types::Duration;
use smallvec::SmallVec;

use crate::decision::{Code, CurrentLimit, Decision, DescriptorStatus};
use crate::descriptor::{Descriptor, Entry, Hits, QueryError, RateQuery};
use crate::limit::{Limit, Unit, Window};
use crate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response as wire;
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

/// A question, and what of it could not be used.
#[derive(Debug)]
pub struct Converted<'a> {
    /// The question.
    pub query: RateQuery<'a>,
    /// Overrides that were left out because their unit or multiplier makes no window.
    pub overrides_ignored: u64,
}

/// Reads a request, borrowing its texts.
///
/// # Errors
/// When the domain is empty, or there are no descriptors or too many.
pub fn query(request: &RateLimitRequest) -> Result<Converted<'_>, QueryError> {
    // Looked at before anything is built: a request may carry a hundred thousand descriptors.
    if request.descriptors.len() > RateQuery::DESCRIPTORS_MAX && !request.domain.is_empty() {
        return Err(QueryError::TooManyDescriptors { count: request.descriptors.len() });
    }
    let mut overrides_ignored = 0;
    let default_hits = u64::from(request.hits_addend.max(1));
    let descriptors: SmallVec<[Descriptor<'_>; 4]> = request
        .descriptors
        .iter()
        .map(|descriptor| {
            let limit_override = descriptor.limit.as_ref().and_then(|limit| {
                let multiplier = limit.unit_multiplier.as_ref().map(|multiplier| multiplier.value);
                limit_override(limit.requests_per_unit, limit.unit, multiplier)
            });
            overrides_ignored += u64::from(descriptor.limit.is_some() && limit_override.is_none());
            Descriptor { entries: entries(descriptor), hits: hits(descriptor, default_hits), limit_override }
        })
        .collect();
    Ok(Converted { query: RateQuery::try_new(&request.domain, descriptors)?, overrides_ignored })
}

fn entries(descriptor: &RateLimitDescriptor) -> SmallVec<[Entry<'_>; 4]> {
    descriptor.entries.iter().map(|entry| Entry { key: &entry.key, value: &entry.value }).collect()
}

fn hits(descriptor: &RateLimitDescriptor, default_hits: u64) -> Hits {
    let hits = descriptor.hits_addend.as_ref().map_or(default_hits, |present| present.value);
    if descriptor.is_negative_hits { Hits::GiveBack(hits) } else { Hits::Add(hits) }
}

/// The wire number of the unit is read as the answer's unit, as the reference does: 7 is a week there.
pub(super) fn limit_override(requests_per_unit: u32, unit: i32, multiplier: Option<u32>) -> Option<Limit> {
    let unit = match unit {
        1 => Unit::Second,
        2 => Unit::Minute,
        3 => Unit::Hour,
        4 => Unit::Day,
        5 => Unit::Month,
        6 => Unit::Year,
        7 => Unit::Week,
        _ => return None,
    };
    let window = Window::from_units(unit, multiplier.unwrap_or(1)).ok()?;
    Some(Limit { requests_per_unit, window })
}

/// Writes an answer. Headers and metadata are added by whoever knows the settings.
#[must_use]
pub fn response(decision: &Decision) -> RateLimitResponse {
    RateLimitResponse {
        overall_code: code(decision.code),
        statuses: decision.statuses.iter().map(status).collect(),
        ..RateLimitResponse::default()
    }
}

/// The wire's number for a code.
pub(super) fn code(code: Code) -> i32 {
    let code = match code {
        Code::Ok => wire::Code::Ok,
        Code::OverLimit => wire::Code::OverLimit,
    };
    code as i32
}

fn status(status: &DescriptorStatus) -> wire::DescriptorStatus {
    wire::DescriptorStatus {
        code: code(status.code),
        current_limit: status.current_limit.as_ref().map(current_limit),
        limit_remaining: status.limit_remaining,
        duration_until_reset: status.reset_seconds().map(duration),
    }
}

fn current_limit(current: &CurrentLimit) -> wire::RateLimit {
    let (unit, multiplier) = unit(current.limit.window);
    wire::RateLimit {
        requests_per_unit: current.limit.requests_per_unit,
        unit,
        name: current.name.as_deref().unwrap_or_default().to_owned(),
        unit_multiplier: multiplier.map(Into::into),
    }
}

/// The wire's number for the unit of a window, and how many of it the window has where that isn't one.
///
/// A window that is no whole number of seconds has no unit on the wire: it is said to be UNKNOWN, for which Envoy
/// writes no `w=` into its headers.
pub(super) fn unit(window: Window) -> (i32, Option<u32>) {
    let Some((unit, multiplier)) = window.units() else { return (wire::rate_limit::Unit::Unknown as i32, None) };
    let unit = match unit {
        Unit::Second => wire::rate_limit::Unit::Second,
        Unit::Minute => wire::rate_limit::Unit::Minute,
        Unit::Hour => wire::rate_limit::Unit::Hour,
        Unit::Day => wire::rate_limit::Unit::Day,
        Unit::Week => wire::rate_limit::Unit::Week,
        Unit::Month => wire::rate_limit::Unit::Month,
        Unit::Year => wire::rate_limit::Unit::Year,
    };
    (unit as i32, (multiplier > 1).then_some(multiplier))
}

fn duration(seconds: u64) -> Duration {
    Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;

    fn descriptor(hits_addend: Option<u64>, is_negative_hits: bool) -> RateLimitDescriptor {
        RateLimitDescriptor {
            hits_addend: hits_addend.map(Into::into),
            is_negative_hits,
            ..RateLimitDescriptor::default()
        }
    }

    fn read(request_hits: u32, descriptor: RateLimitDescriptor) -> (Hits, Option<Limit>, u64) {
        let request = RateLimitRequest { domain: "d".into(), descriptors: vec![descriptor], hits_addend: request_hits };
        let converted = query(&request).unwrap();
        let first = &converted.query.descriptors()[0];
        (first.hits, first.limit_override, converted.overrides_ignored)
    }

    #[test]
    fn the_wires_two_zeros_mean_one_hit_and_a_look() {
        assert_eq!(read(0, descriptor(None, false)).0, Hits::Add(1));
        assert_eq!(read(3, descriptor(None, false)).0, Hits::Add(3));
        assert_eq!(read(3, descriptor(Some(0), false)).0, Hits::Add(0));
        assert_eq!(read(3, descriptor(Some(u64::MAX), false)).0, Hits::Add(u64::MAX));
        assert_eq!(read(0, descriptor(None, true)).0, Hits::GiveBack(1));
        assert_eq!(read(0, descriptor(Some(7), true)).0, Hits::GiveBack(7));
    }

    #[test]
    fn an_override_that_makes_no_window_is_left_out_and_counted() {
        let with = |unit, unit_multiplier: Option<u32>| {
            let limit =
                RateLimitOverride { requests_per_unit: 5, unit, unit_multiplier: unit_multiplier.map(Into::into) };
            let (_, limit, ignored) = read(0, RateLimitDescriptor { limit: Some(limit), ..descriptor(None, false) });
            (limit.map(|limit| limit.window.millis()), ignored)
        };
        assert_eq!(with(2, None), (Some(60_000), 0));
        assert_eq!(with(7, None), (Some(604_800_000), 0));
        assert_eq!(with(1, Some(10)), (Some(10_000), 0));
        for (unit, multiplier) in [(0, None), (8, None), (-1, None), (1, Some(0)), (6, Some(u32::MAX))] {
            assert_eq!(with(unit, multiplier), (None, 1), "unit {unit}, multiplier {multiplier:?}");
        }
    }

    #[test]
    fn the_domain_is_looked_at_before_the_descriptors() {
        let error = |domain: &str, descriptors| {
            let request = RateLimitRequest { domain: domain.into(), descriptors, hits_addend: 0 };
            query(&request).map(|_| ()).unwrap_err()
        };
        assert_eq!(error("", vec![]), QueryError::EmptyDomain);
        assert_eq!(error("d", vec![]), QueryError::NoDescriptors);
        let many = vec![RateLimitDescriptor::default(); 10_000];
        assert_eq!(error("d", many), QueryError::TooManyDescriptors { count: 10_000 });
    }
}
