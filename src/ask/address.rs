//! Where the server is: a host and a port.

use std::fmt;
use std::net::Ipv6Addr;

use crate::settings::{GrpcSettings, text};

/// A server's address. Written as an authority, with brackets around IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// The port of the reference service and of our own defaults.
const PORT: u16 = 8081;

// === impl Address ===

impl Address {
    /// Reads `host:port`.
    pub(super) fn parse(written: &str) -> Result<Address, String> {
        let right = || format!("--address {written:?} must be a host and a port, such as localhost:8081");
        let (host, port) = written.rsplit_once(':').ok_or_else(right)?;
        let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
        let host = text::host(host).ok().filter(|_| !is_bare_ipv6).ok_or_else(right)?;
        let port = text::whole(port, &(1..=u16::MAX)).map_err(|_| right())?;
        Ok(Address { host, port })
    }

    /// Where somebody on this machine reaches the port that the settings describe.
    pub(super) fn of(settings: &GrpcSettings) -> Address {
        let host = match settings.host.as_str() {
            "0.0.0.0" | "::" => "localhost".to_owned(),
            host => host.to_owned(),
        };
        let port = if settings.port == 0 { PORT } else { settings.port };
        Address { host, port }
    }

    pub(super) fn local() -> Address {
        Address { host: "localhost".to_owned(), port: PORT }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, port } = self;
        if host.parse::<Ipv6Addr>().is_ok() { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in ["localhost:8081", "127.0.0.1:1", "[::1]:65535", "ratelimit.ns.svc:8081"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "localhost", ":8081", "localhost:", "localhost:0", "a:65536", "::1:1", "http://a:1", "a b:1"] {
            assert!(Address::parse(text).unwrap_err().contains("such as localhost:8081"), "{text}");
        }
    }
}
