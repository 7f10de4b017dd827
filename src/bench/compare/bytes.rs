//! What a counter takes: in Redis as `MEMORY USAGE` says it, in the memory store as the process grows.
//!
//! From outside a process only its resident memory can be seen: with many counters its growth, divided by their number,
//! is what each costs with everything around it (hash table, allocator, key). It is read after a thousand calls about
//! other counters, so that buffers don't count. Counters are hit through `/json`, one after the other; each is hit once
//! in a tick, and a full one in as many ticks as a window has. For Redis that is read back from the logs themselves,
//! for the memory store from the answers: hits of one tick each that still count are ticks that are kept.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::plan::Scale;
use super::rules_file::single;
use super::servers::{Programs, Running};
use crate::bench::system::http::Http;
use crate::bench::system::interrupt::Interrupt;
use crate::bench::system::redis_server::RedisServer;
use crate::bench::system::{SystemError, cpu};
use crate::clock::{Clock, SystemClock};

/// Where counters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// In the process.
    Memory,
    /// In Redis.
    Redis,
}

/// How much a counter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// One hit.
    Once,
    /// A hit in every tick of its window.
    Full,
}

/// What a counter takes.
#[derive(Clone, Debug, Serialize)]
pub struct CounterBytes {
    /// Where.
    pub store: Store,
    /// How full.
    pub fill: Fill,
    /// Bytes of one.
    pub bytes_per_counter: f64,
    /// Over how many it is the mean.
    pub counters: usize,
    /// Ticks that each has a hit in, on average.
    pub ticks: f64,
}

/// More than the precision, so that hits are counted by ticks, and little enough that a tick's hits take two bytes.
const LIMIT: u32 = 1_000;

/// Ticks of a window.
const TICKS: usize = 64;

/// Counters in Redis: one call's.
const REDIS_COUNTERS: usize = 100;

/// Length of a tick in Redis's part.
const REDIS_TICK: Duration = Duration::from_millis(50);

/// Calls before the memory is read for the first time.
const WARM_UP_CALLS: usize = 1_000;

/// A window that doesn't end meanwhile.
const LONG_WINDOW_MS: u64 = 3_600_000;

/// Time that all of it takes, about.
#[must_use]
pub fn time(scale: &Scale) -> Duration {
    // 100 counters in about a millisecond.
    let once = Duration::from_micros(10 * scale.counters_once as u64);
    once + (scale.tick + REDIS_TICK) * TICKS as u32 + Duration::from_secs(3)
}

/// Measures all four.
///
/// # Errors
/// When a server fails, or an interrupt comes.
pub fn measure(scale: &Scale, programs: &Programs) -> Result<Vec<CounterBytes>, SystemError> {
    let mut found = in_redis(programs)?;
    found.push(in_memory_once(scale, programs)?);
    found.push(in_memory_full(scale, programs)?);
    Ok(found)
}

// === Redis ===

fn in_redis(programs: &Programs) -> Result<Vec<CounterBytes>, SystemError> {
    let redis = RedisServer::start(&programs.cores, &programs.interrupt)?;
    let running = programs.start_tidegate(&rules_by_tick(REDIS_TICK), 1, 1, Some(redis))?;
    let mut http = running.http()?;
    let mut found = Vec::new();
    for pass in 0..TICKS {
        wait_for_tick(REDIS_TICK, &programs.interrupt)?;
        running.hit_each(&mut http, "key", REDIS_COUNTERS, &programs.interrupt)?;
        if pass == 0 {
            found.push(usage_in_redis(&running, Fill::Once)?);
        }
    }
    found.push(usage_in_redis(&running, Fill::Full)?);
    Ok(found)
}

fn usage_in_redis(running: &Running, fill: Fill) -> Result<CounterBytes, SystemError> {
    let mut connection = running.redis().expect("this one keeps its counters in Redis").connect()?;
    let keys: Vec<Vec<u8>> = ::redis::cmd("KEYS").arg("*").query(&mut connection)?;
    let (mut bytes, mut ticks) = (0, 0);
    for key in &keys {
        bytes += ::redis::cmd("MEMORY").arg("USAGE").arg(key).query::<u64>(&mut connection)?;
        let log: Vec<u8> = ::redis::cmd("GET").arg(key).query(&mut connection)?;
        ticks += ticks_of(&log);
    }
    let count = keys.len().max(1) as f64;
    Ok(CounterBytes {
        store: Store::Redis,
        fill,
        bytes_per_counter: bytes as f64 / count,
        counters: keys.len(),
        ticks: ticks as f64 / count,
    })
}

/// Ticks that a stored log has: a header of 19 bytes that holds the newest, and 3 for each older one.
fn ticks_of(log: &[u8]) -> usize {
    log.len().checked_sub(19).map_or(0, |pairs| pairs / 3 + 1)
}

// === memory ===

fn in_memory_once(scale: &Scale, programs: &Programs) -> Result<CounterBytes, SystemError> {
    let running = programs.start_tidegate(&single(LIMIT, LONG_WINDOW_MS), 1, 1, None)?;
    let mut http = running.http()?;
    let before = warmed_up(&running, &mut http, programs)?;
    running.hit_each(&mut http, "key", scale.counters_once, &programs.interrupt)?;
    Ok(growth(&running, before, Fill::Once, scale.counters_once, 1.0))
}

fn in_memory_full(scale: &Scale, programs: &Programs) -> Result<CounterBytes, SystemError> {
    let running = programs.start_tidegate(&rules_by_tick(scale.tick), 1, 1, None)?;
    let mut http = running.http()?;
    let before = warmed_up(&running, &mut http, programs)?;
    let counters = counters_in_a_tick(scale, &running, &mut http, programs)?;
    let mut last = String::new();
    for _ in 0..TICKS {
        wait_for_tick(scale.tick, &programs.interrupt)?;
        last = running.hit_each(&mut http, "key", counters, &programs.interrupt)?;
    }
    let ticks = hits_held(&last);
    Ok(growth(&running, before, Fill::Full, counters, ticks))
}

/// How many counters can be hit in half a tick, at most as many as wanted.
fn counters_in_a_tick(
    scale: &Scale,
    running: &Running,
    http: &mut Http,
    programs: &Programs,
) -> Result<usize, SystemError> {
    const TRIED: usize = 2_000;
    let started = Instant::now();
    running.hit_each(http, "key", TRIED.min(scale.counters_full), &programs.interrupt)?;
    let each = started.elapsed() / TRIED.min(scale.counters_full) as u32;
    let in_half = (scale.tick / 2).as_nanos() / each.as_nanos().max(1);
    Ok(scale.counters_full.min(usize::try_from(in_half).unwrap_or(usize::MAX)).max(REDIS_COUNTERS))
}

/// Resident memory after calls that no rule matches, which make no counter.
fn warmed_up(running: &Running, http: &mut Http, programs: &Programs) -> Result<u64, SystemError> {
    for _ in 0..WARM_UP_CALLS {
        running.hit_each(http, "other", REDIS_COUNTERS, &programs.interrupt)?;
    }
    Ok(memory_of(running))
}

fn growth(running: &Running, before: u64, fill: Fill, counters: usize, ticks: f64) -> CounterBytes {
    let bytes_per_counter = memory_of(running).saturating_sub(before) as f64 / counters as f64;
    CounterBytes { store: Store::Memory, fill, bytes_per_counter, counters, ticks }
}

fn memory_of(running: &Running) -> u64 {
    running.server_ids().into_iter().map(cpu::resident_bytes).sum()
}

/// Mean of the hits that an answer's counters hold, from what it says is left of the limit.
fn hits_held(answer: &str) -> f64 {
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
    let statuses = answer["statuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let left = |status: &serde_json::Value| status["limitRemaining"].as_u64().unwrap_or_default();
    let held: u64 = statuses.iter().map(|status| u64::from(LIMIT).saturating_sub(left(status))).sum();
    held as f64 / statuses.len().max(1) as f64
}

// === ticks ===

/// One rule whose ticks have that length.
fn rules_by_tick(tick: Duration) -> String {
    single(LIMIT, TICKS as u64 * tick.as_millis() as u64)
}

/// Waits until a new tick has begun: they begin at the multiples of their length.
fn wait_for_tick(tick: Duration, interrupt: &Interrupt) -> Result<(), SystemError> {
    let tick_us = tick.as_micros() as u64;
    let in_tick = SystemClock.now().as_micros() % tick_us;
    interrupt.pause(Duration::from_micros(tick_us - in_tick) + Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hits_held_are_what_is_missing_from_the_limit() {
        let answer = r#"{"statuses":[{"limitRemaining":936},{"limitRemaining":938}]}"#;
        assert_eq!(hits_held(answer), 63.0);
        assert_eq!(hits_held(""), 0.0);
    }

    #[test]
    fn ticks_are_counted_in_the_bytes_of_a_log() {
        assert_eq!([0, 19, 22, 19 + 63 * 3].map(|length| ticks_of(&vec![0; length])), [0, 1, 2, 64]);
    }
}
