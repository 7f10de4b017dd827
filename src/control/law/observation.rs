//! What one step is told: the answers of the metrics, and our own counts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::signal::{Absence, AbsenceKind, Counts, Sample, Windows};

/// What is known at one instant. Rates are requests per second, counted by ourselves and summed over all replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// What the metrics said; `None` if they were not asked, as while a change settles. A question that failed is a
    /// sample of four absences: an unconfirmed raise is taken back on those, and not on `None`.
    pub sample: Option<Sample>,
    /// Requests that reached the gate, over the last max(interval, 5 s).
    pub offered: f64,
    /// Requests that passed it, over the same time.
    pub admitted: f64,
    /// Requests that passed it, over each window that was asked for.
    pub admitted_in: Admitted,
}

/// The rate of requests that passed the gate, per window of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Admitted {
    /// Over the newest window.
    pub newest: f64,
    /// Over the fast one.
    pub fast: f64,
    /// Over the slow one.
    pub slow: f64,
    /// Over the long one.
    pub long: f64,
}

/// One window with what was admitted in it: what is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) counts: Counts,
    pub(super) admitted: f64,
    /// Seconds.
    pub(super) length: f64,
}

/// Highest rate and count that are believed. Beyond it sums would lose whole requests.
const BELIEVED_MAX: f64 = 9_007_199_254_740_992.0;

// === impl Admitted ===

impl Admitted {
    /// What `admitted` says of each of the windows.
    #[must_use]
    pub fn over(windows: &Windows, admitted: impl Fn(Duration) -> f64) -> Admitted {
        let Windows { newest, fast, slow, long } = *windows;
        Admitted { newest: admitted(newest), fast: admitted(fast), slow: admitted(slow), long: admitted(long) }
    }
}

// === impl Observation ===

impl Observation {
    /// The same with our own counts finite and not negative. What is no number counts as nothing: then nothing is held
    /// back, so nothing is raised.
    pub(super) fn sound(&self) -> Observation {
        let Admitted { newest, fast, slow, long } = self.admitted_in;
        Observation {
            sample: self.sample.clone(),
            offered: sound(self.offered),
            admitted: sound(self.admitted),
            admitted_in: Admitted { newest: sound(newest), fast: sound(fast), slow: sound(slow), long: sound(long) },
        }
    }
}

fn sound(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(0.0, BELIEVED_MAX) }
}

/// The counts of a window if they can be what they claim to be.
pub(super) fn believed(window: &Result<Counts, Absence>, judges_latency: bool) -> Result<Counts, Absence> {
    let counts = window.clone()?;
    let Counts { answered, failed, failed_locally, slow, latency } = counts;
    let numbers = [answered, failed, failed_locally, slow];
    if let Some(wrong) = numbers.iter().find(|number| !(0.0..=BELIEVED_MAX).contains(*number)) {
        return Err(Absence::new(AbsenceKind::Invalid, format!("{wrong} is no number of answers")));
    }
    Ok(Counts {
        answered,
        failed: failed.min(answered),
        failed_locally: failed_locally.min(failed).min(answered),
        // Without a target nothing is slow, whatever the source counted.
        slow: if judges_latency { slow.min(answered) } else { 0.0 },
        latency: latency.filter(|seconds| seconds.is_finite() && *seconds >= 0.0),
    })
}
