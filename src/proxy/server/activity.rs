//! What a client's connection is doing, for the limits on the time in which nothing comes of it.
//!
//! Envoy tells two kinds of silence apart: between requests a connection is idle, and may be so for long; once a head has
//! begun there is a request, which has to arrive. hyper has one timer for both, so both are watched here. [`Watched`] sees
//! bytes before hyper does; a head that takes too long is answered by it, as hyper would only close.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What a connection is doing.
#[derive(Debug)]
pub struct Activity {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Requests under way.
    active: usize,
    /// When there came to be none.
    idle_since: Instant,
    /// When the first byte of a head came that is not complete yet.
    head_since: Option<Instant>,
    /// The first bytes of the connection, as many as show its version; empty once that is known.
    opening: Option<Vec<u8>>,
    /// Whether what comes can be the head of a request in HTTP/1.
    has_heads: bool,
    last_words: Option<String>,
    reader: Option<Waker>,
}

/// The limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// Without a request.
    pub idle: Option<Duration>,
    /// For a head to arrive.
    pub head: Option<Duration>,
}

/// What has taken too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// The next request.
    Request,
    /// The rest of a head.
    Head,
}

/// HTTP/2's preface begins so, and no method of HTTP/1 does.
const PREFACE: &[u8] = b"PRI";

// === impl Activity ===

impl Activity {
    /// A connection that has just been made.
    #[must_use]
    pub fn new(now: Instant) -> Activity {
        let state = State {
            active: 0,
            idle_since: now,
            head_since: None,
            opening: Some(Vec::new()),
            has_heads: true,
            last_words: None,
            reader: None,
        };
        Activity { state: Mutex::new(state), changed: Notify::new() }
    }

    /// A head is complete. Returns when its first byte came, if that was seen: not with HTTP/2.
    pub fn request_begins(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.active += 1;
        state.head_since.take()
    }

    /// A request and its answer have ended. With HTTP/1 nothing comes behind a request of which not all had come.
    pub fn request_ends(&self, was_complete: bool, now: Instant) {
        let mut state = self.lock();
        state.active = state.active.saturating_sub(1);
        state.idle_since = now;
        state.has_heads &= was_complete;
        drop(state);
        self.changed.notify_one();
    }

    /// Whether a head has begun and is not complete.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        self.lock().head_since.is_some()
    }

    /// Waits until something takes too long.
    pub async fn overdue(&self, patience: Patience) -> Overdue {
        loop {
            let changed = self.changed.notified();
            let due = {
                let state = self.lock();
                match state.head_since {
                    Some(since) => patience.head.map(|limit| (since + limit, Overdue::Head)),
                    None if state.active == 0 => {
                        patience.idle.map(|limit| (state.idle_since + limit, Overdue::Request))
                    }
                    None => None,
                }
            };
            match due {
                None => changed.await,
                Some((at, what)) if at <= Instant::now() => return what,
                Some((at, _)) => {
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// Has the connection say this and read nothing more.
    pub fn end_with(&self, words: String) {
        let mut state = self.lock();
        state.last_words = Some(words);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    fn came(&self, bytes: &[u8], now: Instant) {
        let mut state = self.lock();
        if let Some(opening) = &mut state.opening {
            opening.extend(bytes.iter().take(PREFACE.len() - opening.len()));
            if PREFACE == opening.as_slice() {
                (state.has_heads, state.head_since, state.opening) = (false, None, None);
            } else if !PREFACE.starts_with(opening) {
                state.opening = None;
            }
        }
        if state.active == 0 && state.has_heads && state.head_since.is_none() {
            state.head_since = Some(now);
            drop(state);
            self.changed.notify_one();
        }
    }

    fn last_words(&self, reader: &Waker) -> Option<String> {
        let mut state = self.lock();
        state.reader = Some(reader.clone());
        state.last_words.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's stream whose bytes are noticed.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

// === impl Watched ===

impl<S> Watched<S> {
    /// A stream that tells `activity` of what comes.
    pub fn new(stream: S, activity: Arc<Activity>) -> Watched<S> {
        Watched { stream, activity }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let activity = Arc::clone(&self.activity);
        if polled.is_ready() {
            let came = &buffer.filled()[before..];
            if !came.is_empty() {
                activity.came(came, Instant::now());
            }
            return polled;
        }
        let Some(words) = activity.last_words(context.waker()) else { return Poll::Pending };
        // Nothing has been answered on a connection that is in a head, so there is room for it, or nobody who reads.
        drop(Pin::new(&mut self.stream).poll_write(context, words.as_bytes()));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { idle: Some(Duration::from_secs(60)), head: Some(Duration::from_secs(1)) };

    async fn overdue_after(activity: &Activity) -> (Overdue, u64) {
        let began = Instant::now();
        let what = activity.overdue(PATIENCE).await;
        (what, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_between_requests_has_the_idle_limit_and_a_begun_head_its_own() {
        let activity = Activity::new(Instant::now());
        assert_eq!(overdue_after(&activity).await, (Overdue::Request, 60));
        activity.came(b"G", Instant::now());
        assert_eq!(overdue_after(&activity).await, (Overdue::Head, 1));
        activity.request_begins();
        activity.came(b"a body", Instant::now());
        assert!(!activity.is_in_head());
        tokio::time::timeout(Duration::from_secs(1000), activity.overdue(PATIENCE)).await.unwrap_err();
        activity.request_ends(true, Instant::now());
        assert_eq!(overdue_after(&activity).await, (Overdue::Request, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn http2_has_no_heads_that_the_eye_could_see() {
        let activity = Activity::new(Instant::now());
        for piece in [&b"P"[..], b"RI * HTTP/2.0", b"and what follows"] {
            activity.came(piece, Instant::now());
        }
        assert_eq!(overdue_after(&activity).await, (Overdue::Request, 60));
        let activity = Activity::new(Instant::now());
        activity.came(b"PROPFIND", Instant::now());
        assert_eq!(overdue_after(&activity).await, (Overdue::Head, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_request_that_was_answered_early_is_no_head() {
        let activity = Activity::new(Instant::now());
        activity.came(b"POST", Instant::now());
        activity.request_begins();
        activity.request_ends(false, Instant::now());
        activity.came(b"the rest of its body", Instant::now());
        assert!(!activity.is_in_head());
    }
}
