//! The way to the statsd server: a connection, or packets.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, lookup_host};

use crate::connect;

/// How a statsd server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One connection.
    Tcp,
    /// Packets.
    Udp,
}

/// An open way.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// Longest time that what was sent over a connection may be unacknowledged. The system's own patience is a quarter of an
/// hour, in which all that is written to a machine that is gone would be lost.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// Has the system break a connection whose other side acknowledges nothing (RFC 5482).
#[cfg(target_os = "linux")]
fn give_up_on_the_dead(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))
}

/// Other systems have no such word.
#[cfg(not(target_os = "linux"))]
fn give_up_on_the_dead(_stream: &TcpStream) -> io::Result<()> {
    Ok(())
}

// === impl Protocol ===

impl Protocol {
    /// Most bytes that are sent at once: what fits a packet on Ethernet, however it is tunnelled; for a connection,
    /// what is worth a write.
    pub(super) const fn piece_bytes_max(self) -> usize {
        match self {
            Protocol::Tcp => 64 << 10,
            Protocol::Udp => 1_432,
        }
    }
}

// === impl Socket ===

impl Socket {
    /// Opens a way: a connection to whichever address of the name takes it, for which there is so much `time`; for packets,
    /// which nobody takes or refuses, to the first.
    pub(super) async fn open(protocol: Protocol, host: &str, port: u16, time: Duration) -> io::Result<Socket> {
        if protocol == Protocol::Tcp {
            let stream = connect::tcp(host, port, time).await?;
            give_up_on_the_dead(&stream)?;
            return Ok(Socket::Tcp(stream));
        }
        let address = lookup_host((host, port)).await?.next();
        let address = address.ok_or_else(|| io::Error::other(format!("{host} has no address")))?;
        let own = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(own).await?;
        socket.connect(address).await?;
        Ok(Socket::Udp(socket))
    }

    /// Whether it is of no more use: the server has ended the connection, which the first write after it would not
    /// tell. Packets go to whatever address the name has now.
    pub(super) fn is_over(&mut self) -> bool {
        match self {
            Socket::Tcp(stream) => {
                // A statsd server says nothing; if one does, that is thrown away.
                let mut thrown_away = [0; 512];
                match stream.try_read(&mut thrown_away) {
                    Ok(read) => read == 0,
                    Err(error) => error.kind() != io::ErrorKind::WouldBlock,
                }
            }
            Socket::Udp(_) => true,
        }
    }

    /// Sends whole lines.
    pub(super) async fn send(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.write_all(lines).await,
            Socket::Udp(socket) => socket.send(lines.strip_suffix(b"\n").unwrap_or(lines)).await.map(drop),
        }
    }
}
