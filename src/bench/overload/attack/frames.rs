//! What hostile clients send, frame by frame: rounds of bytes, each for streams that follow the last round's.
//!
//! Header fields are spelled out and kept in no table, so that a round is the same on every connection.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::bench::compare::rules_file::DOMAIN;
use crate::bench::keys::KeyChoice;
use crate::bench::message::{Message, Question};
use crate::rls::authority::frames::{Head, PAYLOAD_MAX, PREFACE};

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// The error code with which a client gives a call up.
const CANCEL: u32 = 0x8;

/// Streams that a round opens, where it opens many.
pub(super) const STREAMS: u32 = 100;

/// Rounds after which a connection has no stream numbers left.
pub(super) const ROUNDS_MAX: u32 = (1 << 30) / STREAMS - 1;

/// Ways to send what is no call.
pub(super) const GARBAGE_KINDS: u64 = 4;

/// Bytes of a message that is too large: more than the service accepts by default.
const OVERSIZED: u32 = 1 << 20;

/// What a client says first: it has no wishes.
pub(super) fn greeting() -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    frame(SETTINGS, 0, 0, &[], &mut bytes);
    bytes
}

/// Whole calls.
pub(super) fn calls(round: u32) -> Vec<u8> {
    let (message, mut bytes) = (message(), Vec::new());
    streams(round).for_each(|stream| call(stream, &message, &mut bytes));
    bytes
}

/// Whole calls, each given up at once.
pub(super) fn resets(round: u32) -> Vec<u8> {
    let (message, mut bytes) = (message(), Vec::new());
    for stream in streams(round) {
        call(stream, &message, &mut bytes);
        frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes(), &mut bytes);
    }
    bytes
}

/// What no server can make sense of, in one of [`GARBAGE_KINDS`] ways.
pub(super) fn garbage(way: u64, round: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    match way % GARBAGE_KINDS {
        0 => {
            let mut random = SmallRng::seed_from_u64(u64::from(round));
            bytes.extend((0..PAYLOAD_MAX).map(|_| random.random::<u8>()));
        }
        1 => {
            // A message that says how large it will be, and begins.
            let stream = number(round * STREAMS);
            frame(HEADERS, END_HEADERS, stream, &fields(), &mut bytes);
            let start = [&[0], &OVERSIZED.to_be_bytes()[..], &[0; 8_000]].concat();
            frame(DATA, 0, stream, &start, &mut bytes);
            frame(DATA, 0, stream, &[0; 8_000], &mut bytes);
        }
        2 => {
            let more = field("x-more", "of what no caller needs").repeat(500);
            let block = [fields(), more].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, number(round * STREAMS), &block, &mut bytes);
        }
        _ => {
            let mut random = SmallRng::seed_from_u64(u64::from(round));
            let nonsense: Vec<u8> = (0..200).map(|_| random.random::<u8>()).collect();
            streams(round).for_each(|stream| call(stream, &nonsense, &mut bytes));
        }
    }
    bytes
}

/// Streams that a round of that way opens.
pub(super) fn garbage_streams(way: u64) -> u64 {
    match way % GARBAGE_KINDS {
        0 => 0,
        1 | 2 => 1,
        _ => u64::from(STREAMS),
    }
}

fn message() -> Vec<u8> {
    let question =
        Question { domain: DOMAIN.to_owned(), key: "key".to_owned(), descriptors: 1, hits: 1, keys: KeyChoice::Hot };
    Message::new(&question).expect("it is short").bytes().to_vec()
}

fn streams(round: u32) -> impl Iterator<Item = u32> {
    (round * STREAMS..(round + 1) * STREAMS).map(number)
}

/// The number of a client's stream, counted from 0.
fn number(index: u32) -> u32 {
    2 * index + 1
}

fn call(stream: u32, message: &[u8], bytes: &mut Vec<u8>) {
    frame(HEADERS, END_HEADERS, stream, &fields(), bytes);
    let body = [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat();
    frame(DATA, END_STREAM, stream, &body, bytes);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], bytes: &mut Vec<u8>) {
    Head { length: payload.len(), kind, flags, stream }.write(bytes);
    bytes.extend_from_slice(payload);
}

/// The header fields of a call.
fn fields() -> Vec<u8> {
    let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", path),
        field(":authority", "ratelimit"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ]
    .concat()
}

/// A field as a literal. Name and value are shorter than 127 bytes.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rls::authority::frames::HEAD_LENGTH;

    /// Kinds and streams of the frames that these bytes are; panics where they are none.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, u32)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let head = Head::read(bytes).unwrap();
            assert!(head.length <= PAYLOAD_MAX, "a frame of {} bytes", head.length);
            found.push((head.kind, head.stream));
            bytes = &bytes[HEAD_LENGTH + head.length..];
        }
        found
    }

    #[test]
    fn rounds_are_whole_frames_on_streams_that_go_on_where_the_last_ended() {
        let first = frames(&resets(0));
        assert_eq!(first[..4], [(HEADERS, 1), (DATA, 1), (RST_STREAM, 1), (HEADERS, 3)]);
        assert_eq!(frames(&calls(1)).first(), Some(&(HEADERS, 2 * STREAMS + 1)));
        assert_eq!(frames(&calls(ROUNDS_MAX)).len(), 2 * STREAMS as usize);
        for way in 1..GARBAGE_KINDS {
            let opened = frames(&garbage(way, 3)).iter().filter(|(kind, _)| *kind == HEADERS).count();
            assert_eq!(opened as u64, garbage_streams(way), "way {way}");
        }
    }

    #[test]
    fn a_header_block_of_garbage_unpacks_to_more_than_a_server_takes() {
        let block = &garbage(2, 0)[HEAD_LENGTH..];
        let mut fields = Vec::new();
        hpack::Decoder::default().decode(&mut block.to_vec(), &mut fields).unwrap();
        let listed: usize = fields.iter().map(|(name, value, _)| name.len() + value.len() + 32).sum();
        assert!(listed > 16 * 1024, "{listed} bytes");
    }
}
