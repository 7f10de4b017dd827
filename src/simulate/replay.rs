//! The law over what was recorded, open loop: when it would have acted and how certain it was, not what would have
//! followed.

use std::convert::Infallible;
use std::time::Duration;

use super::plant::metrics::increase;
use super::run::instant;
use crate::clock::Timestamp;
use crate::control::law::{Admitted, Decision, Law, Observation, State, advance, full_after, windows};
use crate::rules::service::ServiceMode;
use crate::signal::{Absence, AbsenceKind, Counts, Sample, Windows};

/// The columns of a recorded series: seconds, then counters that only grow, or start anew.
pub const COLUMNS: [&str; 7] = ["time", "offered", "admitted", "answered", "failed", "slow", "latency_sum"];

/// Most rows of a series: a scrape a second for eleven days.
const ROWS_MAX: usize = 1_000_000;

/// Most mistakes that are listed.
const MISTAKES_MAX: usize = 100;

/// Counters as they were scraped, in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    rows: Vec<(f64, [f64; 6])>,
}

/// How the law was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As if nothing that it decided were done.
    OpenLoop,
    /// Each step as it was recorded: what it decided was done, where the mode was enforce.
    AsRecorded,
}

/// Runs the law in mode observe over whatever answers its questions: a [`Series`], a recording, or a server asked for a
/// past range. `answer` is told what is known of an instant, and the windows to answer for, `None` while there are none
/// to ask for.
///
/// # Errors
/// The first of `answer`.
pub fn replay<T, E>(
    law: &Law,
    start: Timestamp,
    ticks: impl IntoIterator<Item = (Timestamp, T)>,
    mut answer: impl FnMut(T, Option<Windows>, Timestamp) -> Result<Observation, E>,
) -> Result<Vec<(Timestamp, Decision)>, E> {
    let mut state = State::start(law, start);
    let mut decisions = Vec::new();
    for (now, told) in ticks {
        let seen = answer(told, windows(&state, law, now), now)?;
        let (next, decision) = advance(ServiceMode::Observe, None, &state, law, &seen, now);
        state = next;
        decisions.push((now, decision));
    }
    Ok(decisions)
}

/// When the law must have begun for no window to be shortened at `first`: neither its own, nor one of the length that
/// was recorded.
pub(super) fn start(law: &Law, first: Timestamp, recorded: Duration) -> Timestamp {
    let before = full_after(law).max(law.settle() + recorded.as_secs_f64());
    Timestamp::from_micros(first.as_micros().saturating_sub((before * 1e6) as u64))
}

/// Decisions with their instants in seconds since 1970.
pub(super) fn dated(decisions: Vec<(Timestamp, Decision)>) -> Vec<(f64, Decision)> {
    decisions.into_iter().map(|(at, decision)| (seconds(at), decision)).collect()
}

/// An instant in seconds since 1970.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_micros() as f64 / 1e6
}

// === impl Series ===

impl Series {
    /// Reads comma-separated values with [`COLUMNS`] as their first line.
    ///
    /// # Errors
    /// Every mistake, one sentence each.
    pub fn read(file: &str, text: &str) -> Result<Series, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let head: Vec<&str> = lines.next().map_or(Vec::new(), |(_, line)| line.split(',').map(str::trim).collect());
        if head != COLUMNS {
            mistakes.push(format!("{file}:1: must name the columns {}", COLUMNS.join(",")));
        }
        let mut rows: Vec<(f64, [f64; 6])> = Vec::new();
        for (index, line) in lines {
            if mistakes.len() >= MISTAKES_MAX || rows.len() >= ROWS_MAX {
                mistakes.push(format!("{file}:{}: not read further; at most {ROWS_MAX} rows are", index + 1));
                break;
            }
            let numbers: Vec<f64> = line
                .split(',')
                .filter_map(|number| number.trim().parse().ok())
                .filter(|number: &f64| (0.0..=9e15).contains(number))
                .collect();
            let Ok([time, counters @ ..]) = <[f64; 7]>::try_from(numbers) else {
                let shown: String = line.chars().take(80).collect();
                mistakes.push(format!("{file}:{}: {shown:?} must be seven numbers from 0 on", index + 1));
                continue;
            };
            if rows.last().is_some_and(|(last, _)| time <= *last) {
                mistakes.push(format!("{file}:{}: time {time} is not later than the row before", index + 1));
                continue;
            }
            rows.push((time, counters));
        }
        if mistakes.is_empty() && rows.len() < 2 {
            mistakes.push(format!("{file}: has {} rows, but must have two at least", rows.len()));
        }
        if mistakes.is_empty() { Ok(Series { rows }) } else { Err(mistakes) }
    }

    /// Runs the law over it. Instants of the decisions are in seconds of the series.
    #[must_use]
    pub fn replayed(&self, law: &Law) -> Vec<(f64, Decision)> {
        let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) else { return Vec::new() };
        let ticks = ((last.0 - first.0) / law.interval) as u64;
        // The instants of the law are those of a run: exact, whatever clock the series was recorded by.
        let instants = (1..=ticks).map(|tick| (instant(tick as f64 * law.interval), ()));
        let seconds = |at: Timestamp| (at.as_micros() - instant(0.0).as_micros()) as f64 / 1e6 + first.0;
        let Ok(decisions) = replay(law, instant(0.0), instants, |(), windows, at| {
            Ok::<_, Infallible>(self.answer(law, windows, at, seconds(at)))
        });
        decisions.into_iter().map(|(at, decision)| (seconds(at), decision)).collect()
    }

    fn answer(&self, law: &Law, windows: Option<Windows>, at: Timestamp, now: f64) -> Observation {
        let own = |length: f64| {
            let [offered, admitted, ..] = self.increase(now, length).unwrap_or_default();
            (offered / length, admitted / length)
        };
        let counts = |length: Duration| self.counts(law, now, length.as_secs_f64());
        let admitted = |length: Duration| own(length.as_secs_f64()).1;
        let sample = windows.map(|windows| Sample::of(at, windows, counts));
        let admitted_in = windows.map_or(Admitted::default(), |windows| Admitted::over(&windows, admitted));
        // Counters that were scraped say nothing of less than two scrapes.
        let (offered, admitted) = own((2.0 * law.scrape + 1.0).max(law.interval));
        Observation { sample, offered, admitted, admitted_in }
    }

    fn counts(&self, law: &Law, now: f64, length: f64) -> Result<Counts, Absence> {
        let newest = self.rows[..self.after(now)].last().map_or(f64::NEG_INFINITY, |(at, _)| *at);
        if now - newest > 2.0 * law.scrape + law.interval {
            return Err(Absence::new(AbsenceKind::Stale, format!("the newest row is {:.0} s old", now - newest)));
        }
        let Some([_, _, answered, failed, slow, time]) = self.increase(now, length) else {
            return Err(Absence::new(AbsenceKind::Empty, "the window has fewer than two rows"));
        };
        let latency = (answered > 0.0 && time > 0.0).then(|| time / answered);
        Ok(Counts { answered, failed: failed.min(answered), failed_locally: 0.0, slow: slow.min(answered), latency })
    }

    fn increase(&self, now: f64, length: f64) -> Option<[f64; 6]> {
        let begin = now - length;
        increase(&self.rows[self.after(begin)..self.after(now)], begin, now)
    }

    /// How many rows are not later than an instant.
    fn after(&self, seconds: f64) -> usize {
        self.rows.partition_point(|(at, _)| *at <= seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::law;
    use super::*;
    use crate::control::law::{Action, Constants};
    use crate::rules::service::LawConstant;

    #[test]
    fn a_recorded_overload_is_found_once_with_its_certainty_and_length() {
        let mut text = COLUMNS.join(",");
        let (mut all, mut failed) = (0, 0);
        for tick in 0..240 {
            all += 1_000;
            failed += if (100..140).contains(&tick) { 400 } else { 1 };
            text.push_str(&format!(
                "\n{},{all},{all},{all},{failed},0,{}",
                1_700_000_000 + tick * 5,
                f64::from(all) * 0.05
            ));
        }
        let decisions = Series::read("a.csv", &text).unwrap().replayed(&law(400.0, 5.0, 5.0));
        let news: Vec<_> = decisions.iter().filter(|(_, decision)| decision.is_news()).collect();
        assert_eq!(news.len(), 2, "{news:#?}");
        let (would, over) = (news[0].1.would.unwrap(), news[1].1.would.unwrap());
        assert_eq!((would.action, over.is_over), (Action::Cut, true));
        assert!(news[0].1.judged[0].lower > 0.05 && news[0].0 < 1_700_000_530.0);
        assert!((190.0..=220.0).contains(&over.seconds), "{}", over.seconds);
    }

    #[test]
    fn no_window_is_shortened_at_the_first_instant_whatever_the_laws_own_numbers_are() {
        let first = instant(86_400.0);
        for (number, value) in LawConstant::ALL.iter().flat_map(|number| {
            let (lowest, highest) = number.range();
            [(*number, lowest), (*number, highest)]
        }) {
            for scrape in [1.0, 15.0, 60.0] {
                let law = Law { constants: Constants::with(&[(number, value)]), ..law(400.0, scrape, 5.0) };
                let begun = |at: Timestamp| windows(&State::start(&law, at), &law, first);
                let unshortened = begun(instant(0.0));
                assert_eq!(begun(start(&law, first, Duration::ZERO)), unshortened, "{} {value}", number.name());
                let recorded = Duration::from_secs(3_600);
                assert!(start(&law, first, recorded).as_micros() + 3_600_000_000 < first.as_micros());
            }
        }
    }

    #[test]
    fn every_mistake_of_a_series_is_told() {
        let text = format!("{}\n1,2,3\n5,1,1,1,0,0,0\n5,1,1,1,0,0,0\n6,x,1,1,0,0,0\n", COLUMNS.join(","));
        let mistakes = Series::read("a.csv", &text).unwrap_err();
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        assert!(Series::read("a.csv", "a,b").unwrap_err()[0].starts_with("a.csv:1: must name the columns time,"));
    }
}
