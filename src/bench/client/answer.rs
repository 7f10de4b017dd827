//! What became of a call: read from the frames of its stream, without decoding more than the verdict.
//!
//! The verdict is `overall_code`, field 1 of the message. Servers write it first; it is found wherever it stands.

use std::fmt;

use super::fields::Fields;
use crate::ask::CODES;

/// Bytes before a gRPC message: compressed or not, and its length.
const PREFIX_LENGTH: usize = 5;

/// Bytes of a message that is kept until all of it is there. Answers have some hundred bytes; a longer one than this
/// is none of a rate limit service.
const MESSAGE_MAX: usize = 256 * 1024;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered: OK.
    Ok,
    /// Answered: over limit.
    OverLimit,
    /// Answered with an error, or lost.
    Failed(Failure),
    /// Given back by a server that is about to close the connection and has not looked at it.
    Returned,
    /// Not answered within the time that it was waited for.
    Unanswered,
}

/// Why a call has no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// A gRPC status other than OK.
    Grpc(u8),
    /// An HTTP status other than 200, without a gRPC status.
    Http(u16),
    /// The server reset the stream, with that HTTP/2 error code.
    Reset(u32),
    /// The connection broke before the answer.
    ConnectionLost,
    /// The stream ended without a gRPC status.
    NoStatus,
    /// The message has no verdict, or one that is neither OK nor over limit.
    NoVerdict,
    /// The message is compressed, too long, or no protobuf.
    Unreadable,
}

/// What is known of an answer so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    fields: Fields,
    verdict: Option<Verdict>,
    /// The start of a message that is not whole yet; hardly ever used, as answers fit in one frame.
    held: Vec<u8>,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    OverLimit,
    None,
    Unreadable,
}

// === impl Answer ===

impl Answer {
    /// Takes a header block: the head or the trailers.
    pub(super) fn fields(&mut self, fields: Fields) {
        self.fields.status = fields.status.or(self.fields.status);
        self.fields.grpc_status = fields.grpc_status.or(self.fields.grpc_status);
    }

    /// Takes a piece of the message.
    pub(super) fn data(&mut self, data: &[u8]) {
        if self.verdict.is_some() {
            return;
        }
        if self.held.is_empty() {
            self.verdict = verdict(data);
            if self.verdict.is_none() {
                self.held = data.to_vec();
            }
            return;
        }
        if self.held.len() + data.len() > MESSAGE_MAX {
            self.verdict = Some(Verdict::Unreadable);
            return;
        }
        self.held.extend_from_slice(data);
        self.verdict = verdict(&self.held);
    }

    /// What the call came to, now that its stream has ended.
    pub(super) fn outcome(&self) -> Outcome {
        let failure = match (self.fields.grpc_status, self.fields.status) {
            (Some(0), _) => match self.verdict {
                Some(Verdict::Ok) => return Outcome::Ok,
                Some(Verdict::OverLimit) => return Outcome::OverLimit,
                Some(Verdict::None) => Failure::NoVerdict,
                Some(Verdict::Unreadable) | None => Failure::Unreadable,
            },
            (Some(status), _) => Failure::Grpc(status),
            (None, Some(status)) if status != 200 => Failure::Http(status),
            (None, _) => Failure::NoStatus,
        };
        Outcome::Failed(failure)
    }
}

/// The verdict of a message with its prefix, once all of it is there.
fn verdict(bytes: &[u8]) -> Option<Verdict> {
    let [compressed, length @ ..] = bytes.first_chunk::<PREFIX_LENGTH>()?;
    let length = u32::from_be_bytes(*length) as usize;
    if *compressed != 0 || length > MESSAGE_MAX - PREFIX_LENGTH {
        return Some(Verdict::Unreadable);
    }
    let message = bytes[PREFIX_LENGTH..].get(..length)?;
    Some(match overall_code(message) {
        Some(1) => Verdict::Ok,
        Some(2) => Verdict::OverLimit,
        Some(_) => Verdict::None,
        None => Verdict::Unreadable,
    })
}

/// Field 1 of a protobuf message, zero if it is absent; `None` if the message is malformed before it.
fn overall_code(message: &[u8]) -> Option<u64> {
    let mut rest = message;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => return varint(&mut rest),
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = varint(&mut rest)?;
                rest = rest.get(usize::try_from(length).ok()?..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(0)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

// === impl Failure ===

impl fmt::Display for Failure {
    /// The name under which it is counted: gRPC's own where there is one.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Failure::Grpc(status) => match CODES.get(usize::from(status)) {
                Some(name) => formatter.write_str(name),
                None => write!(formatter, "GRPC_STATUS_{status}"),
            },
            Failure::Http(status) => write!(formatter, "HTTP_{status}"),
            Failure::Reset(code) => write!(formatter, "RESET_{}", Code(code)),
            Failure::ConnectionLost => formatter.write_str("CONNECTION_LOST"),
            Failure::NoStatus => formatter.write_str("NO_STATUS"),
            Failure::NoVerdict => formatter.write_str("NO_VERDICT"),
            Failure::Unreadable => formatter.write_str("UNREADABLE"),
        }
    }
}

/// An error code of HTTP/2, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub(super) u32);

// === impl Code ===

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CODES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match usize::try_from(self.0).ok().and_then(|code| CODES.get(code)) {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
    use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::DescriptorStatus;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[0][..], &length.to_be_bytes(), message].concat()
    }

    fn outcome(pieces: &[&[u8]], grpc_status: Option<u8>) -> Outcome {
        let mut answer = Answer::default();
        answer.fields(Fields { status: Some(200), grpc_status: None });
        for piece in pieces {
            answer.data(piece);
        }
        answer.fields(Fields { status: None, grpc_status });
        answer.outcome()
    }

    #[test]
    fn the_status_comes_before_the_verdict() {
        let ok = framed(&[0x08, 1]);
        assert_eq!(outcome(&[&ok], Some(0)), Outcome::Ok);
        assert_eq!(outcome(&[&ok], Some(14)), Outcome::Failed(Failure::Grpc(14)));
        assert_eq!(outcome(&[&ok], None), Outcome::Failed(Failure::NoStatus));
        assert_eq!(outcome(&[], Some(0)), Outcome::Failed(Failure::Unreadable));
        assert_eq!(outcome(&[&framed(&[])], Some(0)), Outcome::Failed(Failure::NoVerdict));
        assert_eq!(outcome(&[&[1, 0, 0, 0, 0]], Some(0)), Outcome::Failed(Failure::Unreadable));
        let mut answer = Answer::default();
        answer.fields(Fields { status: Some(503), grpc_status: None });
        assert_eq!(answer.outcome(), Outcome::Failed(Failure::Http(503)));
    }

    #[test]
    fn failures_have_the_names_that_grpc_and_http2_give_them() {
        let names = [Failure::Grpc(8), Failure::Grpc(99), Failure::Reset(8), Failure::Reset(99), Failure::Http(503)];
        let expected = ["RESOURCE_EXHAUSTED", "GRPC_STATUS_99", "RESET_CANCEL", "RESET_99", "HTTP_503"];
        assert_eq!(names.map(|name| name.to_string()), expected);
    }

    proptest! {
        #[test]
        fn the_verdict_is_found_in_any_message_however_it_is_cut(
            over: bool, statuses in 0..20_usize, body: Vec<u8>, first: bool, cut: prop::sample::Index,
        ) {
            let status = DescriptorStatus { code: 1, limit_remaining: 7, ..Default::default() };
            let code = if over { 2 } else { 1 };
            let rest = RateLimitResponse { statuses: vec![status; statuses], raw_body: body, ..Default::default() };
            let verdict = RateLimitResponse { overall_code: code, ..Default::default() };
            let (rest, verdict) = (rest.encode_to_vec(), verdict.encode_to_vec());
            let message = if first { [verdict, rest].concat() } else { [rest, verdict].concat() };
            let message = framed(&message);
            let (one, other) = message.split_at(cut.index(message.len()));
            let expected = if over { Outcome::OverLimit } else { Outcome::Ok };
            prop_assert_eq!(outcome(&[one, other], Some(0)), expected);
        }

        #[test]
        fn arbitrary_messages_come_to_some_outcome(pieces: Vec<Vec<u8>>) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            outcome(&pieces, Some(0));
        }
    }
}
