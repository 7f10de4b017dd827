//! The command line of `tidegate-bench`, and how the process ends.

use std::ffi::OsString;
use std::fmt::Display;

use clap::{Parser, Subcommand};

use super::drive::DriveError;
use super::message::TooLong;
use super::target::Unreachable;
use super::{accuracy, compare, load, noop, overload};
use crate::cli::ExitStatus;

const CODES: &str = "\
Exit codes: 0 success; 1 what was tested did not hold; 64 the command line is wrong; 69 a server can't be reached or a \
port is taken; 71 the operating system refused.";

/// Measures servers of Envoy's rate limit service, whichever they are.
#[derive(Debug, Parser)]
#[command(name = "tidegate-bench", version, about, after_help = CODES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// What the process is asked to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Send calls and measure what becomes of them
    Load(load::Arguments),
    /// Serve the baseline: a bare tonic server that answers OK without looking
    Noop(noop::Arguments),
    /// Offer more than a limit allows and count what is admitted, in every window
    Accuracy(accuracy::Arguments),
    /// Start servers, load them in turn and compare them with the baseline
    Compare(compare::Arguments),
    /// Attack and overload servers that it starts, and measure what honest clients notice
    Overload(overload::Arguments),
    /// Be one of the hostile clients of `overload`, towards a server on this machine
    #[command(hide = true)]
    Attack(overload::AttackArguments),
    /// Measure what a decision costs Redis, without the service in front of it
    Script(compare::ScriptArguments),
}

/// How a command that could be carried out has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should: exit code 0.
    Holds,
    /// What was tested did not hold: exit code 1.
    Fails,
}

/// Why the process ends early, and how.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub status: ExitStatus,
    /// What happened, for the person who typed the command.
    pub text: String,
}

/// Reads the command line; the first argument is the program's own name.
///
/// # Errors
/// What to print and how to exit (`crate::cli::status_of`).
pub fn parse<A>(arguments: impl IntoIterator<Item = A>) -> Result<Command, clap::Error>
where
    A: Into<OsString> + Clone,
{
    Ok(CommandLine::try_parse_from(arguments)?.command)
}

// === impl Command ===

impl Command {
    /// Does it. What was asked for goes to standard output, progress to standard error.
    ///
    /// # Errors
    /// When it can't be done.
    pub fn run(self) -> Result<Verdict, Failure> {
        match self {
            Command::Load(arguments) => load::run(arguments),
            Command::Noop(arguments) => noop::run(&arguments),
            Command::Accuracy(arguments) => accuracy::run(arguments),
            Command::Compare(arguments) => compare::run(&arguments),
            Command::Overload(arguments) => overload::run(&arguments),
            Command::Attack(arguments) => overload::run_attack(&arguments),
            Command::Script(arguments) => compare::run_script(&arguments),
        }
    }
}

// === impl Failure ===

impl Failure {
    /// A failure with the text of that error.
    pub fn new(status: ExitStatus, error: impl Display) -> Failure {
        Failure { status, text: error.to_string() }
    }
}

impl From<Unreachable> for Failure {
    fn from(error: Unreachable) -> Failure {
        Failure::new(ExitStatus::Unavailable, error)
    }
}

impl From<TooLong> for Failure {
    fn from(error: TooLong) -> Failure {
        Failure::new(ExitStatus::Usage, error)
    }
}

impl From<DriveError> for Failure {
    fn from(error: DriveError) -> Failure {
        let status = match error {
            DriveError::System { .. } => ExitStatus::OperatingSystem,
            DriveError::Lost { .. } => ExitStatus::Unavailable,
        };
        Failure::new(status, error)
    }
}

/// Standard output is what the user asked for; whether somebody still reads it is not our business.
pub fn print(text: &dyn Display) {
    use std::io::Write;
    let mut stdout = std::io::stdout();
    drop(writeln!(stdout, "{text}"));
    drop(stdout.flush());
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn error(line: &str) -> String {
        parse(line.split(' ')).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_wrong_flag_is_told_with_its_value_and_what_would_be_right() {
        for (flag, value, right) in [
            ("--connections", "0", "a whole number from 1 to 10000"),
            ("--calls", "many", "a whole number from 1"),
            ("--rate", "fast", "a number of calls a second"),
            ("--rate", "NaN", "a number of calls a second"),
            ("--duration", "5", "a duration with its unit"),
            ("--deadline", "0", "a duration with its unit"),
            ("--keys", "cold", "uniform:COUNT"),
            ("--hits", "0", "a whole number from 1"),
            ("--descriptors", "101", "a whole number from 1 to 100"),
            ("--target", "here", "HOST:PORT"),
            ("--arrivals", "odd", "poisson"),
        ] {
            let text = error(
                &format!("tidegate-bench load --target a:1 --rate 1 {flag} {value}")
                    .replace(if flag == "--rate" { "--rate 1 " } else { "\0" }, ""),
            );
            assert!(text.contains(flag) && text.contains(value) && text.contains(right), "{flag} {value}: {text}");
        }
        assert!(error("tidegate-bench load").contains("--target"));
        assert!(error("tidegate-bench load --target a:1 --arrivals even").contains("--rate"));
        assert!(error("tidegate-bench accuracy --target a:1 --window 1s").contains("--limit"));
    }
}
