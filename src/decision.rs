//! From what the counters said to one answer: pure.
//!
//! A descriptor can be judged by several rules at once (the tree's match and every subset rule that applies). Each
//! such judgement is a [`Judgement`]; the judgements of a descriptor fold into one [`DescriptorStatus`], and all of
//! them into the overall [`Code`]. The folding is the reference service's (shadow mode, quota mode, which status the
//! headers report), taken per rule instead of per descriptor; with one rule to a descriptor the two are the same.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::limit::Limit;
use crate::window::{Enforcement, Policy, Tally, Verdict};

/// The answer to a descriptor or to the whole question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request may pass.
    Ok,
    /// The request is over a limit.
    OverLimit,
}

/// A limit as the answer states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentLimit {
    /// The limit itself.
    pub limit: Limit,
    /// Its name, where the rule has one.
    pub name: Option<Arc<str>>,
}

/// What one rule says to one descriptor.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Which descriptor, from 0.
    pub descriptor: usize,
    /// Position of the rule in its set; `None` for a limit that the request brought along, and for a gate.
    pub rule: Option<usize>,
    /// Position in its set of the adaptive service whose gate says it.
    pub gate: Option<usize>,
    /// The limit as the answer states it.
    pub current_limit: CurrentLimit,
    /// How it counted.
    pub policy: Policy,
    /// What its being over means.
    pub mode: Mode,
    /// What the counter said.
    pub tally: Tally,
}

/// What it means for the answer that a rule is over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// The rule's `shadow_mode`: its status says OK even when it is over.
    pub shadow: bool,
    /// The rule's or the process's `quota_mode`: over alone does not refuse.
    pub quota: bool,
}

/// What a descriptor came to when no rule counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uncounted {
    /// No rule matched, or the matched rules were replaced.
    #[default]
    Unmatched,
    /// An unlimited rule matched.
    Unlimited,
}

/// The answer to one descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorStatus {
    /// OK or over.
    pub code: Code,
    /// The limit that decides, where one counted.
    pub current_limit: Option<CurrentLimit>,
    /// Hits that still fit; `u32::MAX` for an unlimited descriptor, 0 for an unmatched one.
    pub limit_remaining: u32,
    /// Milliseconds until more room, or until the refused hits would pass ([`Tally::reset_after_ms`]).
    pub reset_after_ms: Option<u64>,
    /// Milliseconds of the reset that nobody needs to read: the tick of a window that counts exactly.
    pub forgiven_ms: u64,
    /// The hits are more than the limit can ever hold.
    pub never: bool,
    /// Being over does not refuse the request by itself.
    pub quota: bool,
    /// The rule behind it, by its position in the set.
    pub rule: Option<usize>,
    /// The adaptive service whose gate is behind it, by its position in the set.
    pub gate: Option<usize>,
}

/// The answer to the whole question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the caller is told.
    pub code: Code,
    /// The limits refused it, but the process is in shadow mode.
    pub shadowed: bool,
    /// One status for each descriptor, in their order.
    pub statuses: SmallVec<[DescriptorStatus; 4]>,
    /// The rules that counted a descriptor and said OK to it, by their positions, in the descriptors' order. With
    /// subset rules there can be more of them than statuses.
    pub passed: SmallVec<[usize; 4]>,
}

/// How the whole process treats what the rules say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessModes {
    /// Every refusal is answered OK, and counted (the reference's `SHADOW_MODE`).
    pub shadow_mode: bool,
    /// Every descriptor that is not unlimited counts as one in quota mode (the reference's `QUOTA_MODE`).
    pub quota_mode: bool,
}

// === impl Mode ===

impl Mode {
    /// What the store must know of a rule in this mode. `quota_can_refuse` is false when some quota is known to have
    /// room without asking: then no other quota can refuse either.
    #[must_use]
    pub fn enforcement(self, quota_can_refuse: bool) -> Enforcement {
        match (self.shadow, self.quota) {
            (true, _) => Enforcement::Shadow,
            (false, true) if quota_can_refuse => Enforcement::Quota,
            (false, true) => Enforcement::Shadow,
            (false, false) => Enforcement::Enforced,
        }
    }
}

// === impl Judgement ===

impl Judgement {
    /// The code of this rule alone: over, unless it is in shadow mode.
    fn code(&self) -> Code {
        if self.tally.verdict.is_over() && !self.mode.shadow { Code::OverLimit } else { Code::Ok }
    }

    /// What is left; 0 whenever the rule is over, as the reference service says it, even if fewer hits would fit.
    fn remaining(&self) -> u32 {
        if self.tally.verdict.is_over() {
            return 0;
        }
        u32::try_from(self.policy.capacity().saturating_sub(self.tally.used)).unwrap_or(u32::MAX)
    }

    /// Order in which rules speak for their descriptor: those that refuse, then those that could have, then shadows;
    /// among equals the one that is over for longest, or has least room.
    fn precedence(&self) -> (bool, bool, u64) {
        let refuses = self.code() == Code::OverLimit;
        let tightness = if refuses { u64::MAX - self.tally.reset_after_ms } else { u64::from(self.remaining()) };
        (!refuses, self.mode.shadow, tightness)
    }

    fn forgiven_ms(&self) -> u64 {
        match &self.policy {
            Policy::SlidingWindow(policy) => {
                // The longest tick with which hits are counted exactly.
                let exact_ms = policy.window().millis().div_ceil(1 << 23);
                let tick_ms = u64::from(policy.tick_ms());
                if tick_ms <= exact_ms { tick_ms } else { 0 }
            }
            Policy::FixedWindow(_) | Policy::ReferenceWindow(_) => 0,
            Policy::TokenBucket(_) | Policy::Gate(_) => 0,
        }
    }

    fn status(&self) -> DescriptorStatus {
        DescriptorStatus {
            code: self.code(),
            current_limit: Some(self.current_limit.clone()),
            limit_remaining: self.remaining(),
            reset_after_ms: Some(self.tally.reset_after_ms),
            forgiven_ms: self.forgiven_ms(),
            never: self.tally.verdict == Verdict::Never && !self.mode.shadow,
            quota: self.mode.quota,
            rule: self.rule,
            gate: self.gate,
        }
    }
}

// === impl Decision ===

impl Decision {
    /// Folds what the rules said into the answer. `uncounted` has one element for each descriptor and says what it
    /// is when no judgement names it; `judgements` are in the descriptors' order.
    #[must_use]
    pub fn of(uncounted: &[Uncounted], judgements: &[Judgement], modes: ProcessModes) -> Decision {
        let statuses: SmallVec<[DescriptorStatus; 4]> = uncounted
            .iter()
            .enumerate()
            .map(|(descriptor, uncounted)| {
                judgements
                    .iter()
                    .filter(|judgement| judgement.descriptor == descriptor)
                    .min_by_key(|judgement| judgement.precedence())
                    .map_or_else(|| DescriptorStatus::uncounted(*uncounted, modes), Judgement::status)
            })
            .collect();
        let refused = Decision::refused(uncounted, judgements, modes);
        let code = if refused && !modes.shadow_mode { Code::OverLimit } else { Code::Ok };
        let passed = judgements.iter().filter(|judgement| judgement.code() == Code::Ok);
        let passed = passed.filter_map(|judgement| judgement.rule).collect();
        Decision { code, shadowed: refused && modes.shadow_mode, statuses, passed }
    }

    /// Whether some rule that isn't a quota is over, or there are quotas and all of them are.
    fn refused(uncounted: &[Uncounted], judgements: &[Judgement], modes: ProcessModes) -> bool {
        let over = |judgement: &&Judgement| judgement.code() == Code::OverLimit;
        if judgements.iter().filter(|judgement| !judgement.mode.quota).any(|judgement| over(&judgement)) {
            return true;
        }
        let quotas = judgements.iter().filter(|judgement| judgement.mode.quota).count();
        let quotas_over = judgements.iter().filter(|judgement| judgement.mode.quota).filter(over).count();
        quotas > 0
            && quotas == quotas_over
            && !a_quota_has_room(uncounted, judgements.iter().map(|j| (j.descriptor, j.mode)), modes)
    }

    /// Whether the answer has something to say that only metadata can: hits of a descriptor that are more than its limit
    /// can ever hold, or a gate that refuses.
    #[must_use]
    pub fn needs_metadata(&self) -> bool {
        self.statuses.iter().any(|status| status.never || status.gate.is_some())
    }

    /// Index of the descriptor that the `RateLimit-*` headers report: the last one that is over and no quota, else
    /// the first of those with the least room. `None` when nothing was counted.
    #[must_use]
    pub fn header_descriptor(&self) -> Option<usize> {
        let over = |status: &DescriptorStatus| status.code == Code::OverLimit && !status.quota;
        if let Some(last_over) = self.statuses.iter().rposition(over) {
            return Some(last_over);
        }
        let counted = self.statuses.iter().enumerate().filter(|(_, status)| status.current_limit.is_some());
        counted.min_by_key(|(_, status)| status.limit_remaining).map(|(index, _)| index)
    }
}

/// Whether some quota is known to have room before any counter is asked, so that "all quotas are over" can't come
/// true: a rule in quota and shadow mode at once, or, with the process in quota mode, a descriptor that no rule counts.
pub fn a_quota_has_room(
    uncounted: &[Uncounted],
    counted: impl Iterator<Item = (usize, Mode)>,
    modes: ProcessModes,
) -> bool {
    let mut is_counted: SmallVec<[bool; 8]> = SmallVec::from_elem(false, uncounted.len());
    for (descriptor, mode) in counted {
        if mode.quota && mode.shadow {
            return true;
        }
        is_counted[descriptor] = true;
    }
    modes.quota_mode
        && uncounted.iter().zip(is_counted).any(|(kind, counted)| !counted && *kind == Uncounted::Unmatched)
}

// === impl DescriptorStatus ===

impl DescriptorStatus {
    /// The reset as the answer states it: whole seconds, rounded up, because Envoy cuts fractions off and a client told
    /// "0 seconds" would come back too early. A budget that is back already is 0.
    ///
    /// A budget returns up to one tick later than its window: where hits are counted exactly that is a millisecond or
    /// so, which is forgiven. An allowed request is told the window's length at most: nobody wants to read 61
    /// seconds of a minute. A refused one is told the whole truth.
    #[must_use]
    pub fn reset_seconds(&self) -> Option<u64> {
        let (millis, window) = (self.reset_after_ms?, self.current_limit.as_ref()?.limit.window.millis());
        let seconds = millis.saturating_sub(self.forgiven_ms).div_ceil(1_000).max(u64::from(millis > 0));
        Some(match self.code {
            Code::Ok => seconds.min(window.div_ceil(1_000)),
            Code::OverLimit => seconds,
        })
    }

    fn uncounted(uncounted: Uncounted, modes: ProcessModes) -> DescriptorStatus {
        let (limit_remaining, quota) = match uncounted {
            Uncounted::Unmatched => (0, modes.quota_mode),
            Uncounted::Unlimited => (u32::MAX, false),
        };
        DescriptorStatus {
            code: Code::Ok,
            current_limit: None,
            limit_remaining,
            reset_after_ms: None,
            forgiven_ms: 0,
            never: false,
            quota,
            rule: None,
            gate: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Window;

    #[test]
    fn a_reset_is_rounded_up_and_forgives_an_exact_tick() {
        let seconds = |code, window, forgiven_ms, millis| {
            let limit = Limit { requests_per_unit: 1, window: Window::from_millis(window).unwrap() };
            let status = DescriptorStatus {
                code,
                current_limit: Some(CurrentLimit { limit, name: None }),
                reset_after_ms: Some(millis),
                forgiven_ms,
                ..DescriptorStatus::uncounted(Uncounted::Unmatched, ProcessModes::default())
            };
            status.reset_seconds().unwrap()
        };
        let minute = 60_000;
        for (millis, expected) in [(0, 0), (1, 1), (999, 1), (1_001, 1), (1_002, 2), (60_000, 60), (60_001, 60)] {
            assert_eq!(seconds(Code::Ok, minute, 1, millis), expected, "{millis} ms");
            assert_eq!(seconds(Code::OverLimit, minute, 1, millis), expected, "{millis} ms");
        }
        assert_eq!(seconds(Code::Ok, minute, 0, 60_938), 60, "an allowed request reads no more than the window");
        assert_eq!(seconds(Code::OverLimit, minute, 0, 60_938), 61, "a refused one would be refused again at 60 s");
        assert_eq!(seconds(Code::OverLimit, 86_400_000, 11, 86_400_011), 86_400, "a day is counted in ticks of 11 ms");
    }
}
