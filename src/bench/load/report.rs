//! What a run of `load` came to: a table for people, one JSON object for machines.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::super::drive::{Pace, Summary};
use super::slices::Slice;
use super::tally::Tally;

/// The result of a run. The fields of its JSON are named as here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The servers as they were named.
    pub targets: Vec<String>,
    /// `closed` or `open`.
    pub mode: &'static str,
    /// Calls a second that were asked for; open loop only.
    pub rate: Option<f64>,
    /// Seconds in which calls were measured.
    pub seconds: f64,
    /// Measured calls that were sent.
    pub sent: u64,
    /// … that were answered, with an error or without.
    pub answered: u64,
    /// … that were answered OK.
    pub ok: u64,
    /// … that were answered over limit.
    pub over_limit: u64,
    /// … that were answered with an error, by its name.
    pub errors: BTreeMap<String, u64>,
    /// Answers a second, counted when they came.
    pub calls_per_second: f64,
    /// Calls that were answered after their deadline or never, those that weren't sent included.
    pub missed_deadline: u64,
    /// Their share of all calls that were due, from 0 to 1.
    pub missed_share: f64,
    /// Calls that Envoy lets through for want of an answer: those that missed their deadline, and the errors in time.
    pub let_through: u64,
    /// Calls without an answer: sent, and given up after the patience.
    pub unanswered: u64,
    /// Calls that were due and never sent: the backlog was full, or the run over.
    pub unsent: u64,
    /// Time from a call's being due to its answer, in microseconds; zeros when there was none.
    pub latency_us: Latency,
    /// Most calls that waited at once for a connection with room; open loop only.
    pub backlog_max: usize,
    /// How late the generator itself was at most, in microseconds; it is part of the latencies. Open loop only.
    pub generator_late_max_us: f64,
    /// Seconds of processor time that the generator used while it measured.
    pub generator_cpu_seconds: f64,
    /// The same as a share of one core.
    pub generator_cpu_share: f64,
    /// The same for each call, in microseconds.
    pub generator_cpu_us_per_call: f64,
    /// Connections that were made in the place of others.
    pub reconnects: u64,
    /// Calls that a closing connection gave back and that were sent again; they count once.
    pub returned: u64,
    /// When the measured time began, in milliseconds since the Unix epoch by this machine's clock.
    pub began_unix_ms: u64,
    /// The run in stretches, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the calls took no longer.
    pub p50: f64,
    /// Of ten calls, nine.
    pub p90: f64,
    /// Of a hundred, 99.
    pub p99: f64,
    /// Of a thousand, 999.
    pub p99_9: f64,
    /// Of ten thousand, 9,999.
    pub p99_99: f64,
    /// The longest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

// === impl Report ===

impl Report {
    /// The report of a run that is over.
    #[must_use]
    pub fn new(targets: Vec<String>, pace: Pace, tally: &Tally, summary: &Summary) -> Report {
        let (mode, rate) = match pace {
            Pace::Closed => ("closed", None),
            Pace::Open { rate, .. } => ("open", Some(rate)),
        };
        let calls_per_second = ratio(tally.answered_within as f64, tally.seconds());
        let cpu_share = ratio(summary.cpu_seconds, summary.span_seconds);
        Report {
            targets,
            mode,
            rate,
            seconds: tally.seconds(),
            sent: tally.answered() + tally.unanswered,
            answered: tally.answered(),
            ok: tally.ok,
            over_limit: tally.over_limit,
            errors: tally.failures.named(),
            calls_per_second,
            missed_deadline: tally.missed,
            missed_share: ratio(tally.missed as f64, tally.due() as f64),
            let_through: tally.missed + tally.failed_in_time,
            unanswered: tally.unanswered,
            unsent: tally.unsent,
            latency_us: Latency::of(&tally.latency),
            backlog_max: summary.backlog_max,
            generator_late_max_us: summary.late_max_ns as f64 / 1e3,
            generator_cpu_seconds: summary.cpu_seconds,
            generator_cpu_share: cpu_share,
            generator_cpu_us_per_call: ratio(cpu_share * 1e6, calls_per_second),
            reconnects: summary.reconnects,
            returned: summary.returned,
            began_unix_ms: summary.began.as_millis() + tally.from_ms(),
            slices: tally.slices(),
        }
    }
}

/// A quotient that is zero where there is nothing to divide by.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, text: String| writeln!(formatter, "{name:<18} {text}");
        let pace = match self.rate {
            None => String::new(),
            Some(rate) => format!(" at {rate} calls a second"),
        };
        line("targets", self.targets.join(", "))?;
        line("loop", format!("{}{pace}, {} s", self.mode, self.seconds))?;
        line("calls a second", format!("{:.0}", self.calls_per_second))?;
        line("answered", format!("{} of {} sent", self.answered, self.sent))?;
        line("  ok", self.ok.to_string())?;
        line("  over limit", self.over_limit.to_string())?;
        for (name, count) in &self.errors {
            line(&format!("  {name}"), count.to_string())?;
        }
        if self.unanswered > 0 {
            line("unanswered", self.unanswered.to_string())?;
        }
        if self.unsent > 0 {
            line("unsent", self.unsent.to_string())?;
        }
        line("missed deadline", format!("{} ({:.4} %)", self.missed_deadline, self.missed_share * 100.0))?;
        let latency = &self.latency_us;
        let names = ["p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"];
        let values = [latency.p50, latency.p90, latency.p99, latency.p99_9, latency.p99_99, latency.max, latency.mean];
        line("latency, µs", names.map(|name| format!("{name:>9}")).concat())?;
        line("", values.map(|value| format!("{value:>9.0}")).concat())?;
        if self.rate.is_some() {
            line("backlog at most", self.backlog_max.to_string())?;
        }
        if self.reconnects > 0 {
            line("connections anew", format!("{}, with {} calls sent again", self.reconnects, self.returned))?;
        }
        let (share, each) = (self.generator_cpu_share * 100.0, self.generator_cpu_us_per_call);
        write!(formatter, "{:<18} {share:.1} % of a core, {each:.2} µs a call", "generator CPU")
    }
}

// === impl Latency ===

impl Latency {
    /// The percentiles of latencies in nanoseconds; zeros when there are none.
    fn of(latency: &Histogram<u64>) -> Latency {
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: latency.max() as f64 / 1e3,
            mean: latency.mean() / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::client::{Call, Failure, Outcome};
    use super::super::super::drive::Observer;
    use super::*;

    fn report(latencies_us: impl Iterator<Item = u64>) -> Report {
        let second = Duration::from_secs(1);
        let mut tally = Tally::new(Duration::ZERO, 2 * second, Duration::from_millis(20));
        let call = Call { due_ns: 0, sent_ns: 0, key: 0, returns: 0 };
        for latency_us in latencies_us {
            tally.ended(&call, latency_us * 1_000, Outcome::Ok);
        }
        tally.ended(&call, 1_000, Outcome::Failed(Failure::Grpc(8)));
        let summary = Summary { cpu_seconds: 0.5, span_seconds: 2.0, ..Summary::default() };
        Report::new(vec!["a:1".to_owned()], Pace::Closed, &tally, &summary)
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_latencies_to_three_digits() {
        let latency = report(1..=9_999).latency_us;
        for (found, expected) in [
            (latency.p50, 5_000.0),
            (latency.p90, 9_000.0),
            (latency.p99, 9_900.0),
            (latency.p99_9, 9_990.0),
            (latency.p99_99, 9_999.0),
            (latency.max, 9_999.0),
            (latency.mean, 4_999.5),
        ] {
            assert!((found / expected - 1.0_f64).abs() < 0.002, "{found} instead of {expected}");
        }
    }

    #[test]
    fn the_json_has_the_documented_fields() {
        let json = serde_json::to_value(report(1..=3)).unwrap();
        for field in [
            "targets",
            "mode",
            "seconds",
            "sent",
            "answered",
            "ok",
            "over_limit",
            "errors",
            "calls_per_second",
            "missed_deadline",
            "missed_share",
            "unanswered",
            "latency_us",
            "backlog_max",
            "generator_cpu_seconds",
            "generator_cpu_share",
        ] {
            assert!(json.get(field).is_some(), "{field} is missing in {json}");
        }
        assert_eq!(json["errors"]["RESOURCE_EXHAUSTED"], 1);
        assert_eq!((&json["calls_per_second"], &json["generator_cpu_share"]), (&2.0.into(), &0.25.into()));
        assert_eq!(json["let_through"], 1, "an error in time lets through as well");
    }

    #[test]
    fn a_run_without_answers_has_zeros_and_no_infinities() {
        let tally = Tally::new(Duration::ZERO, Duration::from_secs(1), Duration::from_millis(20));
        let report = Report::new(Vec::new(), Pace::Closed, &tally, &Summary::default());
        assert_eq!(report.latency_us, Latency::default());
        assert_eq!((report.calls_per_second, report.missed_share, report.generator_cpu_share), (0.0, 0.0, 0.0));
    }
}
