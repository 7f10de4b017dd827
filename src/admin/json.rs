//! What the admin pages say, as JSON: made for readers, apart from what the program uses.
//!
//! Rates are requests per second, instants milliseconds since 1970, ages and lengths seconds. Every decision comes with its
//! sentence; whoever reads only that has the numbers too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::control::hand::OperatorsHand;
use crate::control::law::{Hand, Judged};
use crate::control::record::{Change, DecisionRecord, Event, Record, RecordError, Remembered};
use crate::control::view::{ControllerView, ServiceView};
use crate::rules::service::RateBounds;
use crate::settings::text;

/// All services.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    replica: String,
    leader: Option<String>,
    /// Whether this replica is the one that decides.
    leads: bool,
    replicas: u32,
    at_ms: u64,
    /// Why some of it is old or missing.
    trouble: Vec<String>,
    failed_fetches: BTreeMap<&'static str, u64>,
    services: Vec<Row>,
}

/// What is said of a service wherever it is named.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: String,
    mode: &'static str,
    limit: f64,
    min: f64,
    max: f64,
    generation: u64,
    offered: Option<f64>,
    admitted: Option<f64>,
    hand: Option<Value>,
    last: Option<Step>,
}

/// One step of the law, in short.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    at_ms: u64,
    age_s: f64,
    action: &'static str,
    sentence: String,
    /// How long ago the windows ended that were judged last; none if there has been no data yet.
    signal_age_s: Option<f64>,
}

/// Everything about one service.
#[derive(Debug, Serialize)]
pub(super) struct Detail {
    #[serde(flatten)]
    row: Row,
    replica: String,
    leader: Option<String>,
    at_ms: u64,
    trouble: Vec<String>,
    /// Where it stands in the rule files.
    place: String,
    start: f64,
    interval_s: f64,
    targets: Value,
    stale: Value,
    brittle: bool,
    epoch: Option<u64>,
    /// What would have to happen for the limit to rise.
    prospect: Option<String>,
    signals: Vec<SignalView>,
    knee: Option<Value>,
    settle_left_s: Option<f64>,
    absence: Option<String>,
    queries: Vec<String>,
    /// What is doubtful about the answers.
    doubts: Vec<String>,
    /// The law's memory, as it is stored.
    state: Option<Value>,
    changes: Vec<Entry>,
    ticks: Vec<Entry>,
}

/// One signal as it was judged last.
#[derive(Debug, Serialize)]
pub(super) struct SignalView {
    signal: &'static str,
    ratio: f64,
    lower: f64,
    threshold: f64,
    normal: f64,
    answered: f64,
    window_s: f64,
    is_bad: bool,
}

/// Something that happened.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    at_ms: u64,
    generation: u64,
    what: &'static str,
    sentence: String,
    #[serde(flatten)]
    numbers: Option<Numbers>,
}

/// The numbers of a decision that a chart needs.
#[derive(Debug, Serialize)]
pub(super) struct Numbers {
    action: &'static str,
    mode: &'static str,
    from: f64,
    to: f64,
    offered: f64,
    admitted: f64,
    errors: Option<f64>,
    slow: Option<f64>,
}

/// All services. The store said of those called `names` what their last steps were.
pub(super) fn overview(
    view: &ControllerView,
    names: &[Arc<str>],
    latest: &[Option<Change>],
    trouble: Option<String>,
) -> Overview {
    let latest: HashMap<&Arc<str>, &DecisionRecord> =
        names.iter().zip(latest).filter_map(|(name, change)| Some((name, decided(change.as_ref()?)?))).collect();
    let services = view.services.iter().map(|service| {
        let last = latest.get(&service.service.name).copied().or(service.last.as_deref());
        row(view, service, last)
    });
    Overview {
        replica: view.replica.to_string(),
        leader: view.leader.as_ref().map(ToString::to_string),
        leads: view.epoch.is_some(),
        replicas: view.replicas,
        at_ms: view.at.as_millis(),
        trouble: view.trouble.iter().cloned().chain(trouble).collect(),
        failed_fetches: view.failed_fetches.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
        services: services.collect(),
    }
}

/// One service, with what the store said of it.
pub(super) fn detail(
    view: &ControllerView,
    service: &ServiceView,
    record: Result<Option<Record>, RecordError>,
    remembered: Result<Remembered, RecordError>,
) -> Detail {
    let mut trouble: Vec<String> = view.trouble.iter().cloned().collect();
    let mut known = |error: RecordError| trouble.push(error.to_string());
    let record = record.map_err(&mut known).ok().flatten();
    let remembered = remembered.map_err(&mut known).unwrap_or_default();
    let last = remembered.ticks.first().and_then(decided).or(service.last.as_deref());
    let decision = last.map(|last| &last.decision);
    let (targets, stale) = (&service.service.targets, &service.service.stale);
    Detail {
        row: row(view, service, last),
        replica: view.replica.to_string(),
        leader: view.leader.as_ref().map(ToString::to_string),
        at_ms: view.at.as_millis(),
        place: service.service.place.to_string(),
        start: service.service.start.per_second(),
        interval_s: service.service.interval.as_secs_f64(),
        targets: json!({
            "errors": targets.errors,
            "latency": targets.latency.map(|latency| json!({
                "above_s": latency.above.as_secs_f64(),
                "at_most": latency.at_most,
            })),
        }),
        stale: json!({
            "hold_s": stale.hold.as_secs_f64(),
            "decay_s": stale.decay.as_secs_f64(),
            "toward": stale.toward.per_second(),
        }),
        brittle: service.service.brittle,
        epoch: record.as_ref().map(|record| record.epoch.number()),
        prospect: last.map(|last| last.prospect.clone()),
        signals: decision.map(|decision| decision.judged.iter().map(signal).collect()).unwrap_or_default(),
        knee: decision.and_then(|decision| decision.knee).map(|knee| json!({ "rate": knee.rate, "age_s": knee.age })),
        settle_left_s: decision.and_then(|decision| decision.settle_left),
        absence: decision.and_then(|decision| decision.absence.clone()),
        queries: last.map(|last| last.queries.clone()).unwrap_or_default(),
        doubts: last.map(|last| last.doubts.clone()).unwrap_or_default(),
        state: record.and_then(|record| serde_json::from_str(&record.state).ok()),
        changes: remembered.changes.iter().map(entry).collect(),
        ticks: remembered.ticks.iter().map(entry).collect(),
        trouble,
    }
}

/// The ticks of a service that can be made again, oldest first, without their queries.
pub(super) fn ticks(service: &ServiceView, ticks: Vec<Change>) -> Value {
    let made_again = |change: Change| match change.event {
        Event::Decided(record) if record.made_of.is_some() => Some(DecisionRecord { queries: Vec::new(), ..*record }),
        _ => None,
    };
    let ticks: Vec<DecisionRecord> = ticks.into_iter().rev().filter_map(made_again).collect();
    json!({ "interval_s": service.service.interval.as_secs_f64(), "ticks": ticks })
}

fn row(view: &ControllerView, service: &ServiceView, last: Option<&DecisionRecord>) -> Row {
    Row {
        name: service.service.name.to_string(),
        mode: service.service.mode.name(),
        limit: service.limit.per_second(),
        min: service.service.bounds.min.per_second(),
        max: service.service.bounds.max.per_second(),
        generation: service.generation,
        offered: service.rates.map(|rates| rates.offered),
        admitted: service.rates.map(|rates| rates.admitted),
        hand: service.hand.as_ref().map(|on| hand(on, &service.service.bounds, view.at)),
        last: last.map(|last| Step {
            at_ms: last.at.as_millis(),
            age_s: seconds(last.at, view.at),
            action: last.decision.action.name(),
            sentence: last.decision.to_string(),
            signal_age_s: last.signal_at.map(|at| seconds(at, view.at)),
        }),
    }
}

/// A hand under these bounds, as it is at `now`.
pub(super) fn hand(hand: &OperatorsHand, bounds: &RateBounds, now: Timestamp) -> Value {
    let limit_of = |hand: Hand| if let Hand::Override(limit) = hand { Some(limit.per_second()) } else { None };
    let kind = match hand.hand {
        Hand::Freeze => "freeze",
        Hand::Override(_) => "override",
    };
    json!({
        "hand": kind,
        "limit": limit_of(hand.hand),
        "limit_within_bounds": limit_of(hand.within(bounds)),
        "reason": hand.reason,
        "by": hand.by,
        "since_ms": hand.since.as_millis(),
        "until_ms": hand.until.as_millis(),
        "left_s": seconds(now, hand.until),
        "sentence": hand_sentence(hand, bounds, now),
    })
}

fn signal(judged: &Judged) -> SignalView {
    SignalView {
        signal: judged.signal.name(),
        ratio: judged.ratio,
        lower: judged.lower,
        threshold: judged.threshold,
        normal: judged.normal,
        answered: judged.answered,
        window_s: judged.window,
        is_bad: judged.is_bad,
    }
}

fn decided(change: &Change) -> Option<&DecisionRecord> {
    if let Event::Decided(record) = &change.event { Some(record) } else { None }
}

fn entry(change: &Change) -> Entry {
    let (what, sentence) = match &change.event {
        Event::Decided(record) => ("decided", record.decision.to_string()),
        Event::Laid(hand) => ("laid", lasting(&hand.to_string(), hand, hand.since)),
        Event::Lifted(by) => ("lifted", format!("the hand was taken off by {}: {}", by.by(), by.reason())),
        Event::Reset(by) => ("reset", format!("forgotten by {}: {}", by.by(), by.reason())),
    };
    let numbers = decided(change).map(|record| {
        let share = |name| record.decision.judged.iter().find(|judged| judged.signal.name() == name);
        Numbers {
            action: record.decision.action.name(),
            mode: record.mode.name(),
            from: record.decision.from,
            to: record.decision.to,
            offered: record.decision.offered,
            admitted: record.decision.admitted,
            errors: share("errors").map(|judged| judged.ratio),
            slow: share("latency").map(|judged| judged.ratio),
        }
    });
    Entry { at_ms: change.at.as_millis(), generation: change.generation, what, sentence, numbers }
}

/// Seconds from one instant to a later one; 0 if it isn't later.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.as_millis().saturating_sub(from.as_millis()) as f64 / 1_000.0
}

/// What an operator wants, what these bounds leave of it, and for how long from `from` on.
pub(super) fn hand_sentence(hand: &OperatorsHand, bounds: &RateBounds, from: Timestamp) -> String {
    lasting(&hand.sentence(bounds), hand, from)
}

fn lasting(sentence: &str, hand: &OperatorsHand, from: Timestamp) -> String {
    let left = seconds(from, hand.until).ceil() as u64;
    // Nobody needs the seconds of an hour.
    let left = if left > 120 { left.div_ceil(60) * 60 } else { left };
    format!("{sentence}; for {}", text::written(Duration::from_secs(left)))
}
