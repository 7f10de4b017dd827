//! Calls in Redis's protocol, written in advance: while it is measured, nobody waits for their being put together.

use redis::{Cmd, ConnectionLike, Pipeline, Value, cmd, pipe};

use super::log;
use crate::bench::system::SystemError;
use crate::counters::redis::script::{Batch, sha1};
use crate::window::{Policy, Tally};

/// One script call, ready to be sent again and again.
pub(super) struct ScriptCall {
    batch: Batch,
    packed: Vec<u8>,
}

/// One pipeline of `INCRBY` and `EXPIRE`, ready to be sent again and again.
pub(super) struct IncrbyCall {
    packed: Vec<u8>,
    commands: usize,
}

// === impl ScriptCall ===

impl ScriptCall {
    /// Calls of `per_call` decisions, each of one hit, that together hit so many keys once.
    pub(super) fn all(keys: usize, per_call: usize, policy: Policy) -> Vec<ScriptCall> {
        let numbers: Vec<usize> = (0..keys).collect();
        numbers.chunks(per_call).map(|numbers| ScriptCall::of(numbers, policy)).collect()
    }

    fn of(numbers: &[usize], policy: Policy) -> ScriptCall {
        let mut batch = Batch::new();
        for number in numbers {
            let is_in = batch.try_push(&log::charge(*number, policy));
            assert!(is_in, "a call holds {} decisions of one counter each", Batch::DECISIONS_MAX);
        }
        let mut command = Cmd::new();
        command.arg("EVALSHA").arg(sha1()).arg(batch.keys().len());
        for key in batch.keys() {
            command.arg(key);
        }
        for argument in batch.arguments() {
            command.arg(argument);
        }
        ScriptCall { packed: command.get_packed_command(), batch }
    }

    /// Sends it and reads the answer.
    pub(super) fn send(&self, connection: &mut redis::Connection) -> Result<Value, SystemError> {
        Ok(connection.req_packed_command(&self.packed)?)
    }

    /// What an answer says of each decision.
    pub(super) fn tallies(&self, answer: &Value) -> Result<Vec<Tally>, SystemError> {
        let strange = |answer: String| SystemError::Answer {
            program: "redis-server".to_owned(),
            answer,
            wanted: "a tally for each decision",
        };
        let Value::BulkString(bytes) = answer else { return Err(strange(format!("{answer:?}"))) };
        let decisions = self.batch.decode(bytes).map_err(|error| strange(error.to_string()))?;
        let tallies = decisions.into_iter().map(|decision| decision.map(|tallies| tallies[0]));
        tallies.collect::<Result<_, _>>().map_err(|error| strange(error.to_string()))
    }
}

// === impl IncrbyCall ===

impl IncrbyCall {
    /// Pipelines for `per_call` keys each that together hit so many keys once.
    pub(super) fn all(keys: usize, per_call: usize) -> Vec<IncrbyCall> {
        let numbers: Vec<usize> = (0..keys).collect();
        numbers.chunks(per_call).map(IncrbyCall::of).collect()
    }

    fn of(numbers: &[usize]) -> IncrbyCall {
        let mut pipeline: Pipeline = pipe();
        for number in numbers {
            // About as long as the script's keys, in the reference service's form.
            let key = format!("bench_user_{number:07}_1700000000");
            pipeline.cmd("INCRBY").arg(&key).arg(1).cmd("EXPIRE").arg(&key).arg(60);
        }
        IncrbyCall { packed: pipeline.get_packed_pipeline(), commands: 2 * numbers.len() }
    }

    /// Sends it and reads the answers.
    pub(super) fn send(&self, connection: &mut redis::Connection) -> Result<Vec<Value>, SystemError> {
        Ok(connection.req_packed_commands(&self.packed, 0, self.commands)?)
    }
}

/// Puts `log` under the keys of so many counters, for at least two hours.
pub(super) fn store(connection: &mut redis::Connection, keys: usize, log: &[u8]) -> Result<(), SystemError> {
    for first in (0..keys).step_by(1_000) {
        let mut pipeline = pipe();
        for number in first..keys.min(first + 1_000) {
            pipeline.cmd("SET").arg(log::key(number).as_bytes()).arg(log).arg("EX").arg(7_200).ignore();
        }
        pipeline.query::<()>(connection)?;
    }
    Ok(())
}

/// What is stored under the key of a counter.
pub(super) fn stored(connection: &mut redis::Connection, number: usize) -> Result<Vec<u8>, SystemError> {
    Ok(cmd("GET").arg(log::key(number).as_bytes()).query(connection)?)
}
