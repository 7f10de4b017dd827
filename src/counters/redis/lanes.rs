//! Lanes: the sixteen places among which the counters of a Redis Cluster are spread, and the one of gates and records.
//!
//! A script call must find all of its keys in one slot, and slots move from node to node. So keys aren't spread over
//! all slots: a counter lies in one of sixteen, whose tag stands between the braces of its key. A lane has a queue, a
//! connection and calls of its own, like a Redis of its own; wherever its slot goes, it follows. Nothing else in the
//! request path knows of clusters.
//!
//! - **Which lane** says the slot in which the open values of the key's rule would lie: the sixteenth of all slots in
//!   which that is. So counters that several rules keep of the same values share a lane, and a decision that touches
//!   those alone takes one call.
//! - **Which slot** the lane has: one in the middle of that sixteenth, so that masters with equal shares of all slots
//!   have equal shares of the lanes, up to sixteen masters.
//! - **How many** is no setting: replicas that disagreed would count apart.
//!
//! Gates and records of adaptive services are in a lane of their own: in one, because one script writes them together;
//! in their own, because nobody can poll, lead or write while their slot is on its way, and slots with many keys are long
//! on their way. Theirs has a few keys for each adaptive service.

use super::cluster::{SLOTS, slot};
use crate::key::CounterKey;

/// One of the lanes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Lane(u8);

/// The tag of each lane.
const TAGS: [&str; Lane::COUNT] =
    ["ma", "qp", "dj", "wz", "lg", "pv", "uh", "iy", "ly", "ph", "uv", "yc", "rz", "qn", "dt", "ha", "records"];

/// Slots for each lane of counters.
const SHARE: u16 = SLOTS / Lane::OF_COUNTERS as u16;

/// The halves of a key between which its tag stands: up to the first brace, and what follows.
#[must_use]
pub fn halves(key: &[u8]) -> (&[u8], &[u8]) {
    key.split_at(key.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1))
}

// === impl Lane ===

impl Lane {
    /// How many there are.
    pub const COUNT: usize = Lane::OF_COUNTERS + 1;

    /// How many have counters: the first ones.
    pub const OF_COUNTERS: usize = 16;

    /// The lane of gates and records.
    pub const RECORDS: Lane = Lane(Lane::OF_COUNTERS as u8);

    /// All of them, by number.
    #[must_use]
    pub fn all() -> [Lane; Lane::COUNT] {
        std::array::from_fn(|number| Lane(number as u8))
    }

    /// The lane in which a counter lies, never [`Lane::RECORDS`]. Gates are in [`Lane::RECORDS`] instead.
    #[must_use]
    pub fn of(key: &CounterKey) -> Lane {
        Lane((slot(key.placing()) / SHARE) as u8)
    }

    /// Its number, less than [`Lane::COUNT`].
    #[must_use]
    pub fn number(self) -> usize {
        usize::from(self.0)
    }

    /// What stands between the braces of its keys.
    #[must_use]
    pub fn tag(self) -> &'static str {
        TAGS[self.number()]
    }

    /// The slot in which its keys lie.
    #[must_use]
    pub fn slot(self) -> u16 {
        slot(self.tag().as_bytes())
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lane {} (slot {})", self.0, self.slot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_has_a_slot_in_the_middle_of_its_share() {
        for lane in Lane::all().into_iter().filter(|lane| *lane != Lane::RECORDS) {
            let middle = SHARE * lane.number() as u16 + SHARE / 2;
            assert!(lane.slot().abs_diff(middle) < SHARE / 16, "{lane:?}");
        }
    }

    #[test]
    fn gates_and_records_share_their_slot_with_no_counter() {
        let others = || Lane::all().into_iter().filter(|lane| *lane != Lane::RECORDS);
        assert_eq!(others().count(), Lane::OF_COUNTERS);
        assert!(others().all(|lane| lane.slot() != Lane::RECORDS.slot()));
        assert_eq!((Lane::RECORDS.tag(), Lane::RECORDS.slot()), ("records", 15_835), "deployed replicas know it");
    }

    #[test]
    fn masters_with_equal_shares_of_the_slots_have_equal_shares_of_the_lanes() {
        for masters in 1..=Lane::OF_COUNTERS {
            let mut lanes = vec![0; masters];
            for lane in Lane::all().into_iter().filter(|lane| *lane != Lane::RECORDS) {
                lanes[usize::from(lane.slot()) * masters / usize::from(SLOTS)] += 1;
            }
            let (least, most) = (lanes.iter().min().unwrap(), lanes.iter().max().unwrap());
            assert!(most - least <= 1, "{masters} masters have {lanes:?}");
        }
    }

    #[test]
    fn counters_spread_over_all_lanes() {
        let mut counters = [0; Lane::OF_COUNTERS];
        for user in 0..16_000 {
            let mut key = CounterKey::write(b"t:", 1);
            key.value(&format!("user-{user}"));
            counters[Lane::of(&key.finish()).number()] += 1;
        }
        assert!(counters.iter().all(|counters| (500..2_000).contains(counters)), "{counters:?}");
    }

    #[test]
    fn a_key_with_its_tag_lies_in_the_slot_of_its_lane() {
        for lane in Lane::all() {
            let mut key = CounterKey::write(b"t:", 1);
            key.value("a{b}c");
            let key = key.finish();
            let (before, after) = halves(key.as_bytes());
            assert_eq!(slot(&[before, lane.tag().as_bytes(), after].concat()), lane.slot());
        }
    }
}
