//! Instants as operators write them: `2026-11-22T01:00:00Z` (RFC 3339), or so long before the present (`-6h`).

use std::time::Duration;

use crate::clock::Timestamp;
use crate::settings::text;

/// What an instant may be, for the end of a sentence.
const RIGHT: &str = "an instant such as 2026-11-22T01:00:00Z, a time before the present such as -6h, or now";

/// Farthest from the present, in seconds: a year.
const BACK_MAX_S: u64 = 366 * 86_400;

/// The instant that a text means at `now`.
///
/// # Errors
/// What would be right.
pub(super) fn read(written: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    if written == "now" {
        return Ok(now);
    }
    if let Some(back) = written.strip_prefix('-') {
        let range = Duration::from_secs(1)..=Duration::from_secs(BACK_MAX_S);
        let back = text::duration(back, &range).map_err(|_| RIGHT)?;
        let micros = u64::try_from(back.as_micros()).map_err(|_| RIGHT)?;
        return Ok(Timestamp::from_micros(now.as_micros().saturating_sub(micros)));
    }
    rfc3339(written).ok_or(RIGHT)
}

/// An instant as RFC 3339 has it, in UTC, to the second; to the millisecond where it has a fraction.
pub(super) fn shown(at: Timestamp) -> String {
    let (seconds, millis) = (at.as_millis() / 1_000, at.as_millis() % 1_000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(i64::try_from(days).unwrap_or_default());
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

fn rfc3339(written: &str) -> Option<Timestamp> {
    let (date, rest) = written.split_once(['T', 't', ' '])?;
    let [year, month, day] = parts::<3>(date, '-', &[4, 2, 2])?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = parts::<3>(time, ':', &[2, 2, 2])?;
    let micros: u64 = {
        let is_fraction = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
        let digits = format!("{fraction:0<6}");
        is_fraction.then(|| digits.get(..6)?.parse().ok()).flatten()?
    };
    let east_s: i64 = match zone.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign @ ("+" | "-"), offset) => {
            let [hours, minutes] = parts::<2>(offset, ':', &[2, 2])?;
            let seconds = i64::from(hours * 3_600 + minutes * 60);
            (hours < 24 && minutes < 60).then_some(if sign == "-" { -seconds } else { seconds })?
        }
        _ => return None,
    };
    let is_time = hour < 24 && minute < 60 && second < 60;
    let days = days_since_epoch(i64::from(year), month, day);
    // A day that its month doesn't have comes back as another.
    if !is_time || civil(days) != (i64::from(year), month, day) {
        return None;
    }
    let seconds = days * 86_400 + i64::from(hour * 3_600 + minute * 60 + second) - east_s;
    u64::try_from(seconds).ok().map(|seconds| Timestamp::from_micros(seconds * 1_000_000 + micros))
}

/// Numbers of these lengths with a separator between them.
fn parts<const N: usize>(text: &str, separator: char, lengths: &[usize; N]) -> Option<[u32; N]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let parts: [&str; N] = parts.try_into().ok()?;
    let mut numbers = [0; N];
    for ((number, part), length) in numbers.iter_mut().zip(parts).zip(lengths) {
        let is_number = part.len() == *length && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = is_number.then(|| part.parse().ok()).flatten()?;
    }
    Some(numbers)
}

/// Days from the first of January 1970 in the Gregorian calendar. Years begin in March here, so that the leap day is a
/// year's last.
fn days_since_epoch(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * (i64::from(month) + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(day) - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// Year, month and day of a day since 1970.
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month + 2) / 5 + 1) as u32;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_instant_is_absolute_or_before_the_present() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        for (written, seconds) in [
            ("now", 1_790_000_000.0),
            ("-6h", 1_789_978_400.0),
            ("-1h30m", 1_789_994_600.0),
            ("1970-01-01T00:00:00Z", 0.0),
            ("2024-02-29T12:34:56Z", 1_709_210_096.0),
            ("2024-02-29t13:34:56.5+01:00", 1_709_210_096.5),
            ("2024-02-29 11:34:56-01:00", 1_709_210_096.0),
        ] {
            let read = read(written, now).map(|at| at.as_micros() as f64 / 1e6);
            assert_eq!(read, Ok(seconds), "{written}");
        }
        for wrong in [
            "",
            "6h",
            "-",
            "-6",
            "-400d",
            "yesterday",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01",
            "2024-1-1T00:00:00Z",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00.Z",
            "1969-12-31T23:59:59Z",
            "2024-01-01T00:00:00Zé",
            "2024-01-01T00:00:00Z05:00",
            "2024-01-01T00:00:00z05:00",
        ] {
            assert!(read(wrong, now).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same_instant(millis in 0_u64..253_402_300_800_000) {
            let at = Timestamp::from_millis(millis);
            prop_assert_eq!(read(&shown(at), Timestamp::default()), Ok(at));
        }
    }
}
