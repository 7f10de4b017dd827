//! An answer written straight from the decision: a gRPC message, its five bytes of prefix included, in one buffer.
//!
//! What the generated types would write is written here byte for byte, without making them first; a property test
//! holds the two equal. Headers and metadata, which only some settings ask for, are left to the generated types.

use bytes::Bytes;

use super::convert;
use super::message::PREFIX;
use crate::decision::{CurrentLimit, Decision, DescriptorStatus};

/// Bytes that nearly every answer fits into: it is written on the stack, and copied once, when its length is known.
const SHORT: usize = 512;

/// Bytes that a status takes at most besides its limit's name: 6 tags and numbers, and 5 tags and lengths.
const STATUS_MAX: usize = 6 * (1 + 10) + 5 * (1 + 5);

/// What is being written. It has room for all of it.
struct Out<'b> {
    bytes: &'b mut [u8],
    length: usize,
}

/// The bytes of a `RateLimitResponse` with statuses and nothing more, as one message of a gRPC stream.
#[must_use]
pub fn response(decision: &Decision) -> Bytes {
    let room = PREFIX + 11 + decision.statuses.iter().map(room_for).sum::<usize>();
    let mut short = [0; SHORT];
    if room <= SHORT { write_response(decision, &mut short) } else { write_response(decision, &mut vec![0; room]) }
}

fn room_for(status: &DescriptorStatus) -> usize {
    STATUS_MAX + status.current_limit.as_ref().and_then(|limit| limit.name.as_deref()).map_or(0, str::len)
}

fn write_response(decision: &Decision, bytes: &mut [u8]) -> Bytes {
    let mut out = Out { bytes, length: PREFIX };
    out.number(1, convert::code(decision.code) as u64);
    for status in &decision.statuses {
        out.nested(2, |out| out.status(status));
    }
    let message = u32::try_from(out.length - PREFIX).expect("128 statuses with names from rule files are far shorter");
    let written = &mut out.bytes[..out.length];
    written[1..PREFIX].copy_from_slice(&message.to_be_bytes());
    Bytes::copy_from_slice(written)
}

// === impl Out ===

impl Out<'_> {
    fn status(&mut self, status: &DescriptorStatus) {
        self.number(1, convert::code(status.code) as u64);
        if let Some(limit) = &status.current_limit {
            self.nested(2, |out| out.limit(limit));
        }
        self.number(3, u64::from(status.limit_remaining));
        if let Some(seconds) = status.reset_seconds() {
            self.nested(4, |out| out.number(1, seconds));
        }
    }

    fn limit(&mut self, current: &CurrentLimit) {
        let (unit, multiplier) = convert::unit(current.limit.window);
        self.number(1, u64::from(current.limit.requests_per_unit));
        self.number(2, unit as u64);
        if let Some(name) = current.name.as_deref().filter(|name| !name.is_empty()) {
            self.nested(3, |out| {
                out.bytes[out.length..][..name.len()].copy_from_slice(name.as_bytes());
                out.length += name.len();
            });
        }
        if let Some(multiplier) = multiplier {
            self.nested(4, |out| out.number(1, u64::from(multiplier)));
        }
    }

    /// Writes a number field; zero is not written. Fields have numbers below 16, so that a tag is one byte.
    fn number(&mut self, field: u8, value: u64) {
        if value > 0 {
            self.byte(field << 3);
            self.varint(value);
        }
    }

    /// Writes a field of bytes. Its length stands in front of it, and is written when it is known: nearly always in one
    /// byte.
    fn nested(&mut self, field: u8, write: impl FnOnce(&mut Self)) {
        self.byte(field << 3 | 2);
        self.byte(0);
        let begin = self.length;
        write(self);
        let end = self.length;
        self.length = begin - 1;
        let length = end - begin;
        if length < 0x80 {
            self.byte(length as u8);
            self.length = end;
        } else {
            // What was written makes room for a longer length.
            let more = (usize::BITS - length.leading_zeros()).div_ceil(7) as usize - 1;
            self.bytes.copy_within(begin..end, begin + more);
            self.varint(length as u64);
            self.length = end + more;
        }
    }

    /// Writes a number in groups of seven bits, the lowest first.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::decision::{Code, CurrentLimit};
    use crate::limit::{self, Window};

    fn a_limit() -> impl Strategy<Value = CurrentLimit> {
        let window = prop_oneof![
            Just(1_000),
            Just(60_000),
            Just(604_800_000),
            1..100_000_u64,
            (1..50_u64).prop_map(|seconds| seconds * 1_000)
        ];
        let name = prop::option::of(".{0,200}".prop_map(Arc::from));
        (any::<u32>(), window, name).prop_map(|(requests_per_unit, millis, name)| {
            let window = Window::from_millis(millis).expect("a window of this length is one");
            CurrentLimit { limit: limit::Limit { requests_per_unit, window }, name }
        })
    }

    fn a_status() -> impl Strategy<Value = DescriptorStatus> {
        let reset = prop::option::of(prop_oneof![Just(0), any::<u64>(), 0..5_000_u64]);
        let remaining = prop_oneof![Just(0), any::<u32>()];
        (any::<bool>(), prop::option::of(a_limit()), remaining, reset).prop_map(
            |(over, current_limit, limit_remaining, reset_after_ms)| DescriptorStatus {
                code: if over { Code::OverLimit } else { Code::Ok },
                current_limit,
                limit_remaining,
                reset_after_ms,
                forgiven_ms: 1,
                never: false,
                quota: false,
                rule: None,
                gate: None,
            },
        )
    }

    proptest! {
        #[test]
        fn every_answer_is_written_as_the_generated_types_write_it(
            over in any::<bool>(), statuses in prop::collection::vec(a_status(), 0..9),
        ) {
            let code = if over { Code::OverLimit } else { Code::Ok };
            let decision = Decision { code, shadowed: false, statuses: statuses.into(), passed: Default::default() };
            let expected = convert::response(&decision).encode_to_vec();
            let written = response(&decision);
            prop_assert_eq!(&written[PREFIX..], &expected[..]);
            prop_assert_eq!(written[0], 0, "not compressed");
            prop_assert_eq!(&written[1..PREFIX], &(expected.len() as u32).to_be_bytes()[..]);
        }
    }
}
