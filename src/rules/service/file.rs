//! Adaptive services and their Prometheus as they were written, like [`crate::rules`]'s files: every field may be
//! absent or wrong, and nothing is concluded yet.

use std::time::Duration;

use super::{LatencyTarget, LawNumbers, ServiceGate, ServiceMode};
use crate::rate::Rate;
use crate::rules::error::Place;
use crate::rules::file::{Elements, Field};

#[derive(Debug)]
pub(in crate::rules) struct RawPrometheus {
    pub(super) url: Field<String>,
    pub(super) timeout: Field<Duration>,
    pub(super) bearer_token: Field<String>,
    pub(super) bearer_token_file: Field<String>,
    pub(super) basic_auth: Field<RawBasicAuth>,
    pub(super) ca_file: Field<String>,
}

#[derive(Debug)]
pub(super) struct RawBasicAuth {
    pub(super) user: Field<String>,
    pub(super) password: Field<String>,
    pub(super) password_file: Field<String>,
}

#[derive(Debug)]
pub(in crate::rules) struct RawService {
    pub(super) place: Place,
    pub(super) name: Field<String>,
    pub(super) mode: Field<ServiceMode>,
    pub(super) governs: Elements<RawGoverned>,
    pub(super) gate: Field<ServiceGate>,
    pub(super) bounds: Field<RawBounds>,
    pub(super) start: Field<Rate>,
    pub(super) targets: Field<RawTargets>,
    pub(super) signals: Field<RawSignals>,
    pub(super) interval: Field<Duration>,
    /// `None` where it is to be measured.
    pub(super) scrape_interval: Field<Option<Duration>>,
    pub(super) propagation: Field<Duration>,
    pub(super) stale: Field<RawStale>,
    pub(super) brittle: Field<bool>,
    pub(super) scale_rules: Field<bool>,
    pub(super) law: Field<LawNumbers>,
}

#[derive(Debug)]
pub(super) struct RawGoverned {
    pub(super) place: Place,
    pub(super) domain: Field<String>,
    pub(super) descriptor: Field<Vec<RawStep>>,
}

/// A key with or without a value, on the way to a rule or in a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RawStep {
    pub(super) key: String,
    pub(super) value: Option<String>,
}

#[derive(Debug)]
pub(super) struct RawBounds {
    pub(super) min: Field<Rate>,
    pub(super) max: Field<Rate>,
}

#[derive(Debug)]
pub(super) struct RawTargets {
    pub(super) errors: Field<f64>,
    pub(super) latency: Field<LatencyTarget>,
}

#[derive(Debug)]
pub(super) struct RawStale {
    pub(super) hold: Field<Duration>,
    pub(super) decay: Field<Duration>,
    /// `None` where it is the highest limit.
    pub(super) toward: Field<Option<Rate>>,
}

/// Where the numbers come from. What each preset takes of it is told apart later.
#[derive(Debug)]
pub(super) struct RawSignals {
    pub(super) preset: Field<Preset>,
    pub(super) cluster: Field<String>,
    pub(super) limited_status: Field<u32>,
    pub(super) failure_mode_deny: Field<bool>,
    pub(super) flush: Field<Duration>,
    pub(super) service: Field<String>,
    pub(super) namespace: Field<String>,
    pub(super) reporter: Field<String>,
    pub(super) metric: Field<String>,
    pub(super) matchers: Field<String>,
    pub(super) error_matchers: Field<String>,
    /// What one unit of a histogram is.
    pub(super) unit: Field<Duration>,
    pub(super) queries: Field<RawQueries>,
}

#[derive(Debug)]
pub(super) struct RawQueries {
    pub(super) answered: Field<String>,
    pub(super) failed: Field<String>,
    pub(super) slow: Field<String>,
    pub(super) latency_sum: Field<String>,
}

/// A source of signals by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preset {
    Envoy,
    Proxy,
    Istio,
    Histogram,
    Custom,
}

// === impl Preset ===

impl Preset {
    pub(super) const ALL: [Preset; 5] =
        [Preset::Envoy, Preset::Proxy, Preset::Istio, Preset::Histogram, Preset::Custom];

    /// The name in rule files.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Preset::Envoy => "envoy",
            Preset::Proxy => "proxy",
            Preset::Istio => "istio",
            Preset::Histogram => "histogram",
            Preset::Custom => "custom",
        }
    }

    /// The words that it takes besides its name.
    pub(super) const fn parameters(self) -> &'static [&'static str] {
        match self {
            Preset::Envoy | Preset::Proxy => &["cluster", "match", "limited_status", "failure_mode_deny", "flush"],
            Preset::Istio => &["service", "namespace", "reporter", "flush"],
            Preset::Histogram => &["metric", "match", "error_match", "unit"],
            Preset::Custom => &["queries"],
        }
    }
}

// === impl RawGoverned, RawStep ===

impl RawGoverned {
    /// The keys and values, for a path of keys.
    pub(super) fn label(&self) -> String {
        let steps = self.descriptor.value().map(Vec::as_slice).unwrap_or_default();
        steps.iter().map(RawStep::composite).collect::<Vec<_>>().join(", ")
    }
}

impl RawStep {
    /// The key, joined to the value with an underscore if there is one: what the tree matches on.
    pub(super) fn composite(&self) -> String {
        match &self.value {
            Some(value) => format!("{}_{value}", self.key),
            None => self.key.clone(),
        }
    }
}
