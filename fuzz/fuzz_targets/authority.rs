//! Anything that a client may send after its preface: the filter does not panic, the pieces in which it arrives make
//! no difference, and what came out once passes a second time as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::rls::authority::AuthorityFilter;

/// What the server reads when `stream` arrives in pieces of `size` bytes.
fn filtered(stream: &[u8], size: usize) -> Vec<u8> {
    let (mut filter, mut read, mut side) = (AuthorityFilter::new(), Vec::new(), Vec::new());
    for piece in stream.chunks(size) {
        let passed = filter.push(piece, &mut side);
        read.extend_from_slice(&piece[..passed]);
        read.append(&mut side);
    }
    filter.finish(&mut read);
    read
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, frames) = input;
    let stream = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frames].concat();
    let whole = filtered(&stream, usize::MAX);
    assert!(whole == filtered(&stream, usize::from(size) + 1), "the pieces make a difference");
    assert!(whole == filtered(&whole, usize::MAX), "a second pass changes more");
});
