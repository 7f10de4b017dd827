//! The gate of an adaptive service: a token bucket whose rate is part of its state.
//!
//! Whoever governs a service writes a limit into the gate's state, and every decision reads it there: a new limit is in
//! force with the next request on every replica, and nobody has to be told. The gate holds at most one second's worth
//! of its limit, but at least one request, so a service never meets more than that at once.
//!
//! ```text
//! byte  bytes  field
//! 0     1      mark: 1
//! 1     6      limit, thousandths of a request per second      written by who governs the service
//! 7     6      where it goes when nobody governs, same unit
//! 13    6      written at, ms since the epoch
//! 19    6      hold, ms
//! 25    6      decay, ms
//! 31    6      generation: changes of the limit
//! 37    6      instant of the tokens, ms since the epoch       written by decisions
//! 43    7      tokens, millionths of a request
//! 50    7      requests that passed so far
//! 57    7      requests that the gate alone refused so far
//! ```
//!
//! **Nothing is rounded.** A thousandth of a request per second, for a millisecond, is a millionth of a request.
//!
//! **Who passes counts.** A gate is charged only by a decision that passes, whatever else is charged on its own, and
//! remembers how many did; and how many would have, but for it. A request that another rule refuses was never offered to
//! the service. So demand and throughput are exact over all replicas, and are known at once.
//!
//! **Nobody governs** when nothing was written for longer than `hold`: the limit then moves in a straight line to where
//! the operator wants it to be, in the time `decay`. It is a line because Lua and Rust draw the same one to the bit.

#[cfg(test)]
mod laws;

use super::{Counter, EXACT_MAX, Tally, Verdict, read_number, write_number};
use crate::clock::Timestamp;
use crate::descriptor::Hits;
use crate::rate::Rate;

/// How a gate is charged. Its limit is not here but in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The limit of a gate that has no state yet.
    pub start: Rate,
    /// Whether requests are counted only, and never refused.
    pub observed: bool,
}

/// The limit of a gate, as whoever governs it wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Governed {
    /// The limit while it is governed.
    pub limit: Rate,
    /// Where the limit goes when nobody governs.
    pub toward: Rate,
    /// When this was written, milliseconds since the epoch by the store's clock.
    pub written_at_ms: u64,
    /// How long the limit stands without being written again, milliseconds.
    pub hold_ms: u64,
    /// How long it then takes on its way, milliseconds, at least 1.
    pub decay_ms: u64,
    /// How often the limit was changed.
    pub generation: u64,
}

/// The state of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateState {
    /// What was written.
    pub governed: Governed,
    at_ms: u64,
    /// Millionths of a request.
    tokens: u64,
    /// Requests that passed so far.
    pub admitted: u64,
    /// Requests that would have passed but for the gate, so far.
    pub refused: u64,
}

/// Bytes of a state's packed form.
pub const BYTES: usize = 64;

/// Bytes of it that belong to who governs; the others belong to decisions.
pub const GOVERNED_BYTES: usize = 37;

/// How long a state is kept that nobody writes: an hour more than it says itself. Milliseconds.
pub const KEPT_MS: u64 = 3_600_000;

/// How far a clock may run backwards for a moment, milliseconds.
const STEP_MS: u64 = 1_000;

/// Decisions put off a state's end each time they come into another stretch of this length, milliseconds.
const RENEWED_MS: u64 = 600_000;

const MARK: u8 = 1;

/// Millionths.
const REQUEST: u64 = 1_000_000;

// === impl Gate ===

impl Gate {
    /// A gate that nobody has passed or governed.
    #[must_use]
    pub fn first_state(&self, now: Timestamp) -> GateState {
        GateState::new(
            Governed {
                limit: self.start,
                toward: self.start,
                written_at_ms: now.as_millis(),
                hold_ms: 1,
                decay_ms: 1,
                generation: 0,
            },
            now,
        )
    }

    /// The state of a gate, brought to the present; a counter that has none begins here.
    pub(super) fn settled<'c>(&self, counter: &'c mut Counter, now: Timestamp) -> &'c mut GateState {
        let state = match counter {
            Counter::Gate(Some(state)) => Some(*state),
            _ => None,
        };
        let mut state = state.unwrap_or_else(|| self.first_state(now));
        state.settle(now);
        *counter = Counter::Gate(Some(state));
        match counter {
            Counter::Gate(Some(state)) => state,
            _ => unreachable!("it was made a gate's above"),
        }
    }

    /// What a settled gate says to so many requests. How long it takes to be full again is known when the decision is.
    pub(super) fn look(&self, state: &GateState, hits: Hits, now: Timestamp) -> Tally {
        let limit = state.limit_at(now);
        let missing = state.price(hits, limit).saturating_sub(state.tokens);
        let is_over = missing > 0 && !self.observed;
        Tally {
            verdict: if is_over { Verdict::Over } else { Verdict::Within },
            charged: false,
            used: limit.millis(),
            reset_after_ms: if is_over { missing.div_ceil(limit.millis()) } else { 0 },
        }
    }

    /// Lets the requests of a decision that passed through a settled gate.
    pub(super) fn admit(&self, state: &mut GateState, hits: Hits, now: Timestamp) -> bool {
        if !self.observed {
            state.tokens = state.tokens.saturating_sub(state.price(hits, state.limit_at(now)));
        }
        state.admitted = (state.admitted + requests(hits)).min(EXACT_MAX);
        requests(hits) > 0
    }

    /// Milliseconds, rounded up, until a settled gate holds all that it can.
    pub(super) fn full_after_ms(&self, state: &GateState, now: Timestamp) -> u64 {
        let limit = state.limit_at(now);
        burst(limit).saturating_sub(state.tokens).div_ceil(limit.millis())
    }

    /// Whole requests that a gate of that limit holds, if it is full after so many milliseconds: never more than it
    /// does, and less by what comes in within a millisecond at most.
    #[must_use]
    pub fn room(limit: Rate, full_after_ms: u64) -> u64 {
        burst(limit).saturating_sub(limit.millis().saturating_mul(full_after_ms)) / REQUEST
    }

    /// Counts the requests of a decision that nobody but gates refused.
    pub(super) fn refuse(&self, state: &mut GateState, hits: Hits) -> bool {
        state.refused = (state.refused + requests(hits)).min(EXACT_MAX);
        requests(hits) > 0
    }
}

/// A gate counts requests that are let through; nothing brings one back.
fn requests(hits: Hits) -> u64 {
    match hits {
        Hits::Add(hits) => hits.min(super::HITS_MAX),
        Hits::GiveBack(_) => 0,
    }
}

// === impl GateState ===

impl GateState {
    /// A gate that nobody has passed: it holds a second's worth.
    #[must_use]
    pub fn new(governed: Governed, now: Timestamp) -> GateState {
        let tokens = burst(governed.limit_at(now));
        GateState { governed, at_ms: now.as_millis(), tokens, admitted: 0, refused: 0 }
    }

    /// The same tokens and counts under another limit.
    #[must_use]
    pub fn governed_by(self, governed: Governed) -> GateState {
        GateState { governed, ..self }
    }

    /// The limit in force.
    #[must_use]
    pub fn limit_at(&self, now: Timestamp) -> Rate {
        self.governed.limit_at(now)
    }

    /// Brings the tokens to the present.
    pub(super) fn settle(&mut self, now: Timestamp) {
        let limit = self.limit_at(now).millis();
        let burst = burst(self.limit_at(now));
        // After this long it is full, whatever it held: products stay exact.
        let elapsed = now.as_millis().saturating_sub(self.at_ms).min(burst.div_ceil(limit));
        self.tokens = (self.tokens + limit * elapsed).min(burst);
        // A clock that is set back a little gives nothing twice. After a longer step, as when another server takes over,
        // a gate that waited for the old time would be shut all the while: it goes on with what it holds.
        if self.at_ms > now.as_millis() + STEP_MS || self.at_ms < now.as_millis() {
            self.at_ms = now.as_millis();
        }
    }

    /// Tokens that so many requests need: no more than the gate ever holds, so that none waits for ever.
    fn price(&self, hits: Hits, limit: Rate) -> u64 {
        requests(hits).saturating_mul(REQUEST).min(burst(limit))
    }

    /// Reads what [`GateState::to_bytes`] wrote; `None` if it can't have.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<GateState> {
        let governed = Governed::decode(bytes.get(..GOVERNED_BYTES)?)?;
        if bytes.len() != BYTES {
            return None;
        }
        let number = |from: usize, length: usize| read_number(&bytes[from..from + length]);
        let state = GateState {
            governed,
            at_ms: number(37, 6),
            tokens: number(43, 7),
            admitted: number(50, 7),
            refused: number(57, 7),
        };
        let is_exact = state.tokens.max(state.admitted).max(state.refused) <= EXACT_MAX;
        (is_exact && state.at_ms <= super::NOW_MAX.as_millis()).then_some(state)
    }

    /// The packed form, which both stores keep.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..GOVERNED_BYTES].copy_from_slice(&self.governed.to_bytes());
        write_number(&mut bytes[37..43], self.at_ms);
        write_number(&mut bytes[43..50], self.tokens);
        write_number(&mut bytes[50..57], self.admitted);
        write_number(&mut bytes[57..64], self.refused);
        bytes
    }

    /// The instant from which on a store needn't keep it, milliseconds since the epoch.
    #[must_use]
    pub fn keep_until_ms(&self) -> u64 {
        let begun = self.at_ms / RENEWED_MS * RENEWED_MS;
        begun.max(self.governed.written_at_ms) + self.governed.keep_ms()
    }
}

// === impl Governed ===

impl Governed {
    /// The limit in force: what was written, and after `hold` what is on its way to `toward`.
    #[must_use]
    pub fn limit_at(&self, now: Timestamp) -> Rate {
        let age = now.as_millis().saturating_sub(self.written_at_ms);
        let under_way = age.saturating_sub(self.hold_ms);
        if under_way >= self.decay_ms {
            return self.toward;
        }
        let (from, to) = (self.limit.millis() as f64, self.toward.millis() as f64);
        let way = (to - from) * (under_way as f64 / self.decay_ms as f64);
        Rate::from_millis((from + way).floor() as u64)
    }

    /// How long a store keeps what was written, milliseconds.
    #[must_use]
    pub fn keep_ms(&self) -> u64 {
        KEPT_MS + RENEWED_MS + self.hold_ms + self.decay_ms
    }

    /// The packed form: the first bytes of the gate's.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; GOVERNED_BYTES] {
        let mut bytes = [0; GOVERNED_BYTES];
        bytes[0] = MARK;
        let fields = [
            self.limit.millis(),
            self.toward.millis(),
            self.written_at_ms,
            self.hold_ms,
            self.decay_ms,
            self.generation,
        ];
        for (field, bytes) in fields.into_iter().zip(bytes[1..].chunks_exact_mut(6)) {
            write_number(bytes, field.min((1 << 48) - 1));
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Governed> {
        let mut fields = bytes[1..].chunks_exact(6).map(read_number);
        let mut next = || fields.next().unwrap_or_default();
        let (limit, toward) = (next(), next());
        let in_range = |rate: u64| (Rate::MIN.millis()..=Rate::MAX.millis()).contains(&rate);
        let governed = Governed {
            limit: Rate::from_millis(limit),
            toward: Rate::from_millis(toward),
            written_at_ms: next(),
            hold_ms: next(),
            decay_ms: next(),
            generation: next(),
        };
        (bytes[0] == MARK && in_range(limit) && in_range(toward) && governed.decay_ms > 0).then_some(governed)
    }
}

/// The most that a gate of that limit holds, in millionths of a request: a second's worth, at least one request.
fn burst(limit: Rate) -> u64 {
    (limit.millis() * 1_000).max(REQUEST)
}
