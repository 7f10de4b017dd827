//! A service that another one asks, over HTTP/1.1 and kept-open connections.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::http::uri::Scheme;
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::timeout;

/// A service and how it is reached. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Upstream {
    name: &'static str,
    base: BaseUrl,
    client: Client<HttpConnector, Empty<Bytes>>,
}

/// What paths are appended to: `http://host:port`, perhaps with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

/// Why a service gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The service.
    pub service: &'static str,
    /// Its status, if it answered at all.
    pub status: Option<StatusCode>,
    /// What it said, or what happened, shortened.
    pub reason: String,
}

/// Time for a whole answer.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Longest reason, in letters.
const REASON_LETTERS_MAX: usize = 200;

/// Idle connections that are kept.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// Headers that are handed on, so that the proxy's log shows which requests belong together.
const HANDED_ON: [&str; 2] = ["x-request-id", "traceparent"];

// === impl Upstream ===

impl Upstream {
    /// That service; its name is what failures call it.
    #[must_use]
    pub fn new(name: &'static str, base: BaseUrl) -> Upstream {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(TIMEOUT));
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_CONNECTIONS_MAX).build(connector);
        Upstream { name, base, client }
    }

    /// The JSON that it answers to a GET of `path`, which begins with a slash and is encoded as it stands in a URL.
    ///
    /// # Errors
    /// When it doesn't answer with 200 and JSON within [`TIMEOUT`].
    pub async fn get(&self, path: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        let failed = |status, reason: String| Failure { service: self.name, status, reason: shortened(&reason) };
        let mut request = Request::get(format!("{}{path}", self.base));
        for name in HANDED_ON {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Empty::new()).map_err(|error| failed(None, error.to_string()))?;
        let exchange = async {
            let (head, body) = self.client.request(request).await.map_err(chain)?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            Ok::<_, String>((head.status, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        let (status, body) = match timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer.map_err(|reason| failed(None, reason))?,
            Err(_) => return Err(failed(None, format!("no answer within {} s", TIMEOUT.as_secs()))),
        };
        if status != StatusCode::OK {
            return Err(failed(Some(status), String::from_utf8_lossy(&body).into_owned()));
        }
        serde_json::from_slice(&body).map_err(|error| failed(Some(status), format!("its answer is no JSON: {error}")))
    }
}

/// An error and what caused it.
fn chain(error: hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn shortened(text: &str) -> String {
    text.trim().chars().take(REASON_LETTERS_MAX).collect()
}

// === impl Failure ===

impl Failure {
    /// The failure in JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "service": self.service, "status": self.status.map(|status| status.as_u16()), "reason": self.reason })
    }
}

// === impl BaseUrl ===

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<BaseUrl, String> {
        let is_base = |uri: &Uri| {
            uri.scheme() == Some(&Scheme::HTTP)
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
        };
        match text.parse::<Uri>() {
            Ok(uri) if is_base(&uri) => Ok(BaseUrl(text.trim_end_matches('/').to_owned())),
            Ok(_) | Err(_) => Err(format!("{text:?} should be a URL such as http://127.0.0.1:10000")),
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_an_http_url_without_query() {
        let parsed = |text: &str| text.parse::<BaseUrl>().map(|base| base.to_string());
        assert_eq!(parsed("http://127.0.0.1:1/"), Ok("http://127.0.0.1:1".to_owned()));
        assert_eq!(parsed("http://proxy/shop"), Ok("http://proxy/shop".to_owned()));
        for wrong in ["", "127.0.0.1:1", "https://a", "http://", "http://a/?b", "/path", "http://a b"] {
            assert!(parsed(wrong).unwrap_err().contains("http://127.0.0.1:10000"), "{wrong}");
        }
    }

    #[test]
    fn a_long_reason_is_shortened() {
        assert_eq!(shortened(&"ü".repeat(1_000)).chars().count(), REASON_LETTERS_MAX);
    }
}
