//! One measurement: bring the keys into a state, hit each of them a few times, read Redis's CPU time, check the state.

use std::time::Duration;

use super::commands::{IncrbyCall, ScriptCall, store, stored};
use super::log::{FULL, Seen, full, policy, see};
use super::{Effort, State};
use crate::bench::system::SystemError;
use crate::bench::system::cores::Cores;
use crate::bench::system::cpu;
use crate::bench::system::interrupt::Interrupt;
use crate::bench::system::redis_server::RedisServer;
use crate::clock::{Clock, SystemClock};
use crate::counters::redis::script::SCRIPT;
use crate::window::{Tally, Verdict};

/// A Redis that is asked directly.
pub(super) struct Bench {
    redis: RedisServer,
    connection: redis::Connection,
    interrupt: Interrupt,
    effort: Effort,
}

/// Keys that one measurement hits, before and after: what the state can be seen by.
struct Sample {
    number: usize,
    before: Seen,
}

/// A tick's length where ticks must not end while it is measured. A measurement takes less than a second.
const LONG_TICK: Duration = Duration::from_secs(60);

/// A tick's length where every pass must find a new one: longer than a pass takes, or passes skip ticks.
pub(super) const NEW_TICK: Duration = Duration::from_millis(100);

/// Keys per decision of a call, so that a pass takes less than a tick also where every decision is a round trip.
const KEYS_PER_DECISION: usize = 512;

/// How often a state is brought about again when it was not what it should have been.
const ATTEMPTS: usize = 4;

/// Every how many keys one is looked at.
const SAMPLE_STEP: usize = 61;

/// A moment in which Redis goes back to sleep after its last answer; only then is all of its time accounted for.
const SETTLE: Duration = Duration::from_millis(1);

// === impl Bench ===

impl Bench {
    /// Starts a Redis and loads the script.
    pub(super) fn start(effort: &Effort, cores: &Cores, interrupt: &Interrupt) -> Result<Bench, SystemError> {
        let redis = RedisServer::start(cores, interrupt)?;
        let mut connection = redis.connect()?;
        redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query::<String>(&mut connection)?;
        Ok(Bench { redis, connection, interrupt: interrupt.clone(), effort: *effort })
    }

    /// CPU µs of Redis for `INCRBY` and `EXPIRE` of one key, with so many keys in a pipeline.
    pub(super) fn incrby(&mut self, per_call: usize) -> Result<f64, SystemError> {
        let calls = IncrbyCall::all(self.keys(per_call), per_call);
        // The first pass makes the keys.
        self.timed(&calls, IncrbyCall::send)?;
        let mut spent = Duration::ZERO;
        for _ in 0..self.effort.passes {
            spent += self.timed(&calls, IncrbyCall::send)?.0;
        }
        Ok(self.per_decision(spent, per_call))
    }

    /// CPU µs of Redis for one decision that finds that state, with so many decisions in a call; nothing if the state
    /// could not be brought about.
    pub(super) fn script(&mut self, per_call: usize, state: State) -> Result<Option<f64>, SystemError> {
        for _ in 0..ATTEMPTS {
            if let Some(spent) = self.script_once(per_call, state)? {
                return Ok(Some(self.per_decision(spent, per_call)));
            }
        }
        Ok(None)
    }

    /// Nothing if a key was seen not to be in that state.
    fn script_once(&mut self, per_call: usize, state: State) -> Result<Option<Duration>, SystemError> {
        let (keys, passes) = (self.keys(per_call), self.effort.passes);
        let tick = if state == State::NewTick { NEW_TICK } else { LONG_TICK };
        let tick_ms = tick.as_millis() as u64;
        // All of a full log's hits are then the whole limit; or there is plenty of room, in hits of two bytes.
        let limit = if state == State::Refused { FULL as u32 } else { 60_000 };
        let policy = policy(limit, tick_ms);
        let calls = ScriptCall::all(keys, per_call, policy);
        if state == State::NewTick {
            self.wait_for_tick(tick_ms)?;
        }
        store(&mut self.connection, keys, &full(policy, tick_ms, SystemClock.now()))?;
        let sample = self.sample(keys)?;

        let mut spent = Duration::ZERO;
        let wanted = if state == State::Refused { Verdict::Over } else { Verdict::Within };
        for _ in 0..passes {
            if state == State::NewTick {
                self.wait_for_tick(tick_ms)?;
            }
            let (time, answers) = self.timed(&calls, ScriptCall::send)?;
            spent += time;
            for (call, answer) in calls.iter().zip(&answers) {
                let tallies: Vec<Tally> = call.tallies(answer)?;
                if tallies.iter().any(|tally| tally.verdict != wanted) {
                    return Ok(None);
                }
            }
        }
        for Sample { number, before } in sample {
            let after = see(&stored(&mut self.connection, number)?);
            if !after.is_some_and(|after| is_as_it_should_be(state, passes as u64, before, after)) {
                return Ok(None);
            }
        }
        Ok(Some(spent))
    }

    /// Sends all calls, one after the other, and returns the CPU time that Redis had meanwhile, and the answers.
    fn timed<C, A>(
        &mut self,
        calls: &[C],
        send: impl Fn(&C, &mut redis::Connection) -> Result<A, SystemError>,
    ) -> Result<(Duration, Vec<A>), SystemError> {
        self.interrupt.check()?;
        let before = cpu::of_processes(&[self.redis.id()]);
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            answers.push(send(call, &mut self.connection)?);
        }
        std::thread::sleep(SETTLE);
        Ok((cpu::of_processes(&[self.redis.id()]).saturating_sub(before), answers))
    }

    /// Waits until a new tick has begun.
    fn wait_for_tick(&self, tick_ms: u64) -> Result<(), SystemError> {
        let in_tick = SystemClock.now().as_micros() % (tick_ms * 1_000);
        self.interrupt.pause(Duration::from_micros(tick_ms * 1_000 - in_tick) + SETTLE)
    }

    fn sample(&mut self, keys: usize) -> Result<Vec<Sample>, SystemError> {
        let mut samples = Vec::new();
        for number in (0..keys).step_by(SAMPLE_STEP) {
            let before = see(&stored(&mut self.connection, number)?).expect("it was stored just now");
            samples.push(Sample { number, before });
        }
        Ok(samples)
    }

    fn keys(&self, per_call: usize) -> usize {
        self.effort.keys_max.min(KEYS_PER_DECISION * per_call)
    }

    fn per_decision(&self, spent: Duration, per_call: usize) -> f64 {
        spent.as_secs_f64() * 1e6 / (self.keys(per_call) * self.effort.passes) as f64
    }
}

/// Whether a log that was hit so often, and was `before`, is what the state makes of it.
fn is_as_it_should_be(state: State, hits: u64, before: Seen, after: Seen) -> bool {
    match state {
        State::SameTick => {
            let newest_hits = before.newest_hits + hits;
            after == Seen { sum: before.sum + hits, newest_hits, ..before }
        }
        // A pass that came late has skipped a tick: some may be missing.
        State::NewTick => after.newest >= before.newest + hits && after.newest_hits == 1 && after.ticks * 4 >= FULL * 3,
        State::Refused => after == before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_from_the_others_by_the_stored_logs() {
        let before = Seen { sum: 65, newest: 1_000, newest_hits: 1, ticks: FULL };
        let grown = Seen { sum: 73, newest_hits: 9, ..before };
        let moved = Seen { newest: 1_008, ..before };
        let is = |state, after| is_as_it_should_be(state, 8, before, after);
        assert_eq!(State::ALL.map(|state| is(state, grown)), [true, false, false]);
        assert_eq!(State::ALL.map(|state| is(state, moved)), [false, true, false]);
        assert_eq!(State::ALL.map(|state| is(state, before)), [false, false, true]);
        assert!(!is(State::NewTick, Seen { ticks: 40, ..moved }), "half of the ticks were skipped");
    }
}
