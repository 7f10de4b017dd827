//! The statistics of the downstream side: HTTP connection managers, listeners, local rate limits.

use super::cluster::{group, prefixed};
use super::codes::CodeStats;
use super::number::Histogram;
use super::sample::{Sample, Scope, Value};

group! {
    /// Connections and requests of clients.
    DownstreamStats {
        counters {
            downstream_cx_total, downstream_cx_http1_total, downstream_cx_http2_total, downstream_cx_destroy,
            downstream_cx_protocol_error, downstream_cx_drain_close, downstream_cx_idle_timeout,
            downstream_rq_total, downstream_rq_http1_total, downstream_rq_http2_total, downstream_rq_rx_reset,
            downstream_rq_tx_reset, downstream_rq_timeout, downstream_rq_header_timeout, downstream_rq_idle_timeout,
            downstream_rq_max_duration_reached, downstream_rq_response_before_rq_complete,
            no_route, no_cluster, rq_direct_response, rq_total
        }
        gauges { downstream_cx_active, downstream_cx_http1_active, downstream_cx_http2_active, downstream_rq_active }
    }
}

group! {
    /// What fault injection did.
    FaultStats {
        counters { aborts_injected, delays_injected, faults_overflow }
        gauges { active_faults }
    }
}

group! {
    /// Health checks of the proxy itself.
    HealthCheckFilterStats {
        counters { request_total, ok, failed }
        gauges {}
    }
}

group! {
    /// What a local rate limit did.
    LocalRateLimitCounters {
        counters { enabled, enforced, ok, rate_limited, shadow_mode }
        gauges {}
    }
}

group! {
    /// Connections of a listener.
    ListenerCounters {
        counters { downstream_cx_total, downstream_cx_destroy, downstream_cx_overflow }
        gauges { downstream_cx_active }
    }
}

/// All statistics of one HTTP connection manager.
#[derive(Debug)]
pub struct HttpStats {
    scope: Scope,
    /// Connections and requests.
    pub downstream: DownstreamStats,
    /// Fault injection.
    pub fault: FaultStats,
    /// Health checks of the proxy itself.
    pub health_check: HealthCheckFilterStats,
    codes: CodeStats,
    time: Histogram,
    /// Life of connections, in ms.
    pub length_ms: Histogram,
}

/// All statistics of one listener.
#[derive(Debug)]
pub struct ListenerStats {
    scope: Scope,
    /// Connections.
    pub connections: ListenerCounters,
}

/// All statistics of one local rate limit.
#[derive(Debug)]
pub struct LocalRateLimitStats {
    scope: Scope,
    /// What it did.
    pub counters: LocalRateLimitCounters,
}

// === impl HttpStats ===

impl HttpStats {
    /// The statistics under that `stat_prefix`, all zero.
    #[must_use]
    pub fn new(prefix: &str) -> HttpStats {
        HttpStats {
            scope: Scope::http(prefix),
            downstream: DownstreamStats::default(),
            fault: FaultStats::default(),
            health_check: HealthCheckFilterStats::default(),
            codes: CodeStats::default(),
            time: Histogram::default(),
            length_ms: Histogram::default(),
        }
    }

    /// Counts a response by its class.
    pub fn count_response(&self, code: u16) {
        self.codes.count(code);
    }

    /// Records how long a request took from its first to its answer's last byte.
    pub fn record_time(&self, milliseconds: u64) {
        self.time.record(milliseconds);
    }

    /// Lists all of them.
    pub fn list<'s>(&'s self, samples: &mut Vec<Sample<'s>>) {
        self.downstream.list(&self.scope, "", samples);
        self.fault.list(&self.scope, "fault.", samples);
        self.health_check.list(&self.scope, "health_check.", samples);
        self.codes.list_classes(&self.scope, "downstream_rq", samples);
        for (name, histogram) in [("downstream_rq_time", &self.time), ("downstream_cx_length_ms", &self.length_ms)] {
            samples.push(prefixed(&self.scope, "", name, Value::Histogram(Box::new(histogram.snapshot()))));
        }
    }

    /// Sets the counters back to zero.
    pub fn reset(&self) {
        self.downstream.reset();
        self.fault.reset();
        self.health_check.reset();
        self.codes.reset();
    }
}

// === impl ListenerStats ===

impl ListenerStats {
    /// The statistics of the listener with that configured address, all zero.
    #[must_use]
    pub fn new(address: &str) -> ListenerStats {
        ListenerStats { scope: Scope::listener(address), connections: ListenerCounters::default() }
    }

    /// Lists all of them.
    pub fn list<'s>(&'s self, samples: &mut Vec<Sample<'s>>) {
        self.connections.list(&self.scope, "", samples);
    }

    /// Sets the counters back to zero.
    pub fn reset(&self) {
        self.connections.reset();
    }
}

// === impl LocalRateLimitStats ===

impl LocalRateLimitStats {
    /// The statistics under that `stat_prefix`, all zero.
    #[must_use]
    pub fn new(prefix: &str) -> LocalRateLimitStats {
        LocalRateLimitStats { scope: Scope::local_rate_limit(prefix), counters: LocalRateLimitCounters::default() }
    }

    /// Lists all of them.
    pub fn list<'s>(&'s self, samples: &mut Vec<Sample<'s>>) {
        self.counters.list(&self.scope, "", samples);
    }

    /// Sets the counters back to zero.
    pub fn reset(&self) {
        self.counters.reset();
    }
}
