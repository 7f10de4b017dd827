//! Whether a request is worth another try, and after how long.

use std::time::Duration;

use http::HeaderMap;

use crate::proxy::bootstrap::model::{RetryOn, RetryPolicy};
use crate::proxy::cluster::ResetReason;

/// The tries of one request.
#[derive(Debug)]
pub struct Retries<'p> {
    policy: Option<&'p RetryPolicy>,
    left: u32,
    made: u32,
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
    /// The tries under that policy; without one, or one that names no reason, there is only the first.
    #[must_use]
    pub fn new(policy: Option<&'p RetryPolicy>) -> Retries<'p> {
        let policy = policy.filter(|policy| !policy.retry_on.is_empty());
        // Envoy starts from one and takes the larger number, so `num_retries: 0` means one.
        Retries { policy, left: policy.map_or(0, |policy| policy.num_retries.max(1)), made: 0 }
    }

    /// How many further tries there were.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.made
    }

    /// An answer came. A verdict to retry uses up one try.
    pub fn judge_answer(&mut self, status: u16, headers: &HeaderMap) -> Verdict {
        let wanted = self.policy.is_some_and(|policy| is_answer_retried(policy, status, headers));
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

fn is_answer_retried(policy: &RetryPolicy, status: u16, headers: &HeaderMap) -> bool {
    // Whoever was rate limited is not helped by asking again at once.
    if headers.contains_key("x-envoy-ratelimited") {
        return policy.retry_on.contains(&RetryOn::EnvoyRateLimited);
    }
    policy.retry_on.iter().any(|reason| match reason {
        RetryOn::ServerError => (500..600).contains(&status),
        RetryOn::GatewayError => (502..=504).contains(&status),
        RetryOn::Retriable4xx => status == 409,
        RetryOn::RetriableStatusCodes => policy.retriable_status_codes.contains(&status),
        RetryOn::Reset
        | RetryOn::ResetBeforeRequest
        | RetryOn::ConnectFailure
        | RetryOn::EnvoyRateLimited
        | RetryOn::RefusedStream => false,
    })
}

fn is_reset_retried(policy: &RetryPolicy, reason: ResetReason) -> bool {
    // A breaker that is open would be met again, and retries are what it protects from.
    if reason == ResetReason::Overflow {
        return false;
    }
    policy.retry_on.iter().any(|wanted| match wanted {
        RetryOn::ServerError | RetryOn::GatewayError | RetryOn::Reset => true,
        RetryOn::ResetBeforeRequest | RetryOn::ConnectFailure => reason.is_connection_failure(),
        RetryOn::RefusedStream => reason == ResetReason::RemoteRefusedStream,
        RetryOn::EnvoyRateLimited | RetryOn::Retriable4xx | RetryOn::RetriableStatusCodes => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(retry_on: &[RetryOn], num_retries: u32) -> RetryPolicy {
        RetryPolicy {
            retry_on: retry_on.to_vec(),
            num_retries,
            per_try_timeout: None,
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
            retriable_status_codes: vec![418],
        }
    }

    fn after_answer(retry_on: RetryOn, status: u16) -> bool {
        Retries::new(Some(&policy(&[retry_on], 1))).judge_answer(status, &HeaderMap::new()) == Verdict::Retry
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
        let retried = |word, reason| Retries::new(Some(&policy(&[word], 1))).judge_reset(reason) == Verdict::Retry;
        assert!(!retried(RetryOn::ServerError, ResetReason::Overflow));
        assert!(retried(RetryOn::ServerError, ResetReason::ConnectionTermination));
        assert!(retried(RetryOn::ConnectFailure, ResetReason::RemoteConnectionFailure));
        assert!(retried(RetryOn::ConnectFailure, ResetReason::ConnectionTimeout));
        assert!(!retried(RetryOn::ConnectFailure, ResetReason::ConnectionTermination));
        assert!(retried(RetryOn::RefusedStream, ResetReason::RemoteRefusedStream));
        assert!(!retried(RetryOn::RefusedStream, ResetReason::RemoteReset));
    }

    #[test]
    fn a_rate_limited_answer_is_final_unless_asked_for() {
        let mut headers = HeaderMap::new();
        headers.insert("x-envoy-ratelimited", "true".parse().unwrap());
        let limited = policy(&[RetryOn::ServerError], 1);
        assert_eq!(Retries::new(Some(&limited)).judge_answer(503, &headers), Verdict::Accept);
        let asked_for = policy(&[RetryOn::EnvoyRateLimited], 1);
        assert_eq!(Retries::new(Some(&asked_for)).judge_answer(429, &headers), Verdict::Retry);
    }

    #[test]
    fn tries_are_counted_and_zero_means_one() {
        for (num_retries, made) in [(0, 1), (1, 1), (3, 3)] {
            let policy = policy(&[RetryOn::ServerError], num_retries);
            let mut retries = Retries::new(Some(&policy));
            while retries.judge_answer(500, &HeaderMap::new()) == Verdict::Retry {}
            assert_eq!(retries.made(), made);
            assert_eq!(retries.judge_answer(500, &HeaderMap::new()), Verdict::LimitExceeded);
            assert_eq!(retries.judge_answer(200, &HeaderMap::new()), Verdict::Accept);
        }
        assert_eq!(Retries::new(None).judge_answer(500, &HeaderMap::new()), Verdict::Accept);
    }

    #[test]
    fn back_off_is_random_below_a_bound_that_doubles_up_to_the_maximum() {
        let policy = policy(&[RetryOn::ServerError], 9);
        let mut retries = Retries::new(Some(&policy));
        for bound in [25, 50, 100, 200, 250, 250] {
            retries.judge_answer(500, &HeaderMap::new());
            assert_eq!(retries.back_off(bound - 1).as_millis(), u128::from(bound - 1));
            assert_eq!(retries.back_off(bound).as_millis(), 0);
        }
    }
}
