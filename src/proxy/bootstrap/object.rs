//! A message of the file, field by field.
//!
//! A field is asked for by the name it has in the API and found under its JSON name as well. What nobody has asked for
//! is reported at the end, so a reader can't forget to refuse a field: it refuses all that it doesn't know.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::value::Value;
use crate::rules::scalar::Kind;
use crate::rules::yaml::{self, Pair};

/// How alike two names must be for one to be offered for the other: 1 is the same, 0 nothing in common.
const ALIKE_MIN: f64 = 0.8;

/// A message that is being read.
#[derive(Debug)]
pub(super) struct Object<'n> {
    /// The message as a value.
    pub(super) value: Value<'n>,
    fields: Vec<Field<'n>>,
    /// What was asked for, so that a name that is nearly one of these can be told.
    known: Vec<&'static str>,
}

#[derive(Debug)]
struct Field<'n> {
    name: &'n str,
    key: Value<'n>,
    value: Value<'n>,
    is_read: bool,
}

// === impl Object ===

impl<'n> Object<'n> {
    pub(super) fn new(value: Value<'n>, pairs: &'n [Pair<'n>]) -> Object<'n> {
        let mut fields: Vec<Field<'n>> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (key, field) = value.pair(pair);
            match &pair.key.value {
                yaml::Value::Scalar(name, Kind::Text) if fields.iter().any(|field| field.name == name) => {
                    field.mistake("stands twice; leave one of them");
                }
                yaml::Value::Scalar(name, Kind::Text) => {
                    fields.push(Field { name, key, value: field, is_read: false });
                }
                _ => key.mistake(format!("{} where the name of a field is needed", pair.key.describe())),
            }
        }
        Object { value, fields, known: Vec::new() }
    }

    /// A field's value, if it is there and says anything.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Value<'n>> {
        self.known.push(name);
        let json_name = json_name(name);
        let mut found: Option<Value<'n>> = None;
        for field in self.fields.iter_mut().filter(|field| field.name == name || field.name == json_name) {
            field.is_read = true;
            if found.is_some() {
                field.value.mistake(format!("is another name of {name}, which stands there too; leave one of them"));
            } else if !field.value.is_null() {
                found = Some(field.value.clone());
            }
        }
        found
    }

    /// A field that must be there.
    pub(super) fn required(&mut self, name: &'static str) -> Option<Value<'n>> {
        let value = self.get(name);
        if value.is_none() {
            self.value.mistake(format!("{name} is missing"));
        }
        value
    }

    /// The one of these fields that is there; of several, the first, and the others are a mistake.
    pub(super) fn one_of(&mut self, names: &[&'static str]) -> Option<(&'static str, Value<'n>)> {
        let mut found: Option<(&'static str, Value<'n>)> = None;
        for name in names {
            let Some(value) = self.get(name) else { continue };
            match &found {
                None => found = Some((name, value)),
                Some((first, _)) => value.mistake(format!("stands beside {first}; only one of them is possible")),
            }
        }
        found
    }

    /// As [`Object::one_of`], and one must be there.
    pub(super) fn required_one_of(&mut self, names: &[&'static str]) -> Option<(&'static str, Value<'n>)> {
        let found = self.one_of(names);
        if found.is_none() {
            self.value.mistake(match names {
                [only] => format!("{only} is missing"),
                _ => format!("one of {} is missing", names.join(", ")),
            });
        }
        found
    }

    /// A text; empty if not said.
    pub(super) fn text(&mut self, name: &'static str) -> String {
        self.optional_text(name).unwrap_or_default()
    }

    /// A text; `None` if not said or empty, which protobuf doesn't tell apart.
    pub(super) fn optional_text(&mut self, name: &'static str) -> Option<String> {
        self.get(name)?.text().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A text that must be there and not empty; empty after a mistake.
    pub(super) fn required_text(&mut self, name: &'static str) -> String {
        self.required(name).and_then(|value| value.word().map(str::to_owned)).unwrap_or_default()
    }

    pub(super) fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        self.get(name).and_then(|value| value.boolean()).unwrap_or(default)
    }

    pub(super) fn count(&mut self, name: &'static str, range: RangeInclusive<u32>, default: u32) -> u32 {
        self.optional_count(name, range).unwrap_or(default)
    }

    pub(super) fn optional_count(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        self.get(name)?.count(range)
    }

    /// A duration of any length.
    pub(super) fn duration(&mut self, name: &'static str, default: Duration) -> Duration {
        self.optional_duration(name, Duration::ZERO).unwrap_or(default)
    }

    /// A duration of at least so much.
    pub(super) fn optional_duration(&mut self, name: &'static str, min: Duration) -> Option<Duration> {
        self.get(name)?.duration(min)
    }

    /// A duration of which 0 means none.
    pub(super) fn timeout(&mut self, name: &'static str, default: Option<Duration>) -> Option<Duration> {
        match self.optional_duration(name, Duration::ZERO) {
            Some(Duration::ZERO) => None,
            Some(timeout) => Some(timeout),
            None => default,
        }
    }

    /// One of an enumeration's names.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, names: &[(&str, T)], default: T) -> T {
        self.get(name).and_then(|value| value.choice(names)).unwrap_or(default)
    }

    /// A list; empty if not said.
    pub(super) fn list<T>(&mut self, name: &'static str, read: impl FnMut(Value<'n>) -> Option<T>) -> Vec<T> {
        self.get(name).map(|value| value.list(read)).unwrap_or_default()
    }

    /// A list with at least one element.
    pub(super) fn required_list<T>(&mut self, name: &'static str, read: impl FnMut(Value<'n>) -> Option<T>) -> Vec<T> {
        let Some(value) = self.required(name) else { return Vec::new() };
        if matches!(&value.node.value, yaml::Value::List(items) if items.is_empty()) {
            value.mistake("an empty list where at least one element is needed");
        }
        value.list(read)
    }

    /// A message.
    pub(super) fn object<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Object<'n>) -> T) -> Option<T> {
        self.get(name)?.object(read)
    }

    /// A message that must be there.
    pub(super) fn required_object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Object<'n>) -> T,
    ) -> Option<T> {
        self.required(name)?.object(read)
    }

    /// The name of the message in `@type`, without what stands before its slash. `None` after a mistake, and then the
    /// fields are not judged.
    pub(super) fn type_name(&mut self) -> Option<&'n str> {
        let Some(value) = self.get("@type") else {
            self.value.mistake("@type is missing; it says which message this is, as type.googleapis.com/NAME");
            self.ignore();
            return None;
        };
        let name = value.text().and_then(|url| url.rsplit_once('/')).filter(|(host, _)| !host.is_empty());
        if name.is_none() {
            value.mistake("is no type; it is written as type.googleapis.com/NAME");
            self.ignore();
        }
        name.map(|(_, name)| name)
    }

    /// Reports that the message in `@type` isn't one that can stand here.
    pub(super) fn unknown_type(&mut self, name: &str, known: &[&str]) {
        let known = known.join(", ");
        self.value.mistake(format!("{name} is a type that tidegate-proxy doesn't know here; it knows {known}"));
        self.ignore();
    }

    /// Takes every field as read.
    pub(super) fn ignore(&mut self) {
        self.fields.iter_mut().for_each(|field| field.is_read = true);
    }

    /// Reports the fields that nobody has asked for.
    pub(super) fn finish(self) {
        for field in self.fields.iter().filter(|field| !field.is_read) {
            let nearest = self.known.iter().map(|known| (strsim::jaro_winkler(known, field.name), known));
            let nearest = nearest.filter(|(alike, _)| *alike >= ALIKE_MIN).max_by(|one, two| one.0.total_cmp(&two.0));
            let hint = nearest.map(|(_, name)| format!("; did you mean {name}?")).unwrap_or_default();
            let text = format!("is a field that tidegate-proxy doesn't know here{hint}");
            self.value.report.mistake(&field.value.path, field.key.node.place, text);
        }
    }
}

/// The name of a field in protobuf's JSON form: `consecutive_5xx` is `consecutive5xx`, `num_retries` `numRetries`.
fn json_name(name: &str) -> String {
    let mut json = String::with_capacity(name.len());
    let mut after_underscore = false;
    for letter in name.chars() {
        if letter == '_' {
            after_underscore = true;
        } else {
            json.push(if after_underscore { letter.to_ascii_uppercase() } else { letter });
            after_underscore = false;
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_name_of_a_field_has_no_underscores() {
        for (name, json) in [
            ("name", "name"),
            ("num_retries", "numRetries"),
            ("consecutive_5xx", "consecutive5xx"),
            ("x_ratelimit_option", "xRatelimitOption"),
            ("v4_prefix_mask_len", "v4PrefixMaskLen"),
        ] {
            assert_eq!(json_name(name), json);
        }
    }
}
