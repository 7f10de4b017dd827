//! What is wrong with rule files, and where.
//!
//! A rule set is judged as a whole: every mistake in every file is collected, so that one look at the list is enough to
//! repair them all. Each is one line, `file:line:column: path of keys: sentence`, and where the reference service
//! rejects the same thing its short text is part of the sentence, so that tools which look for it still find it.

use std::collections::HashMap;
use std::fmt;

use thiserror::Error;

use super::words;

/// Most mistakes that a log lists, and most warnings. Past that a reader repairs the cause, not the lines.
pub const FINDINGS_MAX: usize = 100;

/// Most mistakes that are kept, for those who ask for all of them: some hundred kilobytes of text.
pub const FINDINGS_KEPT_MAX: usize = 1_000;

/// Most characters of a value that a sentence quotes.
pub(super) const QUOTED_MAX: usize = 80;

/// A position in a file. Both numbers count from 1; 0 where there is none, as for a file that can't be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// One mistake or one warning.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// The name of the file.
    pub file: String,
    /// Where in the file.
    pub place: Place,
    /// The keys that lead there, such as `descriptors[0](path_/v1/*).rate_limit.unit`; empty at the root.
    pub path: String,
    /// What is wrong and what would be right.
    pub text: String,
}

/// Something that is accepted and probably not meant.
pub type Warning = Finding;

/// Every mistake of a set of rule files, in the order of files and lines.
///
/// Displayed it is a line with their number and then a line for each, of which there are [`FINDINGS_MAX`] at most and,
/// as far as that reaches, one of every file. [`RuleErrors::all`] displays everything that was kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct RuleErrors {
    findings: Vec<Finding>,
    unlisted: usize,
    files: usize,
    /// What holds rules: a file, or a resource.
    holder: &'static str,
}

/// All mistakes that were kept, for a reader who asked for them.
#[derive(Clone, Copy, Debug)]
pub struct AllErrors<'e>(&'e RuleErrors);

/// The keys that lead to a value: a list from the inside out, on the stack of those who read. It begins with the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyPath<'a> {
    parent: Option<&'a KeyPath<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    File(&'a str),
    Word(&'a str),
    Item { index: usize, label: &'a str },
}

/// Collects mistakes, up to [`FINDINGS_KEPT_MAX`], and warnings, up to [`FINDINGS_MAX`].
#[derive(Clone, Debug)]
pub(super) struct Report {
    mistakes: Findings,
    warnings: Findings,
}

/// Findings up to a number. Once it is reached, files with many make room for those of files with few.
#[derive(Clone, Debug)]
struct Findings {
    max: usize,
    listed: Vec<Finding>,
    unlisted: usize,
    /// How many are listed of each file that has any.
    of_file: HashMap<String, usize>,
    /// The largest number in `of_file`, known from when the list is full.
    most: usize,
}

/// `text`, shortened to what a sentence can hold. Control characters are written out: a name with a line break would write
/// lines of its own into logs.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().min(4 * QUOTED_MAX));
    let mut letters = text.chars();
    for letter in letters.by_ref().take(QUOTED_MAX) {
        match letter {
            control if control.is_control() => quoted.extend(control.escape_default()),
            other => quoted.push(other),
        }
    }
    if letters.next().is_some() {
        quoted.push('…');
    }
    quoted
}

// === impl Place ===

impl Place {
    /// `rules.yaml:7`, or the name alone of what has no lines.
    pub(super) fn in_file(self, file: &str) -> String {
        if self.line > 0 { format!("{file}:{}", self.line) } else { file.to_owned() }
    }
}

// === impl Finding ===

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.place.line > 0 {
            write!(f, ":{}:{}", self.place.line, self.place.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.text)
    }
}

// === impl RuleErrors ===

impl RuleErrors {
    /// The mistakes that were kept: at least one, at most [`FINDINGS_KEPT_MAX`].
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many there are besides.
    #[must_use]
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// All that were kept, to be displayed.
    #[must_use]
    pub fn all(&self) -> AllErrors<'_> {
        AllErrors(self)
    }

    /// Writes the summary and at most `max` mistakes, in their order: the first of every file before the second of any.
    fn write(&self, f: &mut fmt::Formatter<'_>, max: usize) -> fmt::Result {
        let mistakes = self.findings.len() + self.unlisted;
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (files, holder) = (self.files, self.holder);
        write!(f, "{mistakes} mistake{} in {files} {holder}{}:", plural(mistakes), plural(files))?;
        let mut of_file: HashMap<&str, usize> = HashMap::new();
        let mut chosen: Vec<(usize, usize)> = Vec::with_capacity(self.findings.len());
        for (index, finding) in self.findings.iter().enumerate() {
            let rank = of_file.entry(&finding.file).or_default();
            chosen.push((*rank, index));
            *rank += 1;
        }
        chosen.sort_unstable();
        chosen.truncate(max);
        chosen.sort_unstable_by_key(|(_, index)| *index);
        for (_, index) in &chosen {
            write!(f, "\n{}", self.findings[*index])?;
        }
        match mistakes - chosen.len() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, FINDINGS_MAX)
    }
}

// === impl AllErrors ===

impl fmt::Display for AllErrors<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, FINDINGS_KEPT_MAX)
    }
}

// === impl KeyPath ===

impl<'a> KeyPath<'a> {
    pub(super) fn file(name: &'a str) -> KeyPath<'a> {
        KeyPath { parent: None, segment: Segment::File(name) }
    }

    pub(super) fn word(&'a self, word: &'a str) -> KeyPath<'a> {
        KeyPath { parent: Some(self), segment: Segment::Word(word) }
    }

    /// An element of a list; `label` says what it is called, as far as that is known.
    pub(super) fn item(&'a self, index: usize, label: &'a str) -> KeyPath<'a> {
        KeyPath { parent: Some(self), segment: Segment::Item { index, label } }
    }

    fn file_name(&self) -> &'a str {
        match (self.segment, self.parent) {
            (Segment::File(name), _) => name,
            (_, Some(parent)) => parent.file_name(),
            (_, None) => "",
        }
    }

    /// Whether one of the keys is a word that only we know, so that the reference service has no text for a mistake.
    pub(super) fn is_ours(&self) -> bool {
        let here = match self.segment {
            Segment::Word(word) => words::find(word).is_some_and(|word| !word.of_reference),
            Segment::File(_) | Segment::Item { .. } => false,
        };
        here || self.parent.is_some_and(KeyPath::is_ours)
    }
}

impl fmt::Display for KeyPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.segment {
            Segment::File(_) => Ok(()),
            Segment::Word(word) => {
                let first = self.parent.is_none_or(|parent| matches!(parent.segment, Segment::File(_)));
                write!(f, "{}{}", if first { "" } else { "." }, quoted(word))
            }
            Segment::Item { index, label: "" } => write!(f, "[{index}]"),
            Segment::Item { index, label } => write!(f, "[{index}]({})", quoted(label)),
        }
    }
}

// === impl Report ===

impl Report {
    pub(super) fn mistake(&mut self, path: &KeyPath<'_>, place: Place, text: impl Into<String>) {
        self.mistakes.add(path, place, text.into());
    }

    pub(super) fn warning(&mut self, path: &KeyPath<'_>, place: Place, text: impl Into<String>) {
        self.warnings.add(path, place, text.into());
    }

    pub(super) fn mistakes(&self) -> &[Finding] {
        &self.mistakes.listed
    }

    #[cfg(test)]
    pub(super) fn warnings(&self) -> &[Warning] {
        &self.warnings.listed
    }

    /// The warnings, if there was no mistake; either in the order of `files` and of lines.
    pub(super) fn finish(self, files: &[&str]) -> Result<Vec<Warning>, RuleErrors> {
        self.finish_of("file", files)
    }

    /// The same where rules are held by something else than files.
    pub(super) fn finish_of(mut self, holder: &'static str, files: &[&str]) -> Result<Vec<Warning>, RuleErrors> {
        let order: HashMap<&str, usize> = files.iter().enumerate().map(|(index, file)| (*file, index)).collect();
        let position = |finding: &Finding| (order.get(finding.file.as_str()).copied(), finding.place);
        self.mistakes.listed.sort_by_key(position);
        self.warnings.listed.sort_by_key(position);
        if !self.mistakes.listed.is_empty() {
            let Findings { listed, unlisted, of_file, .. } = self.mistakes;
            return Err(RuleErrors { findings: listed, unlisted, files: of_file.len(), holder });
        }
        let Findings { mut listed, unlisted, .. } = self.warnings;
        if let Some(last) = listed.last().filter(|_| unlisted > 0) {
            let text = format!("and {unlisted} more warnings");
            let rest = Finding { place: Place::default(), path: String::new(), text, ..last.clone() };
            listed.push(rest);
        }
        Ok(listed)
    }
}

impl Default for Report {
    fn default() -> Report {
        Report { mistakes: Findings::new(FINDINGS_KEPT_MAX), warnings: Findings::new(FINDINGS_MAX) }
    }
}

// === impl Findings ===

impl Findings {
    fn new(max: usize) -> Findings {
        Findings { max, listed: Vec::new(), unlisted: 0, of_file: HashMap::new(), most: 0 }
    }

    fn add(&mut self, path: &KeyPath<'_>, place: Place, text: String) {
        let file = path.file_name();
        if !self.of_file.contains_key(file) {
            self.of_file.insert(file.to_owned(), 0);
        }
        if self.listed.len() == self.max {
            self.unlisted += 1;
            if !self.make_room(file) {
                return;
            }
        }
        if let Some(count) = self.of_file.get_mut(file) {
            *count += 1;
        }
        self.listed.push(Finding { file: file.to_owned(), place, path: path.to_string(), text });
        if self.listed.len() == self.max {
            self.most = self.of_file.values().copied().max().unwrap_or_default();
        }
    }

    /// Takes out the last finding of the file with the most, if it has more than `file` will have.
    fn make_room(&mut self, file: &str) -> bool {
        if self.of_file.get(file).is_none_or(|count| count + 1 >= self.most) {
            return false;
        }
        let of_file = &self.of_file;
        let most = self.most;
        let Some(last) = self.listed.iter().rposition(|finding| of_file.get(&finding.file) == Some(&most)) else {
            return false;
        };
        let taken = self.listed.remove(last);
        if let Some(count) = self.of_file.get_mut(&taken.file) {
            *count -= 1;
        }
        true
    }
}
