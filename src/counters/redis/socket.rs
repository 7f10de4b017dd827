//! Sockets to Redis: over the network, in the file system, and over TLS.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::connect;
use crate::tls::Tls;

/// What a connection runs over.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A socket that is lent: who holds the other end takes it back.
pub(super) struct Lent(pub(super) Arc<Mutex<Box<dyn Socket>>>);

/// Longest time for which a server may acknowledge nothing that was sent, and may say nothing before the system asks
/// whether it is there. The system's own patience is a quarter of an hour and two hours, in which all that is asked of a
/// machine that is gone would be lost.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);

/// Time between two such questions.
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

/// Opens a socket over the network, for which there is so much `time` altogether. The error is a sentence for operators.
pub(super) async fn open_tcp(host: &str, port: u16, tls: Option<&Tls>, time: Duration) -> io::Result<Box<dyn Socket>> {
    let socket = tcp(host, port, time).await?;
    match tls {
        None => Ok(Box::new(socket)),
        Some(tls) => Ok(Box::new(tls.seal(socket, host).await?)),
    }
}

/// Opens a socket in the file system, on which TLS is not spoken.
pub(super) async fn open_unix(path: &Path) -> io::Result<Box<dyn Socket>> {
    Ok(Box::new(UnixStream::connect(path).await?))
}

async fn tcp(host: &str, port: u16, time: Duration) -> io::Result<TcpStream> {
    let socket = connect::tcp(host, port, time).await?;
    // Calls are single small writes; waiting to join them would cost the callers' deadlines.
    socket.set_nodelay(true)?;
    give_up_on_the_dead(&socket)?;
    Ok(socket)
}

/// Has the system break a connection whose other side is gone: one on which something was sent (RFC 5482), and one that is
/// idle.
fn give_up_on_the_dead(socket: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(socket);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(UNACKNOWLEDGED_MAX).with_interval(QUESTION_INTERVAL))
}

// === impl Lent ===

impl Lent {
    fn with<T>(&self, act: impl FnOnce(Pin<&mut Box<dyn Socket>>) -> T) -> T {
        act(Pin::new(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl AsyncRead for Lent {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_read(cx, to))
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|socket| socket.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_system_watches_over_every_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = tcp("127.0.0.1", port, Duration::from_secs(30)).await.unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
    }
}
