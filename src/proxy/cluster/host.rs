//! A host of a cluster: its address, its health, what it has done, and the connections to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::balance::Target;
use super::pool::Pool;
use crate::proxy::stats::{Counter, Gauge};

/// A host.
#[derive(Debug)]
pub struct Host {
    /// Where it is.
    pub address: SocketAddr,
    /// Its name for health checks; may be empty.
    pub hostname: String,
    /// Where health checks go, if not to its own port.
    pub health_check_port: Option<u16>,
    /// Its share compared with the others.
    pub weight: u32,
    flags: AtomicU8,
    /// What it has done.
    pub stats: Arc<HostStats>,
    /// Connections to it.
    pub pool: Arc<Pool>,
}

/// What a host has done, for `/clusters`.
#[derive(Debug, Default)]
pub struct HostStats {
    /// Connections that are there or being made.
    pub cx_active: Arc<Gauge>,
    /// Connections ever begun.
    pub cx_total: Counter,
    /// Those that failed to be made.
    pub cx_connect_fail: Counter,
    /// Requests under way.
    pub rq_active: Arc<Gauge>,
    /// Requests ever sent.
    pub rq_total: Counter,
    /// Answers below 500.
    pub rq_success: Counter,
    /// Answers of class 5, and failures.
    pub rq_error: Counter,
    /// Requests without an answer in time.
    pub rq_timeout: Counter,
}

/// A reason why a host is not healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Unhealthy {
    /// Its active health check failed, or has not been made yet.
    FailedActiveCheck = 1,
    /// It was ejected.
    Ejected = 2,
}

// === impl Host ===

impl Host {
    /// A healthy host.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        endpoint: &crate::proxy::bootstrap::model::Endpoint,
        stats: Arc<HostStats>,
        pool: Arc<Pool>,
    ) -> Host {
        Host {
            address,
            hostname: endpoint.hostname.clone(),
            health_check_port: endpoint.health_check_port,
            weight: endpoint.weight,
            flags: AtomicU8::new(0),
            stats,
            pool,
        }
    }

    /// Sets or takes back a reason; says whether that changed anything.
    pub fn mark(&self, reason: Unhealthy, is_so: bool) -> bool {
        let bit = reason as u8;
        let before = if is_so {
            self.flags.fetch_or(bit, Ordering::AcqRel)
        } else {
            self.flags.fetch_and(!bit, Ordering::AcqRel)
        };
        (before & bit != 0) != is_so
    }

    /// Whether the reason holds.
    #[must_use]
    pub fn is(&self, reason: Unhealthy) -> bool {
        self.flags.load(Ordering::Acquire) & reason as u8 != 0
    }

    /// Whether no reason holds.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.flags.load(Ordering::Acquire) == 0
    }

    /// The reasons as `/clusters` writes them.
    #[must_use]
    pub fn health_flags(&self) -> String {
        let names: Vec<&str> =
            [(Unhealthy::FailedActiveCheck, "/failed_active_hc"), (Unhealthy::Ejected, "/failed_outlier_check")]
                .into_iter()
                .filter_map(|(reason, name)| self.is(reason).then_some(name))
                .collect();
        if names.is_empty() { "healthy".to_owned() } else { names.concat() }
    }
}

impl Target for Arc<Host> {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn active_requests(&self) -> u64 {
        self.stats.rq_active.get()
    }
}
