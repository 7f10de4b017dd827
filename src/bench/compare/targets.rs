//! What Tidegate wants to reach, in one table, and whether it was.
//!
//! Almost all targets are ratios to something that was measured in the same run: they mean the same on any machine. The
//! median over the rounds is judged. `--check` is coarser: it fails only beyond `fails_at`, which is so far off that
//! noise doesn't get there and a change that makes the request path dearer does.

use std::fmt;

use serde::Serialize;

use super::bytes::{Fill, Store};
use super::plan::LONG_RUN_TURNS;
use super::results::{Quantity, Results};
use crate::bench::script::State;
use crate::bench::statistics::Spread;

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What is looked at.
    pub what: &'static str,
    /// Where the figure comes from.
    pub source: Source,
    /// What must be reached.
    pub reach: Bound,
    /// What is aimed at then; nothing where it is only "less".
    pub aim: Option<f64>,
    /// What `--check` doesn't let pass.
    pub fails_at: f64,
}

/// Where a figure comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A quantity of one case, divided by that of another in the same round.
    Ratio {
        /// The section of both.
        section: &'static str,
        /// The case.
        case: &'static str,
        /// What it is divided by.
        to: &'static str,
        /// What is looked at.
        of: Quantity,
    },
    /// A quantity of one case of the long run, summed over its turns; nothing unless there were all of them.
    Total {
        /// Its section.
        section: &'static str,
        /// The case.
        case: &'static str,
        /// What is looked at.
        of: Quantity,
    },
    /// Redis's CPU for a decision of a full call, divided by that for `INCRBY` and `EXPIRE`.
    Script(State),
    /// Bytes of one counter.
    Bytes(Store, Fill),
}

/// On which side of a figure one wants to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

/// A target and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// What is looked at.
    pub what: String,
    /// What must be reached, as text.
    pub reach: String,
    /// What is aimed at then, as text.
    pub aim: String,
    /// The figure; nothing where it wasn't measured.
    pub measured: Option<Spread>,
    /// How it stands.
    pub standing: Standing,
    /// Where `--check` fails, as text.
    pub fails_at: String,
    /// Whether `--check` fails for it.
    pub fails: bool,
}

/// How a figure stands to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Also what is aimed at after it.
    Aimed,
    /// Reached.
    Reached,
    /// Not reached.
    Missed,
    /// Not measured.
    Unknown,
}

const fn calls(section: &'static str, case: &'static str, to: &'static str) -> Source {
    Source::Ratio { section, case, to, of: Quantity::CallsPerSecond }
}

/// All targets. Here and nowhere else.
pub const TARGETS: [Target; 17] = [
    Target {
        what: "memory, 1 descriptor: calls a second ÷ baseline",
        source: calls("throughput", "memory", "baseline"),
        reach: Bound::AtLeast(1.05),
        aim: Some(1.6),
        fails_at: 0.80,
    },
    Target {
        what: "memory, 4 descriptors: calls a second ÷ baseline",
        source: calls("descriptors", "memory", "baseline"),
        reach: Bound::AtLeast(0.95),
        aim: Some(1.2),
        fails_at: 0.70,
    },
    Target {
        what: "Redis, 1 descriptor: calls a second ÷ baseline",
        source: calls("throughput", "redis", "baseline"),
        reach: Bound::AtLeast(0.70),
        aim: Some(0.85),
        fails_at: 0.50,
    },
    Target {
        what: "Redis, 4 descriptors: calls a second ÷ baseline",
        source: calls("descriptors", "redis", "baseline"),
        reach: Bound::AtLeast(0.28),
        aim: Some(0.40),
        fails_at: 0.20,
    },
    Target {
        what: "server CPU per Redis decision ÷ baseline",
        source: Source::Ratio { section: "throughput", case: "redis", to: "baseline", of: Quantity::ServerCpu },
        reach: Bound::AtMost(1.10),
        aim: Some(0.9),
        fails_at: 1.50,
    },
    Target {
        what: "Redis CPU per decision, full calls, same tick ÷ INCRBY + EXPIRE",
        source: Source::Script(State::SameTick),
        reach: Bound::AtMost(2.6),
        aim: Some(2.0),
        fails_at: 4.0,
    },
    Target {
        what: "Redis CPU per decision, full calls, new tick at every hit ÷ INCRBY + EXPIRE",
        source: Source::Script(State::NewTick),
        reach: Bound::AtMost(2.6),
        aim: Some(2.0),
        fails_at: 5.0,
    },
    Target {
        what: "Redis CPU per decision, full calls, refused ÷ INCRBY + EXPIRE",
        source: Source::Script(State::Refused),
        reach: Bound::AtMost(2.6),
        aim: Some(2.0),
        fails_at: 4.0,
    },
    Target {
        what: "10,000 calls a second, Redis: p50 ÷ baseline",
        source: Source::Ratio { section: "fixed", case: "redis", to: "baseline", of: Quantity::P50 },
        reach: Bound::AtMost(2.0),
        aim: Some(1.5),
        fails_at: 4.0,
    },
    Target {
        what: "10,000 calls a second, Redis, the long run: calls that missed 20 ms",
        source: Source::Total { section: "deadline", case: "redis", of: Quantity::Missed },
        reach: Bound::AtMost(0.0),
        aim: Some(0.0),
        fails_at: 6_000.0,
    },
    Target {
        what: "many rules ÷ 10, traffic on one of them: calls a second",
        source: calls("rules", "rules-many", "rules-10"),
        reach: Bound::AtLeast(0.95),
        aim: Some(1.0),
        fails_at: 0.70,
    },
    Target {
        what: "many rules ÷ 10, traffic on all of them: calls a second",
        source: calls("rules", "rules-many-met", "rules-10"),
        reach: Bound::AtLeast(0.95),
        aim: Some(1.0),
        fails_at: 0.60,
    },
    Target {
        what: "2 runtimes ÷ 1: calls per second of server CPU",
        source: Source::Ratio {
            section: "throughput",
            case: "memory-2-runtimes",
            to: "memory",
            of: Quantity::CallsPerServerCpu,
        },
        reach: Bound::AtLeast(0.95),
        aim: Some(1.0),
        fails_at: 0.65,
    },
    Target {
        what: "bytes of memory per counter, hit once",
        source: Source::Bytes(Store::Memory, Fill::Once),
        reach: Bound::AtMost(120.0),
        aim: None,
        fails_at: 160.0,
    },
    Target {
        what: "bytes of memory per counter, full",
        source: Source::Bytes(Store::Memory, Fill::Full),
        reach: Bound::AtMost(320.0),
        aim: None,
        fails_at: 420.0,
    },
    Target {
        what: "bytes in Redis per counter, hit once",
        source: Source::Bytes(Store::Redis, Fill::Once),
        reach: Bound::AtMost(130.0),
        aim: None,
        fails_at: 160.0,
    },
    Target {
        what: "bytes in Redis per counter, full",
        source: Source::Bytes(Store::Redis, Fill::Full),
        reach: Bound::AtMost(320.0),
        aim: None,
        fails_at: 380.0,
    },
];

// === impl Target ===

impl Target {
    /// What the results say of it.
    #[must_use]
    pub fn judge(&self, results: &Results) -> Judged {
        let measured = self.source.figure(results);
        let standing = measured.map_or(Standing::Unknown, |figure| {
            if !self.reach.holds(figure.median) {
                Standing::Missed
            } else if self.aim.is_some_and(|aim| self.reach.at(aim).holds(figure.median)) {
                Standing::Aimed
            } else {
                Standing::Reached
            }
        });
        let limit = self.reach.at(self.fails_at);
        Judged {
            what: self.what.to_owned(),
            reach: self.reach.to_string(),
            aim: self.aim.map_or_else(|| "less".to_owned(), |aim| self.reach.at(aim).to_string()),
            measured,
            standing,
            fails_at: limit.other_side(),
            fails: measured.is_some_and(|figure| !limit.holds(figure.median)),
        }
    }
}

// === impl Source ===

impl Source {
    fn figure(&self, results: &Results) -> Option<Spread> {
        match *self {
            Source::Ratio { section, case, to, of } => {
                results.case(section, case)?.ratio_to(results.case(section, to)?, of)
            }
            Source::Total { section, case, of } => {
                let case = results.case(section, case).filter(|case| case.rounds.len() == LONG_RUN_TURNS);
                case?.total(of)
            }
            Source::Script(state) => {
                let of_state = results.script.iter().filter(|cost| cost.state == state);
                of_state.max_by_key(|cost| cost.per_call)?.ratio()
            }
            Source::Bytes(store, fill) => {
                let found = results.bytes.iter().find(|bytes| bytes.store == store && bytes.fill == fill)?;
                Spread::of([found.bytes_per_counter])
            }
        }
    }
}

// === impl Bound ===

impl Bound {
    /// Whether a figure is on the right side.
    #[must_use]
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Bound::AtLeast(least) => figure >= least,
            Bound::AtMost(most) => figure <= most,
        }
    }

    /// The same side of another number.
    #[must_use]
    pub fn at(self, number: f64) -> Bound {
        match self {
            Bound::AtLeast(_) => Bound::AtLeast(number),
            Bound::AtMost(_) => Bound::AtMost(number),
        }
    }

    /// The figures on the wrong side, as text.
    fn other_side(self) -> String {
        match self {
            Bound::AtLeast(number) => format!("< {number}"),
            Bound::AtMost(number) => format!("> {number}"),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtLeast(number) => write!(f, "≥ {number}"),
            Bound::AtMost(number) => write!(f, "≤ {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::compare::report::tests::results;

    fn standing(reach: Bound, aim: f64, fails_at: f64, calls_per_second: f64) -> (Standing, bool) {
        let mut results = results();
        results.sections[0].cases[1].rounds.iter_mut().for_each(|round| round.load.calls_per_second = calls_per_second);
        results.sections[0].cases[0].rounds.iter_mut().for_each(|round| round.load.calls_per_second = 100.0);
        let source = calls("throughput", "memory", "baseline");
        let judged = Target { what: "", source, reach, aim: Some(aim), fails_at }.judge(&results);
        (judged.standing, judged.fails)
    }

    #[test]
    fn a_figure_is_aimed_reached_missed_or_so_far_off_that_the_check_fails() {
        let at_least = |figure| standing(Bound::AtLeast(1.0), 1.5, 0.5, figure);
        assert_eq!(at_least(150.0), (Standing::Aimed, false));
        assert_eq!(at_least(100.0), (Standing::Reached, false));
        assert_eq!(at_least(99.0), (Standing::Missed, false));
        assert_eq!(at_least(49.0), (Standing::Missed, true));
        let at_most = |figure| standing(Bound::AtMost(1.0), 0.5, 2.0, figure);
        assert_eq!(at_most(50.0), (Standing::Aimed, false));
        assert_eq!(at_most(101.0), (Standing::Missed, false));
        assert_eq!(at_most(201.0), (Standing::Missed, true));
    }

    #[test]
    fn what_was_not_measured_is_neither_reached_nor_failed() {
        let mut results = results();
        results.sections.clear();
        results.script.clear();
        results.bytes.clear();
        for target in TARGETS {
            let judged = target.judge(&results);
            assert_eq!((judged.standing, judged.fails), (Standing::Unknown, false), "{}", target.what);
        }
    }

    #[test]
    fn every_target_is_about_a_case_that_is_run_and_the_check_is_coarser_than_it() {
        use crate::bench::compare::plan::{Scale, Section};
        let sections = Section::all(&Scale::full(), false);
        let is_run = |section: &str, case: &str| {
            let section = sections.iter().find(|known| known.name == section);
            section.is_some_and(|section| section.cases.iter().any(|known| known.name == case))
        };
        for Target { what, source, reach, aim, fails_at } in TARGETS {
            match source {
                Source::Ratio { section, case, to, .. } => {
                    assert!(is_run(section, case) && is_run(section, to), "{what}")
                }
                Source::Total { section, case, .. } => assert!(is_run(section, case), "{what}"),
                Source::Script(_) | Source::Bytes(_, _) => {}
            }
            assert!(
                aim.is_none_or(|aim| reach.holds(aim)),
                "{what}: what is aimed at is no less than what must be reached"
            );
            let (Bound::AtLeast(number) | Bound::AtMost(number)) = reach;
            assert!(reach.at(fails_at).holds(number), "{what}: the check fails later than the target");
        }
    }
}
