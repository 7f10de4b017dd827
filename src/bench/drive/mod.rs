//! Drives calls at servers: one thread, non-blocking sockets, one wait for all of them.
//!
//! Each turn reads what the sockets have, sends what is due, and writes each touched connection once, so that busy
//! connections pay for few system calls. A closed loop keeps a number of calls under way on each connection. An open
//! loop sends when calls are due, whatever the servers do:
//!
//! ```text
//! arrivals ──▶ backlog ──▶ the next connection with room ──▶ answered, failed, or given up
//!                 └ full: counted as unsent
//! ```
//!
//! What a call came to is told to an [`Observer`], with the instant at which its answer was read.

mod desk;
mod driver;
mod links;
mod schedule;

use std::time::Duration;

use super::arrivals::Spacing;
use super::client::{Call, ConnectionError, Outcome, Shape};
use super::keys::KeyChoice;
use super::target::Server;
use crate::clock::Timestamp;

pub use driver::drive;

/// Everything that a run is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers; connections are spread over them in turn.
    pub servers: Vec<Server>,
    /// Number of connections; at least 1.
    pub connections: usize,
    /// Calls under way on each connection: in a closed loop always, in an open one at most.
    pub calls_max: usize,
    /// When calls are sent.
    pub pace: Pace,
    /// Time at the start in which the processor time isn't counted.
    pub warm_up: Duration,
    /// Time after that in which calls are sent and measured.
    pub duration: Duration,
    /// How long an answer is waited for from when the call was due. Then it is given up: reset, or not even sent.
    pub patience: Duration,
    /// What calls look like.
    pub shape: Shape,
    /// What they ask about.
    pub keys: KeyChoice,
    /// Number of descriptors, each with a key of its own.
    pub descriptors: usize,
    /// Where the random numbers start.
    pub seed: u64,
}

/// When calls are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as an earlier one has ended.
    Closed,
    /// At their time.
    Open {
        /// Calls a second, over all connections.
        rate: f64,
        /// How they follow each other.
        spacing: Spacing,
        /// Calls that may wait for a connection with room; what comes beyond isn't sent.
        backlog_max: usize,
    },
}

/// Hears what becomes of the calls. All instants are nanoseconds from the start of the run.
pub trait Observer {
    /// A call ended at that instant: read before now, and after the server wrote it.
    fn ended(&mut self, call: &Call, at_ns: u64, outcome: Outcome);
    /// A call that was due then has never been sent.
    fn unsent(&mut self, due_ns: u64);
    /// Said about four times a second.
    fn progress(&mut self, _now_ns: u64) {}
    /// Said once, when the run is over, well or not.
    fn finished(&mut self) {}
    /// Whether the run shall end early, asked as often.
    fn is_full(&self) -> bool {
        false
    }
}

/// What a run says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// When the run began by the machine's clock, so that runs beside each other can be held together.
    pub began: Timestamp,
    /// Connections that were made in the place of others.
    pub reconnects: u64,
    /// Calls that a closing connection gave back, and that were sent again on another.
    pub returned: u64,
    /// Most calls that ever waited for a connection with room.
    pub backlog_max: usize,
    /// How late the generator itself was at most in an open loop: from a call's instant to its being sent or queued.
    pub late_max_ns: u64,
    /// Seconds of processor time that this process used after the warm-up, in `span_seconds`.
    pub cpu_seconds: f64,
    /// Seconds from the end of the warm-up to the end of sending, as measured.
    pub span_seconds: f64,
}

/// Why a run can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The operating system refuses something, such as another socket.
    #[error("{what}: {source}")]
    System {
        /// What was asked.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// Connections can't be made, or break again and again.
    #[error("no connection to {server} holds: {reason}")]
    Lost {
        /// The server.
        server: String,
        /// What happened to the last connection.
        reason: Loss,
    },
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Loss {
    /// The operating system says so.
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    /// The server said something that it must not.
    #[error("{0}")]
    Protocol(#[from] ConnectionError),
    /// The server closed it.
    #[error("the server closed it")]
    Closed,
    /// The server took the connection and then said nothing.
    #[error("it doesn't speak HTTP/2 without TLS, or is too slow: no SETTINGS within {0:?}")]
    Silent(Duration),
}
