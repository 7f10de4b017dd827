//! Protobuf's fields, one after the other, without making anything of them: for who counts before it decodes.
//!
//! Groups, which proto3 has no word for, are none here. A decoder passes over unknown ones and goes on behind them, so
//! whoever stopped there would count less than is decoded: a walk has to end with the bytes, or what it saw is worth
//! nothing.

/// A field on the wire: its number, and its bytes where it has a length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'b> {
    pub(super) number: u64,
    pub(super) inner: Option<&'b [u8]>,
}

/// The encoding is broken, or has groups: nothing can be said of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What is said of it.
pub(super) const UNREADABLE: &str = "it cannot be decoded: its encoding ends too early, or has groups";

/// The fields of a message, in their order. After one that is unreadable there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'b>(&'b [u8]);

/// The fields of these bytes.
pub(super) fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields(bytes)
}

// === impl Fields ===

impl<'b> Iterator for Fields<'b> {
    type Item = Result<Field<'b>, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let next = next(self.0);
        self.0 = next.map_or(&[], |(_, rest)| rest);
        Some(next.map(|(field, _)| field).ok_or(Unreadable))
    }
}

/// The next field, and what follows it.
fn next(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (tag, rest) = varint(bytes)?;
    let (inner, rest) = match tag & 7 {
        0 => (None, varint(rest)?.1),
        1 => (None, rest.get(8..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            let (inner, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Some(inner), rest)
        }
        5 => (None, rest.get(4..)?),
        _ => return None,
    };
    Some((Field { number: tag >> 3, inner }, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index).min(63);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_all_kinds_follow_each_other_and_groups_are_unreadable() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, 7, 8, 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
        let read: Vec<_> = fields(&bytes).map(|field| field.map(|field| (field.number, field.inner))).collect();
        assert_eq!(read, [Ok((1, None)), Ok((2, Some(&[7, 8][..]))), Ok((3, None)), Ok((4, None))]);
        for broken in [&[0xa3, 0x06, 0xa4, 0x06, 0x1a, 0x00][..], &[0xa4, 0x06], &[0x12, 0x03, 1], &[0xff], &[0x1d, 1]]
        {
            let read: Vec<_> = fields(broken).map(|field| field.map(drop)).collect();
            assert_eq!(read, [Err(Unreadable)], "{broken:?}");
        }
    }
}
