//! `tidegate-demo compare`: the same overloads under five protections, side by side in one run.
//!
//! ```text
//!              ┌─ proxy ─ inventory   adaptive limit, circuit breakers behind it ─┐
//!              ├─ proxy ─ inventory   static limit, at the adaptive one's max     ├─ Tidegate ×2 ─ Redis
//! open loop  ──┼─ proxy ─ inventory   static limit, tuned to the truth ───────────┘      └─ Prometheus (1 s)
//! (same calls) ├─ proxy ─ inventory   circuit breakers
//!              └─ proxy ─ inventory   Envoy's adaptive concurrency (a real Envoy only)
//! ```
//!
//! A [`scenario`] says how much is asked for and what the inventories can do, second by second; a [`protection`] what
//! stands before them. Each has a proxy and an inventory of its own and gets the same calls at the same instants; they
//! share the machine, so whatever disturbs one disturbs all. What counts is what clients saw ([`seconds`],
//! [`figures`]). Runs are kept in a file of JSON, to which each run adds, and the [`page`] tells them all.

pub mod cli;
pub mod figures;
pub mod page;
pub mod protection;
pub mod run;
pub mod scenario;
pub mod seconds;
pub mod stacks;
