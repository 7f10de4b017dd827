//! One HTTP/2 stream: what the client sends on it as a body, and how it gets its answer.
//!
//! An answer to a call is three frames, handed over at once: head, message, status. They are short, and the HTTP/2
//! library keeps what flow control holds back until the client grants room or goes; a stream that waits so is still one
//! of the few that its client may have open. Every other answer (a health watch goes on for as long as its client
//! likes) is sent as fast as the client takes it, and ends when the client resets the stream.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{Either, select};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::Status;

/// The body of a request. What was taken of it is room for more, at once.
#[derive(Debug)]
pub struct RequestBody {
    stream: RecvStream,
    data_ended: bool,
}

/// What a stream is answered.
#[derive(Debug)]
pub enum Answer {
    /// The answer to a call: its message with prefix, or why there is none.
    Call(Result<Bytes, Status>),
    /// What a service of tonic's says.
    Response(Response<tonic::body::Body>),
}

/// A call that was answered.
#[derive(Debug)]
pub struct Answered {
    /// The message with its prefix, or why there is none.
    pub message: Result<Bytes, Status>,
    /// When.
    pub at: Instant,
}

// === impl RequestBody ===

impl RequestBody {
    /// What comes on this stream.
    #[must_use]
    pub fn new(stream: RecvStream) -> RequestBody {
        RequestBody { stream, data_ended: false }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let body = self.get_mut();
        if !body.data_ended {
            let data = match body.stream.poll_data(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(data) => data,
            };
            match data {
                Some(Ok(data)) => {
                    // It fails for more than was received only.
                    drop(body.stream.flow_control().release_capacity(data.len()));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => body.data_ended = true,
            }
        }
        body.stream.poll_trailers(context).map(|trailers| Some(trailers.transpose()?.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

pin_project! {
    /// Waits for the answer to a call and sends it, unless the client resets the stream before. By hand, since an async
    /// block would hold the call twice.
    #[derive(Debug)]
    pub struct Exchange<F> {
        #[pin]
        answering: F,
        // None once it is used.
        reply: Option<SendResponse<Bytes>>,
    }
}

// === impl Exchange ===

impl<F> Exchange<F> {
    /// Of the call that is being answered so.
    #[must_use]
    pub fn new(answering: F, reply: SendResponse<Bytes>) -> Exchange<F> {
        Exchange { answering, reply: Some(reply) }
    }
}

impl<F: Future<Output = Answered>> Future for Exchange<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let Some(reply) = this.reply else { return Poll::Ready(()) };
        let Poll::Ready(answered) = this.answering.poll(context) else { return reply.poll_reset(context).map(drop) };
        if let Some(reply) = this.reply.take() {
            send_answer(reply, answered.message);
        }
        Poll::Ready(())
    }
}

/// Waits for any other answer and sends it, unless the client resets the stream before.
pub async fn exchange(answering: impl Future<Output = Answer>, mut reply: SendResponse<Bytes>) {
    let answer = {
        let reset = poll_fn(|context| reply.poll_reset(context));
        match select(pin!(answering), pin!(reset)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => return,
        }
    };
    match answer {
        Answer::Call(answer) => send_answer(reply, answer),
        Answer::Response(response) => send_response(reply, response).await,
    }
}

/// Sends the answer to a call.
pub fn send_answer(mut reply: SendResponse<Bytes>, answer: Result<Bytes, Status>) {
    let sent = match answer {
        Ok(message) => send_message(&mut reply, message),
        Err(status) => reply.send_response(status.into_http::<()>(), true).map(drop),
    };
    if let Err(error) = sent {
        tracing::trace!(%error, "a call was not answered: its stream is gone");
    }
}

fn send_message(reply: &mut SendResponse<Bytes>, message: Bytes) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    *head.headers_mut() = one(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut stream = reply.send_response(head, false)?;
    stream.send_data(message, false)?;
    stream.send_trailers(one(Status::GRPC_STATUS, HeaderValue::from_static("0")))
}

/// A header map made for one header: the usual one makes room for several.
fn one(name: HeaderName, value: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(name, value);
    headers
}

async fn send_response(mut reply: SendResponse<Bytes>, response: Response<tonic::body::Body>) {
    let (head, body) = response.into_parts();
    let ends = body.is_end_stream();
    let sent = match reply.send_response(Response::from_parts(head, ()), ends) {
        Ok(_) if ends => Ok(()),
        Ok(stream) => send_body(stream, body).await,
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        tracing::trace!(%error, "an answer was not sent to its end: its stream is gone");
    }
}

/// Sends a body as the client makes room for it, until its end or the client's reset.
async fn send_body(mut stream: SendStream<Bytes>, mut body: tonic::body::Body) -> Result<(), h2::Error> {
    while let Some(frame) = next_frame(&mut stream, &mut body).await? {
        let frame = match frame {
            Ok(frame) => frame,
            Err(status) => {
                tracing::debug!(%status, "a service broke its answer off");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
        };
        match frame.into_data() {
            Ok(data) => send_data(&mut stream, data).await?,
            Err(frame) => return stream.send_trailers(frame.into_trailers().unwrap_or_default()),
        }
    }
    stream.send_data(Bytes::new(), true)
}

type Next = Option<Result<Frame<Bytes>, Status>>;

/// The next frame of the body; an error if the client resets the stream meanwhile.
async fn next_frame(stream: &mut SendStream<Bytes>, body: &mut tonic::body::Body) -> Result<Next, h2::Error> {
    let reset = poll_fn(|context| stream.poll_reset(context));
    match select(pin!(body.frame()), pin!(reset)).await {
        Either::Left((next, _)) => Ok(next),
        Either::Right((reason, _)) => Err(reason?.into()),
    }
}

/// Sends data piece by piece, each when there is room for it.
async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = poll_fn(|context| match stream.poll_capacity(context) {
            // A closed stream has no more room to give.
            Poll::Pending => stream.poll_reset(context).map(|reason| Err(reason?.into())),
            Poll::Ready(room) => Poll::Ready(room.unwrap_or_else(|| Err(Reason::CANCEL.into()))),
        });
        let room = room.await?.min(data.len());
        if room > 0 {
            stream.send_data(data.split_to(room), false)?;
        }
    }
    Ok(())
}
