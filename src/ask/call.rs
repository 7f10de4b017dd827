//! One unary gRPC call over a connection of its own.

use std::io;
use std::time::Duration;

use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::address::Address;
use super::say;
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::settings::text;
use crate::tls::Tls;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum CallError {
    #[error("nobody answers at {address}: {reason}")]
    Unreachable { address: Address, reason: String },
    #[error("{address} did not answer within {patience}")]
    TimedOut { address: Address, patience: String },
    #[error("{address} answered {code}: {message}")]
    Refused { address: Address, code: String, message: String },
    #[error("{address} does not answer as a rate limit service ({reason}): is it the gRPC port?")]
    Odd { address: Address, reason: String },
}

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Longest answer: those of the most descriptors a request may have stay far below.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Over TLS 1.3 a server says so after the handshake, and closes: whether its word arrives before our first write fails is
/// chance.
const WANTS_CERTIFICATE: &str = "; it may want a client certificate: --certificate-file and --key-file";

/// How long a broken connection may take to say why.
const LAST_WORD_TIME: Duration = Duration::from_millis(200);

/// Names of gRPC's status codes, by number.
pub(crate) const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Asks, and waits at most `patience` for all of it.
pub(super) async fn call(
    address: &Address,
    tls: Option<&Tls>,
    request: &RateLimitRequest,
    patience: Duration,
) -> Result<RateLimitResponse, CallError> {
    let exchanged = timeout(patience, exchange(address, tls, request, patience)).await;
    exchanged
        .unwrap_or_else(|_| Err(CallError::TimedOut { address: address.clone(), patience: text::written(patience) }))
}

async fn exchange(
    address: &Address,
    tls: Option<&Tls>,
    request: &RateLimitRequest,
    patience: Duration,
) -> Result<RateLimitResponse, CallError> {
    let unreachable = |error: io::Error| CallError::Unreachable { address: address.clone(), reason: error.to_string() };
    match address {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
            match tls {
                None => exchange_over(stream, address, request, patience, "").await,
                Some(tls) => {
                    let sealed = tls.seal_for(Some("h2"), stream, host).await.map_err(unreachable)?;
                    let hint = if tls.identity.is_none() { WANTS_CERTIFICATE } else { "" };
                    exchange_over(sealed, address, request, patience, hint).await
                }
            }
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            exchange_over(stream, address, request, patience, "").await
        }
    }
}

/// `hint` says what it may be if the connection breaks.
async fn exchange_over(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    address: &Address,
    request: &RateLimitRequest,
    patience: Duration,
    hint: &str,
) -> Result<RateLimitResponse, CallError> {
    let odd = |reason: &dyn std::fmt::Display| CallError::Odd {
        address: address.clone(),
        reason: say::printable(&reason.to_string()),
    };
    // HTTP/2 says that the connection broke; why, says what lies below.
    let broken = |error: &hyper::Error| odd(&format!("{}{hint}", deepest(error)));
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // It ends with the sender, or with the runtime.
    let connection = tokio::spawn(connection);
    let head = Request::post(format!("http://{}{PATH}", address.authority()))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header("grpc-timeout", grpc_timeout(patience));
    let message = head.body(Full::new(framed(request))).map_err(|error| odd(&error))?;
    let (head, body) = match sender.send_request(message).await {
        Ok(response) => response.into_parts(),
        // The sender may know no more than that it is over.
        Err(error) => match timeout(LAST_WORD_TIME, connection).await {
            Ok(Ok(Err(why))) => return Err(broken(&why)),
            _ => return Err(broken(&error)),
        },
    };
    if head.status != StatusCode::OK {
        return Err(odd(&head.status));
    }
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| odd(&error))?;
    // An error has its status in the head or in the trailers.
    let trailers = body.trailers().cloned().unwrap_or_default();
    let fields = if head.headers.contains_key("grpc-status") { &head.headers } else { &trailers };
    match status(fields) {
        Some((0, _)) => unframed(&body.to_bytes()).ok_or_else(|| odd(&"the answer is none")),
        Some((code, message)) => {
            let code = CODES.get(code).map_or_else(|| format!("gRPC status {code}"), |name| (*name).to_owned());
            Err(CallError::Refused { address: address.clone(), code, message })
        }
        None => Err(odd(&"the answer has no gRPC status")),
    }
}

/// The cause of all causes.
fn deepest(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => deepest(cause),
        None => error.to_string(),
    }
}

/// A whole number of milliseconds, of at most eight digits.
fn grpc_timeout(patience: Duration) -> String {
    format!("{}m", patience.as_millis().clamp(1, 99_999_999))
}

fn framed(request: &RateLimitRequest) -> Bytes {
    let message = request.encode_to_vec();
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    // A command line is far shorter than 4 GiB.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

/// The message behind an uncompressed prefix.
fn unframed(bytes: &[u8]) -> Option<RateLimitResponse> {
    let (prefix, rest) = bytes.split_first_chunk::<5>()?;
    let [0, length @ ..] = *prefix else { return None };
    let message = rest.get(..usize::try_from(u32::from_be_bytes(length)).ok()?)?;
    RateLimitResponse::decode(message).ok()
}

/// Code and message of a gRPC status.
fn status(fields: &HeaderMap) -> Option<(usize, String)> {
    let code = fields.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = fields.get("grpc-message").map(|message| say::printable(&unescaped(message.as_bytes())));
    Some((code, message.unwrap_or_default()))
}

/// gRPC writes what is not ASCII as `%` and two digits.
fn unescaped(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_message_is_read_whatever_was_escaped() {
        for (text, expected) in [("a%20b", "a b"), ("50%", "50%"), ("%C3%A9%zz%4", "é%zz%4"), ("", "")] {
            assert_eq!(unescaped(text.as_bytes()), expected);
        }
    }

    #[test]
    fn half_a_message_is_none() {
        let whole = framed(&RateLimitRequest { domain: "shop".to_owned(), ..RateLimitRequest::default() });
        for length in 0..whole.len() {
            assert!(unframed(&whole[..length]).is_none(), "{length}");
        }
        assert!(unframed(&[1, 0, 0, 0, 0]).is_none(), "compressed");
        assert_eq!(unframed(&[0; 5]), Some(RateLimitResponse::default()));
    }
}
