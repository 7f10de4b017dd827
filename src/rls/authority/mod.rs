//! Makes every `:authority` one that our HTTP/2 server takes.
//!
//! Envoy's gRPC client sends the *name of its cluster* as `:authority`. Istio calls it
//! `outbound|8081||ratelimit.default.svc.cluster.local`, others `extension/ns/name`. Such names are no URI authority
//! (RFC 3986), so the server library resets the stream before any code of ours runs, and a gateway that fails open
//! then limits nothing, silently. Nothing in the answer to a rate limit call depends on the name. So, between the
//! socket and the server, [`AuthorityFilter`] walks the client's frames and puts `xxx…` in place of a name that would
//! be refused:
//!
//! ```text
//! socket ──▶ AuthorityIo ──▶ the HTTP/2 server
//!              └ AuthorityFilter: frames ──▶ header block ──▶ fields
//! ```
//!
//! The difficulty is HPACK's dynamic table: what the client inserts, the server must insert too, with the same size,
//! or both evict at different times and all later headers are garbage. Hence a replacement has the *decoded length* of
//! the original, and the filter keeps a model of the table (`table`). A second way would be to decode each request
//! and encode it anew without a table; it would cost far more on every request, for a fault that most never show. A
//! third, a changed copy of the server library, would have to be kept up for ever.
//!
//! Three promises:
//!
//! - A block with nothing to replace goes through byte for byte, and so does all that is no header block.
//! - At anything malformed the filter goes *blind*: that and all that follows goes through as it is. The server gives
//!   its own error, and as both tables were in step up to then, nothing is worse than without the filter.
//! - It holds back at most one header block of 32 KiB, and panics at nothing.
//!
//! It relies on the server's settings being the defaults: SETTINGS_MAX_FRAME_SIZE 16,384 and
//! SETTINGS_HEADER_TABLE_SIZE 4,096. With larger ones a client that used them would turn the filter blind.
//!
//! One thing it cannot cure: an *empty* `:authority` that the client inserts into its table, as there is no name of
//! length zero to put in its place. Envoy does not allow a cluster without a name.

pub(crate) mod frames;
pub(crate) mod hpack;
pub(crate) mod huffman;
mod io;
pub(crate) mod table;
#[cfg(test)]
mod tests;

pub(super) use frames::PREFACE;
pub use io::AuthorityIo;

use frames::{Extent, HEAD_LENGTH, Head, Kind, PAYLOAD_MAX};
use hpack::{Walked, Walker};

/// Bytes of room that a buffer keeps between two uses. An ordinary block has some hundred bytes, and a connection
/// that once sent a long one shall not hold the memory for ever.
const ROOM_KEPT: usize = 4096;

/// Walks what one client sends and replaces each `:authority` that the server would refuse. Knows no socket: bytes
/// go in by [`AuthorityFilter::push`], in any pieces.
#[derive(Debug)]
pub struct AuthorityFilter {
    state: State,
    preface_seen: bool,
    /// The start of a frame's head or of a header block that is not whole yet.
    held: Vec<u8>,
    /// So many bytes must be held before the next look; more than are held.
    needed: usize,
    /// Of the block in `held`, so many bytes are whole frames.
    scanned: usize,
    walker: Walker,
    /// Where the fragments of a block in several frames come together.
    gathered: Vec<u8>,
    /// Where a block is written anew.
    rewritten: Vec<u8>,
}

/// What stands next in what the client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The preface, of which so many bytes were seen.
    Preface(usize),
    /// A frame's head.
    Head,
    /// So many bytes, at least one, of the payload of a frame that is not looked into.
    Payload(usize),
    /// Anything: the filter has stopped looking.
    Blind,
}

/// What to do with the next bytes.
enum Step {
    /// So many go through as they are.
    Pass(usize),
    /// So many are dealt with: what stands in their place was put out.
    Replaced(usize),
    /// They are held until so many are there.
    Hold(usize),
}

/// The bytes break a protocol or a bound of ours; the reason does not matter, as the server gives its own.
struct Malformed;

// === impl AuthorityFilter ===

impl AuthorityFilter {
    /// A filter for a new connection, on which the client has yet to send its preface.
    pub fn new() -> Self {
        Self {
            state: State::Preface(0),
            preface_seen: false,
            held: Vec::new(),
            needed: 0,
            scanned: 0,
            walker: Walker::new(),
            gathered: Vec::new(),
            rewritten: Vec::new(),
        }
    }

    /// Takes the next bytes. What the server is to read is the first so many bytes of `input` as the number returned
    /// says, and then what was appended to `output`; the rest is held back.
    ///
    /// So a caller that reads into the server's own buffer moves nothing at all as long as whole frames arrive and
    /// no name is refused.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) -> usize {
        let mut rest = input;
        // What is appended comes after what passes, so from the first append on nothing passes.
        let mut appends = false;
        if !self.held.is_empty() {
            rest = self.complete_held(rest, output);
            appends = true;
        }
        let mut passed = 0;
        while !rest.is_empty() {
            let dealt_with = match self.step(rest, output) {
                Step::Pass(count) if appends => {
                    output.extend_from_slice(&rest[..count]);
                    count
                }
                Step::Pass(count) => {
                    passed += count;
                    count
                }
                Step::Replaced(count) => {
                    appends = true;
                    count
                }
                Step::Hold(needed) => {
                    self.held.extend_from_slice(rest);
                    self.needed = needed;
                    rest.len()
                }
            };
            rest = &rest[dealt_with..];
        }
        passed
    }

    /// Says that the client sends no more: what was held back is appended to `output` as it is.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        self.state = State::Blind;
        output.append(&mut self.held);
    }

    /// Whether the client has sent the whole preface of HTTP/2.
    pub fn preface_seen(&self) -> bool {
        self.preface_seen
    }

    /// Adds to what is held until it can be dealt with, and deals with it. Gives what of `input` is left.
    fn complete_held<'a>(&mut self, input: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
        let mut held = std::mem::take(&mut self.held);
        let mut rest = input;
        loop {
            let (now, later) = rest.split_at(rest.len().min(self.needed - held.len()));
            held.extend_from_slice(now);
            rest = later;
            if held.len() < self.needed {
                self.held = held;
                return rest;
            }
            match self.step(&held, output) {
                Step::Pass(count) => {
                    debug_assert_eq!(count, held.len(), "no more is held than belongs together");
                    output.extend_from_slice(&held);
                    break;
                }
                Step::Replaced(_) => break,
                Step::Hold(needed) => self.needed = needed,
            }
        }
        held.clear();
        self.held = held;
        give_back(&mut self.held);
        rest
    }

    /// What to do with `bytes`, which are not empty and begin where the last step ended.
    fn step(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> Step {
        let step = match self.state {
            State::Preface(seen) => self.preface(seen, bytes),
            State::Head => self.frame(bytes, output),
            State::Payload(left) => Ok(self.pass_payload(0, left, bytes)),
            State::Blind => Ok(Step::Pass(bytes.len())),
        };
        step.unwrap_or_else(|Malformed| {
            self.state = State::Blind;
            Step::Pass(bytes.len())
        })
    }

    fn preface(&mut self, seen: usize, bytes: &[u8]) -> Result<Step, Malformed> {
        let expected = &PREFACE[seen..];
        let count = expected.len().min(bytes.len());
        if bytes[..count] != expected[..count] {
            return Err(Malformed);
        }
        self.preface_seen = count == expected.len();
        self.state = if self.preface_seen { State::Head } else { State::Preface(seen + count) };
        Ok(Step::Pass(count))
    }

    fn frame(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> Result<Step, Malformed> {
        let Some(head) = Head::read(bytes) else {
            return Ok(Step::Hold(HEAD_LENGTH));
        };
        match head.kind() {
            Kind::Other if head.length <= PAYLOAD_MAX => Ok(self.pass_payload(HEAD_LENGTH, head.length, bytes)),
            Kind::Headers => match frames::block_extent(bytes, &mut self.scanned)? {
                Extent::Needs(needed) => Ok(Step::Hold(needed)),
                Extent::Whole(end) => {
                    self.scanned = 0;
                    self.block(&bytes[..end], output)
                }
            },
            Kind::Other | Kind::Continuation | Kind::PushPromise => Err(Malformed),
        }
    }

    /// Lets `before` bytes and as much as is there of `left` bytes of payload through.
    fn pass_payload(&mut self, before: usize, left: usize, bytes: &[u8]) -> Step {
        let count = left.min(bytes.len() - before);
        self.state = if count < left { State::Payload(left - count) } else { State::Head };
        Step::Pass(before + count)
    }

    /// Looks into a whole block, and puts out another if need be.
    fn block(&mut self, frames: &[u8], output: &mut Vec<u8>) -> Result<Step, Malformed> {
        let block = frames::block_fragments(frames, &mut self.gathered)?;
        let step = match self.walker.walk(block, &mut self.rewritten)? {
            Walked::Acceptable => Step::Pass(frames.len()),
            Walked::Rewritten => {
                frames::write_block(frames, &self.rewritten, output)?;
                Step::Replaced(frames.len())
            }
        };
        give_back(&mut self.gathered);
        give_back(&mut self.rewritten);
        Ok(step)
    }
}

impl Default for AuthorityFilter {
    fn default() -> Self {
        Self::new()
    }
}

/// Frees a buffer that was used up and has grown beyond what ordinary requests need.
fn give_back(buffer: &mut Vec<u8>) {
    if buffer.capacity() > ROOM_KEPT {
        *buffer = Vec::new();
    }
}

// === impl Malformed ===

impl From<frames::Malformed> for Malformed {
    fn from(_: frames::Malformed) -> Self {
        Self
    }
}

impl From<hpack::Malformed> for Malformed {
    fn from(_: hpack::Malformed) -> Self {
        Self
    }
}
