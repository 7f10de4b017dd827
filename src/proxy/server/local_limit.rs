//! The filter with token buckets of its own.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::context::Context;
use super::exchange::Exchange;
use super::heads;
use super::local_buckets::{LocalBuckets, Speaker, Taken, Verdict};
use super::reply::LocalReply;
use crate::proxy::access_log::ResponseFlag;
use crate::proxy::bootstrap::model::{LocalRateLimit, XRateLimitOption};
use crate::proxy::descriptors::{Described, Descriptor, describe_locally};
use crate::proxy::stats::LocalRateLimitStats;

/// A configured limit: one for the filter, one more for each route or virtual host that has its own.
#[derive(Debug)]
pub struct LocalLimiter {
    settings: LocalRateLimit,
    buckets: LocalBuckets,
    stats: Arc<LocalRateLimitStats>,
    context: Arc<Context>,
}

// === impl LocalLimiter ===

impl LocalLimiter {
    /// A limiter whose buckets are full.
    #[must_use]
    pub fn new(settings: &LocalRateLimit, stats: Arc<LocalRateLimitStats>, context: &Arc<Context>) -> LocalLimiter {
        let buckets = LocalBuckets::new(settings, Instant::now());
        LocalLimiter { settings: settings.clone(), buckets, stats, context: Arc::clone(context) }
    }

    /// Takes the request's tokens.
    ///
    /// # Errors
    /// The answer, if a token is missing and that is enforced.
    pub fn check(&self, exchange: &mut Exchange) -> Result<(), Box<LocalReply>> {
        let (settings, counters) = (&self.settings, &self.stats.counters);
        if !settings.filter_enabled.includes(rand::random()) {
            return Ok(());
        }
        counters.enabled.increment();
        let Taken { verdict, speaker } = self.buckets.take(&self.describe(exchange), Instant::now());
        if let Some(speaker) = speaker {
            self.tell(exchange, speaker);
        }
        if verdict == Verdict::Allowed {
            counters.ok.increment();
            return Ok(());
        }
        counters.rate_limited.increment();
        if verdict == Verdict::Shadowed {
            counters.shadow_mode.increment();
            return Ok(());
        }
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

    fn describe(&self, exchange: &Exchange) -> Vec<Descriptor> {
        let record = exchange.record();
        let described = Described {
            record: &record,
            node_cluster: &self.context.node.cluster,
            routed_cluster: exchange.cluster.as_ref().map_or("", |cluster| &cluster.settings.name),
        };
        let found = exchange.virtual_host.as_deref().zip(exchange.route.as_deref());
        describe_locally(&self.settings, found, described)
    }

    /// Puts `x-ratelimit-*` on the answer, if the descriptor or the filter says so.
    fn tell(&self, exchange: &mut Exchange, speaker: Speaker) {
        let is_told = match speaker.option {
            XRateLimitOption::Unspecified => self.settings.enable_x_ratelimit_headers,
            XRateLimitOption::Off => false,
            XRateLimitOption::DraftVersion03 => true,
        };
        if !is_told {
            return;
        }
        let reset = speaker.reset.as_secs() + u64::from(speaker.reset.subsec_nanos() > 0);
        let headers = [
            ("x-ratelimit-limit", u64::from(speaker.max)),
            ("x-ratelimit-remaining", u64::from(speaker.remaining)),
            ("x-ratelimit-reset", reset),
        ];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from(value)));
        exchange.answer_headers.push(HeaderMap::from_iter(headers));
    }
}
