//! A decision in one sentence, with the numbers behind it.
//!
//! `500 → 212/s (cut): 31.2 % errors of 1840 answers in 15 s, target 5 %; completed 224/s`

use std::fmt;

use super::decision::{Action, Cause, Decision, Judged, Would};
use super::format::{percent, rate, seconds};
use crate::signal::Signal;

impl Decision {
    /// The decision in one sentence without a full stop.
    #[must_use]
    pub fn sentence(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_change() {
            write!(f, "{} → {}/s ({})", rate(self.from), rate(self.to), self.action.name())?;
        } else {
            write!(f, "{}/s ({})", rate(self.to), self.action.name())?;
        }
        let mut parts: Vec<String> = vec![self.why()];
        if !self.judged.is_empty() {
            let numbers = self.numbers();
            // What is over its target speaks for itself.
            if self.is_over_target() { parts = vec![numbers] } else { parts.push(numbers) }
        }
        parts.extend(self.consequence());
        if let Some(absence) = &self.absence {
            parts.push(absence.clone());
        }
        if (self.wanted - self.to).abs() > 1e-9 * self.to {
            let bound = if self.wanted > self.to { "upper" } else { "lower" };
            parts.push(format!("the law asked for {}/s, {} is the {bound} bound", rate(self.wanted), rate(self.to)));
        }
        parts.extend(self.would.map(|would| would.to_string()));
        write!(f, ": {}", parts.join("; "))
    }
}

impl fmt::Display for Would {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to, action) = (rate(self.to), self.action.name());
        match (self.is_over, self.seconds) {
            (true, lasted) => {
                write!(f, "no longer would the law set {to}/s ({action}); that lasted {}", seconds(lasted))
            }
            (false, 0.0) => write!(f, "the law would set {to}/s ({action})"),
            (false, lasting) => write!(f, "the law would have set {to}/s ({action}) {} ago", seconds(lasting)),
        }
    }
}

// === impl Decision ===

impl Decision {
    fn is_over_target(&self) -> bool {
        matches!(self.cause, Cause::OverTarget) && self.judged.iter().any(|judged| judged.is_bad)
    }

    /// The signals: what is bad first, in full; the rest shortly.
    fn numbers(&self) -> String {
        let mut signals: Vec<&Judged> = self.judged.iter().collect();
        signals.sort_by_key(|judged| !judged.is_bad);
        let text = |(index, judged): (usize, &&Judged)| {
            let word = match judged.signal {
                Signal::Errors => "errors",
                Signal::Latency => "slow",
            };
            let of = if index == 0 {
                format!(" of {:.0} answers in {}", judged.answered, seconds(judged.window))
            } else {
                String::new()
            };
            let locally = if judged.locally >= 0.000_5 {
                format!(" ({} % from the proxy itself: breaker or no healthy host)", percent(judged.locally))
            } else {
                String::new()
            };
            format!("{} % {word}{locally}{of}, {}", percent(judged.ratio), target(judged))
        };
        signals.iter().enumerate().map(text).collect::<Vec<_>>().join(", ")
    }

    /// What follows from the numbers.
    fn consequence(&self) -> Option<String> {
        let completed = || Some(format!("completed {}/s", rate(self.completed?)));
        match self.cause {
            Cause::OverTarget | Cause::SlightlyOverTarget | Cause::RaiseMadeWorse | Cause::AtFloor => completed(),
            Cause::Probe | Cause::AtKnee | Cause::UpToKnee => {
                let knee = self.knee?;
                Some(format!("it went badly at {}/s, {} ago", rate(knee.rate), seconds(knee.age)))
            }
            Cause::Settling => Some(format!("{} to go", seconds(self.settle_left?))),
            Cause::Unused => Some(format!("{}/s passed", rate(self.admitted))),
            _ => None,
        }
    }

    fn why(&self) -> String {
        let why = match self.cause {
            Cause::Open => "all is well at the upper bound",
            Cause::Settling => "the metrics can't show the last change yet",
            Cause::Filling => "the window still fills after the last cut",
            Cause::NearTarget => "below the target, but too near to it for a raise",
            Cause::FewAnswers => "too few answers to prove anything",
            Cause::Unused => "the limit holds nothing back",
            Cause::UnusedLong => "the limit has held nothing back for long and opens slowly",
            Cause::AtKnee => "just below the last rate that went badly",
            Cause::Probe => "all is well, a look past the last rate that went badly",
            Cause::Leap => "all is well, back towards a rate that was well lately",
            Cause::Step => "all is well, one step up",
            Cause::UpToKnee => "all is well, up to just below the last rate that went badly",
            Cause::OverTarget => "over the target",
            Cause::SlightlyOverTarget => "over the target, though not for certain",
            Cause::RaiseMadeWorse => "the last raise made it worse",
            Cause::RaiseUnconfirmed => "no data came to confirm the last raise",
            Cause::CutsChangeNothing => {
                "cuts changed nothing, so load is not the cause and this counts as normal for now"
            }
            Cause::AtFloor => "over the target, and already at the lower bound",
            Cause::NothingNew => "the metrics have nothing new",
            Cause::Idle => "no data, and nobody asks the service",
            Cause::NoData => "no data",
            Cause::NoDataLong => "no data for long, the limit moves to where it is wanted then",
            Cause::Frozen => "an operator froze the limit",
            Cause::Overridden => "an operator set the limit",
            Cause::Resumed => "the operator's hand is off, the law goes on",
            Cause::Off => "the mode is off",
            Cause::BoundsChanged => "the bounds were changed",
            Cause::Started => "nothing is known of the service yet",
        };
        why.to_owned()
    }
}

/// What a signal is held against.
fn target(judged: &Judged) -> String {
    if judged.normal == 0.0 {
        return format!("target {} %", percent(judged.threshold));
    }
    let target = 1.0 - (1.0 - judged.threshold) / (1.0 - judged.normal);
    let (threshold, normal) = (percent(judged.threshold), percent(judged.normal));
    format!("threshold {threshold} % (target {} % on top of the normal {normal} %)", percent(target))
}

// === impl Action ===

impl Action {
    /// Whether it lowers a limit.
    #[must_use]
    pub const fn is_lowering(self) -> bool {
        matches!(self, Action::Cut | Action::Undo)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{law, observe, sample};
    use super::super::{State, step};
    use crate::clock::Timestamp;

    #[test]
    fn a_cut_is_told_with_its_numbers() {
        let law = super::super::Law { max: 500.0, start: 500.0, ..law() };
        let state = State::start(&law, Timestamp::from_millis(0));
        let now = Timestamp::from_millis(1_000_000);
        let seen = observe(sample(&state, &law, now, 122.7, 0.312, 0.02), 600.0, 326.0);
        let (_, decision) = step(&state, &law, &seen, now);
        assert_eq!(
            decision.sentence(),
            "500 → 213/s (cut): 31.2 % errors of 1350 answers in 11 s, target 5 %, 2 % slow, target 10 %; \
             completed 224/s"
        );
    }

    #[test]
    fn a_clamped_cut_names_the_bound() {
        let law = law();
        let state = State::start(&law, Timestamp::from_millis(0));
        let now = Timestamp::from_millis(1_000_000);
        let seen = observe(sample(&state, &law, now, 300.0, 1.0, 0.0), 300.0, 300.0);
        let (_, decision) = step(&state, &law, &seen, now);
        assert!(decision.sentence().ends_with("the law asked for 0/s, 25 is the lower bound"), "{decision}");
    }
}
