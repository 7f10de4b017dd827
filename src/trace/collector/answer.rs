//! What a collector's answer means: taken, in whole or in part, to be sent again, or never to be. Pure.
//!
//! The rules are those of the [OpenTelemetry protocol](https://opentelemetry.io/docs/specs/otlp/): over HTTP 429, 502,
//! 503 and 504 are tried again, after `Retry-After` if that is there; over gRPC the statuses that pass by themselves, and
//! RESOURCE_EXHAUSTED where the answer says when. All texts of the collector are cut and cleaned: they go to the log.

use std::error::Error;
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, StatusCode};
use prost::Message;

use crate::proto::google::rpc::{RetryInfo, Status};
use crate::proto::opentelemetry::proto::collector::trace::v1::ExportTraceServiceResponse;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The collector took the spans, but for so many of which it said why.
    Taken {
        /// How many it did not take.
        rejected: u64,
        /// What it said of them.
        reason: String,
    },
    /// It may take them later.
    Again {
        /// Why not now.
        reason: String,
        /// When, if it said so.
        after: Option<Duration>,
    },
    /// It won't take them.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Characters of a collector's text that are kept.
const REASON_MAX: usize = 200;

/// Statuses of gRPC.
mod code {
    pub(super) const OK: i32 = 0;
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const ABORTED: i32 = 10;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const DATA_LOSS: i32 = 15;
}

// === impl Outcome ===

impl Outcome {
    /// Worth another attempt, without a word of when.
    pub(super) fn again(reason: String) -> Outcome {
        Outcome::Again { reason, after: None }
    }
}

/// What an answer over HTTP means. `after` is its `Retry-After`.
pub(super) fn of_http(status: StatusCode, after: Option<&str>, body: &[u8]) -> Outcome {
    if status.is_success() {
        return taken(body);
    }
    let said = Status::decode(body).map(|status| status.message).unwrap_or_default();
    let said = if said.is_empty() { String::new() } else { format!(": {}", clean(&said)) };
    let reason = format!("it answered {status}{said}");
    match status.as_u16() {
        429 | 502 | 503 | 504 => {
            // A date is not read: what isn't said in seconds is as not said.
            let after = after.and_then(|after| after.trim().parse().ok()).map(Duration::from_secs);
            Outcome::Again { reason, after }
        }
        _ => Outcome::Refused { reason },
    }
}

/// What an answer over gRPC means, of which `message` is the one message, or empty.
pub(super) fn of_grpc(http: StatusCode, head: &HeaderMap, trailers: &HeaderMap, message: &[u8]) -> Outcome {
    // Without a message the status stands in the head.
    let headers = if trailers.contains_key("grpc-status") { trailers } else { head };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(status) = text("grpc-status").and_then(|status| status.parse().ok()) else {
        let reason = format!("it answered HTTP {http} without a gRPC status");
        return match http.as_u16() {
            429 | 502 | 503 | 504 => Outcome::again(reason),
            _ => Outcome::Refused { reason },
        };
    };
    if status == code::OK {
        return taken(message);
    }
    let after = text("grpc-status-details-bin").and_then(retry_delay);
    let said = clean(text("grpc-message").unwrap_or_default());
    let reason = format!("it answered gRPC status {status}: {said}");
    match status {
        code::CANCELLED
        | code::DEADLINE_EXCEEDED
        | code::ABORTED
        | code::OUT_OF_RANGE
        | code::UNAVAILABLE
        | code::DATA_LOSS => Outcome::Again { reason, after },
        code::RESOURCE_EXHAUSTED if after.is_some() => Outcome::Again { reason, after },
        _ => Outcome::Refused { reason },
    }
}

fn taken(message: &[u8]) -> Outcome {
    // An answer that can't be read has said yes all the same.
    let partial = ExportTraceServiceResponse::decode(message).ok().and_then(|response| response.partial_success);
    let partial = partial.unwrap_or_default();
    let rejected = u64::try_from(partial.rejected_spans).unwrap_or_default();
    Outcome::Taken { rejected, reason: clean(&partial.error_message) }
}

/// The delay in a status's details.
fn retry_delay(details: &str) -> Option<Duration> {
    const INDIFFERENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&STANDARD, INDIFFERENT);

    let status = Status::decode(&*ENGINE.decode(details).ok()?).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
}

/// The text for one line of the log.
fn clean(text: &str) -> String {
    text.chars().take(REASON_MAX).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// An error and what caused it, in one line.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    clean(&text)
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD_NO_PAD;
    use proptest::prelude::*;

    use super::*;
    use crate::proto::opentelemetry::proto::collector::trace::v1::ExportTracePartialSuccess;

    fn grpc(trailers: &[(&'static str, &str)]) -> Outcome {
        let trailers = trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        of_grpc(StatusCode::OK, &HeaderMap::new(), &trailers, b"")
    }

    fn details(seconds: i64) -> String {
        let delay = pbjson_types::Duration { seconds, nanos: 500_000_000 };
        let info = RetryInfo { retry_delay: Some(delay) }.encode_to_vec().into();
        let type_url = "type.googleapis.com/google.rpc.RetryInfo".to_owned();
        let status = Status { details: vec![pbjson_types::Any { type_url, value: info }], ..Status::default() };
        BASE64_STANDARD_NO_PAD.encode(status.encode_to_vec())
    }

    fn is_again(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Again { .. })
    }

    #[test]
    fn over_http_the_four_statuses_are_tried_again_and_no_other() {
        for status in 100..=599 {
            let status = StatusCode::from_u16(status).unwrap();
            let outcome = of_http(status, None, b"");
            assert_eq!(is_again(&outcome), [429, 502, 503, 504].contains(&status.as_u16()), "{status}");
            assert_eq!(matches!(outcome, Outcome::Taken { .. }), status.is_success(), "{status}");
        }
    }

    #[test]
    fn over_grpc_what_passes_is_tried_again_and_exhaustion_only_with_a_word_of_when() {
        for status in 0..=16 {
            let outcome = grpc(&[("grpc-status", &status.to_string())]);
            assert_eq!(is_again(&outcome), [1, 4, 10, 11, 14, 15].contains(&status), "{status}");
        }
        let told = grpc(&[("grpc-status", "8"), ("grpc-status-details-bin", &details(3))]);
        assert!(matches!(told, Outcome::Again { after: Some(after), .. } if after == Duration::from_millis(3_500)));
        assert!(!is_again(&grpc(&[("grpc-status", "8"), ("grpc-status-details-bin", "AA")])));
        assert!(!is_again(&grpc(&[("grpc-status", "8"), ("grpc-status-details-bin", &details(-3))])));
        let refused = of_grpc(StatusCode::NOT_FOUND, &HeaderMap::new(), &HeaderMap::new(), b"");
        let reason = "it answered HTTP 404 Not Found without a gRPC status".to_owned();
        assert_eq!(refused, Outcome::Refused { reason });
    }

    #[test]
    fn a_delay_over_http_is_read_in_seconds() {
        let after = |text| match of_http(StatusCode::SERVICE_UNAVAILABLE, Some(text), b"") {
            Outcome::Again { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("-7"), None);
        assert_eq!(after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }

    #[test]
    fn what_was_not_taken_is_told_with_the_collectors_reason() {
        let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "too\nlarge".to_owned() };
        let response = ExportTraceServiceResponse { partial_success: Some(partial) };
        let outcome = of_http(StatusCode::OK, None, &response.encode_to_vec());
        assert_eq!(outcome, Outcome::Taken { rejected: 3, reason: "too large".to_owned() });
        assert_eq!(of_http(StatusCode::OK, None, b""), Outcome::Taken { rejected: 0, reason: String::new() });
    }

    proptest! {
        #[test]
        fn any_answer_is_an_outcome_of_one_short_line(
            status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,300}",
        ) {
            let status = StatusCode::from_u16(status).unwrap();
            let mut headers = HeaderMap::new();
            for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
                if let Ok(value) = http::HeaderValue::from_bytes(text.as_bytes()) {
                    headers.insert(name, value);
                }
            }
            for outcome in [of_http(status, Some(&text), &body), of_grpc(status, &headers, &HeaderMap::new(), &body)] {
                let (Outcome::Taken { reason, .. } | Outcome::Again { reason, .. } | Outcome::Refused { reason }) = outcome;
                prop_assert!(reason.chars().count() < REASON_MAX + 100 && !reason.contains('\n'));
            }
        }
    }
}
