//! The metrics: counters of several instances, scraped, stored and summed up as Prometheus does.
//!
//! What a law gets to see differs from what happened in the same ways as in earnest: scrapes come at phases of their
//! own and some are lost, samples are stored a little late, counters start anew, and `increase` takes two samples at
//! least and extrapolates from them to the window's edges.

use std::collections::VecDeque;

use super::chance::Chance;
use super::service::Outcome;
use crate::signal::{Absence, AbsenceKind, Counts};

/// How the metrics come about.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsTerms {
    /// Seconds between two scrapes of an instance.
    pub scrape: f64,
    /// Seconds from a scrape to the instant at which it can be asked for.
    pub ingestion: f64,
    /// Share of scrapes that are lost.
    pub lost: f64,
    /// When what goes wrong.
    pub faults: Vec<Fault>,
    /// Instants at which an instance starts anew, in seconds.
    pub resets: Vec<f64>,
}

/// Something goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// From this second on,
    pub from: f64,
    /// until this one.
    pub until: f64,
    /// What.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Nobody answers.
    Unreachable,
    /// The answers are no numbers.
    NotANumber,
    /// Nothing is scraped.
    Gap,
}

/// The counters and what was scraped of them.
#[derive(Clone, Debug)]
pub struct Metrics {
    terms: MetricsTerms,
    instances: [Instance; INSTANCES],
}

/// Instances among which answers are dealt.
const INSTANCES: usize = 3;

/// Seconds for which samples are kept: the longest window, and slow scrapes of it.
const KEPT_S: f64 = 700.0;

#[derive(Clone, Debug, Default)]
struct Instance {
    counters: Counters,
    samples: VecDeque<(f64, Counters)>,
}

/// What an instance counts.
#[derive(Clone, Copy, Debug, Default)]
struct Counters([f64; 4]);

// === impl MetricsTerms ===

impl MetricsTerms {
    /// One scrape in a hundred is lost, and nothing else goes wrong.
    #[must_use]
    pub fn plain(scrape: f64) -> MetricsTerms {
        MetricsTerms { scrape, ingestion: 0.3, lost: 0.01, faults: Vec::new(), resets: Vec::new() }
    }
}

// === impl Metrics ===

impl Metrics {
    /// Nothing was counted yet.
    #[must_use]
    pub fn new(terms: MetricsTerms) -> Metrics {
        Metrics { terms, instances: Default::default() }
    }

    /// Counts one second's answers, which end at `seconds`, and scrapes whose turn it is.
    pub fn count(&mut self, seconds: f64, outcome: &Outcome, chance: &mut Chance) {
        let Outcome { answered, failed, slow, latency, .. } = *outcome;
        let is_gap = self.has(FaultKind::Gap, seconds);
        let begins = self.terms.resets.iter().filter(|at| **at <= seconds && seconds < **at + 1.0).count() > 0;
        let mut rest = 1.0;
        for (index, instance) in self.instances.iter_mut().enumerate() {
            // A third each, roughly: the shares of three add up to one.
            let share = if index + 1 == INSTANCES { rest } else { chance.between(0.28, 0.38) };
            rest -= share;
            for (counter, more) in instance.counters.0.iter_mut().zip([answered, failed, slow, answered * latency]) {
                *counter += more * share;
            }
            if begins && index == 0 {
                instance.counters = Counters::default();
            }
            let phase = (self.terms.scrape * index as f64 / INSTANCES as f64).round();
            let is_due = (seconds - phase).rem_euclid(self.terms.scrape) < 1.0;
            if is_due && chance.share() >= self.terms.lost && !is_gap {
                instance.samples.push_back((seconds, instance.counters));
            }
            while instance.samples.front().is_some_and(|(at, _)| *at < seconds - KEPT_S) {
                instance.samples.pop_front();
            }
        }
    }

    /// What a window of this length holds that ends now.
    ///
    /// # Errors
    /// Why there is nothing that could be believed; `oldest` is the age from which the newest sample is not.
    pub fn window(&self, now: f64, length: f64, oldest: f64) -> Result<Counts, Absence> {
        if self.has(FaultKind::Unreachable, now) {
            return Err(Absence::new(AbsenceKind::Unreachable, "nobody answers"));
        }
        if self.has(FaultKind::NotANumber, now) {
            return Err(Absence::new(AbsenceKind::Invalid, "the answer is NaN"));
        }
        let visible = now - self.terms.ingestion;
        let newest = self.instances.iter().filter_map(|instance| instance.newest(visible)).fold(0.0, f64::max);
        if now - newest > oldest {
            let age = now - newest;
            return Err(Absence::new(AbsenceKind::Stale, format!("the newest sample is {age:.0} s old")));
        }
        let increases = self.instances.iter().filter_map(|instance| instance.increase(now, length, visible));
        let sums = increases.reduce(|one, two| std::array::from_fn(|index| one[index] + two[index]));
        let Some([answered, failed, slow, time]) = sums else {
            return Err(Absence::new(AbsenceKind::Empty, "no series has two samples in the window"));
        };
        let latency = (answered > 0.0).then(|| time / answered);
        Ok(Counts { answered, failed: failed.min(answered), failed_locally: 0.0, slow: slow.min(answered), latency })
    }

    fn has(&self, kind: FaultKind, seconds: f64) -> bool {
        self.terms.faults.iter().any(|fault| fault.kind == kind && fault.from <= seconds && seconds < fault.until)
    }
}

// === impl Instance ===

impl Instance {
    fn newest(&self, visible: f64) -> Option<f64> {
        self.samples.iter().rev().map(|(at, _)| *at).find(|at| *at <= visible)
    }

    /// Prometheus's `increase` of each counter, if there are two samples.
    fn increase(&self, now: f64, length: f64, visible: f64) -> Option<[f64; 4]> {
        let begin = now - length;
        let is_in = |at: f64| at > begin && at <= now && at <= visible;
        let samples: Vec<(f64, [f64; 4])> =
            self.samples.iter().filter(|(at, _)| is_in(*at)).map(|(at, counters)| (*at, counters.0)).collect();
        increase(&samples, begin, now)
    }
}

/// What Prometheus's `increase` makes of the samples of a window, counter by counter; `None` of fewer than two.
#[must_use]
pub fn increase<const N: usize>(samples: &[(f64, [f64; N])], begin: f64, end: f64) -> Option<[f64; N]> {
    let (first, last) = (samples.first()?, samples.last()?);
    let sampled = last.0 - first.0;
    if samples.len() < 2 || sampled <= 0.0 {
        return None;
    }
    let between = sampled / (samples.len() - 1) as f64;
    // To an edge that is near it is extrapolated, else by half of what lies between two samples.
    let towards = |gap: f64| if gap < between * 1.1 { gap } else { between / 2.0 };
    let of = |index: usize| {
        let mut increase = last.1[index] - first.1[index];
        for pair in samples.windows(2) {
            if pair[1].1[index] < pair[0].1[index] {
                increase += pair[0].1[index];
            }
        }
        let mut before = first.0 - begin;
        // No counter was below zero.
        if increase > 0.0 {
            before = before.min(sampled * first.1[index] / increase);
        }
        increase * (sampled + towards(before) + towards(end - last.0)) / sampled
    };
    Some(std::array::from_fn(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(terms: MetricsTerms, seconds: u32, rate: f64) -> Metrics {
        let (mut metrics, mut chance) = (Metrics::new(terms), Chance::new(1));
        for second in 1..=seconds {
            let failed = rate / 10.0;
            let outcome = Outcome { answered: rate, failed, slow: 0.0, latency: 0.1, ..Outcome::default() };
            metrics.count(f64::from(second), &outcome, &mut chance);
        }
        metrics
    }

    #[test]
    fn a_steady_rate_is_seen_as_what_it_is() {
        let metrics = run(MetricsTerms { lost: 0.0, ..MetricsTerms::plain(5.0) }, 600, 100.0);
        for length in [11.0, 15.0, 60.0, 300.0] {
            let counts = metrics.window(600.0, length, 15.0).unwrap();
            assert!((counts.answered / (100.0 * length) - 1.0).abs() < 0.06, "{length}: {counts:?}");
            assert!((counts.error_ratio() - 0.1).abs() < 1e-9 && (counts.latency.unwrap() - 0.1).abs() < 1e-9);
        }
    }

    #[test]
    fn a_reset_is_no_fall_and_one_sample_is_none() {
        let terms = MetricsTerms { lost: 0.0, resets: vec![570.0], ..MetricsTerms::plain(5.0) };
        let counts = run(terms, 600, 100.0).window(600.0, 60.0, 15.0).unwrap();
        assert!((counts.answered / 6_000.0 - 1.0).abs() < 0.06, "{counts:?}");
        let metrics = run(MetricsTerms { lost: 0.0, ..MetricsTerms::plain(5.0) }, 600, 100.0);
        assert_eq!(metrics.window(600.0, 4.0, 15.0).unwrap_err().kind, AbsenceKind::Empty);
    }

    #[test]
    fn faults_are_told_apart() {
        let fault = |kind| Fault { from: 500.0, until: 700.0, kind };
        for (kind, seen) in [
            (FaultKind::Unreachable, AbsenceKind::Unreachable),
            (FaultKind::NotANumber, AbsenceKind::Invalid),
            (FaultKind::Gap, AbsenceKind::Stale),
        ] {
            let metrics = run(MetricsTerms { faults: vec![fault(kind)], ..MetricsTerms::plain(5.0) }, 600, 100.0);
            assert_eq!(metrics.window(600.0, 60.0, 15.0).unwrap_err().kind, seen);
        }
    }
}
