//! A connection against frames written by hand, as odd as a server may send them, and against noise.

use std::time::Duration;

use proptest::prelude::*;

use super::super::keys::KeyChoice;
use super::super::message::{Message, Question};
use super::*;
use crate::rls::authority::frames::{HEAD_LENGTH, Head, PREFACE};

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;

/// `:status: 200`, and `grpc-status: 0` as a literal.
const STATUS_200: &[u8] = &[0x88];
const GRPC_OK: &[u8] = b"\x00\x0bgrpc-status\x010";
const OK: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const OVER: &[u8] = &[0, 0, 0, 0, 2, 8, 2];

fn shape() -> Shape {
    let question = Question {
        domain: "d".into(),
        key: "k".into(),
        descriptors: 1,
        hits: 1,
        keys: KeyChoice::Uniform { count: 10 },
    };
    Shape { message: Message::new(&question).unwrap(), deadline: Duration::from_millis(20) }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Head { length: payload.len(), kind, flags, stream }.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn setting(number: u16, value: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A whole answer in three frames.
fn answer(stream: u32, message: &[u8]) -> Vec<u8> {
    let head = frame(HEADERS, 0x4, stream, STATUS_200);
    [head, frame(DATA, 0, stream, message), frame(HEADERS, 0x5, stream, GRPC_OK)].concat()
}

fn call(key: u64) -> Call {
    Call { due_ns: key, sent_ns: key, key, returns: 0 }
}

/// The calls that ended, by their keys, and how.
fn receive(connection: &mut Connection, bytes: &[u8]) -> Result<Vec<(u64, Outcome)>, ConnectionError> {
    let mut ended = Vec::new();
    connection.receive(bytes, |call, outcome| ended.push((call.key, outcome)))?;
    Ok(ended)
}

/// A connection whose server has said these settings, and has nothing to send.
fn opened(settings: &[u8]) -> Connection {
    let mut connection = Connection::new(&shape(), "server:1");
    assert!(!connection.has_room(1), "nothing is sent before the server's settings");
    receive(&mut connection, &frame(SETTINGS, 0, 0, settings)).unwrap();
    connection.output().clear();
    connection
}

fn with_calls(count: u64) -> Connection {
    let mut connection = opened(&[]);
    for key in 0..count {
        connection.send(call(key), &[key]);
    }
    connection
}

/// The frames that are to be sent: kind, flags, stream and payload.
fn sent(connection: &mut Connection) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let (mut frames, output) = (Vec::new(), std::mem::take(connection.output()));
    let mut rest = output.strip_prefix(PREFACE).unwrap_or(&output);
    while let Some(head) = Head::read(rest) {
        let (payload, tail) = rest[HEAD_LENGTH..].split_at(head.length);
        frames.push((head.kind, head.flags, head.stream, payload.to_vec()));
        rest = tail;
    }
    frames
}

#[test]
fn a_connection_opens_with_the_preface_and_large_windows() {
    let mut connection = Connection::new(&shape(), "server:1");
    assert!(connection.output().starts_with(PREFACE));
    let frames = sent(&mut connection);
    assert_eq!((frames[0].0, frames[0].2), (SETTINGS, 0));
    assert_eq!((frames[1].0, frames[1].2), (WINDOW_UPDATE, 0));
    receive(&mut connection, &frame(SETTINGS, 0, 0, &[])).unwrap();
    assert_eq!(sent(&mut connection), [(SETTINGS, 1, 0, Vec::new())], "settings are acknowledged");
}

#[test]
fn answers_end_their_calls_in_any_order_and_any_pieces() {
    let bytes = [answer(5, OVER), answer(1, OK), answer(3, OK)].concat();
    let expected = [(2, Outcome::OverLimit), (0, Outcome::Ok), (1, Outcome::Ok)];
    for piece in [1, 2, 7, 30, bytes.len()] {
        let mut connection = with_calls(3);
        let mut ended = Vec::new();
        for bytes in bytes.chunks(piece) {
            ended.extend(receive(&mut connection, bytes).unwrap());
        }
        assert_eq!((&ended[..], connection.calls()), (&expected[..], 0), "in pieces of {piece}");
    }
}

#[test]
fn padding_priority_and_continuations_are_part_of_the_format() {
    let padded = [&[3][..], OVER, &[0; 3]].concat();
    let trailers = [&[1][..], &[0, 0, 0, 0, 9], &GRPC_OK[..5], &[0]].concat();
    let bytes = [
        frame(HEADERS, 0x4, 1, STATUS_200),
        frame(DATA, 0x8, 1, &padded),
        frame(HEADERS, 0x1 | 0x8 | 0x20, 1, &trailers),
        frame(CONTINUATION, 0x4, 1, &GRPC_OK[5..]),
    ];
    assert_eq!(receive(&mut with_calls(1), &bytes.concat()), Ok(vec![(0, Outcome::OverLimit)]));
}

#[test]
fn a_reset_ends_one_call_and_is_named() {
    let mut connection = with_calls(2);
    let ended = receive(&mut connection, &frame(RST_STREAM, 0, 1, &7_u32.to_be_bytes())).unwrap();
    assert_eq!(ended, [(0, Outcome::Failed(Failure::Reset(7)))]);
    assert_eq!(connection.calls(), 1);
    // Another answer for it is none of ours any more, and nothing breaks.
    assert_eq!(receive(&mut connection, &answer(1, OK)), Ok(vec![]));
}

#[test]
fn a_ping_comes_back_and_its_answer_does_not() {
    let mut connection = opened(&[]);
    receive(&mut connection, &frame(PING, 0, 0, b"12345678")).unwrap();
    receive(&mut connection, &frame(PING, 1, 0, b"12345678")).unwrap();
    assert_eq!(sent(&mut connection), [(PING, 1, 0, b"12345678".to_vec())]);
}

#[test]
fn a_goaway_gives_back_what_the_server_has_not_seen_and_takes_no_more() {
    let mut connection = with_calls(3);
    let goaway = [1_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    let mut ended = receive(&mut connection, &frame(GOAWAY, 0, 0, &goaway)).unwrap();
    ended.sort_by_key(|(key, _)| *key);
    assert_eq!(ended, [(1, Outcome::Returned), (2, Outcome::Returned)]);
    assert!(connection.is_draining() && !connection.has_room(100));
    assert_eq!(receive(&mut connection, &answer(1, OK)), Ok(vec![(0, Outcome::Ok)]), "the other is answered");
}

#[test]
fn the_server_s_stream_limit_holds() {
    let mut connection = opened(&setting(3, 2));
    connection.send(call(0), &[0]);
    assert!(connection.has_room(10));
    connection.send(call(1), &[1]);
    assert!(!connection.has_room(10));
    receive(&mut connection, &answer(1, OK)).unwrap();
    assert!(connection.has_room(10) && !connection.has_room(1));
}

#[test]
fn calls_wait_for_the_connection_s_window() {
    let mut connection = opened(&setting(3, 100_000));
    let mut sent = 0;
    while connection.has_room(usize::MAX) {
        connection.send(call(sent), &[0]);
        connection.output().clear();
        sent += 1;
    }
    let each = 5 + shape().message.bytes().len();
    assert_eq!(usize::try_from(sent).unwrap(), 65_535 / each);
    receive(&mut connection, &frame(WINDOW_UPDATE, 0, 1, &1_000_u32.to_be_bytes())).unwrap();
    assert!(!connection.has_room(usize::MAX), "a stream's window is not the connection's");
    receive(&mut connection, &frame(WINDOW_UPDATE, 0, 0, &1_000_u32.to_be_bytes())).unwrap();
    assert!(connection.has_room(usize::MAX));
}

#[test]
fn what_answers_use_is_granted_again() {
    let mut connection = with_calls(1);
    connection.output().clear();
    let data = frame(DATA, 0, 1, &[0; 16_384]);
    for _ in 0..(1 << 29) / 16_384 {
        receive(&mut connection, &data).unwrap();
    }
    assert_eq!(sent(&mut connection), [(WINDOW_UPDATE, 0, 0, (1_u32 << 29).to_be_bytes().to_vec())]);
}

#[test]
fn a_window_too_small_for_a_call_is_said() {
    let mut connection = Connection::new(&shape(), "server:1");
    let error = receive(&mut connection, &frame(SETTINGS, 0, 0, &setting(4, 3))).unwrap_err();
    assert!(error.to_string().contains("3 bytes"), "{error}");
}

#[test]
fn a_call_given_up_is_reset() {
    let mut connection = with_calls(2);
    connection.output().clear();
    let mut ended = Vec::new();
    connection.give_up(1, |call, outcome| ended.push((call.key, outcome)));
    assert_eq!(ended, [(0, Outcome::Unanswered)]);
    assert_eq!(sent(&mut connection), [(RST_STREAM, 0, 1, 8_u32.to_be_bytes().to_vec())]);
}

#[test]
fn the_last_stream_number_drains_the_connection() {
    let mut connection = opened(&[]);
    connection.skip_to(0x7fff_fffd);
    connection.send(call(0), &[0]);
    assert!(connection.has_room(10));
    connection.send(call(1), &[0]);
    assert!(connection.is_draining() && !connection.has_room(10));
    assert_eq!(receive(&mut connection, &answer(0x7fff_ffff, OK)), Ok(vec![(1, Outcome::Ok)]));
}

#[test]
fn what_no_server_may_send_is_an_error() {
    let too_much = [0x7fff_ffff_u32.to_be_bytes()].concat();
    for (bytes, why) in [
        (frame(DATA, 0, 1, &[0; 16_385]), "a frame too long"),
        (frame(CONTINUATION, 4, 1, &[]), "CONTINUATION alone"),
        (frame(0x5, 4, 1, &[0; 8]), "PUSH_PROMISE"),
        (frame(PING, 0, 0, &[0; 7]), "a short PING"),
        (frame(RST_STREAM, 0, 1, &[0; 3]), "a short RST_STREAM"),
        (frame(GOAWAY, 0, 0, &[0; 3]), "a short GOAWAY"),
        (frame(SETTINGS, 0, 0, &[0; 5]), "short SETTINGS"),
        (frame(SETTINGS, 0, 0, &setting(4, u32::MAX)), "a window too large"),
        (frame(WINDOW_UPDATE, 0, 0, &too_much), "a window that overflows"),
        (frame(WINDOW_UPDATE, 0, 0, &[0; 3]), "a short WINDOW_UPDATE"),
        (frame(DATA, 0x8, 1, &[9, 0]), "more padding than bytes"),
        (frame(HEADERS, 0x4, 1, &[0xff; 9]), "a block that is no HPACK"),
        (frame(HEADERS, 0x4, 0, STATUS_200), "HEADERS on stream 0"),
    ] {
        assert!(receive(&mut with_calls(1), &bytes).is_err(), "{why}");
    }
}

proptest! {
    #[test]
    fn noise_never_panics_and_ends_no_call_twice(
        frames in prop::collection::vec((0..12_u8, 0..64_u8, 0..8_u32, prop::collection::vec(any::<u8>(), 0..40)), 0..40),
        tail: Vec<u8>,
        piece in 1..100_usize,
    ) {
        let mut connection = with_calls(4);
        let bytes: Vec<u8> =
            frames.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload)).collect();
        let mut ended = Vec::new();
        for bytes in [bytes, tail].concat().chunks(piece) {
            match receive(&mut connection, bytes) {
                Ok(more) => ended.extend(more),
                Err(_) => break,
            }
        }
        connection.lose(|call, outcome| ended.push((call.key, outcome)));
        let mut keys: Vec<u64> = ended.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        prop_assert!(keys.len() == ended.len());
    }
}
