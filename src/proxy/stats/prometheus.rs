//! The form of `/stats/prometheus`: what varies is in labels, times are in milliseconds as Envoy's are.

use std::collections::BTreeMap;

use super::number::BOUNDS;
use super::sample::{Sample, Value};

/// The exposition text: the series of a name stand together under one type line.
#[must_use]
pub fn exposition(samples: &[Sample<'_>]) -> String {
    let mut families: BTreeMap<String, Vec<&Sample<'_>>> = BTreeMap::new();
    // A histogram without values is left out, as Envoy leaves it out.
    let is_told = |sample: &&Sample<'_>| !matches!(sample.value, Value::Histogram(_)) || !sample.value.is_unused();
    for sample in samples.iter().filter(is_told) {
        families.entry(format!("envoy_{}_{}", sample.scope.family, sample.series.0)).or_default().push(sample);
    }
    let mut text = String::new();
    for (name, samples) in families {
        let name = sanitize(&name);
        let kind = match samples[0].value {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            Value::Histogram(_) => "histogram",
        };
        text.push_str(&format!("# TYPE {name} {kind}\n"));
        for sample in samples {
            write(&mut text, &name, sample);
        }
    }
    text
}

fn write(text: &mut String, name: &str, sample: &Sample<'_>) {
    let labels: Vec<String> =
        sample.series.1.iter().chain(&sample.scope.labels).map(|(label, value)| pair(label, value)).collect();
    let labels = labels.join(",");
    match &sample.value {
        Value::Counter(value) | Value::Gauge(value) => text.push_str(&format!("{name}{{{labels}}} {value}\n")),
        Value::Histogram(snapshot) => {
            let comma = if labels.is_empty() { "" } else { "," };
            for (bound, count) in BOUNDS.iter().zip(snapshot.cumulative) {
                text.push_str(&format!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}\n"));
            }
            text.push_str(&format!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}\n", snapshot.count));
            text.push_str(&format!("{name}_sum{{{labels}}} {}\n", snapshot.sum));
            text.push_str(&format!("{name}_count{{{labels}}} {}\n", snapshot.count));
        }
    }
}

fn pair(label: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{label}=\"{value}\"")
}

/// Letters that a metric's name may not have become underscores.
fn sanitize(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ClusterStats;
    use super::*;

    #[test]
    fn what_varies_is_in_labels_and_times_are_in_milliseconds() {
        let stats = ClusterStats::new("a\"b");
        stats.count_response(503, false);
        stats.record_time(3, false);
        let mut samples = Vec::new();
        stats.list(&mut samples);
        let text = exposition(&samples);
        for line in [
            "# TYPE envoy_cluster_upstream_rq_xx counter",
            "envoy_cluster_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name=\"a\\\"b\"} 1",
            "envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"5\",envoy_cluster_name=\"a\\\"b\"} 1",
            "envoy_cluster_external_upstream_rq_xx{envoy_response_code_class=\"5\",envoy_cluster_name=\"a\\\"b\"} 1",
            "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"a\\\"b\",le=\"5\"} 1",
            "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"a\\\"b\",le=\"0.5\"} 0",
            "envoy_cluster_upstream_rq_time_sum{envoy_cluster_name=\"a\\\"b\"} 3",
            "envoy_cluster_outlier_detection_ejections_active{envoy_cluster_name=\"a\\\"b\"} 0",
            "envoy_cluster_circuit_breakers_default_rq_pending_open{envoy_cluster_name=\"a\\\"b\"} 0",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is missing in\n{text}");
        }
    }
}
