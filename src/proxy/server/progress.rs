//! How far a request's body has come, as those see it who don't read it: timers and the access log.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The progress of one request.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    received: AtomicU64,
    /// Milliseconds from the start to when something moved last, in either direction.
    last_moved: AtomicU64,
    complete: OnceLock<Instant>,
    completed: Notify,
}

// === impl Progress ===

impl Progress {
    /// A request of which the head came now.
    #[must_use]
    pub fn new(started: Instant) -> Progress {
        Progress {
            started,
            received: AtomicU64::new(0),
            last_moved: AtomicU64::new(0),
            complete: OnceLock::new(),
            completed: Notify::new(),
        }
    }

    /// When the head came.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Bytes of the body so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// When the body's last byte came; `None` while it hasn't.
    #[must_use]
    pub fn completed_at(&self) -> Option<Instant> {
        self.complete.get().copied()
    }

    /// Waits for the body's last byte.
    pub async fn completed(&self) -> Instant {
        loop {
            let notified = self.completed.notified();
            if let Some(at) = self.completed_at() {
                return at;
            }
            notified.await;
        }
    }

    /// More bytes of the body came.
    pub fn add(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.moved();
    }

    /// The body is there.
    pub fn complete(&self) {
        if self.complete.set(Instant::now()).is_ok() {
            self.completed.notify_waiters();
        }
        self.moved();
    }

    /// Something moved, in either direction.
    pub fn moved(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_moved.store(since, Ordering::Relaxed);
    }

    /// When nothing will have moved for that long, unless something moves before.
    #[must_use]
    pub fn idle_at(&self, limit: Duration) -> Instant {
        self.started + Duration::from_millis(self.last_moved.load(Ordering::Relaxed)) + limit
    }

    /// Waits until nothing has moved for that long; for ever without a limit.
    pub async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let at = self.idle_at(limit);
            if at <= Instant::now() {
                return;
            }
            sleep_until(at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle_time_starts_anew_with_every_byte() {
        let progress = Progress::new(Instant::now());
        let started = Instant::now();
        let watched = async {
            progress.idle(Some(Duration::from_secs(5))).await;
            started.elapsed()
        };
        let moving = async {
            tokio::time::advance(Duration::from_secs(3)).await;
            progress.add(7);
        };
        let (idle_after, ()) = tokio::join!(watched, moving);
        assert_eq!(idle_after.as_secs(), 8);
        assert_eq!(progress.received(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_end_learns_of_it_before_or_after() {
        let progress = Progress::new(Instant::now());
        let (at, ()) = tokio::join!(progress.completed(), async {
            tokio::time::advance(Duration::from_secs(1)).await;
            progress.complete();
        });
        assert_eq!(progress.completed().await, at);
    }
}
