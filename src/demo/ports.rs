//! A free port that stays free until somebody of ours listens on it, and again when that one has ended.
//!
//! The proxy is started once for each stage, always on the same port, since the order service was told where it is.
//! Between two proxies the port must not go to anybody else. A socket that is bound and doesn't listen holds it: it
//! gets no connections, the system gives its port to nobody who lets it choose, and with `SO_REUSEADDR` and
//! `SO_REUSEPORT` on both sides a proxy of the same user may bind it all the same.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of this machine; given back when dropped.
#[derive(Debug)]
pub struct HeldPort {
    _socket: TcpSocket,
    address: SocketAddr,
}

// === impl HeldPort ===

impl HeldPort {
    /// A port of the system's choice, on loopback.
    ///
    /// # Errors
    /// When there is none.
    pub fn any() -> io::Result<HeldPort> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = socket.local_addr()?;
        Ok(HeldPort { _socket: socket, address })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_held_port_can_be_listened_on_again_and_again() {
        let port = HeldPort::any().unwrap();
        assert!(TcpStream::connect(port.address()).is_err(), "nobody listens yet");
        for _ in 0..3 {
            let listener = TcpListener::bind(port.address()).unwrap();
            TcpStream::connect(port.address()).unwrap();
            drop(listener);
        }
    }
}
