//! A charge that is made where a packed counter lies, without unpacking it.
//!
//! Most charges change a counter in few bytes: there is room, and of a log the oldest pairs leave or a new one joins at
//! most. Unpacking and packing such a counter costs several times what its arithmetic does. [`Policy::charge_in_place`]
//! recognizes these charges; all others go by [`decide`](super::decide()), which this agrees with to the byte wherever it
//! has an answer.

use super::log::{self, HEADER, Pair, SlidingWindow};
use super::{Algorithm, Charging, GateState, NOW_MAX, Policy, Tally, Verdict};
use super::{bucket, charge, fixed, gate, reference, write_number};
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
    from: u8,
    changed: u8,
    bytes: [u8; CHANGED_MAX],
    /// In a log: how many bytes of older pairs have left, and the one that joins them.
    left: u16,
    joins: Option<Pair>,
}

/// Most bytes of a packed form that change: of a gate's, what belongs to decisions.
const CHANGED_MAX: usize = gate::BYTES - gate::GOVERNED_BYTES;

const _: () = assert!(gate::BYTES <= 255 && LOG_CHANGED <= CHANGED_MAX, "places in these bytes are kept in one");

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
            Policy::ReferenceWindow(policy) => {
                let mut sum = reference::Sum::decode(packed)?;
                let tally = charged(policy, &mut sum, hits, charging, now)?;
                sum.with_packed(|bytes| {
                    (bytes.len() == packed.len()).then(|| InPlace::new(tally, policy.empty_from_ms(), bytes))
                })
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
                tally.reset_after_ms = gate.full_after_ms(&state, now);
                let change = InPlace::new(tally, state.keep_until_ms(), &state.to_bytes()[gate::GOVERNED_BYTES..]);
                Some(InPlace { from: gate::GOVERNED_BYTES as u8, ..change })
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
    /// For a log that holds something and has this policy's form.
    fn charge_in_place(&self, packed: &[u8], hits: Hits, now: Timestamp) -> Option<InPlace> {
        let Hits::Add(hits) = hits else { return None };
        let header = log::header(packed)?;
        if !self.keeps_form_of(&header) {
            return None;
        }
        let tick = now.as_millis() / u64::from(self.tick_ms());
        let edge = self.edge(header.tick, now);
        // A clock that was set back adds to the newest tick.
        let newest = tick.max(header.newest);
        let has_left = (header.newest as i64) < edge;
        let (sum, left, oldest) = if has_left {
            (0, packed.len() - HEADER, newest)
        } else {
            let left = log::left(packed, &header, edge);
            (header.sum.checked_sub(left.hits)?, left.bytes, left.oldest)
        };
        if has_left && !self.begins_in_form_of(&header) || hits > self.capacity() || sum + hits > self.capacity() {
            return None;
        }
        let used = sum + hits;
        let joins = (tick > header.newest && !has_left).then(|| header.newest_pair());
        let newest_hits = if tick > header.newest { hits } else { header.newest_hits + hits };
        let reset_after_ms = self.leaves_after_ms(oldest, now);
        let tally = Tally { verdict: Verdict::Within, charged: true, used, reset_after_ms };
        let mut bytes = [0; LOG_CHANGED];
        write_number(&mut bytes[0..4], used);
        write_number(&mut bytes[4..10], newest);
        write_number(&mut bytes[10..14], newest_hits);
        let change = InPlace::new(tally, self.leaves_at_ms(newest, header.tick), &bytes);
        Some(InPlace { left: u16::try_from(left).ok()?, joins, ..change })
    }
}

// === impl InPlace ===

impl InPlace {
    fn new(tally: Tally, empty_from_ms: u64, changed: &[u8]) -> InPlace {
        let mut bytes = [0; CHANGED_MAX];
        bytes[..changed.len()].copy_from_slice(changed);
        InPlace { tally, empty_from_ms, from: 0, changed: changed.len() as u8, bytes, left: 0, joins: None }
    }

    /// Whether the packed form is as long afterwards as it was.
    pub(crate) fn keeps_length(&self) -> bool {
        self.joined().len() == usize::from(self.left)
    }

    /// Makes the charge. `packed` is what was asked about, and [keeps its length](InPlace::keeps_length).
    pub(crate) fn write(&self, packed: &mut [u8]) {
        if self.left > 0 {
            let left = usize::from(self.left);
            packed.copy_within(HEADER + left.., HEADER);
            let end = packed.len() - left;
            packed[end..].copy_from_slice(self.joined());
        }
        self.write_changed(packed);
    }

    /// The charged form of `packed`, which is what was asked about, behind `before`.
    pub(crate) fn written_behind(&self, before: &[u8], packed: &[u8]) -> Box<[u8]> {
        let (joined, at) = (self.joined(), before.len());
        let (head, older) = packed.split_at(HEADER.min(packed.len()));
        let older = &older[usize::from(self.left)..];
        let mut all = Vec::with_capacity(at + head.len() + older.len() + joined.len());
        for part in [before, head, older, joined] {
            all.extend_from_slice(part);
        }
        self.write_changed(&mut all[at..]);
        all.into_boxed_slice()
    }

    fn write_changed(&self, packed: &mut [u8]) {
        let (from, changed) = (usize::from(self.from), usize::from(self.changed));
        packed[from..from + changed].copy_from_slice(&self.bytes[..changed]);
    }

    fn joined(&self) -> &[u8] {
        self.joins.as_ref().map_or(&[], Pair::as_bytes)
    }
}
