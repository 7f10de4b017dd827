//! Rules by xDS: a server tells the rules of all domains over one stream, and tells them anew whenever they change.
//!
//! The aggregated discovery service, state of the world: what Envoy Gateway serves, and what the reference service asks. An
//! update is a whole set. It is read, checked and put in force as a set of files is, or refused with all its mistakes, and
//! then the one before stays in force. Counters don't notice: they belong to rules, not to where rules come from.
//!
//! ```text
//! client ── connection ── socket, TLS, HTTP/2            tries again by itself (pause), tells changes once (outage)
//!    │
//!    ├── protocol   what is asked, given what came        pure
//!    └── intake ─── answer ── measure ── resources ── rules ── table   what came, in force or refused (refusals)
//!                (frame)   (bounds)    (types)
//! ```
//!
//! The server is not trusted to be right: messages, resources and descriptors are counted before they are read, an answer
//! that isn't one is refused and the stream goes on, and what is refused after another refusal is answered ever more slowly.
//! Nothing of it reaches the request path but a finished table of rules.

mod answer;
mod client;
mod connection;
mod heard;
mod intake;
mod measure;
mod outage;
mod pause;
mod protocol;
mod refusals;
mod resources;
mod wire;

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::client::{FirstRules, XdsClient};
pub use self::pause::Pauses;
use crate::tls::Tls;

/// Who tells the rules, and how it is spoken to.
#[derive(Clone, Debug, PartialEq)]
pub struct XdsServer {
    /// Where it is.
    pub address: XdsAddress,
    /// How TLS is spoken to it, if it is.
    pub tls: Option<Tls>,
    /// Who we say that we are: servers keep rules by this name.
    pub node_id: String,
    /// What we say of ourselves besides.
    pub node_metadata: Vec<(String, String)>,
    /// Headers of the call.
    pub headers: CallHeaders,
    /// Largest answer, in bytes.
    pub message_bytes_max: usize,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Silence after which the connection is probed by HTTP/2; `None` for never.
    pub keepalive_interval: Option<Duration>,
    /// Longest wait for that probe's answer.
    pub keepalive_timeout: Duration,
    /// How long to wait before it is tried again.
    pub pauses: Pauses,
}

/// A host, without brackets, and a port. Written as an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdsAddress {
    /// IP address or name.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Headers that are sent and never shown: one may be a token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CallHeaders(HeaderMap);

// === impl CallHeaders ===

impl CallHeaders {
    /// These headers, in their order.
    #[must_use]
    pub fn new(headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> CallHeaders {
        let mut map = HeaderMap::new();
        for (name, mut value) in headers {
            value.set_sensitive(true);
            map.append(name, value);
        }
        CallHeaders(map)
    }
}

impl fmt::Debug for CallHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

// === impl XdsAddress ===

impl fmt::Display for XdsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let XdsAddress { host, port } = self;
        // No name has a colon; an address of a link is followed by its zone.
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Most characters of a version that logs and metrics show.
const VERSION_SHOWN_MAX: usize = 64;

/// `text` as a line of a log can hold it: without control characters, and not longer than `characters`.
fn shown(text: &str, characters: usize) -> String {
    let mut shown: String = text.chars().filter(|letter| !letter.is_control()).take(characters).collect();
    if text.chars().nth(characters).is_some() {
        shown.push('…');
    }
    shown
}
