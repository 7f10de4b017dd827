//! Three replicas, one Redis, one hot key: the promise holds for the fleet, not for each process.
//!
//! A client knows only when it sent a call and when it had the answer; the decision fell somewhere between. So a call
//! whose sending and receiving both lie in an interval was certainly decided in it, and the calls that were certainly
//! admitted within one window's length may never be more than the limit, wherever that interval starts. It suffices
//! to start one at each sending: an interval that starts elsewhere holds no more than the one from its first sending.

use std::time::Duration;

use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::client::request;
use crate::support::redis::Redis;
use crate::support::tidegate::Launch;

const LIMIT: u32 = 200;
const WINDOW: Duration = Duration::from_secs(2);
/// A pair of the log of a limit above 64 stands for a 64th of the window; budget returns at most that much late.
const TICK: Duration = Duration::from_millis(2_000 / 64 + 1);

/// Three windows and a half, so that the fourth filling always falls into the run.
const RUN: Duration = Duration::from_secs(7);
/// 24 clients, each every 20 ms: 2 400 calls per window, twelve times the limit.
const CLIENTS: usize = 24;
const PAUSE: Duration = Duration::from_millis(20);

/// When an admitted call was sent, and when its answer was there.
#[derive(Clone, Copy, Debug)]
struct Admission {
    sent: Instant,
    received: Instant,
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

    let end = Instant::now() + RUN;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut replica = replicas[client % replicas.len()].grpc();
        clients.spawn(async move {
            let mut admissions = Vec::new();
            let mut pace = interval(PAUSE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while pace.tick().await < end {
                let sent = Instant::now();
                let answer = replica.should_rate_limit(request("fleet", &[("hot", "key")])).await.unwrap();
                if answer.into_inner().overall_code() == Code::Ok {
                    admissions.push(Admission { sent, received: Instant::now() });
                }
            }
            admissions
        });
    }
    let admissions: Vec<Admission> = clients.join_all().await.into_iter().flatten().collect();

    for first in &admissions {
        let within = |one: &&Admission| one.sent >= first.sent && one.received < first.sent + WINDOW;
        let certain = admissions.iter().filter(within).count();
        assert!(certain <= LIMIT as usize, "{certain} calls were admitted within one window of {LIMIT}");
    }
    // Demand being there all the time, every filling of the window is followed by the next one window later, plus a
    // tick, plus the pause of a client and what a busy machine adds to it.
    let cycle = WINDOW + TICK + Duration::from_millis(250);
    let fillings = u32::try_from(RUN.as_millis() / cycle.as_millis()).unwrap();
    let tick_share = LIMIT.div_ceil(64);
    let least = fillings * (LIMIT - tick_share);
    let admitted = admissions.len();
    assert!(admitted >= least as usize, "{admitted} calls were admitted in {RUN:?}, at least {least} had room");
}
