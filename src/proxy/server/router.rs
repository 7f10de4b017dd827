//! The last filter: sends a request to a host of its cluster, again where that is worth it, and makes an answer of
//! whatever comes of it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, sleep};

use super::exchange::Exchange;
use super::grpc_answer::judged_status;
use super::progress::Progress;
use super::replay::Replay;
use super::reply::LocalReply;
use super::retry::{Retries, Verdict};
use crate::proxy::access_log::ResponseFlag;
use crate::proxy::body::Body;
use crate::proxy::bootstrap::model::{RetryPolicy, RouteAction};
use crate::proxy::cluster::{AnswerBody, Cluster, Host, Outcome, Permit, Reset, ResetReason, Stream};

/// What becomes of a request.
#[derive(Debug)]
pub enum Decided {
    /// The proxy answers itself.
    Local(Box<LocalReply>),
    /// A host answers.
    Upstream(Box<HostAnswer>),
}

/// The answer of a host.
#[derive(Debug)]
pub struct HostAnswer {
    /// The answer.
    pub response: Response<AnswerBody>,
    /// Who gave it.
    pub host: Arc<Host>,
    /// Of which cluster.
    pub cluster: Arc<Cluster>,
    /// When it must have been read.
    pub deadline: Option<Instant>,
}

/// How the router treats a request.
#[derive(Clone, Copy, Debug)]
pub struct Routing<'r> {
    /// The route's settings.
    pub action: &'r RouteAction,
    /// The route's retry policy or the virtual host's.
    pub retry_policy: Option<&'r RetryPolicy>,
    /// Whether upstreams are told which try it is.
    pub tells_attempt: bool,
    /// Whether no `x-envoy-*` headers are added.
    pub suppresses_envoy_headers: bool,
}

/// How one try ended.
enum Tried {
    Answered(Response<AnswerBody>),
    Reset(Reset),
    TimedOut,
    /// The request can't be written down for the host.
    Unspeakable,
}

impl Decided {
    /// The proxy answers so.
    #[must_use]
    pub fn local(reply: LocalReply) -> Decided {
        Decided::Local(Box::new(reply))
    }
}

/// Sends the request and decides on its answer.
pub async fn route(
    exchange: &mut Exchange,
    cluster: &Arc<Cluster>,
    routing: Routing<'_>,
    body: &Replay<Incoming>,
) -> Decided {
    let progress = Arc::clone(&exchange.progress);
    let timeout = routing.action.timeout;
    tokio::select! {
        biased;
        decided = tries(exchange, cluster, routing, body) => return decided,
        () = time_limit(&progress, timeout) => {}
    }
    // Whatever was under way has been given up by now.
    let traffic = &cluster.stats.traffic;
    traffic.upstream_rq_timeout.increment();
    // A host to which there is no connection yet has had no request that could be held against it.
    let tried_last = exchange.upstream_local_address.and(exchange.upstream_host);
    if let Some(host) = cluster.hosts().into_iter().find(|host| Some(host.address) == tried_last) {
        host.stats.rq_timeout.increment();
        host.stats.rq_error.increment();
        cluster.report(&host, Outcome::Timeout);
    }
    Decided::local(timed_out(cluster, "response_timeout", &[]))
}

/// Waits until the whole request has taken too long; the time begins with the request's last byte.
async fn time_limit(progress: &Progress, timeout: Option<Duration>) {
    let Some(timeout) = timeout else { return std::future::pending().await };
    let completed = progress.completed().await;
    tokio::time::sleep_until(completed + timeout).await;
}

async fn tries(
    exchange: &mut Exchange,
    cluster: &Arc<Cluster>,
    routing: Routing<'_>,
    body: &Replay<Incoming>,
) -> Decided {
    let mut retries = Retries::new(routing.retry_policy, &exchange.head.borrow());
    // Held while a retry is under way, from the wait before it to its end.
    let mut _retrying: Option<Permit> = None;
    loop {
        exchange.attempts += 1;
        let Some(host) = cluster.choose() else { return Decided::local(no_healthy_upstream(cluster)) };
        let Some(next) = body.next_try() else { return Decided::local(no_healthy_upstream(cluster)) };
        let tried = one_try(exchange, &host, routing, next, body).await;
        let verdict = match &tried {
            Tried::Answered(response) => {
                let status = response.status().as_u16();
                let judged = judged_status(status, response.headers(), exchange.head.is_grpc());
                cluster.report(&host, Outcome::Response(judged));
                let count = if status >= 500 { &host.stats.rq_error } else { &host.stats.rq_success };
                count.increment();
                retries.judge_answer(status, response.headers())
            }
            Tried::Reset(reset) => {
                if !reset.reason.is_overflow() {
                    host.stats.rq_error.increment();
                    cluster.report(&host, Outcome::ConnectFailed);
                }
                retries.judge_reset(reset.reason)
            }
            Tried::TimedOut => {
                cluster.stats.traffic.upstream_rq_per_try_timeout.increment();
                host.stats.rq_timeout.increment();
                host.stats.rq_error.increment();
                cluster.report(&host, Outcome::Timeout);
                retries.judge_reset(ResetReason::LocalReset)
            }
            // Another host would be told nothing better.
            Tried::Unspeakable => Verdict::Accept,
        };
        _retrying = None;
        let why_final = match again(cluster, verdict, body) {
            Ok(permit) => {
                _retrying = Some(permit);
                None
            }
            Err(flag) => Some(flag),
        };
        if let Some(flag) = why_final {
            return conclude(exchange, cluster, host, tried, routing, &retries, flag);
        }
        if let Tried::Answered(response) = tried {
            cluster.stats.count_retried_response(response.status().as_u16());
        }
        cluster.stats.traffic.upstream_rq_retry_backoff_exponential.increment();
        sleep(retries.back_off(rand::random())).await;
    }
}

/// The right to try again, or the flag that says why there is none although it was wanted.
fn again(cluster: &Cluster, verdict: Verdict, body: &Replay<Incoming>) -> Result<Permit, Option<ResponseFlag>> {
    let traffic = &cluster.stats.traffic;
    match verdict {
        Verdict::Accept => Err(None),
        Verdict::LimitExceeded => {
            traffic.upstream_rq_retry_limit_exceeded.increment();
            Err(Some(ResponseFlag::UpstreamRetryLimitExceeded))
        }
        Verdict::Retry if !body.can_repeat() => {
            traffic.retry_or_shadow_abandoned.increment();
            Err(None)
        }
        Verdict::Retry => match cluster.retries().try_acquire() {
            Some(permit) => {
                traffic.upstream_rq_retry.increment();
                Ok(permit)
            }
            None => {
                traffic.upstream_rq_retry_overflow.increment();
                Err(Some(ResponseFlag::UpstreamOverflow))
            }
        },
    }
}

/// Makes the last try's end the request's.
fn conclude(
    exchange: &mut Exchange,
    cluster: &Arc<Cluster>,
    host: Arc<Host>,
    tried: Tried,
    routing: Routing<'_>,
    retries: &Retries<'_>,
    why_final: Option<ResponseFlag>,
) -> Decided {
    let flags: Vec<ResponseFlag> = why_final.into_iter().collect();
    match tried {
        Tried::Answered(response) => {
            if retries.made() > 0 && why_final.is_none() {
                cluster.stats.traffic.upstream_rq_retry_success.increment();
            }
            flags.iter().for_each(|flag| exchange.flags.set(*flag));
            exchange.answered = Some(Instant::now());
            cluster.stats.count_response(response.status().as_u16(), false);
            let completed = exchange.progress.completed_at();
            let deadline = completed.zip(routing.action.timeout).map(|(completed, timeout)| completed + timeout);
            Decided::Upstream(Box::new(HostAnswer { response, host, cluster: Arc::clone(cluster), deadline }))
        }
        Tried::TimedOut => Decided::local(timed_out(cluster, "upstream_per_try_timeout", &flags)),
        Tried::Unspeakable => {
            let status = StatusCode::BAD_REQUEST;
            let text = "the rewritten path or host is none in HTTP";
            Decided::local(LocalReply::new(status, text, "rewritten_to_no_path_or_host"))
        }
        Tried::Reset(reset) => Decided::local(reset_reply(cluster, &reset, retries.made() > 0, &flags)),
    }
}

/// Sends the request once.
async fn one_try(
    exchange: &mut Exchange,
    host: &Arc<Host>,
    routing: Routing<'_>,
    body: Body,
    replay: &Replay<Incoming>,
) -> Tried {
    exchange.upstream_host = Some(host.address);
    exchange.upstream_local_address = None;
    exchange.transport_failure = None;
    let stream = tokio::select! {
        biased;
        stream = host.pool.stream() => stream,
        never = replay.read_ahead() => match never {},
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(reset) => {
            if reset.reason == ResetReason::Overflow {
                exchange.upstream_host = None;
            }
            exchange.transport_failure.clone_from(&reset.transport_failure);
            return Tried::Reset(reset);
        }
    };
    exchange.upstream_local_address = stream.local_address();
    let Some(request) = upstream_request(exchange, routing, &stream, body) else { return Tried::Unspeakable };
    // A try that would be given as long as the whole request needs no limit of its own.
    let per_try = routing.retry_policy.and_then(|policy| policy.per_try_timeout);
    let per_try = per_try.filter(|limit| routing.action.timeout.is_none_or(|timeout| *limit < timeout));
    let sent = Instant::now();
    let progress = Arc::clone(&exchange.progress);
    let limit = async {
        let Some(limit) = per_try else { return std::future::pending().await };
        let completed = progress.completed().await;
        tokio::time::sleep_until(completed.max(sent) + limit).await;
    };
    tokio::select! {
        biased;
        answer = stream.send(request) => match answer {
            Ok(response) => Tried::Answered(response),
            Err(reset) => Tried::Reset(reset),
        },
        () = limit => Tried::TimedOut,
    }
}

/// The request as the host is sent it; `None` if its path or host, which may have been rewritten, is none. Nothing takes
/// the place of such a path: the client would reach what it didn't ask for.
fn upstream_request(exchange: &Exchange, routing: Routing<'_>, stream: &Stream, body: Body) -> Option<Request<Body>> {
    let head = &exchange.head;
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 3);
    let authority = routing.action.host_rewrite_literal.as_ref().unwrap_or(&head.authority);
    let path = PathAndQuery::try_from(head.path.as_str()).ok();
    // One that begins otherwise would be taken for a host; of one with a `#` only a part would be left.
    let path = path.filter(|path| head.path.starts_with('/') && path.as_str() == head.path)?;
    if stream.is_http2() {
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() =
            Uri::builder().scheme("http").authority(authority.as_str()).path_and_query(path).build().ok()?;
    } else {
        *request.uri_mut() = Uri::from(path);
        headers.insert(HOST, HeaderValue::from_str(authority).ok()?);
    }
    headers.extend(head.headers.clone());
    let may_have_body = !matches!(head.method, Method::GET | Method::HEAD | Method::DELETE | Method::TRACE);
    if !stream.is_http2() && may_have_body && request.body().is_end_stream() && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    if routing.tells_attempt {
        headers.insert(HeaderName::from_static("x-envoy-attempt-count"), HeaderValue::from(exchange.attempts));
    }
    if !routing.suppresses_envoy_headers
        && let Some(milliseconds) = expected_timeout(exchange, routing)
    {
        headers.insert(HeaderName::from_static("x-envoy-expected-rq-timeout-ms"), HeaderValue::from(milliseconds));
    }
    *request.headers_mut() = headers;
    Some(request)
}

/// How long the host may take, in ms: a try's limit, else what is left of the request's.
fn expected_timeout(exchange: &Exchange, routing: Routing<'_>) -> Option<u64> {
    let timeout = routing.action.timeout;
    let per_try = routing.retry_policy.and_then(|policy| policy.per_try_timeout);
    let per_try = per_try.filter(|limit| timeout.is_none_or(|timeout| *limit < timeout));
    let expected = match (per_try, timeout) {
        (Some(per_try), _) => per_try,
        (None, Some(timeout)) => {
            let elapsed = exchange.progress.completed_at().map_or(Duration::ZERO, |completed| completed.elapsed());
            timeout.saturating_sub(elapsed)
        }
        (None, None) => return None,
    };
    // Whole milliseconds, and the one that has just begun.
    Some(u64::try_from(expected.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
}

// === the answers ===

fn no_healthy_upstream(cluster: &Cluster) -> LocalReply {
    cluster.stats.traffic.upstream_cx_none_healthy.increment();
    cluster.stats.count_response(503, false);
    LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream", "no_healthy_upstream")
        .flag(ResponseFlag::NoHealthyUpstream)
}

fn timed_out(cluster: &Cluster, details: &'static str, flags: &[ResponseFlag]) -> LocalReply {
    cluster.stats.count_response(504, false);
    let mut reply = LocalReply::new(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout", details);
    reply.flags.extend(flags);
    reply.flag(ResponseFlag::UpstreamRequestTimeout)
}

fn reset_reply(cluster: &Cluster, reset: &Reset, was_retried: bool, flags: &[ResponseFlag]) -> LocalReply {
    let is_protocol_error = reset.reason == ResetReason::ProtocolError;
    let status = if is_protocol_error { StatusCode::BAD_GATEWAY } else { StatusCode::SERVICE_UNAVAILABLE };
    cluster.stats.count_response(status.as_u16(), false);
    let retried = if was_retried { "retried and the latest reset reason" } else { "reset reason" };
    let text = reset.reason.text();
    let body = format!("upstream connect error or disconnect/reset before headers. {retried}: {text}");
    let transport = reset.transport_failure.as_ref().map_or(String::new(), |failure| format!("|{failure}"));
    let details = format!("upstream_reset_before_response_started{{{text}{transport}}}").replace(' ', "_");
    let mut reply = LocalReply::new(status, body, details);
    reply.flags.extend(flags);
    if reset.reason.is_overflow() {
        reply = reply.header("x-envoy-overloaded", "true");
    }
    reply.flag(reset.reason.flag())
}
