//! The metrics by their dotted names, as the reference service calls them where it has them.
//!
//! ```text
//! ratelimit.service.rate_limit.<domain>.<level>.<level>….total_hits      counter, one of seven for each series
//! ratelimit.service.call.should_rate_limit.redis_error                    counter
//! ratelimit_server.ShouldRateLimit.response_time                          timer
//! tidegate.memory_keys                                                    ours alone, counter or gauge
//! ```
//!
//! This is the one list of what there is in this form: statsd is sent it, and a mapping for Prometheus is applied to
//! it. Nothing is formatted until somebody displays a [`Name`], so a walk over 100,000 rules of which few counted is
//! cheap. A name is split at its dots by whoever reads it; what could end its line is replaced here, since callers
//! choose some of the text.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use super::histogram::Reading;
use super::rule::{RuleCounters, RuleTotals};
use super::series::{Labels, PATH_BYTES_MAX};
use super::{GrpcMethod, Metrics};

/// The name of one metric. Displayed it is the dotted one.
#[derive(Clone, Copy, Debug)]
pub struct Name<'m>(Parts<'m>);

#[derive(Clone, Copy, Debug)]
enum Parts<'m> {
    /// One of [`Metrics::fixed`], and where it is among them.
    Fixed(u32, &'static str),
    /// A failure of the store: where its kind is among those that there were, and the kind.
    StoreError(u32, &'static str),
    Requests(GrpcMethod),
    ResponseTime(GrpcMethod),
    /// A measure of a rule's series, and which it is of them.
    Rule {
        series: u64,
        measure: u32,
        labels: &'m Labels,
    },
}

/// What tells a metric from all others while the process lives. A series that comes back after it was dropped, and so
/// begins at zero again, is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    series: u64,
    measure: u32,
}

/// What a metric is, and its value.
#[derive(Clone, Copy, Debug)]
pub enum Value<'v> {
    /// The sum since the metric began.
    Counter(u64),
    /// A number of now.
    Gauge(u64),
    /// Durations since the start.
    Timer(&'v Reading),
}

/// A measure of a rule: the last part of its name, its value, and whether it is shown while it is zero.
type Measure = (&'static str, fn(&RuleTotals) -> u64, bool);

const MEASURES: [Measure; 7] = [
    ("total_hits", |totals| totals.total_hits, true),
    ("over_limit", |totals| totals.over_limit, true),
    ("near_limit", |totals| totals.near_limit, true),
    ("within_limit", |totals| totals.within_limit, true),
    ("shadow_mode", |totals| totals.shadow_mode, false),
    ("total_negative_hits", |totals| totals.negative_hits, false),
    ("over_limit_with_local_cache", |totals| totals.remembered, false),
];

/// What the name of a rule's measure begins with.
const RULE_PREFIX: &str = "ratelimit.service.rate_limit.";

/// Longest name in bytes.
pub const NAME_BYTES_MAX: usize = RULE_PREFIX.len() + PATH_BYTES_MAX + ".over_limit_with_local_cache".len();

const TLS_ENDS_AT: &str = "tidegate.tls_certificate_ends_at_seconds";
const XDS_SINCE: &str = "tidegate.xds_connected_since_seconds";

// === impl Metrics ===

impl Metrics {
    /// Hands over every metric, in no order, until `take` breaks off. A series without hits is left out, as are
    /// methods without calls.
    pub fn each<B>(&self, mut take: impl FnMut(Name<'_>, Value<'_>) -> ControlFlow<B>) -> ControlFlow<B> {
        for (index, (name, value)) in (0..).zip(self.fixed()) {
            // Without TLS there is no certificate, and a zero would look like one that ended long ago; nor is there a
            // connection.
            if [TLS_ENDS_AT, XDS_SINCE].contains(&name) && matches!(value, Value::Gauge(0)) {
                continue;
            }
            take(Name(Parts::Fixed(index, name)), value)?;
        }
        let errors = self.inner.store_errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (index, (kind, count)) in (0..).zip(errors) {
            take(Name(Parts::StoreError(index, kind)), Value::Counter(count))?;
        }
        for method in GrpcMethod::ALL {
            let calls = self.calls(method);
            if calls.total.get() > 0 {
                take(Name(Parts::Requests(method)), Value::Counter(calls.total.get()))?;
                take(Name(Parts::ResponseTime(method)), Value::Timer(&calls.response_time.read()))?;
            }
        }
        let held: Vec<(u64, Arc<RuleCounters>)> =
            self.series().iter().map(|(number, counters)| (number, Arc::clone(counters))).collect();
        for (series, counters) in &held {
            let totals = counters.totals();
            if totals == RuleTotals::default() {
                continue;
            }
            for (measure, (_, value, is_shown_at_zero)) in (0..).zip(MEASURES) {
                let value = value(&totals);
                if value > 0 || is_shown_at_zero {
                    let labels = counters.labels();
                    take(Name(Parts::Rule { series: *series, measure, labels }), Value::Counter(value))?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn fixed(&self) -> [(&'static str, Value<'static>); 28] {
        let totals = self.totals();
        let (counter, gauge) = (Value::Counter, Value::Gauge);
        [
            ("ratelimit.service.call.should_rate_limit.redis_error", counter(totals.redis_errors.get())),
            ("ratelimit.service.call.should_rate_limit.service_error", counter(totals.service_errors.get())),
            ("ratelimit.service.config_load_success", counter(totals.config_load_success.get())),
            ("ratelimit.service.config_load_error", counter(totals.config_load_error.get())),
            ("ratelimit.service.global_shadow_mode", counter(totals.global_shadow_mode.get())),
            ("tidegate.unknown_domain_hits", counter(totals.unknown_domain_hits.get())),
            ("tidegate.overrides_ignored", counter(totals.overrides_ignored.get())),
            ("tidegate.metric_series_dropped", counter(totals.series_dropped.get())),
            ("tidegate.memory_evictions", counter(totals.memory_evictions.get())),
            ("tidegate.redis_redirects", counter(totals.redis_redirects.get())),
            ("tidegate.statsd_lines_lost", counter(totals.statsd_lines_lost.get())),
            ("tidegate.trace_spans_exported", counter(totals.trace_spans_exported.get())),
            ("tidegate.trace_spans_dropped", counter(totals.trace_spans_dropped.get())),
            ("tidegate.trace_spans_failed", counter(totals.trace_spans_failed.get())),
            ("tidegate.late_calls", counter(totals.late_calls.get())),
            ("tidegate.tls_handshake_failures", counter(totals.tls_handshake_failures.get())),
            ("tidegate.tls_certificate_rejected", gauge(totals.tls_certificate_rejected.get())),
            (TLS_ENDS_AT, gauge(totals.tls_certificate_ends_at.get())),
            ("tidegate.grpc_connections", gauge(totals.grpc_connections.get())),
            ("tidegate.memory_keys", gauge(totals.memory_keys.get())),
            ("tidegate.rules_loaded", gauge(totals.rules_loaded.get())),
            ("tidegate.config_rejected", gauge(totals.config_rejected.get())),
            ("tidegate.config_generation", gauge(totals.config_generation.get())),
            ("tidegate.metrics_mapping_rejected", gauge(totals.metrics_mapping_rejected.get())),
            ("tidegate.xds_refused_unreadable", counter(totals.xds_refused_unreadable.get())),
            ("tidegate.xds_refused_rules", counter(totals.xds_refused_rules.get())),
            ("tidegate.xds_unreachable", gauge(totals.xds_unreachable.get())),
            (XDS_SINCE, gauge(totals.xds_connected_since.get())),
        ]
    }
}

// === impl Name ===

impl Name<'_> {
    /// What tells it from all others.
    #[must_use]
    pub fn identity(&self) -> Identity {
        // Series count from 1; below are what has none.
        const REQUESTS: u32 = 1 << 16;
        const RESPONSE_TIME: u32 = 1 << 17;
        const STORE_ERRORS: u32 = 1 << 18;
        let alone = |measure| Identity { series: 0, measure };
        match self.0 {
            Parts::Fixed(index, _) => alone(index),
            Parts::Requests(method) => alone(REQUESTS + method as u32),
            Parts::ResponseTime(method) => alone(RESPONSE_TIME + method as u32),
            Parts::StoreError(index, _) => alone(STORE_ERRORS + index),
            Parts::Rule { series, measure, .. } => Identity { series, measure },
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Parts::Fixed(_, name) => f.write_str(name),
            Parts::StoreError(_, kind) => write!(f, "tidegate.store_errors.{kind}"),
            Parts::Requests(method) => write!(f, "ratelimit_server.{}.total_requests", method.name()),
            Parts::ResponseTime(method) => write!(f, "ratelimit_server.{}.response_time", method.name()),
            Parts::Rule { measure, labels, .. } => {
                f.write_str(RULE_PREFIX)?;
                one_line(f, &labels.domain)?;
                for level in &labels.path {
                    f.write_str(".")?;
                    one_line(f, level)?;
                }
                write!(f, ".{}", MEASURES[measure as usize].0)
            }
        }
    }
}

/// Writes the text with `_` for each control character: a line break in a caller's value would begin a line of its own.
fn one_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for (index, part) in text.split(char::is_control).enumerate() {
        if index > 0 {
            f.write_str("_")?;
        }
        f.write_str(part)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::time::Duration;

    use super::*;

    /// All names with their values; a timer's is its count.
    fn listed(metrics: &Metrics) -> BTreeMap<String, (char, u64)> {
        let (mut listed, mut identities) = (BTreeMap::new(), HashSet::new());
        let walked = metrics.each::<()>(|name, value| {
            assert!(identities.insert(name.identity()), "{name} has the identity of another");
            let value = match value {
                Value::Counter(total) => ('c', total),
                Value::Gauge(value) => ('g', value),
                Value::Timer(reading) => ('t', reading.count),
            };
            assert!(listed.insert(name.to_string(), value).is_none(), "{name} is there twice");
            ControlFlow::Continue(())
        });
        assert!(walked.is_continue());
        listed
    }

    #[test]
    fn a_rule_counts_under_its_whole_path_as_in_the_reference_service() {
        let metrics = Metrics::default();
        let path = ["path_/v1/*", "host_10.0.0.1:80", "user", "api.example.com"];
        metrics.rule("shop", &path).record_unlimited(5);
        metrics.rule("shop", &["idle"]).record_unlimited(0);
        let listed = listed(&metrics);
        let of_rules: Vec<(&str, u64)> = listed
            .iter()
            .filter_map(|(name, (_, value))| Some((name.strip_prefix("ratelimit.service.rate_limit.")?, *value)))
            .collect();
        let start = "shop.path_/v1/*.host_10_0_0_1_80.user.api.example.com";
        let names = ["near_limit", "over_limit", "total_hits", "within_limit"].map(|name| format!("{start}.{name}"));
        let names: Vec<(&str, u64)> = names.iter().map(String::as_str).zip([0, 0, 5, 5]).collect();
        assert_eq!(of_rules, names);
    }

    #[test]
    fn everything_without_a_rule_has_its_name_and_its_kind() {
        let metrics = Metrics::default();
        metrics.calls(GrpcMethod::ShouldRateLimit).observe(Duration::from_micros(300));
        metrics.store_error("unreachable");
        metrics.totals().memory_keys.set(7);
        let listed = listed(&metrics);
        for (name, value) in [
            ("ratelimit_server.ShouldRateLimit.total_requests", ('c', 1)),
            ("ratelimit_server.ShouldRateLimit.response_time", ('t', 1)),
            ("tidegate.store_errors.unreachable", ('c', 1)),
            ("tidegate.memory_keys", ('g', 7)),
            ("ratelimit.service.config_load_error", ('c', 0)),
        ] {
            assert_eq!(listed.get(name), Some(&value), "{name}");
        }
        assert!(!listed.contains_key("ratelimit_server.Check.total_requests"), "nobody called it");
    }

    #[test]
    fn a_callers_value_can_forge_no_line_and_no_end_of_a_name() {
        let metrics = Metrics::default();
        metrics.runtime("d", &["user_a\nforged:1|c\r\0".to_owned()]).record_unlimited(1);
        let listed = listed(&metrics);
        assert!(listed.contains_key("ratelimit.service.rate_limit.d.user_a_forged_1_c__.total_hits"), "{listed:?}");
    }

    #[test]
    fn the_longest_name_is_as_long_as_stated() {
        let metrics = Metrics::default();
        metrics.rule(&"d".repeat(999), &["abc"; 500]).record_remembered(1);
        let longest = listed(&metrics).keys().map(String::len).max();
        assert!(longest.is_some_and(|longest| (NAME_BYTES_MAX - 4..=NAME_BYTES_MAX).contains(&longest)), "{longest:?}");
    }

    #[test]
    fn a_walk_ends_where_it_is_broken_off() {
        let mut walked = 0;
        let broken = Metrics::default().each(|_, _| {
            walked += 1;
            if walked == 3 { ControlFlow::Break("enough") } else { ControlFlow::Continue(()) }
        });
        assert_eq!((broken, walked), (ControlFlow::Break("enough"), 3));
    }
}
