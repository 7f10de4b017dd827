//! The statistics of one cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::codes::CodeStats;
use super::number::Histogram;
use super::sample::{Sample, Scope, Value};

/// Declares a group of statistics whose field names are Envoy's names.
macro_rules! group {
    ($(#[$about:meta])* $name:ident { counters { $($counter:ident),* $(,)? } gauges { $($gauge:ident),* $(,)? } }) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        #[allow(missing_docs)] // the names are Envoy's, whose documentation says what they count
        pub struct $name {
            $(pub $counter: $crate::proxy::stats::Counter,)*
            $(pub $gauge: std::sync::Arc<$crate::proxy::stats::Gauge>,)*
        }

        impl $name {
            /// Lists them.
            pub fn list<'s>(
                &self,
                scope: &'s $crate::proxy::stats::Scope,
                prefix: &str,
                samples: &mut Vec<$crate::proxy::stats::Sample<'s>>,
            ) {
                use $crate::proxy::stats::Value;
                $(
                    let value = Value::Counter(self.$counter.get());
                    samples.push($crate::proxy::stats::prefixed(scope, prefix, stringify!($counter), value));
                )*
                $(
                    let value = Value::Gauge(self.$gauge.get());
                    samples.push($crate::proxy::stats::prefixed(scope, prefix, stringify!($gauge), value));
                )*
            }

            /// Sets the counters back to zero; gauges stay what they are.
            pub fn reset(&self) {
                $(self.$counter.reset();)*
            }
        }
    };
}
pub(super) use group;

group! {
    /// Connections, requests and retries of a cluster.
    TrafficStats {
        counters {
            upstream_cx_total, upstream_cx_http1_total, upstream_cx_http2_total, upstream_cx_connect_fail,
            upstream_cx_connect_timeout, upstream_cx_overflow, upstream_cx_destroy, upstream_cx_none_healthy,
            upstream_cx_protocol_error,
            upstream_rq_total, upstream_rq_pending_total, upstream_rq_pending_overflow, upstream_rq_active_overflow,
            upstream_rq_pending_failure_eject, upstream_rq_cancelled, upstream_rq_timeout,
            upstream_rq_per_try_timeout, upstream_rq_max_duration_reached, upstream_rq_rx_reset, upstream_rq_tx_reset,
            upstream_rq_retry, upstream_rq_retry_success, upstream_rq_retry_overflow,
            upstream_rq_retry_limit_exceeded, upstream_rq_retry_backoff_exponential, retry_or_shadow_abandoned,
            lb_healthy_panic, membership_change, update_attempt, update_success, update_failure, update_empty,
            update_no_rebuild
        }
        gauges {
            upstream_cx_active, upstream_rq_active, upstream_rq_pending_active, membership_total, membership_healthy
        }
    }
}

group! {
    /// What outlier detection did.
    OutlierStats {
        counters {
            ejections_enforced_total, ejections_overflow, ejections_detected_consecutive_5xx,
            ejections_enforced_consecutive_5xx, ejections_detected_consecutive_gateway_failure,
            ejections_enforced_consecutive_gateway_failure, ejections_total, ejections_consecutive_5xx
        }
        gauges { ejections_active }
    }
}

group! {
    /// What active health checks found.
    HealthCheckStats {
        counters { attempt, success, failure, passive_failure, network_failure, verify_cluster }
        gauges { healthy, degraded }
    }
}

group! {
    /// Which circuit breakers are open now: 1 while a limit is reached.
    BreakerStats {
        counters {}
        gauges { cx_open, rq_pending_open, rq_open, rq_retry_open }
    }
}

group! {
    /// What the rate limit filter was told about requests to this cluster.
    RateLimitStats {
        counters { ok, over_limit, error, failure_mode_allowed }
        gauges {}
    }
}

/// All statistics of one cluster.
#[derive(Debug)]
pub struct ClusterStats {
    scope: Scope,
    /// Connections, requests and retries.
    pub traffic: TrafficStats,
    /// Outlier detection.
    pub outlier: OutlierStats,
    /// Active health checks.
    pub health_check: HealthCheckStats,
    /// Open circuit breakers.
    pub breakers: BreakerStats,
    codes: CodeStats,
    external: CodeStats,
    internal: CodeStats,
    retries: CodeStats,
    time: Histogram,
    time_external: Histogram,
    time_internal: Histogram,
    /// Time to connect, in ms.
    pub connect_ms: Histogram,
    /// Life of connections, in ms.
    pub length_ms: Histogram,
    /// By the filter's `stat_prefix`, empty where it has none. As many as there are filters in the configuration.
    rate_limit: Mutex<BTreeMap<String, Arc<RateLimitStats>>>,
}

// === impl ClusterStats ===

impl ClusterStats {
    /// The statistics of the cluster with that name, all zero.
    #[must_use]
    pub fn new(name: &str) -> ClusterStats {
        ClusterStats {
            scope: Scope::cluster(name),
            traffic: TrafficStats::default(),
            outlier: OutlierStats::default(),
            health_check: HealthCheckStats::default(),
            breakers: BreakerStats::default(),
            codes: CodeStats::default(),
            external: CodeStats::default(),
            internal: CodeStats::default(),
            retries: CodeStats::default(),
            time: Histogram::default(),
            time_external: Histogram::default(),
            time_internal: Histogram::default(),
            connect_ms: Histogram::default(),
            length_ms: Histogram::default(),
            rate_limit: Mutex::default(),
        }
    }

    /// Counts a response to a request for this cluster, whether a host sent it or the proxy did in its stead.
    pub fn count_response(&self, code: u16, internal: bool) {
        self.codes.count(code);
        (if internal { &self.internal } else { &self.external }).count(code);
    }

    /// Counts a response that was not passed on because the request is tried again.
    pub fn count_retried_response(&self, code: u16) {
        self.retries.count(code);
    }

    /// Records how long a host took from the end of the request to the end of its response.
    pub fn record_time(&self, milliseconds: u64, internal: bool) {
        self.time.record(milliseconds);
        (if internal { &self.time_internal } else { &self.time_external }).record(milliseconds);
    }

    /// What the rate limit filter with that `stat_prefix` counts here.
    #[must_use]
    pub fn rate_limit(&self, prefix: &str) -> Arc<RateLimitStats> {
        let mut all = self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(prefix.to_owned()).or_default())
    }

    /// Lists all of them.
    pub fn list<'s>(&'s self, samples: &mut Vec<Sample<'s>>) {
        let scope = &self.scope;
        self.traffic.list(scope, "", samples);
        self.outlier.list(scope, "outlier_detection.", samples);
        self.health_check.list(scope, "health_check.", samples);
        self.breakers.list(scope, "circuit_breakers.default.", samples);
        for (prefix, stats) in self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let dot = if prefix.is_empty() { "" } else { "." };
            stats.list(scope, &format!("ratelimit.{prefix}{dot}"), samples);
        }
        for (name, codes) in [("", &self.codes), ("external.", &self.external)] {
            codes.list(scope, &format!("{name}upstream_rq"), samples);
        }
        for (name, codes) in [("internal.", &self.internal), ("retry.", &self.retries)] {
            // Envoy makes these with their first response.
            let mut listed = Vec::new();
            codes.list(scope, &format!("{name}upstream_rq"), &mut listed);
            samples.extend(listed.into_iter().filter(|sample| !sample.value.is_unused()));
        }
        for (name, histogram, always) in [
            ("upstream_rq_time", &self.time, true),
            ("external.upstream_rq_time", &self.time_external, true),
            ("internal.upstream_rq_time", &self.time_internal, false),
            ("upstream_cx_connect_ms", &self.connect_ms, true),
            ("upstream_cx_length_ms", &self.length_ms, true),
        ] {
            let snapshot = histogram.snapshot();
            if always || snapshot.count > 0 {
                samples.push(prefixed(scope, "", name, Value::Histogram(Box::new(snapshot))));
            }
        }
    }

    /// Sets the counters back to zero.
    pub fn reset(&self) {
        self.traffic.reset();
        self.outlier.reset();
        self.health_check.reset();
        for codes in [&self.codes, &self.external, &self.internal, &self.retries] {
            codes.reset();
        }
        self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|stats| stats.reset());
    }

    /// How many responses with that code were counted.
    #[must_use]
    pub fn responses(&self, code: u16) -> u64 {
        self.codes.get(code)
    }
}

/// A statistic whose name has dots in the text form and underscores for Prometheus.
pub(super) fn prefixed<'s>(scope: &'s Scope, prefix: &str, name: &str, value: Value) -> Sample<'s> {
    let name = format!("{prefix}{name}");
    Sample { scope, series: (name.replace('.', "_"), Vec::new()), name, value }
}
