//! From a YAML tree to raw services: which words stand where, and whether their values have the right type. The rest of
//! a rule file is bound in the same way one level up.
//!
//! Three maps have keys that are no words: the entries of a governed descriptor, `latency`, where a quantile is named by
//! its percentage, and `law`, whose constants are a list of their own. They are read by hand.

use smallvec::SmallVec;

use super::file::{
    RawBasicAuth, RawBounds, RawGoverned, RawPrometheus, RawQueries, RawService, RawSignals, RawStale, RawStep,
    RawTargets,
};
use super::{LatencyTarget, LawNumbers, law, value as read};
use crate::rules::bind::{Bind, Words};
use crate::rules::error::{KeyPath, Place, Report, quoted};
use crate::rules::file::{Elements, Field, Located};
use crate::rules::value::{self, Reader};
use crate::rules::words::Level;
use crate::rules::yaml::{Node, Pair, Value};

/// Most entries of a governed descriptor: more than a request can have are never matched.
const STEPS_MAX: usize = 32;

/// The value of `prometheus`.
pub(in crate::rules) fn prometheus(
    words: &Words<'_, '_>,
    _place: Place,
    path: &KeyPath<'_>,
    report: &mut Report,
) -> RawPrometheus {
    let mut bind = Bind { words, path, report };
    RawPrometheus {
        url: bind.text("url"),
        timeout: number(&mut bind, "timeout", read::timeout),
        bearer_token: secret(&mut bind, "bearer_token"),
        bearer_token_file: bind.text("bearer_token_file"),
        basic_auth: bind.map("basic_auth", Level::BasicAuth, basic_auth),
        ca_file: bind.text("ca_file"),
    }
}

fn basic_auth(words: &Words<'_, '_>, _place: Place, path: &KeyPath<'_>, report: &mut Report) -> RawBasicAuth {
    let mut bind = Bind { words, path, report };
    RawBasicAuth {
        user: bind.text("user"),
        password: secret(&mut bind, "password"),
        password_file: bind.text("password_file"),
    }
}

/// An element of `services`.
pub(in crate::rules) fn service(
    words: &Words<'_, '_>,
    place: Place,
    path: &KeyPath<'_>,
    report: &mut Report,
) -> RawService {
    let mut bind = Bind { words, path, report };
    RawService {
        place,
        name: bind.text("name"),
        mode: bind.one("mode", read::mode),
        governs: present(bind.list("governs", Level::Governed, governed)),
        gate: bind.one("gate", read::gate),
        bounds: bind.map("bounds", Level::Bounds, bounds),
        start: number(&mut bind, "start", read::rate),
        targets: bind.map("targets", Level::Targets, targets),
        signals: bind.map("signals", Level::Signals, signals),
        interval: number(&mut bind, "interval", read::interval),
        scrape_interval: number(&mut bind, "scrape_interval", read::scrape_interval),
        propagation: number(&mut bind, "propagation", read::delay),
        stale: bind.map("stale", Level::Stale, stale),
        brittle: bind.one("brittle", value::boolean),
        scale_rules: bind.one("scale_rules", value::boolean),
        law: law_numbers(&mut bind),
    }
}

fn governed(words: &Words<'_, '_>, place: Place, path: &KeyPath<'_>, report: &mut Report) -> Option<RawGoverned> {
    let mut bind = Bind { words, path, report };
    let (domain, descriptor) = (bind.text("domain"), steps(&mut bind));
    let is_right = !domain.is_wrong() && !descriptor.is_wrong();
    is_right.then_some(RawGoverned { place, domain, descriptor })
}

/// The elements whose mistakes aren't reported yet.
fn present<T>(elements: Elements<Option<T>>) -> Elements<T> {
    let Elements { mut items, mut is_wrong } = elements;
    is_wrong |= items.iter().any(|(_, item)| item.is_none());
    Elements { items: items.drain(..).filter_map(|(index, item)| Some((index, item?))).collect(), is_wrong }
}

fn bounds(words: &Words<'_, '_>, _place: Place, path: &KeyPath<'_>, report: &mut Report) -> RawBounds {
    let mut bind = Bind { words, path, report };
    RawBounds { min: number(&mut bind, "min", read::lowest_rate), max: number(&mut bind, "max", read::rate) }
}

fn targets(words: &Words<'_, '_>, _place: Place, path: &KeyPath<'_>, report: &mut Report) -> RawTargets {
    let mut bind = Bind { words, path, report };
    RawTargets { errors: number(&mut bind, "errors", read::error_share), latency: latency(&mut bind) }
}

fn stale(words: &Words<'_, '_>, _place: Place, path: &KeyPath<'_>, report: &mut Report) -> RawStale {
    let mut bind = Bind { words, path, report };
    RawStale {
        hold: number(&mut bind, "hold", read::stale_time),
        decay: number(&mut bind, "decay", read::stale_time),
        toward: number(&mut bind, "toward", read::toward),
    }
}

fn signals(words: &Words<'_, '_>, _place: Place, path: &KeyPath<'_>, report: &mut Report) -> RawSignals {
    let mut bind = Bind { words, path, report };
    RawSignals {
        preset: bind.one("preset", read::preset),
        cluster: bind.text("cluster"),
        limited_status: bind.one("limited_status", read::limited_status),
        failure_mode_deny: bind.one("failure_mode_deny", value::boolean),
        flush: number(&mut bind, "flush", read::delay),
        service: bind.text("service"),
        namespace: bind.text("namespace"),
        reporter: bind.one("reporter", read::reporter),
        metric: bind.text("metric"),
        matchers: bind.text("match"),
        error_matchers: bind.text("error_match"),
        unit: bind.one("unit", read::histogram_unit),
        queries: bind.map("queries", Level::Queries, queries),
    }
}

fn queries(words: &Words<'_, '_>, _place: Place, path: &KeyPath<'_>, report: &mut Report) -> RawQueries {
    let mut bind = Bind { words, path, report };
    RawQueries {
        answered: bind.text("answered"),
        failed: bind.text("failed"),
        slow: bind.text("slow"),
        latency_sum: bind.text("latency_sum"),
    }
}

/// Binds a value that may be a number with a point; of several the last one counts.
fn number<T>(bind: &mut Bind<'_, '_, '_>, word: &'static str, reader: Reader<T>) -> Field<T> {
    let path = bind.path.word(word);
    let mut field = if bind.is_misspelt(word) { Field::Wrong } else { Field::Absent };
    let nodes: SmallVec<[&Node<'_>; 1]> = bind.all(word).collect();
    for node in nodes {
        field = read::field(node, reader, &path, bind.report);
    }
    field
}

/// The law's own numbers; of several maps the last one counts.
fn law_numbers(bind: &mut Bind<'_, '_, '_>) -> Field<LawNumbers> {
    let path = bind.path.word("law");
    let mut field = if bind.is_misspelt("law") { Field::Wrong } else { Field::Absent };
    let nodes: SmallVec<[&Node<'_>; 1]> = bind.all("law").collect();
    for node in nodes {
        field = law::read(node, &path, bind.report);
    }
    field
}

/// A text that no sentence quotes.
fn secret(bind: &mut Bind<'_, '_, '_>, word: &'static str) -> Field<String> {
    let mut field = if bind.is_misspelt(word) { Field::Wrong } else { Field::Absent };
    let nodes: SmallVec<[&Node<'_>; 1]> = bind.all(word).collect();
    for node in nodes {
        field = match &node.value {
            _ if value::is_null(node) => Field::Absent,
            Value::Scalar(text, _) if text.is_empty() => Field::Absent,
            Value::Scalar(text, _) => Field::Given(Located { value: text.to_string(), place: node.place }),
            Value::List(_) | Value::Map(_) => {
                value::wrong_type(node, "a single value", &bind.path.word(word), bind.report);
                Field::Wrong
            }
        };
    }
    field
}

/// The list of entries that leads to a rule, or that a subset rule has.
fn steps(bind: &mut Bind<'_, '_, '_>) -> Field<Vec<RawStep>> {
    const RIGHT: &str = "a list of entries such as [ { service: inventory }, { user: } ]";
    let path = bind.path.word("descriptor");
    let misspelt = bind.is_misspelt("descriptor");
    let Some(node) = bind.all("descriptor").next_back().filter(|node| !value::is_null(node)) else {
        return if misspelt { Field::Wrong } else { Field::Absent };
    };
    let Value::List(items) = &node.value else {
        value::wrong_type(node, RIGHT, &path, bind.report);
        return Field::Wrong;
    };
    if items.is_empty() || items.len() > STEPS_MAX {
        let text = format!("{} entries; a rule has 1 to {STEPS_MAX}: write {RIGHT}", items.len());
        bind.report.mistake(&path, node.place, text);
        return Field::Wrong;
    }
    let steps: Vec<_> =
        items.iter().enumerate().map(|(index, item)| step(item, &path.item(index, ""), bind.report)).collect();
    match steps.into_iter().collect::<Option<Vec<_>>>() {
        Some(value) => Field::Given(Located { value, place: node.place }),
        None => Field::Wrong,
    }
}

/// One key with its value, or with nothing where the rule names the key alone.
fn step(item: &Node<'_>, path: &KeyPath<'_>, report: &mut Report) -> Option<RawStep> {
    let Value::Map(pairs) = &item.value else {
        value::wrong_type(item, "one key with its value, such as {service: inventory},", path, report);
        return None;
    };
    let [Pair { key, value: node, .. }] = pairs.as_slice() else {
        let text = format!("{} keys; each entry is one key with its value, in an element of its own", pairs.len());
        report.mistake(path, item.place, text);
        return None;
    };
    let key = match value::field(key, value::text, path, report) {
        Field::Given(key) if !key.value.is_empty() => key.value,
        Field::Wrong => return None,
        Field::Given(_) | Field::Absent => {
            report.mistake(path, item.place, "an entry without a key; write one, such as {service: inventory}");
            return None;
        }
    };
    match value::field(node, value::text, &path.word(&key), report) {
        Field::Given(value) if !value.value.is_empty() => Some(RawStep { key, value: Some(value.value) }),
        Field::Given(_) | Field::Absent => Some(RawStep { key, value: None }),
        Field::Wrong => None,
    }
}

/// `{above: 250ms, at_most: 10%}` or `{p90: 250ms}`.
fn latency(bind: &mut Bind<'_, '_, '_>) -> Field<LatencyTarget> {
    const RIGHT: &str = "write { above: 250ms, at_most: 10% }, or { p90: 250ms }, which is the same";
    let path = bind.path.word("latency");
    let misspelt = bind.is_misspelt("latency");
    let Some(node) = bind.all("latency").next_back().filter(|node| !value::is_null(node)) else {
        return if misspelt { Field::Wrong } else { Field::Absent };
    };
    let Value::Map(pairs) = &node.value else {
        value::wrong_type(node, "a map such as { above: 250ms, at_most: 10% }", &path, bind.report);
        return Field::Wrong;
    };
    let (mut above, mut at_most, mut quantile) = (Field::Absent, Field::Absent, None);
    let mut is_wrong = false;
    for pair in pairs {
        let name = value::word_text(&pair.key).unwrap_or_default();
        let below = path.word(name);
        match (name, read::quantile(name)) {
            ("above", _) => above = read::field(&pair.value, read::threshold, &below, bind.report),
            ("at_most", _) => at_most = read::field(&pair.value, read::slow_share, &below, bind.report),
            (_, Some(percent)) if percent > 0.0 && percent < 100.0 && quantile.is_none() => {
                quantile = Some((percent, read::field(&pair.value, read::threshold, &below, bind.report)));
            }
            (_, Some(percent)) if percent > 0.0 && percent < 100.0 => {
                bind.report.mistake(&below, pair.key.place, "one quantile is judged; take the others out");
                is_wrong = true;
            }
            (_, Some(_)) => {
                let text = format!("{name} is no quantile that can be missed: take one above p0 and below p100");
                bind.report.mistake(&below, pair.key.place, text);
                is_wrong = true;
            }
            _ => {
                let text = format!("unknown key '{}': {RIGHT}", quoted(name));
                bind.report.mistake(&below, pair.key.place, text);
                is_wrong = true;
            }
        }
    }
    let given = !above.is_absent() || !at_most.is_absent();
    let target = match (quantile, above, at_most) {
        (Some(_), ..) if given => Err("a quantile and above with at_most say the same thing; take out either"),
        (Some((percent, above)), ..) => Ok(above.given().map(|above| (above.value, (100.0 - percent) / 100.0))),
        (None, Field::Absent, _) => Err("there is no threshold"),
        (None, _, Field::Absent) => Err("there is no share of slow answers that is still well"),
        (None, above, at_most) => Ok(above.value().copied().zip(at_most.value().copied())),
    };
    match target {
        _ if is_wrong => Field::Wrong,
        Ok(Some((above, at_most))) => {
            Field::Given(Located { value: LatencyTarget { above, at_most }, place: node.place })
        }
        Ok(None) => Field::Wrong,
        Err(text) => {
            bind.report.mistake(&path, node.place, format!("{text}: {RIGHT}"));
            Field::Wrong
        }
    }
}
