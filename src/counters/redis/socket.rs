//! Sockets to Redis: over the network, in the file system, and over TLS.

use std::io;

use futures_util::future::select_ok;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::link::Address;
use super::tls::Tls;

/// What a connection runs over.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Opens a socket to `address`. The error is a sentence for operators.
pub(super) async fn open(address: &Address, tls: Option<&Tls>) -> io::Result<Box<dyn Socket>> {
    match (address, tls) {
        (Address::Tcp(host, port), None) => Ok(Box::new(tcp(host, *port).await?)),
        (Address::Tcp(host, port), Some(tls)) => Ok(Box::new(tls.seal(tcp(host, *port).await?, host).await?)),
        (Address::Unix(path), None) => Ok(Box::new(UnixStream::connect(path).await?)),
        (Address::Unix(_), Some(_)) => Err(io::Error::other("a socket in the file system is not spoken to over TLS")),
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    // All addresses of a name at once: one that is a black hole would use up the time of the others.
    let attempts: Vec<_> = lookup_host((host, port)).await?.map(TcpStream::connect).map(Box::pin).collect();
    if attempts.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    let (socket, _) = select_ok(attempts).await?;
    // Calls are single small writes; waiting to join them would cost the callers' deadlines.
    socket.set_nodelay(true)?;
    Ok(socket)
}
