//! The bytes of a request, prepared once for a connection.
//!
//! The first request of a connection writes its header fields as literals that the server inserts into its dynamic
//! table; every later one is the indices of these entries, as Envoy's are. A server whose table is too small for that
//! gets literals each time.
//!
//! ```text
//! index 62 + n: the field inserted n before the last one
//! ```

use std::time::Duration;

use super::super::message::Message;
use crate::rls::authority::frames::{HEAD_LENGTH, Head};
use crate::rls::authority::table::{ENTRY_OVERHEAD, TABLE_SIZE_MAX};

const HEADERS: u8 = 0x1;
const DATA: u8 = 0x0;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Bytes before a gRPC message.
const PREFIX_LENGTH: usize = 5;

/// `:method: POST` and `:scheme: http`, which stand in the static table.
const STATIC_FIELDS: [u8; 2] = [0x80 | 3, 0x80 | 6];

/// What the requests of a run have in common: message and header fields.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The message.
    pub message: Message,
    /// The time that each call has, as `grpc-timeout` tells the server.
    pub deadline: Duration,
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    first: Request,
    next: Request,
    message: Message,
    is_first: bool,
}

/// A request but for stream number and digits.
#[derive(Debug)]
struct Request {
    bytes: Vec<u8>,
    data_at: usize,
}

// === impl Requests ===

impl Requests {
    /// Requests to the server called `authority`, whose header table may have `table_max` bytes.
    pub(super) fn new(shape: &Shape, authority: &str, table_max: usize) -> Requests {
        let fields = [
            (":authority", authority.to_owned()),
            (":path", "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit".to_owned()),
            ("te", "trailers".to_owned()),
            ("content-type", "application/grpc".to_owned()),
            ("grpc-timeout", grpc_timeout(shape.deadline)),
            ("user-agent", concat!("tidegate-bench/", env!("CARGO_PKG_VERSION")).to_owned()),
        ];
        let size: usize = fields.iter().map(|(name, value)| name.len() + value.len() + ENTRY_OVERHEAD).sum();
        let indexed = size <= table_max;
        let mut first = Vec::new();
        if table_max < TABLE_SIZE_MAX {
            // A smaller table must be agreed on (RFC 7541, section 4.2): ours is either what is allowed, or none.
            push_integer(&mut first, 0x20, 5, if indexed { table_max } else { 0 });
        }
        first.extend_from_slice(&STATIC_FIELDS);
        for (name, value) in &fields {
            first.push(if indexed { 0x40 } else { 0x00 });
            for text in [name.as_bytes(), value.as_bytes()] {
                push_integer(&mut first, 0, 7, text.len());
                first.extend_from_slice(text);
            }
        }
        let mut next = STATIC_FIELDS.to_vec();
        if indexed {
            next.extend((0..fields.len()).rev().map(|place| 0x80 | (62 + place) as u8));
        } else {
            // The same literals, without the agreement before them.
            let start = first.windows(2).position(|pair| pair == STATIC_FIELDS).expect("they were written above");
            next = first[start..].to_vec();
        }
        let request = |block: &[u8]| Request::new(block, &shape.message);
        let (first, next) = (request(&first), request(&next));
        Requests { first, next, message: shape.message.clone(), is_first: true }
    }

    /// Bytes of flow control that a request takes.
    pub(super) fn data_length(&self) -> usize {
        PREFIX_LENGTH + self.message.bytes().len()
    }

    /// Appends a request on that stream about these keys.
    pub(super) fn write(&mut self, stream: u32, numbers: &[u64], output: &mut Vec<u8>) {
        let request = if self.is_first { &self.first } else { &self.next };
        self.is_first = false;
        let start = output.len();
        output.extend_from_slice(&request.bytes);
        let copy = &mut output[start..];
        let stream = stream.to_be_bytes();
        copy[5..HEAD_LENGTH].copy_from_slice(&stream);
        copy[request.data_at + 5..request.data_at + HEAD_LENGTH].copy_from_slice(&stream);
        self.message.patch(&mut copy[request.data_at + HEAD_LENGTH + PREFIX_LENGTH..], numbers);
    }
}

// === impl Request ===

impl Request {
    fn new(block: &[u8], message: &Message) -> Request {
        let message = message.bytes();
        let mut bytes = Vec::new();
        Head { length: block.len(), kind: HEADERS, flags: END_HEADERS, stream: 0 }.write(&mut bytes);
        bytes.extend_from_slice(block);
        let data_at = bytes.len();
        let length = PREFIX_LENGTH + message.len();
        Head { length, kind: DATA, flags: END_STREAM, stream: 0 }.write(&mut bytes);
        bytes.push(0);
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(message);
        Request { bytes, data_at }
    }
}

/// A duration as `grpc-timeout` writes it: at most eight digits and a unit, rounded down, but never to nothing.
fn grpc_timeout(duration: Duration) -> String {
    const DIGITS_END: u128 = 100_000_000;
    let nanos = duration.as_nanos().max(1);
    for (unit, length) in [("m", 1_000_000), ("u", 1_000), ("n", 1)] {
        if nanos.is_multiple_of(length) && nanos / length < DIGITS_END {
            return format!("{}{unit}", nanos / length);
        }
    }
    match nanos / 1_000 {
        micros if micros < DIGITS_END => format!("{micros}u"),
        micros => format!("{}m", (micros / 1_000).min(DIGITS_END - 1)),
    }
}

/// An integer of HPACK (RFC 7541, section 5.1) behind the `pattern` in the bits above its prefix.
fn push_integer(block: &mut Vec<u8>, pattern: u8, prefix_bits: u32, integer: usize) {
    let mask = (1_usize << prefix_bits) - 1;
    if integer < mask {
        block.push(pattern | integer as u8);
        return;
    }
    block.push(pattern | mask as u8);
    let mut rest = integer - mask;
    while rest >= 0x80 {
        block.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    block.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::super::super::keys::KeyChoice;
    use super::super::super::message::Question;
    use super::*;

    fn requests(table_max: usize, count: u32) -> Vec<Vec<(String, String)>> {
        let keys = KeyChoice::Uniform { count: 1_000 };
        let question = Question { domain: "d".into(), key: "k".into(), descriptors: 2, hits: 1, keys };
        let shape = Shape { message: Message::new(&question).unwrap(), deadline: Duration::from_millis(20) };
        let mut requests = Requests::new(&shape, "server:1", table_max);
        let mut decoder = ::hpack::Decoder::default();
        let one = |index| {
            let mut output = vec![9; 3];
            let stream = 2 * index + 1;
            requests.write(stream, &[7, 13], &mut output);
            let headers = Head::read(&output[3..]).unwrap();
            assert_eq!((headers.kind, headers.flags, headers.stream), (HEADERS, END_HEADERS, stream));
            let rest = &output[3 + HEAD_LENGTH..];
            let (block, rest) = rest.split_at(headers.length);
            let data = Head::read(rest).unwrap();
            assert_eq!((data.kind, data.flags, data.stream), (DATA, END_STREAM, stream));
            assert_eq!(data.length, requests.data_length());
            assert_eq!(rest.len(), HEAD_LENGTH + data.length);
            let text = String::from_utf8_lossy(rest);
            assert!(text.contains("007") && text.contains("013"));
            let mut fields = Vec::new();
            decoder.decode(&mut block.to_vec(), &mut fields).unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            fields.into_iter().map(|(name, value, _)| (text(name), text(value))).collect()
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn every_request_says_the_same_to_a_server_with_any_table() {
        for table_max in [0, 100, 1_000, 4_096, 65_536] {
            for fields in requests(table_max, 3) {
                let value = |name: &str| {
                    let found: Vec<&str> =
                        fields.iter().filter(|field| field.0 == name).map(|field| &*field.1).collect();
                    found.join("|")
                };
                assert_eq!(fields.len(), 8, "{table_max}: {fields:?}");
                assert_eq!(value(":method"), "POST");
                assert_eq!(value(":scheme"), "http");
                assert_eq!(value(":path"), "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
                assert_eq!(value(":authority"), "server:1");
                assert_eq!(value("te"), "trailers");
                assert_eq!(value("content-type"), "application/grpc");
                assert_eq!(value("grpc-timeout"), "20m");
                assert!(fields[..4].iter().all(|field| field.0.starts_with(':')), "pseudo-headers come first");
            }
        }
    }

    #[test]
    fn a_timeout_has_at_most_eight_digits_and_the_unit_that_fits() {
        for (duration, written) in [
            (Duration::from_millis(20), "20m"),
            (Duration::from_micros(1_500), "1500u"),
            (Duration::from_nanos(1), "1n"),
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(1_000_000_001), "1000000u"),
            (Duration::from_secs(1_000_000), "99999999m"),
        ] {
            assert_eq!(grpc_timeout(duration), written);
        }
    }
}
