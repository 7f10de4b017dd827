//! Many connections, and more than there are places for.

use std::time::Duration;

use tidegate::open_files;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::client::request;
use crate::support::frames::{INITIAL_WINDOW_SIZE, connect};
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

const LIMIT: u32 = 900_000;
const RULES: &str =
    "domain: shop\ndescriptors:\n  - { key: user, rate_limit: { unit: hour, requests_per_unit: 900000 } }\n";

/// Connections at once, where the system gives us as many files.
const CONNECTIONS: usize = 10_000;

/// Calls at once on a connection.
const STREAMS: u32 = 1_000;

/// Memory of a connection that has nothing under way, in KiB: buffers for reading and writing, in the sizes that the
/// allocator has.
const CONNECTION_KIB_MAX: u64 = 48;

/// The soft limit that systems often give.
const FILES_USUAL: u32 = 1_024;

/// Files that this process needs for other things.
const FILES_OTHERS: u64 = 1_000;

async fn idle_connection(tidegate: &Tidegate) -> TcpStream {
    let mut stream = connect(tidegate.grpc_address(), INITIAL_WINDOW_SIZE, 65_535).await.unwrap();
    // The server's own settings: from now on it has the connection.
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_with_a_thousand_calls_at_once_in_turn() {
    let files = open_files::raise().unwrap_or(u64::MAX);
    let connections = CONNECTIONS.min(usize::try_from(files - FILES_OTHERS).unwrap());
    let launch = Launch::new(&[("rules.yaml", RULES)]).setting("TIDEGATE_GRPC_CONNECTIONS_MAX", connections + 10);
    let mut tidegate = launch.files(FILES_USUAL).start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    let before = tidegate.process().resident_kib();
    let mut crowd = Vec::new();
    while crowd.len() < connections {
        crowd.push(idle_connection(&tidegate).await);
    }
    let held = tidegate.process().resident_kib().saturating_sub(before);
    println!("{connections} connections hold {held} KiB");
    assert!(held <= CONNECTION_KIB_MAX * connections as u64, "{held} KiB for {connections} connections");

    let mut remaining = LIMIT;
    for _ in 0..4 {
        // The next in turn: a connection of its own in the place of an idle one.
        drop(crowd.pop());
        let client = tidegate.grpc();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..STREAMS {
            let mut client = client.clone();
            calls.spawn(async move { client.should_rate_limit(request("shop", &[("user", "ann")])).await });
        }
        for answer in calls.join_all().await {
            assert_eq!(answer.unwrap().into_inner().overall_code(), Code::Ok);
        }
        remaining -= STREAMS;
    }
    let answer = tidegate.ask(request("shop", &[("user", "ann")])).await;
    assert_eq!(answer.statuses[0].limit_remaining, remaining - 1, "each call is counted, once");
    assert_eq!(tidegate.health().await, Some(ServingStatus::Serving));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_idle_makes_room_for_a_newcomer() {
    let launch = Launch::new(&[("rules.yaml", RULES)]).setting("TIDEGATE_GRPC_CONNECTIONS_MAX", 20);
    let tidegate = launch.start().await;
    let mut first = tidegate.grpc();
    eventually("it serves", PATIENCE, async || first.should_rate_limit(request("shop", &[("user", "ann")])).await.ok())
        .await;
    let mut crowd = Vec::new();
    for _ in 0..19 {
        crowd.push(idle_connection(&tidegate).await);
    }
    // As long as all were heard just now, nobody has to go.
    eventually("a newcomer is answered", PATIENCE, async || {
        let answered = first.should_rate_limit(request("shop", &[("user", "ann")])).await;
        assert!(answered.is_ok(), "who asks is never sent away: {answered:?}");
        let mut newcomer = tidegate.grpc();
        let answer = newcomer.should_rate_limit(request("shop", &[("user", "bob")]));
        timeout(Duration::from_secs(5), answer).await.ok()?.ok()
    })
    .await;
    tidegate.logs_once("all connections are taken").await;
}

#[tokio::test]
async fn it_says_when_it_may_not_have_as_many_files_as_connections() {
    let launch = Launch::new(&[("rules.yaml", RULES)]).setting("TIDEGATE_GRPC_CONNECTIONS_MAX", 1_000_000);
    let mut tidegate = launch.start().await;
    eventually("it says so", PATIENCE, async || {
        let told = tidegate.process().stderr();
        let is_told = told.contains("grpc.connections_max") && told.contains("ulimit -n");
        is_told.then_some(())
    })
    .await;
}
