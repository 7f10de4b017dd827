//! A run as one page with plots of load, limit, errors, latency and goodput; a replay as one of what was judged.

use super::replay::How;
use super::run::{Run, Second};
use super::scenario::Named;
use super::show::{self, Replay};
use crate::control::law::Decision;
use crate::plot::{self, Panel, Plot, Scale, Series, Style, escape};
use crate::signal::Signal;

/// Most points of a panel: a day has 86,400 seconds, a screen has fewer dots.
const POINTS_MAX: usize = 2_400;

/// How many times the highest load or capacity a limit may be and stand on the axis; above, its line runs along the top.
const LIMIT_SHOWN_MAX: f64 = 3.0;

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
    // A limit far above everything else, as where there is no gate, would leave nothing of it to see.
    let load = |second: &Second| second.offered.max(second.capacity);
    let far = LIMIT_SHOWN_MAX * whole[0].points.iter().map(load).fold(0.0, f64::max);
    let highest = |second: &Second| if second.limit <= far { load(second).max(second.limit) } else { load(second) };
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

/// A replay: what was asked for, what the limit would have become, and the shares that were judged.
pub(super) fn replayed(replay: &Replay<'_>) -> String {
    let first = replay.decisions.first().map_or(0.0, |(at, _)| *at);
    let points: Vec<Tick> = replay.decisions.iter().map(|(at, decision)| Tick::of(at - first, decision)).collect();
    let length = points.last().map_or(0.0, |last| last.at).max(1.0);
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    // Of several ticks the one that is shown is that with the worst share: a short episode must not vanish.
    let worst = |ticks: &[Tick]| ticks.iter().copied().max_by(|one, other| one.worst().total_cmp(&other.worst()));
    let points = points.chunks(every).filter_map(worst).collect();
    let name = match replay.how {
        How::OpenLoop => "seconds; open loop: what was recorded goes on as if nothing were done",
        How::AsRecorded => "seconds; what was decided and recorded",
    };
    let name = name.to_owned();
    let whole = [Ticks { name, length, points }];
    let rates = Plot {
        title: "Requests a second",
        scale: Scale::linear(&whole, |tick| tick.offered.max(tick.limit)),
        series: vec![
            Series::line("offered", "offered", Style::Line, &whole, |tick| Some(tick.offered)),
            Series::line("admitted", "good", Style::Line, &whole, |tick| Some(tick.admitted)),
            Series::line("limit", "limit", Style::Dashed, &whole, |tick| Some(tick.limit)),
            Series::line("limit that would be set", "failed", Style::Line, &whole, |tick| tick.would),
        ],
    };
    let shares = Plot {
        title: "Share of the answers, in %",
        scale: Scale::linear(&whole, |tick| tick.worst().max(1.0)),
        series: vec![
            Series::line("failed", "failed", Style::Line, &whole, |tick| tick.errors),
            Series::line("slow", "p99", Style::Line, &whole, |tick| tick.slow),
        ],
    };
    let plots: String = [rates, shares].iter().map(|plot| plot.to_html(&whole)).collect();
    let text = escape(&show::replayed(replay));
    let body = format!("{plots}<div class=\"wide\"><pre>{text}</pre></div>\n");
    let heading = format!("{}, replayed", replay.name);
    plot::page(&format!("Tidegate: {} replayed", replay.name), &heading, &body)
}

/// Decisions of a replay.
struct Ticks {
    name: String,
    length: f64,
    points: Vec<Tick>,
}

/// What is drawn of a decision: rates in requests per second, shares in %.
#[derive(Clone, Copy, Debug)]
struct Tick {
    at: f64,
    offered: f64,
    admitted: f64,
    limit: f64,
    would: Option<f64>,
    errors: Option<f64>,
    slow: Option<f64>,
}

impl Tick {
    fn of(at: f64, decision: &Decision) -> Tick {
        let share =
            |signal| decision.judged.iter().find(|judged| judged.signal == signal).map(|judged| judged.ratio * 100.0);
        Tick {
            at,
            offered: decision.offered,
            admitted: decision.admitted,
            limit: decision.to,
            would: decision.would.filter(|would| !would.is_over).map(|would| would.to),
            errors: share(Signal::Errors),
            slow: share(Signal::Latency),
        }
    }

    fn worst(&self) -> f64 {
        self.errors.unwrap_or(0.0).max(self.slow.unwrap_or(0.0))
    }
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

impl Panel for Ticks {
    type Point = Tick;

    fn name(&self) -> &str {
        &self.name
    }

    fn length_s(&self) -> f64 {
        self.length
    }

    fn shaded_s(&self) -> (f64, f64) {
        (0.0, 0.0)
    }

    fn points(&self) -> &[Tick] {
        &self.points
    }

    fn at_s(point: &Tick) -> f64 {
        point.at
    }
}
