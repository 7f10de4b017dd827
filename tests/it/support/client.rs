//! Clients: plain HTTP/1.1, one connection for each request, and the words of a rate limit call.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tidegate::proto::envoy::extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor};
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tokio::net::TcpStream;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An HTTP client of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http {
    address: SocketAddr,
}

// === impl Answer ===

impl Answer {
    /// All values of a header, in order; one that is absent has none.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().expect("headers here are text")).collect()
    }

    /// The only value of a header.
    pub(crate) fn header(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [value] => value,
            ref values => panic!("header {name} should be there once, not as {values:?}, in {self:?}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

// === impl Http ===

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Http {
        Http { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request; an error where the connection fails or the answer is none.
    pub(crate) async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let (mut head, body) = request.into_parts();
        if !head.headers.contains_key("host") {
            head.headers.insert("host", "test".parse()?);
        }
        let exchange = async move {
            let (head, body) = sender.send_request(Request::from_parts(head, Full::new(body))).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        // The connection ends with its only exchange: `sender` is dropped by then.
        let (answer, _closed) = tokio::join!(exchange, connection);
        answer
    }

    /// The answer to a GET, which must come.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    /// The answer to a GET with headers, which must come.
    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::new()).expect("test requests are well formed");
        self.send(request).await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// The answer to a POST of JSON, which must come.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
        let request = request.body(body.into()).expect("test requests are well formed");
        self.send(request).await.unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }
}

/// A descriptor of these entries.
pub(crate) fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| rate_limit_descriptor::Entry {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    RateLimitDescriptor { entries: entries.iter().map(entry).collect(), ..RateLimitDescriptor::default() }
}

/// A call with one descriptor, for one hit.
pub(crate) fn request(domain: &str, entries: &[(&str, &str)]) -> RateLimitRequest {
    RateLimitRequest { domain: domain.to_owned(), descriptors: vec![descriptor(entries)], hits_addend: 0 }
}
