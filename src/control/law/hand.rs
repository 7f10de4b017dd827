//! The operator's hand on a limit.

use serde::{Deserialize, Serialize};

use crate::rate::Rate;

/// What an operator wants of a limit for a while, in place of what the law would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hand {
    /// It stays as it is.
    Freeze,
    /// It is this.
    Override(Rate),
}
