//! The name of a counter in a store.
//!
//! ```text
//! <prefix> {} <version> <rule id> <part>*
//!             1 byte    8 bytes
//!
//! part   v <length> value            the value of an entry whose key the rule fixes
//!        e <length> key <length> value     an entry of which the rule fixes neither
//!        #                            after hashing, below: stands for all parts
//! length  LEB128: 7 bits a byte, lowest first, high bit set on all but the last
//! ```
//!
//! The gate of an adaptive service is `<prefix> {} g <name>`: no version begins with that letter.
//!
//! **Unambiguous.** The rule id stands for domain, path of keys, fixed values, algorithm and window (`rules`), so
//! only what the rule leaves open is written, each part with its length in front: no two different (rule, entries)
//! meet in one key, whatever bytes a caller puts into a value. The reference service joins everything with
//! underscores and can be made to share counters.
//!
//! **Bounded.** When the parts are longer than [`CounterKey::PARTS_MAX`] bytes, `#` and their SHA-256 stand in their
//! place: a megabyte of header costs a store 32 bytes, and a second value with the same digest can't be made.
//!
//! **Or the reference's.** In the compatibility profile fixed windows count under the keys of envoyproxy/ratelimit, byte
//! for byte, so that both services can share a Redis:
//!
//! ```text
//! <prefix><domain>_<key>_<value>_…<key>_<value>_<start of the window, s>
//! ```
//!
//! Those are ambiguous (`docs/compatibility.md`), and their braces choose slots. Where the part before the start is longer
//! than [`CounterKey::REFERENCE_BYTES_MAX`], `#` and its SHA-256 stand for it; such a counter is not shared.
//!
//! **Placed by us.** On Redis Cluster braces in a key choose its slot. The pair in front comes before all that callers
//! send, so that they can't aim their keys at a node by braces of their own. Whoever sends a key to a cluster writes
//! the tag of its place between them (`counters/redis/lanes.rs`); everywhere else they are empty.

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

/// The bytes of a counter's name; short ones need no allocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterKey {
    bytes: SmallVec<[u8; CounterKey::INLINE]>,
}

/// Writes a key part by part while a rule is being matched.
#[derive(Clone, Debug)]
pub struct KeyWriter {
    bytes: SmallVec<[u8; CounterKey::INLINE]>,
    parts_at: usize,
}

/// The layout described above; a change of layout takes the next number, so that old counters are never misread.
const VERSION: u8 = b'1';

// === impl CounterKey ===

impl CounterKey {
    /// Bytes that a key holds without an allocation: enough for most.
    pub const INLINE: usize = 96;

    /// Longest sequence of parts, in bytes, that is written as it is.
    pub const PARTS_MAX: usize = 128;

    /// Begins the key of a rule's counter. `prefix` keeps installations that share a Redis apart.
    #[must_use]
    pub fn write(prefix: &[u8], rule_id: u64) -> KeyWriter {
        let [a, b, c, d, e, f, g, h] = rule_id.to_be_bytes();
        let mut bytes = SmallVec::from_slice(prefix);
        bytes.extend_from_slice(&[b'{', b'}', VERSION, a, b, c, d, e, f, g, h]);
        let parts_at = bytes.len();
        KeyWriter { bytes, parts_at }
    }

    /// The key of a service's gate.
    #[must_use]
    pub fn gate(prefix: &[u8], service: &str) -> CounterKey {
        let mut bytes = SmallVec::from_slice(prefix);
        bytes.extend_from_slice(b"{}g");
        bytes.extend_from_slice(service.as_bytes());
        CounterKey { bytes }
    }

    /// A key beside this one, with the same prefix and place, that no counter has: its version is none.
    #[must_use]
    pub fn of_nothing(&self) -> CounterKey {
        // No prefix has braces, and every key has one pair of its own.
        let end = self.bytes.iter().position(|byte| *byte == b'}').map_or(0, |at| at + 1);
        let mut bytes = SmallVec::from_slice(&self.bytes[..end]);
        bytes.push(b'0');
        CounterKey { bytes }
    }

    /// What of a key chooses its place where there are several: the values that its rule leaves open, so that counters
    /// which several rules keep of the same values meet, such as those of a limit per second and one per day. Where a rule
    /// leaves nothing open, all of the key, so that such counters spread.
    #[must_use]
    pub fn placing(&self) -> &[u8] {
        const VERSION_AND_RULE: usize = 9;
        // No prefix has braces, and every key has one pair of its own.
        let end = self.bytes.iter().position(|byte| *byte == b'}').map_or(0, |at| at + 1);
        let parts = self.bytes.get(end + VERSION_AND_RULE..).unwrap_or_default();
        if parts.is_empty() { &self.bytes } else { parts }
    }

    /// Longest reference key, without the start of its window, that is written as it is, in bytes.
    pub const REFERENCE_BYTES_MAX: usize = 4_096;

    /// The key of envoyproxy/ratelimit for these keys and values, up to the start of the window, which
    /// [`CounterKey::begin_window`] adds.
    #[must_use]
    pub fn reference<'p>(prefix: &[u8], domain: &str, parts: impl Iterator<Item = (&'p str, &'p str)>) -> CounterKey {
        let mut bytes = SmallVec::from_slice(prefix);
        bytes.extend_from_slice(domain.as_bytes());
        bytes.push(b'_');
        for text in parts.flat_map(|(key, value)| [key, value]) {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(b'_');
        }
        if bytes.len() > CounterKey::REFERENCE_BYTES_MAX {
            let digest = Sha256::digest(&bytes);
            bytes.truncate(prefix.len());
            bytes.push(b'#');
            bytes.extend_from_slice(&digest);
            bytes.push(b'_');
            bytes.shrink_to_fit();
        }
        CounterKey { bytes }
    }

    /// Completes a reference key by the start of its window, in seconds after the epoch.
    pub fn begin_window(&mut self, start_s: u64) {
        self.bytes.extend_from_slice(start_s.to_string().as_bytes());
    }

    /// The key as a store uses it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

// === impl KeyWriter ===

impl KeyWriter {
    /// Adds the value of an entry whose key the rule fixes.
    pub fn value(&mut self, value: &str) {
        self.text(Some(b'v'), value);
    }

    /// Adds an entry of which the rule fixes neither key nor value.
    pub fn entry(&mut self, key: &str, value: &str) {
        self.text(Some(b'e'), key);
        self.text(None, value);
    }

    /// The finished key.
    #[must_use]
    pub fn finish(mut self) -> CounterKey {
        if self.bytes.len() - self.parts_at > CounterKey::PARTS_MAX {
            let digest = Sha256::digest(&self.bytes[self.parts_at..]);
            self.bytes.truncate(self.parts_at);
            self.bytes.push(b'#');
            self.bytes.extend_from_slice(&digest);
            // What the long parts needed is given back: only the short form is kept.
            self.bytes.shrink_to_fit();
        }
        CounterKey { bytes: self.bytes }
    }

    /// Writes a mark, if it has one, and a text with its length in front.
    fn text(&mut self, mark: Option<u8>, text: &str) {
        let (mut head, mut at) = ([0; 11], 0);
        if let Some(mark) = mark {
            (head[0], at) = (mark, 1);
        }
        let mut length = text.len();
        while length >= 0x80 {
            head[at] = (length & 0x7f) as u8 | 0x80;
            (length, at) = (length >> 7, at + 1);
        }
        head[at] = length as u8;
        self.bytes.extend_from_slice(&head[..=at]);
        self.bytes.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(parts: &[(Option<&str>, &str)]) -> CounterKey {
        let mut writer = CounterKey::write(b"t:", 7);
        for (key, value) in parts {
            match key {
                Some(key) => writer.entry(key, value),
                None => writer.value(value),
            }
        }
        writer.finish()
    }

    proptest! {
        #[test]
        fn different_parts_never_share_a_key(
            a in prop::collection::vec((prop::option::of("[ae{}v_]{0,3}"), "[ae{}v_\u{1}]{0,130}"), 0..3),
            b in prop::collection::vec((prop::option::of("[ae{}v_]{0,3}"), "[ae{}v_\u{1}]{0,130}"), 0..3),
        ) {
            let view = |parts: &'_ [(Option<String>, String)]| -> CounterKey {
                key(&parts.iter().map(|(k, v)| (k.as_deref(), v.as_str())).collect::<Vec<_>>())
            };
            prop_assert_eq!(view(&a) == view(&b), a == b);
        }
    }

    #[test]
    fn reference_keys_are_those_of_the_specification() {
        let key = |prefix: &str, domain, parts: &[(&'static str, &'static str)], start_s| {
            let mut key = CounterKey::reference(prefix.as_bytes(), domain, parts.iter().copied());
            key.begin_window(start_s);
            String::from_utf8(key.as_bytes().to_vec()).unwrap()
        };
        assert_eq!(key("", "domain", &[("key", "value")], 1_234), "domain_key_value_1234");
        let two = [("key2", "value2"), ("subkey2", "subvalue2")];
        assert_eq!(key("", "domain", &two, 1_200), "domain_key2_value2_subkey2_subvalue2_1200");
        assert_eq!(key("prefix:", "domain", &[("key", "value")], 1_234), "prefix:domain_key_value_1234");
        assert_eq!(key("", "shop", &[("user", "")], 997_200), "shop_user__997200");
        assert_eq!(key("", "domain", &[], 60), "domain_60");
    }

    #[test]
    fn a_reference_key_without_bound_is_hashed() {
        let key = |length: usize| {
            let value = "x".repeat(length);
            let mut key = CounterKey::reference(b"p:", "d", [("user", value.as_str())].into_iter());
            key.begin_window(60);
            key
        };
        let longest = CounterKey::REFERENCE_BYTES_MAX - "p:d_user__".len();
        assert_eq!(key(longest).as_bytes().len(), CounterKey::REFERENCE_BYTES_MAX + 2);
        let hashed = key(longest + 1);
        assert!(hashed.as_bytes().starts_with(b"p:#") && hashed.as_bytes().len() < CounterKey::INLINE);
        assert_ne!(hashed, key(longest + 2));
    }

    #[test]
    fn a_megabyte_of_value_makes_a_short_key() {
        let long = key(&[(None, &"x".repeat(1 << 20))]);
        assert!(long.as_bytes().len() < CounterKey::INLINE);
        assert_ne!(long, key(&[(None, &"x".repeat((1 << 20) + 1))]));
    }

    #[test]
    fn the_key_of_nothing_is_no_counters() {
        assert_eq!(key(&[(None, "a}b")]).of_nothing().as_bytes(), b"t:{}0");
        assert_eq!(CounterKey::gate(b"t:", "shop").of_nothing().as_bytes(), b"t:{}0");
        assert_ne!(VERSION, b'0');
    }

    #[test]
    fn counters_of_the_same_values_are_placed_alike_and_those_without_spread() {
        let placing = |rule: u64, value: Option<&str>| {
            let mut key = CounterKey::write(b"t:", rule);
            value.into_iter().for_each(|value| key.value(value));
            key.finish().placing().to_vec()
        };
        assert_eq!(placing(1, Some("a}b")), placing(2, Some("a}b")));
        assert_ne!(placing(1, Some("a")), placing(1, Some("b")));
        assert_ne!(placing(1, None), placing(2, None));
    }

    #[test]
    fn a_caller_cannot_choose_the_cluster_slot() {
        // Redis takes the text between the first `{` and the first `}` after it, unless that text is empty.
        let mine = key(&[(None, "{other}")]);
        let first = mine.as_bytes().iter().position(|byte| *byte == b'{').unwrap();
        assert_eq!(mine.as_bytes()[first + 1], b'}');
    }
}
