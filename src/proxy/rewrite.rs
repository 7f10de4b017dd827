//! `regex_rewrite`: what an expression matches in a path is replaced by a text in which `\\1` stands for what its first
//! group matched.

use std::fmt;

use regex::bytes::{Captures, Regex, RegexBuilder};

/// An expression and what takes the place of its matches, all of them.
#[derive(Clone)]
pub struct RegexRewrite {
    source: String,
    pattern: Regex,
    substitution: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// What that group matched; 0 is the whole match.
    Group(usize),
}

/// Why there is no rewrite of that pattern and substitution.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RewriteError {
    /// The pattern is no expression, or one that compiles to too much.
    #[error("{0}")]
    Pattern(#[from] regex::Error),
    /// A backslash in the substitution is followed by neither a digit nor a backslash.
    #[error("a backslash stands before a digit, for a group, or before another backslash")]
    Backslash,
    /// The substitution names a group that the pattern doesn't have.
    #[error("\\{group} where the expression has {groups} groups")]
    Group {
        /// The one named.
        group: usize,
        /// How many there are.
        groups: usize,
    },
}

// === impl RegexRewrite ===

impl RegexRewrite {
    /// A rewrite of `source`, in RE2's syntax, by `substitution`.
    ///
    /// # Errors
    /// When one of them is none, or they don't fit together.
    pub fn new(source: &str, substitution: &str) -> Result<RegexRewrite, RewriteError> {
        let pattern = RegexBuilder::new(source).unicode(false).build()?;
        let substitution = pieces(substitution)?;
        let groups = pattern.captures_len() - 1;
        for piece in &substitution {
            if let Piece::Group(group) = *piece
                && group > groups
            {
                return Err(RewriteError::Group { group, groups });
            }
        }
        Ok(RegexRewrite { source: source.to_owned(), pattern, substitution })
    }

    /// The text with every match replaced; bytes that are no UTF-8 afterwards become replacement characters.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        let replaced = self.pattern.replace_all(text.as_bytes(), |found: &Captures<'_>| {
            let mut bytes = Vec::new();
            for piece in &self.substitution {
                match piece {
                    Piece::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                    Piece::Group(group) => {
                        bytes.extend_from_slice(found.get(*group).map_or(&[], |matched| matched.as_bytes()));
                    }
                }
            }
            bytes
        });
        String::from_utf8_lossy(&replaced).into_owned()
    }
}

fn pieces(substitution: &str) -> Result<Vec<Piece>, RewriteError> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut letters = substitution.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        let after = letters.next().ok_or(RewriteError::Backslash)?;
        match after.to_digit(10) {
            Some(group) => {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Group(group as usize));
            }
            None if after == '\\' => text.push('\\'),
            None => return Err(RewriteError::Backslash),
        }
    }
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

impl fmt::Debug for RegexRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/ by {:?}", self.source, self.substitution)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_match_is_replaced_and_groups_are_put_in() {
        for (pattern, substitution, text, rewritten) in [
            ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
            ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
            ("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
            ("a", r"\\$1\0", "/a", r"/\$1a"),
            ("x*", "-", "abc", "-a-b-c-"),
            ("(a)|b", r"[\1]", "ab", "[a][]"),
            ("z", "y", "/abc", "/abc"),
        ] {
            assert_eq!(RegexRewrite::new(pattern, substitution).unwrap().apply(text), rewritten, "{pattern}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        assert!(matches!(RegexRewrite::new("(", ""), Err(RewriteError::Pattern(_))));
        assert_eq!(RegexRewrite::new("a", r"\x").unwrap_err(), RewriteError::Backslash);
        assert_eq!(RegexRewrite::new("a", r"\").unwrap_err(), RewriteError::Backslash);
        assert_eq!(RegexRewrite::new("(a)", r"\2").unwrap_err(), RewriteError::Group { group: 2, groups: 1 });
    }

    proptest! {
        #[test]
        fn no_path_makes_a_rewrite_panic(path in ".{0,20}", substitution in r"[a-z0-9\\]{0,6}") {
            if let Ok(rewrite) = RegexRewrite::new("(.)(b*)", &substitution) {
                let _rewritten: String = rewrite.apply(&path);
            }
        }
    }
}
