//! What honest clients notice of hostile ones, case by case in turn, round after round.
//!
//! ```text
//! core of the server    Tidegate
//! core of the load      honest clients; and, only while these rest: the attacker, or the attacker and its other victim
//! ```
//!
//! The attacker takes nothing from the honest clients but what the server gives it instead of them, because it runs at
//! the lowest priority. That this is so is measured too: in the *control* of a case the same attacker attacks a bare
//! server of its own, on its own core, while Tidegate serves the honest clients alone.

use serde::Serialize;
use tokio::time::Instant;

use super::attack::{Deeds, Kind};
use super::load::{Load, Report};
use super::scale::Scale;
use crate::bench::compare::load::report;
use crate::bench::compare::plan::grouped;
use crate::bench::compare::rules_file::Rules;
use crate::bench::compare::servers::{Programs, Running};
use crate::bench::statistics::Spread;
use crate::bench::system::cores::Place;
use crate::bench::system::process::Process;
use crate::bench::system::{SystemError, cpu};

/// What was measured of all cases.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Fairness {
    /// The honest clients alone, round by round.
    pub alone: Vec<Report>,
    /// … and beside each kind of hostile clients.
    pub cases: Vec<Case>,
}

/// A kind of hostile clients.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// Which.
    pub kind: Kind,
    /// Connections that it was told to have.
    pub connections: usize,
    /// Round by round.
    pub rounds: Vec<Beside>,
}

/// The honest clients beside a hostile one, once.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// What they noticed.
    pub honest: Report,
    /// What they noticed while the attacker attacked another server.
    pub control: Report,
    /// The server's memory.
    pub memory: Memory,
    /// Lines that the server wrote.
    pub lines: usize,
    /// What the attacker did meanwhile.
    pub deeds: Deeds,
    /// Seconds of that.
    pub seconds: f64,
    /// Cores that the server used.
    pub server_cores: f64,
    /// Cores that the attacker used.
    pub attacker_cores: f64,
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Before the attack.
    pub before: u64,
    /// The most during it.
    pub peak: u64,
    /// A little after it.
    pub after: u64,
}

/// A latency that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Percentile {
    /// Half of the calls took no longer.
    P50,
    /// Of a hundred, 99.
    P99,
    /// Of a thousand, 999.
    P999,
}

/// An attack under way.
struct Attack {
    process: Process,
    ids: [u32; 1],
}

// === impl Percentile ===

impl Percentile {
    /// It, in microseconds.
    #[must_use]
    pub fn of(self, report: &Report) -> f64 {
        match self {
            Percentile::P50 => report.latency_us.p50,
            Percentile::P99 => report.latency_us.p99,
            Percentile::P999 => report.latency_us.p99_9,
        }
    }
}

// === impl Fairness ===

impl Fairness {
    /// All cases without a round.
    #[must_use]
    pub fn new(scale: &Scale) -> Fairness {
        let case = |kind| Case { kind, connections: scale.connections(kind), rounds: Vec::new() };
        Fairness { alone: Vec::new(), cases: Kind::ALL.map(case).to_vec() }
    }

    /// Measures everything in turn. `say` is told what happens.
    ///
    /// # Errors
    /// When a process fails or an interrupt comes.
    pub fn run(scale: &Scale, programs: &Programs, say: &mut dyn FnMut(&str)) -> Result<Fairness, SystemError> {
        let mut fairness = Fairness::new(scale);
        let tidegate = programs.start_tidegate(&Rules::few().text(), 1, 1, None)?;
        let other = programs.start_baseline(scale.place)?;
        for round in 1..=scale.rounds {
            say(&format!("fairness {round}: honest clients alone"));
            fairness.alone.push(honest(scale, programs, &tidegate)?);
            for case in &mut fairness.cases {
                say(&format!("fairness {round}: {}", case.kind.name()));
                case.rounds.push(case.measure(scale, programs, &tidegate, &other)?);
            }
        }
        Ok(fairness)
    }

    /// How many times longer a case's percentile is than that of the honest clients alone in the same round.
    #[must_use]
    pub fn to_alone(&self, case: &Case, percentile: Percentile) -> Option<Spread> {
        let ours = case.rounds.iter().map(|round| Some(percentile.of(&round.honest)));
        Spread::of_ratios(ours, self.alone.iter().map(|report| Some(percentile.of(report))))
    }
}

// === impl Case ===

impl Case {
    /// As tables write it.
    #[must_use]
    pub fn title(&self) -> String {
        let connections = grouped(self.connections);
        match self.kind {
            Kind::Resets => format!("{connections} that reset streams"),
            Kind::Unread => format!("{connections} that never read"),
            Kind::Streams => "1,000 calls at once".to_owned(),
            Kind::Idle => format!("{connections} idle ones"),
            Kind::Garbage => format!("{connections} that send garbage"),
        }
    }

    /// How many times longer its percentile is than that of its control in the same round.
    #[must_use]
    pub fn to_control(&self, percentile: Percentile) -> Option<Spread> {
        let ours = self.rounds.iter().map(|round| Some(percentile.of(&round.honest)));
        Spread::of_ratios(ours, self.rounds.iter().map(|round| Some(percentile.of(&round.control))))
    }

    fn measure(
        &self,
        scale: &Scale,
        programs: &Programs,
        tidegate: &Running,
        other: &Running,
    ) -> Result<Beside, SystemError> {
        let ids = tidegate.server_ids();
        let resident = || ids.iter().copied().map(cpu::resident_bytes).sum::<u64>();
        let (before, lines_before) = (resident(), tidegate.lines_written());
        ids.iter().copied().for_each(cpu::forget_resident_bytes_max);

        let mut attack = Attack::begin(self, scale.place, programs, tidegate)?;
        let (deeds, started) = (attack.deeds(), Instant::now());
        let (server_before, attacker_before) = (cpu::of_processes(&ids), cpu::of_processes(&attack.ids));
        let honest_beside = honest(scale, programs, tidegate)?;
        let seconds = started.elapsed().as_secs_f64();
        let cores = |now: std::time::Duration, before| now.saturating_sub(before).as_secs_f64() / seconds;
        let server_cores = cores(cpu::of_processes(&ids), server_before);
        let attacker_cores = cores(cpu::of_processes(&attack.ids), attacker_before);
        let deeds = attack.end()?.since(deeds);

        programs.interrupt.pause(scale.settle)?;
        let peak = ids.iter().copied().map(cpu::resident_bytes_max).sum();
        let memory = Memory { before, peak, after: resident() };
        let lines = tidegate.lines_written().saturating_sub(lines_before);

        let attack = Attack::begin(self, scale.place, programs, other)?;
        let control = honest(scale, programs, tidegate)?;
        attack.end()?;
        let honest = honest_beside;
        Ok(Beside { honest, control, memory, lines, deeds, seconds, server_cores, attacker_cores })
    }
}

fn honest(scale: &Scale, programs: &Programs, server: &Running) -> Result<Report, SystemError> {
    let load = Load::Honest { slice: scale.honest };
    let process = load.start(programs, Place::Load, &server.addresses[0], scale.warm_up, scale.honest)?;
    report(process, programs, scale.warm_up + scale.honest)
}

// === impl Attack ===

impl Attack {
    /// Attacks that server, and waits until it is under way.
    fn begin(case: &Case, place: Place, programs: &Programs, server: &Running) -> Result<Attack, SystemError> {
        let mut command = programs.cores.command(place, &programs.bench);
        command.args(["attack", case.kind.name(), "--target", &server.addresses[0]]);
        command.args(["--connections", &case.connections.to_string()]);
        let mut process = Process::start("tidegate-bench attack", &mut command)?;
        process.wait_for(&programs.interrupt, |said| Deeds::last_of(said).filter(|deeds| deeds.ready))?;
        let ids = [process.id()];
        Ok(Attack { process, ids })
    }

    fn deeds(&mut self) -> Deeds {
        Deeds::last_of(&self.process.said()).unwrap_or_default()
    }

    /// Ends it; what it has done.
    fn end(mut self) -> Result<Deeds, SystemError> {
        // One that ended by itself was no attack for all of the time.
        self.process.check()?;
        Ok(self.deeds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::Latency;

    fn report(p99: f64) -> Report {
        Report { latency_us: Latency { p99, ..Latency::default() }, ..Report::default() }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let round = |honest, control| Beside {
            honest: report(honest),
            control: report(control),
            memory: Memory::default(),
            lines: 0,
            deeds: Deeds::default(),
            seconds: 1.0,
            server_cores: 1.0,
            attacker_cores: 0.5,
        };
        let case = Case { kind: Kind::Idle, connections: 1, rounds: vec![round(300.0, 150.0), round(30.0, 15.0)] };
        let fairness = Fairness { alone: vec![report(100.0), report(10.0)], cases: vec![case] };
        let case = &fairness.cases[0];
        let (alone, control) = (fairness.to_alone(case, Percentile::P99), case.to_control(Percentile::P99));
        assert_eq!([alone, control].map(|spread| spread.map(|spread| spread.median)), [Some(3.0), Some(2.0)]);
        assert_eq!(case.to_control(Percentile::P50), None, "there is nothing to divide by");
    }
}
