//! The metrics as text, in Prometheus's format 0.0.4.
//!
//! The text is written by `prometheus-client`, which also knows how to escape; two things are ours. Counters keep the
//! names of the reference service, which lack the suffix `_total`: the package adds it to everything it knows as a
//! counter, so the value is written the way gauges are, under a heading that says counter. And the rules' series are
//! written from a list of handles that is taken under the lock and sorted outside it: a scrape of 100,000 rules holds
//! up no request and copies no label. Series are shown by domain and two levels, the sum of all that have these.
//!
//! The text goes to a writer piece by piece, so whoever sends it need not hold it whole.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabel, EncodeLabelSet, LabelSetEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use super::families::{RULE_FAMILIES, Zeros};
use super::rule::{RuleCounters, RuleTotals};
use super::series::{Labels, Shown};
use super::{Calls, GrpcMethod, Metrics};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

// === impl Metrics ===

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_rules(&mut encoder)?;
        self.encode_calls(&mut encoder)?;
        self.encode_errors(&mut encoder)?;
        self.encode_totals(&mut encoder)
    }
}

impl Metrics {
    fn encode_rules(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (held, departed): (Vec<Arc<RuleCounters>>, Vec<(Labels, RuleTotals)>) = {
            let table = self.series();
            let departed = table.departed().iter().map(|(labels, totals)| (labels.clone(), *totals)).collect();
            (table.iter().map(|(_, counters)| Arc::clone(counters)).collect(), departed)
        };
        // A rule that never had a hit is left out: of 100,000 rules most never have one.
        let mut series: Vec<(Shown<'_>, RuleTotals)> = held
            .iter()
            .map(|counters| (counters.labels().shown(), counters.totals()))
            .chain(departed.iter().map(|(labels, totals)| (labels.shown(), *totals)))
            .filter(|(_, totals)| *totals != RuleTotals::default())
            .collect();
        series.sort_unstable_by_key(|(shown, _)| *shown);
        series.dedup_by(|(shown, totals), (kept, sum)| {
            let is_same = shown == kept;
            if is_same {
                *sum = sum.plus(*totals);
            }
            is_same
        });
        for (name, help, value, zeros) in RULE_FAMILIES {
            let shown = series
                .iter()
                .map(|(labels, totals)| (labels, value(totals)))
                .filter(|(_, value)| zeros == Zeros::Shown || *value != 0);
            family(encoder, name, help, MetricType::Counter, shown)?;
        }
        Ok(())
    }

    fn encode_calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let calls: Vec<(Label, &Calls)> = GrpcMethod::ALL
            .into_iter()
            .map(|method| (Label("grpc_method", method.name()), self.calls(method)))
            .filter(|(_, calls)| calls.total.get() != 0)
            .collect();
        family(
            encoder,
            "ratelimit_service_total_requests",
            "Calls of unary gRPC methods.",
            MetricType::Counter,
            calls.iter().map(|(label, calls)| (label, calls.total.get())),
        )?;
        if calls.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "ratelimit_service_response_time_seconds",
            "Time from a call's arrival to its answer.",
            None,
            MetricType::Histogram,
        )?;
        for (label, calls) in &calls {
            let reading = calls.response_time.read();
            let in_milliseconds = self.inner.shows_milliseconds.load(Ordering::Relaxed);
            let reading = if in_milliseconds { reading.in_milliseconds() } else { reading };
            family.encode_family(label)?.encode_histogram::<NoLabelSet>(
                reading.sum,
                reading.count,
                &reading.buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn encode_errors(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.totals();
        family(
            encoder,
            "ratelimit_service_should_rate_limit_error",
            "Calls that got an error instead of a decision.",
            MetricType::Counter,
            [
                (&Label("err_type", "redis_error"), totals.redis_errors.get()),
                (&Label("err_type", "service_error"), totals.service_errors.get()),
            ],
        )?;
        let errors = self.inner.store_errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let errors: Vec<(Label, u64)> = errors.into_iter().map(|(kind, count)| (Label("kind", kind), count)).collect();
        family(
            encoder,
            "tidegate_store_errors",
            "Failures of the counter store.",
            MetricType::Counter,
            errors.iter().map(|(label, count)| (label, *count)),
        )
    }

    fn encode_totals(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.totals();
        let counters = [
            ("ratelimit_service_config_load_success", "Rule sets that were loaded.", &totals.config_load_success),
            ("ratelimit_service_config_load_error", "Rule sets that were refused.", &totals.config_load_error),
            (
                "ratelimit_service_global_shadow_mode",
                "Answers that global shadow mode turned into OK.",
                &totals.global_shadow_mode,
            ),
            ("tidegate_unknown_domain_hits", "Descriptors of domains without rules.", &totals.unknown_domain_hits),
            ("tidegate_overrides_ignored", "Limits of callers that were not used.", &totals.overrides_ignored),
            (
                "tidegate_late_calls",
                "Calls refused because they had waited to be read for half of the time that their callers wait.",
                &totals.late_calls,
            ),
            (
                "tidegate_tls_handshake_failures",
                "TLS handshakes of clients on the gRPC port that failed.",
                &totals.tls_handshake_failures,
            ),
            (
                "tidegate_metric_series_dropped",
                "Hits without a series of their own, because there are too many series.",
                &totals.series_dropped,
            ),
        ];
        for (name, help, counter) in counters {
            single(encoder, name, help, MetricType::Counter, counter.get())?;
        }
        single(
            encoder,
            "tidegate_memory_evictions",
            "Counters that the memory store dropped for want of room.",
            MetricType::Counter,
            totals.memory_evictions.get(),
        )?;
        // Whoever has no cluster has no redirects, who sends or traces nothing has nothing to lose, and whoever has no
        // mapping none that is rejected.
        let rare = [
            (
                "tidegate_redis_redirects",
                "Calls that a node of a Redis Cluster sent elsewhere or asked to try again.",
                MetricType::Counter,
                totals.redis_redirects.get(),
            ),
            (
                "tidegate_statsd_lines_lost",
                "Lines for statsd that did not leave this machine.",
                MetricType::Counter,
                totals.statsd_lines_lost.get(),
            ),
            (
                "tidegate_trace_spans_exported",
                "Spans that the collector has taken.",
                MetricType::Counter,
                totals.trace_spans_exported.get(),
            ),
            (
                "tidegate_trace_spans_dropped",
                "Spans that were dropped because too many waited to be exported.",
                MetricType::Counter,
                totals.trace_spans_dropped.get(),
            ),
            (
                "tidegate_trace_spans_failed",
                "Spans that the collector did not take or that could not be brought to it.",
                MetricType::Counter,
                totals.trace_spans_failed.get(),
            ),
            (
                "tidegate_metrics_mapping_rejected",
                "1 if the mapping file for Prometheus cannot be used and the built-in names stand.",
                MetricType::Gauge,
                totals.metrics_mapping_rejected.get(),
            ),
        ];
        for (name, help, kind, value) in rare.into_iter().filter(|(.., value)| *value > 0) {
            single(encoder, name, help, kind, value)?;
        }
        let gauges = [
            ("tidegate_grpc_connections", "Open gRPC connections.", &totals.grpc_connections),
            ("tidegate_memory_keys", "Counters that the memory store holds.", &totals.memory_keys),
            ("tidegate_rules_loaded", "Rules in force.", &totals.rules_loaded),
            (
                "tidegate_config_rejected",
                "1 while the rules read last have mistakes or are gone and older rules stay in force.",
                &totals.config_rejected,
            ),
            (
                "tidegate_tls_certificate_rejected",
                "1 while the gRPC port's certificate cannot be renewed from its files.",
                &totals.tls_certificate_rejected,
            ),
            ("tidegate_config_generation", "How often rules have been put in force.", &totals.config_generation),
        ];
        for (name, help, gauge) in gauges {
            single(encoder, name, help, MetricType::Gauge, gauge.get())?;
        }
        // Without TLS there is none, and a zero would look like one that ended long ago.
        if totals.tls_certificate_ends_at.get() > 0 {
            single(
                encoder,
                "tidegate_tls_certificate_ends_at_seconds",
                "When the gRPC port's certificate ends, in seconds since the epoch.",
                MetricType::Gauge,
                totals.tls_certificate_ends_at.get(),
            )?;
        }
        self.encode_xds(encoder)?;
        family(
            encoder,
            "tidegate_build_info",
            "The version of this build; the value is always 1.",
            MetricType::Gauge,
            [(&Label("version", env!("CARGO_PKG_VERSION")), 1)],
        )
    }
}

// === Rules by xDS ===

impl Metrics {
    /// What is known of the server that tells the rules; nothing where they come from files.
    fn encode_xds(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.totals();
        let version = self.xds_version();
        let since = totals.xds_connected_since.get();
        if version.is_none() && since == 0 && totals.xds_unreachable.get() == 0 {
            return Ok(());
        }
        let refused = [
            (&Label("reason", "unreadable"), totals.xds_refused_unreadable.get()),
            (&Label("reason", "rules"), totals.xds_refused_rules.get()),
        ];
        let help = "Answers of the xDS server that were refused.";
        family(encoder, "tidegate_xds_refused", help, MetricType::Counter, refused)?;
        let help = "1 while the xDS server cannot be reached.";
        single(encoder, "tidegate_xds_unreachable", help, MetricType::Gauge, totals.xds_unreachable.get())?;
        let help = "Since when there is a connection to the xDS server, in seconds since the epoch; 0 without one.";
        single(encoder, "tidegate_xds_connected_since_seconds", help, MetricType::Gauge, since)?;
        let help = "The version of the rules that the xDS server told and that were accepted; the value is always 1.";
        let accepted = version.as_deref().map(|version| [("version", version)]);
        family(encoder, "tidegate_xds_info", help, MetricType::Gauge, accepted.iter().map(|labels| (labels, 1)))
    }
}

/// Writes a family that has one member without labels.
///
/// # Errors
/// When the writer takes no more.
pub fn single(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric_type: MetricType,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    // As a gauge, whatever it is: see the head of this file.
    encoder.encode_descriptor(name, help, None, metric_type)?.encode_gauge(&value)
}

/// Writes a family, or nothing if it has no members.
///
/// # Errors
/// When the writer takes no more.
pub(crate) fn family<'l, L: EncodeLabelSet + 'l, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric_type: MetricType,
    members: impl IntoIterator<Item = (&'l L, V)>,
) -> fmt::Result {
    let mut members = members.into_iter().peekable();
    if members.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, metric_type)?;
    members.try_for_each(|(labels, value)| family.encode_family(labels)?.encode_gauge(&value))
}

/// One label whose name and value are ours.
#[derive(Debug)]
struct Label(&'static str, &'static str);

// === impl EncodeLabelSet ===

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        (self.0, self.1).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for Shown<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in [("domain", Some(self.domain)), ("key1", Some(self.key1)), ("key2", self.key2)] {
            if let Some(value) = value {
                (name, value).encode(encoder.encode_label())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use prometheus_client::encoding::text::encode_registry;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::window::{Tally, Verdict};

    fn text(metrics: &Metrics) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(metrics.clone()));
        let mut text = String::new();
        encode_registry(&mut text, &registry).unwrap();
        text
    }

    /// Metrics in which every family has a member.
    fn lively() -> Metrics {
        let metrics = Metrics::default();
        let over = Tally { verdict: Verdict::Over, charged: true, used: 12, reset_after_ms: 1 };
        metrics.rule("shop", &["user"]).record(&over, 3, 10, false, 8);
        let address = metrics.rule("shop", &["path_/v1/*", "masked_remote_address_192.0.2.0/24", "m"]);
        address.record(&over, 1, 10, true, 8);
        metrics.rule("shop", &["never_hit"]).record_unlimited(0);
        metrics.rule("a", &["quote\"d\\\n"]).record_unlimited(4);
        metrics.rule("a", &["back"]).record_given_back(2);
        metrics.calls(GrpcMethod::ShouldRateLimit).observe(Duration::from_micros(300));
        metrics.calls(GrpcMethod::ShouldRateLimit).observe(Duration::from_secs(11));
        metrics.totals().redis_errors.increment();
        metrics.store_error("unreachable");
        metrics.store_error("overloaded");
        metrics.store_error("unreachable");
        metrics.totals().rules_loaded.set(3);
        metrics
    }

    #[test]
    fn the_text_is_that_of_the_reference_service_where_it_has_a_name() {
        insta::assert_snapshot!(text(&lively()).replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    }

    #[test]
    fn a_server_of_rules_is_shown_where_there_is_one() {
        let metrics = Metrics::default();
        assert!(!text(&metrics).contains("tidegate_xds_"));
        metrics.totals().xds_unreachable.set(1);
        metrics.totals().xds_refused_rules.increment();
        metrics.xds_accepted("42\"");
        let text = text(&metrics);
        for line in [
            "tidegate_xds_unreachable 1",
            "tidegate_xds_connected_since_seconds 0",
            "tidegate_xds_refused{reason=\"rules\"} 1",
            "tidegate_xds_info{version=\"42\\\"\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }

    #[test]
    fn deeper_levels_are_summed_into_the_second() {
        let metrics = Metrics::default();
        for (path, hits) in [(&["a", "b"][..], 1), (&["a", "b", "c"], 2), (&["a", "b", "c", "d"], 4), (&["a"], 8)] {
            metrics.rule("d", path).record_unlimited(hits);
        }
        let text = text(&metrics);
        let shown: Vec<&str> = text.lines().filter(|line| line.contains("_total_hits{")).collect();
        let name = "ratelimit_service_rate_limit_total_hits";
        let expected =
            [format!("{name}{{domain=\"d\",key1=\"a\"}} 8"), format!("{name}{{domain=\"d\",key1=\"a\",key2=\"b\"}} 7")];
        assert_eq!(shown, expected);
    }

    #[test]
    fn response_times_are_in_milliseconds_where_that_is_asked_for() {
        let metrics = lively();
        metrics.show_milliseconds();
        let text = text(&metrics);
        let series = "ratelimit_service_response_time_seconds";
        let method = "grpc_method=\"ShouldRateLimit\"";
        for line in [format!("{series}_bucket{{le=\"0.5\",{method}}} 1"), format!("{series}_sum{{{method}}} 11000.3")] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_prometheus_tool_accepts_the_text() {
        let Ok(mut promtool) = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        else {
            println!("skipped: there is no promtool");
            return;
        };
        promtool.stdin.take().unwrap().write_all(text(&lively()).as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // It parses the text, then has opinions on names. The reference service's names have no `_total`.
        let complaints: Vec<&str> =
            said.lines().filter(|line| !line.ends_with("counter metrics should have \"_total\" suffix")).collect();
        assert_eq!(complaints, Vec::<&str>::new(), "status {:?}", output.status.code());
        assert!(matches!(output.status.code(), Some(0 | 3)), "status {:?}", output.status.code());
    }

    #[test]
    fn a_hundred_thousand_rules_are_written_and_the_idle_ones_are_not() {
        let metrics = Metrics::default();
        let rules: Vec<_> = (0..100_000).map(|rule| metrics.rule("d", &[&format!("user_{rule}"), "m"])).collect();
        assert_eq!(text(&metrics).lines().filter(|line| line.contains("user_")).count(), 0);
        for counters in &rules {
            counters.record_unlimited(1);
        }
        let text = text(&metrics);
        assert_eq!(text.lines().filter(|line| line.contains("_within_limit{")).count(), 100_000);
    }
}
