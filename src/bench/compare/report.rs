//! The report: the same Markdown on the terminal and in the file, from the results alone.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::bytes::{Fill, Store};
use super::plan::grouped;
use super::results::{CaseResult, Quantity, Results, SectionResult};
use super::rounds::FOREIGN_CORES_MAX;
use super::servers::SETTINGS;
use super::surroundings::Surroundings;
use super::table::{Table, figure, median, with_spread};
use super::targets::Standing;
use crate::bench::script::Cost;
use crate::bench::statistics::Spread;

/// What every reader of the file should know first.
const HEADER: &str = "\
# Benchmarks

How Tidegate compares with a bare gRPC server in the same run. `make bench` writes this file anew, in about ten minutes
and on any Linux machine with redis-server and two cores; so what stands here can be checked, and held against your own.

**Read the ratios.** Calls a second and microseconds belong to one machine and one afternoon. The *baseline* is
`tidegate-bench noop`: tonic's own server with the generated rate limit service, which answers OK without looking at the
request. Every figure is also given as a ratio to the baseline of the same round.

**How it is measured.** The server has one core, the load generator and Redis share another. The cases of a section
run in turn, round after round (A B C A B C), so that whatever else the machine does meets all of them. A ratio is
taken within a round; what is printed is the median over the rounds, and the lowest and highest in brackets. CPU times
are those of the processes, from `/proc/<pid>/task/*/schedstat`. Every section starts its servers anew.
";

/// How one repeats it, and how one adds a server.
const REPEAT: &str = "\
## Repeating it

```sh
make bench                                                    # everything, and this file
target/release/tidegate-bench compare --quick                 # a look, in a minute
target/release/tidegate-bench compare --only throughput       # one section: the names are in brackets below
target/release/tidegate-bench compare --target localhost:8081 # with a server of yours beside the others
target/release/tidegate-bench compare --check                 # exit code 1 when a target is missed by far
target/release/tidegate-bench script                          # Redis's part alone
```

The server behind `--target` runs wherever you started it: give it the core that the others have (`taskset -c 0 …`),
and rules for the domain `bench` with limits that are never reached: any value of `key`, `key2`, `key3` and `key4` per
minute, any value of `hourly` per hour. It meets every load that Tidegate over Redis meets.
";

/// The whole report.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut text = HEADER.to_owned();
    let surroundings = surroundings(results);
    text.push_str(&surroundings.warnings());
    push(&mut text, "## Targets", &targets(results));
    push(&mut text, "## Where and what", &surroundings.markdown([]));
    text.push('\n');
    text.push_str(REPEAT);
    for section in &results.sections {
        push(&mut text, &format!("## {} (`{}`)", section.title, section.name), &section_text(section));
    }
    if !results.bytes.is_empty() {
        push(&mut text, "## Memory per counter (`bytes`)", &bytes(results));
    }
    if !results.script.is_empty() {
        push(&mut text, "## CPU of Redis per decision (`script`)", &script(results));
    }
    text
}

/// What is printed at the end of a run: the tables, without what is the same every time.
#[must_use]
pub fn summary(results: &Results) -> String {
    let mut text = String::new();
    for section in &results.sections {
        push(&mut text, &section.title, &section_table(section));
    }
    if !results.bytes.is_empty() {
        push(&mut text, "Memory per counter", &bytes_table(results));
    }
    if !results.script.is_empty() {
        push(&mut text, "CPU of Redis per decision", &script_table(&results.script));
    }
    push(&mut text, "Targets", &targets(results));
    text
}

/// Adds a part of a report below its heading.
pub(in crate::bench) fn push(text: &mut String, heading: &str, body: &str) {
    write!(text, "\n{heading}\n\n{body}").expect("a String takes all text");
}

// === targets ===

fn targets(results: &Results) -> String {
    let mut table = Table::new(&["what", "target", "measured", "reached", "aimed at", "check fails"]);
    for judged in &results.targets {
        let reached = match judged.standing {
            Standing::Aimed => "yes, and the aim",
            Standing::Reached => "yes",
            Standing::Missed => "no",
            Standing::Unknown => "not measured",
        };
        let fails_at = if judged.fails { format!("**{}**", judged.fails_at) } else { judged.fails_at.clone() };
        let cells = [&judged.what, &judged.reach, &with_spread(judged.measured), reached, &judged.aim, &fails_at];
        table.row(cells.map(str::to_owned));
    }
    table.markdown()
}

fn surroundings(results: &Results) -> Surroundings<'_> {
    let Results { machine, command, placement, seconds, is_full, .. } = results;
    Surroundings { machine, command, placement, seconds: *seconds, is_full: *is_full, settings: &SETTINGS }
}

// === sections ===

fn section_text(section: &SectionResult) -> String {
    let mut text = format!("{}\n\n{}", section.note, section_table(section));
    let foreign = Spread::of(section.foreign_cores.iter().copied());
    if let Some(foreign) = foreign {
        let loud = section.foreign_cores.iter().filter(|cores| **cores > FOREIGN_CORES_MAX).count();
        let rounds = section.foreign_cores.len();
        let plural = if rounds == 1 { "" } else { "s" };
        write!(text, "\n{rounds} round{plural}; other processes used {} cores meanwhile", with_spread(Some(foreign)))
            .expect("a String takes all text");
        if section.rounds_left_out > 0 {
            write!(text, "; {} left out, because they used more then", section.rounds_left_out)
                .expect("a String takes all text");
        }
        if loud > 0 {
            write!(
                text,
                ". **In {loud} of the rounds that was more than {FOREIGN_CORES_MAX}**: repeat it on a quieter machine"
            )
            .expect("a String takes all text");
        }
        text.push_str(".\n");
    }
    for case in section.cases.iter().filter(|case| case.failures() > 0) {
        write!(text, "\n**{}: {} calls had no answer or an error.**\n", case.title, case.failures())
            .expect("a String takes all text");
    }
    let commands: BTreeSet<&str> = section.cases.iter().map(|case| case.command.as_str()).collect();
    write!(text, "\n```sh\n{}\n```\n", commands.into_iter().collect::<Vec<_>>().join("\n"))
        .expect("a String takes all text");
    text
}

fn section_table(section: &SectionResult) -> String {
    let is_open = section.cases.iter().any(|case| case.command.contains("--rate"));
    let baseline = section.cases.iter().find(|case| case.name == "baseline");
    if is_open { open_table(section, baseline) } else { closed_table(section, baseline) }
}

fn closed_table(section: &SectionResult, baseline: Option<&CaseResult>) -> String {
    let mut table = Table::new(&[
        "case",
        "calls/s",
        "÷ baseline",
        "server µs",
        "÷ baseline",
        "Redis µs",
        "calls/script",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "generator",
    ]);
    for case in &section.cases {
        let of = |quantity| median(case.spread(quantity));
        let ratio = |quantity| with_spread(baseline.and_then(|baseline| case.ratio_to(baseline, quantity)));
        let generator = case.spread(Quantity::GeneratorCpu);
        table.row([
            case.title.clone(),
            of(Quantity::CallsPerSecond),
            ratio(Quantity::CallsPerSecond),
            of(Quantity::ServerCpu),
            ratio(Quantity::ServerCpu),
            of(Quantity::RedisCpu),
            of(Quantity::CallsPerScript),
            of(Quantity::P50),
            of(Quantity::P99),
            of(Quantity::P999),
            generator.map_or_else(String::new, |share| format!("{:.0} %", share.median * 100.0)),
        ]);
    }
    table.without_empty_columns().markdown()
}

fn open_table(section: &SectionResult, baseline: Option<&CaseResult>) -> String {
    let mut table = Table::new(&[
        "case",
        "calls/s",
        "p50 µs",
        "÷ baseline",
        "p99 µs",
        "÷ baseline",
        "p99.9 µs",
        "÷ baseline",
        "p99.99 µs",
        "missed 20 ms",
        "of",
        "server µs",
        "Redis µs",
        "calls/script",
    ]);
    for case in &section.cases {
        let of = |quantity| median(case.spread(quantity));
        let ratio = |quantity| with_spread(baseline.and_then(|baseline| case.ratio_to(baseline, quantity)));
        let sum = |count: fn(&super::results::LoadReport) -> u64| {
            grouped(case.rounds.iter().map(|round| count(&round.load) as usize).sum())
        };
        table.row([
            case.title.clone(),
            of(Quantity::CallsPerSecond),
            of(Quantity::P50),
            ratio(Quantity::P50),
            of(Quantity::P99),
            ratio(Quantity::P99),
            of(Quantity::P999),
            ratio(Quantity::P999),
            of(Quantity::P9999),
            sum(|load| load.missed_deadline),
            sum(|load| load.sent),
            of(Quantity::ServerCpu),
            of(Quantity::RedisCpu),
            of(Quantity::CallsPerScript),
        ]);
    }
    table.without_empty_columns().markdown()
}

// === bytes and script ===

fn bytes(results: &Results) -> String {
    format!(
        "A sliding window with a limit of 1,000 and 64 ticks; the key has about 30 bytes. In memory it is the growth \
         of the process's resident memory divided by the counters, in Redis what `MEMORY USAGE` says.\n\n{}",
        bytes_table(results)
    )
}

fn bytes_table(results: &Results) -> String {
    let mut table = Table::new(&["counter", "bytes", "counters", "ticks of each"]);
    for found in &results.bytes {
        let store = match found.store {
            Store::Memory => "memory",
            Store::Redis => "Redis",
        };
        let fill = match found.fill {
            Fill::Once => "hit once",
            Fill::Full => "full",
        };
        table.row([
            format!("{store}, {fill}"),
            figure(found.bytes_per_counter),
            grouped(found.counters),
            figure(found.ticks),
        ]);
    }
    table.markdown()
}

fn script(results: &Results) -> String {
    format!(
        "The service's own script calls on one connection, one after the other, on full logs: the newest pair grows, \
         or at every hit the oldest pair leaves and one is added, or nothing has room. Beside it pipelines of `INCRBY` \
         and `EXPIRE` for as many keys, as a service with fixed windows sends them.\n\n{}",
        script_table(&results.script)
    )
}

/// What the script costs.
#[must_use]
pub fn script_table(costs: &[Cost]) -> String {
    let mut table = Table::new(&["decisions per call", "state", "Redis µs", "INCRBY + EXPIRE µs", "ratio"]);
    for cost in costs {
        table.row([
            cost.per_call.to_string(),
            cost.state.name().to_owned(),
            median(cost.micros()),
            median(cost.incrby_micros()),
            with_spread(cost.ratio()),
        ]);
    }
    table.markdown()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::compare::bytes::CounterBytes;
    use crate::bench::compare::results::{LoadReport, Measurement};
    use crate::bench::compare::targets::TARGETS;
    use crate::bench::load::Latency;
    use crate::bench::script::State;
    use crate::bench::system::machine::Machine;

    fn case(name: &str, calls_per_second: f64, server_us: f64, redis_us: Option<f64>) -> CaseResult {
        let round = |faster: f64| Measurement {
            load: LoadReport {
                calls_per_second: calls_per_second * faster,
                sent: 1_000,
                answered: 1_000,
                ok: 1_000,
                missed_deadline: 1,
                missed_share: 0.001,
                latency_us: Latency {
                    p50: 100.0,
                    p90: 150.0,
                    p99: 300.0,
                    p99_9: 900.0,
                    p99_99: 1_200.0,
                    max: 2_000.0,
                    mean: 120.0,
                },
                generator_cpu_share: 0.15,
                ..LoadReport::default()
            },
            server_us: Some(server_us),
            redis_us,
            calls_per_script: redis_us.map(|_| 40.0),
            foreign_cores: 0.02,
            seconds: 2.0,
        };
        let command = if name == "open" { "tidegate-bench load --rate 9" } else { "tidegate-bench load --calls 64" };
        CaseResult {
            name: if name == "open" { "redis" } else { name }.to_owned(),
            title: name.to_owned(),
            command: command.to_owned(),
            rounds: [1.0, 1.1, 0.9].map(round).to_vec(),
        }
    }

    fn section(name: &str, cases: Vec<CaseResult>, foreign_cores: Vec<f64>) -> SectionResult {
        SectionResult {
            name: name.to_owned(),
            title: format!("The section {name}"),
            note: "What its rows mean.".to_owned(),
            cases,
            foreign_cores,
            rounds_left_out: 1,
        }
    }

    /// Made-up results: a section in a closed loop, one in an open loop, and the other parts.
    pub(in crate::bench::compare) fn results() -> Results {
        let closed = vec![
            case("baseline", 40_000.0, 20.0, None),
            case("memory", 44_000.0, 18.0, None),
            case("redis", 30_000.0, 23.0, Some(9.5)),
        ];
        let bytes = |store, fill, bytes_per_counter| CounterBytes {
            store,
            fill,
            bytes_per_counter,
            counters: 1_000_000,
            ticks: if fill == Fill::Once { 1.0 } else { 64.0 },
        };
        let cost = |per_call, state, script_us: f64| Cost {
            per_call,
            state,
            script_us: vec![Some(script_us), None, Some(script_us * 1.1)],
            incrby_us: vec![1.0, 1.0, 1.0],
        };
        let mut results = Results {
            machine: Machine {
                cpu: "Example CPU".to_owned(),
                cores: 2,
                kernel: "Linux 6.1".to_owned(),
                memory_mib: 8_192,
                tidegate: "0.1.0".to_owned(),
                redis: "7.0.15".to_owned(),
                rustc: "rustc 1.90.0".to_owned(),
                optimised: true,
            },
            command: "tidegate-bench compare".to_owned(),
            placement: "server on core 0, generator and Redis on core 1".to_owned(),
            seconds: 500.0,
            is_full: true,
            sections: vec![
                section("throughput", closed, vec![0.02, 0.03, 0.2]),
                section("deadline", vec![case("open", 10_000.0, 30.0, Some(20.0))], vec![0.01]),
            ],
            bytes: vec![
                bytes(Store::Redis, Fill::Once, 96.0),
                bytes(Store::Redis, Fill::Full, 290.0),
                bytes(Store::Memory, Fill::Once, 101.5),
                bytes(Store::Memory, Fill::Full, 330.0),
            ],
            script: vec![
                cost(8, State::SameTick, 9.0),
                cost(128, State::SameTick, 1.9),
                cost(128, State::NewTick, 6.0),
                cost(128, State::Refused, 2.2),
            ],
            targets: Vec::new(),
        };
        results.targets = TARGETS.iter().map(|target| target.judge(&results)).collect();
        results
    }

    /// The rows of all tables, with one bar between cells and none around them.
    fn rows(text: &str) -> BTreeSet<String> {
        let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
        text.lines().filter(|line| line.starts_with('|')).map(cells).collect()
    }

    #[test]
    fn every_figure_stands_in_its_row_with_its_ratio_spread_and_target() {
        let text = markdown(&results());
        let rows = rows(&text);
        for row in [
            "memory, 1 descriptor: calls a second ÷ baseline|≥ 1.05|1.10 (1.10 to 1.10)|yes|≥ 1.6|< 0.8",
            "memory, 4 descriptors: calls a second ÷ baseline|≥ 0.95|–|not measured|≥ 1.2|< 0.7",
            "bytes of memory per counter, full|≤ 320|330|no|less|> 420",
            "Redis CPU per decision, full calls, new tick at every hit ÷ INCRBY + EXPIRE|≤ 2.6|6.30 (6.00 to 6.60)|no|\
             ≤ 2|**> 5**",
            "redis|30,000|0.75 (0.75 to 0.75)|23.0|1.15 (1.15 to 1.15)|9.50|40.0|100|300|900|15 %",
            "open|10,000|100|300|900|1,200|3|3,000|30.0|20.0|40.0",
            "memory, full|330|1,000,000|64.0",
            "128|new tick|6.30|1.00|6.30 (6.00 to 6.60)",
            "processor|Example CPU",
        ] {
            assert!(rows.contains(row), "{row} is missing in:\n{rows:#?}");
        }
        assert!(
            text.contains("3 rounds; other processes used 0.03 (0.02 to 0.20) cores meanwhile; 1 left out"),
            "{text}"
        );
        assert!(text.contains("**In 1 of the rounds that was more than 0.1**"), "{text}");
    }

    #[test]
    fn the_summary_has_every_table_of_the_report() {
        let (short, long) = (rows(&summary(&results())), rows(&markdown(&results())));
        assert!(short.len() > 20 && short.is_subset(&long), "{:?}", short.difference(&long));
    }

    #[test]
    fn what_makes_figures_worthless_is_said_first() {
        let mut results = results();
        results.machine.optimised = false;
        results.is_full = false;
        let text = markdown(&results);
        let (warning, table) = (text.find("without optimisation"), text.find("## Targets"));
        assert!(warning.is_some() && warning < table && text.contains("a short run"));
    }

    #[test]
    fn failed_calls_are_told() {
        let mut results = results();
        results.sections[0].cases[2].rounds[0].load.errors.insert("UNKNOWN".to_owned(), 3);
        assert!(markdown(&results).contains("**redis: 3 calls had no answer or an error.**"));
    }
}
