//! The metrics as text under the names that a mapping gives them.
//!
//! Several metrics can have one name and the same labels, and are then one sum; it must not fall when one of them goes.
//! So sums are kept here and fed with what was gained since the last scrape, as the statsd exporter is with what
//! arrives. A member of a family lives as long as a metric that is mapped to it: there are never more than metrics.
//!
//! Durations are sorted into buckets before they come here ([`super::histogram`]). A bucket that a mapping asks for is
//! exact if it ends where one of ours does, as the usual ones do, and else lacks those of ours that end above it. A
//! quantile is of all since the start, and as exact as our buckets are narrow.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::Metrics;
use super::deltas::Deltas;
use super::dotted::{Identity, Name, Value};
use super::histogram::{BUCKETS, Reading};
use super::mapping::{Kind, Mapped, Mapping, Observer};

/// Metrics and their mapping, and what was shown so far.
#[derive(Debug)]
pub struct MappedMetrics {
    metrics: Metrics,
    mapping: Mapping,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    deltas: Deltas,
    /// The sum of each timer's durations that was used, in milliseconds.
    sums: HashMap<Identity, f64>,
    families: BTreeMap<String, Family>,
    /// Metrics that could not be shown, since their family is of another type.
    conflicts: u64,
    scrapes: u64,
}

#[derive(Debug)]
struct Family {
    shape: Shape,
    help: String,
    members: BTreeMap<Labels, Member>,
}

/// Names and values in the order of the names.
type Labels = Vec<(String, String)>;

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Counter,
    Gauge,
    Observer(Observer),
}

#[derive(Debug, Default)]
struct Member {
    /// A counter's or gauge's value, or the sum of durations.
    value: f64,
    /// Upper edge and durations of each bucket, scaled as the mapping says.
    buckets: Vec<(f64, u64)>,
    /// The last scrape in which some metric was mapped to it.
    scrape: u64,
}

/// What a family is said to mean where the mapping doesn't say it.
const HELP: &str = "Mapped from dotted names.";

// === impl MappedMetrics ===

impl MappedMetrics {
    /// These metrics under the names of that mapping.
    #[must_use]
    pub fn new(metrics: Metrics, mapping: Mapping) -> MappedMetrics {
        MappedMetrics { metrics, mapping, shown: Mutex::default() }
    }

    /// The text of a scrape, in the format of [`super::exposition::CONTENT_TYPE`].
    #[must_use]
    pub fn text(&self) -> String {
        // A panic leaves sums that lack a walk's part at worst.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.scrapes += 1;
        shown.conflicts = 0;
        let walked = self.metrics.each::<()>(|name, value| {
            shown.take(&self.mapping, name, value);
            ControlFlow::Continue(())
        });
        debug_assert!(walked.is_continue());
        shown.forget();
        shown.text()
    }
}

// === impl Shown ===

impl Shown {
    fn take(&mut self, mapping: &Mapping, name: Name<'_>, value: Value<'_>) {
        let kind = match value {
            Value::Counter(_) => Kind::Counter,
            Value::Gauge(_) => Kind::Gauge,
            Value::Timer(_) => Kind::Observer,
        };
        let dotted = name.to_string();
        let Mapped::Member { family, labels, help, observer, scale } = mapping.apply(&dotted, kind) else { return };
        let shape = match kind {
            Kind::Counter => Shape::Counter,
            Kind::Gauge => Shape::Gauge,
            Kind::Observer => Shape::Observer(observer.clone()),
        };
        let family = self.families.entry(family).or_insert_with(|| Family {
            shape: shape.clone(),
            help: help.unwrap_or(HELP).to_owned(),
            members: BTreeMap::new(),
        });
        if family.shape != shape {
            self.conflicts += 1;
            return;
        }
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let member = family.members.entry(labels).or_default();
        member.scrape = self.scrapes;
        let identity = name.identity();
        match value {
            Value::Counter(total) => member.value += self.deltas.of_counter(identity, total) as f64 * scale,
            Value::Gauge(value) => member.value = value as f64 * scale,
            Value::Timer(reading) => {
                let sum = reading.sum * 1e3;
                member.value += (sum - self.sums.insert(identity, sum).unwrap_or_default()) * scale;
                member.observe(reading, self.deltas.of_timer(identity, reading), 1e3 * scale);
            }
        }
    }

    /// Drops what no metric was mapped to in this scrape.
    fn forget(&mut self) {
        let scrape = self.scrapes;
        self.deltas.walked();
        for family in self.families.values_mut() {
            family.members.retain(|_, member| member.scrape == scrape);
        }
        self.families.retain(|_, family| !family.members.is_empty());
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            family.write(&mut text, name);
        }
        let version = env!("CARGO_PKG_VERSION");
        for (name, help, labels, value) in [
            (
                "tidegate_metrics_mapping_conflicts",
                "Metrics that are not shown, since their family is of another type.",
                Labels::new(),
                self.conflicts,
            ),
            (
                "tidegate_build_info",
                "The version of this build; the value is always 1.",
                vec![("version".to_owned(), version.to_owned())],
                1,
            ),
        ] {
            if !self.families.contains_key(name) {
                let member = Member { value: value as f64, ..Member::default() };
                let members = [(labels, member)].into();
                Family { shape: Shape::Gauge, help: help.to_owned(), members }.write(&mut text, name);
            }
        }
        text
    }
}

// === impl Family ===

impl Family {
    fn write(&self, text: &mut String, name: &str) {
        let kind = match &self.shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::Observer(Observer::Histogram(_)) => "histogram",
            Shape::Observer(Observer::Summary(_)) => "summary",
        };
        let help = self.help.replace('\\', r"\\").replace('\n', r"\n");
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("memory takes any text");
        for (labels, member) in &self.members {
            let mut line = |suffix: &str, more: Option<(&str, f64)>, value: f64| {
                text.push_str(name);
                text.push_str(suffix);
                write_labels(text, labels, more);
                writeln!(text, " {}", number(value)).expect("memory takes any text");
            };
            match &self.shape {
                Shape::Counter | Shape::Gauge => line("", None, member.value),
                Shape::Observer(Observer::Histogram(edges)) => {
                    for edge in edges.iter().copied().filter(|edge| edge.is_finite()).chain([f64::INFINITY]) {
                        line("_bucket", Some(("le", edge)), member.up_to(edge) as f64);
                    }
                    line("_sum", None, member.value);
                    line("_count", None, member.up_to(f64::INFINITY) as f64);
                }
                Shape::Observer(Observer::Summary(quantiles)) => {
                    for quantile in quantiles {
                        line("", Some(("quantile", *quantile)), member.quantile(*quantile));
                    }
                    line("_sum", None, member.value);
                    line("_count", None, member.up_to(f64::INFINITY) as f64);
                }
            }
        }
    }
}

fn write_labels(text: &mut String, labels: &Labels, more: Option<(&str, f64)>) {
    let more = more.map(|(name, value)| (name, number(value)));
    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let labels = labels.chain(more.iter().map(|(name, value)| (*name, value.as_str())));
    for (index, (name, value)) in labels.enumerate() {
        text.push_str(if index == 0 { "{" } else { "," });
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str(r"\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str(r"\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    if text.ends_with('"') {
        text.push('}');
    }
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        _ => value.to_string(),
    }
}

// === impl Member ===

impl Member {
    /// Adds durations to their buckets, whose edges are in seconds, times `scale` here.
    fn observe(&mut self, reading: &Reading, gained: [u64; BUCKETS], scale: f64) {
        if self.buckets.is_empty() {
            self.buckets = reading.buckets.iter().map(|(edge, _)| (edge * scale, 0)).collect();
        }
        for ((_, count), gained) in self.buckets.iter_mut().zip(gained) {
            *count += gained;
        }
    }

    /// Durations in buckets that end there or below.
    fn up_to(&self, edge: f64) -> u64 {
        // Scaling moves an edge by a rounding.
        let limit = edge * (1.0 + 1e-9);
        self.buckets.iter().filter(|(end, _)| *end <= limit).map(|(_, count)| count).sum()
    }

    /// Where that share of all durations is below, as if they lay evenly in their bucket. Not a number if there are
    /// none; in the endless bucket, where it begins.
    fn quantile(&self, share: f64) -> f64 {
        let all: u64 = self.buckets.iter().map(|(_, count)| count).sum();
        if all == 0 {
            return f64::NAN;
        }
        let rank = share * all as f64;
        let (mut below, mut begin) = (0_u64, 0.0);
        for (end, count) in &self.buckets {
            if *count > 0 && (below + count) as f64 >= rank {
                let part = (rank - below as f64) / *count as f64;
                return if end.is_finite() { begin + (end - begin) * part } else { begin };
            }
            below += count;
            begin = *end;
        }
        begin
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::GrpcMethod;

    const MAPPING: &str = r#"
mappings:
- match: ratelimit\.service\.rate_limit\.([^.]+)\.([^.]+)(?:\..*)?\.total_hits
  match_type: regex
  name: hits
  labels: {domain: $1, key1: $2}
- {match: ratelimit.service.*, name: "ratelimit_service_$1"}
- {match: ratelimit_server.*.response_time, name: time_seconds, scale: 0.001, timer_type: histogram, labels: {m: $1}}
- {match: tidegate.*, name: "", action: drop}
- {match: tidegate.*.*, name: "", action: drop}
"#;

    fn mapped(metrics: &Metrics, mapping: &str) -> MappedMetrics {
        MappedMetrics::new(metrics.clone(), Mapping::read("m.yaml", mapping).unwrap())
    }

    fn line<'t>(text: &'t str, start: &str) -> Option<&'t str> {
        text.lines().find_map(|line| line.strip_prefix(start)?.strip_prefix(' '))
    }

    #[test]
    fn metrics_with_one_name_and_the_same_labels_are_one_sum_that_never_falls() {
        let metrics = Metrics::default();
        let shown = mapped(&metrics, MAPPING);
        let path = |last: &str| ["a".to_owned(), "b".to_owned(), last.to_owned()];
        metrics.runtime("d", &path("x")).record_unlimited(5);
        let kept = metrics.runtime("d", &path("y"));
        kept.record_unlimited(7);
        let hits = r#"hits{domain="d",key1="a"}"#;
        assert_eq!(line(&shown.text(), hits), Some("12"));
        metrics.forget_idle();
        drop(metrics.runtime("d", &path("y")));
        metrics.forget_idle();
        assert_eq!(line(&shown.text(), hits), Some("12"));
        kept.record_unlimited(1);
        assert_eq!(line(&shown.text(), hits), Some("13"));
    }

    #[test]
    fn a_member_goes_with_the_last_metric_that_is_mapped_to_it() {
        let metrics = Metrics::default();
        let shown = mapped(&metrics, MAPPING);
        metrics.runtime("d", &["a".to_owned()]).record_unlimited(5);
        assert!(shown.text().contains("# TYPE hits counter"));
        metrics.forget_idle();
        metrics.forget_idle();
        assert!(!shown.text().contains("hits{"));
    }

    #[test]
    fn durations_are_scaled_into_the_buckets_that_are_asked_for() {
        let metrics = Metrics::default();
        for micros in [300, 4_000, 5_000, 20_000, 11_000_000] {
            metrics.calls(GrpcMethod::ShouldRateLimit).observe(Duration::from_micros(micros));
        }
        let shown = mapped(&metrics, MAPPING);
        drop(shown.text());
        let text = shown.text();
        let bucket = |le: &str| line(&text, &format!(r#"time_seconds_bucket{{m="ShouldRateLimit",le="{le}"}}"#));
        assert_eq!([bucket("0.005"), bucket("0.025"), bucket("10"), bucket("+Inf")], ["3", "4", "4", "5"].map(Some));
        assert_eq!(line(&text, r#"time_seconds_count{m="ShouldRateLimit"}"#), Some("5"));
        let sum: f64 = line(&text, r#"time_seconds_sum{m="ShouldRateLimit"}"#).unwrap().parse().unwrap();
        assert!((sum - 11.0293).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn what_is_dropped_is_not_there_and_what_is_of_another_type_is_counted() {
        let metrics = Metrics::default();
        metrics.calls(GrpcMethod::Check).observe(Duration::from_millis(3));
        let text = mapped(&metrics, MAPPING).text();
        assert!(!text.contains("memory_keys"), "{text}");
        assert_eq!(line(&text, "ratelimit_service_config_load_error"), Some("0"));
        assert_eq!(line(&text, "tidegate_metrics_mapping_conflicts"), Some("0"));
        let one_name = "mappings:\n- {match: '.', match_type: regex, name: all}\n";
        let text = mapped(&metrics, one_name).text();
        assert!(line(&text, "tidegate_metrics_mapping_conflicts").is_some_and(|count| count != "0"), "{text}");
    }

    #[test]
    fn without_a_mapping_for_them_names_stay_and_durations_are_quantiles_in_milliseconds() {
        let metrics = Metrics::default();
        (0..100).for_each(|_| metrics.calls(GrpcMethod::Check).observe(Duration::from_millis(3)));
        let text = mapped(&metrics, "").text();
        assert_eq!(line(&text, "ratelimit_server_Check_total_requests"), Some("100"));
        assert_eq!(line(&text, r#"ratelimit_server_Check_response_time{quantile="0.5"}"#), Some("3.75"));
        assert_eq!(line(&text, "ratelimit_server_Check_response_time_count"), Some("100"));
    }
}
