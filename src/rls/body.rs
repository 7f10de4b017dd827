//! A request's body, in time and within bounds.
//!
//! A call has a deadline from the moment it is understood. Before that it is a body that may come byte by byte, or
//! never, on a thousand streams at once. So a body that isn't there at the first look gets a time limit, and what it
//! has brought so far counts towards a [`Budget`] of its core. A body that is there at the first look, as nearly all
//! are, pays for neither.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// Bytes of unfinished bodies that one core holds.
#[derive(Clone, Debug, Default)]
pub struct Budget(Arc<AtomicUsize>);

pin_project! {
    /// A body with a time limit and a budget.
    pub struct BoundedBody<B> {
        #[pin]
        inner: B,
        limit: Duration,
        waiting: Option<Pin<Box<Sleep>>>,
        received: usize,
        held: Held,
    }
}

/// What one body holds of the budget.
struct Held {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// Most bytes of unfinished bodies on one core: a few hundred of the largest, or a hundred thousand ordinary ones.
    pub const BYTES_MAX: usize = 64 << 20;
}

// === impl BoundedBody ===

impl<B> BoundedBody<B> {
    /// `inner`, which must end within `limit` of the first look that finds it unfinished.
    pub fn new(inner: B, limit: Duration, budget: &Budget) -> BoundedBody<B> {
        let held = Held { budget: budget.clone(), bytes: 0 };
        BoundedBody { inner, limit, waiting: None, received: 0, held }
    }
}

impl<B> Body for BoundedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.inner.poll_frame(context) {
            return Poll::Ready(match frame {
                Some(Ok(frame)) => {
                    *this.received += frame.data_ref().map_or(0, Bytes::len);
                    Some(Ok(frame))
                }
                Some(Err(error)) => Some(Err(Status::from_error(error.into()))),
                None => None,
            });
        }
        if !this.held.hold(*this.received) {
            let text = "too many unfinished requests are held, try again";
            return Poll::Ready(Some(Err(Status::resource_exhausted(text))));
        }
        let limit = *this.limit;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        let text = format!("the request was not complete within {} ms", limit.as_millis());
        Poll::Ready(Some(Err(Status::deadline_exceeded(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// === impl Held ===

impl Held {
    /// Holds `bytes` in all; says whether the budget has room for them.
    fn hold(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        self.budget.0.fetch_add(more, Ordering::Relaxed) + more <= Budget::BYTES_MAX
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full, StreamBody};
    use tonic::Code;

    use super::*;

    /// A body that brings these pieces and then nothing more, and does not end.
    fn unfinished(pieces: Vec<usize>) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        let pieces = futures_util::stream::iter(pieces.into_iter().map(|length| Bytes::from(vec![0; length])));
        let frames = futures_util::StreamExt::map(pieces, |bytes| Ok(Frame::data(bytes)));
        StreamBody::new(futures_util::StreamExt::chain(frames, futures_util::stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_in_time_is_an_error() {
        let budget = Budget::default();
        let body = BoundedBody::new(unfinished(vec![10]), Duration::from_secs(10), &budget);
        let error = body.collect().await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0, "what it held was given back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_body_holds_nothing_and_waits_for_nothing() {
        let budget = Budget(Arc::new(AtomicUsize::new(Budget::BYTES_MAX)));
        let body = BoundedBody::new(Full::new(Bytes::from_static(b"whole")), Duration::ZERO, &budget);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "whole");
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_bodies_beyond_the_budget_are_refused() {
        let budget = Budget::default();
        let mut bodies = Vec::new();
        let refused = loop {
            let mut body = Box::pin(BoundedBody::new(unfinished(vec![1 << 20]), Duration::from_secs(10), &budget));
            body.frame().await.unwrap().unwrap();
            match futures_util::poll!(body.frame()) {
                Poll::Pending => bodies.push(body),
                Poll::Ready(frame) => break frame.unwrap().unwrap_err(),
            }
        };
        assert_eq!((refused.code(), bodies.len()), (Code::ResourceExhausted, 64));
        drop(bodies);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
