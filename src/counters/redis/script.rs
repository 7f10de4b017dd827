//! The words that we exchange with `decide.lua`: many decisions into one script call, and its answer back.
//!
//! The script's head describes the bytes. What is decided here is **which decisions go together**:
//!
//! - Equal keys of a batch become one key of the call; the script charges it for each decision in turn.
//! - One key with *two policies* in one decision (two overrides of one request that differ in their limit) gets a
//!   second policy entry; both keep the counter in the form that serves both, as [`decide`](crate::window::decide()) has
//!   it. A *later* decision may bring another policy for a key (a reload, other overrides) if it keeps the counter in
//!   the same form. If not, it waits for the next call: within a call every decision must find the form that it would
//!   find alone.
//! - A call is bounded in keys, decisions and charges, because Redis does nothing else meanwhile and Lua hands over at
//!   most 8 000 values at once.
//!
//! Keys are copied once, behind each other: a decision's charges are needed no longer when it has been pushed.
//!
//! The answer comes from the network: its length and every flag are checked before anything is believed.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::expiry::kept_s;
use crate::counters::{Charge, Charges, StoreError, Tallies};
use crate::descriptor::Hits;
use crate::window::{Charging, Enforcement, HITS_MAX, Policy, Tally, Verdict};

/// The script's text, for `SCRIPT LOAD` and `EVAL`.
pub const SCRIPT: &str = include_str!("decide.lua");

/// Decisions that share one script call.
#[derive(Debug, Default)]
pub struct Batch {
    /// All keys, one behind the other.
    keys: Vec<u8>,
    /// Where each key ends.
    key_ends: Vec<u32>,
    /// Per key, whether one decision charged it with policies that keep it in different forms.
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

/// The answers of a call, one per decision, in the order in which they were pushed.
#[derive(Debug)]
pub struct Answers<'a> {
    batch: &'a Batch,
    /// What is left of the answer, checked.
    answer: &'a [u8],
    decision: usize,
}

/// A decision in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    batch: &'a Batch,
    charges: &'a [PackedCharge],
}

#[derive(Clone, Copy, Debug)]
struct PackedCharge {
    policy: u16,
    flags: u8,
    hits: u64,
}

/// A charge as it comes in: from a request, or out of another batch.
#[derive(Clone, Copy)]
struct Incoming<'a> {
    key: &'a [u8],
    policy: Policy,
    flags: u8,
    hits: u64,
}

/// Added to the numbers of further policies until the number of keys is known.
const MORE: u16 = 1 << 15;

const GIVE_BACK: u8 = 4;
const EACH: u8 = 8;
const LAST: u8 = 16;
const ONLY_OVER: u8 = 32;

const KIND_FIXED_WINDOW: u8 = 5;
const KIND_TOKEN_BUCKET: u8 = 6;
const KIND_GATE: u8 = 7;
const KIND_REFERENCE: u8 = 8;

const WRONG_TYPE: u8 = 8;
const UNREADABLE: u8 = 9;

/// How many of the latest further policies are looked through for one that is there already. Missing one costs 19 bytes.
const MORE_SEARCHED: usize = 8;

/// Bytes of a policy, of a further policy's key number, of a charge.
const POLICY: usize = 17;
const KEY_NUMBER: usize = 2;
const CHARGE: usize = 9;

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
        Batch::default()
    }

    /// Whether one call can hold this decision at all: it has at most [`Batch::KEYS_MAX`] charges.
    #[must_use]
    pub fn can_hold(charges: &Charges) -> bool {
        charges.members.len() <= Batch::KEYS_MAX
    }

    /// Adds a decision, if there is room for it and no key in it is here in another form. An empty batch takes every
    /// decision that [`Batch::can_hold`].
    #[must_use]
    pub fn try_push(&mut self, charges: &Charges) -> bool {
        self.try_add(charges.members.iter().map(|member| Incoming::new(member, charges.charging)))
    }

    /// The decisions as they are written here, in order.
    pub fn decisions(&self) -> impl Iterator<Item = Written<'_>> {
        let mut rest = &self.charges[..];
        self.decisions.iter().map(move |members| {
            let (charges, others) = rest.split_at(usize::from(*members));
            rest = others;
            Written { batch: self, charges }
        })
    }

    /// Adds a decision that another batch holds, as [`Batch::try_push`] does.
    #[must_use]
    pub fn try_push_again(&mut self, decision: &Written<'_>) -> bool {
        self.try_add(decision.charges.iter().map(|charge| decision.batch.as_incoming(charge)))
    }

    fn try_add<'a>(&mut self, members: impl ExactSizeIterator<Item = Incoming<'a>> + Clone) -> bool {
        let count = members.len();
        let is_full = self.decisions.len() >= Batch::DECISIONS_MAX
            || self.key_ends.len() + count > Batch::KEYS_MAX
            || self.charges.len() + count > Batch::CHARGES_MAX;
        if is_full {
            return false;
        }
        let mut hashes = SmallVec::<[u64; 8]>::new();
        for member in members.clone() {
            let hash = self.hasher.hash_one(member.key);
            hashes.push(hash);
            if let Some(number) = self.find(hash, member.key)
                && (self.mixed[usize::from(number)] || !self.keeps_form(number, &member.policy))
            {
                return false;
            }
        }

        let more_before = self.more.len();
        for (member, hash) in members.zip(hashes) {
            let policy = match self.find(hash, member.key) {
                None => self.add_key(hash, member.key, member.policy),
                Some(number) => self.add_policy(number, member.policy, more_before),
            };
            self.charges.push(PackedCharge { policy, flags: member.flags, hits: member.hits });
        }
        if let Some(last) = self.charges.last_mut().filter(|_| count > 0) {
            last.flags |= LAST;
        }
        if self.more.len() > more_before {
            self.share_forms(more_before);
        }
        self.decisions.push(count as u16);
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
        self.key_ends.clear();
        self.mixed.clear();
        self.index.clear();
        self.policies.clear();
        self.more.clear();
        self.charges.clear();
        self.decisions.clear();
    }

    /// The call's keys, all different. If there are none (decisions without charges), there is nothing to call.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.key_ends.len()).map(|number| self.key(number))
    }

    /// Bytes of all keys together.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        self.keys.len()
    }

    /// The call's arguments: policies and charges.
    #[must_use]
    pub fn arguments(&self) -> [Vec<u8>; 2] {
        let keys = self.policies.len();
        let mut policies = Vec::with_capacity(POLICY * (keys + self.more.len()) + KEY_NUMBER * self.more.len());
        for policy in self.policies.iter().chain(self.more.iter().map(|(_, policy)| policy)) {
            policies.extend_from_slice(&packed_policy(policy));
        }
        for (number, _) in &self.more {
            policies.extend_from_slice(&(number + 1).to_le_bytes());
        }
        let mut charges = Vec::with_capacity(CHARGE * self.charges.len());
        for charge in &self.charges {
            charges.extend_from_slice(&charge.packed(keys));
        }
        [policies, charges]
    }

    /// Reads the script's answer: one result per decision, in the order in which they were pushed. A decision's own
    /// error means that it alone was not made.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the answer is none of this batch: nothing in it can be believed then.
    pub fn decode<'a>(&'a self, answer: &'a [u8]) -> Result<Answers<'a>, StoreError> {
        let wanted = self.charges.len() * ANSWER;
        if answer.len() != wanted {
            let reason = format!("the script answered {} bytes instead of {wanted}", answer.len());
            return Err(StoreError::Refused { reason });
        }
        for (charge, answer) in self.charges.iter().zip(answer.chunks_exact(ANSWER)) {
            if !means_something(charge, answer) {
                let reason = format!("the script answered {answer:02x?}, which means nothing");
                return Err(StoreError::Refused { reason });
            }
        }
        Ok(Answers { batch: self, answer, decision: 0 })
    }

    fn key(&self, number: usize) -> &[u8] {
        let begin = number.checked_sub(1).map_or(0, |before| self.key_ends[before]);
        &self.keys[begin as usize..self.key_ends[number] as usize]
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u16> {
        self.index.find(hash, |number| self.key(usize::from(*number)) == key).copied()
    }

    fn as_incoming(&self, charge: &PackedCharge) -> Incoming<'_> {
        let (key, policy) = match charge.policy.checked_sub(MORE) {
            Some(more) => self.more[usize::from(more)],
            None => (charge.policy, self.policies[usize::from(charge.policy)]),
        };
        Incoming { key: self.key(usize::from(key)), policy, flags: charge.flags & !LAST, hits: charge.hits }
    }

    fn add_key(&mut self, hash: u64, key: &[u8], policy: Policy) -> u16 {
        let number = self.policies.len() as u16;
        self.keys.extend_from_slice(key);
        self.key_ends.push(self.keys.len() as u32);
        self.mixed.push(false);
        self.policies.push(policy);
        let (keys, ends, hasher) = (&self.keys, &self.key_ends, &self.hasher);
        self.index.insert_unique(hash, number, |number| {
            let number = usize::from(*number);
            let begin = number.checked_sub(1).map_or(0, |before| ends[before]);
            hasher.hash_one(&keys[begin as usize..ends[number] as usize])
        });
        number
    }

    /// Whether a policy keeps a key's counter in the form in which it is here.
    fn keeps_form(&self, number: u16, policy: &Policy) -> bool {
        let first = &self.policies[usize::from(number)];
        first == policy || have_one_form(first, policy)
    }

    /// The number of the policy by which a decision charges a key that is known already. Keys name algorithm and
    /// window, so no rule set brings one under two of them; if one did, the first would hold.
    fn add_policy(&mut self, number: u16, policy: Policy, more_before: usize) -> u16 {
        let first = &self.policies[usize::from(number)];
        if *first == policy || !are_alike(first, &policy) {
            return number;
        }
        // Of earlier decisions only those that keep one form are here; what differs in form is this decision's own.
        let from = if have_one_form(first, &policy) {
            self.more.len().saturating_sub(MORE_SEARCHED)
        } else {
            self.mixed[usize::from(number)] = true;
            more_before
        };
        let known = self.more[from..].iter().position(|(key, more)| *key == number && *more == policy);
        let at = known.map_or(self.more.len(), |at| from + at);
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

// === impl Answers ===

impl Iterator for Answers<'_> {
    type Item = Result<Tallies, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let members = usize::from(*self.batch.decisions.get(self.decision)?);
        self.decision += 1;
        let (answers, rest) = self.answer.split_at(members * ANSWER);
        self.answer = rest;
        let mut tallies = Tallies::new();
        for answer in answers.chunks_exact(ANSWER) {
            match read_answer(answer) {
                Ok(tally) => tallies.push(tally),
                Err(reason) => return Some(Err(StoreError::Refused { reason: reason.to_owned() })),
            }
        }
        Some(Ok(tallies))
    }
}

// === impl Incoming ===

impl<'a> Incoming<'a> {
    fn new(charge: &'a Charge, charging: Charging) -> Incoming<'a> {
        let mut flags = match charge.enforcement {
            Enforcement::Enforced => 0,
            Enforcement::Quota => 1,
            Enforcement::Shadow => 2,
        };
        flags |= match charging {
            Charging::AllOrNothing => 0,
            Charging::Each => EACH,
            Charging::OnlyOver => EACH | ONLY_OVER,
        };
        let hits = match charge.hits {
            Hits::Add(hits) => hits,
            Hits::GiveBack(hits) => {
                flags |= GIVE_BACK;
                hits
            }
        };
        Incoming { key: charge.key.as_bytes(), policy: charge.policy, flags, hits: hits.min(HITS_MAX) }
    }
}

// === impl PackedCharge ===

impl PackedCharge {
    /// As the script reads it, in a call of so many keys.
    fn packed(&self, keys: usize) -> [u8; CHARGE] {
        let policy = if self.policy >= MORE { self.policy - MORE + keys as u16 } else { self.policy };
        let mut packed = [0; CHARGE];
        packed[..2].copy_from_slice(&(policy + 1).to_le_bytes());
        packed[2] = self.flags;
        packed[3..].copy_from_slice(&self.hits.to_le_bytes()[..6]);
        packed
    }
}

/// Whether two policies can charge one counter: they have the same algorithm and window.
fn are_alike(one: &Policy, other: &Policy) -> bool {
    match (one, other) {
        (Policy::SlidingWindow(one), Policy::SlidingWindow(other)) => one.window() == other.window(),
        (Policy::FixedWindow(one), Policy::FixedWindow(other)) => one.window() == other.window(),
        (Policy::TokenBucket(one), Policy::TokenBucket(other)) => one.window() == other.window(),
        (Policy::Gate(_), Policy::Gate(_)) | (Policy::ReferenceWindow(_), Policy::ReferenceWindow(_)) => true,
        (Policy::SlidingWindow(_), _) | (Policy::FixedWindow(_), _) | (Policy::ReferenceWindow(_), _) => false,
        (Policy::TokenBucket(_), _) | (Policy::Gate(_), _) => false,
    }
}

/// Whether two policies keep a counter in the same form, so that decisions by either may follow each other in one call.
/// A token bucket's debt is counted in units of its policy.
fn have_one_form(one: &Policy, other: &Policy) -> bool {
    match (one, other) {
        (Policy::SlidingWindow(one), Policy::SlidingWindow(other)) => {
            one.window() == other.window()
                && one.tick_ms() == other.tick_ms()
                && one.pair_format() == other.pair_format()
        }
        (Policy::FixedWindow(one), Policy::FixedWindow(other)) => one.window() == other.window(),
        (Policy::Gate(_), Policy::Gate(_)) => true,
        // The key is kept as long as the policy says that is charged.
        (Policy::ReferenceWindow(one), Policy::ReferenceWindow(other)) => one.seconds() == other.seconds(),
        (Policy::SlidingWindow(_), _) | (Policy::FixedWindow(_), _) | (Policy::ReferenceWindow(_), _) => false,
        (Policy::TokenBucket(_), _) | (Policy::Gate(_), _) => false,
    }
}

fn packed_policy(policy: &Policy) -> [u8; POLICY] {
    let (kind, four, six, six_more) = match policy {
        Policy::SlidingWindow(policy) => {
            (policy.pair_format(), policy.limit(), policy.window().millis(), u64::from(policy.tick_ms()))
        }
        Policy::FixedWindow(policy) => (KIND_FIXED_WINDOW, policy.limit(), policy.window().millis(), 0),
        Policy::TokenBucket(policy) => (KIND_TOKEN_BUCKET, policy.drain(), policy.cost(), u64::from(policy.burst())),
        Policy::ReferenceWindow(window) => (KIND_REFERENCE, window.limit(), kept_s(window), 0),
        Policy::Gate(gate) => (KIND_GATE, u32::from(gate.observed), gate.start.millis(), 0),
    };
    let mut packed = [kind; POLICY];
    packed[1..5].copy_from_slice(&four.to_le_bytes());
    packed[5..11].copy_from_slice(&six.to_le_bytes()[..6]);
    packed[11..].copy_from_slice(&six_more.to_le_bytes()[..6]);
    packed
}

/// The two numbers of the answer to one charge: what is held and the flags, and milliseconds until reset.
fn numbers(answer: &[u8]) -> (u64, u8, u64) {
    let mut first = [0; 8];
    let mut second = [0; 8];
    first[..7].copy_from_slice(&answer[..7]);
    second[..6].copy_from_slice(&answer[7..ANSWER]);
    let first = u64::from_le_bytes(first);
    (first >> 4, (first & 15) as u8, u64::from_le_bytes(second))
}

/// Whether the script can have answered so.
fn means_something(charge: &PackedCharge, answer: &[u8]) -> bool {
    let (used, flags, _) = numbers(answer);
    let never_over = charge.flags & GIVE_BACK != 0;
    match flags {
        WRONG_TYPE | UNREADABLE => true,
        0..=2 | 4..=6 => used <= HITS_MAX && !(never_over && flags & 3 != 0),
        _ => false,
    }
}

/// Reads the answer to one charge, which means something, or why its decision was not made.
fn read_answer(answer: &[u8]) -> Result<Tally, &'static str> {
    let (used, flags, reset_after_ms) = numbers(answer);
    let verdict = match flags & 3 {
        _ if flags == WRONG_TYPE => {
            return Err("a counter's key holds something else than a string; another program writes there");
        }
        _ if flags == UNREADABLE => {
            return Err("a counter's key holds a string that is no counter; another program writes there");
        }
        0 => Verdict::Within,
        1 => Verdict::Over,
        _ => Verdict::Never,
    };
    Ok(Tally { verdict, charged: flags & 4 != 0, used, reset_after_ms })
}
