//! The map of a Redis Cluster: which slot a key lies in, and which node serves a slot (redis.io/docs/reference/
//! cluster-spec).
//!
//! Keys are spread over 16,384 slots by a checksum of the text between the first brace and the next closing one, or of
//! the whole key where there is no such text. Which node serves which slots is read from `CLUSTER SLOTS`, and everything
//! that a node says is checked: a map with a hole, an overlap or a slot that doesn't exist is no map, except that slots may be
//! without a node while a cluster is being put together.

use redis::Value;

use super::redirect::{HOST_BYTES_MAX, Node};

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

/// Most ranges of a map that is believed: one for each slot.
const RANGES_MAX: usize = SLOTS as usize;

/// What a node says instead of its host if it is to be called by a name that it doesn't have.
pub(super) const NAMELESS: &str = "?";

/// Which node serves which slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// In the order of their slots; none overlap.
    ranges: Vec<Range>,
}

/// Slots that one node serves.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: Node,
}

/// The slot that a key lies in.
#[must_use]
pub fn slot(key: &[u8]) -> u16 {
    checksum(tag(key)) % SLOTS
}

/// What of a key decides on its slot.
fn tag(key: &[u8]) -> &[u8] {
    let tag = || {
        let begin = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key[begin..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[begin..begin + length])
    };
    tag().unwrap_or(key)
}

/// CRC-16/XMODEM: polynomial 0x1021, nothing reflected, begun with 0.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) ^ SUMS[usize::from((sum >> 8) ^ u16::from(*byte))])
}

/// The checksum of each byte, for each that is added.
const SUMS: [u16; 256] = {
    let mut sums = [0; 256];
    let mut byte = 0;
    while byte < sums.len() {
        let (mut sum, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 };
            bit += 1;
        }
        sums[byte] = sum;
        byte += 1;
    }
    sums
};

// === impl Topology ===

impl Topology {
    /// Reads the answer to `CLUSTER SLOTS` that the node at `asked` gave: a node that doesn't know its own name leaves it
    /// out, and means the one that it was asked by.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn read(answer: &Value, asked: &str) -> Result<Topology, String> {
        let Value::Array(entries) = answer else { return Err("the answer to CLUSTER SLOTS is no list".to_owned()) };
        if entries.len() > RANGES_MAX {
            return Err(format!("CLUSTER SLOTS has {} ranges, and there are {SLOTS} slots", entries.len()));
        }
        let mut ranges = Vec::with_capacity(entries.len());
        for entry in entries {
            let range = Range::read(entry, asked).ok_or("CLUSTER SLOTS has an entry that is no range of slots")?;
            if range.master.0 == NAMELESS {
                let port = range.master.1;
                return Err(format!(
                    "CLUSTER SLOTS names no host for the node at port {port}: cluster-preferred-endpoint-type is \
                     hostname, and that node has no cluster-announce-hostname"
                ));
            }
            ranges.push(range);
        }
        ranges.sort_by_key(|range| range.first);
        for pair in ranges.windows(2) {
            if pair[1].first <= pair[0].last {
                return Err(format!("CLUSTER SLOTS names two nodes for slot {}", pair[1].first));
            }
        }
        Ok(Topology { ranges })
    }

    /// Host and port of the master that serves a slot; `None` if no node does.
    #[must_use]
    pub fn master(&self, slot: u16) -> Option<(&str, u16)> {
        let at = self.ranges.partition_point(|range| range.last < slot);
        let range = self.ranges.get(at).filter(|range| range.first <= slot)?;
        Some((&range.master.0, range.master.1))
    }

    /// The masters, each once, at most so many.
    pub(super) fn masters(&self, most: usize) -> Vec<Node> {
        let mut masters: Vec<Node> = Vec::new();
        for range in &self.ranges {
            if masters.len() == most {
                break;
            }
            if !masters.contains(&range.master) {
                masters.push(range.master.clone());
            }
        }
        masters
    }

    /// How many slots have a node. A cluster that is well has [`SLOTS`].
    #[must_use]
    pub fn served(&self) -> usize {
        self.ranges.iter().map(|range| usize::from(range.last - range.first) + 1).sum()
    }
}

impl Range {
    /// First slot, last slot, master, replicas; a node is its host, its port, and more.
    fn read(entry: &Value, asked: &str) -> Option<Range> {
        let Value::Array(entry) = entry else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &entry[..] else { return None };
        let [host, Value::Int(port), ..] = &master[..] else { return None };
        let host = match host {
            Value::Nil => asked.to_owned(),
            Value::BulkString(host) if host.is_empty() => asked.to_owned(),
            Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
            _ => return None,
        };
        let slot = |number: i64| u16::try_from(number).ok().filter(|slot| *slot < SLOTS);
        let (first, last) = (slot(*first)?, slot(*last)?);
        let port = u16::try_from(*port).ok().filter(|port| *port > 0)?;
        if host.len() > HOST_BYTES_MAX {
            return None;
        }
        (first <= last).then_some(Range { first, last, master: (host, port) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    fn host(name: &str) -> Value {
        Value::BulkString(name.into())
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        // The checksum's own check value, and what `CLUSTER KEYSLOT` of a Redis 7.0 says.
        assert_eq!(checksum(b"123456789"), 0x31c3);
        for (key, expected) in
            [("", 0), ("foo", 12_182), ("{foo}bar", 12_182), ("foo{}{bar}", 8_363), ("foo{{bar}}zap", 4_015)]
        {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn a_slot_has_the_node_of_its_range_or_none() {
        let answer = Value::Array(vec![range(100, 16_383, host("b"), 2), range(0, 50, host(""), 1)]);
        let topology = Topology::read(&answer, "a").unwrap();
        assert_eq!((topology.master(0), topology.master(50)), (Some(("a", 1)), Some(("a", 1))));
        assert_eq!((topology.master(51), topology.master(99)), (None, None));
        assert_eq!((topology.master(100), topology.master(16_383)), (Some(("b", 2)), Some(("b", 2))));
        assert_eq!(topology.served(), 51 + 16_284);
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for (entry, other) in [
            (range(0, 16_384, host("a"), 1), None),
            (range(-1, 5, host("a"), 1), None),
            (range(5, 4, host("a"), 1), None),
            (range(0, 5, host("a"), 0), None),
            (range(0, 5, Value::Int(3), 1), None),
            (Value::Nil, None),
            (range(0, 5, host("a"), 1), Some(range(5, 9, host("b"), 1))),
        ] {
            let answer = Value::Array([Some(entry), other].into_iter().flatten().collect());
            assert!(Topology::read(&answer, "a").is_err(), "{answer:?}");
        }
        assert!(Topology::read(&Value::Nil, "a").is_err());
    }

    #[test]
    fn a_node_that_has_no_name_is_refused_with_what_to_set() {
        let error = Topology::read(&Value::Array(vec![range(0, 5, host("?"), 7)]), "a").unwrap_err();
        assert!(error.contains("port 7") && error.contains("cluster-announce-hostname"), "{error}");
    }

    #[test]
    fn masters_are_counted_once_and_no_further_than_asked_for() {
        let ranges = (0..SLOTS).map(|slot| range(slot.into(), slot.into(), host("a"), i64::from(slot) % 1_000 + 1));
        let topology = Topology::read(&Value::Array(ranges.collect()), "a").unwrap();
        assert_eq!(topology.masters(usize::MAX).len(), 1_000);
        assert_eq!(topology.masters(2), [("a".to_owned(), 1), ("a".to_owned(), 2)]);
    }

    proptest! {
        #[test]
        fn every_key_has_a_slot_and_the_tag_alone_decides(key: Vec<u8>, tag in "[a-z]{1,9}", rest: Vec<u8>) {
            prop_assert!(slot(&key) < SLOTS);
            let tagged = [b"{", tag.as_bytes(), b"}", &rest].concat();
            prop_assert_eq!(slot(&tagged), slot(tag.as_bytes()));
        }
    }
}
