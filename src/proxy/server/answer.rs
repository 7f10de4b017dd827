//! The body of an answer on its way to the client, with the exchange that ends when it does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::exchange::Exchange;
use super::replay::Replay;
use crate::proxy::access_log::ResponseFlag;
use crate::proxy::body::{Body, BodyError};
use crate::proxy::cluster::{AnswerBody, Cluster, Host, Reset};

/// The body of an answer.
#[derive(Debug)]
pub struct Answer {
    source: Source,
    exchange: Option<Box<Exchange>>,
    /// The route's timeout, where it has begun; it covers the answer to its end.
    deadline: Option<Pin<Box<Sleep>>>,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    /// The request, while not all of it is there. It ends with its answer.
    request: Option<Replay<Incoming>>,
    /// Why it ends early; told at the next look, so that what came before has left by then.
    failure: Option<BodyError>,
}

/// Where the body comes from.
#[derive(Debug)]
pub enum Source {
    /// The proxy itself.
    Local(Body),
    /// A host.
    Upstream(Box<Upstream>),
}

/// An answer of a host.
#[derive(Debug)]
pub struct Upstream {
    /// Its body.
    pub body: AnswerBody,
    /// The host.
    pub host: Arc<Host>,
    /// Its cluster.
    pub cluster: Arc<Cluster>,
}

// === impl Answer ===

impl Answer {
    /// An answer whose end is the exchange's. `deadline` is when it must have ended, `idle` how long nothing may move.
    #[must_use]
    pub fn new(
        source: Source,
        exchange: Box<Exchange>,
        deadline: Option<Instant>,
        idle: Option<Duration>,
        request: Option<Replay<Incoming>>,
    ) -> Answer {
        let timer = |at| Box::pin(sleep_until(at));
        // What the proxy says itself is one piece; there is nothing to wait for.
        let is_upstream = matches!(source, Source::Upstream(_));
        let idle = idle.filter(|_| is_upstream).map(|limit| (limit, timer(exchange.progress.idle_at(limit))));
        let deadline = deadline.filter(|_| is_upstream).map(timer);
        let is_head = exchange.head.method == Method::HEAD;
        let mut answer = Answer { source, exchange: Some(exchange), deadline, idle, request, failure: None };
        // Nobody looks at the body of an answer to HEAD, which may be an end that is still to come.
        if answer.is_end_stream() || is_head {
            answer.end();
        }
        answer
    }

    fn end(&mut self) {
        let Some(mut exchange) = self.exchange.take() else { return };
        if let Source::Upstream(upstream) = &self.source
            && let Some(completed) = exchange.progress.completed_at()
        {
            let took = u64::try_from(completed.elapsed().as_millis()).unwrap_or(u64::MAX);
            upstream.cluster.stats.record_time(took, false);
        }
        exchange.complete();
        if let Some(request) = self.request.take() {
            request.give_up();
        }
    }

    fn break_off(
        &mut self,
        flag: ResponseFlag,
        details: String,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(mut exchange) = self.exchange.take() {
            let downstream = &exchange.listener.stats.downstream;
            downstream.downstream_rq_tx_reset.increment();
            exchange.break_off(flag, details.clone());
        }
        self.failure = Some(details.into());
        // hyper drops what it has not written yet when a body fails, the head too.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Which of the timers has run out.
    fn poll_timers(&mut self, context: &mut Context<'_>) -> Option<(ResponseFlag, &'static str)> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            if let Source::Upstream(upstream) = &self.source {
                upstream.cluster.stats.traffic.upstream_rq_timeout.increment();
                upstream.host.stats.rq_timeout.increment();
            }
            return Some((ResponseFlag::UpstreamRequestTimeout, "response_timeout"));
        }
        if let Some((limit, timer)) = &mut self.idle
            && let Some(exchange) = &self.exchange
        {
            while timer.as_mut().poll(context).is_ready() {
                let at = exchange.progress.idle_at(*limit);
                if at <= Instant::now() {
                    exchange.listener.stats.downstream.downstream_rq_idle_timeout.increment();
                    return Some((ResponseFlag::StreamIdleTimeout, "stream_idle_timeout"));
                }
                timer.as_mut().reset(at);
            }
        }
        None
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        let polled = match &mut self.source {
            Source::Local(body) => Pin::new(body).poll_frame(context),
            Source::Upstream(upstream) => match Pin::new(&mut upstream.body).poll_frame(context) {
                Poll::Ready(Some(Err(reset))) => {
                    let Reset { reason, .. } = reset;
                    let details =
                        format!("upstream_reset_after_response_started{{{}}}", reason.text().replace(' ', "_"));
                    return self.break_off(reason.flag(), details, context);
                }
                other => other.map_err(|reset| reset.reason.text().into()),
            },
        };
        match &polled {
            Poll::Pending => {
                if let Some((flag, details)) = self.poll_timers(context) {
                    return self.break_off(flag, details.to_owned(), context);
                }
            }
            Poll::Ready(None) => self.end(),
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if let Some(exchange) = &mut self.exchange {
                    exchange.bytes_sent += bytes as u64;
                    exchange.progress.moved();
                }
                if self.is_end_stream() {
                    self.end();
                }
            }
            Poll::Ready(Some(Err(_))) => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Local(body) => body.is_end_stream(),
            Source::Upstream(upstream) => upstream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Local(body) => body.size_hint(),
            Source::Upstream(upstream) => upstream.body.size_hint(),
        }
    }
}
