//! What is logged, and how it looks.
//!
//! The filter language takes any word for a module's name: a misspelt `inof` would silence everything but a module of
//! that name. So a word alone must be a level here; modules are written with one, `tidegate=debug`.

use std::fmt;

use tracing_subscriber::EnvFilter;

use super::text::Parsed;

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Which events are written.
    pub filter: LogFilter,
    /// How they look.
    pub format: LogFormat,
}

/// A valid filter: a level, or directives by module with commas between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    directives: String,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Longest filter, in bytes: each directive is compared with each event's module.
const BYTES_MAX: usize = 4096;

// === impl LogFilter ===

impl LogFilter {
    /// Reads a filter; else says what would be right, in words that follow "must be".
    pub(super) fn parse(text: &str) -> Parsed<LogFilter> {
        let right = || format!("{}, or directives such as \"info,tidegate::reload=debug\"", LEVELS.join(", "));
        let directive = |part: &str| match part.split_once('=') {
            Some((module, level)) => is_module(module) && is_level(level),
            None => is_level(part),
        };
        let is_filter = text.len() <= BYTES_MAX && text.split(',').all(directive);
        if is_filter && EnvFilter::try_new(text).is_ok() {
            Ok(LogFilter { directives: text.to_owned() })
        } else {
            Err(right())
        }
    }

    /// The filter for a subscriber. The HTTP/2 library warns of every connection that a hostile client breaks, as often
    /// as the client likes; the service tells that itself, once. So the library is heard only by name.
    pub(crate) fn to_env_filter(&self) -> EnvFilter {
        let names_it = self.directives.split(',').any(|directive| directive.starts_with("h2"));
        if names_it { EnvFilter::new(&self.directives) } else { EnvFilter::new(format!("h2=off,{}", self.directives)) }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.directives)
    }
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

/// `tidegate::reload`, or with a span as the filter language has it: `tidegate[reload]`.
fn is_module(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-:[]".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_and_directives_are_filters_and_misspelt_levels_are_not() {
        for right in ["info", "WARN", "off", "info,tidegate::reload=debug", "warn,h2=error", "tidegate[reload]=trace"] {
            assert!(LogFilter::parse(right).is_ok(), "{right}");
        }
        for wrong in ["", "inof", "tidegate", "info,", "tidegate=loud", "=info", "info,,warn", "a[b=info"] {
            assert!(LogFilter::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_filter_or_a_sentence(text in "\\PC{0,20}|([a-z:\\[\\]]{0,6}=?(info|debug|x),?){0,4}") {
            if let Ok(filter) = LogFilter::parse(&text) {
                let _ = filter.to_env_filter();
            }
        }
    }
}
