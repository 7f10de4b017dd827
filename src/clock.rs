//! Time as a value.
//!
//! All window arithmetic takes a [`Timestamp`] argument and reads no clock, so that it can be run over made-up
//! histories. A [`Clock`] is handed to the few parts that must know the present: the memory store and the edges.
//! The Redis store needs none: there every decision is dated by Redis's own `TIME`, so that the clocks of
//! replicas play no part.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// An instant: microseconds since the Unix epoch, as Redis's `TIME` gives them.
///
/// Values stay below 2^53 until the year 2255, so the same arithmetic is exact in Lua's numbers. Serialised as
/// microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp {
    micros: u64,
}

impl Timestamp {
    /// The instant `micros` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Timestamp {
        Timestamp { micros }
    }

    /// The instant `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Timestamp {
        Timestamp { micros: millis.saturating_mul(1_000) }
    }

    /// Whole microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.micros
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.micros / 1_000
    }

    /// This instant and `later` together; the end of time if the sum does not fit.
    #[must_use]
    pub fn saturating_add(self, later: Duration) -> Timestamp {
        let micros = u64::try_from(later.as_micros()).unwrap_or(u64::MAX);
        Timestamp { micros: self.micros.saturating_add(micros) }
    }
}

/// Something that knows the present.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A clock that stands still until it is moved: for tests and for replaying histories. Clones share one time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    micros: Arc<AtomicU64>,
}

// === impl SystemClock ===

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place where the wall clock is read
    fn now(&self) -> Timestamp {
        // A clock set before 1970 reads as 1970: windows are late then, never over.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp { micros: u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX) }
    }
}

// === impl ManualClock ===

impl ManualClock {
    /// A clock that shows `now` until it is moved.
    #[must_use]
    pub fn at(now: Timestamp) -> ManualClock {
        ManualClock { micros: Arc::new(AtomicU64::new(now.as_micros())) }
    }

    /// Sets the clock, forwards or back.
    pub fn set(&self, now: Timestamp) {
        self.micros.store(now.as_micros(), Ordering::SeqCst);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros.load(Ordering::SeqCst))
    }
}
