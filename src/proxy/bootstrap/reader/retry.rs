//! Retry policies.

use std::time::Duration;

use super::super::model::{RetryOn, RetryPolicy};
use super::super::value::Value;
use super::matching;
use crate::proxy::matching::HeaderMatcher;
use crate::proxy::request::HeaderKey;

/// Envoy's default of `base_interval`.
const BASE_INTERVAL: Duration = Duration::from_millis(25);

/// `RetryPolicy`
pub(super) fn read(value: &Value<'_>) -> Option<RetryPolicy> {
    value.object(|policy| {
        let retry_on = policy.get("retry_on").map(|value| retry_on(&value)).unwrap_or_default();
        let num_retries = policy.count("num_retries", 0..=u32::MAX, 1);
        let per_try_timeout = policy.timeout("per_try_timeout", None);
        let retriable_status_codes = policy
            .list("retriable_status_codes", |value| value.count(100..=999).and_then(|code| u16::try_from(code).ok()));
        let retriable_headers = policy.list("retriable_headers", |value| answer_header(&value));
        let retriable_request_headers = policy.list("retriable_request_headers", |value| matching::header(&value));
        let back_off = policy.object("retry_back_off", |back_off| {
            let min = Duration::from_millis(1);
            let base = back_off.required("base_interval").and_then(|value| value.duration(min));
            let base = base.unwrap_or(BASE_INTERVAL);
            let max = back_off.optional_duration("max_interval", min).unwrap_or(base * 10);
            if max < base {
                back_off.value.mistake("max_interval is shorter than base_interval");
            }
            (base, max)
        });
        let (base_interval, max_interval) = back_off.unwrap_or((BASE_INTERVAL, BASE_INTERVAL * 10));
        RetryPolicy {
            retry_on,
            num_retries,
            per_try_timeout,
            base_interval,
            max_interval,
            retriable_status_codes,
            retriable_headers,
            retriable_request_headers,
        }
    })
}

/// A condition on a header of an answer.
fn answer_header(value: &Value<'_>) -> Option<HeaderMatcher> {
    let matcher = matching::header(value)?;
    if !matches!(matcher.key, HeaderKey::Header(_)) {
        value.mistake(format!("{} is a header that only requests have", matcher.key));
    }
    Some(matcher)
}

fn retry_on(value: &Value<'_>) -> Vec<RetryOn> {
    let mut words = Vec::new();
    for word in value.text().unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match RetryOn::ALL.iter().find(|known| known.name() == word) {
            Some(known) if words.contains(known) => {}
            Some(known) => words.push(*known),
            None if word == "http3-post-connect-failure" => {
                value.mistake("'http3-post-connect-failure' can't happen, as tidegate-proxy speaks no HTTP/3");
            }
            None => {
                let known: Vec<&str> = RetryOn::ALL.iter().map(|known| known.name()).collect();
                value.mistake(format!(
                    "'{word}' is no condition that tidegate-proxy knows; it knows {}",
                    known.join(", ")
                ));
            }
        }
    }
    words
}
