//! An answer written straight from the decision: a gRPC message, its five bytes of prefix included, in one buffer.
//!
//! What the generated types would write is written here byte for byte, without making them first; a property test
//! holds the two equal. Headers and metadata, which only some settings ask for, are left to the generated types.

use bytes::Bytes;
use smallvec::SmallVec;

use super::convert;
use super::message::PREFIX;
use crate::decision::{CurrentLimit, Decision, DescriptorStatus};

/// What is being written: on the stack for nearly every answer, and copied once, when its length is known.
type Out = SmallVec<[u8; 256]>;

/// The bytes of a `RateLimitResponse` with statuses and nothing more, as one message of a gRPC stream.
#[must_use]
pub fn response(decision: &Decision) -> Bytes {
    let mut out = Out::from_slice(&[0; PREFIX]);
    number(&mut out, 1, convert::code(decision.code) as u64);
    for status in &decision.statuses {
        nested(&mut out, 2, |out| write_status(out, status));
    }
    let length = u32::try_from(out.len() - PREFIX).expect("128 statuses with names from rule files are far shorter");
    out[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Bytes::copy_from_slice(&out)
}

fn write_status(out: &mut Out, status: &DescriptorStatus) {
    number(out, 1, convert::code(status.code) as u64);
    if let Some(limit) = &status.current_limit {
        nested(out, 2, |out| write_limit(out, limit));
    }
    number(out, 3, u64::from(status.limit_remaining));
    if let Some(seconds) = status.reset_seconds() {
        nested(out, 4, |out| number(out, 1, seconds));
    }
}

fn write_limit(out: &mut Out, current: &CurrentLimit) {
    let (unit, multiplier) = convert::unit(current.limit.window);
    number(out, 1, u64::from(current.limit.requests_per_unit));
    number(out, 2, unit as u64);
    if let Some(name) = current.name.as_deref().filter(|name| !name.is_empty()) {
        nested(out, 3, |out| out.extend_from_slice(name.as_bytes()));
    }
    if let Some(multiplier) = multiplier {
        nested(out, 4, |out| number(out, 1, u64::from(multiplier)));
    }
}

/// Writes a number field; zero is not written. Fields have numbers below 16, so that a tag is one byte.
fn number(out: &mut Out, field: u8, value: u64) {
    if value > 0 {
        out.push(field << 3);
        // Byte by byte: nearly all numbers have one or two.
        let (bytes, length) = varint(value);
        bytes[..length].iter().for_each(|byte| out.push(*byte));
    }
}

/// Writes a field of bytes. Its length stands in front of it, and is written when it is known: nearly always in one byte.
fn nested(out: &mut Out, field: u8, write: impl FnOnce(&mut Out)) {
    out.push(field << 3 | 2);
    out.push(0);
    let begin = out.len();
    write(out);
    let (bytes, length) = varint((out.len() - begin) as u64);
    out[begin - 1] = bytes[0];
    if length > 1 {
        out.insert_from_slice(begin, &bytes[1..length]);
    }
}

/// A number in groups of seven bits, the lowest first, and how many bytes that is.
#[allow(clippy::cast_possible_truncation)] // Seven bits at a time.
fn varint(mut value: u64) -> ([u8; 10], usize) {
    let (mut bytes, mut length) = ([0; 10], 0);
    loop {
        bytes[length] = value as u8 & 0x7f;
        value >>= 7;
        length += 1;
        if value == 0 {
            return (bytes, length);
        }
        bytes[length - 1] |= 0x80;
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
