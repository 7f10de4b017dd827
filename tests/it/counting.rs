//! The script in Redis counts as the arithmetic in Rust does: every tally and every stored byte is compared, over
//! random histories. What Redis alone can show comes after: expiry, foreign values, the largest call.

mod histories;

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis::Value;
use smallvec::SmallVec;
use tidegate::clock::Timestamp;
use tidegate::counters::redis::script::{Batch, SCRIPT, sha1};
use tidegate::counters::{Charge, Charges, StoreError, Tallies};
use tidegate::descriptor::Hits;
use tidegate::key::CounterKey;
use tidegate::limit::Window;
use tidegate::rate::Rate;
use tidegate::window::{
    Charging, Counter, Enforcement, FixedWindow, Gate, GateState, Governed, Member, Policy, Precision, ReferenceWindow,
    SlidingWindow, TokenBucket, Verdict, decide,
};

use self::histories::{any_history, any_hits, any_policy, any_step};
use crate::support::redis::Redis;

/// A connection with the script loaded.
struct Script {
    connection: redis::Connection,
}

impl Script {
    fn load(server: &Redis) -> Script {
        let mut connection = server.connect_blocking();
        let sha: String = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query(&mut connection).unwrap();
        assert_eq!(sha, sha1());
        Script { connection }
    }

    fn call(&mut self, batch: &Batch, now: Option<Timestamp>) -> Vec<Result<Tallies, StoreError>> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(sha1()).arg(batch.keys().len());
        for key in batch.keys() {
            command.arg(key);
        }
        for argument in batch.arguments() {
            command.arg(argument);
        }
        if let Some(now) = now {
            command.arg(now.as_micros());
        }
        let answer: Value = command.query(&mut self.connection).unwrap();
        let Value::BulkString(answer) = answer else { panic!("the script answered {answer:?}") };
        batch.decode(&answer).unwrap().collect()
    }

    fn get(&mut self, key: &CounterKey) -> Vec<u8> {
        let value: Option<Vec<u8>> = redis::cmd("GET").arg(key.as_bytes()).query(&mut self.connection).unwrap();
        value.unwrap_or_default()
    }

    fn run<T: redis::FromRedisValue>(&mut self, words: &[&[u8]]) -> T {
        let mut command = redis::cmd(std::str::from_utf8(words[0]).unwrap());
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut self.connection).unwrap()
    }
}

/// The same counters in Rust.
#[derive(Default)]
struct Model {
    counters: HashMap<CounterKey, Counter>,
}

impl Model {
    fn decide(&mut self, charges: &Charges, now: Timestamp) -> Tallies {
        let mut keys: Vec<CounterKey> = Vec::new();
        let mut members = Vec::new();
        for charge in &charges.members {
            let counter = keys.iter().position(|key| *key == charge.key).unwrap_or(keys.len());
            if counter == keys.len() {
                keys.push(charge.key.clone());
            }
            let (policy, hits, enforcement) = (charge.policy, charge.hits, charge.enforcement);
            members.push(Member { counter, policy, hits, enforcement });
        }
        let first_policy = |at: usize| members.iter().find(|member| member.counter == at).unwrap().policy;
        let mut counters: Vec<Counter> = keys
            .iter()
            .enumerate()
            .map(|(at, key)| self.counters.get(key).cloned().unwrap_or_else(|| first_policy(at).empty_counter()))
            .collect();
        let tallies = decide(&mut counters, &members, charges.charging, now);
        for (key, counter) in keys.into_iter().zip(counters) {
            if counter.is_empty() {
                self.counters.remove(&key);
            } else {
                self.counters.insert(key, counter);
            }
        }
        tallies
    }

    fn get(&self, key: &CounterKey) -> Vec<u8> {
        self.counters.get(key).map(|counter| counter.with_packed(<[u8]>::to_vec)).unwrap_or_default()
    }
}

fn key(number: u64) -> CounterKey {
    let mut writer = CounterKey::write(b"test:", number);
    writer.value("value");
    writer.finish()
}

fn window(millis: u64) -> Window {
    Window::from_millis(millis).unwrap()
}

fn sliding(limit: u32, millis: u64, precision: u32) -> Policy {
    Policy::SlidingWindow(SlidingWindow::new(limit, window(millis), Precision::try_new(precision).unwrap()))
}

fn fixed(limit: u32, millis: u64) -> Policy {
    Policy::FixedWindow(FixedWindow::new(limit, window(millis)))
}

fn reference(limit: u32) -> Policy {
    Policy::ReferenceWindow(ReferenceWindow::try_new(limit, window(3_600_000)).unwrap())
}

fn bucket(limit: u32, millis: u64, burst: u32) -> Policy {
    Policy::TokenBucket(TokenBucket::new(limit, window(millis), burst))
}

/// A gate, which begins with the same limit whenever it has no state.
fn gate(number: u64, observed: bool) -> Policy {
    let start = Rate::from_millis(if number == GATES[0] { 500 } else { 1_000_000 });
    Policy::Gate(Gate { start, observed })
}

/// The keys of two gates.
const GATES: [u64; 2] = [30, 31];

fn charge(number: u64, policy: Policy, hits: Hits) -> Charge {
    Charge { key: key(number), policy, hits, enforcement: Enforcement::Enforced }
}

fn all_or_nothing(members: impl IntoIterator<Item = Charge>) -> Charges {
    Charges { members: members.into_iter().collect(), charging: Charging::AllOrNothing }
}

/// Pushes what there is into as few batches as it takes and calls them in order.
fn call_all(script: &mut Script, decisions: &[Charges], now: Timestamp) -> Vec<Result<Tallies, StoreError>> {
    let mut results = Vec::new();
    let mut batch = Batch::new();
    for charges in decisions {
        if !batch.try_push(charges) {
            results.extend(script.call(&batch, Some(now)));
            batch.clear();
            assert!(batch.try_push(charges), "an empty batch takes every decision");
        }
    }
    results.extend(script.call(&batch, Some(now)));
    results
}

/// What is compared of a stored value: of a reference window not a zero, which the script leaves and Rust drops; of a bucket not the instant until which it is kept, which the script moves
/// once per call and Rust once per charge.
fn comparable(number: u64, bytes: Vec<u8>) -> Vec<u8> {
    match number {
        20..30 => bytes.into_iter().take(20).collect(),
        40.. if bytes == b"0" => Vec::new(),
        _ => bytes,
    }
}

#[test]
fn script_and_rust_agree_on_every_tally_and_byte() {
    let Some(server) = Redis::start_blocking() else { return };
    let script = std::cell::RefCell::new(Script::load(&server));
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&any_history(), |(millis, calls)| {
        let mut script = script.borrow_mut();
        script.run::<()>(&[b"FLUSHALL"]);
        let mut model = Model::default();
        let mut micros = 1_700_000_000_123_456_i64;
        for (step, extra, governed, decisions) in calls {
            micros += step * millis as i64 + i64::from(extra);
            let now = Timestamp::from_micros(micros as u64);
            if let Some((number, governed)) = governed {
                let (key, governed) = (key(GATES[number]), Governed { written_at_ms: now.as_millis(), ..governed });
                if let Some(Counter::Gate(Some(state))) = model.counters.get_mut(&key) {
                    state.governed = governed;
                    script.run::<()>(&[b"SETRANGE", key.as_bytes(), b"0", &governed.to_bytes()]);
                } else {
                    let state = GateState::new(governed, now);
                    script.run::<()>(&[b"SET", key.as_bytes(), &state.to_bytes()]);
                    model.counters.insert(key, Counter::Gate(Some(state)));
                }
            }
            let expected: Vec<Tallies> = decisions.iter().map(|charges| model.decide(charges, now)).collect();
            let answered = call_all(&mut script, &decisions, now);
            for ((charges, expected), answered) in decisions.iter().zip(expected).zip(answered) {
                prop_assert_eq!(answered, Ok(expected), "at {} of {:#?}", micros, charges);
            }
            for number in [0, 1, 2, 10, 11, 20, 21, 22, 30, 31, 40, 41] {
                let stored = comparable(number, script.get(&key(number)));
                prop_assert_eq!(stored, comparable(number, model.get(&key(number))), "key {} at {}", number, micros);
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn one(script: &mut Script, charges: &Charges, now: Option<Timestamp>) -> Result<Tallies, StoreError> {
    let mut batch = Batch::new();
    assert!(batch.try_push(charges));
    script.call(&batch, now).remove(0)
}

fn time_to_live_ms(script: &mut Script, number: u64) -> i64 {
    let key = key(number);
    script.run(&[b"PTTL", key.as_bytes()])
}

#[test]
fn keys_outlive_their_last_hit_and_not_by_much() {
    let Some(server) = Redis::start_blocking() else { return };
    let mut script = Script::load(&server);
    let hour = 3_600_000;
    let policies = [sliding(100, hour, 64), fixed(100, hour), bucket(100, hour, 100)];
    for (number, policy) in (0_u64..).zip(policies) {
        for hits in [60, 20] {
            let charges = all_or_nothing([charge(number, policy, Hits::Add(hits))]);
            let tally = one(&mut script, &charges, None).unwrap()[0];
            assert!(tally.charged);
            let left = time_to_live_ms(&mut script, number);
            assert!(left > 0 && left as u64 <= 3 * hour, "{left}");
            // A look that can never pass tells when the counter will be empty.
            let look = all_or_nothing([charge(number, policy, Hits::Add(101))]);
            let empty_after = one(&mut script, &look, None).unwrap()[0].reset_after_ms;
            let left = time_to_live_ms(&mut script, number);
            // The key's own clock may be read a little later than the script's.
            assert!(left as u64 + 50 >= empty_after, "{policy:?}: kept {left} ms, empty after {empty_after}");
        }
    }
}

/// An expiry that no call sets: in the year 2100.
const MARK_MS: u64 = 4_102_444_800_000;

#[test]
fn no_key_vanishes_before_its_last_hit_whatever_changes_meanwhile() {
    let Some(server) = Redis::start_blocking() else { return };
    let script = std::cell::RefCell::new(Script::load(&server));
    let calls = prop::collection::vec((any_step(), any_hits(), any_policy(60_000)), 1..80);
    let mut runner = TestRunner::new(Config { cases: 500, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(0_u64..30, calls), |(kind, calls)| {
        let mut script = script.borrow_mut();
        script.run::<()>(&[b"FLUSHALL"]);
        let (mut micros, mut expires_ms) = (1_700_000_000_123_456_i64, 0);
        for (step, hits, (number, policy)) in calls.into_iter().filter(|call| call.2.0 / 10 == kind / 10) {
            let number = number / 10 * 10;
            micros += step * 60_000;
            let now = Timestamp::from_micros(micros as u64);
            // Read before the call: what a busy machine puts between the two only makes the key seem to live longer.
            let time: (u64, u64) = script.run(&[b"TIME"]);
            let tally = one(&mut script, &all_or_nothing([charge(number, policy, hits)]), Some(now)).unwrap()[0];
            let value = script.get(&key(number));
            if !tally.charged || value.is_empty() {
                continue;
            }
            // Redis's own time stands still beside the history's. The mark shows whether the expiry was set anew.
            let key = key(number);
            let expires_at: u64 = script.run(&[b"PEXPIRETIME", key.as_bytes()]);
            if expires_at != MARK_MS {
                let ahead_ms = expires_at - (time.0 * 1_000 + time.1 / 1_000) - 3_600_000;
                expires_ms = now.as_millis() + ahead_ms;
                script.run::<()>(&[b"PEXPIREAT", key.as_bytes(), MARK_MS.to_string().as_bytes()]);
            }
            let mut counter = [policy.decode_counter(&value).unwrap()];
            let look = Member { counter: 0, policy, hits: Hits::Add(u64::MAX), enforcement: Enforcement::Enforced };
            let left = decide(&mut counter, &[look], Charging::AllOrNothing, now)[0].reset_after_ms;
            let empty_at_ms = now.as_millis() + left;
            prop_assert!(expires_ms + 100 >= empty_at_ms, "kept until {expires_ms}, holds hits until {empty_at_ms}");
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn refused_charges_and_looks_make_no_key() {
    let Some(server) = Redis::start_blocking() else { return };
    let mut script = Script::load(&server);
    for policy in [sliding(5, 1_000, 64), fixed(5, 1_000), bucket(5, 1_000, 5)] {
        for hits in [Hits::Add(0), Hits::Add(6), Hits::Add(u64::MAX), Hits::GiveBack(1), Hits::GiveBack(u64::MAX)] {
            let tally = one(&mut script, &all_or_nothing([charge(1, policy, hits)]), None).unwrap()[0];
            assert!(!tally.charged);
            let verdict = if matches!(hits, Hits::Add(1..)) { Verdict::Never } else { Verdict::Within };
            assert_eq!(tally.verdict, verdict, "{hits:?}");
        }
        let refused = all_or_nothing([charge(1, policy, Hits::Add(1)), charge(2, policy, Hits::Add(6))]);
        assert!(!one(&mut script, &refused, None).unwrap()[0].charged);
        assert_eq!(script.run::<u64>(&[b"DBSIZE"]), 0, "{policy:?}");
    }
}

#[test]
fn foreign_values_fail_only_the_decisions_that_use_them_and_stay_as_they_are() {
    let Some(server) = Redis::start_blocking() else { return };
    let mut script = Script::load(&server);
    let list = key(0);
    script.run::<()>(&[b"RPUSH", list.as_bytes(), b"mine"]);
    let foreign: Vec<Vec<u8>> = vec![
        b"12".to_vec(),
        vec![0; 19],
        vec![0xff; 40],
        vec![1; 300],
        vec![4; 100_000],
        vec![0xff; 12],
        vec![0xff; 26],
    ];
    for (number, value) in (1_u64..).zip(&foreign) {
        script.run::<()>(&[b"SET", key(number).as_bytes(), value]);
    }
    // Stated, so that no bucket drains and no window ends between two calls.
    let now = Some(Timestamp::from_millis(1_700_000_000_000));
    for (policy, good) in [sliding(5, 1_000, 64), fixed(5, 1_000), bucket(5, 1_000, 5)].into_iter().zip(100_u64..) {
        for charging in [Charging::AllOrNothing, Charging::Each] {
            let mut batch = Batch::new();
            for number in 0..=foreign.len() as u64 {
                let members =
                    SmallVec::from_vec(vec![charge(good, policy, Hits::Add(1)), charge(number, policy, Hits::Add(1))]);
                assert!(batch.try_push(&Charges { members, charging }));
            }
            assert!(batch.try_push(&all_or_nothing([charge(good, policy, Hits::Add(1))])));
            let mut answers = script.call(&batch, now);
            let last = answers.pop().unwrap().unwrap()[0];
            assert!(last.charged);
            assert_eq!(last.used, if charging == Charging::AllOrNothing { 1 } else { 2 }, "others left no trace");
            for (number, answer) in answers.iter().enumerate() {
                assert!(matches!(answer, Err(StoreError::Refused { .. })), "{policy:?} on value {number}: {answer:?}");
            }
        }
    }
    assert_eq!(script.run::<String>(&[b"TYPE", list.as_bytes()]), "list");
    for (number, value) in (1_u64..).zip(&foreign) {
        assert_eq!(script.get(&key(number)), *value);
    }
}

#[test]
fn no_value_of_any_length_stops_a_call() {
    let Some(server) = Redis::start_blocking() else { return };
    let script = std::cell::RefCell::new(Script::load(&server));
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        // Headers of logs with small numbers: close to what is ours.
        (
            any::<[u8; 4]>(),
            any::<[u8; 6]>(),
            any::<[u8; 4]>(),
            0_u32..3,
            0_u8..6,
            prop::collection::vec(any::<u8>(), 0..40)
        )
            .prop_map(|(sum, newest, hits, tick, format, pairs)| {
                [&sum[..], &newest, &hits, &tick.to_le_bytes(), &[format], &pairs].concat()
            }),
        // The same, dated about now.
        (0_u8..9, 0_u8..9, 1_u8..5, prop::collection::vec(any::<u8>(), 0..30)).prop_map(
            |(sum, hits, format, pairs)| {
                let newest = 1_700_000_000_000_u64.to_le_bytes();
                [&[sum, 0, 0, 0], &newest[..6], &[hits, 0, 0, 0], &[1, 0, 0, 0], &[format], &pairs].concat()
            }
        ),
        prop::collection::vec(any::<u8>(), 12..13),
        prop::collection::vec(any::<u8>(), 26..27),
    ];
    let calls = prop::collection::vec((any_policy(60_000), any_hits()), 1..6);
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(value, calls), |(value, calls)| {
        let mut script = script.borrow_mut();
        for ((_, policy), hits) in calls {
            script.run::<()>(&[b"SET", key(0).as_bytes(), &value]);
            script.run::<()>(&[b"DEL", key(1).as_bytes()]);
            let mut batch = Batch::new();
            prop_assert!(batch.try_push(&all_or_nothing([charge(0, policy, hits)])));
            prop_assert!(batch.try_push(&all_or_nothing([charge(1, fixed(5, 1_000), Hits::Add(2))])));
            let answers = script.call(&batch, Some(Timestamp::from_millis(1_700_000_000_000)));
            prop_assert_eq!(answers[1].as_ref().unwrap()[0].used, 2);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn the_largest_call_fits() {
    let Some(server) = Redis::start_blocking() else { return };
    let mut script = Script::load(&server);
    // Stated, so that no bucket drains and no window ends on a machine that is slow.
    let now = Timestamp::from_millis(1_700_000_000_000);
    let mut batch = Batch::new();
    let policies = [sliding(1_000, 60_000, 64), fixed(1_000, 60_000), bucket(1_000, 60_000, 1_000)];
    for decision in 0..128_u64 {
        let members = (0..4).map(|member| charge(decision * 4 + member, policies[member as usize % 3], Hits::Add(1)));
        let charges = all_or_nothing(members);
        assert!(batch.try_push(&charges));
    }
    assert!(!batch.try_push(&all_or_nothing([charge(0, policies[0], Hits::Add(1))])), "129 decisions");
    assert_eq!((batch.len(), batch.keys().len()), (128, 512));
    for used in 1..4 {
        for answer in script.call(&batch, Some(now)) {
            assert!(answer.unwrap().iter().all(|tally| tally.charged && tally.used == used));
        }
    }
    // Two keys under two policies each, as often as it goes.
    let mut batch = Batch::new();
    let pairs = (0..256).flat_map(|number| {
        [
            charge(number + 1_000, policies[0], Hits::Add(1)),
            charge(number + 1_000, sliding(7, 60_000, 64), Hits::Add(1)),
        ]
    });
    assert!(batch.try_push(&all_or_nothing(pairs)));
    assert!(script.call(&batch, Some(now))[0].as_ref().unwrap().iter().all(|tally| tally.charged));
}

#[test]
fn an_answer_that_is_no_answer_is_refused() {
    let mut batch = Batch::new();
    assert!(batch.try_push(&all_or_nothing([charge(1, sliding(5, 1_000, 64), Hits::Add(1))])));
    for answer in
        [&[][..], &[0; 12], &[0; 14], &[3; 13], &[7; 13], &[0xff; 13], &[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        assert!(matches!(batch.decode(answer), Err(StoreError::Refused { .. })), "{answer:?}");
    }
    assert!(batch.decode(&[0; 13]).unwrap().all(|answer| answer.is_ok()));
}

#[test]
fn a_key_under_another_policy_waits_for_the_next_call() {
    let now = Timestamp::from_millis(1_700_000_000_000);
    let (small, large) = (sliding(5, 60_000, 64), sliding(500, 60_000, 64));
    let small_one = all_or_nothing([charge(1, small, Hits::Add(1)), charge(2, small, Hits::Add(1))]);
    let large_one = all_or_nothing([charge(3, small, Hits::Add(1)), charge(1, large, Hits::Add(1))]);
    let both = all_or_nothing([charge(1, small, Hits::Add(1)), charge(1, large, Hits::Add(1))]);
    let mut batch = Batch::new();
    assert!(batch.try_push(&small_one) && batch.try_push(&small_one));
    assert!(!batch.try_push(&large_one) && !batch.try_push(&both));
    assert_eq!((batch.len(), batch.keys().len()), (2, 2), "what was not taken left nothing behind");
    batch.clear();
    assert!(batch.try_push(&both), "within one decision it can't be helped");
    assert!(!batch.try_push(&small_one) && !batch.try_push(&both));
    assert_eq!(batch.keys().len(), 1);

    let Some(server) = Redis::start_blocking() else { return };
    let mut script = Script::load(&server);
    let answers = call_all(&mut script, &[small_one, large_one, both], now);
    let used: Vec<Vec<u64>> =
        answers.into_iter().map(|answer| answer.unwrap().iter().map(|tally| tally.used).collect()).collect();
    assert_eq!(used, [vec![1, 1], vec![1, 2], vec![3, 4]]);
}

#[test]
fn decisions_without_charges_need_no_call() {
    let mut batch = Batch::new();
    assert!(batch.try_push(&all_or_nothing([])));
    assert!(!batch.is_empty() && batch.keys().len() == 0);
    assert_eq!(batch.decode(&[]).unwrap().collect::<Vec<_>>(), [Ok(Tallies::new())]);
}
