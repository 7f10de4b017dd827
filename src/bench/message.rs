//! The message that every call of a run sends: a RateLimitRequest encoded once, and the places where the digits of
//! its values stand.
//!
//! Descriptor 1 has the single entry (NAME, value), descriptor 2 (NAME2, value), and so on. Written by hand and not
//! by prost, because the places of the values must be known; a test holds the two equal.

use super::keys::KeyChoice;

/// Most descriptors of a call.
pub const DESCRIPTORS_MAX: usize = 100;

/// Bytes of the longest message: a call is always one DATA frame, also at a server that allows the smallest ones.
pub const MESSAGE_MAX: usize = 16_000;

/// What stands for the value of the hot key.
const HOT: &str = "hot";

/// What a call asks, but for the numbers of its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The domain.
    pub domain: String,
    /// The key of the first descriptor's entry; later ones have their number behind it.
    pub key: String,
    /// From 1 to [`DESCRIPTORS_MAX`].
    pub descriptors: usize,
    /// Hits of each call; at least 1.
    pub hits: u32,
    /// The values.
    pub keys: KeyChoice,
}

/// The encoded question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    /// Where each descriptor's digits start.
    places: Vec<usize>,
    digits: usize,
}

/// The message would be longer than [`MESSAGE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a call would have {bytes} bytes, at most {MESSAGE_MAX} are allowed: take fewer --descriptors, a shorter --key or --domain"
)]
pub struct TooLong {
    bytes: usize,
}

// === impl Message ===

impl Message {
    /// Encodes a question.
    ///
    /// # Errors
    /// When that takes more than [`MESSAGE_MAX`] bytes.
    pub fn new(question: &Question) -> Result<Message, TooLong> {
        let digits = question.keys.digits();
        let value = if digits == 0 { HOT.to_owned() } else { "0".repeat(digits) };
        let mut message = Message { bytes: Vec::new(), places: Vec::new(), digits };
        push_field(&mut message.bytes, 1, question.domain.as_bytes());
        for number in 1..=question.descriptors {
            let key = if number == 1 { question.key.clone() } else { format!("{}{number}", question.key) };
            let (mut entry, mut descriptor) = (Vec::new(), Vec::new());
            push_field(&mut entry, 1, key.as_bytes());
            push_field(&mut entry, 2, value.as_bytes());
            push_field(&mut descriptor, 1, &entry);
            push_field(&mut message.bytes, 2, &descriptor);
            // The value is the last that stands in its descriptor.
            message.places.push(message.bytes.len() - value.len());
        }
        // Field 3, a varint. One hit is what a server takes when the field is absent, as Envoy sends it.
        if question.hits != 1 {
            message.bytes.push(3 << 3);
            push_varint(&mut message.bytes, question.hits as usize);
        }
        match message.bytes.len() {
            bytes if bytes > MESSAGE_MAX => Err(TooLong { bytes }),
            _ => Ok(message),
        }
    }

    /// The encoded bytes; at most [`MESSAGE_MAX`].
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the number of each descriptor's key into a copy of the message, or into the first of the descriptors if
    /// there are fewer numbers.
    pub fn patch(&self, copy: &mut [u8], numbers: &[u64]) {
        for (place, number) in self.places.iter().zip(numbers) {
            let mut rest = *number;
            for digit in copy[*place..*place + self.digits].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

/// Appends a length-delimited field of protobuf.
fn push_field(bytes: &mut Vec<u8>, number: u8, value: &[u8]) {
    bytes.push(number << 3 | 2);
    push_varint(bytes, value.len());
    bytes.extend_from_slice(value);
}

fn push_varint(bytes: &mut Vec<u8>, value: usize) {
    let mut rest = value;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::proto::envoy::service::ratelimit::v3::RateLimitRequest;

    proptest! {
        #[test]
        fn a_server_reads_what_the_question_says(
            domain in ".{0,200}",
            key in "[a-z]{1,100}",
            count in 1..1_000_000_u64,
            hits in 1..u32::MAX,
            numbers in prop::collection::vec(0..1_000_000_u64, 1..40),
        ) {
            let keys = KeyChoice::Uniform { count };
            let numbers: Vec<u64> = numbers.into_iter().map(|number| number % count).collect();
            let question = Question { domain, key, descriptors: numbers.len(), hits, keys };
            let message = Message::new(&question).unwrap();
            let mut bytes = message.bytes().to_vec();
            message.patch(&mut bytes, &numbers);
            let read = RateLimitRequest::decode(&*bytes).unwrap();
            prop_assert_eq!(read.domain, question.domain);
            prop_assert_eq!(read.hits_addend.max(1), hits);
            prop_assert_eq!(read.descriptors.len(), numbers.len());
            for (index, (descriptor, number)) in read.descriptors.iter().zip(&numbers).enumerate() {
                let [entry] = &descriptor.entries[..] else { panic!("one entry each") };
                let name = if index == 0 { question.key.clone() } else { format!("{}{}", question.key, index + 1) };
                prop_assert_eq!(&entry.key, &name);
                prop_assert_eq!(&entry.value, &format!("{number:0width$}", width = keys.digits()));
            }
        }
    }

    #[test]
    fn the_hot_key_is_a_word() {
        let question = Question { domain: "d".into(), key: "k".into(), descriptors: 1, hits: 1, keys: KeyChoice::Hot };
        let message = Message::new(&question).unwrap();
        let mut bytes = message.bytes().to_vec();
        message.patch(&mut bytes, &[5]);
        let read = RateLimitRequest::decode(&*bytes).unwrap();
        assert_eq!(read.descriptors[0].entries[0].value, "hot");
    }

    #[test]
    fn a_message_too_long_is_refused_with_what_to_change() {
        let question =
            Question { domain: "d".into(), key: "k".repeat(200), descriptors: 100, hits: 1, keys: KeyChoice::Hot };
        assert!(Message::new(&question).unwrap_err().to_string().contains("--descriptors"));
    }
}
