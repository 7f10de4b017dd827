//! What names a trace and a span: 16 and 8 bytes, none of them all zero, written in lower-case hexadecimal digits.

use std::fmt;

/// The name of a trace, never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// The name of a span in its trace, never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

// === impl TraceId ===

impl TraceId {
    /// The name with these bytes; `None` for zeros.
    #[must_use]
    pub fn try_new(bytes: [u8; 16]) -> Option<TraceId> {
        (bytes != [0; 16]).then_some(TraceId(bytes))
    }

    /// Reads 32 digits.
    #[must_use]
    pub fn parse(digits: &[u8]) -> Option<TraceId> {
        TraceId::try_new(hexadecimal(digits)?)
    }

    /// Reads 32 digits, or the last 16 of a name whose first half is zero, as B3 has them.
    #[must_use]
    pub fn parse_long_or_short(digits: &[u8]) -> Option<TraceId> {
        if digits.len() == 32 {
            return TraceId::parse(digits);
        }
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&hexadecimal::<8>(digits)?);
        TraceId::try_new(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The last half, of which chance is asked even where the first is zero.
    #[must_use]
    pub fn low(&self) -> u64 {
        let [_, _, _, _, _, _, _, _, low @ ..] = self.0;
        u64::from_be_bytes(low)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

// === impl SpanId ===

impl SpanId {
    /// The name with these bytes; `None` for zeros.
    #[must_use]
    pub fn try_new(bytes: [u8; 8]) -> Option<SpanId> {
        (bytes != [0; 8]).then_some(SpanId(bytes))
    }

    /// Reads 16 digits.
    #[must_use]
    pub fn parse(digits: &[u8]) -> Option<SpanId> {
        SpanId::try_new(hexadecimal(digits)?)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Exactly `N` bytes in lower-case digits.
pub(super) fn hexadecimal<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}
