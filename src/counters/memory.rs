//! Counters in this process: the store of a single replica, and what rules fall back to while Redis is away.
//!
//! Keys are spread over shards, each a hash table behind its own lock. A decision locks the shards of all its counters
//! in ascending order, so that it is atomic and two decisions never wait for each other in a circle. Nearly all decisions
//! are then made where the counters lie (`window::in_place`); the others take them out, decide with
//! [`window::decide`](crate::window::decide()) and put back what changed. Nothing waits for anything else while it holds
//! a lock.
//!
//! **Small.** A counter is one allocation that holds key and packed state (`shard.rs`), about 100 bytes with its
//! share of the table when it was hit once. The seed of the hash is drawn at start, so callers can't choose values
//! that all fall into one bucket.
//!
//! **Bounded.** There are at most [`MemoryLimits::keys_max`] counters. When a shard is full, a few are looked at at
//! random: one that is over by now makes room, else the one that is least used up, because forgetting it lets the
//! fewest extra hits pass. That is counted ([`MemoryStore::evictions`]): from then on limits are no longer strict for
//! callers who can make up new keys faster than windows pass.

mod shard;
#[cfg(test)]
mod tests;

use std::future::{Future, ready};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use tokio::time::Instant;

use self::shard::Shard;
use crate::clock::{Clock, Timestamp};
use crate::counters::{Charges, CounterStore, StoreError, Tallies};
use crate::key::CounterKey;
use crate::window::decide::decide_on_copies;
use crate::window::in_place::InPlace;
use crate::window::{Counter, Gate, GateState, Governed, Member, Policy};

/// How much a memory store may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Most counters, at least 1. A counter that was hit once takes about 100 bytes, a full one of the default
    /// precision about 300, plus what its key is longer than 30 bytes.
    pub keys_max: usize,
}

/// Counters in memory.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Box<dyn Clock>,
    hasher: RandomState,
    /// A power of two of them.
    shards: Box<[Mutex<Shard>]>,
    evictions: AtomicU64,
    /// Which shard [`MemoryStore::sweep`] looks at next.
    next_swept: AtomicUsize,
}

/// Most shards: enough for the threads of a large machine to rarely meet.
const SHARDS_MAX: usize = 64;

/// Fewest counters of a shard when there are several: with fewer, chance would fill one long before the others.
const SHARD_KEYS_MIN: usize = 1_024;

// === impl MemoryLimits ===

impl Default for MemoryLimits {
    /// A million counters: 100 to 300 MB when all are in use.
    fn default() -> MemoryLimits {
        MemoryLimits { keys_max: 1_000_000 }
    }
}

// === impl MemoryStore ===

impl MemoryStore {
    /// Counters a [`MemoryStore::sweep`] looks at under one lock: some ten microseconds.
    pub const SWEEP_SLICE: usize = 512;

    /// An empty store that takes the time from `clock`.
    #[must_use]
    pub fn new(clock: impl Clock, limits: MemoryLimits) -> MemoryStore {
        let keys_max = limits.keys_max.max(1);
        let shards = (keys_max / SHARD_KEYS_MIN).clamp(1, SHARDS_MAX);
        let shards = 1 << shards.ilog2();
        // Rounded down, so that all shards together keep the bound.
        let shard = || Mutex::new(Shard::new(keys_max / shards));
        MemoryStore {
            clock: Box::new(clock),
            hasher: RandomState::default(),
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            evictions: AtomicU64::new(0),
            next_swept: AtomicUsize::new(0),
        }
    }

    /// Decides and charges at the clock's present. [`CounterStore::charge`] is this and never waits or fails.
    pub fn decide(&self, charges: &Charges) -> Tallies {
        let members = charges.members.iter();
        let hashes: Hashes = members.map(|charge| self.hasher.hash_one(charge.key.as_bytes())).collect();
        let mut shards = Locked::lock(self, &hashes);
        let places = shards.likely_places(&hashes);
        // Read under the locks, so that decisions about one counter are dated in the order in which they are made.
        let now = self.clock.now();
        decide_in_place(charges, &hashes, &places, &mut shards, now)
            .unwrap_or_else(|| self.decide_unpacked(charges, &hashes, &mut shards, now))
    }

    /// Decides by taking counters out and putting back those that were charged.
    fn decide_unpacked(&self, charges: &Charges, hashes: &[u64], shards: &mut Locked<'_>, now: Timestamp) -> Tallies {
        let asked = Asked::new(charges, hashes);
        let mut counters: SmallVec<[Counter; 2]> = asked
            .counters
            .iter()
            .map(|at| {
                let member = &charges.members[*at];
                shards.of(*at).get(hashes[*at], member.key.as_bytes(), &member.policy)
            })
            .collect();
        let decided = decide_on_copies(&mut counters, &asked.members, charges.charging, now);
        let mut evictions = 0;
        for (counter, written) in decided.written.iter().enumerate() {
            if *written {
                let at = asked.counters[counter];
                let (member, hash) = (&charges.members[at], hashes[at]);
                let key = member.key.as_bytes();
                evictions += shards.of(at).put(&self.hasher, hash, key, &counters[counter], &member.policy, now);
            }
        }
        if evictions > 0 {
            self.evictions.fetch_add(evictions, Ordering::Relaxed);
        }
        decided.tallies
    }

    /// The state of a gate; `None` if it has none or the key is another counter's.
    #[must_use]
    pub fn gate(&self, key: &CounterKey) -> Option<GateState> {
        let hash = self.hasher.hash_one(key.as_bytes());
        lock(&self.shards[self.shard_of(hash)]).gate(hash, key.as_bytes())
    }

    /// Writes the limit of a gate and leaves its tokens and counts as they are; a gate without state begins with a
    /// second's worth of it.
    pub fn govern(&self, key: &CounterKey, governed: Governed) {
        let hash = self.hasher.hash_one(key.as_bytes());
        let mut shard = lock(&self.shards[self.shard_of(hash)]);
        let now = self.clock.now();
        let state = shard.gate(hash, key.as_bytes());
        let state = state.map_or_else(|| GateState::new(governed, now), |state| state.governed_by(governed));
        let policy = Policy::Gate(Gate { start: governed.limit, observed: false });
        let counter = Counter::Gate(Some(state));
        let evictions = shard.put(&self.hasher, hash, key.as_bytes(), &counter, &policy, now);
        self.evictions.fetch_add(evictions, Ordering::Relaxed);
    }

    /// The store's present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How many counters it holds, those included that are over and not yet swept out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether it holds no counters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counters forgotten before their hits had left, because the store was full.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Drops counters whose hits have all left, and returns how many. Called every second it passes over the whole
    /// store in a minute or less; a shard is locked for [`MemoryStore::SWEEP_SLICE`] counters at a time.
    ///
    /// Decisions don't depend on it, as an old counter counts for nothing; but a full store that isn't swept forgets
    /// counters that still hold hits more often.
    pub fn sweep(&self) -> usize {
        let at_once = self.shards.len().div_ceil(SHARDS_MAX / 4);
        let first = self.next_swept.fetch_add(at_once, Ordering::Relaxed);
        let mut dropped = 0;
        for shard in (0..at_once).map(|more| &self.shards[first.wrapping_add(more) % self.shards.len()]) {
            let mut from = Some(0);
            while let Some(bucket) = from {
                let now = self.clock.now();
                let (next, count) = lock(shard).sweep(bucket, MemoryStore::SWEEP_SLICE, now);
                (from, dropped) = (next, dropped + count);
            }
        }
        dropped
    }

    fn shard_of(&self, hash: u64) -> usize {
        // The table takes its place from the low bits and its tag from the highest seven: these are between.
        (hash >> 40) as usize & (self.shards.len() - 1)
    }
}

impl CounterStore for MemoryStore {
    fn answers_at_once(&self) -> bool {
        true
    }

    fn charge<'s>(
        &'s self,
        charges: &Charges,
        _deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s> {
        ready(Ok(self.decide(charges)))
    }
}

/// The hash of each member's key.
type Hashes = SmallVec<[u64; 4]>;

/// Where each member's counter most likely is in its shard's table.
type Places = SmallVec<[Option<usize>; 4]>;

/// Decides where the counters lie, if all members have room and none changes its counter's form: as nearly always.
/// Then nothing can refuse the decision, whatever its members' enforcement.
fn decide_in_place(
    charges: &Charges,
    hashes: &[u64],
    places: &[Option<usize>],
    shards: &mut Locked<'_>,
    now: Timestamp,
) -> Option<Tallies> {
    let mut changes: SmallVec<[(usize, InPlace); 4]> = SmallVec::new();
    for (at, charge) in charges.members.iter().enumerate() {
        let hash = hashes[at];
        // The second charge of a counter would have to see the first.
        if hashes[..at].contains(&hash) {
            return None;
        }
        changes.push(shards.of(at).find_in_place(hash, places[at], charge, charges.charging, now)?);
    }
    let charged = charges.members.iter().zip(&changes).enumerate();
    let charged = charged.map(|(at, (charge, (place, change)))| {
        shards.of(at).charge_in_place(*place, change, &charge.policy);
        change.tally
    });
    Some(charged.collect())
}

/// A decision's members by counter: equal keys are one.
struct Asked {
    /// Per counter, a member that charges it.
    counters: SmallVec<[usize; 4]>,
    members: SmallVec<[Member; 4]>,
}

/// The shards of one decision, locked.
struct Locked<'a> {
    /// In ascending order of the shards, each once.
    guards: SmallVec<[MutexGuard<'a, Shard>; 4]>,
    /// Which of them each member's counter is in.
    of_members: SmallVec<[u32; 4]>,
}

// === impl Asked ===

impl Asked {
    fn new(charges: &Charges, hashes: &[u64]) -> Asked {
        let mut asked = Asked { counters: SmallVec::new(), members: SmallVec::new() };
        for (at, charge) in charges.members.iter().enumerate() {
            // A decision has a handful of members; comparing hashes keeps even hundreds cheap.
            let is_it = |other: &usize| hashes[*other] == hashes[at] && charges.members[*other].key == charge.key;
            let counter = asked.counters.iter().position(is_it).unwrap_or(asked.counters.len());
            if counter == asked.counters.len() {
                asked.counters.push(at);
            }
            let (policy, hits, enforcement) = (charge.policy, charge.hits, charge.enforcement);
            asked.members.push(Member { counter, policy, hits, enforcement });
        }
        asked
    }
}

// === impl Locked ===

impl<'a> Locked<'a> {
    fn lock(store: &'a MemoryStore, hashes: &[u64]) -> Locked<'a> {
        let mut members: SmallVec<[(u32, u32); 4]> =
            hashes.iter().zip(0..).map(|(hash, member)| (store.shard_of(*hash) as u32, member)).collect();
        members.sort_unstable();
        let mut locked = Locked { guards: SmallVec::new(), of_members: SmallVec::from_elem(0, hashes.len()) };
        let mut last = None;
        for (shard, member) in members {
            if last != Some(shard) {
                locked.guards.push(lock(&store.shards[shard as usize]));
                last = Some(shard);
            }
            locked.of_members[member as usize] = locked.guards.len() as u32 - 1;
        }
        locked
    }

    /// Where each member's counter most likely is, by the tables' tags alone. Of several members it begins to fetch what
    /// the decision will look at, so that the waits for memory overlap: decided one after the other, each counter's
    /// would begin when the one before has ended.
    fn likely_places(&mut self, hashes: &[u64]) -> Places {
        let places: Places = (0..).zip(hashes).map(|(member, hash)| self.of(member).likely_place(*hash)).collect();
        if places.len() > 1 {
            for (member, place) in places.iter().enumerate() {
                self.of(member).warm(*place);
            }
        }
        places
    }

    /// The shard of a member's counter.
    fn of(&mut self, member: usize) -> &mut Shard {
        &mut self.guards[self.of_members[member] as usize]
    }
}

/// A shard is never left half changed, so one that a panicking thread held is as good as any.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
