//! The metrics over HTTP.
//!
//! With 100,000 busy rules the text has tens of megabytes, and no other request should wait while it is written. So a
//! thread of its own writes it, in pieces, and stays at most a few pieces ahead of the socket: it is never held whole,
//! unless it is written by a mapping, which sums first.
//! Few scrapes run at once and each has a deadline, so a reader that dawdles costs one of few places for a while, and
//! not memory.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::adaptive::AdaptiveLimits;
use super::process::Process;
use crate::metrics::Metrics;
use crate::metrics::exposition::CONTENT_TYPE;
use crate::metrics::mapped::MappedMetrics;

/// Size of a piece in bytes: large enough that handing it over costs nothing beside writing it.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces that may wait for the socket.
const PIECES_MAX: usize = 4;

/// Scrapes at once: a pair of Prometheus servers, and two people who look.
const SCRAPES_MAX: usize = 4;

/// Time for one scrape. Prometheus gives up after 10 s unless told otherwise.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes the metrics for whoever asks. Clones share the places.
#[derive(Clone, Debug)]
pub struct Scraper {
    metrics: Metrics,
    adaptive: Option<AdaptiveLimits>,
    /// The metrics under other names, in their stead.
    mapped: Option<Arc<MappedMetrics>>,
    places: Arc<Semaphore>,
}

/// Hands text over in pieces. What was written last is handed over by [`PieceWriter::finish`].
struct PieceWriter {
    pieces: mpsc::Sender<Bytes>,
    piece: BytesMut,
    runtime: Handle,
    deadline: Instant,
}

// === impl Scraper ===

impl Scraper {
    /// Writes these metrics, and those of adaptive limits where limits adapt.
    #[must_use]
    pub fn new(metrics: Metrics, adaptive: Option<AdaptiveLimits>) -> Scraper {
        Scraper { metrics, adaptive, mapped: None, places: Arc::new(Semaphore::new(SCRAPES_MAX)) }
    }

    /// Writes the metrics under these names instead. What is known of the process and of adaptive limits keeps its own.
    #[must_use]
    pub fn mapped(self, mapped: Option<MappedMetrics>) -> Scraper {
        Scraper { mapped: mapped.map(Arc::new), ..self }
    }

    /// A route to them, for the HTTP port or a listener of its own.
    pub fn router(&self, path: &str) -> Router {
        Router::new().route(path, get(scrape)).with_state(self.clone())
    }
}

async fn scrape(State(scraper): State<Scraper>) -> Response {
    let Ok(place) = Arc::clone(&scraper.places).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at once\n").into_response();
    };
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    let mut writer = PieceWriter {
        pieces,
        piece: BytesMut::with_capacity(PIECE_BYTES),
        runtime: Handle::current(),
        deadline: Instant::now() + SCRAPE_TIMEOUT,
    };
    // The task ends by the deadline at the latest, and earlier when the reader hangs up: nobody needs to wait for it.
    tokio::task::spawn_blocking(move || {
        let mut registry = Registry::default();
        let mapped = scraper.mapped.map(|mapped| mapped.text());
        if mapped.is_none() {
            registry.register_collector(Box::new(scraper.metrics));
        }
        registry.register_collector(Box::new(Process));
        if let Some(adaptive) = scraper.adaptive {
            registry.register_collector(Box::new(adaptive));
        }
        let written = write_pieces(&mut writer, mapped.as_deref().unwrap_or_default())
            .and_then(|()| encode_registry(&mut writer, &registry))
            .and_then(|()| writer.finish());
        if written.is_err() {
            tracing::debug!("a scrape was not read to its end");
        }
        drop(place);
    });
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], Body::from_stream(pieces_of(received))).into_response()
}

/// Writes a text piece by piece.
fn write_pieces(writer: &mut PieceWriter, text: &str) -> fmt::Result {
    text.split_inclusive('\n').try_for_each(|line| fmt::Write::write_str(writer, line))
}

/// The pieces as they come. An empty one ends the text; without it the connection is cut, so that the reader does not
/// take half of the metrics for all of them.
fn pieces_of(mut received: mpsc::Receiver<Bytes>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::poll_fn(move |cx| {
        received.poll_recv(cx).map(|piece| match piece {
            Some(piece) if piece.is_empty() => None,
            Some(piece) => Some(Ok(piece)),
            None => Some(Err(io::Error::other("the metrics were not written to their end"))),
        })
    })
}

// === impl PieceWriter ===

impl PieceWriter {
    fn finish(mut self) -> fmt::Result {
        if !self.piece.is_empty() {
            self.hand_over()?;
        }
        self.hand_over()
    }

    /// Waits for room. The deadline bounds the wait, a reader that hangs up ends it.
    fn hand_over(&mut self) -> fmt::Result {
        let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE_BYTES)).freeze();
        let sent = self.runtime.block_on(timeout_at(self.deadline, self.pieces.send(piece)));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Write for PieceWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.piece.extend_from_slice(text.as_bytes());
        if self.piece.len() >= PIECE_BYTES { self.hand_over() } else { Ok(()) }
    }
}
