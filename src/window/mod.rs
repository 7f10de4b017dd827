//! The arithmetic of windows: what a counter holds, what still fits, when room returns.
//!
//! Three algorithms, each in its own file, each pure: [`log`] is the strict sliding window (the default), [`fixed`]
//! the reference service's epoch-aligned window ([`reference`](mod@reference) is the same in the form in which a Redis
//! is shared with that service), [`bucket`] a token bucket. [`decide()`] charges several counters as
//! one decision, all or none. The memory store runs this code; the script in `counters/redis/decide.lua` says the
//! same in Lua, and a property test holds the two equal call by call.
//!
//! **Settle, ask, add.** Every algorithm first brings its state to the present (`Algorithm::settle`: what has left
//! the window goes), then answers questions about it, then perhaps changes it. Settling changes nothing that anyone
//! could observe at that instant, so a refused charge leaves its counter as it was, byte for byte.
//!
//! **Exact in both languages.** All quantities are whole numbers below 2^53, which Lua's numbers hold exactly. Hits
//! are cut off at [`HITS_MAX`]; as no capacity reaches that far, a cut-off charge is refused like the whole one.
//!
//! **The clock may go back.** No state ever moves to an earlier instant because of it: room comes back late, and
//! never is more admitted than the limit.

pub mod bucket;
pub mod decide;
pub mod fixed;
pub mod gate;
pub(crate) mod in_place;
#[cfg(test)]
mod laws;
pub mod log;
pub mod reference;

pub use bucket::TokenBucket;
pub use decide::{Charging, Enforcement, Member, decide};
pub use fixed::FixedWindow;
pub use gate::{Gate, GateState, Governed};
pub use log::{Precision, SlidingWindow};
pub use reference::ReferenceWindow;

use crate::clock::Timestamp;
use crate::descriptor::Hits;

/// Hits from which on more makes no difference: 48 bits, more than any capacity (32 bits) and small enough that sums
/// stay exact in Lua. Larger charges are cut down to it, and a fixed window's count stays there.
pub const HITS_MAX: u64 = (1 << 48) - 1;

/// The largest whole number up to which Lua's numbers hold each exactly.
const EXACT_MAX: u64 = (1 << 53) - 1;

/// The latest instant that is calculated with, in the year 2255: microseconds stay exact in Lua until then. Later
/// ones count as this one.
const NOW_MAX: Timestamp = Timestamp::from_micros(EXACT_MAX);

/// How a counter counts: an algorithm with its checked parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Never more than the limit in any interval of the window's length.
    SlidingWindow(SlidingWindow),
    /// Never more than the limit between two multiples of the window's length.
    FixedWindow(FixedWindow),
    /// The same, in a counter that is shared with envoyproxy/ratelimit.
    ReferenceWindow(ReferenceWindow),
    /// Never more than `burst + rate · t` in any interval `t`.
    TokenBucket(TokenBucket),
    /// The same, at a rate that is kept with the counter and moves.
    Gate(Gate),
}

/// What one counter says to one charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Whether this counter, asked alone, has room for the charge.
    pub verdict: Verdict,
    /// Whether the charge was written: hits were added or given back. A counter with room isn't charged when another
    /// refused the decision; a look (zero hits) and a give-back to an empty counter write nothing.
    pub charged: bool,
    /// Hits that the counter holds after the decision, at most [`HITS_MAX`]. If one counter was charged twice in a
    /// decision that passed, the first tally tells what it held in between. Of a gate: its limit at that instant, in
    /// thousandths of a request per second.
    pub used: u64,
    /// Milliseconds, rounded up, until something changes for the better, if nothing else comes.
    ///
    /// | verdict | sliding window, token bucket | fixed window |
    /// |---|---|---|
    /// | [`Verdict::Within`] | until the oldest hits come back and there is more room than now; 0 if empty | to the window's end |
    /// | [`Verdict::Over`] | until this same charge would pass: retry-after | to the window's end |
    /// | [`Verdict::Never`] | until the counter is empty; 0 if it is | to the window's end |
    ///
    /// A gate with room says when it will be full again: how much it holds follows from that and its limit.
    ///
    /// Exact; only while a rule's tick has just changed and its log hasn't been written since, it may be a tick off.
    /// A token bucket with limit 0 never drains; it says its window's length.
    pub reset_after_ms: u64,
}

/// A counter's own answer to a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is room.
    Within,
    /// There is no room now.
    Over,
    /// There will never be room: the charge is larger than the limit (or the bucket). Over, and waiting won't help.
    Never,
}

/// The state of one counter. Which form it has follows the policy that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // counters stand in this form only while a decision is made
pub enum Counter {
    /// A sliding window's log.
    Log(log::Log),
    /// A fixed window's count.
    Fixed(fixed::Count),
    /// A reference window's sum.
    Sum(reference::Sum),
    /// A token bucket's debt.
    Bucket(bucket::Debt),
    /// A gate's limit and tokens; none before it was asked for the first time.
    Gate(Option<GateState>),
}

/// What the three algorithms have in common. All but `settle` expect a state settled for the same instant.
trait Algorithm {
    /// What is kept per counter; the default is an empty counter.
    type State;

    /// Whether a charge is written even when it is over, if charging is [`Charging::Each`].
    const COUNTS_WHEN_OVER: bool = false;

    /// Whether a charge of more than the capacity is answered by [`Verdict::Never`].
    const TELLS_NEVER: bool = true;

    /// The most hits that one charge can have and still pass.
    fn capacity(&self) -> u64;

    /// Brings the state to the present and into this policy's form.
    fn settle(&self, state: &mut Self::State, now: Timestamp);

    /// Hits held.
    fn used(&self, state: &Self::State) -> u64;

    /// Whether so many hits, at most the capacity, fit now. None fit in a counter that holds more than its capacity.
    fn fits(&self, state: &Self::State, hits: u64) -> bool;

    /// Whether there is still something to count to.
    fn takes_more(&self, _state: &Self::State) -> bool {
        true
    }

    /// Adds hits.
    fn add(&self, state: &mut Self::State, hits: u64, now: Timestamp);

    /// Takes hits away, the newest first, as many as there are.
    fn give_back(&self, state: &mut Self::State, hits: u64, now: Timestamp);

    /// Milliseconds until so many hits, at most the capacity, fit; they don't now.
    fn fits_after_ms(&self, state: &Self::State, hits: u64, now: Timestamp) -> u64;

    /// Milliseconds until fewer hits are held than now; 0 if none are.
    fn room_after_ms(&self, state: &Self::State, now: Timestamp) -> u64;

    /// Milliseconds until no hits are held.
    fn empty_after_ms(&self, state: &Self::State, now: Timestamp) -> u64;
}

/// What a settled counter holds before a decision changes it.
#[derive(Clone, Copy, Debug)]
struct Standing {
    used: u64,
    room_after_ms: u64,
}

// === impl Policy ===

impl Policy {
    /// The most hits that one charge can have and still pass: the limit, or the bucket's size.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        match self {
            Policy::SlidingWindow(policy) => Algorithm::capacity(policy),
            Policy::FixedWindow(policy) => Algorithm::capacity(policy),
            Policy::ReferenceWindow(policy) => Algorithm::capacity(policy),
            Policy::TokenBucket(policy) => Algorithm::capacity(policy),
            Policy::Gate(_) => HITS_MAX,
        }
    }

    /// Hits per window, whatever the burst. A gate has its limit elsewhere: 0.
    #[must_use]
    pub fn limit(&self) -> u32 {
        match self {
            Policy::SlidingWindow(policy) => policy.limit(),
            Policy::FixedWindow(policy) => policy.limit(),
            Policy::ReferenceWindow(policy) => policy.limit(),
            Policy::TokenBucket(policy) => policy.limit(),
            Policy::Gate(_) => 0,
        }
    }

    /// This policy with its limit at `share` of what it was, 0 to 1: rounded to the nearest, and at least 1 where it was.
    /// Its counters keep their form.
    #[must_use]
    pub fn scaled(self, share: f64) -> Policy {
        let scaled =
            |limit: u32| (f64::from(limit) * share.clamp(0.0, 1.0)).round().max(f64::from(limit.min(1))) as u32;
        match self {
            Policy::SlidingWindow(policy) => Policy::SlidingWindow(policy.lowered(scaled(policy.limit()))),
            Policy::FixedWindow(policy) => {
                Policy::FixedWindow(FixedWindow::new(scaled(policy.limit()), policy.window()))
            }
            Policy::ReferenceWindow(policy) => Policy::ReferenceWindow(policy.with_limit(scaled(policy.limit()))),
            Policy::TokenBucket(policy) => {
                let (limit, burst) = (scaled(policy.limit()), scaled(policy.burst()));
                Policy::TokenBucket(TokenBucket::new(limit, policy.window(), burst))
            }
            Policy::Gate(_) => self,
        }
    }

    /// A counter that holds nothing.
    #[must_use]
    pub fn empty_counter(&self) -> Counter {
        match self {
            Policy::SlidingWindow(_) => Counter::Log(log::Log::default()),
            Policy::FixedWindow(_) => Counter::Fixed(fixed::Count::default()),
            Policy::ReferenceWindow(_) => Counter::Sum(reference::Sum::default()),
            Policy::TokenBucket(_) => Counter::Bucket(bucket::Debt::default()),
            Policy::Gate(_) => Counter::Gate(None),
        }
    }

    /// Reads what [`Counter::with_packed`] gave for a counter of this algorithm. `None` if it can't have been written by it.
    #[must_use]
    pub fn decode_counter(&self, bytes: &[u8]) -> Option<Counter> {
        match self {
            Policy::SlidingWindow(_) => log::Log::decode(bytes).map(Counter::Log),
            Policy::FixedWindow(_) => fixed::Count::decode(bytes).map(Counter::Fixed),
            Policy::ReferenceWindow(_) => reference::Sum::decode(bytes).map(Counter::Sum),
            Policy::TokenBucket(_) => bucket::Debt::decode(bytes).map(Counter::Bucket),
            Policy::Gate(_) => GateState::decode(bytes).map(|state| Counter::Gate(Some(state))),
        }
    }

    /// This policy, keeping its state in the form that it and `other` share when both charge one counter in one
    /// decision. Only sliding windows differ in form: the longer tick and the wider hits serve both.
    #[must_use]
    pub fn sharing_form_with(self, other: &Policy) -> Policy {
        match (self, other) {
            (Policy::SlidingWindow(this), Policy::SlidingWindow(other)) => {
                Policy::SlidingWindow(this.sharing_form_with(other))
            }
            (this, _) => this,
        }
    }

    /// Settles `counter` and says what it holds. A counter of another algorithm can't belong to this policy (the key
    /// names the algorithm); it is begun anew.
    fn settle(&self, counter: &mut Counter, now: Timestamp) -> Standing {
        fn standing<A: Algorithm>(algorithm: &A, state: &mut A::State, now: Timestamp) -> Standing {
            algorithm.settle(state, now);
            Standing { used: algorithm.used(state), room_after_ms: algorithm.room_after_ms(state, now) }
        }
        match (self, &mut *counter) {
            (Policy::SlidingWindow(policy), Counter::Log(log)) => standing(policy, log, now),
            (Policy::FixedWindow(policy), Counter::Fixed(count)) => standing(policy, count, now),
            (Policy::ReferenceWindow(policy), Counter::Sum(sum)) => standing(policy, sum, now),
            (Policy::TokenBucket(policy), Counter::Bucket(debt)) => standing(policy, debt, now),
            (Policy::Gate(gate), _) => {
                gate.settled(counter, now);
                Standing { used: 0, room_after_ms: 0 }
            }
            (Policy::SlidingWindow(_), _)
            | (Policy::FixedWindow(_), _)
            | (Policy::ReferenceWindow(_), _)
            | (Policy::TokenBucket(_), _) => {
                *counter = self.empty_counter();
                self.settle(counter, now)
            }
        }
    }

    /// Whether a settled counter would be over after so many hits more.
    fn would_be_over(&self, counter: &Counter, hits: u64) -> bool {
        fn over<A: Algorithm>(algorithm: &A, state: &A::State, hits: u64) -> bool {
            hits > algorithm.capacity() || !algorithm.fits(state, hits)
        }
        match (self, counter) {
            (Policy::SlidingWindow(policy), Counter::Log(log)) => over(policy, log, hits),
            (Policy::FixedWindow(policy), Counter::Fixed(count)) => over(policy, count, hits),
            (Policy::ReferenceWindow(policy), Counter::Sum(sum)) => over(policy, sum, hits),
            (Policy::TokenBucket(policy), Counter::Bucket(debt)) => over(policy, debt, hits),
            _ => false,
        }
    }

    /// Answers one charge of a settled counter as if nobody else were asked, and writes it if there is room.
    fn charge(&self, counter: &mut Counter, hits: Hits, charging: Charging, now: Timestamp) -> Tally {
        match (self, counter) {
            (Policy::SlidingWindow(policy), Counter::Log(log)) => charge(policy, log, hits, charging, now),
            (Policy::FixedWindow(policy), Counter::Fixed(count)) => charge(policy, count, hits, charging, now),
            (Policy::ReferenceWindow(policy), Counter::Sum(sum)) => charge(policy, sum, hits, charging, now),
            (Policy::TokenBucket(policy), Counter::Bucket(debt)) => charge(policy, debt, hits, charging, now),
            (Policy::Gate(gate), counter) => gate.look(gate.settled(counter, now), hits, now),
            (Policy::SlidingWindow(_), _)
            | (Policy::FixedWindow(_), _)
            | (Policy::ReferenceWindow(_), _)
            | (Policy::TokenBucket(_), _) => {
                unreachable!("a settled counter has its policy's form")
            }
        }
    }
}

/// The one place that knows what a charge means; the algorithms only know their arithmetic.
fn charge<A: Algorithm>(algorithm: &A, state: &mut A::State, hits: Hits, charging: Charging, now: Timestamp) -> Tally {
    let before = algorithm.used(state);
    let (verdict, over_reset) = match hits {
        Hits::GiveBack(hits) => {
            if hits > 0 && before > 0 {
                algorithm.give_back(state, hits.min(HITS_MAX), now);
            }
            let reset_after_ms = algorithm.room_after_ms(state, now);
            let charged = hits > 0 && before > 0;
            return Tally { verdict: Verdict::Within, charged, used: algorithm.used(state), reset_after_ms };
        }
        Hits::Add(hits) if A::TELLS_NEVER && hits > algorithm.capacity() => {
            (Verdict::Never, algorithm.empty_after_ms(state, now))
        }
        Hits::Add(hits) if algorithm.fits(state, hits) => (Verdict::Within, 0),
        Hits::Add(hits) => (Verdict::Over, algorithm.fits_after_ms(state, hits, now)),
    };
    let Hits::Add(hits) = hits else { unreachable!("giving back was answered above") };
    let counts = verdict == Verdict::Within || (A::COUNTS_WHEN_OVER && charging != Charging::AllOrNothing);
    let charged = counts && hits > 0 && algorithm.takes_more(state);
    if charged {
        algorithm.add(state, hits.min(HITS_MAX), now);
    }
    let reset_after_ms = if verdict.is_over() { over_reset } else { algorithm.room_after_ms(state, now) };
    Tally { verdict, charged, used: algorithm.used(state), reset_after_ms }
}

// === impl Counter ===

impl Counter {
    /// Whether it holds nothing, so that it needn't be kept. One whose hits have left since it was last written still
    /// says no.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Counter::Log(log) => log.is_empty(),
            Counter::Fixed(count) => count.is_empty(),
            Counter::Sum(sum) => sum.is_empty(),
            Counter::Bucket(debt) => debt.is_empty(),
            Counter::Gate(state) => state.is_none(),
        }
    }

    /// Hits held when it was last written. A gate, whose limit nobody may lose, counts as full.
    #[must_use]
    pub fn used(&self) -> u64 {
        match self {
            Counter::Log(log) => log.sum(),
            Counter::Fixed(count) => count.hits(),
            Counter::Sum(sum) => sum.hits(),
            Counter::Bucket(debt) => debt.tokens(),
            Counter::Gate(_) => HITS_MAX,
        }
    }

    /// The instant in milliseconds since the epoch from which on it holds nothing, if it isn't charged again.
    #[must_use]
    pub fn empty_from_ms(&self, policy: &Policy) -> u64 {
        match (self, policy) {
            (Counter::Log(log), Policy::SlidingWindow(policy)) => log.empty_from_ms(policy),
            (Counter::Fixed(count), Policy::FixedWindow(policy)) => count.empty_from_ms(policy),
            (Counter::Sum(_), Policy::ReferenceWindow(policy)) => policy.empty_from_ms(),
            (Counter::Bucket(debt), _) => debt.keep_until_ms(),
            (Counter::Gate(state), _) => state.map_or(0, |state| state.keep_until_ms()),
            (Counter::Log(_), _) | (Counter::Fixed(_), _) | (Counter::Sum(_), _) => 0,
        }
    }

    /// Hands its packed form to `read`: the very bytes that the Redis store keeps, none if it is empty.
    pub fn with_packed<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            _ if self.is_empty() => read(&[]),
            Counter::Log(log) => read(log.as_bytes()),
            Counter::Fixed(count) => read(&count.to_bytes()),
            Counter::Sum(sum) => sum.with_packed(read),
            Counter::Bucket(debt) => read(&debt.to_bytes()),
            Counter::Gate(state) => {
                state.map_or_else(|| unreachable!("an empty one was read above"), |state| read(&state.to_bytes()))
            }
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Whether the charge had no room, now or ever.
    #[must_use]
    pub fn is_over(self) -> bool {
        self != Verdict::Within
    }
}

/// Reads a whole number of up to 8 bytes, lowest byte first.
fn read_number(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}

/// Writes a whole number into up to 8 bytes, lowest byte first.
fn write_number(bytes: &mut [u8], number: u64) {
    let length = bytes.len();
    bytes.copy_from_slice(&number.to_le_bytes()[..length]);
}
