//! `tidegate-bench script`: what a decision costs Redis, without the service in front of it.
//!
//! The very batches that the service sends ([`Batch`](crate::counters::redis::script::Batch)) go to a redis-server of
//! the run's own, one call after the other on one connection, and the CPU time of Redis's process is read before and
//! after. Next to each, in the same round, is a pipeline of `INCRBY` and `EXPIRE` for the same number of keys: the
//! fixed windows of the reference service, and the least that a counter in Redis can cost.
//!
//! All logs are full: 65 ticks of a limit above the precision. Three states:
//!
//! | state | what happens to a log |
//! |---|---|
//! | same tick | the newest pair grows: a key that is hit often |
//! | new tick | the oldest pair leaves and one is added, at every hit: the worst case |
//! | refused | nothing is written |
//!
//! That each measurement was of its state is read back from the stored values. One that was not (a tick ended in the
//! middle) is made again, and left out if that doesn't help: on a machine too busy to hit all keys within a tick.

mod commands;
mod log;
mod measure;

use std::time::Duration;

use serde::Serialize;

use self::measure::Bench;
use crate::bench::statistics::Spread;
use crate::bench::system::SystemError;
use crate::bench::system::cores::Cores;
use crate::bench::system::interrupt::Interrupt;

/// What a decision finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The newest tick is the present one.
    SameTick,
    /// The newest tick is over, and the oldest one leaves.
    NewTick,
    /// There is no room.
    Refused,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// How often everything is measured.
    pub rounds: usize,
    /// Most keys of a measurement: each is hit once in a pass.
    pub keys_max: usize,
    /// How often all keys are hit in one measurement.
    pub passes: usize,
}

/// Cost of one state at one size of call, over the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Decisions in a script call, and keys in a pipeline.
    pub per_call: usize,
    /// What the decisions found.
    pub state: State,
    /// CPU µs of Redis per decision, round by round; nothing in rounds in which the state could not be brought about.
    pub script_us: Vec<Option<f64>>,
    /// CPU µs of Redis per `INCRBY` and `EXPIRE` in the same round.
    pub incrby_us: Vec<f64>,
}

/// Sizes of call that are measured; the last is what a call holds at most.
pub const PER_CALL: [usize; 4] = [1, 8, 64, 128];

// === impl State ===

impl State {
    /// All of them.
    pub const ALL: [State; 3] = [State::SameTick, State::NewTick, State::Refused];

    /// As tables write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::SameTick => "same tick",
            State::NewTick => "new tick",
            State::Refused => "refused",
        }
    }
}

// === impl Effort ===

impl Effort {
    /// Time that it takes, about.
    #[must_use]
    pub fn time(&self) -> Duration {
        // Every pass of the new-tick state waits for its tick; the others take about a third of that together.
        let passes = self.rounds * PER_CALL.len() * self.passes;
        Duration::from_millis(500) + measure::NEW_TICK.mul_f64(1.4 * passes as f64)
    }
}

// === impl Cost ===

impl Cost {
    /// CPU µs of Redis per decision.
    #[must_use]
    pub fn micros(&self) -> Option<Spread> {
        Spread::of(self.script_us.iter().copied().flatten())
    }

    /// CPU µs of Redis per `INCRBY` and `EXPIRE`.
    #[must_use]
    pub fn incrby_micros(&self) -> Option<Spread> {
        Spread::of(self.incrby_us.iter().copied())
    }

    /// The one divided by the other.
    #[must_use]
    pub fn ratio(&self) -> Option<Spread> {
        Spread::of_ratios(self.script_us.iter().copied(), self.incrby_us.iter().copied().map(Some))
    }
}

/// Measures every state at every size of call, alternately, with a Redis of its own.
///
/// # Errors
/// When Redis can't be started or asked, or an interrupt comes.
pub fn measure(effort: &Effort, cores: &Cores, interrupt: &Interrupt) -> Result<Vec<Cost>, SystemError> {
    let mut bench = Bench::start(effort, cores, interrupt)?;
    let mut costs: Vec<Cost> = PER_CALL
        .iter()
        .flat_map(|per_call| State::ALL.map(|state| (*per_call, state)))
        .map(|(per_call, state)| Cost { per_call, state, script_us: Vec::new(), incrby_us: Vec::new() })
        .collect();
    for _ in 0..effort.rounds {
        for group in costs.chunks_mut(State::ALL.len()) {
            let incrby_us = bench.incrby(group[0].per_call)?;
            for cost in group {
                cost.script_us.push(bench.script(cost.per_call, cost.state)?);
                cost.incrby_us.push(incrby_us);
            }
        }
    }
    Ok(costs)
}
