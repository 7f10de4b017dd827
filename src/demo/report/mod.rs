//! The results as one page that needs nothing else: HTML, styles and plots in one file, no script, nothing fetched.
//!
//! [`plot`](crate::plot) turns numbers into SVG, this file chooses which numbers. All plots share their axis of time, stage after
//! stage, so that what happened at one instant stands at one place of each.

use super::load::outcome::Outcome;
use super::results::{Point, Results, StageResults};
use super::table::COLUMNS;
use crate::plot::{self, Panel, Plot, Scale, Series, Style, escape};

/// The outcomes that the errors' plot stacks, from the bottom, with their classes.
const FAILURES: [(Outcome, &str); 7] = [
    (Outcome::Refused, "refused"),
    (Outcome::Overloaded, "overloaded"),
    (Outcome::Ejected, "ejected"),
    (Outcome::Shed, "shed"),
    (Outcome::TimedOut, "timed-out"),
    (Outcome::Failed, "failed"),
    (Outcome::Unsent, "unsent"),
];

/// Lowest latency of the axis, in ms.
const LATENCY_MIN_MS: f64 = 1.0;

/// The page of these results.
#[must_use]
pub fn page(results: &Results) -> String {
    let plots = [load(results), failures(results), latency(results), queue(results)];
    let plots: String = plots.iter().map(|plot| plot.to_html(&results.stages)).collect();
    let mut stages = String::new();
    for StageResults { stage, .. } in &results.stages {
        let (name, file, story) = (escape(stage.name()), stage.file(), escape(stage.story()));
        stages.push_str(&format!("<dt>{name} <code>config/envoy/{file}</code></dt><dd>{story}</dd>\n"));
    }
    let body = format!(
        "{}{}{plots}<h2>The stages</h2>\n<dl>\n{stages}</dl>\n{}",
        summary(results),
        table(results),
        setting(results),
    );
    plot::page("Tidegate: a shop under overload", "A shop under overload", &body)
}

impl Panel for StageResults {
    type Point = Point;

    fn name(&self) -> &str {
        self.stage.name()
    }

    fn length_s(&self) -> f64 {
        self.length_s
    }

    fn shaded_s(&self) -> (f64, f64) {
        (self.overload_from_s, self.overload_to_s)
    }

    fn points(&self) -> &[Point] {
        &self.points
    }

    /// A value stands at the middle of its slice.
    fn at_s(point: &Point) -> f64 {
        point.at_s + point.seconds / 2.0
    }
}

// === text ===

fn summary(results: &Results) -> String {
    let Results { capacity, overload, stages, .. } = results;
    let share = |stage: &StageResults| stage.during.rate(stage.during.counts.good) / stage.capacity * 100.0;
    let told: Vec<String> = stages
        .iter()
        .map(|stage| format!("<b>{:.0} %</b> with {}", share(stage), escape(stage.stage.name())))
        .collect();
    format!(
        "<p class=\"lead\">The inventory can do {capacity:.0} requests a second. It was asked for {:.0}. Of what it can \
         do, clients got {}.</p>\n",
        capacity * overload,
        told.join(", "),
    )
}

fn table(results: &Results) -> String {
    // A word that the table of text breaks is whole here.
    let head = |above: &str, below: &str| escape(format!("{above} {below}").replace("- ", "").trim());
    let heads: String =
        COLUMNS.iter().map(|(above, below, _)| format!("<th scope=\"col\">{}</th>", head(above, below))).collect();
    let mut rows = String::new();
    for stage in &results.stages {
        rows.push_str("<tr>");
        for (index, (.., text)) in COLUMNS.iter().enumerate() {
            let text = escape(&text(results, stage));
            rows.push_str(&if index == 0 {
                format!("<th scope=\"row\">{text}</th>")
            } else {
                format!("<td>{text}</td>")
            });
        }
        rows.push_str("</tr>\n");
    }
    format!(
        "<div class=\"wide\"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n\
         <p class=\"note\">Orders that were due in the overload (shaded below). Latencies are those of good answers, \
         from the instant at which a call was due. “Good afterwards” is the share of orders that were made once the \
         load had fallen to half of the capacity. In the plots time goes from left to right, in seconds of each stage.</p>\n"
    )
}

fn setting(results: &Results) -> String {
    format!(
        "<p class=\"note\">Proxy: {}. Tidegate: {}. One machine did all of it, load included, so times are those of \
         a busy machine.</p>\n",
        escape(&results.proxy),
        escape(&results.tidegate)
    )
}

// === plots ===

fn rate(point: &Point, count: u64) -> f64 {
    count as f64 / point.seconds
}

fn load(results: &Results) -> Plot {
    let stages = &results.stages;
    Plot {
        title: "Orders a second",
        scale: Scale::linear(stages, |point| rate(point, point.offered).max(rate(point, point.counts.good))),
        series: vec![
            Series::line("offered", "offered", Style::Line, stages, |point| Some(rate(point, point.offered))),
            Series::line("goodput", "good", Style::Line, stages, |point| Some(rate(point, point.counts.good))),
            Series::line("limit", "limit", Style::Dashed, stages, |point| point.limit),
            Series::line("capacity of the inventory", "capacity", Style::Dotted, stages, |point| Some(point.capacity)),
        ],
    }
}

fn failures(results: &Results) -> Plot {
    let stages = &results.stages;
    let all = |point: &Point| FAILURES.iter().map(|(outcome, _)| point.counts.of(*outcome)).sum();
    let mut series = Vec::new();
    for (index, (outcome, class)) in FAILURES.iter().enumerate() {
        let below = |point: &Point| {
            let under = FAILURES[..index].iter().map(|(outcome, _)| point.counts.of(*outcome)).sum();
            rate(point, under)
        };
        let seen = stages.iter().flat_map(|stage| &stage.points).any(|point| point.counts.of(*outcome) > 0);
        if seen {
            series.push(Series::area(outcome.name(), class, stages, |point| {
                let low = below(point);
                Some((low, low + rate(point, point.counts.of(*outcome))))
            }));
        }
    }
    Plot {
        title: "Orders that were not made, a second",
        scale: Scale::linear(stages, |point| rate(point, all(point))),
        series,
    }
}

fn latency(results: &Results) -> Plot {
    let stages = &results.stages;
    let at_least = |millis: Option<f64>| millis.map(|millis| millis.max(LATENCY_MIN_MS));
    Plot {
        title: "Latency of good answers, in ms (logarithmic)",
        scale: Scale::logarithmic(stages, LATENCY_MIN_MS, |point| point.p99_ms.unwrap_or_default()),
        series: vec![
            Series::line("99th percentile", "p99", Style::Line, stages, |point| at_least(point.p99_ms)),
            Series::line("median", "p50", Style::Line, stages, |point| at_least(point.p50_ms)),
        ],
    }
}

fn queue(results: &Results) -> Plot {
    let stages = &results.stages;
    let bound = results.queue_max;
    Plot {
        title: "Requests that wait in the inventory",
        scale: Scale::linear(stages, |point| bound.max(point.queued.unwrap_or_default() as f64)),
        series: vec![
            Series::area("waiting", "queued", stages, |point| Some((0.0, point.queued? as f64))),
            Series::line("bound of its queue", "capacity", Style::Dotted, stages, |_| Some(bound)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::load::profile::Profile;
    use super::super::load::timeline::Timeline;
    use super::super::stage::Stage;
    use super::*;

    fn results() -> Results {
        let profile = Profile::new(200.0, 2.0, Duration::from_secs(10));
        let stages = Stage::ALL.map(|stage| {
            let slice = Duration::from_millis(500);
            let mut timeline = Timeline::new(profile.length(), slice, profile.overload_time());
            for (number, due) in profile.instants(1).enumerate() {
                timeline.offer(due);
                let outcome = Outcome::ALL[number % Outcome::ALL.len()];
                timeline.end(due, due + Duration::from_millis(number as u64 % 1_500), outcome);
            }
            timeline.plant(Duration::from_secs(5), 60, 100.0);
            StageResults::new(stage, (stage == Stage::GlobalLimit).then_some(190.0), 200.0, &profile, &timeline)
        });
        Results {
            capacity: 200.0,
            queue_max: 60.0,
            overload: 2.0,
            proxy: "<proxy>".to_owned(),
            tidegate: "2 replicas".to_owned(),
            stages: stages.into(),
        }
    }

    #[test]
    fn the_page_needs_nothing_from_outside_and_no_script() {
        let page = page(&results());
        for word in ["http://", "https://", "<script", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(page.contains("&lt;proxy&gt;") && !page.contains("<proxy>"));
    }

    #[test]
    fn every_element_of_the_page_is_closed_in_order() {
        const VOID: [&str; 3] = ["meta", "!doctype", "br"];
        let page = page(&results());
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("{tag} is not closed"));
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed), "closes in order");
            } else if !VOID.contains(&name) && !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn every_stage_and_every_series_is_in_the_page_and_no_number_is_missing() {
        let page = page(&results());
        for stage in Stage::ALL {
            assert!(page.contains(stage.name()) && page.contains(stage.file()) && page.contains(stage.story()));
        }
        for (outcome, class) in FAILURES {
            assert!(page.contains(outcome.name()) && page.contains(&format!("area {class}")), "{class}");
            assert!(plot::STYLE.contains(&format!("--{class}:")), "{class} has a colour");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"), "a number is none");
    }

    #[test]
    fn a_stage_in_which_nothing_happened_is_a_page_as_well() {
        let profile = Profile::new(200.0, 2.0, Duration::from_secs(10));
        let timeline = Timeline::new(profile.length(), Duration::from_secs(1), profile.overload_time());
        let stage = StageResults::new(Stage::PassThrough, None, 200.0, &profile, &timeline);
        let page = page(&Results { stages: vec![stage], ..results() });
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }
}
