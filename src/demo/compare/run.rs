//! A run of one scenario: all protections beside each other get the same requests at the same instants.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::figures::Figures;
use super::protection::Protection;
use super::scenario::Scenario;
use super::seconds::Seconds;
use super::stacks::Stacks;
use crate::bench::system::cpu;
use crate::bench::system::interrupt::Interrupt;
use crate::clock::{Clock, SystemClock};
use crate::demo::load::driver::{client, send};
use crate::demo::load::profile::instants;
use crate::demo::programs::Programs;

/// What a run has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The proxy.
    pub proxy: String,
    /// What happened.
    pub scenario: Scenario,
    /// What each protection made of it.
    pub figures: Vec<(Protection, Figures)>,
    /// The adaptive limit: seconds from the beginning, requests a second, at each change.
    pub limit: Vec<(f64, f64)>,
    /// What Tidegate said of the service: seconds from the beginning, and the sentence.
    pub told: Vec<(f64, String)>,
    /// Cores of the machine that were busy on average, with whatever else ran on it.
    pub busy_cores: f64,
}

/// Seconds of a day, after which the time of a log line begins anew.
const DAY_S: f64 = 86_400.0;

/// How often what is due is done and the limit is read.
const LOOK: Duration = Duration::from_millis(200);

/// Runs a scenario once, with whatever protections the proxy has.
///
/// # Errors
/// When a file or a program is missing or wrong, or an interrupt comes. Everything that was started has ended then.
pub fn run(
    programs: &Programs,
    config: &Path,
    scenario: Scenario,
    protections: &[Protection],
    seed: u64,
    interrupt: &Interrupt,
) -> anyhow::Result<Found> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _entered = runtime.enter();
    let stacks = Stacks::start(programs, config, protections, interrupt)?;
    let seen: Vec<_> = stacks.all().iter().map(|_| Arc::new(Mutex::new(Seconds::new(scenario)))).collect();
    let midnight = SystemClock.now().as_millis() as f64 / 1_000.0 % DAY_S;
    let busy = cpu::of_machine();
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for (stack, seen) in stacks.all().iter().zip(&seen) {
        let (target, seen) = (stack.listener, Arc::clone(seen));
        let client = client();
        calls.spawn_on(
            async move {
                let url = |id: u64| format!("http://{target}/inventory/{id}");
                send(&client, url, instants(scenario.phases(), seed), started, &seen).await;
            },
            runtime.handle(),
        );
    }
    let limit = watch(&runtime, scenario, &stacks, calls, started, interrupt)?;
    let elapsed = started.elapsed().as_secs_f64();
    let busy_cores = cpu::of_machine().saturating_sub(busy).as_secs_f64() / elapsed;
    let since = |at: f64| (at - midnight + DAY_S) % DAY_S;
    // What was said before the load began is about the start.
    let told = stacks.told().into_iter().map(|(at, sentence)| (since(at), sentence)).filter(|(at, _)| *at <= elapsed);
    let told = told.collect();
    let figures = stacks.all().iter().zip(&seen).map(|(stack, seen)| {
        (stack.protection, Figures::of(scenario, &seen.lock().unwrap_or_else(PoisonError::into_inner)))
    });
    Ok(Found { proxy: programs.proxy_name().to_owned(), scenario, figures: figures.collect(), limit, told, busy_cores })
}

/// Lets happen what is due until all calls have ended, and notes the changes of the limit.
fn watch(
    runtime: &Runtime,
    scenario: Scenario,
    stacks: &Stacks,
    mut calls: JoinSet<()>,
    started: Instant,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<(f64, f64)>> {
    let mut stretches = scenario.stretches().iter();
    let mut next = Duration::ZERO;
    let mut limits: Vec<(f64, f64)> = Vec::new();
    runtime.block_on(async {
        let mut ticks = interval(LOOK);
        loop {
            tokio::select! {
                ended = calls.join_next() => match ended {
                    Some(ended) => ended?,
                    None => return Ok(limits),
                },
                _ = ticks.tick() => {
                    interrupt.check()?;
                    let now = started.elapsed();
                    if now >= next && let Some(stretch) = stretches.next() {
                        stacks.enter(stretch)?;
                        next += Duration::from_secs(stretch.seconds.into());
                    }
                    if let Some(limit) = stacks.limit()?
                        && limits.last().is_none_or(|(_, last)| *last != limit)
                    {
                        limits.push((now.as_secs_f64(), limit));
                    }
                }
            }
        }
    })
}
