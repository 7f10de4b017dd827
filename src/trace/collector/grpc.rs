//! gRPC: the message with five bytes before it, over HTTP/2, and a status in the trailers.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderName, HeaderValue, Request, Uri, Version};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http2;
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::http::authority;
use super::{ANSWER_BYTES_MAX, CollectorOptions, Outcome, answer};

/// What sends requests over a connection.
pub(super) type Sender = http2::SendRequest<Full<Bytes>>;

/// The method that takes spans.
const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: u32 = 32 << 10;

/// Bytes in front of a message.
const PREFIX: usize = 5;

/// Speaks HTTP/2 on a socket.
pub(super) async fn handshake(socket: impl Read + Write + Send + Unpin + 'static) -> hyper::Result<Sender> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_header_list_size(HEAD_BYTES_MAX);
    let (sender, connection) = builder.handshake(socket).await?;
    // It ends with the sender, and what ends it early is told to the request that waits.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Makes one call with a message that is [`framed`]. The error is a sentence about the connection.
pub(super) async fn exchange(
    sender: &mut Sender,
    options: &CollectorOptions,
    request: Request<Full<Bytes>>,
) -> Result<Outcome, String> {
    let (mut head, body) = request.into_parts();
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(authority(options)).path_and_query(PATH).build();
    head.uri = uri.map_err(|error| error.to_string())?;
    head.version = Version::HTTP_2;
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert(TE, HeaderValue::from_static("trailers"));
    let timeout =
        HeaderValue::try_from(format!("{}m", options.timeout.as_millis())).map_err(|error| error.to_string())?;
    head.headers.insert(HeaderName::from_static("grpc-timeout"), timeout);
    let response =
        sender.send_request(Request::from_parts(head, body)).await.map_err(|error| answer::causes(&error))?;
    let (head, body) = response.into_parts();
    let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => body,
        // It may have taken them: sent again they would be there twice.
        Err(error) if error.is::<LengthLimitError>() => {
            return Ok(Outcome::Refused { reason: format!("its answer is longer than {ANSWER_BYTES_MAX} bytes") });
        }
        Err(error) => return Err(answer::causes(&*error)),
    };
    let trailers = body.trailers().cloned().unwrap_or_default();
    let message = body.to_bytes();
    Ok(answer::of_grpc(head.status, &head.headers, &trailers, message.get(PREFIX..).unwrap_or_default()))
}

/// The message as gRPC sends it: not compressed, and so long.
pub(super) fn framed(message: &[u8]) -> Result<Bytes, String> {
    let length = u32::try_from(message.len()).map_err(|_| "the message is too long for gRPC".to_owned())?;
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(message);
    Ok(framed.freeze())
}
