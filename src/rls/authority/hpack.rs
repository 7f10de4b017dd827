//! The walk over one header block (RFC 7541, section 6): finds `:authority` values that the HTTP/2 server would refuse
//! and writes the block anew with harmless ones of the same decoded length.
//!
//! Only what is needed is decoded. A field that stands in a table is a look-up; a literal that is inserted into the
//! dynamic table needs its decoded length; a literal `:authority` needs its text; any other is stepped over. The
//! replacement is a raw literal in the representation that the client chose, so the server inserts, or does not
//! insert, an entry of the same size as the client did, and all later indices mean the same on both sides.
//!
//! An empty `:authority` is refused by the server too, and has no replacement of its length. One that is not inserted
//! into the table (an index, a literal without indexing) becomes one byte, as there is no table to keep in step. One
//! that is inserted stays as it is, and the server resets that stream.

use http::uri::Authority;

use super::huffman;
use super::table::{AUTHORITY, Name, Table};

/// What stands in place of each byte of a refused value: a host name of this letter alone is legal at any length.
pub(super) const HARMLESS: u8 = b'x';

/// `:authority` as a Huffman string. There is only one way to write it, as the padding is prescribed.
const AUTHORITY_HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// `:authority: x` as a literal without indexing, its name by static index 1.
const AUTHORITY_FIELD: &[u8] = &[0x01, 0x01, HARMLESS];

/// Bytes that an integer may take beyond its prefix; the server's own decoder takes no more either.
const INTEGER_BYTES_MAX: usize = 4;

/// Bytes of decoded text for which room is kept between two blocks. A longer name is decoded too, but its memory is
/// given back.
const TEXT_KEPT: usize = 1024;

/// The bytes are no header block. What the table model holds afterwards means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walked {
    /// Nothing that the server would refuse.
    Acceptable,
    /// The block was written anew.
    Rewritten,
}

/// Walks the blocks of one connection, in their order.
#[derive(Debug)]
pub(super) struct Walker {
    table: Table,
    /// Where a Huffman value is decoded; empty between two values.
    text: Vec<u8>,
}

/// A place in a block.
pub(crate) struct Reader<'a> {
    pub(crate) block: &'a [u8],
    pub(crate) at: usize,
}

/// A string as it stands in a block.
#[derive(Clone, Copy)]
pub(crate) enum Text<'a> {
    Raw(&'a [u8]),
    Huffman(&'a [u8]),
}

/// The block written anew, as far as it differs from the original at all.
struct Rewriting<'a, 'b> {
    block: &'a [u8],
    rewritten: &'b mut Vec<u8>,
    /// Up to here the block is dealt with; zero until the first replacement.
    copied: usize,
}

/// Whether the server takes this `:authority`: by its own judgement, spared for the ordinary names.
fn is_acceptable(authority: &[u8]) -> bool {
    let is_ordinary = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !authority.is_empty() && (authority.iter().all(is_ordinary) || Authority::try_from(authority).is_ok())
}

// === impl Walker ===

impl Walker {
    /// A walker for a new connection.
    pub(super) fn new() -> Self {
        Self { table: Table::new(), text: Vec::new() }
    }

    /// Walks one whole block. When something in it is refused, `rewritten` is the block to send instead.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the block breaks the format; the walker must not be used afterwards.
    pub(super) fn walk(&mut self, block: &[u8], rewritten: &mut Vec<u8>) -> Result<Walked, Malformed> {
        rewritten.clear();
        let mut reader = Reader { block, at: 0 };
        let mut rewriting = Rewriting { block, rewritten, copied: 0 };
        let mut at_head = true;
        while let Some(first) = reader.peek() {
            // Size updates come before all fields (section 4.2).
            if first & 0xe0 == 0x20 {
                if !at_head {
                    return Err(Malformed);
                }
                self.table.resize(reader.integer(5)?).ok_or(Malformed)?;
                continue;
            }
            at_head = false;
            if first & 0x80 != 0 {
                let start = reader.at;
                let field = self.table.get(reader.integer(7)?).ok_or(Malformed)?;
                if field.empty_authority {
                    rewriting.replace(start, reader.at, |block| block.extend_from_slice(AUTHORITY_FIELD));
                }
            } else {
                self.literal(first & 0x40 != 0, &mut reader, &mut rewriting)?;
            }
        }
        Ok(rewriting.finish())
    }

    /// Walks one literal field, which is inserted into the table or not.
    fn literal(
        &mut self,
        inserted: bool,
        reader: &mut Reader<'_>,
        rewriting: &mut Rewriting<'_, '_>,
    ) -> Result<(), Malformed> {
        let index = reader.integer(if inserted { 6 } else { 4 })?;
        let name = match index {
            0 => reader.text()?.as_name(inserted)?,
            _ => self.table.get(index).ok_or(Malformed)?.name,
        };
        let start = reader.at;
        let value = reader.text()?;
        if name == Name::Authority {
            let length = self.authority(value, |length| match length {
                0 if inserted => {}
                _ => rewriting.replace(start, reader.at, |block| push_harmless(block, length.max(1))),
            })?;
            if inserted {
                self.table.insert(name, length);
            }
        } else if inserted {
            self.table.insert(name, value.decoded_length()?);
        }
        Ok(())
    }

    /// Calls `refused` with the length of the value if the server would refuse it; gives the length in any case.
    fn authority(&mut self, value: Text<'_>, refused: impl FnOnce(usize)) -> Result<usize, Malformed> {
        let text = match value {
            Text::Raw(raw) => raw,
            Text::Huffman(encoded) => {
                self.text.clear();
                huffman::decode(encoded, &mut self.text)?;
                &self.text
            }
        };
        let length = text.len();
        if !is_acceptable(text) {
            refused(length);
        }
        if self.text.capacity() > TEXT_KEPT {
            self.text = Vec::new();
        }
        Ok(length)
    }
}

/// Appends a raw string of so many harmless bytes.
fn push_harmless(block: &mut Vec<u8>, length: usize) {
    // The length is an integer with a prefix of seven bits; the eighth says "not Huffman".
    if length < 0x7f {
        block.push(length as u8);
    } else {
        block.push(0x7f);
        let mut rest = length - 0x7f;
        while rest >= 0x80 {
            block.push(0x80 | (rest & 0x7f) as u8);
            rest >>= 7;
        }
        block.push(rest as u8);
    }
    block.resize(block.len() + length, HARMLESS);
}

// === impl Rewriting ===

impl Rewriting<'_, '_> {
    /// Puts what `write` appends in place of the bytes from `start` to `end`.
    fn replace(&mut self, start: usize, end: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.rewritten.extend_from_slice(&self.block[self.copied..start]);
        write(self.rewritten);
        self.copied = end;
    }

    fn finish(self) -> Walked {
        if self.copied == 0 {
            return Walked::Acceptable;
        }
        self.rewritten.extend_from_slice(&self.block[self.copied..]);
        Walked::Rewritten
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(crate) fn peek(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    /// An integer whose first byte lends its low `prefix_bits` (section 5.1).
    pub(crate) fn integer(&mut self, prefix_bits: u32) -> Result<usize, Malformed> {
        let mask = (1 << prefix_bits) - 1;
        let mut integer = usize::from(self.peek().ok_or(Malformed)? & mask);
        self.at += 1;
        if integer < usize::from(mask) {
            return Ok(integer);
        }
        for place in 0..INTEGER_BYTES_MAX {
            let byte = self.peek().ok_or(Malformed)?;
            self.at += 1;
            integer += usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(integer);
            }
        }
        Err(Malformed)
    }

    /// A string (section 5.2).
    pub(crate) fn text(&mut self) -> Result<Text<'a>, Malformed> {
        let is_huffman = self.peek().ok_or(Malformed)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (text, _) = self.block[self.at..].split_at_checked(length).ok_or(Malformed)?;
        self.at += length;
        Ok(if is_huffman { Text::Huffman(text) } else { Text::Raw(text) })
    }
}

// === impl Text ===

impl Text<'_> {
    fn decoded_length(self) -> Result<usize, Malformed> {
        match self {
            Self::Raw(raw) => Ok(raw.len()),
            Self::Huffman(encoded) => Ok(huffman::decoded_length(encoded)?),
        }
    }

    /// The name that this is. Its length is of interest, and so looked for, only if it is inserted into the table.
    fn as_name(self, inserted: bool) -> Result<Name, Malformed> {
        match self {
            Self::Raw(AUTHORITY) | Self::Huffman(AUTHORITY_HUFFMAN) => Ok(Name::Authority),
            _ if inserted => Ok(Name::Other { length: self.decoded_length()? }),
            _ => Ok(Name::Other { length: 0 }),
        }
    }
}

// === impl Malformed ===

impl From<huffman::Malformed> for Malformed {
    fn from(_: huffman::Malformed) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rls::authority::huffman::tests::encode;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// Walks the blocks in turn; what came out of the last.
    fn walked(blocks: &[&[u8]]) -> Result<Vec<u8>, Malformed> {
        let (mut walker, mut rewritten, mut last) = (Walker::new(), Vec::new(), Vec::new());
        for block in blocks {
            last = match walker.walk(block, &mut rewritten)? {
                Walked::Acceptable => block.to_vec(),
                Walked::Rewritten => rewritten.clone(),
            };
        }
        Ok(last)
    }

    /// The name length and the empty-authority flag of each entry of the dynamic table.
    fn names(walker: &Walker) -> Vec<usize> {
        (62..).map_while(|index| walker.table.get(index)).map(|field| field.name.length()).collect()
    }

    #[test]
    fn the_requests_of_rfc_7541_appendix_c_pass_and_fill_the_table() {
        let raw = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let huffman = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [raw, huffman] {
            let (mut walker, mut rewritten) = (Walker::new(), Vec::new());
            for block in blocks {
                assert_eq!(walker.walk(&hex(block), &mut rewritten), Ok(Walked::Acceptable));
            }
            assert_eq!(names(&walker), [10, 13, 10]);
            assert_eq!(walker.table.get(64).unwrap().name, Name::Authority);
            assert_eq!(walker.table.get(62).unwrap().name, Name::Other { length: 10 });
        }
    }

    #[test]
    fn the_integers_of_rfc_7541_appendix_c_read() {
        for (bytes, prefix_bits, integer) in [(&[0x0a][..], 5, 10), (&[0x1f, 0x9a, 0x0a], 5, 1337)] {
            assert_eq!(Reader { block: bytes, at: 0 }.integer(prefix_bits), Ok(integer));
        }
        let too_long = [0x7f, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(Reader { block: &too_long, at: 0 }.integer(7), Err(Malformed));
    }

    #[test]
    fn a_refused_value_is_replaced_in_every_form() {
        let bad = b"a|b c";
        let encoded = encode(bad);
        let huffman_value = [&[0x80 | encoded.len() as u8], &encoded[..]].concat();
        let raw_value = [&[5], &bad[..]].concat();
        let raw_name = [&[10], AUTHORITY].concat();
        let huffman_name = [&[0x88], AUTHORITY_HUFFMAN].concat();
        for start in [0x41, 0x01, 0x11] {
            for value in [&raw_value, &huffman_value] {
                assert_eq!(
                    walked(&[&[&[start], &value[..]].concat()]).unwrap(),
                    [&[start], &b"\x05xxxxx"[..]].concat()
                );
            }
        }
        for start in [0x40, 0x00, 0x10] {
            for name in [&raw_name, &huffman_name] {
                let expected = [&[start], &name[..], &b"\x05xxxxx"[..]].concat();
                assert_eq!(walked(&[&[&[start], &name[..], &raw_value].concat()]).unwrap(), expected);
            }
        }
        // By an index into the dynamic table, and between two other fields.
        let filling = [&[0x41], &b"\x01a"[..]].concat();
        let block = [&[0x82, 0x7e], &huffman_value[..], &[0x84]].concat();
        assert_eq!(walked(&[&filling, &block]).unwrap(), [&[0x82, 0x7e], &b"\x05xxxxx"[..], &[0x84]].concat());
    }

    #[test]
    fn a_long_replacement_has_a_long_length() {
        for length in [126, 127, 128, 254, 255, 256, 300, 16_000] {
            let mut block = Vec::new();
            push_harmless(&mut block, length);
            match (Reader { block: &block, at: 0 }).text() {
                Ok(Text::Raw(text)) => assert_eq!(text, vec![HARMLESS; length]),
                _ => panic!("no raw string for {length}"),
            }
        }
    }

    #[test]
    fn an_empty_value_becomes_one_byte_where_no_table_suffers() {
        assert_eq!(walked(&[&[0x81]]).unwrap(), [1, 1, b'x']);
        assert_eq!(walked(&[&[0x01, 0x00]]).unwrap(), [1, 1, b'x']);
        assert_eq!(walked(&[&[0x11, 0x80]]).unwrap(), [0x11, 1, b'x']);
        assert_eq!(walked(&[&[0x41, 0x00]]).unwrap(), [0x41, 0]);
        assert_eq!(walked(&[&[0x41, 0x00], &[0xbe]]).unwrap(), [1, 1, b'x']);
    }

    #[test]
    fn values_of_other_names_are_never_touched() {
        for block in [&b"\x44\x05a|b c"[..], b"\x00\x0a:authoritz\x03a|b", b"\x40\x04host\x03a|b", b"\x66\x03a|b"] {
            assert_eq!(walked(&[block]).unwrap(), block);
        }
    }

    #[test]
    fn what_breaks_the_format_is_malformed() {
        for (block, why) in [
            (&[0x80][..], "index 0"),
            (&[0xbe], "an index beyond the tables"),
            (&[0x41], "no value"),
            (&[0x41, 0x02, b'a'], "a value cut short"),
            (&[0x7f], "an integer cut short"),
            (&[0x41, 0x81, 0x00], "wrong Huffman padding"),
            (&[0x82, 0x20], "a size update after a field"),
            (&[0x3f, 0xe2, 0x1f], "a table larger than allowed"),
        ] {
            assert_eq!(walked(&[block]), Err(Malformed), "{why}");
        }
        assert_eq!(walked(&[&[0x20, 0x3f, 0xe1, 0x1f, 0x82]]).unwrap().len(), 5, "a size update to 4,096 is legal");
    }

    proptest! {
        #[test]
        fn what_we_take_for_ordinary_the_server_accepts(authority in "[ -~]{0,12}") {
            prop_assert_eq!(is_acceptable(authority.as_bytes()), Authority::try_from(authority.as_bytes()).is_ok());
        }

        #[test]
        fn the_harmless_name_is_accepted_at_any_length(length in 1usize..40_000) {
            prop_assert!(Authority::try_from(&vec![HARMLESS; length][..]).is_ok());
        }

        #[test]
        fn arbitrary_blocks_never_panic(blocks: Vec<Vec<u8>>) {
            let (mut walker, mut rewritten) = (Walker::new(), Vec::new());
            for block in blocks {
                if walker.walk(&block, &mut rewritten).is_err() {
                    break;
                }
            }
        }
    }
}
