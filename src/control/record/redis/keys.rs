//! The names of what replicas share, in Redis.
//!
//! ```text
//! <prefix> {} g <service>   the gate (a counter)        <prefix> {} L   the lease
//! <prefix> {} r <service>   the record                  <prefix> {} E   the epoch
//! <prefix> {} c <service>   the changes                 <prefix> {} N   the replicas
//! <prefix> {} t <service>   the last ticks
//! <prefix> {} h <service>   the operator's hand
//! ```
//! In a Redis Cluster the tag of their lane stands between the braces, so that they lie in one slot.
//!
//! A letter stands where a counter's key has its version, which is a digit: no counter is ever named like these.

/// Names with one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// What all begin with, braces and tag included.
    begin: Box<[u8]>,
}

// === impl Keys ===

impl Keys {
    /// `tag` stands between the braces; it is empty outside of clusters.
    pub(super) fn new(prefix: &[u8], tag: &str) -> Keys {
        Keys { begin: [prefix, b"{", tag.as_bytes(), b"}"].concat().into() }
    }

    pub(super) fn gate(&self, service: &str) -> Vec<u8> {
        self.name(b'g', service)
    }

    pub(super) fn record(&self, service: &str) -> Vec<u8> {
        self.name(b'r', service)
    }

    pub(super) fn changes(&self, service: &str) -> Vec<u8> {
        self.name(b'c', service)
    }

    pub(super) fn ticks(&self, service: &str) -> Vec<u8> {
        self.name(b't', service)
    }

    pub(super) fn hand(&self, service: &str) -> Vec<u8> {
        self.name(b'h', service)
    }

    pub(super) fn lease(&self) -> Vec<u8> {
        self.name(b'L', "")
    }

    pub(super) fn epoch(&self) -> Vec<u8> {
        self.name(b'E', "")
    }

    pub(super) fn replicas(&self) -> Vec<u8> {
        self.name(b'N', "")
    }

    fn name(&self, kind: u8, service: &str) -> Vec<u8> {
        [&self.begin, &[kind][..], service.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::redis::lanes::{Lane, halves};
    use crate::key::CounterKey;

    #[test]
    fn a_gate_is_called_here_as_it_is_where_it_is_charged() {
        let gate = CounterKey::gate(b"t:", "shop");
        assert_eq!(Keys::new(b"t:", "").gate("shop"), gate.as_bytes());
        let (before, after) = halves(gate.as_bytes());
        let tag = Lane::RECORDS.tag();
        assert_eq!(Keys::new(b"t:", tag).gate("shop"), [before, tag.as_bytes(), after].concat());
    }
}
