//! A request read where it lies: nothing of the message is copied, no `String` and no `Vec` is made for it.
//!
//! This is the way of nearly every call, and it understands nearly every message: fields that we know, each in its
//! usual form. What is unusual (an unknown field, a repeated message field, a text that is not UTF-8, a length that is
//! wrong) is left to the generated types, which know all of Protocol Buffers and have the words for what is wrong. So
//! there is one place that defines what a message means, and this is only a faster way to the same end: a property
//! test holds the two equal. [Encoding](https://protobuf.dev/programming-guides/encoding/).

use smallvec::SmallVec;

use super::convert::{Converted, limit_override};
use crate::descriptor::{Descriptor, Entry, Hits, RateQuery};

/// The question in a `RateLimitRequest`, or `None` where the generated types must look: at what is unusual, and at
/// what is no question.
#[must_use]
pub fn query(message: &[u8]) -> Option<Converted<'_>> {
    let mut domain = "";
    let mut default_hits = 0;
    let mut overrides_ignored = 0;
    let mut descriptors: SmallVec<[Descriptor<'_>; 4]> = SmallVec::new();
    // A bit for each descriptor that names no hits of its own: the request's may stand behind it.
    let mut unnamed = 0_u128;
    let mut fields = Fields(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            Tag { field: 1, kind: LENGTH } => domain = fields.text()?,
            Tag { field: 2, kind: LENGTH } if descriptors.len() < RateQuery::DESCRIPTORS_MAX => {
                let read = descriptor(fields.bytes()?)?;
                overrides_ignored += u64::from(read.override_ignored);
                unnamed |= u128::from(!read.names_hits) << descriptors.len();
                descriptors.push(read.descriptor);
            }
            // The wire has 64 bits for it, and whoever reads takes the low half.
            #[allow(clippy::cast_possible_truncation)]
            Tag { field: 3, kind: VARINT } => default_hits = fields.varint()? as u32,
            _ => return None,
        }
    }
    let default_hits = u64::from(default_hits.max(1));
    for (_, descriptor) in descriptors.iter_mut().enumerate().filter(|(index, _)| unnamed >> index & 1 == 1) {
        descriptor.hits = match descriptor.hits {
            Hits::Add(_) => Hits::Add(default_hits),
            Hits::GiveBack(_) => Hits::GiveBack(default_hits),
        };
    }
    let query = RateQuery::try_new(domain, descriptors).ok()?;
    Some(Converted { query, overrides_ignored })
}

/// A descriptor, and what only the request can settle.
struct Read<'a> {
    descriptor: Descriptor<'a>,
    names_hits: bool,
    override_ignored: bool,
}

const _: () = assert!(RateQuery::DESCRIPTORS_MAX <= 128, "each descriptor has a bit in `query`");

fn descriptor(message: &[u8]) -> Option<Read<'_>> {
    let mut entries = SmallVec::new();
    let (mut hits, mut gives_back, mut limit) = (None, false, None);
    let mut fields = Fields(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            Tag { field: 1, kind: LENGTH } if entries.len() < RateQuery::ENTRIES_MAX => {
                entries.push(entry(fields.bytes()?)?);
            }
            Tag { field: 2, kind: LENGTH } if limit.is_none() => limit = Some(wire_limit(fields.bytes()?)?),
            Tag { field: 3, kind: LENGTH } if hits.is_none() => hits = Some(wrapped(fields.bytes()?)?),
            Tag { field: 4, kind: VARINT } => gives_back = fields.varint()? != 0,
            _ => return None,
        }
    }
    let limit_override =
        limit.and_then(|(requests_per_unit, unit, multiplier)| limit_override(requests_per_unit, unit, multiplier));
    let override_ignored = limit.is_some() && limit_override.is_none();
    let amount = hits.unwrap_or_default();
    let names_hits = hits.is_some();
    let hits = if gives_back { Hits::GiveBack(amount) } else { Hits::Add(amount) };
    Some(Read { descriptor: Descriptor { entries, hits, limit_override }, names_hits, override_ignored })
}

fn entry(message: &[u8]) -> Option<Entry<'_>> {
    let (mut key, mut value) = ("", "");
    let mut fields = Fields(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            Tag { field: 1, kind: LENGTH } => key = fields.text()?,
            Tag { field: 2, kind: LENGTH } => value = fields.text()?,
            _ => return None,
        }
    }
    Some(Entry { key, value })
}

/// Requests per unit, unit and multiplier of a `RateLimitOverride`, as they stand on the wire.
#[allow(clippy::cast_possible_truncation)] // As above: the low half is what counts.
fn wire_limit(message: &[u8]) -> Option<(u32, i32, Option<u32>)> {
    let (mut requests_per_unit, mut unit, mut multiplier) = (0, 0, None);
    let mut fields = Fields(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            Tag { field: 1, kind: VARINT } => requests_per_unit = fields.varint()? as u32,
            Tag { field: 2, kind: VARINT } => unit = fields.varint()? as i32,
            Tag { field: 3, kind: LENGTH } if multiplier.is_none() => {
                multiplier = Some(wrapped(fields.bytes()?)? as u32);
            }
            _ => return None,
        }
    }
    Some((requests_per_unit, unit, multiplier))
}

/// The number in one of the wrappers that tell a zero from nothing.
fn wrapped(message: &[u8]) -> Option<u64> {
    let mut value = 0;
    let mut fields = Fields(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            Tag { field: 1, kind: VARINT } => value = fields.varint()?,
            _ => return None,
        }
    }
    Some(value)
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

/// A field's number and the form of its value.
struct Tag {
    field: u8,
    kind: u8,
}

const VARINT: u8 = 0;
const LENGTH: u8 = 2;

/// Every method gives `None` where the message is wrong or unusual.
impl<'a> Fields<'a> {
    /// The next field's tag; the inner `None` is the end of the message. All tags that we know have one byte.
    fn tag(&mut self) -> Option<Option<Tag>> {
        match self.0.split_first() {
            None => Some(None),
            Some((byte, rest)) if *byte < 0x80 => {
                self.0 = rest;
                Some(Some(Tag { field: byte >> 3, kind: byte & 7 }))
            }
            Some(_) => None,
        }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (index, byte) in self.0.iter().enumerate() {
            // The tenth byte has room for one bit.
            if index == 9 && *byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
    use crate::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor as wire;
    use crate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
    use crate::rls::convert;

    fn a_limit() -> impl Strategy<Value = wire::RateLimitOverride> {
        let multiplier = prop::option::of(any::<u32>().prop_map(Into::into));
        (any::<u32>(), -1..9, multiplier).prop_map(|(requests_per_unit, unit, unit_multiplier)| {
            wire::RateLimitOverride { requests_per_unit, unit, unit_multiplier }
        })
    }

    fn a_descriptor() -> impl Strategy<Value = RateLimitDescriptor> {
        let entry = ("[a-zé]{0,9}", ".{0,200}").prop_map(|(key, value)| wire::Entry { key, value });
        let hits = prop::option::of(prop_oneof![0..3_u64, any::<u64>()].prop_map(Into::into));
        (prop::collection::vec(entry, 0..6), prop::option::of(a_limit()), hits, any::<bool>()).prop_map(
            |(entries, limit, hits_addend, is_negative_hits)| RateLimitDescriptor {
                entries,
                limit,
                hits_addend,
                is_negative_hits,
            },
        )
    }

    fn a_request() -> impl Strategy<Value = RateLimitRequest> {
        let hits = prop_oneof![Just(0), any::<u32>()];
        ("[a-z]{0,12}", prop::collection::vec(a_descriptor(), 0..7), hits)
            .prop_map(|(domain, descriptors, hits_addend)| RateLimitRequest { domain, descriptors, hits_addend })
    }

    /// Whatever is understood here is understood alike by the generated types.
    fn is_alike(message: &[u8]) -> Result<bool, TestCaseError> {
        let request = RateLimitRequest::decode(message);
        let Some(read) = query(message) else { return Ok(false) };
        let Ok(request) = &request else { return Err(TestCaseError::fail("read what is no message")) };
        let Ok(converted) = convert::query(request) else {
            return Err(TestCaseError::fail("read what is no question"));
        };
        prop_assert_eq!(read.query, converted.query);
        prop_assert_eq!(read.overrides_ignored, converted.overrides_ignored);
        Ok(true)
    }

    proptest! {
        #[test]
        fn every_question_is_read_as_the_generated_types_read_it(request in a_request()) {
            let is_question = convert::query(&request).is_ok();
            prop_assert_eq!(is_alike(&request.encode_to_vec())?, is_question);
        }

        #[test]
        fn a_damaged_message_is_read_alike_or_left_to_the_generated_types(
            request in a_request(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut message = request.encode_to_vec();
            message.push(0);
            for (at, byte) in damage {
                let at = at.index(message.len());
                message[at] = byte;
            }
            message.truncate(cut.index(message.len()) + 1);
            is_alike(&message)?;
        }

        #[test]
        fn no_bytes_are_too_odd(message in prop::collection::vec(any::<u8>(), 0..64)) {
            is_alike(&message)?;
        }

        #[test]
        fn fields_in_any_order_and_again_are_read_alike(parts in prop::collection::vec(a_request(), 1..4)) {
            // One message behind the other is the two merged.
            let message: Vec<u8> = parts.iter().flat_map(|part| part.encode_to_vec()).collect();
            is_alike(&message)?;
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_the_generated_types() {
        let unknown_field: &[u8] = &[0x7a, 1, 0];
        let request =
            RateLimitRequest { domain: "d".into(), descriptors: vec![RateLimitDescriptor::default()], hits_addend: 0 };
        let message = request.encode_to_vec();
        assert!(query(&message).is_some());
        assert!(query(&[&message, unknown_field].concat()).is_none());
        assert!(query(&[&message, &[0x0a, 1, 0xff][..]].concat()).is_none(), "a domain that is not UTF-8");
        let crowded = RateLimitRequest { descriptors: vec![RateLimitDescriptor::default(); 129], ..request };
        assert!(query(&crowded.encode_to_vec()).is_none());
    }
}
