//! What a comparison runs: sections of cases, as data.
//!
//! A section's cases run one after the other, again and again (A B C A B C), so that whatever the machine does
//! meanwhile meets all of them. Every section has its own baseline: a ratio never compares two times of day.

use std::time::Duration;

use super::rules_file::Rules;
use crate::bench::script::Effort;

/// How long and how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Rounds of each section.
    pub rounds: usize,
    /// Load before each measurement that isn't counted.
    pub warm_up: Duration,
    /// Measured load of a case in a round.
    pub duration: Duration,
    /// The long run at 10,000 calls a second, of each server, all its turns together.
    pub long_run: Duration,
    /// Keys where there are many.
    pub keys: usize,
    /// Rules where there are many.
    pub rules: usize,
    /// Counters in the memory store when each is hit once.
    pub counters_once: usize,
    /// The most counters in the memory store when each is hit in every tick.
    pub counters_full: usize,
    /// A tick's length for those.
    pub tick: Duration,
    /// The script's part.
    pub script: Effort,
    /// No round is repeated for noise when the whole would take longer than this.
    pub time_max: Duration,
}

/// Cases that are compared with each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// As `--only` names it.
    pub name: &'static str,
    /// Its heading.
    pub title: String,
    /// What its rows mean.
    pub note: String,
    /// The baseline first, where there is one.
    pub cases: Vec<Case>,
    /// How often each is run.
    pub rounds: usize,
    /// Measured load of each in a round.
    pub duration: Duration,
}

/// One server under one load.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Unique in its section.
    pub name: &'static str,
    /// As tables write it.
    pub title: String,
    /// What answers.
    pub server: Server,
    /// What it is asked.
    pub load: Load,
}

/// What answers the calls. Equal ones of a section are one and the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// The bare tonic server.
    Baseline,
    /// Tidegate with counters in memory.
    Memory {
        /// Its rules.
        rules: Rules,
        /// Worker threads; more than one use both cores.
        runtimes: usize,
    },
    /// Tidegate with counters in a Redis of its own.
    Redis {
        /// Processes that share it.
        replicas: usize,
    },
    /// The server that `--target` names.
    Other,
}

/// What a server is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Descriptors of a call.
    pub descriptors: usize,
    /// The key of their entries, which chooses the rule.
    pub key: &'static str,
    /// The values: `hot` or `uniform:COUNT`.
    pub keys: String,
    /// Counters that are made before the first round, the numbers from 0.
    pub existing: usize,
    /// When calls are sent.
    pub pace: Pace,
}

/// When calls are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// 256 calls under way, 64 on each of 4 connections.
    Closed,
    /// Poisson arrivals at this share of the rate that Tidegate over Redis reaches in a closed loop, one descriptor.
    Share(f64),
    /// Poisson arrivals, so many calls a second.
    Rate(f64),
}

/// Sections that are no loads, with what they are about, in the order in which they follow the others.
pub const OTHER_SECTIONS: [(&str, &str); 2] =
    [("bytes", "memory per counter"), ("script", "CPU of Redis per decision")];

/// Time that a measurement takes besides its load: a process that starts, and two looks at `/proc`.
const OVERHEAD: Duration = Duration::from_millis(120);

/// Calls a second of the comparison at a fixed rate.
pub const FIXED_RATE: f64 = 10_000.0;

/// How often the long run changes from one server to the other.
pub const LONG_RUN_TURNS: usize = 4;

// === impl Scale ===

impl Scale {
    /// All of it, in under ten minutes.
    #[must_use]
    pub fn full() -> Scale {
        Scale {
            rounds: 5,
            warm_up: Duration::from_millis(300),
            duration: Duration::from_millis(1_700),
            long_run: Duration::from_secs(60),
            keys: 1_000_000,
            rules: 100_000,
            counters_once: 1_000_000,
            counters_full: 50_000,
            tick: Duration::from_millis(500),
            script: Effort { rounds: 5, keys_max: 8_192, passes: 6 },
            time_max: Duration::from_secs(570),
        }
    }

    /// The same cases in about a minute: for a look, not for a figure that one quotes.
    #[must_use]
    pub fn quick() -> Scale {
        Scale {
            rounds: 2,
            warm_up: Duration::from_millis(100),
            duration: Duration::from_millis(300),
            long_run: Duration::from_secs(5),
            keys: 100_000,
            counters_once: 100_000,
            counters_full: 10_000,
            tick: Duration::from_millis(100),
            script: Effort { rounds: 1, keys_max: 4_096, passes: 4 },
            time_max: Duration::from_secs(75),
            ..Scale::full()
        }
    }

    /// The same cases once and for a moment: whether everything works.
    #[must_use]
    pub fn smoke() -> Scale {
        Scale {
            rounds: 1,
            warm_up: Duration::from_millis(20),
            duration: Duration::from_millis(100),
            long_run: Duration::from_millis(100),
            keys: 1_000,
            rules: 1_000,
            counters_once: 2_000,
            counters_full: 200,
            tick: Duration::from_millis(30),
            script: Effort { rounds: 1, keys_max: 256, passes: 2 },
            time_max: Duration::ZERO,
        }
    }
}

// === impl Section ===

impl Section {
    /// The sections of loads, in the order in which they run. With `other`, the loads that need no rules of their own
    /// are run against the server that `--target` names as well.
    #[must_use]
    pub fn all(scale: &Scale, other: bool) -> Vec<Section> {
        let mut sections = closed_loop(scale);
        sections.extend(open_loop(scale));
        if other {
            for section in &mut sections {
                section.add_other();
            }
        }
        sections
    }

    /// Time that one round takes.
    #[must_use]
    pub fn round_time(&self, scale: &Scale) -> Duration {
        (scale.warm_up + self.duration + OVERHEAD) * self.cases.len() as u32
    }

    /// Time that all of it takes, the servers' starts and what they are given beforehand included.
    #[must_use]
    pub fn time(&self, scale: &Scale) -> Duration {
        let existing: usize = self.cases.iter().map(|case| case.load.existing).sum();
        let rules =
            self.cases.iter().any(|case| matches!(&case.server, Server::Memory { rules, .. } if rules.count > 10));
        let start = Duration::from_millis(300) * self.cases.len() as u32 + Duration::from_secs(u64::from(rules));
        // 100 counters in about a millisecond.
        self.round_time(scale) * self.rounds as u32 + start + Duration::from_micros(existing as u64 * 10)
    }

    fn add_other(&mut self) {
        let asked = self.cases.iter().filter(|case| matches!(case.server, Server::Redis { replicas: 1 }));
        let more: Vec<Case> = asked.map(Case::for_other).collect();
        self.cases.extend(more);
    }
}

// === impl Case ===

impl Case {
    /// The same load for the server that `--target` names.
    fn for_other(&self) -> Case {
        let name = match self.name {
            "redis-hot" => "target-hot",
            "redis-many" => "target-many",
            _ => "target",
        };
        let title = self.title.replace("Redis", "the other server");
        Case { name, title, server: Server::Other, load: Load { existing: 0, ..self.load.clone() } }
    }
}

fn closed_loop(scale: &Scale) -> Vec<Section> {
    let load = Load { descriptors: 1, key: "key", keys: "uniform:10000".to_owned(), existing: 0, pace: Pace::Closed };
    let four = Load { descriptors: 4, ..load.clone() };
    let hot = Load { key: "hourly", keys: "hot".to_owned(), ..load.clone() };
    let many = Load { keys: format!("uniform:{}", scale.keys), existing: scale.keys, ..hot.clone() };
    let by_rules = Load { key: "key2", keys: format!("uniform:{}", scale.rules), ..load.clone() };
    let all_rules = Load { key: "key", ..by_rules.clone() };

    let few = Rules::few();
    let memory = || Server::Memory { rules: few, runtimes: 1 };
    let with_rules = |count| Server::Memory { rules: Rules { count, digits: Rules::digits(scale.rules) }, runtimes: 1 };
    let redis = || Server::Redis { replicas: 1 };
    let (keys, rules) = (grouped(scale.keys), grouped(scale.rules));
    vec![
        Section {
            name: "throughput",
            title: "One descriptor, closed loop".to_owned(),
            note: "4 connections with 64 calls under way on each, 10,000 keys, a limit per minute that is never \
                   reached. Three replicas share the core of the one, and a Redis; two runtimes have both cores, one \
                   of them with the generator."
                .to_owned(),
            cases: vec![
                case("baseline", "baseline", Server::Baseline, &load),
                case("memory", "memory", memory(), &load),
                case("redis", "Redis", redis(), &load),
                case("redis-3-replicas", "Redis, 3 replicas", Server::Redis { replicas: 3 }, &load),
                case("memory-2-runtimes", "memory, 2 runtimes", Server::Memory { rules: few, runtimes: 2 }, &load),
            ],
            rounds: scale.rounds,
            duration: scale.duration,
        },
        Section {
            name: "descriptors",
            title: "Four descriptors, closed loop".to_owned(),
            note: "As above with four descriptors in every call, each with a rule and a key of its own: four counters \
                   are charged as one, all or none."
                .to_owned(),
            cases: vec![
                case("baseline", "baseline", Server::Baseline, &four),
                case("memory", "memory", memory(), &four),
                case("redis", "Redis", redis(), &four),
            ],
            rounds: scale.rounds,
            duration: scale.duration,
        },
        Section {
            name: "keys",
            title: format!("One key and {keys} keys, closed loop"),
            note: "One descriptor. Either every call asks about the same key, or each of many equally often; all of \
                   those counters exist before the first round. The limit is per hour."
                .to_owned(),
            cases: vec![
                case("baseline", "baseline", Server::Baseline, &hot),
                case("memory-hot", "memory, one key", memory(), &hot),
                case("memory-many", &format!("memory, {keys} keys"), memory(), &many),
                case("redis-hot", "Redis, one key", redis(), &hot),
                case("redis-many", &format!("Redis, {keys} keys"), redis(), &many),
            ],
            rounds: scale.rounds,
            duration: scale.duration,
        },
        Section {
            name: "rules",
            title: format!("10 to {rules} rules, closed loop"),
            note: format!(
                "One descriptor, memory, {rules} keys. The traffic meets one rule among so many; in the last row every \
                 call meets another one, each with its own counter and its own metrics."
            ),
            cases: vec![
                case("baseline", "baseline", Server::Baseline, &by_rules),
                case("rules-10", "10 rules", with_rules(10), &by_rules),
                case("rules-1000", "1,000 rules", with_rules(1_000.min(scale.rules)), &by_rules),
                case("rules-many", &format!("{rules} rules"), with_rules(scale.rules), &by_rules),
                case("rules-many-met", &format!("{rules} rules, all met"), with_rules(scale.rules), &all_rules),
            ],
            rounds: scale.rounds,
            duration: scale.duration,
        },
    ]
}

fn open_loop(scale: &Scale) -> Vec<Section> {
    let load = |pace| Load { descriptors: 1, key: "key", keys: "uniform:10000".to_owned(), existing: 0, pace };
    let section = |name, title: &str, note: &str, pace| Section {
        name,
        title: title.to_owned(),
        note: note.to_owned(),
        cases: vec![
            case("baseline", "baseline", Server::Baseline, &load(pace)),
            case("memory", "memory", Server::Memory { rules: Rules::few(), runtimes: 1 }, &load(pace)),
            case("redis", "Redis", Server::Redis { replicas: 1 }, &load(pace)),
        ],
        rounds: scale.rounds,
        duration: scale.duration,
    };
    let fixed = load(Pace::Rate(FIXED_RATE));
    vec![
        section(
            "quarter",
            "Open loop at a quarter of the saturation rate",
            "Poisson arrivals at a quarter of what Tidegate over Redis reached in the closed loop of this run, the \
             same for all. A call's time counts from the instant at which it was due.",
            Pace::Share(0.25),
        ),
        section("half", "Open loop at half of the saturation rate", "As above at half of that rate.", Pace::Share(0.5)),
        section(
            "fixed",
            "Open loop at 10,000 calls a second",
            "As above, at a rate that doesn't depend on the machine.",
            Pace::Rate(FIXED_RATE),
        ),
        Section {
            name: "deadline",
            title: format!("Open loop at 10,000 calls a second for {} s", scale.long_run.as_secs_f64()),
            note:
                "Each for that long, in turns: how many calls were not answered within 20 ms, which Envoy would have \
                 let through. What the bare server misses, the machine did."
                    .to_owned(),
            cases: vec![
                case("baseline", "baseline", Server::Baseline, &fixed),
                case("redis", "Redis", Server::Redis { replicas: 1 }, &fixed),
            ],
            rounds: LONG_RUN_TURNS,
            duration: scale.long_run / LONG_RUN_TURNS as u32,
        },
    ]
}

fn case(name: &'static str, title: &str, server: Server, load: &Load) -> Case {
    // Only the server that is asked about many keys has them beforehand.
    let existing = if server == Server::Baseline { 0 } else { load.existing };
    Case { name, title: title.to_owned(), server, load: Load { existing, ..load.clone() } }
}

/// A whole number with commas between thousands.
#[must_use]
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn time(scale: &Scale) -> Duration {
        let sections: Duration = Section::all(scale, false).iter().map(|section| section.time(scale)).sum();
        sections + scale.script.time() + crate::bench::compare::bytes::time(scale)
    }

    #[test]
    fn a_full_run_leaves_time_for_repeated_rounds_and_a_quick_one_takes_a_minute() {
        assert!(time(&Scale::full()) < Duration::from_secs(520), "{:?}", time(&Scale::full()));
        assert!(time(&Scale::quick()) < Duration::from_secs(70), "{:?}", time(&Scale::quick()));
    }

    #[test]
    fn names_are_unique_and_ratios_have_a_baseline() {
        for section in Section::all(&Scale::full(), true) {
            let names: BTreeSet<&str> = section.cases.iter().map(|case| case.name).collect();
            assert_eq!(names.len(), section.cases.len(), "{}", section.name);
            assert_eq!(section.cases[0].server, Server::Baseline, "{}", section.name);
        }
    }

    #[test]
    fn another_server_meets_every_load_that_needs_no_rules_of_its_own() {
        let others = |section: &Section| section.cases.iter().filter(|case| case.server == Server::Other).count();
        let counts: Vec<(&str, usize)> =
            Section::all(&Scale::full(), true).iter().map(|section| (section.name, others(section))).collect();
        let expected = [
            ("throughput", 1),
            ("descriptors", 1),
            ("keys", 2),
            ("rules", 0),
            ("quarter", 1),
            ("half", 1),
            ("fixed", 1),
            ("deadline", 1),
        ];
        assert_eq!(counts, expected);
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!([7, 1_000, 100_000, 1_234_567].map(grouped), ["7", "1,000", "100,000", "1,234,567"]);
    }
}
