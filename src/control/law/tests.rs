//! What the tests of the law share: a service, and samples of it.

use super::{Admitted, Law, Observation, StaleTerms, State, windows};
use crate::clock::Timestamp;
use crate::signal::{Absence, AbsenceKind, Counts, Sample};

/// 25 to 500 requests per second, at most 5 % errors and 10 % slow, scraped and judged every 5 s.
pub(super) fn law() -> Law {
    Law {
        min: 25.0,
        max: 500.0,
        start: 500.0,
        errors: 0.05,
        latency: Some(0.1),
        interval: 5.0,
        scrape: 5.0,
        flush: 0.0,
        propagation: 1.0,
        stale: StaleTerms { hold: 600.0, decay: 600.0, toward: 500.0 },
        brittle: false,
        fingerprint: 1,
        constants: super::Constants::default(),
    }
}

/// What is said of a service that answers at a steady rate, of which these shares fail and are slow; `None` while the
/// state settles.
pub(super) fn sample(state: &State, law: &Law, at: Timestamp, rate: f64, failed: f64, slow: f64) -> Option<Sample> {
    let windows = windows(state, law, at)?;
    let counts = |length: std::time::Duration| {
        let answered = rate * length.as_secs_f64();
        Ok(Counts { answered, failed: answered * failed, failed_locally: 0.0, slow: answered * slow, latency: None })
    };
    Some(Sample::of(at, windows, counts))
}

/// A question that failed.
pub(super) fn absent(state: &State, law: &Law, at: Timestamp, kind: AbsenceKind) -> Option<Sample> {
    let windows = windows(state, law, at)?;
    Some(Sample::absent(at, windows, &Absence::new(kind, "no answer")))
}

/// The same rate admitted in every window.
pub(super) fn observe(sample: Option<Sample>, offered: f64, admitted: f64) -> Observation {
    let admitted_in = Admitted { newest: admitted, fast: admitted, slow: admitted, long: admitted };
    Observation { sample, offered, admitted, admitted_in }
}
