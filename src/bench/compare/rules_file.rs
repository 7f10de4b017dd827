//! The rule files that servers under comparison are given.
//!
//! ```text
//! key, key2, key3, key4   any value, per minute     one for each descriptor of a call
//! hourly                  any value, per hour       for counters that must outlive a whole section
//! key: 00000, 00001, …    one value each            as many as there are to be rules
//! ```
//!
//! The values are written as the load generator writes them, so that with as many rules as keys every call meets a rule
//! of its own. Limits are never reached: an answer that refuses is cheaper to some servers and dearer to others.

use std::fmt::Write;

/// A rule file, by its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Number of rules, at least 5.
    pub count: usize,
    /// Digits of the values.
    pub digits: usize,
}

/// The domain of all calls.
pub const DOMAIN: &str = "bench";

/// More than can be charged in a window, and below 2^32.
const LIMIT: u32 = 4_000_000_000;

/// Rules that every file has: one for each descriptor, and the hourly one.
const COMMON: usize = 5;

// === impl Rules ===

impl Rules {
    /// The file that is used where nothing else is said: ten rules.
    #[must_use]
    pub fn few() -> Rules {
        Rules { count: 10, digits: 5 }
    }

    /// Digits in which the load generator writes the numbers below `keys`.
    #[must_use]
    pub fn digits(keys: usize) -> usize {
        keys.saturating_sub(1).max(1).ilog10() as usize + 1
    }

    /// The file's text.
    #[must_use]
    pub fn text(self) -> String {
        let mut text = format!("domain: {DOMAIN}\ndescriptors:\n");
        let mut rule = |matched: &str, unit: &str| {
            let limit = format_args!("{{ unit: {unit}, requests_per_unit: {LIMIT} }}");
            writeln!(text, "  - {{ {matched}, rate_limit: {limit} }}").expect("a String takes all text");
        };
        for key in ["key", "key2", "key3", "key4"] {
            rule(&format!("key: {key}"), "minute");
        }
        rule("key: hourly", "hour");
        for number in 0..self.count.saturating_sub(COMMON) {
            rule(&format!("key: key, value: \"{number:0width$}\"", width = self.digits), "minute");
        }
        text
    }
}

/// A file with one rule for any value of `key`: so many requests in so many milliseconds.
#[must_use]
pub fn single(limit: u32, window_ms: u64) -> String {
    let limit = format_args!("{{ window: {window_ms}ms, requests_per_unit: {limit} }}");
    format!("domain: {DOMAIN}\ndescriptors:\n  - {{ key: key, rate_limit: {limit} }}\n")
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::descriptor::{Descriptor, Entry, Hits};
    use crate::rules::{Options, RuleSet, SourceFile, load};

    fn compiled(text: String) -> RuleSet {
        load(&[SourceFile { name: "bench.yaml".to_owned(), text }], &Options::default()).unwrap().0
    }

    fn path(rules: &RuleSet, key: &str, value: &str) -> String {
        let descriptor =
            Descriptor { entries: smallvec![Entry { key, value }], hits: Hits::Add(1), limit_override: None };
        let found = rules.domain(DOMAIN).unwrap().find(&descriptor, b"");
        found.iter().map(|found| found.rule.path.join("/")).collect()
    }

    #[test]
    fn a_file_has_as_many_rules_as_it_should_and_all_load() {
        for count in [5, 10, 1_000] {
            assert_eq!(compiled(Rules { count, digits: 5 }.text()).rules().len(), count);
        }
        assert_eq!(compiled(single(1_000, 640)).rules().len(), 1);
    }

    #[test]
    fn a_value_with_a_rule_meets_it_and_others_meet_the_rule_for_any_value() {
        let rules = compiled(Rules { count: 100, digits: Rules::digits(1_000) }.text());
        assert_eq!(path(&rules, "key", "094"), "key_094");
        assert_eq!(path(&rules, "key", "095"), "key");
        assert_eq!(path(&rules, "key2", "094"), "key2");
        assert_eq!(path(&rules, "hourly", "hot"), "hourly");
    }

    #[test]
    fn the_largest_file_is_within_what_is_accepted() {
        let text = Rules { count: 100_000, digits: 5 }.text();
        assert!(text.len() < 16 << 20, "{} bytes", text.len());
        assert_eq!([10, 11, 100_000, 1_000_000].map(Rules::digits), [1, 2, 5, 6]);
    }
}
