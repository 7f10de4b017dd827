//! The head of a request as matchers, rate limit actions and formats look at it.
//!
//! HTTP/2's pseudo-headers are headers to all of them (`:path` can be matched, limited by and logged), but hyper keeps
//! them apart; a [`HeaderKey`] is settled once at load so that no request compares names.

use std::fmt;

use http::{HeaderMap, HeaderName};

/// The name of a header or pseudo-header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderKey {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:authority`, and `host`, which is the same thing in HTTP/1.
    Authority,
    /// `:path`: path and query as they came, undecoded.
    Path,
    /// Any other.
    Header(HeaderName),
}

/// The head of a request, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'r> {
    /// `GET` and so on.
    pub method: &'r str,
    /// `http` or `https`.
    pub scheme: &'r str,
    /// Host and port as the client named them; empty if it named none.
    pub authority: &'r str,
    /// Path and query, undecoded.
    pub path: &'r str,
    /// All headers but `host`.
    pub headers: &'r HeaderMap,
}

// === impl HeaderKey ===

impl HeaderKey {
    /// The key of that name, in whatever case; `None` if no header can have it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<HeaderKey> {
        Some(match &*name.to_ascii_lowercase() {
            ":method" => HeaderKey::Method,
            ":scheme" => HeaderKey::Scheme,
            ":authority" | "host" => HeaderKey::Authority,
            ":path" => HeaderKey::Path,
            lower => HeaderKey::Header(HeaderName::from_bytes(lower.as_bytes()).ok()?),
        })
    }
}

impl fmt::Display for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeaderKey::Method => ":method",
            HeaderKey::Scheme => ":scheme",
            HeaderKey::Authority => ":authority",
            HeaderKey::Path => ":path",
            HeaderKey::Header(name) => name.as_str(),
        })
    }
}

// === impl RequestHead ===

impl<'r> RequestHead<'r> {
    /// The first value of a header; `None` if it is absent. An authority that is not there counts as absent.
    #[must_use]
    pub fn first(&self, key: &HeaderKey) -> Option<&'r [u8]> {
        match key {
            HeaderKey::Method => Some(self.method.as_bytes()),
            HeaderKey::Scheme => Some(self.scheme.as_bytes()),
            HeaderKey::Authority => Some(self.authority.as_bytes()).filter(|authority| !authority.is_empty()),
            HeaderKey::Path => Some(self.path.as_bytes()),
            HeaderKey::Header(name) => self.headers.get(name).map(http::HeaderValue::as_bytes),
        }
    }

    /// Every value of a header.
    pub fn all(&self, key: &HeaderKey) -> impl Iterator<Item = &'r [u8]> {
        let (first, name) = match key {
            HeaderKey::Header(name) => (None, Some(name)),
            HeaderKey::Method | HeaderKey::Scheme | HeaderKey::Authority | HeaderKey::Path => (self.first(key), None),
        };
        let rest = name.map(|name| self.headers.get_all(name).into_iter()).into_iter().flatten();
        first.into_iter().chain(rest.map(http::HeaderValue::as_bytes))
    }

    /// The path without query and fragment.
    #[must_use]
    pub fn path_only(&self) -> &'r str {
        self.path.split(['?', '#']).next().unwrap_or_default()
    }

    /// What stands behind the first `?`, without a fragment; empty if there is none.
    #[must_use]
    pub fn query(&self) -> &'r str {
        let without_fragment = self.path.split('#').next().unwrap_or_default();
        without_fragment.split_once('?').map_or("", |(_, query)| query)
    }
}
