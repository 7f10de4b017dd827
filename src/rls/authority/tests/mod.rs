//! The filter as a whole. Here: a client that writes header blocks in every form HPACK knows, and the reading of what
//! came out of the filter. [`laws`] holds random and broken input against them, [`server`] a real server.

mod laws;
mod server;

use std::collections::VecDeque;

use http::uri::Authority;

use super::frames::tests::frame;
use super::frames::{Extent, HEAD_LENGTH, Head, Kind, PREFACE, block_extent, block_fragments};
use super::hpack::HARMLESS;
use super::huffman::tests::encode;
use super::*;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// What Envoys were seen to send and the server was seen to refuse.
const REFUSED: [&str; 6] = [
    "outbound|8081||ratelimit.default.svc.cluster.local",
    "extension/projectcontour/ratelimit",
    "a b",
    "x{y}",
    "a%2Fb",
    "a@b:80:90",
];

/// A field: name and value.
type Field = (Vec<u8>, Vec<u8>);

/// How the client writes a field that is not in its table.
#[derive(Clone, Copy, Debug)]
enum Form {
    Inserted = 0x40,
    NotInserted = 0x00,
    NeverInserted = 0x10,
}

/// How the client writes one field.
#[derive(Clone, Copy, Debug)]
struct Style {
    /// Whether the whole field may be an index.
    indexed: bool,
    /// Whether the name may be an index.
    indexed_name: bool,
    form: Form,
    huffman: bool,
}

/// A client's HPACK encoder, with a dynamic table of its own.
#[derive(Debug, Default)]
struct Client {
    entries: VecDeque<Field>,
    size_max: usize,
}

// === impl Client ===

impl Client {
    fn new() -> Self {
        Self { entries: VecDeque::new(), size_max: 4096 }
    }

    fn evict(&mut self) {
        let size = |entries: &VecDeque<Field>| entries.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>();
        while size(&self.entries) > self.size_max {
            self.entries.pop_back();
        }
    }

    fn resize(&mut self, size_max: usize, block: &mut Vec<u8>) {
        self.size_max = size_max;
        self.evict();
        push_integer(block, 0x20, 5, size_max);
    }

    /// The index of the field, or failing that of its name.
    fn find(&self, name: &[u8], value: Option<&[u8]>) -> Option<usize> {
        let fixed: [(usize, &[u8], &[u8]); 5] = [
            (1, b":authority", b""),
            (3, b":method", b"POST"),
            (4, b":path", b"/"),
            (6, b":scheme", b"http"),
            (38, b"host", b""),
        ];
        let is_it = |n: &[u8], v: &[u8]| n == name && value.is_none_or(|value| v == value);
        // The newest names first, so that indices into the dynamic table are common.
        let inserted = self.entries.iter().position(|(n, v)| is_it(n, v)).map(|place| place + 62);
        inserted.or_else(|| fixed.iter().find(|(_, n, v)| is_it(n, v)).map(|(index, ..)| *index))
    }

    fn field(&mut self, (name, value): &Field, style: Style, block: &mut Vec<u8>) {
        if let Some(index) = self.find(name, Some(value)).filter(|_| style.indexed) {
            push_integer(block, 0x80, 7, index);
            return;
        }
        let prefix_bits = if matches!(style.form, Form::Inserted) { 6 } else { 4 };
        let index = self.find(name, None).filter(|_| style.indexed_name);
        push_integer(block, style.form as u8, prefix_bits, index.unwrap_or(0));
        if index.is_none() {
            push_text(block, name, style.huffman);
        }
        push_text(block, value, style.huffman);
        if matches!(style.form, Form::Inserted) {
            self.entries.push_front((name.clone(), value.clone()));
            self.evict();
        }
    }
}

fn push_integer(block: &mut Vec<u8>, first: u8, prefix_bits: u32, integer: usize) {
    let mask = (1 << prefix_bits) - 1;
    if integer < mask {
        block.push(first | integer as u8);
        return;
    }
    block.push(first | mask as u8);
    let mut rest = integer - mask;
    while rest >= 0x80 {
        block.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    block.push(rest as u8);
}

fn push_text(block: &mut Vec<u8>, text: &[u8], huffman: bool) {
    let (first, text) = if huffman { (0x80, encode(text)) } else { (0, text.to_vec()) };
    push_integer(block, first, 7, text.len());
    block.extend_from_slice(&text);
}

/// What the server is to see in place of a field that was written as `form`, or as an index.
fn expected((name, value): &Field, inserted: bool) -> Field {
    let refused = name == b":authority" && Authority::try_from(&value[..]).is_err();
    let length = match value.len() {
        0 if inserted => 0,
        length => length.max(1),
    };
    (name.clone(), if refused { vec![HARMLESS; length] } else { value.clone() })
}

/// What a stream is made of: header blocks with their fields, and all other frames. Ends where it can't be read on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Block(Vec<SeenField>),
    Frame(Vec<u8>),
}

/// A field, and whether it was inserted into the table.
type SeenField = (Field, bool);

/// Reads a stream, decoding its blocks with `decode`.
fn read(stream: &[u8], mut decode: impl FnMut(&[u8]) -> Option<Vec<SeenField>>) -> Vec<Item> {
    let (mut items, mut gathered) = (Vec::new(), Vec::new());
    let Some(mut rest) = stream.strip_prefix(PREFACE) else {
        return items;
    };
    while let Some(head) = Head::read(rest) {
        let end = if head.kind() == Kind::Headers {
            let Ok(Extent::Whole(end)) = block_extent(rest, &mut 0) else { break };
            let Ok(block) = block_fragments(&rest[..end], &mut gathered) else { break };
            let Some(fields) = decode(block) else { break };
            items.push(Item::Block(fields));
            end
        } else {
            let end = HEAD_LENGTH + head.length;
            let Some(frame) = rest.get(..end) else { break };
            items.push(Item::Frame(frame.to_vec()));
            end
        };
        rest = &rest[end..];
    }
    items
}

/// Another implementation of HPACK. It panics at some broken input.
fn another_decoder() -> impl FnMut(&[u8]) -> Option<Vec<SeenField>> {
    let mut decoder = ::hpack::Decoder::default();
    move |block| {
        let mut fields = Vec::new();
        decoder.decode(&mut block.to_vec(), &mut fields).ok()?;
        let inserted = |flags| flags & ::hpack::Decoder::WITH_INDEXING != 0;
        Some(fields.into_iter().map(|(name, value, flags)| ((name, value), inserted(flags))).collect())
    }
}

/// A decoder that bears broken input, with a table of whole fields.
fn plain_decoder() -> impl FnMut(&[u8]) -> Option<Vec<SeenField>> {
    let mut fixed = another_decoder();
    let fixed: Vec<Field> = (1..=61).map(|index| fixed(&[0x80 | index]).unwrap().remove(0).0).collect();
    let mut table = Client::new();
    move |block| {
        let (mut fields, mut rest) = (Vec::new(), block);
        while let Some(first) = rest.first().copied() {
            if first & 0xe0 == 0x20 {
                let size_max = take_integer(&mut rest, 5)?;
                (size_max <= 4096).then(|| table.resize(size_max, &mut Vec::new()))?;
                continue;
            }
            let prefix_bits = [4, 4, 6, 6, 7, 7, 7, 7][usize::from(first >> 5)];
            let index = take_integer(&mut rest, prefix_bits)?;
            let indexed = index.checked_sub(1).and_then(|place| fixed.iter().chain(&table.entries).nth(place)).cloned();
            if prefix_bits == 7 {
                fields.push((indexed?, false));
                continue;
            }
            let name = if index == 0 { take_text(&mut rest)? } else { indexed?.0 };
            let field = (name, take_text(&mut rest)?);
            if prefix_bits == 6 {
                table.entries.push_front(field.clone());
                table.evict();
            }
            fields.push((field, prefix_bits == 6));
        }
        Some(fields)
    }
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, tail) = rest.split_first()?;
    *rest = tail;
    Some(*byte)
}

fn take_integer(rest: &mut &[u8], prefix_bits: u32) -> Option<usize> {
    let mask = (1 << prefix_bits) - 1;
    let mut integer = usize::from(take_byte(rest)?) & mask;
    let mut shift = 0;
    while integer >= mask && shift < 28 {
        let byte = take_byte(rest)?;
        integer += usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(integer);
        }
    }
    (integer < mask).then_some(integer)
}

fn take_text(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let huffman = rest.first()? & 0x80 != 0;
    let length = take_integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    if !huffman {
        return Some(text.to_vec());
    }
    let mut decoded = Vec::new();
    huffman::decode(text, &mut decoded).ok()?;
    Some(decoded)
}

/// Pushes `stream` through a filter in pieces of these sizes, again and again, and gives what the server reads.
fn filtered(stream: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut filter, mut read, mut rest) = (AuthorityFilter::new(), Vec::new(), stream);
    let mut most_held = 0;
    for size in sizes.iter().cycle() {
        let (piece, later) = rest.split_at(rest.len().min(*size));
        let mut side = Vec::new();
        let passed = filter.push(piece, &mut side);
        read.extend_from_slice(&piece[..passed]);
        read.extend_from_slice(&side);
        most_held = most_held.max(filter.held.len());
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    assert!(most_held <= frames::BLOCK_MAX, "{most_held} bytes were held back");
    filter.finish(&mut read);
    assert!(filter.held.is_empty());
    read
}
