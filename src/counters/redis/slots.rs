//! Counters of a Redis Cluster whose keys aren't ours to place: those that are shared with envoyproxy/ratelimit.
//!
//! Each lies in the slot of its own key, so hardly two of them can be charged by one call, and none waits for others: each
//! decision is a call of its own, to the node that serves its slot by the latest map, as in the reference service. Calls to
//! one node share a connection and are under way at once. Where the map is wrong the call is redirected (`detour`), and the
//! next one asks for a new map.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::call::{Call, Caller};
use super::detour::{Detours, in_time};
use super::link::Connector;
use super::redirect::Redirect;
use super::script::Batch;
use crate::counters::{Charges, StoreError, Tallies};

/// Such counters, as one core reaches them. Clones share its connections.
#[derive(Clone)]
pub struct SlotStore {
    connector: Connector,
    detours: Detours,
    places: Arc<Semaphore>,
}

/// Most decisions under way.
const UNDER_WAY_MAX: usize = 4_096;

/// Most connections: one for each master, in all but the largest clusters.
const LINKS_MAX: usize = 64;

// === impl SlotStore ===

impl SlotStore {
    /// A store that makes its connections when they are needed; `None` if the connector leads to no cluster.
    #[must_use]
    pub fn new(connector: &Connector) -> Option<SlotStore> {
        let connector = connector.to_any_slot()?;
        let detours = Detours::new(connector.clone(), LINKS_MAX);
        Some(SlotStore { connector, detours, places: Arc::new(Semaphore::new(UNDER_WAY_MAX)) })
    }

    /// Decides and charges as [`CounterStore::charge`](crate::counters::CounterStore::charge) does. All counters lie in
    /// `slot`.
    pub(crate) fn charge(
        &self,
        slot: u16,
        charges: &Charges,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Tallies, StoreError>> {
        let now = Instant::now();
        let (answer, answered) = oneshot::channel();
        let mut call = Call::new(now);
        let fits = Batch::can_hold(charges)
            && call.try_push(Caller { since: now, deadline, answer }, |batch| batch.try_push(charges)).is_ok();
        let (store, many) = (self.clone(), charges.members.len());
        Box::pin(async move {
            if !fits {
                return Err(StoreError::Refused {
                    reason: format!("{many} limits at once are more than one call holds"),
                });
            }
            let Ok(_place) = store.places.try_acquire() else {
                return Err(StoreError::Overloaded { waiting: UNDER_WAY_MAX });
            };
            match in_time(&mut call, store.connector.node_of(slot)).await {
                Some(Ok(node)) => {
                    // One decision is never taken apart.
                    drop(store.detours.follow(call, Redirect::Moved(node.clone()), None, node).await);
                }
                Some(Err(reason)) => call.fail(&StoreError::Unreachable { reason }),
                None => {}
            }
            answered.await.unwrap_or_else(|_| Err(StoreError::Unreachable { reason: "nobody asked it".to_owned() }))
        })
    }
}

impl std::fmt::Debug for SlotStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlotStore").field("connector", &self.connector).finish_non_exhaustive()
    }
}
