//! The frames around a header block (RFC 9113, sections 4.1, 6.2 and 6.10): where a block ends, what of it is HPACK,
//! and how a block that was written anew is framed again.
//!
//! ```text
//! HEADERS       length(3) type(1) flags(1) stream(4) [pad length(1)] [priority(5)] fragment [padding]
//! CONTINUATION  length(3) type(1) flags(1) stream(4) fragment
//! ```
//!
//! A block is one HEADERS frame and as many CONTINUATION frames as follow until one has END_HEADERS; no other frame
//! may stand between them. Framed again, a block has no padding and as few frames as it needs.

/// What a client says first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's head.
pub(crate) const HEAD_LENGTH: usize = 9;

/// Bytes that a frame may carry beside its head. We never send SETTINGS_MAX_FRAME_SIZE, so it is the default
/// (RFC 9113, section 6.5.2).
pub(crate) const PAYLOAD_MAX: usize = 16_384;

/// Bytes of one header block, the heads of its frames among them, that are held back until the block is whole. The
/// server refuses header lists over 16 KiB, so a longer block is no request that could be answered.
pub(super) const BLOCK_MAX: usize = 32 * 1024;

const HEADERS: u8 = 0x1;
const PUSH_PROMISE: u8 = 0x5;
const CONTINUATION: u8 = 0x9;

const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Bytes of the priority fields in a HEADERS frame.
const PRIORITY_LENGTH: usize = 5;

/// The frames break the protocol, or a bound of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a frame means to the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// HEADERS: a block begins.
    Headers,
    /// CONTINUATION: a block goes on.
    Continuation,
    /// PUSH_PROMISE: a block too, but one that no client may send.
    PushPromise,
    /// Any other, known or not: nothing to look into.
    Other,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes that follow the head; at most 2^24 − 1.
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// The stream, without the reserved bit.
    pub(crate) stream: u32,
}

/// How much of a block is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The block takes so many bytes.
    Whole(usize),
    /// At least so many bytes must be there before more can be said.
    Needs(usize),
}

/// What a HEADERS frame carries beside padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content<'a> {
    /// The priority fields; empty if there are none.
    priority: &'a [u8],
    fragment: &'a [u8],
}

// === impl Head ===

impl Head {
    /// The head at the start of `bytes`, if all of it is there.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [length @ .., kind, flags, s0, s1, s2, s3] = bytes.first_chunk::<HEAD_LENGTH>()?;
        Some(Self {
            length: length.iter().fold(0, |high, low| high << 8 | usize::from(*low)),
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes([*s0, *s1, *s2, *s3]) & 0x7fff_ffff,
        })
    }

    /// What the frame means to the filter.
    pub(super) fn kind(&self) -> Kind {
        match self.kind {
            HEADERS => Kind::Headers,
            CONTINUATION => Kind::Continuation,
            PUSH_PROMISE => Kind::PushPromise,
            _ => Kind::Other,
        }
    }

    pub(crate) fn write(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&(self.length as u32).to_be_bytes()[1..]);
        output.extend_from_slice(&[self.kind, self.flags]);
        output.extend_from_slice(&self.stream.to_be_bytes());
    }

    fn ends_headers(&self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// Takes a HEADERS frame's payload apart.
    fn content<'a>(&self, payload: &'a [u8]) -> Result<Content<'a>, Malformed> {
        let (padding, payload) = match self.flags & PADDED {
            0 => (0, payload),
            _ => payload.split_first().map(|(length, rest)| (usize::from(*length), rest)).ok_or(Malformed)?,
        };
        let priority_length = if self.flags & PRIORITY == 0 { 0 } else { PRIORITY_LENGTH };
        let (priority, payload) = payload.split_at_checked(priority_length).ok_or(Malformed)?;
        if let Some(parent) = priority.first_chunk::<4>() {
            // A stream that depends on itself is reset before its block is decoded; from there on the server's table
            // and the client's differ anyway.
            if u32::from_be_bytes(*parent) & 0x7fff_ffff == self.stream {
                return Err(Malformed);
            }
        }
        let fragment_length = payload.len().checked_sub(padding).ok_or(Malformed)?;
        Ok(Content { priority, fragment: &payload[..fragment_length] })
    }
}

/// How far the block reaches that begins at the start of `bytes`. `scanned` carries over from call to call, for the
/// same block, how many bytes of whole frames were seen; it is zero at first.
///
/// # Errors
///
/// [`Malformed`] for a frame that may not stand there or is too long, and for a block over [`BLOCK_MAX`].
pub(crate) fn block_extent(bytes: &[u8], scanned: &mut usize) -> Result<Extent, Malformed> {
    let Some(first) = Head::read(bytes) else {
        return Ok(Extent::Needs(HEAD_LENGTH));
    };
    loop {
        let Some(head) = Head::read(&bytes[*scanned..]) else {
            return Ok(Extent::Needs(*scanned + HEAD_LENGTH));
        };
        let expected = if *scanned == 0 { Kind::Headers } else { Kind::Continuation };
        let end = *scanned + HEAD_LENGTH + head.length;
        let in_place = head.kind() == expected && head.stream == first.stream && head.stream != 0;
        if !in_place || head.length > PAYLOAD_MAX || end > BLOCK_MAX {
            return Err(Malformed);
        }
        if bytes.len() < end {
            return Ok(Extent::Needs(end));
        }
        *scanned = end;
        if head.ends_headers() {
            return Ok(Extent::Whole(end));
        }
    }
}

/// The HPACK bytes of a whole block: a part of `frames` if they are in one frame, else gathered in `gathered`.
///
/// # Errors
///
/// [`Malformed`] if padding or priority do not fit in the HEADERS frame.
pub(crate) fn block_fragments<'a>(frames: &'a [u8], gathered: &'a mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    let head = Head::read(frames).ok_or(Malformed)?;
    let (payload, mut rest) = frames[HEAD_LENGTH..].split_at_checked(head.length).ok_or(Malformed)?;
    let fragment = head.content(payload)?.fragment;
    if head.ends_headers() {
        return Ok(fragment);
    }
    gathered.clear();
    gathered.extend_from_slice(fragment);
    while let Some(head) = Head::read(rest) {
        let (fragment, tail) = rest[HEAD_LENGTH..].split_at_checked(head.length).ok_or(Malformed)?;
        gathered.extend_from_slice(fragment);
        rest = tail;
    }
    Ok(gathered)
}

/// Appends `block` to `output`, framed as the block in `frames` was, less its padding.
///
/// # Errors
///
/// [`Malformed`] if padding or priority do not fit in the HEADERS frame.
pub(super) fn write_block(frames: &[u8], block: &[u8], output: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut head = Head::read(frames).ok_or(Malformed)?;
    let payload = frames[HEAD_LENGTH..].get(..head.length).ok_or(Malformed)?;
    let mut prefix = head.content(payload)?.priority;
    let mut rest = block;
    head.flags &= !(PADDED | END_HEADERS);
    loop {
        let (fragment, tail) = rest.split_at(rest.len().min(PAYLOAD_MAX - prefix.len()));
        head.length = prefix.len() + fragment.len();
        if tail.is_empty() {
            head.flags |= END_HEADERS;
        }
        head.write(output);
        output.extend_from_slice(prefix);
        output.extend_from_slice(fragment);
        if tail.is_empty() {
            return Ok(());
        }
        (prefix, rest) = (&[], tail);
        (head.kind, head.flags) = (CONTINUATION, 0);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One frame.
    pub(in crate::rls::authority) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Head { length: payload.len(), kind, flags, stream }.write(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn extent(bytes: &[u8]) -> Result<Extent, Malformed> {
        block_extent(bytes, &mut 0)
    }

    #[test]
    fn a_head_reads_as_it_was_written() {
        let bytes = frame(HEADERS, 0x2d, 0x7fff_fffe, &[7; 70_000]);
        let head = Head::read(&bytes).unwrap();
        assert_eq!(head, Head { length: 70_000, kind: HEADERS, flags: 0x2d, stream: 0x7fff_fffe });
        assert_eq!(Head::read(&bytes[..8]), None);
    }

    #[test]
    fn a_block_ends_with_end_headers() {
        let first = frame(HEADERS, 0, 1, b"abc");
        let second = frame(CONTINUATION, 0, 1, b"");
        let third = frame(CONTINUATION, END_HEADERS, 1, b"de");
        let bytes = [&first[..], &second, &third, b"more"].concat();
        let whole = bytes.len() - 4;
        let mut scanned = 0;
        for length in 0..bytes.len() {
            // Resumed or from the start, the answer is the same.
            let resumed = block_extent(&bytes[..length], &mut scanned);
            match extent(&bytes[..length]).unwrap() {
                Extent::Whole(end) => {
                    assert_eq!((end, length >= whole), (whole, true));
                    break;
                }
                Extent::Needs(needed) => {
                    assert!(needed > length && needed <= whole);
                    assert_eq!(resumed, Ok(Extent::Needs(needed)));
                }
            }
        }
        assert_eq!(extent(&frame(HEADERS, END_HEADERS, 1, b"")), Ok(Extent::Whole(HEAD_LENGTH)));
        assert_eq!(block_fragments(&bytes[..whole], &mut Vec::new()), Ok(&b"abcde"[..]));
    }

    #[test]
    fn frames_out_of_order_and_blocks_too_long_are_malformed() {
        let open = frame(HEADERS, 0, 1, b"abc");
        for (bytes, why) in [
            (frame(HEADERS, END_HEADERS, 0, b""), "stream 0"),
            (frame(HEADERS, END_HEADERS, 1, &[0; PAYLOAD_MAX + 1]), "a frame too long"),
            ([&open[..], &frame(0, 0, 1, b"")].concat(), "DATA inside a block"),
            ([&open[..], &frame(CONTINUATION, 0, 3, b"")].concat(), "another stream's CONTINUATION"),
            (
                [frame(HEADERS, 0, 1, &[0; PAYLOAD_MAX]), frame(CONTINUATION, 0, 1, &[0; PAYLOAD_MAX])].concat(),
                "a block too long",
            ),
        ] {
            assert_eq!(extent(&bytes), Err(Malformed), "{why}");
        }
        let flood = [open, frame(CONTINUATION, 0, 1, b"").repeat(BLOCK_MAX / HEAD_LENGTH)].concat();
        assert_eq!(extent(&flood), Err(Malformed), "empty frames without end");
    }

    #[test]
    fn padding_and_priority_are_no_part_of_the_block() {
        let priority = [0, 0, 0, 9, 16];
        for (flags, payload, expected) in [
            (PADDED, &b"\x02abc\0\0"[..], Ok(&b"abc"[..])),
            (PADDED | PRIORITY, &[&[1], &priority[..], b"abc\0"].concat(), Ok(b"abc")),
            (PRIORITY, &[&priority[..], b"abc"].concat(), Ok(b"abc")),
            (PADDED, b"\x03abc", Ok(b"")),
            (PADDED, b"\x04abc", Err(Malformed)),
            (PADDED, b"", Err(Malformed)),
            (PRIORITY, b"abcd", Err(Malformed)),
            (PRIORITY, &[0x80, 0, 0, 1, 16], Err(Malformed)),
        ] {
            let bytes = frame(HEADERS, END_HEADERS | flags, 1, payload);
            assert_eq!(block_fragments(&bytes, &mut Vec::new()), expected);
        }
    }

    #[test]
    fn a_block_is_framed_again_without_padding_and_split_where_it_must_be() {
        let original = frame(HEADERS, END_HEADERS | PADDED | PRIORITY | 1, 5, b"\x02\0\0\0\x09\x10ab\0\0");
        for (length, payloads) in [(3, vec![8]), (16_379, vec![16_384]), (16_380, vec![16_384, 1]), (0, vec![5])] {
            let block = vec![b'x'; length];
            let mut output = Vec::new();
            write_block(&original, &block, &mut output).unwrap();
            assert_eq!(extent(&output), Ok(Extent::Whole(output.len())));
            assert_eq!(block_fragments(&output, &mut Vec::new()), Ok(&block[..]));
            let head = Head::read(&output).unwrap();
            assert_eq!(head.flags & !END_HEADERS, PRIORITY | 1, "END_STREAM and the priority stay");
            assert_eq!(&output[HEAD_LENGTH..][..5], b"\0\0\0\x09\x10");
            let (mut rest, mut found) = (&output[..], Vec::new());
            while let Some(head) = Head::read(rest) {
                found.push(head.length);
                rest = &rest[HEAD_LENGTH + head.length..];
            }
            assert_eq!(found, payloads);
        }
    }
}
