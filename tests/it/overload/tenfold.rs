//! Ten times as many calls at once as keep a core busy.

use serde_json::Value;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::bench::bench_json;
use crate::support::client::request;
use crate::support::redis::Redis;
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

const LIMIT: u64 = 4_000_000_000;
const RULES: &str =
    "domain: bench\ndescriptors:\n  - { key: key, rate_limit: { unit: day, requests_per_unit: 4000000000 } }\n";

/// What a process may grow by under it: the calls under way at 16 KiB each, and as much again.
const GROWTH_KIB_MAX: u64 = 2 * 16 * 2_560;

/// What is said of calls that can't be answered in time: before their charge, and of the few that were being charged
/// (UNKNOWN is what the reference service says when its store gives no answer).
const NOT_IN_TIME: [&str; 2] = ["RESOURCE_EXHAUSTED", "UNKNOWN"];

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("{field} should be a whole number in {report}"))
}

/// 2,560 calls at once for a second, each with Envoy's deadline, all about one key; the report.
async fn tenfold(tidegate: &Tidegate) -> Value {
    let target = tidegate.grpc_address().to_string();
    let load = "load --connections 40 --calls 64 --duration 1s --warm-up 0s --deadline 20ms --keys hot --target";
    bench_json(&load.split(' ').chain([target.as_str()]).collect::<Vec<_>>()).await
}

async fn holds(launch: Launch) {
    let mut tidegate = launch.start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    let before = tidegate.process().resident_kib();
    let report = tokio::select! {
        report = tenfold(&tidegate) => report,
        never = async {
            loop {
                let health = tidegate.health().await;
                assert_eq!(health, Some(ServingStatus::Serving), "health is asked all the while");
            }
        } => never,
    };
    let grown = tidegate.process().resident_kib().saturating_sub(before);
    assert!(grown <= GROWTH_KIB_MAX, "{grown} KiB more than before");

    assert_eq!((number(&report, "unanswered"), number(&report, "sent")), (0, number(&report, "answered")), "{report}");
    let errors = report["errors"].as_object().expect("errors are counted by code");
    assert!(errors.keys().all(|code| NOT_IN_TIME.contains(&code.as_str())), "{report}");

    // Over is over: the next call is answered, and says that every OK was charged, and nothing twice.
    let answer = eventually("a lone call is answered", PATIENCE, async || {
        let mut client = tidegate.grpc();
        client.should_rate_limit(request("bench", &[("key", "hot")])).await.ok()
    })
    .await;
    assert_eq!(answer.get_ref().overall_code(), Code::Ok);
    let used = LIMIT - u64::from(answer.get_ref().statuses[0].limit_remaining);
    assert!((number(&report, "ok") + 1..=number(&report, "sent") + 1).contains(&used), "{used} charged: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_calls_are_answered_or_refused_and_each_is_charged_once_in_memory() {
    holds(Launch::new(&[("rules.yaml", RULES)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_calls_are_answered_or_refused_and_each_is_charged_once_in_redis() {
    let Some(redis) = Redis::start().await else { return };
    holds(Launch::new(&[("rules.yaml", RULES)]).redis(&redis)).await;
}
