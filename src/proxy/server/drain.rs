//! A drain that clients are told of: for a while connections are still taken, and answers ask clients to end theirs.
//! Connections on which nothing is asked end by themselves meanwhile.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How a drain goes; `--drain-time-s` and `--drain-strategy`.
#[derive(Clone, Copy, Debug)]
pub struct DrainSettings {
    /// From its beginning to when no more connections are taken; default 10 min.
    pub time: Duration,
    /// Who is asked to go, and when.
    pub strategy: DrainStrategy,
}

/// Who is asked to go, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrainStrategy {
    /// A share of the answers that grows from none to all over the time.
    #[default]
    Gradual,
    /// Every answer asks.
    Immediate,
}

/// A drain that may have begun.
#[derive(Debug)]
pub struct Drain {
    settings: DrainSettings,
    began: OnceLock<Instant>,
    has_begun: CancellationToken,
}

// === impl DrainSettings ===

impl Default for DrainSettings {
    fn default() -> DrainSettings {
        DrainSettings { time: Duration::from_secs(600), strategy: DrainStrategy::default() }
    }
}

// === impl Drain ===

impl Drain {
    /// One that has not begun.
    #[must_use]
    pub fn new(settings: DrainSettings) -> Drain {
        Drain { settings, began: OnceLock::new(), has_begun: CancellationToken::new() }
    }

    /// Begins it, and says how long it takes; `None` if it had begun.
    pub fn begin(&self, now: Instant) -> Option<Duration> {
        self.began.set(now).ok()?;
        self.has_begun.cancel();
        Some(self.settings.time)
    }

    /// Waits until it is a connection's turn to end, given a random number: at once, or at some time of a gradual drain.
    pub async fn turn(&self, random: u64) {
        self.has_begun.cancelled().await;
        if self.settings.strategy == DrainStrategy::Gradual {
            sleep(Duration::from_millis(random % milliseconds(self.settings.time).max(1))).await;
        }
    }

    /// Whether this answer asks its client to go, given a random number.
    #[must_use]
    pub fn asks_to_go(&self, now: Instant, random: u64) -> bool {
        let Some(began) = self.began.get() else { return false };
        if self.settings.strategy == DrainStrategy::Immediate {
            return true;
        }
        let elapsed = milliseconds(now.saturating_duration_since(*began));
        elapsed > random % milliseconds(self.settings.time).max(1)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradual_drain_asks_a_growing_share() {
        let drain = Drain::new(DrainSettings { time: Duration::from_secs(10), ..DrainSettings::default() });
        let start = Instant::now();
        let asked = |after: u64| {
            let now = start + Duration::from_secs(after);
            (0..10_000).filter(|random| drain.asks_to_go(now, *random)).count()
        };
        assert_eq!(asked(5), 0, "it has not begun");
        assert_eq!(drain.begin(start), Some(Duration::from_secs(10)));
        assert_eq!(drain.begin(start), None);
        assert_eq!([asked(0), asked(3), asked(9), asked(10), asked(99)], [0, 3_000, 9_000, 10_000, 10_000]);
    }

    #[test]
    fn an_immediate_drain_asks_everybody() {
        let settings = DrainSettings { strategy: DrainStrategy::Immediate, ..DrainSettings::default() };
        let drain = Drain::new(settings);
        assert!(!drain.asks_to_go(Instant::now(), 0));
        drain.begin(Instant::now());
        assert!(drain.asks_to_go(Instant::now(), u64::MAX));
    }
}
