//! How much of what a client sent still waits in the system's buffer.

use rustix::fd::AsFd;
use rustix::io::ioctl_fionread;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::web::stall::StallGuard;

/// A stream that knows how much of it has arrived and was not read.
pub trait Unread {
    /// Bytes that have arrived and wait to be read, about.
    fn unread(&self) -> usize;
}

/// What can't be asked holds nothing, as far as anybody knows.
fn ask(socket: impl AsFd) -> usize {
    ioctl_fionread(socket).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

impl Unread for TcpStream {
    fn unread(&self) -> usize {
        ask(self)
    }
}

impl Unread for UnixStream {
    fn unread(&self) -> usize {
        ask(self)
    }
}

/// Sealed they are more than they will be: by up to a quarter, where each call is a record of its own.
impl Unread for TlsStream<TcpStream> {
    fn unread(&self) -> usize {
        self.get_ref().0.unread() / 4 * 3
    }
}

impl<S: Unread> Unread for StallGuard<S> {
    fn unread(&self) -> usize {
        self.get_ref().unread()
    }
}

/// A pipe within a process, of which nobody can say.
#[cfg(test)]
impl Unread for tokio::io::DuplexStream {
    fn unread(&self) -> usize {
        0
    }
}
