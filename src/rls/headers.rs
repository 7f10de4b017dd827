//! The `RateLimit-*` response headers (the reference's `LIMIT_RESPONSE_HEADERS_ENABLED`): limit, remaining and seconds
//! to reset of the one descriptor that [`Decision::header_descriptor`] chooses, on allowed and refused calls alike.

use crate::decision::Decision;
use crate::proto::envoy::config::core::v3::HeaderValue;

/// The names under which the three values are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderNames {
    /// Carries `requests_per_unit`.
    pub limit: String,
    /// Carries the hits that still fit.
    pub remaining: String,
    /// Carries whole seconds until the budget returns, rounded up.
    pub reset: String,
}

/// The three headers in the reference's order; none when nothing was counted.
#[must_use]
pub fn headers(decision: &Decision, names: &HeaderNames) -> Vec<HeaderValue> {
    let chosen = decision.header_descriptor().map(|index| &decision.statuses[index]);
    let Some((status, current)) = chosen.and_then(|status| Some((status, status.current_limit.as_ref()?))) else {
        return Vec::new();
    };
    let header =
        |key: &str, value: u64| HeaderValue { key: key.to_owned(), value: value.to_string(), ..HeaderValue::default() };
    vec![
        header(&names.limit, u64::from(current.limit.requests_per_unit)),
        header(&names.remaining, u64::from(status.limit_remaining)),
        header(&names.reset, status.reset_seconds().unwrap_or(0)),
    ]
}
