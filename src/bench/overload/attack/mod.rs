//! `tidegate-bench attack`: one kind of hostile client, as many connections of it as wanted, until it is killed.
//!
//! It is a process of its own, so that what it costs can be told from what its victim costs. Ten times a second it says
//! in a line of JSON what it has done so far; `ready` when it is at what it is there for. Only servers on this machine
//! are attacked.

mod clients;
mod frames;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::time::interval;

use crate::bench::cli::{Failure, Verdict, print};
use crate::bench::target::Target;
use crate::bench::traffic::must_be;
use crate::cli::ExitStatus;
use crate::open_files;
use crate::settings::text;

/// What a hostile client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Opens streams and resets each at once, and connects again when it is cut off
    Resets,
    /// Asks and never reads an answer
    Unread,
    /// Keeps a thousand calls under way on each connection
    Streams,
    /// Connects and says nothing more
    Idle,
    /// Sends noise, messages and headers that are too large, and messages that are none
    Garbage,
}

/// The flags of `attack`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// What it does
    #[arg(value_enum)]
    kind: Kind,
    /// The server, on this machine
    #[arg(long, value_name = "HOST:PORT")]
    target: Target,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value = "4", value_parser = parse_connections)]
    connections: usize,
}

/// What an attacker says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deeds {
    /// Whether it is at what it is there for.
    pub ready: bool,
    /// Connections that it has now.
    pub connections: u64,
    /// Connections that ended, cut off by the server as a rule.
    pub ended: u64,
    /// Streams that it has opened.
    pub streams: u64,
    /// Bytes that it has sent.
    pub bytes: u64,
}

/// The same, while it is being counted.
#[derive(Debug, Default)]
struct Counts {
    ready: AtomicBool,
    connections: AtomicU64,
    ended: AtomicU64,
    streams: AtomicU64,
    bytes: AtomicU64,
}

/// Time between two lines about its deeds.
const TELLING: Duration = Duration::from_millis(100);

/// What an attacker that sends must have sent before it counts as one.
const BYTES_MIN: u64 = 100_000;

// === impl Kind ===

impl Kind {
    /// All of them, in the order of reports.
    pub const ALL: [Kind; 5] = [Kind::Resets, Kind::Unread, Kind::Streams, Kind::Idle, Kind::Garbage];

    /// As the command line names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Resets => "resets",
            Kind::Unread => "unread",
            Kind::Streams => "streams",
            Kind::Idle => "idle",
            Kind::Garbage => "garbage",
        }
    }
}

// === impl Counts ===

impl Counts {
    fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn sent(&self, streams: u64, bytes: usize) {
        self.streams.fetch_add(streams, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 >= BYTES_MIN {
            self.is_ready();
        }
    }

    fn is_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    fn so_far(&self) -> Deeds {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // First of all: what made it ready is counted then.
        let ready = self.ready.load(Ordering::Acquire);
        Deeds {
            ready,
            connections: number(&self.connections),
            ended: number(&self.ended),
            streams: number(&self.streams),
            bytes: number(&self.bytes),
        }
    }
}

// === impl Deeds ===

impl Deeds {
    /// The last that an attacker said, if it has said anything.
    #[must_use]
    pub fn last_of(said: &str) -> Option<Deeds> {
        said.lines().rev().find_map(|line| serde_json::from_str(line).ok())
    }

    /// What was done after `earlier`; the connections are those of now.
    #[must_use]
    pub fn since(self, earlier: Deeds) -> Deeds {
        Deeds {
            ended: self.ended.saturating_sub(earlier.ended),
            streams: self.streams.saturating_sub(earlier.streams),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            ..self
        }
    }
}

/// Attacks until the process is killed.
///
/// # Errors
/// When the server isn't on this machine, can't be reached, or is no gRPC server.
pub fn run(arguments: &Arguments) -> Result<Verdict, Failure> {
    let server = arguments.target.find()?;
    if !server.address.ip().is_loopback() {
        let text = format!("--target {} is another machine: attack a server on this one", arguments.target);
        return Err(Failure { status: ExitStatus::Usage, text });
    }
    open_files::raise();
    let counts = Arc::new(Counts::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(ExitStatus::OperatingSystem, error))?;
    runtime.block_on(async {
        tokio::select! {
            ended = clients::attack(arguments.kind, &server, arguments.connections, &counts) => ended,
            never = tell(&counts) => match never {},
        }
    })?;
    Ok(Verdict::Holds)
}

async fn tell(counts: &Counts) -> Infallible {
    let mut pace = interval(TELLING);
    loop {
        pace.tick().await;
        print(&serde_json::to_string(&counts.so_far()).unwrap_or_default());
    }
}

fn parse_connections(written: &str) -> Result<usize, String> {
    must_be(text::whole(written, &(1..=100_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attackers_last_whole_line_counts() {
        let counts = Counts::default();
        counts.connected();
        counts.sent(3, 50);
        let early = counts.so_far();
        counts.sent(4, BYTES_MIN as usize);
        counts.ended();
        let lines = [early, counts.so_far()].map(|deeds| serde_json::to_string(&deeds).unwrap());
        let said = format!("{}\n{}\n{{\"ready\"", lines[0], lines[1]);
        let last = Deeds::last_of(&said).unwrap();
        let done = Deeds { ready: true, connections: 0, ended: 1, streams: 4, bytes: BYTES_MIN };
        assert_eq!((last.since(early), early.ready), (done, false));
        assert_eq!(Deeds::last_of("listening\n"), None);
    }

    #[test]
    fn kinds_are_called_as_the_command_line_calls_them() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.name());
        }
        assert_eq!(Kind::ALL.len(), Kind::value_variants().len());
    }
}
