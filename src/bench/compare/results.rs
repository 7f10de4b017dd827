//! What was measured, as it is kept and as `--json` writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bytes::CounterBytes;
use super::targets::Judged;
use crate::bench::load::Latency;
use crate::bench::script::Cost;
use crate::bench::statistics::Spread;
use crate::bench::system::machine::Machine;

/// Everything about a run.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Where it was made.
    pub machine: Machine,
    /// What was asked for, as one would type it.
    pub command: String,
    /// Which process ran on which core.
    pub placement: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// Whether it was the full length. Shorter ones show that all works; their figures are not to be quoted.
    pub is_full: bool,
    /// The loads.
    pub sections: Vec<SectionResult>,
    /// Memory per counter.
    pub bytes: Vec<CounterBytes>,
    /// The script on its own.
    pub script: Vec<Cost>,
    /// What it comes to.
    pub targets: Vec<Judged>,
}

/// The rounds of a section.
#[derive(Clone, Debug, Serialize)]
pub struct SectionResult {
    /// As `--only` names it.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// What its rows mean.
    pub note: String,
    /// Its cases.
    pub cases: Vec<CaseResult>,
    /// Cores that others used in each round that counts.
    pub foreign_cores: Vec<f64>,
    /// Rounds that were made and left out, because others used more.
    pub rounds_left_out: usize,
}

/// The rounds of a case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// Unique in its section.
    pub name: String,
    /// As tables write it.
    pub title: String,
    /// The command of the load, but for the server's address.
    pub command: String,
    /// One for each round that counts.
    pub rounds: Vec<Measurement>,
}

/// One case in one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measurement {
    /// What the generator says.
    pub load: LoadReport,
    /// CPU µs of all server processes per call; unknown for a server that we did not start.
    pub server_us: Option<f64>,
    /// CPU µs of Redis per call.
    pub redis_us: Option<f64>,
    /// Calls per script call.
    pub calls_per_script: Option<f64>,
    /// Cores that others used meanwhile.
    pub foreign_cores: f64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The part of the load generator's report that is used here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Answers a second.
    pub calls_per_second: f64,
    /// Calls sent.
    pub sent: u64,
    /// Calls answered.
    pub answered: u64,
    /// Calls answered OK.
    pub ok: u64,
    /// Calls answered over limit.
    pub over_limit: u64,
    /// Calls answered with an error, by its name.
    pub errors: BTreeMap<String, u64>,
    /// Calls that were answered after their deadline or never.
    pub missed_deadline: u64,
    /// Their share of all calls.
    pub missed_share: f64,
    /// Calls that were never answered.
    pub unanswered: u64,
    /// Latencies in microseconds.
    pub latency_us: Latency,
    /// Share of a core that the generator used.
    pub generator_cpu_share: f64,
}

/// What of a measurement is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Answers a second.
    CallsPerSecond,
    /// CPU of the server per call.
    ServerCpu,
    /// Calls per second of the server's CPU: the inverse.
    CallsPerServerCpu,
    /// CPU of Redis per call.
    RedisCpu,
    /// Calls that share a script call.
    CallsPerScript,
    /// Median latency.
    P50,
    /// 99th percentile.
    P99,
    /// 99.9th percentile.
    P999,
    /// 99.99th percentile.
    P9999,
    /// Calls that missed their deadline.
    Missed,
    /// CPU share of the generator.
    GeneratorCpu,
}

// === impl Results ===

impl Results {
    /// A case of a section, if it was run.
    #[must_use]
    pub fn case(&self, section: &str, case: &str) -> Option<&CaseResult> {
        let section = self.sections.iter().find(|result| result.name == section)?;
        section.cases.iter().find(|result| result.name == case)
    }
}

// === impl CaseResult ===

impl CaseResult {
    /// A quantity over the rounds.
    #[must_use]
    pub fn spread(&self, of: Quantity) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| round.value(of)))
    }

    /// A quantity of all rounds together; nothing if one has none.
    #[must_use]
    pub fn total(&self, of: Quantity) -> Option<Spread> {
        let values: Option<Vec<f64>> = self.rounds.iter().map(|round| round.value(of)).collect();
        values.filter(|values| !values.is_empty()).and_then(|values| Spread::of([values.iter().sum()]))
    }

    /// The ratio of a quantity to that of `other` in the same round.
    #[must_use]
    pub fn ratio_to(&self, other: &CaseResult, of: Quantity) -> Option<Spread> {
        let values = |case: &CaseResult| case.rounds.iter().map(|round| round.value(of)).collect::<Vec<_>>();
        Spread::of_ratios(values(self), values(other))
    }

    /// Calls that were answered with an error, or not at all.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.rounds.iter().map(|round| round.load.errors.values().sum::<u64>() + round.load.unanswered).sum()
    }
}

// === impl Measurement ===

impl Measurement {
    /// One of its quantities, where it is known.
    #[must_use]
    pub fn value(&self, of: Quantity) -> Option<f64> {
        let Measurement { load, .. } = self;
        match of {
            Quantity::CallsPerSecond => Some(load.calls_per_second),
            Quantity::ServerCpu => self.server_us,
            Quantity::CallsPerServerCpu => self.server_us.filter(|micros| *micros > 0.0).map(|micros| 1e6 / micros),
            Quantity::RedisCpu => self.redis_us,
            Quantity::CallsPerScript => self.calls_per_script,
            Quantity::P50 => Some(load.latency_us.p50),
            Quantity::P99 => Some(load.latency_us.p99),
            Quantity::P999 => Some(load.latency_us.p99_9),
            Quantity::P9999 => Some(load.latency_us.p99_99),
            Quantity::Missed => Some(load.missed_deadline as f64),
            Quantity::GeneratorCpu => Some(load.generator_cpu_share),
        }
    }
}
