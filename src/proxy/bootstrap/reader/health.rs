//! Active health checks.

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};

use super::super::model::HealthCheck;
use super::super::object::Object;
use super::super::value::Value;
use super::values;

/// One element of `health_checks`.
pub(super) fn read(value: &Value<'_>) -> Option<HealthCheck> {
    const MIN: Duration = Duration::from_millis(1);
    value.object(|check| {
        let needed = |check: &mut Object<'_>, name| check.required(name).and_then(|value| value.duration(MIN));
        let timeout = needed(check, "timeout");
        let interval = needed(check, "interval");
        let threshold = |check: &mut Object<'_>, name| check.required(name).and_then(|value| value.count(0..=u32::MAX));
        let unhealthy_threshold = threshold(check, "unhealthy_threshold");
        let healthy_threshold = threshold(check, "healthy_threshold");
        let mut optional = |name| check.optional_duration(name, MIN);
        let no_traffic_interval = optional("no_traffic_interval").unwrap_or(Duration::from_secs(60));
        let unhealthy_interval = optional("unhealthy_interval");
        let unhealthy_edge_interval = optional("unhealthy_edge_interval");
        let healthy_edge_interval = optional("healthy_edge_interval");
        let initial_jitter = check.duration("initial_jitter", Duration::ZERO);
        let interval_jitter = check.duration("interval_jitter", Duration::ZERO);
        let reuse_connection = check.boolean("reuse_connection", true);
        let http = check.required_one_of(&["http_health_check"]).and_then(|(_, value)| http_check(&value));
        let http = http?;
        let interval = interval?;
        let unhealthy_interval = unhealthy_interval.unwrap_or(interval);
        Some(HealthCheck {
            timeout: timeout?,
            interval,
            initial_jitter,
            interval_jitter,
            unhealthy_threshold: unhealthy_threshold?,
            healthy_threshold: healthy_threshold?,
            reuse_connection,
            no_traffic_interval,
            unhealthy_interval,
            unhealthy_edge_interval: unhealthy_edge_interval.unwrap_or(unhealthy_interval),
            healthy_edge_interval: healthy_edge_interval.unwrap_or(interval),
            host: http.host,
            path: http.path,
            method: http.method,
            request_headers_to_add: http.request_headers_to_add,
            expected_statuses: http.expected_statuses,
            retriable_statuses: http.retriable_statuses,
        })
    })?
}

#[derive(Debug)]
struct HttpCheck {
    host: String,
    path: String,
    method: Method,
    request_headers_to_add: HeaderMap,
    expected_statuses: Vec<Range<u16>>,
    retriable_statuses: Vec<Range<u16>>,
}

fn http_check(value: &Value<'_>) -> Option<HttpCheck> {
    const METHODS: [(&str, Method); 7] = [
        ("GET", Method::GET),
        ("HEAD", Method::HEAD),
        ("POST", Method::POST),
        ("PUT", Method::PUT),
        ("DELETE", Method::DELETE),
        ("OPTIONS", Method::OPTIONS),
        ("PATCH", Method::PATCH),
    ];
    value.object(|check| {
        let indexes: Vec<(&str, usize)> = METHODS.iter().enumerate().map(|(index, (name, _))| (*name, index)).collect();
        let method = METHODS[check.choice("method", &indexes, 0)].1.clone();
        let mut expected_statuses = check.list("expected_statuses", |value| statuses(&value));
        if expected_statuses.is_empty() {
            expected_statuses.push(200..201);
        }
        HttpCheck {
            host: check.text("host"),
            path: check.required_text("path"),
            method,
            request_headers_to_add: check
                .list("request_headers_to_add", |value| value.object(|it| fixed_header(it))?)
                .into_iter()
                .collect(),
            expected_statuses,
            retriable_statuses: check.list("retriable_statuses", |value| statuses(&value)),
        }
    })
}

fn fixed_header(option: &mut Object<'_>) -> Option<(http::HeaderName, HeaderValue)> {
    option.required_object("header", |header| {
        let name = header.required("key").and_then(|key| values::header_name(&key));
        let value = header.required("value")?;
        let text = value.text()?;
        if text.contains('%') {
            value.mistake("has a %; tidegate-proxy knows no command operators in the headers of health checks");
        }
        Some((name?, HeaderValue::from_str(text).ok()?))
    })?
}

/// `start` to `end`, which is excluded.
fn statuses(value: &Value<'_>) -> Option<Range<u16>> {
    value.object(|range| {
        let mut bound = |name| {
            let code = range.required(name).and_then(|value| value.count(100..=600))?;
            u16::try_from(code).ok()
        };
        let (start, end) = (bound("start")?, bound("end")?);
        if start >= end {
            range.value.mistake("is an empty range; start is the first status and end is one past the last");
        }
        Some(start..end)
    })?
}
