//! The results as one table of text: a line for each stage, calls a second during the overload.

use std::fmt;

use super::results::{Results, StageResults};

/// A column: its two heads, and its text for a stage.
type Column = (&'static str, &'static str, fn(&Results, &StageResults) -> String);

/// The columns, shared with the page.
pub const COLUMNS: [Column; 12] = [
    ("", "stage", |_, stage| stage.stage.name().to_owned()),
    ("offered", "/s", |_, stage| rate(stage, stage.during.offered)),
    ("goodput", "/s", |_, stage| rate(stage, stage.during.counts.good)),
    ("of the", "capacity", |_, stage| {
        format!("{:.0} %", stage.during.rate(stage.during.counts.good) / stage.capacity * 100.0)
    }),
    ("refused", "/s", |_, stage| rate(stage, stage.during.counts.refused)),
    ("over-", "loaded /s", |_, stage| rate(stage, stage.during.counts.overloaded)),
    ("proxy's", "503 /s", |_, stage| rate(stage, stage.during.counts.ejected + stage.during.counts.shed)),
    ("timed", "out /s", |_, stage| rate(stage, stage.during.counts.timed_out)),
    ("other", "/s", |_, stage| rate(stage, stage.during.counts.failed + stage.during.counts.unsent)),
    ("p50", "ms", |_, stage| millis(stage.during.p50_ms)),
    ("p99", "ms", |_, stage| millis(stage.during.p99_ms)),
    ("good", "afterwards", |_, stage| format!("{:.0} %", stage.after.good_share() * 100.0)),
];

/// The table of these results.
#[derive(Debug)]
pub struct Table<'a>(pub &'a Results);

// === impl Table ===

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<Vec<String>> = vec![
            COLUMNS.iter().map(|(above, ..)| (*above).to_owned()).collect(),
            COLUMNS.iter().map(|(_, below, _)| (*below).to_owned()).collect(),
        ];
        rows.extend(self.0.stages.iter().map(|stage| COLUMNS.iter().map(|(.., text)| text(self.0, stage)).collect()));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
        for row in &rows {
            let mut line = format!("{:<1$}", row[0], widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                line.push_str(&format!("  {cell:>width$}"));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        write!(f, "Calls that were due in the overload; latencies are those of good answers, from when they were due.")
    }
}

fn rate(stage: &StageResults, count: u64) -> String {
    match count {
        // Nothing at all is worth telling from little.
        0 => "–".to_owned(),
        count => match stage.during.rate(count) {
            rate if rate < 9.95 => format!("{rate:.1}"),
            rate => format!("{rate:.0}"),
        },
    }
}

fn millis(millis: Option<f64>) -> String {
    millis.map_or_else(|| "–".to_owned(), |millis| format!("{millis:.0}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::load::outcome::Outcome;
    use super::super::load::profile::Profile;
    use super::super::load::timeline::Timeline;
    use super::super::stage::Stage;
    use super::*;

    #[test]
    fn a_line_has_what_became_of_the_calls_of_the_overload() {
        let profile = Profile::new(100.0, 2.0, Duration::from_secs(20));
        let mut timeline = Timeline::new(profile.length(), Duration::from_secs(1), profile.overload_time());
        let ms = Duration::from_millis;
        // The overload takes 11 s, from 3 s on.
        for (count, outcome) in [(1_100_u64, Outcome::Good), (1_089, Outcome::Refused), (11, Outcome::TimedOut)] {
            for number in 0..count {
                let due = ms(3_000 + number);
                timeline.end(due, due + ms(25), outcome);
            }
        }
        timeline.end(ms(15_000), ms(15_010), Outcome::Good);
        timeline.end(ms(16_000), ms(16_010), Outcome::Failed);
        let stage = StageResults::new(Stage::GlobalLimit, Some(95.0), 100.0, &profile, &timeline);
        let results = Results {
            capacity: 100.0,
            queue_max: 60.0,
            overload: 2.0,
            proxy: String::new(),
            tidegate: String::new(),
            stages: vec![stage],
        };
        insta::assert_snapshot!(Table(&results), @r"
                      offered  goodput    of the  refused      over-  proxy's   timed  other  p50  p99        good
        stage              /s       /s  capacity       /s  loaded /s   503 /s  out /s     /s   ms   ms  afterwards
        global limit      200      100     100 %       99          –        –     1.0      –   25   25        50 %
        Calls that were due in the overload; latencies are those of good answers, from when they were due.
        ");
    }
}
