//! YAML, for the settings file.
//!
//! Values come from `serde_yaml`, as those of the rule files do; two YAML packages may disagree on what `yes` or
//! `0x10` is, and the `config` package's own YAML feature would bring another. `serde_yaml` doesn't say on which line
//! a value stands, so the lines come from a second walk with `saphyr-parser`: where that one disagrees, a message
//! lacks its line and nothing else.

use std::collections::HashMap;
use std::error::Error;

use config::{Format, Map, Value, ValueKind};
use saphyr_parser::{Event, Parser};

/// YAML as a format of the `config` package.
#[derive(Clone, Copy, Debug)]
pub(super) struct Yaml;

/// What the `config` package takes for an error.
type Problem = Box<dyn Error + Send + Sync>;

// === impl Yaml ===

impl Format for Yaml {
    fn parse(&self, uri: Option<&String>, text: &str) -> Result<Map<String, Value>, Problem> {
        match serde_yaml::from_str(text)? {
            // A file of nothing but comments.
            serde_yaml::Value::Null => Ok(Map::new()),
            serde_yaml::Value::Mapping(mapping) => table(uri, mapping),
            _ => Err("it must hold keys and values at its top".into()),
        }
    }
}

fn table(uri: Option<&String>, mapping: serde_yaml::Mapping) -> Result<Map<String, Value>, Problem> {
    mapping
        .into_iter()
        .map(|(key, value)| match key {
            serde_yaml::Value::String(key) => Ok((key, Value::new(uri, kind(uri, value)?))),
            _ => Err("a key that is not text; keys are names such as grpc".into()),
        })
        .collect()
}

fn kind(uri: Option<&String>, value: serde_yaml::Value) -> Result<ValueKind, Problem> {
    Ok(match value {
        serde_yaml::Value::Null => ValueKind::Nil,
        serde_yaml::Value::Bool(value) => ValueKind::Boolean(value),
        serde_yaml::Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), _, _) => ValueKind::U64(value),
            (_, Some(value), _) => ValueKind::I64(value),
            (_, _, value) => ValueKind::Float(value.unwrap_or(f64::NAN)),
        },
        serde_yaml::Value::String(value) => ValueKind::String(value),
        serde_yaml::Value::Sequence(values) => {
            let values: Result<Vec<Value>, Problem> =
                values.into_iter().map(|value| Ok(Value::new(uri, kind(uri, value)?))).collect();
            ValueKind::Array(values?)
        }
        serde_yaml::Value::Mapping(mapping) => ValueKind::Table(table(uri, mapping)?),
        serde_yaml::Value::Tagged(_) => return Err("a tag (!name); settings have none".into()),
    })
}

/// The line of every key that is not inside a list, by its path.
pub(crate) fn lines(text: &str) -> HashMap<String, usize> {
    /// Deeper than any key: what lies below needs no line, and paths stay short.
    const DEPTH_MAX: usize = 8;

    enum Open {
        /// A mapping whose next event is a key.
        Keys,
        /// A mapping whose next event is the value of this key.
        ValueOf(String),
        Sequence,
    }

    let mut found = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    // After a complete value the mapping around it waits for its next key.
    let complete = |open: &mut Vec<Open>| {
        if let Some(last @ Open::ValueOf(_)) = open.last_mut() {
            *last = Open::Keys;
        }
    };
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        match event {
            Event::Scalar(name, ..) if matches!(open.last(), Some(Open::Keys)) => {
                let path = open
                    .iter()
                    .filter_map(|open| if let Open::ValueOf(key) = open { Some(key.as_str()) } else { None });
                if open.len() <= DEPTH_MAX && !open.iter().any(|open| matches!(open, Open::Sequence)) {
                    let path = path.chain([name.as_ref()]).collect::<Vec<_>>().join(".");
                    found.entry(path).or_insert(span.start.line());
                }
                if let Some(last) = open.last_mut() {
                    *last = Open::ValueOf(name.into_owned());
                }
            }
            Event::Scalar(..) | Event::Alias(..) => complete(&mut open),
            Event::MappingStart(..) => open.push(Open::Keys),
            Event::SequenceStart(..) => open.push(Open::Sequence),
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                complete(&mut open);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_found_on_its_line() {
        let lines = lines("grpc:\n  host: x\n  port: 1\nrules: { paths: [a, {b: c}],\n  merge_domains: true }\n");
        let expected = [("grpc", 1), ("grpc.host", 2), ("grpc.port", 3), ("rules", 4), ("rules.paths", 4)];
        for (path, line) in expected.into_iter().chain([("rules.merge_domains", 5)]) {
            assert_eq!(lines.get(path), Some(&line), "{path}");
        }
        assert_eq!(lines.len(), 6);
    }

    proptest! {
        #[test]
        fn lines_lie_within_the_text(text in "\\PC{0,60}|([a-z]{0,3}: ?[\\[{&*!|>'\"a-z0-9]{0,6}\n? {0,3}){0,12}") {
            let last = text.split('\n').count();
            prop_assert!(lines(&text).values().all(|line| (1..=last).contains(line)));
        }
    }
}
