//! The filter with a token bucket of its own.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::exchange::Exchange;
use super::heads;
use super::reply::LocalReply;
use super::token_bucket::TokenBucket;
use crate::proxy::access_log::ResponseFlag;
use crate::proxy::bootstrap::model::LocalRateLimit;
use crate::proxy::stats::LocalRateLimitStats;

/// A configured bucket: one for the filter, one more for each route or virtual host that has its own.
#[derive(Debug)]
pub struct LocalLimiter {
    settings: LocalRateLimit,
    bucket: Option<Mutex<TokenBucket>>,
    stats: Arc<LocalRateLimitStats>,
}

// === impl LocalLimiter ===

impl LocalLimiter {
    /// A limiter whose bucket is full.
    #[must_use]
    pub fn new(settings: &LocalRateLimit, stats: Arc<LocalRateLimitStats>) -> LocalLimiter {
        let now = Instant::now();
        let bucket = settings.token_bucket.as_ref().map(|bucket| Mutex::new(TokenBucket::new(bucket, now)));
        LocalLimiter { settings: settings.clone(), bucket, stats }
    }

    /// Takes a token for the request.
    ///
    /// # Errors
    /// The answer, if there is no token and that is enforced.
    pub fn check(&self, exchange: &mut Exchange) -> Result<(), Box<LocalReply>> {
        let (settings, counters) = (&self.settings, &self.stats.counters);
        let Some(bucket) = &self.bucket else { return Ok(()) };
        if !settings.filter_enabled.includes(rand::random()) {
            return Ok(());
        }
        counters.enabled.increment();
        let (has_token, state) = {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            (bucket.take(now), bucket.state(now))
        };
        if settings.enable_x_ratelimit_headers {
            let max = settings.token_bucket.map_or(0, |bucket| bucket.max_tokens);
            let (remaining, reset) = state;
            let reset = reset.as_secs() + u64::from(reset.subsec_nanos() > 0);
            for (name, value) in [("limit", u64::from(max)), ("remaining", u64::from(remaining)), ("reset", reset)] {
                if let Ok(name) = HeaderName::try_from(format!("x-ratelimit-{name}")) {
                    exchange.answer_headers.insert(name, HeaderValue::from(value));
                }
            }
        }
        if has_token {
            counters.ok.increment();
            return Ok(());
        }
        counters.rate_limited.increment();
        if !settings.filter_enforced.includes(rand::random()) {
            let mut headers = std::mem::take(&mut exchange.head.headers);
            heads::add(&mut headers, &settings.request_headers_to_add_when_not_enforced, &exchange.record());
            exchange.head.headers = headers;
            return Ok(());
        }
        counters.enforced.increment();
        let mut reply = LocalReply::new(settings.status, "local_rate_limited", "local_rate_limited")
            .flag(ResponseFlag::RateLimited);
        reply.grpc_status = settings.rate_limited_as_resource_exhausted.then_some(8);
        heads::add(&mut reply.headers, &settings.response_headers_to_add, &exchange.record());
        Err(Box::new(reply))
    }
}
