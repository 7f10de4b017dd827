//! Numbers as people read them.

/// A rate with three digits or all of its whole ones: `212`, `21.2`, `2.12`, `0.5`.
pub(super) fn rate(rate: f64) -> String {
    let decimals = match rate.abs() {
        big if big >= 99.95 => 0,
        middle if middle >= 9.995 => 1,
        _ => 2,
    };
    trimmed(format!("{rate:.decimals$}"))
}

/// A share as a percentage: `31.2`, `5`, `0.25`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    trimmed(if percent.abs() < 0.995 { format!("{percent:.2}") } else { format!("{percent:.1}") })
}

/// A time: `15 s`, `4 min`, `1.5 h`.
pub(super) fn seconds(seconds: f64) -> String {
    let (number, unit) = match seconds {
        long if long >= 5_400.0 => (long / 3_600.0, "h"),
        middle if middle >= 180.0 => (middle / 60.0, "min"),
        short => (short, "s"),
    };
    format!("{} {unit}", trimmed(format!("{number:.1}")))
}

fn trimmed(number: String) -> String {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_owned() } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        for (number, text) in
            [(212.4, "212"), (99.97, "100"), (21.24, "21.2"), (2.124, "2.12"), (0.5, "0.5"), (10.0, "10")]
        {
            assert_eq!(rate(number), text);
        }
        for (share, text) in [(0.312, "31.2"), (0.05, "5"), (0.002_5, "0.25"), (0.0, "0"), (1.0, "100")] {
            assert_eq!(percent(share), text);
        }
        for (time, text) in [(15.0, "15 s"), (13.5, "13.5 s"), (900.0, "15 min"), (14_400.0, "4 h")] {
            assert_eq!(seconds(time), text);
        }
    }
}
