//! What is told of the server's being away: once when it goes, once for each new reason, once when it is back. Not once for
//! each attempt, of which a night has thousands.

use std::time::Duration;

use tokio::time::Instant;

use super::XdsAddress;
use crate::clock::{Clock, SystemClock};
use crate::metrics::Totals;

/// Whether the server is there.
#[derive(Debug)]
pub(super) struct Outage {
    server: XdsAddress,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing is known yet.
    Unknown,
    There,
    Away {
        since: Instant,
        attempts: u64,
        /// What was told; more reasons than this are one too many.
        told: Vec<String>,
    },
}

/// Most reasons that are told of one outage.
const REASONS_MAX: usize = 8;

// === impl Outage ===

impl Outage {
    pub(super) fn new(server: XdsAddress) -> Outage {
        Outage { server, state: State::Unknown }
    }

    /// A stream stands.
    pub(super) fn over(&mut self, totals: &Totals) {
        let server = &self.server;
        match std::mem::replace(&mut self.state, State::There) {
            State::There => return,
            State::Unknown => tracing::info!("connected to the xDS server {server}"),
            State::Away { since, attempts, .. } => {
                let away = since.elapsed();
                tracing::info!(attempts, "connected to the xDS server {server} again after {} s", away.as_secs());
            }
        }
        totals.xds_unreachable.set(0);
        totals.xds_connected_since.set(SystemClock.now().as_millis() / 1_000);
    }

    /// A stream ended, or none could be opened.
    pub(super) fn goes_on(&mut self, reason: String, totals: &Totals) {
        let server = &self.server;
        if let State::Unknown | State::There = self.state {
            self.state = State::Away { since: Instant::now(), attempts: 0, told: Vec::new() };
            totals.xds_unreachable.set(1);
            totals.xds_connected_since.set(0);
        }
        let State::Away { attempts, told, .. } = &mut self.state else { return };
        *attempts += 1;
        if told.contains(&reason) || told.len() == REASONS_MAX {
            tracing::debug!(attempts, "the xDS server {server} is still not there: {reason}");
            return;
        }
        tracing::warn!("the xDS server {server} is not there, the rules in force stay: {reason}; it is tried again");
        told.push(reason);
    }
}

/// How long a stream without answers must have stood, from the server's first byte, to count as one. What turns us away
/// does so sooner: a proxy in front of a server that is gone speaks HTTP/2 itself, and tries for some seconds.
pub(super) const SETTLED: Duration = Duration::from_secs(10);
