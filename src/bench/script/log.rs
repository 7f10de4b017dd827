//! Full logs, and what can be seen of a log in its bytes.
//!
//! Logs are made by the service's own arithmetic (`window`), whose bytes are those that the script keeps, and put into
//! Redis as they are: hitting 8,000 keys in 65 ticks each would take a minute for every measurement.

use smallvec::smallvec;

use crate::clock::Timestamp;
use crate::counters::{Charge, Charges};
use crate::descriptor::Hits;
use crate::key::CounterKey;
use crate::limit::Window;
use crate::window::{Charging, Enforcement, Member, Policy, Precision, SlidingWindow, decide};

/// What the bytes of a log say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Hits in all.
    pub(super) sum: u64,
    /// The newest tick.
    pub(super) newest: u64,
    /// Hits of that tick.
    pub(super) newest_hits: u64,
    /// Ticks that it holds.
    pub(super) ticks: usize,
}

/// Ticks of a full log: the window's 64, and the one that is leaving.
pub(super) const FULL: usize = 65;

/// Bytes before the older pairs, and bytes of each of them when no tick has more than 65,535 hits.
const HEADER: usize = 19;
const PAIR: usize = 3;

/// The policy of a rule with that limit, which must be above 64, and a window of 64 ticks.
pub(super) fn policy(limit: u32, tick_ms: u64) -> Policy {
    let window = Window::from_millis(64 * tick_ms).expect("ticks here are a minute at most");
    Policy::SlidingWindow(SlidingWindow::new(limit, window, Precision::DEFAULT))
}

/// The bytes of a log with one hit in each of its ticks, the last of them that of `now`.
pub(super) fn full(policy: Policy, tick_ms: u64, now: Timestamp) -> Vec<u8> {
    let member = Member { counter: 0, policy, hits: Hits::Add(1), enforcement: Enforcement::Enforced };
    let mut counters = [policy.empty_counter()];
    for back in (0..FULL as u64).rev() {
        let then = Timestamp::from_millis(now.as_millis() - back * tick_ms);
        decide(&mut counters, &[member], Charging::AllOrNothing, then);
    }
    counters[0].with_packed(<[u8]>::to_vec)
}

/// Reads a stored log with pairs of three bytes; `None` if it is none.
pub(super) fn see(bytes: &[u8]) -> Option<Seen> {
    let number = |at: std::ops::Range<usize>| {
        bytes.get(at).map(|bytes| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let (sum, newest, newest_hits) = (number(0..4)?, number(4..10)?, number(10..14)?);
    let pairs = bytes.len().checked_sub(HEADER)?;
    pairs.is_multiple_of(PAIR).then_some(Seen { sum, newest, newest_hits, ticks: pairs / PAIR + 1 })
}

/// One hit on the counter of that number.
pub(super) fn charge(number: usize, policy: Policy) -> Charges {
    let charge = Charge { key: key(number), policy, hits: Hits::Add(1), enforcement: Enforcement::Enforced };
    Charges { members: smallvec![charge], charging: Charging::AllOrNothing }
}

/// The key of that counter, as long as that of a rule for users with names of seven letters.
pub(super) fn key(number: usize) -> CounterKey {
    let mut key = CounterKey::write(b"tidegate:", 0x5eed_5eed_5eed_5eed);
    key.value(&format!("{number:07}"));
    key.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_holds_a_hit_in_each_of_65_ticks() {
        let (tick_ms, now) = (100, Timestamp::from_millis(1_700_000_000_050));
        let bytes = full(policy(60_000, tick_ms), tick_ms, now);
        let newest = now.as_millis() / tick_ms;
        assert_eq!(see(&bytes), Some(Seen { sum: 65, newest, newest_hits: 1, ticks: FULL }));
    }

    #[test]
    fn what_is_no_log_is_not_seen_as_one() {
        assert_eq!(see(&[]), None);
        assert_eq!(see(&[0; HEADER + 1]), None);
    }
}
