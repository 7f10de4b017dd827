//! The pure parts of a decision, one by one: matching, keys, windows, and the way between the wire and our words.
//!
//! `cargo bench` runs them; `cargo bench -- match` only those. They say where time goes on one machine. What the
//! service costs as a whole, as ratios that mean the same on others, is what `make bench` is for.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use smallvec::smallvec;
use tidegate::bench::compare::rules_file::{DOMAIN, Rules};
use tidegate::clock::Timestamp;
use tidegate::decision::{Decision, Judgement, Mode, ProcessModes, Uncounted};
use tidegate::descriptor::{Descriptor, Entry, Hits};
use tidegate::key::CounterKey;
use tidegate::limit::{Limit, Unit, Window};
use tidegate::proto::envoy::extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor};
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tidegate::rls::convert;
use tidegate::rules::{Options, RuleSet, SourceFile, load};
use tidegate::window::{
    Charging, Counter, Enforcement, FixedWindow, Member, Policy, Precision, SlidingWindow, Tally, TokenBucket, Verdict,
    decide,
};

/// Any instant will do, if there is room for a window before it.
const NOW_MS: u64 = 1_700_000_000_000;

/// Ticks of a sliding window of a minute, rounded up.
const TICK_MS: u64 = 938;

fn rules(count: usize) -> RuleSet {
    let source = SourceFile { name: "bench.yaml".to_owned(), text: Rules { count, digits: 5 }.text() };
    load(&[source], &Options::default()).expect("the file is one that loads").0
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    for count in [10, 100_000] {
        let rules = rules(count);
        let domain = rules.domain(DOMAIN).expect("it is the file's domain");
        for (what, key, value) in [("any value", "key2", "00042"), ("one value", "key", "00002")] {
            let descriptor =
                Descriptor { entries: smallvec![Entry { key, value }], hits: Hits::Add(1), limit_override: None };
            assert_eq!(domain.find(&descriptor, b"tidegate:").len(), 1);
            group.bench_function(BenchmarkId::new(what, count), |bencher| {
                bencher.iter(|| domain.find(black_box(&descriptor), b"tidegate:"));
            });
        }
    }
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    for (what, length) in [("inline", 7), ("hashed", 200)] {
        let value = "v".repeat(length);
        group.bench_function(what, |bencher| {
            bencher.iter(|| {
                let mut key = CounterKey::write(b"tidegate:", black_box(7));
                key.value(black_box(&value));
                key.finish()
            });
        });
    }
    group.finish();
}

fn windows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("window");
    let minute = Window::from(Unit::Minute);
    let sliding = Policy::SlidingWindow(SlidingWindow::new(60_000, minute, Precision::DEFAULT));
    let refusing = Policy::SlidingWindow(SlidingWindow::new(65, minute, Precision::DEFAULT));
    let fixed = Policy::FixedWindow(FixedWindow::new(60_000, minute));
    let bucket = Policy::TokenBucket(TokenBucket::new(60_000, minute, 60_000));
    // (name, policy, ticks after the newest hit)
    let cases = [
        ("sliding, same tick", sliding, 0),
        ("sliding, new tick", sliding, 1),
        ("sliding, refused", refusing, 0),
        ("fixed", fixed, 0),
        ("bucket", bucket, 0),
    ];
    for (what, policy, later) in cases {
        let member = Member { counter: 0, policy, hits: Hits::Add(1), enforcement: Enforcement::Enforced };
        let full = full(policy, member);
        let now = Timestamp::from_millis(NOW_MS + later * TICK_MS);
        group.bench_function(what, |bencher| {
            bencher.iter_batched_ref(
                || [full.clone()],
                |counters| decide(counters, &[member], Charging::AllOrNothing, now),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// A counter with a hit in each of 65 ticks, the last at [`NOW_MS`].
fn full(policy: Policy, member: Member) -> Counter {
    let mut counters = [policy.empty_counter()];
    for back in (0..65).rev() {
        decide(&mut counters, &[member], Charging::AllOrNothing, Timestamp::from_millis(NOW_MS - back * TICK_MS));
    }
    let [counter] = counters;
    counter
}

fn conversion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("convert");
    for descriptors in [1, 4] {
        let request = request(descriptors);
        group.bench_function(BenchmarkId::new("query", descriptors), |bencher| {
            bencher.iter(|| convert::query(black_box(&request)).map(|converted| converted.query.descriptors().len()));
        });
        let decision = decision(descriptors);
        group.bench_function(BenchmarkId::new("response", descriptors), |bencher| {
            bencher.iter(|| convert::response(black_box(&decision)));
        });
    }
    group.finish();
}

fn request(descriptors: usize) -> RateLimitRequest {
    let entry = rate_limit_descriptor::Entry { key: "key".to_owned(), value: "00042".to_owned() };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
    RateLimitRequest { domain: DOMAIN.to_owned(), descriptors: vec![descriptor; descriptors], hits_addend: 0 }
}

fn decision(descriptors: usize) -> Decision {
    let window = Window::from(Unit::Minute);
    let judgement = |descriptor| Judgement {
        descriptor,
        rule: Some(descriptor),
        gate: None,
        current_limit: tidegate::decision::CurrentLimit {
            limit: Limit { requests_per_unit: 60_000, window },
            name: None,
        },
        policy: Policy::SlidingWindow(SlidingWindow::new(60_000, window, Precision::DEFAULT)),
        mode: Mode { shadow: false, quota: false },
        tally: Tally { verdict: Verdict::Within, charged: true, used: 7, reset_after_ms: 59_000 },
    };
    let judgements: Vec<Judgement> = (0..descriptors).map(judgement).collect();
    Decision::of(&vec![Uncounted::default(); descriptors], &judgements, ProcessModes::default())
}

criterion_group!(benches, matching, keys, windows, conversion);
criterion_main!(benches);
