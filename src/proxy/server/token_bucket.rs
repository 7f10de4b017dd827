//! The bucket of a local rate limit. Tokens flow in steadily, so a fill of 10 in a second is one in 100 ms.

use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::bootstrap::model;

/// A bucket that begins full.
#[derive(Debug)]
pub struct TokenBucket {
    max: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
}

// === impl TokenBucket ===

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(settings: &model::TokenBucket, now: Instant) -> TokenBucket {
        let max = f64::from(settings.max_tokens);
        let interval = settings.fill_interval.as_secs_f64().max(f64::EPSILON);
        TokenBucket { max, per_second: f64::from(settings.tokens_per_fill) / interval, tokens: max, at: now }
    }

    /// Takes that many tokens if there are as many; a number below 0 gives tokens back, as far as there is room. To take
    /// none is refused, as Envoy does.
    pub fn take(&mut self, tokens: f64, now: Instant) -> bool {
        self.fill(now);
        let is_possible = tokens != 0.0 && self.tokens >= tokens;
        if is_possible {
            self.tokens = (self.tokens - tokens).min(self.max);
        }
        is_possible
    }

    /// Tokens that flow in, in a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Whole tokens, and the time until there is one: 0 if there is.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and max_tokens, which is a u32
    pub fn state(&mut self, now: Instant) -> (u32, Duration) {
        self.fill(now);
        let whole = self.tokens.floor();
        let missing = (1.0 - self.tokens).max(0.0);
        (whole as u32, Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(Duration::MAX))
    }

    fn fill(&mut self, now: Instant) {
        let flowed = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + flowed).min(self.max);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(max_tokens: u32, tokens_per_fill: u32, fill_interval_ms: u64) -> (TokenBucket, Instant) {
        let fill_interval = Duration::from_millis(fill_interval_ms);
        let now = Instant::now();
        (TokenBucket::new(&model::TokenBucket { max_tokens, tokens_per_fill, fill_interval }, now), now)
    }

    #[test]
    fn a_bucket_begins_full_and_fills_steadily_up_to_its_size() {
        let (mut bucket, now) = bucket(3, 10, 1000);
        assert_eq!((0..5).filter(|_| bucket.take(1.0, now)).count(), 3);
        assert!(!bucket.take(1.0, now + Duration::from_millis(99)));
        assert!(bucket.take(1.0, now + Duration::from_millis(101)));
        assert_eq!(bucket.state(now + Duration::from_secs(60)), (3, Duration::ZERO));
    }

    #[test]
    fn the_next_token_is_waited_for_only_when_there_is_none() {
        let (mut bucket, now) = bucket(2, 1, 1000);
        assert!(bucket.take(1.0, now));
        assert_eq!(bucket.state(now), (1, Duration::ZERO));
        assert!(bucket.take(1.0, now));
        assert_eq!(bucket.state(now), (0, Duration::from_secs(1)));
        assert_eq!(bucket.state(now + Duration::from_millis(750)), (0, Duration::from_millis(250)));
    }

    #[test]
    fn time_that_goes_back_changes_nothing() {
        let (mut bucket, now) = bucket(1, 1, 1000);
        assert!(bucket.take(1.0, now + Duration::from_secs(9)));
        assert!(!bucket.take(1.0, now));
        assert!(!bucket.take(1.0, now + Duration::from_secs(9)));
    }
}
