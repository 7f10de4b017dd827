//! What a `rate_limit` says as a whole: an [`Action`], or why it is none (V11, V12 and what our own words ask for).

use super::error::{KeyPath, Place, Report, quoted};
use super::file::{Field, Located, RawCounted, RawLimit};
use super::words;
use super::{Action, Algorithm, Defaults};
use crate::limit::{Limit, Unit, Window};
use crate::window::{Policy, TokenBucket};

/// Judges a limit. `None` where there was a mistake, reported here or before.
pub(super) fn action(
    limit: &Located<RawLimit>,
    counted: &RawCounted,
    defaults: &Defaults,
    path: &KeyPath<'_>,
    report: &mut Report,
) -> Option<Action> {
    let raw = &limit.value;
    if raw.unlimited.is_wrong() {
        return None;
    }
    if raw.unlimited.is_true() {
        return unlimited(raw, path, report);
    }
    let window = window(raw, limit.place, path, report);
    if raw.requests_per_unit.is_absent() {
        let text =
            "requests_per_unit is missing, so everything is blocked; write requests_per_unit: 0 if that is meant";
        report.warning(path, limit.place, text);
    }
    let requests_per_unit = match &raw.requests_per_unit {
        Field::Absent => 0,
        Field::Given(located) => located.value,
        Field::Wrong => return None,
    };
    let algorithm = match &raw.algorithm {
        Field::Absent => defaults.algorithm,
        Field::Given(located) => located.value,
        Field::Wrong => return None,
    };
    let own = misplaced_parameters(raw, algorithm, path, report);
    let limit = Limit { requests_per_unit, window: window? };
    own.then(|| {
        let precision = raw.precision.value().copied().unwrap_or(defaults.precision);
        let policy = match raw.burst.value() {
            Some(burst) => Policy::TokenBucket(TokenBucket::new(requests_per_unit, limit.window, *burst)),
            None => Defaults { algorithm, precision, ..*defaults }.policy(limit),
        };
        Action::Limited { limit, policy, shadow_mode: counted.shadow_mode, quota_mode: counted.quota_mode }
    })
}

fn unlimited(raw: &RawLimit, path: &KeyPath<'_>, report: &mut Report) -> Option<Action> {
    if let Some(unit) = raw.unit.given() {
        let path = path.word("unit");
        if unit.value.unit.is_some() {
            let text = "should not specify rate limit unit when unlimited; take out either";
            report.mistake(&path, unit.place, text);
        } else {
            let text = format!("'{}' is no unit, and has no effect next to unlimited: true", quoted(&unit.value.text));
            report.warning(&path, unit.place, text);
        }
    }
    if let Some(requests) = raw.requests_per_unit.given() {
        report.warning(&path.word("requests_per_unit"), requests.place, "has no effect next to unlimited: true");
    }
    let mut refuse = |word: &str, place: Option<Place>| {
        if let Some(place) = place {
            report.mistake(
                &path.word(word),
                place,
                format!("{word} means nothing next to unlimited: true; take it out"),
            );
        }
    };
    refuse("algorithm", raw.algorithm.given().map(|located| located.place));
    refuse("window", raw.window.given().map(|located| located.place));
    refuse("unit_multiplier", raw.unit_multiplier.given().map(|located| located.place));
    refuse("burst", raw.burst.given().map(|located| located.place));
    refuse("precision", raw.precision.given().map(|located| located.place));
    Some(Action::Unlimited)
}

/// The window: `unit`, or `unit` times `unit_multiplier`, or `window`.
fn window(raw: &RawLimit, place: Place, path: &KeyPath<'_>, report: &mut Report) -> Option<Window> {
    if let (Some(given), false) = (raw.window.given(), raw.unit.is_absent()) {
        let text = "window and unit both say how long the window is; take out either";
        report.mistake(&path.word("window"), given.place, text);
        return None;
    }
    if let Some(multiplier) = raw.unit_multiplier.given().filter(|_| raw.unit.is_absent()) {
        let text = "unit_multiplier multiplies a unit and there is none; add one, or give the whole length as window";
        report.mistake(&path.word("unit_multiplier"), multiplier.place, text);
        return None;
    }
    let (window, word, place) = match (&raw.window, &raw.unit, &raw.unit_multiplier) {
        (Field::Wrong, _, _) | (_, Field::Wrong, _) => return None,
        (Field::Given(window), _, _) => (Window::from_millis(window.value), "window", window.place),
        (Field::Absent, Field::Absent, _) => {
            invalid_unit("", &path.word("unit"), place, report);
            return None;
        }
        (Field::Absent, Field::Given(unit), multiplier) => {
            let Some(known) = unit.value.unit else {
                invalid_unit(&unit.value.text, &path.word("unit"), unit.place, report);
                return None;
            };
            match multiplier {
                Field::Absent => return Some(known.into()),
                Field::Wrong => return None,
                Field::Given(times) => (Window::from_units(known, times.value), "unit_multiplier", times.place),
            }
        }
    };
    window.map_err(|error| report.mistake(&path.word(word), place, error.to_string())).ok()
}

fn invalid_unit(text: &str, path: &KeyPath<'_>, place: Place, report: &mut Report) {
    let names = Unit::ALL.map(Unit::name);
    let mut sentence = format!("invalid rate limit unit '{}': write one of {}", quoted(text), names.join(", "));
    if text.is_empty() {
        sentence.push_str(", or a window such as 10s");
    } else if let Some(nearest) = words::nearest(text, &names) {
        sentence.push_str(&format!(" (did you mean {nearest}?)"));
    }
    report.mistake(path, place, sentence);
}

/// Whether `burst` and `precision` stand only where they mean something.
fn misplaced_parameters(raw: &RawLimit, algorithm: Algorithm, path: &KeyPath<'_>, report: &mut Report) -> bool {
    let mut right = !raw.burst.is_wrong() && !raw.precision.is_wrong();
    if let Some(burst) = raw.burst.given() {
        let blocks = raw.requests_per_unit.value().is_none_or(|requests| *requests == 0);
        let sentence = match () {
            () if algorithm != Algorithm::TokenBucket => {
                format!("burst is for token_bucket, and this rule is a {}", algorithm.name())
            }
            () if burst.value == 0 => "a burst of 0 lets nothing through; it is at least 1".to_owned(),
            () if blocks => format!("a bucket of {} that is never filled: requests_per_unit is 0", burst.value),
            () => String::new(),
        };
        if !sentence.is_empty() {
            report.mistake(&path.word("burst"), burst.place, sentence);
            right = false;
        }
    }
    if let Some(precision) = raw.precision.given().filter(|_| algorithm != Algorithm::SlidingWindow) {
        let text = format!("precision is for sliding_window, and this rule is a {}", algorithm.name());
        report.mistake(&path.word("precision"), precision.place, text);
        right = false;
    }
    right
}
