//! One shard: counters by key, each a single allocation.
//!
//! ```text
//! 4  length of the key | 6  empty from, ms since the epoch | 1  fill | key | packed state
//! ```
//!
//! *Empty from* is the instant from which on the counter holds nothing; *fill* is how much of its capacity it had
//! used when it was last written, in 254ths; 255 is a gate, which is never forgotten for another. With both at hand,
//! neither sweeping nor choosing whom to forget has to know rules or to unpack states.

use std::hash::BuildHasher;
use std::hint::black_box;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::clock::Timestamp;
use crate::counters::Charge;
use crate::window::in_place::InPlace;
use crate::window::{Charging, Counter, GateState, Policy};

/// A bounded table of counters.
#[derive(Debug)]
pub(super) struct Shard {
    records: HashTable<Record>,
    keys_max: usize,
    /// Where the last search for one to forget ended: a walk that new keys can't foresee, as their places are hashed
    /// with a secret seed.
    hand: usize,
}

/// Key and state of one counter, packed as drawn above.
#[derive(Debug)]
struct Record(Box<[u8]>);

/// Counters looked at when one must be forgotten. Eight find one of the emptiest tenth in more than half of all cases.
const CANDIDATES: usize = 8;

/// Places of the table looked at for them at most: tables are at least half full when they are at their bound.
const PLACES_MAX: usize = 64;

/// The fill of a gate.
const GATE: u8 = u8::MAX;

/// Where the parts of a record stand.
const EMPTY_FROM: std::ops::Range<usize> = 4..10;
const FILL: usize = 10;
const KEY: usize = 11;

// === impl Shard ===

impl Shard {
    pub(super) fn new(keys_max: usize) -> Shard {
        Shard { records: HashTable::new(), keys_max, hand: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes that are allocated for it, as a usual allocator rounds them: 8 of its own, then up to the next 16.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        let records = self.records.iter().map(|record| (record.0.len() + 8).next_multiple_of(16));
        self.records.allocation_size() + records.sum::<usize>()
    }

    /// The counter of that key, an empty one if it isn't here.
    pub(super) fn get(&self, hash: u64, key: &[u8], policy: &Policy) -> Counter {
        self.records
            .find(hash, |record| record.key() == key)
            .and_then(|record| policy.decode_counter(record.state()))
            .unwrap_or_else(|| policy.empty_counter())
    }

    /// The state of the gate of that key.
    pub(super) fn gate(&self, hash: u64, key: &[u8]) -> Option<GateState> {
        self.records
            .find(hash, |record| record.key() == key)
            .filter(|record| record.fill() == GATE)
            .and_then(|record| GateState::decode(record.state()))
    }

    /// Where a counter of that hash most likely is, by the table's tags alone.
    pub(super) fn likely_place(&self, hash: u64) -> Option<usize> {
        self.records.find_bucket_index(hash, |_| true)
    }

    /// Loads what lies at that place.
    pub(super) fn warm(&self, place: Option<usize>) {
        if let Some(record) = place.and_then(|place| self.records.get_bucket(place)) {
            // The key's length is in the first line, the pairs begin in the second or third.
            for at in [0, KEY + 53, KEY + 117] {
                black_box(record.0.get(at).copied());
            }
        }
    }

    /// Where the counter of a charge lies and what is made of it there, if the charge can be made in place. It is
    /// looked for where it [most likely](Shard::likely_place) is first.
    pub(super) fn find_in_place(
        &self,
        hash: u64,
        likely: Option<usize>,
        charge: &Charge,
        charging: Charging,
        now: Timestamp,
    ) -> Option<(usize, InPlace)> {
        let key = charge.key.as_bytes();
        let is_there = |place: &usize| self.records.get_bucket(*place).is_some_and(|record| record.key() == key);
        let place = likely.filter(is_there);
        let place = place.or_else(|| self.records.find_bucket_index(hash, |record| record.key() == key))?;
        let record = self.records.get_bucket(place)?;
        let change = charge.policy.charge_in_place(record.state(), charge.hits, charging, now)?;
        Some((place, change))
    }

    /// Makes a charge that [`Shard::find_in_place`] found, nothing having happened to the shard since.
    pub(super) fn charge_in_place(&mut self, place: usize, change: &InPlace, policy: &Policy) {
        if let Some(record) = self.records.get_bucket_mut(place) {
            record.charge(change, policy);
        }
    }

    /// Keeps the counter under that key, or forgets the key if the counter is empty. Returns how many other counters
    /// had to be forgotten for it before their time.
    pub(super) fn put(
        &mut self,
        hasher: &RandomState,
        hash: u64,
        key: &[u8],
        counter: &Counter,
        policy: &Policy,
        now: Timestamp,
    ) -> u64 {
        let rehash = |record: &Record| hasher.hash_one(record.key());
        let mut evictions = 0;
        if counter.is_empty() {
            if let Ok(entry) = self.records.find_entry(hash, |record| record.key() == key) {
                entry.remove();
            }
            return 0;
        }
        if self.records.len() >= self.keys_max && self.records.find(hash, |record| record.key() == key).is_none() {
            evictions = u64::from(self.make_room(now));
        }
        match self.records.entry(hash, |record| record.key() == key, rehash) {
            Entry::Occupied(mut entry) => entry.get_mut().update(counter, policy),
            Entry::Vacant(entry) => {
                entry.insert(Record::new(key, counter, policy));
            }
        }
        evictions
    }

    /// Drops the counters that are empty by now among `slice` places from `place` on. Returns where to go on, if there
    /// is more, and how many went.
    pub(super) fn sweep(&mut self, place: usize, slice: usize, now: Timestamp) -> (Option<usize>, usize) {
        let end = place.saturating_add(slice).min(self.records.num_buckets());
        let mut dropped = 0;
        for place in place..end {
            if self.records.get_bucket(place).is_some_and(|record| record.is_empty_at(now)) {
                dropped += usize::from(self.remove(place));
            }
        }
        ((end < self.records.num_buckets()).then_some(end), dropped)
    }

    /// Forgets one counter: one that is empty by now, else the least used of a few. Returns whether it was before its
    /// time.
    fn make_room(&mut self, now: Timestamp) -> bool {
        let places = self.records.num_buckets();
        let (mut least, mut seen) = (None, 0);
        for step in 0..places {
            let place = (self.hand + step) % places;
            let Some(record) = self.records.get_bucket(place) else { continue };
            if record.is_empty_at(now) {
                self.hand = place + 1;
                self.remove(place);
                return false;
            }
            if record.fill() < GATE && least.is_none_or(|(fill, _)| record.fill() < fill) {
                least = Some((record.fill(), place));
            }
            seen += 1;
            if seen == CANDIDATES || step >= PLACES_MAX {
                self.hand = place + 1;
                break;
            }
        }
        least.is_some_and(|(_, place)| self.remove(place))
    }

    fn remove(&mut self, place: usize) -> bool {
        self.records.get_bucket_entry(place).is_ok_and(|entry| {
            entry.remove();
            true
        })
    }
}

// === impl Record ===

impl Record {
    fn new(key: &[u8], counter: &Counter, policy: &Policy) -> Record {
        counter.with_packed(|state| {
            let mut bytes = Vec::with_capacity(KEY + key.len() + state.len());
            bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            bytes.resize(KEY, 0);
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(state);
            let mut record = Record(bytes.into_boxed_slice());
            record.note(counter.used(), counter.empty_from_ms(policy), policy);
            record
        })
    }

    fn update(&mut self, counter: &Counter, policy: &Policy) {
        let state_at = KEY + self.key().len();
        counter.with_packed(|state| {
            if self.0.len() == state_at + state.len() {
                self.0[state_at..].copy_from_slice(state);
            } else {
                self.0 = [&self.0[..state_at], state].concat().into_boxed_slice();
            }
        });
        self.note(counter.used(), counter.empty_from_ms(policy), policy);
    }

    fn note(&mut self, used: u64, empty_from_ms: u64, policy: &Policy) {
        let capacity = policy.capacity().max(1);
        let fill = match policy {
            Policy::Gate(_) => GATE,
            _ => (used.min(capacity) * u64::from(GATE - 1) / capacity) as u8,
        };
        // Two of the reference's limits can share a key: the one with the longer window keeps it.
        let empty_from_ms = match policy {
            Policy::ReferenceWindow(_) => empty_from_ms.max(self.empty_from_ms()),
            _ => empty_from_ms,
        };
        self.0[EMPTY_FROM].copy_from_slice(&empty_from_ms.to_le_bytes()[..6]);
        self.0[FILL] = fill;
    }

    fn key(&self) -> &[u8] {
        let length = u32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]);
        &self.0[KEY..KEY + length as usize]
    }

    fn state(&self) -> &[u8] {
        &self.0[KEY + self.key().len()..]
    }

    fn charge(&mut self, change: &InPlace, policy: &Policy) {
        let state_at = KEY + self.key().len();
        if change.keeps_length() {
            change.write(&mut self.0[state_at..]);
        } else {
            let (before, state) = self.0.split_at(state_at);
            self.0 = change.written_behind(before, state);
        }
        self.note(change.tally.used, change.empty_from_ms, policy);
    }

    fn empty_from_ms(&self) -> u64 {
        let mut empty_from = [0; 8];
        empty_from[..6].copy_from_slice(&self.0[EMPTY_FROM]);
        u64::from_le_bytes(empty_from)
    }

    fn is_empty_at(&self, now: Timestamp) -> bool {
        self.empty_from_ms() <= now.as_millis()
    }

    fn fill(&self) -> u8 {
        self.0[FILL]
    }
}
