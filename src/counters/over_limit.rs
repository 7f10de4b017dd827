//! Remembers which counters shared with envoyproxy/ratelimit are over, so that their next charges cost no round trip (the
//! reference's `LOCAL_CACHE_SIZE_IN_BYTES`).
//!
//! Such a counter only grows until its window ends, and the window's start is in its key: once over it stays over, under
//! the same limit. So a charge of a remembered key is answered here and isn't counted, as there; the other charges of the
//! request are made. What the reference's memory does not know, this one does: it holds for the limit that was over only,
//! so that a raised limit applies at once, and hits that are given back through this replica make it forget.
//!
//! Requests that are charged all or nothing, and those that pass a gate, are asked whole: there what one counter says
//! decides about the others.

use std::collections::VecDeque;
use std::future::{Future, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use hashbrown::HashMap;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Charge, Charges, CounterStore, StoreError, Tallies};
use crate::descriptor::Hits;
use crate::key::CounterKey;
use crate::window::{Charging, Policy, ReferenceWindow, Tally, Verdict};

/// A store in front of which the memory stands. Clones share it.
#[derive(Clone, Debug)]
pub struct Remembering<S> {
    store: S,
    memory: Arc<OverLimitMemory>,
}

/// Keys of counters that are over: as many as a number of bytes holds, the oldest forgotten first.
#[derive(Debug)]
pub struct OverLimitMemory {
    bytes_max: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    over: HashMap<CounterKey, Over>,
    /// Keys in the order in which they came. Each of `over` is here; some that were forgotten still are.
    order: VecDeque<CounterKey>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Over {
    limit: u32,
    until: Instant,
}

/// What this memory answers for the time of the reset, where stores, which know as little of it, say 0: so that metrics can
/// tell the two apart.
pub const REMEMBERED: u64 = u64::MAX;

/// What an entry takes besides its key's bytes: it stands in a table and in a queue.
const ENTRY_BYTES: usize = 2 * (std::mem::size_of::<CounterKey>() + 16) + std::mem::size_of::<Over>();

// === impl OverLimitMemory ===

impl OverLimitMemory {
    /// An empty memory of so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> OverLimitMemory {
        OverLimitMemory { bytes_max, entries: Mutex::default() }
    }

    /// Whether the counter is known to be over that limit.
    fn is_over(&self, key: &CounterKey, limit: u32) -> bool {
        let is_it = |over: &Over| over.limit == limit && Instant::now() < over.until;
        self.lock().over.get(key).is_some_and(is_it)
    }

    /// Remembers a counter that is over for as long as its window is.
    fn remember(&self, key: CounterKey, window: &ReferenceWindow) {
        let over = Over { limit: window.limit(), until: Instant::now() + Duration::from_secs(window.seconds()) };
        let mut entries = self.lock();
        if let Some(known) = entries.over.get_mut(&key) {
            *known = over;
            return;
        }
        entries.bytes += bytes_of(&key);
        entries.order.push_back(key.clone());
        entries.over.insert(key, over);
        while entries.bytes > self.bytes_max {
            let Some(oldest) = entries.order.pop_front() else { return };
            entries.bytes -= bytes_of(&oldest);
            entries.over.remove(&oldest);
        }
    }

    fn forget(&self, key: &CounterKey) {
        if let Some(over) = self.lock().over.get_mut(key) {
            over.until = Instant::now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(key: &CounterKey) -> usize {
    ENTRY_BYTES + 2 * key.as_bytes().len().saturating_sub(CounterKey::INLINE)
}

// === impl Remembering ===

impl<S: CounterStore> Remembering<S> {
    /// `store`, behind a memory.
    #[must_use]
    pub fn new(store: S, memory: Arc<OverLimitMemory>) -> Remembering<S> {
        Remembering { store, memory }
    }

    /// What is left to ask, and per charge the answer that is known.
    fn look_up(&self, charges: &Charges) -> (Charges, Known) {
        let known = charges.members.iter().map(|charge| match (&charge.policy, charge.hits) {
            (Policy::ReferenceWindow(window), Hits::Add(_)) if self.memory.is_over(&charge.key, window.limit()) => {
                let used = u64::from(window.limit()) + 1;
                Some(Tally { verdict: Verdict::Over, charged: false, used, reset_after_ms: REMEMBERED })
            }
            _ => None,
        });
        let known: Known = known.collect();
        let spares = charges.charging == Charging::OnlyOver && known.iter().any(Option::is_some);
        let rest = charges.members.iter().zip(&known).filter(|(_, known)| known.is_none());
        let rest = rest.map(|(charge, _)| match charge.hits {
            Hits::Add(_) if spares => Charge { hits: Hits::Add(0), ..charge.clone() },
            _ => charge.clone(),
        });
        (Charges { members: rest.collect(), charging: charges.charging }, known)
    }

    /// The same, unless the decision is to be asked whole.
    fn known_of(&self, charges: &Charges) -> Option<(Charges, Known)> {
        let is_gated = charges.members.iter().any(|charge| matches!(charge.policy, Policy::Gate(_)));
        (!is_gated && charges.charging != Charging::AllOrNothing).then(|| self.look_up(charges))
    }

    /// Asks about what isn't known, and remembers what is over.
    fn charge_rest<'s>(
        &'s self,
        rest: &Charges,
        known: Known,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + use<'s, S> {
        let shared = rest.members.iter().map(|charge| match (&charge.policy, charge.hits) {
            (Policy::ReferenceWindow(window), Hits::Add(_)) => Some((charge.key.clone(), *window)),
            (Policy::ReferenceWindow(_), Hits::GiveBack(_)) => {
                self.memory.forget(&charge.key);
                None
            }
            _ => None,
        });
        let shared: SmallVec<[Option<(CounterKey, ReferenceWindow)>; 4]> = shared.collect();
        let asked = match rest.members.is_empty() {
            true => Either::Left(ready(Ok(Tallies::new()))),
            false => Either::Right(self.store.charge(rest, deadline)),
        };
        asked.map(move |answer| {
            let tallies = answer?;
            for (tally, shared) in tallies.iter().zip(shared) {
                if let Some((key, window)) = shared.filter(|_| tally.verdict.is_over()) {
                    self.memory.remember(key, &window);
                }
            }
            let mut asked = tallies.into_iter();
            let never = || unreachable!("a store answers each charge");
            Ok(known.into_iter().map(|known| known.or_else(|| asked.next()).unwrap_or_else(never)).collect())
        })
    }
}

/// Per charge the answer that needs no store.
type Known = SmallVec<[Option<Tally>; 4]>;

impl<S: CounterStore> CounterStore for Remembering<S> {
    fn charge<'s>(
        &'s self,
        charges: &Charges,
        deadline: Instant,
    ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s, S> {
        let future: BoxFuture<'s, _> = match self.known_of(charges) {
            None => Box::pin(self.store.charge(charges, deadline)),
            Some((rest, known)) => Box::pin(self.charge_rest(&rest, known, deadline)),
        };
        // In a box: every decision's future has room for this one, whatever its store.
        future
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;
    use tokio::time::advance;

    use super::*;
    use crate::clock::{SystemClock, Timestamp};
    use crate::counters::memory::{MemoryLimits, MemoryStore};
    use crate::limit::Unit;
    use crate::window::Enforcement;

    impl CounterStore for Arc<MemoryStore> {
        fn charge<'s>(
            &'s self,
            charges: &Charges,
            _deadline: Instant,
        ) -> impl Future<Output = Result<Tallies, StoreError>> + Send + Unpin + use<'s> {
            ready(Ok(self.decide(charges)))
        }
    }

    fn store() -> Remembering<Arc<MemoryStore>> {
        let memory = Arc::new(OverLimitMemory::new(1 << 20));
        Remembering::new(Arc::new(MemoryStore::new(SystemClock, MemoryLimits::default())), memory)
    }

    fn charge(name: &str, limit: u32, hits: Hits) -> Charge {
        let window = ReferenceWindow::try_new(limit, Unit::Minute.into()).unwrap();
        let key = CounterKey::reference(b"", "d", [("user", name)].into_iter());
        let policy = Policy::ReferenceWindow(window.begun_at(Timestamp::from_millis(u64::MAX / 4_000), 0));
        Charge { key, policy, hits, enforcement: Enforcement::Enforced }
    }

    async fn ask(store: &Remembering<Arc<MemoryStore>>, charging: Charging, members: &[Charge]) -> Vec<(bool, u64)> {
        let charges = Charges { members: members.iter().cloned().collect(), charging };
        let tallies = store.charge(&charges, Instant::now() + Duration::from_secs(1)).await.unwrap();
        tallies.iter().map(|tally| (tally.verdict.is_over(), tally.used)).collect()
    }

    async fn held(store: &Remembering<Arc<MemoryStore>>, name: &str) -> u64 {
        let look = Charges { members: smallvec![charge(name, 1, Hits::Add(0))], charging: Charging::AllOrNothing };
        store.store.decide(&look)[0].used
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_counted_once_more_and_then_no_longer_while_others_are() {
        let store = store();
        let both = [charge("a", 2, Hits::Add(1)), charge("b", 10, Hits::Add(1))];
        for over in [false, false, true, true] {
            assert_eq!(ask(&store, Charging::Each, &both).await[0].0, over);
        }
        assert_eq!((held(&store, "a").await, held(&store, "b").await), (3, 4));
        advance(Duration::from_secs(60)).await;
        ask(&store, Charging::Each, &both).await;
        assert_eq!(held(&store, "a").await, 4, "a window later it is asked for again");
    }

    #[tokio::test(start_paused = true)]
    async fn with_the_stop_option_what_is_remembered_spares_the_others() {
        let store = store();
        let both = [charge("a", 2, Hits::Add(1)), charge("b", 10, Hits::Add(1))];
        for expected in [(1, 1), (2, 2), (3, 2), (3, 2)] {
            ask(&store, Charging::OnlyOver, &both).await;
            assert_eq!((held(&store, "a").await, held(&store, "b").await), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_raised_limit_applies_at_once_and_so_does_what_is_given_back() {
        let store = store();
        for _ in 0..3 {
            ask(&store, Charging::Each, &[charge("a", 1, Hits::Add(1))]).await;
        }
        assert_eq!(ask(&store, Charging::Each, &[charge("a", 5, Hits::Add(1))]).await, [(false, 3)]);
        ask(&store, Charging::Each, &[charge("a", 1, Hits::GiveBack(3))]).await;
        assert_eq!(ask(&store, Charging::Each, &[charge("a", 1, Hits::Add(1))]).await, [(false, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_forgets_the_oldest() {
        let memory = OverLimitMemory::new(3 * ENTRY_BYTES);
        let key = |name: &str| charge(name, 0, Hits::Add(1)).key;
        let Policy::ReferenceWindow(window) = charge("a", 0, Hits::Add(1)).policy else { panic!("it is one") };
        for name in ["a", "b", "c", "d", "d"] {
            memory.remember(key(name), &window);
        }
        let is_over = ["a", "b", "c", "d"].map(|name| memory.is_over(&key(name), 0));
        assert_eq!(is_over, [false, true, true, true]);
        memory.remember(key(&"x".repeat(4_000)), &window);
        let entries = memory.lock();
        assert!(entries.bytes <= memory.bytes_max && entries.order.len() == entries.over.len());
    }
}
