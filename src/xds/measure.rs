//! How much there is in an encoded resource, counted before anything is made of it.
//!
//! Two bytes are enough for a descriptor on the wire, and some hundred are needed for it in memory: a message within its
//! bound of bytes could still fill a machine. So the bytes are walked first, which takes no memory, as deep as descriptors
//! may nest. Rules have the texts of all levels above them, each its own, so what is written once and inherited by many
//! counts for each. Bytes that can't be walked to their end are told apart, never taken for little.

use super::wire::{Field, Unreadable, fields};

/// Deepest nesting of descriptors: as in files, more than a request may have entries.
pub(super) const LEVELS_MAX: usize = 48;

/// Most parts of an update. Two files of the largest size hold about as many rules.
pub(super) const PARTS_MAX: usize = 300_000;

/// Longest text, in bytes: a name, a domain, a key or a value.
pub(super) const TEXT_BYTES_MAX: usize = 8 << 10;

/// Deepest nesting of metadata: it is decoded as deep as this at most, descriptors included.
const METADATA_LEVELS_MAX: usize = 100;

/// Bytes of the path of a rule that are part of the rule; each of its levels needs some for itself.
const PATH_BYTES_FREE: usize = 256;

/// Bytes of a path beyond those that count as one part.
const PATH_BYTES: usize = 64;

/// What a level of a path needs beside its text, in bytes.
const PATH_LEVEL_BYTES: usize = 32;

/// What a resource has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// What needs memory of its own: a descriptor, a name that is replaced, a value of metadata, and each 64 bytes by
    /// which the path of a rule is longer than 256.
    pub(super) parts: usize,
    /// Levels of descriptors; one more than is allowed stands for all above that.
    pub(super) levels: usize,
    /// Bytes of the longest text.
    pub(super) text_bytes: usize,
}

/// The messages that are walked.
#[derive(Clone, Copy)]
enum Message {
    Config,
    Descriptor,
    Policy,
    Replace,
    Structure,
    Entry,
    Value,
    List,
}

/// Where a message stands.
#[derive(Clone, Copy, Default)]
struct Depth {
    /// Descriptors around it, and itself.
    level: usize,
    /// Messages of metadata around it.
    metadata: usize,
    /// Bytes of the texts that a rule here has of all its levels.
    path: usize,
}

/// Measures an encoded `RateLimitConfig`.
pub(super) fn measure(bytes: &[u8]) -> Result<Measured, Unreadable> {
    let mut measured = Measured::default();
    walk(Message::Config, bytes, Depth::default(), &mut measured)?;
    Ok(measured)
}

fn walk(message: Message, bytes: &[u8], mut depth: Depth, measured: &mut Measured) -> Result<(), Unreadable> {
    // Texts first: they may stand behind what inherits them.
    for field in fields(bytes) {
        let Field { number, inner } = field?;
        let (length, is_of_path) = match (message, number, inner) {
            (Message::Config | Message::Descriptor, 1 | 2, Some(text)) => (text.len(), true),
            (Message::Policy, 4, Some(text)) | (Message::Replace, 1, Some(text)) => (text.len(), false),
            _ => continue,
        };
        measured.text_bytes = measured.text_bytes.max(length);
        depth.path += if is_of_path { length } else { 0 };
    }
    measured.levels = measured.levels.max(depth.level);
    for field in fields(bytes) {
        let Field { number, inner: Some(inner) } = field? else { continue };
        let within = Depth { metadata: depth.metadata + 1, ..depth };
        match (message, number) {
            (Message::Config, 3) | (Message::Descriptor, 4) => {
                measured.parts += 1;
                if depth.level < LEVELS_MAX {
                    let below = Depth { level: depth.level + 1, path: depth.path + PATH_LEVEL_BYTES, ..depth };
                    walk(Message::Descriptor, inner, below, measured)?;
                } else {
                    measured.levels = LEVELS_MAX + 1;
                }
            }
            (Message::Descriptor, 3) => {
                measured.parts += depth.path.saturating_sub(PATH_BYTES_FREE) / PATH_BYTES;
                walk(Message::Policy, inner, depth, measured)?;
            }
            (Message::Policy, 5) => {
                measured.parts += 1;
                walk(Message::Replace, inner, depth, measured)?;
            }
            _ if depth.metadata == METADATA_LEVELS_MAX => return Err(Unreadable),
            (Message::Descriptor, 8) | (Message::Value, 5) => walk(Message::Structure, inner, within, measured)?,
            (Message::Structure, 1) => {
                measured.parts += 1;
                walk(Message::Entry, inner, within, measured)?;
            }
            (Message::Entry, 2) => walk(Message::Value, inner, within, measured)?,
            (Message::Value, 6) => walk(Message::List, inner, within, measured)?,
            (Message::List, 1) => {
                measured.parts += 1;
                walk(Message::Value, inner, within, measured)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pbjson_types::value::Kind;
    use pbjson_types::{ListValue, Struct, Value};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::proto::ratelimit::config::ratelimit::v3::{
        RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitReplace,
    };

    fn nested(levels: usize) -> RateLimitDescriptor {
        let mut descriptor = RateLimitDescriptor { key: "k".to_owned(), ..RateLimitDescriptor::default() };
        for _ in 1..levels {
            descriptor = RateLimitDescriptor { descriptors: vec![descriptor], ..RateLimitDescriptor::default() };
        }
        descriptor
    }

    fn counted(descriptor: &RateLimitDescriptor) -> usize {
        let replaced = descriptor.rate_limit.as_ref().map_or(0, |limit| limit.replaces.len());
        let metadata = descriptor.metadata.as_ref().map_or(0, values);
        1 + replaced + metadata + descriptor.descriptors.iter().map(counted).sum::<usize>()
    }

    fn values(structure: &Struct) -> usize {
        structure.fields.len() + structure.fields.values().map(below).sum::<usize>()
    }

    fn below(value: &Value) -> usize {
        match &value.kind {
            Some(Kind::StructValue(inner)) => values(inner),
            Some(Kind::ListValue(list)) => list.values.len() + list.values.iter().map(below).sum::<usize>(),
            _ => 0,
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let of = |kind| Value { kind: Some(kind) };
        let leaf =
            prop_oneof![Just(Value { kind: None }), "[a-z]{0,3}".prop_map(move |text| of(Kind::StringValue(text)))];
        leaf.prop_recursive(3, 12, 3, move |inner| {
            let list =
                prop::collection::vec(inner.clone(), 0..3).prop_map(|values| Kind::ListValue(ListValue { values }));
            let fields = prop::collection::hash_map("[a-z]{0,2}", inner, 0..3);
            prop_oneof![list, fields.prop_map(|fields| Kind::StructValue(Struct { fields }))].prop_map(of)
        })
    }

    fn measured_of(bytes: &[u8]) -> usize {
        measure(bytes).unwrap().parts
    }

    fn measured(config: &RateLimitConfig) -> Measured {
        measure(&config.encode_to_vec()).unwrap()
    }

    /// A tree whose root has a key of that length, and that many rules below it.
    fn inherited(key_bytes: usize, rules: usize) -> RateLimitConfig {
        let rule = RateLimitDescriptor { rate_limit: Some(RateLimitPolicy::default()), ..nested(1) };
        let root = RateLimitDescriptor {
            key: "k".repeat(key_bytes),
            descriptors: vec![rule; rules],
            ..RateLimitDescriptor::default()
        };
        RateLimitConfig { descriptors: vec![root], ..RateLimitConfig::default() }
    }

    fn descriptor() -> impl Strategy<Value = RateLimitDescriptor> {
        let limit =
            prop::option::of((any::<u32>(), 0_usize..3).prop_map(|(requests_per_unit, replaced)| RateLimitPolicy {
                requests_per_unit,
                replaces: vec![RateLimitReplace::default(); replaced],
                ..RateLimitPolicy::default()
            }));
        let metadata = prop::option::of(prop::collection::hash_map("[a-z]{0,2}", value(), 0..3))
            .prop_map(|fields| fields.map(|fields| Struct { fields }));
        let leaf = ("[a-z]{0,3}", limit, metadata).prop_map(|(key, rate_limit, metadata)| RateLimitDescriptor {
            key,
            rate_limit,
            metadata,
            ..RateLimitDescriptor::default()
        });
        leaf.prop_recursive(5, 30, 4, |inner| {
            prop::collection::vec(inner, 0..4)
                .prop_map(|descriptors| RateLimitDescriptor { descriptors, ..RateLimitDescriptor::default() })
        })
    }

    #[test]
    fn levels_are_counted_up_to_one_too_many() {
        for (levels, expected) in [(1, 1), (48, 48), (49, 49), (90, 49)] {
            let config = RateLimitConfig { descriptors: vec![nested(levels)], ..RateLimitConfig::default() };
            assert_eq!(measured(&config).levels, expected);
        }
    }

    #[test]
    fn what_rules_inherit_counts_for_each_of_them_wherever_it_stands() {
        assert_eq!(measured(&inherited(100, 1_000)).parts, 1_001, "a path as it is usual is part of the rule");
        let long = inherited(8_192, 1_000);
        assert!(measured(&long).parts > 1_000 * 8_192 / 128, "{:?}", measured(&long));
        assert_eq!(measured(&long).text_bytes, 8_192);
        // The same with the key behind the rules.
        let root = &long.descriptors[0];
        let mut behind = RateLimitDescriptor { key: String::new(), ..root.clone() }.encode_to_vec();
        behind.extend(RateLimitDescriptor { key: root.key.clone(), ..RateLimitDescriptor::default() }.encode_to_vec());
        let mut config = vec![0x1a];
        prost::encoding::encode_varint(behind.len() as u64, &mut config);
        config.extend(behind);
        assert_eq!(measure(&config), Ok(measured(&long)));
    }

    #[test]
    fn a_group_hides_no_descriptors() {
        let hidden: Vec<u8> = [0xa3, 0x06, 0xa4, 0x06].into_iter().chain([0x1a, 0x00].repeat(3)).collect();
        assert!(RateLimitConfig::decode(&*hidden).is_ok_and(|config| config.descriptors.len() == 3));
        assert_eq!(measure(&hidden), Err(Unreadable));
    }

    #[test]
    fn metadata_that_nests_without_end_is_unreadable() {
        let mut value = Vec::new();
        for _ in 0..200 {
            // A list of one value, again and again.
            for tag in [0x0a, 0x32] {
                let mut outer = vec![tag];
                prost::encoding::encode_varint(value.len() as u64, &mut outer);
                outer.extend(value);
                value = outer;
            }
        }
        let mut measured = Measured::default();
        assert_eq!(walk(Message::Value, &value, Depth::default(), &mut measured), Err(Unreadable));
    }

    proptest! {
        #[test]
        fn what_is_decoded_was_counted(descriptors in prop::collection::vec(descriptor(), 0..5)) {
            let parts: usize = descriptors.iter().map(counted).sum();
            let config = RateLimitConfig { name: "n".to_owned(), domain: "d".to_owned(), descriptors };
            prop_assert_eq!(measured(&config).parts, parts);
        }

        #[test]
        fn whatever_bytes_are_decoded_they_have_no_more_than_was_measured(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..4),
                    Just(vec![0xa3, 0x06, 0xa4, 0x06]),
                    Just(vec![0x1a, 0x00]),
                    Just(vec![0x1a, 0x02, 0x22, 0x00]),
                    Just(vec![0x1a, 0x04, 0x1a, 0x02, 0x2a, 0x00]),
                    Just(vec![0x1a, 0x04, 0x42, 0x02, 0x0a, 0x00]),
                ],
                0..12,
            ),
        ) {
            let bytes = pieces.concat();
            if let Ok(config) = RateLimitConfig::decode(&*bytes) {
                let parts: usize = config.descriptors.iter().map(counted).sum();
                prop_assert!(measure(&bytes).is_err() || measured_of(&bytes) >= parts, "{config:?}");
            }
        }
    }
}
