//! What the law remembers of a service from one step to the next.
//!
//! One small record that is stored as it is, so that whoever goes on with it, after a restart or on another replica,
//! decides what the writer would have decided. It says of itself under which bounds and targets it was written:
//! [`State::accepted`] holds a record against its own bounds, and tells one that is corrupt from one whose bounds the
//! operator has moved since.

use serde::{Deserialize, Serialize};

use super::constants::Law;
use super::decision::{Action, Cause};
use super::hand::Hand;
use crate::clock::Timestamp;
use crate::signal::Signal;

/// The form of the record. One of another form is not read.
const VERSION: u32 = 1;

/// The memory of the law for one service. Rates are requests per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(super) version: u32,
    /// Bounds, targets and signals under which this was written.
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) fingerprint: u64,
    /// The limit in force.
    pub(super) limit: f64,
    /// When it came into force; also when a cut at the lower bound changed nothing.
    pub(super) changed_at: Timestamp,
    pub(super) last: Last,
    /// The limit before the last raise.
    pub(super) before: Option<f64>,
    /// Whether there was data since the last change.
    pub(super) confirmed: bool,
    pub(super) bad: Option<BadRate>,
    pub(super) good: Option<GoodRate>,
    pub(super) normal: Normal,
    pub(super) trial: Option<Trial>,
    /// Mean time of an answer when all is well, in seconds.
    pub(super) usual_latency: Option<f64>,
    /// Whether steps are large: the knee was passed cleanly.
    pub(super) big: bool,
    /// When there was data last, or nobody who could have made any.
    pub(super) fresh_at: Timestamp,
    /// The instant at which the windows of the last sample ended.
    pub(super) judged_at: Timestamp,
    pub(super) unused_since: Option<Timestamp>,
    /// The operator's hand under which this was written.
    pub(super) hand: Option<Hand>,
    /// What would have been done, where nothing is.
    pub(super) episode: Option<Episode>,
}

/// What the law did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Last {
    None,
    Cut,
    Undo,
    Raise,
    Restore,
}

/// The knee: the lowest rate that is known to be bad.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BadRate {
    pub(super) rate: f64,
    pub(super) at: Timestamp,
    /// Whether half or more of the answers failed there, after a raise.
    pub(super) toppled: bool,
}

/// The highest admitted rate that was clean lately.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct GoodRate {
    pub(super) rate: f64,
    pub(super) at: Timestamp,
}

/// Shares that are there whatever the load, learned when cuts changed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Normal {
    pub(super) errors: f64,
    pub(super) latency: f64,
    pub(super) at: Timestamp,
    /// How often one was learned.
    pub(super) count: u32,
}

/// How things were before the first cut of this episode.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) errors: f64,
    pub(super) latency: f64,
    pub(super) limit: f64,
    pub(super) admitted: f64,
    pub(super) cuts: u32,
    /// Whether the ratios are of windows that all lie after a change: then the trouble was there all the time.
    pub(super) is_settled: bool,
}

/// A change that the law wants and nobody makes, since when, and how often it was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Episode {
    pub(super) since: Timestamp,
    pub(super) action: Action,
    pub(super) cause: Cause,
    pub(super) to: f64,
}

// === impl State ===

impl State {
    /// Nothing is known: the limit begins where the operator wants it.
    #[must_use]
    pub fn start(law: &Law, now: Timestamp) -> State {
        State {
            version: VERSION,
            min: law.min,
            max: law.max,
            fingerprint: law.fingerprint,
            limit: law.within_bounds(law.start),
            changed_at: now,
            last: Last::None,
            before: None,
            confirmed: true,
            bad: None,
            good: None,
            normal: Normal::default(),
            trial: None,
            usual_latency: None,
            big: false,
            fresh_at: now,
            judged_at: Timestamp::default(),
            unused_since: None,
            hand: None,
            episode: None,
        }
    }

    /// A state that was read from a store, if it can have been written by a law; otherwise start anew.
    ///
    /// Bounds and targets that have changed since are no reason to refuse it: the next step fits it to them.
    #[must_use]
    pub fn accepted(self) -> Option<State> {
        let has_bounds = self.min > 0.0 && self.min <= self.max && self.max.is_finite();
        let within = |rate: f64| self.min <= rate && rate <= self.max;
        let is_rate = |rate: f64| rate >= 0.0 && rate.is_finite();
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        // An operator may set a limit outside the bounds.
        let is_set = matches!(self.hand, Some(Hand::Override(rate)) if rate.per_second() == self.limit);
        let is_sound = self.version == VERSION
            && has_bounds
            && (within(self.limit) || is_set)
            && self.before.is_none_or(within)
            && self.bad.is_none_or(|bad| is_rate(bad.rate))
            && self.good.is_none_or(|good| is_rate(good.rate))
            && (0.0..1.0).contains(&self.normal.errors)
            && (0.0..1.0).contains(&self.normal.latency)
            && self.trial.is_none_or(|trial| {
                is_share(trial.errors) && is_share(trial.latency) && within(trial.limit) && is_rate(trial.admitted)
            })
            && self.usual_latency.is_none_or(is_rate)
            && self.episode.is_none_or(|episode| is_rate(episode.to));
        is_sound.then_some(self)
    }

    /// The limit in force, in requests per second.
    #[must_use]
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// When that came into force.
    #[must_use]
    pub fn changed_at(&self) -> Timestamp {
        self.changed_at
    }

    /// The lowest rate that is known to be bad, in requests per second.
    #[must_use]
    pub fn knee(&self) -> Option<f64> {
        self.bad.map(|bad| bad.rate)
    }

    /// The learned normal of a signal, as a share.
    #[must_use]
    pub fn normal(&self, signal: Signal) -> f64 {
        match signal {
            Signal::Errors => self.normal.errors,
            Signal::Latency => self.normal.latency,
        }
    }

    /// The operator's hand under which the last step was made.
    #[must_use]
    pub fn hand(&self) -> Option<Hand> {
        self.hand
    }

    pub(super) fn seconds_since_change(&self, now: Timestamp) -> f64 {
        seconds_between(self.changed_at, now)
    }

    /// The limit is another one from now on, because of what the law did.
    pub(super) fn moved(self, limit: f64, last: Last, now: Timestamp) -> State {
        State { limit, last, changed_at: now, confirmed: false, ..self }
    }
}

// === impl Normal ===

impl Normal {
    pub(super) fn set(&mut self, signal: Signal, share: f64) {
        match signal {
            Signal::Errors => self.errors = share,
            Signal::Latency => self.latency = share,
        }
    }
}

// === impl Trial ===

impl Trial {
    /// The signal's share before the first cut.
    pub(super) fn ratio(&self, signal: Signal) -> f64 {
        match signal {
            Signal::Errors => self.errors,
            Signal::Latency => self.latency,
        }
    }
}

/// Seconds from one instant to another; negative if that is earlier.
pub(super) fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    let (from, to) = (from.as_micros(), to.as_micros());
    let apart = from.abs_diff(to) as f64 / 1e6;
    if from <= to { apart } else { -apart }
}
