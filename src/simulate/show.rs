//! Runs and replays as text: for people, as comma-separated values, as JSON lines.

use std::fmt::Write;

use super::instant;
use super::measure::Measures;
use super::replay::How;
use super::run::{Run, Second};
use super::scenario::Named;
use crate::clock::Timestamp;
use crate::control::law::Decision;

/// What is written of a second, with its name.
type Column = (&'static str, fn(&Second) -> f64);

const COLUMNS: [Column; 12] = [
    ("at", |second| second.at),
    ("demand", |second| second.demand),
    ("offered", |second| second.offered),
    ("admitted", |second| second.admitted),
    ("good", |second| second.good),
    ("answered", |second| second.answered),
    ("bad", |second| second.bad),
    ("slow", |second| second.slow),
    ("latency_ms", |second| second.latency * 1e3),
    ("limit", |second| second.limit),
    ("capacity", |second| second.capacity),
    ("capacity_left", |second| second.left),
];

/// What came of a replay.
pub(super) struct Replay<'r> {
    pub(super) name: &'r str,
    /// What was asked and assumed, one sentence each.
    pub(super) notes: Vec<String>,
    /// With their instants in seconds.
    pub(super) decisions: Vec<(f64, Decision)>,
    pub(super) dates: Dates,
    pub(super) how: How,
}

/// What the seconds of a replay are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dates {
    /// The recording's own begin.
    Seconds,
    /// 1970.
    Utc,
}

/// Decimals of a number in a line: more say nothing of a simulation.
const DECIMALS: usize = 3;

// === impl Dates ===

impl Dates {
    fn head(self) -> &'static str {
        match self {
            Dates::Seconds => "   at s",
            Dates::Utc => "                      at",
        }
    }

    fn shown(self, seconds: f64) -> String {
        match self {
            Dates::Seconds => format!("{seconds:>7}"),
            Dates::Utc => format!("{:>24}", instant::shown(Timestamp::from_micros((seconds * 1e6).round() as u64))),
        }
    }
}

pub(super) fn table(named: &Named, run: &Run) -> String {
    let scenario = &named.scenario;
    let (from, until) = scenario.disturbance;
    let measures = Measures::of(run, scenario.disturbance, scenario.law.errors);
    let mut text =
        format!("{}, {} s, seed {}; disturbed from {from} to {until} s\n", named.name, scenario.length, scenario.seed);
    for note in &named.notes {
        put(&mut text, format_args!("  {note}\n"));
    }
    text.push('\n');
    for (value, unit, what) in [
        (measures.goodput, "%", "goodput while disturbed, of what could be served"),
        (measures.violated, "%", "of that time over the error target"),
        (measures.protected, "s", "until the first good 5 s"),
        (measures.recovered, "s", "from its end to 30 s at 95 % of what could be served"),
        (measures.refused_calm, "%", "of requests refused while demand is below 0.9 of the capacity"),
        (measures.cuts, "", "cuts of 3 % or more"),
    ] {
        put(&mut text, format_args!("{value:>8.1} {unit:<2} {what}\n"));
    }
    text.push_str("\n   at s  decision\n");
    text.push_str(&news(run.news(), Dates::Seconds));
    text
}

pub(super) fn replayed(replay: &Replay<'_>) -> String {
    let Replay { name, notes, decisions, dates, how } = replay;
    let (headline, nothing) = match how {
        How::OpenLoop => {
            ("open loop: what would have been done, and for how long it was wanted", "nothing would have been done")
        }
        How::AsRecorded => ("each as it was recorded, in the mode of then", "nothing was done"),
    };
    let mut text = format!("{name}, {} decisions; {headline}\n", decisions.len());
    for note in notes {
        put(&mut text, format_args!("  {note}\n"));
    }
    put(&mut text, format_args!("\n{}  decision\n", dates.head()));
    let told = news(decisions.iter().filter(|(_, decision)| decision.is_news()), *dates);
    if told.is_empty() {
        put(&mut text, format_args!("         {nothing}\n"));
    }
    text + &told
}

fn news<'d>(decisions: impl Iterator<Item = &'d (f64, Decision)>, dates: Dates) -> String {
    decisions.map(|(at, decision)| format!("{}  {decision}\n", dates.shown(*at))).collect()
}

pub(super) fn csv(run: &Run) -> String {
    let mut text = COLUMNS.map(|(name, _)| name).join(",") + "\n";
    for second in &run.seconds {
        let numbers = COLUMNS.map(|(_, of)| rounded(of(second)).to_string());
        put(&mut text, format_args!("{}\n", numbers.join(",")));
    }
    text
}

pub(super) fn replayed_csv(decisions: &[(f64, Decision)]) -> String {
    let mut text = "at,action,cause,limit,would,ratio,lower,threshold,answered,window\n".to_owned();
    for (at, decision) in decisions {
        let worst = decision
            .judged
            .iter()
            .max_by(|one, other| one.is_bad.cmp(&other.is_bad).then(other.signal.cmp(&one.signal)));
        let (action, to) = decision.would.map_or((decision.action, decision.to), |would| (would.action, would.to));
        let judged = worst.map_or(",,,,".to_owned(), |one| {
            let numbers = [one.ratio, one.lower, one.threshold, one.answered, one.window];
            numbers.map(|number| rounded(number).to_string()).join(",")
        });
        let cause = serde_json::to_value(decision.cause).unwrap_or_default();
        let cause = cause.as_str().unwrap_or_default();
        put(
            &mut text,
            format_args!("{at},{},{cause},{},{},{judged}\n", action.name(), rounded(decision.to), rounded(to)),
        );
    }
    text
}

pub(super) fn json_lines(run: &Run) -> String {
    let mut text = String::new();
    let mut decisions = run.decisions.iter().peekable();
    for second in &run.seconds {
        let object: serde_json::Map<String, serde_json::Value> =
            COLUMNS.iter().map(|(name, of)| ((*name).to_owned(), rounded(of(second)).into())).collect();
        put(&mut text, format_args!("{}\n", serde_json::json!({ "second": object })));
        while let Some((at, decision)) = decisions.next_if(|(at, _)| *at <= second.at + 1.0) {
            put(&mut text, format_args!("{}\n", object_of(*at, decision)));
        }
    }
    text
}

pub(super) fn replayed_json_lines(decisions: &[(f64, Decision)]) -> String {
    decisions.iter().map(|(at, decision)| format!("{}\n", object_of(*at, decision))).collect()
}

fn object_of(at: f64, decision: &Decision) -> serde_json::Value {
    serde_json::json!({ "at": at, "decision": decision, "reason": decision.sentence() })
}

fn rounded(number: f64) -> f64 {
    let scale = 10_f64.powi(DECIMALS as i32);
    (number * scale).round() / scale
}

/// Writing to a String can't fail.
fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    let _written = text.write_fmt(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_of_what_was_done_is_no_open_loop() {
        let told = |how: How| {
            replayed(&Replay { name: "a", notes: Vec::new(), decisions: Vec::new(), dates: Dates::Utc, how })
        };
        let (open, exact) = (told(How::OpenLoop), told(How::AsRecorded));
        assert!(open.contains("open loop") && open.contains("nothing would have been done"), "{open}");
        assert!(!exact.contains("open loop") && exact.contains("nothing was done"), "{exact}");
    }
}
