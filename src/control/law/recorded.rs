//! What a step was made of, so that it can be made again.
//!
//! The law is a function: with the same state, law, observation and instant it decides the same, to the bit. So a tick
//! that was kept with what it was told proves what was decided, and can be held against another law.

use serde::{Deserialize, Serialize};

use super::advance::advance;
use super::constants::Law;
use super::decision::Decision;
use super::hand::Hand;
use super::observation::Observation;
use super::state::State;
use crate::clock::Timestamp;
use crate::rules::service::ServiceMode;

/// What a step was told, besides the law and the mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// When it was decided.
    pub now: Timestamp,
    /// The operator's hand that lay on the limit.
    pub hand: Option<Hand>,
    /// Between two scrapes, in seconds, as it was measured: what of the law is in no file.
    pub scrape: f64,
    /// What the law remembered.
    pub state: State,
    /// What it saw.
    pub seen: Observation,
}

// === impl Recorded ===

impl Recorded {
    /// The step again, under `law` with the scrape interval of then.
    #[must_use]
    pub fn again(&self, state: &State, mode: ServiceMode, law: &Law) -> (State, Decision) {
        let law = Law { scrape: self.scrape, ..law.clone() };
        advance(mode, self.hand, state, &law, &self.seen, self.now)
    }
}
