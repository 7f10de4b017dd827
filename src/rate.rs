//! A rate of requests, in thousandths of a request per second.
//!
//! What moves a limit calculates in floating point; what enforces it counts in whole thousandths, so that nothing is
//! rounded twice and Rust and Lua agree on every token. One [`Rate`] a millisecond long is a whole number of millionths
//! of a request: that is why it is thousandths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A rate between 0.001 and 1,000,000,000 requests per second. Serialised as requests per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Rate {
    millis: u64,
}

/// A text that is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRate {
    /// It isn't written as one.
    #[error("a rate above zero, such as 500/s, 30/m or 0.5/s,")]
    Form,
    /// It is too high, or too low.
    #[error("a rate above zero, from {} to {},", Rate::MIN, Rate::MAX)]
    Range,
}

// === impl Rate ===

impl Rate {
    /// The lowest rate: one request in 1,000 seconds.
    pub const MIN: Rate = Rate { millis: 1 };

    /// The highest rate: a thousand million requests per second. A second's worth of it, in millionths of a request,
    /// stays below 2^53, which Lua counts exactly.
    pub const MAX: Rate = Rate { millis: 1_000_000_000_000 };

    /// So many thousandths of a request per second, brought into the range of a rate.
    #[must_use]
    pub fn from_millis(millis: u64) -> Rate {
        Rate { millis }.clamp(Rate::MIN, Rate::MAX)
    }

    /// The nearest rate to so many requests per second. What is no number is the lowest rate: the safe side for a limit.
    #[must_use]
    pub fn from_per_second(per_second: f64) -> Rate {
        // A cast cuts to the range of the integer, and makes 0 of what is no number.
        Rate::from_millis((per_second * 1_000.0).round() as u64)
    }

    /// Thousandths of a request per second.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.millis
    }

    /// Requests per second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.millis as f64 / 1_000.0
    }
}

impl FromStr for Rate {
    type Err = NoRate;

    /// A rate as people write it: a number, a slash and `s`, `m` or `h`. The error says what would be right.
    ///
    /// A bare number is none: rules of a domain count per minute or per day as often as per second, so it would be read
    /// as the one and meant as the other.
    fn from_str(text: &str) -> Result<Rate, NoRate> {
        let (number, unit) = text.split_once('/').ok_or(NoRate::Form)?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(NoRate::Form),
        };
        let number = number.trim();
        let is_plain = number.len() <= 20 && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let number: f64 = number.parse().ok().filter(|_| is_plain).ok_or(NoRate::Form)?;
        let per_second = number / seconds;
        if !(Rate::MIN.per_second()..=Rate::MAX.per_second()).contains(&per_second) {
            return Err(NoRate::Range);
        }
        Ok(Rate::from_per_second(per_second))
    }
}

impl From<f64> for Rate {
    fn from(per_second: f64) -> Rate {
        Rate::from_per_second(per_second)
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> f64 {
        rate.per_second()
    }
}

impl fmt::Display for Rate {
    /// `212/s`, `0.5/s`: at most three decimals, none that say nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.millis / 1_000, self.millis % 1_000);
        if rest == 0 {
            return write!(f, "{whole}/s");
        }
        let decimals = format!("{rest:03}");
        write!(f, "{whole}.{}/s", decimals.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_nearest_thousandth_inside_its_range() {
        for (per_second, millis) in [
            (212.0, 212_000),
            (0.000_6, 1),
            (0.2, 200),
            (0.0, 1),
            (-3.0, 1),
            (f64::NAN, 1),
            (f64::INFINITY, Rate::MAX.millis),
            (2e9, Rate::MAX.millis),
            (1.000_4, 1_000),
        ] {
            assert_eq!(Rate::from_per_second(per_second).millis(), millis, "{per_second}/s");
        }
    }

    #[test]
    fn a_rate_is_read_with_its_unit_and_only_so() {
        for (text, millis) in [("212/s", 212_000), ("30/m", 500), (" 0.5 / s ", 500), ("3.6/h", 1)] {
            assert_eq!(text.parse(), Ok(Rate::from_millis(millis)), "{text}");
        }
        for text in ["212", "/s", "-1/s", "1e3/s", "1/d", "", "NaN/s", "1/s/s", "1.2.3/s"] {
            assert_eq!(text.parse::<Rate>(), Err(NoRate::Form), "{text}");
        }
        for text in ["0/s", "2000000000/s", "1/h"] {
            assert_eq!(text.parse::<Rate>(), Err(NoRate::Range), "{text}");
        }
    }

    #[test]
    fn a_rate_is_written_without_idle_decimals() {
        for (millis, text) in [(212_000, "212/s"), (500, "0.5/s"), (1_050, "1.05/s"), (1, "0.001/s")] {
            assert_eq!(Rate::from_millis(millis).to_string(), text);
        }
    }
}
