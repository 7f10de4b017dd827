//! What a tick costs: one step of the law of adaptive limits, and all that a controller does for a service around it.
//!
//! `cargo bench --bench law`. `law` is the step alone. `controller` is a whole controller over a memory store and made-up
//! signals in paused time, so that nothing is waited for: one iteration is an interval of 5 s of so many services, with
//! their ticks (questions, judgement, the record as it is written to Redis), five polls and what is shown after each.
//! Ten thousand services fit one tick as long as that stays well below 5 s.
//!
//! With `TIDEGATE_BENCH_REDIS=6379`, a port of this machine, the records of ten thousand services are written there for a
//! minute of real time, and what came of it is printed.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::control::command::{Commands, commands};
use tidegate::control::law::{Admitted, Constants, Law, Observation, StaleTerms, State, step, windows};
use tidegate::control::record::{LeaseTimes, MemoryRecords, RecordStore, RedisRecords, ReplicaId};
use tidegate::control::source::SignalSource;
use tidegate::control::task::{Controller, OpenSource};
use tidegate::control::view::ControllerView;
use tidegate::counters::memory::{MemoryLimits, MemoryStore};
use tidegate::counters::redis::{Address, Connector, Server, Timeouts};
use tidegate::metrics::Metrics;
use tidegate::prometheus::PrometheusSource;
use tidegate::rules::service::{PrometheusServer, Service};
use tidegate::rules::{Options, SourceFile, load};
use tidegate::signal::{Counts, Sample, Windows};
use tidegate::table::{TableWriter, limit_table};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const PREFIX: &[u8] = b"bench:";

fn law() -> Law {
    Law {
        min: 25.0,
        max: 500.0,
        start: 300.0,
        errors: 0.05,
        latency: Some(0.1),
        interval: 5.0,
        scrape: 5.0,
        flush: 0.0,
        propagation: 1.0,
        stale: StaleTerms { hold: 600.0, decay: 600.0, toward: 500.0 },
        brittle: false,
        fingerprint: 0,
        constants: Constants::default(),
    }
}

fn counts(length: Duration, failed: f64) -> Counts {
    let answered = 300.0 * length.as_secs_f64();
    Counts { answered, failed: answered * failed, failed_locally: 0.0, slow: 0.0, latency: Some(0.05) }
}

fn observation(state: &State, law: &Law, now: Timestamp, failed: f64) -> Observation {
    let windows = windows(state, law, now).expect("the state has settled");
    let admitted_in = Admitted { newest: 300.0, fast: 300.0, slow: 300.0, long: 300.0 };
    let sample = Some(Sample::of(now, windows, |length| Ok(counts(length, failed))));
    Observation { sample, offered: 400.0, admitted: 300.0, admitted_in }
}

fn steps(criterion: &mut Criterion) {
    let law = law();
    let state = State::start(&law, Timestamp::from_millis(0));
    let now = Timestamp::from_millis(1_000_000);
    let mut group = criterion.benchmark_group("law");
    for (name, failed) in [("raise", 0.0), ("hold", 0.04), ("cut", 0.3)] {
        let seen = observation(&state, &law, now, failed);
        group.bench_function(name, |bencher| bencher.iter(|| step(black_box(&state), &law, black_box(&seen), now)));
    }
    let seen = observation(&state, &law, now, 0.3);
    let (_, decision) = step(&state, &law, &seen, now);
    group.bench_function("sentence", |bencher| bencher.iter(|| black_box(&decision).sentence()));
    group.finish();
}

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

/// Signals that are there at once, of services that fail now and then; the questions are Prometheus's.
#[derive(Clone, Debug)]
struct MadeUp(Arc<PrometheusSource>);

impl SignalSource for MadeUp {
    async fn sample(&self, _: &Service, windows: &Windows, now: Timestamp) -> Sample {
        let failed = if (now.as_millis() / 60_000).is_multiple_of(10) { 0.3 } else { 0.001 };
        Sample::of(now, *windows, |length| Ok(counts(length, failed)))
    }

    async fn scrape_interval(&self, _: &Service) -> Option<Duration> {
        Some(Duration::from_secs(5))
    }

    fn questions(&self, service: &Service, windows: &Windows) -> Vec<String> {
        self.0.questions(service, windows)
    }
}

impl OpenSource for MadeUp {
    type Source = MadeUp;

    fn open(&self, _: &PrometheusServer) -> Result<MadeUp, String> {
        Ok(self.clone())
    }
}

/// A controller of so many services.
struct Governing {
    view: watch::Receiver<Arc<ControllerView>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// As long as they are there the controller goes on.
    _kept: (TableWriter, Commands),
}

impl Governing {
    fn begin(services: usize, records: impl RecordStore) -> Governing {
        let mut text = "domain: shop\ndescriptors:\n".to_owned();
        for number in 0..services {
            text +=
                &format!("- {{key: s, value: '{number}', rate_limit: {{unit: second, requests_per_unit: 1000}}}}\n");
        }
        text += "prometheus: {url: 'http://127.0.0.1:1', timeout: 1s}\nservices:\n";
        for number in 0..services {
            text += &format!(
                "- {{name: service-{number}, mode: enforce, bounds: {{max: 500/s}}, targets: {{latency: {{p90: 250ms}}}}, \
                 governs: [{{domain: shop, descriptor: [{{s: '{number}'}}]}}], \
                 signals: {{preset: envoy, cluster: service_{number}}}}}\n"
            );
        }
        let file = SourceFile { name: "rules.yaml".to_owned(), text };
        let (rules, _) = load(&[file], &Options::default()).expect("the rules are right");
        let source = PrometheusSource::new(rules.prometheus().expect("it is named")).expect("its address is right");
        let (mut writer, table) = limit_table(Metrics::new(100), 0.8);
        writer.publish(rules);
        let (commands, wishes) = commands();
        let (controller, view) =
            Controller::new(table, records, MadeUp(Arc::new(source)), ReplicaId::new("here", 1), wishes);
        let stop = CancellationToken::new();
        let task = tokio::spawn(controller.run(stop.clone()));
        Governing { view, stop, task, _kept: (writer, commands) }
    }

    /// How many services have been decided about since an instant of the store.
    fn decided_since(&self, instant: Timestamp) -> usize {
        let view = self.view.borrow();
        view.services.iter().filter(|service| service.last.as_ref().is_some_and(|last| last.at >= instant)).count()
    }

    fn now(&self) -> Timestamp {
        self.view.borrow().at
    }
}

fn paused() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().expect("there are threads")
}

fn intervals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("controller");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for services in [1_000, 10_000] {
        let runtime = paused();
        let governing = runtime.block_on(async {
            let clock = PausedClock { begun: Instant::now() };
            let store = Arc::new(MemoryStore::new(clock, MemoryLimits::default()));
            let governing = Governing::begin(services, MemoryRecords::new(store, PREFIX, ReplicaId::new("here", 1)));
            tokio::time::sleep(Duration::from_secs(60)).await;
            let before = governing.now();
            tokio::time::sleep(Duration::from_secs(7)).await;
            assert_eq!(governing.decided_since(before), services, "each was decided about within an interval");
            governing
        });
        group.bench_function(format!("interval of {services} services"), |bencher| {
            bencher.iter(|| runtime.block_on(async { tokio::time::sleep(Duration::from_secs(5)).await }));
        });
        runtime.block_on(async {
            governing.stop.cancel();
            governing.task.await.expect("it ends");
        });
    }
    group.finish();
}

/// Ten thousand services whose records are in a real Redis.
fn over_redis(_: &mut Criterion) {
    const SERVICES: usize = 10_000;
    let Ok(port) = std::env::var("TIDEGATE_BENCH_REDIS") else { return };
    let server = Server {
        address: Address::Tcp("127.0.0.1".to_owned(), port.parse().expect("TIDEGATE_BENCH_REDIS is a port")),
        tls: None,
        database: 0,
        username: None,
        password: None,
        password_file: None,
    };
    let wait = Duration::from_secs(5);
    let connector = Connector::new(server, Timeouts { connect: wait, response: wait });
    let runtime = Builder::new_current_thread().enable_all().build().expect("there are threads");
    runtime.block_on(async {
        let records = RedisRecords::new(connector, PREFIX, ReplicaId::new("here", 1), LeaseTimes::default());
        let governing = Governing::begin(SERVICES, records);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let busy = cpu_seconds();
        let begun = Instant::now();
        for _ in 0..6 {
            let before = SystemClock.now();
            tokio::time::sleep(Duration::from_secs(7)).await;
            let decided = governing.decided_since(before);
            eprintln!("{decided} of {SERVICES} services were decided about within 7 s");
        }
        let share = (cpu_seconds() - busy) / begun.elapsed().as_secs_f64();
        eprintln!("the controller took {:.1} % of a core", 100.0 * share);
        governing.stop.cancel();
        governing.task.await.expect("it ends");
    });
}

/// Processor time of this process so far.
fn cpu_seconds() -> f64 {
    /// Ticks of Linux's clock in a second, as every program sees it.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let fields = stat.rsplit(") ").next().expect("a name stands in front").split(' ');
    fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / TICKS
}

criterion_group!(benches, steps, intervals, over_redis);
criterion_main!(benches);
