//! One client connection: from its first byte to its last.
//!
//! A connection must say the 24 bytes of HTTP/2's preface within a time, after a TLS handshake where the port is set to
//! that (`tls`); then the HTTP/2 library has it, behind the
//! adapter for `:authority`. It ends when the client ends it, when it is old (so that load spreads over replicas that
//! came later), or when the service stops. In the last two cases the client is told by GOAWAY and every call under
//! way is answered. Streams that are no rate limit calls (an open health watch) don't hold a connection that is
//! ending: once no call has been under way for half a second, it is closed.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use h2::server;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::announce::AnnouncingIo;
use super::authority::AuthorityIo;
use super::keepalive;
use super::pace::{Line, PacedIo, Turns};
use super::places::Place;
use super::preface::{self, Greeting};
use super::router::Router;
use super::streams::Streams;
use super::tls::Acceptor;
use super::unread::Unread;
use crate::counters::CounterStore;
use crate::web::stall::StallGuard;

/// Limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Streams that a client may have open at once, where there are few clients (`places`).
    pub streams_max: u32,
    /// Time in which a new connection must have sent HTTP/2's preface.
    pub handshake_timeout: Duration,
    /// Age at which a connection is told to end; `None` for never.
    pub age_max: Option<Duration>,
    /// Time that calls under way have after that.
    pub age_grace: Duration,
    /// Idle time after which the other side is asked for a sign of life; `None` for never.
    pub keepalive_interval: Option<Duration>,
    /// Time in which that sign must come, and in which a client must take some of what it is told.
    pub keepalive_timeout: Duration,
}

/// What the connections of one core share.
#[derive(Clone, Debug)]
pub struct Core {
    /// Cancelled when they are to end.
    pub stop: CancellationToken,
    /// Tracks the tasks of their streams.
    pub tasks: TaskTracker,
    /// Where they wait for their next turn.
    pub line: Line,
}

/// What somebody is told who speaks HTTP/1.1 to the gRPC port.
const NOT_HTTP1: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 43\r\nconnection: close\r\n\r\nthis port speaks gRPC, that is HTTP/2 only\n";

/// How long an ending connection must have had no call under way before it is closed: enough for the last answer to
/// leave, and for a request that was on its way when GOAWAY was sent to arrive.
const QUIET: Duration = Duration::from_millis(500);

/// Time that a new connection may be open without a call. Envoy connects when it has one; a crowd of connections
/// that never ask shall not take the places of those that do.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Bytes that TLS holds for a client that doesn't read.
const TLS_UNSENT_BYTES_MAX: usize = 16 * 1024;

/// Unread request bytes that one connection, and one stream of it, may have on our side.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// Largest block of request headers, after decompression. Envoy's rate limit calls have a few hundred bytes.
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// Streams that a client has reset before we looked at them; past it the connection is ended (rapid reset). Envoy resets
/// the calls that it gave up, and after a pause of this process (a CPU quota) many of them come at once: but of whole
/// calls no more than this fit into what is read at a stretch.
const RESET_STREAMS_MAX: usize = 200;

/// Streams that a client has us reset by breaking the protocol on them; past it the connection is ended.
const BROKEN_STREAMS_MAX: usize = 200;

/// Serves one connection, over TLS if there is an acceptor, until it ends or its core is to stop and its calls are
/// answered.
pub async fn serve<S: CounterStore + Clone>(
    stream: TcpStream,
    acceptor: Option<Acceptor>,
    router: Router<S>,
    limits: ConnectionLimits,
    place: Place,
    core: Core,
) {
    let Some(acceptor) = acceptor else { return speak(stream, router, limits, place, core).await };
    if let Some(stream) = seal(stream, &acceptor, limits.handshake_timeout, &place, &router, &core.stop).await {
        // TLS has room for a connection's buffers in its own state: a future of its own keeps those of others small.
        Box::pin(speak(stream, router, limits, place, core)).await;
    }
}

/// The TLS connection, if it is made in time.
async fn seal<S: CounterStore + Clone>(
    stream: TcpStream,
    acceptor: &Acceptor,
    time: Duration,
    place: &Place,
    router: &Router<S>,
    stop: &CancellationToken,
) -> Option<TlsStream<TcpStream>> {
    let peer = stream.peer_addr().ok();
    let mut accepting = pin!(timeout(time, acceptor.accept(stream)));
    let accepted = tokio::select! {
        accepted = accepting.as_mut() => accepted,
        () = stop.cancelled() => timeout(QUIET, accepting).await.ok()?,
    };
    let error = match accepted {
        Ok(Ok(mut stream)) => {
            // What the socket doesn't take waits in our own buffers, where it is noticed.
            stream.get_mut().1.set_buffer_limit(Some(TLS_UNSENT_BYTES_MAX));
            return Some(stream);
        }
        // A probe that connects and goes is nobody who was turned away.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::debug!(?peer, "a connection ended before its TLS handshake");
            return None;
        }
        Ok(Err(error)) => error,
        Err(_) => io::Error::new(io::ErrorKind::TimedOut, "it was not done in time"),
    };
    router.count_failed_handshake();
    if place.is_news() {
        tracing::warn!(%error, ?peer, "a client's TLS handshake failed; told once until none does for a while");
    } else {
        tracing::debug!(%error, ?peer, "a client's TLS handshake failed");
    }
    None
}

/// Speaks HTTP/2 on a connection until it ends or its core is to stop and its calls are answered.
pub async fn speak<S: CounterStore + Clone>(
    stream: impl AsyncRead + AsyncWrite + Unread + Send + Unpin + 'static,
    router: Router<S>,
    limits: ConnectionLimits,
    place: Place,
    core: Core,
) {
    let Core { stop, tasks, line } = core;
    let Some(stream) = handshake(stream, limits.handshake_timeout, &stop).await else { return };
    let router = router.for_connection();
    let (calls, spoke) = (router.calls(), router.spoke());
    place.follow(Arc::clone(&spoke));
    let turns = Turns::new(&line);
    let paced = PacedIo::new(StallGuard::new(stream, limits.keepalive_timeout), &turns, || place.hear());
    let io = AnnouncingIo::new(AuthorityIo::after_preface(paced), place.streams_announced());
    let mut http2 = match builder(place.streams_max()).handshake(io).await {
        Ok(http2) => http2,
        Err(error) => return log(Err(error), &place),
    };
    let pings = http2.ping_pong();
    let mut lost = pin!(keepalive::lost(pings, &turns, limits.keepalive_interval, limits.keepalive_timeout));
    let mut streams = pin!(Streams::new(http2, router, Arc::clone(&turns), tasks));
    let age = limits.age_max.map(jittered);
    let ended = tokio::select! {
        result = turns.of(streams.as_mut()) => return log(result, &place),
        () = lost.as_mut() => return tracing::debug!("a connection ended: its client gave no sign of life"),
        () = elapsed(age) => Ended::Age,
        () = silence(&spoke) => Ended::Silence,
        () = place.sent_away() => Ended::Crowd,
        () = stop.cancelled() => Ended::Shutdown,
    };
    streams.end();
    let quiet = async {
        if ended == Ended::Age {
            // It may keep its other streams for the whole grace, unless the service stops meanwhile.
            tokio::select! {
                () = sleep(limits.age_grace) => return,
                () = stop.cancelled() => {}
            }
        }
        // The whole shutdown has a time limit of its own.
        is_quiet(&calls).await;
    };
    tokio::select! {
        result = turns.of(streams) => log(result, &place),
        () = lost => tracing::debug!("an ending connection's client gave no sign of life"),
        () = quiet => {}
    }
}

/// Why we end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Age,
    Silence,
    Crowd,
    Shutdown,
}

/// The connection if it begins as HTTP/2 does, in time.
async fn handshake<T: AsyncRead + AsyncWrite + Unpin>(
    stream: T,
    time: Duration,
    stop: &CancellationToken,
) -> Option<T> {
    let mut greeting = pin!(timeout(time, preface::greet(stream)));
    let greeting = tokio::select! {
        greeting = greeting.as_mut() => greeting,
        // A greeting that is on its way is waited for, but not for long.
        () = stop.cancelled() => timeout(QUIET, greeting).await.ok()?,
    };
    match greeting {
        Ok(Ok(Greeting::Http2(stream))) => return Some(stream),
        // Whether the client hears this does not matter.
        Ok(Ok(Greeting::Other(mut stream))) => drop(stream.write_all(NOT_HTTP1).await),
        Ok(Ok(Greeting::Nothing)) => tracing::debug!("a connection ended before it said HTTP/2's preface"),
        Ok(Err(error)) => tracing::debug!(%error, "a connection broke before it said HTTP/2's preface"),
        Err(_) => tracing::debug!("a connection did not say HTTP/2's preface in time"),
    }
    None
}

/// Ends when the connection has opened no stream for [`SILENCE_MAX`]; never if it has.
async fn silence(spoke: &AtomicBool) {
    sleep(SILENCE_MAX).await;
    if spoke.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

fn builder(streams_max: u32) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(streams_max)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(Some(BROKEN_STREAMS_MAX));
    builder
}

/// Ages differ by up to a tenth in either direction, so that connections opened together don't end together.
fn jittered(age: Duration) -> Duration {
    // The hasher's seed is the randomness at hand; nothing depends on its quality.
    let random = std::hash::BuildHasher::hash_one(&foldhash::fast::RandomState::default(), Instant::now().elapsed());
    #[allow(clippy::cast_precision_loss)]
    let share = (random >> 11) as f64 / (1u64 << 53) as f64;
    age.mul_f64(0.9 + 0.2 * share)
}

async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Waits until no call was under way for [`QUIET`].
async fn is_quiet(calls: &AtomicUsize) {
    let mut looks = interval(Duration::from_millis(20));
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < QUIET {
        looks.tick().await;
        if calls.load(Ordering::Relaxed) > 0 {
            quiet_since = Instant::now();
        }
    }
}

/// A connection that breaks is nothing to tell. One that was cut off because of what its client did is, but a hostile
/// client can do it a thousand times a second.
fn log(result: Result<(), h2::Error>, place: &Place) {
    let Err(error) = result else { return };
    if !error.is_io() && !error.is_remote() && place.is_news() {
        tracing::warn!(cause = %error, "a client that broke HTTP/2's rules was cut off; told once until none does for a while");
    } else {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
