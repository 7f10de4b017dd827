//! What the service counts about itself, under the names that dashboards of the reference service read.
//!
//! There is one [`Metrics`] per process; clones share it. Nothing is looked up by label while a request is answered:
//! a rule resolves its [`RuleCounters`] when it is loaded, everything else is a field, and counting is adding to an
//! atomic. Labels, text and sorting come into it only when somebody scrapes ([`exposition`]) or metrics are sent
//! ([`dotted`]).
//!
//! No label holds what a caller chose, with one bounded exception: rules that ask for it (`detailed_metric`,
//! `value_to_metric`) get series for values seen at run time, up to a number that the settings state.

pub mod deltas;
pub mod dotted;
pub mod exposition;
mod families;
pub mod histogram;
pub mod mapped;
pub mod mapping;
pub mod rule;
mod series;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use histogram::Histogram;
pub use rule::{RuleCounters, RuleTotals, Tallied, near_threshold};

use series::{RuntimeSeries, SeriesTable};

/// All metrics of the process. Cheap to clone; clones are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    totals: Totals,
    calls: [Calls; GrpcMethod::ALL.len()],
    /// Few words, all from our own source, and touched only when a store fails: a lock and a list will do.
    store_errors: Mutex<Vec<(&'static str, u64)>>,
    series: Mutex<SeriesTable>,
    /// Whether the built-in text shows response times in milliseconds.
    shows_milliseconds: AtomicBool,
    /// The version of the rules that were last accepted by xDS, if they come so.
    xds_version: Mutex<Option<Arc<str>>>,
}

/// Everything that needs no labels to tell it apart.
#[derive(Debug, Default)]
pub struct Totals {
    /// Calls that failed because the counter store gave no answer.
    pub redis_errors: Counter,
    /// Calls that failed because they could not be answered as they were asked, or no rules were loaded.
    pub service_errors: Counter,
    /// Rule sets that were loaded.
    pub config_load_success: Counter,
    /// Rule sets that were refused.
    pub config_load_error: Counter,
    /// Answers that global shadow mode turned into OK.
    pub global_shadow_mode: Counter,
    /// Descriptors of domains without rules. The name is not a label: callers choose it.
    pub unknown_domain_hits: Counter,
    /// Limits that callers brought along and that were not used.
    pub overrides_ignored: Counter,
    /// Hits that went to a domain's `other` series because there were too many of their own kind.
    pub series_dropped: Counter,
    /// Calls that had waited to be read for half of the time that their callers wait, and were refused undecided.
    pub late_calls: Counter,
    /// TLS handshakes of clients on the gRPC port that failed.
    pub tls_handshake_failures: Counter,
    /// 1 while the files of the gRPC port's certificate can't be used and an older one is shown; else 0.
    pub tls_certificate_rejected: Gauge,
    /// Seconds since the epoch at which the gRPC port's certificate ends; 0 without TLS.
    pub tls_certificate_ends_at: Gauge,
    /// Open gRPC connections.
    pub grpc_connections: Gauge,
    /// Counters that the memory store holds.
    pub memory_keys: Gauge,
    /// Counters that the memory store has dropped for want of room since the start, as it counts them itself.
    pub memory_evictions: Gauge,
    /// 1 while the rules that were read last have mistakes, or their files are gone, and older ones stay in force; else 0.
    pub config_rejected: Gauge,
    /// Calls that a node of a Redis Cluster has redirected, or asked to try again.
    pub redis_redirects: Counter,
    /// Rules in force.
    pub rules_loaded: Gauge,
    /// How often rules have been put in force since the start.
    pub config_generation: Gauge,
    /// Lines for statsd that were taken from the counters and did not leave this machine.
    pub statsd_lines_lost: Counter,
    /// Answers of the xDS server that were refused because they can't be read, or are of another type.
    pub xds_refused_unreadable: Counter,
    /// Answers of the xDS server that were refused because their rules have mistakes.
    pub xds_refused_rules: Counter,
    /// 1 while the rules come by xDS and its server can't be reached; else 0.
    pub xds_unreachable: Gauge,
    /// Seconds since the epoch since which there is a connection to the xDS server; 0 where there is none.
    pub xds_connected_since: Gauge,
    /// Spans that the collector has taken.
    pub trace_spans_exported: Counter,
    /// Spans that were dropped because too many waited to be exported.
    pub trace_spans_dropped: Counter,
    /// Spans that the collector did not take, or that could not be brought to it.
    pub trace_spans_failed: Counter,
    /// 1 if the mapping file for Prometheus has mistakes or can't be read, and the built-in names stand; else 0.
    pub metrics_mapping_rejected: Gauge,
}

/// The unary methods of the gRPC port, by the names that the reference service gives them in its metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcMethod {
    /// `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`.
    ShouldRateLimit,
    /// `grpc.health.v1.Health/Check`.
    Check,
    /// `grpc.health.v1.Health/List`.
    List,
}

/// The calls of one method.
#[derive(Debug, Default)]
pub struct Calls {
    total: Counter,
    response_time: Histogram,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that somebody sets.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

// === impl Metrics ===

impl Metrics {
    /// Series for values seen at run time that there may be unless the settings say otherwise. At about half a
    /// kilobyte each they take 5 MB, and a scrape of them about as much; the longest paths make it 15 MB.
    pub const SERIES_MAX: usize = 10_000;

    /// Metrics that are all zero, with room for `series_max` series for values seen at run time.
    #[must_use]
    pub fn new(series_max: usize) -> Metrics {
        let inner = Inner {
            totals: Totals::default(),
            calls: Default::default(),
            store_errors: Mutex::default(),
            series: Mutex::new(SeriesTable::new(series_max)),
            shows_milliseconds: AtomicBool::new(false),
            xds_version: Mutex::default(),
        };
        Metrics { inner: Arc::new(inner) }
    }

    /// The counters of the rule at `path` (its levels without the domain, as the reference service writes them:
    /// `key_value`, or `key` alone). Asked once, when the rule is loaded.
    ///
    /// Rules whose domain and path are the same share their counters; the same rule gets the same counters again after
    /// a reload.
    #[must_use]
    pub fn rule(&self, domain: &str, path: &[&str]) -> Arc<RuleCounters> {
        self.series().rule(domain, path)
    }

    /// Drops the series of rules whose counters nobody holds any more. Called after a reload, when the old rules are
    /// gone; requests that are still under way with them keep their own alive until the next call.
    pub fn forget_unheld(&self) {
        self.series().forget_unheld();
    }

    /// The counters for a path with a caller's values in it, for a rule of `domain` that asks for them. The domain
    /// must be a configured one: each may have one series beyond the bound, `key1="other"`, which is what is given
    /// when there are as many others as there may be.
    #[must_use]
    pub fn runtime(&self, domain: &str, path: &[String]) -> Arc<RuleCounters> {
        match self.series().runtime(domain, path) {
            RuntimeSeries::Own(counters) => counters,
            RuntimeSeries::Other(counters) => {
                self.inner.totals.series_dropped.increment();
                counters
            }
        }
    }

    /// Drops the series of values seen at run time that have not been seen since the last call. Meant to be called
    /// every hour or so: a scraper takes a series that comes back for one that was reset.
    pub fn forget_idle(&self) {
        self.series().forget_idle();
    }

    /// Everything without labels.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.inner.totals
    }

    /// The calls of one gRPC method.
    #[must_use]
    pub fn calls(&self, method: GrpcMethod) -> &Calls {
        &self.inner.calls[method as usize]
    }

    /// Shows response times in milliseconds from now on in [`exposition`], in the series whose name says seconds: so
    /// does the reference service if it is asked to.
    pub fn show_milliseconds(&self) {
        self.inner.shows_milliseconds.store(true, Ordering::Relaxed);
    }

    /// Says which version of the rules was last accepted by xDS. It is a label: its length must be bounded.
    pub fn xds_accepted(&self, version: &str) {
        *self.inner.xds_version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.into());
    }

    /// The version of the rules that were last accepted by xDS; `None` if none were.
    #[must_use]
    pub fn xds_version(&self) -> Option<Arc<str>> {
        self.inner.xds_version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a failure of the counter store, by its kind.
    pub fn store_error(&self, kind: &'static str) {
        let mut errors = self.inner.store_errors.lock().unwrap_or_else(PoisonError::into_inner);
        match errors.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => errors.push((kind, 1)),
        }
    }

    /// A panic can't leave the table half-changed in a way that matters more than a number in a dashboard.
    fn series(&self) -> MutexGuard<'_, SeriesTable> {
        self.inner.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new(Metrics::SERIES_MAX)
    }
}

// === impl GrpcMethod ===

impl GrpcMethod {
    /// All of them, in the order of their declaration.
    pub const ALL: [GrpcMethod; 3] = [GrpcMethod::ShouldRateLimit, GrpcMethod::Check, GrpcMethod::List];

    /// The name in the label `grpc_method`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            GrpcMethod::ShouldRateLimit => "ShouldRateLimit",
            GrpcMethod::Check => "Check",
            GrpcMethod::List => "List",
        }
    }
}

// === impl Calls ===

impl Calls {
    /// Counts a call that took so long, whatever its answer.
    pub fn observe(&self, duration: Duration) {
        self.total.increment();
        self.response_time.observe(duration);
    }
}

// === impl Counter ===

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Gauge ===

impl Gauge {
    /// Sets the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one away. Whoever calls it has called [`Gauge::increment`] before.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_calls_of_its_own() {
        let metrics = Metrics::default();
        for (index, method) in GrpcMethod::ALL.into_iter().enumerate() {
            for _ in 0..=index {
                metrics.calls(method).observe(Duration::from_micros(70));
            }
        }
        let totals = GrpcMethod::ALL.map(|method| metrics.calls(method).total.get());
        assert_eq!(totals, [1, 2, 3]);
    }

    #[test]
    fn hits_without_a_series_of_their_own_are_counted() {
        let metrics = Metrics::new(1);
        for value in ["a", "b", "c", "b"] {
            metrics.runtime("d", &[format!("user_{value}")]).record_unlimited(1);
        }
        assert_eq!(metrics.totals().series_dropped.get(), 3);
        assert_eq!(metrics.runtime("d", &["user_z".to_owned()]).totals().total_hits, 3);
    }

    #[test]
    fn clones_are_the_same_metrics() {
        let metrics = Metrics::default();
        metrics.clone().totals().redis_errors.increment();
        assert_eq!(metrics.totals().redis_errors.get(), 1);
    }
}
