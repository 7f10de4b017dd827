//! `tidegate-demo`: a shop collapses, and then doesn't.
//!
//! ```text
//! open-loop load ─ proxy ─ order ─ proxy ─┬─ user
//!                            │            └─ inventory   200 a second, less when too many wait
//!                            └ global limit: Tidegate ×2 ─ Redis
//! ```
//!
//! Each [`stage`] runs the proxy with another of the files in `config/envoy/` under the same load, and everything else
//! goes on. What the clients saw becomes a table and a page ([`report`]). The files are used as they are but for the
//! addresses in them ([`configuration`]), so what works here works on an Envoy of one's own.
//!
//! Processes are started by [`programs`] and end with this one, however it ends.

pub mod adaptive;
pub mod cli;
pub mod compare;
pub mod configuration;
pub mod faults;
pub mod load;
pub mod ports;
pub mod programs;
pub mod progress;
pub mod prometheus;
pub mod report;
pub mod results;
pub mod run;
pub mod runs;
pub mod stage;
pub mod table;
