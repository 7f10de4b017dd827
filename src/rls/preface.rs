//! The first 24 bytes of a connection.
//!
//! They are read here, under the handshake's time limit, so that a client that says nothing, stops half way or speaks
//! something else is seen for what it is before the HTTP/2 server has it. The server wants to read them too: a
//! [`Greeted`] connection gives them back first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The client connection preface of RFC 9113, section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pin_project! {
    /// A connection that began as HTTP/2 does; reading it starts with the preface once more.
    #[derive(Debug)]
    pub struct Greeted<T> {
        #[pin]
        stream: T,
        repeated: usize,
    }
}

/// What a connection began with.
#[derive(Debug)]
pub enum Greeting<T> {
    /// HTTP/2's preface.
    Http2(Greeted<T>),
    /// Something else.
    Other(T),
    /// Nothing, or a part of the preface, and then the end.
    Nothing,
}

/// Reads until it is clear how the connection begins.
///
/// # Errors
/// When the connection breaks.
pub async fn greet<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T) -> io::Result<Greeting<T>> {
    let mut seen = [0; PREFACE.len()];
    let mut count = 0;
    while count < seen.len() {
        match stream.read(&mut seen[count..]).await? {
            0 => return Ok(Greeting::Nothing),
            more => count += more,
        }
        if seen[..count] != PREFACE[..count] {
            return Ok(Greeting::Other(stream));
        }
    }
    Ok(Greeting::Http2(Greeted { stream, repeated: 0 }))
}

// === impl Greeted ===

impl<T: AsyncRead> AsyncRead for Greeted<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if *this.repeated < PREFACE.len() {
            let rest = &PREFACE[*this.repeated..];
            let part = &rest[..rest.len().min(buffer.remaining())];
            buffer.put_slice(part);
            *this.repeated += part.len();
            return Poll::Ready(Ok(()));
        }
        this.stream.poll_read(context, buffer)
    }
}

impl<T: AsyncWrite> AsyncWrite for Greeted<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_preface_in_pieces_is_one_and_is_read_again() {
        let (mut client, server) = duplex(5);
        let sent = tokio::spawn(async move {
            for byte in PREFACE {
                client.write_all(&[*byte]).await.unwrap();
            }
            client.write_all(b"more").await.unwrap();
        });
        let Greeting::Http2(mut greeted) = greet(server).await.unwrap() else { panic!("it is the preface") };
        let mut all = Vec::new();
        greeted.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [PREFACE.as_slice(), b"more"].concat());
        sent.await.unwrap();
    }

    #[tokio::test]
    async fn anything_else_is_seen_at_its_first_wrong_byte() {
        for wrong in ["GET / HTTP/1.1", "PRI * HTTP/1", "\u{16}\u{3}"] {
            let (mut client, server) = duplex(64);
            client.write_all(wrong.as_bytes()).await.unwrap();
            assert!(matches!(greet(server).await.unwrap(), Greeting::Other(_)), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn an_end_before_the_preface_s_is_nothing() {
        for begun in ["", "PRI * HT"] {
            let (mut client, server) = duplex(64);
            client.write_all(begun.as_bytes()).await.unwrap();
            drop(client);
            assert!(matches!(greet(server).await.unwrap(), Greeting::Nothing), "{begun:?}");
        }
    }
}
