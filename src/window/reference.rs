//! The window of envoyproxy/ratelimit as it lies in a Redis that both services use: a decimal number under a key that
//! ends with the window's start.
//!
//! ```text
//! key    <prefix><domain>_<key>_<value>_…_<start, s>      (`key`)
//! value  hits, decimal
//! expiry window + chance, set again by each charge
//! ```
//!
//! Each window has a key of its own, so there is nothing to settle: what is under the key is what was charged in that
//! window, by whichever of the two services. A replica's own clock chooses the key, as there, and says when the window
//! ends ([`ReferenceWindow::ends_after_ms`]); stores know neither, so a tally's `reset_after_ms` is 0.
//!
//! The other fixed window ([`super::fixed`]) keeps the window's number in the value and its key belongs to one rule.
//! This one belongs to whoever makes the same key: rules, limits and units that meet there share it.

use super::{Algorithm, HITS_MAX};
use crate::clock::Timestamp;
use crate::limit::Window;

/// At most `limit` hits between two multiples of the window's length, which is a whole number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceWindow {
    limit: u32,
    window: Window,
    /// Start of the window that is charged, in seconds; 0 until [`ReferenceWindow::begun_at`] says it.
    start_s: u64,
    /// Seconds, less than which chance adds to the expiry of a key in Redis.
    jitter_max_s: u32,
}

/// Hits in one window. Empty by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    hits: u64,
}

/// Digits of the largest number that Redis counts to, 2^63 - 1.
const DIGITS_MAX: usize = 19;

// === impl ReferenceWindow ===

impl ReferenceWindow {
    /// At most `limit` hits per window; 0 blocks. `None` if the window is no whole number of seconds: the key could not
    /// tell such windows apart.
    #[must_use]
    pub fn try_new(limit: u32, window: Window) -> Option<ReferenceWindow> {
        let whole = window.millis().is_multiple_of(1_000);
        whole.then_some(ReferenceWindow { limit, window, start_s: 0, jitter_max_s: 0 })
    }

    /// The window of that length that `now` is in.
    #[must_use]
    pub fn begun_at(self, now: Timestamp, jitter_max_s: u32) -> ReferenceWindow {
        let seconds = self.seconds();
        ReferenceWindow { start_s: now.as_millis() / 1_000 / seconds * seconds, jitter_max_s, ..self }
    }

    /// The same window with another limit.
    #[must_use]
    pub fn with_limit(self, limit: u32) -> ReferenceWindow {
        ReferenceWindow { limit, ..self }
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

    /// The window's length in seconds, at least 1.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.window.millis() / 1_000
    }

    /// The start of the window that is charged, in seconds since the epoch.
    #[must_use]
    pub fn start_s(&self) -> u64 {
        self.start_s
    }

    /// Seconds, less than which chance adds to the expiry of a key in Redis; 0 for none.
    #[must_use]
    pub fn jitter_max_s(&self) -> u32 {
        self.jitter_max_s
    }

    /// From `now` to the next multiple of the window's length, 1 to the window's length.
    #[must_use]
    pub fn ends_after_ms(&self, now: Timestamp) -> u64 {
        self.window.millis() - now.as_millis() % self.window.millis()
    }

    pub(super) fn empty_from_ms(&self) -> u64 {
        self.start_s.saturating_mul(1_000).saturating_add(self.window.millis())
    }
}

impl Algorithm for ReferenceWindow {
    type State = Sum;

    const COUNTS_WHEN_OVER: bool = true;
    const TELLS_NEVER: bool = false;

    fn capacity(&self) -> u64 {
        u64::from(self.limit)
    }

    fn settle(&self, _state: &mut Sum, _now: Timestamp) {}

    fn used(&self, state: &Sum) -> u64 {
        state.hits
    }

    fn fits(&self, state: &Sum, hits: u64) -> bool {
        state.hits.saturating_add(hits) <= u64::from(self.limit)
    }

    fn takes_more(&self, state: &Sum) -> bool {
        state.hits < HITS_MAX
    }

    fn add(&self, state: &mut Sum, hits: u64, _now: Timestamp) {
        state.hits = state.hits.saturating_add(hits).min(HITS_MAX);
    }

    fn give_back(&self, state: &mut Sum, hits: u64, _now: Timestamp) {
        state.hits = state.hits.saturating_sub(hits);
    }

    fn fits_after_ms(&self, _state: &Sum, _hits: u64, _now: Timestamp) -> u64 {
        0
    }

    fn room_after_ms(&self, _state: &Sum, _now: Timestamp) -> u64 {
        0
    }

    fn empty_after_ms(&self, _state: &Sum, _now: Timestamp) -> u64 {
        0
    }
}

// === impl Sum ===

impl Sum {
    /// Whether there are no hits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hits == 0
    }

    /// Hits in the window.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    pub(super) fn with_packed<R>(self, read: impl FnOnce(&[u8]) -> R) -> R {
        let (mut digits, mut at, mut rest) = ([b'0'; DIGITS_MAX], DIGITS_MAX, self.hits);
        while rest > 0 && at > 0 {
            at -= 1;
            digits[at] += (rest % 10) as u8;
            rest /= 10;
        }
        read(&digits[at.min(DIGITS_MAX - 1)..])
    }

    /// Reads a number as Redis writes it. More than [`HITS_MAX`] counts as that.
    pub(super) fn decode(bytes: &[u8]) -> Option<Sum> {
        let is_plain = bytes == b"0" || bytes.first().is_some_and(|first| *first != b'0');
        let is_number = is_plain && bytes.len() <= DIGITS_MAX && bytes.iter().all(u8::is_ascii_digit);
        // 19 digits are less than 2^64.
        let number = || bytes.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
        // As Redis's INCRBY takes it.
        (is_number && i64::try_from(number()).is_ok()).then(|| Sum { hits: number().min(HITS_MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Unit;

    #[test]
    fn a_window_begins_at_a_multiple_of_its_unit_and_ends_at_the_next() {
        // The two instants of the specification of `duration_until_reset`, in ms.
        for (now_s, ends) in [
            (1_000_000, [1, 20, 800, 36_800, 209_600, 1_592_000, 30_536_000]),
            (1_790_000_000, [1, 40, 2_800, 35_200, 208_000, 1_072_000, 7_552_000]),
        ] {
            for (unit, end) in Unit::ALL.into_iter().zip(ends) {
                let now = Timestamp::from_millis(now_s * 1_000);
                let window = ReferenceWindow::try_new(1, unit.into()).unwrap().begun_at(now, 0);
                assert_eq!(window.ends_after_ms(now), end * 1_000, "{unit:?} at {now_s}");
                assert_eq!(window.start_s() + unit.seconds(), now_s + end, "{unit:?} at {now_s}");
            }
        }
        assert_eq!(ReferenceWindow::try_new(1, Window::from_millis(1_500).unwrap()), None);
    }

    #[test]
    fn a_sum_is_written_as_redis_writes_it_and_nothing_else_is_read() {
        for (hits, text) in [(0, "0"), (7, "7"), (1_234, "1234"), (HITS_MAX, "281474976710655")] {
            assert_eq!(Sum { hits }.with_packed(|bytes| String::from_utf8(bytes.to_vec()).unwrap()), text);
            assert_eq!(Sum::decode(text.as_bytes()), Some(Sum { hits }));
        }
        assert_eq!(Sum::decode(b"9223372036854775807"), Some(Sum { hits: HITS_MAX }));
        for odd in ["", "-1", "1.5", "abc", " 1", "99999999999999999999"] {
            assert_eq!(Sum::decode(odd.as_bytes()), None, "{odd}");
        }
    }
}
