//! How much there is in an encoded resource, counted before anything is made of it.
//!
//! Two bytes are enough for a descriptor on the wire, and some hundred are needed for it in memory: a message within its
//! bound of bytes could still fill a machine. So the bytes are walked first, which takes no memory, as deep as descriptors
//! may nest. What is no valid encoding is left to who decodes it: here it only ends the walk.

/// Deepest nesting of descriptors: as in files, more than a request may have entries.
pub(super) const LEVELS_MAX: usize = 48;

/// Most parts of an update: a descriptor, a name that is replaced, and 16 bytes of metadata are one each. Two files of
/// the largest size hold about as many rules.
pub(super) const PARTS_MAX: usize = 300_000;

/// Bytes of metadata that count as one part.
const METADATA_BYTES: usize = 16;

/// What a resource has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// Descriptors, and what else needs memory of its own.
    pub(super) parts: usize,
    /// Levels of descriptors; one more than is allowed stands for all above that.
    pub(super) levels: usize,
}

/// The messages that are walked.
#[derive(Clone, Copy)]
enum Message {
    Config,
    Descriptor,
    Policy,
}

/// A field on the wire: its number, and its bytes where it has a length.
struct Field<'b> {
    number: u64,
    inner: Option<&'b [u8]>,
}

/// Measures an encoded `RateLimitConfig`.
pub(super) fn measure(bytes: &[u8]) -> Measured {
    let mut measured = Measured::default();
    walk(Message::Config, bytes, 0, &mut measured);
    measured
}

fn walk(message: Message, mut rest: &[u8], level: usize, measured: &mut Measured) {
    measured.levels = measured.levels.max(level);
    while let Some((Field { number, inner }, after)) = next(rest) {
        rest = after;
        let Some(inner) = inner else { continue };
        match (message, number) {
            (Message::Config, 3) | (Message::Descriptor, 4) => {
                measured.parts += 1;
                if level < LEVELS_MAX {
                    walk(Message::Descriptor, inner, level + 1, measured);
                } else {
                    measured.levels = LEVELS_MAX + 1;
                }
            }
            (Message::Descriptor, 3) => walk(Message::Policy, inner, level, measured),
            (Message::Descriptor, 8) => measured.parts += inner.len().div_ceil(METADATA_BYTES),
            (Message::Policy, 5) => measured.parts += 1,
            _ => {}
        }
    }
}

/// The next field, and what follows it.
fn next(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (tag, rest) = varint(bytes)?;
    let (inner, rest) = match tag & 7 {
        0 => (None, varint(rest)?.1),
        1 => (None, rest.get(8..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            let (inner, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Some(inner), rest)
        }
        5 => (None, rest.get(4..)?),
        _ => return None,
    };
    Some((Field { number: tag >> 3, inner }, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index).min(63);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
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
        1 + replaced + descriptor.descriptors.iter().map(counted).sum::<usize>()
    }

    fn descriptor() -> impl Strategy<Value = RateLimitDescriptor> {
        let limit =
            prop::option::of((any::<u32>(), 0_usize..3).prop_map(|(requests_per_unit, replaced)| RateLimitPolicy {
                requests_per_unit,
                replaces: vec![RateLimitReplace::default(); replaced],
                ..RateLimitPolicy::default()
            }));
        let leaf = ("[a-z]{0,3}", limit).prop_map(|(key, rate_limit)| RateLimitDescriptor {
            key,
            rate_limit,
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
            assert_eq!(measure(&config.encode_to_vec()).levels, expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_decoded_was_counted(descriptors in prop::collection::vec(descriptor(), 0..5)) {
            let parts: usize = descriptors.iter().map(counted).sum();
            let config = RateLimitConfig { name: "n".to_owned(), domain: "d".to_owned(), descriptors };
            prop_assert_eq!(measure(&config.encode_to_vec()).parts, parts);
        }

        #[test]
        fn any_bytes_are_measured(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(measure(&bytes).parts <= bytes.len());
        }
    }
}
