//! What must hold for whatever a client sends, in whatever pieces.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// One request as the client writes it.
#[derive(Clone, Debug)]
struct Request {
    resize: Option<usize>,
    fields: Vec<(Field, Style)>,
    padding: Option<u8>,
    priority: bool,
    cuts: Vec<Index>,
    data: usize,
}

fn style() -> impl Strategy<Value = Style> {
    let form = select(vec![Form::Inserted, Form::Inserted, Form::NotInserted, Form::NeverInserted]);
    (any::<bool>(), any::<bool>(), form, any::<bool>()).prop_map(|(indexed, indexed_name, form, huffman)| Style {
        indexed,
        indexed_name,
        form,
        huffman,
    })
}

fn accepted() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec!["ratelimit_cluster", "a-b.c", "[::1]:80", "user@host:1", "127.0.0.1:8081"]);
    prop_oneof![known.prop_map(|name| name.as_bytes().to_vec()), "[a-z.]{1,90}".prop_map(String::into_bytes)]
}

fn authority() -> impl Strategy<Value = Vec<u8>> {
    let refused = select(REFUSED.to_vec()).prop_map(|name| name.as_bytes().to_vec());
    let long = (1usize..6000).prop_map(|length| b"|".repeat(length));
    prop_oneof![4 => accepted(), 4 => refused, 1 => vec(any::<u8>(), 0..9), 1 => long]
}

fn field(authority: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Field> {
    let name = select(vec![":path", "host", "x-request-id", "user-agent", ":authoritz", "x"]);
    let value = prop_oneof![vec(32u8..127, 0..4), vec(any::<u8>(), 0..300), (0usize..5000).prop_map(|n| vec![b'v'; n])];
    prop_oneof![
        authority.prop_map(|value| (b":authority".to_vec(), value)),
        (name, value).prop_map(|(name, value)| (name.as_bytes().to_vec(), value)),
    ]
}

fn request(authority: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Request> {
    let resize = prop::option::weighted(0.1, select(vec![0, 45, 100, 1000, 4096]));
    let frames = (prop::option::weighted(0.2, any::<u8>()), any::<bool>(), vec(any::<Index>(), 0..4), 0usize..200);
    (resize, vec((field(authority), style()), 0..8), frames).prop_map(
        |(resize, fields, (padding, priority, cuts, data))| Request { resize, fields, padding, priority, cuts, data },
    )
}

/// Writes the requests as a client would, and says what fields the server is to see.
fn written(requests: &[Request]) -> (Vec<u8>, Vec<Vec<Field>>) {
    let (mut client, mut stream, mut seen) = (Client::new(), PREFACE.to_vec(), Vec::new());
    stream.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]));
    for (number, request) in requests.iter().enumerate() {
        let (id, mut block) = (2 * number as u32 + 1, Vec::new());
        if let Some(size_max) = request.resize {
            client.resize(size_max, &mut block);
        }
        let mut fields = Vec::new();
        for (field, style) in &request.fields {
            let indexed = style.indexed && client.find(&field.0, Some(&field.1)).is_some();
            fields.push(expected(field, matches!(style.form, Form::Inserted) && !indexed));
            client.field(field, *style, &mut block);
        }
        seen.push(fields);
        push_frames(&mut stream, id, &block, request);
        stream.extend(frame(DATA, END_STREAM, id, &vec![0x41; request.data]));
    }
    (stream, seen)
}

/// Frames a block, cut where the request says and where it must be.
fn push_frames(stream: &mut Vec<u8>, id: u32, block: &[u8], request: &Request) {
    let mut cuts: Vec<usize> = request.cuts.iter().map(|cut| cut.index(block.len() + 1)).collect();
    cuts.extend((0..block.len()).step_by(16_000));
    cuts.extend([0, block.len()]);
    cuts.sort_unstable();
    let last = cuts.len() - 2;
    for (place, pair) in cuts.windows(2).enumerate() {
        let (mut kind, mut flags, mut payload) = (CONTINUATION, 0, Vec::new());
        if place == 0 {
            kind = HEADERS;
            if let Some(padding) = request.padding {
                flags |= 0x8;
                payload.push(padding);
            }
            if request.priority {
                flags |= 0x20;
                payload.extend([0x80, 0, 0, 0, 7]);
            }
        }
        payload.extend_from_slice(&block[pair[0]..pair[1]]);
        payload.resize(payload.len() + usize::from(request.padding.filter(|_| place == 0).unwrap_or(0)), 0);
        stream.extend(frame(kind, if place == last { flags | END_HEADERS } else { flags }, id, &payload));
    }
}

fn blocks(stream: &[u8]) -> Vec<Vec<Field>> {
    let fields = |item| match item {
        Item::Block(fields) => Some(fields.into_iter().map(|(field, _)| field).collect()),
        Item::Frame(_) => None,
    };
    let items = read(stream, another_decoder());
    assert_eq!(items, read(stream, plain_decoder()), "two decoders agree");
    items.into_iter().filter_map(fields).collect()
}

fn frames_only(stream: &[u8]) -> Vec<Item> {
    read(stream, plain_decoder()).into_iter().filter(|item| matches!(item, Item::Frame(_))).collect()
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![usize::MAX]), vec(1usize..40, 1..8), vec(1usize..9000, 1..8)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_server_sees_all_fields_with_refused_names_made_harmless(
        requests in vec(request(authority()), 1..12), sizes in sizes(),
    ) {
        let (stream, seen) = written(&requests);
        // The writer is held against the other implementation first.
        prop_assert_eq!(blocks(&stream).len(), seen.len());
        let output = filtered(&stream, &sizes);
        prop_assert_eq!(blocks(&output), seen);
        prop_assert_eq!(frames_only(&output), frames_only(&stream));
    }

    #[test]
    fn a_stream_without_refused_names_passes_byte_for_byte(
        requests in vec(request(accepted()), 1..12), sizes in sizes(),
    ) {
        let (stream, _) = written(&requests);
        prop_assert!(filtered(&stream, &sizes) == stream);
    }

    #[test]
    fn the_pieces_make_no_difference(requests in vec(request(authority()), 1..6), sizes in sizes()) {
        let (stream, _) = written(&requests);
        prop_assert!(filtered(&stream, &sizes) == filtered(&stream, &[usize::MAX]));
    }

    #[test]
    fn flipped_bits_change_nothing_but_names(
        requests in vec(request(authority()), 1..6), flips in vec((any::<Index>(), 0u8..8), 1..4), sizes in sizes(),
    ) {
        let (mut stream, _) = written(&requests);
        for (place, bit) in flips {
            let place = place.index(stream.len());
            stream[place] ^= 1 << bit;
        }
        let output = filtered(&stream, &sizes);
        prop_assert!(output == filtered(&stream, &[usize::MAX]), "the pieces make no difference");
        prop_assert!(output == filtered(&output, &sizes), "there is nothing left to replace");
        // The decoder may read on where the filter has gone blind, so a refused name may also be there still.
        for (before, after) in read(&stream, plain_decoder()).into_iter().zip(read(&output, plain_decoder())) {
            match (before, after) {
                (Item::Block(before), Item::Block(after)) => {
                    prop_assert_eq!(before.len(), after.len());
                    for ((before, inserted), (after, _)) in before.iter().zip(&after) {
                        prop_assert!(before == after || expected(before, *inserted) == *after);
                    }
                }
                (before, after) => prop_assert_eq!(before, after),
            }
        }
    }

    #[test]
    fn arbitrary_frames_never_panic_and_pass_unless_a_name_is_refused(
        frames in vec((select(vec![0, 1, 1, 1, 3, 4, 5, 9, 9, 10]), any::<u8>(), 0u32..3, vec(any::<u8>(), 0..40)), 0..20),
        sizes in sizes(),
    ) {
        let mut stream = PREFACE.to_vec();
        for (kind, flags, id, payload) in frames {
            stream.extend(frame(kind, flags, id, &payload));
        }
        let output = filtered(&stream, &sizes);
        let refused = |(field, inserted): &SeenField| expected(field, *inserted) != *field;
        let any_refused = read(&stream, plain_decoder()).iter().any(|item| matches!(item, Item::Block(b) if b.iter().any(refused)));
        prop_assert!(any_refused || output == stream);
    }

    #[test]
    fn arbitrary_bytes_pass(bytes in vec(any::<u8>(), 0..400), preface in 0usize..24, sizes in sizes()) {
        // With a whole preface before them, some such bytes would be requests.
        let stream = [&PREFACE[..preface], b"!", &bytes].concat();
        prop_assert!(filtered(&stream, &sizes) == stream);
    }
}

#[test]
fn the_preface_is_seen_when_it_is_whole() {
    let (mut filter, mut side) = (AuthorityFilter::new(), Vec::new());
    assert_eq!(filter.push(&PREFACE[..23], &mut side), 23);
    assert!(!filter.preface_seen());
    assert_eq!(filter.push(&PREFACE[23..], &mut side), 1);
    assert!(filter.preface_seen());
    let mut filter = AuthorityFilter::new();
    assert_eq!(filter.push(b"GET / HTTP/1.1\r\n\r\n", &mut side), 18);
    assert!(!filter.preface_seen());
}

#[test]
fn a_block_over_the_bound_passes_and_the_filter_looks_no_further() {
    let mut stream = PREFACE.to_vec();
    let filling = [0x00, 0x01, b'n', 0x7f, 0x80, 0x7d].iter().copied().chain([b'v'; 16_127]).collect::<Vec<u8>>();
    stream.extend(frame(HEADERS, 0, 1, &filling));
    stream.extend(frame(CONTINUATION, 0, 1, &filling));
    stream.extend(frame(CONTINUATION, END_HEADERS, 1, &filling));
    let refused = frame(HEADERS, END_HEADERS, 3, b"\x01\x03a|b");
    stream.extend(&refused);
    for sizes in [[usize::MAX], [1000]] {
        assert!(filtered(&stream, &sizes) == stream);
    }
}

#[test]
fn a_frame_over_the_bound_passes_and_the_filter_looks_no_further() {
    let long = frame(DATA, 0, 1, &[0; 16_385]);
    let stream = [&PREFACE[..], &long, &frame(HEADERS, END_HEADERS, 3, b"\x01\x03a|b")].concat();
    for sizes in [[usize::MAX], [1000]] {
        assert!(filtered(&stream, &sizes) == stream);
    }
}

#[test]
fn ordinary_traffic_passes_without_a_copy() {
    let (mut filter, mut side) = (AuthorityFilter::new(), Vec::new());
    let (mut client, mut stream) = (Client::new(), PREFACE.to_vec());
    for id in [1, 3, 5] {
        let mut block = Vec::new();
        let style = Style { indexed: true, indexed_name: true, form: Form::Inserted, huffman: true };
        client.field(&(b":authority".to_vec(), b"ratelimit".to_vec()), style, &mut block);
        stream.extend(frame(HEADERS, END_HEADERS, id, &block));
        stream.extend(frame(DATA, END_STREAM, id, b"message"));
    }
    assert_eq!(filter.push(&stream, &mut side), stream.len());
    assert_eq!((side.capacity(), filter.held.capacity(), filter.rewritten.capacity()), (0, 0, 0));
}
