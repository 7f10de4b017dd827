//! A service under load, its gate and its metrics, in steps of one second: what a law is tried on before it is trusted.
//!
//! ```text
//! demand ─► Poisson ─┬─► gate ─► queue, bounded ─► capacity ─► answers ─► counters ─► scrapes ─► increase()
//!            retries ┘    │ refused       │ full: fails at once    │ late: wasted
//!                         ▼               ▼                        ▼
//! ```
//!
//! Pure: chance is a seeded generator of our own ([`chance`]), so that a seed gives the same history on every machine
//! and in every version. A second is short against everything the law does, and coarse enough that an hour is simulated
//! in a blink.

pub mod chance;
pub mod course;
pub mod gate;
pub mod latency;
pub mod metrics;
pub mod service;

pub use chance::Chance;
pub use course::Course;
pub use gate::Gate;
pub use latency::ServiceTime;
pub use metrics::{Fault, FaultKind, Metrics, MetricsTerms};
pub use service::{Outcome, Service, ServiceTerms};
