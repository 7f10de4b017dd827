//! Counters that are spread: over the lanes of a Redis Cluster, or over two Redis, or both.
//!
//! Limits per second are most of the writes and the least worth keeping, so the reference service lets them have a
//! server of their own: counters of one second go there, all others to the main one. Either may be a cluster, whose
//! counters lie in lanes (`redis::lanes`); those that are shared with envoyproxy/ratelimit, in the slots of their keys. A
//! decision that touches one place is made there, as if there were no other; one
//! that touches several is made in two steps (`split`). Gates are on the main server, where the records are.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::{BoxFuture, Either};
use tokio::time::Instant;

use super::redis::cluster::{SLOTS, slot};
use super::redis::lanes::Lane;
use super::redis::{RedisStore, SlotStore};
use super::{Charge, Charges, CounterStore, StoreError, Tallies, split};
use crate::window::Policy;

/// The stores of one core. Clones share their queues and connections.
#[derive(Clone, Debug)]
pub struct SpreadStore(Arc<Stores>);

#[derive(Debug)]
struct Stores {
    main: Reach,
    /// Where counters with a window of one second are, if they are apart.
    per_second: Option<Reach>,
}

/// One Redis, as a core reaches it.
#[derive(Clone, Debug)]
pub enum Reach {
    /// One server.
    Server(RedisStore),
    /// A cluster.
    Cluster(Box<InCluster>),
}

/// A cluster, as a core reaches it.
#[derive(Clone, Debug)]
pub struct InCluster {
    /// The lanes, by number.
    pub lanes: [RedisStore; Lane::COUNT],
    /// Counters that lie where their keys do.
    pub slots: SlotStore,
}

/// A place, and how it is asked.
enum Place<'s> {
    Store(&'s RedisStore),
    Slot(&'s SlotStore, u16),
}

/// A window's length that goes to the second server, in milliseconds.
const SECOND_MS: u64 = 1_000;

/// What the numbers of slots have added; they follow those of the lanes.
const SLOT: usize = Lane::COUNT;

/// What the numbers of the second server's places have added.
const PER_SECOND: usize = SLOT + SLOTS as usize;

// === impl SpreadStore ===

impl SpreadStore {
    /// Counters with a window of one second go to `per_second`, if there is one, all others to `main`.
    #[must_use]
    pub fn new(main: Reach, per_second: Option<Reach>) -> SpreadStore {
        SpreadStore(Arc::new(Stores { main, per_second }))
    }

    /// Makes a decision that touches several places.
    fn decide(&self, charges: &Charges, deadline: Instant) -> BoxFuture<'static, Result<Tallies, StoreError>> {
        let (stores, charges) = (self.clone(), charges.clone());
        Box::pin(async move {
            let parts = split::parts(&charges, |charge| stores.0.place(charge));
            let ask = |place, charges: &Charges| stores.0.charge(place, charges, deadline);
            split::decide(&charges, &parts, ask).await
        })
    }
}

impl CounterStore for SpreadStore {
    fn charge<'s>(
        &'s self,
        charges: &Charges,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s> {
        let mut places = charges.members.iter().map(|charge| self.0.place(charge));
        let first = places.next().unwrap_or(0);
        if places.all(|place| place == first) {
            return Either::Left(self.0.charge(first, charges, deadline));
        }
        Either::Right(self.decide(charges, deadline))
    }
}

// === impl Stores ===

impl Stores {
    /// The number of the place where a counter is.
    fn place(&self, charge: &Charge) -> usize {
        match &self.per_second {
            Some(reach) if is_per_second(&charge.policy) => PER_SECOND + reach.place(charge),
            _ => self.main.place(charge),
        }
    }

    fn charge<'s>(
        &'s self,
        place: usize,
        charges: &Charges,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s> {
        match self.at(place) {
            Place::Store(store) => Either::Left(store.charge(charges, deadline)),
            Place::Slot(slots, slot) => Either::Right(slots.charge(slot, charges, deadline)),
        }
    }

    fn at(&self, place: usize) -> Place<'_> {
        match &self.per_second {
            Some(reach) if place >= PER_SECOND => reach.at(place - PER_SECOND),
            _ => self.main.at(place),
        }
    }
}

// === impl Reach ===

impl Reach {
    fn place(&self, charge: &Charge) -> usize {
        match (self, charge.policy) {
            (Reach::Server(_), _) => 0,
            (Reach::Cluster(_), Policy::Gate(_)) => Lane::RECORDS.number(),
            (Reach::Cluster(_), Policy::ReferenceWindow(_)) => SLOT + usize::from(slot(charge.key.as_bytes())),
            (Reach::Cluster(_), _) => Lane::of(&charge.key).number(),
        }
    }

    fn at(&self, place: usize) -> Place<'_> {
        match (self, place.checked_sub(SLOT)) {
            (Reach::Server(store), _) => Place::Store(store),
            (Reach::Cluster(cluster), None) => Place::Store(&cluster.lanes[place]),
            (Reach::Cluster(cluster), Some(slot)) => Place::Slot(&cluster.slots, slot as u16),
        }
    }
}

fn is_per_second(policy: &Policy) -> bool {
    let window = match policy {
        Policy::SlidingWindow(policy) => policy.window(),
        Policy::FixedWindow(policy) => policy.window(),
        Policy::TokenBucket(policy) => policy.window(),
        Policy::ReferenceWindow(policy) => return policy.seconds() == 1,
        Policy::Gate(_) => return false,
    };
    window.millis() == SECOND_MS
}
