//! Protobuf over HTTP/1.1.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use tokio::time::timeout;

use super::{ANSWER_BYTES_MAX, BODY_TIME_MAX, CollectorOptions, Outcome, answer};

/// What sends requests over a connection.
pub(super) type Sender = http1::SendRequest<Full<Bytes>>;

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Speaks HTTP/1.1 on a socket.
pub(super) async fn handshake(socket: impl Read + Write + Send + Unpin + 'static) -> hyper::Result<Sender> {
    let (sender, connection) = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(socket).await?;
    // It ends with the sender, and what ends it early is told to the request that waits.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Makes one request. The error is a sentence about the connection.
pub(super) async fn exchange(
    sender: &mut Sender,
    options: &CollectorOptions,
    mut request: Request<Full<Bytes>>,
) -> Result<Outcome, String> {
    const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

    *request.uri_mut() = Uri::try_from(&options.path).map_err(|error| error.to_string())?;
    let host = HeaderValue::try_from(authority(options)).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(CONTENT_TYPE, PROTOBUF);
    headers.insert(ACCEPT, PROTOBUF);
    let response = sender.send_request(request).await.map_err(|error| answer::causes(&error))?;
    let (head, body) = response.into_parts();
    let after = head.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok());
    // What says nothing more than its status is no worse for that, and spans that were taken are not sent again.
    let body = timeout(BODY_TIME_MAX, Limited::new(body, ANSWER_BYTES_MAX).collect()).await;
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    Ok(answer::of_http(head.status, after, &body))
}

/// The host and port as a request names them.
pub(super) fn authority(options: &CollectorOptions) -> String {
    let CollectorOptions { host, port, .. } = options;
    // A zone is of this machine alone.
    let host = host.split('%').next().unwrap_or_default();
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
