//! Reading a scenario file: values by their keys, with every mistake collected.
//!
//! A group is asked for each of its keys once; what nobody asked for is unknown. A mistake is a sentence that names file,
//! line, key, what was written and what would be right.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_yaml::{Mapping, Value};

use super::plant::Course;
use super::plant::course::Change;
use crate::settings::{lines, text};

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Fields {
    file: String,
    lines: HashMap<String, usize>,
    pub(super) mistakes: Vec<String>,
}

/// The keys of one mapping, and where it stands.
#[derive(Debug)]
pub(super) struct Group {
    path: String,
    keys: Mapping,
    asked: BTreeSet<String>,
}

/// What a value may be, and how it is said.
pub(super) type Read<T> = fn(&Value) -> Result<T, &'static str>;

/// Most mistakes that are listed.
const MISTAKES_MAX: usize = 100;

/// Longest list of changes, faults or resets.
pub(super) const LIST_MAX: usize = 10_000;

// === impl Fields ===

impl Fields {
    pub(super) fn new(file: &str, text: &str) -> Fields {
        Fields { file: file.to_owned(), lines: lines(text), mistakes: Vec::new() }
    }

    /// One mistake more, at a key.
    pub(super) fn mistake(&mut self, path: &str, sentence: &str) {
        if self.mistakes.len() >= MISTAKES_MAX {
            return;
        }
        // A key in a list has no line of its own; its nearest parent has.
        let mut known = path;
        let line = loop {
            if let Some(line) = self.lines.get(known) {
                break format!(":{line}");
            }
            match known.rfind(['.', '[']) {
                Some(end) => known = &known[..end],
                None => break String::new(),
            }
        };
        self.mistakes.push(format!("{}{line}: {path} {sentence}", self.file));
    }

    /// The mapping at a key; an empty one if there is none.
    pub(super) fn group(&mut self, parent: &mut Group, key: &str) -> Group {
        let path = parent.path(key);
        let keys = match parent.take(key) {
            None | Some(Value::Null) => Mapping::new(),
            Some(Value::Mapping(keys)) => keys,
            Some(other) => {
                self.mistake(&path, &format!("is {}, but must hold keys and values", shown(&other)));
                Mapping::new()
            }
        };
        Group::new(path, keys)
    }

    /// A value, if it is there and right.
    pub(super) fn value<T>(&mut self, group: &mut Group, key: &str, read: Read<T>) -> Option<T> {
        let value = group.take(key)?;
        let path = group.path(key);
        self.read(&path, &value, read)
    }

    /// A value that has to be there.
    pub(super) fn required<T>(&mut self, group: &mut Group, key: &str, read: Read<T>) -> Option<T> {
        if group.has(key) {
            return self.value(group, key, read);
        }
        group.asked.insert(key.to_owned());
        let path = group.path(key);
        self.mistake(&path, "is missing");
        None
    }

    /// A duration in seconds within bounds, or the default.
    pub(super) fn seconds(&mut self, group: &mut Group, key: &str, range: RangeInclusive<u64>, default: f64) -> f64 {
        let Some(value) = group.take(key) else { return default };
        let range = Duration::from_millis(*range.start())..=Duration::from_millis(*range.end());
        match text::duration(&plain(&value), &range) {
            Ok(duration) => duration.as_secs_f64(),
            Err(right) => {
                let path = group.path(key);
                self.mistake(&path, &format!("is {}, but must be {right}", shown(&value)));
                default
            }
        }
    }

    /// A value over time.
    pub(super) fn course(&mut self, group: &mut Group, key: &str, read: Read<f64>) -> Option<Course> {
        let path = group.path(key);
        match group.take(key)? {
            Value::Sequence(changes) => self.changes(&path, changes, read),
            value => self.read(&path, &value, read).map(Course::constant),
        }
    }

    fn changes(&mut self, path: &str, changes: Vec<Value>, read: Read<f64>) -> Option<Course> {
        if changes.is_empty() || changes.len() > LIST_MAX {
            self.mistake(path, &format!("has {} entries, but must have 1 to {LIST_MAX}", changes.len()));
            return None;
        }
        let mut read_changes: Vec<Change> = Vec::new();
        for (index, change) in changes.into_iter().enumerate() {
            let place = format!("{path}[{index}]");
            let Value::Mapping(keys) = change else {
                self.mistake(
                    &place,
                    &format!("is {}, but must be a change such as {{ at: 5m, to: 1 }}", shown(&change)),
                );
                continue;
            };
            let mut group = Group::new(place.clone(), keys);
            let at = self.seconds(&mut group, "at", 0..=86_400_000, 0.0);
            let over = self.seconds(&mut group, "over", 0..=86_400_000, 0.0);
            let to = self.required(&mut group, "to", read);
            self.done(group);
            let last = read_changes.last().map_or(0.0, |last| last.at);
            if at < last {
                self.mistake(&place, &format!("is at {at} s, but the entry before is at {last} s; put them in order"));
            }
            if index == 0 && (at > 0.0 || over > 0.0) {
                self.mistake(&place, "has `at` or `over`, but the first entry is the value at the begin");
            }
            read_changes.extend(to.map(|to| Change { at, to, over }));
        }
        let first = read_changes.first().map(|first| first.to)?;
        read_changes.remove(0);
        Some(Course::new(first, read_changes))
    }

    /// The entries of a list; none if there is none.
    pub(super) fn list(&mut self, group: &mut Group, key: &str) -> Vec<Value> {
        let path = group.path(key);
        match group.take(key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Sequence(values)) if values.len() <= LIST_MAX => values,
            Some(other) => {
                self.mistake(&path, &format!("is {}, but must be a list of at most {LIST_MAX}", shown(&other)));
                Vec::new()
            }
        }
    }

    pub(super) fn read<T>(&mut self, path: &str, value: &Value, read: Read<T>) -> Option<T> {
        match read(value) {
            Ok(value) => Some(value),
            Err(right) => {
                self.mistake(path, &format!("is {}, but must be {right}", shown(value)));
                None
            }
        }
    }

    /// Nothing more is asked of a group: what is left is unknown.
    pub(super) fn done(&mut self, group: Group) {
        for (key, _) in &group.keys {
            let name = plain(key);
            let near = group.asked.iter().map(|known| (strsim::damerau_levenshtein(known, &name), known)).min();
            let suggestion = match near {
                Some((distance, known)) if distance <= 2 => format!("; did you mean {known}?"),
                _ => String::new(),
            };
            let path = group.path(&name);
            self.mistake(&path, &format!("is not a key of a scenario{suggestion}"));
        }
    }
}

// === impl Group ===

impl Group {
    pub(super) fn new(path: String, keys: Mapping) -> Group {
        Group { path, keys, asked: BTreeSet::new() }
    }

    /// With one key more, such as an entry of a list that is read like a key.
    pub(super) fn with(mut self, key: &str, value: Value) -> Group {
        self.keys.insert(Value::String(key.to_owned()), value);
        self
    }

    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.asked.insert(key.to_owned());
        self.keys.remove(key)
    }
}

/// A scalar as it was written; empty for anything else.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => String::new(),
    }
}

/// A value as a sentence quotes it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) | Value::Tagged(_) => "a group of keys".to_owned(),
        scalar => {
            let text: String = plain(scalar).chars().take(80).collect();
            format!("{text:?}")
        }
    }
}

// === what a value may be ===

pub(super) fn rate(value: &Value) -> Result<f64, &'static str> {
    const RIGHT: &str = "a rate from 0.001/s to 1000000000/s, such as 500/s, 30/m or 1000/h";
    let per_second = rate_from_zero(value).map_err(|_| RIGHT)?;
    if per_second >= 0.001 { Ok(per_second) } else { Err(RIGHT) }
}

pub(super) fn rate_from_zero(value: &Value) -> Result<f64, &'static str> {
    const UNITS: [(&str, f64); 3] = [("/s", 1.0), ("/m", 60.0), ("/h", 3_600.0)];
    let text = plain(value);
    let number = UNITS.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        Some(number / seconds)
    });
    let is_rate = |rate: &f64| (0.0..=1e9).contains(rate);
    number.filter(is_rate).ok_or("a rate from 0 to 1000000000/s, such as 500/s, 30/m or 1000/h")
}

pub(super) fn share(value: &Value) -> Result<f64, &'static str> {
    let text = plain(value);
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.parse::<f64>().ok(),
    };
    number.filter(|share| (0.0..=1.0).contains(share)).ok_or("a share from 0% to 100%, such as 5% or 0.05")
}

pub(super) fn number(value: &Value) -> Result<f64, &'static str> {
    let number = plain(value).parse::<f64>().ok();
    number.filter(|number| (0.0..=10.0).contains(number)).ok_or("a number from 0 to 10")
}

pub(super) fn switch(value: &Value) -> Result<bool, &'static str> {
    value.as_bool().ok_or("true or false")
}

pub(super) fn seed(value: &Value) -> Result<u64, &'static str> {
    value.as_u64().ok_or("a whole number from 0 to 18446744073709551615")
}

pub(super) fn name(value: &Value) -> Result<String, &'static str> {
    let text = plain(value);
    let is_name = (1..=63).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
    if is_name { Ok(text) } else { Err("a name of 1 to 63 of a-z, 0-9, _ and -") }
}
