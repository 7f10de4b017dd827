//! Where a server is: HOST:PORT as the command line says it, and the address that answers there.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use crate::settings::text;

/// Time that a server has to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
}

/// A server that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As it was named; calls carry it as `:authority`.
    pub name: String,
    /// Where it takes connections.
    pub address: SocketAddr,
}

/// A server can't be reached.
#[derive(Debug, thiserror::Error)]
#[error("--target {target} can't be reached: {source}; is a server listening there?")]
pub struct Unreachable {
    target: Target,
    source: io::Error,
}

// === impl Target ===

impl Target {
    /// Looks for an address of the server that takes connections.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self) -> Result<Server, Unreachable> {
        let unreachable = |source| Unreachable { target: self.clone(), source };
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(unreachable)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(_) => return Ok(Server { name: self.to_string(), address }),
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let wrong = || "must be HOST:PORT, such as 127.0.0.1:8081 or [::1]:8081".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = text::whole(port, &(1..=u16::MAX)).map_err(|_| wrong())?;
        let bare = text::host(host).map_err(|_| wrong())?;
        // Without brackets the last part of an IPv6 address would be taken for the port.
        if bare.contains(':') && !host.starts_with('[') { Err(wrong()) } else { Ok(Target { host: bare, port }) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_host_and_port_and_nothing_else() {
        for text in ["localhost:1", "127.0.0.1:8081", "[::1]:65535", "a-b.c:80"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["", "localhost", ":1", "localhost:0", "localhost:65536", "::1:80", "http://a:1", "a:+1", "[::1]"] {
            assert!(text.parse::<Target>().unwrap_err().contains("HOST:PORT"), "{text}");
        }
    }
}
