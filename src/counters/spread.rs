//! Counters that are spread: over the lanes of a Redis Cluster, or over two Redis, or both.
//!
//! Limits per second are most of the writes and the least worth keeping, so the reference service lets them have a
//! server of their own: counters of one second go there, all others to the main one. Either may be a cluster, whose
//! counters lie in lanes (`redis::lanes`). A decision that touches one place is made there, as if there were no other; one
//! that touches several is made in two steps (`split`). Gates are on the main server, where the records are.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::{BoxFuture, Either};
use tokio::time::Instant;

use super::redis::RedisStore;
use super::redis::lanes::Lane;
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
    /// The lanes of a cluster, by number.
    Cluster(Box<[RedisStore; Lane::COUNT]>),
}

/// A window's length that goes to the second server, in milliseconds.
const SECOND_MS: u64 = 1_000;

/// What the numbers of the second server's places have added.
const PER_SECOND: usize = Lane::COUNT;

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
            let ask = |place, charges: &Charges| stores.0.at(place).charge(charges, deadline);
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
            return Either::Left(self.0.at(first).charge(charges, deadline));
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

    fn at(&self, place: usize) -> &RedisStore {
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
            (Reach::Cluster(_), _) => Lane::of(&charge.key).number(),
        }
    }

    fn at(&self, place: usize) -> &RedisStore {
        match self {
            Reach::Server(store) => store,
            Reach::Cluster(lanes) => &lanes[place],
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
