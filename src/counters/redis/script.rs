//! The words that we exchange with `decide.lua`: many decisions into one script call, and its answer back.
//!
//! The script's head describes the bytes. What is decided here is **which decisions go together**:
//!
//! - Equal keys of a batch become one key of the call; the script charges it for each decision in turn.
//! - One key with *two policies* in one decision (two overrides of one request that differ in their limit) gets a
//!   second policy entry; both keep the counter in the form that serves both, as [`decide`](crate::window::decide()) has
//!   it. If a *later* decision brings another policy for a key (a reload, other overrides), it waits for the next
//!   call: within a call every decision must find the form that it would find alone.
//! - A call is bounded in keys, decisions and charges, because Redis does nothing else meanwhile and Lua hands over at
//!   most 8 000 values at once.
//!
//! The answer comes from the network: its length and every flag are checked before anything is believed.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::counters::{Charges, StoreError, Tallies};
use crate::descriptor::Hits;
use crate::key::CounterKey;
use crate::window::{Charging, Enforcement, HITS_MAX, Policy, Tally, Verdict};

/// The script's text, for `SCRIPT LOAD` and `EVAL`.
pub const SCRIPT: &str = include_str!("decide.lua");

/// Decisions that share one script call.
#[derive(Debug)]
pub struct Batch {
    keys: Vec<CounterKey>,
    /// Per key, whether it was charged with more than one policy.
    mixed: Vec<bool>,
    /// Numbers of keys, found by the hash of the key.
    index: HashTable<u16>,
    hasher: RandomState,
    /// One per key and in the keys' order.
    policies: Vec<Policy>,
    /// Policies that charge a key a second time in another way.
    more: Vec<(u16, Policy)>,
    /// Packed as the script reads them. Policy numbers of `more` follow those of all keys, which are not yet known:
    /// they have [`MORE`] added and are made right when the call is written.
    charges: Vec<PackedCharge>,
    /// Charges of each decision.
    decisions: Vec<u16>,
}

#[derive(Clone, Copy, Debug)]
struct PackedCharge {
    policy: u16,
    flags: u8,
    hits: u64,
}

/// Added to the numbers of further policies until the number of keys is known.
const MORE: u16 = 1 << 15;

const GIVE_BACK: u8 = 4;
const EACH: u8 = 8;
const LAST: u8 = 16;

const KIND_FIXED_WINDOW: u8 = 5;
const KIND_TOKEN_BUCKET: u8 = 6;

/// Bytes of the answer to one charge.
const ANSWER: usize = 13;

/// The script's SHA-1 in hexadecimal, for `EVALSHA`.
#[must_use]
pub fn sha1() -> &'static str {
    static LOADED: LazyLock<::redis::Script> = LazyLock::new(|| ::redis::Script::new(SCRIPT));
    LOADED.get_hash()
}

// === impl Batch ===

impl Batch {
    /// Most keys of one call: with at most that many, the script holds Redis's only thread for less than a
    /// millisecond.
    pub const KEYS_MAX: usize = 512;

    /// Most decisions of one call.
    pub const DECISIONS_MAX: usize = 128;

    /// Most charges of one call, several to one key included: three values of each are handed over at once.
    pub const CHARGES_MAX: usize = 1_024;

    /// A batch of no decisions.
    #[must_use]
    pub fn new() -> Batch {
        Batch {
            keys: Vec::new(),
            mixed: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            policies: Vec::new(),
            more: Vec::new(),
            charges: Vec::new(),
            decisions: Vec::new(),
        }
    }

    /// Whether one call can hold this decision at all: it has at most [`Batch::KEYS_MAX`] charges.
    #[must_use]
    pub fn can_hold(charges: &Charges) -> bool {
        charges.members.len() <= Batch::KEYS_MAX
    }

    /// Adds a decision, if there is room for it and no key in it has another policy here. An empty batch takes every
    /// decision that [`Batch::can_hold`].
    #[must_use]
    pub fn try_push(&mut self, charges: &Charges) -> bool {
        let members = &charges.members;
        let is_full = self.decisions.len() >= Batch::DECISIONS_MAX
            || self.keys.len() + members.len() > Batch::KEYS_MAX
            || self.charges.len() + members.len() > Batch::CHARGES_MAX;
        if is_full {
            return false;
        }
        let hashes: SmallVec<[u64; 8]> =
            members.iter().map(|member| self.hasher.hash_one(member.key.as_bytes())).collect();
        for (member, hash) in members.iter().zip(&hashes) {
            if let Some(number) = self.find(*hash, &member.key) {
                let number = usize::from(number);
                if self.mixed[number] || self.policies[number] != member.policy {
                    return false;
                }
            }
        }

        let more_before = self.more.len();
        for (member, hash) in members.iter().zip(hashes) {
            let policy = match self.find(hash, &member.key) {
                None => self.add_key(hash, member.key.clone(), member.policy),
                Some(number) => self.add_policy(number, member.policy, more_before),
            };
            self.charges.push(PackedCharge::new(policy, member.hits, member.enforcement, charges.charging));
        }
        if !members.is_empty() {
            self.charges.last_mut().expect("one was pushed just now").flags |= LAST;
        }
        self.share_forms(more_before);
        self.decisions.push(members.len() as u16);
        true
    }

    /// How many decisions it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.decisions.len()
    }

    /// Whether it holds no decision.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }

    /// Forgets all decisions and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.mixed.clear();
        self.index.clear();
        self.policies.clear();
        self.more.clear();
        self.charges.clear();
        self.decisions.clear();
    }

    /// The call's keys, all different. If there are none (decisions without charges), there is nothing to call.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.keys.iter().map(CounterKey::as_bytes)
    }

    /// The call's arguments: policies and charges.
    #[must_use]
    pub fn arguments(&self) -> [Vec<u8>; 2] {
        let mut policies = Vec::with_capacity(17 * self.keys.len() + 19 * self.more.len());
        for policy in self.policies.iter().chain(self.more.iter().map(|(_, policy)| policy)) {
            write_policy(&mut policies, policy);
        }
        for (number, _) in &self.more {
            policies.extend_from_slice(&(number + 1).to_le_bytes());
        }
        let mut charges = Vec::with_capacity(9 * self.charges.len());
        for charge in &self.charges {
            let policy = if charge.policy >= MORE {
                charge.policy - MORE + self.keys.len() as u16 + 1
            } else {
                charge.policy + 1
            };
            charges.extend_from_slice(&policy.to_le_bytes());
            charges.push(charge.flags);
            charges.extend_from_slice(&charge.hits.to_le_bytes()[..6]);
        }
        [policies, charges]
    }

    /// Reads the script's answer: one result per decision, in the order in which they were pushed. A decision's own
    /// error means that it alone was not made.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the answer is none of this batch: nothing in it can be believed then.
    pub fn decode(&self, answer: &[u8]) -> Result<Vec<Result<Tallies, StoreError>>, StoreError> {
        let wanted = self.charges.len() * ANSWER;
        if answer.len() != wanted {
            let reason = format!("the script answered {} bytes instead of {wanted}", answer.len());
            return Err(StoreError::Refused { reason });
        }
        let mut answers = self.charges.iter().zip(answer.chunks_exact(ANSWER));
        let mut decisions = Vec::with_capacity(self.decisions.len());
        for members in &self.decisions {
            let mut tallies = Tallies::new();
            let mut fault = None;
            for (charge, answer) in answers.by_ref().take(usize::from(*members)) {
                match read_answer(charge, answer)? {
                    Ok(tally) => tallies.push(tally),
                    Err(reason) => fault = Some(StoreError::Refused { reason: reason.to_owned() }),
                }
            }
            decisions.push(fault.map_or(Ok(tallies), Err));
        }
        Ok(decisions)
    }

    fn find(&self, hash: u64, key: &CounterKey) -> Option<u16> {
        self.index.find(hash, |number| self.keys[usize::from(*number)] == *key).copied()
    }

    fn add_key(&mut self, hash: u64, key: CounterKey, policy: Policy) -> u16 {
        let number = self.keys.len() as u16;
        self.keys.push(key);
        self.mixed.push(false);
        self.policies.push(policy);
        let (keys, hasher) = (&self.keys, &self.hasher);
        self.index.insert_unique(hash, number, |number| hasher.hash_one(keys[usize::from(*number)].as_bytes()));
        number
    }

    /// The number of the policy by which a decision charges a key that is known already. Keys name algorithm and
    /// window, so no rule set brings one under two of them; if one did, the first would hold.
    fn add_policy(&mut self, number: u16, policy: Policy, more_before: usize) -> u16 {
        let first = &self.policies[usize::from(number)];
        if *first == policy || !are_alike(first, &policy) {
            return number;
        }
        self.mixed[usize::from(number)] = true;
        let known = self.more[more_before..].iter().position(|(key, more)| *key == number && *more == policy);
        let at = known.map_or(self.more.len(), |at| more_before + at);
        if known.is_none() {
            self.more.push((number, policy));
        }
        MORE + at as u16
    }

    /// Gives all policies of a key that the last decision charged in several ways one form.
    fn share_forms(&mut self, more_before: usize) {
        let (policies, more) = (&mut self.policies, &mut self.more[more_before..]);
        for (number, policy) in more.iter() {
            let first = &mut policies[usize::from(*number)];
            *first = first.sharing_form_with(policy);
        }
        for (number, policy) in more {
            *policy = policy.sharing_form_with(&policies[usize::from(*number)]);
        }
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

// === impl PackedCharge ===

impl PackedCharge {
    fn new(policy: u16, hits: Hits, enforcement: Enforcement, charging: Charging) -> PackedCharge {
        let mut flags = match enforcement {
            Enforcement::Enforced => 0,
            Enforcement::Quota => 1,
            Enforcement::Shadow => 2,
        };
        if charging == Charging::Each {
            flags |= EACH;
        }
        let hits = match hits {
            Hits::Add(hits) => hits,
            Hits::GiveBack(hits) => {
                flags |= GIVE_BACK;
                hits
            }
        };
        PackedCharge { policy, flags, hits: hits.min(HITS_MAX) }
    }
}

/// Whether two policies can charge one counter: they have the same algorithm and window.
fn are_alike(one: &Policy, other: &Policy) -> bool {
    match (one, other) {
        (Policy::SlidingWindow(one), Policy::SlidingWindow(other)) => one.window() == other.window(),
        (Policy::FixedWindow(one), Policy::FixedWindow(other)) => one.window() == other.window(),
        (Policy::TokenBucket(one), Policy::TokenBucket(other)) => one.window() == other.window(),
        (Policy::SlidingWindow(_), _) | (Policy::FixedWindow(_), _) | (Policy::TokenBucket(_), _) => false,
    }
}

fn write_policy(out: &mut Vec<u8>, policy: &Policy) {
    let (kind, four, six, six_more) = match policy {
        Policy::SlidingWindow(policy) => {
            (policy.pair_format(), policy.limit(), policy.window().millis(), u64::from(policy.tick_ms()))
        }
        Policy::FixedWindow(policy) => (KIND_FIXED_WINDOW, policy.limit(), policy.window().millis(), 0),
        Policy::TokenBucket(policy) => (KIND_TOKEN_BUCKET, policy.drain(), policy.cost(), u64::from(policy.burst())),
    };
    out.push(kind);
    out.extend_from_slice(&four.to_le_bytes());
    out.extend_from_slice(&six.to_le_bytes()[..6]);
    out.extend_from_slice(&six_more.to_le_bytes()[..6]);
}

/// Reads the answer to one charge; the outer error is an answer that no script of ours gives.
fn read_answer(charge: &PackedCharge, answer: &[u8]) -> Result<Result<Tally, &'static str>, StoreError> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (first, reset_after_ms) = (number(&answer[..7]), number(&answer[7..]));
    let (used, flags) = (first >> 4, first & 15);
    let verdict = match flags & 3 {
        0 => Verdict::Within,
        1 => Verdict::Over,
        _ => Verdict::Never,
    };
    let never_over = charge.flags & GIVE_BACK != 0;
    match flags {
        8 => Ok(Err("a counter's key holds something else than a string; another program writes there")),
        9 => Ok(Err("a counter's key holds a string that is no counter; another program writes there")),
        0..=2 | 4..=6 if used <= HITS_MAX && !(never_over && verdict.is_over()) => {
            Ok(Ok(Tally { verdict, charged: flags & 4 != 0, used, reset_after_ms }))
        }
        _ => Err(StoreError::Refused { reason: format!("the script answered {answer:02x?}, which means nothing") }),
    }
}
