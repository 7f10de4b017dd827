//! The names of what replicas share, in Redis.
//!
//! ```text
//! <prefix> {} g <service>   the gate (a counter)        <prefix> {} L   the lease
//! <prefix> {} r <service>   the record                  <prefix> {} E   the epoch
//! <prefix> {} c <service>   the changes                 <prefix> {} N   the replicas
//! <prefix> {} t <service>   the last ticks
//! <prefix> {} h <service>   the operator's hand
//! ```
//! A letter stands where a counter's key has its version, which is a digit: no counter is ever named like these.

use crate::key::CounterKey;

/// Names with one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Box<[u8]>,
}

// === impl Keys ===

impl Keys {
    pub(super) fn new(prefix: &[u8]) -> Keys {
        Keys { prefix: prefix.into() }
    }

    pub(super) fn gate(&self, service: &str) -> Vec<u8> {
        CounterKey::gate(&self.prefix, service).as_bytes().to_vec()
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
        [&self.prefix, &b"{}"[..], &[kind], service.as_bytes()].concat()
    }
}
