//! From words on a command line to a request.

use pbjson_types::UInt64Value;

use crate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use crate::proto::envoy::service::ratelimit::v3::RateLimitRequest;

/// The request; where `mistakes` has grown it must not be sent. `entries` are a descriptor, if there are any, and each
/// of `others` is one more.
///
/// Hits stand in the descriptors: a 0 in the request itself would mean 1.
pub(super) fn request(
    domain: &str,
    entries: &[String],
    others: &[String],
    hits: u32,
    mistakes: &mut Vec<String>,
) -> RateLimitRequest {
    let first = (!entries.is_empty()).then(|| entries.iter().map(String::as_str).collect::<Vec<_>>());
    let all = first.into_iter().chain(others.iter().map(|other| other.split(',').collect()));
    let hits_addend = Some(UInt64Value { value: u64::from(hits) });
    let descriptors = all
        .map(|words| RateLimitDescriptor {
            entries: words.into_iter().filter_map(|word| entry(word, mistakes)).collect(),
            hits_addend,
            ..RateLimitDescriptor::default()
        })
        .collect();
    if domain.is_empty() {
        mistakes.push("--domain \"\" must be the name of a domain".to_owned());
    }
    RateLimitRequest { domain: domain.to_owned(), descriptors, hits_addend: 0 }
}

/// `key=value`; a value may hold more of `=`.
fn entry(word: &str, mistakes: &mut Vec<String>) -> Option<Entry> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Some(Entry { key: key.to_owned(), value: value.to_owned() }),
        _ => {
            mistakes.push(format!("{word:?} must be key=value; an empty value is written key="));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(entries: &[&str], others: &[&str]) -> (Vec<Vec<(String, String)>>, Vec<String>) {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut mistakes = Vec::new();
        let request = request("shop", &owned(entries), &owned(others), 1, &mut mistakes);
        let entries = |descriptor: RateLimitDescriptor| {
            descriptor.entries.into_iter().map(|Entry { key, value }| (key, value)).collect()
        };
        (request.descriptors.into_iter().map(entries).collect(), mistakes)
    }

    #[test]
    fn words_alone_are_one_descriptor_and_each_option_is_one_more() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let (descriptors, mistakes) = asked(&["user=ada", "path=/a,b?c=d"], &["user=bob,path=", "user=eve"]);
        assert_eq!(
            descriptors,
            [
                vec![pair("user", "ada"), pair("path", "/a,b?c=d")],
                vec![pair("user", "bob"), pair("path", "")],
                vec![pair("user", "eve")]
            ]
        );
        assert_eq!(mistakes, [""; 0]);
        assert_eq!(asked(&[], &["user=bob"]).0.len(), 1);
    }

    #[test]
    fn every_word_that_is_no_entry_is_told() {
        let (_, mistakes) = asked(&["user", "=x"], &["", "a=b,c"]);
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
        assert!(mistakes[0].starts_with("\"user\" must be key=value"));
    }
}
