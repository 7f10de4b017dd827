//! Matchers of texts, headers and query parameters.
//!
//! Values are bytes, as headers are: a regular expression's `.` matches any of them, and its classes know ASCII only,
//! as in RE2. A header that comes several times matches if any of its values does.

use std::fmt;
use std::ops::Range;

use http::HeaderMap;
use regex::bytes::{Regex, RegexBuilder};

use super::query;
use super::request::{HeaderKey, RequestHead};

/// A regular expression that a whole text must match.
#[derive(Clone)]
pub struct FullRegex {
    source: String,
    compiled: Regex,
}

/// How a text must look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The same text.
    Exact(String),
    /// Begins so; never empty.
    Prefix(String),
    /// Ends so; never empty.
    Suffix(String),
    /// Has it somewhere; never empty.
    Contains(String),
    /// All of it matches.
    Regex(FullRegex),
}

/// A pattern, with or without regard to ASCII case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringMatcher {
    /// How the text must look; in lower case where case doesn't matter.
    pub pattern: Pattern,
    /// Whether case doesn't matter; never with a regular expression.
    pub ignore_case: bool,
}

/// What a header must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderRule {
    /// There (`true`) or absent (`false`).
    Present(bool),
    /// A text that looks so.
    Text(StringMatcher),
    /// A whole number in this range, its end excluded.
    Range(Range<i64>),
}

/// A condition on one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// Which header.
    pub key: HeaderKey,
    /// What it must be.
    pub rule: HeaderRule,
    /// Whether the answer is turned round. A header that is absent still doesn't match, but for `Present`.
    pub invert: bool,
    /// Whether an absent header is judged like an empty one. Envoy's default: no.
    pub treat_missing_as_empty: bool,
}

/// A condition on one query parameter; the first of its name is looked at, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryParameterMatcher {
    /// Which parameter.
    pub name: String,
    /// What it must be.
    pub rule: QueryParameterRule,
}

/// What a query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryParameterRule {
    /// There (`true`) or absent (`false`).
    Present(bool),
    /// There, and its decoded value looks so.
    Text(StringMatcher),
}

// === impl FullRegex ===

impl FullRegex {
    /// Compiles an expression in RE2's syntax, which the `regex` package's is.
    ///
    /// # Errors
    /// When it is none, or one that compiles to more than the package's bound of 10 MiB.
    pub fn new(source: &str) -> Result<FullRegex, regex::Error> {
        // By itself first: an unbalanced parenthesis must not become balanced by ours.
        let compile = |source: &str| RegexBuilder::new(source).unicode(false).build();
        compile(source)?;
        Ok(FullRegex { source: source.to_owned(), compiled: compile(&format!(r"\A(?:{source})\z"))? })
    }

    /// Whether all of the text matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.compiled.is_match(text)
    }
}

impl fmt::Debug for FullRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

impl PartialEq for FullRegex {
    fn eq(&self, other: &FullRegex) -> bool {
        self.source == other.source
    }
}

impl Eq for FullRegex {}

// === impl StringMatcher ===

impl StringMatcher {
    /// A matcher; its pattern is brought into lower case if case doesn't matter.
    #[must_use]
    pub fn new(pattern: Pattern, ignore_case: bool) -> StringMatcher {
        let lower = |text: String| if ignore_case { text.to_ascii_lowercase() } else { text };
        let pattern = match pattern {
            Pattern::Exact(text) => Pattern::Exact(lower(text)),
            Pattern::Prefix(text) => Pattern::Prefix(lower(text)),
            Pattern::Suffix(text) => Pattern::Suffix(lower(text)),
            Pattern::Contains(text) => Pattern::Contains(lower(text)),
            Pattern::Regex(regex) => Pattern::Regex(regex),
        };
        StringMatcher { pattern, ignore_case }
    }

    /// Whether a text matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        if self.ignore_case {
            return self.pattern.matches(&text.to_ascii_lowercase());
        }
        self.pattern.matches(text)
    }
}

// === impl Pattern ===

impl Pattern {
    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Pattern::Exact(pattern) => text == pattern.as_bytes(),
            Pattern::Prefix(pattern) => text.starts_with(pattern.as_bytes()),
            Pattern::Suffix(pattern) => text.ends_with(pattern.as_bytes()),
            Pattern::Contains(pattern) => text.windows(pattern.len().max(1)).any(|part| part == pattern.as_bytes()),
            Pattern::Regex(regex) => regex.matches(text),
        }
    }
}

// === impl HeaderMatcher ===

impl HeaderMatcher {
    /// Whether a request's headers match.
    #[must_use]
    pub fn matches(&self, request: &RequestHead<'_>) -> bool {
        let is_absent = request.first(&self.key).is_none();
        let matches = match &self.rule {
            HeaderRule::Present(present) => (!is_absent || self.treat_missing_as_empty) == *present,
            // The surprise: turning the answer round doesn't make an absent header match.
            HeaderRule::Text(_) | HeaderRule::Range(_) if is_absent && !self.treat_missing_as_empty => return false,
            rule @ (HeaderRule::Text(_) | HeaderRule::Range(_)) if is_absent => rule.matches_value(b""),
            rule @ (HeaderRule::Text(_) | HeaderRule::Range(_)) => {
                request.all(&self.key).any(|value| rule.matches_value(value))
            }
        };
        matches != self.invert
    }
}

/// Whether every matcher matches.
#[must_use]
pub fn headers_match(matchers: &[HeaderMatcher], request: &RequestHead<'_>) -> bool {
    matchers.iter().all(|matcher| matcher.matches(request))
}

/// Whether any matcher matches the headers of an answer, which has no pseudo-headers that could be looked at.
#[must_use]
pub fn any_header_matches(matchers: &[HeaderMatcher], answer: &HeaderMap) -> bool {
    let head = RequestHead { method: "", scheme: "", authority: "", path: "", headers: answer };
    matchers.iter().any(|matcher| matcher.matches(&head))
}

// === impl HeaderRule ===

impl HeaderRule {
    fn matches_value(&self, value: &[u8]) -> bool {
        match self {
            HeaderRule::Present(present) => *present,
            HeaderRule::Text(matcher) => matcher.matches(value),
            HeaderRule::Range(range) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
                number.is_some_and(|number| range.contains(&number))
            }
        }
    }
}

// === impl QueryParameterMatcher ===

impl QueryParameterMatcher {
    /// Whether a route's condition holds: names and values are compared as they came, undecoded.
    #[must_use]
    pub fn matches_raw(&self, request: &RequestHead<'_>) -> bool {
        self.rule.matches(query::first_raw(request.query(), &self.name).map(str::as_bytes))
    }

    /// Whether a rate limit action's condition holds: names and values are compared decoded.
    #[must_use]
    pub fn matches_decoded(&self, request: &RequestHead<'_>) -> bool {
        self.rule.matches(query::first_decoded(request.query(), &self.name).as_deref())
    }
}

// === impl QueryParameterRule ===

impl QueryParameterRule {
    fn matches(&self, value: Option<&[u8]>) -> bool {
        match self {
            QueryParameterRule::Present(present) => value.is_some() == *present,
            QueryParameterRule::Text(matcher) => value.is_some_and(|value| matcher.matches(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn text(pattern: Pattern) -> HeaderRule {
        HeaderRule::Text(StringMatcher::new(pattern, false))
    }

    fn exact(text: &str) -> Pattern {
        Pattern::Exact(text.to_owned())
    }

    /// Whether a rule for `x` matches a request with these values of it.
    fn header(rule: HeaderRule, invert: bool, treat_missing_as_empty: bool, values: &[&[u8]]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::from_static("x"), HeaderValue::from_bytes(value).unwrap());
        }
        let key = HeaderKey::from_name("X").unwrap();
        let request = RequestHead { method: "GET", scheme: "http", authority: "shop", path: "/", headers: &headers };
        HeaderMatcher { key, rule, invert, treat_missing_as_empty }.matches(&request)
    }

    #[test]
    fn an_absent_header_matches_only_where_absence_is_asked_for() {
        for (rule, invert, treat_missing_as_empty, matches) in [
            (HeaderRule::Present(true), false, false, false),
            (HeaderRule::Present(true), false, true, true),
            (HeaderRule::Present(false), false, false, true),
            (HeaderRule::Present(false), false, true, false),
            (HeaderRule::Present(true), true, false, true),
            (HeaderRule::Present(true), true, true, false),
            (text(exact("a")), false, false, false),
            (text(exact("a")), true, false, false),
            (text(exact("a")), true, true, true),
            (text(exact("")), false, true, true),
            (HeaderRule::Range(0..5), true, false, false),
        ] {
            let told = format!("{rule:?} invert {invert} treat {treat_missing_as_empty}");
            assert_eq!(header(rule, invert, treat_missing_as_empty, &[]), matches, "{told}");
        }
    }

    #[test]
    fn any_of_several_values_is_enough_and_turned_round_none_may_match() {
        for (rule, invert, values, matches) in [
            (text(exact("b")), false, ["a", "b"], true),
            (text(exact("a,b")), false, ["a", "b"], false),
            (text(exact("a")), true, ["a", "b"], false),
            (text(exact("a")), true, ["c", "b"], true),
            (HeaderRule::Range(1..2), true, ["1", "2"], false),
            (HeaderRule::Range(1..2), true, ["7", "8"], true),
            (HeaderRule::Present(true), true, ["a", "b"], false),
        ] {
            let told = format!("{rule:?} {invert} {values:?}");
            assert_eq!(header(rule, invert, false, &values.map(str::as_bytes)), matches, "{told}");
        }
    }

    #[test]
    fn a_range_is_of_whole_numbers_and_leaves_its_end_out() {
        for (value, matches) in [("-5", true), ("4", true), ("5", false), ("+3", true), ("3.0", false), ("x", false)] {
            assert_eq!(header(HeaderRule::Range(-5..5), false, false, &[value.as_bytes()]), matches, "{value}");
        }
    }

    #[test]
    fn a_text_is_matched_as_a_whole_or_in_part() {
        let matcher = |pattern: Pattern, ignore_case| StringMatcher::new(pattern, ignore_case);
        let regex = |source: &str| Pattern::Regex(FullRegex::new(source).unwrap());
        for (matcher, value, matches) in [
            (matcher(exact("aBc"), true), "AbC", true),
            (matcher(exact("aBc"), false), "abc", false),
            (matcher(Pattern::Prefix("/a".to_owned()), false), "/ab", true),
            (matcher(Pattern::Suffix("B".to_owned()), true), "/ab", true),
            (matcher(Pattern::Contains("b".to_owned()), false), "abc", true),
            (matcher(Pattern::Contains("abcd".to_owned()), false), "abc", false),
            (matcher(regex("a|ab"), false), "ab", true),
            (matcher(regex("a"), false), "ab", false),
            (matcher(regex("(?i)A.c"), false), "abC", true),
            (matcher(regex("a$"), false), "a\n", false),
        ] {
            assert_eq!(matcher.matches(value.as_bytes()), matches, "{matcher:?} {value}");
        }
        assert!(header(text(regex("caf.*")), false, false, &[b"caf\xe9"]), "a dot matches any byte");
        assert!(FullRegex::new("a)|(b").is_err(), "our own parentheses balance nothing");
    }

    #[test]
    fn a_routes_query_is_undecoded_and_an_actions_decoded() {
        let headers = HeaderMap::new();
        let rule = QueryParameterRule::Text(StringMatcher::new(exact("a b"), false));
        let matcher = QueryParameterMatcher { name: "q".to_owned(), rule };
        let request =
            RequestHead { method: "GET", scheme: "http", authority: "", path: "/?q=a%20b", headers: &headers };
        assert!(matcher.matches_decoded(&request) && !matcher.matches_raw(&request));
    }

    proptest! {
        #[test]
        fn no_expression_makes_the_compiler_panic(source in r"(\(|\)|\[|\]|\*|\\|\{|\}|[a-z0-9?+|^$.,-]){0,20}") {
            if let Ok(regex) = FullRegex::new(&source) {
                let _matched: bool = regex.matches(source.as_bytes());
            }
        }

        #[test]
        fn a_text_without_signs_matches_itself_alone(source in "[a-z0-9]{0,10}", other in "[a-z0-9]{0,10}") {
            let regex = FullRegex::new(&source).unwrap();
            prop_assert!(regex.matches(source.as_bytes()));
            prop_assert_eq!(regex.matches(other.as_bytes()), other == source);
        }
    }
}
