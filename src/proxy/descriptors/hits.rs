//! A descriptor's own number of hits.

use serde_json::Value;

use crate::proxy::access_log::Record;
use crate::proxy::bootstrap::model::Hits;

/// Most hits of one descriptor; more drops it.
const HITS_MAX: f64 = 1_000_000_000.0;

/// The number; `None` drops the descriptor: there is none, it is no number, negative or too large. What stands behind
/// its point is cut off.
pub(super) fn read(hits: &Hits, record: &Record<'_>) -> Option<u64> {
    let number = match hits {
        Hits::Number(number) => return Some(*number),
        Hits::Format(format) => match format.render_value(record)? {
            Value::Number(number) => number.as_f64()?,
            Value::String(text) => text.trim().parse().ok()?,
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
        },
    };
    (0.0..=HITS_MAX).contains(&number).then_some(number as u64)
}
