//! The connections to one host, and the requests that wait for one.
//!
//! A connection carries one request at a time with HTTP/1.1 and many with HTTP/2; apart from that both are pooled alike.
//! A request takes a connection that has room; else it waits, and a connection is made if the ones being made are fewer
//! than those who wait. So a slow connect never holds up requests when another connection becomes free meanwhile. When
//! making one fails, all who wait are told so, as in Envoy: whoever tries again does so knowingly.
//!
//! The circuit breakers bound everything here: connections, waiting requests, requests under way.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::breaker::{CircuitBreakers, Permit};
use super::connection::{Connected, Failure, Sender, connect};
use super::host::HostStats;
use super::reset::{Reset, ResetReason};
use super::stream::Stream;
use crate::proxy::bootstrap::model::UpstreamProtocol;
use crate::proxy::stats::ClusterStats;

/// What all pools of a cluster have in common.
#[derive(Debug)]
pub struct PoolSettings {
    /// What is spoken.
    pub protocol: UpstreamProtocol,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for which an unused connection is kept.
    pub idle_timeout: Option<Duration>,
    /// Time for which a connection is used at all.
    pub max_connection_duration: Option<Duration>,
    /// Requests that a connection carries, one after the other or together.
    pub max_requests_per_connection: Option<u32>,
    /// The cluster's statistics.
    pub stats: Arc<ClusterStats>,
    /// The cluster's circuit breakers.
    pub breakers: CircuitBreakers,
}

/// The connections to one host.
pub struct Pool {
    /// Where the host is.
    pub address: SocketAddr,
    pub(super) settings: Arc<PoolSettings>,
    pub(super) host: Arc<HostStats>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Connections with room for a request, the one used last at the end. An HTTP/1.1 connection is here or with the
    /// request that it carries; an HTTP/2 connection stays here.
    ready: Vec<Connection>,
    /// Those who wait, the longest first. Who gave up is still here, its receiver gone.
    waiting: VecDeque<oneshot::Sender<Result<Stream, Reset>>>,
    connecting: usize,
    /// Connections there are, carrying a request or not.
    open: usize,
    is_closed: bool,
}

/// A connection as the pool and its streams know it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: Sender,
    pub(super) facts: Arc<Facts>,
}

/// What is to know about a connection.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) local_address: Option<SocketAddr>,
    pub(super) failure: Failure,
    since: Instant,
    /// Requests it carries now, and has carried.
    active: AtomicU32,
    total: AtomicU32,
    idle_since: Mutex<Instant>,
}

// === impl Pool ===

impl Pool {
    /// A pool without connections.
    #[must_use]
    pub fn new(address: SocketAddr, settings: Arc<PoolSettings>, host: Arc<HostStats>) -> Pool {
        Pool { address, settings, host, state: Mutex::default() }
    }

    /// A stream to the host: room on a connection for one request.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn stream(self: &Arc<Pool>) -> Result<Stream, Reset> {
        let (receiver, _pending) = {
            let mut state = self.lock();
            if let Some(connection) = state.take_ready(&self.settings) {
                return self.begin(&mut state, connection);
            }
            let traffic = &self.settings.stats.traffic;
            let Some(pending) = self.settings.breakers.pending_requests.try_acquire() else {
                traffic.upstream_rq_pending_overflow.increment();
                return Err(ResetReason::Overflow.into());
            };
            traffic.upstream_rq_pending_total.increment();
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(sender);
            self.connect_for_waiting(&mut state);
            (receiver, pending)
        };
        // The other end is only dropped with the pool.
        receiver.await.unwrap_or_else(|_| Err(ResetReason::ConnectionTermination.into()))
    }

    /// Closes connections that have not been used for as long as they may, or are too old.
    pub fn close_idle(&self, now: Instant) {
        let (idle, oldest) = (self.settings.idle_timeout, self.settings.max_connection_duration);
        let is_over = |limit: Option<Duration>, since: Instant| {
            limit.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
        };
        self.lock().ready.retain(|connection| {
            let facts = &connection.facts;
            let is_idle = facts.active.load(Ordering::Relaxed) == 0;
            let idle_since = *facts.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
            !connection.sender.is_closed() && !(is_idle && (is_over(idle, idle_since) || is_over(oldest, facts.since)))
        });
    }

    /// Closes connections that carry nothing now.
    pub fn close_unused(&self) {
        let is_used = |connection: &Connection| connection.facts.active.load(Ordering::Relaxed) > 0;
        self.lock().ready.retain(is_used);
    }

    /// Closes unused connections and makes no more: the host has left the cluster.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.ready.clear();
    }

    /// A connection has room again.
    pub(super) fn release(self: &Arc<Pool>, connection: Connection) {
        let facts = &connection.facts;
        facts.active.fetch_sub(1, Ordering::Relaxed);
        *facts.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let is_used_up = self.settings.max_requests_per_connection.is_some_and(|max| facts.is_used_up(max));
        let mut state = self.lock();
        // HTTP/2 connections are among the ready ones all the time.
        if !state.is_closed && !is_used_up && matches!(connection.sender, Sender::Http1(_)) {
            state.ready.push(connection);
        }
        self.serve_waiting(&mut state);
        // Who still waits may need a connection in the place of this one.
        self.connect_for_waiting(&mut state);
    }

    /// A connection gets no more requests.
    pub(super) fn forget(&self, connection: &Connection) {
        self.lock().ready.retain(|ready| !Arc::ptr_eq(&ready.facts, &connection.facts));
    }

    fn begin(self: &Arc<Pool>, state: &mut State, connection: Connection) -> Result<Stream, Reset> {
        let traffic = &self.settings.stats.traffic;
        let Some(permit) = self.settings.breakers.requests.try_acquire() else {
            traffic.upstream_rq_active_overflow.increment();
            if matches!(connection.sender, Sender::Http1(_)) {
                state.ready.push(connection);
            }
            return Err(ResetReason::ActiveOverflow.into());
        };
        connection.facts.active.fetch_add(1, Ordering::Relaxed);
        connection.facts.total.fetch_add(1, Ordering::Relaxed);
        traffic.upstream_rq_total.increment();
        self.host.rq_total.increment();
        Ok(Stream::new(Arc::clone(self), connection, permit))
    }

    /// Gives connections with room to those who wait.
    fn serve_waiting(self: &Arc<Pool>, state: &mut State) {
        while state.drop_gone() {
            let Some(connection) = state.take_ready(&self.settings) else { return };
            let stream = self.begin(state, connection);
            if let Some(waiting) = state.waiting.pop_front() {
                // Who went in this instant drops the stream, which gives the connection back: but that would lock the
                // state again, so it must happen elsewhere.
                if let Err(unwanted) = waiting.send(stream) {
                    tokio::spawn(async move { drop(unwanted) });
                }
            }
        }
    }

    /// Makes connections while those being made are fewer than those who wait.
    fn connect_for_waiting(self: &Arc<Pool>, state: &mut State) {
        while state.drop_gone() && !state.is_closed && state.capacity_to_come(&self.settings) < state.waiting.len() {
            let connections = &self.settings.breakers.connections;
            let permit = match connections.try_acquire() {
                Some(permit) => permit,
                None => {
                    self.settings.stats.traffic.upstream_cx_overflow.increment();
                    if state.open > 0 || state.connecting > 0 {
                        return;
                    }
                    connections.acquire_anyway()
                }
            };
            state.connecting += 1;
            tokio::spawn(Arc::clone(self).connect(permit));
        }
    }

    async fn connect(self: Arc<Pool>, permit: Permit) {
        let (settings, traffic) = (&self.settings, &self.settings.stats.traffic);
        traffic.upstream_cx_total.increment();
        match settings.protocol {
            UpstreamProtocol::Http1 => traffic.upstream_cx_http1_total.increment(),
            UpstreamProtocol::Http2(_) => traffic.upstream_cx_http2_total.increment(),
        }
        self.host.cx_total.increment();
        let active = self.host.cx_active.guard();
        let began = Instant::now();
        let connected = connect(self.address, settings).await;
        let driver = match connected {
            Err(reset) => {
                traffic.upstream_cx_connect_fail.increment();
                traffic.upstream_cx_destroy.increment();
                if reset.reason == ResetReason::ConnectionTimeout {
                    traffic.upstream_cx_connect_timeout.increment();
                }
                self.host.cx_connect_fail.increment();
                drop((permit, active));
                self.fail_waiting(&reset);
                return;
            }
            Ok(Connected { sender, local_address, failure, driver }) => {
                settings.stats.connect_ms.record(milliseconds(began.elapsed()));
                let facts = Arc::new(Facts::new(local_address, failure));
                let mut state = self.lock();
                state.connecting -= 1;
                state.open += 1;
                if !state.is_closed {
                    state.ready.push(Connection { sender, facts });
                }
                self.serve_waiting(&mut state);
                driver
            }
        };
        // Whatever ends it, those who use it learn of it by themselves.
        driver.await;
        settings.stats.length_ms.record(milliseconds(began.elapsed()));
        traffic.upstream_cx_destroy.increment();
        drop((permit, active));
        let mut state = self.lock();
        state.open -= 1;
        state.ready.retain(|connection| !connection.sender.is_closed());
        self.connect_for_waiting(&mut state);
    }

    fn fail_waiting(self: &Arc<Pool>, reset: &Reset) {
        let waiting = {
            let mut state = self.lock();
            state.connecting -= 1;
            std::mem::take(&mut state.waiting)
        };
        for waiting in waiting {
            if waiting.send(Err(reset.clone())).is_ok() {
                self.settings.stats.traffic.upstream_rq_pending_failure_eject.increment();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Streams hold the pool, so nobody is waiting here: only unused connections end with it.
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).ready.clear();
    }
}

// === impl State ===

impl State {
    /// A connection with room; an HTTP/2 connection stays in its place and is shared.
    fn take_ready(&mut self, settings: &PoolSettings) -> Option<Connection> {
        self.ready.retain(|connection| !connection.sender.is_closed());
        let room = |connection: &Connection| {
            let used_up = settings.max_requests_per_connection.is_some_and(|max| connection.facts.is_used_up(max));
            !used_up && connection.facts.active.load(Ordering::Relaxed) < settings.streams_max()
        };
        let index = self.ready.iter().rposition(room)?;
        match &self.ready[index].sender {
            Sender::Http1(_) => Some(self.ready.remove(index)),
            Sender::Http2(sender) => {
                Some(Connection { sender: Sender::Http2(sender.clone()), facts: Arc::clone(&self.ready[index].facts) })
            }
        }
    }

    /// Forgets those who gave up; says whether anybody waits.
    fn drop_gone(&mut self) -> bool {
        self.waiting.retain(|waiting| !waiting.is_closed());
        !self.waiting.is_empty()
    }

    fn capacity_to_come(&self, settings: &PoolSettings) -> usize {
        self.connecting.saturating_mul(settings.streams_max() as usize)
    }
}

// === impl PoolSettings ===

impl PoolSettings {
    /// Requests that a connection carries together.
    fn streams_max(&self) -> u32 {
        match self.protocol {
            UpstreamProtocol::Http1 => 1,
            UpstreamProtocol::Http2(settings) => settings.max_concurrent_streams,
        }
    }
}

// === impl Facts ===

impl Facts {
    fn new(local_address: Option<SocketAddr>, failure: Failure) -> Facts {
        let now = Instant::now();
        Facts {
            local_address,
            failure,
            since: now,
            active: AtomicU32::new(0),
            total: AtomicU32::new(0),
            idle_since: Mutex::new(now),
        }
    }

    fn is_used_up(&self, max: u32) -> bool {
        self.total.load(Ordering::Relaxed) >= max
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
