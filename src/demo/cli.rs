//! The command line of `tidegate-demo`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};

use super::compare::cli::CompareArguments;
use super::faults::cli::FaultsArguments;
use super::report;
use super::run::Plan;
use super::stage::Stage;
use super::table::Table;
use crate::bench::cli::print;
use crate::bench::system::SystemError;
use crate::bench::system::interrupt::Interrupt;
use crate::settings::text;

/// Watch a shop collapse, and then survive: starts Redis, Tidegate, a proxy and the shop, and loads them.
#[derive(Clone, Debug, Parser)]
#[command(name = "tidegate-demo", version, about, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Use a real Envoy (.tools/envoy/envoy, or the one in PATH) instead of tidegate-proxy
    #[arg(long)]
    envoy: bool,
    /// Stages to run [default: all]
    #[arg(long, value_enum, value_name = "STAGE", num_args = 1..)]
    stages: Vec<Stage>,
    /// How long each stage lasts; the adaptive one three times as long
    #[arg(long, value_name = "TIME", default_value = "22s", value_parser = parse_length)]
    length: Duration,
    /// How many times the inventory's capacity is asked for in the overload
    #[arg(long, value_name = "FACTOR", default_value = "2", value_parser = parse_overload)]
    overload: f64,
    /// Folder with the files of the proxy (envoy/) and of Tidegate (rules/)
    #[arg(long, value_name = "FOLDER", default_value = "config")]
    config: PathBuf,
    /// The page to write
    #[arg(long, value_name = "FILE", default_value = "tidegate-demo.html")]
    output: PathBuf,
    /// Print the results as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Seed of the instants at which calls come
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What else it can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Compare adaptive limits with other protections under the same overloads, side by side
    Compare(CompareArguments),
    /// Break what an adaptive limit stands on, one by one, and measure what requests notice of it
    Faults(FaultsArguments),
}

/// Reads the command line; the first argument is the program's own name.
///
/// # Errors
/// What to print and how to exit (`crate::cli::status_of`).
pub fn parse<A>(arguments: impl IntoIterator<Item = A>) -> Result<Arguments, clap::Error>
where
    A: Into<OsString> + Clone,
{
    Arguments::try_parse_from(arguments)
}

// === impl Arguments ===

impl Arguments {
    /// Runs the demo, prints its table and writes its page.
    ///
    /// # Errors
    /// When it can't be run, or a signal asks for the end.
    pub fn run(self) -> anyhow::Result<()> {
        let interrupt = Interrupt::on_signals();
        // Whatever broke because of the signal is not the reason.
        let told = |error: anyhow::Error| interrupt.check().err().map_or(error, Into::into);
        match &self.command {
            Some(Command::Compare(arguments)) => return arguments.run(&interrupt).map_err(told),
            Some(Command::Faults(arguments)) => return arguments.run(&interrupt).map_err(told),
            None => {}
        }
        let stages = if self.stages.is_empty() { Stage::ALL.to_vec() } else { self.stages };
        let Arguments { envoy, length, overload, config, output, json, seed, .. } = self;
        // A run of minutes must not end with a page that has no place.
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            bail!("--output {} should be in a folder that exists; {} doesn't", output.display(), folder.display());
        }
        let plan = Plan { stages, length, overload, config, envoy, seed };
        let results = plan.run(&interrupt).map_err(told)?;
        if json {
            print(&serde_json::to_string(&results)?);
        } else {
            print(&Table(&results));
        }
        std::fs::write(&output, report::page(&results))
            .with_context(|| format!("cannot write {} (--output)", output.display()))?;
        eprintln!("wrote {}", output.display());
        Ok(())
    }
}

/// Whether a run ended because somebody asked for it.
#[must_use]
pub fn was_interrupted(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SystemError::Interrupted))
}

fn parse_length(written: &str) -> Result<Duration, String> {
    let range = Duration::from_secs(1)..=Duration::from_secs(600);
    text::duration(written, &range).map_err(|right| format!("{written:?} should be {right}"))
}

fn parse_overload(written: &str) -> Result<f64, String> {
    let factor = written.parse().ok().filter(|factor| (0.1..=10.0).contains(factor));
    factor.ok_or_else(|| format!("{written:?} should be a number from 0.1 to 10"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_run_unless_told_otherwise_takes_less_than_three_minutes() {
        let length = parse(["tidegate-demo"]).unwrap().length;
        let stages: Duration = Stage::ALL.into_iter().map(|stage| length * stage.lengths()).sum();
        // Starting and ending the programs takes some 15 s.
        assert!(stages < Duration::from_secs(180 - 15), "{stages:?}");
    }

    #[test]
    fn a_wrong_flag_is_told_with_its_value() {
        for (flag, value) in [("--length", "5"), ("--overload", "NaN"), ("--stages", "adaptve"), ("--seed", "x")] {
            let error = parse(["tidegate-demo", flag, value]).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(value), "{error}");
        }
    }
}
