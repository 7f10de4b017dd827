//! `tidegate-bench accuracy`: offers more than a limit allows, and counts what is admitted against it.
//!
//! Too much: no interval of the window's length may hold more admitted hits than the limit, wherever it starts; the
//! arithmetic, and what a client can know at all, is in [`windows`]. One or several targets: replicas over one Redis
//! keep one limit together.
//!
//! Too little: the run is cut into windows one after the other from its start, and in those that refused something
//! the limit should have been reached. A limiter that keeps time in ticks gives budget back up to a tick late, so that
//! its fillings drift through these windows; over some tens of them one may hold visibly less, and that is shown, but
//! it is no violation. Counters that were in use before the run make its first window look short too.

mod ledger;
mod report;
pub mod windows;

use std::time::Duration;

use clap::Args;

use super::cli::{Failure, Verdict, print};
use super::drive::drive;
use super::traffic::{Traffic, must_be, parse_deadline, parse_run};
use crate::settings::text;

pub use ledger::Ledger;
pub use report::{Kept, Report};

/// Windows that a run lasts if nothing is said.
const WINDOWS_DEFAULT: u32 = 3;

/// The flags of `accuracy`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[command(flatten)]
    traffic: Traffic,
    /// Hits that the server's rule allows in a window, for each key
    #[arg(long, value_name = "L", value_parser = parse_limit)]
    limit: u64,
    /// The rule's window
    #[arg(long, value_name = "TIME", value_parser = parse_window)]
    window: Duration,
    /// Time in which calls are sent; three windows if nothing is said
    #[arg(long, value_name = "TIME", value_parser = parse_run)]
    duration: Option<Duration>,
    /// Time that a call has, sent as `grpc-timeout`; what isn't answered can't be counted
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_deadline)]
    deadline: Duration,
}

/// Sends the calls and prints the report; [`Verdict::Fails`] if the limit was certainly broken.
///
/// # Errors
/// When flags don't go together, a server can't be reached, or its connections don't hold.
pub fn run(arguments: Arguments) -> Result<Verdict, Failure> {
    let Arguments { traffic, limit, window, duration, deadline } = arguments;
    let duration = duration.unwrap_or(window * WINDOWS_DEFAULT);
    let plan = traffic.plan(1, deadline, Duration::ZERO, duration)?;
    let mut ledger = Ledger::new(window, duration, traffic.hits());
    drive(&plan, &mut ledger)?;
    let report = Report::new(traffic.target_names(), traffic.keys(), limit, &ledger);
    if traffic.json() {
        print(&serde_json::to_string(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    Ok(if report.verdict == Kept::Violated { Verdict::Fails } else { Verdict::Holds })
}

fn parse_limit(written: &str) -> Result<u64, String> {
    must_be(text::whole(written, &(1..=u64::from(u32::MAX))))
}

fn parse_window(written: &str) -> Result<Duration, String> {
    must_be(text::duration(written, &(Duration::from_millis(1)..=Duration::from_secs(86_400))))
}
