//! For how long Redis keeps a counter that is shared with envoyproxy/ratelimit: its window, and some seconds by chance,
//! so that the keys of a window don't all go at once. The window's start is in the key, so limits don't depend on it.

use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;

use crate::window::ReferenceWindow;

/// Seconds from a charge to the end of its key.
pub(super) fn kept_s(window: &ReferenceWindow) -> u64 {
    window.seconds() + ((u64::from(window.jitter_max_s()) * chance()) >> 32)
}

/// A number by chance, 0 to 2^32 - 1: SplitMix64 over a count that begins anywhere.
fn chance() -> u64 {
    static COUNT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::default().hash_one(0)));
    let mut mixed = COUNT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::limit::Unit;

    #[test]
    fn chance_adds_less_than_it_may_and_all_of_that() {
        let kept = |jitter_max_s| {
            let window = ReferenceWindow::try_new(5, Unit::Minute.into()).unwrap();
            kept_s(&window.begun_at(Timestamp::from_millis(0), jitter_max_s))
        };
        assert!((0..100).all(|_| kept(0) == 60 && kept(1) == 60));
        let mut seen = [false; 300];
        for _ in 0..10_000 {
            seen[usize::try_from(kept(300) - 60).unwrap()] = true;
        }
        assert!(seen.iter().all(|seen| *seen), "each of 300 seconds comes up in 10 000 draws");
    }
}
