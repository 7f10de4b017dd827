//! From a YAML tree to a [`RawFile`]: which words stand where, and whether their values have the right type.
//!
//! Here live the rejections V2 to V6 of the reference service. Its reader walks the file twice, once to check words
//! and scalars wherever they stand and once to bind them to fields; here each value is looked at once, and a known
//! word at a level where it means nothing is still walked, because the reference rejects what is wrong inside it.
//!
//! Where a key comes twice the last one wins, with one oddity kept: maps that the reference binds to one field
//! (`rate_limit`, `metadata`) are laid over each other key by key. Files that complete a merged `rate_limit` count
//! on it.

use smallvec::SmallVec;

use super::error::{KeyPath, Place, Report};
use super::file::{
    Elements, Field, Located, RawCounted, RawDescriptor, RawEntry, RawFile, RawLimit, RawSubset, RawUnit,
};
use super::service;
use super::value::{self, Reader};
use super::words::{self, Level};
use super::yaml::{Document, Node, Pair, Value};
use crate::limit::Unit;

/// The words of one map, each with its values in the order of the file.
#[derive(Default)]
pub(super) struct Words<'y, 't> {
    known: SmallVec<[(&'static str, &'y Node<'t>); 8]>,
    /// Words that were probably meant by unknown ones. If they are missing, that is said already.
    misspelt: SmallVec<[&'static str; 1]>,
}

/// Binds a whole file.
pub(super) fn file(document: &Document<'_>, name: &str, report: &mut Report) -> RawFile {
    let path = &KeyPath::file(name);
    if let Some(second) = document.second {
        let text = "only the first document of a file is read; put this one into a file of its own";
        report.warning(path, second, text);
    }
    let root = document.root.as_ref();
    let words = root.map_or(Some(Words::default()), |root| map_words(root, Level::Root, path, report));
    let broken = words.is_none();
    let words = words.unwrap_or_default();
    let place = root.map_or(Place { line: 1, column: 1 }, |root| root.place);
    let mut bind = Bind { words: &words, path, report };
    RawFile {
        name: name.to_owned(),
        place,
        // A file that is no map has no domain; that is one mistake, not two.
        domain: if broken { Field::Wrong } else { bind.text("domain") },
        algorithm: bind.one("algorithm", value::algorithm),
        precision: bind.one("precision", value::precision),
        charging: bind.one("charging", value::charging),
        descriptors: bind.list("descriptors", Level::Descriptor, descriptor),
        subsets: bind.list("subsets", Level::Subset, subset),
        prometheus: bind.map("prometheus", Level::Prometheus, service::bind::prometheus),
        services: bind.list("services", Level::Service, service::bind::service),
        tells_of_services: ["prometheus", "services"]
            .iter()
            .any(|word| words.misspelt.contains(word) || words.known.iter().any(|(known, _)| known == word)),
    }
}

/// One map being bound.
pub(super) struct Bind<'b, 'y, 't> {
    pub(super) words: &'b Words<'y, 't>,
    pub(super) path: &'b KeyPath<'b>,
    pub(super) report: &'b mut Report,
}

// === impl Bind ===

impl<'y, 't> Bind<'_, 'y, 't> {
    /// Every value of `word`, in the order of the file.
    pub(super) fn all(&self, word: &str) -> impl DoubleEndedIterator<Item = &'y Node<'t>> {
        self.words.known.iter().filter(move |(name, _)| *name == word).map(|(_, node)| *node)
    }

    /// Whether an unknown word stands there in place of `word`.
    pub(super) fn is_misspelt(&self, word: &str) -> bool {
        self.words.misspelt.contains(&word)
    }

    /// Binds the value of `word`. Those that a later one replaces are only checked.
    pub(super) fn one<T>(&mut self, word: &'static str, read: Reader<T>) -> Field<T> {
        let path = self.path.word(word);
        let mut field = if self.is_misspelt(word) { Field::Wrong } else { Field::Absent };
        let nodes: SmallVec<[&Node<'_>; 2]> = self.all(word).collect();
        for node in nodes {
            field = value::field(node, read, &path, self.report);
        }
        field
    }

    /// A text, of which the empty one is as good as none.
    pub(super) fn text(&mut self, word: &'static str) -> Field<String> {
        match self.one(word, value::text) {
            Field::Given(located) if located.value.is_empty() => Field::Absent,
            field => field,
        }
    }

    fn flag(&mut self, word: &'static str) -> bool {
        self.one(word, value::boolean).is_true()
    }

    /// Binds a list of maps.
    pub(super) fn list<T>(
        &mut self,
        word: &'static str,
        level: Level,
        bind: fn(&Words<'y, 't>, Place, &KeyPath<'_>, &mut Report) -> T,
    ) -> Elements<T> {
        let path = self.path.word(word);
        let mut bound = Elements { items: Vec::new(), is_wrong: self.is_misspelt(word) };
        let nodes: SmallVec<[&Node<'_>; 2]> = self.all(word).collect();
        for node in nodes {
            bound.items.clear();
            if !value::is_null(node) && !matches!(node.value, Value::List(_)) {
                check_shape(node, &path, self.report);
                value::wrong_type(node, "a list", &path, self.report);
                bound.is_wrong = true;
            }
            let Value::List(items) = &node.value else { continue };
            for (index, item) in items.iter().enumerate() {
                let label = value::label(item);
                let item_path = path.item(index, &label);
                match element_words(item, level, &item_path, self.report) {
                    Some(words) => bound.items.push((index, bind(&words, item.place, &item_path, self.report))),
                    None => bound.is_wrong = true,
                }
            }
        }
        bound
    }

    /// Binds a map; of several the last one counts.
    pub(super) fn map<T>(
        &mut self,
        word: &'static str,
        level: Level,
        bind: fn(&Words<'y, 't>, Place, &KeyPath<'_>, &mut Report) -> T,
    ) -> Field<T> {
        let path = self.path.word(word);
        let mut field = if self.is_misspelt(word) { Field::Wrong } else { Field::Absent };
        let nodes: SmallVec<[&Node<'_>; 2]> = self.all(word).collect();
        for node in nodes {
            field = match map_words(node, level, &path, self.report) {
                Some(_) if value::is_null(node) => Field::Absent,
                Some(words) => {
                    Field::Given(Located { value: bind(&words, node.place, &path, self.report), place: node.place })
                }
                None => Field::Wrong,
            };
        }
        field
    }

    fn rate_limit(&mut self) -> Field<RawLimit> {
        let path = self.path.word("rate_limit");
        let mut words = Words::default();
        let mut place = None;
        let mut wrong = self.is_misspelt("rate_limit");
        let nodes: SmallVec<[&Node<'_>; 2]> = self.all("rate_limit").collect();
        for node in nodes {
            if value::is_null(node) {
                (words, place) = (Words::default(), None);
                continue;
            }
            match map_words(node, Level::RateLimit, &path, self.report) {
                Some(more) => {
                    words.known.extend(more.known);
                    words.misspelt.extend(more.misspelt);
                }
                None => wrong = true,
            }
            place = Some(node.place);
        }
        match place {
            _ if wrong => Field::Wrong,
            None => Field::Absent,
            Some(place) => Field::Given(Located { value: limit(&words, &path, self.report), place }),
        }
    }

    fn counted(&mut self) -> RawCounted {
        let path = self.path.word("metadata");
        let nodes: SmallVec<[&Node<'_>; 2]> = self.all("metadata").collect();
        let mut metadata = None;
        for node in nodes {
            value::metadata(node, &mut metadata, &path, self.report);
        }
        RawCounted {
            rate_limit: self.rate_limit(),
            shadow_mode: self.flag("shadow_mode"),
            quota_mode: self.flag("quota_mode"),
            detailed_metric: self.flag("detailed_metric"),
            value_to_metric: self.flag("value_to_metric"),
            metadata,
        }
    }
}

fn descriptor(words: &Words<'_, '_>, place: Place, path: &KeyPath<'_>, report: &mut Report) -> RawDescriptor {
    let mut bind = Bind { words, path, report };
    RawDescriptor {
        place,
        key: bind.text("key"),
        value: bind.text("value"),
        share_threshold: bind.one("share_threshold", value::boolean),
        counted: bind.counted(),
        descriptors: bind.list("descriptors", Level::Descriptor, descriptor),
    }
}

fn subset(words: &Words<'_, '_>, place: Place, path: &KeyPath<'_>, report: &mut Report) -> RawSubset {
    let mut bind = Bind { words, path, report };
    RawSubset { place, entries: bind.list("entries", Level::SubsetEntry, subset_entry), counted: bind.counted() }
}

fn subset_entry(words: &Words<'_, '_>, place: Place, path: &KeyPath<'_>, report: &mut Report) -> RawEntry {
    let mut bind = Bind { words, path, report };
    RawEntry { place, key: bind.text("key"), value: bind.one("value", value::text) }
}

fn limit(words: &Words<'_, '_>, path: &KeyPath<'_>, report: &mut Report) -> RawLimit {
    let mut bind = Bind { words, path, report };
    let unit = match bind.text("unit") {
        Field::Given(Located { value: text, place }) => {
            let unit = Unit::from_name(&text);
            Field::Given(Located { value: RawUnit { text, unit }, place })
        }
        Field::Absent => Field::Absent,
        Field::Wrong => Field::Wrong,
    };
    RawLimit {
        unit,
        requests_per_unit: bind.one("requests_per_unit", value::count),
        unlimited: bind.one("unlimited", value::boolean),
        name: bind.text("name"),
        replaces: present(bind.list("replaces", Level::Replaces, replaced)),
        algorithm: bind.one("algorithm", value::algorithm),
        window: bind.one("window", value::window),
        unit_multiplier: bind.one("unit_multiplier", value::multiplier),
        burst: bind.one("burst", value::count),
        precision: bind.one("precision", value::precision),
    }
}

/// A name in `replaces`; `None` where its type is wrong.
fn replaced(words: &Words<'_, '_>, place: Place, path: &KeyPath<'_>, report: &mut Report) -> Option<Located<String>> {
    match (Bind { words, path, report }).one("name", value::text) {
        Field::Given(located) => Some(located),
        Field::Absent => Some(Located { value: String::new(), place }),
        Field::Wrong => None,
    }
}

/// The elements that have the right type.
fn present<T>(elements: Elements<Option<T>>) -> Elements<T> {
    let Elements { items, is_wrong } = elements;
    Elements { items: items.into_iter().filter_map(|(index, item)| Some((index, item?))).collect(), is_wrong }
}

/// The words of a map that is to be bound at `level`; `None`, with a mistake, if `node` is no map. Null is an empty one.
fn map_words<'y, 't>(
    node: &'y Node<'t>,
    level: Level,
    path: &KeyPath<'_>,
    report: &mut Report,
) -> Option<Words<'y, 't>> {
    match &node.value {
        Value::Map(pairs) => Some(known_words(pairs, level, path, report)),
        _ if value::is_null(node) => Some(Words::default()),
        _ => {
            check_shape(node, path, report);
            value::wrong_type(node, "a map", path, report);
            None
        }
    }
}

/// The words of an element of a list (V4).
fn element_words<'y, 't>(
    node: &'y Node<'t>,
    level: Level,
    path: &KeyPath<'_>,
    report: &mut Report,
) -> Option<Words<'y, 't>> {
    match &node.value {
        Value::Map(pairs) => Some(known_words(pairs, level, path, report)),
        _ => {
            no_map_in_list(node, path, report);
            None
        }
    }
}

fn no_map_in_list(node: &Node<'_>, path: &KeyPath<'_>, report: &mut Report) {
    let begin = if path.is_ours() { "" } else { "config error, yaml file contains list of type other than map: " };
    let found = node.describe();
    let text = format!("{begin}{found} where a map is needed: every element is a map such as {{key: user}}");
    report.mistake(path, node.place, text);
}

/// Goes over the keys of a map (V2, V3) and keeps those that mean something at `level`.
fn known_words<'y, 't>(pairs: &'y [Pair<'t>], level: Level, path: &KeyPath<'_>, report: &mut Report) -> Words<'y, 't> {
    let mut words = Words::default();
    // With a merge in the map a repeated key is what is meant.
    let has_merge = pairs.iter().any(|pair| pair.merged);
    for pair in pairs {
        let Some(name) = value::word_text(&pair.key) else {
            let key = pair.key.describe();
            let text = format!("config error, key is not of type string: {key}; put it in quotes or take it out");
            report.mistake(path, pair.key.place, text);
            continue;
        };
        let below = path.word(name);
        match words::find_at(name, level) {
            None => {
                let (meant, hint) = words::meant(name, level);
                words.misspelt.extend(meant);
                let text = format!("config error, unknown key '{}': {hint}", super::error::quoted(name));
                report.mistake(&below, pair.key.place, text);
            }
            Some(word) if word.levels.contains(&level) => {
                // A look at the last few finds what a person repeats; a map of a million keys is not gone through again.
                let repeated = words.known.iter().rev().take(32).any(|(earlier, _)| *earlier == word.name);
                if repeated && !has_merge {
                    report.warning(&below, pair.key.place, "stands here twice; the last one counts");
                }
                words.known.push((word.name, &pair.value));
            }
            Some(word) if word.of_reference && !level.is_extension() => {
                let text = format!("means nothing in {}; it belongs in {}", level.name(), word.home());
                report.warning(&below, pair.key.place, text);
                check_shape(&pair.value, &below, report);
            }
            Some(word) => {
                let (meant, hint) = words::meant(name, level);
                words.misspelt.extend(meant);
                let hint = meant.map_or(String::new(), |_| format!("; {hint}"));
                let text =
                    format!("'{}' can't stand in {}; it belongs in {}{hint}", word.name, level.name(), word.home());
                report.mistake(&below, pair.key.place, text);
            }
        }
    }
    words
}

/// What the reference checks of every value wherever it stands (V2 to V5), for values that mean nothing here.
fn check_shape(node: &Node<'_>, path: &KeyPath<'_>, report: &mut Report) {
    match &node.value {
        Value::Scalar(..) => value::check_scalar(node, path, report),
        Value::Map(pairs) => check_pairs(pairs, path, report),
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = path.item(index, "");
                match &item.value {
                    Value::Map(pairs) => check_pairs(pairs, &path, report),
                    _ => no_map_in_list(item, &path, report),
                }
            }
        }
    }
}

fn check_pairs(pairs: &[Pair<'_>], path: &KeyPath<'_>, report: &mut Report) {
    for pair in pairs {
        let Some(name) = value::word_text(&pair.key) else {
            let text = format!("config error, key is not of type string: {}", pair.key.describe());
            report.mistake(path, pair.key.place, text);
            continue;
        };
        let below = path.word(name);
        match words::find(name) {
            Some(word) if word.of_reference && name != "metadata" => check_shape(&pair.value, &below, report),
            Some(word) if word.of_reference => {}
            _ => {
                let text = format!("config error, unknown key '{}'", super::error::quoted(name));
                report.mistake(&below, pair.key.place, text);
            }
        }
    }
}
