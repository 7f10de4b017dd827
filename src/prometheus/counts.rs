//! From the terms of one window to [`Counts`], or to the reason why there are none.
//!
//! No data is never no errors: without a series of answers there are no counts. Where there are answers and no series of
//! failed ones, none has failed, as long as both come from one family of series (the presets); an operator's own query
//! has to say so itself with `or vector(0)`.

use std::time::Duration;

use super::answer::{Terms, invalid};
use super::buckets::{self, Distribution, Fit};
use super::query::Term;
use crate::rules::service::{LatencyTarget, SignalSpec, Targets};
use crate::signal::{Absence, AbsenceKind, Counts};

/// What one window held, and what that says of the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) counts: Counts,
    /// Where the latency target lies among the histogram's edges, in the histogram's unit.
    pub(super) fit: Option<Fit>,
}

/// Reads the terms of a window. `is_sampled` says whether there are recent samples at all, however few.
pub(super) fn read(
    terms: &Terms,
    signals: &SignalSpec,
    targets: &Targets,
    window: Duration,
    is_sampled: bool,
) -> Result<Window, Absence> {
    let Some(all) = terms.single(Term::Answered)? else { return Err(empty(window, is_sampled)) };
    let failed = failed(terms, signals)?;
    let ours = terms.single(Term::Ours)?.unwrap_or_default().min(failed);
    // Extrapolation may make a part larger than the whole.
    let answered = (all - ours).max(0.0);
    let failed = (failed - ours).clamp(0.0, answered);
    let failed_locally = terms.single(Term::FailedLocally)?.unwrap_or_default().min(failed);
    let (slow, fit) = match (&targets.latency, signals) {
        (None, _) => (0.0, None),
        (Some(_), SignalSpec::Custom(_)) => (slow_by_query(terms)?.min(answered), None),
        (Some(target), _) => slow_by_buckets(terms, signals, target, answered, failed)?,
    };
    let counts = Counts { answered, failed, failed_locally, slow, latency: latency(terms, signals, answered)? };
    Ok(Window { counts, fit })
}

/// Why there are no answers.
fn empty(window: Duration, is_sampled: bool) -> Absence {
    let seconds = window.as_secs_f64();
    let reason = if is_sampled {
        format!("there are too few samples in {seconds} s for an increase")
    } else {
        "there are no series of answers, or none with a recent sample".to_owned()
    };
    Absence::new(AbsenceKind::Empty, reason)
}

fn failed(terms: &Terms, signals: &SignalSpec) -> Result<f64, Absence> {
    match (terms.single(Term::Failed)?, signals) {
        (Some(failed), _) => Ok(failed),
        (None, SignalSpec::Custom(_)) => Err(no_zero("failed")),
        (None, _) => Ok(0.0),
    }
}

fn slow_by_query(terms: &Terms) -> Result<f64, Absence> {
    terms.single(Term::Slow)?.ok_or_else(|| no_zero("slow"))
}

fn no_zero(query: &str) -> Absence {
    let reason = format!("the query {query} finds no series; write `or vector(0)` after it if that means none");
    Absence::new(AbsenceKind::Empty, reason)
}

/// The slow share of the histogram, of all answers: the histogram may lack some (timeouts, refusals by the proxy) or lag
/// behind, and its share is right nevertheless.
fn slow_by_buckets(
    terms: &Terms,
    signals: &SignalSpec,
    target: &LatencyTarget,
    answered: f64,
    failed: f64,
) -> Result<(f64, Option<Fit>), Absence> {
    let Some(all) = terms.buckets(Term::Bucket) else {
        // Where everything fails nothing is slow.
        if failed >= answered {
            return Ok((0.0, None));
        }
        return Err(Absence::new(AbsenceKind::Empty, "there are no buckets of a histogram of the answers' times"));
    };
    // Of whole nanoseconds, so that an edge is met exactly.
    let threshold = target.above.as_nanos() as f64 / unit(signals).as_nanos() as f64;
    let read = match terms.buckets(Term::FailedBucket) {
        Some(part) => buckets::read(&buckets::without(all, part), threshold),
        None => buckets::read(all, threshold),
    };
    let Distribution { slow_share, fit, .. } = read.map_err(invalid)?;
    Ok((slow_share * answered, Some(fit)))
}

/// The mean time of an answer in seconds.
fn latency(terms: &Terms, signals: &SignalSpec, answered: f64) -> Result<Option<f64>, Absence> {
    let Some(sum) = terms.single(Term::LatencySum)? else { return Ok(None) };
    let count = match signals {
        SignalSpec::Custom(_) => Some(answered),
        _ => terms.single(Term::LatencyCount)?,
    };
    let mean = count.filter(|count| *count > 0.0).map(|count| sum / count * unit(signals).as_secs_f64());
    Ok(mean.filter(|mean| mean.is_finite()))
}

/// What one unit of the signals' histogram is.
pub(super) fn unit(signals: &SignalSpec) -> Duration {
    match signals {
        SignalSpec::Envoy(_) | SignalSpec::Istio(_) => Duration::from_millis(1),
        SignalSpec::Histogram(histogram) => histogram.unit,
        SignalSpec::Custom(_) => Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer;
    use super::*;
    use crate::rules::service::{CustomSignals, EnvoySignals, HistogramSignals};

    const WINDOW: Duration = Duration::from_secs(15);

    fn envoy() -> SignalSpec {
        SignalSpec::Envoy(EnvoySignals {
            cluster: "c".to_owned(),
            matchers: String::new(),
            limited_status_is_5xx: true,
            failure_mode_deny: false,
        })
    }

    fn custom() -> SignalSpec {
        let query = || "a[$window]".to_owned();
        SignalSpec::Custom(CustomSignals { answered: query(), failed: query(), slow: Some(query()), latency_sum: None })
    }

    fn targets(latency: bool) -> Targets {
        let above = Duration::from_millis(250);
        Targets { errors: 0.05, latency: latency.then_some(LatencyTarget { above, at_most: 0.1 }) }
    }

    /// The terms of `n=12 k=3 le:250=9`.
    fn terms(text: &str) -> Terms {
        let series: Vec<String> = text
            .split_whitespace()
            .map(|term| {
                let (name, value) = term.split_once('=').expect("a test's term is name=value");
                let labels = match name.split_once(':') {
                    Some((name, edge)) => format!(r#""q":"{name}","le":"{edge}""#),
                    None => format!(r#""q":"{name}""#),
                };
                format!(r#"{{"metric":{{{labels}}},"value":[1,"{value}"]}}"#)
            })
            .collect();
        let vector = format!(r#"{{"resultType":"vector","result":[{}]}}"#, series.join(","));
        let body = format!(r#"{{"status":"success","data":{vector}}}"#);
        Terms::of(answer::read(200, body.as_bytes()).unwrap().data).unwrap()
    }

    fn counts(text: &str, signals: &SignalSpec, latency: bool) -> Result<Counts, Absence> {
        let terms = terms(text);
        let is_sampled = terms.single(Term::Newest)?.is_some();
        read(&terms, signals, &targets(latency), WINDOW, is_sampled).map(|window| window.counts)
    }

    #[test]
    fn parts_are_cut_to_the_whole() {
        let found = counts("n=10 k=12 local=30", &envoy(), false).unwrap();
        assert_eq!((found.answered, found.failed, found.failed_locally), (10.0, 10.0, 10.0));
        let slow = counts("n=10 k=0 slow=11", &custom(), true).unwrap();
        assert_eq!(slow.slow, 10.0);
    }

    #[test]
    fn what_our_limits_answered_is_neither_answered_nor_failed() {
        let found = counts("n=100 k=60 ours=50", &envoy(), false).unwrap();
        assert_eq!((found.answered, found.failed), (50.0, 10.0));
        // More of ours than failed at all is extrapolation.
        let all = counts("n=100 k=60 ours=61", &envoy(), false).unwrap();
        assert_eq!((all.answered, all.failed), (40.0, 0.0));
    }

    #[test]
    fn no_answers_are_no_data_and_none_failed_is_zero() {
        assert_eq!(counts("k=1 local=0", &envoy(), false).unwrap_err().kind, AbsenceKind::Empty);
        assert_eq!(counts("n=10 local=0", &envoy(), false).unwrap().failed, 0.0);
        assert_eq!(counts("n=0 k=0", &envoy(), false).unwrap().answered, 0.0);
        let absence = counts("n=10", &custom(), false).unwrap_err();
        assert_eq!(absence.kind, AbsenceKind::Empty);
        assert!(absence.reason.contains("or vector(0)"), "{absence}");
        let reason = counts("newest=100", &envoy(), false).unwrap_err().reason;
        assert_eq!(reason, "there are too few samples in 15 s for an increase");
    }

    #[test]
    fn the_slow_share_is_that_of_the_histogram_whatever_it_lacks() {
        let found = counts("n=200 k=100 le:250=90 le:+Inf=100", &envoy(), true).unwrap();
        assert!((found.slow - 20.0).abs() < 1e-9);
        assert_eq!(counts("n=10 k=10", &envoy(), true).unwrap().slow, 0.0);
        assert_eq!(counts("n=10 k=9", &envoy(), true).unwrap_err().kind, AbsenceKind::Empty);
        assert_eq!(counts("n=10 k=9 le:250=3", &envoy(), true).unwrap_err().kind, AbsenceKind::Invalid);
    }

    #[test]
    fn slowness_is_judged_on_successes_where_they_can_be_told_apart() {
        let histogram = SignalSpec::Histogram(HistogramSignals {
            metric: "m".to_owned(),
            matchers: String::new(),
            error_matchers: String::new(),
            unit: Duration::from_secs(1),
        });
        // 50 of 100 fail at once: of those that succeed 10 in 50 are slow.
        let text = "n=100 k=50 le:0.25=90 le:+Inf=100 le_k:0.25=50 le_k:+Inf=50 lat_sum=20 lat_count=100";
        let found = counts(text, &histogram, true).unwrap();
        assert!((found.slow - 20.0).abs() < 1e-9, "{found:?}");
        assert_eq!(found.latency, Some(0.2));
    }

    #[test]
    fn a_mean_time_is_in_seconds_and_never_of_nothing() {
        assert_eq!(counts("n=10 lat_sum=500 lat_count=10", &envoy(), false).unwrap().latency, Some(0.05));
        assert_eq!(counts("n=10 lat_sum=0 lat_count=0", &envoy(), false).unwrap().latency, None);
        assert_eq!(counts("n=10 lat_sum=5", &envoy(), false).unwrap().latency, None);
        assert_eq!(counts("n=10 k=0 lat_sum=5", &custom(), false).unwrap().latency, Some(0.5));
    }
}
