//! What a service's metrics say of it: how many answers, how many failed, how many were slow.
//!
//! A controller asks for four windows that end at the same instant ([`Windows`]) and gets a [`Sample`]: per window
//! either [`Counts`] or the reason why there are none ([`Absence`]). No data is never read as no errors. Ratios are not
//! taken here: who judges them needs the numbers that they are made of.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What is judged of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// The share of answers that failed.
    Errors,
    /// The share of answers that were slower than the target's threshold.
    Latency,
}

/// The lengths of the windows to ask for, shortest first. All end at the instant of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Two scrapes and a second: what a cut is sized by.
    pub newest: Duration,
    /// What decides.
    pub fast: Duration,
    /// What has to agree.
    pub slow: Duration,
    /// What serves thin traffic.
    pub long: Duration,
}

/// What one window held. Numbers are finite, not negative, and neither `failed` nor `slow` is more than `answered`.
///
/// They are no whole numbers, as Prometheus's `increase` extrapolates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Answers, those that were refused by limits (429) left out.
    pub answered: f64,
    /// Answers that failed.
    pub failed: f64,
    /// Of those, the ones that the proxy gave without asking the service: breaker overflow, no healthy host.
    pub failed_locally: f64,
    /// Answers slower than the latency target's threshold; 0 without a target.
    pub slow: f64,
    /// The mean time of an answer in seconds, where it is known.
    pub latency: Option<f64>,
}

/// Why a window has no counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// What kind of reason.
    pub kind: AbsenceKind,
    /// The reason in one sentence without a full stop, for people.
    pub reason: String,
}

/// The kinds of [`Absence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbsenceKind {
    /// The server could not be reached, or the connection broke.
    Unreachable,
    /// There was no answer before the deadline.
    TimedOut,
    /// The server answered with an error.
    Refused,
    /// There are no such series, or too few samples for an increase. If nobody asked the service, that is as it should
    /// be.
    Empty,
    /// The answer is not what was asked for: text, negative or infinite numbers, several series.
    Invalid,
    /// The newest sample is too old, or the answer is not newer than the last one.
    Stale,
    /// Our own counts contradict the answer: it may be another service's.
    Implausible,
}

/// What was said of the four windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The instant at which all windows end, by this service's clock (or its store's).
    pub at: Timestamp,
    /// The lengths that were asked for.
    pub windows: Windows,
    /// See [`Windows::newest`].
    pub newest: Result<Counts, Absence>,
    /// See [`Windows::fast`].
    pub fast: Result<Counts, Absence>,
    /// See [`Windows::slow`].
    pub slow: Result<Counts, Absence>,
    /// See [`Windows::long`].
    pub long: Result<Counts, Absence>,
}

// === impl Signal ===

impl Signal {
    /// Both, in the order in which they are judged.
    pub const ALL: [Signal; 2] = [Signal::Errors, Signal::Latency];

    /// The name in metrics and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Signal::Errors => "errors",
            Signal::Latency => "latency",
        }
    }
}

// === impl Counts ===

impl Counts {
    /// The share of answers that failed; 0 without answers.
    #[must_use]
    pub fn error_ratio(&self) -> f64 {
        if self.answered > 0.0 { self.failed / self.answered } else { 0.0 }
    }

    /// The share of answers that were slow; 0 without answers.
    #[must_use]
    pub fn slow_ratio(&self) -> f64 {
        if self.answered > 0.0 { self.slow / self.answered } else { 0.0 }
    }
}

// === impl Sample ===

impl Sample {
    /// What `counts` says of each of the windows, which end at `at`.
    #[must_use]
    pub fn of(at: Timestamp, windows: Windows, counts: impl Fn(Duration) -> Result<Counts, Absence>) -> Sample {
        let Windows { newest, fast, slow, long } = windows;
        let (newest, fast, slow, long) = (counts(newest), counts(fast), counts(slow), counts(long));
        Sample { at, windows, newest, fast, slow, long }
    }

    /// A sample that says of all windows that there is nothing.
    #[must_use]
    pub fn absent(at: Timestamp, windows: Windows, absence: &Absence) -> Sample {
        Sample::of(at, windows, |_| Err(absence.clone()))
    }
}

// === impl Absence ===

impl Absence {
    /// A reason of that kind.
    #[must_use]
    pub fn new(kind: AbsenceKind, reason: impl Into<String>) -> Absence {
        Absence { kind, reason: reason.into() }
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

// === impl AbsenceKind ===

impl AbsenceKind {
    /// All kinds.
    pub const ALL: [AbsenceKind; 7] = [
        AbsenceKind::Unreachable,
        AbsenceKind::TimedOut,
        AbsenceKind::Refused,
        AbsenceKind::Empty,
        AbsenceKind::Invalid,
        AbsenceKind::Stale,
        AbsenceKind::Implausible,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AbsenceKind::Unreachable => "unreachable",
            AbsenceKind::TimedOut => "timed_out",
            AbsenceKind::Refused => "refused",
            AbsenceKind::Empty => "empty",
            AbsenceKind::Invalid => "invalid",
            AbsenceKind::Stale => "stale",
            AbsenceKind::Implausible => "implausible",
        }
    }
}
