//! Numbers over time as SVG, and pages that hold such drawings and need nothing else.
//!
//! ```text
//!      title, legend                       HTML above the drawing
//! max ┤        ╭──╮                  ┆
//!     ┤   ─────╯▒▒╰─────             ┆     panels side by side, a stretch of each shaded
//!   0 ┼──────────────────────────────┆────
//!       pass-through                 ┆ outlier detection
//! ```
//!
//! Colours and line styles are classes, which the page's style sheet knows; here are only shapes.

use std::fmt::Write;

/// Colours and sizes, for both colour schemes.
pub const STYLE: &str = include_str!("plot.css");

/// What is drawn side by side with its like: a stretch of time with its points.
pub trait Panel {
    /// What is known of one instant.
    type Point;

    /// What stands below it.
    fn name(&self) -> &str;

    /// How long it is, in seconds.
    fn length_s(&self) -> f64;

    /// From when to when it is shaded, in seconds.
    fn shaded_s(&self) -> (f64, f64);

    /// What is known, in order.
    fn points(&self) -> &[Self::Point];

    /// Where a point stands, in seconds.
    fn at_s(point: &Self::Point) -> f64;
}

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

/// Values by instant, for each panel.
#[derive(Debug)]
pub struct Series {
    name: &'static str,
    class: &'static str,
    style: Style,
    /// For each panel, stretches without a gap of (seconds, low, high).
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

/// Room around the axes: for values at the left, for times and panels below.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 38.0;

/// Room between two panels.
const GAP: f64 = 10.0;

/// Steps between marks, times a power of ten.
const NICE: [f64; 3] = [1.0, 2.0, 5.0];

/// Most marks of an axis of values.
const MARKS_MAX: f64 = 5.0;

// === impl Scale ===

impl Scale {
    /// From zero to a round number above the highest of these values.
    pub fn linear<P: Panel>(panels: &[P], value: impl Fn(&P::Point) -> f64) -> Scale {
        let highest = panels.iter().flat_map(Panel::points).map(value).fold(1.0, f64::max);
        let step = step_for(highest);
        Scale::Linear { max: (highest / step).ceil() * step }
    }

    /// From `min` to the power of ten above the highest of these values.
    pub fn logarithmic<P: Panel>(panels: &[P], min: f64, value: impl Fn(&P::Point) -> f64) -> Scale {
        let highest = panels.iter().flat_map(Panel::points).map(value).fold(min * 10.0, f64::max);
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
    pub fn line<P: Panel>(
        name: &'static str,
        class: &'static str,
        style: Style,
        panels: &[P],
        value: impl Fn(&P::Point) -> Option<f64>,
    ) -> Series {
        let stretches = panels.iter().map(|panel| stretches(panel, |point| value(point).map(|at| (at, at))));
        Series { name, class, style, stretches: stretches.collect() }
    }

    /// The room between two values; it goes on over instants that have none.
    pub fn area<P: Panel>(
        name: &'static str,
        class: &'static str,
        panels: &[P],
        bounds: impl Fn(&P::Point) -> Option<(f64, f64)>,
    ) -> Series {
        let stretches = panels.iter().map(|panel| vec![stretches(panel, &bounds).concat()]);
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

/// The points that have a value, cut where one has none.
fn stretches<P: Panel>(panel: &P, bounds: impl Fn(&P::Point) -> Option<(f64, f64)>) -> Vec<Vec<(f64, f64, f64)>> {
    let mut all = vec![Vec::new()];
    for point in panel.points() {
        match (bounds(point), all.last_mut()) {
            (Some((low, high)), Some(last)) => last.push((P::at_s(point), low, high)),
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
    pub fn to_html<P: Panel>(&self, panels: &[P]) -> String {
        let mut svg = String::new();
        self.frame(&mut svg, panels);
        for series in &self.series {
            for (stretches, start) in series.stretches.iter().zip(starts(panels)) {
                for stretch in stretches {
                    let shape = self.shape(series.style, stretch, |seconds| start + seconds * width_of_seconds(panels));
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
    fn frame<P: Panel>(&self, svg: &mut String, panels: &[P]) {
        let (low, high) = (HEIGHT - BOTTOM, TOP);
        let scale = width_of_seconds(panels);
        for (panel, start) in panels.iter().zip(starts(panels)) {
            let (from, to) = panel.shaded_s();
            let (from, to) = (start + from * scale, start + to * scale);
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
            for (panel, start) in panels.iter().zip(starts(panels)) {
                let end = start + panel.length_s() * scale;
                put(svg, format_args!("<path class=\"grid\" d=\"M{start:.1} {y:.1}H{end:.1}\"/>\n"));
            }
            let x = LEFT - 6.0;
            put(svg, format_args!("<text class=\"value\" x=\"{x}\" y=\"{:.1}\">{mark}</text>\n", y + 4.0));
        }
        for (panel, start) in panels.iter().zip(starts(panels)) {
            let step = step_for(panel.length_s());
            // None at the end: the next panel's first would stand in its place.
            let marks = (panel.length_s() / step).ceil() as u32;
            for number in 0..marks {
                let seconds = f64::from(number) * step;
                let (x, y) = (start + seconds * scale, low + 14.0);
                put(svg, format_args!("<text class=\"time\" x=\"{x:.1}\" y=\"{y}\">{seconds}</text>\n"));
            }
            let (x, y) = (start + panel.length_s() * scale / 2.0, HEIGHT - 6.0);
            let name = escape(panel.name());
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
fn width_of_seconds<P: Panel>(panels: &[P]) -> f64 {
    let seconds: f64 = panels.iter().map(|panel| panel.length_s()).sum();
    let gaps = panels.len().saturating_sub(1) as f64 * GAP;
    (WIDTH - LEFT - RIGHT - gaps) / seconds.max(f64::MIN_POSITIVE)
}

/// Where each panel begins.
fn starts<P: Panel>(panels: &[P]) -> Vec<f64> {
    let scale = width_of_seconds(panels);
    let mut start = LEFT;
    let next = |panel: &P| {
        let this = start;
        start += panel.length_s() * scale + GAP;
        this
    };
    panels.iter().map(next).collect()
}

/// A whole page around `body`, which is HTML: no script, and nothing that has to be fetched.
#[must_use]
pub fn page(title: &str, heading: &str, body: &str) -> String {
    let (title, heading) = (escape(title), escape(heading));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{heading}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// A text as it stands in HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
