//! Long texts as answers: written in pieces, by a thread of their own.
//!
//! No other request should wait while tens of megabytes are written, and nobody should hold them whole. So the writer
//! stays at most a few pieces ahead of the socket. Few texts are written at once and each has a deadline, so a reader
//! that dawdles costs one of few places for a while, and not memory.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

/// Size of a piece in bytes: large enough that handing it over costs nothing beside writing it.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces that may wait for the socket.
const PIECES_MAX: usize = 4;

/// Texts at once: a pair of Prometheus servers, and two people who look.
const TEXTS_MAX: usize = 4;

/// Time for one text. Prometheus gives up after 10 s unless told otherwise.
const TEXT_TIMEOUT: Duration = Duration::from_secs(30);

/// Bounds how many texts are written at once. Clones share the places.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Semaphore>);

/// Hands text over in pieces. What was written last is handed over by [`PieceWriter::finish`].
pub(super) struct PieceWriter {
    pieces: mpsc::Sender<Bytes>,
    piece: BytesMut,
    runtime: Handle,
    deadline: Instant,
}

/// A body with the text that `write` writes. The place is given back when it has been written, or nobody reads on.
pub(super) fn body(
    place: OwnedSemaphorePermit,
    write: impl FnOnce(&mut PieceWriter) -> fmt::Result + Send + 'static,
) -> Body {
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    let mut writer = PieceWriter {
        pieces,
        piece: BytesMut::with_capacity(PIECE_BYTES),
        runtime: Handle::current(),
        deadline: Instant::now() + TEXT_TIMEOUT,
    };
    // The task ends by the deadline at the latest, and earlier when the reader hangs up: nobody needs to wait for it.
    tokio::task::spawn_blocking(move || {
        let written = write(&mut writer).and_then(|()| writer.finish());
        if written.is_err() {
            tracing::debug!("a text was not read to its end");
        }
        drop(place);
    });
    Body::from_stream(pieces_of(received))
}

/// The pieces as they come. An empty one ends the text; without it the connection is cut, so that the reader does not
/// take half of the text for all of it.
fn pieces_of(mut received: mpsc::Receiver<Bytes>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::poll_fn(move |cx| {
        received.poll_recv(cx).map(|piece| match piece {
            Some(piece) if piece.is_empty() => None,
            Some(piece) => Some(Ok(piece)),
            None => Some(Err(io::Error::other("the text was not written to its end"))),
        })
    })
}

// === impl Places ===

impl Places {
    /// A place, if one is free.
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

impl Default for Places {
    fn default() -> Places {
        Places(Arc::new(Semaphore::new(TEXTS_MAX)))
    }
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
