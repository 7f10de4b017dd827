//! The service: a bounded queue before a capacity that can break down in several ways.

use super::chance::Chance;
use super::course::Course;
use super::latency::{Latency, ServiceTime};

/// How a service behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceTerms {
    /// Requests that it can do in a second, over time.
    pub capacity: Course,
    /// Share of answers that fail whatever the load, over time.
    pub errors: Course,
    /// Seconds of work that may wait; beyond it requests fail at once.
    pub queue: f64,
    /// Seconds after which nobody wants the answer any more, and the work was wasted.
    pub deadline: f64,
    /// How long the work takes.
    pub work: ServiceTime,
    /// Seconds from which an answer is slow.
    pub slow_above: f64,
    /// Under more load than capacity it does less: capacity × max(0.05, 1 − this × (load ÷ capacity − 1)).
    pub collapse: f64,
    /// Missed deadlines are slow answers in the metrics, not failed ones.
    pub is_silent: bool,
    /// It topples: after 8 s above 1.25 times the capacity it loses 6 % a second, down to 40 %, and heals 1 % a second
    /// only below nine tenths of what is left.
    pub is_metastable: bool,
    /// Share of the failed requests that come again a second later.
    pub retries: f64,
}

/// What became of one second's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Answers, failed ones included.
    pub answered: f64,
    /// Of those, the ones that clients can use: not failed and in time.
    pub good: f64,
    /// Answers that failed, as the metrics have it.
    pub failed: f64,
    /// Answers that took too long, as the metrics have it.
    pub slow: f64,
    /// Mean time of an answer in seconds.
    pub latency: f64,
    /// Failed requests that come again in the next second.
    pub retried: f64,
    /// What it could do in this second.
    pub capacity: f64,
}

/// A service in the middle of its history.
#[derive(Clone, Debug)]
pub struct Service {
    terms: ServiceTerms,
    backlog: f64,
    /// Load smoothed over two seconds.
    load: f64,
    /// Seconds above 1.25 times the capacity in a row.
    strained: f64,
    /// What toppling has left of the capacity.
    left: f64,
}

/// Least of the capacity that a collapse leaves.
const COLLAPSED: f64 = 0.05;

/// How a metastable service topples and heals.
const STRAIN: f64 = 1.25;
const STRAIN_S: f64 = 8.0;
const FALL: f64 = 0.06;
const FALLEN: f64 = 0.4;
const HEAL: f64 = 0.01;
const HEALS_BELOW: f64 = 0.9;

/// What refusing at once takes, in seconds.
const AT_ONCE: f64 = 0.002;

// === impl ServiceTerms ===

impl ServiceTerms {
    /// A plain service: sheds what it can't do after 0.3 s of queue, and 0.2 % of its answers fail.
    #[must_use]
    pub fn plain(capacity: Course) -> ServiceTerms {
        ServiceTerms {
            capacity,
            errors: Course::constant(0.002),
            queue: 0.3,
            deadline: 2.0,
            work: ServiceTime { median: 0.05, sigma: 0.5 },
            slow_above: 0.25,
            collapse: 0.0,
            is_silent: false,
            is_metastable: false,
            retries: 0.0,
        }
    }
}

// === impl Service ===

impl Service {
    /// A service that has nothing to do.
    #[must_use]
    pub fn new(terms: ServiceTerms) -> Service {
        Service { terms, backlog: 0.0, load: 0.0, strained: 0.0, left: 1.0 }
    }

    /// One second, from `seconds` on, in which so many requests come in: evenly if a gate paces them.
    pub fn serve(&mut self, seconds: f64, (arrived, is_paced): (f64, bool), chance: &mut Chance) -> Outcome {
        let whole = self.terms.capacity.at(seconds);
        self.load += (arrived - self.load) / 2.0;
        let capacity = self.capacity(whole);

        let waiting = self.backlog + arrived;
        let served = waiting.min(capacity);
        let bound = self.terms.queue * capacity;
        let left = waiting - served;
        let overflowed = (left - bound).max(0.0);
        let queued_before = self.backlog.min(bound);
        self.backlog = left - overflowed;

        let queued = if capacity > 0.0 { (queued_before + self.backlog) / 2.0 / capacity } else { 0.0 };
        // The formula knows of chance within seconds, so it is asked for the smoothed load; and nobody waits longer than
        // the queue is.
        let waited = self.terms.work.wait(self.load, capacity, is_paced).min((self.terms.queue - queued).max(0.0));
        let latency = Latency { queued, waited, work: self.terms.work };
        let late = chance.binomial(served, latency.longer_than(self.terms.deadline));
        let failed = chance.binomial(served - late, self.terms.errors.at(seconds));
        let slow = (chance.binomial(served, latency.longer_than(self.terms.slow_above))).max(late);

        let answered = served + overflowed;
        let lost = if self.terms.is_silent { failed + overflowed } else { failed + overflowed + late };
        let mean = if answered > 0.0 { (served * latency.mean() + overflowed * AT_ONCE) / answered } else { 0.0 };
        Outcome {
            answered,
            good: served - late - failed,
            failed: lost,
            slow,
            latency: mean,
            retried: (failed + overflowed + late) * self.terms.retries,
            capacity,
        }
    }

    /// What it can do in this second, of the whole.
    fn capacity(&mut self, whole: f64) -> f64 {
        if self.terms.is_metastable && whole > 0.0 {
            self.strained = if self.load > STRAIN * whole { self.strained + 1.0 } else { 0.0 };
            if self.strained > STRAIN_S {
                self.left = (self.left - FALL).max(FALLEN);
            } else if self.load < HEALS_BELOW * whole * self.left {
                self.left = (self.left + HEAL).min(1.0);
            }
        }
        let left = whole * self.left;
        if left <= 0.0 {
            return 0.0;
        }
        left * (1.0 - self.terms.collapse * (self.load / left - 1.0).max(0.0)).max(COLLAPSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean goodput of the last 20 of 60 s under a load.
    fn goodput(terms: ServiceTerms, load: f64) -> f64 {
        let (mut service, mut chance) = (Service::new(terms), Chance::new(1));
        let good = (0..60).map(|second| service.serve(f64::from(second), (load, false), &mut chance).good);
        good.skip(40).sum::<f64>() / 20.0
    }

    #[test]
    fn a_plain_service_does_what_it_can_and_a_collapsing_one_less_under_more_load() {
        let plain = ServiceTerms::plain(Course::constant(100.0));
        assert!((goodput(plain.clone(), 50.0) - 50.0).abs() < 1.0);
        assert!((goodput(plain.clone(), 400.0) - 100.0).abs() < 1.0);
        let collapsing = ServiceTerms { collapse: 0.6, ..plain };
        assert!((goodput(collapsing.clone(), 200.0) - 40.0).abs() < 1.0);
        assert!((goodput(collapsing, 1_000.0) - 5.0).abs() < 1.0);
    }

    #[test]
    fn a_toppled_service_heals_only_when_it_is_left_alone() {
        let terms = ServiceTerms { is_metastable: true, queue: 1.0, ..ServiceTerms::plain(Course::constant(100.0)) };
        let (mut service, mut chance) = (Service::new(terms), Chance::new(1));
        let mut run = |from: u32, to: u32, load: f64| {
            (from..to)
                .map(|second| service.serve(f64::from(second), (load, false), &mut chance).capacity)
                .last()
                .unwrap()
        };
        assert_eq!(run(0, 30, 80.0), 100.0);
        assert_eq!(run(30, 90, 200.0).round(), 40.0);
        assert_eq!(run(90, 200, 80.0).round(), 40.0, "the old load keeps it down");
        assert_eq!(run(200, 300, 30.0), 100.0);
    }

    #[test]
    fn missed_deadlines_are_failures_unless_nobody_notices() {
        let terms = ServiceTerms { queue: 3.0, deadline: 1.0, ..ServiceTerms::plain(Course::constant(100.0)) };
        for is_silent in [false, true] {
            let (mut service, mut chance) = (Service::new(ServiceTerms { is_silent, ..terms.clone() }), Chance::new(1));
            let last =
                (0..60).map(|second| service.serve(f64::from(second), (105.0, false), &mut chance)).last().unwrap();
            assert!(last.good < 1.0 && last.slow > 99.0, "{last:?}");
            assert_eq!(last.failed > 50.0, !is_silent, "{last:?}");
        }
    }
}
