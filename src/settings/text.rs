//! From text to a value: durations, sizes, numbers, switches, hosts.
//!
//! Pure functions with one shape: the value, or what would have been right, as words that follow "must be". Durations
//! and switches are written as Go writes them, because the reference service's variables are.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value, or what would have been right.
pub(crate) type Parsed<T> = Result<T, String>;

/// A whole number within bounds, in decimal digits.
pub(crate) fn whole<N>(text: &str, range: &RangeInclusive<N>) -> Parsed<N>
where
    N: TryFrom<u64> + PartialOrd + Display,
{
    digits(text)
        .and_then(|number| N::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

/// `true` or `false`, or another of the words that Go takes for them.
pub(super) fn switch(text: &str) -> Parsed<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

/// A share from 0 to 1.
pub(super) fn ratio(text: &str) -> Parsed<f32> {
    // NaN lies in no range.
    let share = text.parse::<f32>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a number from 0 to 1".to_owned())
}

/// One of the words, which stand for values.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    })
}

/// A duration within bounds.
pub(crate) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Parsed<Duration> {
    go_duration(text).filter(|duration| range.contains(duration)).ok_or_else(|| {
        let (start, end) = (written(*range.start()), written(*range.end()));
        format!("a duration with its unit (ns, us, ms, s, m, h) from {start} to {end}")
    })
}

/// A number of bytes within bounds: bare, or with a unit.
pub(super) fn size(text: &str, range: &RangeInclusive<usize>) -> Parsed<usize> {
    const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)];
    let bytes = UNITS
        .into_iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))
        .and_then(|(number, bytes)| digits(number.trim_end())?.checked_mul(bytes));
    bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|bytes| range.contains(bytes))
        .ok_or_else(|| format!("a size in bytes, KiB, MiB or GiB from {} to {} bytes", range.start(), range.end()))
}

/// An IP address, with or without the brackets of a URL, or a name to be resolved.
pub(crate) fn host(text: &str) -> Parsed<String> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    let (address, zone) = bare.split_once('%').unwrap_or((bare, "0"));
    // 253 characters is the longest name that DNS can carry.
    let is_word = |text: &str| {
        (1..=253).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let is_address = address.parse::<IpAddr>().is_ok() && is_word(zone);
    let is_name = is_word(text) && !text.starts_with(['-', '.']);
    if is_address || is_name { Ok(bare.to_owned()) } else { Err("an IP address or a host name".to_owned()) }
}

/// Decimal digits and nothing else: no sign, no blanks, and not so many that they leave 64 bits.
fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Go's `time.ParseDuration` without signs: numbers, whole or with a fraction, each with a unit; bare `0`.
/// Fractions below a nanosecond are cut off.
fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),  // the micro sign
        ("\u{3bc}s", 1_000), // the Greek letter, which looks the same
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];

    match text {
        "0" => return Some(Duration::ZERO),
        "" => return None,
        _ => {}
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text;
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        let (_, length) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(times(number, length)?)?;
        rest = tail;
    }
    Some(Duration::from_nanos(nanos))
}

/// A decimal number times a whole one, rounded down.
fn times(number: &str, factor: u64) -> Option<u64> {
    // Digits of a fraction that can matter: a nanosecond is 0.000 000 000 000 277… hours.
    const PLACES: usize = 18;

    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.len() < 1 + usize::from(number.contains('.')) || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { digits(whole)? };
    let fraction = &fraction[..fraction.len().min(PLACES)];
    let part = match digits(fraction) {
        // 10^18 times the longest unit stays far below 2^128.
        Some(value) => u128::from(value) * u128::from(factor) / 10_u128.pow(fraction.len() as u32),
        None => 0,
    };
    whole.checked_mul(factor)?.checked_add(u64::try_from(part).ok()?)
}

/// A bound as an operator would write it.
pub(crate) fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(text: &str) -> Option<u128> {
        go_duration(text).map(|duration| duration.as_nanos())
    }

    #[test]
    fn durations_are_written_as_in_go() {
        assert_eq!(nanos("1h30m"), Some(5_400_000_000_000));
        assert_eq!(nanos("150us"), Some(150_000));
        assert_eq!(nanos("150\u{b5}s"), Some(150_000));
        assert_eq!(nanos("1.5s"), Some(1_500_000_000));
        assert_eq!(nanos(".5s"), Some(500_000_000));
        assert_eq!(nanos("1.s"), Some(1_000_000_000));
        assert_eq!(nanos("0.000000000000277778h"), Some(1));
        assert_eq!(nanos("0.0000000000000000000000001h"), Some(0));
        assert_eq!(nanos("0"), Some(0));
        for wrong in ["", "10", "s", ".s", "1d", "-1s", "+1s", "1 s", "1s ", "1..2s", "1.2.3s", "99999999999999999999s"]
        {
            assert_eq!(nanos(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_duration_without_unit_is_told_the_units_and_the_bounds() {
        let range = Duration::from_millis(100)..=Duration::from_secs(3_600);
        assert_eq!(
            duration("10", &range).unwrap_err(),
            "a duration with its unit (ns, us, ms, s, m, h) from 100ms to 1h"
        );
        assert!(duration("99ms", &range).is_err());
        assert!(duration("61m", &range).is_err());
        assert_eq!(duration("1h", &range), Ok(Duration::from_secs(3_600)));
    }

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        let range = 1..=1 << 40;
        assert_eq!(size("4MiB", &range), Ok(4 << 20));
        assert_eq!(size("4 KiB", &range), Ok(4 << 10));
        assert_eq!(size("17", &range), Ok(17));
        for wrong in ["", "MiB", "4MB", "-1", "4.5MiB", "0", "99999999999999999999", "18446744073709551615GiB"] {
            assert!(size(wrong, &range).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_are_addresses_or_names() {
        assert_eq!(host("[::]"), Ok("::".to_owned()));
        for right in ["0.0.0.0", "::", "::1", "fe80::1%eth0", "localhost", "redis_1.example.com", "127.0.0.1"] {
            assert_eq!(host(right).as_deref(), Ok(right));
        }
        for wrong in ["", " ", "a b", "http://a", "a:1", "-a", "a/b", "%", "::1%", &"a".repeat(254)] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        assert_eq!(whole::<u16>("65535", &(0..=u16::MAX)), Ok(65_535));
        for wrong in ["", "65536", "-1", "+1", "1e3", " 1", "8081.0"] {
            assert_eq!(
                whole::<u16>(wrong, &(0..=u16::MAX)),
                Err("a whole number from 0 to 65535".to_owned()),
                "{wrong}"
            );
        }
        assert_eq!(ratio("0.8"), Ok(0.8));
        for wrong in ["NaN", "inf", "-0.1", "1.01", ""] {
            assert!(ratio(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_a_sentence(text in "\\PC{0,20}|[0-9.hmsu\u{b5}KiB]{0,30}") {
            prop_assert!(go_duration(&text).is_none_or(|duration| duration.as_nanos() <= u128::from(u64::MAX)));
            prop_assert!(host(&text).is_err() || !text.is_empty());
            prop_assert!(ratio(&text).is_ok_and(|share| share <= 1.0) || ratio(&text).is_err());
            prop_assert!(size(&text, &(0..=9)).is_ok_and(|bytes| bytes <= 9) || size(&text, &(0..=9)).is_err());
        }

        #[test]
        fn durations_come_back_as_written(millis in 0..1_u64 << 40) {
            prop_assert_eq!(nanos(&format!("{millis}ms")), Some(u128::from(millis) * 1_000_000));
            prop_assert_eq!(nanos(&written(Duration::from_millis(millis))), Some(u128::from(millis) * 1_000_000));
            let (seconds, rest) = (millis / 1_000, millis % 1_000);
            prop_assert_eq!(nanos(&format!("{seconds}.{rest:03}s")), Some(u128::from(millis) * 1_000_000));
        }
    }
}
