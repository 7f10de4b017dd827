//! The flags that say what is sent, to whom and when; `load` and `accuracy` share them.

use std::time::Duration;

use clap::Args;

use super::arrivals::Spacing;
use super::cli::Failure;
use super::client::Shape;
use super::drive::{Pace, Plan};
use super::keys::KeyChoice;
use super::message::{Message, Question};
use super::target::Target;
use crate::cli::ExitStatus;
use crate::settings::text;

/// Most calls that may be under way at once, over all connections: they are all kept in memory.
const IN_FLIGHT_MAX: usize = 2_000_000;

/// Calls under way on each connection of a closed loop.
const CALLS_CLOSED: usize = 64;
/// The same of an open loop, where they are a bound that a server in time never meets.
const CALLS_OPEN: usize = 1_000;

/// What is sent, to whom and when.
#[derive(Args, Clone, Debug)]
pub struct Traffic {
    /// A server; several times for replicas, over which the connections are spread in turn
    #[arg(long = "target", value_name = "HOST:PORT", required = true)]
    targets: Vec<Target>,
    /// Number of connections
    #[arg(long, value_name = "N", default_value = "4", value_parser = parse_connections)]
    connections: usize,
    /// Calls under way on each connection: always (closed loop; 64 by default) or at most (open loop; 1000)
    #[arg(long, value_name = "M", value_parser = parse_calls)]
    calls: Option<usize>,
    /// Open loop: calls a second over all connections, sent when they are due whatever the server does
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    rate: Option<f64>,
    /// How the calls of an open loop follow each other
    #[arg(long, value_name = "HOW", value_enum, default_value = "poisson", requires = "rate")]
    arrivals: Spacing,
    /// Calls of an open loop that may wait for a connection with room; more are not sent
    #[arg(long, value_name = "N", default_value = "100000", value_parser = parse_backlog, requires = "rate")]
    backlog: usize,
    /// How long an answer is waited for after the call was due, missed deadline or not; then the call is given up, as
    /// Envoy does at its deadline: reset, or not sent if it found no connection with room
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_patience)]
    patience: Duration,
    /// The domain of all calls
    #[arg(long, value_name = "D", default_value = "bench", value_parser = parse_name)]
    domain: String,
    /// The key of the descriptor's single entry; the second descriptor has NAME2, the third NAME3, and so on
    #[arg(long, value_name = "NAME", default_value = "key", value_parser = parse_name)]
    key: String,
    /// The entry's value: always `hot`, or numbers with leading zeros: uniform:COUNT or zipf:COUNT[:EXPONENT]
    #[arg(long, value_name = "KEYS", default_value = "hot")]
    keys: KeyChoice,
    /// Hits of each call
    #[arg(long, value_name = "H", default_value = "1", value_parser = parse_hits)]
    hits: u32,
    /// Where the random numbers start: the same seed asks about the same keys at the same instants
    #[arg(long, value_name = "S", default_value = "1")]
    seed: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

// === impl Traffic ===

impl Traffic {
    /// The plan for such traffic. Looks for the servers.
    ///
    /// # Errors
    /// When flags don't go together, or a server can't be reached.
    pub fn plan(
        &self,
        descriptors: usize,
        deadline: Duration,
        warm_up: Duration,
        run: Duration,
    ) -> Result<Plan, Failure> {
        let calls_max = self.calls.unwrap_or(if self.rate.is_some() { CALLS_OPEN } else { CALLS_CLOSED });
        if self.connections.saturating_mul(calls_max) > IN_FLIGHT_MAX {
            let text = format!(
                "--connections {} with --calls {calls_max} are more than {IN_FLIGHT_MAX} calls at once: take fewer of \
                 one",
                self.connections
            );
            return Err(Failure { status: ExitStatus::Usage, text });
        }
        let question = Question {
            domain: self.domain.clone(),
            key: self.key.clone(),
            descriptors,
            hits: self.hits,
            keys: self.keys,
        };
        let message = Message::new(&question)?;
        let servers = self.targets.iter().map(Target::find).collect::<Result<_, _>>()?;
        let pace = match self.rate {
            None => Pace::Closed,
            Some(rate) => Pace::Open { rate, spacing: self.arrivals, backlog_max: self.backlog },
        };
        Ok(Plan {
            servers,
            connections: self.connections,
            calls_max,
            pace,
            warm_up,
            duration: run,
            patience: self.patience,
            shape: Shape { message, deadline },
            keys: self.keys,
            descriptors,
            seed: self.seed,
        })
    }

    /// The servers as they were named.
    #[must_use]
    pub fn target_names(&self) -> Vec<String> {
        self.targets.iter().map(Target::to_string).collect()
    }

    /// Hits of each call.
    #[must_use]
    pub fn hits(&self) -> u32 {
        self.hits
    }

    /// Number of keys that the calls ask about.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys.count()
    }

    /// Whether the report is for a machine.
    #[must_use]
    pub fn json(&self) -> bool {
        self.json
    }
}

// === value parsers: the value, or what would have been right ===

fn parse_connections(written: &str) -> Result<usize, String> {
    must_be(text::whole(written, &(1..=10_000)))
}

fn parse_calls(written: &str) -> Result<usize, String> {
    must_be(text::whole(written, &(1..=100_000)))
}

fn parse_backlog(written: &str) -> Result<usize, String> {
    must_be(text::whole(written, &(0..=10_000_000)))
}

fn parse_hits(written: &str) -> Result<u32, String> {
    must_be(text::whole(written, &(1..=u32::MAX)))
}

fn parse_rate(written: &str) -> Result<f64, String> {
    // NaN lies in no range.
    let rate = written.parse().ok().filter(|rate| (0.1..=10_000_000.0).contains(rate));
    must_be(rate.ok_or_else(|| "a number of calls a second from 0.1 to 10000000".to_owned()))
}

fn parse_patience(written: &str) -> Result<Duration, String> {
    must_be(text::duration(written, &(Duration::from_millis(1)..=Duration::from_secs(600))))
}

fn parse_name(written: &str) -> Result<String, String> {
    const LENGTH_MAX: usize = 1_000;
    if (1..=LENGTH_MAX).contains(&written.len()) {
        Ok(written.to_owned())
    } else {
        Err(format!("must be a text of 1 to {LENGTH_MAX} bytes"))
    }
}

/// A deadline of a call, of which Envoy's default is 20 ms.
///
/// # Errors
/// What would have been right.
pub fn parse_deadline(written: &str) -> Result<Duration, String> {
    must_be(text::duration(written, &(Duration::from_micros(1)..=Duration::from_secs(600))))
}

/// How long a run takes.
///
/// # Errors
/// What would have been right.
pub fn parse_run(written: &str) -> Result<Duration, String> {
    must_be(text::duration(written, &(Duration::from_millis(10)..=Duration::from_secs(86_400))))
}

/// Makes what would have been right a sentence.
///
/// # Errors
/// That sentence.
pub fn must_be<T>(parsed: Result<T, String>) -> Result<T, String> {
    parsed.map_err(|right| format!("must be {right}"))
}
