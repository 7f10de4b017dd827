//! What this replica has seen of the services: every second the gates, the operators' hands, the other replicas.
//!
//! Every replica looks, not only the leader: whoever takes over has seen as much as the one before, so its first decision
//! is as good. Bounded by the number of services.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use tokio::time::Instant;

use super::history::{History, Rates};
use super::law::Hand;
use super::record::{Poll, ReplicaId, Standing};
use super::store_clock::StoreClock;
use crate::clock::Timestamp;
use crate::rules::service::Service;

/// What was seen, for the tasks of one process.
#[derive(Debug, Default)]
pub(super) struct Seen {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    clock: Option<StoreClock>,
    replicas: u32,
    leader: Option<ReplicaId>,
    services: HashMap<Arc<str>, SeenService>,
}

/// What was seen of one service.
#[derive(Debug, Default)]
struct SeenService {
    standing: Standing,
    history: History,
}

/// A shorter time says too little of a rate.
const LATELY_MIN: Duration = Duration::from_secs(5);

// === impl Seen ===

impl Seen {
    /// Keeps what a poll told about the services that were asked for; others are forgotten. Gives back those on which an
    /// operator has laid another hand, or from which one was taken.
    pub(super) fn heard(&self, asked: &[Arc<str>], poll: Poll, at: Instant) -> Vec<Arc<str>> {
        let mut changed = Vec::new();
        let mut inner = self.lock();
        inner.clock = Some(StoreClock::new(poll.now, at));
        inner.replicas = poll.replicas;
        inner.leader = poll.leader;
        let asked_for: HashSet<&Arc<str>> = asked.iter().collect();
        inner.services.retain(|name, _| asked_for.contains(name));
        for (name, standing) in asked.iter().zip(poll.services) {
            let service = inner.services.entry(Arc::clone(name)).or_default();
            let (admitted, refused) = standing.gate.as_ref().map_or((0, 0), |gate| (gate.admitted, gate.refused));
            service.history.note(poll.now, admitted, refused);
            if service.standing.hand != standing.hand {
                changed.push(Arc::clone(name));
            }
            service.standing = standing;
        }
        changed
    }

    /// The store's time at an instant of ours; `None` before it was heard.
    pub(super) fn now(&self, instant: Instant) -> Option<Timestamp> {
        self.lock().clock.map(|clock| clock.at(instant))
    }

    /// What the operator wants of a service.
    pub(super) fn hand(&self, service: &Service, now: Timestamp) -> Option<Hand> {
        let inner = self.lock();
        let hand = inner.services.get(&*service.name)?.standing.hand.as_ref()?;
        hand.is_on(now).then(|| hand.within(&service.bounds))
    }

    /// The same in a sentence, with what was asked and who asked.
    pub(super) fn hand_sentence(&self, service: &Service, now: Timestamp) -> Option<String> {
        let inner = self.lock();
        let hand = inner.services.get(&*service.name)?.standing.hand.as_ref()?;
        hand.is_on(now).then(|| hand.sentence(&service.bounds))
    }

    /// Our own counts of a service over the last `length`.
    pub(super) fn rates(&self, service: &str, now: Timestamp, length: Duration) -> Option<Rates> {
        self.lock().services.get(service)?.history.rates(now, length)
    }

    /// The same over the last interval of the service, and at least [`LATELY_MIN`].
    pub(super) fn lately(&self, service: &Service, now: Timestamp) -> Option<Rates> {
        self.rates(&service.name, now, service.interval.max(LATELY_MIN))
    }

    /// How a service stood when it was seen last.
    pub(super) fn standing(&self, service: &str) -> Option<Standing> {
        self.lock().services.get(service).map(|service| service.standing.clone())
    }

    /// How many replicas there are; 0 before the store was heard.
    pub(super) fn replicas(&self) -> u32 {
        self.lock().replicas
    }

    /// Who leads, as far as it was told.
    pub(super) fn leader(&self) -> Option<ReplicaId> {
        self.lock().leader.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
