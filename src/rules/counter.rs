//! Which counter of a rule a request is charged to.
//!
//! A rule's identity stands for its domain, its keys and its fixed values, so a counter's key adds only what the rule
//! leaves open, level by level:
//!
//! ```text
//! descriptor                     in the request       part
//! {key: user}                    (user, ann)          value ann
//! {key: tier, value: gold}       (tier, gold)         none
//! {key: path, value: /v1/*}      (path, /v1/a)        value /v1/a
//!   with share_threshold         any                  none
//! {key: foo*}                    (foobar, x)          entry foobar, x
//! {key: region_eu}               (region, eu)         entry region, eu      matched as joined text
//! ```
//!
//! **Unambiguous.** Every level writes one part or none. The levels that write none are those with a fixed value, and
//! one of these could be reached by another split of the same joined text: (a, b_c) and (a_b, c) both reach
//! `{key: a, value: b_c}`. Then nothing says which level such a part belongs to. So if that happens on any level, all
//! levels write their whole entry: there are more parts then than there can be otherwise, and each has its place.
//!
//! **Or the reference's.** In the compatibility profile the keys of fixed windows are envoyproxy/ratelimit's, which
//! name neither rule nor limit nor unit (`crate::key`).

use super::RuleId;
use super::tree::{Node, NodeId, Tree};
use crate::descriptor::Entry;
use crate::key::{CounterKey, KeyWriter};

/// The counter of a rule in the tree for the entries that led to it.
pub(super) fn of_walk(tree: &Tree, walk: &[NodeId], entries: &[Entry<'_>], id: RuleId, prefix: &[u8]) -> CounterKey {
    let levels = || walk.iter().map(|node| tree.node(*node)).zip(entries).filter(|(node, _)| !node.is_shared());
    let in_full = levels().any(|(node, entry)| is_split_otherwise(node, entry));
    let mut key = CounterKey::write(prefix, id.0);
    for (node, entry) in levels() {
        if in_full || (entry.key != node.key() && !is_fixed(node)) {
            key.entry(entry.key, entry.value);
        } else if !is_fixed(node) {
            key.value(entry.value);
        }
    }
    key.finish()
}

/// The counter of a subset rule. `open` are the keys for which the rule names no value, ordered by name; of a repeated
/// key the first entry counts.
pub(super) fn of_subset(open: &[Box<str>], entries: &[Entry<'_>], id: RuleId, prefix: &[u8]) -> CounterKey {
    let mut key = CounterKey::write(prefix, id.0);
    for name in open {
        let entry = entries.iter().find(|entry| *entry.key == **name);
        write_value(&mut key, entry);
    }
    key.finish()
}

/// Whether all requests that this walk stands for are charged to one counter, written as the rule writes them.
pub(super) fn is_total(tree: &Tree, walk: &[NodeId]) -> bool {
    walk.iter().map(|node| tree.node(*node)).all(|node| node.is_shared() || is_fixed(node))
}

fn write_value(key: &mut KeyWriter, entry: Option<&Entry<'_>>) {
    if let Some(entry) = entry {
        key.value(entry.value);
    }
}

/// The counter of a limit that the request brings along: nothing is fixed.
pub(super) fn of_override(entries: &[Entry<'_>], id: RuleId, prefix: &[u8]) -> CounterKey {
    let mut key = CounterKey::write(prefix, id.0);
    for entry in entries {
        key.entry(entry.key, entry.value);
    }
    key.finish()
}

/// The counter of envoyproxy/ratelimit for the entries that led to a rule: where nodes are shared, their patterns stand
/// for the values.
pub(super) fn reference_of_walk(
    tree: &Tree,
    walk: &[NodeId],
    entries: &[Entry<'_>],
    domain: &str,
    prefix: &[u8],
) -> CounterKey {
    let parts = walk.iter().zip(entries).map(|(node, entry)| {
        let node = tree.node(*node);
        let value = if node.is_shared() { pattern(node, entry) } else { entry.value };
        (entry.key, value)
    });
    CounterKey::reference(prefix, domain, parts)
}

/// The same for a limit that the request brought along.
pub(super) fn reference_of_override(entries: &[Entry<'_>], domain: &str, prefix: &[u8]) -> CounterKey {
    CounterKey::reference(prefix, domain, entries.iter().map(|entry| (entry.key, entry.value)))
}

/// What of a shared node stands for the value: all behind the key, and where the key ends otherwise, the whole.
fn pattern<'n>(node: &'n Node, entry: &Entry<'_>) -> &'n str {
    let composite = node.composite();
    composite.strip_prefix(entry.key).and_then(|rest| rest.strip_prefix('_')).unwrap_or(composite)
}

/// Whether the node names a value, and no wildcard.
fn is_fixed(node: &Node) -> bool {
    node.value().is_some() && !node.is_wildcard()
}

fn is_split_otherwise(node: &Node, entry: &Entry<'_>) -> bool {
    is_fixed(node) && (entry.key != node.key() || node.value() != Some(entry.value))
}
