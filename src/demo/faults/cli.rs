//! The flags of `tidegate-demo faults`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::fault::Fault;
use super::page;
use super::run::{Lengths, run};
use crate::bench::system::interrupt::Interrupt;
use crate::demo::compare::cli::ProxyKind;
use crate::demo::programs::Programs;
use crate::demo::runs::Runs;

/// Break what an adaptive limit stands on, one by one, and measure what requests notice of it.
#[derive(Args, Clone, Debug)]
pub struct FaultsArguments {
    /// Proxies to run behind
    #[arg(long, value_enum, value_name = "PROXY", num_args = 1.., default_values_t = [ProxyKind::Bundled, ProxyKind::Envoy])]
    proxies: Vec<ProxyKind>,
    /// Faults, in the order of their turns [default: all]
    #[arg(long, value_enum, value_name = "FAULT", num_args = 1..)]
    faults: Vec<Fault>,
    /// Seconds of calm before each
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    calm: u64,
    /// Seconds that each lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    length: u64,
    /// Seconds from its end to the next calm
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    after: u64,
    /// Times that all is run; 0 only writes the page anew
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    runs: u64,
    /// Folder with the files of the proxy (envoy/) and of Tidegate (rules/)
    #[arg(long, value_name = "FOLDER", default_value = "config")]
    config: PathBuf,
    /// Runs so far, to which these are added
    #[arg(long, value_name = "FILE", default_value = "target/adaptive-faults.json")]
    data: PathBuf,
    /// The page to write, about all runs
    #[arg(long, value_name = "FILE", default_value = "docs/adaptive-faults.md")]
    output: PathBuf,
    /// Seed of the instants at which requests come, for the first run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

// === impl FaultsArguments ===

impl FaultsArguments {
    /// Runs what is asked for and writes the page of all runs.
    ///
    /// # Errors
    /// When it can't be run, a file can't be read or written, or a signal asks for the end.
    pub fn run(&self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let mut runs = Runs::open(&self.data)?;
        let faults = if self.faults.is_empty() { Fault::ALL.to_vec() } else { self.faults.clone() };
        let [calm, fault, after] = [self.calm, self.length, self.after].map(Duration::from_secs);
        for number in 0..self.runs {
            for proxy in &self.proxies {
                let programs = Programs::find(*proxy == ProxyKind::Envoy)?;
                let seconds = faults.len() as u64 * (self.calm + self.length + self.after);
                eprintln!("{}: {} faults ({seconds} s)", programs.proxy_name(), faults.len());
                let lengths = Lengths { calm, fault, after };
                let one = run(&programs, &self.config, &faults, lengths, self.seed + number, interrupt)?;
                eprintln!("{}", page::summary(&one));
                runs.add(one)?;
            }
        }
        runs.publish(&self.output, page::page)
    }
}
