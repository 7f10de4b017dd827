//! Answers that the proxy makes itself, in Envoy's words.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use crate::proxy::access_log::ResponseFlag;
use crate::proxy::body::{self, Body};

/// An answer of the proxy's own.
#[derive(Clone, Debug)]
pub struct LocalReply {
    /// Its status.
    pub status: StatusCode,
    /// Its body; empty for none.
    pub body: Bytes,
    /// Headers besides those of the body.
    pub headers: HeaderMap,
    /// The response code details.
    pub details: Cow<'static, str>,
    /// Response flags, in the order in which they are set.
    pub flags: Vec<ResponseFlag>,
    /// The status of gRPC, if it is not what the HTTP status means.
    pub grpc_status: Option<u8>,
}

// === impl LocalReply ===

impl LocalReply {
    /// An answer without flags and headers of its own.
    #[must_use]
    pub fn new(status: StatusCode, body: impl Into<Bytes>, details: impl Into<Cow<'static, str>>) -> LocalReply {
        LocalReply {
            status,
            body: body.into(),
            headers: HeaderMap::new(),
            details: details.into(),
            flags: Vec::new(),
            grpc_status: None,
        }
    }

    /// With that flag.
    #[must_use]
    pub fn flag(mut self, flag: ResponseFlag) -> LocalReply {
        self.flags.push(flag);
        self
    }

    /// With that header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &'static str) -> LocalReply {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// As a response: to a gRPC request an answer with status 200 whose headers say what happened, as gRPC clients
    /// look nowhere else.
    #[must_use]
    pub fn into_response(self, is_grpc: bool) -> Response<Body> {
        let mut headers = self.headers;
        if is_grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let status = self.grpc_status.unwrap_or_else(|| grpc_status(self.status));
            headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(status)));
            if let Ok(message) = HeaderValue::from_str(&percent_encode(&self.body))
                && !self.body.is_empty()
            {
                headers.insert(HeaderName::from_static("grpc-message"), message);
            }
            let mut response = Response::new(body::empty());
            *response.headers_mut() = headers;
            return response;
        }
        if !self.body.is_empty() {
            if !headers.contains_key(CONTENT_TYPE) {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        let mut response = Response::new(body::full(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

/// What an HTTP status means in gRPC.
fn grpc_status(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

fn percent_encode(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b'%' | 0..0x20 | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(*byte)),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_brings_its_length_and_type() {
        let reply = LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream", "no_healthy_upstream");
        let response = reply.clone().into_response(false);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[CONTENT_LENGTH], "19");
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
        let grpc = reply.into_response(true);
        assert_eq!(grpc.status(), 200);
        assert_eq!(grpc.headers()["grpc-status"], "14");
        assert_eq!(grpc.headers()["grpc-message"], "no healthy upstream");
    }

    #[test]
    fn no_body_means_no_type() {
        let response = LocalReply::new(StatusCode::NOT_FOUND, "", "route_not_found").into_response(false);
        assert!(response.headers().is_empty());
    }
}
