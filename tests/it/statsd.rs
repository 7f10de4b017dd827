//! Metrics sent to a statsd server: a real socket of the test's own receives what the program sends.

use std::collections::BTreeMap;

use tidegate::demo::ports::HeldPort;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

const RULES: &str = "
domain: d
descriptors:
- {key: user, rate_limit: {unit: hour, requests_per_unit: 2}}
- key: a
  descriptors: [{key: b, descriptors: [{key: c, rate_limit: {unit: hour, requests_per_unit: 5}}]}]
";

const START: &str = "ratelimit.service.rate_limit.d";

/// What was received: sums of counters and timers, and the last value of gauges.
#[derive(Debug, Default)]
struct Received {
    lines: Vec<String>,
    /// Bytes of a line whose end has not come yet.
    rest: String,
}

impl Received {
    fn take(&mut self, bytes: &[u8]) {
        self.rest.push_str(std::str::from_utf8(bytes).unwrap());
        while let Some(end) = self.rest.find('\n') {
            let line: String = self.rest.drain(..=end).collect();
            self.lines.push(line.trim_end().to_owned());
        }
    }

    /// What all lines of each counter come to.
    fn counters(&self) -> BTreeMap<&str, u64> {
        let mut counters = BTreeMap::new();
        for line in &self.lines {
            let (name, rest) = line.split_once(':').unwrap_or_else(|| panic!("{line}"));
            if let Some(value) = rest.strip_suffix("|c") {
                *counters.entry(name).or_default() += value.parse::<u64>().unwrap();
            }
        }
        counters
    }

    fn counter(&self, name: &str) -> Option<u64> {
        self.counters().get(name).copied()
    }
}

fn launch(protocol: &str, port: u16) -> Launch {
    launch_with(RULES, protocol, port)
}

fn launch_with(rules: &str, protocol: &str, port: u16) -> Launch {
    Launch::new(&[("rules.yaml", rules)])
        .setting("USE_STATSD", "true")
        .setting("STATSD_HOST", "127.0.0.1")
        .setting("STATSD_PORT", port)
        .setting("STATSD_PROTOCOL", protocol)
        .setting("STATS_FLUSH_INTERVAL", "100ms")
}

async fn ask(tidegate: &Tidegate, key: &str, times: u64) {
    for _ in 0..times {
        let question = format!(r#"{{"domain": "d", "descriptors": [{{"entries": [{key}]}}]}}"#);
        tidegate.http().post("/json", question).await;
    }
}

const USER: &str = r#"{"key": "user", "value": "x"}"#;
const DEEP: &str = r#"{"key": "a", "value": "1"}, {"key": "b", "value": "2"}, {"key": "c", "value": "3"}"#;

/// Reads what has come so far; false when the connection ended.
fn read(stream: &mut TcpStream, received: &mut Received) -> bool {
    let mut bytes = vec![0; 64 << 10];
    loop {
        match stream.try_read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => received.take(&bytes[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
}

#[tokio::test]
async fn counters_arrive_over_tcp_as_the_reference_names_and_counts_them() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tidegate = launch("tcp", server.local_addr().unwrap().port()).start().await;
    let (mut stream, _) = server.accept().await.unwrap();
    ask(&tidegate, USER, 3).await;
    ask(&tidegate, DEEP, 4).await;
    let mut received = Received::default();
    // A line of one counter may come a flush after that of another.
    let all = [("user.total_hits", 3), ("user.within_limit", 2), ("user.over_limit", 1), ("user.near_limit", 1)];
    let all = all.into_iter().chain([("a.b.c.total_hits", 4), ("a.b.c.within_limit", 4)]);
    let all: Vec<(String, u64)> = all.map(|(name, count)| (format!("{START}.{name}"), count)).collect();
    eventually("all hits arrive", PATIENCE, async || {
        read(&mut stream, &mut received);
        let have_come = all.iter().all(|(name, count)| received.counter(name) == Some(*count));
        (have_come && received.counter("ratelimit.service.config_load_success").is_some()).then_some(())
    })
    .await;
    let counters = received.counters();
    let of = |name: &str| counters.get(format!("{START}.{name}").as_str()).copied();
    assert_eq!((of("user.within_limit"), of("user.over_limit"), of("user.near_limit")), (Some(2), Some(1), Some(1)));
    assert_eq!((of("a.b.c.within_limit"), of("a.b.c.over_limit")), (Some(4), None));
    assert_eq!(counters.get("ratelimit.service.config_load_success"), Some(&1));
    let gauge = "tidegate.rules_loaded:2|g";
    eventually("gauges come each time", PATIENCE, async || {
        read(&mut stream, &mut received);
        (received.lines.iter().filter(|line| *line == gauge).count() > 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_counted_while_the_server_was_away_arrives_when_it_is_back() {
    let port = HeldPort::any().unwrap();
    let address = port.address();
    let server = TcpListener::bind(address).await.unwrap();
    let tidegate = launch("tcp", address.port()).start().await;
    let (mut stream, _) = server.accept().await.unwrap();
    let mut received = Received::default();
    ask(&tidegate, DEEP, 1).await;
    let name = format!("{START}.a.b.c.total_hits");
    eventually("the first hit arrives", PATIENCE, async || {
        read(&mut stream, &mut received);
        (received.counter(&name) == Some(1)).then_some(())
    })
    .await;
    // Nobody listens any more; whatever was on its way is read.
    drop(server);
    drop(stream);
    tidegate.logs("metrics cannot be sent to statsd").await;
    ask(&tidegate, DEEP, 4).await;
    let server = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = server.accept().await.unwrap();
    let mut received = Received::default();
    eventually("the others arrive", PATIENCE, async || {
        read(&mut stream, &mut received);
        (received.counter(&name) == Some(4)).then_some(())
    })
    .await;
    tidegate.logs("metrics are sent to statsd again").await;
    tidegate.logs_once("metrics cannot be sent to statsd").await;
}

#[tokio::test]
async fn the_last_hits_are_sent_before_the_process_ends() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut tidegate =
        launch("tcp", server.local_addr().unwrap().port()).setting("STATS_FLUSH_INTERVAL", "1h").start().await;
    ask(&tidegate, DEEP, 3).await;
    tidegate.process().terminate();
    let (mut stream, _) = server.accept().await.unwrap();
    let (mut received, mut bytes) = (Received::default(), Vec::new());
    stream.read_to_end(&mut bytes).await.unwrap();
    received.take(&bytes);
    assert_eq!(received.counter(&format!("{START}.a.b.c.total_hits")), Some(3));
    assert!(tidegate.process().wait(PATIENCE).await.status.success());
}

/// Receives until a line satisfies; every packet fits Ethernet and has whole lines.
async fn packets_until(socket: &UdpSocket, mut is_last: impl FnMut(&str) -> bool) -> Vec<String> {
    let receiving = async {
        let (mut lines, mut packet) = (Vec::new(), vec![0; 65_536]);
        loop {
            let length = socket.recv(&mut packet).await.unwrap();
            assert!(length <= 1_432, "a packet of {length} bytes");
            let text = std::str::from_utf8(&packet[..length]).unwrap();
            assert!(!text.ends_with('\n') && !text.is_empty(), "{text:?}");
            lines.extend(text.lines().map(str::to_owned));
            if text.lines().any(&mut is_last) {
                return lines;
            }
        }
    };
    tokio::time::timeout(PATIENCE, receiving).await.unwrap()
}

#[tokio::test]
async fn packets_over_udp_carry_dogstatsd_with_tags_behind_the_value() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tidegate = launch("tcp", socket.local_addr().unwrap().port())
        .setting("USE_STATSD", "false")
        .setting("USE_DOG_STATSD", "true")
        .setting("EXTRA_TAGS", "zone:a,env:live")
        .start()
        .await;
    ask(&tidegate, DEEP, 2).await;
    let tags = "|#env:live,zone:a";
    let mut hits = 0;
    let start = format!("{START}.a.b.c.total_hits:");
    let lines = packets_until(&socket, |line| {
        let value = line.strip_prefix(&start).and_then(|rest| rest.strip_suffix(&format!("|c{tags}")));
        hits += value.map_or(0, |value| value.parse::<u64>().unwrap());
        hits == 2
    })
    .await;
    assert!(lines.iter().all(|line| line.ends_with(tags)), "{lines:?}");
}

#[tokio::test]
async fn many_series_are_spread_over_packets_and_tags_are_part_of_plain_names() {
    let rules: String = (0..200)
        .map(|rule| format!("- {{key: key_{rule:050}, rate_limit: {{unit: hour, requests_per_unit: 5}}}}\n"))
        .collect();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rules = format!("domain: d\ndescriptors:\n{rules}");
    let mut tidegate = launch_with(&rules, "udp", socket.local_addr().unwrap().port())
        .setting("EXTRA_TAGS", "zone:a.b")
        .setting("STATS_FLUSH_INTERVAL", "1h")
        .start()
        .await;
    for rule in 0..200 {
        ask(&tidegate, &format!(r#"{{"key": "key_{rule:050}", "value": "x"}}"#), 1).await;
    }
    tidegate.process().terminate();
    let mut seen = 0;
    packets_until(&socket, |line| {
        seen += usize::from(line.starts_with(&format!("{START}.key_")) && line.ends_with(".total_hits.__zone=a_b:1|c"));
        seen == 200
    })
    .await;
    assert!(tidegate.process().wait(PATIENCE).await.status.success());
}
