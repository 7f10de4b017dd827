//! The control law: what the numbers mean for a service's limit. Pure; it knows no clock, no socket, no chance.

pub mod decision;
pub mod hand;
pub mod state;

pub use decision::{Action, Cause, Decision, Judged};
pub use hand::Hand;
pub use state::State;
