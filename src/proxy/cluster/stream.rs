//! One request to a host and its answer.
//!
//! Whoever drops a stream, or the body of its answer, before the end gives the request up: with HTTP/1.1 the connection
//! ends, with HTTP/2 the stream is reset. A connection goes back to its pool when the answer has been read to its end and
//! the request has been sent.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::breaker::Permit;
use super::connection::Sender;
use super::pool::{Connection, Pool};
use super::reset::{Reset, ResetReason};
use crate::proxy::body::Body;
use crate::proxy::stats::GaugeGuard;

/// Room on a connection for one request.
#[derive(Debug)]
pub struct Stream {
    /// Taken when the connection goes back.
    connection: Option<Connection>,
    pool: Arc<Pool>,
    /// Whether the connection has been used, so that it can't be given to another before the end.
    is_sent: bool,
    _request: Permit,
    _active: GaugeGuard,
}

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    body: Incoming,
    /// Given back at the end.
    stream: Option<Stream>,
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(pool: Arc<Pool>, connection: Connection, request: Permit) -> Stream {
        let active = pool.host.rq_active.guard();
        Stream { connection: Some(connection), pool, is_sent: false, _request: request, _active: active }
    }

    /// Our end of the connection.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.connection.as_ref().and_then(|connection| connection.facts.local_address)
    }

    /// Whether the connection speaks HTTP/2, where the authority is a part of the URI and no header.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| matches!(connection.sender, Sender::Http2(_)))
    }

    /// Sends the request and waits for the head of the answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(mut self, request: Request<Body>) -> Result<Response<AnswerBody>, Reset> {
        self.is_sent = true;
        let answer = match self.connection.as_mut().map(|connection| &mut connection.sender) {
            Some(Sender::Http1(sender)) => sender.send_request(request).await,
            Some(Sender::Http2(sender)) => sender.send_request(request).await,
            None => unreachable!("a stream has its connection until it is finished or dropped"),
        };
        match answer {
            Ok(answer) => Ok(answer.map(|body| AnswerBody::new(body, self))),
            Err(error) => {
                let mut reset = Reset::of(&error);
                if reset.reason == ResetReason::ConnectionTermination
                    && let Some(reason) = self.connection.as_ref().and_then(|connection| connection.facts.failure.get())
                {
                    reset = (*reason).into();
                }
                self.note_lost_connection(&reset);
                if error.is_parse() {
                    self.pool.settings.stats.traffic.upstream_cx_protocol_error.increment();
                }
                tracing::debug!(%error, host = %self.pool.address, "no answer from a host");
                Err(reset)
            }
        }
    }

    /// With HTTP/2 a connection that failed one stream may still look alive when the next request comes, which must not
    /// get it. Such a stream is counted with those that never had a connection, as Envoy does.
    fn note_lost_connection(&self, reset: &Reset) {
        if let Some(connection) = &self.connection
            && self.is_http2()
            && reset.reason == ResetReason::ConnectionTermination
        {
            self.pool.settings.stats.traffic.upstream_rq_pending_failure_eject.increment();
            self.pool.forget(connection);
        }
    }

    /// The answer has been read.
    fn finish(mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let pool = Arc::clone(&self.pool);
        match &mut connection.sender {
            Sender::Http2(_) => pool.release(connection),
            Sender::Http1(sender) if sender.is_ready() => pool.release(connection),
            Sender::Http1(_) => {
                // The end of the answer is seen before hyper has tidied up, and before a request that is still being
                // sent has gone. Until then the connection has no room.
                tokio::spawn(async move {
                    if let Sender::Http1(sender) = &mut connection.sender {
                        // A connection that ends here is found closed by the pool.
                        drop(sender.ready().await);
                    }
                    pool.release(connection);
                });
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Given up. An HTTP/1.1 connection that was used ends by the sender's being dropped; any other has room again.
        if let Some(connection) = self.connection.take() {
            match connection.sender {
                Sender::Http1(_) if self.is_sent => drop(connection),
                Sender::Http1(_) | Sender::Http2(_) => self.pool.release(connection),
            }
        }
    }
}

// === impl AnswerBody ===

impl AnswerBody {
    fn new(body: Incoming, stream: Stream) -> AnswerBody {
        let mut answer = AnswerBody { body, stream: Some(stream) };
        answer.finish_at_end();
        answer
    }

    fn finish_at_end(&mut self) {
        if http_body::Body::is_end_stream(&self.body)
            && let Some(stream) = self.stream.take()
        {
            stream.finish();
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Reset;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Reset>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => {
                if let Some(stream) = self.stream.take() {
                    stream.finish();
                }
            }
            Poll::Ready(Some(Ok(_))) => self.finish_at_end(),
            Poll::Ready(Some(Err(error))) => {
                let mut reset = Reset::of(error);
                if let Some(stream) = self.stream.take() {
                    if stream.is_http2() {
                        stream.note_lost_connection(&reset);
                    } else {
                        // With HTTP/1.1 every way to stop in the middle of a body is a violation of the protocol.
                        stream.pool.settings.stats.traffic.upstream_cx_protocol_error.increment();
                        reset = ResetReason::ProtocolError.into();
                    }
                }
                return Poll::Ready(Some(Err(reset)));
            }
        }
        polled.map_err(|error| Reset::of(&error))
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}
