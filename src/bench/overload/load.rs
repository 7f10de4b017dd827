//! The load generator as a process of its own, and what of its report is looked at here.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bench::compare::rules_file::DOMAIN;
use crate::bench::compare::servers::Programs;
use crate::bench::load::{Latency, Slice};
use crate::bench::system::SystemError;
use crate::bench::system::cores::Place;
use crate::bench::system::process::Process;

/// The deadline of every call: Envoy's default.
pub const DEADLINE: Duration = Duration::from_millis(20);

/// Calls a second of the honest clients: little for any server.
pub const HONEST_RATE: f64 = 2_000.0;

/// Connections of the honest clients, and of the load that finds the peak.
pub const CONNECTIONS: usize = 4;

/// Calls under way on each connection of the load that finds the peak.
pub const CALLS: usize = 64;

/// How many times more calls than that an overload has under way.
pub const TENFOLD: usize = 10;

/// Calls of an open loop that wait for room on a connection: Envoy's default.
pub const PENDING_MAX: usize = 1_024;

/// Connections of an overload.
pub const OVERLOAD_CONNECTIONS: usize = CONNECTIONS * TENFOLD;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// An open loop at [`HONEST_RATE`], in stretches of that length.
    Honest {
        /// The length of a stretch.
        slice: Duration,
    },
    /// A closed loop that keeps a server busy and no more: 256 calls under way.
    Peak,
    /// A closed loop with ten times as many.
    Closed,
    /// An open loop at that many calls a second.
    Open {
        /// Calls a second.
        rate: f64,
    },
}

/// What the generator says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Seconds in which calls were measured.
    pub seconds: f64,
    /// Calls sent.
    pub sent: u64,
    /// Calls answered, with an error or without.
    pub answered: u64,
    /// Calls answered OK.
    pub ok: u64,
    /// Calls answered over limit.
    pub over_limit: u64,
    /// Calls answered with an error, by its name.
    pub errors: BTreeMap<String, u64>,
    /// Answers a second, counted when they came.
    pub calls_per_second: f64,
    /// Calls that were answered after their deadline, never, or not even sent.
    pub missed_deadline: u64,
    /// Those, and the errors in time.
    pub let_through: u64,
    /// Calls that were never answered.
    pub unanswered: u64,
    /// Calls that were due and never sent.
    pub unsent: u64,
    /// Latencies in microseconds.
    pub latency_us: Latency,
    /// When the measured time began.
    pub began_unix_ms: u64,
    /// The run in stretches.
    #[serde(default)]
    pub slices: Vec<Slice>,
}

// === impl Load ===

impl Load {
    /// The generator's arguments but for address and form of the report.
    #[must_use]
    pub fn arguments(self, warm_up: Duration, duration: Duration) -> Vec<String> {
        let connections = match self {
            Load::Honest { .. } | Load::Peak => CONNECTIONS,
            Load::Closed | Load::Open { .. } => OVERLOAD_CONNECTIONS,
        };
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        let mut arguments = Vec::new();
        let mut add = |name: &str, value: &str| arguments.extend([name.to_owned(), value.to_owned()]);
        add("--connections", &connections.to_string());
        match self {
            Load::Honest { slice } => {
                add("--rate", &format!("{HONEST_RATE:.0}"));
                add("--slices", &millis(slice));
            }
            Load::Peak | Load::Closed => add("--calls", &CALLS.to_string()),
            Load::Open { rate } => {
                add("--rate", &format!("{:.0}", rate.max(1.0)));
                // As Envoy does: a call that has no answer at its deadline is reset, and never sent if it found no room;
                // and no more than so many wait for room (the default of `max_pending_requests`).
                add("--patience", &millis(DEADLINE));
                add("--backlog", &PENDING_MAX.to_string());
            }
        }
        add("--deadline", &millis(DEADLINE));
        add("--domain", DOMAIN);
        add("--key", "key");
        add("--keys", "uniform:10000");
        add("--warm-up", &millis(warm_up));
        add("--duration", &millis(duration));
        arguments
    }

    /// The same as a command that one can type, but for the address.
    #[must_use]
    pub fn command(self, warm_up: Duration, duration: Duration) -> String {
        format!("tidegate-bench load --target ADDRESS {}", self.arguments(warm_up, duration).join(" "))
    }

    /// Starts it against the server at that address.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(
        self,
        programs: &Programs,
        place: Place,
        address: &str,
        warm_up: Duration,
        duration: Duration,
    ) -> Result<Process, SystemError> {
        let mut command: Command = programs.cores.command(place, &programs.bench);
        command.args(["load", "--target", address, "--json"]).args(self.arguments(warm_up, duration));
        Process::start("tidegate-bench load", &mut command)
    }
}

// === impl Report ===

impl Report {
    /// Calls that were due.
    #[must_use]
    pub fn due(&self) -> u64 {
        self.sent + self.unsent
    }

    /// Decisions a second: answers that are no errors, counted when they came.
    #[must_use]
    pub fn decisions_per_second(&self) -> f64 {
        self.calls_per_second * share(self.ok + self.over_limit, self.answered)
    }

    /// Share of the calls sent that had a decision in time.
    #[must_use]
    pub fn in_time(&self) -> f64 {
        share(self.due().saturating_sub(self.let_through), self.sent)
    }

    /// Share of the calls sent that were refused in time: an error, so that the caller knew.
    #[must_use]
    pub fn refused(&self) -> f64 {
        share(self.let_through.saturating_sub(self.missed_deadline), self.sent)
    }

    /// Share of the calls sent that were answered too late or never.
    #[must_use]
    pub fn late(&self) -> f64 {
        share(self.missed_deadline.saturating_sub(self.unsent), self.sent)
    }
}

/// A quotient that is zero where there is nothing to divide by.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_that_was_sent_is_in_time_refused_or_late() {
        let report = Report {
            sent: 100,
            unsent: 20,
            answered: 80,
            ok: 50,
            over_limit: 10,
            // Those that weren't sent among them.
            missed_deadline: 45,
            let_through: 60,
            calls_per_second: 160.0,
            ..Report::default()
        };
        assert_eq!([report.in_time(), report.refused(), report.late()], [0.6, 0.15, 0.25]);
        assert_eq!(report.decisions_per_second(), 120.0, "errors are no decisions");
        assert_eq!(Report::default().in_time(), 0.0);
    }

    #[test]
    fn an_overload_has_ten_times_the_calls_of_the_peak() {
        let calls = |load: Load| {
            let arguments = load.arguments(Duration::ZERO, Duration::from_secs(1));
            let of = |name: &str| {
                let at = arguments.iter().position(|word| word == name)?;
                arguments[at + 1].parse::<usize>().ok()
            };
            of("--connections").unwrap() * of("--calls").unwrap()
        };
        assert_eq!(calls(Load::Closed), TENFOLD * calls(Load::Peak));
    }
}
