//! The token bucket: a full bucket of `burst` tokens, a hit takes one, and `limit` per window drip back in.
//!
//! Kept the other way round, as a debt that drains: an empty state is a full bucket. This is GCRA (ITU-T I.371, the
//! generic cell rate algorithm) with the theoretical arrival time counted in units of our own, so that the rate
//! needs no fraction:
//!
//! ```text
//! a hit adds      cost  = window in µs / g     units to the debt,   g = gcd(limit, window in µs)
//! a µs drains     drain = limit / g            units from it
//! a charge fits   if debt + hits · cost ≤ burst · cost
//! ```
//!
//! Whole numbers, so nothing is lost however long it runs: in any interval `t` at most `burst + limit · t / window`
//! hits pass. Where `burst · cost` would not stay below 2^53, which Lua needs, a coarser unit is taken: the largest
//! `drain` for which `cost`, rounded *up*, keeps below. The bucket then drips slower by less than one part in a
//! million, never faster.
//!
//! ```text
//! bytes   field
//! 7       instant of the debt, µs since the epoch      when the clock goes back, the instant stays
//! 7       debt in units
//! 6       cost in units: what one token of that debt is worth
//! 6       the instant until which a store keeps this state, ms since the epoch
//! ```
//!
//! **Cost stands in the state** so that a changed rate keeps the number of tokens that are out, not the number of
//! units; a fraction of a token is rounded up. **The keeping instant stands there** so that a store needn't move the
//! expiry at every hit: when it no longer covers the debt it is set twice as far as needed.

use super::{Algorithm, read_number, write_number};
use crate::clock::Timestamp;
use crate::limit::Window;

/// At most `burst` hits at once, and `limit` per window in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    limit: u32,
    window: Window,
    burst: u32,
    /// Units that a hit costs, 1 to 2^48.
    cost: u64,
    /// Units that drain in a microsecond, at most the limit; 0 if that is 0.
    drain: u32,
}

/// Tokens that are out. None by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Debt {
    at_us: u64,
    units: u64,
    cost: u64,
    keep_until_ms: u64,
}

/// The largest debt: what Lua's numbers hold exactly.
const UNITS_MAX: u64 = (1 << 53) - 1;

/// Bytes of a debt's packed form.
const BYTES: usize = 26;

// === impl TokenBucket ===

impl TokenBucket {
    /// A bucket of `burst` tokens, refilled with `limit` tokens per window. A limit of 0 blocks, whatever the burst.
    ///
    /// A bucket that would need more than 285 years (2^53 µs) to fill up is made smaller, so that it doesn't.
    #[must_use]
    pub fn new(limit: u32, window: Window, burst: u32) -> TokenBucket {
        let window_us = window.millis() * 1_000;
        if limit == 0 {
            return TokenBucket { limit, window, burst: 0, cost: window_us, drain: 0 };
        }
        let divisor = greatest_common_divisor(u64::from(limit), window_us);
        let cost = window_us / divisor;
        if u64::from(burst).saturating_mul(cost) <= UNITS_MAX {
            let drain = (u64::from(limit) / divisor) as u32; // no more than the limit
            return TokenBucket { limit, window, burst, cost, drain };
        }
        let burst = u64::from(burst).min(UNITS_MAX / window_us.div_ceil(u64::from(limit)));
        let cost_max = u128::from(UNITS_MAX / burst);
        let (limit_wide, window_wide) = (u128::from(limit), u128::from(window_us));
        let drain = cost_max * limit_wide / window_wide;
        let cost = (drain * window_wide).div_ceil(limit_wide);
        // Neither is more than the exact one above, and the burst only became smaller.
        TokenBucket { limit, window, burst: burst as u32, cost: cost as u64, drain: drain as u32 }
    }

    /// Tokens that come back per window.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The window's length.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Tokens in a full bucket. Less than was asked for if that many could not come back in 285 years.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Units that one hit costs, 1 to 2^48.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Units that drain in a microsecond, at most the limit; 0 if that is 0.
    #[must_use]
    pub fn drain(&self) -> u32 {
        self.drain
    }

    /// Milliseconds, rounded up, until so many units have drained.
    fn drained_after_ms(&self, state: &Debt, units: u64, now: Timestamp) -> u64 {
        if units == 0 {
            0
        } else if self.drain == 0 {
            self.window.millis()
        } else {
            (state.at_us - now.as_micros() + units.div_ceil(u64::from(self.drain))).div_ceil(1_000)
        }
    }

    /// Sees to it that a store keeps the state until the debt has drained.
    fn keep(&self, state: &mut Debt, now: Timestamp) {
        let drained_after_ms = self.drained_after_ms(state, state.units, now);
        if now.as_millis() + drained_after_ms > state.keep_until_ms {
            state.keep_until_ms = now.as_millis() + 2 * drained_after_ms;
        }
    }
}

impl Algorithm for TokenBucket {
    type State = Debt;

    fn capacity(&self) -> u64 {
        u64::from(self.burst)
    }

    fn settle(&self, state: &mut Debt, now: Timestamp) {
        if state.cost != self.cost {
            state.units = converted(state.units, state.cost, self.cost);
            state.cost = self.cost;
        }
        let elapsed_us = now.as_micros().saturating_sub(state.at_us);
        state.units = state.units.saturating_sub(elapsed_us.saturating_mul(u64::from(self.drain)));
        if elapsed_us > 0 || state.units == 0 {
            state.at_us = now.as_micros();
        }
    }

    fn used(&self, state: &Debt) -> u64 {
        state.tokens()
    }

    fn fits(&self, state: &Debt, hits: u64) -> bool {
        state.units + hits * self.cost <= self.capacity() * self.cost
    }

    fn add(&self, state: &mut Debt, hits: u64, now: Timestamp) {
        state.units += hits * self.cost;
        self.keep(state, now);
    }

    fn give_back(&self, state: &mut Debt, hits: u64, now: Timestamp) {
        state.units = state.units.saturating_sub(hits.saturating_mul(self.cost));
        self.keep(state, now);
    }

    fn fits_after_ms(&self, state: &Debt, hits: u64, now: Timestamp) -> u64 {
        self.drained_after_ms(state, state.units + hits * self.cost - self.capacity() * self.cost, now)
    }

    fn room_after_ms(&self, state: &Debt, now: Timestamp) -> u64 {
        let whole_tokens_less_one = state.tokens().saturating_sub(1) * self.cost;
        self.drained_after_ms(state, state.units - whole_tokens_less_one, now)
    }

    fn empty_after_ms(&self, state: &Debt, now: Timestamp) -> u64 {
        self.drained_after_ms(state, state.units, now)
    }
}

// === impl Debt ===

impl Debt {
    /// Whether no tokens are out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units == 0
    }

    /// Tokens that were out when it was last written, a begun one included.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        if self.units == 0 { 0 } else { self.units.div_ceil(self.cost) }
    }

    pub(super) fn keep_until_ms(&self) -> u64 {
        self.keep_until_ms
    }

    pub(super) fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        write_number(&mut bytes[0..7], self.at_us);
        write_number(&mut bytes[7..14], self.units);
        write_number(&mut bytes[14..20], self.cost);
        write_number(&mut bytes[20..26], self.keep_until_ms);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Debt> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let debt = Debt {
            at_us: read_number(&bytes[0..7]),
            units: read_number(&bytes[7..14]),
            cost: read_number(&bytes[14..20]),
            keep_until_ms: read_number(&bytes[20..26]),
        };
        (debt.cost > 0 && debt.units <= UNITS_MAX && debt.at_us <= UNITS_MAX).then_some(debt)
    }
}

/// A debt in tokens of `from` units, said in tokens of `to` units.
///
/// A begun token may be rounded up by as much as four units, and never counts for more than a whole one. The fraction
/// is worked out in floating point, which errs by less than three units of 2^-53 each, in Lua by the very same.
fn converted(units: u64, from: u64, to: u64) -> u64 {
    if units == 0 {
        return 0;
    }
    let (whole, rest) = (units / from, units % from);
    let begun = if rest == 0 { 0 } else { to.min((rest as f64 / from as f64 * to as f64).floor() as u64 + 4) };
    // A debt cut off here is still larger than any bucket of the new rate: nothing passes that should not.
    whole.saturating_mul(to).saturating_add(begun).min(UNITS_MAX)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
