//! Whether a request is worth another try, and after how long.

use std::time::Duration;

use http::HeaderMap;

use crate::proxy::bootstrap::model::{RetryOn, RetryPolicy};
use crate::proxy::cluster::ResetReason;
use crate::proxy::matching::any_header_matches;
use crate::proxy::request::RequestHead;

/// The status of an upstream that doesn't want to act on data that may be replayed.
const TOO_EARLY: u16 = 425;

/// The tries of one request.
#[derive(Debug)]
pub struct Retries<'p> {
    policy: Option<&'p RetryPolicy>,
    left: u32,
    made: u32,
    /// Whether the client sent it as early data and knows what 425 means, so that it is told.
    is_early_data: bool,
}

/// What a policy says of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The outcome is final.
    Accept,
    /// It would be worth a try, but there have been enough.
    LimitExceeded,
    /// Another try.
    Retry,
}

// === impl Retries ===

impl<'p> Retries<'p> {
    /// The tries of a request under that policy; without one, or one that names no reason or not that request, there is
    /// only the first.
    #[must_use]
    pub fn new(policy: Option<&'p RetryPolicy>, request: &RequestHead<'_>) -> Retries<'p> {
        let policy = policy.filter(|policy| {
            let conditions = &policy.retriable_request_headers;
            let is_meant = conditions.is_empty() || conditions.iter().any(|matcher| matcher.matches(request));
            is_meant && !policy.retry_on.is_empty()
        });
        Retries {
            policy,
            // Envoy starts from one and takes the larger number, so `num_retries: 0` means one.
            left: policy.map_or(0, |policy| policy.num_retries.max(1)),
            made: 0,
            is_early_data: request.headers.contains_key("early-data"),
        }
    }

    /// How many further tries there were.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.made
    }

    /// An answer came. A verdict to retry uses up one try.
    pub fn judge_answer(&mut self, status: u16, headers: &HeaderMap) -> Verdict {
        // Of the codes that are retried; another word may still want it.
        let is_told = self.is_early_data && status == TOO_EARLY;
        let wanted = self.policy.is_some_and(|policy| is_answer_retried(policy, status, headers, is_told));
        self.spend(wanted)
    }

    /// No answer came. A verdict to retry uses up one try.
    pub fn judge_reset(&mut self, reason: ResetReason) -> Verdict {
        let wanted = self.policy.is_some_and(|policy| is_reset_retried(policy, reason));
        self.spend(wanted)
    }

    /// The time before the next try: random, below a bound that doubles each time.
    #[must_use]
    pub fn back_off(&self, random: u64) -> Duration {
        let Some(policy) = self.policy else { return Duration::ZERO };
        let doubled = policy.base_interval.saturating_mul(1 << self.made.saturating_sub(1).min(30));
        let bound = u64::try_from(doubled.min(policy.max_interval).as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(random % bound.max(1))
    }

    fn spend(&mut self, wanted: bool) -> Verdict {
        if !wanted {
            return Verdict::Accept;
        }
        let Some(left) = self.left.checked_sub(1) else { return Verdict::LimitExceeded };
        self.left = left;
        self.made += 1;
        Verdict::Retry
    }
}

fn is_answer_retried(policy: &RetryPolicy, status: u16, headers: &HeaderMap, is_told: bool) -> bool {
    // Whoever was rate limited is not helped by asking again at once.
    if headers.contains_key("x-envoy-ratelimited") {
        return policy.retry_on.contains(&RetryOn::EnvoyRateLimited);
    }
    let grpc_status = headers.get("grpc-status").and_then(|status| status.to_str().ok()?.trim().parse::<u64>().ok());
    policy.retry_on.iter().any(|reason| match reason {
        RetryOn::ServerError => (500..600).contains(&status),
        RetryOn::GatewayError => (502..=504).contains(&status),
        RetryOn::Retriable4xx => status == 409,
        RetryOn::RetriableStatusCodes => !is_told && policy.retriable_status_codes.contains(&status),
        RetryOn::RetriableHeaders => any_header_matches(&policy.retriable_headers, headers),
        RetryOn::Grpc(wanted) => grpc_status == Some(*wanted as u64),
        RetryOn::Reset
        | RetryOn::ResetBeforeRequest
        | RetryOn::ConnectFailure
        | RetryOn::EnvoyRateLimited
        | RetryOn::RefusedStream => false,
    })
}

fn is_reset_retried(policy: &RetryPolicy, reason: ResetReason) -> bool {
    // A breaker that is open would be met again, and retries are what it protects from.
    if reason.is_overflow() {
        return false;
    }
    policy.retry_on.iter().any(|wanted| match wanted {
        RetryOn::ServerError | RetryOn::GatewayError | RetryOn::Reset => true,
        RetryOn::ResetBeforeRequest | RetryOn::ConnectFailure => reason.is_connection_failure(),
        RetryOn::RefusedStream => reason == ResetReason::RemoteRefusedStream,
        RetryOn::EnvoyRateLimited
        | RetryOn::Retriable4xx
        | RetryOn::RetriableStatusCodes
        | RetryOn::RetriableHeaders
        | RetryOn::Grpc(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::proxy::bootstrap::model::GrpcStatus;
    use crate::proxy::matching::{HeaderMatcher, HeaderRule};
    use crate::proxy::request::HeaderKey;

    fn policy(retry_on: &[RetryOn], num_retries: u32) -> RetryPolicy {
        RetryPolicy {
            retry_on: retry_on.to_vec(),
            num_retries,
            per_try_timeout: None,
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
            retriable_status_codes: vec![418],
            retriable_headers: Vec::new(),
            retriable_request_headers: Vec::new(),
        }
    }

    fn retries(policy: &RetryPolicy) -> Retries<'_> {
        Retries::new(Some(policy), &request(&HeaderMap::new()))
    }

    fn request(headers: &HeaderMap) -> RequestHead<'_> {
        RequestHead { method: "GET", scheme: "http", authority: "shop", path: "/", headers }
    }

    fn has_header(name: &'static str) -> HeaderMatcher {
        HeaderMatcher {
            key: HeaderKey::Header(HeaderName::from_static(name)),
            rule: HeaderRule::Present(true),
            invert: false,
            treat_missing_as_empty: false,
        }
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    fn after_answer(retry_on: RetryOn, status: u16) -> bool {
        retries(&policy(&[retry_on], 1)).judge_answer(status, &HeaderMap::new()) == Verdict::Retry
    }

    #[test]
    fn each_word_of_retry_on_means_its_own_answers() {
        for (word, statuses) in [
            (RetryOn::ServerError, &[500, 501, 502, 503, 504, 599][..]),
            (RetryOn::GatewayError, &[502, 503, 504]),
            (RetryOn::Retriable4xx, &[409]),
            (RetryOn::RetriableStatusCodes, &[418]),
            (RetryOn::Reset, &[]),
            (RetryOn::ConnectFailure, &[]),
        ] {
            let retried: Vec<u16> = [200, 404, 409, 418, 500, 501, 502, 503, 504, 599]
                .into_iter()
                .filter(|code| after_answer(word, *code))
                .collect();
            assert_eq!(retried, statuses, "{word:?}");
        }
    }

    #[test]
    fn an_open_breaker_is_never_tried_again_and_connections_only_where_asked_for() {
        let retried = |word, reason| retries(&policy(&[word], 1)).judge_reset(reason) == Verdict::Retry;
        assert!(!retried(RetryOn::ServerError, ResetReason::Overflow));
        assert!(!retried(RetryOn::ServerError, ResetReason::ActiveOverflow));
        assert!(retried(RetryOn::ServerError, ResetReason::ConnectionTermination));
        assert!(retried(RetryOn::ConnectFailure, ResetReason::RemoteConnectionFailure));
        assert!(retried(RetryOn::ConnectFailure, ResetReason::ConnectionTimeout));
        assert!(!retried(RetryOn::ConnectFailure, ResetReason::ConnectionTermination));
        assert!(retried(RetryOn::RefusedStream, ResetReason::RemoteRefusedStream));
        assert!(!retried(RetryOn::RefusedStream, ResetReason::RemoteReset));
    }

    #[test]
    fn a_rate_limited_answer_is_final_unless_asked_for() {
        let headers = headers("x-envoy-ratelimited", "true");
        let limited = policy(&[RetryOn::ServerError], 1);
        assert_eq!(retries(&limited).judge_answer(503, &headers), Verdict::Accept);
        let asked_for = policy(&[RetryOn::EnvoyRateLimited], 1);
        assert_eq!(retries(&asked_for).judge_answer(429, &headers), Verdict::Retry);
    }

    #[test]
    fn a_grpc_status_is_looked_at_where_its_word_stands() {
        let words = RetryOn::ALL.into_iter().filter_map(|word| match word {
            RetryOn::Grpc(status) => Some((word, status)),
            _ => None,
        });
        for (word, status) in words {
            let policy = policy(&[word], 1);
            let retried: Vec<u64> = (0..=16)
                .filter(|number| {
                    let mut headers = HeaderMap::new();
                    headers.insert("grpc-status", HeaderValue::from(*number));
                    retries(&policy).judge_answer(200, &headers) == Verdict::Retry
                })
                .collect();
            assert_eq!(retried, [status as u64], "{word:?}");
            for nonsense in ["", "x", "-14", "99999999999999999999"] {
                let verdict = retries(&policy).judge_answer(200, &headers("grpc-status", nonsense));
                assert_eq!(verdict, Verdict::Accept, "{nonsense:?}");
            }
        }
        let other = policy(&[RetryOn::ServerError, RetryOn::Grpc(GrpcStatus::Internal)], 1);
        assert_eq!(retries(&other).judge_answer(200, &headers("grpc-status", "14")), Verdict::Accept);
    }

    #[test]
    fn an_answer_that_a_matcher_wants_is_retried() {
        let matched =
            RetryPolicy { retriable_headers: vec![has_header("x-again")], ..policy(&[RetryOn::RetriableHeaders], 1) };
        assert_eq!(retries(&matched).judge_answer(200, &headers("x-again", "1")), Verdict::Retry);
        assert_eq!(retries(&matched).judge_answer(200, &HeaderMap::new()), Verdict::Accept);
        let unasked = RetryPolicy { retry_on: vec![RetryOn::ServerError], ..matched };
        assert_eq!(retries(&unasked).judge_answer(200, &headers("x-again", "1")), Verdict::Accept);
    }

    #[test]
    fn requests_that_no_matcher_wants_are_tried_once() {
        let matchers = vec![has_header("x-one"), has_header("x-two")];
        let policy = RetryPolicy { retriable_request_headers: matchers, ..policy(&[RetryOn::ServerError], 1) };
        let verdict =
            |headers: &HeaderMap| Retries::new(Some(&policy), &request(headers)).judge_answer(503, &HeaderMap::new());
        assert_eq!(verdict(&headers("x-two", "1")), Verdict::Retry);
        assert_eq!(verdict(&headers("x-three", "1")), Verdict::Accept);
    }

    #[test]
    fn who_sent_early_data_is_told_that_it_was_too_early() {
        let policy = RetryPolicy { retriable_status_codes: vec![425], ..policy(&[RetryOn::RetriableStatusCodes], 1) };
        let early = headers("early-data", "1");
        assert_eq!(retries(&policy).judge_answer(425, &HeaderMap::new()), Verdict::Retry);
        let mut tries = Retries::new(Some(&policy), &request(&early));
        assert_eq!(tries.judge_answer(425, &HeaderMap::new()), Verdict::Accept);
        let by_header = RetryPolicy {
            retry_on: vec![RetryOn::RetriableStatusCodes, RetryOn::RetriableHeaders],
            retriable_headers: vec![has_header("x-again")],
            ..policy.clone()
        };
        let mut tries = Retries::new(Some(&by_header), &request(&early));
        assert_eq!(tries.judge_answer(425, &headers("x-again", "1")), Verdict::Retry, "another word wants it");
    }

    #[test]
    fn tries_are_counted_and_zero_means_one() {
        for (num_retries, made) in [(0, 1), (1, 1), (3, 3)] {
            let policy = policy(&[RetryOn::ServerError], num_retries);
            let mut tries = retries(&policy);
            while tries.judge_answer(500, &HeaderMap::new()) == Verdict::Retry {}
            assert_eq!(tries.made(), made);
            assert_eq!(tries.judge_answer(500, &HeaderMap::new()), Verdict::LimitExceeded);
            assert_eq!(tries.judge_answer(200, &HeaderMap::new()), Verdict::Accept);
        }
        assert_eq!(
            Retries::new(None, &request(&HeaderMap::new())).judge_answer(500, &HeaderMap::new()),
            Verdict::Accept
        );
    }

    #[test]
    fn back_off_is_random_below_a_bound_that_doubles_up_to_the_maximum() {
        let policy = policy(&[RetryOn::ServerError], 9);
        let mut tries = retries(&policy);
        for bound in [25, 50, 100, 200, 250, 250] {
            tries.judge_answer(500, &HeaderMap::new());
            assert_eq!(tries.back_off(bound - 1).as_millis(), u128::from(bound - 1));
            assert_eq!(tries.back_off(bound).as_millis(), 0);
        }
    }
}
