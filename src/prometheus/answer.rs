//! What Prometheus answers, read with suspicion: as JSON of the shape that its interface promises, no longer than we
//! are willing to read, with numbers where there should be numbers.
//!
//! Read by hand and not with the client package's types, because those take the whole body whatever its length, and
//! keep neither the warnings nor what a text that is no number said.

use std::collections::HashMap;

use serde::Deserialize;

use super::query::Term;
use crate::signal::{Absence, AbsenceKind};

/// Longest answer, in bytes: sixty buckets, or the samples of two minutes of some hundred series.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// Most series of an answer. A query of ours finds some eighty with the longest of histograms.
pub(super) const SERIES_MAX: usize = 2_000;

/// Most characters of a text of Prometheus's that a reason quotes.
const QUOTED_MAX: usize = 200;

/// The terms of one query.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Terms {
    single: HashMap<Term, Vec<f64>>,
    buckets: HashMap<Term, Vec<(f64, f64)>>,
}

/// An answer that is a success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) data: Data,
    /// What Prometheus has doubts about, or could not reach.
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(super) enum Data {
    Vector(Vec<InstantSeries>),
    Matrix(Vec<RangeSeries>),
    Scalar(Point),
}

/// Seconds since the epoch, and a number as a text.
type Point = (f64, String);

#[derive(Debug, Deserialize)]
pub(super) struct InstantSeries {
    #[serde(default)]
    metric: Labels,
    /// Absent for a native histogram.
    value: Option<Point>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RangeSeries {
    #[serde(default)]
    values: Vec<Point>,
}

/// The labels that we know; others are not kept.
#[derive(Debug, Default, Deserialize)]
struct Labels {
    q: Option<String>,
    le: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Body {
    status: String,
    data: Option<Data>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// Reads an answer with the HTTP status `status`.
pub(super) fn read(status: u16, body: &[u8]) -> Result<Answer, Absence> {
    let is_success = (200..300).contains(&status);
    let read: Body = serde_json::from_slice(body).map_err(|error| match is_success {
        true => {
            invalid(format!("the answer is not what Prometheus's interface promises: {}", clean(&error.to_string())))
        }
        false => Absence::new(AbsenceKind::Refused, refusal(status)),
    })?;
    match (read.status.as_str(), read.data) {
        ("success", Some(data)) if is_success => Ok(Answer { data, warnings: read.warnings }),
        ("error", _) => {
            let kind = read.error_type.unwrap_or_default();
            let text = clean(&read.error.unwrap_or_default());
            let is_late = kind == "timeout" || kind == "canceled";
            let kind_of_absence = if is_late { AbsenceKind::TimedOut } else { AbsenceKind::Refused };
            Err(Absence::new(kind_of_absence, format!("Prometheus answers {}: {text}", clean(&kind))))
        }
        _ if !is_success => Err(Absence::new(AbsenceKind::Refused, refusal(status))),
        _ => Err(invalid("the answer has neither data nor an error")),
    }
}

/// What an HTTP status without a reason means.
fn refusal(status: u16) -> String {
    let hint = match status {
        401 | 403 => "; say who we are with bearer_token_file or basic_auth",
        404 => "; is the path of its url right?",
        300..=399 => "; give the url that it leads to",
        _ => "",
    };
    format!("the server answers {status}{hint}")
}

pub(super) fn invalid(reason: impl Into<String>) -> Absence {
    Absence::new(AbsenceKind::Invalid, reason)
}

/// A text of the server's, short and on one line.
pub(super) fn clean(text: &str) -> String {
    let mut clean: String = text.chars().take(QUOTED_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(QUOTED_MAX).is_some() {
        clean.push('…');
    }
    clean
}

fn number(text: &str) -> Result<f64, Absence> {
    text.parse().map_err(|_| invalid(format!("'{}' where a number is needed", clean(text))))
}

// === impl Terms ===

impl Terms {
    /// Sorts a vector's series by their label `q`.
    pub(super) fn of(data: Data) -> Result<Terms, Absence> {
        let Data::Vector(series) = data else { return Err(invalid("the answer is no vector")) };
        if series.len() > SERIES_MAX {
            return Err(invalid(format!("{} series; at most {SERIES_MAX} are read", series.len())));
        }
        let mut terms = Terms::default();
        for InstantSeries { metric, value } in series {
            let Some(term) = metric.q.as_deref().and_then(Term::from_name) else {
                return Err(invalid("a series that was not asked for"));
            };
            let Some((_, text)) = value else {
                return Err(invalid(format!("{} is a native histogram where a number is needed", term.name())));
            };
            let value = number(&text)?;
            if !value.is_finite() || value < 0.0 {
                return Err(invalid(format!("{} is {}", term.name(), clean(&text))));
            }
            if term.is_by_bucket() {
                let edge = metric.le.ok_or_else(|| invalid("a bucket without an edge"))?;
                let edge = number(&edge)?;
                if edge.is_nan() || edge == f64::NEG_INFINITY {
                    return Err(invalid(format!("a bucket with the edge {edge}")));
                }
                terms.buckets.entry(term).or_default().push((edge, value));
            } else {
                terms.single.entry(term).or_default().push(value);
            }
        }
        Ok(terms)
    }

    /// The only number of a term; `None` if there is no series.
    pub(super) fn single(&self, term: Term) -> Result<Option<f64>, Absence> {
        match self.single.get(&term).map(Vec::as_slice) {
            None | Some([]) => Ok(None),
            Some([value]) => Ok(Some(*value)),
            Some(several) => {
                let text =
                    format!("{} series for {} where one is needed: put a sum around", several.len(), term.name());
                Err(invalid(text))
            }
        }
    }

    /// The buckets of a term, upper edge and cumulative count, as they came; `None` if there is none.
    pub(super) fn buckets(&self, term: Term) -> Option<&[(f64, f64)]> {
        self.buckets.get(&term).map(Vec::as_slice)
    }
}

// === impl Data ===

impl Data {
    /// The number that a scalar is.
    pub(super) fn scalar(&self) -> Result<f64, Absence> {
        match self {
            Data::Scalar((_, text)) => number(text),
            Data::Vector(_) | Data::Matrix(_) => Err(invalid("the answer is no scalar")),
        }
    }

    /// The numbers of a vector by their label `q`; those that are negative or no number are left out.
    pub(super) fn named(self) -> Result<Vec<(String, f64)>, Absence> {
        let Data::Vector(series) = self else { return Err(invalid("the answer is no vector")) };
        let named = |series: InstantSeries| {
            let value = number(&series.value?.1).ok()?;
            Some((series.metric.q?, value)).filter(|_| value.is_finite() && value >= 0.0)
        };
        Ok(series.into_iter().take(SERIES_MAX).filter_map(named).collect())
    }

    /// The instants of all samples, series by series.
    pub(super) fn instants(&self) -> Vec<Vec<f64>> {
        let Data::Matrix(series) = self else { return Vec::new() };
        let instants = |series: &RangeSeries| series.values.iter().map(|(at, _)| *at).collect();
        series.iter().take(SERIES_MAX).map(instants).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(series: &str) -> Result<Terms, Absence> {
        let body = format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#);
        read(200, body.as_bytes()).and_then(|answer| Terms::of(answer.data))
    }

    fn series(term: &str, value: &str) -> String {
        format!(r#"{{"metric":{{"q":"{term}"}},"value":[1.5,"{value}"]}}"#)
    }

    #[test]
    fn a_term_is_a_number_absent_or_wrong() {
        let found = terms(&[series("n", "12.5"), series("k", "0")].join(",")).unwrap();
        assert_eq!(found.single(Term::Answered), Ok(Some(12.5)));
        assert_eq!(found.single(Term::Failed), Ok(Some(0.0)));
        assert_eq!(found.single(Term::LatencySum), Ok(None));
        for wrong in ["NaN", "+Inf", "-Inf", "-0.5", "twelve", ""] {
            let absence = terms(&series("n", wrong)).unwrap_err();
            assert_eq!(absence.kind, AbsenceKind::Invalid, "{wrong}");
            assert!(wrong.is_empty() || absence.reason.contains(wrong), "{absence}");
        }
    }

    #[test]
    fn several_series_for_one_term_are_named_as_such() {
        let found = terms(&[series("k", "1"), series("k", "2")].join(",")).unwrap();
        let absence = found.single(Term::Failed).unwrap_err();
        assert_eq!(absence.reason, "2 series for k where one is needed: put a sum around");
    }

    #[test]
    fn edges_of_buckets_are_numbers_however_they_are_written() {
        let bucket = |le: &str| format!(r#"{{"metric":{{"q":"le","le":"{le}"}},"value":[1,"3"]}}"#);
        let edges = |text: &str| terms(&bucket(text)).map(|terms| terms.buckets(Term::Bucket).unwrap()[0].0);
        assert_eq!((edges("250"), edges("250.0"), edges("2.5e2")), (Ok(250.0), Ok(250.0), Ok(250.0)));
        assert_eq!(edges("+Inf"), Ok(f64::INFINITY));
        for wrong in ["NaN", "-Inf", "fast"] {
            assert_eq!(edges(wrong).unwrap_err().kind, AbsenceKind::Invalid, "{wrong}");
        }
        assert_eq!(terms(&series("le", "1")).unwrap_err().reason, "a bucket without an edge");
    }

    #[test]
    fn an_answer_that_is_none_says_so_in_one_sentence() {
        let cases = [
            (
                400,
                r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error"}"#,
                AbsenceKind::Refused,
                "Prometheus answers bad_data: 1:5: parse error",
            ),
            (
                503,
                r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#,
                AbsenceKind::TimedOut,
                "Prometheus answers timeout: query timed out",
            ),
            (502, "<html>", AbsenceKind::Refused, "the server answers 502"),
            (401, "Unauthorized", AbsenceKind::Refused, "the server answers 401; say who we are with"),
            (302, "", AbsenceKind::Refused, "the server answers 302; give the url"),
            (200, "<html>", AbsenceKind::Invalid, "the answer is not what"),
            (200, "{}", AbsenceKind::Invalid, "the answer is not what"),
            (200, r#"{"status":"success"}"#, AbsenceKind::Invalid, "neither data nor an error"),
            (
                200,
                r#"{"status":"success","data":{"resultType":"vector","result":[{"value":[1,2]}]}}"#,
                AbsenceKind::Invalid,
                "the answer is not what",
            ),
        ];
        for (status, body, kind, reason) in cases {
            let absence = read(status, body.as_bytes()).unwrap_err();
            assert_eq!(absence.kind, kind, "{body}");
            assert!(absence.reason.contains(reason), "{absence}");
            assert!(!absence.reason.contains('\n') && absence.reason.len() < 400);
        }
    }

    #[test]
    fn what_was_not_asked_for_is_not_counted() {
        for wrong in
            [r#"{"metric":{},"value":[1,"2"]}"#, r#"{"metric":{"q":"x"},"value":[1,"2"]}"#, r#"{"metric":{"q":"n"}}"#]
        {
            assert_eq!(terms(wrong).unwrap_err().kind, AbsenceKind::Invalid, "{wrong}");
        }
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#;
        let data = read(200, scalar.as_bytes()).unwrap().data;
        assert_eq!(data.scalar(), Ok(2.0));
        assert_eq!(Terms::of(data).unwrap_err().reason, "the answer is no vector");
    }

    #[test]
    fn warnings_are_kept_and_the_answer_holds() {
        let body = r#"{"status":"success","warnings":["one store is gone"],"data":{"resultType":"vector","result":[]},"infos":["x"]}"#;
        let answer = read(200, body.as_bytes()).unwrap();
        assert_eq!(answer.warnings, ["one store is gone"]);
        assert_eq!(Terms::of(answer.data), Ok(Terms::default()));
    }
}
