//! The text and JSON forms of `/stats`.

use serde_json::{Value as Json, json};

use super::sample::{Sample, Value};

/// The quantiles that the text form states of a histogram, as parts and as Envoy names them.
const QUANTILES: [(f64, &str); 9] = [
    (0.0, "P0"),
    (0.25, "P25"),
    (0.5, "P50"),
    (0.75, "P75"),
    (0.9, "P90"),
    (0.95, "P95"),
    (0.99, "P99"),
    (0.995, "P99.5"),
    (1.0, "P100"),
];

/// One line for each statistic, sorted by name, histograms at the end.
#[must_use]
pub fn lines(samples: &[Sample<'_>]) -> String {
    let mut text = String::new();
    for sample in sorted(samples) {
        let name = sample.text_name();
        match &sample.value {
            Value::Counter(value) | Value::Gauge(value) => text.push_str(&format!("{name}: {value}\n")),
            Value::Histogram(snapshot) if snapshot.count == 0 => {
                text.push_str(&format!("{name}: No recorded values\n"));
            }
            Value::Histogram(snapshot) => {
                let quantiles: Vec<String> = QUANTILES
                    .iter()
                    .map(|(part, name)| {
                        let value = snapshot.quantile(*part);
                        format!("{name}({value:.3},{value:.3})")
                    })
                    .collect();
                text.push_str(&format!("{name}: {}\n", quantiles.join(" ")));
            }
        }
    }
    text
}

/// The form with `format=json`: an object whose `stats` lists names and values, histograms left to the other forms.
#[must_use]
pub fn json(samples: &[Sample<'_>]) -> Json {
    let stats: Vec<Json> = sorted(samples)
        .into_iter()
        .filter_map(|sample| match sample.value {
            Value::Counter(value) | Value::Gauge(value) => Some(json!({ "name": sample.text_name(), "value": value })),
            Value::Histogram(_) => None,
        })
        .collect();
    json!({ "stats": stats })
}

fn sorted<'a, 's>(samples: &'a [Sample<'s>]) -> Vec<&'a Sample<'s>> {
    let mut sorted: Vec<&Sample<'s>> = samples.iter().collect();
    sorted.sort_by_cached_key(|sample| (matches!(sample.value, Value::Histogram(_)), sample.text_name()));
    sorted
}

#[cfg(test)]
mod tests {
    use super::super::{ClusterStats, Histogram, Scope};
    use super::*;

    #[test]
    fn names_are_envoys() {
        let stats = ClusterStats::new("shop");
        stats.count_response(503, false);
        stats.rate_limit("").ok.increment();
        stats.rate_limit("edge").ok.increment();
        let mut samples = Vec::new();
        stats.list(&mut samples);
        let text = lines(&samples);
        for line in [
            "cluster.shop.upstream_rq_503: 1",
            "cluster.shop.external.upstream_rq_5xx: 1",
            "cluster.shop.ratelimit.ok: 1",
            "cluster.shop.ratelimit.edge.ok: 1",
            "cluster.shop.outlier_detection.ejections_active: 0",
            "cluster.shop.circuit_breakers.default.rq_pending_open: 0",
            "cluster.shop.upstream_rq_time: No recorded values",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_histogram_is_stated_by_its_quantiles() {
        let (histogram, scope) = (Histogram::default(), Scope::plain("test"));
        histogram.record(3);
        let samples = [scope.sample("time", Value::Histogram(Box::new(histogram.snapshot())))];
        assert!(lines(&samples).starts_with("test.time: P0(1.000,1.000) P25("));
    }
}
