//! From raw files to a [`RuleSet`]: what the words mean together.
//!
//! Here live the rejections V7 to V16 of the reference service, and those of our own words. A mistake never hides
//! another: what is wrong is reported and left out, and the rest is judged on. The set that comes out is used only if
//! there was no mistake at all.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::{KeyPath, Place, QUOTED_MAX, Report, quoted};
use super::file::{Elements, Field, Located, RawCounted, RawDescriptor, RawFile, RawLimit, RawSubset};
use super::identity::RuleKind;
use super::names::Names;
use super::service;
use super::set::{DomainRules, RuleSet};
use super::subset::{self, Subsets};
use super::tree::{NodeId, Tree};
use super::{
    Action, Algorithm, Compatibility, Defaults, Options, Rule, RuleForm, RuleId, SubsetForm, counter, limit, metric,
};
use crate::window::{Charging, Precision};

/// Compiles all files together.
pub(super) fn compile(files: &[RawFile], options: &Options, report: &mut Report) -> RuleSet {
    let mut drafts: Vec<Draft<'_>> = Vec::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut draft_of = Vec::with_capacity(files.len());
    for file in files {
        if !file.holds_rules() {
            continue;
        }
        let draft = draft_for(file, options, &mut drafts, &mut by_name, report);
        drafts[draft].begin_file(file, report);
        draft_of.push((file, draft));
    }
    // The whole domain's defaults and names are known now, wherever they stand.
    let mut rules = Vec::new();
    for (file, draft) in draft_of {
        let defaults = drafts[draft].defaults(&options.defaults);
        Compiler { file, draft: &mut drafts[draft], defaults, rules: &mut rules, report }.compile_file();
    }
    let rules: Arc<[Rule]> = rules.into();
    let domains = drafts.into_iter().map(|draft| draft.finish(&rules, &options.defaults)).collect();
    let (services, prometheus) = service::compile::compile(files, &rules, report);
    RuleSet::new(rules, domains).with_services(services, prometheus)
}

/// A domain in the making.
#[derive(Debug)]
struct Draft<'f> {
    name: Arc<str>,
    /// The file that named it first.
    first: &'f RawFile,
    algorithm: Option<Said<'f, Algorithm>>,
    precision: Option<Said<'f, Precision>>,
    charging: Option<Said<'f, Charging>>,
    names: Names<'f>,
    tree: Tree,
    /// Where each node of the tree stands, to say so when it comes again.
    node_places: Vec<(&'f str, Place)>,
    subsets: Subsets,
}

/// A default that a file gives for its domain.
type Said<'f, T> = (&'f RawFile, Located<T>);

/// The draft that a file belongs to (V7, V8).
fn draft_for<'f>(
    file: &'f RawFile,
    options: &Options,
    drafts: &mut Vec<Draft<'f>>,
    by_name: &mut HashMap<&'f str, usize>,
    report: &mut Report,
) -> usize {
    let path = KeyPath::file(&file.name);
    let name = match &file.domain {
        Field::Given(domain) => domain.value.as_str(),
        Field::Absent => {
            let text = "config file cannot have empty domain: begin the file with domain: and a name";
            report.mistake(&path, file.place, text);
            ""
        }
        Field::Wrong => "",
    };
    if let (Some(earlier), Some(domain)) = (by_name.get(name), file.domain.given()) {
        if options.merge_domains {
            return *earlier;
        }
        let text = format!(
            "duplicate domain '{}' in config file: {} has it already; put both into one file or allow domains to be merged",
            quoted(name),
            drafts[*earlier].first.name
        );
        report.mistake(&path.word("domain"), domain.place, text);
    }
    // A domain that may not come again gets a draft of its own, so that its descriptors aren't called duplicates too.
    drafts.push(Draft {
        name: name.into(),
        first: file,
        algorithm: None,
        precision: None,
        charging: None,
        names: Names::default(),
        tree: Tree::new(),
        node_places: vec![(&file.name, file.place)],
        subsets: Subsets::default(),
    });
    by_name.entry(name).or_insert(drafts.len() - 1);
    drafts.len() - 1
}

// === impl Draft ===

impl<'f> Draft<'f> {
    fn begin_file(&mut self, file: &'f RawFile, report: &mut Report) {
        self.names.add_file(file);
        agree(&mut self.algorithm, file, "algorithm", &file.algorithm, report);
        agree(&mut self.precision, file, "precision", &file.precision, report);
        agree(&mut self.charging, file, "charging", &file.charging, report);
    }

    fn defaults(&self, process: &Defaults) -> Defaults {
        Defaults {
            algorithm: self.algorithm.as_ref().map_or(process.algorithm, |(_, said)| said.value),
            precision: self.precision.as_ref().map_or(process.precision, |(_, said)| said.value),
            charging: match (self.charging.as_ref().map(|(_, said)| said.value), process.charging) {
                // Files have no word for it: it is a way of charging each on its own.
                (None | Some(Charging::Each), Charging::OnlyOver) => Charging::OnlyOver,
                (said, process) => said.unwrap_or(process),
            },
            compatibility: process.compatibility,
        }
    }

    fn finish(self, rules: &Arc<[Rule]>, process: &Defaults) -> DomainRules {
        let defaults = self.defaults(process);
        DomainRules::new(self.name, Arc::clone(rules), defaults, self.tree, self.subsets)
    }
}

/// Takes a default that a file gives for its domain; files of one domain that give it must give the same.
fn agree<'f, T: Copy + PartialEq>(
    so_far: &mut Option<Said<'f, T>>,
    file: &'f RawFile,
    word: &str,
    field: &Field<T>,
    report: &mut Report,
) {
    let Some(given) = field.given() else { return };
    match so_far {
        None => *so_far = Some((file, given.clone())),
        Some((_, said)) if said.value == given.value => {}
        Some((other, said)) => {
            let text = format!(
                "{word} is another in {}:{}; it holds for the whole domain, so its files must agree",
                other.name, said.place.line
            );
            report.mistake(&KeyPath::file(&file.name).word(word), given.place, text);
        }
    }
}

/// Compiles one file into its domain's draft.
struct Compiler<'c, 'f> {
    file: &'f RawFile,
    draft: &'c mut Draft<'f>,
    defaults: Defaults,
    rules: &'c mut Vec<Rule>,
    report: &'c mut Report,
}

/// What is known of a rule before its limit is judged.
struct RuleDraft<'r> {
    kind: RuleKind,
    place: Place,
    /// Keys and fixed values in the order that identifies the rule.
    identity: Vec<(&'r str, Option<&'r str>)>,
    path: Box<[Box<str>]>,
    total: bool,
    runtime_metric: bool,
    subset: Option<Box<SubsetForm>>,
}

// === impl Compiler ===

impl<'f> Compiler<'_, 'f> {
    fn compile_file(mut self) {
        let file = self.file;
        let root = KeyPath::file(&file.name);
        self.descriptors(Tree::ROOT, &file.descriptors, &root.word("descriptors"));
        let list = root.word("subsets");
        for (index, raw) in file.subsets.iter() {
            let label = raw.label();
            self.subset(raw, &list.item(index, &label));
        }
    }

    fn descriptors(&mut self, parent: NodeId, descriptors: &'f Elements<RawDescriptor>, list: &KeyPath<'_>) {
        for (index, raw) in descriptors.iter() {
            let label = raw.composite();
            let path = list.item(index, &label);
            let node = self.descriptor(parent, raw, &path);
            self.descriptors(node, &raw.descriptors, &path.word("descriptors"));
        }
    }

    /// Adds a node (V9, V10, V15) and its rule.
    fn descriptor(&mut self, parent: NodeId, raw: &'f RawDescriptor, path: &KeyPath<'_>) -> NodeId {
        if raw.key.is_absent() {
            self.report.mistake(path, raw.place, "descriptor has empty key: give it a key, and a value if you like");
        }
        let key = raw.key.value().map(String::as_str).unwrap_or_default();
        let value = raw.value.value().map(String::as_str);
        let is_known = !raw.key.is_wrong() && !raw.value.is_wrong();
        let (node, earlier) = match &mut self.draft.tree {
            tree if is_known => tree.add(parent, key, value),
            tree => (tree.add_unreachable(parent, key, value), None),
        };
        self.draft.node_places.push((&self.file.name, raw.place));
        if let Some(earlier) = earlier.filter(|_| !key.is_empty()) {
            self.duplicate(node, earlier, raw.place, path);
        }
        let tree = &mut self.draft.tree;
        if let Some(share) =
            raw.share_threshold.given().filter(|share| share.value && is_known && !tree.node(node).is_wildcard())
        {
            let text = format!(
                "share_threshold can only be used with wildcard values (containing '*'), but found key '{}'",
                quoted(tree.node(node).composite())
            );
            self.report.mistake(&path.word("share_threshold"), share.place, text);
        }
        tree.node_mut(node).share_threshold = raw.share_threshold.is_true();
        tree.node_mut(node).value_to_metric = raw.counted.value_to_metric;
        self.tree_rule(node, raw, path);
        node
    }

    fn duplicate(&mut self, node: NodeId, earlier: NodeId, place: Place, path: &KeyPath<'_>) {
        let mut full_key = quoted(&self.draft.name);
        for node in self.draft.tree.path(node) {
            // No more is told of it: a letter has four bytes at most.
            if full_key.len() > 4 * QUOTED_MAX {
                break;
            }
            full_key.push('.');
            full_key.push_str(&quoted(self.draft.tree.node(node).composite()));
        }
        let (file, first) = self.draft.node_places[earlier as usize];
        let text = format!(
            "duplicate descriptor composite key '{}': {} has it already; put the rules of both under one",
            quoted(&full_key),
            first.in_file(file)
        );
        self.report.mistake(path, place, text);
    }

    fn tree_rule(&mut self, node: NodeId, raw: &'f RawDescriptor, path: &KeyPath<'_>) {
        let Some(limit) = raw.counted.rate_limit.given() else { return };
        let action = self.action(limit, &raw.counted, self.defaults, path);
        let tree = &self.draft.tree;
        let walk = tree.path(node);
        let nodes = || walk.iter().map(|node| tree.node(*node));
        let draft = RuleDraft {
            kind: RuleKind::Tree,
            place: raw.place,
            identity: nodes().map(|node| (node.key(), node.value())).collect(),
            path: nodes().map(|node| node.composite().into()).collect(),
            total: counter::is_total(tree, &walk),
            runtime_metric: metric::is_runtime(tree, &walk, raw.counted.detailed_metric),
            subset: None,
        };
        if let Some(action) = action {
            let rule = draft.finish(self.rules.len(), action, &self.draft.name, &self.file.name, &raw.counted, limit);
            self.draft.tree.node_mut(node).rule = Some(rule.index);
            self.rules.push(rule);
        }
    }

    fn subset(&mut self, raw: &'f RawSubset, path: &KeyPath<'_>) {
        let entries_right = self.subset_entries(raw, path);
        let limit = match &raw.counted.rate_limit {
            Field::Given(limit) => limit,
            Field::Absent => {
                self.report.mistake(path, raw.place, "a subset without rate_limit does nothing; give it one");
                return;
            }
            Field::Wrong => return,
        };
        // The other service has no subsets, and so no counters of theirs.
        let defaults = Defaults { compatibility: Compatibility::Off, ..self.defaults };
        let action = self.action(limit, &raw.counted, defaults, path);
        let (Some(action), true) = (action, entries_right) else { return };
        let entries = || raw.entries.iter().map(|(_, entry)| (entry.key(), entry.value.value().map(String::as_str)));
        let mut identity: Vec<_> = entries().collect();
        identity.sort_unstable();
        if let Some(earlier) = self.draft.subsets.add(&identity, self.rules.len()) {
            let place = &self.rules[earlier].place;
            self.report.mistake(path, raw.place, format!("duplicate subset: {place} has the same entries already"));
            return;
        }
        let open: Box<[Box<str>]> =
            identity.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| (*key).into()).collect();
        let names_values = raw.counted.detailed_metric || raw.counted.value_to_metric;
        let draft = RuleDraft {
            kind: RuleKind::Subset,
            place: raw.place,
            identity,
            path: raw.entries.iter().map(|(_, entry)| entry.composite().into()).collect(),
            total: open.is_empty(),
            runtime_metric: names_values && !open.is_empty(),
            subset: Some(Box::new(SubsetForm {
                open,
                entries: entries().map(|(key, value)| (key.into(), value.is_some())).collect(),
                value_to_metric: raw.counted.value_to_metric,
            })),
        };
        let rule = draft.finish(self.rules.len(), action, &self.draft.name, &self.file.name, &raw.counted, limit);
        self.rules.push(rule);
    }

    /// Whether a subset's entries are right: 1 to [`subset::ENTRIES_MAX`], each key once, values exact or absent.
    fn subset_entries(&mut self, raw: &RawSubset, path: &KeyPath<'_>) -> bool {
        let list = path.word("entries");
        let mut right = true;
        let mut wrong = |path: &KeyPath<'_>, place: Place, text: String| {
            self.report.mistake(path, place, text);
            right = false;
        };
        let entries = &raw.entries.items;
        if entries.is_empty() && !raw.entries.is_wrong {
            wrong(path, raw.place, "a subset needs entries: at least one key, with or without a value".to_owned());
        }
        if entries.len() > subset::ENTRIES_MAX {
            let text = format!("a subset of {} entries; at most {} are matched", entries.len(), subset::ENTRIES_MAX);
            wrong(&list, raw.place, text);
        }
        for (position, (index, entry)) in entries.iter().enumerate().take(subset::ENTRIES_MAX) {
            let path = list.item(*index, entry.key());
            if entry.key.is_absent() {
                wrong(&path, entry.place, "descriptor has empty key: an entry of a subset names a key".to_owned());
            }
            let comes_again = entries[..position].iter().any(|(_, earlier)| earlier.key() == entry.key());
            if comes_again && !entry.key().is_empty() {
                wrong(&path, entry.place, "this subset names the key already; each key stands once".to_owned());
            }
            let Some(value) = entry.value.given() else { continue };
            if value.value.is_empty() {
                let text = "an empty value; leave value out if any value will do";
                wrong(&path.word("value"), value.place, text.to_owned());
            } else if value.value.contains('*') {
                let text = format!(
                    "'{}': a subset has no wildcards; write the exact value, or leave value out if any will do",
                    quoted(&value.value)
                );
                wrong(&path.word("value"), value.place, text);
            }
        }
        right
            && !raw.entries.is_wrong
            && !entries.iter().any(|(_, entry)| entry.key.is_wrong() || entry.value.is_wrong())
    }

    /// Judges a limit and its `replaces` (V11 to V14).
    fn action(
        &mut self,
        limit: &Located<RawLimit>,
        counted: &RawCounted,
        defaults: Defaults,
        path: &KeyPath<'_>,
    ) -> Option<Action> {
        let path = path.word("rate_limit");
        let action = limit::action(limit, counted, &defaults, &path, self.report);
        let list = path.word("replaces");
        for (index, other) in limit.value.replaces.iter() {
            let path = list.item(index, &other.value);
            if other.value.is_empty() {
                let text = "should not have an empty replaces entry: write the name of a rate_limit";
                self.report.mistake(&path, other.place, text);
            } else if limit.value.name.value() == Some(&other.value) {
                let text = "replaces should not contain name of same descriptor: name another rate_limit";
                self.report.mistake(&path, other.place, text);
            } else if let Some(doubt) = self.draft.names.doubt(&limit.value, other) {
                self.report.warning(&path, other.place, doubt);
            }
        }
        action
    }
}

// === impl RuleDraft ===

impl RuleDraft<'_> {
    fn finish(
        self,
        index: usize,
        action: Action,
        domain: &Arc<str>,
        file: &str,
        counted: &RawCounted,
        limit: &Located<RawLimit>,
    ) -> Rule {
        let counting = match &action {
            Action::Unlimited => None,
            Action::Limited { limit, policy, .. } => Some((Algorithm::of(policy), limit.window)),
        };
        Rule {
            index,
            id: RuleId::of(self.kind, domain, self.identity, counting),
            domain: Arc::clone(domain),
            metric_path: metric::static_path(self.path.iter().map(|part| &**part)),
            path: self.path,
            action,
            name: limit.value.name.value().map(|name| name.as_str().into()),
            replaces: limit.value.replaces.iter().map(|(_, other)| other.value.as_str().into()).collect(),
            metadata: counted.metadata.clone(),
            place: self.place.in_file(file).into(),
            form: RuleForm {
                total: self.total,
                detailed: counted.detailed_metric,
                runtime_metric: self.runtime_metric,
                subset: self.subset,
            },
        }
    }
}
