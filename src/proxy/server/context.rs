//! What all listeners have in common: the clusters, who the proxy is, and what its operator wants of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::drain::{Drain, DrainSettings};
use crate::clock::{Clock, SystemClock};
use crate::proxy::bootstrap::model::Node;
use crate::proxy::cluster::Cluster;
use crate::proxy::stats::Registry;

/// What all listeners have in common.
#[derive(Debug)]
pub struct Context {
    /// Who the proxy is.
    pub node: Node,
    /// By name.
    pub clusters: BTreeMap<String, Arc<Cluster>>,
    /// The statistics of listeners and filters.
    pub stats: Registry,
    /// An address of this machine that others can reach, as far as the system knows one.
    pub own_address: IpAddr,
    /// Whether the operator wants it to look unhealthy.
    pub is_failing_health_checks: AtomicBool,
    /// The drain that the operator may begin.
    pub drain: Drain,
    next_connection: AtomicU64,
}

// === impl Context ===

impl Context {
    /// A healthy proxy with those clusters.
    #[must_use]
    pub fn new(node: Node, clusters: BTreeMap<String, Arc<Cluster>>, drain: DrainSettings) -> Context {
        Context {
            node,
            clusters,
            stats: Registry::default(),
            own_address: own_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            is_failing_health_checks: AtomicBool::new(false),
            drain: Drain::new(drain),
            next_connection: AtomicU64::new(0),
        }
    }

    /// The present on the wall clock.
    #[must_use]
    pub fn wall_clock(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(SystemClock.now().as_micros())
    }

    /// The number of a new connection, from 1.
    #[must_use]
    pub fn number_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The address from which this machine would speak to others. Connecting a UDP socket sends nothing; the system only
/// looks up the way to the address, which is one that documentation may use freely.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 254), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
}
