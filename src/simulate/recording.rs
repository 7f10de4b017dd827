//! A recording of a service that was governed (`tidegate adaptive record`), and the law over it.
//!
//! A line is a tick: what was decided, and what it was made of. The law over it is first the law as it ran, each step in
//! the mode and state of then: if every decision is as it was recorded, the recording is explained, and nothing else is
//! to be said. If one differs the law is another, a change of parameters that is tried; then what was recorded did not
//! happen under it, and it is run open loop, like any other series.

use std::convert::Infallible;

use super::instant;
use super::replay::{self, How, replay, seconds};
use crate::control::law::{Decision, Law, Recorded, State};
use crate::control::record::DecisionRecord;

/// Most ticks of a recording: a day and more of one each second.
const TICKS_MAX: usize = 100_000;

/// Most mistakes that are listed.
const MISTAKES_MAX: usize = 100;

/// Ticks in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    ticks: Vec<(DecisionRecord, Recorded)>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Again {
    /// Instants in seconds since 1970, and decisions.
    pub decisions: Vec<(f64, Decision)>,
    /// Whether each of them is the recorded one.
    pub how: How,
    /// From where on the recording is another, one sentence each.
    pub notes: Vec<String>,
}

// === impl Recording ===

impl Recording {
    /// Whether a text is one, and no series of counters.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.trim_start().starts_with('{')
    }

    /// Reads JSON lines.
    ///
    /// # Errors
    /// Every mistake, one sentence each.
    pub fn read(file: &str, text: &str) -> Result<Recording, Vec<String>> {
        let (mut ticks, mut mistakes) = (Vec::<(DecisionRecord, Recorded)>::new(), Vec::new());
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = format!("{file}:{}", index + 1);
            if mistakes.len() >= MISTAKES_MAX || ticks.len() >= TICKS_MAX {
                mistakes.push(format!("{place}: not read further; at most {TICKS_MAX} ticks are"));
                break;
            }
            let mut record: DecisionRecord = match serde_json::from_str(line) {
                Ok(record) => record,
                Err(error) => {
                    mistakes.push(format!("{place}: is no tick as tidegate adaptive record writes it: {error}"));
                    continue;
                }
            };
            let Some(made_of) = record.made_of.take() else {
                mistakes.push(format!("{place}: does not say what the decision was made of"));
                continue;
            };
            if let Some((last, before)) = ticks.last() {
                if last.service != record.service {
                    mistakes
                        .push(format!("{place}: is of {}, and the lines before of {}", record.service, last.service));
                    continue;
                }
                if made_of.now <= before.now {
                    mistakes.push(format!("{place}: is not later than the line before"));
                    continue;
                }
            }
            ticks.push((record, *made_of));
        }
        if ticks.is_empty() && mistakes.is_empty() {
            mistakes.push(format!("{file}: has no tick"));
        }
        if mistakes.is_empty() { Ok(Recording { ticks }) } else { Err(mistakes) }
    }

    /// Runs the law over it.
    #[must_use]
    pub fn again(&self, law: &Law) -> Again {
        let mut notes = Vec::new();
        let mut expected: Option<State> = None;
        let (mut decisions, mut gaps) = (Vec::with_capacity(self.ticks.len()), 0);
        for (record, made_of) in &self.ticks {
            gaps += usize::from(expected.is_some_and(|state| state != made_of.state));
            let (next, decision) = made_of.again(&made_of.state, record.mode, law);
            if decision != record.decision {
                notes.push(format!(
                    "this is not the law of the recording: at {} it was \"{}\", and is \"{decision}\"; so this is open \
                     loop: what would have been done, and for how long it was wanted",
                    instant::shown(made_of.now),
                    record.decision
                ));
                return Again { decisions: self.observed(law), how: How::OpenLoop, notes };
            }
            expected = Some(next);
            decisions.push((seconds(made_of.now), decision));
        }
        notes.push("each decision is as it was recorded".to_owned());
        if gaps > 0 {
            notes.push(format!("the recording begins anew {gaps} times: ticks are missing, or the law began anew"));
        }
        Again { decisions, how: How::AsRecorded, notes }
    }

    /// Open loop, by a law that has stood for so long that no window is too long for it.
    fn observed(&self, law: &Law) -> Vec<(f64, Decision)> {
        let Some((_, first)) = self.ticks.first() else { return Vec::new() };
        let law = Law { scrape: first.scrape, ..law.clone() };
        let samples = self.ticks.iter().filter_map(|(_, made_of)| made_of.seen.sample.as_ref());
        let longest = samples.map(|sample| sample.windows.long.max(sample.windows.fast)).max().unwrap_or_default();
        let start = replay::start(&law, first.now, longest);
        let ticks = self.ticks.iter().map(|(_, made_of)| (made_of.now, &made_of.seen));
        // What was asked then is what there is, whatever this law would ask for.
        let Ok(decisions) = replay(&law, start, ticks, |seen, _, _| Ok::<_, Infallible>(seen.clone()));
        replay::dated(decisions)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::golden::law;
    use super::super::run::instant;
    use super::*;
    use crate::control::law::{Action, Admitted, Constants, Hand, Observation, advance, windows};
    use crate::control::record::Epoch;
    use crate::rate::Rate;
    use crate::rules::service::{LawConstant, ServiceMode};
    use crate::signal::{Absence, AbsenceKind, Counts, Sample};

    /// A tick's share of failed answers, whether there is data, and the operator's hand.
    type Tick = (f64, bool, Option<bool>);

    /// The lines of a service that was governed by a law, tick by tick.
    fn recorded(law: &Law, mode: ServiceMode, ticks: &[Tick]) -> String {
        let mut state = State::start(law, instant(0.0));
        let line = |(index, (failed, is_there, hand)): (usize, &Tick)| {
            let now = instant(5.0 * (index + 1) as f64);
            let rate = state.limit() / 3.0;
            let counts = |length: std::time::Duration| {
                let answered = rate * length.as_secs_f64();
                let counts = Counts { answered, failed: answered * failed, ..Counts::default() };
                is_there.then_some(counts).ok_or_else(|| Absence::new(AbsenceKind::TimedOut, "no answer"))
            };
            let sample = windows(&state, law, now).map(|windows| Sample::of(now, windows, counts));
            let admitted_in = Admitted { newest: rate, fast: rate, slow: rate, long: rate };
            let seen = Observation { sample, offered: 2.0 * rate, admitted: rate, admitted_in };
            let hand = hand.map(|is_frozen| match is_frozen {
                true => Hand::Freeze,
                false => Hand::Override(Rate::from_per_second(123.0)),
            });
            let (next, decision) = advance(mode, hand, &state, law, &seen, now);
            let made_of = Recorded { now, hand, scrape: law.scrape, state: state.clone(), seen };
            state = next;
            let record = DecisionRecord {
                at: now,
                service: "inventory".to_owned(),
                generation: 1,
                epoch: Epoch::new(1),
                mode,
                decision,
                signal_at: None,
                prospect: String::new(),
                queries: Vec::new(),
                doubts: Vec::new(),
                made_of: Some(Box::new(made_of)),
            };
            serde_json::to_string(&record).unwrap() + "\n"
        };
        ticks.iter().enumerate().map(line).collect()
    }

    proptest! {
        #[test]
        fn a_replay_gives_the_recorded_decisions_to_the_bit(
            is_enforced in any::<bool>(),
            ticks in prop::collection::vec((0.0..1.0_f64, prop::bool::weighted(0.8), prop::option::weighted(0.1, any::<bool>())), 1..80),
        ) {
            let law = law(400.0, 5.0, 5.0);
            let mode = if is_enforced { ServiceMode::Enforce } else { ServiceMode::Observe };
            let again = Recording::read("a", &recorded(&law, mode, &ticks)).unwrap().again(&law);
            prop_assert_eq!((again.how, again.notes), (How::AsRecorded, vec!["each decision is as it was recorded".to_owned()]));
            prop_assert_eq!(again.decisions.len(), ticks.len());
        }
    }

    #[test]
    fn another_law_is_run_open_loop_and_the_first_difference_is_told() {
        let bad_for_a_minute: Vec<Tick> =
            (0..120).map(|index| (if (60..72).contains(&index) { 0.4 } else { 0.001 }, true, None)).collect();
        let law = law(400.0, 5.0, 5.0);
        let text = recorded(&law, ServiceMode::Enforce, &bad_for_a_minute);
        let other = Law { errors: 0.5, ..law.clone() };
        let again = Recording::read("a", &text).unwrap().again(&other);
        assert!(
            again.notes[0].starts_with("this is not the law of the recording: at 1970-01-12T"),
            "{:?}",
            again.notes
        );
        assert_eq!((again.decisions.len(), again.how), (120, How::OpenLoop));
        assert!(again.decisions.iter().all(|(_, decision)| !decision.is_change()), "open loop");
        // A tick that is missing is a gap, and no difference.
        let lines: Vec<&str> =
            text.lines().enumerate().filter(|(index, _)| *index != 70).map(|(_, line)| line).collect();
        let notes = Recording::read("a", &lines.join("\n")).unwrap().again(&law).notes;
        assert!(notes[1].starts_with("the recording begins anew 1 times"), "{notes:?}");
    }

    #[test]
    fn a_recording_by_longer_windows_than_those_that_are_tried_is_judged_all_the_same() {
        // By the time of the trouble no window is shortened any more.
        let bad_at_last: Vec<Tick> =
            (0..240).map(|index| (if index < 200 { 0.001 } else { 0.4 }, true, None)).collect();
        let long = Constants::with(&[(LawConstant::Long, 600.0), (LawConstant::SlowScrapes, 40.0)]);
        let law = Law { constants: long, ..law(400.0, 5.0, 5.0) };
        let text = recorded(&law, ServiceMode::Enforce, &bad_at_last);
        // From there on they are as long as they get.
        let text: Vec<&str> = text.lines().skip(150).collect();
        let other = Law { constants: Constants::with(&[(LawConstant::Long, 60.0)]), errors: 0.06, ..law };
        let decisions = Recording::read("a", &text.join("\n")).unwrap().observed(&other);
        assert!(decisions.iter().take(50).all(|(_, decision)| !decision.judged.is_empty()), "{decisions:#?}");
        assert!(decisions.iter().any(|(_, decision)| decision.would.is_some_and(|would| would.action == Action::Cut)));
    }

    #[test]
    fn every_mistake_of_a_recording_is_told() {
        let line = recorded(&law(400.0, 5.0, 5.0), ServiceMode::Enforce, &[(0.0, true, None)]);
        let (line, cut) = (line.trim_end(), &line[..100]);
        let mistakes = Recording::read("a", &format!("{line}\n{line}\n{cut}\n")).unwrap_err();
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert_eq!(mistakes[0], "a:2: is not later than the line before");
        assert!(mistakes[1].starts_with("a:3: is no tick as tidegate adaptive record writes it: "), "{mistakes:?}");
        assert_eq!(Recording::read("a", "{}").unwrap_err().len(), 1);
    }
}
