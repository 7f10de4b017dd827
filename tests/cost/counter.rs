//! What stays in memory for a counter, as the allocator sees it.

use std::time::Duration;

use allocation_counter::measure;
use tidegate::clock::{ManualClock, Timestamp};
use tidegate::counters::memory::{MemoryLimits, MemoryStore};
use tidegate::counters::{Charge, Charges};
use tidegate::descriptor::Hits;
use tidegate::key::CounterKey;
use tidegate::limit::Window;
use tidegate::window::{Charging, Enforcement, Policy, Precision, SlidingWindow};

use crate::budget::{COUNTER_FULL_BYTES, COUNTER_HIT_ONCE_BYTES};

/// What a usual allocator adds to each piece for itself.
const ALLOCATION_BYTES: usize = 8;

/// Few enough for a store of one shard, whose size does not depend on where a hash puts a counter.
const COUNTERS_MAX: usize = 1_500;

/// Hits `count` counters once in each of `ticks` ticks of their windows, and says how many bytes stayed for each.
fn bytes_per_counter(count: usize, ticks: u64) -> usize {
    const TICK: Duration = Duration::from_secs(1);
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let window = Window::from_millis(64_000).unwrap();
    let policy = Policy::SlidingWindow(SlidingWindow::new(1_000, window, Precision::DEFAULT));
    let mut store = None;
    let alive = measure(|| {
        let store = store.insert(MemoryStore::new(clock.clone(), MemoryLimits { keys_max: COUNTERS_MAX }));
        for _ in 0..ticks {
            for number in 0..count {
                let mut key = CounterKey::write(b"tg:", 7);
                key.value(&format!("caller-{number:06}"));
                let hits = Hits::Add(1);
                let charge = Charge { key: key.finish(), policy, hits, enforcement: Enforcement::Enforced };
                store.decide(&Charges { members: [charge].into_iter().collect(), charging: Charging::AllOrNothing });
            }
            clock.advance(TICK);
        }
    });
    assert_eq!(store.unwrap().len(), count);
    let bytes = usize::try_from(alive.bytes_current).unwrap();
    let pieces = usize::try_from(alive.count_current).unwrap();
    (bytes + pieces * ALLOCATION_BYTES) / count
}

#[test]
fn a_counter_in_memory_keeps_no_more_bytes_than_its_budget() {
    // A table of 1,024 places doubles when 896 are taken: just after that a counter has the largest share of it.
    let (hit_once, full) = (bytes_per_counter(900, 1), bytes_per_counter(900, 64));
    println!("a counter in memory: {hit_once} bytes when hit once, {full} when full");
    assert!(hit_once <= COUNTER_HIT_ONCE_BYTES, "{hit_once} bytes when hit once");
    assert!(full <= COUNTER_FULL_BYTES, "{full} bytes when full");
}
