//! The control law: what the numbers mean for a service's limit. Pure; it knows no clock, no socket, no chance.

pub mod decision;
pub mod state;

pub use decision::{Action, Cause, Decision, Judged};
pub use state::State;
