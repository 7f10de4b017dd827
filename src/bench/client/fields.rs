//! Reads the header blocks of answers (HPACK, RFC 7541): `:status` and `grpc-status`, whatever table, literal or
//! Huffman code a server chooses to write them in.
//!
//! Only these two are understood. Of every other field the table keeps its size, since what the server inserts must be
//! evicted here when it is there, and the length of its name, for fields that borrow it. An answer's blocks are mostly
//! indices, so the usual field is one look-up in an array.

use crate::rls::authority::hpack::{Malformed, Reader, Text};
use crate::rls::authority::huffman;
use crate::rls::authority::table::{ENTRY_OVERHEAD, STATIC_NAMES, TABLE_SIZE_MAX};

/// As many entries as can be in the table.
const ENTRIES_MAX: usize = TABLE_SIZE_MAX / ENTRY_OVERHEAD;

/// What a block of an answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// `:status`.
    pub(super) status: Option<u16>,
    /// `grpc-status`.
    pub(super) grpc_status: Option<u8>,
}

/// A field, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Status(u16),
    GrpcStatus(u8),
    Other,
}

/// A field's name, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Status,
    GrpcStatus,
    Other,
}

/// One entry of the dynamic table. Both numbers are at most [`TABLE_SIZE_MAX`].
#[derive(Clone, Copy, Debug)]
struct Entry {
    field: Field,
    name_length: u16,
    size: u16,
}

/// Reads the blocks of one connection, in their order.
#[derive(Debug)]
pub(super) struct FieldReader {
    /// A ring: the entries stand at `newest`, `newest + 1` and so on, modulo the length, newest first.
    entries: [Entry; ENTRIES_MAX],
    newest: usize,
    count: usize,
    size: usize,
    size_max: usize,
    /// Where Huffman text is decoded.
    text: Vec<u8>,
}

// === impl FieldReader ===

impl FieldReader {
    /// A reader for a new connection.
    pub(super) fn new() -> FieldReader {
        let none = Entry { field: Field::Other, name_length: 0, size: 0 };
        FieldReader {
            entries: [none; ENTRIES_MAX],
            newest: 0,
            count: 0,
            size: 0,
            size_max: TABLE_SIZE_MAX,
            text: Vec::new(),
        }
    }

    /// Reads one whole block.
    ///
    /// # Errors
    /// [`Malformed`] if it breaks the format; the reader must not be used afterwards.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Fields, Malformed> {
        let mut fields = Fields::default();
        let mut reader = Reader { block, at: 0 };
        while let Some(first) = reader.peek() {
            let field = if first & 0x80 != 0 {
                let index = reader.integer(7)?;
                self.entry(index).ok_or(Malformed)?.field
            } else if first & 0xe0 == 0x20 {
                let size_max = reader.integer(5)?;
                if size_max > TABLE_SIZE_MAX {
                    return Err(Malformed);
                }
                self.size_max = size_max;
                self.evict_to(size_max);
                continue;
            } else {
                self.literal(first & 0x40 != 0, &mut reader)?
            };
            match field {
                Field::Status(status) => fields.status = Some(status),
                Field::GrpcStatus(status) => fields.grpc_status = Some(status),
                Field::Other => {}
            }
        }
        Ok(fields)
    }

    fn literal(&mut self, inserted: bool, reader: &mut Reader<'_>) -> Result<Field, Malformed> {
        let index = reader.integer(if inserted { 6 } else { 4 })?;
        let (name, name_length) = match index {
            0 => {
                let name = decoded(reader.text()?, &mut self.text)?;
                (Name::of(name), name.len())
            }
            _ => {
                let entry = self.entry(index).ok_or(Malformed)?;
                (entry.field.name(), usize::from(entry.name_length))
            }
        };
        let value = decoded(reader.text()?, &mut self.text)?;
        let field = match name {
            Name::Status => Field::Status(number(value).unwrap_or(0)),
            // A status that is no number is UNKNOWN (2), as gRPC's own clients take it.
            Name::GrpcStatus => Field::GrpcStatus(number(value).map_or(2, |number| number.min(255) as u8)),
            Name::Other => Field::Other,
        };
        if inserted {
            let value_length = value.len();
            self.insert(field, name_length, value_length);
        }
        Ok(field)
    }

    /// The entry at `index`, counted from 1 through the static and on into the dynamic table.
    fn entry(&self, index: usize) -> Option<Entry> {
        const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        let place = index.checked_sub(1)?;
        if let Some(name) = STATIC_NAMES.get(place) {
            let status = place.checked_sub(7).and_then(|place| STATUSES.get(place));
            let field = status.map_or(Field::Other, |status| Field::Status(*status));
            return Some(Entry { field, name_length: name.len() as u16, size: 0 });
        }
        let place = place - STATIC_NAMES.len();
        (place < self.count).then(|| self.entries[(self.newest + place) % ENTRIES_MAX])
    }

    /// Inserts a field. One that is too large for the table empties it and is not inserted (RFC 7541, section 4.4).
    fn insert(&mut self, field: Field, name_length: usize, value_length: usize) {
        let size = name_length + value_length + ENTRY_OVERHEAD;
        if size > self.size_max {
            self.evict_to(0);
            return;
        }
        self.evict_to(self.size_max - size);
        self.newest = (self.newest + ENTRIES_MAX - 1) % ENTRIES_MAX;
        self.entries[self.newest] = Entry { field, name_length: name_length as u16, size: size as u16 };
        self.count += 1;
        self.size += size;
    }

    /// Evicts the oldest until the table counts at most `size`.
    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            // A table that counts something has an entry.
            self.count -= 1;
            self.size -= usize::from(self.entries[(self.newest + self.count) % ENTRIES_MAX].size);
        }
    }
}

fn decoded<'a>(text: Text<'a>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    match text {
        Text::Raw(raw) => Ok(raw),
        Text::Huffman(encoded) => {
            buffer.clear();
            huffman::decode(encoded, buffer)?;
            Ok(buffer)
        }
    }
}

fn number(text: &[u8]) -> Option<u16> {
    str::from_utf8(text).ok()?.parse().ok()
}

// === impl Name ===

impl Name {
    fn of(name: &[u8]) -> Name {
        match name {
            b":status" => Name::Status,
            b"grpc-status" => Name::GrpcStatus,
            _ => Name::Other,
        }
    }
}

// === impl Field ===

impl Field {
    fn name(self) -> Name {
        match self {
            Field::Status(_) => Name::Status,
            Field::GrpcStatus(_) => Name::GrpcStatus,
            Field::Other => Name::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes fields as another implementation does, with its choice of representation.
    fn encode(encoder: &mut ::hpack::Encoder<'_>, fields: &[(String, String, u8)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value, flags) in fields {
            encoder.encode((name.clone().into_bytes(), value.clone().into_bytes(), *flags), &mut block).unwrap();
        }
        block
    }

    #[test]
    fn the_static_table_knows_the_statuses() {
        for (index, status) in (8_u8..).zip([200, 204, 206, 304, 400, 404, 500]) {
            assert_eq!(FieldReader::new().read(&[0x80 | index]).unwrap().status, Some(status));
        }
        assert_eq!(FieldReader::new().read(&[0x80 | 7]), Ok(Fields::default()));
        assert_eq!(FieldReader::new().read(&[0x80 | 15]), Ok(Fields::default()));
        assert_eq!(FieldReader::new().read(&[0x80]), Err(Malformed));
        assert_eq!(FieldReader::new().read(&[0x80 | 62]), Err(Malformed));
    }

    #[test]
    fn a_status_that_is_no_number_is_unknown() {
        let mut block = b"\x00\x0bgrpc-status\x03odd".to_vec();
        assert_eq!(FieldReader::new().read(&block).unwrap().grpc_status, Some(2));
        block.truncate(block.len() - 1);
        assert_eq!(FieldReader::new().read(&block), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_another_implementation_writes_is_read(
            blocks in prop::collection::vec((0..17_u16, prop::collection::vec(
                ("[a-z-]{1,40}|grpc-message|date|server", "[ -~]{0,300}", 0..16_u8), 0..8), 0..16_u8), 1..40)
        ) {
            let (mut encoder, mut reader) = (::hpack::Encoder::default(), FieldReader::new());
            for (status, others, flags) in blocks {
                // Everything may be indexed, raw or Huffman; "never indexed" and "indexed" exclude each other.
                let flags_of = |flags: u8| if flags & 0x8 != 0 { flags & !0x4 } else { flags };
                let mut fields: Vec<_> =
                    others.into_iter().map(|(name, value, flags)| (name, value, flags_of(flags))).collect();
                let at = usize::from(status) % (fields.len() + 1);
                fields.insert(at, ("grpc-status".to_owned(), status.to_string(), flags_of(flags)));
                let block = encode(&mut encoder, &fields);
                let read = reader.read(&block).unwrap();
                prop_assert_eq!(read.grpc_status.map(u16::from), Some(status));
            }
        }

        #[test]
        fn arbitrary_blocks_are_read_or_refused(blocks: Vec<Vec<u8>>) {
            let mut reader = FieldReader::new();
            for block in blocks {
                if reader.read(&block).is_err() {
                    break;
                }
            }
        }
    }
}
