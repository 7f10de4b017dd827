//! Which rules a service governs: names in a rule file, turned into positions in the rule set.
//!
//! A name is a domain and a list of entries. It means the rule of the tree at the end of that path, and the subset rule
//! of those entries in any order, whichever there is.

use std::collections::HashMap;

use super::file::{RawGoverned, RawStep};
use crate::rules::error::{KeyPath, Report, quoted};
use crate::rules::file::{Elements, RawDescriptor, RawFile};
use crate::rules::{Action, Rule, words};

/// The rules by what they are called.
pub(super) struct Names<'r> {
    rules: &'r [Rule],
    domains: Vec<&'r str>,
    /// Rules of the tree by domain and the composites on the way.
    tree: HashMap<(&'r str, String), Named>,
    /// Subset rules by domain and their entries, ordered.
    subsets: HashMap<(&'r str, Vec<RawStep>), Named>,
    /// The rules that are replaced by others: by domain and name, the replacing rules.
    replaced_by: HashMap<(&'r str, &'r str), Vec<usize>>,
}

/// What a descriptor or a subset is.
#[derive(Clone, Copy)]
enum Named {
    /// A descriptor without a limit.
    Bare,
    /// It has a limit that didn't compile: who names it hears of that mistake only.
    Broken,
    /// The rule of that position.
    Rule(usize),
}

// === impl Names ===

impl<'r> Names<'r> {
    /// The names of all rules, also of those whose own mistakes kept them from being compiled.
    pub(super) fn of(files: &'r [RawFile], rules: &'r [Rule]) -> Names<'r> {
        let mut names = Names {
            rules,
            domains: Vec::new(),
            tree: HashMap::new(),
            subsets: HashMap::new(),
            replaced_by: HashMap::new(),
        };
        for file in files {
            let Some(domain) = file.domain.value() else { continue };
            names.domains.push(domain);
            names.add_descriptors(domain, "", &file.descriptors);
            for (_, subset) in file.subsets.iter() {
                let mut steps: Vec<RawStep> = subset
                    .entries
                    .iter()
                    .map(|(_, entry)| RawStep { key: entry.key().to_owned(), value: entry.value.value().cloned() })
                    .collect();
                steps.sort_unstable();
                names.subsets.insert((domain, steps), Named::Broken);
            }
        }
        names.domains.sort_unstable();
        names.domains.dedup();
        for rule in rules {
            names.add_rule(rule);
        }
        names
    }

    fn add_descriptors(&mut self, domain: &'r str, above: &str, descriptors: &'r Elements<RawDescriptor>) {
        for (_, descriptor) in descriptors.iter() {
            let path = joined(above, &descriptor.composite());
            self.add_descriptors(domain, &path, &descriptor.descriptors);
            let is_bare = descriptor.counted.rate_limit.is_absent();
            self.tree.insert((domain, path), if is_bare { Named::Bare } else { Named::Broken });
        }
    }

    fn add_rule(&mut self, rule: &'r Rule) {
        let domain = &*rule.domain;
        for other in &rule.replaces {
            self.replaced_by.entry((domain, other)).or_default().push(rule.index);
        }
        match &rule.form.subset {
            None => {
                let path = rule.path.iter().fold(String::new(), |above, part| joined(&above, part));
                self.tree.insert((domain, path), Named::Rule(rule.index));
            }
            Some(form) => {
                let step = |((key, valued), composite): (&(Box<str>, bool), &str)| RawStep {
                    key: key.to_string(),
                    value: valued.then(|| composite[key.len() + 1..].to_owned()),
                };
                let mut steps: Vec<RawStep> =
                    form.entries.iter().zip(rule.path.iter().map(|part| &**part)).map(step).collect();
                steps.sort_unstable();
                self.subsets.insert((domain, steps), Named::Rule(rule.index));
            }
        }
    }

    /// What the tree and the subsets have under that name.
    fn look_up(&self, domain: &'r str, steps: &[RawStep]) -> [Option<Named>; 2] {
        let path = steps.iter().fold(String::new(), |above, step| joined(&above, &step.composite()));
        let mut ordered = steps.to_vec();
        ordered.sort_unstable();
        [self.tree.get(&(domain, path)).copied(), self.subsets.get(&(domain, ordered)).copied()]
    }

    /// The positions of the rules that an element of `governs` means; none where it means none, which is reported.
    pub(super) fn resolve(&self, raw: &RawGoverned, path: &KeyPath<'_>, report: &mut Report) -> Vec<usize> {
        let (Some(domain), Some(steps)) = (raw.domain.given(), raw.descriptor.given()) else {
            let missing = |field: bool, word| field.then_some(word);
            let words = [missing(raw.domain.is_absent(), "domain"), missing(raw.descriptor.is_absent(), "descriptor")];
            for word in words.into_iter().flatten() {
                let text = format!(
                    "{word} is missing: a rule is named by both, as in {{ domain: shop, descriptor: [ {{ user: }} ] }}"
                );
                report.mistake(path, raw.place, text);
            }
            return Vec::new();
        };
        let name = domain.value.as_str();
        let Some(domain_name) = self.domains.iter().find(|known| **known == name).copied() else {
            let hint = match words::nearest(name, &self.domains) {
                Some(nearest) => format!("did you mean '{}'?", quoted(nearest)),
                None if self.domains.is_empty() => "no rule file has a domain".to_owned(),
                None => format!("there are {}", listed(&self.domains)),
            };
            let text = format!("no rule file has the domain '{}': {hint}", quoted(name));
            report.mistake(&path.word("domain"), domain.place, text);
            return Vec::new();
        };
        let found = self.look_up(domain_name, &steps.value);
        let label = raw.label();
        let mistake = match found {
            [None, None] => format!(
                "no rule of domain '{}' is '{}': {}",
                quoted(name),
                quoted(&label),
                self.hint(domain_name, &label)
            ),
            [Some(Named::Bare), None] => {
                format!("'{}' has no rate_limit of its own: give it one, or name the rules below it", quoted(&label))
            }
            _ => String::new(),
        };
        if !mistake.is_empty() {
            report.mistake(&path.word("descriptor"), steps.place, mistake);
        }
        let rule = |named: Option<Named>| if let Some(Named::Rule(index)) = named { Some(index) } else { None };
        found.into_iter().filter_map(rule).collect()
    }

    /// The rule that was probably meant.
    fn hint(&self, domain: &str, label: &str) -> String {
        let paths: Vec<String> = self
            .rules
            .iter()
            .filter(|rule| *rule.domain == *domain)
            .take(HINTS_MAX)
            .map(|rule| rule.path.join(", "))
            .collect();
        let names: Vec<&str> = paths.iter().map(String::as_str).collect();
        match words::nearest(label, &names) {
            Some(nearest) => format!("did you mean '{}'?", quoted(nearest)),
            None if names.is_empty() => "it has no rules".to_owned(),
            None => format!("it has {}", listed(&names)),
        }
    }

    /// What is doubtful about governing the rule of that index.
    pub(super) fn doubts(&self, index: usize, governs: &[usize]) -> Vec<String> {
        let rule = &self.rules[index];
        let mut doubts = Vec::new();
        if matches!(rule.action, Action::Unlimited) {
            doubts.push(format!(
                "{} is unlimited: who is never to be refused doesn't belong behind a gate; take it out of governs",
                rule.place
            ));
        }
        if !rule.replaces.is_empty() {
            doubts.push(format!(
                "{} replaces other rules: where both apply this gate is charged, and theirs is not",
                rule.place
            ));
        }
        let replacing = rule.name.as_deref().and_then(|name| self.replaced_by.get(&(&*rule.domain, name)));
        if let Some(other) = replacing.into_iter().flatten().find(|other| !governs.contains(other)) {
            let other = &self.rules[*other].place;
            doubts.push(format!(
                "{other} replaces {}: a request that both apply to may pass the gate by; govern that rule too",
                rule.place
            ));
        }
        doubts
    }

    /// Where the rule of that index stands.
    pub(super) fn place(&self, index: usize) -> &str {
        &self.rules[index].place
    }
}

/// Most rules that are compared with a name that is none of them.
const HINTS_MAX: usize = 1_000;

/// What no key or value of a rule file is likely to hold: composites are joined by it.
const SEPARATOR: char = '\u{1f}';

fn joined(above: &str, part: &str) -> String {
    if above.is_empty() { part.to_owned() } else { format!("{above}{SEPARATOR}{part}") }
}

/// A few of the names, and how many more.
fn listed(names: &[&str]) -> String {
    const LISTED_MAX: usize = 5;
    let few: Vec<String> = names.iter().take(LISTED_MAX).map(|name| format!("'{}'", quoted(name))).collect();
    match names.len().saturating_sub(LISTED_MAX) {
        0 => few.join(", "),
        more => format!("{} and {more} more", few.join(", ")),
    }
}
