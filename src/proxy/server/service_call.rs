//! Calls of a rate limit service: gRPC over a cluster of the configuration, so that its hosts, breakers, connections and
//! statistics are those of any other cluster.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use http::{HeaderMap, Uri};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout};
use tonic::metadata::MetadataMap;
use tower_service::Service;

use super::context::Context;
use super::heads;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::proxy::cluster::{AnswerBody, Cluster, Outcome, Reset, ResetReason};

/// A rate limit service, by the cluster it is in.
#[derive(Clone, Debug)]
pub struct RateLimitService {
    cluster: Option<Arc<Cluster>>,
    client: RateLimitServiceClient<Channel>,
    context: Arc<Context>,
    timeout: Option<Duration>,
}

/// gRPC's way to a cluster.
#[derive(Clone, Debug)]
pub struct Channel {
    cluster: Option<Arc<Cluster>>,
}

// === impl RateLimitService ===

impl RateLimitService {
    /// The service in the cluster of that name, which is called `authority`. A cluster that isn't there is a service
    /// that always fails.
    #[must_use]
    pub fn new(name: &str, authority: &str, timeout: Option<Duration>, context: &Arc<Context>) -> RateLimitService {
        let cluster = context.clusters.get(name).cloned();
        // A name that is no authority would not get over HTTP/2; what can't stand in one becomes a dash.
        let allowed =
            |letter: char| if letter.is_ascii_alphanumeric() || "-._:[]".contains(letter) { letter } else { '-' };
        let origin = Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
        let origin = origin.or_else(|_| {
            let plain: String = authority.chars().map(allowed).collect();
            Uri::builder().scheme("http").authority(plain).path_and_query("/").build()
        });
        let origin = origin.unwrap_or_else(|_| Uri::from_static("http://ratelimit/"));
        let client = RateLimitServiceClient::with_origin(Channel { cluster: cluster.clone() }, origin);
        RateLimitService { cluster, client, context: Arc::clone(context), timeout }
    }

    /// Asks; `None` if there is no answer, or none in time.
    pub async fn ask(&self, question: RateLimitRequest, mut metadata: HeaderMap) -> Option<RateLimitResponse> {
        heads::append_forwarded_for(&mut metadata, self.context.own_address);
        metadata.insert("x-envoy-internal", http::HeaderValue::from_static("true"));
        if let Some(limit) = self.timeout {
            let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            metadata.insert("x-envoy-expected-rq-timeout-ms", milliseconds.into());
        }
        let mut request =
            tonic::Request::from_parts(MetadataMap::from_headers(metadata), tonic::Extensions::new(), question);
        if let Some(limit) = self.timeout {
            request.set_timeout(limit);
        }
        let began = Instant::now();
        let mut client = self.client.clone();
        let call = client.should_rate_limit(request);
        let answered = match self.timeout {
            Some(limit) => timeout(limit, call).await,
            None => Ok(call.await),
        };
        match answered {
            Ok(Ok(response)) => {
                if let Some(cluster) = &self.cluster {
                    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    cluster.stats.record_time(milliseconds, true);
                }
                Some(response.into_inner())
            }
            Ok(Err(status)) => {
                tracing::debug!(%status, "a rate limit service failed");
                None
            }
            Err(_) => {
                if let Some(cluster) = &self.cluster {
                    cluster.stats.traffic.upstream_rq_timeout.increment();
                    cluster.stats.count_response(504, true);
                }
                None
            }
        }
    }
}

// === impl Channel ===

impl Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<AnswerBody>;
    type Error = Reset;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<AnswerBody>, Reset>> + Send>>;

    fn poll_ready(&mut self, _context: &mut TaskContext<'_>) -> Poll<Result<(), Reset>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let cluster = self.cluster.clone();
        Box::pin(async move {
            let Some(cluster) = cluster else { return Err(ResetReason::RemoteConnectionFailure.into()) };
            send(&cluster, request).await.inspect_err(|_| cluster.stats.count_response(503, true))
        })
    }
}

async fn send(
    cluster: &Arc<Cluster>,
    request: http::Request<tonic::body::Body>,
) -> Result<http::Response<AnswerBody>, Reset> {
    let Some(host) = cluster.choose() else {
        cluster.stats.traffic.upstream_cx_none_healthy.increment();
        return Err(ResetReason::RemoteConnectionFailure.into());
    };
    let sent = async {
        let stream = host.pool.stream().await?;
        stream.send(request.map(|body| body.map_err(Into::into).boxed_unsync())).await
    };
    match sent.await {
        Ok(response) => {
            let status = response.status().as_u16();
            cluster.stats.count_response(status, true);
            cluster.report(&host, Outcome::Response(status));
            if status < 500 { &host.stats.rq_success } else { &host.stats.rq_error }.increment();
            Ok(response)
        }
        Err(reset) => {
            host.stats.rq_error.increment();
            if !reset.reason.is_overflow() {
                cluster.report(&host, Outcome::ConnectFailed);
            }
            Err(reset)
        }
    }
}
