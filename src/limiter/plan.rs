//! What is known of a request before the store is asked, and what its answers make of it.
//!
//! A plan names rules by their position in the snapshot and borrows nothing, neither from the request nor from the
//! rules, so that it can wait without either.

use std::sync::Arc;

use smallvec::SmallVec;

use super::gated::{Gated, StandsFor};
use super::{LimiterOptions, shared};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::counters::over_limit::REMEMBERED;
use crate::counters::{Charge, Charges, StoreError, Tallies};
use crate::decision::{CurrentLimit, Decision, Judgement, Mode, ProcessModes, Uncounted, a_quota_has_room};
use crate::descriptor::{Descriptor, Hits, RateQuery};
use crate::key::CounterKey;
use crate::limit::Limit;
use crate::metrics::{Metrics, RuleCounters, near_threshold};
use crate::rules::service::{Service, ServiceMode};
use crate::rules::{Action, DomainRules, Found, Rule};
use crate::table::Snapshot;
use crate::window::{Charging, Enforcement, Gate, Policy, Tally};

/// What each descriptor comes to when its counters have spoken.
pub(super) struct Plan {
    /// One for each descriptor.
    uncounted: SmallVec<[Uncounted; 8]>,
    /// One for each of the first charges, in their order, which is that of the descriptors.
    counted: SmallVec<[Counted; 4]>,
    /// One for each of the charges behind them. There are seldom any, so they take no room here.
    gates: Option<Box<Gates>>,
}

/// A limit that is charged.
struct Counted {
    descriptor: u32,
    mode: Mode,
    /// Its counter is shared with the reference service.
    is_shared: bool,
    hits: Hits,
    limited_by: LimitedBy,
    /// Where it is measured, if not in the rule's own series: what the request's values chose.
    runtime_series: Option<Arc<RuleCounters>>,
}

type Gates = SmallVec<[Gated; 1]>;

/// Where a limit comes from.
enum LimitedBy {
    /// The rule at this position of the snapshot.
    Rule(usize),
    /// Something else than a rule as it stands: the request, or a rule at a share of its limit.
    Other(Box<Other>),
}

struct Other {
    /// Position of the rule that is scaled; `None` for a limit that the request brought.
    rule: Option<usize>,
    limit: Limit,
    policy: Policy,
    near_threshold: u64,
}

/// A plan being made, and what it is made of.
struct Planning<'s> {
    plan: Plan,
    charges: Charges,
    snapshot: &'s Snapshot,
    metrics: &'s Metrics,
    options: &'s LimiterOptions,
    /// The instant that chooses windows, once it was asked for.
    now: Option<Timestamp>,
}

/// A limit as [`Counted::counting`] reads it again.
struct Counting<'s> {
    rule: Option<&'s Rule>,
    limit: Limit,
    policy: Policy,
    near_threshold: u64,
    series: &'s RuleCounters,
}

// === impl Plan ===

impl Plan {
    /// Finds what applies to each descriptor of `query`, and drops what is replaced.
    pub(super) fn of(
        query: &RateQuery<'_>,
        snapshot: &Snapshot,
        metrics: &Metrics,
        options: &LimiterOptions,
    ) -> (Plan, Charges) {
        let count = query.descriptors().len();
        let uncounted = SmallVec::from_elem(Uncounted::Unmatched, count);
        let plan = Plan { uncounted, counted: SmallVec::new(), gates: None };
        let charges = Charges { members: SmallVec::new(), charging: Charging::default() };
        let mut planning = Planning { plan, charges, snapshot, metrics, options, now: None };
        match snapshot.rules.domain(query.domain()) {
            None => metrics.totals().unknown_domain_hits.add(count as u64),
            Some(rules) => {
                planning.charges.charging = rules.charging();
                planning.all(query, rules);
                planning.plan.enforce(&mut planning.charges, options.modes);
                planning.charge_gates();
            }
        }
        (planning.plan, planning.charges)
    }

    /// Tells the store what being over means for each charge, which takes all of them to know.
    fn enforce(&self, charges: &mut Charges, modes: ProcessModes) {
        let counted = self.counted.iter().map(|counted| (counted.descriptor as usize, counted.mode));
        let quota_can_refuse = !a_quota_has_room(&self.uncounted, counted, modes);
        for (charge, counted) in charges.members.iter_mut().zip(&self.counted) {
            charge.enforcement = counted.mode.enforcement(quota_can_refuse);
        }
    }

    fn gates(&self) -> &[Gated] {
        self.gates.as_ref().map_or(&[], |gates| gates)
    }

    /// Counts the hits that no store answered for.
    pub(super) fn unanswered(&self, snapshot: &Snapshot) {
        for counted in &self.counted {
            if let Hits::Add(hits) = counted.hits {
                counted.counting(snapshot).series.record_unanswered(hits);
            }
        }
    }

    /// The same tallies, unless one of them is an error of the service that shares its counter.
    pub(super) fn accepted(&self, tallies: Tallies, snapshot: &Snapshot) -> Result<Tallies, StoreError> {
        if !self.counted.iter().any(|counted| counted.is_shared) {
            return Ok(tallies);
        }
        let refusal = |(counted, tally): (&Counted, &Tally)| {
            shared::refusal(&counted.counting(snapshot).policy, counted.hits, tally)
        };
        let refusal = self.counted.iter().zip(&tallies).find_map(refusal);
        refusal.map_or(Ok(tallies), Err)
    }

    /// Measures what each counter said and folds it into the answer.
    pub(super) fn decide(&self, tallies: &[Tally], snapshot: &Snapshot, options: &LimiterOptions) -> Decision {
        debug_assert_eq!(self.counted.len() + self.gates().len(), tallies.len(), "a store answers each charge");
        let (tallies, of_gates) = tallies.split_at(self.counted.len());
        let judge = |(counted, tally): (&Counted, &Tally)| counted.judge(*tally, snapshot, &*options.clock);
        let mut judgements: SmallVec<[Judgement; 4]> = self.counted.iter().zip(tallies).map(judge).collect();
        for (gated, tally) in self.gates().iter().zip(of_gates) {
            gated.judge(*tally, snapshot, &mut judgements);
        }
        Decision::of(&self.uncounted, &judgements, options.modes)
    }

    /// What the gates refuse by what this replica knows of them, as the store gave no answer; `None` if they refuse
    /// nothing, or there are none.
    pub(super) fn decide_without_store(
        &self,
        snapshot: &Snapshot,
        modes: ProcessModes,
        now: impl FnOnce() -> Timestamp,
    ) -> Option<Decision> {
        let gates = self.gates.as_ref()?;
        let now = now();
        let mut judgements: SmallVec<[Judgement; 4]> = SmallVec::new();
        for gated in &**gates {
            let service = &snapshot.rules.services()[gated.service];
            let tally = snapshot.gate(service).ask(gated.policy.observed, gated.hits, now);
            gated.judge_without_store(tally, snapshot, &mut judgements);
        }
        (!judgements.is_empty()).then(|| Decision::of(&self.uncounted, &judgements, modes))
    }
}

// === impl Planning ===

impl Planning<'_> {
    fn all(&mut self, query: &RateQuery<'_>, rules: &DomainRules) {
        let replaced = if rules.replaces() { replaced(query, rules) } else { SmallVec::new() };
        for (index, descriptor) in query.descriptors().iter().enumerate() {
            match descriptor.limit_override {
                Some(limit) => {
                    let (counted, charge) = overridden(rules, index, descriptor, limit, self.metrics, self.options);
                    self.charge(counted, charge);
                    self.pass_gates_of_overridden(rules, index, descriptor);
                }
                None => rules.find_each(descriptor, &self.options.key_prefix, |found| {
                    self.apply(index, found, descriptor.hits, &replaced);
                }),
            }
        }
    }

    /// A limit that a request brings takes the place of the rules', and not of what protects the service behind them.
    fn pass_gates_of_overridden(&mut self, rules: &DomainRules, index: usize, descriptor: &Descriptor<'_>) {
        let governing = &self.snapshot.rules;
        if !governing.services().is_empty() {
            rules.find_each(descriptor, b"", |found| {
                if let Some(service) = governing.governing(found.rule.index) {
                    self.pass_gate(service, index, descriptor.hits, None);
                }
            });
        }
    }

    fn apply(&mut self, index: usize, found: Found<'_>, hits: Hits, replaced: &[&Arc<str>]) {
        let service = self.snapshot.rules.governing(found.rule.index);
        self.snapshot.meter(found.rule).warm();
        let mut stands_for = None;
        match found.rule.action {
            Action::Unlimited => {
                self.plan.uncounted[index] = Uncounted::Unlimited;
                if let Hits::Add(hits) = hits {
                    self.snapshot.meter(found.rule).counters.record_unlimited(hits);
                }
            }
            Action::Limited { .. } if found.rule.name.as_ref().is_some_and(|name| replaced.contains(&name)) => return,
            // The gate is the rule: there is one counter, and it is the gate's. In a process that lets everything pass,
            // or takes each rule for a quota, the two mean different things.
            Action::Limited { .. }
                if service.is_some_and(Service::gate_is_rule) && self.options.modes == ProcessModes::default() =>
            {
                let runtime_series = found.metric_path.map(|path| self.metrics.runtime(&found.rule.domain, &path));
                let near_limit_ratio = self.options.near_limit_ratio;
                stands_for = Some(StandsFor { rule: found.rule.index, runtime_series, near_limit_ratio });
            }
            Action::Limited { policy, shadow_mode, quota_mode, .. } => {
                let mode = Mode { shadow: shadow_mode, quota: quota_mode || self.options.modes.quota_mode };
                let (mut counted, mut charge) = counted(index, found, policy, mode, hits, self.metrics);
                if let Some(service) = service.filter(|service| service.scales_rules()) {
                    self.scale(service, &mut counted, &mut charge);
                }
                self.charge(counted, charge);
            }
        }
        if let Some(service) = service {
            self.pass_gate(service, index, hits, stands_for);
        }
    }

    /// Lowers a limit as far as the service's own is lowered, by what this replica heard last of it.
    fn scale(&self, service: &Service, counted: &mut Counted, charge: &mut Charge) {
        let LimitedBy::Rule(rule) = counted.limited_by else { return };
        let limit = self.snapshot.gate(service).limit(SystemClock.now());
        let policy = charge.policy.scaled(limit.per_second() / service.bounds.max.per_second());
        let Action::Limited { limit, .. } = self.snapshot.rules.rules()[rule].action else { return };
        let requests_per_unit = policy.limit();
        let limit = Limit { requests_per_unit, ..limit };
        let near_threshold = near_threshold(u64::from(requests_per_unit), self.options.near_limit_ratio);
        counted.limited_by = LimitedBy::Other(Box::new(Other { rule: Some(rule), limit, policy, near_threshold }));
        charge.policy = policy;
    }

    /// Notes that a descriptor leads to a service. A request passes its gate once, however many of its descriptors do
    /// and whatever they cost; one that only looks, looks, and what is given back was a request's that has passed.
    fn pass_gate(&mut self, service: &Service, descriptor: usize, hits: Hits, stands_for: Option<StandsFor>) {
        // A rule's status is told, and what is given back counted, all the same.
        if matches!(hits, Hits::GiveBack(_)) && stands_for.is_none() {
            return;
        }
        let gates = self.plan.gates.get_or_insert_default();
        let gated = match gates.iter().position(|gated| gated.service == service.index) {
            Some(at) => &mut gates[at],
            None => {
                // A process in shadow mode lets everything through: then the gate counts that.
                let observed = service.mode == ServiceMode::Observe || self.options.modes.shadow_mode;
                gates.push(Gated::new(service.index, Gate { start: service.first_limit(), observed }));
                gates.last_mut().expect("it was pushed")
            }
        };
        gated.add(descriptor as u32, hits, stands_for);
    }

    /// Charges the gates behind everything else: they hear what the others say.
    fn charge_gates(&mut self) {
        let services = self.snapshot.rules.services();
        self.charges.members.extend(self.plan.gates().iter().map(|gated| Charge {
            key: CounterKey::gate(&self.options.key_prefix, &services[gated.service].name),
            policy: Policy::Gate(gated.policy),
            hits: gated.hits,
            enforcement: Enforcement::Enforced,
        }));
    }

    fn charge(&mut self, counted: Counted, mut charge: Charge) {
        // One instant for all, so that one request meets one window of each length.
        shared::begin(&mut charge, || *self.now.get_or_insert_with(|| self.options.clock.now()), self.options);
        self.plan.counted.push(counted);
        self.charges.members.push(charge);
    }
}

/// The names that the rules which apply take the place of: a rule for one descriptor can replace that of another, so
/// all have to be known first.
fn replaced<'r>(query: &RateQuery<'_>, rules: &'r DomainRules) -> SmallVec<[&'r Arc<str>; 4]> {
    let mut names = SmallVec::new();
    for descriptor in query.descriptors().iter().filter(|descriptor| descriptor.limit_override.is_none()) {
        rules.find_each(descriptor, b"", |found| names.extend(&found.rule.replaces));
    }
    names
}

fn counted(
    index: usize,
    found: Found<'_>,
    policy: Policy,
    mode: Mode,
    hits: Hits,
    metrics: &Metrics,
) -> (Counted, Charge) {
    let runtime_series = found.metric_path.as_ref().map(|path| metrics.runtime(&found.rule.domain, path));
    let limited_by = LimitedBy::Rule(found.rule.index);
    let key = found.key.expect("a limited rule has a key");
    let charge = Charge { key, policy, hits, enforcement: Enforcement::Enforced };
    let is_shared = matches!(policy, Policy::ReferenceWindow(_));
    (Counted { descriptor: index as u32, mode, is_shared, hits, limited_by, runtime_series }, charge)
}

fn overridden(
    rules: &DomainRules,
    index: usize,
    descriptor: &Descriptor<'_>,
    limit: Limit,
    metrics: &Metrics,
    options: &LimiterOptions,
) -> (Counted, Charge) {
    let (policy, key) = rules.find_override(descriptor, limit, &options.key_prefix);
    let path = rules.override_metric_path(descriptor);
    let near_threshold = near_threshold(u64::from(limit.requests_per_unit), options.near_limit_ratio);
    let counted = Counted {
        descriptor: index as u32,
        mode: Mode { shadow: false, quota: options.modes.quota_mode },
        is_shared: matches!(policy, Policy::ReferenceWindow(_)),
        hits: descriptor.hits,
        limited_by: LimitedBy::Other(Box::new(Other { rule: None, limit, policy, near_threshold })),
        runtime_series: Some(metrics.runtime(rules.name(), &path)),
    };
    (counted, Charge { key, policy, hits: descriptor.hits, enforcement: Enforcement::Enforced })
}

// === impl Counted ===

impl Counted {
    fn judge(&self, mut tally: Tally, snapshot: &Snapshot, clock: &dyn Clock) -> Judgement {
        let Counting { rule, limit, policy, near_threshold, series } = self.counting(snapshot);
        if let Policy::ReferenceWindow(window) = policy {
            if let (REMEMBERED, Hits::Add(hits)) = (tally.reset_after_ms, self.hits) {
                series.record_remembered(hits);
            }
            tally.reset_after_ms = window.ends_after_ms(clock.now());
        }
        match self.hits {
            Hits::Add(hits) => series.record(&tally, hits, policy.capacity(), self.mode.shadow, near_threshold),
            Hits::GiveBack(hits) => series.record_given_back(hits),
        }
        Judgement {
            descriptor: self.descriptor as usize,
            rule: rule.map(|rule| rule.index),
            gate: None,
            current_limit: CurrentLimit { limit, name: rule.and_then(|rule| rule.name.clone()) },
            policy,
            mode: self.mode,
            tally,
        }
    }

    fn counting<'s>(&'s self, snapshot: &'s Snapshot) -> Counting<'s> {
        let runtime_series = self.runtime_series.as_deref();
        match &self.limited_by {
            LimitedBy::Other(other) => {
                let Other { rule, limit, policy, near_threshold } = **other;
                let rule = rule.map(|index| &snapshot.rules.rules()[index]);
                let series = runtime_series.or_else(|| rule.map(|rule| &*snapshot.meter(rule).counters));
                let series = series.expect("a limit that a request brought has a series of its own");
                Counting { rule, limit, policy, near_threshold, series }
            }
            LimitedBy::Rule(index) => {
                let rule = &snapshot.rules.rules()[*index];
                let Action::Limited { limit, policy, .. } = rule.action else {
                    unreachable!("an unlimited rule is never charged")
                };
                let meter = snapshot.meter(rule);
                let series = runtime_series.unwrap_or(&meter.counters);
                Counting { rule: Some(rule), limit, policy, near_threshold: meter.near_threshold, series }
            }
        }
    }
}
