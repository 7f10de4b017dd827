//! Numbers over time as SVG.
//!
//! ```text
//!      title, legend                       HTML above the drawing
//! max ┤        ╭──╮                  ┆
//!     ┤   ─────╯▒▒╰─────             ┆     stages side by side, the overload of each shaded
//!   0 ┼──────────────────────────────┆────
//!       pass-through                 ┆ outlier detection
//! ```
//!
//! Colours and line styles are classes, which the page's style sheet knows; here are only shapes.

use std::fmt::Write;

use super::super::results::{Point, StageResults};
use super::escape;

/// A drawing.
#[derive(Debug)]
pub struct Plot {
    /// What it shows, with the unit.
    pub title: &'static str,
    /// Its axis of values.
    pub scale: Scale,
    /// What is drawn, first at the back.
    pub series: Vec<Series>,
}

/// Where values stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// From zero.
    Linear {
        /// The highest value.
        max: f64,
    },
    /// In powers of ten.
    Logarithmic {
        /// The lowest value, above zero.
        min: f64,
        /// The highest value, above the lowest.
        max: f64,
    },
}

/// Values by instant, for each stage.
#[derive(Debug)]
pub struct Series {
    name: &'static str,
    class: &'static str,
    style: Style,
    /// For each stage, stretches without a gap of (seconds, low, high).
    stretches: Vec<Vec<Vec<(f64, f64, f64)>>>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line.
    Line,
    /// A line of dashes.
    Dashed,
    /// A line of dots.
    Dotted,
    /// The room between two values.
    Area,
}

/// Size of a drawing, in its own units.
const WIDTH: f64 = 1_080.0;
const HEIGHT: f64 = 230.0;

/// Room around the axes: for values at the left, for times and stages below.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 38.0;

/// Room between two stages.
const GAP: f64 = 10.0;

/// Steps between marks, times a power of ten.
const NICE: [f64; 3] = [1.0, 2.0, 5.0];

/// Most marks of an axis of values.
const MARKS_MAX: f64 = 5.0;

// === impl Scale ===

impl Scale {
    /// From zero to a round number above the highest of these values.
    pub fn linear(stages: &[StageResults], value: impl Fn(&Point) -> f64) -> Scale {
        let highest = stages.iter().flat_map(|stage| &stage.points).map(value).fold(1.0, f64::max);
        let step = step_for(highest);
        Scale::Linear { max: (highest / step).ceil() * step }
    }

    /// From `min` to the power of ten above the highest of these values.
    pub fn logarithmic(stages: &[StageResults], min: f64, value: impl Fn(&Point) -> f64) -> Scale {
        let highest = stages.iter().flat_map(|stage| &stage.points).map(value).fold(min * 10.0, f64::max);
        Scale::Logarithmic { min, max: 10_f64.powf(highest.log10().ceil()) }
    }

    /// Where a value stands, from the top.
    fn y(self, value: f64) -> f64 {
        let share = match self {
            Scale::Linear { max } => value / max,
            Scale::Logarithmic { min, max } => (value / min).log10() / (max / min).log10(),
        };
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share.clamp(0.0, 1.0))
    }

    fn marks(self) -> Vec<f64> {
        match self {
            Scale::Linear { max } => {
                let step = step_for(max);
                (0..=(max / step).round() as u32).map(|number| f64::from(number) * step).collect()
            }
            Scale::Logarithmic { min, max } => {
                let decades = (max / min).log10().round() as i32;
                (0..=decades).map(|power| min * 10_f64.powi(power)).collect()
            }
        }
    }
}

/// The smallest nice step with which `max` has few marks.
fn step_for(max: f64) -> f64 {
    let power = 10_f64.powf((max / MARKS_MAX).log10().floor());
    let steps = NICE.iter().map(|nice| nice * power).chain([10.0 * power]);
    steps.into_iter().find(|step| max / step <= MARKS_MAX).unwrap_or(max)
}

// === impl Series ===

impl Series {
    /// A line; where there is no value it has a gap.
    pub fn line(
        name: &'static str,
        class: &'static str,
        style: Style,
        stages: &[StageResults],
        value: impl Fn(&Point) -> Option<f64>,
    ) -> Series {
        let stretches = stages.iter().map(|stage| stretches(&stage.points, |point| value(point).map(|at| (at, at))));
        Series { name, class, style, stretches: stretches.collect() }
    }

    /// The room between two values; it goes on over instants that have none.
    pub fn area(
        name: &'static str,
        class: &'static str,
        stages: &[StageResults],
        bounds: impl Fn(&Point) -> Option<(f64, f64)>,
    ) -> Series {
        let stretches = stages.iter().map(|stage| vec![stretches(&stage.points, &bounds).concat()]);
        Series { name, class, style: Style::Area, stretches: stretches.collect() }
    }

    fn is_empty(&self) -> bool {
        self.stretches.iter().flatten().all(Vec::is_empty)
    }

    fn word(&self) -> &'static str {
        match self.style {
            Style::Line => "line",
            Style::Dashed => "line dashed",
            Style::Dotted => "line dotted",
            Style::Area => "area",
        }
    }
}

/// The points that have a value, cut where one has none. A value stands at the middle of its slice.
fn stretches(points: &[Point], bounds: impl Fn(&Point) -> Option<(f64, f64)>) -> Vec<Vec<(f64, f64, f64)>> {
    let mut all = vec![Vec::new()];
    for point in points {
        match (bounds(point), all.last_mut()) {
            (Some((low, high)), Some(last)) => last.push((point.at_s + point.seconds / 2.0, low, high)),
            _ => all.push(Vec::new()),
        }
    }
    all.retain(|stretch| !stretch.is_empty());
    all
}

// === impl Plot ===

impl Plot {
    /// The drawing with its title and legend.
    #[must_use]
    pub fn to_html(&self, stages: &[StageResults]) -> String {
        let mut svg = String::new();
        self.frame(&mut svg, stages);
        for series in &self.series {
            for (stretches, start) in series.stretches.iter().zip(starts(stages)) {
                for stretch in stretches {
                    let shape = self.shape(series.style, stretch, |seconds| start + seconds * width_of_seconds(stages));
                    put(&mut svg, format_args!("<path class=\"{} {}\" d=\"{shape}\"/>\n", series.word(), series.class));
                }
            }
        }
        let title = escape(self.title);
        let legend: String = self
            .series
            .iter()
            .filter(|series| !series.is_empty())
            .map(|series| format!("<li><i class=\"{} {}\"></i>{}</li>", series.word(), series.class, series.name))
            .collect();
        format!(
            "<figure>\n<figcaption><h2>{title}</h2><ul class=\"legend\">{legend}</ul></figcaption>\n\
             <div class=\"wide\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n{svg}</svg>\
             </div>\n</figure>\n"
        )
    }

    /// Everything but the series: overloads, marks and names.
    fn frame(&self, svg: &mut String, stages: &[StageResults]) {
        let (low, high) = (HEIGHT - BOTTOM, TOP);
        let scale = width_of_seconds(stages);
        for (stage, start) in stages.iter().zip(starts(stages)) {
            let (from, to) = (start + stage.overload_from_s * scale, start + stage.overload_to_s * scale);
            put(
                svg,
                format_args!(
                    "<rect class=\"overload\" x=\"{from:.1}\" y=\"{high}\" width=\"{:.1}\" height=\"{}\"/>\n",
                    to - from,
                    low - high
                ),
            );
        }
        for mark in self.scale.marks() {
            let y = self.scale.y(mark);
            for (stage, start) in stages.iter().zip(starts(stages)) {
                let end = start + stage.length_s * scale;
                put(svg, format_args!("<path class=\"grid\" d=\"M{start:.1} {y:.1}H{end:.1}\"/>\n"));
            }
            let x = LEFT - 6.0;
            put(svg, format_args!("<text class=\"value\" x=\"{x}\" y=\"{:.1}\">{mark}</text>\n", y + 4.0));
        }
        for (stage, start) in stages.iter().zip(starts(stages)) {
            let step = step_for(stage.length_s);
            // None at the end: the next stage's first would stand in its place.
            let marks = (stage.length_s / step).ceil() as u32;
            for number in 0..marks {
                let seconds = f64::from(number) * step;
                let (x, y) = (start + seconds * scale, low + 14.0);
                put(svg, format_args!("<text class=\"time\" x=\"{x:.1}\" y=\"{y}\">{seconds}</text>\n"));
            }
            let (x, y) = (start + stage.length_s * scale / 2.0, HEIGHT - 6.0);
            let name = escape(stage.stage.name());
            put(svg, format_args!("<text class=\"stage\" x=\"{x:.1}\" y=\"{y}\">{name}</text>\n"));
        }
    }

    fn shape(&self, style: Style, stretch: &[(f64, f64, f64)], x: impl Fn(f64) -> f64) -> String {
        let mut path = String::new();
        for (index, (seconds, _, high)) in stretch.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            put(&mut path, format_args!("{letter}{:.1} {:.1}", x(*seconds), self.scale.y(*high)));
        }
        if style == Style::Area {
            for (seconds, low, _) in stretch.iter().rev() {
                put(&mut path, format_args!("L{:.1} {:.1}", x(*seconds), self.scale.y(*low)));
            }
            path.push('Z');
        }
        path
    }
}

/// How wide a second is.
fn width_of_seconds(stages: &[StageResults]) -> f64 {
    let seconds: f64 = stages.iter().map(|stage| stage.length_s).sum();
    let gaps = stages.len().saturating_sub(1) as f64 * GAP;
    (WIDTH - LEFT - RIGHT - gaps) / seconds.max(f64::MIN_POSITIVE)
}

/// Where each stage begins.
fn starts(stages: &[StageResults]) -> Vec<f64> {
    let scale = width_of_seconds(stages);
    let mut start = LEFT;
    let next = |stage: &StageResults| {
        let this = start;
        start += stage.length_s * scale + GAP;
        this
    };
    stages.iter().map(next).collect()
}

/// Writing to a String can't fail.
fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    let _written = text.write_fmt(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_few_and_round_and_reach_the_highest_value() {
        for (max, step) in [(1.0, 0.2), (400.0, 100.0), (437.0, 100.0), (60.0, 20.0), (28.0, 10.0)] {
            assert!((step_for(max) - step).abs() < 1e-9, "{max}: {}", step_for(max));
        }
        assert_eq!(Scale::Linear { max: 500.0 }.marks(), [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]);
        assert_eq!(Scale::Logarithmic { min: 1.0, max: 1_000.0 }.marks().len(), 4);
    }

    #[test]
    fn the_highest_value_is_at_the_top_and_what_is_beyond_stays_inside() {
        let linear = Scale::Linear { max: 10.0 };
        assert_eq!((linear.y(10.0), linear.y(0.0), linear.y(99.0)), (TOP, HEIGHT - BOTTOM, TOP));
        let logarithmic = Scale::Logarithmic { min: 1.0, max: 100.0 };
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        assert_eq!(
            (logarithmic.y(1.0), logarithmic.y(10.0), logarithmic.y(0.1)),
            (HEIGHT - BOTTOM, middle, HEIGHT - BOTTOM)
        );
    }
}
