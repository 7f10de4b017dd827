//! The Huffman code of header strings (RFC 7541, section 5.2 and appendix B), decoding only.
//!
//! The code is canonical: among codes of one length the symbols stand in order, and shorter codes sort before longer
//! ones. So the lengths alone say everything, and the tables below are computed from them when the crate is built.
//! A symbol of up to eight bits (all that occurs in ordinary header text) is one look-up by the next eight bits. A
//! longer one is found by the canonical rule: the first length whose last code is not below the bits ahead.

/// Bits of each symbol's code (RFC 7541, appendix B), sixteen symbols a row; the last is the end-of-string symbol.
#[rustfmt::skip]
const CODE_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The symbol that must not occur in a string.
const END_OF_STRING: u16 = 256;

/// Bits of the longest code.
const LONGEST: usize = 30;

/// Bits that one look-up resolves.
const LOOKUP_BITS: usize = 8;

/// The bits are no Huffman string: an end-of-string symbol, or padding that is longer than seven bits or not all ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Everything that follows from the lengths. A "left" code stands at the top of 32 bits, so that codes of different
/// lengths compare as numbers.
struct Tables {
    /// By the next eight bits: symbol and bits, or zero bits where the code is longer.
    lookup: [(u8, u8); 1 << LOOKUP_BITS],
    /// By length: the first left value beyond the codes of this length.
    beyond: [u64; LONGEST + 1],
    /// By length: the first code, in the low bits.
    first: [u32; LONGEST + 1],
    /// By length: where the symbols of this length start in `symbols`.
    start: [u16; LONGEST + 1],
    /// The symbols in the order of their codes.
    symbols: [u16; 257],
}

static TABLES: Tables = Tables::new();

// === impl Tables ===

impl Tables {
    const fn new() -> Self {
        let mut tables = Self {
            lookup: [(0, 0); 1 << LOOKUP_BITS],
            beyond: [0; LONGEST + 1],
            first: [0; LONGEST + 1],
            start: [0; LONGEST + 1],
            symbols: [0; 257],
        };
        let (mut code, mut count, mut bits) = (0u32, 0, 1);
        while bits <= LONGEST {
            code <<= 1;
            tables.first[bits] = code;
            tables.start[bits] = count as u16;
            let mut symbol = 0;
            while symbol < CODE_BITS.len() {
                if CODE_BITS[symbol] as usize == bits {
                    tables.symbols[count] = symbol as u16;
                    if bits <= LOOKUP_BITS {
                        let spare = LOOKUP_BITS - bits;
                        let mut tail = 0;
                        while tail < 1 << spare {
                            tables.lookup[((code as usize) << spare) + tail] = (symbol as u8, bits as u8);
                            tail += 1;
                        }
                    }
                    code += 1;
                    count += 1;
                }
                symbol += 1;
            }
            tables.beyond[bits] = (code as u64) << (32 - bits);
            bits += 1;
        }
        tables
    }

    /// The symbol at the top of `window`, whose code is longer than one look-up, and its bits.
    fn long(&self, window: u64) -> (u16, u32) {
        let left = window >> 32;
        let mut bits = LOOKUP_BITS + 1;
        // The codes fill the whole range, so the longest length is never exceeded.
        while bits < LONGEST && left >= self.beyond[bits] {
            bits += 1;
        }
        let code = (left >> (32 - bits)) as u32;
        let symbol = usize::from(self.start[bits]) + (code - self.first[bits]) as usize;
        (self.symbols[symbol], bits as u32)
    }
}

/// Hands each decoded byte to `each`.
fn decode_each(encoded: &[u8], mut each: impl FnMut(u8)) -> Result<(), Malformed> {
    // The undecoded bits stand at the top of the window, `filled` of them; below are zeros.
    let (mut window, mut filled, mut rest) = (0u64, 0u32, encoded);
    loop {
        if filled <= 32 {
            if let Some((word, tail)) = rest.split_first_chunk() {
                window |= u64::from(u32::from_be_bytes(*word)) << (32 - filled);
                filled += 32;
                rest = tail;
            } else if let Some((byte, tail)) = rest.split_first() {
                window |= u64::from(*byte) << (56 - filled);
                filled += 8;
                rest = tail;
                continue;
            }
        }
        let (mut symbol, mut bits) = {
            let (symbol, bits) = TABLES.lookup[(window >> (64 - LOOKUP_BITS)) as usize];
            (u16::from(symbol), u32::from(bits))
        };
        if bits == 0 {
            (symbol, bits) = TABLES.long(window);
        }
        if bits > filled {
            // What is left is no whole code: it must be padding, the first bits of the end-of-string symbol.
            let padding = filled < 8 && window.leading_ones() == filled;
            return if padding { Ok(()) } else { Err(Malformed) };
        }
        if symbol == END_OF_STRING {
            return Err(Malformed);
        }
        each(symbol as u8);
        window <<= bits;
        filled -= bits;
    }
}

/// How many bytes the string has once decoded.
pub(super) fn decoded_length(encoded: &[u8]) -> Result<usize, Malformed> {
    let mut length = 0;
    decode_each(encoded, |_| length += 1)?;
    Ok(length)
}

/// Appends the decoded string to `text`, which grows by at most 8/5 of the encoded length (the shortest code has five
/// bits).
pub(crate) fn decode(encoded: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    decode_each(encoded, |byte| text.push(byte))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Encodes the slow and plain way.
    pub(in crate::rls::authority) fn encode(text: &[u8]) -> Vec<u8> {
        let (mut encoded, mut window, mut filled) = (Vec::new(), 0u64, 0);
        for byte in text {
            let bits = CODE_BITS[usize::from(*byte)];
            let place = TABLES.symbols.iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
            let code = TABLES.first[usize::from(bits)] + (place as u32 - u32::from(TABLES.start[usize::from(bits)]));
            window = (window << bits) | u64::from(code);
            filled += bits;
            while filled >= 8 {
                filled -= 8;
                encoded.push((window >> filled) as u8);
                window &= (1 << filled) - 1;
            }
        }
        if filled > 0 {
            encoded.push(((window << (8 - filled)) | (0xff >> filled)) as u8);
        }
        encoded
    }

    fn decoded(encoded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut text = Vec::new();
        decode(encoded, &mut text)?;
        assert_eq!(decoded_length(encoded), Ok(text.len()));
        Ok(text)
    }

    #[test]
    fn the_code_is_complete() {
        // Kraft's equality: the codes leave no bit pattern without a meaning.
        assert_eq!(CODE_BITS.iter().map(|bits| 1u64 << (LONGEST - usize::from(*bits))).sum::<u64>(), 1 << LONGEST);
        assert_eq!(TABLES.beyond[LONGEST], 1 << 32);
    }

    #[test]
    fn the_examples_of_rfc_7541_appendix_c_decode() {
        for (encoded, text) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
            (&[], ""),
        ] {
            assert_eq!(decoded(encoded), Ok(text.as_bytes().to_vec()), "{text}");
            assert_eq!(encode(text.as_bytes()), encoded, "{text}");
        }
    }

    #[test]
    fn padding_and_end_of_string_are_checked() {
        for (encoded, why) in [
            (&[0xff][..], "eight bits of padding"),
            (&[0x64, 0x02, 0xff], "a whole byte of padding after a string"),
            (&[0x18], "padding of zeros after the five bits of 'a'"),
            (&[0xff, 0xff, 0xff, 0xff], "the end-of-string symbol"),
            (&[0xff, 0xff, 0xff, 0xf0], "half a code"),
        ] {
            assert_eq!(decoded(encoded), Err(Malformed), "{why}");
        }
        assert_eq!(decoded(&[0x1f]), Ok(b"a".to_vec()), "three bits of padding");
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text: Vec<u8>) {
            prop_assert_eq!(decoded(&encode(&text)), Ok(text));
        }

        #[test]
        fn arbitrary_bits_decode_to_what_encodes_to_them_or_not_at_all(encoded: Vec<u8>) {
            if let Ok(text) = decoded(&encoded) {
                prop_assert_eq!(encode(&text), encoded);
            }
        }

        #[test]
        fn another_implementation_agrees(text in prop::collection::vec(any::<u8>(), 1..64)) {
            let mut encoder = ::hpack::Encoder::default();
            let mut block = Vec::new();
            let flags = ::hpack::Encoder::HUFFMAN_VALUE;
            encoder.encode((b"n".to_vec(), text.clone(), flags), &mut block).unwrap();
            let ours = encode(&text);
            prop_assert!(block.ends_with(&ours));
            prop_assert_eq!(decoded(&ours), Ok(text));
        }
    }
}
