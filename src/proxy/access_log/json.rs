//! `json_format`: access log lines that are objects.

use serde_json::{Map, Value};

use super::format::Format;
use super::render::Rendered;
use super::{Piece, Record};

/// A tree whose texts are format strings.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonFormat {
    /// A text. One that is a single operator keeps that operator's type: a number stays a number, and what is missing
    /// is null.
    Text(Format),
    /// A number, boolean or null, printed as it is.
    Value(Value),
    /// An object; its keys are printed in alphabetical order.
    Object(Vec<(String, JsonFormat)>),
    /// A list.
    List(Vec<JsonFormat>),
}

// === impl JsonFormat ===

impl JsonFormat {
    /// The value that a record makes of it.
    #[must_use]
    pub fn render(&self, record: &Record<'_>) -> Value {
        match self {
            JsonFormat::Value(value) => value.clone(),
            JsonFormat::List(items) => Value::Array(items.iter().map(|item| item.render(record)).collect()),
            JsonFormat::Object(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| (key.clone(), value.render(record)));
                Value::Object(pairs.collect::<Map<String, Value>>())
            }
            JsonFormat::Text(format) => match &format.pieces[..] {
                [Piece::Operator(operator, length)] => match operator.render(record, *length) {
                    Some(Rendered::Text(text)) => Value::String(String::from_utf8_lossy(&text).into_owned()),
                    Some(Rendered::Json(value)) => value,
                    None => Value::Null,
                },
                _ => Value::String(format.render_text(record)),
            },
        }
    }

    /// The value on a line of its own, with its newline.
    #[must_use]
    pub fn render_line(&self, record: &Record<'_>) -> Vec<u8> {
        let mut line = self.render(record).to_string().into_bytes();
        line.push(b'\n');
        line
    }
}
