//! The filter as a layer of a connection: [`AuthorityIo`] stands between the socket and the HTTP/2 server.
//!
//! A read goes straight into the server's buffer, and the filter looks at it there. Only what it replaces or holds
//! back, and what follows that in the same read, takes the way through a side buffer, which is empty again before the
//! socket is read once more. So the side buffer holds at most what one read and one held block can become: the
//! length of the server's buffer and 32 KiB, times three at the very worst (a field of one byte becomes three).
//!
//! Writes go through untouched.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::PREFACE;
use super::{AuthorityFilter, give_back};

pin_project! {
    /// A connection whose reads went through an [`AuthorityFilter`].
    #[derive(Debug)]
    pub struct AuthorityIo<T> {
        #[pin]
        inner: T,
        filter: AuthorityFilter,
        // What was read and has yet to be handed out, from `handed_out` on.
        side: Vec<u8>,
        handed_out: usize,
    }
}

// === impl AuthorityIo ===

impl<T> AuthorityIo<T> {
    /// Wraps a new connection, of which nothing was read yet.
    pub fn new(inner: T) -> Self {
        Self { inner, filter: AuthorityFilter::new(), side: Vec::new(), handed_out: 0 }
    }

    /// Wraps a connection of which HTTP/2's preface was read already: reading this one begins with it.
    pub fn after_preface(inner: T) -> Self {
        let mut io = Self::new(inner);
        io.side.extend_from_slice(PREFACE);
        let passed = io.filter.push(PREFACE, &mut io.side);
        debug_assert_eq!(passed, PREFACE.len(), "nothing of a preface is held back");
        io
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }
}

/// Hands out as much of the side buffer as there is room for, and says whether that was anything.
fn hand_out(side: &mut Vec<u8>, handed_out: &mut usize, buffer: &mut ReadBuf<'_>) -> bool {
    let waiting = &side[*handed_out..];
    let count = waiting.len().min(buffer.remaining());
    buffer.put_slice(&waiting[..count]);
    *handed_out += count;
    if *handed_out == side.len() {
        side.clear();
        *handed_out = 0;
        give_back(side);
    }
    count > 0
}

impl<T: AsyncRead> AsyncRead for AuthorityIo<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        // Without room, a read of nothing would look like the end.
        if buffer.remaining() == 0 || hand_out(this.side, this.handed_out, buffer) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let before = buffer.filled().len();
            ready!(this.inner.as_mut().poll_read(context, buffer))?;
            let read = &buffer.filled()[before..];
            if read.is_empty() {
                this.filter.finish(this.side);
                hand_out(this.side, this.handed_out, buffer);
                return Poll::Ready(Ok(()));
            }
            let passed = this.filter.push(read, this.side);
            buffer.set_filled(before + passed);
            // When all is held back, the server has nothing to do yet: only the socket can wake it.
            if hand_out(this.side, this.handed_out, buffer) || passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite> AsyncWrite for AuthorityIo<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
