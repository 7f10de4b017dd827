//! A rule file as it was written: every field may be absent or wrong, nothing is concluded yet.
//!
//! [`super::bind`] fills it from a YAML tree and reports what has the wrong type; [`super::compile`] judges what the
//! fields say together. A field that was wrong is kept as such, so that one mistake is reported once.

use serde_json::{Map, Value};

use super::Algorithm;
use super::error::Place;
use super::service::file::{RawPrometheus, RawService};
use crate::limit::Unit;
use crate::window::{Charging, Precision};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A field of a map.
#[derive(Clone, Debug)]
pub(super) enum Field<T> {
    /// Not there, or null.
    Absent,
    /// There, of the right type.
    Given(Located<T>),
    /// There, of a wrong type; the mistake is reported.
    Wrong,
}

/// The elements of a list, each with its index in the file: wrong ones are missing here.
#[derive(Clone, Debug)]
pub(super) struct Elements<T> {
    pub(super) items: Vec<(usize, T)>,
    /// Whether the list, or an element of it, was wrong; the mistake is reported.
    pub(super) is_wrong: bool,
}

#[derive(Debug)]
pub(super) struct RawFile {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) domain: Field<String>,
    pub(super) algorithm: Field<Algorithm>,
    pub(super) precision: Field<Precision>,
    pub(super) charging: Field<Charging>,
    pub(super) descriptors: Elements<RawDescriptor>,
    pub(super) subsets: Elements<RawSubset>,
    pub(super) prometheus: Field<RawPrometheus>,
    pub(super) services: Elements<RawService>,
    /// Whether it has one of the two before, be it wrong.
    pub(super) tells_of_services: bool,
}

#[derive(Debug)]
pub(super) struct RawDescriptor {
    pub(super) place: Place,
    pub(super) key: Field<String>,
    pub(super) value: Field<String>,
    pub(super) share_threshold: Field<bool>,
    pub(super) descriptors: Elements<RawDescriptor>,
    pub(super) counted: RawCounted,
}

#[derive(Debug)]
pub(super) struct RawSubset {
    pub(super) place: Place,
    pub(super) entries: Elements<RawEntry>,
    pub(super) counted: RawCounted,
}

#[derive(Debug)]
pub(super) struct RawEntry {
    pub(super) place: Place,
    pub(super) key: Field<String>,
    pub(super) value: Field<String>,
}

/// What descriptors and subsets have in common.
#[derive(Debug)]
pub(super) struct RawCounted {
    pub(super) rate_limit: Field<RawLimit>,
    pub(super) shadow_mode: bool,
    pub(super) quota_mode: bool,
    pub(super) detailed_metric: bool,
    pub(super) value_to_metric: bool,
    pub(super) metadata: Option<Map<String, Value>>,
}

#[derive(Clone, Debug)]
pub(super) struct RawLimit {
    pub(super) unit: Field<RawUnit>,
    pub(super) requests_per_unit: Field<u32>,
    pub(super) unlimited: Field<bool>,
    pub(super) name: Field<String>,
    pub(super) replaces: Elements<Located<String>>,
    pub(super) algorithm: Field<Algorithm>,
    /// In milliseconds.
    pub(super) window: Field<u64>,
    pub(super) unit_multiplier: Field<u32>,
    pub(super) burst: Field<u32>,
    pub(super) precision: Field<Precision>,
}

/// A unit's text, and which unit it is, if it is one.
#[derive(Clone, Debug)]
pub(super) struct RawUnit {
    pub(super) text: String,
    pub(super) unit: Option<Unit>,
}

// === impl RawFile ===

impl RawFile {
    /// Whether it holds rules, or should: a file that tells of adaptive services alone needs no domain.
    pub(super) fn holds_rules(&self) -> bool {
        let Elements { items: descriptors, is_wrong: wrong_descriptors } = &self.descriptors;
        let Elements { items: subsets, is_wrong: wrong_subsets } = &self.subsets;
        let names_rules = !descriptors.is_empty() || !subsets.is_empty() || *wrong_descriptors || *wrong_subsets;
        let sets_defaults = !self.algorithm.is_absent() || !self.precision.is_absent() || !self.charging.is_absent();
        !self.tells_of_services || !self.domain.is_absent() || names_rules || sets_defaults
    }
}

// === impl Field ===

impl<T> Field<T> {
    /// The value with its place, if it was given and has the right type.
    pub(super) fn given(&self) -> Option<&Located<T>> {
        match self {
            Field::Given(located) => Some(located),
            Field::Absent | Field::Wrong => None,
        }
    }

    pub(super) fn value(&self) -> Option<&T> {
        self.given().map(|located| &located.value)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Field::Absent)
    }

    pub(super) fn is_wrong(&self) -> bool {
        matches!(self, Field::Wrong)
    }
}

impl Field<bool> {
    pub(super) fn is_true(&self) -> bool {
        self.value() == Some(&true)
    }
}

// === impl Elements ===

impl<T> Elements<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.items.iter().map(|(index, item)| (*index, item))
    }
}

// === impl RawDescriptor ===

impl RawDescriptor {
    /// The key, joined to the value with an underscore if there is one: what the reference service matches on.
    pub(super) fn composite(&self) -> String {
        composite(&self.key, &self.value)
    }
}

// === impl RawSubset ===

impl RawSubset {
    /// The entries' composites, for a path of keys.
    pub(super) fn label(&self) -> String {
        let entries: Vec<String> = self.entries.iter().map(|(_, entry)| entry.composite()).collect();
        entries.join(", ")
    }
}

// === impl RawEntry ===

impl RawEntry {
    pub(super) fn composite(&self) -> String {
        composite(&self.key, &self.value)
    }

    /// The key, empty if it is absent or wrong.
    pub(super) fn key(&self) -> &str {
        self.key.value().map(String::as_str).unwrap_or_default()
    }
}

fn composite(key: &Field<String>, value: &Field<String>) -> String {
    match (key.value(), value.value()) {
        (Some(key), Some(value)) => format!("{key}_{value}"),
        (Some(key), None) => key.clone(),
        (None, _) => String::new(),
    }
}
