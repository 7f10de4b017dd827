//! A charge that is made where a packed counter lies, without unpacking it.
//!
//! Most charges change a counter in few bytes: there is room, nothing has left the window since the last hit, and the
//! packed form is as long afterwards as it was. Unpacking and packing such a counter costs several times what its
//! arithmetic does. [`Policy::charge_in_place`] recognizes these charges; all others go by
//! [`decide`](super::decide()), which this agrees with to the byte wherever it has an answer.

use super::log::SlidingWindow;
use super::{Algorithm, Charging, GateState, NOW_MAX, Policy, Tally, Verdict};
use super::{bucket, charge, fixed, gate, read_number, write_number};
use crate::clock::Timestamp;
use crate::descriptor::Hits;

/// What a charge makes of a packed counter whose form stays as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InPlace {
    /// What the counter says.
    pub(crate) tally: Tally,
    /// As [`Counter::empty_from_ms`](super::Counter::empty_from_ms) has it, afterwards.
    pub(crate) empty_from_ms: u64,
    /// Some bytes of the packed form, afterwards: from where on, which, how many.
    from: usize,
    bytes: [u8; CHANGED_MAX],
    changed: usize,
}

/// Most bytes of a packed form that change: of a gate's, what belongs to decisions.
const CHANGED_MAX: usize = gate::BYTES - gate::GOVERNED_BYTES;

/// In a log: the sum, the newest tick and its hits.
const LOG_CHANGED: usize = 14;

// === impl Policy ===

impl Policy {
    /// What a charge of a counter makes of its packed form, if it is charged and its form stays: then it may be made in
    /// place, as long as the decision isn't refused by others. `None` for every other charge, which says nothing about
    /// whether there is room.
    #[must_use]
    pub(crate) fn charge_in_place(
        &self,
        packed: &[u8],
        hits: Hits,
        charging: Charging,
        now: Timestamp,
    ) -> Option<InPlace> {
        let now = now.min(NOW_MAX);
        let Hits::Add(1..) = hits else { return None };
        match self {
            Policy::SlidingWindow(policy) => policy.charge_in_place(packed, hits, now),
            Policy::FixedWindow(policy) => {
                let mut count = fixed::Count::decode(packed)?;
                let tally = charged(policy, &mut count, hits, charging, now)?;
                Some(InPlace::new(tally, count.empty_from_ms(policy), &count.to_bytes()))
            }
            Policy::TokenBucket(policy) => {
                let mut debt = bucket::Debt::decode(packed)?;
                let tally = charged(policy, &mut debt, hits, charging, now)?;
                Some(InPlace::new(tally, debt.keep_until_ms(), &debt.to_bytes()))
            }
            Policy::Gate(gate) => {
                let mut state = GateState::decode(packed)?;
                state.settle(now);
                let mut tally = gate.look(&state, hits, now);
                if tally.verdict.is_over() {
                    return None;
                }
                tally.charged = gate.admit(&mut state, hits, now);
                let change = InPlace::new(tally, state.keep_until_ms(), &state.to_bytes()[gate::GOVERNED_BYTES..]);
                Some(InPlace { from: gate::GOVERNED_BYTES, ..change })
            }
        }
    }
}

/// The tally of a charge that is made, the counter alone being asked.
fn charged<A: Algorithm>(
    algorithm: &A,
    state: &mut A::State,
    hits: Hits,
    charging: Charging,
    now: Timestamp,
) -> Option<Tally> {
    algorithm.settle(state, now);
    let tally = charge(algorithm, state, hits, charging, now);
    (tally.verdict == Verdict::Within && tally.charged).then_some(tally)
}

// === impl SlidingWindow ===

impl SlidingWindow {
    /// For hits of the newest tick, where no pair has left and the log has this policy's form.
    fn charge_in_place(&self, packed: &[u8], hits: Hits, now: Timestamp) -> Option<InPlace> {
        let Hits::Add(hits) = hits else { return None };
        let header = super::log::header(packed)?;
        if !self.keeps_form_of(&header) || now.as_millis() / u64::from(self.tick_ms()) > header.newest {
            return None;
        }
        let oldest = super::log::oldest(packed, &header);
        let fits = hits <= self.capacity() && header.sum + hits <= self.capacity();
        if !fits || (oldest as i64) < self.edge(header.tick, now) {
            return None;
        }
        let used = header.sum + hits;
        let reset_after_ms = self.leaves_after_ms(oldest, now);
        let tally = Tally { verdict: Verdict::Within, charged: true, used, reset_after_ms };
        let mut bytes = [0; LOG_CHANGED];
        bytes.copy_from_slice(&packed[..LOG_CHANGED]);
        write_number(&mut bytes[0..4], used);
        write_number(&mut bytes[10..14], read_number(&packed[10..14]) + hits);
        Some(InPlace::new(tally, self.leaves_at_ms(header.newest, header.tick), &bytes))
    }
}

// === impl InPlace ===

impl InPlace {
    fn new(tally: Tally, empty_from_ms: u64, changed: &[u8]) -> InPlace {
        let mut bytes = [0; CHANGED_MAX];
        bytes[..changed.len()].copy_from_slice(changed);
        InPlace { tally, empty_from_ms, from: 0, bytes, changed: changed.len() }
    }

    /// Makes the charge. `packed` is what was asked about.
    pub(crate) fn write(&self, packed: &mut [u8]) {
        packed[self.from..self.from + self.changed].copy_from_slice(&self.bytes[..self.changed]);
    }
}
