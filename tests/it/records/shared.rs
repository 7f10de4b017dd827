//! Several replicas, and a Redis that is away, silent, empty, or not ours alone.

use std::sync::Arc;
use std::time::Duration;

use tidegate::control::law::Hand;
use tidegate::control::record::{
    AnyRecords, Lease, LeaseClock, LeaseTimes, RecordError, RecordStore, RedisRecords, Written,
};
use tokio::time::Instant;

use super::{PREFIX, SERVICE, done, id, leads, order, over_redis, rate, write, write_of};
use crate::support::redis::Redis;
use crate::support::store::{connector_to, connector_with};
use crate::support::{PATIENCE, eventually};

// === the lease ===

/// Short, so that a test needn't wait for ten seconds.
const BRIEF: LeaseTimes = LeaseTimes { granted: Duration::from_millis(300), margin: Duration::from_millis(100) };

#[tokio::test]
async fn one_replica_leads_until_it_resigns() {
    let Some(redis) = Redis::start().await else { return };
    let [one, other] = [1, 2].map(|number| over_redis(&redis, number, LeaseTimes::default()));
    let first = leads(&one).await;
    assert_eq!(leads(&one).await, first, "renewed");
    assert_eq!(other.lead().await.unwrap(), Lease::Follower { leader: Some(id(1)) });
    other.resign().await.unwrap();
    assert_eq!(other.lead().await.unwrap(), Lease::Follower { leader: Some(id(1)) }, "not its to give back");
    assert_eq!(other.poll(&[]).await.unwrap().leader, Some(id(1)));
    one.resign().await.unwrap();
    assert!(leads(&other).await > first);
    assert_eq!(one.lead().await.unwrap(), Lease::Follower { leader: Some(id(2)) });
}

#[tokio::test]
async fn a_paused_leader_is_followed_stops_by_itself_and_is_refused() {
    let Some(redis) = Redis::start().await else { return };
    let [paused, successor] = [1, 2].map(|number| over_redis(&redis, number, BRIEF));
    let mut clock = LeaseClock::default();
    // A machine that is held up may be late for so short a lease.
    let old = eventually("it leads", PATIENCE, async || {
        clock.heard(&paused.lead().await.unwrap());
        clock.may_decide(Instant::now())
    })
    .await;
    assert_eq!(done(&paused, old, 0, 500.0, 400.0).await, 1);

    // From here on it says nothing more, as one that was stopped.
    let new = eventually("another takes over", PATIENCE, async || match successor.lead().await.unwrap() {
        Lease::Leader { epoch, .. } => Some(epoch),
        Lease::Follower { .. } => None,
    })
    .await;
    assert!(new > old);
    assert_eq!(clock.may_decide(Instant::now()), None, "it stopped before the other could lead");
    // One whose clock stood still as well asks all the same, even before its successor has written anything.
    assert_eq!(write(&paused, old, 1, 400.0, 900.0).await, Ok(Written::Deposed));
    let record = successor.load(SERVICE).await.unwrap().expect("the state goes on");
    assert_eq!((record.limit, record.epoch), (rate(400.0), old));
    assert_eq!(done(&successor, new, record.generation, 400.0, 300.0).await, 2);
}

#[tokio::test]
async fn of_many_replicas_that_ask_at_once_one_leads() {
    let Some(redis) = Redis::start().await else { return };
    let replicas: Vec<AnyRecords> = (1..=20).map(|number| over_redis(&redis, number, LeaseTimes::default())).collect();
    let mut asked = tokio::task::JoinSet::new();
    for replica in replicas {
        asked.spawn(async move { matches!(replica.lead().await.unwrap(), Lease::Leader { .. }) });
    }
    assert_eq!(asked.join_all().await.into_iter().filter(|leads| *leads).count(), 1);
}

#[tokio::test]
async fn replicas_that_poll_are_counted_and_those_that_left_are_not() {
    let Some(redis) = Redis::start().await else { return };
    let replicas = [1, 2, 3].map(|number| over_redis(&redis, number, LeaseTimes::default()));
    for (before, replica) in replicas.iter().enumerate() {
        assert_eq!(replica.poll(&[]).await.unwrap().replicas, before as u32 + 1);
    }
    replicas[1].resign().await.unwrap();
    assert_eq!(replicas[0].poll(&[]).await.unwrap().replicas, 2, "one has left in order");
    // One that was heard a minute ago, and one that was heard in an hour, before Redis's clock was set back.
    for shift in ["-60000", "3600000"] {
        let script = format!(
            "EVAL \"local t = redis.call('TIME'); return redis.call('ZADD', KEYS[1], t[1] * 1000 + ARGV[1], 'x')\" \
             1 records:{{}}N {shift}"
        );
        assert_eq!(redis.ask(&script).await, ":1", "{shift}");
        assert_eq!(replicas[0].poll(&[]).await.unwrap().replicas, 2, "{shift}");
    }
}

// === a Redis that was away, or isn't ours alone ===

#[tokio::test]
async fn a_redis_that_came_back_empty_has_no_record_and_higher_epochs() {
    let Some(mut redis) = Redis::start().await else { return };
    let [records, other] = [1, 2].map(|number| over_redis(&redis, number, LeaseTimes::default()));
    let before = leads(&records).await;
    done(&records, before, 0, 500.0, 212.0).await;
    redis.stop();
    let error = records.load(SERVICE).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    redis.start_again().await;

    let after = eventually("Redis is found again", PATIENCE, async || match other.lead().await {
        Ok(Lease::Leader { epoch, .. }) => Some(epoch),
        _ => None,
    })
    .await;
    assert!(after > before, "a number from before is never given again");
    let old = eventually("the old leader finds it too", PATIENCE, async || {
        write(&records, before, 1, 212.0, 900.0).await.ok()
    });
    assert_eq!(old.await, Written::Deposed, "and is recognised");
    assert_eq!(other.load(SERVICE).await.unwrap(), None);
    assert_eq!(write(&other, after, 1, 212.0, 200.0).await, Ok(Written::Superseded), "it begins anew");
    assert_eq!(done(&other, after, 0, 500.0, 500.0).await, 1);
}

#[tokio::test]
async fn while_redis_is_away_every_call_fails_soon_and_says_where() {
    let Some(redis) = Redis::stopped() else { return };
    let records = over_redis(&redis, 1, LeaseTimes::default());
    let started = Instant::now();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let records = records.clone();
        asked.spawn(async move { records.load(SERVICE).await });
    }
    for answer in asked.join_all().await {
        let error = answer.unwrap_err();
        assert!(error.is_transient());
        assert!(error.to_string().contains(&format!("127.0.0.1:{}", redis.port())), "{error}");
    }
    assert!(started.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn a_silent_redis_is_not_waited_for() {
    let Some(mut redis) = Redis::start().await else { return };
    let connector = connector_with(redis.port(), Duration::from_millis(300));
    let records = AnyRecords::Redis(Arc::new(RedisRecords::new(connector, PREFIX, id(1), LeaseTimes::default())));
    eventually("it answers in time", PATIENCE, async || records.lead().await.ok()).await;
    redis.pause();
    assert!(matches!(records.load(SERVICE).await, Err(RecordError::TimedOut { .. })));
    redis.resume();
    eventually("it answers again", PATIENCE, async || records.load(SERVICE).await.ok()).await;
}

#[tokio::test]
async fn keys_of_another_type_are_left_alone_and_said() {
    let Some(redis) = Redis::start().await else { return };
    let records = over_redis(&redis, 1, LeaseTimes::default());
    let epoch = leads(&records).await;
    let sentence = "a key of the records holds something else; another program writes there";
    // Gate, record, changes, ticks, hand: all of which a write or an operator touches.
    for (kind, wrong) in [("g", "LPUSH"), ("r", "LPUSH"), ("c", "SADD"), ("t", "SADD")] {
        let key = format!("records:{{}}{kind}{SERVICE}");
        assert_eq!(redis.ask(&format!("{wrong} {key} x")).await, ":1");
        let error = write(&records, epoch, 0, 500.0, 212.0).await.unwrap_err();
        assert!(error.to_string().contains(sentence), "{kind}: {error}");
        assert_eq!(redis.ask(&format!("DEL {key}")).await, ":1", "it is still there");
        assert_eq!(redis.ask("KEYS records:*inventory").await, "*0", "and nothing else was written");
    }
    let key = format!("records:{{}}h{SERVICE}");
    assert_eq!(redis.ask(&format!("LPUSH {key} x")).await, ":1");
    assert!(records.lay(SERVICE, &order(Hand::Freeze, PATIENCE)).await.is_err());
    assert_eq!(records.poll(&[SERVICE.into()]).await.unwrap().services[0].hand, None);
    redis.ask("DEL records:{}L").await;
    redis.ask("LPUSH records:{}L x").await;
    assert!(records.lead().await.unwrap_err().to_string().contains(sentence));
}

#[tokio::test]
async fn text_that_is_no_record_of_ours_counts_as_none_and_is_written_over() {
    let Some(redis) = Redis::start().await else { return };
    let records = over_redis(&redis, 1, LeaseTimes::default());
    for (number, nonsense) in
        ["x", "-1", "1e9", "99999999999999999999", "\"\\xff\\x00\"", "\"\""].into_iter().enumerate()
    {
        let service = format!("service-{number}");
        let key = |kind: &str| format!("records:{{}}{kind}{service}");
        let set = ["g", "h"].map(|kind| format!("SET {} {nonsense}", key(kind)));
        let pushed = ["c", "t"].map(|kind| format!("LPUSH {} {nonsense}", key(kind)));
        let fields = ["generation", "epoch", "limit", "written_at", "state"].map(|name| format!("{name} {nonsense}"));
        let hash = format!("HSET {} {}", key("r"), fields.join(" "));
        let shared = ["L", "E"].map(|kind| format!("SET records:{{}}{kind} {nonsense}"));
        for command in set.into_iter().chain(pushed).chain([hash]).chain(shared) {
            assert!(redis.ask(&command).await.starts_with(['+', ':']), "{command}");
        }
        let epoch = leads(&records).await;
        assert!(epoch.number() > 1_600_000_000_000, "{nonsense}: {epoch}");
        let poll = records.poll(&[service.as_str().into()]).await.unwrap();
        assert_eq!((poll.services[0].gate, &poll.services[0].hand), (None, &None), "{nonsense}");
        assert_eq!(records.load(&service).await.unwrap(), None, "{nonsense}");
        assert_eq!(records.remembered(&service).await.unwrap(), Default::default(), "{nonsense}");
        let written = write_of(&records, &service, epoch, 0, 500.0, 212.0).await.unwrap();
        assert!(matches!(written, Written::Done { generation: 1, .. }), "{nonsense}: {written:?}");
        let poll = records.poll(&[service.as_str().into()]).await.unwrap();
        assert_eq!(poll.services[0].gate.map(|gate| gate.governed.limit), Some(rate(212.0)), "{nonsense}");
        assert_eq!(records.remembered(&service).await.unwrap().ticks.len(), 1, "{nonsense}");
    }
}

#[tokio::test]
async fn a_leaders_write_leaves_a_gates_tokens_and_counts_as_they_are() {
    let Some(redis) = Redis::start().await else { return };
    let records = over_redis(&redis, 1, LeaseTimes::default());
    let epoch = leads(&records).await;
    done(&records, epoch, 0, 500.0, 212.0).await;
    // What decisions write: the instant of the tokens, tokens, requests that passed, requests that were refused.
    let numbers = [(1, 6), (2, 7), (3, 7), (4, 7)];
    let bytes = |(number, length): (u8, usize)| format!("\\x{number:02x}{}", "\\x00".repeat(length - 1));
    let of_decisions = format!("\"{}\"", numbers.map(bytes).concat());
    assert_eq!(redis.ask(&format!("SETRANGE records:{{}}g{SERVICE} 37 {of_decisions}")).await, ":64");
    let before = redis.ask_all(&format!("GETRANGE records:{{}}g{SERVICE} 37 63")).await;
    done(&records, epoch, 1, 212.0, 190.0).await;
    let gate = records.poll(&[SERVICE.into()]).await.unwrap().services[0].gate.unwrap();
    assert_eq!((gate.admitted, gate.refused, gate.governed.limit), (3, 4, rate(190.0)));
    assert_eq!(redis.ask_all(&format!("GETRANGE records:{{}}g{SERVICE} 37 63")).await, before);

    // Tokens that nobody can have: such a gate is none, and would never be one again.
    assert_eq!(
        redis.ask(&format!(r#"SETRANGE records:{{}}g{SERVICE} 43 "\xff\xff\xff\xff\xff\xff\xff""#)).await,
        ":64"
    );
    assert_eq!(records.poll(&[SERVICE.into()]).await.unwrap().services[0].gate, None);
    done(&records, epoch, 2, 190.0, 190.0).await;
    let gate = records.poll(&[SERVICE.into()]).await.unwrap().services[0].gate.expect("it begins anew");
    assert_eq!((gate.admitted, gate.governed.limit), (0, rate(190.0)));
}

#[tokio::test]
async fn a_lease_that_would_never_end_is_taken() {
    let Some(redis) = Redis::start().await else { return };
    let lease = format!("SET records:{{}}L \"7 {}\"", id(9).as_str());
    assert_eq!(redis.ask(&lease).await, "+OK");
    leads(&over_redis(&redis, 1, LeaseTimes::default())).await;
}

#[tokio::test]
async fn nothing_is_kept_in_redis_for_ever_but_one_number() {
    let Some(redis) = Redis::start().await else { return };
    let records = over_redis(&redis, 1, LeaseTimes::default());
    let epoch = leads(&records).await;
    records.lay(SERVICE, &order(Hand::Freeze, Duration::from_secs(60))).await.unwrap();
    done(&records, epoch, 0, 500.0, 212.0).await;
    records.poll(&[SERVICE.into()]).await.unwrap();
    for (kind, at_most_s) in [("g", 5_100), ("r", 5_100), ("c", 90_000), ("t", 5_100), ("h", 60)] {
        let answer = redis.ask(&format!("TTL records:{{}}{kind}{SERVICE}")).await;
        let ttl: i64 = answer[1..].parse().unwrap();
        assert!(ttl > 0 && ttl <= at_most_s, "{kind} is kept {ttl} s");
    }
    for (kind, at_most_s) in [("L", 10), ("N", 50)] {
        let answer = redis.ask(&format!("TTL records:{{}}{kind}")).await;
        let ttl: i64 = answer[1..].parse().unwrap();
        assert!(ttl > 0 && ttl <= at_most_s, "{kind} is kept {ttl} s");
    }
    assert_eq!(redis.ask("DBSIZE").await, ":8", "and the epoch");
}

#[tokio::test]
async fn ten_thousand_services_are_polled_in_one_go_and_written_in_one_tick() {
    let Some(redis) = Redis::start().await else { return };
    let records = over_redis(&redis, 1, LeaseTimes::default());
    let epoch = leads(&records).await;
    let services: Vec<Arc<str>> = (0..10_000).map(|number| format!("service-{number}").into()).collect();
    let started = Instant::now();
    let mut writes = tokio::task::JoinSet::new();
    let places = Arc::new(tokio::sync::Semaphore::new(64));
    for service in &services {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let (records, service) = (records.clone(), Arc::clone(service));
        writes.spawn(async move {
            let written = write_of(&records, &service, epoch, 0, 500.0, 212.0).await.unwrap();
            drop(place);
            matches!(written, Written::Done { .. })
        });
    }
    assert!(writes.join_all().await.into_iter().all(|done| done));
    let written = started.elapsed();
    let started = Instant::now();
    let poll = records.poll(&services).await.unwrap();
    println!("10,000 services: written in {written:?}, polled in {:?}", started.elapsed());
    assert!(poll.services.iter().all(|standing| standing.gate.is_some()));
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_an_error_and_no_panic() {
    let records = AnyRecords::Redis(Arc::new(RedisRecords::new(connector_to(1), PREFIX, id(1), LeaseTimes::default())));
    assert!(records.lead().await.unwrap_err().is_transient());
    assert!(records.resign().await.unwrap_err().is_transient());
}
