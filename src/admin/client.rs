//! One question to an admin listener: what `tidegate adaptive` needs of HTTP.

use std::time::Duration;

use axum::http::{Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where an admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    authority: String,
    host: String,
    port: u16,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum ClientError {
    #[error("nobody answers at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("{address} did not answer within {} s", PATIENCE.as_secs())]
    TimedOut { address: String },
    #[error("{address} answered {status} and no JSON: is it the admin listener of Tidegate?")]
    Odd { address: String, status: StatusCode },
}

/// Time for the whole exchange.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longest answer: ten thousand services have about eight megabytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

// === impl Address ===

impl Address {
    /// Reads `http://host:port`, or without the scheme.
    pub(super) fn parse(text: &str) -> Result<Address, String> {
        let right = || format!("{text:?} is no address of an admin listener; it is written http://127.0.0.1:6071");
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = full.parse().map_err(|_| right())?;
        let is_bare = ["", "/"].contains(&uri.path()) && uri.query().is_none();
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(right)?;
        let port = authority.port_u16().ok_or_else(right)?;
        if uri.scheme_str() != Some("http") || !is_bare {
            return Err(right());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Address { authority: authority.to_string(), host, port })
    }
}

/// Asks, and gives back the status and the JSON of the answer.
pub(super) async fn ask(
    address: &Address,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Value), ClientError> {
    let told = || address.authority.clone();
    timeout(PATIENCE, exchange(address, method, path, body))
        .await
        .unwrap_or_else(|_| Err(ClientError::TimedOut { address: told() }))
}

async fn exchange(
    address: &Address,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Value), ClientError> {
    let unreachable = |error: &dyn std::fmt::Display| ClientError::Unreachable {
        address: address.authority.clone(),
        reason: error.to_string(),
    };
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|e| unreachable(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
    // It ends with the sender, or with the runtime; its error is the sender's too.
    tokio::spawn(async move { drop(connection.await) });
    let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, &address.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes))
        .map_err(|e| unreachable(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| unreachable(&e))?;
    let told = serde_json::from_slice(&body.to_bytes());
    told.map(|told| (status, told)).map_err(|_| ClientError::Odd { address: address.authority.clone(), status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in ["http://127.0.0.1:6071", "127.0.0.1:6071", "http://localhost:1/", "http://[::1]:6071"] {
            assert!(Address::parse(text).is_ok(), "{text}");
        }
        assert_eq!(Address::parse("http://[::1]:6071").unwrap().host, "::1");
        for text in ["", "https://a:1", "http://a", "http://a:1/b", "http://u:p@a:1", "http://a:99999", "a b:1"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
