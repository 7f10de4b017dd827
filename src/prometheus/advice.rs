//! What a Prometheus that can be reached tells of a service before anything depends on it: warnings, never mistakes,
//! because it may be down, or the service not there yet, and the rules are right all the same.

use std::time::Duration;

use super::answer::Terms;
use super::query::Term;
use super::{PrometheusSource, Queries, SCRAPE_USUAL, counts, explanation, seen, windows_at};
use crate::rules::RuleSet;
use crate::rules::service::{Service, ServiceMode};
use crate::signal::{Absence, AbsenceKind, Counts, Windows};

/// Answers in the long window below which a cut is never proved.
const ANSWERS_MIN: f64 = 100.0;

/// Most services whose queries are tried: a server that stalls in between must not hold up a check for hours.
const TRIED_MAX: usize = 100;

/// A share of failed answers that looks like a matcher that matches all.
const ALL_FAILED: f64 = 0.9;

// === impl PrometheusSource ===

impl PrometheusSource {
    /// Whether the server answers at all.
    ///
    /// # Errors
    /// Why it doesn't.
    pub async fn try_server(&self) -> Result<(), Absence> {
        self.try_out("time()").await?.scalar().map(|_| ())
    }

    /// What is doubtful about a service's signals, each in one sentence; nothing where all is well or nothing is asked.
    pub async fn advice(&self, service: &Service, windows: &Windows) -> Vec<String> {
        let Some(signals) = &service.source else { return Vec::new() };
        let queries = Queries::of(signals, service, windows);
        // The one with all terms, and the one that finds something if anything does.
        let newest = self.try_out(&queries.newest).await.and_then(Terms::of);
        let is_sampled = match newest.and_then(|newest| newest.single(Term::Newest)) {
            Ok(sample) => sample.is_some(),
            Err(absence) => return vec![advice_on(absence)],
        };
        let terms = match self.try_out(&queries.long).await.and_then(Terms::of) {
            Ok(terms) => terms,
            Err(absence) => return vec![advice_on(absence)],
        };
        let mut advice = Vec::new();
        match counts::read(&terms, signals, &service.targets, windows.long, is_sampled) {
            Err(absence) => advice.push(advice_on(absence)),
            Ok(window) => {
                let (answered, ratio) = (window.counts.answered, window.counts.error_ratio());
                if answered < ANSWERS_MIN {
                    let seconds = windows.long.as_secs();
                    advice.push(format!(
                        "{answered:.0} answers in {seconds} s; below {ANSWERS_MIN} the limit is never cut"
                    ));
                } else if ratio >= ALL_FAILED {
                    advice.push(format!("{:.0}% of the answers count as failed; is what counts right?", ratio * 100.0));
                } else {
                    advice.extend(over_target(service, &window.counts, windows.long));
                }
                advice.extend(seen::fit_doubt(service, signals, window.fit));
                if matches!(terms.single(Term::Failed), Ok(None)) {
                    advice.extend(seen::failure_doubt(signals));
                }
            }
        }
        if service.scrape_interval.is_none() {
            advice.extend(self.advice_on_scrapes(service).await);
        }
        advice
    }

    async fn advice_on_scrapes(&self, service: &Service) -> Option<String> {
        let Some(scrape) = self.scrape_interval(service).await else {
            return Some("the scrape interval can't be measured; write scrape_interval: and a time".to_owned());
        };
        let requests = service.bounds.min.per_second() * scrape.as_secs_f64();
        (requests < 1.0).then(|| thin(service, scrape, requests))
    }
}

/// What there is to say of the services of `rules`, each in several lines: what it comes to, and as warnings what
/// Prometheus says of the first hundred. Without a source, or one that can't be reached, queries are shown untried.
pub async fn reports(source: Option<&PrometheusSource>, rules: &RuleSet) -> Vec<String> {
    let mut reports = Vec::new();
    let source = match source {
        Some(source) => match source.try_server().await {
            Ok(()) => Some(source),
            Err(absence) => {
                reports.push(format!("warning: the queries below are not tried: {absence}"));
                None
            }
        },
        None => None,
    };
    let mut asked_before = 0;
    for service in rules.services() {
        let asked = source.filter(|_| service.mode != ServiceMode::Off && asked_before < TRIED_MAX);
        asked_before += usize::from(asked.is_some());
        let measured = match (service.scrape_interval, asked) {
            (None, Some(source)) => source.scrape_interval(service).await,
            (known, _) => known,
        };
        let windows = windows_at(measured.unwrap_or(SCRAPE_USUAL));
        reports.push(explanation(rules, service, &windows));
        let Some(source) = asked else { continue };
        for advice in source.advice(service, &windows).await {
            reports.push(format!("warning: {}: service {}: {advice}", service.place, service.name));
        }
    }
    reports
}

/// A target that is missed as things stand: the limit would be cut until that counts as normal.
fn over_target(service: &Service, counts: &Counts, window: Duration) -> Option<String> {
    let over = |ratio: f64, target: f64, what: &str| {
        let (percent, most, seconds) = (ratio * 100.0, target * 100.0, window.as_secs());
        (ratio > target)
            .then(|| format!("{percent:.1}% of the answers of {seconds} s {what}, more than the target of {most}%"))
    };
    over(counts.error_ratio(), service.targets.errors, "failed").or_else(|| {
        let latency = service.targets.latency.as_ref()?;
        over(counts.slow_ratio(), latency.at_most, "were slow")
    })
}

fn thin(service: &Service, scrape: Duration, requests: f64) -> String {
    format!(
        "at the lowest limit {} there are {requests:.2} requests in a scrape interval of {scrape:?}, so a recovery \
         would hardly show",
        service.bounds.min
    )
}

fn advice_on(absence: Absence) -> String {
    match absence.kind {
        AbsenceKind::Refused => format!("its query is refused: {absence}"),
        AbsenceKind::Empty => format!("its query finds nothing: {absence}"),
        AbsenceKind::Unreachable
        | AbsenceKind::TimedOut
        | AbsenceKind::Invalid
        | AbsenceKind::Stale
        | AbsenceKind::Implausible => absence.to_string(),
    }
}
