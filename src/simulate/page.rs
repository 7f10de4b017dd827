//! A run as one page with plots of load, limit, errors, latency and goodput.

use super::run::{Run, Second};
use super::scenario::Named;
use super::show;
use crate::plot::{self, Panel, Plot, Scale, Series, Style, escape};

/// Most points of a panel: a day has 86,400 seconds, a screen has fewer dots.
const POINTS_MAX: usize = 2_400;

/// Lowest latency of the axis, in ms.
const LATENCY_MIN_MS: f64 = 1.0;

struct Whole {
    name: String,
    length: f64,
    shaded: (f64, f64),
    points: Vec<Second>,
}

pub(super) fn page(named: &Named, run: &Run) -> String {
    let every = run.seconds.len().div_ceil(POINTS_MAX).max(1);
    let whole = [Whole {
        name: format!("seconds; disturbed where shaded; seed {}", named.scenario.seed),
        length: f64::from(named.scenario.length),
        shaded: named.scenario.disturbance,
        points: run.seconds.chunks(every).map(mean).collect(),
    }];
    // Without a gate the limit is beyond every axis.
    let highest = |second: &Second| second.offered.max(second.capacity);
    let rates = Plot {
        title: "Requests a second",
        scale: Scale::linear(&whole, highest),
        series: vec![
            Series::line("offered", "offered", Style::Line, &whole, |second| Some(second.offered)),
            Series::line("goodput", "good", Style::Line, &whole, |second| Some(second.good)),
            Series::line("limit", "limit", Style::Dashed, &whole, |second| Some(second.limit)),
            Series::line("capacity", "capacity", Style::Dotted, &whole, |second| Some(second.capacity)),
        ],
    };
    let refused = |second: &Second| second.offered - second.admitted;
    let useless = Plot {
        title: "Requests a second that were of no use",
        scale: Scale::linear(&whole, |second| second.bad + refused(second)),
        series: vec![
            Series::area("failed or too late", "failed", &whole, |second| Some((0.0, second.bad))),
            Series::area("refused", "refused", &whole, |second| Some((second.bad, second.bad + refused(second)))),
        ],
    };
    let latency = Plot {
        title: "Mean time of an answer, in ms (logarithmic)",
        scale: Scale::logarithmic(&whole, LATENCY_MIN_MS, |second| second.latency * 1e3),
        series: vec![Series::line("mean", "p50", Style::Line, &whole, |second| {
            (second.answered > 0.0).then(|| (second.latency * 1e3).max(LATENCY_MIN_MS))
        })],
    };
    let plots: String = [rates, useless, latency].iter().map(|plot| plot.to_html(&whole)).collect();
    let text = escape(&show::table(named, run));
    let body = format!("{plots}<div class=\"wide\"><pre>{text}</pre></div>\n");
    plot::page(&format!("Tidegate: {} simulated", named.name), &format!("{}, simulated", named.name), &body)
}

/// Several seconds as one.
fn mean(seconds: &[Second]) -> Second {
    let of = |number: fn(&Second) -> f64| seconds.iter().map(number).sum::<f64>() / seconds.len() as f64;
    Second {
        at: of(|second| second.at),
        demand: of(|second| second.demand),
        offered: of(|second| second.offered),
        admitted: of(|second| second.admitted),
        good: of(|second| second.good),
        answered: of(|second| second.answered),
        bad: of(|second| second.bad),
        slow: of(|second| second.slow),
        latency: of(|second| second.latency),
        limit: of(|second| second.limit),
        capacity: of(|second| second.capacity),
        left: of(|second| second.left),
        errors: of(|second| second.errors),
    }
}

impl Panel for Whole {
    type Point = Second;

    fn name(&self) -> &str {
        &self.name
    }

    fn length_s(&self) -> f64 {
        self.length
    }

    fn shaded_s(&self) -> (f64, f64) {
        self.shaded
    }

    fn points(&self) -> &[Second] {
        &self.points
    }

    fn at_s(point: &Second) -> f64 {
        point.at
    }
}
