//! Mistakes and warnings, and the reader's way of collecting them.

use std::cell::RefCell;
use std::fmt;

use thiserror::Error;

use crate::rules::{Finding, Place};

/// Most mistakes that are listed, and most warnings. Past that a reader repairs the cause, not the lines.
pub const MISTAKES_MAX: usize = 100;

/// Every mistake of a bootstrap, in the order of its lines: a line with their number, then a line for each.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Errors {
    findings: Vec<Finding>,
    unlisted: usize,
}

/// Collects them; shared by everything that reads a file, hence the cells.
#[derive(Debug)]
pub(super) struct Report {
    file: String,
    mistakes: RefCell<Vec<Finding>>,
    unlisted: RefCell<usize>,
    warnings: RefCell<Vec<Finding>>,
}

// === impl Errors ===

impl Errors {
    /// The mistakes that are listed: at least one, at most [`MISTAKES_MAX`].
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mistakes = self.findings.len() + self.unlisted;
        let file = self.findings.first().map_or("", |finding| &finding.file);
        write!(f, "{mistakes} mistake{} in {file}:", if mistakes == 1 { "" } else { "s" })?;
        for finding in &self.findings {
            write!(f, "\n{finding}")?;
        }
        match self.unlisted {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

// === impl Report ===

impl Report {
    pub(super) fn new(file: &str) -> Report {
        let (mistakes, warnings) = (RefCell::default(), RefCell::default());
        Report { file: file.to_owned(), mistakes, unlisted: RefCell::default(), warnings }
    }

    pub(super) fn mistake(&self, path: &str, place: Place, text: impl Into<String>) {
        let mut mistakes = self.mistakes.borrow_mut();
        if mistakes.len() < MISTAKES_MAX {
            mistakes.push(self.finding(path, place, text.into()));
        } else {
            *self.unlisted.borrow_mut() += 1;
        }
    }

    pub(super) fn warning(&self, path: &str, place: Place, text: impl Into<String>) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MISTAKES_MAX {
            warnings.push(self.finding(path, place, text.into()));
        }
    }

    fn finding(&self, path: &str, place: Place, text: String) -> Finding {
        Finding { file: self.file.clone(), place, path: path.to_owned(), text }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.mistakes.borrow().is_empty()
    }

    /// The warnings, in the order of lines.
    pub(super) fn warnings(&self) -> Vec<Finding> {
        let mut warnings = self.warnings.borrow().clone();
        warnings.sort_by_key(|warning| warning.place);
        warnings
    }

    /// The mistakes, in the order of lines.
    pub(super) fn failed(&self) -> Errors {
        let mut findings = self.mistakes.borrow().clone();
        findings.sort_by_key(|finding| finding.place);
        Errors { findings, unlisted: *self.unlisted.borrow() }
    }
}
