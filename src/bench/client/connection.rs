//! One HTTP/2 connection as a state machine: bytes in, bytes out, calls ended.
//!
//! ```text
//! opening ── the server's SETTINGS ──▶ open ── GOAWAY, or no stream number left ──▶ draining ── last answer ──▶ over
//! ```
//!
//! No call is sent before the server's SETTINGS are there, so its limits on streams, windows and tables hold from the
//! first. Flow control is respected in both directions, in the coarsest way that does: a call is one frame of DATA and
//! waits until window and stream limit have room for it; answers are granted half a gigabyte at a time.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::answer::{Answer, Failure, Outcome};
use super::fields::FieldReader;
use super::requests::{Requests, Shape};
use super::{Call, fields};
use crate::rls::authority::frames::{Extent, HEAD_LENGTH, Head, PAYLOAD_MAX, PREFACE, block_extent, block_fragments};
use crate::rls::authority::table::TABLE_SIZE_MAX;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PUSH_PROMISE: u8 = 0x5;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;

/// Of DATA and HEADERS.
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;
/// Of SETTINGS and PING.
const ACK: u8 = 0x1;

/// The error code with which a call is given up.
const CANCEL: u32 = 0x8;

/// What an answer may have in bytes; no more is granted to a stream.
const STREAM_WINDOW: u32 = 1 << 20;
/// What the answers on a connection may have together, before more is granted.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// More is granted when so much has been used.
const GRANT: u32 = CONNECTION_WINDOW / 2;
/// What both windows are before anything was said.
const WINDOW_DEFAULT: u32 = 65_535;

const STREAM_MAX: u32 = 0x7fff_ffff;

/// Bytes that wait for a slow server to read them before no more calls are made.
const OUTPUT_FULL: usize = 256 * 1024;
/// Bytes that wait before the connection counts as broken: the server asks for answers to its PINGs without end.
const OUTPUT_MAX: usize = 32 * 1024 * 1024;

/// Why a connection can't be used any more. The calls on it are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The server breaks HTTP/2.
    #[error("the server breaks HTTP/2: {0}")]
    Protocol(&'static str),
    /// A call doesn't fit into the server's window for a stream.
    #[error("the server allows a stream {window} bytes at first, and a call has {needed}")]
    Window {
        /// Bytes that the server allows.
        window: u32,
        /// Bytes that a call has.
        needed: usize,
    },
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    /// No new calls.
    Draining,
}

/// A stream number as hash: they are odd and ascending, which is spread enough.
#[derive(Default)]
struct StreamHasher(u64);

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    state: State,
    shape: Shape,
    authority: String,
    requests: Option<Requests>,
    calls: HashMap<u32, (Call, Answer), BuildHasherDefault<StreamHasher>>,
    next_stream: u32,
    streams_max: u32,
    stream_window: u32,
    table_max: usize,
    /// What the server still allows all streams together, in bytes; below zero never.
    window: u32,
    /// What the server has used of its window, in bytes.
    used: u32,
    fields: FieldReader,
    /// The start of a frame or header block that is not whole yet; at most 32 KiB.
    held: Vec<u8>,
    gathered: Vec<u8>,
    /// What is to be sent.
    output: Vec<u8>,
}

type Ended<'a> = &'a mut dyn FnMut(Call, Outcome);

// === impl Connection ===

impl Connection {
    /// A new connection to the server called `authority`; its first bytes are to be sent.
    #[must_use]
    pub fn new(shape: &Shape, authority: &str) -> Connection {
        let mut output = PREFACE.to_vec();
        Head { length: 12, kind: SETTINGS, flags: 0, stream: 0 }.write(&mut output);
        // ENABLE_PUSH: no. INITIAL_WINDOW_SIZE.
        output.extend_from_slice(&[0, 2, 0, 0, 0, 0, 0, 4]);
        output.extend_from_slice(&STREAM_WINDOW.to_be_bytes());
        push_window_update(CONNECTION_WINDOW - WINDOW_DEFAULT, &mut output);
        Connection {
            state: State::Opening,
            shape: shape.clone(),
            authority: authority.to_owned(),
            requests: None,
            calls: HashMap::default(),
            next_stream: 1,
            streams_max: u32::MAX,
            stream_window: WINDOW_DEFAULT,
            table_max: TABLE_SIZE_MAX,
            window: WINDOW_DEFAULT,
            used: 0,
            fields: FieldReader::new(),
            held: Vec::new(),
            gathered: Vec::new(),
            output,
        }
    }

    /// Whether the server has said its settings, and has not said that it wants no more calls.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether no more calls will be sent on it.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.state == State::Draining
    }

    /// Calls under way.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Whether a call may be sent now, when at most `calls_max` shall be under way.
    #[must_use]
    pub fn has_room(&self, calls_max: usize) -> bool {
        let Some(requests) = &self.requests else { return false };
        self.state == State::Open
            && self.calls.len() < calls_max.min(self.streams_max as usize)
            && self.window as usize >= requests.data_length()
            && self.output.len() < OUTPUT_FULL
    }

    /// Sends a call about these keys. Only when [`Connection::has_room`] says so; otherwise nothing happens.
    pub fn send(&mut self, call: Call, numbers: &[u64]) {
        debug_assert!(self.has_room(usize::MAX), "the caller has looked");
        let Some(requests) = &mut self.requests else { return };
        let stream = self.next_stream;
        requests.write(stream, numbers, &mut self.output);
        self.window -= requests.data_length() as u32;
        self.calls.insert(stream, (call, Answer::default()));
        if stream >= STREAM_MAX {
            self.state = State::Draining;
        } else {
            self.next_stream += 2;
        }
    }

    /// Goes on as if so many streams had been used.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, stream: u32) {
        self.next_stream = stream;
    }

    /// What is to be sent to the server. The caller removes what it has sent.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Takes bytes from the server and hands each call that has ended to `ended`.
    ///
    /// # Errors
    /// When the server breaks the protocol or a call can never be sent; the connection is to be dropped then.
    pub fn receive(&mut self, bytes: &[u8], mut ended: impl FnMut(Call, Outcome)) -> Result<(), ConnectionError> {
        if self.held.is_empty() {
            let taken = self.frames(bytes, &mut ended)?;
            self.held.extend_from_slice(&bytes[taken..]);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(bytes);
            let taken = self.frames(&held, &mut ended)?;
            held.drain(..taken);
            self.held = held;
        }
        if self.output.len() > OUTPUT_MAX {
            return Err(ConnectionError::Protocol("it asks more than it reads"));
        }
        Ok(())
    }

    /// Ends the calls that were due before `since_ns`: they are waited for no longer.
    pub fn give_up(&mut self, since_ns: u64, mut ended: impl FnMut(Call, Outcome)) {
        let output = &mut self.output;
        self.calls.retain(|stream, (call, _)| {
            let waits = call.due_ns >= since_ns;
            if !waits {
                Head { length: 4, kind: RST_STREAM, flags: 0, stream: *stream }.write(output);
                output.extend_from_slice(&CANCEL.to_be_bytes());
                ended(*call, Outcome::Unanswered);
            }
            waits
        });
    }

    /// Ends all calls: the connection broke.
    pub fn lose(&mut self, mut ended: impl FnMut(Call, Outcome)) {
        for (_, (call, _)) in self.calls.drain() {
            ended(call, Outcome::Failed(Failure::ConnectionLost));
        }
    }

    /// Takes the whole frames at the start of `bytes`; how many bytes they have.
    fn frames(&mut self, bytes: &[u8], ended: Ended<'_>) -> Result<usize, ConnectionError> {
        let mut at = 0;
        while let Some(head) = Head::read(&bytes[at..]) {
            if head.length > PAYLOAD_MAX {
                return Err(ConnectionError::Protocol("a frame is longer than allowed"));
            }
            let rest = &bytes[at..];
            if head.kind == HEADERS {
                let extent = block_extent(rest, &mut 0);
                match extent.map_err(|_| ConnectionError::Protocol("a header block is broken"))? {
                    Extent::Needs(_) => break,
                    Extent::Whole(length) => {
                        self.headers(head, &rest[..length], ended)?;
                        at += length;
                    }
                }
                continue;
            }
            let Some(payload) = rest.get(HEAD_LENGTH..HEAD_LENGTH + head.length) else { break };
            self.frame(head, payload, ended)?;
            at += HEAD_LENGTH + head.length;
        }
        Ok(at)
    }

    fn headers(&mut self, head: Head, frames: &[u8], ended: Ended<'_>) -> Result<(), ConnectionError> {
        let broken = ConnectionError::Protocol("a header block is broken");
        let block = block_fragments(frames, &mut self.gathered).map_err(|_| broken)?;
        // Read in any case: what it inserts into the table belongs to all streams.
        let fields: fields::Fields = self.fields.read(block).map_err(|_| broken)?;
        if let Some((_, answer)) = self.calls.get_mut(&head.stream) {
            answer.fields(fields);
            if head.flags & END_STREAM != 0 {
                self.end(head.stream, ended);
            }
        }
        Ok(())
    }

    fn frame(&mut self, head: Head, payload: &[u8], ended: Ended<'_>) -> Result<(), ConnectionError> {
        match head.kind {
            DATA => self.data(head, payload, ended)?,
            RST_STREAM => {
                let code = number(payload, 0).ok_or(ConnectionError::Protocol("RST_STREAM has no code"))?;
                if let Some((call, _)) = self.calls.remove(&head.stream) {
                    ended(call, Outcome::Failed(Failure::Reset(code)));
                }
            }
            SETTINGS => self.settings(head, payload)?,
            PING if payload.len() != 8 => return Err(ConnectionError::Protocol("PING has not 8 bytes")),
            PING if head.flags & ACK == 0 => {
                Head { length: 8, kind: PING, flags: ACK, stream: 0 }.write(&mut self.output);
                self.output.extend_from_slice(payload);
            }
            GOAWAY => {
                let last = number(payload, 0).ok_or(ConnectionError::Protocol("GOAWAY has no stream"))? & STREAM_MAX;
                self.state = State::Draining;
                self.calls.retain(|stream, (call, _)| {
                    if *stream > last {
                        ended(*call, Outcome::Returned);
                    }
                    *stream <= last
                });
            }
            WINDOW_UPDATE => {
                let more = number(payload, 0).ok_or(ConnectionError::Protocol("WINDOW_UPDATE has no size"))?;
                // A stream's own window is never waited for: each call fits in it at once.
                if head.stream == 0 {
                    let window = self.window.checked_add(more & STREAM_MAX).filter(|window| *window <= STREAM_MAX);
                    self.window = window.ok_or(ConnectionError::Protocol("its window overflows"))?;
                }
            }
            CONTINUATION => return Err(ConnectionError::Protocol("CONTINUATION without HEADERS")),
            PUSH_PROMISE => return Err(ConnectionError::Protocol("PUSH_PROMISE, which was switched off")),
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, head: Head, payload: &[u8], ended: Ended<'_>) -> Result<(), ConnectionError> {
        self.used += head.length as u32;
        if self.used >= GRANT {
            push_window_update(self.used, &mut self.output);
            self.used = 0;
        }
        let data = match head.flags & PADDED {
            0 => payload,
            _ => {
                let content = payload.split_first().and_then(|(padding, rest)| {
                    rest.len().checked_sub(usize::from(*padding)).map(|length| &rest[..length])
                });
                content.ok_or(ConnectionError::Protocol("a frame has more padding than bytes"))?
            }
        };
        if let Some((_, answer)) = self.calls.get_mut(&head.stream) {
            answer.data(data);
            if head.flags & END_STREAM != 0 {
                self.end(head.stream, ended);
            }
        }
        Ok(())
    }

    fn end(&mut self, stream: u32, ended: Ended<'_>) {
        if let Some((call, answer)) = self.calls.remove(&stream) {
            ended(call, answer.outcome());
        }
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        if head.flags & ACK != 0 {
            return Ok(());
        }
        let table_before = self.table_max;
        for setting in payload.chunks(6) {
            let Some(value) = number(setting, 2) else {
                return Err(ConnectionError::Protocol("SETTINGS is cut short"));
            };
            match u16::from_be_bytes([setting[0], setting[1]]) {
                0x1 => self.table_max = value as usize,
                0x3 => self.streams_max = value,
                0x4 if value > STREAM_MAX => return Err(ConnectionError::Protocol("its window overflows")),
                0x4 => self.stream_window = value,
                // Frames of 16 KiB, the least that a server may allow, are all that is ever sent.
                _ => {}
            }
        }
        Head { length: 0, kind: SETTINGS, flags: ACK, stream: 0 }.write(&mut self.output);
        if self.state == State::Opening {
            self.state = State::Open;
        } else if self.table_max < table_before {
            // Entries that were inserted may be evicted now; a new connection starts with the new size.
            self.state = State::Draining;
        }
        let requests = self.requests.get_or_insert_with(|| Requests::new(&self.shape, &self.authority, self.table_max));
        let needed = requests.data_length();
        if (self.stream_window as usize) < needed {
            return Err(ConnectionError::Window { window: self.stream_window, needed });
        }
        Ok(())
    }
}

fn push_window_update(more: u32, output: &mut Vec<u8>) {
    Head { length: 4, kind: WINDOW_UPDATE, flags: 0, stream: 0 }.write(output);
    output.extend_from_slice(&more.to_be_bytes());
}

/// The number of four bytes at that place.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_be_bytes(*four))
}

// === impl StreamHasher ===

impl std::hash::Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, stream: u32) {
        // Fibonacci hashing: the table takes its place from the low bits and its tag from the high ones.
        self.0 = (self.0 ^ u64::from(stream)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}
