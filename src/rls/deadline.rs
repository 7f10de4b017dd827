//! How long a caller waits: the `grpc-timeout` header of the gRPC protocol over HTTP/2, one to eight digits and a unit.

use std::time::Duration;

use http::HeaderMap;

/// The caller's time-out, if it sent one that can be read. An unreadable one is as none: our own setting holds then.
#[must_use]
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The time within which a call is to be answered: nine tenths of what the caller waits, so that the answer still
/// reaches it, and never more than `longest`.
#[must_use]
pub fn time_to_answer(headers: &HeaderMap, longest: Duration) -> Duration {
    grpc_timeout(headers).map_or(longest, |timeout| longest.min(timeout.mul_f64(0.9)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        grpc_timeout(&headers)
    }

    #[test]
    fn every_unit_of_the_protocol_is_read() {
        assert_eq!(timeout("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(timeout("2M"), Some(Duration::from_secs(120)));
        assert_eq!(timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(timeout("20m"), Some(Duration::from_millis(20)));
        assert_eq!(timeout("250u"), Some(Duration::from_micros(250)));
        assert_eq!(timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
    }

    #[test]
    fn what_is_no_timeout_is_as_none() {
        for text in ["", "m", "20", "20x", "-1m", "1.5S", "123456789m", "２0m", "20 m"] {
            let Ok(value) = text.parse() else { continue };
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", value);
            assert_eq!(grpc_timeout(&headers), None, "{text:?}");
        }
    }

    #[test]
    fn the_shorter_of_callers_and_own_deadline_holds() {
        let mut headers = HeaderMap::new();
        assert_eq!(time_to_answer(&headers, Duration::from_millis(100)), Duration::from_millis(100));
        headers.insert("grpc-timeout", "20m".parse().unwrap());
        assert_eq!(time_to_answer(&headers, Duration::from_millis(100)), Duration::from_millis(18));
        assert_eq!(time_to_answer(&headers, Duration::from_millis(5)), Duration::from_millis(5));
    }
}
