//! The runs as a page of Markdown: what was held against which target, what each protection made of each scenario, and
//! what Tidegate said while it happened.

use super::figures::Figures;
use super::protection::{MAX, Protection, TUNED};
use super::run::Found;
use super::scenario::{CAPACITY, Scenario};

/// A column of a scenario's table: its head, and its text for a protection.
type Column = (&'static str, fn(&Figures) -> String);

const COLUMNS: [Column; 8] = [
    ("goodput", |figures| percent(figures.goodput)),
    ("goodput after", |figures| figures.goodput_after.map_or_else(none, percent)),
    ("failed (5xx)", |figures| percent(figures.failed)),
    ("time to protect", |figures| figures.protect_s.map_or_else(never, |seconds| format!("{seconds} s"))),
    ("5xx after that", |figures| match (figures.failed_after, figures.offered_after) {
        (Some(failed), Some(offered)) => format!("{failed} of {offered}"),
        _ => none(),
    }),
    ("time to recover", recovered),
    ("refused in calm", |figures| percent(figures.calm_refused)),
    ("p99", |figures| figures.p99_ms.map_or_else(none, |p99| format!("{p99:.0} ms"))),
];

fn recovered(figures: &Figures) -> String {
    match (figures.recover_s, figures.goodput_after) {
        (Some(seconds), _) => format!("{seconds} s"),
        (None, Some(_)) => never(),
        (None, None) => none(),
    }
}

/// The targets: goodput against the best of the others, time to protect and to recover in seconds, refused in calm.
const GOODPUT_OF_BEST: f64 = 0.9;
const PROTECT_S: u32 = 10;
const RECOVER_S: u32 = 120;
const CALM_REFUSED: f64 = 0.01;

/// A run in a few lines, for who waits.
#[must_use]
pub fn summary(found: &Found) -> String {
    let lines = found.figures.iter().map(|(protection, figures)| {
        let cells = COLUMNS.iter().map(|(head, text)| format!("{head} {}", text(figures)));
        format!("  {:<22}{}", protection.name(), cells.collect::<Vec<_>>().join(", "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The page of all runs.
#[must_use]
pub fn page(found: &[Found]) -> String {
    let mut page = format!(
        "# Adaptive limits beside other protections\n\n\
         Written by `tidegate-demo compare`; how it is run and what it can't show is at the end.\n\n\
         Each protection stands in a proxy of its own before an inventory of its own, which can do {CAPACITY:.0} requests a \
         second and does less the more of them wait. All get the same requests at the same instants, and share the \
         machine. The adaptive limit (at most {MAX} a second) has the same circuit breakers behind it that stand alone \
         in another row; the tuned static limit is {TUNED} a second. Prometheus scrapes every second, and Tidegate (two \
         replicas over one Redis) decides every second. Figures are of what clients saw; where there were several runs, \
         the lowest and the highest.\n\n## What was to hold\n\n"
    );
    page.push_str(&targets(found));
    let mut proxies: Vec<&str> = found.iter().map(|one| one.proxy.as_str()).collect();
    proxies.sort_unstable();
    proxies.dedup();
    for scenario in Scenario::ALL {
        for proxy in &proxies {
            let runs: Vec<&Found> =
                found.iter().filter(|one| one.scenario == scenario && one.proxy == **proxy).collect();
            if !runs.is_empty() {
                page.push_str(&table(scenario, proxy, &runs));
            }
        }
    }
    page.push_str(&explanation());
    page
}

/// Whether the targets were reached, in each scenario and behind each proxy.
fn targets(found: &[Found]) -> String {
    let mut text =
        "| scenario | proxy | runs | goodput, of the best other's (≥ 0.90) | time to protect (≤ 10 s) | 5xx \
                    after that (0) | refused in calm (≤ 1 %) | time to recover (≤ 120 s) |\n\
                    |---|---|---|---|---|---|---|---|\n"
            .to_owned();
    let mut keys: Vec<(Scenario, &str)> = found.iter().map(|one| (one.scenario, one.proxy.as_str())).collect();
    keys.sort_unstable();
    keys.dedup();
    for (scenario, proxy) in keys {
        let runs: Vec<&Found> = found.iter().filter(|one| one.scenario == scenario && one.proxy == proxy).collect();
        let ours: Vec<(&Figures, f64)> = runs.iter().filter_map(|one| of_best(one)).collect();
        let cell = |text: &dyn Fn(&Figures) -> String, holds: &dyn Fn(&Figures) -> bool| {
            let all = range(ours.iter().map(|(figures, _)| text(figures)));
            if ours.iter().all(|(figures, _)| holds(figures)) { all } else { format!("**{all}**") }
        };
        let share = range(ours.iter().map(|(_, share)| format!("{share:.2}")));
        let share =
            if ours.iter().all(|(_, share)| *share >= GOODPUT_OF_BEST) { share } else { format!("**{share}**") };
        let protect = cell(&COLUMNS[3].1, &|figures| figures.protect_s.is_some_and(|seconds| seconds <= PROTECT_S));
        let failed = cell(&COLUMNS[4].1, &|figures| figures.failed_after == Some(0));
        let calm = cell(&COLUMNS[6].1, &|figures| figures.calm_refused <= CALM_REFUSED);
        let recover = match scenario.ends() {
            Some(_) => {
                cell(&|figures| figures.recover_s.map_or_else(never, |seconds| format!("{seconds} s")), &|figures| {
                    figures.recover_s.is_some_and(|seconds| seconds <= RECOVER_S)
                })
            }
            None => none(),
        };
        let count = runs.len();
        text.push_str(&format!(
            "| {} | {proxy} | {count} | {share} | {protect} | {failed} | {calm} | {recover} |\n",
            scenario.name()
        ));
    }
    text.push_str("\nWhat is **bold** was not reached in every run.\n");
    text
}

/// The adaptive limit's figures of a run, and its goodput as a share of the best other protection's.
fn of_best(found: &Found) -> Option<(&Figures, f64)> {
    let of = |is_ours: bool| {
        let all = found.figures.iter().filter(move |(one, _)| (*one == Protection::Adaptive) == is_ours);
        all.map(|(_, figures)| figures)
    };
    let best = of(false).map(|figures| figures.goodput).fold(0.0, f64::max);
    let ours = of(true).next()?;
    Some((ours, if best > 0.0 { ours.goodput / best } else { 1.0 }))
}

fn table(scenario: Scenario, proxy: &str, runs: &[&Found]) -> String {
    let mut text = format!("\n## {}, behind {proxy}\n\n|", capitalised(scenario.name()));
    for head in [""].into_iter().chain(COLUMNS.map(|(head, _)| head)) {
        text.push_str(&format!(" {head} |"));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(COLUMNS.len()));
    text.push('\n');
    for protection in Protection::ALL {
        let figures: Vec<&Figures> = runs
            .iter()
            .flat_map(|one| one.figures.iter().filter(|(other, _)| *other == protection))
            .map(|(_, figures)| figures)
            .collect();
        if figures.is_empty() {
            continue;
        }
        let cells = COLUMNS.map(|(_, cell)| range(figures.iter().map(|figures| cell(figures))));
        text.push_str(&format!("| {} | {} |\n", protection.name(), cells.join(" | ")));
    }
    let busy = range(runs.iter().map(|one| format!("{:.1}", one.busy_cores)));
    text.push_str(&format!("\nCores busy on average: {busy}."));
    let Some(last) = runs.last() else { return text };
    text.push_str(" What Tidegate said in the last run, seconds from its beginning:\n\n```\n");
    for (at, sentence) in &last.told {
        text.push_str(&format!("{at:>6.1}  {sentence}\n"));
    }
    text.push_str("```\n");
    text
}

/// The lowest and the highest of texts that begin with a number; words stand as they are.
pub(in crate::demo) fn range(texts: impl Iterator<Item = String>) -> String {
    let number = |text: &String| {
        let digits: String = text.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect();
        digits.parse::<f64>().unwrap_or(f64::MAX)
    };
    let mut texts: Vec<String> = texts.collect();
    texts.sort_by(|one, other| number(one).total_cmp(&number(other)));
    match (texts.first(), texts.last()) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (Some(first), _) => first.clone(),
        _ => none(),
    }
}

pub(in crate::demo) fn percent(share: f64) -> String {
    match share * 100.0 {
        // Nothing at all is worth telling from little.
        0.0 => "0 %".to_owned(),
        percent if percent < 9.95 => format!("{percent:.2} %"),
        percent => format!("{percent:.0} %"),
    }
}

pub(in crate::demo) fn none() -> String {
    "–".to_owned()
}

fn never() -> String {
    "never".to_owned()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn explanation() -> String {
    let mut text = "\n## What the columns mean\n\n\
        - *Goodput*: good answers as a share of what the inventory could have served of what was asked for, in the \
          overload (after an outage: from its end; where the load vanishes: in both loads). *Goodput after*: the same \
          from the cause's end to the scenario's.\n\
        - *Failed*: answered with a 5xx by the service or the proxy (breakers), or not at all, as a share of all \
          requests of that time. A refusal is a 429.\n\
        - *Time to protect*: until the first five seconds in a row in which at most one request of a hundred failed; \
          after an outage counted from its end, after a lull from the load's return. *5xx after that* are all failures \
          in the rest of the overload.\n\
        - *Time to recover*: from the cause's end until the first ten seconds in a row that together have 95 % of \
          what could be served.\n\
        - *Refused in calm*: refused or failed of the requests before the disturbance, and after the end of a doubled \
          load.\n\n## The scenarios\n\n"
        .to_owned();
    for scenario in Scenario::ALL {
        let stretches = scenario.stretches().iter().map(|stretch| {
            let could = if stretch.is_broken { "nothing".to_owned() } else { format!("{}", stretch.workers * 25) };
            format!("{} s at {:.0} a second (can do {could})", stretch.seconds, stretch.rate)
        });
        let stretches: Vec<String> = stretches.collect();
        text.push_str(&format!("- {}: {}.\n", capitalised(scenario.name()), stretches.join(", ")));
    }
    text.push_str(
        "\n## Again\n\n```sh\nmake tools                                   # a real Envoy, Redis, Prometheus\n\
         cargo build --bins\ntarget/debug/tidegate-demo compare           # adds a run of everything (18 minutes)\n\
         target/debug/tidegate-demo compare --help    # single proxies, scenarios, protections\n```\n\n\
         One machine does everything, with unoptimised programs; rates are small enough for that, latencies are those of \
         a busy machine. The inventory is a model of a service (`src/shop/plant`), and no real service was measured.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(goodput: f64, failed_after: u64) -> Figures {
        Figures {
            goodput,
            goodput_after: Some(1.0),
            failed: 0.05,
            protect_s: Some(4),
            failed_after: Some(failed_after),
            offered_after: Some(1_000),
            recover_s: None,
            calm_refused: 0.0,
            p99_ms: Some(120.4),
        }
    }

    fn found(ours: f64, best: f64, failed_after: u64) -> Found {
        Found {
            proxy: "envoy".to_owned(),
            scenario: Scenario::Halved,
            figures: vec![
                (Protection::Adaptive, figures(ours, failed_after)),
                (Protection::StaticMax, figures(0.2, 500)),
                (Protection::Breakers, figures(best, 0)),
            ],
            limit: vec![],
            told: vec![(17.25, "200 → 50/s (cut)".to_owned())],
            busy_cores: 1.25,
        }
    }

    #[test]
    fn what_was_not_reached_is_bold_and_what_was_is_not() {
        let page = page(&[found(0.96, 1.0, 0), found(0.84, 1.0, 3)]);
        let line = page.lines().find(|line| line.starts_with("| capacity halves")).unwrap();
        assert_eq!(
            line,
            "| capacity halves and comes back | envoy | 2 | **0.84 to 0.96** | 4 s | **0 of 1000 to 3 of 1000** | 0 % | \
             **never** |"
        );
        assert!(page.contains("| adaptive limit | 84 % to 96 % | 100 % | 5.00 % | 4 s |"), "{page}");
        assert!(page.contains("  17.2  200 → 50/s (cut)\n"), "{page}");
        assert!(page.contains("Cores busy on average: 1.2."), "{page}");
    }

    #[test]
    fn the_best_other_is_never_ourselves() {
        let one = found(0.9, 0.6, 0);
        assert!(of_best(&one).is_some_and(|(_, share)| (share - 1.5).abs() < 1e-9));
    }
}
