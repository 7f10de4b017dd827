//! The bytes between the request path and Redis: one command out, simple replies back (RESP2, redis.io/docs/reference/
//! protocol-spec).
//!
//! Only what a line asks for is understood: a string, a status, an error. Anything else, and anything larger than the
//! script ever answers, means that the other side isn't the Redis we talk to, and the connection is given up.

use super::lanes::{Lane, halves};
use super::script::{Batch, sha1};

/// One reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// What the script answers.
    String(&'a [u8]),
    /// `OK`, `PONG`.
    Status(&'a [u8]),
    /// A sentence that begins with a word in capitals.
    Error(&'a [u8]),
}

/// Most bytes of a reply: more than the longest answer of the script, which is 13 KB.
pub(super) const REPLY_BYTES_MAX: usize = 32 * 1024;

/// Bytes around the arguments of a script call, at most.
const WORDS: usize = 192;

/// Writes a command of these words.
pub(super) fn write_command(words: &[&[u8]], to: &mut Vec<u8>) {
    write_count(b'*', words.len(), to);
    words.iter().for_each(|word| write_word(word, to));
}

/// Writes the script call of a batch, in a cluster with the tag of its lane in each key.
pub(super) fn write_call(batch: &Batch, lane: Option<Lane>, to: &mut Vec<u8>) {
    const BEFORE_KEYS: usize = 3;
    let arguments = batch.arguments();
    let keys = batch.keys();
    let around_key = 8 + lane.map_or(0, |lane| lane.tag().len());
    to.reserve(WORDS + batch.key_bytes() + around_key * keys.len() + arguments.iter().map(Vec::len).sum::<usize>());
    write_count(b'*', BEFORE_KEYS + keys.len() + arguments.len(), to);
    write_word(b"EVALSHA", to);
    write_word(sha1().as_bytes(), to);
    write_word(Decimal::of(keys.len()).digits(), to);
    match lane {
        None => keys.for_each(|key| write_word(key, to)),
        Some(lane) => keys.for_each(|key| write_tagged(key, lane.tag().as_bytes(), to)),
    }
    arguments.iter().for_each(|argument| write_word(argument, to));
}

/// Reads the reply at the front, and how many bytes it takes; `None` if it isn't all here yet.
///
/// # Errors
/// A sentence that says what these bytes are, if they are no reply to anything that was asked.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, String> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < REPLY_BYTES_MAX { Ok(None) } else { Err(odd(bytes)) };
    };
    let (line, after) = (&bytes[..end], end + 2);
    match line.split_first() {
        Some((b'+', text)) => Ok(Some((Reply::Status(text), after))),
        Some((b'-', text)) => Ok(Some((Reply::Error(text), after))),
        Some((b'$', digits)) => {
            let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<usize>().ok());
            let length = length.filter(|length| *length <= REPLY_BYTES_MAX - 16).ok_or_else(|| odd(line))?;
            let Some(rest) = bytes[after..].get(..length + 2) else { return Ok(None) };
            match rest.split_at(length) {
                (text, b"\r\n") => Ok(Some((Reply::String(text), after + length + 2))),
                _ => Err(odd(line)),
            }
        }
        _ => Err(odd(line)),
    }
}

fn odd(bytes: &[u8]) -> String {
    let shown: String = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).escape_debug().collect();
    format!("it answered `{shown}`, which is no reply to what was asked")
}

fn write_count(kind: u8, count: usize, to: &mut Vec<u8>) {
    to.push(kind);
    to.extend_from_slice(Decimal::of(count).digits());
    to.extend_from_slice(b"\r\n");
}

fn write_word(word: &[u8], to: &mut Vec<u8>) {
    write_count(b'$', word.len(), to);
    to.extend_from_slice(word);
    to.extend_from_slice(b"\r\n");
}

/// Writes a key with a tag between its braces.
fn write_tagged(key: &[u8], tag: &[u8], to: &mut Vec<u8>) {
    let (before, after) = halves(key);
    write_count(b'$', key.len() + tag.len(), to);
    to.extend_from_slice(before);
    to.extend_from_slice(tag);
    to.extend_from_slice(after);
    to.extend_from_slice(b"\r\n");
}

/// A number in decimal digits, without a `String`: there is one for each key of a call.
struct Decimal {
    digits: [u8; Decimal::MAX],
    begin: usize,
}

// === impl Decimal ===

impl Decimal {
    /// Digits of the largest `usize`.
    const MAX: usize = 20;

    fn of(mut number: usize) -> Decimal {
        let mut decimal = Decimal { digits: [b'0'; Decimal::MAX], begin: Decimal::MAX };
        loop {
            decimal.begin -= 1;
            decimal.digits[decimal.begin] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    fn digits(&self) -> &[u8] {
        &self.digits[self.begin..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owned(reply: Reply<'_>) -> (u8, Vec<u8>) {
        match reply {
            Reply::String(text) => (b'$', text.to_vec()),
            Reply::Status(text) => (b'+', text.to_vec()),
            Reply::Error(text) => (b'-', text.to_vec()),
        }
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut bytes = Vec::new();
        write_command(&[b"SCRIPT", b"LOAD", b"return\r\n1", b""], &mut bytes);
        assert_eq!(bytes, b"*4\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$9\r\nreturn\r\n1\r\n$0\r\n\r\n");
    }

    #[test]
    fn a_tag_stands_between_the_first_braces() {
        let mut bytes = Vec::new();
        write_tagged(b"p:{}1v{x}", b"ma", &mut bytes);
        assert_eq!(bytes, b"$11\r\np:{ma}1v{x}\r\n");
    }

    #[test]
    fn what_was_never_asked_for_is_no_reply() {
        for bytes in [&b":1\r\n"[..], b"*0\r\n", b"$-1\r\n", b"$x\r\n", b"$99999\r\n", b"\r\n", b"HTTP/1.1 400 Bad\r\n"]
        {
            let error = read(bytes).unwrap_err();
            assert!(error.contains("no reply"), "{error}");
        }
        assert!(read(b"$2\r\nabcd\r\n").is_err(), "longer than it said");
        assert!(read(&vec![b'+'; REPLY_BYTES_MAX]).is_err(), "a line without end");
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_the_library_writes_them(number: usize) {
            let (ours, theirs) = (Decimal::of(number), number.to_string());
            prop_assert_eq!(ours.digits(), theirs.as_bytes());
        }

        #[test]
        fn a_reply_is_read_once_it_is_all_here_and_not_before(
            kind in prop::sample::select(vec![b'+', b'-', b'$']), text in "[ -~]{0,40}", next in "[ -~]{0,9}",
        ) {
            let mut bytes = Vec::new();
            if kind == b'$' { write_word(text.as_bytes(), &mut bytes) } else { bytes = format!("{}{text}\r\n", kind as char).into() }
            let length = bytes.len();
            for cut in 0..length {
                prop_assert_eq!(read(&bytes[..cut]), Ok(None), "{} of {} bytes", cut, length);
            }
            bytes.extend_from_slice(next.as_bytes());
            let (reply, taken) = read(&bytes).unwrap().unwrap();
            prop_assert_eq!((owned(reply), taken), ((kind, text.into_bytes()), length));
        }

        #[test]
        fn no_bytes_are_too_odd_to_be_looked_at(bytes: Vec<u8>) {
            if let Ok(Some((_, taken))) = read(&bytes) {
                prop_assert!(taken <= bytes.len());
            }
        }
    }
}
