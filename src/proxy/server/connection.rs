//! A connection of a client: HTTP/1.1 or HTTP/2, as its first bytes say.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::activity::{Overdue, Patience, Watched};
use super::exchange::ConnectionFacts;
use super::handle::handle;
use super::listener::HttpListener;
use crate::proxy::access_log::{Protocol, Record, ResponseFlag, ResponseFlags};
use crate::proxy::bootstrap::model::{Codec, HttpConnections, Metadata};
use crate::proxy::stats::GaugeGuard;
use crate::web::stall::StallGuard;

/// The largest part of a body that may lie here unread, for one HTTP/2 stream.
const WINDOW_BYTES_MAX: u32 = 1 << 20;

/// hyper takes no smaller buffer for heads.
const HEAD_BYTES_MIN: usize = 8 << 10;

/// What is said of a connection once its first request shows its version.
#[derive(Debug, Default)]
struct FirstRequest {
    was_seen: AtomicBool,
    active: std::sync::OnceLock<GaugeGuard>,
}

/// Serves one connection to its end.
pub(super) async fn serve_connection(listener: Arc<HttpListener>, stream: TcpStream, facts: Arc<ConnectionFacts>) {
    let began = Instant::now();
    let downstream = &listener.stats.downstream;
    downstream.downstream_cx_total.increment();
    listener.connections.connections.downstream_cx_total.increment();
    let _active =
        (downstream.downstream_cx_active.guard(), listener.connections.connections.downstream_cx_active.guard());
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let first = Arc::new(FirstRequest::default());
    let service = service_fn({
        let (listener, facts, first) = (Arc::clone(&listener), Arc::clone(&facts), Arc::clone(&first));
        move |request: Request<Incoming>| {
            first.note(&listener, request.version());
            let (listener, facts) = (Arc::clone(&listener), Arc::clone(&facts));
            async move { Ok::<_, Infallible>(handle(listener, facts, request).await) }
        }
    });
    // A client that reads nothing holds an answer only as long as a stream may be idle.
    let stall = listener.settings.stream_idle_timeout.unwrap_or(super::FOR_EVER);
    let watched = Watched::new(StallGuard::new(stream, stall), Arc::clone(&facts.activity));
    let builder = builder(&listener);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(watched), service));
    let mut too_old = pin!(async {
        match listener.settings.max_connection_duration {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    });
    let mut drained = pin!(async {
        listener.context.drain.turn(rand::random()).await;
        sleep(listener.settings.drain_timeout).await;
    });
    let late_head = LateHead::soonest(&listener.settings);
    let patience = Patience { idle: listener.settings.idle_timeout, head: late_head.map(|(limit, _)| limit) };
    let (mut is_ending, mut said) = (false, None);
    let ended = loop {
        tokio::select! {
            biased;
            () = listener.cut.cancelled() => break Ok(()),
            () = async { tokio::select! {
                () = listener.drained.cancelled() => {}
                () = facts.leaving.cancelled() => {}
                () = too_old.as_mut() => {}
                () = drained.as_mut() => {}
            } }, if !is_ending => {
                downstream.downstream_cx_drain_close.increment();
                connection.as_mut().graceful_shutdown();
                is_ending = true;
            }
            ended = connection.as_mut() => break ended,
            overdue = facts.activity.overdue(patience), if !is_ending => {
                is_ending = true;
                match (overdue, late_head) {
                    (Overdue::Head, Some((_, late))) => {
                        facts.activity.end_with(late.answer());
                        said = Some(late);
                    }
                    _ => {
                        downstream.downstream_cx_idle_timeout.increment();
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    };
    match (said, ended) {
        (Some(late), _) => note_late_head(&listener, &facts, late),
        (None, Err(error)) => note_error(&listener, &facts, &*error),
        (None, Ok(())) => note_unfinished_head(&listener, &facts),
    }
    downstream.downstream_cx_destroy.increment();
    listener.connections.connections.downstream_cx_destroy.increment();
    listener.stats.length_ms.record(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
}

fn builder(listener: &HttpListener) -> auto::Builder<TokioExecutor> {
    let settings = &listener.settings;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let head_bytes_max = (settings.max_request_headers_kb as usize * 1024).max(HEAD_BYTES_MIN);
    builder
        .http1()
        .timer(TokioTimer::new())
        // It would hold for a connection that is idle, too; see `activity`.
        .header_read_timeout(None)
        .max_headers(settings.max_headers_count as usize)
        .max_buf_size(head_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.http2.max_concurrent_streams)
        .initial_stream_window_size(settings.http2.initial_stream_window_size.min(WINDOW_BYTES_MAX))
        .initial_connection_window_size(settings.http2.initial_connection_window_size)
        .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX));
    match settings.codec_type {
        Codec::Auto => builder,
        Codec::Http1 => builder.http1_only(),
        Codec::Http2 => builder.http2_only(),
    }
}

/// A limit on the time in which a head must arrive.
#[derive(Clone, Copy, Debug)]
enum LateHead {
    Headers,
    Request,
    Idle,
}

impl LateHead {
    /// The limit that is over first, if there is any.
    fn soonest(settings: &HttpConnections) -> Option<(Duration, LateHead)> {
        let limits = [
            (settings.request_headers_timeout, LateHead::Headers),
            (settings.request_timeout, LateHead::Request),
            (settings.stream_idle_timeout, LateHead::Idle),
        ];
        limits.into_iter().filter_map(|(limit, late)| Some((limit?, late))).min_by_key(|(limit, _)| *limit)
    }

    fn details(self) -> &'static str {
        match self {
            LateHead::Headers => "request_header_timeout",
            LateHead::Request => "request_overall_timeout",
            LateHead::Idle => "stream_idle_timeout",
        }
    }

    fn text(self) -> &'static str {
        match self {
            LateHead::Headers => "request header timeout",
            LateHead::Request => "request timeout",
            LateHead::Idle => "stream timeout",
        }
    }

    fn answer(self) -> String {
        let text = self.text();
        let length = text.len();
        format!(
            "HTTP/1.1 408 Request Timeout\r\ncontent-length: {length}\r\ncontent-type: text/plain\r\n\
             connection: close\r\n\r\n{text}"
        )
    }
}

/// Notes a head that took too long.
fn note_late_head(listener: &HttpListener, facts: &ConnectionFacts, late: LateHead) {
    let downstream = &listener.stats.downstream;
    let mut flags = ResponseFlags::default();
    match late {
        LateHead::Headers => downstream.downstream_rq_header_timeout.increment(),
        LateHead::Request => downstream.downstream_rq_timeout.increment(),
        LateHead::Idle => {
            downstream.downstream_rq_idle_timeout.increment();
            flags.set(ResponseFlag::StreamIdleTimeout);
        }
    }
    downstream.downstream_rq_response_before_rq_complete.increment();
    note_headless(listener, facts, Some(408), late.details(), &flags, late.text().len());
}

/// Notes a client that went in the middle of a head, if this one did.
fn note_unfinished_head(listener: &HttpListener, facts: &ConnectionFacts) {
    if !facts.activity.is_in_head() {
        return;
    }
    let mut flags = ResponseFlags::default();
    flags.set(ResponseFlag::DownstreamConnectionTermination);
    listener.stats.downstream.downstream_rq_rx_reset.increment();
    note_headless(listener, facts, None, "downstream_remote_disconnect", &flags, 0);
}

/// Notes why a connection ended early. What was no HTTP has been answered by hyper and is logged here, as Envoy does.
fn note_error(listener: &HttpListener, facts: &ConnectionFacts, error: &(dyn std::error::Error + 'static)) {
    tracing::debug!(%error, client = %facts.remote, "a connection of a client ended early");
    let Some(error) = error.downcast_ref::<hyper::Error>().filter(|error| error.is_parse()) else {
        note_unfinished_head(listener, facts);
        return;
    };
    listener.stats.downstream.downstream_cx_protocol_error.increment();
    let (code, details) =
        if error.is_parse_too_large() { (431, "http1.headers_too_large") } else { (400, "http1.codec_error") };
    let mut flags = ResponseFlags::default();
    flags.set(ResponseFlag::DownstreamProtocolError);
    note_headless(listener, facts, Some(code), details, &flags, 0);
}

/// Counts and logs a request of which there is no head.
fn note_headless(
    listener: &HttpListener,
    facts: &ConnectionFacts,
    code: Option<u16>,
    details: &'static str,
    flags: &ResponseFlags,
    bytes_sent: usize,
) {
    let downstream = &listener.stats.downstream;
    downstream.downstream_rq_total.increment();
    downstream.downstream_rq_http1_total.increment();
    if let Some(code) = code {
        listener.stats.count_response(code);
    }
    let metadata = Metadata::new();
    let record = Record {
        protocol: Some(Protocol::Http11),
        response_code: code,
        response_code_details: Some(details),
        bytes_sent: bytes_sent as u64,
        downstream_remote_address: Some(facts.remote),
        downstream_direct_remote_address: Some(facts.remote),
        downstream_local_address: Some(facts.local),
        connection_id: Some(facts.id),
        ..Record::new(listener.context.wall_clock(), flags, &metadata)
    };
    listener.access_logs.iter().for_each(|log| log.write(&record));
}

// === impl FirstRequest ===

impl FirstRequest {
    fn note(&self, listener: &HttpListener, version: Version) {
        if self.was_seen.swap(true, Ordering::Relaxed) {
            return;
        }
        let downstream = &listener.stats.downstream;
        let (total, active) = match version {
            Version::HTTP_2 => (&downstream.downstream_cx_http2_total, &downstream.downstream_cx_http2_active),
            _ => (&downstream.downstream_cx_http1_total, &downstream.downstream_cx_http1_active),
        };
        total.increment();
        // Nobody else sets it: the first request is seen once.
        if self.active.set(active.guard()).is_err() {
            tracing::trace!("a connection has one first request");
        }
    }
}
