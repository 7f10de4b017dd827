//! What an unquoted word means in YAML 1.1, the way the reference service's parser (yaml.v2) reads it.
//!
//! `yes`, `on` and `y` are booleans, `010` is eight, `1_000` a thousand. A file that counts on it must count the same
//! here. Every scalar keeps its text besides, because a key or a value of `yes` or `012` means that text.

/// What a scalar is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number that no 64-bit signed integer holds.
    Beyond,
    Float(f64),
    Text,
    /// An unquoted `<<`: as a key, the request to merge maps.
    Merge,
    /// `!!binary` data that is no text.
    NotText,
}

/// What the unquoted word `text` is.
pub(super) fn resolve(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Kind::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Kind::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Kind::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Kind::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Kind::Float(f64::NEG_INFINITY),
        "<<" => Kind::Merge,
        _ if text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) => number(text),
        _ => Kind::Text,
    }
}

/// What a scalar with the core tag `tag` (`!!int` and so on) is; `None` if its text is nothing of that kind.
pub(super) fn resolve_tagged(tag: &str, text: &str) -> Option<Kind> {
    let kind = resolve(text);
    match (tag, kind) {
        ("null", Kind::Null) | ("bool", Kind::Bool(_)) | ("int", Kind::Int(_) | Kind::Beyond) => Some(kind),
        ("float", Kind::Float(_)) => Some(kind),
        ("float", Kind::Int(number)) => Some(Kind::Float(number as f64)),
        ("null" | "bool" | "int" | "float", _) => None,
        _ => Some(Kind::Text),
    }
}

fn number(text: &str) -> Kind {
    // A float that begins with its point may not hold underscores; every other number may, anywhere.
    let plain = if text.starts_with('.') { text.to_owned() } else { text.replace('_', "") };
    if let Some(kind) = whole_number(&plain) {
        return kind;
    }
    match plain.parse::<f64>() {
        Ok(number) if looks_like_float(&plain) && number.is_finite() => Kind::Float(number),
        _ => Kind::Text,
    }
}

fn whole_number(plain: &str) -> Option<Kind> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let lower = digits.as_bytes().get(1).map(u8::to_ascii_lowercase);
    let (radix, digits) = match (digits.as_bytes().first()?, lower) {
        (b'0', Some(b'x')) => (16, &digits[2..]),
        (b'0', Some(b'o')) => (8, &digits[2..]),
        (b'0', Some(b'b')) => (2, &digits[2..]),
        (b'0', Some(_)) => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| char::from(byte).is_digit(radix)) {
        return None;
    }
    let Ok(magnitude) = u64::from_str_radix(digits, radix) else {
        // Past 64 bits a decimal number is read as a float, as there; the reference rejects both alike.
        return (radix != 10).then_some(Kind::Text);
    };
    let signed = i128::from(magnitude) * if negative { -1 } else { 1 };
    Some(i64::try_from(signed).map_or(Kind::Beyond, Kind::Int))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn looks_like_float(text: &str) -> bool {
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &'_ str| -> usize { usize::from(text.starts_with(['-', '+'])) };
    let text = &text[unsigned(text)..];
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(&exponent[unsigned(exponent)..])),
        None => (text, None),
    };
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && all_digits(fraction),
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    mantissa_fits && exponent.is_none_or(|digits| !digits.is_empty() && all_digits(digits))
}

/// The bytes that base 64 text stands for; `None` if it is none. Line breaks and blanks in it don't count.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held, mut digits) = (0_u32, 0_u32, 0_usize);
    let symbols = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let mut padding = 0_usize;
    for symbol in symbols {
        let digit = match symbol {
            b'=' => {
                padding += 1;
                continue;
            }
            _ if padding > 0 => return None,
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        digits += 1;
        bits = (bits << 6) | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (padding <= 2 && (digits + padding).is_multiple_of(4) && digits % 4 != 1).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_those_of_yaml_1_1() {
        let cases = [
            ("yes", Kind::Bool(true)),
            ("n", Kind::Bool(false)),
            ("yeS", Kind::Text),
            ("~", Kind::Null),
            ("010", Kind::Int(8)),
            ("0x10", Kind::Int(16)),
            ("0b101", Kind::Int(5)),
            ("0o17", Kind::Int(15)),
            ("1_000", Kind::Int(1000)),
            ("-5", Kind::Int(-5)),
            ("+5", Kind::Int(5)),
            ("0", Kind::Int(0)),
            ("08", Kind::Float(8.0)),
            ("1.0", Kind::Float(1.0)),
            ("1e3", Kind::Float(1000.0)),
            (".5", Kind::Float(0.5)),
            ("9223372036854775807", Kind::Int(i64::MAX)),
            ("9223372036854775808", Kind::Beyond),
            ("-9223372036854775808", Kind::Int(i64::MIN)),
            ("2024-01-31", Kind::Text),
            ("1.2.3.4", Kind::Text),
            ("-", Kind::Text),
            ("+", Kind::Text),
            (".", Kind::Text),
            ("10s", Kind::Text),
            ("<<", Kind::Merge),
        ];
        for (text, kind) in cases {
            assert_eq!(resolve(text), kind, "{text}");
        }
    }

    #[test]
    fn a_tag_must_agree_with_its_text() {
        assert_eq!(resolve_tagged("str", "12"), Some(Kind::Text));
        assert_eq!(resolve_tagged("int", "12"), Some(Kind::Int(12)));
        assert_eq!(resolve_tagged("int", "twelve"), None);
        assert_eq!(resolve_tagged("float", "12"), Some(Kind::Float(12.0)));
    }

    #[test]
    fn base_64_is_read_with_its_padding() {
        assert_eq!(base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("aGVs\nbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("/w==").as_deref(), Some(&[0xff][..]));
        assert_eq!(base64("aGVsbG8"), None);
        assert_eq!(base64("a=GV"), None);
    }
}
