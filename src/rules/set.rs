//! The compiled rules, and the question they answer: which of them apply to this descriptor, and which counters.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::identity::{RuleId, RuleKind};
use super::joined::Probe;
use super::service::{PrometheusServer, Service};
use super::subset::Subsets;
use super::tree::Tree;
use super::{Action, Algorithm, Compatibility, Defaults, Rule, counter, metric};
use crate::descriptor::{Descriptor, Entry};
use crate::key::CounterKey;
use crate::limit::Limit;
use crate::window::{Charging, FixedWindow, Policy, ReferenceWindow, SlidingWindow, TokenBucket};

/// All rules. Immutable: a reload makes a new one.
#[derive(Debug)]
pub struct RuleSet {
    rules: Arc<[Rule]>,
    /// Ordered by name.
    pub(super) domains: Vec<DomainRules>,
    by_name: HashMap<Arc<str>, usize>,
    services: Box<[Service]>,
    /// Per rule, the service that governs it; empty if none governs any.
    governed_by: Box<[Option<usize>]>,
    prometheus: Option<PrometheusServer>,
}

/// The rules of one domain.
#[derive(Debug)]
pub struct DomainRules {
    name: Arc<str>,
    rules: Arc<[Rule]>,
    defaults: Defaults,
    tree: Tree,
    subsets: Subsets,
    replaces: bool,
}

/// A rule that applies to a descriptor.
#[derive(Clone, Debug)]
pub struct Found<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// The counter, for limited rules. That of a [`ReferenceWindow`] lacks its last part, which
    /// [`CounterKey::begin_window`] adds.
    pub key: Option<CounterKey>,
    /// The rule's metric path with values of the request in it, where `detailed_metric` or `value_to_metric` ask for
    /// that. It is as long and as varied as requests make it: whoever keeps it must bound it.
    pub metric_path: Option<Vec<String>>,
}

// === impl RuleSet ===

impl RuleSet {
    pub(super) fn new(rules: Arc<[Rule]>, mut domains: Vec<DomainRules>) -> RuleSet {
        domains.sort_by(|a, b| a.name.cmp(&b.name));
        let by_name: HashMap<_, _> =
            domains.iter().enumerate().map(|(index, domain)| (Arc::clone(&domain.name), index)).collect();
        for rule in rules.iter().filter(|rule| !rule.replaces.is_empty()) {
            if let Some(index) = by_name.get(&rule.domain) {
                domains[*index].replaces = true;
            }
        }
        RuleSet { rules, domains, by_name, services: Box::default(), governed_by: Box::default(), prometheus: None }
    }

    /// These rules, with the services that govern some of them and the Prometheus that tells of those.
    pub(super) fn with_services(self, services: Vec<Service>, prometheus: Option<PrometheusServer>) -> RuleSet {
        let mut governed_by = if services.is_empty() { Vec::new() } else { vec![None; self.rules.len()] };
        for service in &services {
            service.governs.iter().for_each(|rule| governed_by[*rule] = Some(service.index));
        }
        RuleSet { services: services.into(), governed_by: governed_by.into(), prometheus, ..self }
    }

    /// The adaptive services; a service's [`Service::index`] is its position here.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The service that governs the rule of that index.
    #[must_use]
    pub fn governing(&self, rule: usize) -> Option<&Service> {
        self.governed_by.get(rule).copied().flatten().map(|service| &self.services[service])
    }

    /// The Prometheus to ask, where a file names one.
    #[must_use]
    pub fn prometheus(&self) -> Option<&PrometheusServer> {
        self.prometheus.as_ref()
    }

    /// The rules of a domain; `None` if no file names it.
    #[must_use]
    pub fn domain(&self, name: &str) -> Option<&DomainRules> {
        self.by_name.get(name).map(|index| &self.domains[*index])
    }

    /// Every rule, in the order of files; a rule's [`Rule::index`] is its position here.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The names of the domains, in alphabetical order.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(|domain| &*domain.name)
    }

    /// Whether there is no domain at all: a valid configuration that limits nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }
}

impl Default for RuleSet {
    fn default() -> RuleSet {
        RuleSet::new(Arc::from([]), Vec::new())
    }
}

// === impl DomainRules ===

impl DomainRules {
    pub(super) fn new(
        name: Arc<str>,
        rules: Arc<[Rule]>,
        defaults: Defaults,
        tree: Tree,
        subsets: Subsets,
    ) -> DomainRules {
        DomainRules { name, rules, defaults, tree, subsets, replaces: false }
    }

    /// The domain's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All rules of the set, those of other domains included.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether a refused request is charged to none of its counters.
    #[must_use]
    pub fn charging(&self) -> Charging {
        self.defaults.charging
    }

    /// The rules that apply, as [`DomainRules::find_each`] hands them out.
    #[must_use]
    pub fn find<'r>(&'r self, descriptor: &Descriptor<'_>, key_prefix: &[u8]) -> SmallVec<[Found<'r>; 2]> {
        let mut all = SmallVec::new();
        self.find_each(descriptor, key_prefix, |found| all.push(found));
        all
    }

    /// Hands out the rules that apply: the tree's match first (if any), then every subset rule that applies, in the
    /// order of files. `key_prefix` begins every counter's key.
    pub fn find_each<'r>(&'r self, descriptor: &Descriptor<'_>, key_prefix: &[u8], each: impl FnMut(Found<'r>)) {
        self.find_counting(descriptor, key_prefix, &mut (), each);
    }

    pub(super) fn find_counting<'r>(
        &'r self,
        descriptor: &Descriptor<'_>,
        key_prefix: &[u8],
        probe: &mut impl Probe,
        mut each: impl FnMut(Found<'r>),
    ) {
        let entries = &descriptor.entries;
        if let Some(walk) = self.tree.walk(entries, probe)
            && let Some(rule) = walk.last().and_then(|last| self.tree.node(*last).rule)
        {
            let rule = &self.rules[rule];
            let key = match &rule.action {
                Action::Unlimited => None,
                Action::Limited { policy: Policy::ReferenceWindow(_), .. } => {
                    Some(counter::reference_of_walk(&self.tree, &walk, entries, &self.name, key_prefix))
                }
                Action::Limited { .. } => Some(counter::of_walk(&self.tree, &walk, entries, rule.id, key_prefix)),
            };
            let runtime = rule.form.runtime_metric;
            let metric_path = runtime.then(|| metric::tree_path(&self.tree, &walk, entries, rule.form.detailed));
            each(Found { rule, key, metric_path });
        }
        for rule in self.subsets.find(entries, probe) {
            each(self.rules[rule].found_by_subset(entries, key_prefix));
        }
    }

    /// Whether some rule takes the place of others, so that what applies is known only when all of it is.
    #[must_use]
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// Policy and counter of a limit that the caller brings along, for any descriptor, even one without entries. It
    /// has a counter of its own for each window's length, whatever the number of requests, and shares none with rules.
    /// With [`Compatibility::Envoyproxy`] it shares what that service shares.
    #[must_use]
    pub fn find_override(&self, descriptor: &Descriptor<'_>, limit: Limit, key_prefix: &[u8]) -> (Policy, CounterKey) {
        let policy = self.defaults.policy(limit);
        if let Policy::ReferenceWindow(_) = policy {
            return (policy, counter::reference_of_override(&descriptor.entries, &self.name, key_prefix));
        }
        let counting = Some((self.defaults.algorithm, limit.window));
        let id = RuleId::of(RuleKind::Override, &self.name, [], counting);
        (policy, counter::of_override(&descriptor.entries, id, key_prefix))
    }

    /// What metrics call a limit that the caller brings along: `key_value` of every entry. It is as long and as varied
    /// as requests make it: whoever keeps it must bound it.
    #[must_use]
    pub fn override_metric_path(&self, descriptor: &Descriptor<'_>) -> Vec<String> {
        descriptor.entries.iter().map(metric::short).collect()
    }
}

// === impl Rule ===

impl Rule {
    /// Whether it counts at all.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        matches!(self.action, Action::Limited { .. })
    }

    /// How it counts, if it does.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        match &self.action {
            Action::Unlimited => None,
            Action::Limited { policy, .. } => Some(Algorithm::of(policy)),
        }
    }

    /// Whether its counters are those of envoyproxy/ratelimit.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.action, Action::Limited { policy: Policy::ReferenceWindow(_), .. })
    }

    /// Its domain and path, joined by dots.
    pub(super) fn full_key(&self) -> String {
        let path: Vec<&str> = std::iter::once(&*self.domain).chain(self.path.iter().map(|part| &**part)).collect();
        path.join(".")
    }

    /// What a subset rule adds for a descriptor that it applies to.
    fn found_by_subset(&self, entries: &[Entry<'_>], key_prefix: &[u8]) -> Found<'_> {
        let Some(form) = &self.form.subset else { return Found { rule: self, key: None, metric_path: None } };
        let key = self.is_limited().then(|| counter::of_subset(&form.open, entries, self.id, key_prefix));
        let part = |(index, (name, valued)): (usize, &(Box<str>, bool))| {
            let entry = entries.iter().find(|entry| *entry.key == **name).filter(|_| !valued);
            match entry {
                Some(entry) if self.form.detailed => metric::whole(entry),
                Some(entry) if form.value_to_metric => metric::short(entry),
                _ => self.metric_path[index].to_string(),
            }
        };
        let metric_path = self.form.runtime_metric.then(|| form.entries.iter().enumerate().map(part).collect());
        Found { rule: self, key, metric_path }
    }
}

// === impl Defaults ===

impl Defaults {
    /// How `limit` is counted where nothing else is said.
    #[must_use]
    pub fn policy(&self, limit: Limit) -> Policy {
        let Limit { requests_per_unit, window } = limit;
        match self.algorithm {
            Algorithm::SlidingWindow => {
                Policy::SlidingWindow(SlidingWindow::new(requests_per_unit, window, self.precision))
            }
            Algorithm::FixedWindow => match ReferenceWindow::try_new(requests_per_unit, window) {
                Some(shared) if self.compatibility == Compatibility::Envoyproxy => Policy::ReferenceWindow(shared),
                _ => Policy::FixedWindow(FixedWindow::new(requests_per_unit, window)),
            },
            Algorithm::TokenBucket => {
                Policy::TokenBucket(TokenBucket::new(requests_per_unit, window, requests_per_unit))
            }
        }
    }
}
