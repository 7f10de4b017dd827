//! Names rewritten before they are sent, so that parts of a name become tags: what the reference service calls mogrifiers.
//!
//! ```text
//! ^ratelimit\.service\.rate_limit\.([^.]+)\.(.+)\.(\w+)$ => ratelimit.$3 => domain:$1,rule:$2
//!
//! ratelimit.service.rate_limit.shop.user.over_limit:7|c     becomes     ratelimit.over_limit:7|c|#domain:shop,rule:user
//! ```
//!
//! The first pattern that matches a name, anywhere in it, rewrites the whole; `$1` is what its first group matched, `$0`
//! the match. A name that would become too long for its packet is sent as it is.

use std::fmt::Write;

use regex::{Captures, Regex, RegexBuilder};

use super::line::{TAGS_BYTES_MAX, clean};
use crate::metrics::dotted::NAME_BYTES_MAX;

/// A pattern, and what becomes of the names that match it.
#[derive(Clone, Debug)]
pub struct Rewrite {
    pattern: Regex,
    name: String,
    tags: Vec<(String, String)>,
}

/// A name that was rewritten, and its own tags.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) name: String,
    /// Names and values, in which nothing ends a tag or a line.
    pub(super) tags: Vec<(String, String)>,
}

/// What stands between pattern, name and tags.
pub const ARROW: &str = " => ";

/// Most memory of a compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;

// === impl Rewrite ===

impl Rewrite {
    /// Reads `pattern => name`, or `pattern => name => tag:value,tag:value`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Rewrite, String> {
        let mut parts = text.split(ARROW);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(pattern), Some(name), tags, None) => Rewrite::new(pattern, name, tags.unwrap_or_default()),
            _ => Err("a pattern, a name and perhaps tags, as in ^a\\.(.*)$ => b => tag:$1".to_owned()),
        }
    }

    /// From its parts.
    ///
    /// # Errors
    /// What would be right.
    pub fn new(pattern: &str, name: &str, tags: &str) -> Result<Rewrite, String> {
        if pattern.is_empty() {
            return Err("with a regular expression for its pattern, such as ^a\\.(.*)$".to_owned());
        }
        let pattern = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| {
            let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            format!("with a regular expression for its pattern ({reason})")
        })?;
        if name.is_empty() || name.contains(['|', ':', '#', '@']) || name.contains(char::is_control) {
            return Err("with a name of at least one character and without : | # @".to_owned());
        }
        let tag = |part: &str| {
            let (tag, value) = part.split_once(':')?;
            (!tag.is_empty() && !value.is_empty()).then(|| (tag.to_owned(), value.to_owned()))
        };
        let tags = if tags.is_empty() { Some(Vec::new()) } else { tags.split(',').map(tag).collect() };
        let tags = tags.ok_or("with tags such as zone:a,rule:$1, none of them empty")?;
        Ok(Rewrite { pattern, name: name.to_owned(), tags })
    }

    /// Whether a name is to be rewritten by this one and no later one.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.pattern.is_match(name)
    }

    /// What becomes of a name; `None` if the pattern doesn't match it, or it would not fit.
    pub(super) fn apply(&self, name: &str) -> Option<Rewritten> {
        let captures = self.pattern.captures(name)?;
        let name = filled(&self.name, &captures);
        let tag = |(tag, value): &(String, String)| (clean(&filled(tag, &captures)), clean(&filled(value, &captures)));
        let tags: Vec<_> = self.tags.iter().map(tag).collect();
        // The tags of every metric have their own room in a packet.
        let bytes: usize = tags.iter().map(|(tag, value)| tag.len() + value.len() + MARKS).sum();
        (!name.is_empty() && name.len() + bytes <= NAME_BYTES_MAX).then_some(Rewritten { name, tags })
    }
}

/// Most bytes around a tag.
const MARKS: usize = 4;

// A rewritten name takes the place of one, and leaves the others' tags theirs.
const _: () = assert!(TAGS_BYTES_MAX < NAME_BYTES_MAX);

impl PartialEq for Rewrite {
    fn eq(&self, other: &Rewrite) -> bool {
        self.pattern.as_str() == other.pattern.as_str() && self.name == other.name && self.tags == other.tags
    }
}

impl Eq for Rewrite {}

/// The template with what each group matched for its `$1` or `${1}`; nothing for a group that isn't there.
fn filled(template: &str, captures: &Captures<'_>) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let braced =
            rest.strip_prefix('{').filter(|inner| digits(inner) > 0 && inner[digits(inner)..].starts_with('}'));
        let (number, after) = match braced {
            Some(inner) => (&inner[..digits(inner)], &inner[digits(inner) + 1..]),
            None => rest.split_at(digits(rest)),
        };
        match number.parse::<usize>() {
            Ok(group) => text.push_str(captures.get(group).map_or("", |found| found.as_str())),
            Err(_) if number.is_empty() => text.push('$'),
            // More digits than any group has.
            Err(_) => {}
        }
        rest = after;
    }
    write!(text, "{rest}").expect("memory takes any text");
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: &str = r"^ratelimit\.service\.rate_limit\.([^.]+)\.(.+)\.(\w+)$ => ratelimit.$3 => domain:$1,rule:$2";

    fn rewritten(rewrite: &str, name: &str) -> Option<(String, Vec<(String, String)>)> {
        Rewrite::parse(rewrite).unwrap().apply(name).map(|rewritten| (rewritten.name, rewritten.tags))
    }

    #[test]
    fn parts_of_a_name_become_tags() {
        let tag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            rewritten(RULES, "ratelimit.service.rate_limit.shop.user.path_/cart.over_limit"),
            Some(("ratelimit.over_limit".to_owned(), vec![tag("domain", "shop"), tag("rule", "user_path_/cart")]))
        );
        assert_eq!(rewritten(RULES, "ratelimit_server.Check.total_requests"), None);
        assert_eq!(rewritten("b(.) => $0-${1}x$1y$9$", "abcd"), Some(("bc-cxcy$".to_owned(), vec![])));
    }

    #[test]
    fn what_would_not_fit_a_packet_is_left_as_it_is() {
        let long = format!("a.{}", "x".repeat(NAME_BYTES_MAX - 2));
        assert!(rewritten("^a.(.*)$ => b.$1", &long).is_some());
        assert_eq!(rewritten("^a.(.*)$ => b.$1 => c:d", &long), None);
        assert_eq!(rewritten("^a(q?) => $1", "a"), None, "a name that would be nothing");
    }

    #[test]
    fn each_mistake_says_what_would_be_right() {
        for (text, right) in [
            ("", "a pattern, a name"),
            ("a => b => c:d => e", "a pattern, a name"),
            (" => b", "regular expression"),
            ("( => b", "regular expression"),
            ("a => b|c", "a name"),
            ("a =>  => c:d", "a name"),
            ("a => b => c", "tags such as"),
            ("a => b => c:", "tags such as"),
            ("a => b => :d", "tags such as"),
            ("a => b => c:d,", "tags such as"),
        ] {
            let error = Rewrite::parse(text).unwrap_err();
            assert!(error.contains(right), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_rewritten_ends_its_line_or_its_tag(value in "[ -~\n]{0,40}", template in "[a-z$0-9{}]{1,9}") {
            let rewrite = Rewrite::new("^(.*)_([^_]*)$", "n$1", &format!("t:$2,u:{template}")).unwrap();
            let name = format!("a_{}", value.replace(['\n', ':', '|'], "_"));
            if let Some(Rewritten { tags, .. }) = rewrite.apply(&name) {
                for (tag, value) in tags {
                    prop_assert!(!tag.contains([':', '|', ',', '#', '\n']) && !value.contains([':', '|', ',', '#', '\n']));
                }
            }
        }
    }
}
