//! One step of the law of adaptive limits: what a tick costs for each service.
//!
//! `cargo bench --bench law`. Ten thousand services fit one tick of 5 s as long as a step stays below 500 µs.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::clock::Timestamp;
use tidegate::control::law::{Admitted, Constants, Law, Observation, StaleTerms, State, step, windows};
use tidegate::signal::{Counts, Sample};

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

fn observation(state: &State, law: &Law, now: Timestamp, failed: f64) -> Observation {
    let windows = windows(state, law, now).expect("the state has settled");
    let counts = |length: Duration| {
        let answered = 300.0 * length.as_secs_f64();
        Ok(Counts { answered, failed: answered * failed, failed_locally: 0.0, slow: 0.0, latency: Some(0.05) })
    };
    let admitted_in = Admitted { newest: 300.0, fast: 300.0, slow: 300.0, long: 300.0 };
    let sample = Some(Sample::of(now, windows, counts));
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

criterion_group!(benches, steps);
criterion_main!(benches);
