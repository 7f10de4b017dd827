//! How long a source that fails is left alone.
//!
//! One failure costs nothing: the next tick asks again. From the second in a row on the pause doubles, up to a minute, so
//! that ten thousand services don't ask a server that is on its knees.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row, and when it may be tried again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

// === impl Backoff ===

impl Backoff {
    /// How long it is not to be tried yet; `None` if it may be.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.until.and_then(|until| until.checked_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes a success.
    pub fn succeeded(&mut self) {
        *self = Backoff::default();
    }

    /// Notes a failure of something that is tried once an interval.
    pub fn failed(&mut self, interval: Duration, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let doublings = self.failures.saturating_sub(1).min(16);
        let pause = interval.saturating_mul(1 << doublings).min(PAUSE_MAX.max(interval));
        // The tick at which it may be tried again must not come a moment too early for it.
        self.until = (self.failures > 1).then(|| now + pause.saturating_sub(interval / 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_end_with_a_success() {
        let interval = Duration::from_secs(5);
        let (mut backoff, begin) = (Backoff::default(), Instant::now());
        let mut asked = Vec::new();
        for tick in 0..60 {
            let now = begin + interval * tick;
            if backoff.pause(now).is_none() {
                asked.push(tick * 5);
                backoff.failed(interval, now);
            }
        }
        assert_eq!(asked, [0, 5, 15, 35, 75, 135, 195, 255]);
        backoff.succeeded();
        assert_eq!(backoff.pause(begin), None);
    }

    #[test]
    fn an_interval_of_a_minute_is_never_paused_for_longer() {
        let interval = Duration::from_secs(60);
        let (mut backoff, begin) = (Backoff::default(), Instant::now());
        for tick in 0..10 {
            assert_eq!(backoff.pause(begin + interval * tick), None);
            backoff.failed(interval, begin + interval * tick);
        }
    }
}
