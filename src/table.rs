//! The rules in force, as one immutable value.
//!
//! A request loads a [`Snapshot`] once, so all its descriptors are judged by one generation of rules. There is one
//! writer: [`TableWriter`] is not `Clone`, so two reloads can't overtake each other. Beside the rules a snapshot
//! holds what is looked up for each of them once, at load: their metric series and near-limit thresholds.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hashbrown::HashMap;

use crate::clock::{Clock, SystemClock};
use crate::counters::local_gate::LocalGate;
use crate::health::{Component, Health};
use crate::metrics::{Metrics, RuleCounters, near_threshold};
use crate::rules::service::Service;
use crate::rules::{Action, Rule, RuleSet};

/// Counts the rule sets that were in force: 1 is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// One generation of rules, and what was looked up for them.
#[derive(Debug)]
pub struct Snapshot {
    /// Which generation this is.
    pub generation: Generation,
    /// The rules.
    pub rules: RuleSet,
    meters: Box<[Meter]>,
    /// One for each adaptive service, in their order.
    gates: Box<[Arc<LocalGate>]>,
}

/// What is measured of one rule.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Its series.
    pub counters: Arc<RuleCounters>,
    /// Hits above this many are near the limit.
    pub near_threshold: u64,
}

/// Reads the rules in force. Cheap to clone; loading never waits.
#[derive(Clone, Debug)]
pub struct LimitTable {
    current: Arc<ArcSwapOption<Snapshot>>,
}

/// Puts rules in force.
#[derive(Debug)]
pub struct TableWriter {
    current: Arc<ArcSwapOption<Snapshot>>,
    generation: u64,
    metrics: Metrics,
    near_limit_ratio: f32,
    /// Where rules are needed for health.
    health: Option<Health>,
}

/// An empty table, its writer and its reader. `near_limit_ratio` is the share of a limit, 0 to 1, above which hits
/// are counted as near it.
#[must_use]
pub fn limit_table(metrics: Metrics, near_limit_ratio: f32) -> (TableWriter, LimitTable) {
    let current = Arc::new(ArcSwapOption::empty());
    let table = LimitTable { current: Arc::clone(&current) };
    (TableWriter { current, generation: 0, metrics, near_limit_ratio, health: None }, table)
}

// === impl Snapshot ===

impl Snapshot {
    /// What is measured of `rule`, which is of this snapshot.
    #[must_use]
    pub fn meter(&self, rule: &Rule) -> &Meter {
        &self.meters[rule.index]
    }

    /// What this replica knows of the gate of `service`, which is of this snapshot. A service's gate outlives reloads.
    #[must_use]
    pub fn gate(&self, service: &Service) -> &Arc<LocalGate> {
        &self.gates[service.index]
    }
}

// === impl Meter ===

impl Meter {
    /// Begins to fetch what the answer will be counted in, so that this wait for memory and those for the counter
    /// overlap.
    pub(crate) fn warm(&self) {
        self.counters.warm();
    }
}

// === impl LimitTable ===

impl LimitTable {
    /// The rules in force; `None` before any were.
    #[must_use]
    pub fn load(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }
}

// === impl TableWriter ===

impl TableWriter {
    /// Has `health` know from now on whether any domain has rules.
    pub fn report_to(&mut self, health: Health) {
        self.health = Some(health);
    }

    /// Puts `rules` in force from the next request on. Requests under way finish by what they loaded.
    pub fn publish(&mut self, rules: RuleSet) -> Generation {
        let meters = rules.rules().iter().map(|rule| self.meter(rule)).collect();
        self.generation += 1;
        let generation = Generation(self.generation);
        let totals = self.metrics.totals();
        totals.rules_loaded.set(rules.rules().len() as u64);
        totals.config_generation.set(self.generation);
        let gates = self.gates(&rules);
        let is_empty = rules.is_empty();
        self.current.store(Some(Arc::new(Snapshot { generation, rules, meters, gates })));
        self.metrics.forget_unheld();
        match &self.health {
            Some(health) if is_empty => health.down(Component::Rules),
            Some(health) => health.up(Component::Rules),
            None => {}
        }
        generation
    }

    /// The gates of the services, those of the same name kept.
    fn gates(&self, rules: &RuleSet) -> Box<[Arc<LocalGate>]> {
        let before = self.current.load_full();
        let known: HashMap<&str, &Arc<LocalGate>> = before
            .iter()
            .flat_map(|snapshot| snapshot.rules.services().iter().zip(&snapshot.gates))
            .map(|(service, gate)| (&*service.name, gate))
            .collect();
        let gate = |service: &Service| match known.get(&*service.name) {
            Some(gate) => Arc::clone(gate),
            None => Arc::new(LocalGate::new(service.first_limit(), SystemClock.now())),
        };
        rules.services().iter().map(gate).collect()
    }

    fn meter(&self, rule: &Rule) -> Meter {
        let path: Vec<&str> = rule.metric_path.iter().map(AsRef::as_ref).collect();
        let near_threshold = match rule.action {
            Action::Unlimited => u64::MAX,
            Action::Limited { limit, .. } => near_threshold(u64::from(limit.requests_per_unit), self.near_limit_ratio),
        };
        Meter { counters: self.metrics.rule(&rule.domain, &path), near_threshold }
    }
}
