//! Whether the metrics can be those of the service that the gate stands before.
//!
//! A wrong name in the signals, or a Prometheus of another place, answers as freshly and as finely as the right one. Our
//! own counts are the only witness: what passed the gate was answered by somebody. So answers that are **far fewer** than
//! what passed contradict them. More are no contradiction, because others may reach the service past the gate; somewhat
//! fewer aren't either: 4xx are no answers here, a proxy may not be scraped, requests are refused behind the gate, or still
//! wait. Who answers a tenth or more is therefore believed, and the metrics of another service that is asked as much as
//! this one can't be told from its own.
//!
//! What is doubted may lower a limit, and nothing else: a service that hangs answers few as well, and late ones, so the
//! cut that it needs must not be withheld. For all else the doubted answers count as none ([`believed`]).

use std::time::Duration;

use super::law::{Action, Cause, Decision, Observation};
use crate::signal::{Absence, AbsenceKind, Sample};

/// Of the requests that passed the gate, the share that must be found answered.
const ANSWERED_LEAST: f64 = 0.1;

/// Requests that must have passed in a window before it says anything: of so many it is no accident that ten are missing
/// for each that is there. A shorter window that holds them goes before a longer one, which may remember better days.
const PASSED_LEAST: f64 = 100.0;

/// Why the sample can't be that of the service, if it can't. `passed` are the requests that passed the gate in so long
/// until the sample, as far as they were counted; metrics show an answer after `lag` at the latest.
pub(super) fn contradiction(sample: &Sample, lag: Duration, passed: impl Fn(Duration) -> f64) -> Option<Absence> {
    let Sample { windows, fast, slow, long, .. } = sample;
    for (counts, window) in [(fast, windows.fast), (slow, windows.slow), (long, windows.long)] {
        let Ok(counts) = counts else { continue };
        // What has just begun, or just ended, is seen at either end of the lag only.
        let before = passed(window.saturating_add(lag)) - passed(lag);
        let passed = passed(window).min(before);
        if passed >= PASSED_LEAST {
            let reason = || {
                format!(
                    "the metrics are not believed: they have {:.0} answers of {:.0} s, in which {passed:.0} requests passed the \
                     gate",
                    counts.answered,
                    window.as_secs_f64()
                )
            };
            let is_few = counts.answered < ANSWERED_LEAST * passed;
            return is_few.then(|| Absence::new(AbsenceKind::Implausible, reason()));
        }
    }
    None
}

/// What is believed of an observation whose answers are doubted: all of it where `judge` lowers the limit by it, else what
/// we counted ourselves.
pub(super) fn believed(
    observation: Observation,
    doubt: &Absence,
    judge: impl Fn(&Observation) -> Decision,
) -> Observation {
    if tightens(&judge(&observation)) {
        return observation;
    }
    let absent = |sample: &Sample| Sample::absent(sample.at, sample.windows, doubt);
    Observation { sample: observation.sample.as_ref().map(absent), ..observation }
}

/// Whether the limit is lowered, or would be if it could.
fn tightens(decision: &Decision) -> bool {
    let would = decision.would.filter(|would| !would.is_over);
    let (action, cause) = would.map_or((decision.action, decision.cause), |would| (would.action, would.cause));
    matches!(action, Action::Cut | Action::Undo) || matches!(cause, Cause::AtFloor | Cause::Filling)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::signal::{Counts, Windows};

    const LAG: Duration = Duration::from_secs(3);

    fn windows() -> Windows {
        let [newest, fast, slow, long] = [3, 15, 60, 300].map(Duration::from_secs);
        Windows { newest, fast, slow, long }
    }

    /// A sample in which each window holds so many answers a second.
    fn sample(answered: f64) -> Sample {
        Sample::of(Timestamp::from_millis(1_000_000), windows(), |length| {
            Ok(Counts { answered: answered * length.as_secs_f64(), ..Counts::default() })
        })
    }

    /// What passed a gate that let through so many a second from `from` to `to` seconds before the sample.
    fn passed(per_second: f64, from: f64, to: f64) -> impl Fn(Duration) -> f64 {
        move |length| per_second * (length.as_secs_f64().min(from) - to).max(0.0)
    }

    fn doubted(answered: f64, passed: impl Fn(Duration) -> f64) -> Option<String> {
        contradiction(&sample(answered), LAG, passed).map(|absence| {
            assert_eq!(absence.kind, AbsenceKind::Implausible);
            absence.reason
        })
    }

    #[test]
    fn far_fewer_answers_than_passed_are_doubted_with_their_numbers() {
        let reason = doubted(2.0, passed(40.0, 900.0, 0.0)).unwrap();
        assert_eq!(
            reason,
            "the metrics are not believed: they have 30 answers of 15 s, in which 600 requests passed the gate"
        );
        assert!(doubted(0.0, passed(40.0, 900.0, 0.0)).is_some());
        // Thin traffic is held against the longer windows.
        assert!(doubted(0.05, passed(1.0, 900.0, 0.0)).unwrap().contains("have 15 answers of 300 s, in which 300 "));
    }

    #[test]
    fn what_has_just_begun_or_just_ended_is_not_doubted() {
        assert_eq!(doubted(0.0, passed(40.0, 3.0, 0.0)), None);
        assert_eq!(doubted(0.0, passed(40.0, 5.0, 0.0)), None);
        // Of the short window two seconds had requests: too few to miss their answers.
        let mut ended = sample(40.0);
        ended.fast = Ok(Counts::default());
        assert_eq!(contradiction(&ended, LAG, passed(40.0, 900.0, 13.0)), None);
    }

    #[test]
    fn a_window_without_counts_says_nothing() {
        let absence = Absence::new(AbsenceKind::Empty, "nothing");
        let sample = Sample::absent(Timestamp::default(), windows(), &absence);
        assert_eq!(contradiction(&sample, LAG, passed(1_000.0, 900.0, 0.0)), None);
    }

    proptest! {
        #[test]
        fn who_answers_a_tenth_or_more_of_a_steady_stream_is_believed(
            per_second in 0.0..10_000.0_f64,
            share in 0.1..1_000.0_f64,
            from in 0.0..1_000.0_f64,
            to in 0.0..1_000.0_f64,
        ) {
            prop_assert_eq!(doubted(per_second * share * 1.000_001, passed(per_second, from.max(to), from.min(to))), None);
        }

        #[test]
        fn nothing_is_doubted_while_hardly_anything_passed(answered in 0.0..10.0_f64, passed in 0.0..99.0_f64) {
            prop_assert_eq!(doubted(answered, |_| passed), None);
        }
    }
}
