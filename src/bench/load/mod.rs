//! `tidegate-bench load`: sends calls at servers and measures them.
//!
//! In an open loop a call's latency counts from the instant at which it was due, not from its sending: a server that
//! stalls for a second delays all calls of that second, and a generator that waits with it would hide that
//! ("coordinated omission"). In a closed loop a call is due when it is sent.

mod report;
mod slices;
mod tally;

use std::time::Duration;

use clap::Args;

use super::cli::{Failure, Verdict, print};
use super::drive::drive;
use super::message::DESCRIPTORS_MAX;
use super::traffic::{Traffic, must_be, parse_deadline, parse_run};
use crate::settings::text;

pub use report::{Latency, Report};
pub use slices::{Slice, Slices};
pub use tally::Tally;

const CHECKED: &str = "\
What is measured: calls that were due after the warm-up and within the duration. A call misses its deadline when its \
answer, of whatever kind, comes later than that after it was due, or never: Envoy lets the request through then. \
Errors are counted by their gRPC name; RESET_*, HTTP_*, CONNECTION_LOST, NO_STATUS, NO_VERDICT and UNREADABLE are \
answers that are none. `calls_per_second` counts answers by the instant at which they came.

How cheap the generator is: give the server one core and the generator another, and read `generator CPU`:
  taskset -c 0 tidegate-bench noop --listen 127.0.0.1:9999 &
  taskset -c 1 tidegate-bench load --target 127.0.0.1:9999";

/// The flags of `load`.
#[derive(Args, Clone, Debug)]
#[command(after_help = CHECKED)]
pub struct Arguments {
    #[command(flatten)]
    traffic: Traffic,
    /// Time in which calls are sent and not counted
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_warm_up)]
    warm_up: Duration,
    /// Time after that in which calls are sent and counted
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_run)]
    duration: Duration,
    /// Time that a call has, sent as `grpc-timeout` as Envoy does
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = parse_deadline)]
    deadline: Duration,
    /// Descriptors of each call, each with one entry whose value is drawn by itself
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_descriptors)]
    descriptors: usize,
    /// Report every stretch of the run of this length by itself as well; only in the JSON
    #[arg(long, value_name = "TIME", value_parser = parse_slice)]
    slices: Option<Duration>,
}

/// Sends the calls and prints the report.
///
/// # Errors
/// When flags don't go together, a server can't be reached, or its connections don't hold.
pub fn run(arguments: Arguments) -> Result<Verdict, Failure> {
    let Arguments { traffic, warm_up, duration, deadline, descriptors, slices } = arguments;
    let plan = traffic.plan(descriptors, deadline, warm_up, duration)?;
    let mut tally = Tally::new(warm_up, duration, deadline);
    if let Some(length) = slices {
        tally = tally.sliced(length);
    }
    let summary = drive(&plan, &mut tally)?;
    let report = Report::new(traffic.target_names(), plan.pace, &tally, &summary);
    if traffic.json() {
        print(&serde_json::to_string(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    Ok(Verdict::Holds)
}

fn parse_warm_up(written: &str) -> Result<Duration, String> {
    must_be(text::duration(written, &(Duration::ZERO..=Duration::from_secs(3_600))))
}

fn parse_slice(written: &str) -> Result<Duration, String> {
    must_be(text::duration(written, &(Duration::from_millis(1)..=Duration::from_secs(3_600))))
}

fn parse_descriptors(written: &str) -> Result<usize, String> {
    must_be(text::whole(written, &(1..=DESCRIPTORS_MAX)))
}
