//! A run: calm, fault, after it, for one fault after the other.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use super::fault::Fault;
use super::spans::{Figures, Spans};
use super::stand::Stand;
use crate::bench::system::cpu;
use crate::bench::system::interrupt::Interrupt;
use crate::demo::load::driver::{client, send};
use crate::demo::load::profile::{Phase, instants};
use crate::demo::programs::Programs;

/// How long what lasts.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// Before each fault.
    pub calm: Duration,
    /// From breaking to mending.
    pub fault: Duration,
    /// From mending on.
    pub after: Duration,
}

/// What a run has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The proxy.
    pub proxy: String,
    /// All calm spans together.
    pub calm: Figures,
    /// What each fault came to.
    pub faults: Vec<FaultFound>,
    /// Cores of the machine that were busy on average, with whatever else ran on it.
    pub busy_cores: f64,
}

/// A lowest and a highest limit, in requests a second.
pub type Extremes = (f64, f64);

/// What a fault came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultFound {
    /// Which.
    pub fault: Fault,
    /// From breaking to mending.
    pub during: Figures,
    /// From mending on.
    pub after: Figures,
    /// The highest limit that anybody saw in the calm before, in requests a second; `None` if nobody saw one.
    pub limit_before: Option<f64>,
    /// The lowest and the highest that anybody saw from breaking to the end of the time after it; `None` if nobody saw one.
    pub limits: Option<Extremes>,
}

/// What is asked of an inventory that can do 100, in requests a second.
pub const RATE: f64 = 60.0;

/// How often limits are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Spans of a fault: calm, during, after.
const SPANS: usize = 3;

/// Runs all of these faults once.
///
/// # Errors
/// When a file or a program is missing or wrong, or an interrupt comes. Everything that was started has ended then.
pub fn run(
    programs: &Programs,
    config: &Path,
    faults: &[Fault],
    lengths: Lengths,
    seed: u64,
    interrupt: &Interrupt,
) -> anyhow::Result<Found> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _entered = runtime.enter();
    let mut stand = Stand::start(programs, config, interrupt)?;
    let spans: Vec<Duration> = faults.iter().flat_map(|_| [lengths.calm, lengths.fault, lengths.after]).collect();
    let seen = Arc::new(Mutex::new(Spans::new(&spans)));
    let (busy, started) = (cpu::of_machine(), Instant::now());
    let load = runtime.spawn({
        let (target, seen, phase) =
            (stand.listener(), Arc::clone(&seen), Phase { length: spans.iter().sum(), rate: RATE });
        async move {
            let url = |id: u64| format!("http://{target}/inventory/{id}");
            send(&client(), url, instants(vec![phase], seed), started, &seen).await;
        }
    });
    let limits = watch(&runtime, &mut stand, faults, &spans, load, started, interrupt)?;
    let elapsed = started.elapsed().as_secs_f64();
    let busy_cores = cpu::of_machine().saturating_sub(busy).as_secs_f64() / elapsed;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let found = |(number, fault): (usize, &Fault)| {
        let [calm, during, after] = [0, 1, 2].map(|span| SPANS * number + span);
        FaultFound {
            fault: *fault,
            during: seen.figures([during]),
            after: seen.figures([after]),
            limit_before: limits[calm].map(|(_, high)| high),
            limits: [limits[during], limits[after]].into_iter().flatten().reduce(both),
        }
    };
    Ok(Found {
        proxy: programs.proxy_name().to_owned(),
        calm: seen.figures((0..faults.len()).map(|number| SPANS * number)),
        faults: faults.iter().enumerate().map(found).collect(),
        busy_cores,
    })
}

/// The extremes of both.
fn both(one: Extremes, other: Extremes) -> Extremes {
    (one.0.min(other.0), one.1.max(other.1))
}

/// Breaks and mends what is due until the load has ended; the lowest and the highest limit that was seen in each span.
fn watch(
    runtime: &Runtime,
    stand: &mut Stand<'_>,
    faults: &[Fault],
    spans: &[Duration],
    mut load: JoinHandle<()>,
    started: Instant,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Option<Extremes>>> {
    let mut limits: Vec<Option<Extremes>> = vec![None; spans.len()];
    let (mut span, mut ends) = (0, spans.first().copied().unwrap_or_default());
    runtime.block_on(async {
        let mut ticks = interval(LOOK);
        loop {
            tokio::select! {
                ended = &mut load => {
                    ended?;
                    return Ok(limits);
                }
                _ = ticks.tick() => {
                    interrupt.check()?;
                    if started.elapsed() >= ends && span + 1 < spans.len() {
                        span += 1;
                        ends += spans[span];
                        match span % SPANS {
                            1 => stand.inflict(faults[span / SPANS])?,
                            2 => stand.mend(faults[span / SPANS])?,
                            _ => {}
                        }
                    }
                    for limit in stand.limits() {
                        let seen = (limit, limit);
                        limits[span] = Some(limits[span].map_or(seen, |before| both(before, seen)));
                    }
                }
            }
        }
    })
}
