//! Three replicas, one Redis, one hot key: the promise holds for the fleet, not for each process.
//!
//! A client knows only when it sent a call and when it had the answer; the decision fell somewhere between. So a call
//! whose sending and receiving both lie in an interval was certainly decided in it, and the calls that were certainly
//! admitted within one window's length may never be more than the limit, wherever that interval starts. It suffices
//! to start one at each sending: an interval that starts elsewhere holds no more than the one from its first sending.
//! The other way round, a call may be refused only if so many others may have been admitted in the window before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::PATIENCE;
use crate::support::client::request;
use crate::support::redis::Redis;
use crate::support::tidegate::Launch;

const LIMIT: u32 = 200;
const WINDOW: Duration = Duration::from_secs(2);
/// A pair of the log of a limit above 64 stands for a 64th of the window; budget returns at most that much late.
const TICK: Duration = Duration::from_millis(2_000 / 64 + 1);

/// Three windows and a little: the fourth filling has begun, so that budget has come back three times.
const ADMISSIONS: usize = 3 * LIMIT as usize + 1;
/// 24 clients, each every 20 ms: 2 400 calls per window, twelve times the limit.
const CLIENTS: usize = 24;
const PAUSE: Duration = Duration::from_millis(20);

/// A call: when it was sent, when its answer was there, and whether it was admitted.
#[derive(Clone, Copy, Debug)]
struct Call {
    sent: Instant,
    received: Instant,
    is_admitted: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_together_admit_no_more_than_the_limit_in_any_window_and_no_less_either() {
    let Some(redis) = Redis::start().await else { return };
    let rules = format!(
        "domain: fleet\ndescriptors:\n  - {{ key: hot, rate_limit: \
         {{ unit: second, unit_multiplier: 2, requests_per_unit: {LIMIT} }} }}\n"
    );
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let replica = Launch::new(&[("rules.yaml", &rules)]).redis(&redis).start().await;
        replica.becomes(ServingStatus::Serving).await;
        replicas.push(replica);
    }

    let (admitted, end) = (Arc::new(AtomicUsize::new(0)), Instant::now() + PATIENCE);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (mut replica, admitted) = (replicas[client % replicas.len()].grpc(), Arc::clone(&admitted));
        clients.spawn(async move {
            let mut calls = Vec::new();
            let mut pace = interval(PAUSE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while pace.tick().await < end && admitted.load(Ordering::Relaxed) < ADMISSIONS {
                let sent = Instant::now();
                let answer = replica.should_rate_limit(request("fleet", &[("hot", "key")])).await.unwrap();
                let is_admitted = answer.into_inner().overall_code() == Code::Ok;
                admitted.fetch_add(usize::from(is_admitted), Ordering::Relaxed);
                calls.push(Call { sent, received: Instant::now(), is_admitted });
            }
            calls
        });
    }
    let calls: Vec<Call> = clients.join_all().await.into_iter().flatten().collect();
    let (admissions, refusals): (Vec<Call>, Vec<Call>) = calls.into_iter().partition(|call| call.is_admitted);
    println!("{} admitted, {} refused", admissions.len(), refusals.len());
    assert!(admissions.len() >= ADMISSIONS, "{} calls were admitted in {PATIENCE:?}", admissions.len());

    for first in &admissions {
        let within = |one: &&Call| one.sent >= first.sent && one.received < first.sent + WINDOW;
        let certain = admissions.iter().filter(within).count();
        assert!(certain <= LIMIT as usize, "{certain} calls were admitted within one window of {LIMIT}");
    }
    // Whatever the machine's speed: who was refused was refused for others, all of whom may have been admitted within a
    // window and a tick before the decision.
    for refused in &refusals {
        let before = |one: &&Call| one.sent < refused.received && one.received + WINDOW + TICK > refused.sent;
        let possible = admissions.iter().filter(before).count();
        assert!(possible >= LIMIT as usize, "a call was refused after {possible} admissions within one window");
    }
}
