//! The metrics of adaptive limits, read from what the controller has published when somebody scrapes.
//!
//! Labels are the service, and words of our own: there are as many series as services, times a number that is stated
//! here. What was judged (signals, thresholds, the knee) is shown by the leader alone; limits, counts and hands by every
//! replica. So a dashboard takes the maximum over replicas.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::MetricType;
use tokio::sync::watch;

use crate::control::law::{Action, Judged};
use crate::control::record::DecisionRecord;
use crate::control::view::{ControllerView, ServiceView};
use crate::metrics::exposition::{family, single};
use crate::rules::service::ServiceMode;

/// The published view, as metrics.
#[derive(Clone, Debug)]
pub struct AdaptiveLimits {
    view: watch::Receiver<Arc<ControllerView>>,
}

/// A service, and a word that tells its series apart.
#[derive(Debug)]
struct Labels<'v> {
    service: &'v str,
    word: Option<(&'static str, &'static str)>,
}

/// A word alone.
#[derive(Debug)]
struct Word(&'static str, &'static str);

/// A family with one series for each service that has a value: name, meaning, value.
type ServiceFamily = (&'static str, &'static str, fn(&ServiceView, &ControllerView) -> Option<f64>);

const SERVICE_FAMILIES: [ServiceFamily; 7] = [
    ("tidegate_adaptive_limit", "The limit in force, in requests per second.", |service, _| {
        Some(service.limit.per_second())
    }),
    ("tidegate_adaptive_generation", "How often the limit has changed.", |service, _| Some(service.generation as f64)),
    ("tidegate_adaptive_offered", "Requests that reached the gate, per second.", |service, _| {
        service.rates.map(|rates| rates.offered)
    }),
    ("tidegate_adaptive_admitted", "Requests that passed the gate, per second.", |service, _| {
        service.rates.map(|rates| rates.admitted)
    }),
    ("tidegate_adaptive_knee", "The last rate that went badly, in requests per second.", |service, view| {
        judged_here(service, view)?.decision.knee.map(|knee| knee.rate)
    }),
    ("tidegate_adaptive_signal_age_seconds", "Age of the signals that were judged last.", |service, view| {
        let at = judged_here(service, view)?.signal_at?;
        Some(view.at.as_millis().saturating_sub(at.as_millis()) as f64 / 1_000.0)
    }),
    ("tidegate_adaptive_override", "1 while an operator's hand lies on the limit, else 0.", |service, _| {
        Some(f64::from(u8::from(service.hand.is_some())))
    }),
];

/// A family with one series for each signal that was judged.
type SignalFamily = (&'static str, &'static str, fn(&Judged) -> f64);

const SIGNAL_FAMILIES: [SignalFamily; 3] = [
    ("tidegate_adaptive_signal", "The share of bad answers that was judged last.", |judged| judged.ratio),
    ("tidegate_adaptive_threshold", "What that share must not pass: the target on top of the normal.", |judged| {
        judged.threshold
    }),
    ("tidegate_adaptive_normal", "The share that counts as normal.", |judged| judged.normal),
];

// === impl AdaptiveLimits ===

impl AdaptiveLimits {
    /// The metrics of what is published there.
    #[must_use]
    pub fn new(view: watch::Receiver<Arc<ControllerView>>) -> AdaptiveLimits {
        AdaptiveLimits { view }
    }
}

impl Collector for AdaptiveLimits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = Arc::clone(&self.view.borrow());
        // Whoever has no adaptive services has no such metrics.
        if view.services.is_empty() {
            return Ok(());
        }
        encode_services(&view, &mut encoder)?;
        encode_signals(&view, &mut encoder)?;
        encode_replica(&view, &mut encoder)
    }
}

fn encode_services(view: &ControllerView, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    for (name, help, value) in SERVICE_FAMILIES {
        let of = |service| Some((Labels::of(service, None), value(service, view)?));
        write(encoder, name, help, MetricType::Gauge, view.services.iter().filter_map(of))?;
    }
    let bounds = view.services.iter().flat_map(|service| {
        let bounds = service.service.bounds;
        [("min", bounds.min), ("max", bounds.max)]
            .map(|(bound, rate)| (Labels::of(service, Some(("bound", bound))), rate.per_second()))
    });
    let help = "The bounds of the limit, in requests per second.";
    write(encoder, "tidegate_adaptive_bound", help, MetricType::Gauge, bounds)?;
    let modes = view.services.iter().flat_map(|service| {
        ServiceMode::ALL.map(|mode| {
            let is = f64::from(u8::from(service.service.mode == mode));
            (Labels::of(service, Some(("mode", mode.name()))), is)
        })
    });
    write(encoder, "tidegate_adaptive_mode", "1 for the mode of the service, else 0.", MetricType::Gauge, modes)?;
    let changes = view.services.iter().flat_map(|service| {
        let count =
            |(action, count): (Action, u64)| (Labels::of(service, Some(("action", action.name()))), count as f64);
        service.changes.iter().map(count)
    });
    let help = "Changes of the limit that this replica made.";
    write(encoder, "tidegate_adaptive_changes_total", help, MetricType::Counter, changes)
}

fn encode_signals(view: &ControllerView, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let targets = view.services.iter().flat_map(|service| {
        let targets = &service.service.targets;
        let latency = targets.latency.map(|latency| ("latency", latency.at_most));
        [Some(("errors", targets.errors)), latency]
            .into_iter()
            .flatten()
            .map(|(signal, share)| (Labels::of(service, Some(("signal", signal))), share))
    });
    let help = "The highest share of bad answers that is still well.";
    write(encoder, "tidegate_adaptive_target", help, MetricType::Gauge, targets)?;
    for (name, help, value) in SIGNAL_FAMILIES {
        let judged = view.services.iter().flat_map(|service| {
            let judged = judged_here(service, view).map_or(&[][..], |last| &last.decision.judged);
            judged
                .iter()
                .map(move |judged| (Labels::of(service, Some(("signal", judged.signal.name()))), value(judged)))
        });
        write(encoder, name, help, MetricType::Gauge, judged)?;
    }
    Ok(())
}

fn encode_replica(view: &ControllerView, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let leads = u64::from(view.epoch.is_some());
    single(encoder, "tidegate_adaptive_leader", "1 while this replica decides, else 0.", MetricType::Gauge, leads)?;
    let is_away = u64::from(view.trouble.is_some());
    let help = "1 while the store of records can't be asked, else 0.";
    single(encoder, "tidegate_adaptive_store_away", help, MetricType::Gauge, is_away)?;
    let replicas = u64::from(view.replicas);
    single(encoder, "tidegate_adaptive_replicas", "Replicas that live.", MetricType::Gauge, replicas)?;
    let failures: Vec<(Word, u64)> =
        view.failed_fetches.iter().map(|(kind, count)| (Word("kind", kind.name()), *count)).collect();
    family(
        encoder,
        "tidegate_adaptive_fetch_failures_total",
        "Questions for signals that brought no usable answer.",
        MetricType::Counter,
        failures.iter().map(|(kind, count)| (kind, *count)),
    )
}

/// The last step of the law, on the replica that leads: one that led before may have made it long ago.
fn judged_here<'v>(service: &'v ServiceView, view: &ControllerView) -> Option<&'v DecisionRecord> {
    service.last.as_deref().filter(|_| view.epoch.is_some())
}

fn write<'v>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric_type: MetricType,
    members: impl Iterator<Item = (Labels<'v>, f64)>,
) -> fmt::Result {
    let members: Vec<(Labels<'v>, f64)> = members.collect();
    family(encoder, name, help, metric_type, members.iter().map(|(labels, value)| (labels, *value)))
}

// === impl Labels ===

impl<'v> Labels<'v> {
    fn of(service: &'v ServiceView, word: Option<(&'static str, &'static str)>) -> Labels<'v> {
        Labels { service: &service.service.name, word }
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("service", self.service).encode(encoder.encode_label())?;
        self.word.map_or(Ok(()), |word| word.encode(encoder.encode_label()))
    }
}

impl EncodeLabelSet for Word {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        (self.0, self.1).encode(encoder.encode_label())
    }
}
