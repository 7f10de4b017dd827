//! What can be wrong with settings, one sentence each.
//!
//! An operator who mends one mistake should not meet the next at the next start: all are collected, then shown
//! together, a line each. A sentence names the place (variable, or file, line and key), what was written and what
//! would be right; what was written is left out where it may hold a password.

use std::fmt;

use thiserror::Error;

/// One mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// A value that its key can't have.
    #[error("{place} is {}, but must be {right}", Shown(value))]
    Invalid {
        /// The variable, or file, line and key.
        place: String,
        /// What was written; `None` where it may be a secret.
        value: Option<String>,
        /// What would be right.
        right: String,
    },
    /// A key in a file that does not exist.
    #[error("{place} is not a setting{suggestion}")]
    UnknownKey {
        /// File, line and key.
        place: String,
        /// The nearest key as a subordinate clause; empty if none is near.
        suggestion: String,
    },
    /// A key that a file sets twice.
    #[error("{place} is set a second time in this file; keep one of the two")]
    Twice {
        /// File, line and key.
        place: String,
    },
    /// A file that can't be read as settings.
    #[error("{file} cannot be read as settings: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// Two settings that don't go together, or one that needs another.
    #[error("{0}")]
    Conflict(String),
}

/// All mistakes in the settings: at least one, shown one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsErrors {
    errors: Vec<SettingsError>,
}

/// Something an operator should know although it stops nothing, as a sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
}

/// Longest part of a value that a message repeats, in characters.
const SHOWN_MAX: usize = 100;

/// `text` in quotes, without line breaks and control characters, cut to a readable length: what an operator wrote
/// can't forge a line of the log.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((cut, _)) => format!("{:?}…", &text[..cut]),
        None => format!("{text:?}"),
    }
}

struct Shown<'v>(&'v Option<String>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => f.write_str(&quoted(value)),
            None => f.write_str("not usable (its value is not shown, it may hold a password)"),
        }
    }
}

// === impl SettingsErrors ===

impl SettingsErrors {
    /// The mistakes, or nothing if there are none.
    pub(super) fn try_new(errors: Vec<SettingsError>) -> Option<SettingsErrors> {
        if errors.is_empty() { None } else { Some(SettingsErrors { errors }) }
    }

    /// Each mistake.
    pub fn iter(&self) -> impl Iterator<Item = &SettingsError> {
        self.errors.iter()
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {}

// === impl Note ===

impl Note {
    pub(super) fn new(text: String) -> Note {
        Note { text }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
