//! What can be said of PromQL without a Prometheus: whether label matchers are such, and whether a query's brackets and
//! quotes close and its window is there.
//!
//! The whole grammar isn't checked here. The parsers that exist as packages bring thirty others along, one of them
//! given up, for what the server itself says better when it is asked; this finds what people mistype and what no server
//! can know, that `$window` is missing.

/// What stands for the window's length in the operator's own queries.
pub const WINDOW_VARIABLE: &str = "$window";

/// Longest query or list of matchers, in bytes.
pub(super) const TEXT_MAX: usize = 8_192;

/// Why a text is no PromQL, or can't be used.
type Wrong = String;

/// Checks label matchers as they stand between braces: `method="GET", code!~"4.."`.
pub(super) fn check_matchers(text: &str) -> Result<(), Wrong> {
    const RIGHT: &str = "write label matchers as between braces, such as app=\"inventory\", code!~\"4..\"";
    check_length(text)?;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let name_length = rest.len() - rest.trim_start_matches(is_label_letter).len();
        let (name, after) = rest.split_at(name_length);
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| after.trim_start().starts_with(operator));
        let Some(operator) = operator.filter(|_| !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()))
        else {
            return Err(format!("no label and operator before '{}'; {RIGHT}", beginning(rest)));
        };
        let value = after.trim_start()[operator.len()..].trim_start();
        let Some(end) = quoted_length(value) else {
            return Err(format!("the value of {name} isn't in quotes that close; {RIGHT}"));
        };
        rest = value[end..].trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => {}
            None => return Err(format!("no comma before '{}'; {RIGHT}", beginning(rest))),
        }
    }
    Ok(())
}

/// Checks the name of a metric.
pub(super) fn check_metric(name: &str) -> Result<(), Wrong> {
    check_length(name)?;
    let is_letter = |letter: char| is_label_letter(letter) || letter == ':';
    if name.starts_with(|letter: char| letter.is_ascii_digit()) || !name.chars().all(is_letter) {
        let right = "letters, digits, _ and :, such as http_request_duration_seconds";
        return Err(format!("'{}' is no name of a metric: {right}", beginning(name)));
    }
    for ending in ["_bucket", "_count", "_sum"] {
        if let Some(base) = name.strip_suffix(ending) {
            return Err(format!("a histogram is named without its ending: write {}", beginning(base)));
        }
    }
    Ok(())
}

/// Checks a query of the operator's own.
pub(super) fn check_query(text: &str) -> Result<(), Wrong> {
    check_length(text)?;
    let mut open: Vec<char> = Vec::new();
    let mut has_window = false;
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        let rest = &text[at..];
        match letter {
            '"' | '\'' | '`' => {
                let Some(end) = quoted_length(rest) else {
                    return Err(format!("a quote that doesn't close: {}", beginning(rest)));
                };
                at += end;
                continue;
            }
            '#' => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            '(' | '[' | '{' => open.push(letter),
            ')' | ']' | '}' => {
                let opening = match letter {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                if open.pop() != Some(opening) {
                    return Err(format!("a {letter} that closes nothing: {}", beginning(rest)));
                }
            }
            '$' if rest.starts_with(WINDOW_VARIABLE) => match open.last() {
                Some('[') => has_window = true,
                _ => {
                    return Err(format!(
                        "{WINDOW_VARIABLE} is a length of time: write it in brackets, [{WINDOW_VARIABLE}]"
                    ));
                }
            },
            '$' => return Err(format!("the only variable is {WINDOW_VARIABLE}, and here is '{}'", beginning(rest))),
            _ => {}
        }
        at += letter.len_utf8();
    }
    if let Some(bracket) = open.last() {
        return Err(format!("a {bracket} that nothing closes"));
    }
    if !has_window {
        let example = format!("sum(increase(requests_total[{WINDOW_VARIABLE}]))");
        return Err(format!("the query lacks {WINDOW_VARIABLE}, for which the window's length is put in: {example}"));
    }
    Ok(())
}

/// The selector that a query's first window belongs to, such as `requests_total{app="a"}`; `None` where the window is
/// another expression's.
#[must_use]
pub fn windowed_selector(query: &str) -> Option<&str> {
    let at = query.find(&format!("[{WINDOW_VARIABLE}]"))?;
    let before = query[..at].trim_end();
    let name_end = match before.strip_suffix('}') {
        None => before.len(),
        // The last brace that is no part of a label's value opens the matchers.
        Some(_) => (0..before.len())
            .rev()
            .filter(|at| before.as_bytes()[*at] == b'{')
            .find(|at| check_matchers(&before[at + 1..before.len() - 1]).is_ok())?,
    };
    let is_letter = |letter: char| is_label_letter(letter) || letter == ':';
    let name = before[..name_end].trim_end();
    let start = name.len() - name.chars().rev().take_while(|letter| is_letter(*letter)).count();
    let is_metric = name[start..].starts_with(|letter: char| is_letter(letter) && !letter.is_ascii_digit());
    (is_metric || name_end < before.len()).then(|| &before[start..])
}

fn check_length(text: &str) -> Result<(), Wrong> {
    if text.len() > TEXT_MAX {
        return Err(format!(
            "{} bytes; at most {TEXT_MAX} are sent: put the long part into a recording rule",
            text.len()
        ));
    }
    Ok(())
}

/// The length of the quoted text that `text` begins with, both quotes included.
fn quoted_length(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|letter| ['"', '\'', '`'].contains(letter))?;
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            // A line end closes nothing but stands only between backquotes, where nothing is escaped either.
            '\n' if quote != '`' => return None,
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            letter if letter == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn is_label_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// As much of a text as tells where in it something is.
fn beginning(text: &str) -> String {
    const LETTERS: usize = 24;
    match text.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matchers_are_labels_operators_and_quoted_values() {
        for right in ["", r#"a="b""#, r#"a = "b" , c!~'4..',"#, r#"_x=~`\d`"#, r#"a="\"}""#, "a=\"ö\""] {
            assert_eq!(check_matchers(right), Ok(()), "{right}");
        }
        for wrong in [
            "a",
            "a=",
            "a=b",
            r#"a="b"#,
            r#"a="b" c="d""#,
            r#"1a="b""#,
            r#"="b""#,
            r#"{a="b"}"#,
            "a=\"b\\\"",
            "a==\"b\"",
        ] {
            assert!(check_matchers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_query_closes_what_it_opens_and_has_its_window_in_brackets() {
        for right in [
            "sum(increase(a[$window]))",
            r#"sum(increase(a{b="]$x("}[$window]))"#,
            "sum(increase(a[$window])) # half of ( it",
            "rate(a[$window]) * 5",
        ] {
            assert_eq!(check_query(right), Ok(()), "{right}");
        }
        for (wrong, part) in [
            ("sum(increase(a[5m]))", "lacks $window"),
            ("sum(increase(a[$window])", "a ( that nothing closes"),
            ("sum(a[$window]))", "a ) that closes nothing"),
            ("sum(a[$window)]", "a ) that closes nothing"),
            (r#"a{b="c}[$window]"#, "a quote that doesn't close"),
            ("a * $window", "write it in brackets"),
            ("a[$__rate_interval]", "the only variable is $window"),
            (r#"a{b="$window"}"#, "lacks $window"),
            ("# a[$window]", "lacks $window"),
        ] {
            let found = check_query(wrong).unwrap_err();
            assert!(found.contains(part), "{wrong}: {found}");
        }
    }

    #[test]
    fn a_histogram_is_named_by_its_base() {
        assert_eq!(check_metric("http_request_duration_seconds"), Ok(()));
        assert_eq!(check_metric("job:latency"), Ok(()));
        for wrong in ["1a", "a b", "a{b}", "x_bucket", "x_sum", "é"] {
            assert!(check_metric(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_windowed_selector_is_found_in_front_of_its_window() {
        for (query, selector) in [
            ("sum(increase(a[$window]))", Some("a")),
            ("sum(rate(job:a:sum{x=\"{y\", z='}'}[$window])) * 2", Some("job:a:sum{x=\"{y\", z='}'}")),
            ("sum(increase({__name__=\"a\"}[$window]))", Some("{__name__=\"a\"}")),
            ("sum(increase(a {x=\"y\"} [$window]))", Some("a {x=\"y\"}")),
            ("sum_over_time((a > 1)[$window])", None),
            ("a", None),
        ] {
            assert_eq!(windowed_selector(query), selector, "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_checks_panic(text in "[a\"'`\\\\\\[\\](){}$windo#\n=~!,é]{0,40}") {
            drop(check_query(&text));
            drop(check_matchers(&text));
            drop(check_metric(&text));
            if let Some(selector) = windowed_selector(&text) {
                prop_assert!(text.contains(selector));
            }
        }
    }
}
