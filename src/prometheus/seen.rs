//! What was seen of each service before: so that an old answer is not taken for a new one, and a doubt is told once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::answer::clean;
use super::buckets::Fit;
use super::counts;
use super::query::failed_selector;
use crate::rules::service::{Service, SignalSpec};
use crate::signal::{Absence, AbsenceKind};

/// Most services that are remembered. Past it all are forgotten, which costs a repeated line in the log.
const SERVICES_MAX: usize = 20_000;

/// How far an evaluation may lie before the last one and be refused. Further back a clock was set.
const BACK_MAX: Duration = Duration::from_secs(60);

/// Per service, what was seen of it.
#[derive(Debug, Default)]
pub(super) struct AllSeen {
    services: Mutex<HashMap<Arc<str>, Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The last evaluation that was accepted, in milliseconds since the epoch.
    accepted_millis: Option<u64>,
    warns: bool,
    /// The most series since the last time that half of them were gone.
    series: f64,
    /// What was told of the latency target's place among the edges: the fingerprint of target and signals.
    told_fit: Option<u64>,
    /// Whether there ever was a series of failed answers, and the fingerprint of target and signals it was asked by;
    /// `None` as long as there were no answers.
    failed: Option<(u64, bool)>,
}

// === impl AllSeen ===

impl AllSeen {
    fn with<T>(&self, service: &Arc<str>, see: impl FnOnce(&mut Seen) -> T) -> T {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if services.len() >= SERVICES_MAX && !services.contains_key(service) {
            services.clear();
        }
        see(services.entry(Arc::clone(service)).or_default())
    }

    /// Refuses an evaluation that is not later than the last accepted one.
    pub(super) fn newer(&self, service: &Arc<str>, at_millis: u64) -> Result<(), Absence> {
        let Some(last) = self.with(service, |seen| seen.accepted_millis) else { return Ok(()) };
        let back = Duration::from_millis(last.saturating_sub(at_millis));
        if at_millis > last || back > BACK_MAX {
            return Ok(());
        }
        let reason = format!("it would be evaluated {} ms before the last answer", back.as_millis());
        Err(Absence::new(AbsenceKind::Stale, reason))
    }

    pub(super) fn accepted(&self, service: &Arc<str>, at_millis: u64) {
        self.with(service, |seen| seen.accepted_millis = Some(at_millis));
    }

    /// Prometheus's own doubts about an answer. The answer counts: a store that could not be reached makes it smaller,
    /// and its ratios are right.
    pub(super) fn warnings(&self, service: &Arc<str>, warnings: &[String]) {
        let warns = !warnings.is_empty();
        let begins = self.with(service, |seen| !std::mem::replace(&mut seen.warns, warns) && warns);
        if let Some(warning) = warnings.first().filter(|_| begins) {
            tracing::warn!("{service}: Prometheus warns of its answers: {}", clean(warning));
        }
    }

    pub(super) fn series(&self, service: &Arc<str>, series: Option<f64>) {
        let Some(series) = series else { return };
        let before = self.with(service, |seen| seen.on_series(series));
        if let Some(before) = before {
            tracing::warn!(
                "{service}: {series} series where there were {before}; the ratios are of those that are left"
            );
        }
    }

    /// Notes whether answers came with a series of failed ones. One that was there once may go: its proxy began anew.
    pub(super) fn failures(&self, service: &Service, has_series: bool) {
        let fingerprint = service.fingerprint();
        self.with(&service.name, |seen| match (has_series, seen.failed) {
            (true, _) => seen.failed = Some((fingerprint, true)),
            (false, Some((known, _))) if known == fingerprint => {}
            (false, _) => seen.failed = Some((fingerprint, false)),
        });
    }

    /// What the operator should know of a service whose answers count as not failed because no series says otherwise.
    pub(super) fn failure_doubt(&self, service: &Service, signals: &SignalSpec) -> Option<String> {
        let failed = self.with(&service.name, |seen| seen.failed);
        let is_missing = failed == Some((service.fingerprint(), false));
        is_missing.then(|| failure_doubt(signals)).flatten()
    }

    /// Says once for each target where it lies, unless it lies well.
    pub(super) fn fit(&self, service: &Service, signals: &SignalSpec, fit: Option<Fit>) {
        let Some(doubt) = fit_doubt(service, signals, fit) else { return };
        let fingerprint = service.fingerprint();
        let is_told = self.with(&service.name, |seen| seen.told_fit.replace(fingerprint) == Some(fingerprint));
        if !is_told {
            tracing::warn!("{}: {doubt}", service.name);
        }
    }
}

impl Seen {
    /// How many series there were, if half of them or more are gone.
    fn on_series(&mut self, series: f64) -> Option<f64> {
        let before = self.series;
        let halved = series * 2.0 <= before;
        self.series = if halved { series } else { before.max(series) };
        halved.then_some(before)
    }
}

/// What is doubtful about answers without a series of failed ones. No failure and a metric of another name look alike.
pub(super) fn failure_doubt(signals: &SignalSpec) -> Option<String> {
    let series = failed_selector(signals)?;
    Some(format!(
        "no series of failed answers has been seen yet, which counts as none: right if none has failed since the metrics \
         began; else look why Prometheus finds nothing for {series}"
    ))
}

/// What is doubtful about a latency target's place among the edges of the histogram.
pub(super) fn fit_doubt(service: &Service, signals: &SignalSpec, fit: Option<Fit>) -> Option<String> {
    let above = service.targets.latency?.above;
    let time = |edge: f64| {
        let time = Duration::try_from_secs_f64(edge * counts::unit(signals).as_secs_f64());
        time.map_or_else(|_| edge.to_string(), |time| format!("{time:?}"))
    };
    match fit? {
        Fit::Edge => None,
        Fit::Between(lower, upper) => Some(format!(
            "the latency target {above:?} lies between the histogram's edges {} and {}: what is in between is \
             interpolated, so take one of them",
            time(lower),
            time(upper)
        )),
        Fit::Above(last) => Some(format!(
            "the latency target {above:?} lies above the histogram's last edge {}: all that is slower than that counts \
             as slow",
            time(last)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Options, SourceFile, load};

    #[test]
    fn failures_that_were_there_once_are_known_until_they_are_asked_for_otherwise() {
        let service = |cluster: &str| {
            let text = include_str!("../../config/adaptive.yaml").replace("inventory_service_cluster", cluster);
            let file = SourceFile { name: "adaptive.yaml".to_owned(), text };
            load(&[file], &Options::default()).unwrap().0.services()[0].clone()
        };
        let (seen, a, b) = (AllSeen::default(), service("a"), service("b"));
        let doubt = |service: &Service| seen.failure_doubt(service, service.source.as_ref().unwrap());
        assert_eq!(doubt(&a), None, "nothing was answered");
        seen.failures(&a, false);
        assert!(doubt(&a).is_some_and(|doubt| doubt.contains("envoy_cluster_name=\"a\"")));
        seen.failures(&a, true);
        seen.failures(&a, false);
        assert_eq!(doubt(&a), None, "its proxies began anew");
        assert_eq!(doubt(&b), None, "the rules have changed, and nothing was answered since");
        seen.failures(&b, false);
        assert!(doubt(&b).is_some());
    }

    #[test]
    fn an_answer_that_is_not_newer_is_refused_unless_a_clock_was_set() {
        let (seen, name): (AllSeen, Arc<str>) = (AllSeen::default(), "a".into());
        assert_eq!(seen.newer(&name, 1_000_000), Ok(()));
        seen.accepted(&name, 1_000_000);
        for (at, kind) in [
            (1_000_001, None),
            (1_000_000, Some(AbsenceKind::Stale)),
            (940_000, Some(AbsenceKind::Stale)),
            (939_999, None),
        ] {
            assert_eq!(seen.newer(&name, at).err().map(|absence| absence.kind), kind, "{at}");
        }
        assert_eq!(seen.newer(&"b".into(), 1), Ok(()), "of another service nothing was seen");
    }

    #[test]
    fn half_of_the_series_gone_is_told_once() {
        let mut seen = Seen::default();
        let told: Vec<Option<f64>> =
            [4.0, 3.0, 2.0, 2.0, 2.0, 4.0, 4.0, 1.0, 1.0].map(|series| seen.on_series(series)).to_vec();
        assert_eq!(told, [None, None, Some(4.0), None, None, None, None, Some(4.0), None]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let seen = AllSeen::default();
        for index in 0..=SERVICES_MAX {
            seen.accepted(&index.to_string().into(), 5);
        }
        assert!(seen.services.lock().unwrap().len() <= SERVICES_MAX);
    }
}
