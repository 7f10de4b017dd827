//! The text that rules are matched on, without making it.
//!
//! The reference service compares `key_value` of an entry with a node's `key_value`, so that a key `region_eu` and the
//! entry (region, eu) are the same. Here the joined text is never built: it is hashed and compared piece by piece,
//! and the hash depends on the bytes only, not on where the pieces meet.
//!
//! The hash is FNV-1a, byte after byte, because it can be read at every position: one pass over an entry gives the hash
//! of its key, of the whole, and of every prefix that a wildcard asks for. It needs no secret. The tables that it
//! indexes hold the operator's rules only; a caller chooses what is looked up, never what is in there, so no request
//! can make them degenerate.

use crate::descriptor::Entry;

/// Counts the steps of a match: a look into a table or a comparison with a candidate. The unit type counts nothing
/// and costs nothing.
pub(super) trait Probe {
    fn step(&mut self) {}
}

impl Probe for () {}

/// An entry's `key_value`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joined<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

/// A running hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextHash(u64);

// === impl Joined ===

impl<'a> Joined<'a> {
    pub(super) fn of(entry: &Entry<'a>) -> Joined<'a> {
        Joined { key: entry.key.as_bytes(), value: entry.value.as_bytes() }
    }

    pub(super) fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.key.len() + 1 + self.value.len()
    }

    /// The bytes from `start` to `end`, in pieces.
    fn pieces(&self, start: usize, end: usize) -> [&'a [u8]; 3] {
        let underscore_at = self.key.len();
        let cut = |bytes: &'a [u8], bytes_at: usize| {
            let from = start.saturating_sub(bytes_at).min(bytes.len());
            let to = end.saturating_sub(bytes_at).min(bytes.len());
            &bytes[from.min(to)..to]
        };
        [cut(self.key, 0), cut(b"_", underscore_at), cut(self.value, underscore_at + 1)]
    }

    /// Hashes the bytes from `start` to `end`.
    pub(super) fn hash_into(&self, hash: &mut TextHash, start: usize, end: usize) {
        for piece in self.pieces(start, end) {
            hash.push(piece);
        }
    }

    /// Whether `text` stands at `start`.
    pub(super) fn has_at(&self, start: usize, text: &[u8]) -> bool {
        let end = start + text.len();
        if end > self.len() {
            return false;
        }
        let mut rest = text;
        self.pieces(start, end).into_iter().all(|piece| match rest.strip_prefix(piece) {
            Some(after) => {
                rest = after;
                true
            }
            None => false,
        })
    }

    pub(super) fn equals(&self, text: &[u8]) -> bool {
        self.len() == text.len() && self.has_at(0, text)
    }

    /// Where `text` first stands whole between `start` and `end`.
    pub(super) fn find(&self, text: &[u8], start: usize, end: usize) -> Option<usize> {
        let last = end.checked_sub(text.len())?;
        let value_at = self.key.len() + 1;
        // Where it would begin in the key or be the underscore's, piece by piece; within the value, which may be long,
        // at once.
        let early = (start..value_at.min(last + 1)).find(|at| self.has_at(*at, text));
        early.or_else(|| {
            let from = start.max(value_at);
            let within = self.value.get(from - value_at..end.saturating_sub(value_at))?;
            let at = if text.is_empty() { 0 } else { within.windows(text.len()).position(|window| window == text)? };
            Some(from + at)
        })
    }
}

// === impl TextHash ===

impl TextHash {
    /// A hash that differs by `seed` from the start: a table can hold the texts of many nodes.
    pub(super) fn new(seed: u64) -> TextHash {
        TextHash(0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The hash so far. FNV mixes its high bits badly and the tables use them, so they are stirred once more.
    pub(super) fn finish(self) -> u64 {
        let stirred = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        stirred ^ (stirred >> 32)
    }

    pub(super) fn of(seed: u64, bytes: &[u8]) -> u64 {
        let mut hash = TextHash::new(seed);
        hash.push(bytes);
        hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_compared_and_hashed_like_the_text_they_make(
            key in "[ab_]{0,4}", value in "[ab_]{0,4}", other in "[ab_]{0,4}", start in 0_usize..10,
        ) {
            let text = format!("{key}_{value}");
            let joined = Joined::of(&Entry { key: &key, value: &value });
            prop_assert!(joined.equals(text.as_bytes()));
            prop_assert_eq!(joined.equals(other.as_bytes()), other == text);
            let stands = text.as_bytes().get(start..).is_some_and(|rest| rest.starts_with(other.as_bytes()));
            prop_assert_eq!(joined.has_at(start, other.as_bytes()), stands);
            let found = text.get(start..).and_then(|rest| rest.find(&other)).map(|at| start + at);
            prop_assert_eq!(joined.find(other.as_bytes(), start, text.len()), found);
            let mut hash = TextHash::new(7);
            joined.hash_into(&mut hash, 0, 2);
            joined.hash_into(&mut hash, 2, text.len());
            prop_assert_eq!(hash.finish(), TextHash::of(7, text.as_bytes()));
        }
    }
}
