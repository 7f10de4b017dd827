//! The law over a past range of a live Prometheus, open loop: the service's own questions, put about instants that have
//! passed.
//!
//! In mode observe nothing moves the limit, so the windows are the same at every instant and all can be asked about in
//! any order. What a question brings no answer to is an absent sample, as it was for the law then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::instant;
use super::replay::{self, replay};
use super::tried::{Over, Tried};
use crate::clock::Timestamp;
use crate::control::law::{Admitted, Decision, Observation, State, windows};
use crate::prometheus::PrometheusSource;
use crate::prometheus::past::{OwnRates, Past, is_servers};
use crate::rules::service::Service;
use crate::signal::{Absence, AbsenceKind, Counts, Sample, Windows};

/// Most instants that are asked about: a day at the usual interval, and some. Each is five questions.
pub const INSTANTS_MAX: u64 = 20_000;

/// Instants that are asked about at a time.
const AT_ONCE: usize = 8;

/// Instants in a row of which the server says nothing, after which it is not asked any more.
const IN_VAIN_MAX: usize = 20;

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    from: Timestamp,
    to: Timestamp,
}

/// What the law would have done, with its instants in seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// Instant by instant.
    pub decisions: Vec<(f64, Decision)>,
    /// What was asked, what was missing and what was assumed, one sentence each.
    pub notes: Vec<String>,
}

// === impl Range ===

impl Range {
    /// Reads a range that ends before `now`.
    ///
    /// # Errors
    /// Every mistake, one sentence each.
    pub fn read(from: &str, to: &str, now: Timestamp) -> Result<Range, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut instant = |option: &str, written: &str| match instant::read(written, now) {
            Ok(at) => Some(at),
            Err(right) => {
                mistakes.push(format!("{option} is {written:?}, but must be {right}"));
                None
            }
        };
        let (from, to) = (instant("--from", from), instant("--to", to));
        if let (Some(from), Some(to)) = (from, to) {
            let (begin, end) = (instant::shown(from), instant::shown(to));
            if to > now {
                mistakes.push(format!("--to is {end}, which is still to come; it is {}", instant::shown(now)));
            }
            if from >= to {
                mistakes.push(format!("--from is {begin}, but must be before --to, which is {end}"));
            }
            if mistakes.is_empty() {
                return Ok(Range { from, to });
            }
        }
        Err(mistakes)
    }

    /// The instants of the range, one each interval.
    ///
    /// # Errors
    /// Why there are too many.
    fn instants(self, interval: Duration) -> Result<Vec<Timestamp>, String> {
        let step = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
        let (from, to) = (self.from.as_micros(), self.to.as_micros());
        let many = (to - from) / step + 1;
        if many > INSTANTS_MAX {
            let hours = step.saturating_mul(INSTANTS_MAX - 1) / 3_600_000_000;
            return Err(format!(
                "{self} has {many} instants at an interval of {interval:?}, and at most {INSTANTS_MAX} are asked about: \
                 take a range of at most {hours}h"
            ));
        }
        Ok((0..many).map(|index| Timestamp::from_micros(from + index * step)).collect())
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", instant::shown(self.from), instant::shown(self.to))
    }
}

/// Asks about each instant of the range, and runs the law over the answers. `progress` is told how many instants of how
/// many are done.
///
/// # Errors
/// One sentence: the range is too long, or the service has nothing to ask.
pub async fn replayed(
    source: &PrometheusSource,
    service: &Service,
    range: Range,
    mut progress: impl FnMut(usize, usize),
) -> Result<Replayed, String> {
    if service.source.is_none() {
        return Err(format!("{} has no signals ({}), so there is nothing to ask", service.name, service.place));
    }
    let instants = range.instants(service.interval)?;
    let mut scrape = service.scrape_interval;
    for at in [range.to, range.from] {
        if scrape.is_none() {
            scrape = source.scrape_interval_before(service, at).await;
        }
    }
    let Tried { law, mut notes, .. } = Tried::of(service, scrape.map(|scrape| scrape.as_secs_f64()), Over::Server);
    let Some(first) = instants.first().copied() else { return Err("there is no instant to ask about".to_owned()) };
    // The law has stood for so long that no window is shortened.
    let start = replay::start(&law, first, Duration::ZERO);
    let lengths = windows(&State::start(&law, start), &law, first).ok_or("there is no window to ask about")?;

    let in_vain = AtomicUsize::new(0);
    let ask = |at: Timestamp| asked(source, service, &lengths, at, &in_vain);
    let mut answers = stream::iter(instants.iter().copied()).map(ask).buffered(AT_ONCE);
    let mut pasts = Vec::with_capacity(instants.len());
    while let Some(past) = answers.next().await {
        pasts.push(past);
        progress(pasts.len(), instants.len());
    }
    drop(answers);
    notes.push(format!("asked about {range}, every {:?}: {} instants", service.interval, instants.len()));
    notes.extend(missing(&pasts));
    notes.push(own_counts(&pasts));

    let mut rates = OwnRates::default();
    let ticks = pasts.iter().map(|past| (past.sample.at, past));
    let decisions = replay(&law, start, ticks, |past, windows, at| {
        if windows != Some(past.sample.windows) {
            let (asked, at) = (past.sample.windows, instant::shown(at));
            return Err(format!("the law asks for {windows:?} at {at}, where {asked:?} were asked about"));
        }
        rates = rates_of(past, rates);
        Ok(Observation {
            sample: Some(past.sample.clone()),
            offered: rates.offered,
            admitted: rates.admitted,
            admitted_in: rates.admitted_in,
        })
    })?;
    Ok(Replayed { decisions: replay::dated(decisions), notes })
}

/// One instant, unless the server has said nothing for too long.
async fn asked(
    source: &PrometheusSource,
    service: &Service,
    lengths: &Windows,
    at: Timestamp,
    in_vain: &AtomicUsize,
) -> Past {
    if in_vain.load(Ordering::Relaxed) >= IN_VAIN_MAX {
        let reason = format!("not asked: nothing had been said of {IN_VAIN_MAX} instants in a row");
        let absence = Absence::new(AbsenceKind::Unreachable, reason);
        return Past { sample: Sample::absent(at, *lengths, &absence), own: Err(absence) };
    }
    let past = source.past(service, lengths, at).await;
    match &past.sample.fast {
        Err(absence) if is_servers(absence) => in_vain.fetch_add(1, Ordering::Relaxed),
        _ => in_vain.swap(0, Ordering::Relaxed),
    };
    past
}

/// How many instants have no data, and why.
fn missing(pasts: &[Past]) -> Option<String> {
    let mut kinds: BTreeMap<&'static str, (usize, &str)> = BTreeMap::new();
    for absence in pasts.iter().filter_map(|past| past.sample.fast.as_ref().err()) {
        kinds.entry(absence.kind.name()).or_insert((0, &absence.reason)).0 += 1;
    }
    let told: Vec<String> =
        kinds.iter().map(|(kind, (many, reason))| format!("{many} {kind} (such as: {reason})")).collect();
    let many: usize = kinds.values().map(|(many, _)| many).sum();
    (many > 0).then(|| format!("there is no data at {many} of them: {}", told.join("; ")))
}

/// Where offered and admitted come from.
fn own_counts(pasts: &[Past]) -> String {
    let unscraped = pasts.iter().filter(|past| past.own == Ok(None)).count();
    let failed: Vec<&Absence> = pasts.iter().filter_map(|past| past.own.as_ref().err()).collect();
    let unknown = unscraped + failed.len();
    let theirs = "offered and admitted are those of tidegate_adaptive_offered and _admitted";
    if unknown == 0 {
        return theirs.to_owned();
    }
    let unscraped = (unscraped > 0).then(|| format!("no Tidegate was scraped at {unscraped}"));
    let failed = failed.first().map(|absence| format!("{} have no answer (such as: {absence})", failed.len()));
    let why: Vec<String> = unscraped.into_iter().chain(failed).collect();
    let known = if unknown < pasts.len() { format!("{theirs}; they") } else { "offered and admitted".to_owned() };
    format!(
        "{known} are not known at {unknown} instants ({}): there what was answered is taken for both, so that the limit \
         seems to hold nothing back unless it is nearly reached, and what was known last where nothing was answered",
        why.join(", ")
    )
}

/// What reached and passed the gate at an instant: our own counts, else what was answered, else what was known last.
fn rates_of(past: &Past, last: OwnRates) -> OwnRates {
    let Past { sample, own } = past;
    if let Ok(Some(own)) = *own {
        return own;
    }
    if sample.newest.is_err() && sample.fast.is_err() {
        return last;
    }
    let Windows { newest, fast, slow, long } = sample.windows;
    let rate = |counts: &Result<Counts, Absence>, length: Duration| {
        counts.as_ref().map_or(0.0, |counts| counts.answered / length.as_secs_f64())
    };
    let admitted_in = Admitted {
        newest: rate(&sample.newest, newest),
        fast: rate(&sample.fast, fast),
        slow: rate(&sample.slow, slow),
        long: rate(&sample.long, long),
    };
    let lately = if sample.newest.is_ok() { admitted_in.newest } else { admitted_in.fast };
    OwnRates { offered: lately, admitted: lately, admitted_in }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows {
        newest: Duration::from_secs(11),
        fast: Duration::from_secs(15),
        slow: Duration::from_secs(60),
        long: Duration::from_secs(300),
    };

    fn past(counts: Result<Counts, Absence>, own: Result<Option<OwnRates>, Absence>) -> Past {
        Past { sample: Sample::of(Timestamp::from_millis(1), WINDOWS, |_| counts.clone()), own }
    }

    fn absence(kind: AbsenceKind) -> Absence {
        Absence::new(kind, "no answer")
    }

    #[test]
    fn without_data_the_rates_are_those_that_were_known_last_and_not_none() {
        let empty = past(Err(absence(AbsenceKind::Empty)), Ok(None));
        let answered = past(Ok(Counts { answered: 330.0, ..Counts::default() }), Ok(None));
        let own = OwnRates { offered: 140.0, admitted: 100.0, admitted_in: Admitted::default() };
        let counted = past(Err(absence(AbsenceKind::Empty)), Ok(Some(own)));
        assert_eq!(rates_of(&empty, OwnRates::default()), OwnRates::default(), "nobody has asked yet");
        let then = rates_of(&answered, OwnRates::default());
        assert_eq!((then.offered, then.admitted_in.newest), (30.0, 30.0));
        assert_eq!(rates_of(&empty, then), then);
        assert_eq!(rates_of(&counted, then), own);
    }

    #[test]
    fn a_question_about_our_own_counts_that_failed_is_no_tidegate_that_was_not_scraped() {
        let counts = || Ok(Counts::default());
        let failed = past(counts(), Err(absence(AbsenceKind::TimedOut)));
        let told = own_counts(&[failed.clone(), failed.clone()]);
        let expected =
            "offered and admitted are not known at 2 instants (2 have no answer (such as: no answer)): there";
        assert!(told.starts_with(expected), "{told}");
        let told = own_counts(&[failed, past(counts(), Ok(None)), past(counts(), Ok(Some(OwnRates::default())))]);
        let expected = "; they are not known at 2 instants (no Tidegate was scraped at 1, 1 have no answer (such as: ";
        assert!(told.contains(expected), "{told}");
    }
}
