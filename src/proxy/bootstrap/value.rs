//! One value of the file, read as a protobuf message's JSON form is: is it what its field asks for?
//!
//! What is wrong is reported and something harmless is returned, so that the rest is judged too; a file with any
//! mistake gives no bootstrap in the end.
//!
//! Envoy turns YAML into JSON before it reads it, and its rules for that hold here: `yes`, `off` and the like are
//! booleans, a whole number is a number, and any other unquoted word is a text, `1.5` too. A text may stand for a
//! number (`"5"`) and for a boolean (`"true"`), never the other way round.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::object::Object;
use super::report::Report;
use crate::rules::scalar::Kind;
use crate::rules::yaml::{self, Node};

/// Longest duration that is read: a hundred years, in seconds.
const DURATION_SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// A value, the keys that lead to it, and where to report what is wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Value<'n> {
    pub(super) node: &'n Node<'n>,
    pub(super) path: String,
    pub(super) report: &'n Report,
}

// === impl Value ===

impl<'n> Value<'n> {
    pub(super) fn mistake(&self, text: impl Into<String>) {
        self.report.mistake(&self.path, self.node.place, text);
    }

    pub(super) fn warning(&self, text: impl Into<String>) {
        self.report.warning(&self.path, self.node.place, text);
    }

    fn wrong(&self, right: &str) {
        self.mistake(format!("{} where {right} is needed", self.node.describe()));
    }

    /// Whether it says nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.node.value, yaml::Value::Scalar(_, Kind::Null))
    }

    /// Whether it is written as this word, quoted or not.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.scalar().is_some_and(|text| text.eq_ignore_ascii_case(word))
    }

    /// A text, which a number is too if it isn't a whole one.
    pub(super) fn text(&self) -> Option<&'n str> {
        match &self.node.value {
            yaml::Value::Scalar(text, Kind::Text | Kind::Merge | Kind::Float(_) | Kind::Beyond) => Some(text),
            yaml::Value::Scalar(_, Kind::Int(number)) if i32::try_from(*number).is_err() => self.scalar(),
            yaml::Value::Scalar(_, Kind::Int(_) | Kind::Bool(_)) => {
                self.mistake(format!("{} where a text is needed; put it in quotes", self.node.describe()));
                None
            }
            yaml::Value::Scalar(..) | yaml::Value::List(_) | yaml::Value::Map(_) => {
                self.wrong("a text");
                None
            }
        }
    }

    fn scalar(&self) -> Option<&'n str> {
        match &self.node.value {
            yaml::Value::Scalar(text, _) => Some(text),
            yaml::Value::List(_) | yaml::Value::Map(_) => None,
        }
    }

    /// A text that is not empty.
    pub(super) fn word(&self) -> Option<&'n str> {
        let text = self.text()?;
        if text.is_empty() {
            self.mistake("an empty text where one of at least one character is needed");
            return None;
        }
        Some(text)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            yaml::Value::Scalar(_, Kind::Bool(value)) => Some(*value),
            yaml::Value::Scalar(text, Kind::Text) if text == "true" => Some(true),
            yaml::Value::Scalar(text, Kind::Text) if text == "false" => Some(false),
            _ => {
                self.wrong("true or false");
                None
            }
        }
    }

    /// A whole number of this range.
    pub(super) fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let number = match &self.node.value {
            yaml::Value::Scalar(_, Kind::Int(number)) => Some(*number),
            yaml::Value::Scalar(_, Kind::Float(number)) if number.fract() == 0.0 && number.abs() < 1e15 => {
                Some(*number as i64)
            }
            yaml::Value::Scalar(text, Kind::Text) => text.parse().ok(),
            _ => None,
        };
        let fits = number.filter(|number| range.contains(number));
        if fits.is_none() {
            self.wrong(&format!("a whole number from {} to {}", range.start(), range.end()));
        }
        fits
    }

    /// A whole number that 32 bits hold.
    pub(super) fn count(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let number = self.integer(i64::from(*range.start())..=i64::from(*range.end()))?;
        u32::try_from(number).ok()
    }

    /// A number of this range.
    pub(super) fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match &self.node.value {
            yaml::Value::Scalar(_, Kind::Int(number)) => Some(*number as f64),
            yaml::Value::Scalar(_, Kind::Float(number)) => Some(*number),
            yaml::Value::Scalar(text, Kind::Text) => text.parse().ok(),
            _ => None,
        };
        let fits = number.filter(|number| range.contains(number));
        if fits.is_none() {
            self.wrong(&format!("a number from {} to {}", range.start(), range.end()));
        }
        fits
    }

    /// A length of time in seconds, such as `0.25s`, of at least that much.
    pub(super) fn duration(&self, min: Duration) -> Option<Duration> {
        let read = match &self.node.value {
            yaml::Value::Scalar(text, Kind::Text) => parse_duration(text),
            _ => None,
        };
        match read {
            Some(duration) if duration >= min => Some(duration),
            Some(_) => {
                self.wrong(&format!("a duration of at least {}s", min.as_secs_f64()));
                None
            }
            None => {
                self.wrong("a duration in seconds, such as 0.25s or 10s,");
                None
            }
        }
    }

    /// One of a protobuf enumeration's names, in whatever case.
    pub(super) fn choice<T: Copy>(&self, names: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        if found.is_none() {
            let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            self.wrong(&match &known[..] {
                [only] => format!("{only}, the only one that tidegate-proxy knows,"),
                _ => format!("one of {}", known.join(", ")),
            });
        }
        found.map(|(_, value)| *value)
    }

    pub(super) fn ip_address(&self) -> Option<IpAddr> {
        let address = self.text()?.parse().ok();
        if address.is_none() {
            self.wrong("an IP address");
        }
        address
    }

    /// The elements of a list, each read.
    pub(super) fn list<T>(&self, mut read: impl FnMut(Value<'n>) -> Option<T>) -> Vec<T> {
        let yaml::Value::List(items) = &self.node.value else {
            self.wrong("a list");
            return Vec::new();
        };
        let element = |(index, node)| {
            let value = Value { node, path: format!("{}[{index}]", self.path), report: self.report };
            if value.is_null() {
                value.mistake("nothing where an element of the list is needed");
                return None;
            }
            read(value)
        };
        items.iter().enumerate().filter_map(element).collect()
    }

    /// A message, read field by field; afterwards, fields that nobody asked for are reported.
    pub(super) fn object<T>(&self, read: impl FnOnce(&mut Object<'n>) -> T) -> Option<T> {
        let mut object = self.open()?;
        let result = read(&mut object);
        object.finish();
        Some(result)
    }

    /// A message of which one of the fields says which kind it is; the reader finishes it.
    pub(super) fn open(&self) -> Option<Object<'n>> {
        let yaml::Value::Map(pairs) = &self.node.value else {
            self.wrong("a map");
            return None;
        };
        Some(Object::new(self.clone(), pairs))
    }

    /// A map whose keys are anyone's choice.
    pub(super) fn entries(&self) -> Vec<(&'n str, Value<'n>)> {
        let yaml::Value::Map(pairs) = &self.node.value else {
            self.wrong("a map");
            return Vec::new();
        };
        let mut seen = BTreeSet::new();
        let mut entries = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (key, value) = self.pair(pair);
            let Some(key) = key.text() else { continue };
            if seen.insert(key) {
                entries.push((key, value));
            } else {
                value.mistake("stands twice; leave one of them");
            }
        }
        entries
    }

    /// A key and its value, with the path of the value.
    pub(super) fn pair(&self, pair: &'n yaml::Pair<'n>) -> (Value<'n>, Value<'n>) {
        let key = Value { node: &pair.key, path: self.path.clone(), report: self.report };
        let name = key.scalar().unwrap_or("?");
        let path = match (self.path.is_empty(), name.contains(['.', '[', ' '])) {
            (true, _) => name.to_owned(),
            (false, false) => format!("{}.{name}", self.path),
            (false, true) => format!("{}[\"{name}\"]", self.path),
        };
        if pair.merged {
            self.report.mistake(
                &path,
                pair.key.place,
                "comes by way of `<<`, which Envoy doesn't read; repeat the keys",
            );
        }
        (key, Value { node: &pair.value, path, report: self.report })
    }

    /// The value as JSON, for a protobuf Struct.
    pub(super) fn json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.node.value {
            yaml::Value::Scalar(_, Kind::Null) => Json::Null,
            yaml::Value::Scalar(_, Kind::Bool(value)) => Json::Bool(*value),
            yaml::Value::Scalar(text, Kind::Int(number)) => match i32::try_from(*number) {
                Ok(number) => Json::from(number),
                Err(_) => Json::from(text.as_ref()),
            },
            // Envoy hands every other scalar on as a text, a number with a point too.
            yaml::Value::Scalar(text, _) => Json::from(text.as_ref()),
            yaml::Value::List(_) => Json::Array(self.list_with_nulls().iter().map(Value::json).collect()),
            yaml::Value::Map(_) => {
                Json::Object(self.entries().into_iter().map(|(key, value)| (key.to_owned(), value.json())).collect())
            }
        }
    }

    pub(super) fn list_with_nulls(&self) -> Vec<Value<'n>> {
        let yaml::Value::List(items) = &self.node.value else { return Vec::new() };
        let element = |(index, node)| Value { node, path: format!("{}[{index}]", self.path), report: self.report };
        items.iter().enumerate().map(element).collect()
    }
}

/// A duration in protobuf's JSON form: seconds with up to nine digits behind the point, and an `s`. Not negative.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 9 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let seconds: u64 = whole.parse().ok().filter(|seconds| *seconds <= DURATION_SECONDS_MAX)?;
    let nanoseconds: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_seconds_with_an_s() {
        let read = |text: &str| parse_duration(text).map(|duration| duration.as_nanos());
        assert_eq!(read("0.25s"), Some(250_000_000));
        assert_eq!(read("10s"), Some(10_000_000_000));
        assert_eq!(read("0s"), Some(0));
        assert_eq!(read("1.000000001s"), Some(1_000_000_001));
        assert_eq!(read("1.s"), Some(1_000_000_000));
        for wrong in ["", "s", "1", "1 s", "-1s", "+1s", ".5s", "1e3s", "1.0000000001s", "1ms", "99999999999s", "١s"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
