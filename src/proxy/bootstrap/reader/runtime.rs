//! `layered_runtime`: values that stand in for others.
//!
//! Static layers only. A key that nothing in the file reads is a mistake, so these keys are the ones that are acted on:
//! those named by a `runtime_key`, `ratelimit.KEY.http_filter_enabled` for each `disable_key`, the rate limit filter's
//! own `ratelimit.http_filter_enabled` and `ratelimit.http_filter_enforcing`, and
//! [`FORMATTED_DESCRIPTORS`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::super::model::FractionalPercent;
use super::super::value::Value;
use super::values;
use crate::rules::yaml;

/// Whether a descriptor's value may have command operators.
const FORMATTED_DESCRIPTORS: &str = "envoy.reloadable_features.enable_formatter_for_ratelimit_action_descriptor_value";

/// Every key of every layer.
#[derive(Debug, Default)]
pub(super) struct Runtime<'n> {
    values: BTreeMap<String, Value<'n>>,
    read: RefCell<BTreeSet<String>>,
}

/// Reads all layers; a later one wins.
pub(super) fn read<'n>(layers: &Value<'n>) -> Runtime<'n> {
    let mut values = BTreeMap::new();
    layers.object(|runtime| {
        runtime.list("layers", |layer| {
            layer.object(|layer| {
                layer.required_text("name");
                if let Some((_, layer)) = layer.required_one_of(&["static_layer"]) {
                    flatten("", &layer, &mut values);
                }
            })
        })
    });
    Runtime { values, read: RefCell::default() }
}

/// Keys of maps within maps are joined by points; a map with a numerator is a value.
fn flatten<'n>(prefix: &str, map: &Value<'n>, onto: &mut BTreeMap<String, Value<'n>>) {
    for (key, value) in map.entries() {
        let key = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        let is_map = matches!(value.node.value, yaml::Value::Map(_));
        if is_map && !value.entries().iter().any(|(key, _)| ["numerator", "denominator"].contains(key)) {
            flatten(&key, &value, onto);
        } else {
            onto.insert(key, value);
        }
    }
}

// === impl Runtime ===

impl Runtime<'_> {
    /// Whether values of descriptors may have command operators. Envoy's default: no.
    pub(super) fn formats_descriptors(&self) -> bool {
        self.get(FORMATTED_DESCRIPTORS).and_then(Value::boolean).unwrap_or(false)
    }

    /// The share at that key: a whole number of per cents, or a numerator and a denominator.
    pub(super) fn share(&self, key: &str) -> Option<FractionalPercent> {
        let value = self.get(key)?;
        match value.node.value {
            yaml::Value::Map(_) => values::fractional_percent(value),
            yaml::Value::Scalar(..) | yaml::Value::List(_) => {
                value.count(0..=100).map(|percent| FractionalPercent::of(percent, 100))
            }
        }
    }

    fn get(&self, key: &str) -> Option<&Value<'_>> {
        let (key, value) = self.values.get_key_value(key)?;
        self.read.borrow_mut().insert(key.clone());
        Some(value)
    }

    /// Reports the keys that nothing has read.
    pub(super) fn finish(&self) {
        let read = self.read.borrow();
        for (key, value) in self.values.iter().filter(|(key, _)| !read.contains(*key)) {
            value.mistake(format!("{key} is a runtime key that nothing in this file reads; leave it out"));
        }
    }
}
