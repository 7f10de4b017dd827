//! What stands where in a packed log: the header, the formats of older pairs, and how one is read.

use crate::limit::Window;
use crate::window::read_number;

/// How the older pairs are packed: two bytes of offset more, two bytes of hits more, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PairFormat {
    pub(super) long_offset: bool,
    pub(super) wide_hits: bool,
}

/// What stands in front of the pairs.
#[derive(Clone, Copy, Debug)]
pub(in crate::window) struct Header {
    pub(in crate::window) sum: u64,
    pub(in crate::window) newest: u64,
    pub(in crate::window) newest_hits: u64,
    pub(in crate::window) tick: u64,
    pub(super) format: PairFormat,
}

/// An older pair, packed.
#[derive(Clone, Copy, Debug)]
pub(in crate::window) struct Pair {
    bytes: [u8; PAIR_MAX],
    length: u8,
}

/// The oldest pairs of a log, those that have left the window.
#[derive(Clone, Copy, Debug)]
pub(in crate::window) struct Left {
    /// Their length, packed.
    pub(in crate::window) bytes: usize,
    pub(in crate::window) hits: u64,
    /// The oldest tick that is still there; the newest, if no other is.
    pub(in crate::window) oldest: u64,
}

/// Bytes of the header.
pub(in crate::window) const HEADER: usize = 19;

/// Bytes of a pair, at most.
const PAIR_MAX: usize = 7;

/// Longest log in ticks for which offsets of one byte do; below 256 by a margin for the ticks at both ends.
const SHORT_OFFSET_TICKS_MAX: u64 = 249;

// === impl PairFormat ===

impl PairFormat {
    pub(super) fn for_ticks(window: Window, tick: u32, wide_hits: bool) -> PairFormat {
        let long_offset = window.millis().div_ceil(u64::from(tick)) > SHORT_OFFSET_TICKS_MAX;
        PairFormat { long_offset, wide_hits }
    }

    pub(super) fn code(self) -> u8 {
        1 + u8::from(self.wide_hits) + 2 * u8::from(self.long_offset)
    }

    pub(super) fn from_code(code: u8) -> Option<PairFormat> {
        (1..=4).contains(&code).then(|| PairFormat { long_offset: code >= 3, wide_hits: code.is_multiple_of(2) })
    }

    pub(super) fn offset_bytes(self) -> usize {
        if self.long_offset { 3 } else { 1 }
    }

    pub(super) fn pair_bytes(self) -> usize {
        self.offset_bytes() + if self.wide_hits { 4 } else { 2 }
    }

    /// How many different offsets there are, a power of two.
    pub(super) fn offsets(self) -> u64 {
        if self.long_offset { 1 << 24 } else { 1 << 8 }
    }
}

// === impl Header ===

impl Header {
    /// The newest tick and its hits as they stand among the older ones once there is a newer.
    pub(in crate::window) fn newest_pair(&self) -> Pair {
        Pair::new(self.format, self.newest, self.newest_hits)
    }
}

// === impl Pair ===

impl Pair {
    /// Of the tick, as much as the format keeps.
    pub(super) fn new(format: PairFormat, tick: u64, hits: u64) -> Pair {
        let (offset, length) = (format.offset_bytes(), format.pair_bytes());
        let mut bytes = [0; PAIR_MAX];
        bytes[..offset].copy_from_slice(&tick.to_le_bytes()[..offset]);
        bytes[offset..length].copy_from_slice(&hits.to_le_bytes()[..length - offset]);
        Pair { bytes, length: length as u8 }
    }

    pub(in crate::window) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The header of a packed log that isn't empty.
pub(in crate::window) fn header(packed: &[u8]) -> Option<Header> {
    let bytes: &[u8; HEADER] = packed.first_chunk()?;
    Some(Header {
        sum: read_number(&bytes[0..4]),
        newest: read_number(&bytes[4..10]),
        newest_hits: read_number(&bytes[10..14]),
        tick: read_number(&bytes[14..18]),
        format: PairFormat::from_code(bytes[18])?,
    })
}

/// What has left, if ticks below `edge` have.
pub(in crate::window) fn left(packed: &[u8], header: &Header, edge: i64) -> Left {
    let mut left = Left { bytes: 0, hits: 0, oldest: header.newest };
    for pair in packed[HEADER..].chunks_exact(header.format.pair_bytes()) {
        let (tick, hits) = read_pair(pair, header);
        if (tick as i64) >= edge {
            left.oldest = tick;
            break;
        }
        left.bytes += pair.len();
        left.hits += hits;
    }
    left
}

/// Reads one of the older pairs: its tick is the last one up to the newest that has this offset.
pub(super) fn read_pair(pair: &[u8], header: &Header) -> (u64, u64) {
    let (offset, hits) = pair.split_at(header.format.offset_bytes());
    let back = header.newest.wrapping_sub(read_number(offset)) & (header.format.offsets() - 1);
    (header.newest.saturating_sub(back), read_number(hits))
}
