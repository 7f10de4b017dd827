//! What was measured, as `--json` writes it, and what it should be.

use serde::Serialize;

use super::fairness::{Case, Fairness, Percentile};
use super::surge::{Surge, Surges};
use crate::bench::compare::table::{figure, with_spread};
use crate::bench::statistics::Spread;
use crate::bench::system::machine::Machine;

/// Everything about a run.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Where it was made.
    pub machine: Machine,
    /// What was asked for, as one would type it.
    pub command: String,
    /// Which process ran on which core.
    pub placement: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// Cores that others used meanwhile.
    pub foreign_cores: f64,
    /// Whether it was the full length.
    pub is_full: bool,
    /// Commands of the loads, but for the address.
    pub commands: Vec<String>,
    /// Hostile clients.
    pub fairness: Fairness,
    /// Overload.
    pub surges: Vec<Surges>,
    /// What it comes to.
    pub judged: Vec<Judged>,
}

/// What a run should show, and whether it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// What is measured.
    pub what: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub measured: String,
    /// Whether it is what it should be, by the median.
    pub holds: bool,
}

/// How many times slower an honest client's p99 may become.
pub const SLOWER_MAX: f64 = 2.0;

/// Lines that the server may write about one kind of hostile clients in a whole run.
pub const LINES_MAX: usize = 2;

/// Share of the peak's decisions that are still made under overload.
pub const THROUGHPUT_MIN: f64 = 0.95;

/// Share of the calls under overload that may be answered too late: the others are in time, or refused.
pub const LATE_MAX: f64 = 0.01;

/// Time after an overload in which all is normal again, in milliseconds.
pub const NORMAL_AFTER_MS_MAX: f64 = 1_000.0;

/// How many times more memory a server may hold after the last overload than after the first: it does not add up.
pub const GROWTH_MAX: f64 = 1.1;

// === impl Judged ===

impl Judged {
    /// All that a run should show.
    #[must_use]
    pub fn all(fairness: &Fairness, surges: &[Surges]) -> Vec<Judged> {
        let mut judged = Vec::new();
        for case in &fairness.cases {
            // Either may be slow by chance: alone the machine sleeps in between, beside a control it is busy.
            judged.push(slower(case, "alone", fairness.to_alone(case, Percentile::P99)));
            judged.push(slower(case, "its control", case.to_control(Percentile::P99)));
            judged.push(lines(case));
        }
        for store in surges {
            for (name, rounds) in store.overloads() {
                let title = format!("{}, {name}", store.store.title());
                judged.extend(overload(&title, store, rounds));
            }
        }
        judged
    }
}

fn slower(case: &Case, than: &str, ratio: Option<Spread>) -> Judged {
    Judged {
        what: format!("p99 of honest clients beside {} ÷ {than}", case.title()),
        wanted: format!("≤ {}", figure(SLOWER_MAX)),
        measured: with_spread(ratio),
        holds: ratio.is_some_and(|ratio| ratio.median <= SLOWER_MAX),
    }
}

fn lines(case: &Case) -> Judged {
    let written: usize = case.rounds.iter().map(|round| round.lines).sum();
    Judged {
        what: format!("lines written about {}, in all rounds", case.title()),
        wanted: format!("≤ {LINES_MAX}"),
        measured: written.to_string(),
        holds: !case.rounds.is_empty() && written <= LINES_MAX,
    }
}

fn overload(title: &str, store: &Surges, rounds: &[Surge]) -> [Judged; 4] {
    let throughput = store.to_peak(rounds);
    let late = Spread::of(rounds.iter().map(|surge| surge.load.late()));
    // Not at all is longer than was looked.
    let normal = Spread::of(
        rounds.iter().map(|surge| surge.recovery.normal_after_ms.unwrap_or(surge.recovery.looked_ms.max(1_000.1))),
    );
    let after = |surge: Option<&Surge>| surge.map(|surge| surge.memory.after as f64);
    let growth = Spread::of_ratios([after(rounds.last())], [after(rounds.first())]);
    let judged = |what: &str, wanted: String, measured: Option<Spread>, holds: &dyn Fn(f64) -> bool| Judged {
        what: format!("{title}: {what}"),
        wanted,
        measured: with_spread(measured),
        holds: measured.is_some_and(|measured| holds(measured.median)),
    };
    [
        judged("decisions a second ÷ peak", format!("≥ {}", figure(THROUGHPUT_MIN)), throughput, &|ratio| {
            ratio >= THROUGHPUT_MIN
        }),
        judged(
            "share of the calls sent that was answered too late",
            format!("≤ {}", figure(LATE_MAX)),
            late,
            &|late| late <= LATE_MAX,
        ),
        judged("normal again after, ms", format!("≤ {}", figure(NORMAL_AFTER_MS_MAX)), normal, &|millis| {
            millis <= NORMAL_AFTER_MS_MAX
        }),
        judged("memory after the last ÷ after the first", format!("≤ {}", figure(GROWTH_MAX)), growth, &|growth| {
            growth <= GROWTH_MAX
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::attack::{Deeds, Kind};
    use super::super::fairness::{Beside, Memory};
    use super::super::load::Report;
    use super::super::recovery::Recovery;
    use super::super::surge::Store;
    use super::*;
    use crate::bench::load::Latency;

    fn fairness(p99_alone: f64, p99_beside: f64, lines: usize) -> Fairness {
        let report = |p99| Report { latency_us: Latency { p99, ..Latency::default() }, ..Report::default() };
        let round = Beside {
            honest: report(p99_beside),
            control: report(p99_alone),
            memory: Memory::default(),
            lines,
            deeds: Deeds::default(),
            seconds: 2.0,
            server_cores: 1.0,
            attacker_cores: 1.0,
        };
        let case = Case { kind: Kind::Resets, connections: 4, rounds: vec![round; 2] };
        Fairness { alone: vec![report(p99_alone); 2], cases: vec![case] }
    }

    fn holds(judged: &[Judged]) -> Vec<bool> {
        judged.iter().map(|judged| judged.holds).collect()
    }

    #[test]
    fn a_slow_honest_client_and_a_flooded_log_are_told() {
        assert_eq!(holds(&Judged::all(&fairness(100.0, 199.0, 1), &[])), [true, true, true]);
        assert_eq!(holds(&Judged::all(&fairness(100.0, 201.0, 2), &[])), [false, false, false]);
        let nothing = Fairness { alone: Vec::new(), cases: fairness(1.0, 1.0, 0).cases };
        assert_eq!(holds(&Judged::all(&nothing, &[])), [false, true, true], "what wasn't measured doesn't hold");
    }

    #[test]
    fn an_overload_is_judged_by_throughput_lateness_recovery_and_memory() {
        let surge = |calls_per_second, missed_deadline, normal_after_ms, after| Surge {
            load: Report {
                calls_per_second,
                sent: 1_000,
                answered: 1_000,
                ok: 1_000,
                missed_deadline,
                let_through: missed_deadline,
                seconds: 1.0,
                ..Report::default()
            },
            memory: Memory { before: 1, peak: 3, after },
            recovery: Recovery { normal_after_ms, ..Recovery::default() },
            lines: 0,
            server_cores: 1.0,
        };
        let judged = |overload: [Surge; 2]| {
            let peak = vec![surge(1_000.0, 0, None, 1); 2];
            let store = Surges { store: Store::Redis, peak, closed: overload.to_vec(), open: overload.to_vec() };
            Judged::all(&Fairness::default(), &[store])
        };
        let good = judged([surge(960.0, 10, Some(0.0), 100), surge(1_100.0, 0, Some(400.0), 110)]);
        assert_eq!((good.len(), good.iter().all(|judged| judged.holds)), (8, true), "{good:?}");
        let bad = judged([surge(900.0, 30, None, 100), surge(900.0, 20, Some(2_000.0), 150)]);
        assert!(bad.iter().all(|judged| !judged.holds), "{bad:?}");
    }
}
