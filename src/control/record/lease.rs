//! Who decides: one replica at a time, by a lease that runs out.
//!
//! The store grants the lease for some seconds and the leader renews it in time. [`LeaseClock`] is the leader's own
//! side of it: counted on the replica's monotonic clock from **before** the request for the lease was sent, and a margin
//! shorter than the lease, so that the replica stops deciding before the lease can have ended, however long the answer
//! took. A replica that was stopped in between (a paused process, a machine that slept) finds its time passed, or, where
//! its clock stood still as well, is refused by the [`Epoch`] that its successor has raised: the fencing token.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The name of a replica in the lease: what the operator calls it, and a number drawn at its start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(String);

/// The number of a leadership. Each is higher than all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(u64);

/// Who holds the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// This replica.
    Leader {
        /// The number of its leadership.
        epoch: Epoch,
        /// Until when it may decide unless it renews, by its own clock.
        until: Instant,
    },
    /// Another one.
    Follower {
        /// Which, as far as it can be told.
        leader: Option<ReplicaId>,
    },
}

/// The times of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long the store grants it.
    pub granted: Duration,
    /// How much earlier the leader stops deciding.
    pub margin: Duration,
}

/// Whether this replica may decide, from what the store last said. Starts as one that may not.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseClock {
    held: Option<(Epoch, Instant)>,
}

/// Time between two requests for the lease.
pub const RENEWAL_INTERVAL: Duration = Duration::from_secs(3);

/// Longest name that an operator's part of a [`ReplicaId`] may have, in bytes.
const NAME_BYTES_MAX: usize = 63;

// === impl ReplicaId ===

impl ReplicaId {
    /// The name of a replica on the host called `host`, told from all others by a number drawn at random.
    #[must_use]
    pub fn draw(host: &str) -> ReplicaId {
        ReplicaId::new(host, rand::random())
    }

    /// The name of a replica with that number. Of the host's name only letters, digits, dots, `-` and `_` are kept.
    #[must_use]
    pub fn new(host: &str, number: u64) -> ReplicaId {
        let is_kept = |letter: &char| letter.is_ascii_alphanumeric() || ['.', '-', '_'].contains(letter);
        let host: String = host.chars().filter(is_kept).take(NAME_BYTES_MAX).collect();
        let host = if host.is_empty() { "replica" } else { &host };
        ReplicaId(format!("{host}-{number:016x}"))
    }

    /// The name that the store gave back, if it is one.
    pub(super) fn parse(text: &str) -> Option<ReplicaId> {
        let (host, number) = text.rsplit_once('-')?;
        let number = u64::from_str_radix(number, 16).ok()?;
        Some(ReplicaId::new(host, number)).filter(|id| id.0 == text)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Epoch ===

impl Epoch {
    /// The epoch with that number.
    #[must_use]
    pub const fn new(number: u64) -> Epoch {
        Epoch(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl LeaseTimes ===

impl LeaseTimes {
    /// Until when a leader decides whose request was sent at `asked_at`.
    #[must_use]
    pub fn decides_until(&self, asked_at: Instant) -> Instant {
        asked_at + self.granted.saturating_sub(self.margin)
    }
}

impl Default for LeaseTimes {
    /// Ten seconds, so that two renewals of three may fail; and one less for what is under way.
    fn default() -> LeaseTimes {
        LeaseTimes { granted: Duration::from_secs(10), margin: Duration::from_secs(1) }
    }
}

// === impl LeaseClock ===

impl LeaseClock {
    /// Notes what the store said. What it did not say, because it is away, changes nothing: the time runs on.
    pub fn heard(&mut self, lease: &Lease) {
        self.held = match lease {
            Lease::Leader { epoch, until } => Some((*epoch, *until)),
            Lease::Follower { .. } => None,
        };
    }

    /// Notes that this replica was refused as one that has a successor.
    pub fn deposed(&mut self) {
        self.held = None;
    }

    /// The epoch in which this replica may decide at that instant, if it may.
    #[must_use]
    pub fn may_decide(&self, now: Instant) -> Option<Epoch> {
        self.held.filter(|(_, until)| now < *until).map(|(epoch, _)| epoch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leader(times: &LeaseTimes, asked_at: Instant) -> Lease {
        Lease::Leader { epoch: Epoch::new(7), until: times.decides_until(asked_at) }
    }

    #[test]
    fn nobody_decides_before_the_store_has_spoken() {
        assert_eq!(LeaseClock::default().may_decide(Instant::now()), None);
    }

    proptest! {
        /// The lease begins in the store no earlier than the request was sent, so it lasts at least until that instant
        /// and the time it is granted.
        #[test]
        fn a_leader_stops_before_its_lease_can_have_ended(answer_took in 0_u64..60_000, looked_after in 0_u64..60_000) {
            let (times, asked_at) = (LeaseTimes::default(), Instant::now());
            let mut clock = LeaseClock::default();
            clock.heard(&leader(&times, asked_at));
            let now = asked_at + Duration::from_millis(answer_took.max(looked_after));
            let lease_may_be_over = now >= asked_at + times.granted;
            prop_assert!(!(lease_may_be_over && clock.may_decide(now).is_some()));
            let well_before = now < asked_at + times.granted - times.margin;
            prop_assert_eq!(clock.may_decide(now).is_some(), well_before);
        }
    }

    #[test]
    fn a_renewal_prolongs_and_a_word_of_another_leader_ends_it() {
        let (times, start) = (LeaseTimes::default(), Instant::now());
        let mut clock = LeaseClock::default();
        clock.heard(&leader(&times, start));
        clock.heard(&leader(&times, start + RENEWAL_INTERVAL));
        let late = start + Duration::from_secs(11);
        assert_eq!(clock.may_decide(late), Some(Epoch::new(7)));
        clock.heard(&Lease::Follower { leader: None });
        assert_eq!(clock.may_decide(late), None);
        clock.heard(&leader(&times, late));
        clock.deposed();
        assert_eq!(clock.may_decide(late), None);
    }

    #[test]
    fn two_renewals_may_fail_before_a_leader_stops() {
        let times = LeaseTimes::default();
        assert!(times.granted - times.margin >= RENEWAL_INTERVAL * 3);
    }

    #[test]
    fn a_replica_keeps_the_readable_part_of_its_host() {
        let id = ReplicaId::new("pod 7/ä.x\n", 255);
        assert_eq!(id.as_str(), "pod7.x-00000000000000ff");
        assert_eq!(ReplicaId::parse(id.as_str()), Some(id));
        assert_eq!(ReplicaId::new("\n", 1).as_str(), "replica-0000000000000001");
        assert_eq!(ReplicaId::new(&"x".repeat(1_000), 1).as_str().len(), 63 + 17);
        for wrong in ["", "x", "x-1", "a b-0000000000000001", "x-000000000000000G"] {
            assert_eq!(ReplicaId::parse(wrong), None, "{wrong}");
        }
        assert_ne!(ReplicaId::draw("a"), ReplicaId::draw("a"));
    }
}
