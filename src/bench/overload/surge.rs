//! Ten times the calls, over memory and over Redis: what comes of them, and when the server is itself again.
//!
//! Honest clients run all the while, from before a load until after it, on the core of the generator and before it: by
//! them it is seen what others notice, and when answers are back to normal. The peak is measured in the same way, so
//! that nothing but the load differs.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::fairness::Memory;
use super::load::{Load, Report, TENFOLD};
use super::recovery::{Instants, Recovery};
use super::scale::Scale;
use crate::bench::compare::load::report;
use crate::bench::compare::rules_file::Rules;
use crate::bench::compare::servers::{Programs, Running};
use crate::bench::statistics::Spread;
use crate::bench::system::cores::Place;
use crate::bench::system::redis_server::RedisServer;
use crate::bench::system::{SystemError, cpu};

/// Where the counters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// In the process.
    Memory,
    /// In a Redis of its own.
    Redis,
}

/// The loads of one store.
#[derive(Clone, Debug, Serialize)]
pub struct Surges {
    /// Which.
    pub store: Store,
    /// 256 calls under way, round by round.
    pub peak: Vec<Surge>,
    /// Ten times as many.
    pub closed: Vec<Surge>,
    /// Ten times the calls a second that the peak of the same round decided.
    pub open: Vec<Surge>,
}

/// A load, once.
#[derive(Clone, Debug, Serialize)]
pub struct Surge {
    /// What the generator says.
    pub load: Report,
    /// The server's memory.
    pub memory: Memory,
    /// What the honest clients noticed.
    pub recovery: Recovery,
    /// Lines that the server wrote.
    pub lines: usize,
    /// Cores that the server used, from the load's start to its generator's end.
    pub server_cores: f64,
}

/// Time in which a generator starts, which the honest clients run longer.
const STARTING: Duration = Duration::from_millis(200);

// === impl Store ===

impl Store {
    /// As tables write it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Store::Memory => "memory",
            Store::Redis => "Redis",
        }
    }
}

// === impl Surges ===

impl Surges {
    /// Measures both stores in turn. `say` is told what happens.
    ///
    /// # Errors
    /// When a process fails or an interrupt comes.
    pub fn run(scale: &Scale, programs: &Programs, say: &mut dyn FnMut(&str)) -> Result<Vec<Surges>, SystemError> {
        let rules = Rules::few().text();
        let start = |store| {
            let redis = match store {
                Store::Memory => None,
                Store::Redis => Some(RedisServer::start(&programs.cores, &programs.interrupt)?),
            };
            let none = Surges { store, peak: Vec::new(), closed: Vec::new(), open: Vec::new() };
            Ok::<_, SystemError>((programs.start_tidegate(&rules, 1, 1, redis)?, none))
        };
        let mut stores = [start(Store::Memory)?, start(Store::Redis)?];
        for round in 1..=scale.rounds {
            for (server, surges) in &mut stores {
                let name = surges.store.title();
                say(&format!("overload {round}: {name}, the peak"));
                let peak = measure(Load::Peak, scale, programs, server)?;
                let rate = peak.load.decisions_per_second() * TENFOLD as f64;
                surges.peak.push(peak);
                say(&format!("overload {round}: {name}, ten times the calls under way"));
                surges.closed.push(measure(Load::Closed, scale, programs, server)?);
                say(&format!("overload {round}: {name}, ten times the calls a second"));
                surges.open.push(measure(Load::Open { rate }, scale, programs, server)?);
            }
        }
        Ok(stores.map(|(_, surges)| surges).to_vec())
    }

    /// The overloads, as tables write them.
    #[must_use]
    pub fn overloads(&self) -> [(&'static str, &[Surge]); 2] {
        [("10 × calls under way", &self.closed), ("10 × calls a second", &self.open)]
    }

    /// Decisions a second of those rounds, divided by the peak's of the same round.
    #[must_use]
    pub fn to_peak(&self, rounds: &[Surge]) -> Option<Spread> {
        let decisions = |surges: &[Surge]| -> Vec<Option<f64>> {
            surges.iter().map(|surge| Some(surge.load.decisions_per_second())).collect()
        };
        Spread::of_ratios(decisions(rounds), decisions(&self.peak))
    }

    /// Calls a second that those rounds sent, divided by the peak's decisions in the same round.
    #[must_use]
    pub fn offered(&self, rounds: &[Surge]) -> Option<Spread> {
        let sent = rounds.iter().map(|surge| Some(surge.load.sent as f64 / surge.load.seconds));
        Spread::of_ratios(sent, self.peak.iter().map(|surge| Some(surge.load.decisions_per_second())))
    }
}

fn measure(load: Load, scale: &Scale, programs: &Programs, server: &Running) -> Result<Surge, SystemError> {
    let ids = server.server_ids();
    let resident = || ids.iter().copied().map(cpu::resident_bytes).sum::<u64>();
    let (before, lines_before) = (resident(), server.lines_written());
    ids.iter().copied().for_each(cpu::forget_resident_bytes_max);

    let address = &server.addresses[0];
    let length = scale.calm + STARTING + scale.load + scale.recovery;
    let honest = Load::Honest { slice: scale.slice }.start(programs, Place::Load, address, scale.warm_up, length)?;
    programs.interrupt.pause(scale.warm_up + scale.calm)?;
    let (cpu_before, started) = (cpu::of_processes(&ids), Instant::now());
    let process = load.start(programs, scale.place, address, Duration::ZERO, scale.load)?;
    let loaded: Report = report(process, programs, scale.load)?;
    let used = cpu::of_processes(&ids).saturating_sub(cpu_before);
    let server_cores = used.as_secs_f64() / started.elapsed().as_secs_f64();
    let honest: Report = report(honest, programs, scale.warm_up + length)?;

    let peak = ids.iter().copied().map(cpu::resident_bytes_max).sum();
    let from_ms = loaded.began_unix_ms as f64 - honest.began_unix_ms as f64;
    let slice_ms = scale.slice.as_secs_f64() * 1e3;
    let to_ms = from_ms + loaded.seconds * 1e3;
    Ok(Surge {
        load: loaded,
        memory: Memory { before, peak, after: resident() },
        recovery: Recovery::of(&honest.slices, Instants { slice_ms, from_ms, to_ms }),
        lines: server.lines_written().saturating_sub(lines_before),
        server_cores,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surge(decisions_per_second: f64, sent: u64) -> Surge {
        let load = Report {
            calls_per_second: decisions_per_second,
            answered: 10,
            ok: 10,
            sent,
            seconds: 2.0,
            ..Report::default()
        };
        let (memory, recovery) = (Memory::default(), Recovery::default());
        Surge { load, memory, recovery, lines: 0, server_cores: 1.0 }
    }

    #[test]
    fn an_overload_is_held_against_the_peak_of_its_round() {
        let (peak, closed) = (vec![surge(100.0, 200), surge(50.0, 100)], vec![surge(90.0, 1_000), surge(45.0, 500)]);
        let surges = Surges { store: Store::Memory, peak, closed: closed.clone(), open: Vec::new() };
        let (to_peak, offered) = (surges.to_peak(&closed).unwrap(), surges.offered(&closed).unwrap());
        assert_eq!((to_peak.lowest, to_peak.highest, offered.lowest, offered.highest), (0.9, 0.9, 5.0, 5.0));
    }
}
