//! From files to layers, and from layers to one value per key.
//!
//! ```text
//! config/settings.yaml (embedded)  ─┐
//! the operator's file              ─┼─ Layer, Layer, Layer ── config::Config ── key → value and its place
//! environment (super::environment) ─┘
//! ```
//!
//! The `config` package lays the layers over each other. It is given keys out of the schema only: it reads key names
//! as path expressions, in which `a[999999999]` asks for a list of that length, so an unknown name must never reach
//! it. Each value carries its place (`Value::origin`), which is how a mistake found after the merge can still be
//! pointed at.

use std::collections::HashMap;
use std::fmt;

use config::{Config, ConfigError, Format, Map, Source, Value, ValueKind};

use super::error::{SettingsError, quoted};
use super::schema::{self, Kind};
use super::yaml::{Yaml, lines};

/// Values by key path, all from one source.
#[derive(Clone, Default)]
pub(super) struct Layer {
    values: Map<String, Value>,
}

/// Longest settings file, in bytes. The annotated file with all keys has about 8 000; the YAML package's time grows with
/// the square of the length when brackets are nested.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Most mistakes that are reported of one file: nobody reads on after so many.
const FILE_ERRORS_MAX: usize = 50;

// === impl Layer ===

impl Layer {
    /// Reads a file's text; what is wrong with it goes to `errors` and is left out of the layer.
    pub(super) fn from_file(name: &str, text: &str, errors: &mut Vec<SettingsError>) -> Layer {
        let mut layer = Layer::default();
        let unreadable = |reason: String| SettingsError::Unreadable { file: name.to_owned(), reason };
        if text.len() > FILE_BYTES_MAX {
            errors.push(unreadable(format!("it has {} bytes, more than {FILE_BYTES_MAX}", text.len())));
            return layer;
        }
        match Yaml.parse(Some(&name.to_owned()), text) {
            Err(reason) => errors.push(unreadable(reason.to_string())),
            Ok(root) => {
                let mut found = Vec::new();
                FileReader { name, lines: lines(text), layer: &mut layer, errors: &mut found }.group("", root);
                errors.extend(found.into_iter().take(FILE_ERRORS_MAX));
            }
        }
        layer
    }

    /// Sets a key of the schema; `place` says where the value was found.
    pub(super) fn set(&mut self, path: &str, place: &str, value: ValueKind) {
        self.values.insert(path.to_owned(), Value::new(Some(&place.to_owned()), value));
    }

    /// Where the key was set, if this layer sets it.
    pub(super) fn place(&self, path: &str) -> Option<&str> {
        self.values.get(path)?.origin()
    }

    /// The value of a key with its place.
    pub(super) fn value(&self, path: &str) -> Option<(&ValueKind, &str)> {
        self.values.get(path).map(|value| (&value.kind, value.origin().unwrap_or_default()))
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.values.clone())
    }
}

impl fmt::Debug for Layer {
    /// Names only: values may be passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Lays layers over each other, the last on top: all keys that any of them sets.
pub(super) fn merge(layers: impl IntoIterator<Item = Layer>) -> Layer {
    let builder = layers.into_iter().fold(Config::builder(), |builder, layer| builder.add_source(layer));
    // A layer always collects, and the paths are the schema's own.
    let merged = builder.build().map(|merged| merged.cache).unwrap_or_else(|_| ValueKind::Nil.into());
    let values = schema::KEYS.iter().filter_map(|key| Some((key.path.to_owned(), descend(&merged, key.path)?.clone())));
    Layer { values: values.collect() }
}

fn descend<'v>(root: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(root, |value, part| match &value.kind {
        ValueKind::Table(table) => table.get(part),
        _ => None,
    })
}

// === A file, key by key ===

/// Takes a file's tree apart into keys of the schema.
struct FileReader<'r> {
    name: &'r str,
    lines: HashMap<String, usize>,
    layer: &'r mut Layer,
    errors: &'r mut Vec<SettingsError>,
}

impl FileReader<'_> {
    /// The keys of a group; `path` is empty for the whole file. The tree is at most 128 deep: `serde_yaml` stops there.
    fn group(&mut self, path: &str, table: Map<String, Value>) {
        // The package's maps have no order; messages should.
        let mut entries: Vec<(String, Value)> = table.into_iter().collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, value) in entries {
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            self.entry(&path, value.kind);
        }
    }

    fn entry(&mut self, path: &str, value: ValueKind) {
        let place = self.place(path);
        match (schema::find(path), value) {
            // A key without a value counts as unset.
            (Some(_), ValueKind::Nil) => {}
            (Some(_), _) if self.layer.place(path).is_some() => self.errors.push(SettingsError::Twice { place }),
            (Some(key), value) => match suitable(key.kind, value) {
                Ok(value) => self.layer.set(path, &place, value),
                Err((value, right)) => {
                    let value = if key.kind == Kind::Secret { None } else { Some(value) };
                    self.errors.push(SettingsError::Invalid { place, value, right: right.to_owned() });
                }
            },
            (None, ValueKind::Nil) if schema::is_group(path) => {}
            (None, ValueKind::Table(table)) if schema::is_group(path) || !table.is_empty() => self.group(path, table),
            (None, value) if schema::is_group(path) => {
                // Somebody may have written Redis's address where the group is.
                let value = if schema::holds_secrets(path) { None } else { Some(scalar(&value)) };
                let right = format!("a group of settings such as {}", schema::example_of(path));
                self.errors.push(SettingsError::Invalid { place, value, right });
            }
            // The value isn't shown: it may be a password under a misspelt key.
            (None, _) => {
                let suggestion = schema::suggest_path(path);
                self.errors.push(SettingsError::UnknownKey { place, suggestion });
            }
        }
    }

    /// `settings.yaml:12: grpc.port`
    fn place(&self, path: &str) -> String {
        let shown = quoted(path);
        // Known names need no quotes.
        let shown = if schema::find(path).is_some() || schema::is_group(path) { path } else { &shown };
        match self.lines.get(path) {
            Some(line) => format!("{}:{line}: {shown}", self.name),
            None => format!("{}: {shown}", self.name),
        }
    }
}

/// The value as its kind wants it: one text, or for lists an array of texts. Else what was found and what would be
/// right.
fn suitable(kind: Kind, value: ValueKind) -> Result<ValueKind, (String, &'static str)> {
    match (kind, value) {
        (_, ValueKind::String(text)) if kind == Kind::Texts => Ok(ValueKind::Array(vec![text.into()])),
        (_, ValueKind::String(text)) => Ok(ValueKind::String(text)),
        (Kind::Texts, ValueKind::Array(values)) => {
            match values.iter().find(|value| !matches!(value.kind, ValueKind::String(_))) {
                Some(value) => Err((scalar(&value.kind), "a list of texts; put numbers in quotes")),
                None => Ok(ValueKind::Array(values)),
            }
        }
        (_, value @ (ValueKind::Table(_) | ValueKind::Array(_))) => Err((scalar(&value), "a single value")),
        (Kind::Word, value) => Ok(ValueKind::String(scalar(&value))),
        (Kind::Text | Kind::Secret | Kind::Texts, value) => Err((scalar(&value), "text; put it in quotes")),
    }
}

/// A value as text.
fn scalar(value: &ValueKind) -> String {
    match value {
        ValueKind::Float(value) => format!("{value:?}"), // 8081.0, not 8081: a fraction is no whole number
        ValueKind::Table(_) => "a group of keys".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let mut errors = Vec::new();
        let _layer = Layer::from_file("s.yaml", text, &mut errors);
        errors.iter().map(SettingsError::to_string).collect()
    }

    #[test]
    fn each_mistake_of_form_is_one_sentence() {
        for (text, expected) in [
            ("grpc: 5", "s.yaml:1: grpc is \"5\", but must be a group of settings such as grpc.port"),
            ("grcp: {}", "s.yaml:1: \"grcp\" is not a setting; did you mean grpc?"),
            ("metric: 5", "s.yaml:1: \"metric\" is not a setting; did you mean metrics?"),
            ("grpc:\n  port: [1]", "s.yaml:2: grpc.port is \"a list\", but must be a single value"),
            ("grpc:\n  port: {a: 1}", "s.yaml:2: grpc.port is \"a group of keys\", but must be a single value"),
            ("grpc:\n  host: 127", "s.yaml:2: grpc.host is \"127\", but must be text; put it in quotes"),
            (
                "rules:\n  paths: [1]",
                "s.yaml:2: rules.paths is \"1\", but must be a list of texts; put numbers in quotes",
            ),
            (
                "grpc.port: 1\ngrpc:\n  port: 2",
                "s.yaml:1: grpc.port is set a second time in this file; keep one of the two",
            ),
            ("\ngprc:\n  port: 1", "s.yaml:3: \"gprc.port\" is not a setting; did you mean grpc.port?"),
            ("banana: {}", "s.yaml:1: \"banana\" is not a setting"),
            ("- a", "s.yaml cannot be read as settings: it must hold keys and values at its top"),
            ("1: a", "s.yaml cannot be read as settings: a key that is not text; keys are names such as grpc"),
            ("a: !b c", "s.yaml cannot be read as settings: a tag (!name); settings have none"),
        ] {
            assert_eq!(errors(text), [expected], "{text}");
        }
    }

    #[test]
    fn a_key_without_a_value_and_an_empty_file_set_nothing() {
        for text in ["", "# nothing", "grpc:", "grpc:\n  port:", "grpc: {}"] {
            assert_eq!(errors(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn an_index_in_a_key_asks_for_no_memory() {
        assert_eq!(errors("grpc[999999999999]: 1").len(), 1);
    }

    #[test]
    fn what_is_broken_or_too_large_is_refused_with_a_reason() {
        assert!(errors("grpc: {port: 1")[0].starts_with("s.yaml cannot be read as settings: "));
        assert!(errors(&"#".repeat(FILE_BYTES_MAX + 1))[0].contains("more than 65536"));
        let many: String = (0..1_000).map(|n| format!("k{n}: 1\n")).collect();
        assert_eq!(errors(&many).len(), FILE_ERRORS_MAX);
        assert!(!errors(&"[".repeat(FILE_BYTES_MAX)).is_empty());
        assert!(!errors(&"{a: ".repeat(FILE_BYTES_MAX / 4)).is_empty());
        assert!(
            !errors(&"a: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n".repeat(2))
                .is_empty()
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_layer_or_sentences(text in "\\PC{0,60}|([a-z.]{0,6}: ?[\\[{&*!|>'\"a-z0-9]{0,6}\n? {0,3}){0,12}") {
            for error in errors(&text) {
                prop_assert!(!error.contains('\n'), "{}", error);
            }
        }
    }
}
