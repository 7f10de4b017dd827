//! One value of a rule file: is it what its word asks for?
//!
//! A whole number with a point in it, or one that 64 bits don't hold, is rejected wherever it stands (V5); a value of
//! another type than its word's is V6. Numbers and booleans are texts too where a text is asked for: `value: 12`
//! matches `12` and `value: yes` matches `yes`.

use serde_json::{Map, Value as Json};

use super::Algorithm;
use super::error::{KeyPath, Report};
use super::file::{Field, Located};
use super::scalar::Kind;
use super::words;
use super::yaml::{Node, Value};
use crate::window::{Charging, Precision};

/// Reads a scalar that is not null: the value, or what would be right, for the end of a sentence.
pub(super) type Reader<T> = fn(text: &str, kind: Kind) -> Result<T, String>;

/// Binds one value.
pub(super) fn field<T>(node: &Node<'_>, read: Reader<T>, path: &KeyPath<'_>, report: &mut Report) -> Field<T> {
    match &node.value {
        Value::Scalar(_, Kind::Null) => Field::Absent,
        Value::Scalar(text, kind @ (Kind::Float(_) | Kind::Beyond | Kind::NotText)) => {
            match read(text, *kind) {
                // Our own words know better what is right than the sentence that holds everywhere.
                Err(right) if path.is_ours() => wrong_type(node, &right, path, report),
                _ => check_scalar(node, path, report),
            }
            Field::Wrong
        }
        Value::Scalar(text, kind) => match read(text, *kind) {
            Ok(value) => Field::Given(Located { value, place: node.place }),
            Err(right) => {
                wrong_type(node, &right, path, report);
                Field::Wrong
            }
        },
        Value::List(_) | Value::Map(_) => {
            wrong_type(node, "a single value", path, report);
            Field::Wrong
        }
    }
}

/// Reports a value of a wrong type (V6).
pub(super) fn wrong_type(node: &Node<'_>, right: &str, path: &KeyPath<'_>, report: &mut Report) {
    let text = format!("{} where {right} is needed", node.describe());
    report.mistake(path, node.place, of_reference("error loading config file: yaml: unmarshal errors: ", text, path));
}

/// Reports a scalar that is wrong wherever it stands (V5).
pub(super) fn check_scalar(node: &Node<'_>, path: &KeyPath<'_>, report: &mut Report) {
    let Value::Scalar(_, kind) = &node.value else { return };
    let right = match kind {
        Kind::Float(_) => "write a whole number, or put a text in quotes",
        Kind::Beyond => "it has more than 64 bits; put a text in quotes",
        Kind::NotText => "a text is UTF-8",
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Text | Kind::Merge => return,
    };
    let text = format!("{} is not allowed here; {right}", node.describe());
    report.mistake(path, node.place, of_reference("error checking config: ", text, path));
}

/// A sentence that begins as the reference service's does, if it knows the words that lead there.
fn of_reference(beginning: &str, sentence: String, path: &KeyPath<'_>) -> String {
    if path.is_ours() { sentence } else { format!("{beginning}{sentence}") }
}

pub(super) fn is_null(node: &Node<'_>) -> bool {
    matches!(node.value, Value::Scalar(_, Kind::Null))
}

/// The text of a map's key, if it is a text.
pub(super) fn word_text<'n>(key: &'n Node<'_>) -> Option<&'n str> {
    match &key.value {
        Value::Scalar(text, Kind::Text | Kind::Merge) => Some(text),
        _ => None,
    }
}

/// What an element of a list is called in a path of keys: its `key_value`, its name, or what its entries are called.
pub(super) fn label(node: &Node<'_>) -> String {
    let Value::Map(pairs) = &node.value else { return String::new() };
    let last = |word: &str| pairs.iter().rev().find(|pair| word_text(&pair.key) == Some(word)).map(|pair| &pair.value);
    let text = |word: &str| match last(word).map(|node| &node.value) {
        Some(Value::Scalar(_, Kind::Null)) | None => None,
        Some(Value::Scalar(text, _)) if !text.is_empty() => Some(text.as_ref()),
        Some(_) => None,
    };
    match (text("key"), text("value"), last("entries").map(|node| &node.value)) {
        (Some(key), Some(value), _) => format!("{key}_{value}"),
        (Some(key), None, _) => key.to_owned(),
        (None, _, Some(Value::List(entries))) => entries.iter().map(label).collect::<Vec<_>>().join(", "),
        (None, ..) => text("name").unwrap_or_default().to_owned(),
    }
}

pub(super) fn text(text: &str, _kind: Kind) -> Result<String, String> {
    Ok(text.to_owned())
}

pub(super) fn boolean(_text: &str, kind: Kind) -> Result<bool, String> {
    match kind {
        Kind::Bool(value) => Ok(value),
        _ => Err("true or false, without quotes,".to_owned()),
    }
}

pub(super) fn count(_text: &str, kind: Kind) -> Result<u32, String> {
    let number = if let Kind::Int(number) = kind { u32::try_from(number).ok() } else { None };
    number.ok_or_else(|| format!("a whole number from 0 to {}, without quotes,", u32::MAX))
}

pub(super) fn multiplier(_text: &str, kind: Kind) -> Result<u32, String> {
    let number = if let Kind::Int(number) = kind { u32::try_from(number).ok() } else { None };
    number.filter(|number| *number > 0).ok_or_else(|| "a whole number from 1, without quotes,".to_owned())
}

pub(super) fn precision(_text: &str, kind: Kind) -> Result<Precision, String> {
    let number = if let Kind::Int(number) = kind { u32::try_from(number).ok() } else { None };
    number.and_then(Precision::try_new).ok_or_else(|| "a whole number of ticks from 1 to 1024".to_owned())
}

pub(super) fn algorithm(text: &str, _kind: Kind) -> Result<Algorithm, String> {
    let names = Algorithm::ALL.map(Algorithm::name);
    Algorithm::from_name(text).ok_or_else(|| one_of(text, &names))
}

pub(super) fn charging(text: &str, _kind: Kind) -> Result<Charging, String> {
    match text {
        "all_or_nothing" => Ok(Charging::AllOrNothing),
        "each" => Ok(Charging::Each),
        _ => Err(one_of(text, &["all_or_nothing", "each"])),
    }
}

/// A length of time in milliseconds: whole numbers with `ms`, `s`, `m`, `h` or `d`, the larger units first.
pub(super) fn window(text: &str, _kind: Kind) -> Result<u64, String> {
    duration_ms(text).ok_or_else(|| "a length of time such as 10s, 1m30s, 500ms, 2h or 7d".to_owned())
}

fn duration_ms(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text;
    let mut total = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() || total == 0 && rest.len() == text.len() {
        let digits = rest.len() - rest.trim_start_matches(|symbol: char| symbol.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let name_length = after.len() - after.trim_start_matches(|symbol: char| symbol.is_ascii_alphabetic()).len();
        let (name, after) = after.split_at(name_length);
        // Going on in the list of units lets none come twice and none out of order.
        let (_, millis) = units.find(|(unit, _)| *unit == name)?;
        total = total.checked_add(number.checked_mul(*millis)?)?;
        rest = after;
    }
    Some(total)
}

fn one_of(text: &str, names: &[&str]) -> String {
    match words::nearest(text, names) {
        Some(nearest) => format!("one of {} (did you mean {nearest}?)", names.join(", ")),
        None => format!("one of {}", names.join(", ")),
    }
}

/// Lays a `metadata` map over what was there (V6, V16).
pub(super) fn metadata(node: &Node<'_>, onto: &mut Option<Map<String, Json>>, path: &KeyPath<'_>, report: &mut Report) {
    match &node.value {
        _ if is_null(node) => *onto = None,
        Value::Map(_) => {
            if let Some(Json::Object(map)) = json(node, path, report) {
                onto.get_or_insert_default().extend(map);
            }
        }
        Value::Scalar(..) | Value::List(_) => wrong_type(node, "a map", path, report),
    }
}

/// The value as a protobuf Struct could hold it. Numbers that JSON lacks become the texts that proto3 JSON has for them.
fn json(node: &Node<'_>, path: &KeyPath<'_>, report: &mut Report) -> Option<Json> {
    Some(match &node.value {
        Value::Scalar(text, kind) => match kind {
            Kind::Null => Json::Null,
            Kind::Bool(value) => Json::Bool(*value),
            Kind::Int(number) => Json::from(*number),
            Kind::Beyond => Json::from(text.replace('_', "").parse::<f64>().unwrap_or(f64::MAX)),
            Kind::Float(number) if number.is_nan() => Json::from("NaN"),
            Kind::Float(number) if number.is_infinite() => {
                Json::from(if *number > 0.0 { "Infinity" } else { "-Infinity" })
            }
            Kind::Float(number) => Json::from(*number),
            Kind::Text | Kind::Merge => Json::from(text.as_ref()),
            Kind::NotText => {
                report.mistake(path, node.place, "error parsing metadata: binary data that is not UTF-8; write a text");
                return None;
            }
        },
        Value::List(items) => {
            let items: Vec<_> =
                items.iter().enumerate().map(|(index, item)| json(item, &path.item(index, ""), report)).collect();
            Json::Array(items.into_iter().collect::<Option<_>>()?)
        }
        Value::Map(pairs) => {
            let mut map = Map::new();
            let mut whole = true;
            for pair in pairs {
                let Some(key) = json_key(&pair.key) else {
                    let text = "error parsing metadata: a key that is a list, a map or binary data; write a text";
                    report.mistake(path, pair.key.place, text);
                    whole = false;
                    continue;
                };
                match json(&pair.value, &path.word(&key), report) {
                    Some(value) => drop(map.insert(key, value)),
                    None => whole = false,
                }
            }
            return whole.then_some(Json::Object(map));
        }
    })
}

/// A key as the reference service writes it: what it is and not how it was written, so that `yes` is `true`.
fn json_key(key: &Node<'_>) -> Option<String> {
    match &key.value {
        Value::Scalar(_, Kind::Null) => Some("<nil>".to_owned()),
        Value::Scalar(_, Kind::Bool(value)) => Some(value.to_string()),
        Value::Scalar(_, Kind::Int(number)) => Some(number.to_string()),
        Value::Scalar(_, Kind::Float(number)) => Some(number.to_string()),
        Value::Scalar(text, Kind::Text | Kind::Merge | Kind::Beyond) => Some(text.to_string()),
        Value::Scalar(_, Kind::NotText) | Value::List(_) | Value::Map(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_unit_and_falling_units() {
        assert_eq!(duration_ms("10s"), Some(10_000));
        assert_eq!(duration_ms("1m30s"), Some(90_000));
        assert_eq!(duration_ms("1d2h3m4s5ms"), Some(93_784_005));
        assert_eq!(duration_ms("0s"), Some(0));
        for wrong in ["", "10", "s", "10 s", "-1s", "1.5s", "30s1m", "1s1s", "1w", "1S", "99999999999999999999s"] {
            assert_eq!(duration_ms(wrong), None, "{wrong}");
        }
        assert_eq!(duration_ms(&format!("{}d", u64::MAX)), None);
    }
}
