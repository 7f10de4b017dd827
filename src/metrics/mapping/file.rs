//! A mapping file: read whole, and every mistake told with its line.
//!
//! What has no meaning here is accepted and left alone: how long a series lives (`ttl`; here as long as what it is made
//! of), how a summary forgets (`max_age` and its like), `honor_labels`, `glob_disable_ordering`. An unknown word is a
//! mistake: it is more often a slip than a word of tomorrow.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder, RegexSetBuilder};

use super::{Action, Kind, Mapping, Observer, Patterns, Rule, Target};
use crate::rules::Finding;
use crate::rules::Place;
use crate::rules::scalar::Kind as ScalarKind;
use crate::rules::yaml::{self, Node, Value};

/// Longest file, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// Most mappings, labels of one, and buckets or quantiles of one. All are many times what dashboards use.
const MAPPINGS_MAX: usize = 1_000;
const LABELS_MAX: usize = 20;
const EDGES_MAX: usize = 100;

/// Most memory of a compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Most memory of all patterns of a kind compiled into one.
const PATTERNS_BYTES_MAX: usize = 64 << 20;

/// Buckets where the file says none: those of Prometheus's own libraries.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Quantiles where the file says none.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

const DEFAULTS: [&str; 10] = [
    "observer_type",
    "timer_type",
    "buckets",
    "quantiles",
    "match_type",
    "glob_disable_ordering",
    "ttl",
    "summary_options",
    "histogram_options",
    "honor_labels",
];

const MAPPING: [&str; 17] = [
    "match",
    "match_type",
    "match_metric_type",
    "name",
    "labels",
    "help",
    "action",
    "scale",
    "observer_type",
    "timer_type",
    "buckets",
    "quantiles",
    "summary_options",
    "histogram_options",
    "ttl",
    "honor_labels",
    "max_age",
];

/// Reads a file and collects what is wrong with it.
struct Reader<'f> {
    file: &'f str,
    mistakes: Vec<Finding>,
}

/// A map of the file: its words with their values.
struct Words<'n> {
    place: Place,
    path: String,
    pairs: Vec<(Cow<'n, str>, &'n Node<'n>)>,
}

/// What `defaults` says of durations.
#[derive(Clone, Debug)]
struct Defaults {
    is_histogram: bool,
    buckets: Vec<f64>,
    quantiles: Vec<f64>,
}

// === impl Mapping ===

impl Mapping {
    /// Reads the text of the file `file`.
    ///
    /// # Errors
    /// All mistakes at once, in the order in which they were found.
    pub fn read(file: &str, text: &str) -> Result<Mapping, Vec<Finding>> {
        let mut reader = Reader { file, mistakes: Vec::new() };
        let mapping = reader.mapping(text);
        match mapping {
            Some(mapping) if reader.mistakes.is_empty() => Ok(mapping),
            _ => Err(reader.mistakes),
        }
    }
}

// === impl Reader ===

impl<'f> Reader<'f> {
    fn mapping(&mut self, text: &str) -> Option<Mapping> {
        if text.len() > BYTES_MAX {
            let sentence = format!("the file has {} bytes, at most {BYTES_MAX} are read", text.len());
            return self.wrong(Place::default(), "", sentence);
        }
        let document = match yaml::parse(text) {
            Ok(document) => document,
            Err(error) => return self.wrong(error.place, "", error.text),
        };
        let root = match &document.root {
            Some(root) => self.words(root, "", &["defaults", "mappings"])?,
            None => Words { place: Place::default(), path: String::new(), pairs: Vec::new() },
        };
        let mut defaults = Defaults { is_histogram: false, buckets: BUCKETS.to_vec(), quantiles: QUANTILES.to_vec() };
        let mut is_expression_by_default = false;
        if let Some(node) = root.get("defaults") {
            let words = self.words(node, "defaults", &DEFAULTS)?;
            is_expression_by_default = self.is_expression(&words, false);
            defaults = self.defaults(&words, &defaults);
        }
        let (mut globs, mut expressions) = (Vec::new(), Vec::new());
        for (index, node) in self.list(root.get("mappings"), "mappings", MAPPINGS_MAX).iter().enumerate() {
            let Some(words) = self.words(node, &format!("mappings[{index}]"), &MAPPING) else { continue };
            let is_expression = self.is_expression(&words, is_expression_by_default);
            if let Some(rule) = self.rule(&words, is_expression, &defaults) {
                if is_expression { expressions.push(rule) } else { globs.push(rule) }
            }
        }
        let (globs, expressions) = (self.patterns(globs)?, self.patterns(expressions)?);
        Some(Mapping { globs, expressions, observer: defaults.observer() })
    }

    fn rule(&mut self, words: &Words<'_>, is_expression: bool, defaults: &Defaults) -> Option<Rule> {
        let pattern = match words.get("match") {
            Some(node) => self.pattern(node, &words.path, is_expression),
            None => self.wrong(words.place, &words.path, "`match` is missing".to_owned()),
        };
        let kinds = [
            ("counter", Kind::Counter),
            ("gauge", Kind::Gauge),
            ("observer", Kind::Observer),
            ("timer", Kind::Observer),
        ];
        let kind = self.word(words, "match_metric_type", &kinds);
        let is_dropped = self.word(words, "action", &[("map", false), ("drop", true)]).unwrap_or(false);
        let target = self.target(words, is_dropped, defaults);
        let action = if is_dropped { Action::Drop } else { Action::Map(target?) };
        Some(Rule { pattern: pattern?, kind, action })
    }

    fn target(&mut self, words: &Words<'_>, is_dropped: bool, defaults: &Defaults) -> Option<Target> {
        let name = match words.get("name") {
            Some(node) => self.text(node, &words.path, "name").filter(|name| !name.is_empty()),
            None if is_dropped => None,
            None => self.wrong(words.place, &words.path, "`name` is missing, and `action` is not drop".to_owned()),
        };
        let labels = self.labels(words);
        let help = words.get("help").and_then(|node| self.text(node, &words.path, "help"));
        let scale = words.get("scale").and_then(|node| self.number(node, &words.path, "scale"));
        let observer = self.defaults(words, defaults).observer();
        Some(Target { name: name?, labels, help, observer, scale: scale.unwrap_or(1.0) })
    }

    fn labels(&mut self, words: &Words<'_>) -> Vec<(String, String)> {
        let Some(node) = words.get("labels") else { return Vec::new() };
        let path = format!("{}.labels", words.path);
        let Value::Map(pairs) = &node.value else {
            self.wrong::<()>(node.place, &path, format!("{} where a map of labels is needed", node.describe()));
            return Vec::new();
        };
        if pairs.len() > LABELS_MAX {
            self.wrong::<()>(node.place, &path, format!("{} labels, at most {LABELS_MAX} are read", pairs.len()));
        }
        let mut labels: Vec<(String, String)> = Vec::new();
        for pair in pairs {
            let (Some(name), Some(value)) = (self.text(&pair.key, &path, ""), self.text(&pair.value, &path, "")) else {
                continue;
            };
            let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && !name.starts_with("__")
                && !["", "le", "quantile"].contains(&name.as_str());
            if is_name {
                labels.retain(|(known, _)| *known != name);
                labels.push((name, value));
            } else {
                let right = "letters, digits and _, with no digit and no __ at its start, and neither le nor quantile";
                self.wrong::<()>(pair.key.place, &path, format!("the label '{name}' must be named with {right}"));
            }
        }
        labels.sort();
        labels
    }

    /// The pattern as a regular expression. A star of a glob is one part between dots.
    fn pattern(&mut self, node: &Node<'_>, path: &str, is_expression: bool) -> Option<Regex> {
        let text = self.text(node, path, "match")?;
        let expression = if is_expression {
            text
        } else {
            let parts: Vec<String> = text
                .split('.')
                .map(|part| if part == "*" { "([^.]*)".to_owned() } else { regex::escape(part) })
                .collect();
            if text.split('.').any(|part| part != "*" && part.contains('*')) {
                let sentence = format!("`match` is '{text}', but a * of a glob stands for a whole part between dots");
                return self.wrong(node.place, path, sentence);
            }
            format!("^{}$", parts.join(r"\."))
        };
        match RegexBuilder::new(&expression).size_limit(PATTERN_BYTES_MAX).build() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let said = error.to_string();
                let reason = said.lines().last().unwrap_or_default();
                self.wrong(node.place, path, format!("`match` is no regular expression: {reason}"))
            }
        }
    }

    fn patterns(&mut self, rules: Vec<Rule>) -> Option<Patterns> {
        let expressions = rules.iter().map(|rule| rule.pattern.as_str());
        match RegexSetBuilder::new(expressions).size_limit(PATTERNS_BYTES_MAX).build() {
            Ok(set) => Some(Patterns { set, rules }),
            Err(error) => self.wrong(Place::default(), "mappings", format!("all patterns together: {error}")),
        }
    }

    fn is_expression(&mut self, words: &Words<'_>, default: bool) -> bool {
        self.word(words, "match_type", &[("glob", false), ("regex", true)]).unwrap_or(default)
    }

    /// What the words say of types and observers, and where they are silent what `defaults` says.
    fn defaults(&mut self, words: &Words<'_>, defaults: &Defaults) -> Defaults {
        let types = [("histogram", true), ("summary", false)];
        let timer = self.word(words, "timer_type", &types);
        let is_histogram = self.word(words, "observer_type", &types).or(timer).unwrap_or(defaults.is_histogram);
        let of_options = |reader: &mut Self, options: &str, word: &str| {
            let known = ["buckets", "native_histogram_bucket_factor", "native_histogram_max_buckets"];
            let known: &[&str] = if options == "histogram_options" {
                &known
            } else {
                &["quantiles", "max_age", "age_buckets", "buf_cap"]
            };
            let words = reader.words(words.get(options)?, &format!("{}.{options}", words.path), known)?;
            Some(words.get(word).map(|node| reader.numbers(node, &words.path, word)).unwrap_or_default())
        };
        let of_word = |reader: &mut Self, word: &str| {
            words.get(word).map(|node| reader.numbers(node, &words.path, word)).unwrap_or_default()
        };
        let chosen = |options: Option<Vec<f64>>, word: Vec<f64>, default: &[f64]| {
            let options = options.unwrap_or_default();
            [options, word, default.to_vec()].into_iter().find(|numbers| !numbers.is_empty()).unwrap_or_default()
        };
        let buckets = (of_options(self, "histogram_options", "buckets"), of_word(self, "buckets"));
        let quantiles = (of_options(self, "summary_options", "quantiles"), of_word(self, "quantiles"));
        Defaults {
            is_histogram,
            buckets: chosen(buckets.0, buckets.1, &defaults.buckets),
            quantiles: chosen(quantiles.0, quantiles.1, &defaults.quantiles),
        }
    }

    /// Numbers that ascend; of quantiles, which are maps, what they are called.
    fn numbers(&mut self, node: &Node<'_>, path: &str, word: &str) -> Vec<f64> {
        let path = format!("{path}.{word}");
        let mut numbers = Vec::new();
        for node in self.list(Some(node), &path, EDGES_MAX) {
            let number = match &node.value {
                Value::Map(_) if word == "quantiles" => {
                    let words = self.words(node, &path, &["quantile", "error"]);
                    words.and_then(|words| self.number(words.get("quantile")?, &path, "quantile"))
                }
                _ => self.number(node, &path, ""),
            };
            numbers.extend(number);
        }
        if !numbers.is_sorted_by(|one, next| one < next) {
            self.wrong::<()>(node.place, &path, "each number must be larger than the one before".to_owned());
        }
        if word == "quantiles" && numbers.iter().any(|number| !(0.0..=1.0).contains(number)) {
            self.wrong::<()>(node.place, &path, "a quantile must be from 0 to 1".to_owned());
        }
        numbers
    }

    fn words<'n>(&mut self, node: &'n Node<'n>, path: &str, known: &[&str]) -> Option<Words<'n>> {
        let mut words = Words { place: node.place, path: path.to_owned(), pairs: Vec::new() };
        let pairs = match &node.value {
            Value::Map(pairs) => pairs,
            Value::Scalar(_, ScalarKind::Null) => return Some(words),
            Value::Scalar(..) | Value::List(_) => {
                return self.wrong(node.place, path, format!("{} where a map is needed", node.describe()));
            }
        };
        for pair in pairs {
            match &pair.key.value {
                Value::Scalar(word, _) if known.contains(&&**word) => words.pairs.push((word.clone(), &pair.value)),
                _ => {
                    let sentence = format!("{} is no word here; known are {}", pair.key.describe(), known.join(", "));
                    self.wrong::<()>(pair.key.place, path, sentence);
                }
            }
        }
        Some(words)
    }

    fn list<'n>(&mut self, node: Option<&'n Node<'n>>, path: &str, max: usize) -> &'n [Node<'n>] {
        match node.map(|node| (&node.value, node)) {
            None | Some((Value::Scalar(_, ScalarKind::Null), _)) => &[],
            Some((Value::List(items), node)) => {
                if items.len() > max {
                    self.wrong::<()>(node.place, path, format!("{} of them, at most {max} are read", items.len()));
                }
                &items[..items.len().min(max)]
            }
            Some((Value::Scalar(..) | Value::Map(_), node)) => {
                self.wrong::<()>(node.place, path, format!("{} where a list is needed", node.describe()));
                &[]
            }
        }
    }

    fn word<T: Copy>(&mut self, words: &Words<'_>, word: &str, choice: &[(&str, T)]) -> Option<T> {
        let node = words.get(word)?;
        let text = self.text(node, &words.path, word)?;
        let chosen = choice.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if chosen.is_none() && !text.is_empty() {
            let names: Vec<&str> = choice.iter().map(|(name, _)| *name).collect();
            let sentence = format!("`{word}` is {}, but must be one of {}", node.describe(), names.join(", "));
            self.wrong::<()>(node.place, &words.path, sentence);
        }
        chosen
    }

    fn text(&mut self, node: &Node<'_>, path: &str, word: &str) -> Option<String> {
        match &node.value {
            Value::Scalar(text, kind) if !matches!(kind, ScalarKind::Null | ScalarKind::NotText) => {
                Some(text.clone().into_owned())
            }
            _ => self.wrong(node.place, &joined(path, word), format!("{} where a text is needed", node.describe())),
        }
    }

    fn number(&mut self, node: &Node<'_>, path: &str, word: &str) -> Option<f64> {
        match &node.value {
            Value::Scalar(_, ScalarKind::Int(number)) => Some(*number as f64),
            Value::Scalar(_, ScalarKind::Float(number)) if number.is_finite() => Some(*number),
            _ => self.wrong(node.place, &joined(path, word), format!("{} where a number is needed", node.describe())),
        }
    }

    fn wrong<T>(&mut self, place: Place, path: &str, text: String) -> Option<T> {
        self.mistakes.push(Finding { file: self.file.to_owned(), place, path: path.to_owned(), text });
        None
    }
}

fn joined(path: &str, word: &str) -> String {
    if word.is_empty() { path.to_owned() } else { format!("{path}.{word}") }
}

// === impl Words ===

impl<'n> Words<'n> {
    fn get(&self, word: &str) -> Option<&'n Node<'n>> {
        self.pairs.iter().rev().find(|(name, _)| name == word).map(|(_, node)| *node)
    }
}

// === impl Defaults ===

impl Defaults {
    fn observer(&self) -> Observer {
        if self.is_histogram {
            Observer::Histogram(self.buckets.clone())
        } else {
            Observer::Summary(self.quantiles.clone())
        }
    }
}
