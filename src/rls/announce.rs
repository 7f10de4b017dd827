//! Fewer streams announced than are allowed.
//!
//! A client that was told how many streams it may open opens no more. But until it hears that it opens as many as it
//! likes: many take a hundred for granted, which HTTP/2 recommends as the least (RFC 9113, section 6.5.2), and Envoy sends
//! all that waits for the connection. The HTTP/2 library announces what it allows and refuses what exceeds it, so a
//! small number would fail the first calls of a busy client's new connection. So the library allows more, and its first
//! frame, SETTINGS, is changed on its way out to say less.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::authority::frames::{HEAD_LENGTH, Head};

const SETTINGS: u8 = 0x4;
const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];

/// Bytes of one setting: its name, and four of its value.
const SETTING_LENGTH: usize = 6;

pin_project! {
    /// A connection whose first SETTINGS announce so many streams.
    #[derive(Debug)]
    pub struct AnnouncingIo<T> {
        #[pin]
        inner: T,
        streams: u32,
        first: First,
    }
}

/// How far the first frame is.
#[derive(Debug)]
enum First {
    /// The library has not written it.
    Unwritten,
    /// So many bytes of it, as it is to be, are written.
    Leaving(Vec<u8>, usize),
    /// It is written.
    Gone,
}

// === impl AnnouncingIo ===

impl<T> AnnouncingIo<T> {
    /// Wraps a connection on which nothing was written yet.
    pub fn new(inner: T, streams: u32) -> Self {
        Self { inner, streams, first: First::Unwritten }
    }
}

/// The frame of SETTINGS that `bytes` begin with, with at most so many streams; `None` if they begin with something
/// else.
fn announcing(bytes: &[u8], streams: u32) -> Option<Vec<u8>> {
    let head = Head::read(bytes)?;
    let mut frame = bytes.get(..HEAD_LENGTH + head.length)?.to_vec();
    if frame[3] != SETTINGS {
        return None;
    }
    for setting in frame[HEAD_LENGTH..].chunks_exact_mut(SETTING_LENGTH) {
        if let Some((name, value)) = setting.split_first_chunk_mut::<2>()
            && *name == MAX_CONCURRENT_STREAMS
        {
            value.copy_from_slice(&streams.to_be_bytes());
        }
    }
    Some(frame)
}

impl<T: AsyncRead> AsyncRead for AnnouncingIo<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_read(context, buffer)
    }
}

impl<T: AsyncWrite> AsyncWrite for AnnouncingIo<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut this = self.project();
        if matches!(this.first, First::Unwritten) {
            *this.first = announcing(bytes, *this.streams).map_or(First::Gone, |frame| First::Leaving(frame, 0));
        }
        let First::Leaving(frame, written) = this.first else { return this.inner.poll_write(context, bytes) };
        while *written < frame.len() {
            match ready!(this.inner.as_mut().poll_write(context, &frame[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        // As long as the one that the library wanted to write.
        let length = frame.len();
        *this.first = First::Gone;
        Poll::Ready(Ok(length))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.first, First::Gone) {
            return self.project().inner.poll_write_vectored(context, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.poll_write(context, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// What a client hears first of a server that allows a hundred streams and announces `streams`, written through a
    /// pipe of that many bytes.
    async fn heard(streams: u32, pipe: usize) -> Vec<u8> {
        let (mut client, server) = duplex(pipe);
        let serving = tokio::spawn(async move {
            let io = AnnouncingIo::new(server, streams);
            let mut http2 = h2::server::Builder::new().max_concurrent_streams(100).handshake::<_, bytes::Bytes>(io);
            drop(std::future::poll_fn(|context| Pin::new(&mut http2).poll(context)).await);
        });
        let mut head = [0; HEAD_LENGTH];
        client.read_exact(&mut head).await.unwrap();
        let mut settings = vec![0; Head::read(&head).unwrap().length];
        client.read_exact(&mut settings).await.unwrap();
        serving.abort();
        [&head[..], &settings].concat()
    }

    use std::future::Future;

    #[tokio::test]
    async fn the_first_settings_say_so_and_nothing_else_differs() {
        for pipe in [1, 7, 64, 1_024] {
            let (plain, told) = (heard(100, pipe).await, heard(32, pipe).await);
            let at = plain.windows(2).position(|two| two == MAX_CONCURRENT_STREAMS).expect("it is said");
            let expected = [&plain[..at + 2], &32_u32.to_be_bytes(), &plain[at + SETTING_LENGTH..]].concat();
            assert_eq!(told, expected, "through {pipe} bytes");
        }
    }

    #[tokio::test]
    async fn what_does_not_begin_with_settings_goes_through_as_it_is() {
        for text in [&b"short"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
            let (mut client, server) = duplex(1_024);
            let mut io = AnnouncingIo::new(server, 1);
            io.write_all(text).await.unwrap();
            io.write_all(b" and more").await.unwrap();
            drop(io);
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, [text, b" and more"].concat());
        }
    }

    const ALLOWED: u32 = 100;

    #[tokio::test]
    async fn calls_that_a_client_made_before_it_was_told_are_not_refused() {
        let (client, server) = duplex(1 << 16);
        // A client that waits for nothing.
        let (mut requests, connection) = h2::client::handshake::<_>(client).await.unwrap();
        let answers: Vec<_> = (0..ALLOWED)
            .map(|_| requests.send_request(Request::post("http://a/b").body(()).unwrap(), true).unwrap().0)
            .collect();
        drop(tokio::spawn(connection));
        drop(tokio::spawn(async move {
            let io = AnnouncingIo::new(server, 5);
            let mut http2 = h2::server::Builder::new()
                .max_concurrent_streams(ALLOWED)
                .handshake::<_, bytes::Bytes>(io)
                .await
                .unwrap();
            while let Some(Ok((_, mut reply))) = http2.accept().await {
                reply.send_response(http::Response::new(()), true).unwrap();
            }
        }));
        for answer in answers {
            assert_eq!(answer.await.unwrap().status(), 200);
        }
    }
}
