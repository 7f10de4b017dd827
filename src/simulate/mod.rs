//! The law tried before it is trusted: over a plant, closed loop, or over a recorded series, open loop.
//!
//! ```text
//!              ┌────────── limit, a second later ──────────┐
//!              ▼                                           │
//! scenario ─► plant ─► metrics ─► windows asked for ─► law::advance ─► run ─► measures
//!
//! series of samples ─────────────────────────────────► law::advance, mode observe ─► what would have been done
//! ```

pub mod command;
mod fields;
#[cfg(test)]
mod golden;
mod instant;
pub mod measure;
#[cfg(test)]
mod mix;
mod page;
pub mod past;
pub mod plant;
pub mod recording;
pub mod replay;
pub mod run;
pub mod scenario;
mod show;
pub mod tried;

pub use measure::Measures;
pub use replay::replay;
pub use run::{Run, Scenario, Second, run};
