//! Instants as text: `START_TIME`'s formats, which are strftime's with fractions of a second. Always in UTC.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

/// A format of instants, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat {
    pieces: Vec<TimePiece>,
}

/// Why a text is no format of instants.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TimeError {
    /// A conversion that isn't known.
    #[error("has a time format with '%{0}', which tidegate-proxy doesn't know")]
    Unknown(String),
    /// A line break, which would break the log's lines.
    #[error("has a time format with a line break; a log line has none")]
    LineBreak,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TimePiece {
    Text(String),
    /// A conversion of strftime by its letter; see [`CONVERSIONS`].
    Conversion(char),
    /// `%3f` and, with the seconds before it, `%E3S`: so many digits behind the point.
    Fraction {
        digits: usize,
        with_seconds: bool,
    },
    /// `%s`: seconds since 1970.
    Seconds,
}

/// The letters behind a per cent sign that are known besides `s`, `f` and the `E` forms.
const CONVERSIONS: &str = "aAbBdDeFhHIjmMpRSTtyYzZ%";

const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// An instant in the calendar.
#[derive(Clone, Copy, Debug)]
struct Civil {
    year: i64,
    /// 1 to 12.
    month: u32,
    /// 1 to 31.
    day: u32,
    /// 1 to 366.
    day_of_year: u32,
    /// Days since Thursday, 0 to 6: the first of January 1970 was one.
    weekday: usize,
    hour: u32,
    minute: u32,
    second: u32,
    nanosecond: u32,
}

// === impl TimeFormat ===

impl TimeFormat {
    /// Takes a format apart; an empty one is Envoy's default, `2016-01-01T00:00:00.000Z`.
    ///
    /// # Errors
    /// When it has a conversion that isn't known, or would break the line.
    pub fn parse(text: &str) -> Result<TimeFormat, TimeError> {
        let text = if text.is_empty() { "%Y-%m-%dT%H:%M:%E3SZ" } else { text };
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((plain, behind)) = rest.split_once('%') {
            if !plain.is_empty() {
                pieces.push(TimePiece::Text(plain.to_owned()));
            }
            let (piece, length) = conversion(behind)?;
            pieces.push(piece);
            rest = &behind[length..];
        }
        if !rest.is_empty() {
            pieces.push(TimePiece::Text(rest.to_owned()));
        }
        if text.contains('\n') {
            return Err(TimeError::LineBreak);
        }
        Ok(TimeFormat { pieces })
    }

    /// Prints an instant.
    pub fn write(&self, instant: SystemTime, onto: &mut String) {
        let since = instant.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let civil = Civil::of(since);
        for piece in &self.pieces {
            let written = match piece {
                TimePiece::Text(text) => onto.write_str(text),
                TimePiece::Conversion(letter) => civil.write(*letter, onto),
                TimePiece::Seconds => write!(onto, "{}", since.as_secs()),
                TimePiece::Fraction { digits, with_seconds } => {
                    let seconds = if *with_seconds { format!("{:02}.", civil.second) } else { String::new() };
                    let fraction = format!("{:09}", civil.nanosecond);
                    write!(onto, "{seconds}{}", &fraction[..*digits])
                }
            };
            written.expect("a String takes everything");
        }
    }
}

/// The conversion at the beginning of `text`, behind its per cent sign, and its length.
fn conversion(text: &str) -> Result<(TimePiece, usize), TimeError> {
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return Err(TimeError::Unknown(String::new())) };
    let second = letters.next();
    let third = letters.next();
    let digits = |letter: Option<char>| letter.and_then(|letter| letter.to_digit(10)).filter(|digits| *digits > 0);
    Ok(match (first, second, third) {
        ('n', ..) => return Err(TimeError::LineBreak),
        ('s', ..) => (TimePiece::Seconds, 1),
        ('f', ..) => (TimePiece::Fraction { digits: 9, with_seconds: false }, 1),
        ('1'..='9', Some('f'), _) => {
            (TimePiece::Fraction { digits: digits(Some(first)).unwrap_or(9) as usize, with_seconds: false }, 2)
        }
        ('E', Some('1'..='9'), Some('S')) => {
            (TimePiece::Fraction { digits: digits(second).unwrap_or(9) as usize, with_seconds: true }, 3)
        }
        (letter, ..) if CONVERSIONS.contains(letter) => (TimePiece::Conversion(letter), 1),
        (letter, ..) => return Err(TimeError::Unknown(letter.to_string())),
    })
}

// === impl Civil ===

impl Civil {
    /// The calendar's view of a time since 1970.
    fn of(since: Duration) -> Civil {
        let seconds = since.as_secs();
        let days = seconds / 86_400;
        let of_day = (seconds % 86_400) as u32;
        let (year, day_of_year) = year_of(days);
        let mut month = 0;
        let mut before = 0;
        while month < 11 && before + days_of_month(year, month) <= day_of_year {
            before += days_of_month(year, month);
            month += 1;
        }
        Civil {
            year,
            month: month as u32 + 1,
            day: day_of_year - before + 1,
            day_of_year: day_of_year + 1,
            weekday: (days % 7) as usize,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            nanosecond: since.subsec_nanos(),
        }
    }

    fn write(&self, letter: char, onto: &mut String) -> std::fmt::Result {
        let Civil { year, month, day, hour, minute, second, .. } = *self;
        let day_name = DAYS[self.weekday];
        let month_name = MONTHS[month as usize - 1];
        match letter {
            'a' => write!(onto, "{}", &day_name[..3]),
            'A' => write!(onto, "{day_name}"),
            'b' | 'h' => write!(onto, "{}", &month_name[..3]),
            'B' => write!(onto, "{month_name}"),
            'd' => write!(onto, "{day:02}"),
            'D' => write!(onto, "{month:02}/{day:02}/{:02}", year % 100),
            'e' => write!(onto, "{day:2}"),
            'F' => write!(onto, "{year}-{month:02}-{day:02}"),
            'H' => write!(onto, "{hour:02}"),
            'I' => write!(onto, "{:02}", (hour + 11) % 12 + 1),
            'j' => write!(onto, "{:03}", self.day_of_year),
            'm' => write!(onto, "{month:02}"),
            'M' => write!(onto, "{minute:02}"),
            'p' => write!(onto, "{}", if hour < 12 { "AM" } else { "PM" }),
            'R' => write!(onto, "{hour:02}:{minute:02}"),
            'S' => write!(onto, "{second:02}"),
            'T' => write!(onto, "{hour:02}:{minute:02}:{second:02}"),
            't' => onto.write_char('\t'),
            'y' => write!(onto, "{:02}", year % 100),
            'Y' => write!(onto, "{year}"),
            'z' => onto.write_str("+0000"),
            'Z' => onto.write_str("UTC"),
            _ => onto.write_char('%'),
        }
    }
}

/// The year of a day since 1970, and the days of that year before it.
fn year_of(days: u64) -> (i64, u32) {
    // 400 years have 146,097 days, and the calendar repeats after them.
    let mut year = 1970 + (days / 146_097) as i64 * 400;
    let mut rest = (days % 146_097) as u32;
    while rest >= days_of_year(year) {
        rest -= days_of_year(year);
        year += 1;
    }
    (year, rest)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_year(year: i64) -> u32 {
    if is_leap(year) { 366 } else { 365 }
}

/// Days of a month, 0 to 11.
fn days_of_month(year: i64, month: usize) -> u32 {
    const DAYS_OF: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    DAYS_OF[month] + u32::from(month == 1 && is_leap(year))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn print(format: &str, nanoseconds: u64) -> String {
        let mut text = String::new();
        TimeFormat::parse(format).unwrap().write(UNIX_EPOCH + Duration::from_nanos(nanoseconds), &mut text);
        text
    }

    #[test]
    fn instants_are_printed_as_date_prints_them() {
        // 2024-02-29 23:59:59.123456789 UTC
        let leap = 1_709_251_199_123_456_789;
        for (format, text) in [
            ("", "2024-02-29T23:59:59.123Z"),
            ("%Y/%m/%dT%H:%M:%S%z", "2024/02/29T23:59:59+0000"),
            ("%s.%3f", "1709251199.123"),
            ("%f %6f %1f", "123456789 123456 1"),
            ("%a %A %b %B %h", "Thu Thursday Feb February Feb"),
            ("%D %F %T %R", "02/29/24 2024-02-29 23:59:59 23:59"),
            ("%I%p %j %e %y %Z %%", "11PM 060 29 24 UTC %"),
            ("%E6S", "59.123456"),
        ] {
            assert_eq!(print(format, leap), text, "{format}");
        }
        assert_eq!(print("%F %a %I %p %e", 0), "1970-01-01 Thu 12 AM  1");
        assert_eq!(print("%F %j", 978_220_800_000_000_000), "2000-12-31 366");
        assert_eq!(print("%F %A", 4_107_542_400_000_000_000), "2100-03-01 Monday");
    }

    #[test]
    fn what_would_break_the_line_or_is_unknown_is_refused() {
        assert_eq!(TimeFormat::parse("%n"), Err(TimeError::LineBreak));
        assert_eq!(TimeFormat::parse("a\nb"), Err(TimeError::LineBreak));
        assert_eq!(TimeFormat::parse("%Q"), Err(TimeError::Unknown("Q".to_owned())));
        assert_eq!(TimeFormat::parse("%E0S"), Err(TimeError::Unknown("E".to_owned())));
    }

    proptest! {
        #[test]
        fn no_format_and_no_instant_make_it_panic(format in "(%|%E|[0-9]|[a-zA-Z]|.){0,20}", nanoseconds: u64) {
            if let Ok(format) = TimeFormat::parse(&format) {
                format.write(UNIX_EPOCH + Duration::from_nanos(nanoseconds), &mut String::new());
            }
        }

        #[test]
        fn the_next_day_begins_where_this_one_ends(days in 0..200_000_u64) {
            let one = Civil::of(Duration::from_secs(days * 86_400));
            let next = Civil::of(Duration::from_secs((days + 1) * 86_400));
            let follows = (next.year, next.month, next.day) == (one.year, one.month, one.day + 1)
                || next.day == 1 && (next.year, next.month) == (one.year, one.month + 1)
                || (next.month, next.day) == (1, 1) && next.year == one.year + 1 && (one.month, one.day) == (12, 31);
            prop_assert!(follows, "{one:?} {next:?}");
        }
    }
}
