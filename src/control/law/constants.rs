//! What doesn't change from step to step: what the operator wrote of a service, and the law's own numbers.
//!
//! Everything is plain `f64`: rates in requests per second, times in seconds. Checked and rounded values are `rules`'
//! affair; what enforces a limit rounds once, at the end.

use std::time::Duration;

use crate::rules::service::{LawConstant, Service};

/// What is constant for one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Law {
    /// Lowest limit, requests per second, above zero.
    pub min: f64,
    /// Highest limit, above `min`.
    pub max: f64,
    /// The limit before anything is known.
    pub start: f64,
    /// Highest share of failed answers, 0.001 to 0.5.
    pub errors: f64,
    /// Highest share of slow answers, if that is judged; above 0 and below 1.
    pub latency: Option<f64>,
    /// Between two decisions, in seconds.
    pub interval: f64,
    /// Between two scrapes of the same target, in seconds.
    pub scrape: f64,
    /// How much later than scraped a proxy's numbers are, in seconds.
    pub flush: f64,
    /// From a decision to its enforcement, in seconds.
    pub propagation: f64,
    /// What becomes of the limit without data.
    pub stale: StaleTerms,
    /// Whether what toppled the service is not tried again soon.
    pub brittle: bool,
    /// Stands for targets and signals: what was learned under another one is forgotten. Below 2^53, so that any JSON
    /// reader keeps it.
    pub fingerprint: u64,
    /// The law's own numbers.
    pub constants: Constants,
}

/// What becomes of the limit without data: it stands for `hold`, then moves to `toward` with time constant `decay`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StaleTerms {
    /// In seconds.
    pub hold: f64,
    /// In seconds.
    pub decay: f64,
    /// In requests per second, within the bounds.
    pub toward: f64,
}

/// The law's own numbers. They were measured together on a simulated plant: leave them alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    /// Ingestion and clock skew, in seconds: what a change's effect is late by, besides propagation and flush.
    pub slack: f64,
    /// Added to two scrapes: a window shorter than that may hold one sample, of which no increase can be taken.
    pub margin: f64,
    /// The window that decides: so many scrapes, and at least so many seconds.
    pub fast: (f64, f64),
    /// The window that has to agree, likewise.
    pub slow: (f64, f64),
    /// The window that serves thin traffic, in seconds.
    pub long: f64,
    /// Answers without which nothing is cut: 5 % of 100 is 5 failures, and below that a ratio proves nothing.
    pub min_answers_to_cut: f64,
    /// Answers without which nothing is raised. Asking 100 cost thin services 2.5 points of goodput.
    pub min_answers_to_raise: f64,
    /// Standard deviations of the Wilson bound that makes a violation certain: one false alarm in about 700 windows at
    /// the target itself.
    pub z: f64,
    /// More answers than this count as this many in that bound, as answers come in correlated lumps.
    pub answers_counted: f64,
    /// The same where a violation is only likely, and for the upper bound of a normal that is learned.
    pub z_soft: f64,
    /// What is left of the completed rate by a cut: 5 % spare lets a queue drain.
    pub cut: f64,
    /// What is left of the limit before a raise when that is taken back.
    pub undo: f64,
    /// What a cut leaves of the limit at most.
    pub cut_at_least: f64,
    /// What is taken from the limit by a cut that is not certain.
    pub nudge: f64,
    /// One step up.
    pub step: f64,
    /// One step up once the knee was passed cleanly.
    pub big_step: f64,
    /// The way back to a rate that was well, in one step.
    pub leap: f64,
    /// How close to the knee the limit waits.
    pub near: f64,
    /// The same after the service toppled, where it is brittle.
    pub near_brittle: f64,
    /// How far past the knee one look goes.
    pub probe: f64,
    /// How long the knee is not looked past, in settles: each look costs one settle of slow answers, so this is what
    /// looking costs, however often the metrics come. Longer memories find capacity that came back later...
    pub memory_settles: f64,
    /// ... and in seconds, at most.
    pub memory: f64,
    /// The same after the service toppled, where it is brittle.
    pub memory_brittle: f64,
    /// From normal to threshold, how much of the way is clean; the rest is the dead band between raise and cut.
    pub clean: f64,
    /// A ratio that is still so much of what it was has not followed the cuts.
    pub same: f64,
    /// Cuts must have taken this much of the admitted rate before they are said to change nothing...
    pub tried: f64,
    /// ... and this much if half or more of the answers failed.
    pub tried_outage: f64,
    /// Cuts after which that may be said of slowness, which lags while a queue drains.
    pub tried_cuts: u32,
    /// Answers that take up to so many times as long as usual are quick, where there is no latency target: who is
    /// overloaded is slow. Errors of quick answers that one cut doesn't change have another cause; others are held
    /// against a second cut.
    pub quick: f64,
    /// A ratio from which a service is down rather than overloaded.
    pub outage: f64,
    /// A ratio that is never learned as normal.
    pub never_normal: f64,
    /// Seconds after which a learned normal is forgotten, doubling each time it is learned again...
    pub relearn: f64,
    /// ... so many times.
    pub relearn_doublings: u32,
    /// Time constant with which a normal follows a falling ratio, in seconds.
    pub normal_falls: f64,
    /// A normal below this share of the target is none.
    pub normal_least: f64,
    /// Seconds for which a clean rate is remembered.
    pub good_for: f64,
    /// Time constant of the usual latency, in seconds.
    pub usual_latency: f64,
    /// Of the latency above the usual, what a cut makes room for to drain within one settle...
    pub drain: f64,
    /// ... at most.
    pub drain_max: f64,
    /// Seconds after which a limit that nobody uses opens slowly.
    pub idle: f64,
    /// How much of itself it opens by in a minute.
    pub drift: f64,
    /// Offered more than so many times the admitted, and a little more, is held back by the limit.
    pub refusing: (f64, f64),
    /// Admitted more than this share of the limit is held back by it soon.
    pub used: f64,
    /// Admitted less than so many a second: nobody asks the service, and no data is as it should be.
    pub nobody: f64,
}

// === impl Law ===

impl Law {
    /// The law of a service whose metrics are scraped every `scrape`.
    #[must_use]
    pub fn of(service: &Service, scrape: Duration) -> Law {
        let (targets, stale) = (&service.targets, &service.stale);
        Law {
            min: service.bounds.min.per_second(),
            max: service.bounds.max.per_second(),
            start: service.start.per_second(),
            errors: targets.errors,
            latency: targets.latency.map(|latency| latency.at_most),
            interval: service.interval.as_secs_f64(),
            scrape: scrape.as_secs_f64(),
            flush: service.flush.as_secs_f64(),
            propagation: service.propagation.as_secs_f64(),
            stale: StaleTerms {
                hold: stale.hold.as_secs_f64(),
                decay: stale.decay.as_secs_f64(),
                toward: stale.toward.per_second(),
            },
            brittle: service.brittle,
            fingerprint: fingerprint(&format!("{targets:?} {:?}", service.source)),
            constants: Constants::with(&service.law),
        }
    }

    /// Seconds from a change until answers can show it: enforcement, flush, ingestion.
    pub(super) fn lead(&self) -> f64 {
        self.propagation + self.flush + self.constants.slack
    }

    /// The shortest window in which an increase can be taken, in seconds.
    pub(super) fn newest(&self) -> f64 {
        2.0 * self.scrape + self.constants.margin
    }

    /// The window that decides, when the last change is long ago, in seconds.
    pub(super) fn fast(&self) -> f64 {
        let (scrapes, at_least) = self.constants.fast;
        // An operator may have written less, and no window is shorter than the shortest.
        (scrapes * self.scrape).max(at_least).max(self.newest())
    }

    /// The window that has to agree, when the last change is long ago, in seconds.
    pub(super) fn slow(&self) -> f64 {
        let (scrapes, at_least) = self.constants.slow;
        (scrapes * self.scrape).max(at_least).max(self.fast())
    }

    /// Seconds from a change until the metrics can show it: two scrapes must lie after it.
    #[must_use]
    pub fn settle(&self) -> f64 {
        self.lead() + self.newest()
    }

    /// Seconds for which a knee is not looked past. After a brittle service toppled there it is long.
    pub(super) fn memory(&self, is_toppled: bool) -> f64 {
        let constants = &self.constants;
        if self.brittle && is_toppled {
            return constants.memory_brittle;
        }
        (constants.memory_settles * self.settle().max(self.interval)).min(constants.memory)
    }

    /// A rate brought within the bounds. What is no number is the lower bound.
    pub(super) fn within_bounds(&self, rate: f64) -> f64 {
        // `max` first: it drops what is no number.
        rate.max(self.min).min(self.max)
    }
}

// === impl Constants ===

impl Constants {
    /// The measured ones but for those that the operator sets.
    #[must_use]
    pub fn with(numbers: &[(LawConstant, f64)]) -> Constants {
        numbers.iter().fold(Constants::default(), |constants, (constant, number)| constants.set(*constant, *number))
    }

    fn set(mut self, constant: LawConstant, number: f64) -> Constants {
        let place = match constant {
            LawConstant::Slack => &mut self.slack,
            LawConstant::Fast => &mut self.fast.1,
            LawConstant::FastScrapes => &mut self.fast.0,
            LawConstant::Slow => &mut self.slow.1,
            LawConstant::SlowScrapes => &mut self.slow.0,
            LawConstant::Long => &mut self.long,
            LawConstant::MinAnswersToCut => &mut self.min_answers_to_cut,
            LawConstant::MinAnswersToRaise => &mut self.min_answers_to_raise,
            LawConstant::Z => &mut self.z,
            LawConstant::ZSoft => &mut self.z_soft,
            LawConstant::Cut => &mut self.cut,
            LawConstant::Nudge => &mut self.nudge,
            LawConstant::Step => &mut self.step,
            LawConstant::BigStep => &mut self.big_step,
            LawConstant::Leap => &mut self.leap,
            LawConstant::Near => &mut self.near,
            LawConstant::NearBrittle => &mut self.near_brittle,
            LawConstant::Probe => &mut self.probe,
            LawConstant::MemorySettles => &mut self.memory_settles,
            LawConstant::Memory => &mut self.memory,
            LawConstant::MemoryBrittle => &mut self.memory_brittle,
            LawConstant::Clean => &mut self.clean,
            LawConstant::Same => &mut self.same,
            LawConstant::Relearn => &mut self.relearn,
            LawConstant::RelearnDoublings => {
                self.relearn_doublings = number as u32;
                return self;
            }
            LawConstant::Idle => &mut self.idle,
            LawConstant::Drift => &mut self.drift,
        };
        *place = number;
        self
    }
}

/// FNV-1a, cut to 53 bits. Should an upgrade change what it is taken of, normals are learned anew, and nothing else.
fn fingerprint(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash >> 11
}

impl Default for Constants {
    fn default() -> Constants {
        Constants {
            slack: 1.5,
            margin: 1.0,
            fast: (3.0, 15.0),
            slow: (8.0, 60.0),
            long: 300.0,
            min_answers_to_cut: 100.0,
            min_answers_to_raise: 20.0,
            z: 3.0,
            answers_counted: 1_000.0,
            z_soft: 1.0,
            cut: 0.95,
            undo: 0.95,
            cut_at_least: 0.96,
            nudge: 0.04,
            step: 0.1,
            big_step: 0.5,
            leap: 2.0,
            near: 0.97,
            near_brittle: 0.85,
            probe: 0.03,
            memory_settles: 7.0,
            memory: 120.0,
            memory_brittle: 600.0,
            clean: 0.7,
            same: 0.7,
            tried: 0.92,
            tried_outage: 0.35,
            tried_cuts: 3,
            quick: 1.5,
            outage: 0.5,
            never_normal: 0.9,
            relearn: 900.0,
            relearn_doublings: 4,
            normal_falls: 300.0,
            normal_least: 0.2,
            good_for: 900.0,
            usual_latency: 60.0,
            drain: 0.6,
            drain_max: 0.5,
            idle: 600.0,
            drift: 0.05,
            refusing: (1.01, 0.2),
            used: 0.8,
            nobody: 0.5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_constant_sets_a_number_of_its_own_and_no_two_the_same() {
        let all: Vec<Constants> = LawConstant::ALL
            .iter()
            .map(|constant| {
                let (lowest, highest) = constant.range();
                let [low, high] = [lowest, highest].map(|number| Constants::with(&[(*constant, number)]));
                assert!(low != high, "{}", constant.name());
                if low == Constants::default() { high } else { low }
            })
            .collect();
        for (index, one) in all.iter().enumerate() {
            assert!(*one != Constants::default() && !all[..index].contains(one), "{}", LawConstant::ALL[index].name());
        }
    }
}
