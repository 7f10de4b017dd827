//! A decision alone: match, charge, fold; no wire on either side.

use allocation_counter::measure;
use tidegate::counters::any::AnyStore;
use tidegate::limiter::Limiter;
use tidegate::metrics::Metrics;
use tidegate::rls::convert;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::budget::{Allocations, DECISION_FUTURE_BYTES, DECISION_IN_MEMORY, DECISION_IN_REDIS};
use crate::service::{PATIENCE, in_redis, limiter, memory, question, runtime};
use crate::support::redis::Redis;

const DECISIONS: u32 = 2_000;

fn allocations(runtime: &Runtime, limiter: &Limiter<AnyStore>) -> Allocations {
    let of = |descriptors: usize| {
        let question = question(descriptors);
        let query = convert::query(&question).unwrap().query;
        let decide = || {
            runtime.block_on(async {
                for _ in 0..DECISIONS {
                    let answer = limiter.decide(&query, Instant::now() + PATIENCE).await.unwrap();
                    assert_eq!(answer.decision.statuses.len(), descriptors);
                    assert!(answer.decision.statuses.iter().all(|status| status.current_limit.is_some()));
                }
            });
        };
        decide();
        measure(decide).count_total as f64 / f64::from(DECISIONS)
    };
    Allocations { one: of(1), four: of(4) }
}

#[test]
fn a_decision_in_memory_allocates_no_more_than_its_budget() {
    let limiter = limiter(memory(), &Metrics::new(100));
    DECISION_IN_MEMORY.check("a decision in memory", allocations(&runtime(), &limiter));
}

#[test]
fn a_decision_in_redis_allocates_no_more_than_its_budget() {
    let Some(redis) = Redis::start_blocking() else { return };
    let runtime = runtime();
    let limiter = limiter(in_redis(&redis, &runtime), &Metrics::new(100));
    DECISION_IN_REDIS.check("a decision in Redis", allocations(&runtime, &limiter));
}

#[test]
fn the_future_of_a_decision_is_no_larger_than_its_budget() {
    let limiter = limiter(memory(), &Metrics::new(100));
    let question = question(4);
    let query = convert::query(&question).unwrap().query;
    let bytes = size_of_val(&limiter.decide(&query, Instant::now()));
    println!("the future of a decision: {bytes} bytes");
    assert!(bytes <= DECISION_FUTURE_BYTES, "{bytes} bytes, {DECISION_FUTURE_BYTES} may be spent");
}
