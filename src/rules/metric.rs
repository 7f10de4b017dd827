//! What metrics call a rule.
//!
//! The reference service's statistics have dotted names: the domain, then one part per level. A rule's part is its
//! `key_value` as configured, which is known beforehand; only rules that ask for it (`detailed_metric`,
//! `value_to_metric`) carry values of the request. Two letters that its sinks can't bear are replaced, and so are the
//! dots of IPv4 addresses; other dots stay, although they split a name. Dashboards are built on these names.

use std::borrow::Cow;

use super::tree::{Node, NodeId, Tree};
use crate::descriptor::Entry;

/// `text` as part of a metric's name: `:` and `|` become `_`, and so do the dots inside an IPv4 address.
#[must_use]
pub fn sanitised(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b':' | b'|' | b'.')) {
        return Cow::Borrowed(text);
    }
    let mut clean = text.replace([':', '|'], "_").into_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let length = ipv4_length(&bytes[at..]).unwrap_or(0);
        for byte in &mut clean[at..at + length] {
            *byte = if *byte == b'.' { b'_' } else { *byte };
        }
        at += length.max(1);
    }
    Cow::Owned(String::from_utf8(clean).expect("only ASCII was replaced, by ASCII"))
}

/// The length of what looks like an IPv4 address at the start of `bytes`: four times one to three digits.
fn ipv4_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for part in 0..4 {
        if part > 0 {
            (bytes.get(at) == Some(&b'.')).then(|| at += 1)?;
        }
        let digits = bytes[at..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        (digits > 0).then(|| at += digits)?;
    }
    Some(at)
}

/// `key_value` of an entry; an empty value leaves its underscore.
pub(super) fn whole(entry: &Entry<'_>) -> String {
    sanitised(&format!("{}_{}", entry.key, entry.value)).into_owned()
}

/// `key_value` of an entry, or just the key if the value is empty.
pub(super) fn short(entry: &Entry<'_>) -> String {
    if entry.value.is_empty() { sanitised(entry.key).into_owned() } else { whole(entry) }
}

/// A rule's path as configured.
pub(super) fn static_path<'p>(path: impl IntoIterator<Item = &'p str>) -> Box<[Box<str>]> {
    path.into_iter().map(|part| sanitised(part).into()).collect()
}

/// Whether the metric path of the rule at the end of `path` has values of the request in it.
pub(super) fn is_runtime(tree: &Tree, path: &[NodeId], detailed: bool) -> bool {
    let names_value = |node: &Node| node.value_to_metric && (node.is_wildcard() || node.value().is_none());
    detailed || path.iter().any(|node| names_value(tree.node(*node)))
}

/// The metric path of a match in the tree, one part per level.
pub(super) fn tree_path(tree: &Tree, walk: &[NodeId], entries: &[Entry<'_>], detailed: bool) -> Vec<String> {
    let part = |(node, entry): (&NodeId, &Entry<'_>)| {
        let node = tree.node(*node);
        let by_key_alone = entry.key == node.composite();
        match () {
            () if node.is_shared() => sanitised(node.composite()).into_owned(),
            () if detailed => whole(entry),
            () if node.value_to_metric && by_key_alone => short(entry),
            () if node.value_to_metric && node.is_wildcard() => whole(entry),
            () => sanitised(node.composite()).into_owned(),
        }
    };
    walk.iter().zip(entries).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colons_bars_and_the_dots_of_addresses_are_replaced() {
        for (text, clean) in [
            ("path_/v1/*", "path_/v1/*"),
            ("host_10.0.0.1:80", "host_10_0_0_1_80"),
            ("host_shop.example.com", "host_shop.example.com"),
            ("a|b:c", "a_b_c"),
            ("1.2.3", "1.2.3"),
            ("1.2.3.4.5.6.7.8", "1_2_3_4.5_6_7_8"),
            ("1234.5.6.7", "1234_5_6_7"),
            ("1.2.3.4567", "1_2_3_4567"),
            ("ä1.2.3.4:", "ä1_2_3_4_"),
            ("masked_remote_address_0.0.0.0/0", "masked_remote_address_0_0_0_0/0"),
        ] {
            assert_eq!(sanitised(text), clean);
        }
    }
}
