//! An answer written straight from the decision: a gRPC message, its five bytes of prefix included, in one buffer.
//!
//! What the generated types would write is written here byte for byte, without making them first; a property test
//! holds the two equal. Headers and metadata, which only some settings ask for, are left to the generated types.

use bytes::{BufMut, Bytes, BytesMut};

use super::convert;
use super::message::PREFIX;
use crate::decision::{Decision, DescriptorStatus};

/// Bytes that hold nearly every status, so that the buffer is made once.
const STATUS_BYTES: usize = 40;

/// The bytes of a `RateLimitResponse` with statuses and nothing more, as one message of a gRPC stream.
#[must_use]
pub fn response(decision: &Decision) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX + 2 + STATUS_BYTES * decision.statuses.len());
    out.put_bytes(0, PREFIX);
    number(&mut out, 1, convert::code(decision.code) as u64);
    for status in &decision.statuses {
        write_status(&mut out, status);
    }
    let length = u32::try_from(out.len() - PREFIX).expect("128 statuses with names from rule files are far shorter");
    out[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

fn write_status(out: &mut BytesMut, status: &DescriptorStatus) {
    let code = convert::code(status.code) as u64;
    let remaining = u64::from(status.limit_remaining);
    let reset = status.reset_seconds();
    let limit = status.current_limit.as_ref().map(|current| {
        let (unit, multiplier) = convert::unit(current.limit.window);
        Limit {
            requests_per_unit: u64::from(current.limit.requests_per_unit),
            unit: unit as u64,
            name: current.name.as_deref().unwrap_or_default(),
            multiplier: multiplier.map(u64::from),
        }
    });
    let length = number_length(code)
        + limit.as_ref().map_or(0, |limit| nested_length(limit.length()))
        + number_length(remaining)
        + reset.map_or(0, |seconds| nested_length(number_length(seconds)));
    nested(out, 2, length);
    number(out, 1, code);
    if let Some(limit) = limit {
        nested(out, 2, limit.length());
        limit.write(out);
    }
    number(out, 3, remaining);
    if let Some(seconds) = reset {
        nested(out, 4, number_length(seconds));
        number(out, 1, seconds);
    }
}

/// A limit as it stands on the wire.
struct Limit<'a> {
    requests_per_unit: u64,
    unit: u64,
    name: &'a str,
    multiplier: Option<u64>,
}

impl Limit<'_> {
    fn length(&self) -> usize {
        let name = if self.name.is_empty() { 0 } else { nested_length(self.name.len()) };
        let multiplier = self.multiplier.map_or(0, |multiplier| nested_length(number_length(multiplier)));
        number_length(self.requests_per_unit) + number_length(self.unit) + name + multiplier
    }

    fn write(&self, out: &mut BytesMut) {
        number(out, 1, self.requests_per_unit);
        number(out, 2, self.unit);
        if !self.name.is_empty() {
            nested(out, 3, self.name.len());
            out.put_slice(self.name.as_bytes());
        }
        if let Some(multiplier) = self.multiplier {
            nested(out, 4, number_length(multiplier));
            number(out, 1, multiplier);
        }
    }
}

/// Writes a number field; zero is not written. Fields have numbers below 16, so that a tag is one byte.
fn number(out: &mut BytesMut, field: u8, value: u64) {
    if value > 0 {
        out.put_u8(field << 3);
        varint(out, value);
    }
}

fn number_length(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_length(value) }
}

/// Writes the tag and length of a field that has `length` bytes.
fn nested(out: &mut BytesMut, field: u8, length: usize) {
    out.put_u8(field << 3 | 2);
    varint(out, length as u64);
}

fn nested_length(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

#[allow(clippy::cast_possible_truncation)] // Seven bits at a time.
fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint_length(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
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
