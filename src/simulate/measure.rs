//! What a run is worth, in six figures.
//!
//! The standard is an oracle that admits min(demand, capacity) in each second, with the errors that come whatever the
//! load. So 100 % of its goodput can't be had: it knows the capacity.

use std::ops::Range;

use super::run::{Run, Second};

/// Six figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// Goodput in the disturbance, % of the oracle's.
    pub goodput: f64,
    /// Seconds in the disturbance with more useless answers than the target allows on top of what always fails, %.
    pub violated: f64,
    /// Seconds from the disturbance's begin to the first good 5 s; to its end if there are none.
    pub protected: f64,
    /// Seconds from its end to the first 30 s at 95 % of the oracle's goodput; to the run's end if there are none.
    pub recovered: f64,
    /// Requests refused while the demand is below 0.9 of the capacity, %.
    pub refused_calm: f64,
    /// Cuts of 3 % or more.
    pub cuts: f64,
    /// Useless answers among all in the disturbance, above what always fails, %.
    pub passed: f64,
}

/// Seconds that must be good for the service to be protected, and to be recovered.
const GOOD_S: usize = 5;
const RECOVERED_S: usize = 30;

/// Share of the oracle's goodput that is recovered.
const RECOVERED: f64 = 0.95;

/// Below this share of the capacity a demand is calm.
const CALM: f64 = 0.9;

// === impl Measures ===

impl Measures {
    /// The figures of a run, for a disturbance in seconds and a target share of errors.
    #[must_use]
    pub fn of(run: &Run, disturbance: (f64, f64), target: f64) -> Measures {
        let all = &run.seconds;
        let index = |seconds: f64| (seconds.max(0.0) as usize).min(all.len());
        let during = index(disturbance.0)..index(disturbance.1);
        let is_bad = |second: usize| is_over(&all[second..=second], target);
        let seconds = during.len().max(1) as f64;
        Measures {
            goodput: goodput(&all[during.clone()]) * 100.0,
            violated: during.clone().filter(|second| is_bad(*second)).count() as f64 / seconds * 100.0,
            protected: protected(all, during.clone(), target),
            recovered: first(all, during.end..all.len(), RECOVERED_S, |part| goodput(part) >= RECOVERED),
            refused_calm: refused_calm(all) * 100.0,
            cuts: run.cuts() as f64,
            passed: passed(&all[during]) * 100.0,
        }
    }

    /// The seconds from an instant to the first good 5 s.
    #[must_use]
    pub fn protected_after(run: &Run, from: f64, until: f64, target: f64) -> f64 {
        protected(&run.seconds, from as usize..until as usize, target)
    }

    /// Means, and the worst of what is a worst.
    #[must_use]
    pub fn mean(all: &[Measures]) -> Measures {
        let mean = |of: fn(&Measures) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Measures {
            goodput: mean(|one| one.goodput),
            violated: mean(|one| one.violated),
            protected: all.iter().map(|one| one.protected).fold(0.0, f64::max),
            recovered: mean(|one| one.recovered),
            refused_calm: mean(|one| one.refused_calm),
            cuts: mean(|one| one.cuts),
            passed: mean(|one| one.passed),
        }
    }
}

/// What the oracle would get done in a second.
fn oracle(second: &Second) -> f64 {
    second.demand.min(second.capacity) * (1.0 - second.errors)
}

/// Goodput as a share of the oracle's; 1 where even that has none.
fn goodput(seconds: &[Second]) -> f64 {
    let best: f64 = seconds.iter().map(oracle).sum();
    let good: f64 = seconds.iter().map(|second| second.good).sum();
    if best > 0.0 { good / best } else { 1.0 }
}

/// Whether more answers were useless than the target allows on top of what fails anyway.
fn is_over(seconds: &[Second], target: f64) -> bool {
    let answered: f64 = seconds.iter().map(|second| second.answered).sum();
    let bad: f64 = seconds.iter().map(|second| second.bad).sum();
    let usual = seconds.iter().map(|second| second.errors).fold(0.0, f64::max);
    bad > answered * (1.0 - (1.0 - usual) * (1.0 - target))
}

/// Useless answers above what always fails, as a share.
fn passed(seconds: &[Second]) -> f64 {
    let answered: f64 = seconds.iter().map(|second| second.answered).sum();
    let above: f64 = seconds.iter().map(|second| second.bad - second.answered * second.errors).sum();
    if answered > 0.0 { (above / answered).max(0.0) } else { 0.0 }
}

fn protected(all: &[Second], during: Range<usize>, target: f64) -> f64 {
    first(all, during, GOOD_S, |part| !is_over(part, target))
}

/// Seconds from the range's begin to the first part of this length that is as wanted; its whole length if none is.
fn first(all: &[Second], range: Range<usize>, length: usize, is_wanted: impl Fn(&[Second]) -> bool) -> f64 {
    let starts = range.start..range.end.saturating_sub(length - 1).max(range.start);
    let found = starts.clone().find(|start| is_wanted(&all[*start..(start + length).min(all.len())]));
    found.map_or(range.len(), |start| start - range.start) as f64
}

fn refused_calm(all: &[Second]) -> f64 {
    let calm = all.iter().filter(|second| second.demand < CALM * second.capacity);
    let (offered, admitted) =
        calm.fold((0.0, 0.0), |(offered, admitted), one| (offered + one.offered, admitted + one.admitted));
    if offered > 0.0 { (offered - admitted) / offered } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: usize, good: f64, bad: f64) -> Second {
        Second {
            at: at as f64,
            demand: 100.0,
            offered: 100.0,
            admitted: 100.0,
            good,
            answered: good + bad,
            bad,
            slow: 0.0,
            latency: 0.05,
            limit: 200.0,
            capacity: 200.0,
            left: 200.0,
            errors: 0.0,
        }
    }

    #[test]
    fn the_figures_are_what_they_say() {
        let seconds = (0..200).map(|at| match at {
            100..110 => second(at, 40.0, 60.0),
            110..150 => second(at, 80.0, 0.0),
            150..160 => second(at, 90.0, 0.0),
            _ => second(at, 100.0, 0.0),
        });
        let run = Run { seconds: seconds.collect(), decisions: Vec::new() };
        let measures = Measures::of(&run, (100.0, 150.0), 0.05);
        assert_eq!(measures.goodput, (10.0 * 40.0 + 40.0 * 80.0) / 50.0);
        assert_eq!(measures.protected, 10.0);
        assert_eq!(measures.violated, 10.0 / 50.0 * 100.0);
        // 30 s of which 15 are at 90 %: 95 % on average.
        assert_eq!(measures.recovered, 0.0);
        assert_eq!(measures.refused_calm, 0.0);
    }
}
