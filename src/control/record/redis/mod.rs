//! Records in Redis, where replicas meet.
//!
//! In a Redis Cluster all of them are in one slot, whose master the connection follows.
//!
//! Every call is one script, so that it has its whole effect or none, and all instants are Redis's own. There is one
//! connection beside those of the request path (`link`); calls may be under way on it at once, so a leader of thousands of
//! services writes many at a time.

mod keys;
mod link;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::redis::{Pipeline, Script, Value};
use tokio::time::Instant;

use self::keys::Keys;
use self::link::Link;
use super::change::{Change, Event, since};
use super::{
    CHANGES_MAX, ENTRY_BYTES_MAX, Epoch, LATEST_MAX, Lease, LeaseTimes, Poll, REMEMBERED_FOR, REPLICA_LIFETIME, Record,
    RecordError, RecordStore, Remembered, ReplicaId, STATE_BYTES_MAX, Standing, TICKS_MAX, Update, Written,
    whole_millis,
};
use crate::clock::Timestamp;
use crate::control::hand::{LIFETIME_MAX, OperatorsHand, Order, Signature};
use crate::counters::redis::Connector;
use crate::rate::Rate;
use crate::window::GateState;

/// Records in Redis. Clones share the connection.
#[derive(Clone, Debug)]
pub struct RedisRecords {
    link: Link,
    keys: Keys,
    id: ReplicaId,
    times: LeaseTimes,
}

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("common.lua"), "\n", include_str!($file))));
    };
}

script!(LEAD, "lead.lua");
script!(RESIGN, "resign.lua");
script!(LOAD, "load.lua");
script!(WRITE, "write.lua");
script!(HAND, "hand.lua");
script!(LATEST, "latest.lua");
script!(REMEMBERED, "remembered.lua");

/// Sent as text, because several calls go in one round trip and none of them can be made again on its own.
const POLL: &str = concat!(include_str!("common.lua"), "\n", include_str!("poll.lua"));

/// Services of one script call of a poll: two keys each, of which Lua hands over at most 8,000 at once; and Redis does
/// nothing else for less than a millisecond.
const POLLED_AT_ONCE: usize = 500;

/// Longest hand, in bytes: a reason of 200 characters and a name of 64, each of which JSON may write with up to six.
const HAND_BYTES_MAX: usize = 4 << 10;

/// Longest entry as it is stored: the number and the date in front have at most 32 bytes.
const ENTRY_STORED_BYTES_MAX: usize = ENTRY_BYTES_MAX + 32;

/// Answers in front of the services' in a poll.
const POLL_HEAD: usize = 3;

// === impl RedisRecords ===

impl RedisRecords {
    /// The records below that prefix. Nothing is connected yet.
    #[must_use]
    pub fn new(connector: Connector, key_prefix: &[u8], id: ReplicaId, times: LeaseTimes) -> RedisRecords {
        let keys = Keys::new(key_prefix, connector.tag());
        RedisRecords { link: Link::new(connector), keys, id, times }
    }

    /// What lists hold, at most so many entries of each.
    async fn listed<const N: usize>(&self, lists: [(Vec<u8>, usize); N]) -> Result<[Vec<Change>; N], RecordError> {
        let numbers = std::iter::once(ENTRY_STORED_BYTES_MAX).chain(lists.iter().map(|(_, most)| *most));
        let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let arguments: Vec<&[u8]> = numbers.iter().map(|number| number.as_bytes()).collect();
        let answer = self.run(&REMEMBERED, &lists.map(|(key, _)| key), &arguments).await?;
        let found: Vec<Vec<Change>> = answer.iter().map(entries).collect();
        found.try_into().map_err(|_| odd("for what is remembered"))
    }

    async fn run(&self, script: &Script, keys: &[Vec<u8>], arguments: &[&[u8]]) -> Result<Vec<Value>, RecordError> {
        let mut lent = self.link.lend().await?;
        let number = lent.number();
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key);
        }
        for argument in arguments {
            call.arg(*argument);
        }
        self.link.answer(number, call.invoke_async(&mut lent.connection)).await
    }

    async fn operate(
        &self,
        service: &str,
        verb: &str,
        event: &Event,
        hand: [&str; 2],
    ) -> Result<Operated, RecordError> {
        let keys = [self.keys.hand(service), self.keys.record(service), self.keys.changes(service)];
        let (entry, most) = (event.to_text()?, CHANGES_MAX.to_string());
        let kept = whole_millis(REMEMBERED_FOR).to_string();
        let arguments = [verb, &entry, hand[0], hand[1], &most, &kept].map(str::as_bytes);
        let answer = self.run(&HAND, &keys, &arguments).await?;
        let [at, found] = &answer[..] else { return Err(odd("to an operator")) };
        let at = number(at).map(Timestamp::from_millis).ok_or_else(|| odd("to an operator"))?;
        Ok(Operated { at, found: bytes(found) != b"0" })
    }
}

/// What came of an operator's act.
struct Operated {
    at: Timestamp,
    found: bool,
}

impl RecordStore for RedisRecords {
    async fn lead(&self) -> Result<Lease, RecordError> {
        let asked_at = Instant::now();
        let keys = [self.keys.lease(), self.keys.epoch()];
        let granted = whole_millis(self.times.granted).max(1).to_string();
        let answer = self.run(&LEAD, &keys, &[self.id.as_str().as_bytes(), granted.as_bytes()]).await?;
        let [epoch, holder] = &answer[..] else { return Err(odd("for the lease")) };
        if bytes(holder) == self.id.as_str().as_bytes() {
            let epoch = number(epoch).map(Epoch::new).ok_or_else(|| odd("for the lease"))?;
            return Ok(Lease::Leader { epoch, until: self.times.decides_until(asked_at) });
        }
        Ok(Lease::Follower { leader: replica(bytes(holder)) })
    }

    async fn resign(&self) -> Result<(), RecordError> {
        let keys = [self.keys.lease(), self.keys.replicas()];
        let mut lent = self.link.lend().await?;
        let number = lent.number();
        let mut call = RESIGN.key(&keys[..]);
        call.arg(self.id.as_str());
        self.link.answer(number, call.invoke_async::<Value>(&mut lent.connection)).await.map(drop)
    }

    async fn poll(&self, services: &[Arc<str>]) -> Result<Poll, RecordError> {
        let lifetime = whole_millis(REPLICA_LIFETIME).to_string();
        let chunks: Vec<&[Arc<str>]> =
            if services.is_empty() { vec![&[]] } else { services.chunks(POLLED_AT_ONCE).collect() };
        let mut pipeline = Pipeline::with_capacity(chunks.len());
        for (index, chunk) in chunks.iter().enumerate() {
            let id = if index == 0 { self.id.as_str() } else { "" };
            let call = pipeline.cmd("EVAL").arg(POLL).arg(2 + 2 * chunk.len());
            call.arg(self.keys.replicas()).arg(self.keys.lease());
            for service in *chunk {
                call.arg(self.keys.gate(service));
            }
            for service in *chunk {
                call.arg(self.keys.hand(service));
            }
            call.arg(id).arg(&lifetime).arg(HAND_BYTES_MAX);
        }
        let mut lent = self.link.lend().await?;
        let number = lent.number();
        let answers: Vec<Vec<Value>> = self.link.answer(number, pipeline.query_async(&mut lent.connection)).await?;
        read_poll(&chunks, &answers).ok_or_else(|| odd("to a poll"))
    }

    async fn load(&self, service: &str) -> Result<Option<Record>, RecordError> {
        let most = STATE_BYTES_MAX.to_string();
        let answer = self.run(&LOAD, &[self.keys.record(service)], &[most.as_bytes()]).await?;
        let [generation, epoch, limit, written_at, state] = &answer[..] else { return Ok(None) };
        let read = || {
            Some(Record {
                // Bytes that are no text make a state that the law doesn't know, which it then says.
                state: String::from_utf8_lossy(bytes(state)).into_owned(),
                limit: Rate::from_millis(self::number(limit)?),
                generation: self::number(generation)?,
                epoch: Epoch::new(self::number(epoch)?),
                written_at: Timestamp::from_millis(self::number(written_at)?),
            })
        };
        read().map(Some).ok_or_else(|| odd("for a record"))
    }

    async fn write(&self, epoch: Epoch, update: &Update<'_>) -> Result<Written, RecordError> {
        let (step, change) = update.checked_entries()?;
        let change = change.unwrap_or_default();
        let service = update.service;
        let keys = [
            self.keys.record(service),
            self.keys.gate(service),
            self.keys.changes(service),
            self.keys.ticks(service),
            self.keys.epoch(),
        ];
        let governed = update.governed(0, Timestamp::default());
        let numbers = [
            epoch.number(),
            update.known,
            STATE_BYTES_MAX as u64,
            governed.limit.millis(),
            governed.toward.millis(),
            governed.hold_ms,
            governed.decay_ms,
            whole_millis(update.kept()),
            CHANGES_MAX as u64,
            TICKS_MAX as u64,
        ]
        .map(|number| number.to_string());
        let [epoch, known, state_max, limit, toward, hold, decay, kept, changes, ticks] = &numbers;
        let arguments =
            [epoch, known, update.state, state_max, limit, toward, hold, decay, kept, &step, &change, changes, ticks];
        let answer = self.run(&WRITE, &keys, &arguments.map(str::as_bytes)).await?;
        match &answer[..] {
            [word] if bytes(word) == b"deposed" => Ok(Written::Deposed),
            [word] if bytes(word) == b"superseded" => Ok(Written::Superseded),
            [_, generation, at] => {
                let read = || {
                    let at = Timestamp::from_millis(self::number(at)?);
                    Some(Written::Done { generation: self::number(generation)?, at })
                };
                read().ok_or_else(|| odd("to a write"))
            }
            _ => Err(odd("to a write")),
        }
    }

    async fn latest(&self, services: &[Arc<str>]) -> Result<Vec<Option<Change>>, RecordError> {
        let services = &services[..services.len().min(LATEST_MAX)];
        if services.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<Vec<u8>> = services.iter().map(|service| self.keys.ticks(service)).collect();
        let answer = self.run(&LATEST, &keys, &[ENTRY_STORED_BYTES_MAX.to_string().as_bytes()]).await?;
        if answer.len() != services.len() {
            return Err(odd("for the last steps"));
        }
        Ok(answer.iter().map(|entry| Change::parse(bytes(entry))).collect())
    }

    async fn remembered(&self, service: &str) -> Result<Remembered, RecordError> {
        let lists = [(self.keys.changes(service), CHANGES_MAX), (self.keys.ticks(service), TICKS_MAX)];
        let [changes, ticks] = self.listed(lists).await?;
        Ok(Remembered { changes, ticks })
    }

    async fn ticks(&self, service: &str) -> Result<Vec<Change>, RecordError> {
        let [ticks] = self.listed([(self.keys.ticks(service), TICKS_MAX)]).await?;
        Ok(ticks)
    }

    async fn lay(&self, service: &str, order: &Order) -> Result<OperatorsHand, RecordError> {
        let hand = order.laid_at(Timestamp::default());
        let text = serde_json::to_string(&hand).map_err(|error| RecordError::Refused { reason: error.to_string() })?;
        let lifetime = whole_millis(order.lifetime()).to_string();
        let operated = self.operate(service, "lay", &Event::Laid(hand.clone()), [&text, &lifetime]).await?;
        Ok(since(operated.at, hand))
    }

    async fn lift(&self, service: &str, by: &Signature) -> Result<bool, RecordError> {
        let operated = self.operate(service, "lift", &Event::Lifted(by.clone()), ["", ""]).await?;
        Ok(operated.found)
    }

    async fn reset(&self, service: &str, by: &Signature) -> Result<bool, RecordError> {
        let operated = self.operate(service, "reset", &Event::Reset(by.clone()), ["", ""]).await?;
        Ok(operated.found)
    }
}

// === answers ===

fn odd(about: &str) -> RecordError {
    RecordError::Refused { reason: format!("Redis answered {about} what means nothing") }
}

fn bytes(value: &Value) -> &[u8] {
    if let Value::BulkString(bytes) = value { bytes } else { &[] }
}

fn number(value: &Value) -> Option<u64> {
    std::str::from_utf8(bytes(value)).ok()?.parse().ok()
}

fn replica(name: &[u8]) -> Option<ReplicaId> {
    ReplicaId::parse(std::str::from_utf8(name).ok()?)
}

fn entries(list: &Value) -> Vec<Change> {
    let Value::Array(entries) = list else { return Vec::new() };
    entries.iter().filter_map(|entry| Change::parse(bytes(entry))).collect()
}

fn read_poll(chunks: &[&[Arc<str>]], answers: &[Vec<Value>]) -> Option<Poll> {
    let head = answers.first()?;
    let now = Timestamp::from_millis(number(head.first()?)?);
    let replicas = u32::try_from(number(head.get(1)?)?).ok()?;
    let leader = bytes(head.get(2)?).split(|byte| *byte == b' ').nth(1).and_then(replica);
    let mut services = Vec::with_capacity(chunks.iter().map(|chunk| chunk.len()).sum());
    for (chunk, answer) in chunks.iter().zip(answers) {
        if answer.len() != POLL_HEAD + 2 * chunk.len() {
            return None;
        }
        let (gates, hands) = answer[POLL_HEAD..].split_at(chunk.len());
        services.extend(gates.iter().zip(hands).map(|(gate, hand)| Standing {
            gate: GateState::decode(bytes(gate)),
            hand: read_hand(bytes(hand)).filter(|hand| hand.is_on(now)),
        }));
    }
    (answers.len() == chunks.len()).then_some(Poll { now, replicas, leader, services })
}

/// A hand as it is stored; `None` if it is none.
fn read_hand(text: &[u8]) -> Option<OperatorsHand> {
    let (at, hand) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    let hand: OperatorsHand = serde_json::from_str(hand).ok()?;
    let lifetime = Duration::from_millis(hand.until.as_millis());
    (lifetime <= LIFETIME_MAX).then_some(since(Timestamp::from_millis(at.parse().ok()?), hand))
}
