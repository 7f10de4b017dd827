//! The load generator against real servers: what it counts is what happened.
//!
//! Nothing here says how fast anything is. Deadlines are long where a busy machine must not look like a late server.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bench::{LateServer, Noop, bench, bench_json};
use crate::support::redis::Redis;
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

const PATIENT: [&str; 2] = ["--deadline", "10s"];

/// The report of a short run of `load`; flags are separated by blanks.
async fn load(targets: &[&str], flags: &str) -> Value {
    let targets = targets.iter().flat_map(|target| ["--target", target]);
    let common = "load --connections 2 --calls 8 --duration 400ms";
    bench_json(&common.split(' ').chain(targets).chain(flags.split(' ')).collect::<Vec<_>>()).await
}

fn number(report: &Value, field: &str) -> f64 {
    report[field].as_f64().unwrap_or_else(|| panic!("{field} should be a number in {report}"))
}

/// What holds of every run in which nothing goes wrong.
fn assert_all_answered(report: &Value) {
    assert!(number(report, "sent") > 0.0, "{report}");
    assert_eq!(number(report, "sent"), number(report, "answered"), "{report}");
    assert_eq!(number(report, "answered"), number(report, "ok") + number(report, "over_limit"), "{report}");
    assert_eq!((number(report, "unanswered"), number(report, "unsent")), (0.0, 0.0), "{report}");
    assert_eq!(report["errors"], json!({}));
}

/// A limit for each value of `key`, in windows of two units.
fn rules(unit: &str, limit: u32) -> String {
    format!(
        "domain: bench\ndescriptors:\n  - {{ key: key, rate_limit: {{ unit: {unit}, unit_multiplier: 2, \
         requests_per_unit: {limit} }} }}\n"
    )
}

/// Tidegate with such a limit and counters in memory.
async fn limiting(unit: &str, limit: u32) -> Tidegate {
    Launch::new(&[("rules.yaml", &rules(unit, limit))]).start().await
}

#[tokio::test]
async fn a_closed_loop_counts_every_answer_of_the_baseline() {
    for runtimes in [1, 2] {
        let noop = Noop::start(runtimes).await;
        let target = noop.address.to_string();
        let report = load(&[&target], "--warm-up 100ms --deadline 10s").await;
        assert_all_answered(&report);
        assert_eq!((&report["mode"], &report["targets"]), (&json!("closed"), &json!([target])));
        assert_eq!((number(&report, "seconds"), number(&report, "over_limit")), (0.4, 0.0));
        assert_eq!((number(&report, "missed_deadline"), number(&report, "missed_share")), (0.0, 0.0));
        for field in ["calls_per_second", "generator_cpu_seconds", "generator_cpu_share"] {
            assert!(number(&report, field) > 0.0, "{field} in {report}");
        }
        let percentiles = ["p50", "p90", "p99", "p99_9", "p99_99", "max"];
        let latencies = percentiles.map(|name| number(&report["latency_us"], name));
        assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{report}");
        assert!((latencies[0] / 10.0..=latencies[5]).contains(&number(&report["latency_us"], "mean")), "{report}");
    }
}

#[tokio::test]
async fn an_open_loop_sends_what_is_due_and_no_more() {
    let tidegate = limiting("day", 10).await;
    let target = tidegate.grpc_address().to_string();
    let flags = "--warm-up 100ms --deadline 10s --rate 500 --arrivals even --keys uniform:3";
    let report = load(&[&target], flags).await;
    assert_all_answered(&report);
    assert_eq!(report["mode"], "open");
    // One each 2 ms from 100 ms to 500 ms. Three keys let 30 calls through, of which most came in the warm-up.
    assert_eq!(number(&report, "sent"), 200.0);
    assert!(number(&report, "over_limit") >= 170.0, "{report}");
}

#[tokio::test]
async fn connections_are_spread_over_all_targets() {
    let (one, other) = (limiting("day", 7).await, limiting("day", 7).await);
    let (one, other) = (one.grpc_address().to_string(), other.grpc_address().to_string());
    let report = load(&[&one, &other], "--warm-up 0s --deadline 10s").await;
    assert_all_answered(&report);
    assert_eq!(number(&report, "ok"), 14.0, "each has admitted its own limit: {report}");
    assert_eq!(report["targets"], json!([one, other]));
}

#[tokio::test]
async fn hits_and_descriptors_are_charged_as_asked() {
    let tidegate = limiting("day", 100).await;
    let target = tidegate.grpc_address().to_string();
    let report = load(&[&target], "--warm-up 0s --deadline 10s --hits 25 --descriptors 3").await;
    assert_all_answered(&report);
    // Only the first descriptor has the rule's key; the others are key2 and key3.
    assert_eq!(number(&report, "ok"), 4.0, "{report}");
}

#[tokio::test]
async fn a_call_that_misses_its_deadline_is_counted_and_its_answer_still_waited_for() {
    let server = LateServer::start(Duration::from_millis(60)).await;
    let target = server.address.to_string();
    let report = load(&[&target], "--warm-up 0s --deadline 5ms").await;
    assert_all_answered(&report);
    assert_eq!(number(&report, "missed_deadline"), number(&report, "sent"), "{report}");
    assert_eq!(number(&report, "missed_share"), 1.0);
    assert!(number(&report["latency_us"], "p50") >= 60_000.0, "{report}");
}

#[tokio::test]
async fn a_call_that_is_never_answered_is_given_up_and_missed() {
    let server = LateServer::start(10 * PATIENCE).await;
    let target = server.address.to_string();
    let report = load(&[&target], "--warm-up 0s --patience 100ms").await;
    assert!(number(&report, "sent") >= 16.0, "{report}");
    assert_eq!((number(&report, "answered"), number(&report, "calls_per_second")), (0.0, 0.0));
    for field in ["unanswered", "missed_deadline", "let_through"] {
        assert_eq!(number(&report, field), number(&report, "sent"), "{field} in {report}");
    }
}

#[tokio::test]
async fn an_open_loop_charges_a_stalled_server_for_every_call_that_was_due() {
    let server = LateServer::start(10 * PATIENCE).await;
    let target = server.address.to_string();
    // 16 calls find room and 20 wait; the others that are due are not sent at all.
    let flags = "--warm-up 0s --patience 1s --rate 500 --arrivals even --backlog 20";
    let report = load(&[&target], flags).await;
    assert_eq!((number(&report, "missed_deadline"), number(&report, "missed_share")), (200.0, 1.0), "{report}");
    assert_eq!(number(&report, "sent") + number(&report, "unsent"), 200.0, "{report}");
    assert!(number(&report, "unsent") >= 100.0 && number(&report, "sent") >= 16.0, "{report}");
    assert_eq!(number(&report, "backlog_max"), 20.0, "{report}");
}

#[tokio::test]
async fn connections_that_a_server_ends_in_order_lose_no_call() {
    let tidegate = Launch::new(&[("rules.yaml", &rules("day", 10))])
        .setting("TIDEGATE_GRPC_CONNECTION_AGE", "100ms")
        .start()
        .await;
    let target = tidegate.grpc_address().to_string();
    for pace in ["", " --rate 1000"] {
        // A machine that is held up for most of a run of 400 ms leaves no time for two.
        eventually("a run sees connections end", PATIENCE, async || {
            let report = load(&[&target], &format!("--warm-up 0s --deadline 10s{pace}")).await;
            assert_all_answered(&report);
            (number(&report, "reconnects") >= 2.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_dies_ends_the_run_with_a_sentence() {
    let mut noop = Noop::start(1).await;
    let target = noop.address.to_string();
    let flags = ["load", "--target", &target, "--duration", "1h"];
    let (ended, ()) = tokio::join!(bench(&flags), async { noop.process.kill() });
    assert_eq!(ended.status.code(), Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains(&target), "{}", ended.stderr);
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_with_a_sentence() {
    for (flags, code, words) in [
        ("load --target 127.0.0.1:1", 69, ["--target 127.0.0.1:1", "is a server listening there?"]),
        ("load --target localhost", 64, ["--target", "HOST:PORT"]),
        ("load --target a:1 --connections 10000 --calls 100000", 64, ["--connections 10000", "take fewer"]),
        ("noop --listen here", 64, ["--listen", "an IP address and a port"]),
        ("accuracy --target a:1 --window 1s", 64, ["--limit", "required"]),
    ] {
        let ended = bench(&flags.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(ended.status.code(), Some(code), "{flags}: {}", ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "{flags}: {}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn the_table_for_people_has_the_figures() {
    let noop = Noop::start(1).await;
    let target = noop.address.to_string();
    let flags = ["load", "--target", &target, "--warm-up", "0s", "--duration", "100ms"];
    let ended = bench(&flags).await;
    assert!(ended.status.success(), "{}", ended.stderr);
    for word in [&target, "closed", "calls a second", "missed deadline", "p99.99", "generator CPU"] {
        assert!(ended.stdout.contains(word), "{word} should be in\n{}", ended.stdout);
    }
    assert_eq!(ended.stderr, "", "progress is for terminals");
}

#[tokio::test]
async fn the_baseline_ends_when_it_is_told_to() {
    let mut noop = Noop::start(1).await;
    noop.process.terminate();
    assert!(noop.process.wait(PATIENCE).await.status.success());
}

/// The report of a run of `accuracy`, and whether it found the limit kept.
async fn accuracy(targets: &[&str], flags: &str) -> (Value, bool) {
    let targets = targets.iter().flat_map(|target| ["--target", target]);
    let common = "accuracy --json --connections 2 --calls 4 --window 2s";
    let flags = common.split(' ').chain(PATIENT).chain(targets).chain(flags.split(' '));
    let ended = bench(&flags.collect::<Vec<_>>()).await;
    let kept = match ended.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("{}: {}", ended.status, ended.stderr),
    };
    (serde_json::from_str(&ended.stdout).unwrap(), kept)
}

#[tokio::test]
async fn replicas_over_one_redis_are_found_to_keep_their_limit_and_not_a_lower_one() {
    let Some(redis) = Redis::start().await else { return };
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(Tidegate::serving(&redis, &[("rules.yaml", &rules("second", 50))]).await);
    }
    let targets: Vec<String> = replicas.iter().map(|replica| replica.grpc_address().to_string()).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let flags = "--keys uniform:2 --rate 500 --duration";
    // A machine that is held up for most of a run leaves too little of it to tell.
    eventually("a limit is kept that was reached", PATIENCE, async || {
        let (report, kept) = accuracy(&targets, &format!("--limit 50 {flags} 5s")).await;
        assert!(kept, "{report}");
        assert!(number(&report, "most_admitted_possible") >= number(&report, "most_admitted_certain"), "{report}");
        if report["verdict"] == "untested" || number(&report, "saturated_windows") < 2.0 {
            return None;
        }
        assert_eq!((&report["verdict"], &report["allowed"], &report["keys"]), (&json!("kept"), &json!(50), &json!(2)));
        assert!(number(&report, "ratio") <= 1.0, "{report}");
        Some(())
    })
    .await;
    eventually("a lower one is found to be violated", PATIENCE, async || {
        let (report, kept) = accuracy(&targets, &format!("--limit 30 {flags} 3s")).await;
        if kept {
            return None;
        }
        assert_eq!(report["verdict"], "violated");
        assert!(number(&report, "most_admitted_certain") > 30.0, "{report}");
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_limit_that_was_never_reached_is_reported_as_untested() {
    let tidegate = limiting("second", 1_000_000).await;
    let target = tidegate.grpc_address().to_string();
    let (report, kept) = accuracy(&[&target], "--limit 1000000 --rate 100 --duration 200ms").await;
    assert!(kept, "{report}");
    assert_eq!((&report["verdict"], &report["least_admitted"]), (&json!("untested"), &Value::Null));
}
