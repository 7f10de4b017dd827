//! A finished span, as it waits to be exported: small, and bounded whatever a caller sent.

use super::identity::{SpanId, TraceId};

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// Its own name in that trace.
    pub id: SpanId,
    /// The span that caused it.
    pub parent: Option<ParentSpan>,
    /// The `tracestate` of the caller.
    pub state: String,
    /// What it is called.
    pub name: &'static str,
    /// Its part in a call.
    pub kind: Kind,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// When it ended, in nanoseconds since the Unix epoch.
    pub end_unix_nanos: u64,
    /// What is told of it.
    pub attributes: Vec<Attribute>,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// The span that caused another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentSpan {
    /// Its name.
    pub id: SpanId,
    /// Whether it is another process's.
    pub is_remote: bool,
}

/// A span's part in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work within the process.
    Internal,
    /// The answering of a call.
    Server,
    /// The making of one.
    Client,
}

/// Something told of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// What it is.
    pub key: &'static str,
    /// What is told.
    pub value: Value,
}

/// What is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// Longest text of an attribute, in bytes.
pub const TEXT_BYTES_MAX: usize = 128;

/// Most texts of an attribute.
pub const TEXTS_MAX: usize = 8;

// === impl Attribute ===

impl Attribute {
    /// A text, cut to its bound.
    #[must_use]
    pub fn text(key: &'static str, text: &str) -> Attribute {
        Attribute { key, value: Value::Text(bounded(text)) }
    }

    /// Several texts, of which each must be cut already.
    #[must_use]
    pub fn texts(key: &'static str, mut texts: Vec<String>) -> Attribute {
        texts.truncate(TEXTS_MAX);
        Attribute { key, value: Value::Texts(texts) }
    }

    /// A whole number.
    #[must_use]
    pub fn number(key: &'static str, number: impl TryInto<i64>) -> Attribute {
        Attribute { key, value: Value::Number(number.try_into().unwrap_or(i64::MAX)) }
    }
}

/// The text up to its bound, with a sign if something was cut off.
#[must_use]
pub fn bounded(text: &str) -> String {
    const CUT: &str = "…";

    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = TEXT_BYTES_MAX - CUT.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_stays_within_its_bound(text in "\\PC{0,200}") {
            let cut = bounded(&text);
            prop_assert!(cut.len() <= TEXT_BYTES_MAX);
            prop_assert!(cut == text || cut.strip_suffix('…').is_some_and(|start| text.starts_with(start)));
        }
    }
}
