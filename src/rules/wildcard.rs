//! The wildcards below one node: many patterns, one answer, in a time that doesn't follow their number.
//!
//! A pattern is literal text with `*` in it, each standing for any text, the empty one too. Among the patterns that
//! match, the one that was declared first wins: not the longest. Trying them in order would cost as much as there are
//! rules, so they are indexed by what stands before their first and after their last `*`:
//!
//! ```text
//! pattern   path_/v1/*        prefix `path_/v1/` (9 bytes), suffix `` (0 bytes)    shape (9, 0)
//!           path_/v1/*/x      prefix `path_/v1/` (9 bytes), suffix `/x`            shape (9, 2)
//! shapes    (9, 0) (9, 2)     looked at one after the other, shortest prefix first
//! buckets   shape + prefix + suffix -> patterns in the order of declaration
//! ```
//!
//! A match costs one look into a table per *shape*, and rules that differ in their text share shapes: there are as
//! many as there are different lengths. A shape whose first pattern was declared after a hit is passed over. Patterns
//! that share prefix *and* suffix (`a*b*c`, `a*d*c`) are tried one by one, and only those.

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::joined::{Joined, Probe, TextHash};

/// The wildcard children of one node.
#[derive(Debug, Default)]
pub(super) struct Wildcards {
    /// Ordered by prefix length, then suffix length.
    shapes: Vec<Shape>,
    buckets: HashTable<Bucket>,
    declared: u32,
}

#[derive(Debug)]
struct Shape {
    prefix_length: usize,
    suffix_length: usize,
    /// Number, in the order of declaration, of its first pattern.
    first: u32,
}

/// The patterns of one prefix and suffix, in the order of declaration.
#[derive(Debug)]
struct Bucket {
    hash: u64,
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    patterns: SmallVec<[Pattern; 1]>,
}

#[derive(Debug)]
struct Pattern {
    declared: u32,
    node: u32,
    /// The literal parts between the first and the last `*`, none of them empty.
    middles: Box<[Box<[u8]>]>,
}

// === impl Wildcards ===

impl Wildcards {
    /// Adds the pattern of a node, which must hold a `*`; patterns are added in the order of declaration.
    pub(super) fn add(&mut self, pattern: &str, node: u32) {
        let mut parts = pattern.split('*').map(str::as_bytes);
        let prefix = parts.next().unwrap_or_default();
        let suffix = parts.next_back().unwrap_or_default();
        let middles = parts.filter(|part| !part.is_empty()).map(Box::from).collect();
        let declared = self.declared;
        self.declared += 1;
        let lengths = (prefix.len(), suffix.len());
        if let Err(at) = self.shapes.binary_search_by_key(&lengths, |shape| (shape.prefix_length, shape.suffix_length))
        {
            self.shapes.insert(at, Shape { prefix_length: lengths.0, suffix_length: lengths.1, first: declared });
        }
        let hash = bucket_hash(TextHash::of(0, prefix), TextHash::of(1, suffix), lengths);
        let pattern = Pattern { declared, node, middles };
        let is_same = |bucket: &Bucket| bucket.hash == hash && *bucket.prefix == *prefix && *bucket.suffix == *suffix;
        match self.buckets.find_mut(hash, is_same) {
            Some(bucket) => bucket.patterns.push(pattern),
            None => {
                let patterns = SmallVec::from_iter([pattern]);
                let bucket = Bucket { hash, prefix: prefix.into(), suffix: suffix.into(), patterns };
                self.buckets.insert_unique(hash, bucket, |bucket| bucket.hash);
            }
        }
    }

    /// The node of the first declared pattern that matches.
    pub(super) fn find(&self, text: &Joined<'_>, probe: &mut impl Probe) -> Option<u32> {
        let mut best: Option<&Pattern> = None;
        let mut prefix_hash = TextHash::new(0);
        let mut hashed = 0;
        for shape in &self.shapes {
            let Some(free) = text.len().checked_sub(shape.prefix_length) else { break };
            if shape.suffix_length > free || best.is_some_and(|best| best.declared < shape.first) {
                continue;
            }
            text.hash_into(&mut prefix_hash, hashed, shape.prefix_length);
            hashed = shape.prefix_length;
            probe.step();
            let Some(bucket) = self.bucket(shape, text, prefix_hash) else { continue };
            for pattern in &bucket.patterns {
                if best.is_some_and(|best| best.declared < pattern.declared) {
                    break;
                }
                probe.step();
                if pattern.middles_fit(text, shape.prefix_length, text.len() - shape.suffix_length) {
                    best = Some(pattern);
                    break;
                }
            }
        }
        best.map(|pattern| pattern.node)
    }

    fn bucket(&self, shape: &Shape, text: &Joined<'_>, prefix_hash: TextHash) -> Option<&Bucket> {
        let suffix_at = text.len() - shape.suffix_length;
        let mut suffix_hash = TextHash::new(1);
        text.hash_into(&mut suffix_hash, suffix_at, text.len());
        let lengths = (shape.prefix_length, shape.suffix_length);
        let hash = bucket_hash(prefix_hash.finish(), suffix_hash.finish(), lengths);
        self.buckets.find(hash, |bucket| {
            bucket.hash == hash
                && (bucket.prefix.len(), bucket.suffix.len()) == lengths
                && text.has_at(0, &bucket.prefix)
                && text.has_at(suffix_at, &bucket.suffix)
        })
    }
}

fn bucket_hash(prefix: u64, suffix: u64, lengths: (usize, usize)) -> u64 {
    let mut hash = TextHash::new(prefix);
    hash.push(&suffix.to_le_bytes());
    hash.push(&lengths.0.to_le_bytes());
    hash.finish()
}

// === impl Pattern ===

impl Pattern {
    /// Whether the middle parts stand one after the other, without overlapping, between `start` and `end`. Taking the
    /// first place of each leaves most room for the rest, so there is nothing to try again.
    fn middles_fit(&self, text: &Joined<'_>, start: usize, end: usize) -> bool {
        let mut from = start;
        self.middles.iter().all(|middle| match text.find(middle, from, end) {
            Some(at) => {
                from = at + middle.len();
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::descriptor::Entry;

    /// The definition, by recursion.
    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skipped| matches(rest, &text[skipped..])),
            Some((byte, rest)) => text.split_first().is_some_and(|(first, text)| first == byte && matches(rest, text)),
        }
    }

    fn find(patterns: &[String], key: &str, value: &str) -> Option<u32> {
        let mut wildcards = Wildcards::default();
        for (node, pattern) in patterns.iter().enumerate() {
            wildcards.add(pattern, node as u32);
        }
        wildcards.find(&Joined::of(&Entry { key, value }), &mut ())
    }

    proptest! {
        #[test]
        fn the_first_declared_match_is_found(
            patterns in prop::collection::vec("[ab_*]{0,4}\\*[ab_*]{0,4}", 1..8), key in "[ab_]{0,3}", value in "[ab_]{0,5}",
        ) {
            let text = format!("{key}_{value}");
            let expected = patterns.iter().position(|pattern| matches(pattern.as_bytes(), text.as_bytes()));
            prop_assert_eq!(find(&patterns, &key, &value), expected.map(|node| node as u32));
        }
    }

    #[test]
    fn literal_parts_do_not_overlap() {
        let patterns = ["h_ab*ba".to_owned(), "g_x*y*z".to_owned()];
        assert_eq!(find(&patterns, "h", "aba"), None);
        assert_eq!(find(&patterns, "h", "abba"), Some(0));
        assert_eq!(find(&patterns, "g", "xyyz"), Some(1));
        assert_eq!(find(&patterns, "g", "xz"), None);
    }
}
