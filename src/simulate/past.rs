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
use super::replay::replay;
use super::tried::Tried;
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
    let Tried { law, mut notes, .. } = Tried::of(service, scrape.map(|scrape| scrape.as_secs_f64()));
    let Some(first) = instants.first().copied() else { return Err("there is no instant to ask about".to_owned()) };
    // The law has stood for so long that no window is shortened.
    let before = law.settle() + law.constants.long.max(8.0 * law.scrape).max(law.constants.slow.1);
    let start = Timestamp::from_micros(first.as_micros().saturating_sub((before * 1e6) as u64));
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

    let mut told = pasts.iter();
    let decisions = replay(&law, start, instants.iter().copied(), |windows, at| match told.next() {
        Some(past) if windows == Some(past.sample.windows) && past.sample.at == at => observation(past),
        _ => Observation { sample: None, offered: 0.0, admitted: 0.0, admitted_in: Admitted::default() },
    });
    let seconds = |at: Timestamp| at.as_micros() as f64 / 1e6;
    Ok(Replayed { decisions: decisions.into_iter().map(|(at, decision)| (seconds(at), decision)).collect(), notes })
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
        return Past { sample: Sample::absent(at, *lengths, &absence), own: None };
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
    let known = pasts.iter().filter(|past| past.own.is_some()).count();
    let assumed = "what was answered is taken for admitted and offered, so that the limit seems to hold nothing back \
                   unless it is nearly reached";
    match pasts.len() - known {
        0 => "offered and admitted are those of tidegate_adaptive_offered and _admitted".to_owned(),
        unknown if known == 0 => {
            format!("offered and admitted are not known at {unknown} instants: no Tidegate was scraped; {assumed}")
        }
        unknown => format!(
            "offered and admitted are those of tidegate_adaptive_offered and _admitted; at {unknown} instants they are \
             not known: there {assumed}"
        ),
    }
}

fn observation(past: &Past) -> Observation {
    let Past { sample, own } = past;
    if let Some(OwnRates { offered, admitted, admitted_in }) = *own {
        return Observation { sample: Some(sample.clone()), offered, admitted, admitted_in };
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
    Observation { sample: Some(sample.clone()), offered: lately, admitted: lately, admitted_in }
}
