//! Where the server is: a host and a port, or a socket of this machine.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use crate::settings::{GrpcSettings, text};

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// Written as an authority, with brackets around IPv6.
    Tcp {
        /// Without brackets.
        host: String,
        port: u16,
    },
    /// Written `unix:` and the path.
    Unix(PathBuf),
}

/// The port of the reference service and of our own defaults.
const PORT: u16 = 8081;

/// What a path begins with.
const UNIX: &str = "unix:";

// === impl Address ===

impl Address {
    /// Reads `host:port` or `unix:path`.
    pub(super) fn parse(written: &str) -> Result<Address, String> {
        let right = || {
            format!("--address {written:?} must be a host and a port, such as localhost:8081, or unix:/path/to/socket")
        };
        if let Some(path) = written.strip_prefix(UNIX).filter(|path| !path.is_empty()) {
            return Ok(Address::Unix(PathBuf::from(path)));
        }
        let (host, port) = written.rsplit_once(':').ok_or_else(right)?;
        let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
        let host = text::host(host).ok().filter(|_| !is_bare_ipv6).ok_or_else(right)?;
        let port = text::whole(port, &(1..=u16::MAX)).map_err(|_| right())?;
        Ok(Address::Tcp { host, port })
    }

    /// Where somebody on this machine reaches the port that the settings describe.
    pub(super) fn of(settings: &GrpcSettings) -> Address {
        if let Some(path) = &settings.unix_socket {
            return Address::Unix(path.clone());
        }
        let host = match settings.host.as_str() {
            "0.0.0.0" | "::" => "localhost".to_owned(),
            host => host.to_owned(),
        };
        let port = if settings.port == 0 { PORT } else { settings.port };
        Address::Tcp { host, port }
    }

    pub(super) fn local() -> Address {
        Address::Tcp { host: "localhost".to_owned(), port: PORT }
    }

    /// What HTTP/2 calls it.
    pub(super) fn authority(&self) -> String {
        match self {
            Address::Tcp { .. } => self.to_string(),
            // A path is no authority (RFC 3986, 3.2).
            Address::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.parse::<Ipv6Addr>().is_ok() => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in
            ["localhost:8081", "127.0.0.1:1", "[::1]:65535", "ratelimit.ns.svc:8081", "unix:/run/rls", "unix:rls"]
        {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["", "localhost", ":8081", "localhost:", "localhost:0", "a:65536", "::1:1", "http://a:1", "a b:1", "unix:"]
        {
            assert!(Address::parse(text).unwrap_err().contains("such as localhost:8081"), "{text}");
        }
    }
}
