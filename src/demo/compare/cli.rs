//! The flags of `tidegate-demo compare`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::page;
use super::protection::Protection;
use super::run::run;
use super::scenario::Scenario;
use crate::bench::system::interrupt::Interrupt;
use crate::demo::programs::Programs;
use crate::demo::runs::Runs;

/// Compare adaptive limits with other protections under the same overloads, side by side.
#[derive(Args, Clone, Debug)]
pub struct CompareArguments {
    /// Proxies to run behind
    #[arg(long, value_enum, value_name = "PROXY", num_args = 1.., default_values_t = [ProxyKind::Bundled, ProxyKind::Envoy])]
    proxies: Vec<ProxyKind>,
    /// Scenarios to run [default: all]
    #[arg(long, value_enum, value_name = "SCENARIO", num_args = 1..)]
    scenarios: Vec<Scenario>,
    /// Protections to run beside each other [default: all that the proxy has]
    #[arg(long, value_enum, value_name = "PROTECTION", num_args = 1..)]
    protections: Vec<Protection>,
    /// Times that each is run; 0 only writes the page anew
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    runs: u64,
    /// Folder with the files of the proxy (envoy/) and of Tidegate (rules/)
    #[arg(long, value_name = "FOLDER", default_value = "config")]
    config: PathBuf,
    /// Runs so far, to which these are added
    #[arg(long, value_name = "FILE", default_value = "target/adaptive-results.json")]
    data: PathBuf,
    /// The page to write, about all runs
    #[arg(long, value_name = "FILE", default_value = "docs/adaptive-results.md")]
    output: PathBuf,
    /// Seed of the instants at which requests come, for the first run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProxyKind {
    /// tidegate-proxy
    Bundled,
    /// A real Envoy (.tools/envoy/envoy, or the one in PATH)
    Envoy,
}

// === impl CompareArguments ===

impl CompareArguments {
    /// Runs what is asked for and writes the page of all runs.
    ///
    /// # Errors
    /// When it can't be run, a file can't be read or written, or a signal asks for the end.
    pub fn run(&self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let mut runs = Runs::open(&self.data)?;
        let scenarios = if self.scenarios.is_empty() { Scenario::ALL.to_vec() } else { self.scenarios.clone() };
        for number in 0..self.runs {
            for proxy in &self.proxies {
                let programs = Programs::find(*proxy == ProxyKind::Envoy)?;
                for scenario in &scenarios {
                    let all = Protection::ALL.iter().copied();
                    let protections: Vec<Protection> = all
                        .filter(|one| *proxy == ProxyKind::Envoy || one.is_in_bundled_proxy())
                        .filter(|one| self.protections.is_empty() || self.protections.contains(one))
                        .collect();
                    eprintln!("{}: {} ({} s)", programs.proxy_name(), scenario.name(), scenario.seconds());
                    let one = run(&programs, &self.config, *scenario, &protections, self.seed + number, interrupt)?;
                    eprintln!("{}", page::summary(&one));
                    runs.add(one)?;
                }
            }
        }
        runs.publish(&self.output, page::page)
    }
}
