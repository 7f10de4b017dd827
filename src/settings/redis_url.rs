//! Where Redis is, and with which name one speaks to it.
//!
//! A Redis URL may carry a password, so it is taken apart here, once, and the pieces that are secret have a type that
//! can't be printed. No message from here repeats any part of the text: in a URL that can't be read nobody knows
//! which part is the password.

use std::fmt;
use std::path::PathBuf;

use super::text::{Parsed, host, whole};

/// A text that must not be seen: `Debug` and `Display` show stars.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Where Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    /// Over the network.
    Tcp {
        /// IP address (without brackets) or name.
        host: String,
        /// Port, 1 to 65535.
        port: u16,
    },
    /// A socket in the file system.
    Unix {
        /// The socket's path.
        path: PathBuf,
    },
    /// Wherever its sentinels say.
    Sentinel(Box<RedisSentinels>),
    /// Wherever the nodes of its cluster say.
    Cluster {
        /// Host and port of those that are asked first, 1 to 100.
        nodes: Vec<(String, u16)>,
    },
}

/// Those who know where a master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSentinels {
    /// The name that they watch it by.
    pub master: String,
    /// Host and port of each, 1 to 100.
    pub addresses: Vec<(String, u16)>,
    /// Who we are to them.
    pub credentials: RedisCredentials,
    /// File with the password, to be read at each connect; `credentials` then hold none.
    pub password_file: Option<PathBuf>,
}

/// Who we are to Redis (`AUTH`).
#[derive(Clone, PartialEq, Eq)]
pub struct RedisCredentials {
    /// The user of Redis's access lists; `None` for the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

/// A Redis server: address, database and credentials. `Debug` and `Display` show no user and no password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    address: RedisAddress,
    is_tls: bool,
    database: u32,
    credentials: RedisCredentials,
}

/// The port that Redis has where a URL names none.
pub(super) const PORT: u16 = 6379;

// === impl Secret ===

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself, for the one who must send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

// === impl RedisCredentials ===

impl RedisCredentials {
    /// Nobody in particular: no `AUTH` is sent.
    pub const NONE: RedisCredentials = RedisCredentials { username: None, password: None };
}

impl fmt::Debug for RedisCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == RedisCredentials::NONE { "none" } else { "***" })
    }
}

// === impl RedisUrl ===

impl RedisUrl {
    /// Reads one of the forms: `host[:port]`, `redis://[user:password@]host[:port][/database]` (`rediss://` for
    /// TLS), `/path/to/socket`, `unix:///path/to/socket[?db=database]`. User and password are percent-encoded. A bare name that ends in
    /// `.sock` is refused: it is more likely a path.
    ///
    /// # Errors
    /// What would have been right, in words that follow "must be", without any part of the text.
    pub fn parse(text: &str) -> Result<RedisUrl, String> {
        if let Some(rest) = text.strip_prefix("redis://") {
            return RedisUrl::parse_network(rest);
        }
        if let Some(rest) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("redis+unix://")) {
            return RedisUrl::parse_socket(rest);
        }
        if let Some(rest) = text.strip_prefix("rediss://") {
            return RedisUrl::parse_network(rest).map(|url| RedisUrl { is_tls: true, ..url });
        }
        if text.starts_with('/') {
            return Ok(RedisUrl::at(RedisAddress::Unix { path: PathBuf::from(text) }));
        }
        if text.contains("://") {
            return Err(RedisUrl::right("what precedes :// is neither redis, rediss nor unix"));
        }
        if text.contains('@') {
            return Err(RedisUrl::right("user and password stand without redis:// before them"));
        }
        if text.contains('/') || text.ends_with(".sock") {
            return Err(RedisUrl::right("a path lacks / or unix:// before it, or a database lacks redis://"));
        }
        RedisUrl::parse_place(text).map(RedisUrl::at)
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> &RedisAddress {
        &self.address
    }

    /// Whether the address says that TLS is spoken.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The number of the database to `SELECT`; 0 is where every connection begins.
    #[must_use]
    pub fn database(&self) -> u32 {
        self.database
    }

    /// Who we are there.
    #[must_use]
    pub fn credentials(&self) -> &RedisCredentials {
        &self.credentials
    }

    /// The same server for somebody else.
    #[must_use]
    pub fn with_credentials(self, credentials: RedisCredentials) -> RedisUrl {
        RedisUrl { credentials, ..self }
    }

    /// A server of that address, database 0, for nobody in particular.
    pub(super) fn at(address: RedisAddress) -> RedisUrl {
        RedisUrl { address, is_tls: false, database: 0, credentials: RedisCredentials::NONE }
    }

    /// All forms, and what is amiss with the text: the end of a sentence that repeats nothing of it.
    fn right(amiss: &str) -> String {
        format!(
            "host, host:port, redis://user:password@host:port/database or unix:///path/to/socket, with special \
             characters in user and password percent-encoded; here {amiss}"
        )
    }

    /// `host[:port]`, with the port that holds where none is named.
    pub(super) fn parse_host(text: &str, default_port: u16) -> Parsed<(String, u16)> {
        // The last colon precedes the port, unless it is inside the brackets of an IPv6 address.
        let (host_text, port) = match text.rsplit_once(':') {
            Some((host_text, port)) if !port.ends_with(']') => (host_text, Some(port)),
            _ => (text, None),
        };
        Ok((server(host_text)?, port.map_or(Ok(default_port), tcp_port)?))
    }

    /// `host[:port]`.
    fn parse_place(text: &str) -> Parsed<RedisAddress> {
        RedisUrl::parse_host(text, PORT).map(|(host, port)| RedisAddress::Tcp { host, port })
    }

    /// What follows `redis://`.
    fn parse_network(rest: &str) -> Parsed<RedisUrl> {
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let address = RedisUrl::parse_place(place)?;
        let credentials = user.map_or(Ok(RedisCredentials::NONE), credentials)?;
        Ok(RedisUrl { credentials, database: database_number(database)?, ..RedisUrl::at(address) })
    }

    /// What follows `unix://`.
    fn parse_socket(rest: &str) -> Parsed<RedisUrl> {
        let unknown = || RedisUrl::right("what follows the question mark is not db= and a number");
        let (path, database) = match rest.split_once('?') {
            Some((path, query)) => (path, query.strip_prefix("db=").ok_or_else(unknown)?),
            None => (rest, ""),
        };
        if path.is_empty() {
            return Err(RedisUrl::right("the path is missing"));
        }
        let address = RedisAddress::Unix { path: PathBuf::from(path) };
        Ok(RedisUrl { database: database_number(database)?, ..RedisUrl::at(address) })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name of the user goes as well: some write the password in its place.
        let user = if self.credentials == RedisCredentials::NONE { "" } else { "***@" };
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        match &self.address {
            RedisAddress::Tcp { host, port } if host.contains(':') => write!(f, "{scheme}://{user}[{host}]:{port}")?,
            RedisAddress::Tcp { host, port } => write!(f, "{scheme}://{user}{host}:{port}")?,
            RedisAddress::Unix { path } => write!(f, "unix://{user}{}", path.display())?,
            RedisAddress::Sentinel(sentinels) => write!(f, "sentinel://{user}{}", sentinels.master)?,
            RedisAddress::Cluster { nodes } => {
                let nodes: Vec<String> = nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect();
                write!(f, "cluster://{user}{}", nodes.join(","))?;
            }
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn server(text: &str) -> Parsed<String> {
    if text.is_empty() {
        return Err(RedisUrl::right("the host is missing"));
    }
    host(text).map_err(|_| RedisUrl::right("the host is neither a name nor an IP address (IPv6 in brackets)"))
}

fn tcp_port(text: &str) -> Parsed<u16> {
    if text.is_empty() {
        return Err(RedisUrl::right("the port is missing after the colon"));
    }
    whole(text, &(1..=u16::MAX)).map_err(|_| RedisUrl::right("the port is not a number from 1 to 65535"))
}

fn database_number(text: &str) -> Parsed<u32> {
    // Redis counts databases in a C int.
    let number = if text.is_empty() { Ok(0) } else { whole(text, &(0..=i32::MAX as u32)) };
    number.map_err(|_| RedisUrl::right("the database is not a number"))
}

/// `user:password` or `:password`.
fn credentials(text: &str) -> Parsed<RedisCredentials> {
    let lone = || RedisUrl::right("no colon stands before the password");
    let wrong = || RedisUrl::right("the user or the password is wrongly percent-encoded");
    let (username, password) = text.split_once(':').ok_or_else(lone)?;
    let username = percent_decoded(username).ok_or_else(wrong)?;
    let password = percent_decoded(password).ok_or_else(wrong)?;
    Ok(RedisCredentials {
        username: Some(username).filter(|name| !name.is_empty()),
        password: Some(password).filter(|text| !text.is_empty()).map(Secret::new),
    })
}

/// RFC 3986, section 2.1.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(host: &str, port: u16) -> RedisAddress {
        RedisAddress::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn every_form_names_its_server() {
        for (text, address, database) in [
            ("redis:6379", tcp("redis", 6379), 0),
            ("localhost", tcp("localhost", 6379), 0),
            ("10.0.0.7", tcp("10.0.0.7", 6379), 0),
            ("[::1]", tcp("::1", 6379), 0),
            ("127.0.0.1:1", tcp("127.0.0.1", 1), 0),
            ("[::1]:6380", tcp("::1", 6380), 0),
            ("redis://redis", tcp("redis", 6379), 0),
            ("redis://redis/", tcp("redis", 6379), 0),
            ("redis://u:p@redis:6380/3", tcp("redis", 6380), 3),
            ("redis://[::1]", tcp("::1", 6379), 0),
            ("redis://[::1]:7/2", tcp("::1", 7), 2),
            ("/run/redis.sock", RedisAddress::Unix { path: "/run/redis.sock".into() }, 0),
            ("unix:///run/redis.sock?db=4", RedisAddress::Unix { path: "/run/redis.sock".into() }, 4),
        ] {
            let url = RedisUrl::parse(text).unwrap();
            assert_eq!((url.address(), url.database()), (&address, database), "{text}");
        }
    }

    #[test]
    fn credentials_are_percent_decoded() {
        let url = RedisUrl::parse("redis://al%40ice:p%2Fw@:x@redis").unwrap();
        assert_eq!(url.credentials().username.as_deref(), Some("al@ice"));
        assert_eq!(url.credentials().password.as_ref().map(Secret::expose), Some("p/w@:x"));
        let url = RedisUrl::parse("redis://:only@redis").unwrap();
        assert_eq!(url.credentials().username, None);
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for text in [
            "",
            "hunter2.sock",
            "hunter2/3",
            "run/hunter2",
            "u:hunter2@redis:1",
            "hunter2:",
            "hunter2:0",
            "hunter2:port",
            ":6379",
            "redis://",
            "redis://hunter2@redis",
            "redis://redis/hunter2",
            "redis://redis/-1",
            "redis://u:%zzhunter2@redis",
            "redis://u:%ffhunter2@redis",
            "redis://u:hunter2/x@redis",
            "rediss://u:hunter2/@redis",
            "http://u:hunter2@redis:1",
            "unix://",
            "unix:///a?pass=hunter2",
            "redis://redis?hunter2",
        ] {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, amiss) in [
            ("", "the host is missing"),
            (":6379", "the host is missing"),
            ("redis://", "the host is missing"),
            ("redis://:p@", "the host is missing"),
            ("localhost:", "the port is missing after the colon"),
            ("localhost:0", "the port is not a number from 1 to 65535"),
            ("a b", "the host is neither a name nor an IP address (IPv6 in brackets)"),
            ("::1", "the host is neither a name nor an IP address (IPv6 in brackets)"),
            ("r.sock", "a path lacks / or unix:// before it, or a database lacks redis://"),
            ("localhost/3", "a path lacks / or unix:// before it, or a database lacks redis://"),
            ("p@localhost", "user and password stand without redis:// before them"),
            ("redis://p@localhost", "no colon stands before the password"),
            ("redis://localhost/x", "the database is not a number"),
            ("http://localhost", "what precedes :// is neither redis, rediss nor unix"),
            ("unix://", "the path is missing"),
        ] {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(error.ends_with(&format!("; here {amiss}")), "{text}: {error}");
        }
    }

    #[test]
    fn neither_debug_nor_display_show_a_password() {
        for text in ["redis://alice:hunter2@redis:6379/1", "redis://:hunter2@[::1]"] {
            let url = RedisUrl::parse(text).unwrap();
            for shown in [format!("{url}"), format!("{url:?}"), format!("{:#?}", url.credentials())] {
                assert!(!shown.contains("hunter2") && !shown.contains("alice"), "{shown}");
            }
        }
        assert_eq!(RedisUrl::parse("redis://a:b@redis:1/2").unwrap().to_string(), "redis://***@redis:1/2");
        assert_eq!(RedisUrl::parse("rediss://a:b@redis:1/2").unwrap().to_string(), "rediss://***@redis:1/2");
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_a_sentence(text in "(redis://|unix://|)[a-z0-9:/@%?\\[\\].é]{0,30}") {
            if let Err(right) = RedisUrl::parse(&text) {
                prop_assert!(right.contains("redis://"));
            }
        }

        #[test]
        fn what_is_shown_without_credentials_is_read_back(host in "[a-z][a-z0-9.-]{0,20}", port in 1..=u16::MAX, database in 0..16_u32) {
            let url = RedisUrl::parse(&format!("redis://{host}:{port}/{database}")).unwrap();
            prop_assert_eq!(RedisUrl::parse(&url.to_string()), Ok(url));
        }
    }
}
