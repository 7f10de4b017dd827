//! What the law remembers of a service from one step to the next.

use serde::{Deserialize, Serialize};

/// The memory of the law for one service: a small record that is stored as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The limit in force, in requests per second.
    pub limit: f64,
}
