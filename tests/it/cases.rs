//! What the service answers, call by call, as data: `tests/cases/*.yaml`.
//!
//! Each case runs through everything that lies between the program's files and its sockets: rules are loaded and put
//! in force, a wire request is converted, matched, charged and answered. Each runs over both stores, the memory store
//! with a clock that stands still and a real Redis; only cases that need such a clock skip Redis. Those of the reference
//! run a second time with `compatibility: envoyproxy`, where Redis's clock plays no part.
//!
//! `reference_*.yaml` say that with `algorithm: fixed_window` and `charging: each` the answers are those of
//! envoyproxy/ratelimit; where they are meant to differ the case says why. The others say what our own semantics are.
//! `CASE=D27 cargo test --test it cases` runs one case alone.

mod case;
mod run;
mod service;
mod shorthand;

use std::collections::BTreeSet;
use std::path::Path;

use tokio_util::task::TaskTracker;

use self::case::{Case, Profile};
use self::run::{Store, redis_store, run};
use crate::support::cluster;
use crate::support::redis::Redis;

fn all_cases() -> Vec<Case> {
    case::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases"))
}

/// All cases, or the one that the environment variable `CASE` names.
fn chosen_cases() -> Vec<Case> {
    let mut cases = all_cases();
    if let Ok(id) = std::env::var("CASE") {
        cases.retain(|case| case.id == id);
        assert!(!cases.is_empty(), "there is no case {id}");
    }
    cases
}

fn assert_all_hold((count, failures): (usize, Vec<String>)) {
    assert!(failures.is_empty(), "{} of {count} cases do not hold:\n\n{}\n", failures.len(), failures.join("\n\n"));
}

#[tokio::test]
async fn every_case_holds_over_the_memory_store() {
    assert_all_hold(run(&chosen_cases(), Profile::Own, &Store::Memory).await);
}

#[tokio::test]
async fn every_case_holds_over_redis() {
    let Some(redis) = Redis::start().await else { return };
    let tasks = TaskTracker::new();
    let store = redis_store(&redis, &tasks).await;
    assert_all_hold(run(&chosen_cases(), Profile::Own, &Store::Redis(&redis, &store)).await);
}

#[tokio::test]
async fn every_case_of_the_reference_holds_in_its_profile_over_the_memory_store() {
    assert_all_hold(run(&chosen_cases(), Profile::Envoyproxy, &Store::Memory).await);
}

#[tokio::test]
async fn every_case_holds_over_a_cluster_in_both_profiles() {
    let Some((redis, connector)) = cluster::alone().await else { return };
    let store = cluster::in_cluster(&connector).await;
    // A call whose counters are each charged on their own, in several slots, isn't made whole: if one of them can't be
    // charged the call fails and the others' charges stay, as in the reference service.
    let cases: Vec<_> = chosen_cases().into_iter().filter(|case| case.id != "D57").collect();
    assert_all_hold(run(&cases, Profile::Own, &Store::Redis(&redis, &store)).await);
    assert_all_hold(run(&cases, Profile::Envoyproxy, &Store::Redis(&redis, &store)).await);
}

#[tokio::test]
async fn every_case_of_the_reference_holds_in_its_profile_over_redis() {
    let Some(redis) = Redis::start().await else { return };
    let tasks = TaskTracker::new();
    let store = redis_store(&redis, &tasks).await;
    assert_all_hold(run(&chosen_cases(), Profile::Envoyproxy, &Store::Redis(&redis, &store)).await);
}

/// A profile that deviates without need is none.
#[test]
fn in_the_profile_only_what_the_specification_calls_wrong_is_otherwise() {
    let cases = all_cases();
    let deviations = cases.iter().filter_map(|case| {
        let case = case.in_profile(Profile::Envoyproxy)?;
        Some((case.id, case.deviation?))
    });
    let unfounded: Vec<_> = deviations.filter(|(_, reason)| !reason.starts_with("section ")).collect();
    assert_eq!(unfounded, []);
}

#[test]
fn each_case_has_an_id_of_its_own_and_none_of_the_reference_is_left_out() {
    let cases = all_cases();
    let ids: BTreeSet<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids.len(), cases.len(), "an id stands there twice");
    // D35 is about a second Redis.
    let decisions = (1..=53).filter(|number| *number != 35).map(|number| format!("D{number:02}"));
    let configurations = (1..=25).map(|number| format!("C{number:02}"));
    let metrics = (1..=7).map(|number| format!("M{number:02}"));
    let wanted = decisions.chain(configurations).chain(metrics);
    let missing: Vec<String> = wanted.filter(|id| !ids.contains(id.as_str())).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_key_or_expiry_in_redis_is_reported() {
    let Some(redis) = Redis::start().await else { return };
    let tasks = TaskTracker::new();
    let store = redis_store(&redis, &tasks).await;
    let failures = async |keys: &str| {
        let text = format!(
            "profiles: [envoyproxy]\ncases:\n- id: X2\n  claim: wrong on purpose\n  settings: {{algorithm: fixed_window}}\n  \
             rules: '{{domain: d, descriptors: [{{key: user, rate_limit: {{unit: day, requests_per_unit: 3}}}}]}}'\n  \
             calls: ['d: (user=a) -> OK[OK 3 2]']\n  envoyproxy: {{keys: {keys}}}\n"
        );
        run(&case::parse(&text).unwrap(), Profile::Envoyproxy, &Store::Redis(&redis, &store)).await.1
    };
    assert_eq!(failures("{d_user_a_<day>: 1 ttl 86400..172800}").await, Vec::<String>::new());
    for wrong in ["{d_user_a_<day>: 2}", "{d_user_b_<day>: 1}", "{d_user_a_<day>: 1 ttl 1..60}"] {
        assert_eq!(failures(wrong).await.len(), 1, "{wrong}");
    }
}

/// A suite that can't fail proves nothing.
#[tokio::test]
async fn a_wrong_expectation_of_each_kind_is_reported_with_what_came_instead() {
    let text = |call: &str| {
        format!(
            "cases:\n- id: X1\n  claim: wrong on purpose\n  settings: {{headers: [L, R, S]}}\n  \
             rules: 'domain: d\n\n    descriptors: [{{key: user, rate_limit: {{unit: hour, requests_per_unit: 3}}}}]'\n  \
             calls:\n  - {call}\n"
        )
    };
    let right = "{call: 'd: (user=a) -> OK[OK 3 2]', headers: [L 3, R 2, S *]}";
    let wrong = [
        ("{call: 'd: (user=a) -> OK[OK 3 1]', headers: [L 3, R 2, S *]}", "OK[OK 3 1]"),
        ("{call: 'd: (user=a) -> OK[OK 3 2]', headers: [L 3, R 1, S *]}", r#"["L 3", "R 1", "S *"]"#),
        ("{call: 'd: (user=a) -> OK[OK 3 2]', headers: [L 3, R 2, S *], metadata: {/x: 1}}", "1"),
        ("{call: 'd: (user=a) -> error UNKNOWN x', headers: []}", "error UNKNOWN x"),
        ("{call: ': (user=a) -> OK[OK 3 2]', headers: []}", "OK[OK 3 2]"),
        ("{reload: 'domain: d', rejected: x}", "rejected: x"),
        ("{reload: 'domain: \"\"'}", "they load"),
        (&format!("{right}\n  metrics: {{total_hits d user: 2}}"), "2"),
    ];
    let failures = async |call: &str| run(&case::parse(&text(call)).unwrap(), Profile::Own, &Store::Memory).await.1;
    assert_eq!(failures(right).await, Vec::<String>::new());
    for (call, expected) in wrong {
        let reports = failures(call).await;
        let [report] = &reports[..] else { panic!("{call} should fail once: {reports:?}") };
        let expected = format!("expected  {expected}");
        for part in ["X1", "memory store", "wrong on purpose", "  at        ", "  got       "] {
            assert!(report.contains(part), "{part} is not in {report}");
        }
        assert!(report.contains(&expected), "{expected} is not in {report}");
    }
}
