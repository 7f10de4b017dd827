//! Adaptive services: a service to protect, the rules that lead to it, and between which bounds its limit may move.
//!
//! A service's limit is enforced by its **gate**: one more counter, a token bucket of one second, charged together with
//! whatever governed rule a request matched, in the same step. The rules keep their own limits; the gate bounds their
//! sum. What moves the gate's limit is `control`; here is what the operator wrote, checked. `config/adaptive.yaml`
//! shows all of it. The way from file to type is that of rules:
//!
//! ```text
//! bind     located tree  -> raw service        words and types (value, promql: their values)
//! compile  raw services  -> Service            what the words mean together, with signals, prometheus, governs and gate
//! ```

pub(super) mod bind;
pub(super) mod compile;
pub(super) mod file;
mod fingerprint;
mod gate;
mod governs;
mod law;
mod prometheus;
pub mod promql;
mod signals;
mod value;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::rate::Rate;

pub use law::{LawConstant, LawNumbers};

/// A service whose limit adapts.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Position in the rule set, 0 .. `RuleSet::services().len()`.
    pub index: usize,
    /// Its name: 1 to 63 of `a-z`, `0-9`, `_` and `-`; unique.
    pub name: Arc<str>,
    /// Whether the limit is enforced, or only calculated, or neither.
    pub mode: ServiceMode,
    /// The rules whose requests are charged to the gate, by their positions in the set. No rule is governed twice.
    pub governs: Box<[usize]>,
    /// What its limit is enforced by.
    pub gate: ServiceGate,
    /// Between which rates the limit stays.
    pub bounds: RateBounds,
    /// The limit before anything is known; within the bounds.
    pub start: Rate,
    /// What is still well.
    pub targets: Targets,
    /// Where the numbers come from; `None` only in mode [`ServiceMode::Off`].
    pub source: Option<SignalSpec>,
    /// Time between two decisions, 1 to 60 s.
    pub interval: Duration,
    /// Prometheus's scrape interval, 1 to 60 s, where it isn't to be measured.
    pub scrape_interval: Option<Duration>,
    /// From a decision to its enforcement.
    pub propagation: Duration,
    /// How much later than scraped a proxy's numbers are (Envoy's `stats_flush_interval`, where the proxy has one).
    pub flush: Duration,
    /// What becomes of the limit without data.
    pub stale: Stale,
    /// Whether the service topples and stays down, so that what toppled it is not tried again soon.
    pub brittle: bool,
    /// Whether the governed rules' own limits shrink in proportion.
    pub scale_rules: bool,
    /// Numbers of the law that are not those that were measured.
    pub law: LawNumbers,
    /// File and line where it stands.
    pub place: Arc<str>,
}

/// What is done with the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceMode {
    /// The gate stands at the upper bound and nothing is asked.
    Off,
    /// Decisions are recorded and not enforced.
    #[default]
    Observe,
    /// The limit is enforced.
    Enforce,
}

/// What a service's limit is enforced by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceGate {
    /// A counter of its own, charged beside those of the governed rules.
    #[default]
    Bucket,
    /// The one governed rule, which then has no other counter: a total per second whose limit is at least the highest.
    Rule,
}

/// The lowest and highest limit; `min` is below `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateBounds {
    /// Never lower than this.
    pub min: Rate,
    /// Never higher than this.
    pub max: Rate,
}

/// What is still well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Targets {
    /// Highest share of failed answers, 0.001 to 0.5.
    pub errors: f64,
    /// Highest share of slow answers, if that is judged.
    pub latency: Option<LatencyTarget>,
}

/// At most `at_most` of the answers take longer than `above`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyTarget {
    /// The threshold.
    pub above: Duration,
    /// The share, above 0 and below 1.
    pub at_most: f64,
}

/// What becomes of the limit without data: it stands for `hold`, then moves to `toward` with time constant `decay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Time that it stands, above zero.
    pub hold: Duration,
    /// Time constant of the way, above zero.
    pub decay: Duration,
    /// Where it goes; within the bounds.
    pub toward: Rate,
}

/// Where a service's numbers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalSpec {
    /// Envoy's cluster metrics; the bundled proxy has the same.
    Envoy(EnvoySignals),
    /// Istio's standard metrics.
    Istio(IstioSignals),
    /// A histogram of requests as client libraries make them.
    Histogram(HistogramSignals),
    /// The operator's own PromQL.
    Custom(CustomSignals),
}

/// Parameters of the `envoy` and `proxy` presets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoySignals {
    /// `envoy_cluster_name`.
    pub cluster: String,
    /// Further label matchers, as in PromQL without braces; empty for none.
    pub matchers: String,
    /// Whether Envoy answers limited requests with a 5xx: those are taken out of the failures.
    pub limited_status_is_5xx: bool,
    /// Whether the filter denies when the rate limit service fails: those are taken out of the failures.
    pub failure_mode_deny: bool,
}

/// Parameters of the `istio` preset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IstioSignals {
    /// `destination_service_name`.
    pub service: String,
    /// `destination_service_namespace`; empty for any.
    pub namespace: String,
    /// `reporter`: `source` or `destination`.
    pub reporter: String,
}

/// Parameters of the `histogram` preset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSignals {
    /// Name of the histogram, without `_bucket`.
    pub metric: String,
    /// Label matchers of the service's requests; empty for none.
    pub matchers: String,
    /// Label matchers of the failed ones among them.
    pub error_matchers: String,
    /// What one unit of the histogram is: a second or a millisecond.
    pub unit: Duration,
}

/// Queries of the operator's own. Each has `$window` where the range goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomSignals {
    /// Answers in the window.
    pub answered: String,
    /// Failed answers in the window.
    pub failed: String,
    /// Slow answers in the window; required with a latency target.
    pub slow: Option<String>,
    /// Sum of the answers' times in seconds, where it is known.
    pub latency_sum: Option<String>,
}

/// The Prometheus that is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct PrometheusServer {
    /// Its address, `http://` or `https://`, without user and password.
    pub url: String,
    /// Time for one query; below every service's interval.
    pub timeout: Duration,
    /// How we say who we are.
    pub access: PrometheusAccess,
    /// A file of certificates in PEM form that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// File and line where it stands.
    pub place: Arc<str>,
}

/// How a Prometheus knows us. Secrets are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum PrometheusAccess {
    /// It doesn't ask.
    #[default]
    Open,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// A secret, given in the file itself or in a file of its own, which is read again for every use.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret itself.
    Value(String),
    /// Where it is kept; white space around it is not part of it.
    File(PathBuf),
}

// === impl Service ===

impl Service {
    /// The limit of its gate before anybody governs it.
    #[must_use]
    pub fn first_limit(&self) -> Rate {
        match self.mode {
            ServiceMode::Off => self.bounds.max,
            ServiceMode::Observe | ServiceMode::Enforce => self.start,
        }
    }

    /// Whether the gate stands in the place of the one governed rule, which isn't counted beside it. A limit that isn't
    /// enforced takes no rule's place.
    #[must_use]
    pub fn gate_is_rule(&self) -> bool {
        self.gate == ServiceGate::Rule && self.mode == ServiceMode::Enforce
    }

    /// Whether the governed rules' limits follow the service's: a limit that isn't enforced moves nothing.
    #[must_use]
    pub fn scales_rules(&self) -> bool {
        self.scale_rules && self.mode == ServiceMode::Enforce
    }
}

// === impl ServiceMode ===

impl ServiceMode {
    /// All modes.
    pub const ALL: [ServiceMode; 3] = [ServiceMode::Off, ServiceMode::Observe, ServiceMode::Enforce];

    /// The name in rule files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ServiceMode::Off => "off",
            ServiceMode::Observe => "observe",
            ServiceMode::Enforce => "enforce",
        }
    }
}

// === impl ServiceGate ===

impl ServiceGate {
    /// All of them.
    pub const ALL: [ServiceGate; 2] = [ServiceGate::Bucket, ServiceGate::Rule];

    /// The name in rule files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ServiceGate::Bucket => "bucket",
            ServiceGate::Rule => "rule",
        }
    }
}

// === impl RateBounds ===

impl RateBounds {
    /// Bounds, if `min` is below `max`.
    #[must_use]
    pub fn new(min: Rate, max: Rate) -> Option<RateBounds> {
        (min < max).then_some(RateBounds { min, max })
    }

    /// The nearest rate within the bounds.
    #[must_use]
    pub fn clamp(&self, rate: Rate) -> Rate {
        rate.clamp(self.min, self.max)
    }
}

// === impl PrometheusServer, PrometheusAccess, Secret ===

impl std::fmt::Debug for PrometheusServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrometheusServer").field("url", &self.url).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PrometheusAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PrometheusAccess::Open => "Open",
            PrometheusAccess::Bearer(_) => "Bearer(…)",
            PrometheusAccess::Basic { .. } => "Basic(…)",
        })
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Secret::Value(_) => f.write_str("Value(…)"),
            Secret::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}
