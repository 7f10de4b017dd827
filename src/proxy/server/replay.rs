//! A request's body that can be sent more than once.
//!
//! It is streamed to the first host while it arrives. Where the request may be tried again, what went by is kept, up to
//! a bound; past it nothing more is kept and the request can't be tried again. A later try sends what was kept and then
//! goes on streaming. Only the latest try may read.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use super::progress::Progress;
use crate::proxy::body::{Body, BodyError};

/// The body of one request.
#[derive(Debug)]
pub struct Replay<B> {
    source: Arc<Mutex<Source<B>>>,
}

#[derive(Debug)]
struct Source<B> {
    body: B,
    progress: Arc<Progress>,
    /// What was read before anybody could be sent it.
    ahead: VecDeque<Frame<Bytes>>,
    ahead_bytes: usize,
    body_has_ended: bool,
    /// What came by, while it is kept.
    kept: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    kept_bytes: usize,
    /// Bytes that may be kept; `None` when nothing is kept any more, or never was.
    keep_max: Option<usize>,
    /// Whether something was sent.
    has_begun: bool,
    /// Whether everything was sent.
    has_ended: bool,
    is_empty: bool,
    /// Which try may read.
    latest: u32,
    /// Who waits for the next piece.
    waiting: Option<Waker>,
}

/// One try's view of the body.
#[derive(Debug)]
struct Try<B> {
    source: Arc<Mutex<Source<B>>>,
    number: u32,
    next: usize,
    sent_trailers: bool,
    hint: SizeHint,
    is_empty: bool,
}

/// Bytes that are read ahead while a request waits for a connection: Envoy's bound on a connection's buffer.
const AHEAD_BYTES_MAX: usize = 1 << 20;

// === impl Replay ===

impl<B> Replay<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    /// A body of which up to `keep_max` bytes are kept for further tries; `None`: there will be no further try.
    #[must_use]
    pub fn new(body: B, progress: Arc<Progress>, keep_max: Option<usize>) -> Replay<B> {
        let has_ended = body.is_end_stream();
        if has_ended {
            progress.complete();
        }
        let source = Source {
            body,
            progress,
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            body_has_ended: has_ended,
            kept: Vec::new(),
            trailers: None,
            kept_bytes: 0,
            keep_max,
            has_begun: false,
            has_ended,
            is_empty: has_ended,
            latest: 0,
            waiting: None,
        };
        Replay { source: Arc::new(Mutex::new(source)) }
    }

    /// The body for the next try, which ends the try before; `None` if what has gone by was not kept.
    #[must_use]
    pub fn next_try(&self) -> Option<Body> {
        let mut source = lock(&self.source);
        if source.has_begun && source.keep_max.is_none() {
            return None;
        }
        source.latest += 1;
        let next = Try {
            source: Arc::clone(&self.source),
            number: source.latest,
            next: 0,
            sent_trailers: false,
            // Of the whole body, as the kept part is sent again.
            hint: if source.has_begun || source.ahead_bytes > 0 {
                SizeHint::default()
            } else {
                source.body.size_hint()
            },
            is_empty: source.is_empty,
        };
        Some(next.boxed_unsync())
    }

    /// Reads on while nobody can be sent the body yet, and never returns. So the time limit of a request that waits for
    /// a connection begins with its last byte, and not with its being sent.
    pub async fn read_ahead(&self) -> std::convert::Infallible {
        poll_fn(|context| {
            let mut source = lock(&self.source);
            while source.ahead_bytes < AHEAD_BYTES_MAX && !source.body_has_ended {
                match source.poll_body(context) {
                    // Empty pieces would take up room without counting as any.
                    Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                    Poll::Ready(Some(Ok(frame))) => {
                        source.ahead_bytes += frame.data_ref().map_or(0, Bytes::len);
                        source.ahead.push_back(frame);
                    }
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                    // A body that fails is a client that has gone; whoever reads next learns of it.
                    Poll::Ready(Some(Err(_))) => return Poll::Pending,
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Ends the latest try, if it is still sending: the answer has been given.
    pub fn give_up(&self) {
        let mut source = lock(&self.source);
        source.latest += 1;
        source.keep_max = None;
        if let Some(waiting) = source.waiting.take() {
            waiting.wake();
        }
    }

    /// Whether a further try is possible.
    #[must_use]
    pub fn can_repeat(&self) -> bool {
        let source = lock(&self.source);
        !source.has_begun || source.keep_max.is_some()
    }
}

impl<B> http_body::Body for Try<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let shared = Arc::clone(&self.source);
        let mut source = lock(&shared);
        if source.latest != self.number {
            return Poll::Ready(Some(Err("the request is being tried again".into())));
        }
        if let Some(kept) = source.kept.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(kept.clone()))));
        }
        if source.has_ended {
            let trailers = source.trailers.clone().filter(|_| !self.sent_trailers);
            self.sent_trailers = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = source.poll(context);
        source.waiting = polled.is_pending().then(|| context.waker().clone());
        // What was kept may have been let go just now.
        self.next = source.kept.len();
        if matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_trailers()) {
            self.sent_trailers = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

// === impl Source ===

impl<B> Source<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    /// The next piece to send.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match self.ahead.pop_front() {
            Some(frame) => {
                self.ahead_bytes -= frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(Ok(frame)))
            }
            None if self.body_has_ended => Poll::Ready(None),
            None => self.poll_body(context),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.has_begun = true;
            if let Some(data) = frame.data_ref() {
                self.keep(data);
            } else if let Some(trailers) = frame.trailers_ref() {
                self.trailers = Some(trailers.clone());
            }
        }
        self.has_ended = self.body_has_ended && self.ahead.is_empty();
        polled
    }

    /// The next piece from the client.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.progress.add(data.len());
        }
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.body_has_ended = true;
            self.progress.complete();
        }
        polled.map_err(Into::into)
    }

    fn keep(&mut self, data: &Bytes) {
        let Some(keep_max) = self.keep_max else { return };
        self.kept_bytes += data.len();
        if self.kept_bytes > keep_max {
            self.keep_max = None;
            self.kept = Vec::new();
        } else if !data.is_empty() {
            self.kept.push(data.clone());
        }
    }
}

fn lock<B>(source: &Mutex<Source<B>>) -> MutexGuard<'_, Source<B>> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use tokio::time::Instant;

    use super::*;

    type Chunks = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, BodyError>>>>;

    fn replay(chunks: &[&'static str], keep_max: Option<usize>) -> (Replay<Chunks>, Arc<Progress>) {
        let frames: Vec<Result<Frame<Bytes>, BodyError>> =
            chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))).collect();
        let progress = Arc::new(Progress::new(Instant::now()));
        (Replay::new(StreamBody::new(futures_util::stream::iter(frames)), Arc::clone(&progress), keep_max), progress)
    }

    async fn read(body: Body) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_second_try_sends_what_the_first_sent_and_the_rest() {
        let (replay, progress) = replay(&["one ", "two ", "three"], Some(100));
        let mut first = replay.next_try().unwrap();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
        let second = replay.next_try().unwrap();
        assert!(first.frame().await.unwrap().is_err(), "the first try is over");
        assert_eq!(read(second).await, "one two three");
        assert_eq!(read(replay.next_try().unwrap()).await, "one two three");
        assert_eq!(progress.received(), 13, "each byte came once");
        assert!(progress.completed_at().is_some());
    }

    #[tokio::test]
    async fn past_its_bound_nothing_is_kept_and_the_first_try_goes_on() {
        let (replay, _) = replay(&["one ", "two ", "three"], Some(5));
        let first = replay.next_try().unwrap();
        assert!(replay.can_repeat());
        assert_eq!(read(first).await, "one two three");
        assert!(!replay.can_repeat());
        assert!(replay.next_try().is_none());
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_sent_first_and_counts_as_arrived() {
        let (replay, progress) = replay(&["one ", "two"], None);
        tokio::select! {
            biased;
            never = replay.read_ahead() => match never {},
            at = progress.completed() => assert!(at <= Instant::now()),
        }
        assert_eq!(progress.received(), 7);
        assert_eq!(read(replay.next_try().unwrap()).await, "one two");
    }

    #[tokio::test]
    async fn a_body_that_nobody_read_can_be_sent_in_any_case() {
        let (replay, _) = replay(&["one"], None);
        drop(replay.next_try().unwrap());
        assert_eq!(read(replay.next_try().unwrap()).await, "one");
        assert!(replay.next_try().is_none());
    }
}
