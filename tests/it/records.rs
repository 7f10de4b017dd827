//! What replicas share about adaptive services: one suite of claims over both stores; below it (`shared`), what only
//! Redis and several replicas can do.

mod shared;

use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::{ManualClock, SystemClock, Timestamp};
use tidegate::control::hand::{Asked, Order, Signature};
use tidegate::control::law::{
    Action, Admitted, Cause, Constants, Decision, Hand, Knee, Law, Observation, Recorded, StaleTerms, State,
};
use tidegate::control::record::{
    AnyRecords, CHANGES_MAX, Change, DecisionRecord, Epoch, Event, Lease, LeaseTimes, MemoryRecords, RecordError,
    RecordStore, RedisRecords, ReplicaId, STATE_BYTES_MAX, TICKS_MAX, Update, Written,
};
use tidegate::counters::memory::{MemoryLimits, MemoryStore};
use tidegate::rate::Rate;
use tidegate::rules::service::{RateBounds, ServiceMode, Stale};

use crate::support::cluster;
use crate::support::redis::Redis;
use crate::support::store::connector;
use crate::support::{PATIENCE, eventually};

const PREFIX: &[u8] = b"records:";

const SERVICE: &str = "inventory";

fn rate(per_second: f64) -> Rate {
    Rate::from_per_second(per_second)
}

fn decision(from: f64, to: f64) -> Decision {
    Decision {
        action: if from == to { Action::Hold } else { Action::Cut },
        cause: Cause::OverTarget,
        from,
        to,
        wanted: to,
        would: None,
        judged: Vec::new(),
        offered: 0.1 + 0.2,
        admitted: from,
        admitted_judged: None,
        completed: None,
        knee: Some(Knee { rate: 612.7, age: 33.25 }),
        settle_left: None,
        absence: None,
    }
}

fn decided(from: f64, to: f64) -> DecisionRecord {
    DecisionRecord {
        at: Timestamp::default(),
        service: SERVICE.to_owned(),
        generation: 0,
        epoch: Epoch::new(1),
        mode: ServiceMode::Enforce,
        decision: decision(from, to),
        signal_at: None,
        prospect: "nothing".to_owned(),
        queries: vec!["sum(increase(a[15s]))".to_owned()],
        doubts: Vec::new(),
        made_of: Some(Box::new(made_of())),
    }
}

/// What a first step was made of.
fn made_of() -> Recorded {
    let law = Law {
        min: 10.0,
        max: 500.0,
        start: 500.0,
        errors: 0.05,
        latency: None,
        interval: 5.0,
        scrape: 5.0,
        flush: 0.0,
        propagation: 1.0,
        stale: StaleTerms { hold: 600.0, decay: 300.0, toward: 500.0 },
        brittle: false,
        fingerprint: 1,
        constants: Constants::default(),
    };
    let now = Timestamp::from_millis(1_700_000_000_000);
    let seen = Observation { sample: None, offered: 0.1 + 0.2, admitted: 0.1, admitted_in: Admitted::default() };
    Recorded { now, hand: Some(Hand::Freeze), scrape: 5.0, state: State::start(&law, now), seen }
}

/// A write of a limit by somebody who knows that generation.
async fn write(records: &AnyRecords, epoch: Epoch, known: u64, from: f64, to: f64) -> Result<Written, RecordError> {
    write_of(records, SERVICE, epoch, known, from, to).await
}

async fn write_of(
    records: &AnyRecords,
    service: &str,
    epoch: Epoch,
    known: u64,
    from: f64,
    to: f64,
) -> Result<Written, RecordError> {
    let stale = Stale { hold: Duration::from_secs(600), decay: Duration::from_secs(300), toward: rate(500.0) };
    let state = format!("{{\"limit\":{to}}}");
    let decision = decided(from, to);
    records.write(epoch, &Update { service, known, state: &state, limit: rate(to), stale, decision: &decision }).await
}

/// The generation of a write that was done.
async fn done(records: &AnyRecords, epoch: Epoch, known: u64, from: f64, to: f64) -> u64 {
    match write(records, epoch, known, from, to).await.expect("the store answers") {
        Written::Done { generation, .. } => generation,
        other => panic!("not written: {other:?}"),
    }
}

fn order(hand: Hand, lifetime: Duration) -> Order {
    let asked =
        Asked { hand, reason: "a \"test\"".to_owned(), by: "ada".to_owned(), lifetime: Some(lifetime), force: true };
    Order::try_new(asked, &RateBounds::new(rate(1.0), rate(2.0)).unwrap()).unwrap()
}

fn signature() -> Signature {
    Signature::try_new("it is over", "ada").unwrap()
}

fn id(number: u64) -> ReplicaId {
    ReplicaId::new("test", number)
}

fn over_redis(redis: &Redis, number: u64, times: LeaseTimes) -> AnyRecords {
    AnyRecords::Redis(Arc::new(RedisRecords::new(connector(redis), PREFIX, id(number), times)))
}

fn in_memory() -> AnyRecords {
    let store = Arc::new(MemoryStore::new(SystemClock, MemoryLimits { keys_max: 1_000 }));
    AnyRecords::Memory(Arc::new(MemoryRecords::new(store, PREFIX, id(0))))
}

/// Runs a claim over all stores, each led.
async fn over_all<F: Future<Output = ()>>(claim: impl Fn(AnyRecords, Epoch) -> F) {
    let redis = Redis::start().await;
    let shared = redis.as_ref().map(|redis| over_redis(redis, 1, LeaseTimes::default()));
    let node = cluster::alone().await;
    let in_cluster = node.as_ref().map(|(_, connector)| {
        let records = RedisRecords::new(connector.clone(), PREFIX, id(1), LeaseTimes::default());
        AnyRecords::Redis(Arc::new(records))
    });
    for records in [Some(in_memory()), shared, in_cluster].into_iter().flatten() {
        println!("over {records:?}");
        let epoch = leads(&records).await;
        claim(records, epoch).await;
    }
}

async fn leads(records: &AnyRecords) -> Epoch {
    match records.lead().await.expect("the store answers") {
        Lease::Leader { epoch, .. } => epoch,
        Lease::Follower { leader } => panic!("{leader:?} leads"),
    }
}

async fn changes(records: &AnyRecords) -> Vec<Change> {
    records.remembered(SERVICE).await.unwrap().changes
}

// === all stores ===

#[tokio::test]
async fn what_was_written_is_loaded_and_seen_by_everyone_who_polls() {
    over_all(|records, epoch| async move {
        assert_eq!(records.load(SERVICE).await.unwrap(), None);
        assert_eq!(records.poll(&[SERVICE.into()]).await.unwrap().services[0].gate, None);
        assert_eq!(done(&records, epoch, 0, 500.0, 212.5).await, 1);

        let record = records.load(SERVICE).await.unwrap().unwrap();
        let poll = records.poll(&["other".into(), SERVICE.into()]).await.unwrap();
        assert_eq!((record.state.as_str(), record.limit), ("{\"limit\":212.5}", rate(212.5)));
        assert_eq!((record.generation, record.epoch), (1, epoch));
        assert!(record.written_at <= poll.now);
        assert_eq!((poll.services.len(), &poll.services[0].gate, poll.replicas), (2, &None, 1));
        let gate = poll.services[1].gate.expect("the leader made the gate");
        assert_eq!(
            (gate.governed.limit, gate.governed.toward, gate.governed.generation),
            (rate(212.5), rate(500.0), 1)
        );
        assert_eq!((gate.governed.hold_ms, gate.governed.decay_ms), (600_000, 300_000));
        assert_eq!(gate.governed.written_at_ms, record.written_at.as_millis());
        assert_eq!(gate.limit_at(poll.now), rate(212.5));
    })
    .await;
}

#[tokio::test]
async fn a_generation_counts_the_changes_of_the_limit_and_nothing_else() {
    over_all(|records, epoch| async move {
        for (known, limit, generation) in [(0, 500.0, 1), (1, 500.0, 1), (1, 212.0, 2), (2, 212.0, 2), (2, 500.0, 3)] {
            assert_eq!(done(&records, epoch, known, 1.0, limit).await, generation);
        }
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_does_not_know_the_record_has_to_load_it_first() {
    over_all(|records, epoch| async move {
        let superseded = Ok(Written::Superseded);
        assert_eq!(write(&records, epoch, 7, 1.0, 5.0).await, superseded, "there is no record");
        assert_eq!(done(&records, epoch, 0, 1.0, 5.0).await, 1);
        assert_eq!(write(&records, epoch, 0, 1.0, 6.0).await, superseded, "there is one by now");
        assert_eq!(write(&records, epoch, 2, 1.0, 6.0).await, superseded);
        assert_eq!(records.load(SERVICE).await.unwrap().unwrap().limit, rate(5.0));
    })
    .await;
}

#[tokio::test]
async fn a_deposed_leader_cannot_undo_its_successors_work() {
    over_all(|records, epoch| async move {
        let successor = Epoch::new(epoch.number() + 1);
        assert_eq!(done(&records, epoch, 0, 500.0, 400.0).await, 1);
        assert_eq!(done(&records, successor, 1, 400.0, 300.0).await, 2);
        for known in [0, 1, 2] {
            assert_eq!(write(&records, epoch, known, 300.0, 900.0).await, Ok(Written::Deposed), "knowing {known}");
        }
        let record = records.load(SERVICE).await.unwrap().unwrap();
        assert_eq!((record.limit, record.generation, record.epoch), (rate(300.0), 2, successor));
        assert_eq!(records.remembered(SERVICE).await.unwrap().ticks.len(), 2, "nothing of it is left");
    })
    .await;
}

#[tokio::test]
async fn changes_and_ticks_are_remembered_newest_first_and_not_without_end() {
    over_all(|records, epoch| async move {
        let writes = CHANGES_MAX as u64 + 10;
        for write in 1..=writes {
            done(&records, epoch, write - 1, write as f64, write as f64 + 1.0).await;
        }
        assert_eq!(done(&records, epoch, writes, 211.0, 211.0).await, writes, "a step that changes nothing");

        let latest = records.latest(&["other".into(), SERVICE.into()]).await.unwrap();
        let remembered = records.remembered(SERVICE).await.unwrap();
        assert_eq!(latest, [None, Some(remembered.ticks[0].clone())]);
        assert_eq!(records.ticks(SERVICE).await.unwrap(), remembered.ticks, "the ticks alone are the same");
        assert_eq!(records.ticks("other").await.unwrap(), []);
        assert_eq!((remembered.changes.len(), remembered.ticks.len()), (CHANGES_MAX, TICKS_MAX));
        let Event::Decided(newest) = &remembered.ticks[0].event else { panic!("{:?}", remembered.ticks[0]) };
        assert_eq!(newest.decision, decision(211.0, 211.0), "every number comes back as it was");
        assert_eq!((newest.generation, newest.queries.len()), (writes, 1));
        assert_eq!(newest.made_of.as_deref(), Some(&made_of()), "the last steps can be made again");
        assert!(newest.at.as_millis() > 1_600_000_000_000, "dated by the store");
        assert!(
            remembered.changes.iter().all(
                |change| matches!(&change.event, Event::Decided(d) if d.decision.is_change() && d.made_of.is_none())
            ),
            "what they were made of is not kept of two hundred changes"
        );
        assert!(remembered.changes.is_sorted_by_key(|change| std::cmp::Reverse(change.generation)));
    })
    .await;
}

#[tokio::test]
async fn an_operators_hand_is_seen_remembered_and_taken_off() {
    over_all(|records, epoch| async move {
        done(&records, epoch, 0, 500.0, 212.0).await;
        let hour = Duration::from_secs(3_600);
        let laid = records.lay(SERVICE, &order(Hand::Override(rate(90.0)), hour)).await.unwrap();
        assert_eq!((laid.hand, laid.until), (Hand::Override(rate(90.0)), laid.since.saturating_add(hour)));
        let poll = records.poll(&[SERVICE.into(), "other".into()]).await.unwrap();
        assert_eq!(poll.services[0].hand.as_ref(), Some(&laid));
        assert_eq!(poll.services[1].hand, None);

        let frozen = records.lay(SERVICE, &order(Hand::Freeze, hour)).await.unwrap();
        assert_eq!(records.poll(&[SERVICE.into()]).await.unwrap().services[0].hand, Some(frozen.clone()), "the later");
        assert!(records.lift(SERVICE, &signature()).await.unwrap());
        assert!(!records.lift(SERVICE, &signature()).await.unwrap(), "there is none any more");
        assert_eq!(records.poll(&[SERVICE.into()]).await.unwrap().services[0].hand, None);

        let events: Vec<Event> = changes(&records).await.into_iter().map(|change| change.event).collect();
        let expected = [Event::Lifted(signature()), Event::Laid(frozen), Event::Laid(laid)];
        assert_eq!(events[..3], expected);
        assert!(matches!(events[3], Event::Decided(_)));
    })
    .await;
}

#[tokio::test]
async fn a_hand_ends_by_itself() {
    over_all(|records, _| async move {
        let second = Duration::from_secs(1);
        let laid = records.lay(SERVICE, &order(Hand::Freeze, second)).await.unwrap();
        let ended = eventually("the hand ends", PATIENCE, async || {
            let poll = records.poll(&[SERVICE.into()]).await.unwrap();
            poll.services[0].hand.is_none().then_some(poll.now)
        })
        .await;
        assert!(ended >= laid.until, "not before its time");
        assert_eq!(changes(&records).await.len(), 1, "it stays remembered");
    })
    .await;
}

#[tokio::test]
async fn after_a_reset_nobody_brings_the_old_state_back() {
    over_all(|records, epoch| async move {
        assert!(!records.reset(SERVICE, &signature()).await.unwrap(), "there is no state yet");
        assert_eq!(done(&records, epoch, 0, 500.0, 212.0).await, 1);
        assert!(records.reset(SERVICE, &signature()).await.unwrap());
        assert_eq!(records.load(SERVICE).await.unwrap(), None);
        assert_eq!(write(&records, epoch, 1, 212.0, 200.0).await, Ok(Written::Superseded));
        assert_eq!(done(&records, epoch, 0, 500.0, 500.0).await, 2, "no number is given twice");
        assert_eq!(changes(&records).await[0].event, Event::Reset(signature()));
    })
    .await;
}

#[tokio::test]
async fn what_is_too_long_is_refused_before_it_is_sent() {
    over_all(|records, epoch| async move {
        let (state, decision) = ("x".repeat(STATE_BYTES_MAX + 1), decided(1.0, 2.0));
        let stale = Stale { hold: Duration::from_secs(1), decay: Duration::from_secs(1), toward: rate(1.0) };
        let update = Update { service: SERVICE, known: 0, state: &state, limit: rate(2.0), stale, decision: &decision };
        let error = records.write(epoch, &update).await.unwrap_err();
        assert_eq!(error.to_string(), "the state has 16385 bytes, and 16384 are allowed");
        assert_eq!(done(&records, epoch, 0, 1.0, 2.0).await, 1);
    })
    .await;
}

// === memory ===

#[tokio::test]
async fn a_record_in_memory_is_forgotten_an_hour_after_nobody_would_need_it() {
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let store = Arc::new(MemoryStore::new(clock.clone(), MemoryLimits { keys_max: 1_000 }));
    let records = AnyRecords::Memory(Arc::new(MemoryRecords::new(store, PREFIX, id(0))));
    let epoch = leads(&records).await;
    done(&records, epoch, 0, 500.0, 212.0).await;
    clock.advance(Duration::from_secs(600 + 300 + 3_600));
    assert!(records.load(SERVICE).await.unwrap().is_some());
    clock.advance(Duration::from_secs(600));
    assert_eq!(records.load(SERVICE).await.unwrap(), None);
    assert!(changes(&records).await.is_empty());
}
