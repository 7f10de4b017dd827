//! What is wrong with rule files, and where.
//!
//! A rule set is judged as a whole: every mistake in every file is collected, so that one look at the list is enough to
//! repair them all. Each is one line, `file:line:column: path of keys: sentence`, and where the reference service
//! rejects the same thing its short text is part of the sentence, so that tools which look for it still find it.

use std::collections::HashMap;
use std::fmt;

use thiserror::Error;

/// Most mistakes, and most warnings, that are listed. Past that a reader repairs the cause, not the lines.
pub const FINDINGS_MAX: usize = 100;

/// Most characters of a value that a sentence quotes.
const QUOTED_MAX: usize = 80;

/// A position in a file. Both numbers count from 1; 0 where there is none, as for a file that can't be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// One mistake or one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct RuleErrors {
    findings: Vec<Finding>,
    unlisted: usize,
}

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

/// Collects mistakes and warnings, up to [`FINDINGS_MAX`] of each.
#[derive(Debug, Default)]
pub(super) struct Report {
    mistakes: Findings,
    warnings: Findings,
}

#[derive(Debug, Default)]
struct Findings {
    listed: Vec<Finding>,
    unlisted: usize,
}

/// `text`, shortened to what a sentence can hold.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
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
    /// The mistakes that are listed: at least one, at most [`FINDINGS_MAX`].
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many there are besides.
    #[must_use]
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }
}

impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{finding}")?;
        }
        if self.unlisted > 0 {
            write!(f, "\nand {} more", self.unlisted)?;
        }
        Ok(())
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

    /// The warnings, if there was no mistake; either in the order of `files` and of lines.
    pub(super) fn finish(mut self, files: &[&str]) -> Result<Vec<Warning>, RuleErrors> {
        let order: HashMap<&str, usize> = files.iter().enumerate().map(|(index, file)| (*file, index)).collect();
        let position = |finding: &Finding| (order.get(finding.file.as_str()).copied(), finding.place);
        self.mistakes.listed.sort_by_key(position);
        self.warnings.listed.sort_by_key(position);
        if !self.mistakes.listed.is_empty() {
            return Err(RuleErrors { findings: self.mistakes.listed, unlisted: self.mistakes.unlisted });
        }
        let Findings { mut listed, unlisted } = self.warnings;
        if let Some(last) = listed.last().filter(|_| unlisted > 0) {
            let text = format!("and {unlisted} more warnings");
            let rest = Finding { place: Place::default(), path: String::new(), text, ..last.clone() };
            listed.push(rest);
        }
        Ok(listed)
    }
}

impl Findings {
    fn add(&mut self, path: &KeyPath<'_>, place: Place, text: String) {
        if self.listed.len() == FINDINGS_MAX {
            self.unlisted += 1;
            return;
        }
        let file = path.file_name().to_owned();
        self.listed.push(Finding { file, place, path: path.to_string(), text });
    }
}
