//! What would have to happen for the limit to rise: the question of everyone who is refused.

use super::constants::Law;
use super::decision::{Action, Cause, Decision, Judged};
use super::format::{percent, rate, seconds};
use super::state::State;
use crate::signal::Signal;

/// What would have to happen for the limit to rise after `decision`, which led to `state`: one sentence without a full
/// stop.
#[must_use]
pub fn prospect(state: &State, law: &Law, decision: &Decision) -> String {
    if let Some(settle) = decision.settle_left
        && decision.cause != Cause::Off
        && state.hand.is_none()
    {
        return format!(
            "nothing is decided for {}, until the metrics can show the last change",
            seconds(settle.max(0.0))
        );
    }
    match decision.cause {
        Cause::Off => "the mode has to be observe or enforce; the limit is at its upper bound".to_owned(),
        Cause::Frozen | Cause::Overridden => "the operator's hand has to be taken off, or to run out".to_owned(),
        Cause::Idle | Cause::NoData | Cause::NoDataLong | Cause::RaiseUnconfirmed => no_data(law, decision),
        Cause::NothingNew => "the metrics have to say something new".to_owned(),
        Cause::Open => format!("nothing: {} is the upper bound", rate(law.max)),
        Cause::FewAnswers => {
            format!("there have to be {:.0} answers in a window", law.constants.min_answers_to_raise)
        }
        Cause::Unused => format!(
            "more has to be asked for than now ({}/s passed); after {} like this it opens slowly by itself",
            rate(decision.admitted),
            seconds(law.constants.idle)
        ),
        Cause::AtKnee => match decision.knee {
            Some(knee) => {
                let left = (law.memory(state.bad.is_some_and(|bad| bad.toppled)) - knee.age).max(0.0);
                format!("the last bad look, at {}/s, has to be {} older", rate(knee.rate), seconds(left))
            }
            None => all_clean(law, decision),
        },
        _ => all_clean(law, decision),
    }
}

fn no_data(law: &Law, decision: &Decision) -> String {
    let mut text = "the metrics have to answer".to_owned();
    if decision.cause == Cause::NoData {
        let toward = rate(law.stale.toward);
        text.push_str(&format!("; after {} without them the limit moves to {toward}/s", seconds(law.stale.hold)));
    }
    text
}

/// Every signal below its clean share, and traffic that the limit holds back.
fn all_clean(law: &Law, decision: &Decision) -> String {
    let needed = |judged: &Judged| {
        let word = match judged.signal {
            Signal::Errors => "errors",
            Signal::Latency => "slow answers",
        };
        let clean = judged.normal + law.constants.clean * (judged.threshold - judged.normal);
        format!("{word} at or below {} % (now {} %)", percent(clean), percent(judged.ratio))
    };
    let needed: Vec<String> = decision.judged.iter().map(needed).collect();
    match (decision.action, needed.is_empty()) {
        (_, true) => "the next sample has to be clean".to_owned(),
        (Action::Raise | Action::Drift, false) => format!("it goes on with {}", needed.join(" and ")),
        (_, false) => needed.join(" and "),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{law, observe, sample};
    use super::super::{State, step};
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn after_a_cut_the_settle_is_named_and_near_the_target_the_clean_share() {
        let law = law();
        let state = State::start(&law, Timestamp::from_millis(0));
        let told = |share: f64| {
            let now = Timestamp::from_millis(1_000_000);
            let seen = observe(sample(&state, &law, now, 300.0, share, 0.0), 300.0, 300.0);
            let (next, decision) = step(&state, &law, &seen, now);
            prospect(&next, &law, &decision)
        };
        assert_eq!(told(0.4), "nothing is decided for 13.5 s, until the metrics can show the last change");
        assert_eq!(told(0.04), "errors at or below 3.5 % (now 4 %) and slow answers at or below 7 % (now 0 %)");
        assert_eq!(told(0.0), "nothing: 500 is the upper bound");
    }
}
