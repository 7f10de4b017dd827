//! Rules that apply to a descriptor holding certain entries, in any order and among others.
//!
//! The tree asks for whole descriptors in one order. A subset rule asks for some entries and lets the rest be, so that
//! one rule covers every descriptor with a `service` and a `user`. All that apply are charged, besides the tree's.
//!
//! This is tuple space search (Srinivasan, Suri and Varghese, SIGCOMM 1999): rules that name the same keys, each with
//! or without a value, have one *form*. Within a form the values are looked up in a hash table, so the time of a match
//! follows the number of forms, not of rules. A form is found by one of its keys, the one that fewest others are found
//! by, and forms whose key the descriptor lacks cost nothing.
//!
//! The values of a form are looked up one after the other, each look starting from the state that the last one led to.
//! A descriptor may repeat a key; then every state goes on with each of its values, and states that lead to no rule
//! end there. Looking all values up at once would have to try every combination of the repeated ones.

use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use super::joined::{Probe, TextHash};
use crate::descriptor::Entry;

/// Most entries of one subset rule.
pub(super) const ENTRIES_MAX: usize = 8;

/// The subset rules of one domain.
#[derive(Debug, Default)]
pub(super) struct Subsets {
    forms: Vec<Form>,
    form_of: HashMap<FormKeys, usize>,
    keys: HashTable<Key>,
    edges: HashTable<Edge>,
    states: u32,
}

/// A set of keys, ordered by name, each with a value (true) or for any value.
type FormKeys = Arc<[(Box<str>, bool)]>;

#[derive(Debug)]
struct Form {
    keys: FormKeys,
    /// Where the values of its rules begin.
    start: u32,
    /// The rule of the form without any value, of which there is one at most.
    valueless: Option<usize>,
}

/// A key, and the forms that are found by it.
#[derive(Debug)]
struct Key {
    hash: u64,
    name: Box<str>,
    forms: Vec<u32>,
}

/// From a state by a value to the next state, or at a form's last value to a rule.
#[derive(Debug)]
struct Edge {
    hash: u64,
    from: u32,
    value: Box<str>,
    to: u32,
    rule: Option<usize>,
}

/// The rules that apply to a descriptor, in the order of their numbers.
pub(super) type Applying = SmallVec<[usize; 2]>;

// === impl Subsets ===

impl Subsets {
    /// Adds a rule for `entries`, which are ordered by key and name no key twice. If there is one for the same entries
    /// it stays, and is the answer.
    pub(super) fn add(&mut self, entries: &[(&str, Option<&str>)], rule: usize) -> Option<usize> {
        let form = self.form(entries);
        let values: SmallVec<[&str; ENTRIES_MAX]> = entries.iter().filter_map(|(_, value)| *value).collect();
        let Some((last, before)) = values.split_last() else {
            let valueless = &mut self.forms[form].valueless;
            let earlier = *valueless;
            *valueless = Some(earlier.unwrap_or(rule));
            return earlier;
        };
        let mut state = self.forms[form].start;
        for value in before {
            state = self.edge(state, value).to;
        }
        let edge = self.edge(state, last);
        let earlier = edge.rule;
        edge.rule = Some(earlier.unwrap_or(rule));
        earlier
    }

    fn form(&mut self, entries: &[(&str, Option<&str>)]) -> usize {
        let keys: FormKeys = entries.iter().map(|(key, value)| ((*key).into(), value.is_some())).collect();
        if let Some(form) = self.form_of.get(&keys) {
            return *form;
        }
        let form = self.forms.len();
        self.form_of.insert(Arc::clone(&keys), form);
        let start = self.new_state();
        self.forms.push(Form { keys, start, valueless: None });
        let rarest = entries.iter().min_by_key(|(key, _)| self.key(key).map_or(0, |key| key.forms.len()));
        if let Some((name, _)) = rarest {
            let number = u32::try_from(form).expect("rule files are too short for so many forms");
            self.found_by(name, number);
        }
        form
    }

    fn found_by(&mut self, name: &str, form: u32) {
        let hash = TextHash::of(0, name.as_bytes());
        match self.keys.find_mut(hash, |key| *key.name == *name) {
            Some(key) => key.forms.push(form),
            None => {
                let key = Key { hash, name: name.into(), forms: vec![form] };
                self.keys.insert_unique(hash, key, |key| key.hash);
            }
        }
    }

    fn key(&self, name: &str) -> Option<&Key> {
        let hash = TextHash::of(0, name.as_bytes());
        self.keys.find(hash, |key| key.hash == hash && *key.name == *name)
    }

    fn new_state(&mut self) -> u32 {
        let state = self.states;
        self.states = state.checked_add(1).expect("rule files are too short for so many states");
        state
    }

    fn edge(&mut self, from: u32, value: &str) -> &mut Edge {
        let hash = TextHash::of(from.into(), value.as_bytes());
        if self.next(from, value).is_none() {
            let to = self.new_state();
            let edge = Edge { hash, from, value: value.into(), to, rule: None };
            self.edges.insert_unique(hash, edge, |edge| edge.hash);
        }
        let edge = self.edges.find_mut(hash, |edge| edge.from == from && *edge.value == *value);
        edge.expect("it was there or has just been put there")
    }

    fn next(&self, from: u32, value: &str) -> Option<&Edge> {
        let hash = TextHash::of(from.into(), value.as_bytes());
        self.edges.find(hash, |edge| edge.hash == hash && edge.from == from && *edge.value == *value)
    }

    /// The rules that apply to a descriptor with these entries.
    pub(super) fn find(&self, entries: &[Entry<'_>], probe: &mut impl Probe) -> Applying {
        let mut applying = Applying::new();
        if self.forms.is_empty() {
            return applying;
        }
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].iter().any(|earlier| earlier.key == entry.key) {
                continue;
            }
            probe.step();
            for form in self.key(entry.key).into_iter().flat_map(|key| &key.forms) {
                self.find_in_form(&self.forms[*form as usize], entries, &mut applying, probe);
            }
        }
        applying.sort_unstable();
        applying
    }

    fn find_in_form(&self, form: &Form, entries: &[Entry<'_>], applying: &mut Applying, probe: &mut impl Probe) {
        probe.step();
        let is_there = |(key, _): &(Box<str>, bool)| entries.iter().any(|entry| *entry.key == **key);
        if !form.keys.iter().all(is_there) {
            return;
        }
        applying.extend(form.valueless);
        let valued: SmallVec<[&str; ENTRIES_MAX]> =
            form.keys.iter().filter(|(_, valued)| *valued).map(|(key, _)| &**key).collect();
        self.follow(form.start, &valued, entries, applying, probe);
    }

    /// Goes on from `state` with every value that the descriptor has for the next key. The depth is that of a subset.
    fn follow(
        &self,
        state: u32,
        keys: &[&str],
        entries: &[Entry<'_>],
        applying: &mut Applying,
        probe: &mut impl Probe,
    ) {
        let Some((key, rest)) = keys.split_first() else { return };
        for (index, entry) in entries.iter().enumerate() {
            // An entry that stands there twice applies a rule once.
            if entry.key != *key || entries[..index].contains(entry) {
                continue;
            }
            probe.step();
            let Some(edge) = self.next(state, entry.value) else { continue };
            applying.extend(edge.rule);
            self.follow(edge.to, rest, entries, applying, probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Wanted = Vec<(String, Option<String>)>;

    fn naive(rules: &[Wanted], entries: &[Entry<'_>]) -> Vec<usize> {
        let holds = |(key, value): &(String, Option<String>)| {
            entries.iter().any(|entry| entry.key == key && value.as_ref().is_none_or(|value| entry.value == value))
        };
        (0..rules.len()).filter(|rule| rules[*rule].iter().all(holds)).collect()
    }

    proptest! {
        #[test]
        fn the_rules_that_apply_are_those_of_the_definition(
            rules in prop::collection::vec(
                prop::collection::btree_map("[abc]", prop::option::of("[xy]"), 1..4), 1..12),
            entries in prop::collection::vec(("[abcd]", "[xyz]"), 0..6),
        ) {
            let mut kept: Vec<Wanted> = Vec::new();
            let mut subsets = Subsets::default();
            for rule in rules {
                let rule: Wanted = rule.into_iter().collect();
                let entries: Vec<_> = rule.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
                let earlier = subsets.add(&entries, kept.len());
                prop_assert_eq!(earlier, kept.iter().position(|other| *other == rule));
                if earlier.is_none() {
                    kept.push(rule);
                }
            }
            let entries: Vec<_> = entries.iter().map(|(key, value)| Entry { key, value }).collect();
            prop_assert_eq!(subsets.find(&entries, &mut ()).to_vec(), naive(&kept, &entries));
        }
    }
}
