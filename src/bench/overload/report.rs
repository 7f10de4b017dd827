//! The report: the same Markdown on the terminal and in the file, from the results alone.

use super::SETTINGS;
use super::attack::Kind;
use super::fairness::{Beside, Case, Fairness, Memory, Percentile};
use super::load::{HONEST_RATE, Report};
use super::results::Results;
use super::surge::{Surge, Surges};
use crate::bench::compare::plan::grouped;
use crate::bench::compare::report::push;
use crate::bench::compare::rounds::FOREIGN_CORES_MAX;
use crate::bench::compare::surroundings::Surroundings;
use crate::bench::compare::table::{NOTHING, Table, figure, median, with_spread};
use crate::bench::statistics::Spread;

/// What every reader of the file should know first.
const HEADER: &str = "\
# Bad input and overload

What honest clients notice of hostile ones, and of ten times the calls that the service can answer. `make overload`
writes this file anew, in about three minutes and on any Linux machine with redis-server and two cores.

**Read the ratios.** Microseconds belong to one machine and one afternoon. Everything is measured in turn, round after
round; a ratio is taken within a round, and what is printed is the median over the rounds, with the lowest and the
highest in brackets.

**How it is measured.** Tidegate has one core. The honest clients have the other; attackers and overloads are processes
of their own on that core, which run only while the honest clients rest (SCHED_IDLE): what these notice is the server's
doing. Whether that is so is measured as well. In the *control* of a case the same attacker attacks a bare gRPC server
(`tidegate-bench noop`), which shares its core, while Tidegate serves the honest clients alone.
";

/// What the table of hostile clients shows.
const FAIRNESS: &str = "\
Counters in memory. *alone* is the honest clients without anybody else. Memory is the server's resident memory in MiB: \
before, at the most, and a little after. *lines* are all that the server wrote, in all rounds.

- **reset streams**: a whole call and its reset, a hundred at a time, as fast as they are taken; a connection that is cut
  off is made again at once.
- **never read**: calls, as fast as they are taken, and no answer is read.
- **1,000 calls at once**: a closed loop on one connection; the server's core is busy with sound calls.
- **idle**: connected, and silent.
- **garbage**: in turn noise instead of frames, messages that say they have a MiB, headers of more than 16 KiB, and
  messages that are none.
";

/// What the table of overloads shows.
const SURGES: &str = "\
Each call has a deadline of 20 ms, as Envoy's have. *peak* keeps 256 calls under way on 4 connections, *10 × calls under \
way* 2,560 on 40, *10 × calls a second* is an open loop at ten times the peak of the same round, or as much as the \
generator can, with callers that behave as Envoy does: 1,024 calls at most wait for room on a connection, one that was not \
sent by its deadline never is, and one without an answer by then is reset. A call is decided in time, refused in time (an error, so that the caller knows), or late; *offered* is \
what was sent. *normal after* is the time from the last call of a load to the first of two stretches of 100 ms in a row in \
which the honest clients' p99 is below twice what it was before the load.
";

/// How one repeats it.
const REPEAT: &str = "\
## Repeating it

```sh
make overload                                 # everything, and this file
target/release/tidegate-bench overload        # the tables alone
target/release/tidegate-bench overload --rounds 1 --json overload.json
```
";

/// The whole report.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut text = HEADER.to_owned();
    let surroundings = surroundings(results);
    text.push_str(&surroundings.warnings());
    push(&mut text, "## What should be, and is", &judged(results));
    let others = [("cores that others used", figure(results.foreign_cores))];
    push(&mut text, "## Where and what", &surroundings.markdown(others));
    if results.foreign_cores > FOREIGN_CORES_MAX {
        text.push_str("\n**Others used the machine meanwhile**: repeat it on a quieter one.\n");
    }
    text.push('\n');
    text.push_str(REPEAT);
    push(&mut text, "## Hostile clients", &format!("{FAIRNESS}\n{}", fairness(&results.fairness)));
    push(&mut text, "## What the hostile clients did", &deeds(&results.fairness));
    push(&mut text, "## Overload", &format!("{SURGES}\n{}", surges(&results.surges)));
    let commands = format!("```sh\n{}\n```\n", results.commands.join("\n"));
    push(&mut text, "## The loads", &commands);
    text
}

/// What is printed at the end of a run: the tables, without what is the same every time.
#[must_use]
pub fn summary(results: &Results) -> String {
    let mut text = String::new();
    push(&mut text, "Hostile clients", &fairness(&results.fairness));
    push(&mut text, "What they did", &deeds(&results.fairness));
    push(&mut text, "Overload", &surges(&results.surges));
    push(&mut text, "What should be, and is", &judged(results));
    text
}

fn judged(results: &Results) -> String {
    let mut table = Table::new(&["what", "wanted", "measured", "holds"]);
    for judged in &results.judged {
        let holds = if judged.holds { "yes" } else { "**no**" };
        table.row([&judged.what, &judged.wanted, &judged.measured, holds].map(str::to_owned));
    }
    table.markdown()
}

fn surroundings(results: &Results) -> Surroundings<'_> {
    let Results { machine, command, placement, seconds, is_full, .. } = results;
    Surroundings { machine, command, placement, seconds: *seconds, is_full: *is_full, settings: &SETTINGS }
}

// === hostile clients ===

fn fairness(fairness: &Fairness) -> String {
    let mut table = Table::new(&[
        "honest clients beside",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "p99 ÷ alone",
        "p99 ÷ control",
        "missed 20 ms",
        "of",
        "memory, MiB",
        "lines",
    ]);
    let row = |name: &str, reports: &[&Report], ratios: [Option<Spread>; 2], memory: String, lines: String| {
        let of = |percentile: Percentile| Spread::of(reports.iter().map(|report| percentile.of(report)));
        let sum = |count: fn(&Report) -> u64| grouped(reports.iter().map(|report| count(report) as usize).sum());
        [
            name.to_owned(),
            median(of(Percentile::P50)),
            with_spread(of(Percentile::P99)),
            median(of(Percentile::P999)),
            with_spread(ratios[0]),
            with_spread(ratios[1]),
            sum(|report| report.missed_deadline),
            sum(Report::due),
            memory,
            lines,
        ]
    };
    let alone: Vec<&Report> = fairness.alone.iter().collect();
    table.row(row("nobody", &alone, [None, None], NOTHING.to_owned(), NOTHING.to_owned()));
    for case in &fairness.cases {
        let beside: Vec<&Report> = case.rounds.iter().map(|round| &round.honest).collect();
        let control: Vec<&Report> = case.rounds.iter().map(|round| &round.control).collect();
        let ratios = [fairness.to_alone(case, Percentile::P99), case.to_control(Percentile::P99)];
        let lines: usize = case.rounds.iter().map(|round| round.lines).sum();
        let used = memory(case.rounds.iter().map(|round| round.memory));
        table.row(row(&case.title(), &beside, ratios, used, lines.to_string()));
        let control_ratio = Spread::of_ratios(
            case.rounds.iter().map(|round| Some(Percentile::P99.of(&round.control))),
            fairness.alone.iter().map(|report| Some(Percentile::P99.of(report))),
        );
        let nothing = NOTHING.to_owned();
        table.row(row("… its control", &control, [control_ratio, None], nothing.clone(), nothing));
    }
    format!("{}\n{} calls a second of honest clients, open loop.\n", table.markdown(), figure(HONEST_RATE))
}

/// Before, at the most, after: each the median over the rounds.
fn memory(rounds: impl Iterator<Item = Memory> + Clone) -> String {
    let of =
        |bytes: fn(Memory) -> u64| Spread::of(rounds.clone().map(|memory| bytes(memory) as f64 / f64::from(1 << 20)));
    [of(|memory| memory.before), of(|memory| memory.peak), of(|memory| memory.after)].map(median).join(" / ")
}

fn deeds(fairness: &Fairness) -> String {
    let mut table = Table::new(&[
        "hostile clients",
        "connections",
        "cut off a second",
        "streams a second",
        "MiB a second",
        "server, cores",
        "attacker, cores",
    ]);
    for case in &fairness.cases {
        let of = |value: &dyn Fn(&Beside) -> f64| median(Spread::of(case.rounds.iter().map(value)));
        table.row([
            case.title(),
            of(&|round| round.deeds.connections as f64),
            of(&|round| round.deeds.ended as f64 / round.seconds),
            of(&|round| round.deeds.streams as f64 / round.seconds),
            of(&|round| round.deeds.bytes as f64 / round.seconds / f64::from(1 << 20)),
            of(&|round| round.server_cores),
            of(&|round| round.attacker_cores),
        ]);
    }
    let short = fairness.cases.iter().filter(|case| case.kind == Kind::Idle && is_short(case));
    let remarks: String = short
        .map(|case| {
            format!("\n**Not all of {} could be had**: the limit on open files is too low here.\n", case.title())
        })
        .collect();
    format!("{}{remarks}", table.markdown())
}

fn is_short(case: &Case) -> bool {
    case.rounds.iter().any(|round| round.deeds.connections < case.connections as u64)
}

// === overload ===

fn surges(stores: &[Surges]) -> String {
    let mut table = Table::new(&[
        "load",
        "decisions/s",
        "÷ peak",
        "offered ÷ peak",
        "in time %",
        "refused %",
        "late %",
        "honest p99 µs: calm",
        "loaded",
        "missed %",
        "normal after, ms",
        "memory, MiB",
        "lines",
    ]);
    for store in stores {
        let peak = [("the peak", &store.peak[..])];
        for (name, rounds) in peak.into_iter().chain(store.overloads()) {
            let of = |value: &dyn Fn(&Surge) -> f64| Spread::of(rounds.iter().map(value));
            let percent = |share: fn(&Report) -> f64| of(&|surge| 100.0 * share(&surge.load));
            let normal = rounds.iter().filter_map(|surge| surge.recovery.normal_after_ms);
            let never = rounds.iter().filter(|surge| surge.recovery.normal_after_ms.is_none()).count();
            let never = if never > 0 { format!(", never in {never}") } else { String::new() };
            table.row([
                format!("{}, {name}", store.store.title()),
                median(of(&|surge| surge.load.decisions_per_second())),
                with_spread(store.to_peak(rounds)),
                median(store.offered(rounds)),
                median(percent(Report::in_time)),
                median(percent(Report::refused)),
                median(percent(Report::late)),
                median(of(&|surge| surge.recovery.calm_p99_us)),
                median(of(&|surge| surge.recovery.loaded_p99_us)),
                median(of(&|surge| 100.0 * surge.recovery.loaded_missed)),
                with_spread(Spread::of(normal)) + &never,
                memory(rounds.iter().map(|surge| surge.memory)),
                rounds.iter().map(|surge| surge.lines).sum::<usize>().to_string(),
            ]);
        }
    }
    table.markdown()
}
