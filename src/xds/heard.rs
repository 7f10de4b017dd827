//! A connection that tells when the first byte came: that a machine takes one doesn't mean that a server is behind it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// A connection, and what is cancelled with its first byte.
#[derive(Debug)]
pub(super) struct Heard<S> {
    inner: S,
    first: Option<CancellationToken>,
}

// === impl Heard ===

impl<S> Heard<S> {
    pub(super) fn new(inner: S, first: CancellationToken) -> Heard<S> {
        Heard { inner, first: Some(first) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, into))?;
        if into.filled().len() > before
            && let Some(first) = self.first.take()
        {
            first.cancel();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn the_first_byte_is_told_and_no_connection_without_one() {
        let (near, mut far) = duplex(8);
        let told = CancellationToken::new();
        let mut near = Heard::new(near, told.clone());
        near.write_all(b"hello").await.unwrap();
        assert!(!told.is_cancelled(), "what we say is nothing that we heard");
        far.write_all(b"x").await.unwrap();
        near.read_u8().await.unwrap();
        assert!(told.is_cancelled());
    }

    #[tokio::test]
    async fn an_end_without_a_byte_is_none() {
        let (near, far) = duplex(8);
        let told = CancellationToken::new();
        drop(far);
        Heard::new(near, told.clone()).read_to_end(&mut Vec::new()).await.unwrap();
        assert!(!told.is_cancelled());
    }
}
