//! The whole controller over a made-up service, in paused time: a store, a limiter in front, a clock that follows.

mod doubt;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::clock::{SystemClock, Timestamp};
use crate::control::command::{Commands, commands};
use crate::control::hand::{Asked, OperatorsHand, Order, Signature};
use crate::control::law::Hand;
use crate::control::record::{Change, MemoryRecords, Record, Remembered, Update, Written};
use crate::counters::any::AnyStore;
use crate::counters::memory::{MemoryLimits, MemoryStore};
use crate::decision::{Code, ProcessModes};
use crate::descriptor::{Descriptor, Entry, Hits, RateQuery};
use crate::key::CounterKey;
use crate::limiter::{Limiter, LimiterOptions};
use crate::metrics::Metrics;
use crate::rate::Rate;
use crate::rules::service::Service;
use crate::rules::{SourceFile, load};
use crate::signal::{Absence, AbsenceKind, Counts, Sample, Windows};
use crate::table::{TableWriter, limit_table};

/// Wall time that follows tokio's.
#[derive(Clone, Copy, Debug)]
struct PausedClock {
    begun: Instant,
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000).saturating_add(self.begun.elapsed())
    }
}

/// A service that completes so many requests a second and fails all others.
#[derive(Clone, Debug)]
struct Plant(Arc<PlantState>);

#[derive(Debug)]
struct PlantState {
    begun: Instant,
    capacity: AtomicU64,
    /// Per second: requests that reached it, and those that failed.
    seconds: Mutex<Vec<(u64, u64)>>,
    is_silent: AtomicBool,
    /// Of so many answers one is told.
    told: AtomicU64,
}

impl Plant {
    fn serve(&self) {
        let second = self.0.begun.elapsed().as_secs() as usize;
        let seconds = &mut *self.0.seconds.lock().unwrap();
        seconds.resize((second + 1).max(seconds.len()), (0, 0));
        seconds[second].0 += 1;
        seconds[second].1 += u64::from(seconds[second].0 > self.0.capacity.load(Ordering::Relaxed));
    }

    fn counts(&self, length: Duration) -> Result<Counts, Absence> {
        if self.0.is_silent.load(Ordering::Relaxed) {
            return Err(Absence::new(AbsenceKind::TimedOut, "Prometheus did not answer within 2000 ms"));
        }
        let now = self.0.begun.elapsed().as_secs() as usize;
        let seconds = self.0.seconds.lock().unwrap();
        let window = &seconds[now.saturating_sub(length.as_secs() as usize).min(seconds.len())..now.min(seconds.len())];
        let answered = window.iter().map(|(answered, _)| answered).sum::<u64>() as f64;
        let failed = window.iter().map(|(_, failed)| failed).sum::<u64>() as f64;
        let told = self.0.told.load(Ordering::Relaxed) as f64;
        Ok(Counts { answered: answered / told, failed: failed / told, ..Counts::default() })
    }
}

impl SignalSource for Plant {
    async fn sample(&self, _: &Service, windows: &Windows, now: Timestamp) -> Sample {
        Sample::of(now, *windows, |length| self.counts(length))
    }

    async fn scrape_interval(&self, _: &Service) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }

    fn questions(&self, _: &Service, _: &Windows) -> Vec<String> {
        vec!["a question".to_owned()]
    }
}

impl OpenSource for Plant {
    type Source = Plant;

    fn open(&self, _: &PrometheusServer) -> Result<Plant, String> {
        Ok(self.clone())
    }
}

/// Records that fail as they are told to.
#[derive(Clone, Debug)]
struct Unreliable {
    records: Arc<MemoryRecords>,
    fault: Arc<Mutex<Fault>>,
    /// Of the next leadership.
    epoch: Arc<AtomicU64>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// Nothing is answered.
    Away,
    /// Writes are made, and nobody hears of it.
    LostAnswers,
    /// Another one leads, in a later epoch.
    Deposed,
}

impl Unreliable {
    fn is(&self, fault: Fault) -> bool {
        *self.fault.lock().unwrap() == fault
    }

    fn reachable(&self) -> Result<(), RecordError> {
        if self.is(Fault::Away) { Err(RecordError::TimedOut { after: Duration::ZERO }) } else { Ok(()) }
    }
}

impl RecordStore for Unreliable {
    async fn lead(&self) -> Result<Lease, RecordError> {
        self.reachable()?;
        match self.is(Fault::Deposed) {
            true => {
                self.epoch.fetch_add(1, Ordering::Relaxed);
                Ok(Lease::Follower { leader: Some(ReplicaId::new("other", 2)) })
            }
            // As short as Redis's, so that it runs out while the store is away.
            false => Ok(Lease::Leader {
                epoch: Epoch::new(self.epoch.load(Ordering::Relaxed)),
                until: Instant::now() + Duration::from_secs(9),
            }),
        }
    }

    async fn resign(&self) -> Result<(), RecordError> {
        self.records.resign().await
    }

    async fn poll(&self, services: &[Arc<str>]) -> Result<Poll, RecordError> {
        self.reachable()?;
        self.records.poll(services).await
    }

    async fn load(&self, service: &str) -> Result<Option<Record>, RecordError> {
        self.reachable()?;
        self.records.load(service).await
    }

    async fn write(&self, epoch: Epoch, update: &Update<'_>) -> Result<Written, RecordError> {
        self.reachable()?;
        if self.is(Fault::Deposed) {
            return Ok(Written::Deposed);
        }
        let written = self.records.write(epoch, update).await?;
        if self.is(Fault::LostAnswers) { Err(RecordError::TimedOut { after: Duration::ZERO }) } else { Ok(written) }
    }

    async fn latest(&self, services: &[Arc<str>]) -> Result<Vec<Option<Change>>, RecordError> {
        self.records.latest(services).await
    }

    async fn remembered(&self, service: &str) -> Result<Remembered, RecordError> {
        self.records.remembered(service).await
    }

    async fn ticks(&self, service: &str) -> Result<Vec<Change>, RecordError> {
        self.records.ticks(service).await
    }

    async fn lay(&self, service: &str, order: &Order) -> Result<OperatorsHand, RecordError> {
        self.records.lay(service, order).await
    }

    async fn lift(&self, service: &str, by: &Signature) -> Result<bool, RecordError> {
        self.records.lift(service, by).await
    }

    async fn reset(&self, service: &str, by: &Signature) -> Result<bool, RecordError> {
        self.records.reset(service, by).await
    }
}

/// A service under `mode`, a controller over it and callers in front.
struct World {
    plant: Plant,
    store: Arc<MemoryStore>,
    records: Arc<MemoryRecords>,
    limiter: Limiter<AnyStore>,
    writer: TableWriter,
    commands: Commands,
    view: watch::Receiver<Arc<ControllerView>>,
    fault: Arc<Mutex<Fault>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn rules(mode: &str) -> crate::rules::RuleSet {
    let text = format!(
        "domain: shop
descriptors:
  - key: service
    value: inventory
    rate_limit: {{ unit: second, requests_per_unit: 100000 }}
prometheus: {{ url: 'http://127.0.0.1:1', timeout: 500ms }}
services:
  - name: inventory
    mode: {mode}
    governs: [ {{ domain: shop, descriptor: [ {{ service: inventory }} ] }} ]
    bounds: {{ min: 10/s, max: 400/s }}
    interval: 1s
    signals: {{ preset: envoy, cluster: inventory }}
"
    );
    let file = SourceFile { name: "rules.yaml".to_owned(), text };
    load(&[file], &Default::default()).unwrap_or_else(|errors| panic!("{errors:?}")).0
}

impl World {
    fn new(mode: &str) -> World {
        let begun = Instant::now();
        let store = Arc::new(MemoryStore::new(PausedClock { begun }, MemoryLimits::default()));
        let records = Arc::new(MemoryRecords::new(Arc::clone(&store), b"test:", ReplicaId::new("here", 1)));
        let metrics = Metrics::new(100);
        let (mut writer, table) = limit_table(metrics.clone(), 0.8);
        writer.publish(rules(mode));
        let plant = Plant(Arc::new(PlantState {
            begun,
            capacity: AtomicU64::new(1_000),
            seconds: Mutex::default(),
            is_silent: AtomicBool::default(),
            told: AtomicU64::new(1),
        }));
        let options = LimiterOptions {
            key_prefix: (*b"test:").into(),
            modes: ProcessModes::default(),
            near_limit_ratio: 0.8,
            clock: Arc::new(SystemClock),
            expiry_jitter_max_s: 0,
        };
        let limiter = Limiter::new(table.clone(), AnyStore::Memory(Arc::clone(&store)), metrics, Arc::new(options));
        let stop = CancellationToken::new();
        let (commands, wishes) = commands();
        let fault = Arc::<Mutex<Fault>>::default();
        let of_controller =
            Unreliable { records: Arc::clone(&records), fault: Arc::clone(&fault), epoch: Arc::new(AtomicU64::new(1)) };
        let here = ReplicaId::new("here", 1);
        let (controller, view) = Controller::new(table, of_controller, plant.clone(), here, wishes);
        let task = tokio::spawn(controller.run(stop.clone()));
        World { plant, store, records, limiter, writer, commands, view, fault, stop, task }
    }

    /// Lets callers come for so many seconds, and says how many were let through in the last ten of them, per second.
    async fn offer(&self, per_second: u64, seconds: u64) -> u64 {
        let mut passed = 0;
        let begun = Instant::now();
        for number in 0..per_second * seconds {
            tokio::time::sleep_until(begun + Duration::from_secs(1) / per_second as u32 * number as u32).await;
            if self.ask().await == Code::Ok {
                self.plant.serve();
                passed += u64::from(number / per_second + 10 >= seconds);
            }
        }
        passed / seconds.min(10)
    }

    async fn ask(&self) -> Code {
        let entries = [Entry { key: "service", value: "inventory" }].into_iter().collect();
        let descriptor = Descriptor { entries, hits: Hits::Add(1), limit_override: None };
        let query = RateQuery::try_new("shop", [descriptor].into_iter().collect()).unwrap();
        self.limiter.decide(&query, Instant::now() + Duration::from_secs(1)).await.unwrap().decision.code
    }

    fn limit(&self) -> f64 {
        let gate = self.store.gate(&CounterKey::gate(b"test:", "inventory")).expect("the gate is governed");
        gate.limit_at(self.store.now()).per_second()
    }

    fn fails_by(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Brings the limit down to what the service can do.
    async fn overloaded(mode: &str) -> World {
        let world = World::new(mode);
        world.offer(300, 20).await;
        world.plant.0.capacity.store(100, Ordering::Relaxed);
        world.offer(300, 40).await;
        assert!(world.limit() <= 120.0, "{}", world.limit());
        world
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_loses_half_its_capacity_is_protected_and_gets_its_traffic_back() {
    let world = World::new("enforce");
    assert_eq!(world.offer(300, 30).await, 300);
    assert_eq!(world.limit(), 400.0, "nothing is cut without a reason");
    world.plant.0.capacity.store(100, Ordering::Relaxed);
    let passed = world.offer(300, 60).await;
    assert!((60..=110).contains(&passed), "{passed} a second pass where 100 can be served");
    let remembered = world.records.remembered("inventory").await.unwrap();
    assert!(!format!("{remembered:?}").contains("Restore"), "load is the cause: {remembered:#?}");
    world.plant.0.capacity.store(1_000, Ordering::Relaxed);
    let passed = world.offer(300, 240).await;
    assert_eq!(passed, 300, "all is back");
    let remembered = world.records.remembered("inventory").await.unwrap();
    assert!(remembered.changes.len() > 3 && !remembered.ticks.is_empty());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_observed_service_is_not_limited_and_the_cut_that_would_be_made_is_remembered() {
    let world = World::new("observe");
    world.plant.0.capacity.store(100, Ordering::Relaxed);
    assert_eq!(world.offer(300, 60).await, 300);
    let remembered = world.records.remembered("inventory").await.unwrap();
    let told = remembered.changes.iter().map(|change| format!("{:?}", change.event)).collect::<Vec<_>>().join("\n");
    assert!(told.contains("Cut"), "{told}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_data_a_limit_stands_and_then_drifts_to_where_it_should() {
    let world = World::new("enforce");
    world.offer(300, 20).await;
    world.plant.0.capacity.store(0, Ordering::Relaxed);
    world.offer(300, 40).await;
    let held = world.limit();
    assert!(held < 50.0, "{held}");
    world.plant.0.is_silent.store(true, Ordering::Relaxed);
    world.offer(50, 300).await;
    assert!(world.limit() <= held, "{} after five minutes without data, {held} before", world.limit());
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    assert!(world.limit() > 300.0, "{}", world.limit());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_a_reload_takes_away_is_limited_no_more() {
    let mut world = World::new("enforce");
    world.offer(300, 20).await;
    world.plant.0.capacity.store(100, Ordering::Relaxed);
    world.offer(300, 40).await;
    let text =
        "domain: shop\ndescriptors: [ { key: service, rate_limit: { unit: second, requests_per_unit: 100000 } } ]";
    let file = SourceFile { name: "rules.yaml".to_owned(), text: text.to_owned() };
    world.writer.publish(load(&[file], &Default::default()).unwrap().0);
    assert_eq!(world.offer(300, 1).await, 300, "its gate is gone at once");
    world.writer.publish(rules("enforce"));
    assert!(world.offer(300, 2).await < 290, "and what was learned is not");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_off_stands_at_its_upper_bound() {
    let world = World::new("off");
    let passed = world.offer(1_000, 30).await;
    assert!((395..=405).contains(&passed), "{passed}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_wants_is_in_force_within_a_second_and_ends_by_itself() {
    let world = World::new("enforce");
    world.offer(300, 20).await;
    let asked = |hand, lifetime| Asked {
        hand,
        reason: "a sale".to_owned(),
        by: "ada".to_owned(),
        lifetime: Some(Duration::from_secs(lifetime)),
        force: false,
    };
    let bounds = world.view.borrow().services[0].service.bounds;
    let order = Order::try_new(asked(Hand::Override(Rate::from_per_second(50.0)), 60), &bounds).unwrap();
    world.commands.lay("inventory".into(), order).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.limit(), 50.0);
    assert_eq!(world.offer(300, 30).await, 50);
    let view = Arc::clone(&world.view.borrow());
    assert_eq!(view.services[0].limit.per_second(), 50.0);
    assert!(view.services[0].hand.is_some() && view.epoch.is_some());

    let order = Order::try_new(asked(Hand::Freeze, 600), &bounds).unwrap();
    world.commands.lay("inventory".into(), order).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.limit(), 50.0, "frozen as it was");
    world.commands.lift("inventory".into(), Signature::try_new("done", "ada").unwrap()).await.unwrap();
    assert_eq!(world.offer(300, 120).await, 300, "and free again");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_reset_starts_anew() {
    let world = World::new("enforce");
    world.offer(300, 20).await;
    world.plant.0.capacity.store(0, Ordering::Relaxed);
    world.offer(300, 40).await;
    assert!(world.limit() < 50.0);
    world.plant.0.capacity.store(1_000, Ordering::Relaxed);
    let by = Signature::try_new("it was the network", "ada").unwrap();
    assert!(world.commands.reset("inventory".into(), by).await.unwrap());
    assert_eq!(world.offer(300, 12).await, 300);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_store_goes_away_decides_no_more_and_goes_on_when_it_is_back() {
    let world = World::overloaded("enforce").await;
    let held = world.limit();
    world.fails_by(Fault::Away);
    world.plant.0.capacity.store(1_000, Ordering::Relaxed);
    world.offer(300, 120).await;
    assert_eq!(world.limit(), held, "nothing is decided");
    let view = Arc::clone(&world.view.borrow());
    assert!(view.epoch.is_none() && view.trouble.is_some(), "and it is said");
    world.fails_by(Fault::None);
    assert_eq!(world.offer(300, 240).await, 300, "then the limit rises");
    assert!(world.view.borrow().trouble.is_none());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn writes_whose_answers_are_lost_are_in_force_and_are_not_undone() {
    let world = World::new("enforce");
    world.offer(300, 20).await;
    world.fails_by(Fault::LostAnswers);
    world.plant.0.capacity.store(100, Ordering::Relaxed);
    let passed = world.offer(300, 60).await;
    assert!((50..=120).contains(&passed), "{passed} a second pass where 100 can be served");
    world.fails_by(Fault::None);
    let before = world.limit();
    world.offer(300, 5).await;
    assert!(world.limit() <= before * 1.11, "{before}, then {}: it goes on with what is in the store", world.limit());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_deposed_writes_no_more_and_forgets_what_it_decided() {
    let world = World::overloaded("enforce").await;
    let held = world.limit();
    assert!(world.view.borrow().services[0].last.is_some());
    world.fails_by(Fault::Deposed);
    world.plant.0.capacity.store(1_000, Ordering::Relaxed);
    world.offer(300, 60).await;
    assert_eq!(world.limit(), held);
    let view = Arc::clone(&world.view.borrow());
    assert!(view.epoch.is_none() && view.services[0].last.is_none());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_governed_for_long_goes_on_from_where_its_gate_has_gone() {
    let world = World::overloaded("enforce").await;
    world.fails_by(Fault::Deposed);
    world.plant.0.capacity.store(1_000, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1_500)).await;
    assert_eq!(world.limit(), 400.0, "held for ten minutes, and then gone to the upper bound in ten");
    world.fails_by(Fault::None);
    assert_eq!(world.offer(300, 20).await, 300, "the new leader doesn't bring the old limit back");
    let told = format!("{:?}", world.records.remembered("inventory").await.unwrap().changes);
    assert!(told.contains("Started"), "and says that it begins anew: {told}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_services_nothing_is_shown_and_nothing_is_kept() {
    let mut world = World::overloaded("enforce").await;
    let text =
        "domain: shop\ndescriptors: [ { key: service, rate_limit: { unit: second, requests_per_unit: 100000 } } ]";
    let file = SourceFile { name: "rules.yaml".to_owned(), text: text.to_owned() };
    world.writer.publish(load(&[file], &Default::default()).unwrap().0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(world.view.borrow().services.is_empty());
    world.end().await;
}
