//! Regular expressions that the `regex` package reads differently from Envoy's engine, RE2. They are refused: a file must
//! not mean two things.

/// What in an expression is read differently, in a sentence; `None` if nothing is. Whether it is an expression at all is
/// not asked here.
pub(super) fn differs_from_re2(source: &str) -> Option<&'static str> {
    let mut rest = source;
    let mut is_in_class = false;
    while let Some(letter) = rest.chars().next() {
        let after = &rest[letter.len_utf8()..];
        rest = match letter {
            '\\' => &after[after.chars().next().map_or(0, char::len_utf8)..],
            '[' if !is_in_class => {
                is_in_class = true;
                // A bracket at the beginning is a letter.
                let after = after.strip_prefix('^').unwrap_or(after);
                after.strip_prefix(']').unwrap_or(after)
            }
            '[' => match after.strip_prefix(':').and_then(|name| name.split_once(":]")) {
                Some((_, after)) => after,
                None => return Some(r"has a '[' inside of a class, a letter to Envoy and a class here; write '\['"),
            },
            ']' if is_in_class => {
                is_in_class = false;
                after
            }
            '&' | '-' | '~' if is_in_class && after.starts_with(letter) => {
                return Some(
                    r"has '&&', '--' or '~~' inside of a class, letters to Envoy and work on sets here; write '\&', '\-', '\~'",
                );
            }
            '(' if !is_in_class && has_flags_of_ours(after) => {
                return Some("has a flag that Envoy doesn't know; it knows i, m, s and U");
            }
            _ => after,
        };
    }
    None
}

/// Whether a group begins with flags of which Envoy doesn't know all.
fn has_flags_of_ours(group: &str) -> bool {
    let Some(flags) = group.strip_prefix('?') else { return false };
    // With a name it has no flags.
    let flags = flags.split([':', ')', '<', 'P']).next().unwrap_or_default();
    flags.contains(['x', 'R', 'u'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_to_both_is_taken() {
        for source in [
            "",
            "a&&b",
            "a--b",
            "[a-z&-]",
            "[[:alpha:]_]+",
            "[]a]",
            "[^]a[:digit:]]",
            r"[\[\]]",
            r"\[[a]",
            r"[a\&\&b]",
            "(?i)x",
            "(?P<x>u)",
            "(?<u>x)",
            "(?:x)",
            "(?s-m:x)",
            "é[é]",
            r"a\",
            "[",
        ] {
            assert_eq!(differs_from_re2(source), None, "{source}");
        }
    }

    #[test]
    fn what_means_something_else_is_told() {
        for source in [
            "[a&&b]", "[a--b]", "[a~~b]", "[a[b]]", "[[a]b]", "x[^&&]", "(?x)a b", "(?ix:a)", "a(?R)b", "(?-u)a",
            "[[:a]",
        ] {
            assert!(differs_from_re2(source).is_some(), "{source}");
        }
    }
}
