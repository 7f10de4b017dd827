//! Query strings: pairs between ampersands, a name and a value on either side of the first equals sign.
//!
//! Routes compare them as they came; rate limit actions decode `%20` first, and leave `+` alone. Of several of one name
//! the first counts.

use std::borrow::Cow;

/// The first value of a name, neither decoded; empty if there is no equals sign.
#[must_use]
pub fn first_raw<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    pairs(query).find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// The first value of a name, both decoded.
#[must_use]
pub fn first_decoded<'q>(query: &'q str, name: &str) -> Option<Cow<'q, [u8]>> {
    pairs(query).find(|(found, _)| *decode(found) == *name.as_bytes()).map(|(_, value)| decode(value))
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The bytes that a text stands for; a per cent sign without two digits behind it stands for itself.
fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_of_a_name_counts() {
        for (query, value) in [
            ("a=1&a=2", Some("1")),
            ("b&a=1", Some("1")),
            ("a", Some("")),
            ("a=", Some("")),
            ("a=b=c", Some("b=c")),
            ("&&a=1&", Some("1")),
            ("%61=1", None),
            ("b=a", None),
            ("", None),
        ] {
            assert_eq!(first_raw(query, "a"), value, "{query}");
        }
    }

    #[test]
    fn decoding_knows_two_digits_and_nothing_else() {
        for (query, value) in
            [("%61=1%20b", "1 b"), ("a=1+b", "1+b"), ("a=100%", "100%"), ("a=%zz%4", "%zz%4"), ("a=%C3%A9", "é")]
        {
            assert_eq!(first_decoded(query, "a").as_deref(), Some(value.as_bytes()), "{query}");
        }
    }

    proptest! {
        #[test]
        fn encoding_everything_and_decoding_gives_the_value_back(value: Vec<u8>) {
            let encoded: String = value.iter().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(first_decoded(&format!("a={encoded}"), "a").unwrap().into_owned(), value);
        }

        #[test]
        fn no_query_makes_it_panic(query in "(&|=|%|[a-f0-9]|.){0,40}", name in ".{0,3}") {
            prop_assert!(first_raw(&query, &name).is_none_or(|value| value.len() <= query.len()));
            prop_assert!(first_decoded(&query, &name).is_none_or(|value| value.len() <= query.len()));
        }
    }
}
