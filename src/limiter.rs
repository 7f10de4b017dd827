//! One question, one answer: match, charge, decide.
//!
//! Everything a request needs is loaded once, at the top. Matching builds the counters' keys as it goes; all charges
//! of the request leave in one call to the store, the only await; the answer is folded from what came back. There is
//! no lock here, and no work that grows with the number of rules.

use std::sync::Arc;

use smallvec::SmallVec;
use thiserror::Error;
use tokio::time::Instant;

use crate::counters::{Charge, Charges, CounterStore, StoreError, Tallies};
use crate::decision::{CurrentLimit, Decision, Judgement, Mode, ProcessModes, Uncounted, a_quota_has_room};
use crate::descriptor::{Descriptor, Hits, RateQuery};
use crate::key::CounterKey;
use crate::limit::Limit;
use crate::metrics::{Metrics, RuleCounters, near_threshold};
use crate::rules::{Action, DomainRules, Found, Rule};
use crate::table::{LimitTable, Snapshot};
use crate::window::{Charging, Policy, Tally};

/// Decides by the rules in force and the counters of a store. Cheap to clone where the store is.
#[derive(Clone, Debug)]
pub struct Limiter<S> {
    table: LimitTable,
    store: S,
    metrics: Metrics,
    options: Arc<LimiterOptions>,
}

/// What holds for all decisions of a process.
#[derive(Clone, Debug)]
pub struct LimiterOptions {
    /// First bytes of every counter's key.
    pub key_prefix: Box<[u8]>,
    /// Shadow mode and quota mode of the whole process.
    pub modes: ProcessModes,
    /// Share of a limit, 0 to 1, above which hits are counted as near it.
    pub near_limit_ratio: f32,
}

/// An answer, with the rules that it was given by.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The answer itself.
    pub decision: Decision,
    /// The rules in force when it was given: statuses name theirs by position.
    pub snapshot: Arc<Snapshot>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LimiterError {
    /// No rules were ever in force. The text is the reference service's.
    #[error("no rate limit configuration loaded")]
    NoRules,
    /// The store gave none.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known of a request before the store is asked.
struct Plan<'s> {
    uncounted: SmallVec<[Uncounted; 4]>,
    /// Parallel to the members of `charges`.
    counted: SmallVec<[Counted<'s>; 2]>,
    charging: Charging,
}

/// A limit that is to be charged.
struct Counted<'s> {
    descriptor: usize,
    rule: Option<&'s Rule>,
    /// Handed to the store with the charge.
    key: Option<CounterKey>,
    limit: Limit,
    policy: Policy,
    mode: Mode,
    hits: Hits,
    counters: RuleSeries<'s>,
    near_threshold: u64,
}

/// Where a charge is measured: the rule's own series, or one that the request's values chose.
enum RuleSeries<'s> {
    Own(&'s RuleCounters),
    Runtime(Arc<RuleCounters>),
}

// === impl Limiter ===

impl<S: CounterStore> Limiter<S> {
    /// A limiter over `store`, by whatever rules `table` holds at each request.
    pub fn new(table: LimitTable, store: S, metrics: Metrics, options: Arc<LimiterOptions>) -> Limiter<S> {
        Limiter { table, store, metrics, options }
    }

    /// Answers `query` before `deadline`.
    ///
    /// # Errors
    /// When no rules were ever in force, and when the store gives no answer. Charges may have happened in the second
    /// case, where the error says so; they are never made twice.
    pub async fn decide(&self, query: &RateQuery<'_>, deadline: Instant) -> Result<Answer, LimiterError> {
        let snapshot = self.table.load().ok_or(LimiterError::NoRules)?;
        let decision = {
            let mut plan = self.plan(&snapshot, query);
            let tallies = if plan.counted.is_empty() {
                Tallies::new()
            } else {
                let charges = plan.charges(self.options.modes);
                self.store.charge(charges, deadline).await.inspect_err(|_| plan.unanswered())?
            };
            plan.decide(&tallies, self.options.modes)
        };
        if decision.shadowed {
            self.metrics.totals().global_shadow_mode.increment();
        }
        Ok(Answer { decision, snapshot })
    }

    /// Finds what applies to each descriptor, and drops what is replaced.
    fn plan<'s>(&self, snapshot: &'s Snapshot, query: &RateQuery<'_>) -> Plan<'s> {
        let count = query.descriptors().len();
        let mut plan = Plan {
            uncounted: SmallVec::from_elem(Uncounted::Unmatched, count),
            counted: SmallVec::new(),
            charging: Charging::default(),
        };
        let Some(rules) = snapshot.rules.domain(query.domain()) else {
            self.metrics.totals().unknown_domain_hits.add(count as u64);
            return plan;
        };
        plan.charging = rules.charging();
        let mut found: SmallVec<[(usize, Found<'s>); 4]> = SmallVec::new();
        for (index, descriptor) in query.descriptors().iter().enumerate() {
            match descriptor.limit_override {
                Some(limit) => plan.counted.push(self.overridden(rules, query.domain(), index, descriptor, limit)),
                None => {
                    let matches = rules.find(descriptor, &self.options.key_prefix);
                    found.extend(matches.into_iter().map(|found| (index, found)));
                }
            }
        }
        let replaced: SmallVec<[&str; 4]> =
            found.iter().flat_map(|(_, found)| found.rule.replaces.iter().map(AsRef::as_ref)).collect();
        for (index, found) in found {
            let hits = query.descriptors()[index].hits;
            let is_replaced = found.rule.name.as_deref().is_some_and(|name| replaced.contains(&name));
            match found.rule.action {
                Action::Unlimited => {
                    plan.uncounted[index] = Uncounted::Unlimited;
                    if let Hits::Add(hits) = hits {
                        snapshot.meter(found.rule).counters.record_unlimited(hits);
                    }
                }
                Action::Limited { .. } if is_replaced => {}
                Action::Limited { limit, policy, shadow_mode, quota_mode } => {
                    let mode = Mode { shadow: shadow_mode, quota: quota_mode || self.options.modes.quota_mode };
                    plan.counted.push(self.counted(snapshot, index, found, (limit, policy, mode, hits)));
                }
            }
        }
        // Overrides were planned first; the answer's order is the descriptors'.
        plan.counted.sort_by_key(|counted| counted.descriptor);
        plan
    }

    fn counted<'s>(
        &self,
        snapshot: &'s Snapshot,
        descriptor: usize,
        found: Found<'s>,
        (limit, policy, mode, hits): (Limit, Policy, Mode, Hits),
    ) -> Counted<'s> {
        let meter = snapshot.meter(found.rule);
        let counters = match &found.metric_path {
            None => RuleSeries::Own(&meter.counters),
            Some(path) => RuleSeries::Runtime(self.metrics.runtime(&found.rule.domain, path)),
        };
        Counted {
            descriptor,
            rule: Some(found.rule),
            key: found.key,
            limit,
            policy,
            mode,
            hits,
            counters,
            near_threshold: meter.near_threshold,
        }
    }

    fn overridden<'s>(
        &self,
        rules: &DomainRules,
        domain: &str,
        index: usize,
        descriptor: &Descriptor<'_>,
        limit: Limit,
    ) -> Counted<'s> {
        let (policy, key) = rules.find_override(descriptor, limit, &self.options.key_prefix);
        let path = rules.override_metric_path(descriptor);
        Counted {
            descriptor: index,
            rule: None,
            key: Some(key),
            limit,
            policy,
            mode: Mode { shadow: false, quota: self.options.modes.quota_mode },
            hits: descriptor.hits,
            counters: RuleSeries::Runtime(self.metrics.runtime(domain, &path)),
            near_threshold: near_threshold(u64::from(limit.requests_per_unit), self.options.near_limit_ratio),
        }
    }
}

// === impl Plan ===

impl Plan<'_> {
    fn charges(&mut self, modes: ProcessModes) -> Charges {
        let counted = self.counted.iter().map(|counted| (counted.descriptor, counted.mode));
        let quota_can_refuse = !a_quota_has_room(&self.uncounted, counted, modes);
        let members = self.counted.iter_mut().map(|counted| Charge {
            key: counted.key.take().expect("a limited rule has a key, and it is taken once"),
            policy: counted.policy,
            hits: counted.hits,
            enforcement: counted.mode.enforcement(quota_can_refuse),
        });
        Charges { members: members.collect(), charging: self.charging }
    }

    /// Counts the hits that no store answered for.
    fn unanswered(&self) {
        for counted in &self.counted {
            if let Hits::Add(hits) = counted.hits {
                counted.counters.get().record_unanswered(hits);
            }
        }
    }

    /// Measures what each counter said and folds it into the answer.
    fn decide(&self, tallies: &[Tally], modes: ProcessModes) -> Decision {
        debug_assert_eq!(self.counted.len(), tallies.len(), "a store answers each charge");
        let judge = |(counted, tally): (&Counted<'_>, &Tally)| {
            counted.measure(tally);
            Judgement {
                descriptor: counted.descriptor,
                rule: counted.rule.map(|rule| rule.index),
                current_limit: CurrentLimit {
                    limit: counted.limit,
                    name: counted.rule.and_then(|rule| rule.name.clone()),
                },
                policy: counted.policy,
                mode: counted.mode,
                tally: *tally,
            }
        };
        let judgements: SmallVec<[Judgement; 2]> = self.counted.iter().zip(tallies).map(judge).collect();
        Decision::of(&self.uncounted, &judgements, modes)
    }
}

// === impl Counted ===

impl Counted<'_> {
    fn measure(&self, tally: &Tally) {
        let counters = self.counters.get();
        match self.hits {
            Hits::Add(hits) => {
                counters.record(tally, hits, self.policy.capacity(), self.mode.shadow, self.near_threshold);
            }
            Hits::GiveBack(hits) => counters.record_given_back(hits),
        }
    }
}

// === impl RuleSeries ===

impl RuleSeries<'_> {
    fn get(&self) -> &RuleCounters {
        match self {
            RuleSeries::Own(counters) => counters,
            RuleSeries::Runtime(counters) => counters,
        }
    }
}
