//! `tidegate-bench compare`: how Tidegate compares with a bare gRPC server, in one run and on any machine.
//!
//! It starts everything itself, each Redis, Tidegate and baseline on the core that is its place, loads them in turn by
//! the generator as a process of its own, and ends each by its process id whatever happens. What a run consists of is
//! data (`plan`), and so is what it should reach (`targets`); from what was measured (`results`) the report follows
//! without looking at anything else.
//!
//! ```text
//! plan ─ sections of cases ─► rounds ─► load (one measurement) ─► results ─► targets, report
//!                               └ servers: started once per section
//! ```

pub mod bytes;
pub mod load;
pub mod plan;
pub mod progress;
pub mod report;
pub mod results;
pub mod rounds;
pub mod rules_file;
pub mod servers;
pub mod surroundings;
pub mod table;
pub mod targets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::plan::{OTHER_SECTIONS, Scale, Section};
use self::progress::Progress;
use self::results::Results;
use self::rounds::{Schedule, saturation};
use self::servers::{Programs, SETTINGS};
use self::targets::TARGETS;
use crate::bench::cli::{Failure, Verdict, print};
use crate::bench::script;
use crate::bench::system::SystemError;
use crate::bench::system::cores::Cores;
use crate::bench::system::interrupt::Interrupt;
use crate::bench::system::machine::Machine;
use crate::bench::target::Target;
use crate::cli::ExitStatus;

/// The flags of `compare`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Write the report to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds of each section; 5 by default, 2 with --quick
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: Option<u8>,
    /// The same cases in about a minute: for a look, not for figures to quote
    #[arg(long)]
    quick: bool,
    /// The same cases once and for a moment: whether everything works
    #[arg(long, hide = true, conflicts_with_all = ["quick", "rounds"])]
    smoke: bool,
    /// End with exit code 1 when a figure is far from its target
    #[arg(long)]
    check: bool,
    /// The tidegate program; the one beside this program by default
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Run only these sections
    #[arg(long, value_name = "NAME", num_args = 1.., value_parser = section_names())]
    only: Vec<String>,
    /// Another server of Envoy's rate limit service, which meets the same loads
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<Target>,
}

/// The flags of `script`.
#[derive(Args, Clone, Debug)]
pub struct ScriptArguments {
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: u8,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

fn section_names() -> clap::builder::PossibleValuesParser {
    let loads = Section::all(&Scale::full(), false).into_iter().map(|section| section.name);
    loads.chain(OTHER_SECTIONS.map(|(name, _)| name)).collect::<Vec<_>>().into()
}

/// Compares, prints the tables, writes the files.
///
/// # Errors
/// When something does not start or breaks, a file can't be written, or a signal asks for the end.
pub fn run(arguments: &Arguments) -> Result<Verdict, Failure> {
    let interrupt = Interrupt::on_signals();
    // Whatever broke because the signal reached the children as well is not the reason.
    let compared = compare(arguments, &interrupt).map_err(|error| interrupt.check().err().unwrap_or(error));
    let results = compared.map_err(failure)?;
    print(&report::summary(&results));
    let Arguments { output, json, .. } = arguments;
    write_files(output.as_deref(), || report::markdown(&results), json.as_deref(), &results)?;
    let failed: Vec<&str> =
        results.targets.iter().filter(|judged| judged.fails).map(|judged| judged.what.as_str()).collect();
    if arguments.check && !failed.is_empty() {
        eprintln!("tidegate-bench: far from its target: {}", failed.join("; "));
        return Ok(Verdict::Fails);
    }
    Ok(Verdict::Holds)
}

/// Measures the script alone and prints what it costs.
///
/// # Errors
/// When Redis fails, or a signal asks for the end.
pub fn run_script(arguments: &ScriptArguments) -> Result<Verdict, Failure> {
    let interrupt = Interrupt::on_signals();
    let effort = script::Effort { rounds: usize::from(arguments.rounds), ..Scale::full().script };
    eprintln!("about {} s", effort.time().as_secs());
    let costs = script::measure(&effort, &Cores::find(), &interrupt);
    let costs = costs.map_err(|error| failure(interrupt.check().err().unwrap_or(error)))?;
    if arguments.json {
        print(&serde_json::to_string(&costs).unwrap_or_default());
    } else {
        print(&report::script_table(&costs));
    }
    Ok(Verdict::Holds)
}

fn compare(arguments: &Arguments, interrupt: &Interrupt) -> Result<Results, SystemError> {
    let scale = scale(arguments);
    let programs = programs(arguments, interrupt)?;
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let mut sections = Section::all(&scale, arguments.target.is_some());
    sections.retain(|section| wanted(section.name));
    let others = OTHER_SECTIONS.map(|(name, _)| wanted(name));
    let other_times = [bytes::time(&scale), scale.script.time()];

    let load_times = sections.iter().map(|section| section.time(&scale));
    let times = load_times.chain(others.iter().zip(other_times).filter(|(wanted, _)| **wanted).map(|(_, time)| time));
    let mut schedule = Schedule::new(times, scale.time_max);
    let mut progress = Progress::begin(&sections, &others, schedule.left(Duration::ZERO), &scale, &programs.cores);

    let mut done = Vec::new();
    for section in &sections {
        schedule.begin_part();
        let known = saturation(&done);
        let mut say = |here: Duration, what: &str| progress.show(schedule.left(here), what);
        done.push(rounds::run(section, &scale, known, &programs, &schedule, &mut say)?);
    }
    let (mut bytes, mut script) = (Vec::new(), Vec::new());
    if others[0] {
        schedule.begin_part();
        progress.show(schedule.left(other_times[0]), "bytes");
        bytes = bytes::measure(&scale, &programs)?;
    }
    if others[1] {
        schedule.begin_part();
        progress.show(schedule.left(other_times[1]), "script");
        script = script::measure(&scale.script, &programs.cores, interrupt)?;
    }
    progress.finish();

    let mut results = Results {
        machine: Machine::here(),
        command: command(arguments),
        placement: progress::placement(&programs.cores),
        seconds: schedule.elapsed().as_secs_f64(),
        is_full: !arguments.quick && !arguments.smoke,
        sections: done,
        bytes,
        script,
        targets: Vec::new(),
    };
    results.targets = TARGETS.iter().map(|target| target.judge(&results)).collect();
    Ok(results)
}

fn scale(arguments: &Arguments) -> Scale {
    let scale = match (arguments.quick, arguments.smoke) {
        (true, _) => Scale::quick(),
        (false, true) => Scale::smoke(),
        (false, false) => Scale::full(),
    };
    match arguments.rounds.map(usize::from) {
        None => scale,
        Some(rounds) => Scale { rounds, script: script::Effort { rounds, ..scale.script }, ..scale },
    }
}

fn programs(arguments: &Arguments, interrupt: &Interrupt) -> Result<Programs, SystemError> {
    let programs = Programs::find(arguments.server.as_deref(), &SETTINGS, interrupt)?;
    Ok(Programs { other: arguments.target.as_ref().map(ToString::to_string), ..programs })
}

/// What was asked for, as one would type it, without the files that belong to one machine.
fn command(arguments: &Arguments) -> String {
    let mut words = vec!["tidegate-bench compare".to_owned()];
    words.extend(arguments.quick.then(|| "--quick".to_owned()));
    words.extend(arguments.smoke.then(|| "--smoke".to_owned()));
    words.extend(arguments.rounds.map(|rounds| format!("--rounds {rounds}")));
    words.extend((!arguments.only.is_empty()).then(|| format!("--only {}", arguments.only.join(" "))));
    words.extend(arguments.target.as_ref().map(|target| format!("--target {target}")));
    words.join(" ")
}

/// Writes those files of a run that were asked for: its report, and all that was measured.
pub(super) fn write_files(
    output: Option<&Path>,
    markdown: impl FnOnce() -> String,
    json: Option<&Path>,
    results: &impl Serialize,
) -> Result<(), Failure> {
    if let Some(path) = output {
        write(path, &markdown())?;
    }
    if let Some(path) = json {
        write(path, &serde_json::to_string_pretty(results).unwrap_or_default())?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text));
    written.map_err(|error| {
        Failure::new(ExitStatus::OperatingSystem, format_args!("cannot write {}: {error}", path.display()))
    })
}

pub(super) fn failure(error: SystemError) -> Failure {
    let status = match error {
        SystemError::File { .. } => ExitStatus::OperatingSystem,
        _ => ExitStatus::Unavailable,
    };
    Failure::new(status, error)
}
