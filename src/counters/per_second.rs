//! Counters over two Redis: those of one second on a server of their own, all others on the main one.
//!
//! Limits per second are most of the writes and the least worth keeping, so the reference service lets them have a
//! server of their own. A decision that touches one of the two is made there, as if there were no other; one that touches
//! both is made in two steps (`split`). Gates are on the main server, where the records are.

use std::future::Future;

use futures_util::future::{BoxFuture, Either};
use tokio::time::Instant;

use super::redis::RedisStore;
use super::{Charge, Charges, CounterStore, StoreError, Tallies, split};
use crate::window::Policy;

/// The two stores of one core. Clones share their queues and connections.
#[derive(Clone, Debug)]
pub struct PerSecondStore {
    main: RedisStore,
    per_second: RedisStore,
}

/// A window's length that goes to the second server, in milliseconds.
const SECOND_MS: u64 = 1_000;

/// Numbers of the two places.
const MAIN: usize = 0;
const PER_SECOND: usize = 1;

// === impl PerSecondStore ===

impl PerSecondStore {
    /// Counters with a window of one second go to `per_second`, all others to `main`.
    #[must_use]
    pub fn new(main: RedisStore, per_second: RedisStore) -> PerSecondStore {
        PerSecondStore { main, per_second }
    }

    /// Makes a decision that touches both.
    fn decide(&self, charges: &Charges, deadline: Instant) -> BoxFuture<'static, Result<Tallies, StoreError>> {
        let (stores, charges) = (self.clone(), charges.clone());
        Box::pin(async move {
            let parts = split::parts(&charges, place);
            let ask = |place, charges: &Charges| stores.at(place).charge(charges, deadline);
            split::decide(&charges, &parts, ask).await
        })
    }

    fn at(&self, place: usize) -> &RedisStore {
        if place == PER_SECOND { &self.per_second } else { &self.main }
    }
}

impl CounterStore for PerSecondStore {
    fn charge<'s>(
        &'s self,
        charges: &Charges,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s> {
        let mut places = charges.members.iter().map(place);
        let first = places.next().unwrap_or(MAIN);
        if places.all(|place| place == first) {
            return Either::Left(self.at(first).charge(charges, deadline));
        }
        Either::Right(self.decide(charges, deadline))
    }
}

fn place(charge: &Charge) -> usize {
    let window = match charge.policy {
        Policy::SlidingWindow(policy) => policy.window(),
        Policy::FixedWindow(policy) => policy.window(),
        Policy::TokenBucket(policy) => policy.window(),
        Policy::ReferenceWindow(policy) => return if policy.seconds() == 1 { PER_SECOND } else { MAIN },
        Policy::Gate(_) => return MAIN,
    };
    if window.millis() == SECOND_MS { PER_SECOND } else { MAIN }
}
