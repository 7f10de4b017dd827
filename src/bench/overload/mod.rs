//! `tidegate-bench overload`: what honest clients notice of hostile ones, and of ten times the calls.
//!
//! It starts everything itself, each process on its core (`fairness` draws which), and ends each by its id whatever
//! happens. What should be and what is follows from the results alone; what does not hold is printed as that.
//!
//! ```text
//! attack    a hostile client, a process of its own      recovery   when all is normal again: pure
//! fairness  honest clients beside each kind of them     results    what was measured, and what it should be
//! surge     ten times the calls, over both stores       report     Markdown, from the results
//! ```

pub mod attack;
pub mod fairness;
pub mod load;
pub mod recovery;
pub mod report;
pub mod results;
pub mod scale;
pub mod surge;

use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

pub use self::attack::{Arguments as AttackArguments, run as run_attack};
use self::fairness::Fairness;
use self::load::Load;
use self::results::{Judged, Results};
use self::scale::Scale;
use self::surge::Surges;
use crate::bench::cli::{Failure, Verdict, print};
use crate::bench::compare::progress::placement;
use crate::bench::compare::servers::Programs;
use crate::bench::compare::{failure, write_files};
use crate::bench::system::cores::{Place, can_yield};
use crate::bench::system::interrupt::Interrupt;
use crate::bench::system::machine::Machine;
use crate::bench::system::{SystemError, cpu};

/// The flags of `overload`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Write the report to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often everything is measured; 3 by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: Option<u8>,
    /// The same cases once and for a moment: whether everything works
    #[arg(long, hide = true, conflicts_with = "rounds")]
    smoke: bool,
    /// End with exit code 1 when something is not as it should be
    #[arg(long)]
    check: bool,
    /// The tidegate program; the one beside this program by default
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
}

/// What differs from Tidegate's defaults: ports of the system's choice, no reading of rules meanwhile, and room for the
/// honest clients beside ten thousand connections that are not yet idle for long.
pub const SETTINGS: [(&str, &str); 7] = [
    ("TIDEGATE_GRPC_HOST", "127.0.0.1"),
    ("TIDEGATE_GRPC_PORT", "0"),
    ("TIDEGATE_HTTP_HOST", "127.0.0.1"),
    ("TIDEGATE_HTTP_PORT", "0"),
    ("TIDEGATE_DEBUG_PORT", "0"),
    ("TIDEGATE_RULES_RELOAD_INTERVAL", "1h"),
    ("TIDEGATE_GRPC_CONNECTIONS_MAX", "10100"),
];

/// Measures, prints the tables, writes the files.
///
/// # Errors
/// When something does not start or breaks, a file can't be written, or a signal asks for the end.
pub fn run(arguments: &Arguments) -> Result<Verdict, Failure> {
    let interrupt = Interrupt::on_signals();
    // Whatever broke because the signal reached the children as well is not the reason.
    let measured = measure(arguments, &interrupt).map_err(|error| interrupt.check().err().unwrap_or(error));
    let results = measured.map_err(failure)?;
    print(&report::summary(&results));
    let Arguments { output, json, .. } = arguments;
    write_files(output.as_deref(), || report::markdown(&results), json.as_deref(), &results)?;
    let missed: Vec<&str> =
        results.judged.iter().filter(|judged| !judged.holds).map(|judged| judged.what.as_str()).collect();
    if arguments.check && !missed.is_empty() {
        eprintln!("tidegate-bench: not as it should be: {}", missed.join("; "));
        return Ok(Verdict::Fails);
    }
    Ok(Verdict::Holds)
}

fn measure(arguments: &Arguments, interrupt: &Interrupt) -> Result<Results, SystemError> {
    let scale = if arguments.smoke { Scale::smoke() } else { Scale::full() };
    let scale = Scale { rounds: arguments.rounds.map_or(scale.rounds, usize::from), ..scale };
    let programs = Programs::find(arguments.server.as_deref(), &SETTINGS, interrupt)?;
    let placement = where_all_runs(&programs, &scale);
    eprintln!("{placement}; about {} s", scale.time().as_secs());

    let (started, machine_before) = (Instant::now(), cpu::of_machine());
    let fairness = Fairness::run(&scale, &programs, &mut say)?;
    let surges = Surges::run(&scale, &programs, &mut say)?;
    if stderr().is_terminal() {
        drop(write!(stderr(), "\r\x1b[K"));
    }
    let elapsed = started.elapsed();
    // All that was started has ended by now, and counts as ours.
    let machine = cpu::of_machine().saturating_sub(machine_before);
    Ok(Results {
        machine: Machine::here(),
        command: command(arguments),
        placement,
        seconds: elapsed.as_secs_f64(),
        foreign_cores: cpu::foreign_cores(machine, cpu::of_this_and_ended(), elapsed),
        is_full: !arguments.smoke,
        commands: commands(&scale),
        judged: Judged::all(&fairness, &surges),
        fairness,
        surges,
    })
}

/// Says on standard error what is done now: on a terminal in one line that changes.
fn say(what: &str) {
    // A line that can't be shown is not missed.
    drop(if stderr().is_terminal() { write!(stderr(), "\r\x1b[K{what}") } else { writeln!(stderr(), "{what}") });
}

fn where_all_runs(programs: &Programs, scale: &Scale) -> String {
    let yielding = match scale.place {
        Place::Spare if can_yield() => "at the lowest priority",
        Place::Spare => "at the usual priority: there is no chrt",
        Place::Server | Place::Load | Place::Both => "at the usual priority",
    };
    format!("{}; attackers and overloads beside the generator, {yielding}", placement(&programs.cores))
}

/// What was asked for, as one would type it, without the files that belong to one machine.
fn command(arguments: &Arguments) -> String {
    let mut words = vec!["tidegate-bench overload".to_owned()];
    words.extend(arguments.smoke.then(|| "--smoke".to_owned()));
    words.extend(arguments.rounds.map(|rounds| format!("--rounds {rounds}")));
    words.join(" ")
}

fn commands(scale: &Scale) -> Vec<String> {
    let attack = |kind: attack::Kind| {
        format!("tidegate-bench attack {} --target ADDRESS --connections {}", kind.name(), scale.connections(kind))
    };
    let mut commands = vec![Load::Honest { slice: scale.slice }.command(scale.warm_up, scale.honest)];
    commands.extend(attack::Kind::ALL.map(attack));
    commands.extend([Load::Peak, Load::Closed].map(|load| load.command(Duration::ZERO, scale.load)));
    let open = Load::Open { rate: 1.0 }.command(Duration::ZERO, scale.load);
    commands.push(open.replace("--rate 1 ", "--rate TEN_TIMES_THE_PEAK "));
    commands
}
