//! From what a service says of its signals to a [`SignalSpec`]: what each preset needs, and takes.

use std::time::Duration;

use super::file::{Preset, RawQueries, RawSignals};
use super::{CustomSignals, EnvoySignals, HistogramSignals, IstioSignals, LatencyTarget, SignalSpec, promql};
use crate::rules::error::{KeyPath, Place, Report};
use crate::rules::file::{Field, Located};

/// Lowest status that is a failure of the service's.
const SERVER_ERROR_MIN: u32 = 500;

/// Judges the signals of a service. `None` where there was a mistake, reported here or before.
pub(super) fn compile(
    signals: &Located<RawSignals>,
    latency: Option<LatencyTarget>,
    path: &KeyPath<'_>,
    report: &mut Report,
) -> Option<SignalSpec> {
    let raw = &signals.value;
    let preset = match &raw.preset {
        Field::Given(preset) => preset.value,
        Field::Absent => {
            let names = Preset::ALL.map(Preset::name).join(", ");
            report.mistake(path, signals.place, format!("preset is missing: write one of {names}"));
            return None;
        }
        Field::Wrong => return None,
    };
    let mut judge = Judge { preset, place: signals.place, path, report, is_right: true };
    judge.refuse_others(raw);
    let spec = match preset {
        Preset::Envoy | Preset::Proxy => judge.envoy(raw),
        Preset::Istio => judge.istio(raw),
        Preset::Histogram => judge.histogram(raw),
        Preset::Custom => judge.custom(raw, latency),
    };
    spec.filter(|_| judge.is_right)
}

/// Judges the parameters of one preset.
struct Judge<'j> {
    preset: Preset,
    place: Place,
    path: &'j KeyPath<'j>,
    report: &'j mut Report,
    is_right: bool,
}

// === impl Judge ===

impl Judge<'_> {
    fn mistake(&mut self, word: &str, place: Place, text: impl Into<String>) {
        self.report.mistake(&self.path.word(word), place, text);
        self.is_right = false;
    }

    /// Reports the parameters of other presets.
    fn refuse_others(&mut self, raw: &RawSignals) {
        let given = [
            ("cluster", raw.cluster.place()),
            ("limited_status", raw.limited_status.place()),
            ("failure_mode_deny", raw.failure_mode_deny.place()),
            ("flush", raw.flush.place()),
            ("service", raw.service.place()),
            ("namespace", raw.namespace.place()),
            ("reporter", raw.reporter.place()),
            ("metric", raw.metric.place()),
            ("match", raw.matchers.place()),
            ("error_match", raw.error_matchers.place()),
            ("unit", raw.unit.place()),
            ("queries", raw.queries.place()),
        ];
        let (preset, takes) = (self.preset.name(), self.preset.parameters());
        for (word, place) in given {
            if let Some(place) = place.filter(|_| !takes.contains(&word)) {
                let text = format!("the preset {preset} doesn't take {word}; it takes {}", takes.join(", "));
                self.mistake(word, place, text);
            }
        }
    }

    /// A parameter that must be there.
    fn required(&mut self, word: &str, field: &Field<String>, example: &str) -> Option<String> {
        match field {
            Field::Given(given) => return Some(given.value.clone()),
            Field::Absent => {
                let text = format!("the preset {} needs {word}: {example}", self.preset.name());
                self.report.mistake(self.path, self.place, text);
            }
            Field::Wrong => {}
        }
        self.is_right = false;
        None
    }

    /// A parameter that may be missing, as it is then.
    fn optional<T: Clone>(&mut self, field: &Field<T>, default: T) -> T {
        self.is_right &= !field.is_wrong();
        field.value().cloned().unwrap_or(default)
    }

    fn matchers(&mut self, word: &str, field: &Field<String>) -> String {
        if let Some(given) = field.given()
            && let Err(wrong) = promql::check_matchers(&given.value)
        {
            self.mistake(word, given.place, wrong);
        }
        let matchers = self.optional(field, String::new());
        matchers.trim().trim_end_matches(',').trim_end().to_owned()
    }

    fn envoy(&mut self, raw: &RawSignals) -> Option<SignalSpec> {
        let cluster = self.required("cluster", &raw.cluster, "the name of the cluster that leads to the service");
        let matchers = self.matchers("match", &raw.matchers);
        let limited_status_is_5xx = self.optional(&raw.limited_status, 429) >= SERVER_ERROR_MIN;
        let failure_mode_deny = self.optional(&raw.failure_mode_deny, false);
        self.is_right &= !raw.flush.is_wrong();
        Some(SignalSpec::Envoy(EnvoySignals { cluster: cluster?, matchers, limited_status_is_5xx, failure_mode_deny }))
    }

    fn istio(&mut self, raw: &RawSignals) -> Option<SignalSpec> {
        let service = self.required("service", &raw.service, "its destination_service_name");
        let namespace = self.optional(&raw.namespace, String::new());
        let reporter = self.optional(&raw.reporter, "source".to_owned());
        self.is_right &= !raw.flush.is_wrong();
        Some(SignalSpec::Istio(IstioSignals { service: service?, namespace, reporter }))
    }

    fn histogram(&mut self, raw: &RawSignals) -> Option<SignalSpec> {
        let metric = self.required("metric", &raw.metric, "the histogram's name, without _bucket");
        if let Some(given) = raw.metric.given()
            && let Err(wrong) = promql::check_metric(&given.value)
        {
            self.mistake("metric", given.place, wrong);
        }
        let matchers = self.matchers("match", &raw.matchers);
        self.required("error_match", &raw.error_matchers, "the matchers of failed requests, such as code=~\"5..\"");
        let error_matchers = self.matchers("error_match", &raw.error_matchers);
        let unit = self.optional(&raw.unit, Duration::from_secs(1));
        Some(SignalSpec::Histogram(HistogramSignals { metric: metric?, matchers, error_matchers, unit }))
    }

    fn custom(&mut self, raw: &RawSignals, latency: Option<LatencyTarget>) -> Option<SignalSpec> {
        let queries = match &raw.queries {
            Field::Given(queries) => queries,
            Field::Absent => {
                let text = "the preset custom needs queries: { answered: …, failed: … }, each with $window";
                self.report.mistake(self.path, self.place, text);
                return None;
            }
            Field::Wrong => return None,
        };
        self.queries(queries, latency)
    }

    fn queries(&mut self, queries: &Located<RawQueries>, latency: Option<LatencyTarget>) -> Option<SignalSpec> {
        let Located { value: raw, place } = queries;
        let list = self.path.word("queries");
        let named = [
            ("answered", &raw.answered, true),
            ("failed", &raw.failed, true),
            ("slow", &raw.slow, latency.is_some()),
            ("latency_sum", &raw.latency_sum, false),
        ];
        for (word, field, is_needed) in named {
            match field {
                Field::Given(given) => {
                    if let Err(wrong) = promql::check_query(&given.value) {
                        self.report.mistake(&list.word(word), given.place, wrong);
                        self.is_right = false;
                    }
                }
                Field::Absent if is_needed => {
                    let why = if word == "slow" { " next to a latency target" } else { "" };
                    let text = format!("queries need {word}{why}: a query with $window that gives one number");
                    self.report.mistake(&list, *place, text);
                    self.is_right = false;
                }
                Field::Absent => {}
                Field::Wrong => self.is_right = false,
            }
        }
        Some(SignalSpec::Custom(CustomSignals {
            answered: raw.answered.value()?.clone(),
            failed: raw.failed.value()?.clone(),
            slow: raw.slow.value().cloned(),
            latency_sum: raw.latency_sum.value().cloned(),
        }))
    }
}

// === impl Field ===

impl<T> Field<T> {
    fn place(&self) -> Option<Place> {
        self.given().map(|given| given.place)
    }
}
