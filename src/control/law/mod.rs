//! The control law: what the numbers mean for a service's limit. Pure; it knows no clock, no socket, no chance.
//!
//! ```text
//!  State, Law, now ──► windows ──► None: settling, ask nothing
//!                         │
//!                         └──► lengths to ask for ──► (the world answers) ──► Observation
//!                                                                               │
//!  mode, operator's hand, State, Law, now ──────────► advance ◄─────────────────┘
//!                                                        │
//!                                                        └──► State, Decision
//! ```
//!
//! In five sentences. When too many answers are bad or slow, the limit drops to 95 % of what the service was completing,
//! and nothing more is decided until the metrics can show the effect. While answers are good and the limit is what holds
//! traffic back, it climbs, and stops just below the last rate that went badly (the knee), past which it looks in small
//! steps. A raise that makes things worse is taken back at once. If cuts change nothing, load is not the cause: the old
//! limit returns and this level counts as normal for a while. Without data the limit stands, then drifts to where the
//! operator wants it.
//!
//! [`advance`] is what a controller calls at every tick. [`step`] is the law alone, without mode and operator.

mod advance;
mod constants;
pub mod decision;
mod fit;
mod format;
pub mod hand;
mod judge;
#[cfg(test)]
mod laws;
mod observation;
mod prospect;
mod recorded;
mod relax;
mod sentence;
mod stale;
pub mod state;
mod step;
#[cfg(test)]
mod tests;
mod tighten;
mod wilson;
mod window;

pub use advance::advance;
pub use constants::{Constants, Law, StaleTerms};
pub use decision::{Action, Cause, Decision, Judged, Knee, Would};
pub use hand::Hand;
pub use observation::{Admitted, Observation};
pub use prospect::prospect;
pub use recorded::Recorded;
pub use state::State;
pub use step::step;
pub use window::{full_after, windows};
