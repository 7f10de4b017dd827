//! The filter that asks a rate limit service.
//!
//! Before a request is routed its descriptors are sent, and the answer decides; when the stream ends those with
//! `apply_on_stream_done` are sent, and nobody reads the answer.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde_json::Value as Json;

use super::context::Context;
use super::exchange::Exchange;
use super::heads;
use super::reply::LocalReply;
use super::service_call::RateLimitService;
use crate::proto::envoy::config::core::v3::HeaderValue as WireHeader;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::proxy::access_log::ResponseFlag;
use crate::proxy::bootstrap::model::{RateLimit, RateLimitFilter, RateLimitPerRoute, RequestType};
use crate::proxy::cluster::Cluster;
use crate::proxy::descriptors::{self, Described, Descriptor, Moment};
use crate::proxy::ratelimit_headers;
use crate::proxy::stats::RateLimitStats;

/// The filter, ready to ask.
#[derive(Debug)]
pub struct RateLimiter {
    settings: Arc<RateLimitFilter>,
    service: RateLimitService,
    context: Arc<Context>,
}

/// Where hits of a whole request are found, if a filter before has put a number there.
const HITS_NAMESPACE: &str = "envoy.ratelimit.hits_addend";

// === impl RateLimiter ===

impl RateLimiter {
    /// The filter with those settings.
    #[must_use]
    pub fn new(settings: &RateLimitFilter, context: &Arc<Context>) -> RateLimiter {
        let authority = settings.authority.as_ref().unwrap_or(&settings.cluster);
        RateLimiter {
            service: RateLimitService::new(&settings.cluster, authority, settings.timeout, context),
            settings: Arc::new(settings.clone()),
            context: Arc::clone(context),
        }
    }

    /// Asks about the request, if there is anything to ask.
    ///
    /// # Errors
    /// The answer, if the request is refused.
    pub async fn check(
        &self,
        exchange: &mut Exchange,
        per_route: Option<&RateLimitPerRoute>,
    ) -> Result<(), Box<LocalReply>> {
        let settings = &self.settings;
        let (Some(cluster), Some(route), Some(virtual_host)) =
            (exchange.cluster.clone(), exchange.route.clone(), exchange.virtual_host.clone())
        else {
            return Ok(());
        };
        // No client is internal here: `x-envoy-internal` from outside is not believed.
        if settings.request_type == RequestType::Internal || !settings.filter_enabled.includes(rand::random()) {
            return Ok(());
        }
        let limits = descriptors::applicable(settings, per_route, &virtual_host, &route);
        let own_domain = per_route.map(|per_route| per_route.domain.as_str()).filter(|domain| !domain.is_empty());
        let domain = own_domain.unwrap_or(&settings.domain).to_owned();
        self.ask_at_end(exchange, &limits, &cluster, domain.clone());

        let descriptors = self.describe(exchange, limits, &cluster, Moment::Request);
        if descriptors.is_empty() {
            return Ok(());
        }
        let question = RateLimitRequest {
            domain,
            descriptors: descriptors.iter().map(Into::into).collect(),
            hits_addend: hits_addend(exchange),
        };
        let answer = self.service.ask(question, initial_metadata(settings, exchange)).await;
        let stats = cluster.stats.rate_limit(&settings.stat_prefix);
        match answer {
            None => self.failed(&stats),
            Some(answer) => self.act_on(exchange, &cluster, &stats, &descriptors, answer),
        }
    }

    fn describe(
        &self,
        exchange: &Exchange,
        limits: Vec<&RateLimit>,
        cluster: &Cluster,
        moment: Moment,
    ) -> Vec<Descriptor> {
        let record = exchange.record();
        let described = Described {
            record: &record,
            node_cluster: &self.context.node.cluster,
            routed_cluster: &cluster.settings.name,
        };
        descriptors::describe(limits, self.settings.stage, moment, described, rand::random())
    }

    /// Sees to it that descriptors of the end of the stream are sent then.
    fn ask_at_end(&self, exchange: &mut Exchange, limits: &[&RateLimit], cluster: &Arc<Cluster>, domain: String) {
        let at_end: Vec<RateLimit> =
            limits.iter().filter(|limit| limit.apply_on_stream_done).map(|limit| (*limit).clone()).collect();
        if at_end.is_empty() {
            return;
        }
        let (settings, context) = (Arc::clone(&self.settings), Arc::clone(&self.context));
        let (service, cluster) = (self.service.clone(), Arc::clone(cluster));
        exchange.at_end.push(Box::new(move |exchange| {
            let record = exchange.record();
            let described = Described {
                record: &record,
                node_cluster: &context.node.cluster,
                routed_cluster: &cluster.settings.name,
            };
            let descriptors =
                descriptors::describe(&at_end, settings.stage, Moment::StreamDone, described, rand::random());
            if descriptors.is_empty() {
                return;
            }
            let question = RateLimitRequest {
                domain,
                descriptors: descriptors.iter().map(Into::into).collect(),
                hits_addend: hits_addend(exchange),
            };
            // When the process ends there may be nobody left to send it.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                let metadata = initial_metadata(&settings, exchange);
                runtime.spawn(async move { service.ask(question, metadata).await });
            }
        }));
    }

    /// There was no answer, or none in time.
    fn failed(&self, stats: &RateLimitStats) -> Result<(), Box<LocalReply>> {
        let settings = &self.settings;
        stats.error.increment();
        let denies = match settings.failure_mode_deny_percent {
            Some(share) => share.includes(rand::random()),
            None => settings.failure_mode_deny,
        };
        if !denies {
            stats.failure_mode_allowed.increment();
            return Ok(());
        }
        let reply = LocalReply::new(settings.status_on_error, "", "rate_limiter_error");
        Err(Box::new(reply.flag(ResponseFlag::RateLimitServiceError)))
    }

    fn act_on(
        &self,
        exchange: &mut Exchange,
        cluster: &Cluster,
        stats: &RateLimitStats,
        descriptors: &[Descriptor],
        answer: RateLimitResponse,
    ) -> Result<(), Box<LocalReply>> {
        let settings = &self.settings;
        if let Some(metadata) = &answer.dynamic_metadata
            && let Ok(Json::Object(metadata)) = serde_json::to_value(metadata)
        {
            exchange.dynamic_metadata.insert(settings.metadata_namespace.clone(), metadata);
        }
        let is_over = answer.overall_code() == Code::OverLimit;
        let told = ratelimit_headers::x_ratelimit(&answer.statuses, descriptors, settings.enable_x_ratelimit_headers);
        let is_refused = is_over && settings.filter_enforced.includes(rand::random());
        if is_over {
            stats.over_limit.increment();
            // To Envoy our own refusals are answers of the cluster to a request from inside, even if nothing is refused.
            cluster.stats.count_response(settings.rate_limited_status.as_u16(), true);
        } else {
            // UNKNOWN lets the request pass as OK does.
            stats.ok.increment();
        }
        if !is_refused {
            let mut headers = HeaderMap::new();
            if is_over && !settings.disable_x_envoy_ratelimited_header {
                headers.insert("x-envoy-ratelimited", HeaderValue::from_static("true"));
            }
            headers.extend(told.into_iter().flatten());
            append(&mut headers, &answer.response_headers_to_add);
            exchange.answer_headers.push(headers);
            for (name, value) in answer.request_headers_to_add.iter().filter_map(header) {
                exchange.head.headers.insert(name, value);
            }
            return Ok(());
        }
        let mut reply = LocalReply::new(settings.rate_limited_status, answer.raw_body, "request_rate_limited")
            .flag(ResponseFlag::RateLimited);
        append(&mut reply.headers, &answer.response_headers_to_add);
        heads::add(&mut reply.headers, &settings.response_headers_to_add, &exchange.record());
        if !settings.disable_x_envoy_ratelimited_header {
            reply = reply.header("x-envoy-ratelimited", "true");
        }
        reply.headers.extend(told.into_iter().flatten());
        if settings.enable_retry_after_header
            && let Some(seconds) = ratelimit_headers::retry_after(&answer.statuses)
        {
            reply.headers.insert(RETRY_AFTER, seconds);
        }
        reply.grpc_status = settings.rate_limited_as_resource_exhausted.then_some(8);
        debug_assert!(reply.status >= StatusCode::BAD_REQUEST);
        Err(Box::new(reply))
    }
}

/// The metadata that goes along with a call.
fn initial_metadata(settings: &RateLimitFilter, exchange: &Exchange) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for header in &settings.initial_metadata {
        if let Ok(value) = HeaderValue::from_bytes(&header.value.render(&exchange.record())) {
            metadata.append(header.name.clone(), value);
        }
    }
    metadata
}

/// The hits of the whole request; 0, which means one to the service, if nothing says otherwise.
fn hits_addend(exchange: &Exchange) -> u32 {
    let said = exchange.dynamic_metadata.get(HITS_NAMESPACE).and_then(|values| values.values().next()?.as_u64());
    said.and_then(|hits| u32::try_from(hits).ok()).unwrap_or(0)
}

/// A header as the service sends it: as text, or as bytes where text won't do. What can't stand in a header is left out.
fn header(wire: &WireHeader) -> Option<(HeaderName, HeaderValue)> {
    let value = if wire.raw_value.is_empty() { wire.value.as_bytes() } else { &wire.raw_value };
    Some((HeaderName::from_bytes(wire.key.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?))
}

fn append(headers: &mut HeaderMap, added: &[WireHeader]) {
    for (name, value) in added.iter().filter_map(header) {
        headers.append(name, value);
    }
}
