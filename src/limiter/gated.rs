//! A gate that a request passes, and what its answer says to the descriptors that led there.
//!
//! A gate beside its rules speaks only when it refuses. One that stands in the place of a rule (`gate: rule`) speaks for
//! that rule always: the status carries the limit of the moment and what is left of it, and the rule's metrics count
//! what the gate lets through and refuses.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::decision::{CurrentLimit, Judgement, Mode};
use crate::descriptor::Hits;
use crate::limit::{Limit, Unit, Window};
use crate::metrics::{RuleCounters, near_threshold};
use crate::rate::Rate;
use crate::rules::Rule;
use crate::table::Snapshot;
use crate::window::{Gate, Policy, Tally, TokenBucket};

/// What rules and gates say to a request.
pub(super) type Judgements = SmallVec<[Judgement; 4]>;

/// A gate that is charged.
pub(super) struct Gated {
    /// Position of the service in the snapshot.
    pub(super) service: usize,
    pub(super) policy: Gate,
    pub(super) hits: Hits,
    /// The descriptors to which it speaks when it refuses.
    descriptors: SmallVec<[u32; 2]>,
    /// The descriptors to which it speaks for a rule, and that rule.
    as_rule: Option<AsRule>,
}

struct AsRule {
    descriptors: SmallVec<[u32; 1]>,
    of: StandsFor,
    /// Hits given back. They bring nothing back, and are counted.
    given_back: u64,
}

/// The rule in whose place a gate stands, for the one descriptor that led to it.
pub(super) struct StandsFor {
    /// Position of the rule in the snapshot.
    pub(super) rule: usize,
    /// Where it is measured, if not in the rule's own series: what the request's values chose.
    pub(super) runtime_series: Option<Arc<RuleCounters>>,
    /// Share of the limit, 0 to 1, above which hits are counted as near it.
    pub(super) near_limit_ratio: f32,
}

/// A gate's answer as a token bucket of this moment's limit would give it, in whole requests. Only the reset of one that
/// has room is another: it is the time until the bucket is full, which for a window of a second reads the same.
struct AsBucket {
    limit: Limit,
    policy: Policy,
    tally: Tally,
}

// === impl Gated ===

impl Gated {
    /// A gate that no descriptor leads to yet.
    pub(super) fn new(service: usize, policy: Gate) -> Gated {
        Gated { service, policy, hits: Hits::Add(0), descriptors: SmallVec::new(), as_rule: None }
    }

    /// Notes that a descriptor leads here. It passes once, if any of them passes and doesn't only look.
    pub(super) fn add(&mut self, descriptor: u32, hits: Hits, stands_for: Option<StandsFor>) {
        if matches!(hits, Hits::Add(1..)) {
            self.hits = Hits::Add(1);
        }
        let Some(of) = stands_for else {
            self.descriptors.push(descriptor);
            return;
        };
        let as_rule = self.as_rule.get_or_insert(AsRule { descriptors: SmallVec::new(), of, given_back: 0 });
        as_rule.descriptors.push(descriptor);
        if let Hits::GiveBack(hits) = hits {
            as_rule.given_back = as_rule.given_back.saturating_add(hits);
        }
    }

    /// Measures what the gate said and adds what that is to its descriptors.
    pub(super) fn judge(&self, tally: Tally, snapshot: &Snapshot, judgements: &mut Judgements) {
        let is_over = tally.verdict.is_over();
        if is_over {
            let bucket = AsBucket::of(tally);
            judgements.extend(self.descriptors.iter().map(|descriptor| bucket.judgement(*descriptor, self.service)));
        }
        let Some(AsRule { descriptors, of, given_back }) = &self.as_rule else { return };
        let bucket = AsBucket::of(tally);
        let rule = &snapshot.rules.rules()[of.rule];
        let per_second = bucket.policy.capacity();
        let near = near_threshold(per_second, of.near_limit_ratio);
        let series = of.series(snapshot);
        series.record(&bucket.tally, self.requests(), per_second, false, near);
        series.record_given_back(*given_back);
        for descriptor in descriptors {
            let said = bucket.judgement(*descriptor, self.service);
            let current_limit = CurrentLimit { name: rule.name.clone(), ..said.current_limit };
            let gate = said.gate.filter(|_| is_over);
            judgements.push(Judgement { rule: Some(rule.index), gate, current_limit, ..said });
        }
        // What rules have to say is told in the order of the descriptors.
        judgements.sort_by_key(|judgement| judgement.descriptor);
    }

    /// The same for what this replica knows of the gate, as the store gave no answer. Then only a refusal is one.
    pub(super) fn judge_without_store(&self, tally: Tally, snapshot: &Snapshot, judgements: &mut Judgements) {
        match &self.as_rule {
            Some(as_rule) if !tally.verdict.is_over() => {
                as_rule.of.series(snapshot).record_unanswered(self.requests());
            }
            _ => self.judge(tally, snapshot, judgements),
        }
    }

    fn requests(&self) -> u64 {
        match self.hits {
            Hits::Add(hits) => hits,
            Hits::GiveBack(_) => 0,
        }
    }
}

// === impl StandsFor ===

impl StandsFor {
    fn series<'s>(&'s self, snapshot: &'s Snapshot) -> &'s RuleCounters {
        let rule: &Rule = &snapshot.rules.rules()[self.rule];
        self.runtime_series.as_deref().unwrap_or_else(|| &snapshot.meter(rule).counters)
    }
}

// === impl AsBucket ===

impl AsBucket {
    /// The limit is that of the moment, in whole requests per second, at least 1.
    fn of(tally: Tally) -> AsBucket {
        let per_second = u32::try_from(tally.used.saturating_add(500) / 1_000).unwrap_or(u32::MAX).max(1);
        let limit = Limit { requests_per_unit: per_second, window: Window::from(Unit::Second) };
        let room = match tally.verdict.is_over() {
            true => 0,
            false => Gate::room(Rate::from_millis(tally.used), tally.reset_after_ms),
        };
        let tally = Tally { used: u64::from(per_second).saturating_sub(room), ..tally };
        AsBucket { limit, policy: Policy::TokenBucket(TokenBucket::new(per_second, limit.window, per_second)), tally }
    }

    fn judgement(&self, descriptor: u32, service: usize) -> Judgement {
        Judgement {
            descriptor: descriptor as usize,
            rule: None,
            gate: Some(service),
            current_limit: CurrentLimit { limit: self.limit, name: None },
            policy: self.policy,
            mode: Mode { shadow: false, quota: false },
            tally: self.tally,
        }
    }
}
