//! From dotted names to names and labels of Prometheus, as a file says: the statsd exporter's format, which the
//! reference service and Envoy Gateway configure it with.
//!
//! ```text
//! - match: ratelimit.service.rate_limit.*.*.over_limit        ratelimit.service.rate_limit.shop.user.over_limit
//!   name: over_limit                                     →    over_limit{domain="shop",key1="user"}
//!   labels: {domain: $1, key1: $2}
//! ```
//!
//! Pure: text in, names out. Globs are tried before regular expressions, and each kind in the order of the file, as in
//! the exporter. All patterns of a kind are compiled into one set, so a name is looked at once and not once for each
//! pattern. A name that nothing matches keeps its own, with `_` for what Prometheus doesn't allow.

mod file;

use std::borrow::Cow;

use regex::{Regex, RegexSet};

/// What is done with dotted names.
#[derive(Debug)]
pub struct Mapping {
    globs: Patterns,
    expressions: Patterns,
    /// What becomes of durations that nothing matches.
    observer: Observer,
}

/// Patterns of one kind in the order of the file.
#[derive(Debug)]
struct Patterns {
    set: RegexSet,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    pattern: Regex,
    /// What it is for; `None` for everything.
    kind: Option<Kind>,
    action: Action,
}

#[derive(Debug)]
enum Action {
    Drop,
    Map(Target),
}

#[derive(Debug)]
struct Target {
    name: String,
    labels: Vec<(String, String)>,
    help: Option<String>,
    observer: Observer,
    scale: f64,
}

/// What a metric is, as far as patterns tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum.
    Counter,
    /// A number of now.
    Gauge,
    /// Durations.
    Observer,
}

/// How durations are shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Observer {
    /// Counted in buckets with these upper edges, ascending, without the endless one.
    Histogram(Vec<f64>),
    /// As these quantiles.
    Summary(Vec<f64>),
}

/// What a dotted name becomes.
#[derive(Debug, PartialEq)]
pub enum Mapped<'m> {
    /// Nothing.
    Dropped,
    /// A member of a family.
    Member {
        /// The name of the family, which Prometheus allows.
        family: String,
        /// Labels by name.
        labels: Vec<(&'m str, String)>,
        /// What the family means, if the file says it.
        help: Option<&'m str>,
        /// How durations are shown.
        observer: &'m Observer,
        /// What values are multiplied with. Durations are milliseconds before.
        scale: f64,
    },
}

// === impl Mapping ===

impl Mapping {
    /// What becomes of the metric `name`.
    #[must_use]
    pub fn apply(&self, name: &str, kind: Kind) -> Mapped<'_> {
        let Some(rule) = self.globs.find(name, kind).or_else(|| self.expressions.find(name, kind)) else {
            return Mapped::Member {
                family: allowed(name).into_owned(),
                labels: Vec::new(),
                help: None,
                observer: &self.observer,
                scale: 1.0,
            };
        };
        let Action::Map(target) = &rule.action else { return Mapped::Dropped };
        let captures = rule.pattern.captures(name).expect("the set said that it matches");
        let filled = |template: &str| {
            let mut text = String::new();
            captures.expand(template, &mut text);
            text
        };
        Mapped::Member {
            family: allowed(&filled(&target.name)).into_owned(),
            labels: target.labels.iter().map(|(label, template)| (label.as_str(), filled(template))).collect(),
            help: target.help.as_deref(),
            observer: &target.observer,
            scale: target.scale,
        }
    }
}

// === impl Patterns ===

impl Patterns {
    fn find(&self, name: &str, kind: Kind) -> Option<&Rule> {
        let mut matching = self.set.matches(name).into_iter().map(|index| &self.rules[index]);
        matching.find(|rule| rule.kind.is_none_or(|wanted| wanted == kind))
    }
}

/// The name with `_` for each character that Prometheus does not allow in it.
fn allowed(name: &str) -> Cow<'_, str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let begins_wrong = name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit());
    if !begins_wrong && name.chars().all(is_allowed) {
        return Cow::Borrowed(name);
    }
    let mut clean = if begins_wrong { "_".to_owned() } else { String::new() };
    clean.extend(name.chars().map(|c| if is_allowed(c) { c } else { '_' }));
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests;
