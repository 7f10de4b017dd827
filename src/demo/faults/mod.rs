//! `tidegate-demo faults`: what an adaptive limit stands on is broken, one thing after the other, under a load that the
//! service bears, and what requests notice of it is measured.
//!
//! ```text
//! calm ─ fault begins ──────────── fault ends ─ after it ─ calm ─ next fault …
//!      │ Prometheus, a replica, or Redis        │
//! ```
//!
//! The processes are those of one stack of the comparison ([`super::compare`]): a proxy, two replicas over a Redis, a
//! Prometheus, an inventory. A [`fault`] says what is broken, [`stand`] breaks and mends it, [`spans`] keeps what clients saw,
//! and the [`page`] holds each fault against the calm before it.

pub mod cli;
pub mod fault;
pub mod page;
pub mod run;
pub mod spans;
pub mod stand;
