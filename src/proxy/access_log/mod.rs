//! Access log lines: format strings with command operators, and what they print of a request.
//!
//! The same format strings are the values of headers to add and of rate limit descriptors.

mod field;
mod flags;
mod format;
mod json;
mod record;
mod render;
mod time;

pub use field::Field;
pub use flags::{ResponseFlag, ResponseFlags};
pub use format::{
    DEFAULT_FORMAT, FORMAT_BYTES_MAX, Format, FormatError, HeaderChoice, LineFormat, MetadataPath, Operator, Piece,
};
pub use json::JsonFormat;
pub use record::{Protocol, Record};
pub use time::{TimeError, TimeFormat};
