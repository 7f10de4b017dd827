//! Who may be connected, and with how many streams.
//!
//! The port has room for so many connections. When all places are taken, the connection that was silent the longest
//! makes room for the newcomer: closing newcomers instead would let a crowd that connects once and says nothing more keep
//! everyone else out for good. One that asked something in the last [`IDLE_MIN`] is never sent away, so where all of them
//! are at work it is the newcomer that is closed after all. Whoever is sent away hears GOAWAY and has its calls
//! answered; a client that is idle meanwhile connects again without losing anything.
//!
//! **Streams are dealt, too.** A stream can hold memory for as long as its client likes to leave the answer lying, so
//! their sum must have a bound, and connections times streams of each is no good one. A connection may have as many
//! streams as the settings say while few are open: each newcomer is granted an eighth of what is left of
//! [`STREAMS_SHARED`], and [`STREAMS_MIN`] at the least.
//!
//! What a connection is *told* it may have is less ([`ANNOUNCED_PER_CORE`], dealt alike). Calls that are more than a core
//! can answer while their callers wait are better held back by these: who was told so opens no more streams on the
//! connection, gives up what it can't send in time, and what it does send is answered. Until it was told it may have
//! opened more, Envoy as many as were waiting for the connection; to refuse these would fail the first calls of every
//! busy new connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// The places of a port. Clones are the same places.
#[derive(Clone, Debug)]
pub struct Places {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connections_max: usize,
    streams_max: u32,
    /// Streams that are announced to all connections, beyond the few that each may always have.
    announced_shared: usize,
    /// Seconds since the port was opened, as [`Places::tick`] counts them.
    seconds: AtomicU32,
    /// When a client was last cut off; 0 for never.
    cut_off: AtomicU32,
    register: Mutex<Register>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Register {
    taken: HashMap<u64, Arc<Seat>>,
    next: u64,
    /// Sum of what the connections may have.
    streams: usize,
    /// Sum of what they were told.
    announced: usize,
    /// The log was told that all places are taken.
    told: bool,
}

/// A place that a connection has; free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    number: u64,
    seat: Arc<Seat>,
}

#[derive(Debug)]
struct Seat {
    streams: u32,
    announced: u32,
    /// The second in which the client was last heard.
    heard: AtomicU32,
    /// Whether it ever asked something.
    spoke: OnceLock<Arc<AtomicBool>>,
    leave: CancellationToken,
}

/// Silence after which a connection may be sent away.
pub const IDLE_MIN: Duration = Duration::from_secs(2);

/// How often [`Places::tick`] is to be called.
pub const TICK: Duration = Duration::from_secs(1);

/// Streams that all connections share, beyond the few that each may always have.
pub const STREAMS_SHARED: usize = 131_072;

/// Streams that a connection may have however many others there are: what HTTP/2 recommends at the least, and what many
/// clients take for granted until they are told.
pub const STREAMS_MIN: u32 = 100;

/// Streams that are announced to all connections for each core, beyond the few that each may always have: as many as a
/// core answers in a quarter of the time that Envoy waits for one.
pub const ANNOUNCED_PER_CORE: usize = 1_024;

/// Streams that are announced to a connection however many others there are: at a millisecond for each, thirty thousand
/// calls a second.
pub const ANNOUNCED_MIN: u32 = 32;

/// Seconds without a client that is cut off, after which the next one is news.
const NEWS_GAP_SECONDS: u32 = 60;

/// Share of the places that those on their way out may hold beyond the others' number.
const LEAVING_SHARE: usize = 16;

// === impl Places ===

impl Places {
    /// Room for `connections_max` connections of at most `streams_max` streams each, which so many cores serve.
    #[must_use]
    pub fn new(connections_max: usize, streams_max: u32, cores: usize, metrics: Metrics) -> Places {
        // Second 0 was never.
        let (seconds, cut_off, register) = (AtomicU32::new(1), AtomicU32::new(0), Mutex::default());
        let announced_shared = ANNOUNCED_PER_CORE.saturating_mul(cores);
        Places {
            inner: Arc::new(Inner {
                connections_max,
                streams_max,
                announced_shared,
                seconds,
                cut_off,
                register,
                metrics,
            }),
        }
    }

    /// Counts a second.
    pub fn tick(&self) {
        self.inner.seconds.fetch_add(1, Ordering::Relaxed);
    }

    /// A place for a newcomer, for which another may have been told to go; `None` when there is none to be had.
    #[must_use]
    pub fn take(&self) -> Option<Place> {
        let inner = &self.inner;
        let mut register = inner.lock();
        let count = register.taken.len();
        if count < inner.connections_max {
            register.told = false;
        } else {
            if !std::mem::replace(&mut register.told, true) {
                let connections_max = inner.connections_max;
                tracing::warn!(connections_max, "all connections are taken: idle ones are closed for those that come");
            }
            let leaving_max = (inner.connections_max / LEAVING_SHARE).max(1);
            if count - inner.connections_max >= leaving_max || !register.send_away(inner.now()) {
                return None;
            }
        }
        let deal = |shared: usize, dealt: usize, least: u32| {
            let share = u32::try_from(shared.saturating_sub(dealt) / 8).unwrap_or(u32::MAX);
            share.max(least).min(inner.streams_max)
        };
        let streams = deal(STREAMS_SHARED, register.streams, STREAMS_MIN);
        let announced = deal(inner.announced_shared, register.announced, ANNOUNCED_MIN).min(streams);
        let heard = AtomicU32::new(inner.now());
        let seat =
            Arc::new(Seat { streams, announced, heard, spoke: OnceLock::new(), leave: CancellationToken::new() });
        let number = register.next;
        register.next += 1;
        register.streams += streams as usize;
        register.announced += announced as usize;
        register.taken.insert(number, Arc::clone(&seat));
        drop(register);
        inner.metrics.totals().grpc_connections.increment();
        Some(Place { places: self.clone(), number, seat })
    }
}

// === impl Inner ===

impl Inner {
    fn now(&self) -> u32 {
        self.seconds.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        // Nothing in here panics half way.
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Register ===

impl Register {
    /// Tells the connection that was silent the longest to go; one that never asked anything before all others. Says
    /// whether there was one.
    fn send_away(&self, now: u32) -> bool {
        let idle_min = u32::try_from(IDLE_MIN.as_secs()).unwrap_or(u32::MAX);
        let idle = |seat: &Seat| now.saturating_sub(seat.heard.load(Ordering::Relaxed));
        let staying = self.taken.values().filter(|seat| !seat.leave.is_cancelled() && idle(seat) >= idle_min);
        let Some(seat) = staying.max_by_key(|seat| (!seat.has_spoken(), idle(seat))) else { return false };
        seat.leave.cancel();
        true
    }
}

// === impl Seat ===

impl Seat {
    fn has_spoken(&self) -> bool {
        self.spoke.get().is_some_and(|spoke| spoke.load(Ordering::Relaxed))
    }
}

// === impl Place ===

impl Place {
    /// Streams that this connection is told it may have open at once.
    #[must_use]
    pub fn streams_announced(&self) -> u32 {
        self.seat.announced
    }

    /// Streams that this connection may have open at once.
    #[must_use]
    pub fn streams_max(&self) -> u32 {
        self.seat.streams
    }

    /// To be called whenever the client was heard.
    pub fn hear(&self) {
        self.seat.heard.store(self.places.inner.now(), Ordering::Relaxed);
    }

    /// Where it can be seen whether the client ever asked something.
    pub fn follow(&self, spoke: Arc<AtomicBool>) {
        // A connection has one such word, and says it once.
        drop(self.seat.spoke.set(spoke));
    }

    /// Notes that a client was cut off, and says whether the log should hear of it: at the first of several, none of
    /// which is long after the one before.
    #[must_use]
    pub fn is_news(&self) -> bool {
        let now = self.places.inner.now();
        let last = self.places.inner.cut_off.swap(now, Ordering::Relaxed);
        last == 0 || now.saturating_sub(last) > NEWS_GAP_SECONDS
    }

    /// Ends when the connection is to go.
    pub async fn sent_away(&self) {
        self.seat.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut register = self.places.inner.lock();
        register.taken.remove(&self.number);
        register.streams -= self.seat.streams as usize;
        register.announced -= self.seat.announced as usize;
        drop(register);
        self.places.inner.metrics.totals().grpc_connections.decrement();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections_max: usize) -> Places {
        Places::new(connections_max, 1_000, 2, Metrics::new(10))
    }

    fn wait(places: &Places) {
        (0..IDLE_MIN.as_secs()).for_each(|_| places.tick());
    }

    fn went(place: &Place) -> bool {
        place.seat.leave.is_cancelled()
    }

    #[test]
    fn the_longest_silent_makes_room_and_a_busy_one_never_does() {
        let places = places(2);
        let (one, two) = (places.take().unwrap(), places.take().unwrap());
        assert!(places.take().is_none(), "both were heard just now");
        places.tick();
        one.hear();
        wait(&places);
        let three = places.take().unwrap();
        assert!(went(&two) && !went(&one));
        assert!(places.take().is_none(), "no more than a few may be on their way out");
        drop(two);
        one.hear();
        three.hear();
        assert!(places.take().is_none());
    }

    #[test]
    fn who_never_asked_goes_before_who_did() {
        let places = places(2);
        let (asked, silent) = (places.take().unwrap(), places.take().unwrap());
        asked.follow(Arc::new(AtomicBool::new(true)));
        silent.follow(Arc::new(AtomicBool::new(false)));
        places.tick();
        silent.hear();
        wait(&places);
        assert!(places.take().is_some());
        assert!(went(&silent) && !went(&asked));
    }

    #[test]
    fn streams_of_all_connections_have_a_bound_of_their_own() {
        let places = places(10_000);
        let mut all: Vec<Place> = (0..100).map(|_| places.take().unwrap()).collect();
        assert!(all.iter().all(|place| place.streams_max() == 1_000), "a hundred connections have what is set");
        all.extend((0..9_900).map(|_| places.take().unwrap()));
        let granted: usize = all.iter().map(|place| place.streams_max() as usize).sum();
        assert!(granted <= STREAMS_SHARED + 10_000 * STREAMS_MIN as usize);
        assert!(all.iter().all(|place| place.streams_max() >= STREAMS_MIN));
        drop(all);
        assert_eq!(places.take().unwrap().streams_max(), 1_000, "what a connection had is free again");
    }

    #[test]
    fn what_is_announced_is_dealt_by_the_cores() {
        let places = Places::new(10_000, 1_000, 2, Metrics::new(10));
        let all: Vec<Place> = (0..100).map(|_| places.take().unwrap()).collect();
        assert_eq!(all[0].streams_announced(), 256, "an eighth");
        assert!(all.iter().all(|place| (ANNOUNCED_MIN..=place.streams_max()).contains(&place.streams_announced())));
        let announced: u32 = all.iter().map(Place::streams_announced).sum();
        assert!(announced as usize <= 2 * ANNOUNCED_PER_CORE + 100 * ANNOUNCED_MIN as usize);
        drop(all);
        assert_eq!(places.take().unwrap().streams_announced(), 256, "what a connection had is free again");
    }
}
