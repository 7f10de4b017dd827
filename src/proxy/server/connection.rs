//! A connection of a client: HTTP/1.1 or HTTP/2, as its first bytes say.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::exchange::ConnectionFacts;
use super::handle::handle;
use super::listener::HttpListener;
use crate::proxy::access_log::{Protocol, Record, ResponseFlag, ResponseFlags};
use crate::proxy::bootstrap::model::{Codec, Metadata};
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
    let stream = TokioIo::new(StallGuard::new(stream, stall));
    let builder = builder(&listener);
    let mut connection = pin!(builder.serve_connection(stream, service));
    let too_old = async {
        match listener.settings.max_connection_duration {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = listener.cut.cancelled() => Ok(()),
        () = async { tokio::select! { () = listener.drained.cancelled() => {}, () = too_old => {} } } => {
            downstream.downstream_cx_drain_close.increment();
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = listener.cut.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        note_error(&listener, &facts, &*error);
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
        // The same time holds for a connection that is idle.
        .header_read_timeout(settings.request_headers_timeout.or(settings.idle_timeout))
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

/// Notes why a connection ended early. What was no HTTP has been answered by hyper and is logged here, as Envoy does.
fn note_error(listener: &HttpListener, facts: &ConnectionFacts, error: &(dyn std::error::Error + 'static)) {
    tracing::debug!(%error, client = %facts.remote, "a connection of a client ended early");
    let Some(error) = error.downcast_ref::<hyper::Error>().filter(|error| error.is_parse()) else { return };
    let downstream = &listener.stats.downstream;
    downstream.downstream_cx_protocol_error.increment();
    downstream.downstream_rq_total.increment();
    downstream.downstream_rq_http1_total.increment();
    let (code, details) =
        if error.is_parse_too_large() { (431, "http1.headers_too_large") } else { (400, "http1.codec_error") };
    listener.stats.count_response(code);
    let mut flags = ResponseFlags::default();
    flags.set(ResponseFlag::DownstreamProtocolError);
    let metadata = Metadata::new();
    let record = Record {
        protocol: Some(Protocol::Http11),
        response_code: Some(code),
        response_code_details: Some(details),
        downstream_remote_address: Some(facts.remote),
        downstream_direct_remote_address: Some(facts.remote),
        downstream_local_address: Some(facts.local),
        connection_id: Some(facts.id),
        ..Record::new(listener.context.wall_clock(), &flags, &metadata)
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
