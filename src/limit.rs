//! Units, windows and limits: how many requests in how long.
//!
//! A [`Window`] is never zero and never longer than five years, so no arithmetic on it can divide by zero or leave
//! the 53 bits in which Lua counts exactly. A limit of zero requests is legal and means "block".

use std::fmt;

use thiserror::Error;

/// The units of a limit, as Envoy names them. Months have 30 days and years 365, as in the reference service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// 1 second.
    Second,
    /// 60 seconds.
    Minute,
    /// 3 600 seconds.
    Hour,
    /// 86 400 seconds.
    Day,
    /// 604 800 seconds.
    Week,
    /// 2 592 000 seconds: 30 days.
    Month,
    /// 31 536 000 seconds: 365 days.
    Year,
}

/// The length of a window: 1 ms to 5 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    millis: u64,
}

/// How many requests (hits) a window may hold. Zero blocks everything that costs a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Hits per window.
    pub requests_per_unit: u32,
    /// The window's length.
    pub window: Window,
}

/// A window that is zero or too long.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a window of {millis} ms is outside 1 ms to {} ms (5 years)", Window::MILLIS_MAX)]
pub struct WindowError {
    /// The length that was asked for, in milliseconds; `u64::MAX` where it did not fit.
    pub millis: u64,
}

// === impl Unit ===

impl Unit {
    /// All units, shortest first.
    pub const ALL: [Unit; 7] = [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year];

    /// The unit's length in seconds.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        match self {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
            Unit::Day => 86_400,
            Unit::Week => 604_800,
            Unit::Month => 2_592_000,
            Unit::Year => 31_536_000,
        }
    }

    /// The unit's name in rule files, lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Second => "second",
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Year => "year",
        }
    }

    /// The unit of that name in any letter case, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.name().eq_ignore_ascii_case(name))
    }
}

// === impl Window ===

impl Window {
    /// The longest window: 5 years of 365 days.
    pub const MILLIS_MAX: u64 = 5 * 31_536_000 * 1_000;

    /// A window of so many milliseconds.
    ///
    /// # Errors
    /// When `millis` is 0 or more than [`Window::MILLIS_MAX`].
    pub fn from_millis(millis: u64) -> Result<Window, WindowError> {
        if millis == 0 || millis > Window::MILLIS_MAX { Err(WindowError { millis }) } else { Ok(Window { millis }) }
    }

    /// A window of `multiplier` units; a multiplier of 0 is an error.
    ///
    /// # Errors
    /// When the length is 0 or more than [`Window::MILLIS_MAX`].
    pub fn from_units(unit: Unit, multiplier: u32) -> Result<Window, WindowError> {
        Window::from_millis((unit.seconds() * 1_000).saturating_mul(u64::from(multiplier)))
    }

    /// Its length in milliseconds, 1 to [`Window::MILLIS_MAX`].
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.millis
    }

    /// Its length as a multiple of the longest unit that divides it, the way Envoy's answer states it
    /// (`unit` and `unit_multiplier`). `None` where it is no whole number of seconds, or too many of them to say.
    #[must_use]
    pub fn units(self) -> Option<(Unit, u32)> {
        Unit::ALL.into_iter().rev().find_map(|unit| {
            let unit_millis = unit.seconds() * 1_000;
            if self.millis.is_multiple_of(unit_millis) {
                Some((unit, u32::try_from(self.millis / unit_millis).ok()?))
            } else {
                None
            }
        })
    }
}

impl From<Unit> for Window {
    fn from(unit: Unit) -> Window {
        Window { millis: unit.seconds() * 1_000 }
    }
}

impl fmt::Display for Window {
    /// `hour`, `10 s`, `1500 ms`: the text that follows "per".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.units() {
            Some((unit, 1)) => f.write_str(unit.name()),
            Some((unit, multiplier)) => write!(f, "{multiplier} {}s", unit.name()),
            None => write!(f, "{} ms", self.millis),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.requests_per_unit, self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_states_itself_in_the_longest_unit_that_divides_it() {
        let units = |millis| Window::from_millis(millis).unwrap().units();
        assert_eq!(units(1_000), Some((Unit::Second, 1)));
        assert_eq!(units(10_000), Some((Unit::Second, 10)));
        assert_eq!(units(120_000), Some((Unit::Minute, 2)));
        assert_eq!(units(7 * 86_400_000), Some((Unit::Week, 1)));
        assert_eq!(units(1_500), None);
    }

    #[test]
    fn a_window_is_neither_zero_nor_longer_than_five_years() {
        assert!(Window::from_millis(0).is_err());
        assert!(Window::from_units(Unit::Second, 0).is_err());
        assert!(Window::from_units(Unit::Year, 5).is_ok());
        assert!(Window::from_units(Unit::Year, 6).is_err());
        assert!(Window::from_units(Unit::Year, u32::MAX).is_err());
    }
}
