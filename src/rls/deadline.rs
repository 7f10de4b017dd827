//! How long a caller waits: the `grpc-timeout` header of the gRPC protocol over HTTP/2, one to eight digits and a unit.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The caller's time-out, if it sent one that can be read. An unreadable one is as none: our own setting holds then.
#[must_use]
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(&GRPC_TIMEOUT)?.to_str().ok()?;
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

/// What of the caller's time-out we may use: nine tenths, so that the answer still reaches it.
#[must_use]
pub fn usable_timeout(headers: &HeaderMap) -> Option<Duration> {
    Some(grpc_timeout(headers)?.mul_f64(0.9))
}

/// When a call is to be answered: within what its caller left usable from the `start`, and never more than `longest`
/// after its message was `received`.
#[must_use]
pub fn decision_deadline(started: Instant, usable: Option<Duration>, received: Instant, longest: Duration) -> Instant {
    let own = received + longest;
    usable.map_or(own, |usable| own.min(started + usable))
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
        let start = Instant::now();
        let millis = Duration::from_millis;
        let deadline = |usable, received, longest| decision_deadline(start, usable, start + received, longest) - start;
        assert_eq!(deadline(None, millis(0), millis(100)), millis(100));
        assert_eq!(deadline(Some(millis(18)), millis(0), millis(100)), millis(18));
        assert_eq!(deadline(Some(millis(18)), millis(0), millis(5)), millis(5));
        assert_eq!(deadline(Some(millis(18)), millis(15), millis(5)), millis(18), "what arrives late has less left");
        assert_eq!(deadline(None, millis(15), millis(5)), millis(20));
    }

    #[test]
    fn a_tenth_of_the_callers_time_is_left_for_the_way_back() {
        let mut headers = HeaderMap::new();
        assert_eq!(usable_timeout(&headers), None);
        headers.insert("grpc-timeout", "20m".parse().unwrap());
        assert_eq!(usable_timeout(&headers), Some(Duration::from_millis(18)));
    }
}
