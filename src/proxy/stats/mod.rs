//! The statistics that Envoy keeps of clusters and listeners, under Envoy's own names.
//!
//! A statistic is an atomic number that requests raise as they pass; nothing is collected until somebody asks. Each
//! group of them ([`ClusterStats`], [`HttpStats`], …) can list itself as [`Sample`]s, and two writers turn samples into
//! the forms of the admin listener: [`text`] for `/stats`, [`prometheus`] for `/stats/prometheus`.

mod cluster;
mod codes;
mod http;
mod number;
pub mod prometheus;
mod registry;
mod sample;
pub mod text;

use cluster::prefixed;
pub use cluster::{BreakerStats, ClusterStats, OutlierStats, RateLimitStats, TrafficStats};
pub use codes::CodeStats;
pub use http::{HttpStats, ListenerStats, LocalRateLimitStats};
pub use number::{Counter, Gauge, GaugeGuard, Histogram, HistogramSnapshot};
pub use registry::{Named, Registry};
pub use sample::{Sample, Scope, Value};
