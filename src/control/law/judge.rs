//! What one window says of one signal: well, perhaps bad, or bad for certain.

use super::constants::Law;
use super::decision::Judged;
use super::observation::Reading;
use super::state::State;
use super::wilson;
use crate::signal::{Counts, Signal};

/// A signal's share and what it is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) signal: Signal,
    pub(super) target: f64,
    /// The share in the window that decides.
    pub(super) ratio: f64,
    /// The share in the window that has to agree.
    pub(super) ratio_slow: f64,
    pub(super) lower: f64,
    pub(super) normal: f64,
    /// The target on top of the normal.
    pub(super) threshold: f64,
    /// Over the threshold for certain.
    pub(super) is_bad: bool,
    /// Over the threshold, perhaps.
    pub(super) is_over: bool,
}

/// The signals that have a target, with it.
pub(super) fn targets(law: &Law) -> impl Iterator<Item = (Signal, f64)> {
    [Some((Signal::Errors, law.errors)), law.latency.map(|share| (Signal::Latency, share))].into_iter().flatten()
}

/// Of a window's answers, those that a signal counts.
pub(super) fn counted(counts: &Counts, signal: Signal) -> f64 {
    match signal {
        Signal::Errors => counts.failed,
        Signal::Latency => counts.slow,
    }
}

/// The share of a window's answers that a signal counts; 0 without answers.
pub(super) fn ratio(counts: &Counts, signal: Signal) -> f64 {
    match signal {
        Signal::Errors => counts.error_ratio(),
        Signal::Latency => counts.slow_ratio(),
    }
}

/// Judges every signal by the window that decides and the one that has to agree.
pub(super) fn judge(state: &State, law: &Law, reading: &Reading, slow: &Reading) -> Vec<Verdict> {
    let constants = &law.constants;
    let is_enough = reading.counts.answered >= constants.min_answers_to_cut;
    let verdict = |(signal, target): (Signal, f64)| {
        let certain = |counts: &Counts| {
            wilson::lower(counted(counts, signal), counts.answered, constants.z, constants.answers_counted)
        };
        let normal = state.normal(signal);
        let threshold = 1.0 - (1.0 - normal) * (1.0 - target);
        let (ratio, ratio_slow) = (ratio(&reading.counts, signal), ratio(&slow.counts, signal));
        let (lower, lower_slow) = (certain(&reading.counts), certain(&slow.counts));
        let (soft, _) = wilson::bounds(counted(&reading.counts, signal), reading.counts.answered, constants.z_soft);
        Verdict {
            signal,
            target,
            ratio,
            ratio_slow,
            lower,
            normal,
            threshold,
            is_bad: is_enough
                && ratio > threshold
                && ((lower > threshold && ratio_slow > threshold) || lower_slow > threshold),
            is_over: is_enough && ratio_slow > threshold && ratio > threshold && soft > threshold,
        }
    };
    targets(law).map(verdict).collect()
}

/// The same signals by another window. What was found bad stays found.
pub(super) fn judge_again(verdicts: &[Verdict], law: &Law, reading: &Reading) -> Vec<Verdict> {
    let again = |verdict: &Verdict| {
        let counts = &reading.counts;
        let number = counted(counts, verdict.signal);
        let lower = wilson::lower(number, counts.answered, law.constants.z, law.constants.answers_counted);
        Verdict { ratio: ratio(counts, verdict.signal), lower, ..*verdict }
    };
    verdicts.iter().map(again).collect()
}

// === impl Verdict ===

impl Verdict {
    /// How much of the answers are above the normal: 0 is as usual, 1 is all.
    pub(super) fn excess(&self) -> f64 {
        ((self.ratio - self.normal) / (1.0 - self.normal)).max(0.0)
    }

    /// For the record.
    pub(super) fn judged(&self, reading: &Reading) -> Judged {
        let counts = &reading.counts;
        let locally = match self.signal {
            Signal::Errors if counts.answered > 0.0 => counts.failed_locally / counts.answered,
            Signal::Errors | Signal::Latency => 0.0,
        };
        Judged {
            signal: self.signal,
            ratio: self.ratio,
            locally,
            lower: self.lower,
            threshold: self.threshold,
            normal: self.normal,
            answered: counts.answered,
            window: reading.length,
            is_bad: self.is_bad,
        }
    }
}
