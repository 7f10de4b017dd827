//! One measurement: the load generator runs as a process of its own, and CPU times are read before and after it.
//!
//! The warm-up is a run of its own. With both in one process the calls of the warm-up would be in the CPU times and not
//! in the report's counts.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::plan::{Case, Pace, Scale, Server};
use super::results::{LoadReport, Measurement};
use super::rules_file::DOMAIN;
use super::servers::{Programs, Servers};
use crate::bench::system::cores::Place;
use crate::bench::system::process::Process;
use crate::bench::system::{PATIENCE, SystemError, cpu};

/// Connections to one server.
const CONNECTIONS: usize = 4;

/// Calls under way on all connections of a closed loop.
const CALLS: usize = 256;

/// Deadline of the calls of a closed loop: long, because there every call waits for 255 others.
const CLOSED_DEADLINE: &str = "1s";

/// Deadline of the calls of an open loop: Envoy's default.
const OPEN_DEADLINE: &str = "20ms";

/// Measures a case once. `saturation` is the rate in calls a second that shares of it are taken of.
///
/// # Errors
/// When a server or the generator fails.
pub fn measure(
    case: &Case,
    scale: &Scale,
    duration: Duration,
    saturation: f64,
    seed: usize,
    programs: &Programs,
    servers: &mut Servers<'_>,
) -> Result<Measurement, SystemError> {
    let running = servers.get(&case.server)?;
    let (addresses, server_ids, redis_id) = (running.addresses.clone(), running.server_ids(), running.redis_id());
    let calls_before_warm_up = 2 * seed;
    generate(case, scale.warm_up, saturation, calls_before_warm_up, &addresses, programs)?;

    let (ids, redis_ids): (Vec<u32>, Vec<u32>) = (servers.all_ids(), redis_id.into_iter().collect());
    let script_calls = |servers: &mut Servers<'_>| {
        let redis = servers.get(&case.server)?.redis();
        redis.map(|redis| redis.script_calls()).transpose()
    };
    let script_before = script_calls(servers)?;
    let (server_before, redis_before) = (cpu::of_processes(&server_ids), cpu::of_processes(&redis_ids));
    let (ours_before, machine_before) = (cpu::of_processes(&ids) + cpu::of_this_and_ended(), cpu::of_machine());
    let started = Instant::now();

    let load = generate(case, duration, saturation, calls_before_warm_up + 1, &addresses, programs)?;

    let elapsed = started.elapsed();
    let ours = cpu::of_processes(&ids) + cpu::of_this_and_ended();
    let machine = cpu::of_machine().saturating_sub(machine_before);
    let calls = load.sent as f64;
    let micros =
        |now: Duration, before: Duration| (calls > 0.0).then(|| now.saturating_sub(before).as_secs_f64() * 1e6 / calls);
    let server = cpu::of_processes(&server_ids);
    let redis = cpu::of_processes(&redis_ids);
    let script_calls = script_calls(servers)?.zip(script_before).map(|(now, before)| now.saturating_sub(before));
    Ok(Measurement {
        server_us: micros(server, server_before).filter(|_| !server_ids.is_empty()),
        redis_us: micros(redis, redis_before).filter(|_| redis_id.is_some()),
        // Calls that were given up before they were sent to Redis share no script call.
        calls_per_script: script_calls
            .filter(|made| *made > 0)
            .map(|made| (load.ok + load.over_limit) as f64 / made as f64),
        foreign_cores: cpu::foreign_cores(machine, ours.saturating_sub(ours_before), elapsed),
        seconds: elapsed.as_secs_f64(),
        load,
    })
}

/// Runs the generator once.
fn generate(
    case: &Case,
    duration: Duration,
    saturation: f64,
    seed: usize,
    addresses: &[String],
    programs: &Programs,
) -> Result<LoadReport, SystemError> {
    let mut command = programs.cores.command(Place::Load, &programs.bench);
    command.arg("load");
    for address in addresses {
        command.arg("--target").arg(address);
    }
    command.args(arguments(case, duration, saturation)).args(["--seed", &seed.to_string(), "--json"]);
    let process = Process::start("tidegate-bench load", &mut command)?;
    report(process, programs, duration)
}

/// The report of a generator that runs for that time, once it has ended.
///
/// # Errors
/// When it fails or an interrupt comes.
pub fn report<R: DeserializeOwned>(
    process: Process,
    programs: &Programs,
    duration: Duration,
) -> Result<R, SystemError> {
    let text = process.finish(&programs.interrupt, duration + PATIENCE)?;
    serde_json::from_str(&text).map_err(|error| SystemError::Answer {
        program: "tidegate-bench load".to_owned(),
        answer: format!("{error} in {}", text.chars().take(200).collect::<String>()),
        wanted: "one JSON object with the report's fields",
    })
}

/// The generator's arguments but for addresses, seed and form of the report.
#[must_use]
pub fn arguments(case: &Case, duration: Duration, saturation: f64) -> Vec<String> {
    let load = &case.load;
    // Replicas get as many connections each; all together have the same number of calls under way.
    let connections = match case.server {
        Server::Redis { replicas } if replicas > 1 => 2 * replicas,
        _ => CONNECTIONS,
    };
    let mut arguments = vec!["--connections".to_owned(), connections.to_string()];
    let mut add = |name: &str, value: &str| arguments.extend([name.to_owned(), value.to_owned()]);
    let rate = match load.pace {
        Pace::Closed => None,
        Pace::Share(share) => Some(share * saturation),
        Pace::Rate(rate) => Some(rate),
    };
    match rate {
        None => {
            add("--calls", &CALLS.div_ceil(connections).to_string());
            add("--deadline", CLOSED_DEADLINE);
        }
        Some(rate) => {
            add("--rate", &format!("{:.0}", rate.max(1.0)));
            add("--arrivals", "poisson");
            add("--deadline", OPEN_DEADLINE);
        }
    }
    add("--domain", DOMAIN);
    add("--key", load.key);
    add("--keys", &load.keys);
    add("--descriptors", &load.descriptors.to_string());
    add("--warm-up", "0s");
    add("--duration", &format!("{}ms", duration.as_millis()));
    arguments
}

/// The same as a command that one can type, but for the address.
#[must_use]
pub fn command(case: &Case, duration: Duration, saturation: f64) -> String {
    format!("tidegate-bench load --target ADDRESS {}", arguments(case, duration, saturation).join(" "))
}
