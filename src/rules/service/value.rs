//! The values of adaptive services: rates, shares, lengths of time. What is no such value is answered with what would
//! be right, for the end of a sentence.

use std::time::Duration;

use super::file::Preset;
use super::{ServiceGate, ServiceMode};
use crate::rate::{NoRate, Rate};
use crate::rules::error::{KeyPath, Report};
use crate::rules::file::{Field, Located};
use crate::rules::scalar::Kind;
use crate::rules::value::{Reader, window, wrong_type};
use crate::rules::words;
use crate::rules::yaml::{Node, Value};

/// Lowest and highest share of failed answers that may be a target.
pub(super) const ERRORS: [f64; 2] = [0.001, 0.5];

/// Longest time that a limit may hold or drift without data: a week.
const STALE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Binds one value of a word that takes numbers with a point too, which the reference service's words never do.
pub(super) fn field<T>(node: &Node<'_>, read: Reader<T>, path: &KeyPath<'_>, report: &mut Report) -> Field<T> {
    let right = match &node.value {
        Value::Scalar(_, Kind::Null) => return Field::Absent,
        Value::Scalar(_, Kind::NotText) | Value::List(_) | Value::Map(_) => "a single value".to_owned(),
        Value::Scalar(text, kind) => match read(text, *kind) {
            Ok(value) => return Field::Given(Located { value, place: node.place }),
            Err(right) => right,
        },
    };
    wrong_type(node, &right, path, report);
    Field::Wrong
}

/// A rate: a number, a slash and `s`, `m` or `h`.
pub(super) fn rate(text: &str, _kind: Kind) -> Result<Rate, String> {
    text.parse().map_err(|wrong: NoRate| wrong.to_string())
}

/// The lowest limit.
pub(super) fn lowest_rate(text: &str, kind: Kind) -> Result<Rate, String> {
    let right = "a rate above zero, such as 10/s (a service that is shut completely shows no sign of recovery),";
    rate(text, kind).map_err(|_| right.to_owned())
}

/// The share of failed answers.
pub(super) fn error_share(text: &str, _kind: Kind) -> Result<f64, String> {
    let right = "a share from 0.1% to 50%, such as 5% or 0.05,";
    let [lowest, highest] = ERRORS;
    share_of(text).filter(|share| (lowest..=highest).contains(share)).ok_or_else(|| right.to_owned())
}

/// The share of slow answers.
pub(super) fn slow_share(text: &str, _kind: Kind) -> Result<f64, String> {
    let right = "a share above 0 and below 100%, such as 10% or 0.1,";
    share_of(text).filter(|share| *share > 0.0 && *share < 1.0).ok_or_else(|| right.to_owned())
}

/// `5%` or `0.05`. `5` is none: it may mean either 5 or 500 per cent.
fn share_of(text: &str) -> Option<f64> {
    match text.strip_suffix('%') {
        Some(number) => decimal(number.trim()).map(|number| number / 100.0),
        None => decimal(text).filter(|share| *share < 1.0),
    }
}

/// A number as people write it: digits with at most one point, neither sign nor exponent.
pub(super) fn decimal(text: &str) -> Option<f64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = text.parse().ok().filter(|_| is_plain && text.len() <= 20)?;
    number.is_finite().then_some(number)
}

/// The name of a quantile, `p90` or `p99.9`: the percentage of answers below it.
pub(super) fn quantile(word: &str) -> Option<f64> {
    decimal(word.strip_prefix('p')?)
}

fn time(text: &str, kind: Kind, lowest: Duration, highest: Duration, right: &str) -> Result<Duration, String> {
    let length = window(text, kind).ok().map(Duration::from_millis);
    length.filter(|length| (lowest..=highest).contains(length)).ok_or_else(|| right.to_owned())
}

pub(super) fn interval(text: &str, kind: Kind) -> Result<Duration, String> {
    time(text, kind, Duration::from_secs(1), Duration::from_secs(60), "a length of time from 1s to 1m, such as 5s,")
}

/// `None` for `auto`.
pub(super) fn scrape_interval(text: &str, kind: Kind) -> Result<Option<Duration>, String> {
    if text == "auto" {
        return Ok(None);
    }
    interval(text, kind).map(Some).map_err(|_| "auto, or a length of time from 1s to 1m such as 15s,".to_owned())
}

pub(super) fn delay(text: &str, kind: Kind) -> Result<Duration, String> {
    time(text, kind, Duration::ZERO, Duration::from_secs(60), "a length of time up to 1m, such as 1s,")
}

pub(super) fn timeout(text: &str, kind: Kind) -> Result<Duration, String> {
    let right = "a length of time from 1ms to 1m, such as 2s,";
    time(text, kind, Duration::from_millis(1), Duration::from_secs(60), right)
}

pub(super) fn threshold(text: &str, kind: Kind) -> Result<Duration, String> {
    let right = "a length of time from 1ms to 1h, such as 250ms,";
    time(text, kind, Duration::from_millis(1), Duration::from_secs(3_600), right)
}

pub(super) fn stale_time(text: &str, kind: Kind) -> Result<Duration, String> {
    let right = "a length of time above zero and up to 7d, such as 10m,";
    time(text, kind, Duration::from_millis(1), STALE_MAX, right)
}

/// `None` for `max`.
pub(super) fn toward(text: &str, kind: Kind) -> Result<Option<Rate>, String> {
    if text == "max" {
        return Ok(None);
    }
    rate(text, kind).map(Some).map_err(|right| format!("max, or {right}"))
}

pub(super) fn mode(text: &str, _kind: Kind) -> Result<ServiceMode, String> {
    let found = ServiceMode::ALL.into_iter().find(|mode| mode.name() == text);
    found.ok_or_else(|| one_of(text, &ServiceMode::ALL.map(ServiceMode::name)))
}

pub(super) fn gate(text: &str, _kind: Kind) -> Result<ServiceGate, String> {
    let found = ServiceGate::ALL.into_iter().find(|gate| gate.name() == text);
    found.ok_or_else(|| one_of(text, &ServiceGate::ALL.map(ServiceGate::name)))
}

pub(super) fn preset(text: &str, _kind: Kind) -> Result<Preset, String> {
    let found = Preset::ALL.into_iter().find(|preset| preset.name() == text);
    found.ok_or_else(|| one_of(text, &Preset::ALL.map(Preset::name)))
}

pub(super) fn reporter(text: &str, _kind: Kind) -> Result<String, String> {
    let known = ["source", "destination"];
    if known.contains(&text) { Ok(text.to_owned()) } else { Err(one_of(text, &known)) }
}

/// What one unit of a histogram is.
pub(super) fn histogram_unit(text: &str, _kind: Kind) -> Result<Duration, String> {
    match text {
        "s" | "seconds" => Ok(Duration::from_secs(1)),
        "ms" | "milliseconds" => Ok(Duration::from_millis(1)),
        _ => Err("s or ms, what one unit of the histogram is,".to_owned()),
    }
}

/// The status of limited requests: an error's.
pub(super) fn limited_status(_text: &str, kind: Kind) -> Result<u32, String> {
    let status = if let Kind::Int(number) = kind { u32::try_from(number).ok() } else { None };
    status.filter(|status| (400..=599).contains(status)).ok_or_else(|| "a status from 400 to 599".to_owned())
}

fn one_of(text: &str, names: &[&str]) -> String {
    match words::nearest(text, names) {
        Some(nearest) => format!("one of {} (did you mean {nearest}?)", names.join(", ")),
        None => format!("one of {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        for (text, millis) in [
            ("500/s", 500_000),
            ("30/m", 500),
            ("0.5/s", 500),
            (" 10 / s", 10_000),
            ("3600/h", 1_000),
            ("0.001/s", 1),
            ("1000000000/s", Rate::MAX.millis()),
        ] {
            assert_eq!(rate(text, Kind::Text).map(Rate::millis), Ok(millis), "{text}");
        }
        for wrong in ["500", "0/s", "-5/s", "1e3/s", "500/d", "/s", "s", "", "inf/s", "NaN/s", "1/s/s", "0.0001/s"] {
            let right = rate(wrong, Kind::Text).unwrap_err();
            assert!(right.starts_with("a rate above zero"), "{wrong}: {right}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_or_a_fraction_and_never_ambiguous() {
        for (text, share) in [("5%", 0.05), ("0.05", 0.05), ("50 %", 0.5), ("0.1%", 0.001), (".5", 0.5)] {
            assert!((error_share(text, Kind::Text).unwrap() - share).abs() < 1e-12, "{text}");
        }
        for wrong in ["5", "0", "0%", "0.09%", "51%", "0.6", "1", "-5%", "5 percent", "%", "", "nan", "5e-2"] {
            assert!(error_share(wrong, Kind::Text).is_err(), "{wrong}");
        }
        assert!(slow_share("99.9%", Kind::Text).is_ok());
        assert!(slow_share("100%", Kind::Text).is_err());
    }

    #[test]
    fn a_quantile_is_named_by_its_percentage() {
        assert_eq!(quantile("p90"), Some(90.0));
        assert_eq!(quantile("p99.9"), Some(99.9));
        for wrong in ["p", "90", "p-5", "px", "p9e1"] {
            assert_eq!(quantile(wrong), None, "{wrong}");
        }
    }
}
