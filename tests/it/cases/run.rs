//! Runs cases over a store and tells, for each that failed, which claim did not hold, at which call, and how.

use std::sync::Arc;

use serde_json::Value as Json;
use tidegate::clock::{Clock, ManualClock, SystemClock, Timestamp};
use tidegate::counters::any::{AnyStore, InRedis};
use tidegate::counters::memory::{MemoryLimits, MemoryStore};
use tidegate::counters::over_limit::{OverLimitMemory, Remembering};
use tidegate::counters::redis::{Address, BatchOptions, Connector, RedisStore, Server, Timeouts};
use tidegate::limit::Unit;
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use tokio_util::task::TaskTracker;

use super::case::{Action, Case, CaseClock, Profile, Step};
use super::service::Service;
use super::shorthand::{Answer, Exchange, Expected};
use crate::support::PATIENCE;
use crate::support::redis::Redis;

/// Where the counters of a run live.
pub(super) enum Store<'r> {
    /// A new memory store for each case, with a clock that stands still.
    Memory,
    /// One Redis for all cases, each with a key prefix of its own, and the way there.
    Redis(&'r Redis, &'r InRedis),
}

/// What a case was at when it failed.
struct Failure {
    /// `call 3 \`…\``, or another place in the case.
    place: String,
    expected: String,
    got: String,
}

/// How often a case is run again because the hour turned over meanwhile.
const ATTEMPTS_MAX: usize = 3;

/// A store that counts in `redis`, once it is connected.
pub(super) async fn redis_store(redis: &Redis, tasks: &TaskTracker) -> InRedis {
    let address = Address::Tcp("127.0.0.1".to_owned(), redis.port());
    let server = Server { address, tls: None, database: 0, username: None, password: None, password_file: None };
    let connector = Connector::new(server, Timeouts { connect: PATIENCE, response: PATIENCE });
    let store = RedisStore::start(connector, BatchOptions { decisions_max: 8, calls_in_flight: 2 }, tasks);
    let reached = tokio::time::timeout(PATIENCE, store.reached().wait_for(|reached| *reached)).await.map(|_| ());
    reached.expect("the store reaches a Redis that runs");
    InRedis::One(store)
}

/// Runs those of `cases` that `store` can run in `profile`. Returns how many those were and a report of each failure.
pub(super) async fn run(cases: &[Case], profile: Profile, store: &Store<'_>) -> (usize, Vec<String>) {
    let cases: Vec<Case> = cases.iter().filter_map(|case| case.in_profile(profile)).collect();
    let runnable = cases.iter().filter(|case| store.can_run(case, profile));
    let mut count = 0;
    let mut reports = Vec::new();
    for case in runnable {
        count += 1;
        if let Err(failure) = run_case(case, profile, store).await {
            reports.push(failure.report(case, store));
        }
    }
    (count, reports)
}

async fn run_case(case: &Case, profile: Profile, store: &Store<'_>) -> Result<(), Failure> {
    for attempt in 0..ATTEMPTS_MAX {
        let before = hour();
        let result = attempt_case(case, profile, store, attempt).await;
        // A fixed window may have ended between two calls, which the answers then show.
        if matches!(store, Store::Memory) || hour() == before {
            return result;
        }
    }
    panic!("{}: the hour turned over during each of {ATTEMPTS_MAX} attempts", case.id);
}

fn hour() -> u64 {
    SystemClock.now().as_millis() / 3_600_000
}

async fn attempt_case(case: &Case, profile: Profile, store: &Store<'_>, attempt: usize) -> Result<(), Failure> {
    let clock = ManualClock::at(Timestamp::from_millis(case.starts_at() * 1_000));
    let any_store = match store {
        Store::Memory => AnyStore::Memory(Arc::new(memory_store(&clock))),
        Store::Redis(_, store) => match case.settings.over_limit_memory {
            None => AnyStore::Redis((*store).clone()),
            Some(bytes) => {
                let memory = Arc::new(OverLimitMemory::new(bytes));
                AnyStore::Remembering(Remembering::new((*store).clone(), memory))
            }
        },
    };
    let moves_itself = matches!(store, Store::Redis(..)) && case.clock == CaseClock::Any;
    let present: Arc<dyn Clock> = if moves_itself { Arc::new(SystemClock) } else { Arc::new(clock.clone()) };
    let prefix = format!("{}/{profile:?}/{attempt}/", case.id);
    let mut service = Service::new(&case.settings, profile, any_store, Arc::clone(&present), &prefix);
    if let Store::Redis(redis, _) = store {
        put_keys(redis, &prefix, case);
    }
    if let Some(rules) = &case.rules {
        let failed = |errors| Failure { place: "the rules".into(), expected: "they load".into(), got: errors };
        service.load(rules).map_err(failed)?;
    }
    let mut number = 0;
    for step in &case.calls {
        for _ in 0..step.times {
            number += 1;
            clock.advance(step.advance);
            run_step(&mut service, step, number).await?;
        }
    }
    for (series, expected) in &case.metrics {
        let got = service.metric(series);
        // What is over is remembered in front of Redis alone.
        let is_of_redis = series.starts_with("over_limit_with_local_cache ");
        let expected = if is_of_redis && matches!(store, Store::Memory) { &0 } else { expected };
        if got != *expected {
            let place = format!("metric `{series}`");
            return Err(Failure { place, expected: expected.to_string(), got: got.to_string() });
        }
    }
    if let Store::Redis(redis, _) = store {
        check_keys(redis, &prefix, case, present.now())?;
    }
    Ok(())
}

/// Stores what another service has left.
fn put_keys(redis: &Redis, prefix: &str, case: &Case) {
    let mut connection = redis.connect_blocking();
    for (key, stored) in &case.stored {
        let (value, ttl) = stored.0.split_once(" ttl ").unwrap_or_else(|| panic!("{}: {key} has no ttl", case.id));
        let mut set = redis::cmd("SET");
        set.arg(format!("{prefix}{key}")).arg(value).arg("EX").arg(ttl);
        set.query::<()>(&mut connection).expect("Redis takes a key");
    }
}

/// Compares what Redis holds under reference keys.
fn check_keys(redis: &Redis, prefix: &str, case: &Case, now: Timestamp) -> Result<(), Failure> {
    let mut connection = redis.connect_blocking();
    for (key, expected) in &case.keys {
        let expected = &expected.0;
        let (value, ttl) = expected.split_once(" ttl ").map_or((&**expected, None), |(value, ttl)| (value, Some(ttl)));
        let key = with_starts(key, now);
        let full = format!("{prefix}{key}");
        let got: Option<String> = redis::cmd("GET").arg(&full).query(&mut connection).expect("a string");
        let place = format!("key {key}");
        if got.as_deref().unwrap_or("none") != value {
            return Err(Failure { place, expected: value.to_owned(), got: format!("{got:?}") });
        }
        let got: i64 = redis::cmd("TTL").arg(&full).query(&mut connection).expect("a number");
        let bounds = ttl.and_then(|ttl| ttl.split_once("..")).map(|(from, to)| (number(from), number(to)));
        if bounds.is_some_and(|(from, to)| got < from || got > to) {
            return Err(Failure { place, expected: expected.to_owned(), got: format!("ttl {got}") });
        }
    }
    Ok(())
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|error| panic!("'{text}': {error}"))
}

/// A key's text with the start of the present hour for `<hour>`, and so on.
fn with_starts(key: &str, now: Timestamp) -> String {
    Unit::ALL.into_iter().fold(key.to_owned(), |key, unit| {
        let start = now.as_millis() / 1_000 / unit.seconds() * unit.seconds();
        key.replace(&format!("<{}>", unit.name()), &start.to_string())
    })
}

async fn run_step(service: &mut Service, step: &Step, number: usize) -> Result<(), Failure> {
    match &step.action {
        Action::Call { text, exchange, headers, metadata } => {
            let place = format!("call {number} `{text}`");
            let Exchange { request, expected } = &**exchange;
            let response = match (service.ask(request).await, expected) {
                (Ok(response), Expected::Answer(expected)) => {
                    let got = Answer::of(&response);
                    if !expected.allows(&got) {
                        return Err(Failure { place, expected: expected.to_string(), got: got.to_string() });
                    }
                    response
                }
                (Err(got), Expected::Error(expected)) if got == *expected => return Ok(()),
                (Ok(response), Expected::Error(_)) => {
                    return Err(Failure {
                        place,
                        expected: expected.to_string(),
                        got: Answer::of(&response).to_string(),
                    });
                }
                (Err(got), _) => {
                    return Err(Failure { place, expected: expected.to_string(), got: format!("error {got}") });
                }
            };
            check_headers(&response, headers, &place)?;
            check_metadata(&response, metadata, &place)
        }
        Action::Reload { rules, rejected } => {
            let failed =
                |expected: String, got| Err(Failure { place: format!("reload, step {number}"), expected, got });
            match service.load(rules) {
                Ok(()) if rejected.is_empty() => Ok(()),
                Ok(()) => failed(format!("rejected: {}", rejected.join(" … ")), "they load".into()),
                Err(errors) if rejected.is_empty() => failed("they load".into(), errors),
                Err(errors) => match rejected.iter().find(|text| !errors.contains(*text)) {
                    None => Ok(()),
                    Some(missing) => failed(format!("errors with: {missing}"), errors),
                },
            }
        }
    }
}

fn check_headers(response: &RateLimitResponse, expected: &[String], place: &str) -> Result<(), Failure> {
    let headers = response.response_headers_to_add.iter();
    let got: Vec<String> = headers.map(|header| format!("{} {}", header.key, header.value)).collect();
    let allows = |(expected, got): (&String, &String)| match expected.strip_suffix('*') {
        Some(name) => got.starts_with(name),
        None => expected == got,
    };
    if expected.len() == got.len() && expected.iter().zip(&got).all(allows) {
        return Ok(());
    }
    Err(Failure { place: format!("{place}, headers"), expected: format!("{expected:?}"), got: format!("{got:?}") })
}

fn check_metadata(
    response: &RateLimitResponse,
    expected: &std::collections::BTreeMap<String, Json>,
    place: &str,
) -> Result<(), Failure> {
    let metadata = response.dynamic_metadata.as_ref();
    let got = metadata.map_or(Json::Null, |metadata| serde_json::to_value(metadata).expect("a Struct is JSON"));
    let failed = |pointer: &str, expected: &Json, got: &Json| {
        let place = format!("{place}, dynamic metadata {pointer}");
        Err(Failure { place, expected: expected.to_string(), got: got.to_string() })
    };
    if expected.is_empty() && !got.is_null() {
        return failed("", &Json::Null, &got);
    }
    for (pointer, expected) in expected {
        let found = got.pointer(pointer).unwrap_or(&Json::Null);
        if floats(expected) != floats(found) {
            return failed(pointer, expected, found);
        }
    }
    Ok(())
}

/// The value with all its numbers as a Struct has them.
fn floats(value: &Json) -> Json {
    match value {
        Json::Number(number) => number.as_f64().map_or(Json::Null, Json::from),
        Json::Array(values) => values.iter().map(floats).collect(),
        Json::Object(map) => map.iter().map(|(key, value)| (key.clone(), floats(value))).collect(),
        Json::Null | Json::Bool(_) | Json::String(_) => value.clone(),
    }
}

fn memory_store(clock: &ManualClock) -> MemoryStore {
    MemoryStore::new(clock.clone(), MemoryLimits { keys_max: 10_000 })
}

// === impl Store ===

impl Store<'_> {
    /// Redis's own clock chooses no reference window.
    fn can_run(&self, case: &Case, profile: Profile) -> bool {
        match self {
            Store::Memory => case.stored.is_empty(),
            Store::Redis(..) => case.clock == CaseClock::Any || profile == Profile::Envoyproxy,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Store::Memory => "memory",
            Store::Redis(..) => "redis",
        }
    }
}

// === impl Failure ===

impl Failure {
    fn report(&self, case: &Case, store: &Store<'_>) -> String {
        let Failure { place, expected, got } = self;
        let deviation = case.deviation.as_ref().map(|reason| format!("\n  deviation {reason}")).unwrap_or_default();
        format!(
            "{} over the {} store: {}{deviation}\n  at        {place}\n  expected  {expected}\n  got       {got}",
            case.id,
            store.name(),
            case.claim
        )
    }
}
