//! The runs as a page of Markdown.

use super::fault::Fault;
use super::run::{FaultFound, Found, RATE};
use super::spans::Figures;
use crate::demo::compare::page::{percent, range};
use crate::demo::compare::protection::MAX;

/// What the p99 may be while something is broken, beside that of the calm.
const P99_OF_CALM: f64 = 2.0;

/// Lowest and highest limit that the rules allow.
const BOUNDS: (f64, f64) = (MAX as f64 / 20.0, MAX as f64);

/// What stands where nothing was seen; it is never what was to be reached.
const NOT_TOLD: &str = "–";

/// A column: its head, its text, and whether it is as it should be.
type Column = (&'static str, fn(&Figures, &FaultFound) -> String, fn(&Figures, &FaultFound) -> bool);

const COLUMNS: [Column; 8] = [
    ("p50", |_, found| ms(&found.during, found.during.p50_ms), |_, found| is_told(&found.during)),
    ("p99", |_, found| ms(&found.during, found.during.p99_ms), |_, found| is_told(&found.during)),
    (
        "p99 of calm's (≤ 2)",
        |calm, found| ratio(calm, found).map_or(NOT_TOLD.to_owned(), |ratio| format!("{ratio:.2}")),
        |calm, found| ratio(calm, found).is_some_and(|ratio| ratio <= P99_OF_CALM),
    ),
    (
        "failed (0)",
        |_, found| share(&found.during, found.during.failed),
        |_, found| is_told(&found.during) && found.during.failed == 0,
    ),
    (
        "refused (0)",
        |_, found| share(&found.during, found.during.refused),
        |_, found| is_told(&found.during) && found.during.refused == 0,
    ),
    (
        "failed, refused after it (0)",
        |_, found| not_good(&found.after),
        |_, found| is_told(&found.after) && found.after.failed + found.after.refused == 0,
    ),
    (
        "limit before",
        |_, found| found.limit_before.map_or(NOT_TOLD.to_owned(), |limit| format!("{limit:.0}/s")),
        |_, found| found.limit_before.is_some(),
    ),
    (
        "limit then",
        |_, found| found.limits.map_or(NOT_TOLD.to_owned(), |(low, high)| format!("{low:.0} to {high:.0}/s")),
        |_, found| {
            let told = found.limits.zip(found.limit_before);
            told.is_some_and(|((low, high), before)| low >= BOUNDS.0 && high <= BOUNDS.1.min(before))
        },
    ),
];

/// Whether there were requests that tell anything.
fn is_told(figures: &Figures) -> bool {
    figures.requests > 0
}

fn ratio(calm: &Figures, found: &FaultFound) -> Option<f64> {
    let is_one = is_told(calm) && is_told(&found.during) && calm.p99_ms > 0.0;
    is_one.then(|| found.during.p99_ms / calm.p99_ms)
}

fn ms(figures: &Figures, time: f64) -> String {
    if is_told(figures) { format!("{time:.0} ms") } else { NOT_TOLD.to_owned() }
}

fn not_good(figures: &Figures) -> String {
    share(figures, figures.failed + figures.refused)
}

/// A part of the requests, in %.
fn share(figures: &Figures, part: u64) -> String {
    if is_told(figures) { percent(part as f64 / figures.requests as f64) } else { NOT_TOLD.to_owned() }
}

/// A run in a few lines, for who waits.
#[must_use]
pub fn summary(found: &Found) -> String {
    let Found { calm, .. } = found;
    let mut text =
        format!("  calm: p50 {}, p99 {}, not 200: {}", ms(calm, calm.p50_ms), ms(calm, calm.p99_ms), not_good(calm));
    for one in &found.faults {
        let cells = COLUMNS.map(|(head, cell, _)| format!("{head} {}", cell(calm, one)));
        text.push_str(&format!("\n  {}: {}", one.fault.name(), cells.join(", ")));
    }
    text
}

/// The page of all runs.
#[must_use]
pub fn page(found: &[Found]) -> String {
    let mut page = format!(
        "# Adaptive limits when something is broken\n\n\
         Written by `tidegate-demo faults`; how it is run is at the end.\n\n\
         Two replicas over one Redis, a Prometheus that scrapes every second, a proxy with \
         [config/envoy/adaptive.yaml](../config/envoy/adaptive.yaml), and an inventory that can do 100 requests a second, of \
         which {RATE:.0} are asked for. Each fault comes after a calm span. *p99 of calm's* is that of all requests of the \
         fault's span, beside that of all calm spans of the run; it was to stay within twice of it. *Failed* is a 5xx or no \
         answer at all. *Limit* is the lowest and the highest that the gate in Redis or any replica told, from the fault's \
         begin to the end of the time after it; it was to stay within {:.0} and {:.0}/s. Where there were \
         several runs, the lowest and the highest. What is **bold** was not reached in every run.\n",
        BOUNDS.0, BOUNDS.1
    );
    let mut proxies: Vec<&str> = found.iter().map(|one| one.proxy.as_str()).collect();
    proxies.sort_unstable();
    proxies.dedup();
    for proxy in proxies {
        let runs: Vec<&Found> = found.iter().filter(|one| one.proxy == proxy).collect();
        page.push_str(&table(proxy, &runs));
    }
    page.push_str(
        "\n## Again\n\n```sh\nmake tools                                   # a real Envoy, Redis, Prometheus\n\
         cargo build --bins\ntarget/debug/tidegate-demo faults            # adds a run behind each proxy (8 minutes)\n\
         target/debug/tidegate-demo faults --help     # single proxies and faults, other lengths\n```\n\n\
         One machine does everything, with unoptimised programs; latencies are those of a busy machine. In calm traffic the \
         limit stands at its upper bound, so that it doesn't rise says little here: the same faults, and answers that are \
         none or another service's, are tests with a limit that is on its way up (`tests/it/adaptive/faults.rs`).\n",
    );
    page
}

fn table(proxy: &str, runs: &[&Found]) -> String {
    let calm = |cell: fn(&Figures) -> String| range(runs.iter().map(|one| cell(&one.calm)));
    let busy = range(runs.iter().map(|one| format!("{:.1}", one.busy_cores)));
    let mut text = format!(
        "\n## Behind {proxy}\n\nRuns: {}. Calm: p50 {}, p99 {}, failed or refused {}. Cores busy on average: {busy}.\n\n|",
        runs.len(),
        calm(|calm| ms(calm, calm.p50_ms)),
        calm(|calm| ms(calm, calm.p99_ms)),
        calm(not_good),
    );
    for head in [""].into_iter().chain(COLUMNS.map(|(head, ..)| head)) {
        text.push_str(&format!(" {head} |"));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(COLUMNS.len()));
    text.push('\n');
    for fault in Fault::ALL {
        let of = |one: &&Found| {
            let found = one.faults.iter().find(|found| found.fault == fault)?;
            Some((one.calm, found.clone()))
        };
        let found: Vec<(Figures, FaultFound)> = runs.iter().filter_map(of).collect();
        if found.is_empty() {
            continue;
        }
        let cells = COLUMNS.map(|(_, cell, is_right)| {
            let told = range(found.iter().map(|(calm, one)| cell(calm, one)));
            if found.iter().all(|(calm, one)| is_right(calm, one)) { told } else { format!("**{told}**") }
        });
        text.push_str(&format!("| {} | {} |\n", fault.name(), cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p99_ms: f64, failed: u64) -> Figures {
        Figures { requests: 1_000, refused: 0, failed, p50_ms: 45.0, p99_ms }
    }

    fn found(p99_ms: f64, failed: u64, limits: (f64, f64)) -> Found {
        let fault = FaultFound {
            fault: Fault::LeaderKilled,
            during: figures(p99_ms, failed),
            after: figures(50.0, 0),
            limit_before: Some(200.0),
            limits: Some(limits),
        };
        Found { proxy: "envoy".to_owned(), calm: figures(60.0, 0), faults: vec![fault], busy_cores: 0.5 }
    }

    #[test]
    fn what_was_not_reached_is_bold_and_what_was_is_not() {
        let page = page(&[found(90.0, 0, (200.0, 200.0)), found(150.0, 5, (190.0, 201.0))]);
        let line = page.lines().find(|line| line.starts_with("| the leader is killed")).unwrap();
        assert_eq!(
            line,
            "| the leader is killed | 45 ms | 90 ms to 150 ms | **1.50 to 2.50** | **0 % to 0.50 %** | 0 % | 0 % | 200/s | \
             **190 to 201/s to 200 to 200/s** |"
        );
        assert!(page.contains("Calm: p50 45 ms, p99 60 ms, failed or refused 0 %."), "{page}");
    }

    #[test]
    fn what_nobody_has_seen_is_not_reached() {
        let mut nothing = found(90.0, 0, (200.0, 200.0));
        let fault = &mut nothing.faults[0];
        (fault.during, fault.after) = (Figures::default(), Figures::default());
        (fault.limit_before, fault.limits) = (None, None);
        let page = page(&[nothing]);
        let line = page.lines().find(|line| line.starts_with("| the leader is killed")).unwrap();
        assert_eq!(line, format!("| the leader is killed |{}", " **–** |".repeat(COLUMNS.len())));
    }
}
