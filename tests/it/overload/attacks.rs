//! One kind of hostile client at a time, several connections of it, and an honest client beside them.
//!
//! An attacker sends its bytes as fast as they are taken, and connects again when it is cut off. How much it gets done
//! depends on the machine; the claims don't.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::client::request;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, INITIAL_WINDOW_SIZE, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    call, call_fields, call_head, connect, field, frame, stream_number, until_ended,
};
use crate::support::tidegate::Launch;
use crate::support::{PATIENCE, eventually};

const LIMIT: u32 = 900_000;
const RULES: &str =
    "domain: shop\ndescriptors:\n  - { key: user, rate_limit: { unit: hour, requests_per_unit: 900000 } }\n";

/// Connections of the attacker.
const ATTACKERS: usize = 4;

/// Calls of the honest client during an attack.
const CALLS: u32 = 20;

/// What an attack must have sent before it counts as one.
const ATTACK_BYTES_MIN: usize = 100_000;

/// What all of them send: enough for what they do to show, and an end, so that a slow machine is done with it in time.
const ATTACK_BYTES_MAX: usize = 8_000_000;

/// What memory may grow by under attack, in KiB: a tenth of it is what the attackers' streams hold, the rest are the
/// allocator's habits.
const GROWTH_KIB_MAX: u64 = 64 * 1_024;

/// Lines that the log may have in the end, those of the start included.
const LOG_LINES_MAX: usize = 12;

/// What a hostile client does.
#[derive(Clone, Copy, Debug)]
struct Attack {
    /// The bytes of its n-th round.
    round: fn(u32) -> Vec<u8>,
    /// Whether it reads what it is told.
    reads: bool,
    /// Its SETTINGS_INITIAL_WINDOW_SIZE.
    window: u32,
}

/// Streams that a round opens, where it opens many.
const STREAMS: u32 = 100;

fn streams(round: u32) -> impl Iterator<Item = u32> {
    (round * STREAMS..(round + 1) * STREAMS).map(stream_number)
}

/// Attacks until the connection breaks; adds up what it sent.
async fn attack_once(address: SocketAddr, attack: Attack, sent: &AtomicUsize) -> std::io::Result<()> {
    let stream = connect(address, INITIAL_WINDOW_SIZE, attack.window).await?;
    let (mut reading, mut writing) = stream.into_split();
    let read = async {
        if !attack.reads {
            return std::future::pending().await;
        }
        let mut buffer = [0; 4_096];
        while reading.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    let write = async {
        for round in 0.. {
            if sent.load(Ordering::Relaxed) > ATTACK_BYTES_MAX {
                return std::future::pending().await;
            }
            let bytes = (attack.round)(round);
            writing.write_all(&bytes).await?;
            sent.fetch_add(bytes.len(), Ordering::Relaxed);
        }
        Ok(())
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}

/// Asserts what the head of this file claims while the attack goes on.
async fn withstands(attack: Attack) {
    let mut tidegate =
        Launch::new(&[("rules.yaml", RULES)]).setting("TIDEGATE_GRPC_KEEPALIVE_TIMEOUT", "1s").start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    let mut honest = tidegate.grpc();
    let mut ask = async || {
        let answer = honest.should_rate_limit(request("shop", &[("user", "ann")])).await.unwrap().into_inner();
        assert_eq!(answer.overall_code(), Code::Ok);
        answer.statuses[0].limit_remaining
    };
    ask().await;
    let before = tidegate.process().resident_kib();

    let (address, sent) = (tidegate.grpc_address(), Arc::new(AtomicUsize::new(0)));
    let mut attackers = JoinSet::new();
    for _ in 0..ATTACKERS {
        let sent = Arc::clone(&sent);
        attackers.spawn(async move {
            loop {
                // Being cut off is what it must expect.
                drop(attack_once(address, attack, &sent).await);
                tokio::task::yield_now().await;
            }
        });
    }
    eventually("the attack is under way", PATIENCE, async || {
        (sent.load(Ordering::Relaxed) >= ATTACK_BYTES_MIN).then_some(())
    })
    .await;
    for call in 1..=CALLS {
        assert_eq!(ask().await, LIMIT - 1 - call, "each call is counted, once");
    }
    // Asked on a connection of its own, which may have to be made again.
    let health = eventually("health is told", PATIENCE, async || tidegate.health().await).await;
    assert_eq!(health, ServingStatus::Serving);
    let after = tidegate.process().resident_kib();
    assert!(after < before + GROWTH_KIB_MAX, "memory grew from {before} to {after} KiB");
    println!("memory grew by {} KiB for {} bytes", after.saturating_sub(before), sent.load(Ordering::Relaxed));
    let told = tidegate.process().stderr() + &tidegate.process().stdout();
    assert!(told.lines().count() <= LOG_LINES_MAX, "the log is flooded, too:\n{told}");
    attackers.shutdown().await;
    ask().await;
}

fn sound_call(stream: u32) -> Vec<u8> {
    call(stream, &request("shop", &[("user", "mallory")]))
}

/// Opens streams and resets each at once: whoever serves them works for nobody (rapid reset).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resetting_streams_as_fast_as_one_can() {
    fn reset(stream: u32) -> Vec<u8> {
        [sound_call(stream), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    }
    withstands(Attack { round: |round| streams(round).flat_map(reset).collect(), reads: true, window: 65_535 }).await;
}

/// Has the server reset them: a window that is raised by nothing is an error of the stream (made you reset).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn having_streams_reset_as_fast_as_one_can() {
    fn broken(stream: u32) -> Vec<u8> {
        [sound_call(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
    }
    withstands(Attack { round: |round| streams(round).flat_map(broken).collect(), reads: true, window: 65_535 }).await;
}

/// A header block without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_continuations() {
    fn round(round: u32) -> Vec<u8> {
        let kind = if round == 0 { HEADERS } else { CONTINUATION };
        let fields = if round == 0 { call_fields() } else { field("x-more", "of it").repeat(100) };
        frame(kind, 0, 1, &fields)
    }
    withstands(Attack { round, reads: true, window: 65_535 }).await;
}

/// Header blocks that become a thousand times their size when they are unpacked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_bombs() {
    /// One long field is put into the table, and then named again and again by one byte.
    fn bomb(stream: u32) -> Vec<u8> {
        let long = field("x-long", &"x".repeat(120));
        let kept = [&[0x40], &long[1..]].concat();
        frame(HEADERS, END_HEADERS, stream, &[call_fields(), kept, vec![0xbe; 8_000]].concat())
    }
    withstands(Attack { round: |round| streams(round).flat_map(bomb).collect(), reads: true, window: 65_535 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_settings() {
    withstands(Attack { round: |_| frame(SETTINGS, 0, 0, &[]).repeat(100), reads: true, window: 65_535 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_pings_whose_answers_are_not_read() {
    withstands(Attack { round: |_| frame(PING, 0, 0, b"whatever").repeat(100), reads: false, window: 65_535 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_priorities_and_of_empty_data() {
    fn round(round: u32) -> Vec<u8> {
        let head = if round == 0 { call_head(1) } else { Vec::new() };
        [head, frame(PRIORITY, 0, 1, &[0; 5]).repeat(50), frame(DATA, 0, 1, &[]).repeat(50)].concat()
    }
    withstands(Attack { round, reads: true, window: 65_535 }).await;
}

/// Asks and asks and never reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read() {
    withstands(Attack { round: |round| streams(round).flat_map(sound_call).collect(), reads: false, window: 65_535 })
        .await;
}

/// Asks, reads, and leaves no window for an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_window() {
    for window in [0, 1] {
        withstands(Attack { round: |round| streams(round).flat_map(sound_call).collect(), reads: true, window }).await;
    }
}

/// Opens all the streams it may and ends none of its requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_an_end() {
    withstands(Attack { round: |round| streams(round).flat_map(call_head).collect(), reads: true, window: 65_535 })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_byte_by_byte_is_answered() {
    let tidegate = Launch::new(&[("rules.yaml", RULES)]).start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    let mut stream: TcpStream = connect(tidegate.grpc_address(), INITIAL_WINDOW_SIZE, 65_535).await.unwrap();
    for byte in sound_call(1) {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(until_ended(&mut stream, 1).await.unwrap(), HEADERS, "it ends with the trailers of an answer");
}
