//! What rule files mean, from text to match. Each test is data: a file, and what must come of it.

mod bounds;
mod extensions;
mod laws;
mod matching;
mod rejections;
mod services;

use smallvec::SmallVec;

use super::*;
use crate::descriptor::{Descriptor, Entry, Hits};

/// The entries of `(user=ann)(path=/v1/a)`.
pub(super) fn descriptor(text: &str) -> Descriptor<'_> {
    let inner = text.trim().trim_start_matches('(').trim_end_matches(')');
    let entry = |entry: &'_ str| -> (usize, usize) {
        let at = entry.find('=').expect("an entry of a test is key=value");
        (at, at + 1)
    };
    let parts = inner.split(")(").filter(|part| !part.is_empty());
    let entries: SmallVec<[Entry<'_>; 4]> = parts
        .map(|part| {
            let (end, start) = entry(part);
            Entry { key: &part[..end], value: &part[start..] }
        })
        .collect();
    Descriptor { entries, hits: Hits::Add(1), limit_override: None }
}

pub(super) fn sources(texts: &[&str]) -> Vec<SourceFile> {
    let name = |index| if index == 0 { "rules.yaml".to_owned() } else { format!("rules{}.yaml", index + 1) };
    let file = |(index, text): (usize, &&str)| SourceFile { name: name(index), text: (*text).to_owned() };
    texts.iter().enumerate().map(file).collect()
}

pub(super) fn load_texts(texts: &[&str], merge_domains: bool) -> Result<(RuleSet, Vec<Warning>), RuleErrors> {
    load(&sources(texts), &Options { merge_domains, ..Options::default() })
}

/// The rules of a file without mistakes.
pub(super) fn rules(text: &str) -> RuleSet {
    match load_texts(&[text], false) {
        Ok((rules, _)) => rules,
        Err(errors) => panic!("{errors}"),
    }
}

/// The warnings of a file without mistakes, one per line.
pub(super) fn warnings(text: &str) -> String {
    let (_, warnings) = load_texts(&[text], false).unwrap_or_else(|errors| panic!("{errors}"));
    warnings.iter().map(|warning| format!("{warning}\n")).collect()
}

/// The mistakes of a file, one per line.
pub(super) fn mistakes(text: &str) -> String {
    match load_texts(&[text], false) {
        Ok(_) => "none".to_owned(),
        Err(errors) => listed(&errors),
    }
}

/// Mistakes without the summary, one per line.
pub(super) fn listed(errors: &RuleErrors) -> String {
    let lines: Vec<String> = errors.findings().iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// What applies to a descriptor of the only domain: `path: limit`, joined by ` | `; or `none`.
pub(super) fn answer(rules: &RuleSet, request: &str) -> String {
    let domain = rules.domains().next().expect("a test has a domain").to_owned();
    let found = rules.domain(&domain).expect("it was listed").find(&descriptor(request), b"");
    let one = |found: &Found<'_>| {
        let action = match &found.rule.action {
            Action::Unlimited => "unlimited".to_owned(),
            Action::Limited { limit, .. } => limit.to_string(),
        };
        assert_eq!(found.key.is_some(), found.rule.is_limited());
        format!("{}: {action}", found.rule.path.join("."))
    };
    let all: Vec<String> = found.iter().map(one).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(" | ") }
}

/// Loads `text` and compares what applies to each request.
pub(super) fn check(text: &str, cases: &[(&str, &str)]) {
    let rules = rules(text);
    for (request, expected) in cases {
        assert_eq!(answer(&rules, request), *expected, "{request}");
    }
}

/// Whether two requests are charged to the same counter. Both must match one limited rule.
pub(super) fn share_a_counter(rules: &RuleSet, one: &str, other: &str) -> bool {
    let domain = rules.domain(rules.domains().next().unwrap()).unwrap();
    let key = |request| {
        let request = descriptor(request);
        let found = domain.find(&request, b"p:");
        assert_eq!(found.len(), 1);
        found[0].key.clone().unwrap()
    };
    key(one) == key(other)
}
