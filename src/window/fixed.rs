//! The reference service's window: time since the epoch is cut into windows, and each window counts from zero.
//!
//! ```text
//! window number = floor(now / window)        6 bytes
//! hits in it                                 6 bytes
//! ```
//!
//! The reference puts the window's start into the counter's key and lets old keys expire; here the number stands in
//! the value, so that a rule has one counter and its key is the same for every algorithm. Decisions are the same.
//!
//! Twice the limit can pass within one window's length around an edge: that is what [`super::log`] is for. With
//! [`super::Charging::Each`] a count grows even when it is over, as there.

use super::{Algorithm, HITS_MAX, read_number, write_number};
use crate::clock::Timestamp;
use crate::limit::Window;

/// At most `limit` hits between two multiples of the window's length since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedWindow {
    limit: u32,
    window: Window,
}

/// Hits in one window. Empty by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    number: u64,
    hits: u64,
}

/// Bytes of a count's packed form.
const BYTES: usize = 12;

// === impl FixedWindow ===

impl FixedWindow {
    /// At most `limit` hits per window; 0 blocks.
    #[must_use]
    pub fn new(limit: u32, window: Window) -> FixedWindow {
        FixedWindow { limit, window }
    }

    /// Hits per window.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The window's length.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// From now to the end of the window that the state is in; longer than a window only if the clock went back.
    fn end_after_ms(&self, state: &Count, now: Timestamp) -> u64 {
        state.empty_from_ms(self).saturating_sub(now.as_millis())
    }
}

impl Algorithm for FixedWindow {
    type State = Count;

    const COUNTS_WHEN_OVER: bool = true;

    fn capacity(&self) -> u64 {
        u64::from(self.limit)
    }

    fn settle(&self, state: &mut Count, now: Timestamp) {
        let number = now.as_millis() / self.window.millis();
        // A clock that was set back does not open an old window again.
        if state.is_empty() || state.number < number {
            *state = Count { number, hits: 0 };
        }
    }

    fn used(&self, state: &Count) -> u64 {
        state.hits
    }

    fn fits(&self, state: &Count, hits: u64) -> bool {
        state.hits + hits <= u64::from(self.limit)
    }

    fn add(&self, state: &mut Count, hits: u64, _now: Timestamp) {
        state.hits = (state.hits + hits).min(HITS_MAX);
    }

    fn give_back(&self, state: &mut Count, hits: u64, now: Timestamp) {
        state.hits = state.hits.saturating_sub(hits);
        // An empty one begins anew, also if the clock has gone back meanwhile.
        self.settle(state, now);
    }

    fn fits_after_ms(&self, state: &Count, _hits: u64, now: Timestamp) -> u64 {
        self.end_after_ms(state, now)
    }

    fn room_after_ms(&self, state: &Count, now: Timestamp) -> u64 {
        self.end_after_ms(state, now)
    }

    fn empty_after_ms(&self, state: &Count, now: Timestamp) -> u64 {
        self.end_after_ms(state, now)
    }
}

// === impl Count ===

impl Count {
    /// Whether there are no hits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hits == 0
    }

    /// Hits in the window that was last written.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    pub(super) fn empty_from_ms(&self, policy: &FixedWindow) -> u64 {
        (self.number + 1).saturating_mul(policy.window.millis())
    }

    pub(super) fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        write_number(&mut bytes[0..6], self.number);
        write_number(&mut bytes[6..12], self.hits);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Count> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        Some(Count { number: read_number(&bytes[0..6]), hits: read_number(&bytes[6..12]) })
    }
}
