//! Runs a section: its cases in turn, round after round, and again where the machine was busy with something else.
//!
//! A round counts if others used little of the cores meanwhile. If they did, it is repeated, so often as time and a
//! bound allow; then the quietest rounds count, and the report says how quiet they were.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::load::{command, measure};
use super::plan::{Pace, Scale, Section};
use super::results::{CaseResult, Measurement, Quantity, SectionResult};
use super::servers::{Programs, Servers};
use crate::bench::statistics::Spread;
use crate::bench::system::SystemError;

/// What is still to come, and how long it may take.
#[derive(Debug)]
pub struct Schedule {
    started: Instant,
    time_max: Duration,
    /// What the parts that have begun should have taken.
    begun: Duration,
    /// What the parts after the present one take.
    later: VecDeque<Duration>,
}

/// A round of a section.
struct Round {
    /// In the order of the cases.
    measurements: Vec<Measurement>,
}

/// Rounds of a section that are made however late it is, if there are to be so many.
const ROUNDS_MIN: usize = 3;

/// Cores that others may use on average during a round: a tenth of one.
pub const FOREIGN_CORES_MAX: f64 = 0.10;

// === impl Schedule ===

impl Schedule {
    /// Parts that take so long each, and how long the whole may take with repeated rounds.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = Duration>, time_max: Duration) -> Schedule {
        Schedule { started: Instant::now(), time_max, begun: Duration::ZERO, later: parts.into_iter().collect() }
    }

    /// Says that the next part has begun.
    pub fn begin_part(&mut self) {
        self.begun += self.later.pop_front().unwrap_or_default();
    }

    /// Time that is left if nothing is repeated from now on, of which `here` is in the present part.
    #[must_use]
    pub fn left(&self, here: Duration) -> Duration {
        self.later.iter().sum::<Duration>() + here
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether what is left, of which `here` is in the present part, ends in time if it goes on as slowly as so far.
    #[must_use]
    pub fn is_in_time(&self, here: Duration) -> bool {
        let elapsed = self.elapsed();
        elapsed + self.left(here).mul_f64(slowness(elapsed, self.begun.saturating_sub(here))) <= self.time_max
    }
}

/// How many times longer than planned something took, at least 1.
fn slowness(took: Duration, planned: Duration) -> f64 {
    if planned.is_zero() { 1.0 } else { took.div_duration_f64(planned).max(1.0) }
}

// === impl Round ===

impl Round {
    /// Cores that others used on average.
    fn foreign_cores(&self) -> f64 {
        let weighted = self.measurements.iter().map(|one| one.foreign_cores * one.seconds).sum::<f64>();
        weighted / self.measurements.iter().map(|one| one.seconds).sum::<f64>().max(f64::MIN_POSITIVE)
    }
}

/// Runs all rounds of a section. `say` is told what happens.
///
/// # Errors
/// When a server or the generator fails, or an interrupt comes.
pub fn run(
    section: &Section,
    scale: &Scale,
    saturation: Option<f64>,
    programs: &Programs,
    schedule: &Schedule,
    say: &mut dyn FnMut(Duration, &str),
) -> Result<SectionResult, SystemError> {
    let mut servers = Servers::new(programs);
    let round_time = section.round_time(scale);
    say(round_time * section.rounds as u32, &format!("{}: starting its servers", section.name));
    prepare(section, programs, &mut servers)?;
    let saturation = match saturation {
        Some(saturation) => saturation,
        None => find_saturation(section, scale, programs, &mut servers)?,
    };

    let mut rounds: Vec<Round> = Vec::new();
    let most = section.rounds + section.rounds / 2;
    loop {
        let quiet = rounds.iter().filter(|round| round.foreign_cores() <= FOREIGN_CORES_MAX).count();
        let to_come = section.rounds.saturating_sub(rounds.len());
        let here = round_time * to_come.max(1) as u32;
        let planned = to_come > 0 && (rounds.len() < ROUNDS_MIN || schedule.is_in_time(here));
        let again = to_come == 0 && quiet < section.rounds && rounds.len() < most && schedule.is_in_time(here);
        if !planned && !again {
            break;
        }
        let mut measurements = Vec::new();
        for (at, case) in section.cases.iter().enumerate() {
            let here =
                round_time * to_come.max(1) as u32 * (section.cases.len() - at) as u32 / section.cases.len() as u32;
            say(here, &format!("{} {}: {}", section.name, rounds.len() + 1, case.title));
            let seed = rounds.len() * section.cases.len() + at + 1;
            measurements.push(measure(case, scale, section.duration, saturation, seed, programs, &mut servers)?);
        }
        rounds.push(Round { measurements });
    }
    Ok(result(section, saturation, rounds))
}

/// Starts all servers, and makes the counters that shall exist.
fn prepare(section: &Section, programs: &Programs, servers: &mut Servers<'_>) -> Result<(), SystemError> {
    for case in &section.cases {
        let running = servers.get(&case.server)?;
        if case.load.existing > 0 {
            running.hit_each(&mut running.http()?, case.load.key, case.load.existing, &programs.interrupt)?;
        }
    }
    Ok(())
}

/// The rate that Tidegate over Redis reaches, where the run doesn't know it yet and the section asks for a share of it.
fn find_saturation(
    section: &Section,
    scale: &Scale,
    programs: &Programs,
    servers: &mut Servers<'_>,
) -> Result<f64, SystemError> {
    let Some(case) = section.cases.iter().find(|case| matches!(case.load.pace, Pace::Share(_)) && case.name == "redis")
    else {
        return Ok(0.0);
    };
    let mut closed = case.clone();
    closed.load.pace = Pace::Closed;
    let measured = measure(&closed, scale, section.duration, 0.0, 0, programs, servers)?;
    Ok(measured.load.calls_per_second)
}

fn result(section: &Section, saturation: f64, rounds: Vec<Round>) -> SectionResult {
    let made = rounds.len();
    let kept = quietest(rounds, section.rounds);
    let cases = section.cases.iter().enumerate().map(|(at, case)| CaseResult {
        name: case.name.to_owned(),
        title: case.title.clone(),
        command: command(case, section.duration, saturation),
        rounds: kept.iter().map(|round| round.measurements[at].clone()).collect(),
    });
    SectionResult {
        name: section.name.to_owned(),
        title: section.title.clone(),
        note: section.note.clone(),
        cases: cases.collect(),
        foreign_cores: kept.iter().map(Round::foreign_cores).collect(),
        rounds_left_out: made - kept.len(),
    }
}

/// So many of the rounds, those with the least foreign load, in the order in which they were made.
fn quietest(rounds: Vec<Round>, count: usize) -> Vec<Round> {
    let mut order: Vec<usize> = (0..rounds.len()).collect();
    order.sort_by(|one, other| rounds[*one].foreign_cores().total_cmp(&rounds[*other].foreign_cores()));
    order.truncate(count);
    rounds.into_iter().enumerate().filter(|(at, _)| order.contains(at)).map(|(_, round)| round).collect()
}

/// The saturation rate that a finished section tells: the median of its Redis case in the closed loop.
#[must_use]
pub fn saturation(sections: &[SectionResult]) -> Option<f64> {
    let section = sections.iter().find(|section| section.name == "throughput")?;
    let case = section.cases.iter().find(|case| case.name == "redis")?;
    case.spread(Quantity::CallsPerSecond).map(|spread: Spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(foreign_cores: f64) -> Round {
        Round { measurements: vec![Measurement { foreign_cores, seconds: 1.0, ..Measurement::default() }] }
    }

    #[test]
    fn the_quietest_rounds_count_in_their_order() {
        let kept = quietest(vec![round(0.3), round(0.0), round(0.9), round(0.1)], 2);
        assert_eq!(kept.iter().map(Round::foreign_cores).collect::<Vec<_>>(), [0.0, 0.1]);
    }

    #[test]
    fn a_round_is_as_noisy_as_its_measurements_are_on_average() {
        let long = Measurement { foreign_cores: 0.1, seconds: 3.0, ..Measurement::default() };
        let short = Measurement { foreign_cores: 0.5, seconds: 1.0, ..Measurement::default() };
        assert!((Round { measurements: vec![long, short] }.foreign_cores() - 0.2).abs() < 1e-9);
        assert_eq!(Round { measurements: Vec::new() }.foreign_cores(), 0.0);
    }

    #[test]
    fn what_is_left_is_in_time_only_at_the_pace_so_far() {
        let seconds = Duration::from_secs;
        let mut schedule = Schedule::new([seconds(100), seconds(200)], seconds(400));
        assert_eq!(schedule.left(Duration::ZERO), seconds(300));
        schedule.begin_part();
        assert_eq!(schedule.left(seconds(50)), seconds(250));
        assert!(schedule.is_in_time(seconds(50)));
        assert!(!schedule.is_in_time(seconds(250)));
        assert_eq!([slowness(seconds(3), seconds(2)), slowness(seconds(1), seconds(2))], [1.5, 1.0]);
        assert_eq!(slowness(seconds(1), Duration::ZERO), 1.0);
    }
}
