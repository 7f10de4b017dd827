//! Matchers.

use super::super::object::Object;
use super::super::value::Value;
use super::expression::differs_from_re2;
use crate::proxy::matching::{
    FullRegex, HeaderMatcher, HeaderRule, Pattern, QueryParameterMatcher, QueryParameterRule, StringMatcher,
};
use crate::proxy::request::HeaderKey;
use crate::proxy::rewrite::{RegexRewrite, RewriteError};

/// `HeaderMatcher`; a text may stand in `string_match` or in the older fields beside it.
pub(super) fn header(value: &Value<'_>) -> Option<HeaderMatcher> {
    const RULES: [&str; 8] = [
        "string_match",
        "present_match",
        "range_match",
        "exact_match",
        "prefix_match",
        "suffix_match",
        "contains_match",
        "safe_regex_match",
    ];
    value.object(|matcher| {
        let key = header_key(matcher, "name");
        let rule = match matcher.one_of(&RULES) {
            None => Some(HeaderRule::Present(true)),
            Some(("present_match", value)) => value.boolean().map(HeaderRule::Present),
            Some(("range_match", value)) => value.object(|range| {
                let mut bound = |name| range.get(name).map_or(Some(0), |value| value.integer(i64::MIN..=i64::MAX));
                HeaderRule::Range(bound("start").unwrap_or_default()..bound("end").unwrap_or_default())
            }),
            Some(("string_match", value)) => string(&value).map(HeaderRule::Text),
            Some((older, value)) => {
                pattern(older, &value).map(|pattern| HeaderRule::Text(StringMatcher { pattern, ignore_case: false }))
            }
        };
        let invert = matcher.boolean("invert_match", false);
        let treat_missing_as_empty = matcher.boolean("treat_missing_header_as_empty", false);
        Some(HeaderMatcher { key: key?, rule: rule?, invert, treat_missing_as_empty })
    })?
}

/// The name of a header or pseudo-header.
pub(super) fn header_key(object: &mut Object<'_>, name: &'static str) -> Option<HeaderKey> {
    let value = object.required(name)?;
    let text = value.word()?;
    let key = HeaderKey::from_name(text);
    if key.is_none() {
        value.mistake(format!("'{text}' is no header's name"));
    }
    key
}

/// `QueryParameterMatcher`
pub(super) fn query_parameter(value: &Value<'_>) -> Option<QueryParameterMatcher> {
    value.object(|matcher| {
        let name = matcher.required_text("name");
        let rule = match matcher.one_of(&["string_match", "present_match"]) {
            None => Some(QueryParameterRule::Present(true)),
            Some(("present_match", value)) => value.boolean().map(QueryParameterRule::Present),
            Some((_, value)) => string(&value).map(QueryParameterRule::Text),
        };
        Some(QueryParameterMatcher { name, rule: rule? })
    })?
}

/// `StringMatcher`
fn string(value: &Value<'_>) -> Option<StringMatcher> {
    value.object(|matcher| {
        let ignore_case = matcher.boolean("ignore_case", false);
        let (kind, value) = matcher.required_one_of(&["exact", "prefix", "suffix", "contains", "safe_regex"])?;
        let pattern = pattern(kind, &value)?;
        if ignore_case && matches!(pattern, Pattern::Regex(_)) {
            value.mistake("ignore_case has no effect on a regular expression; begin it with (?i)");
        }
        Some(StringMatcher::new(pattern, ignore_case))
    })?
}

/// A pattern of the kind that its field says, with or without `_match` behind it.
fn pattern(kind: &str, value: &Value<'_>) -> Option<Pattern> {
    let word = || value.word().map(str::to_owned);
    match kind.trim_end_matches("_match") {
        "exact" => value.text().map(|text| Pattern::Exact(text.to_owned())),
        "prefix" => word().map(Pattern::Prefix),
        "suffix" => word().map(Pattern::Suffix),
        "contains" => word().map(Pattern::Contains),
        _ => regex(value).map(Pattern::Regex),
    }
}

/// `RegexMatcher`
pub(super) fn regex(value: &Value<'_>) -> Option<FullRegex> {
    let value = expression(value)?;
    match FullRegex::new(value.word()?) {
        Ok(regex) => Some(regex),
        Err(error) => {
            no_expression(&value, &error);
            None
        }
    }
}

/// `RegexMatchAndSubstitute`
pub(super) fn regex_rewrite(value: &Value<'_>) -> Option<RegexRewrite> {
    value.object(|rewrite| {
        let pattern = rewrite.required("pattern").and_then(|value| expression(&value));
        let substitution = rewrite.get("substitution");
        let text = match &substitution {
            Some(substitution) => substitution.text()?,
            None => "",
        };
        let pattern = pattern?;
        match RegexRewrite::new(pattern.word()?, text) {
            Ok(rewrite) => return Some(rewrite),
            Err(RewriteError::Pattern(error)) => no_expression(&pattern, &error),
            Err(error) => substitution.as_ref().unwrap_or(value).mistake(error.to_string()),
        }
        None
    })?
}

/// `regex` of a `RegexMatcher`.
fn expression<'n>(value: &Value<'n>) -> Option<Value<'n>> {
    let regex = value.object(|matcher| {
        // The only engine, and it needs no saying.
        matcher.object("google_re2", |_| ());
        matcher.required("regex")
    })??;
    if let Some(difference) = differs_from_re2(regex.word()?) {
        regex.mistake(difference);
        return None;
    }
    Some(regex)
}

fn no_expression(value: &Value<'_>, error: &regex::Error) {
    // The package prints the expression and a mark below it; a log line has one line.
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    value.mistake(format!("is no regular expression: {reason}"));
}
