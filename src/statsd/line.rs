//! A metric as a line of statsd, or of DogStatsD, which has tags of their own.
//!
//! ```text
//! ratelimit.service.rate_limit.shop.user.total_hits.__zone=a:12|c              statsd, tag zone
//! ratelimit.service.rate_limit.shop.user.total_hits:12|c|#zone:a               DogStatsD
//! ratelimit_server.ShouldRateLimit.response_time:7|ms|@0.25                    four calls of 5 to 10 ms
//! ```
//!
//! Counters are sent as what they gained, and not at all if that is nothing; gauges always. **Timers are an
//! approximation.** The reference service sends a line for every call when it ends; here calls are sorted into buckets,
//! and a line stands for all calls of a bucket since last time: its middle in whole milliseconds, and a sampling rate
//! from which a server counts them. Percentiles are as exact as buckets are narrow, and a flush is 18 lines at most.

use std::fmt::Write;

use super::rewrite::{Rewrite, Rewritten};
use crate::metrics::deltas::Deltas;
use crate::metrics::dotted::{Name, Value};
use crate::metrics::histogram::Reading;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Tags are part of the name, as `.__name=value`.
    Statsd,
    /// Tags stand at the end of the line.
    DogStatsd,
}

/// A tag of every metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Most bytes of all tags: names, values, and four for the marks around each. With them a line with the longest name
/// fits a packet.
pub const TAGS_BYTES_MAX: usize = 256;

/// Dialect and tags as they are written.
#[derive(Debug)]
pub(super) struct Form {
    dialect: Dialect,
    /// In the order of their names.
    tags: Vec<(String, String)>,
    rewrites: Vec<Rewrite>,
    after_name: String,
    after_value: String,
}

// === impl Form ===

impl Form {
    /// Lines in that dialect, with these tags, under the names that the first rewrite to match gives.
    pub(super) fn new(dialect: Dialect, tags: &[Tag], rewrites: &[Rewrite]) -> Form {
        let mut tags: Vec<(String, String)> =
            tags.iter().map(|Tag { name, value }| (clean(name), clean(value))).collect();
        tags.sort();
        let (after_name, after_value) = dialect.written(&tags);
        Form { dialect, tags, rewrites: rewrites.to_vec(), after_name, after_value }
    }

    /// Adds the lines of a metric: none, one, or one for each bucket.
    pub(super) fn write(&self, lines: &mut String, name: Name<'_>, value: Value<'_>, deltas: &mut Deltas) {
        match value {
            Value::Counter(total) => match deltas.of_counter(name.identity(), total) {
                0 => {}
                gained => self.line(lines, name, gained, "c"),
            },
            Value::Gauge(value) => self.line(lines, name, value, "g"),
            Value::Timer(reading) => {
                let gained = deltas.of_timer(name.identity(), reading);
                for (bucket, calls) in gained.into_iter().enumerate().filter(|(_, calls)| *calls > 0) {
                    self.line(lines, name, middle_millis(reading, bucket), &format!("ms{}", rate(calls)));
                }
            }
        }
    }

    fn line(&self, lines: &mut String, name: Name<'_>, value: u64, kind: &str) {
        let Form { after_name, after_value, .. } = self;
        let written = match self.rewritten(name) {
            None => writeln!(lines, "{name}{after_name}:{value}|{kind}{after_value}"),
            Some(Rewritten { name, tags }) => {
                let mut tags: Vec<_> = tags.into_iter().chain(self.tags.iter().cloned()).collect();
                tags.sort();
                let (after_name, after_value) = self.dialect.written(&tags);
                writeln!(lines, "{name}{after_name}:{value}|{kind}{after_value}")
            }
        };
        written.expect("memory takes any text");
    }

    fn rewritten(&self, name: Name<'_>) -> Option<Rewritten> {
        if self.rewrites.is_empty() {
            return None;
        }
        let name = name.to_string();
        self.rewrites.iter().find(|rewrite| rewrite.matches(&name)).and_then(|rewrite| rewrite.apply(&name))
    }
}

// === impl Dialect ===

impl Dialect {
    /// The tags as they stand behind a name, and behind a value.
    fn written(self, tags: &[(String, String)]) -> (String, String) {
        match self {
            Dialect::Statsd => (tags.iter().map(|(name, value)| format!(".__{name}={value}")).collect(), String::new()),
            Dialect::DogStatsd if tags.is_empty() => (String::new(), String::new()),
            Dialect::DogStatsd => {
                let tags: Vec<String> = tags.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                (String::new(), format!("|#{}", tags.join(",")))
            }
        }
    }
}

/// What can stand in a tag: as in the reference service, and nothing that ends a tag or a line.
pub(super) fn clean(text: &str) -> String {
    let is_sign = |c: char| matches!(c, '.' | ':' | '|' | ',' | '#') || c.is_control();
    text.replace(is_sign, "_")
}

/// The middle of a bucket in whole milliseconds, rounded down; of the one without end, where it begins.
fn middle_millis(reading: &Reading, bucket: usize) -> u64 {
    let begin = bucket.checked_sub(1).map_or(0.0, |before| reading.buckets[before].0);
    let (end, _) = reading.buckets[bucket];
    let middle = if end.is_finite() { f64::midpoint(begin, end) } else { begin };
    (middle * 1e3) as u64
}

/// The sampling rate that makes one line stand for `calls`. Cut off and not rounded: a server that takes the whole part
/// of one over the rate then has all of them.
fn rate(calls: u64) -> String {
    const PLACES: u32 = 15;
    if calls <= 1 {
        return String::new();
    }
    let digits = format!("{:015}", 10_u64.pow(PLACES) / calls);
    format!("|@0.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::time::Duration;

    use super::*;
    use crate::metrics::dotted::NAME_BYTES_MAX;
    use crate::metrics::{GrpcMethod, Metrics};

    fn tags(tags: &[(&str, &str)]) -> Vec<Tag> {
        tags.iter().map(|(name, value)| Tag { name: (*name).to_owned(), value: (*value).to_owned() }).collect()
    }

    /// The lines of everything but gauges.
    fn flushed(metrics: &Metrics, form: &Form, deltas: &mut Deltas) -> Vec<String> {
        let mut lines = String::new();
        let walked = metrics.each::<()>(|name, value| {
            if !matches!(value, Value::Gauge(_)) {
                form.write(&mut lines, name, value, deltas);
            }
            ControlFlow::Continue(())
        });
        assert!(walked.is_continue());
        lines.lines().map(str::to_owned).collect()
    }

    #[test]
    fn counters_are_sent_as_what_they_gained_and_not_at_all_for_nothing() {
        let (metrics, form, mut deltas) = (Metrics::default(), Form::new(Dialect::Statsd, &[], &[]), Deltas::default());
        let counters = metrics.rule("d", &["user", "path"]);
        counters.record_unlimited(3);
        let name = "ratelimit.service.rate_limit.d.user.path";
        let lines = [format!("{name}.total_hits:3|c"), format!("{name}.within_limit:3|c")];
        assert_eq!(flushed(&metrics, &form, &mut deltas), lines);
        assert_eq!(flushed(&metrics, &form, &mut deltas), Vec::<String>::new());
        counters.record_given_back(2);
        assert_eq!(flushed(&metrics, &form, &mut deltas), [format!("{name}.total_negative_hits:2|c")]);
    }

    #[test]
    fn gauges_are_sent_each_time() {
        let (metrics, form, mut deltas) = (Metrics::default(), Form::new(Dialect::Statsd, &[], &[]), Deltas::default());
        metrics.totals().rules_loaded.set(4);
        for _ in 0..2 {
            let mut lines = String::new();
            let walked = metrics.each::<()>(|name, value| {
                form.write(&mut lines, name, value, &mut deltas);
                ControlFlow::Continue(())
            });
            assert!(walked.is_continue());
            assert!(lines.lines().any(|line| line == "tidegate.rules_loaded:4|g"), "{lines}");
        }
    }

    #[test]
    fn tags_are_part_of_a_statsd_name_and_stand_at_the_end_in_dogstatsd() {
        let metrics = Metrics::default();
        metrics.totals().redis_errors.increment();
        let tags = tags(&[("zone", "a.b:c|d"), ("env", "x\ny")]);
        let name = "ratelimit.service.call.should_rate_limit.redis_error";
        for (dialect, line) in [
            (Dialect::Statsd, format!("{name}.__env=x_y.__zone=a_b_c_d:1|c")),
            (Dialect::DogStatsd, format!("{name}:1|c|#env:x_y,zone:a_b_c_d")),
        ] {
            assert_eq!(flushed(&metrics, &Form::new(dialect, &tags, &[]), &mut Deltas::default()), [line]);
        }
        let line = format!("{name}:1|c");
        assert_eq!(flushed(&metrics, &Form::new(Dialect::DogStatsd, &[], &[]), &mut Deltas::default()), [line]);
    }

    #[test]
    fn a_rewritten_name_brings_its_tags_along_in_either_dialect() {
        let metrics = Metrics::default();
        metrics.rule("shop", &["user_a.b"]).record_given_back(3);
        let rewrites =
            [r"\.rate_limit\.([^.]+)\.(.*)\.total_negative_hits$ => back => rule:$2,domain:$1", ".* => other"];
        let rewrites = rewrites.map(|rewrite| Rewrite::parse(rewrite).unwrap());
        for (dialect, line) in [
            (Dialect::Statsd, "back.__domain=shop.__env=live.__rule=user_a_b:3|c"),
            (Dialect::DogStatsd, "back:3|c|#domain:shop,env:live,rule:user_a_b"),
        ] {
            let form = Form::new(dialect, &tags(&[("env", "live")]), &rewrites);
            assert_eq!(flushed(&metrics, &form, &mut Deltas::default()), [line]);
        }
    }

    #[test]
    fn a_line_stands_for_all_calls_of_a_bucket() {
        let (metrics, form, mut deltas) = (Metrics::default(), Form::new(Dialect::Statsd, &[], &[]), Deltas::default());
        let calls = metrics.calls(GrpcMethod::ShouldRateLimit);
        for micros in [70, 7_000, 7_000, 9_000, 6_000, 99_000_000] {
            calls.observe(Duration::from_micros(micros));
        }
        let timer = "ratelimit_server.ShouldRateLimit.response_time";
        let expected = [
            "ratelimit_server.ShouldRateLimit.total_requests:6|c".to_owned(),
            format!("{timer}:0|ms"),
            format!("{timer}:7|ms|@0.25"),
            format!("{timer}:10000|ms"),
        ];
        assert_eq!(flushed(&metrics, &form, &mut deltas), expected);
        assert_eq!(flushed(&metrics, &form, &mut deltas), Vec::<String>::new());
    }

    #[test]
    fn a_server_counts_as_many_calls_as_there_were() {
        for calls in (1..2_000).chain([99_991, 1_000_000, 9_999_991]) {
            let rate = rate(calls);
            let share = rate.strip_prefix("|@").map_or(1.0, |rate| rate.parse::<f64>().unwrap());
            assert!(share > 0.0 && share <= 1.0);
            assert_eq!((1.0 / share) as u64, calls, "{rate}");
        }
    }

    #[test]
    fn the_longest_line_fits_a_packet() {
        let value = ":18446744073709551615|c\n".len();
        let many = tags(&[("a", "b"); TAGS_BYTES_MAX / 6]);
        let long = tags(&[("a", &"x".repeat(TAGS_BYTES_MAX - 5))]);
        for (dialect, tags) in [(Dialect::Statsd, &many), (Dialect::DogStatsd, &many), (Dialect::Statsd, &long)] {
            let Form { after_name, after_value, .. } = Form::new(dialect, tags, &[]);
            let longest = NAME_BYTES_MAX + after_name.len() + after_value.len() + value;
            assert!(longest <= super::super::Protocol::Udp.piece_bytes_max(), "{longest}");
        }
    }
}
