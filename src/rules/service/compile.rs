//! From raw services to [`Service`]s: what their words mean together, and which rules they govern.
//!
//! As with rules a mistake never hides another: what is wrong is reported and left out, and the rest is judged on.

use std::collections::HashMap;
use std::time::Duration;

use super::file::RawService;
use super::gate::{self, Ceiling};
use super::governs::Names;
use super::{
    LatencyTarget, LawNumbers, PrometheusServer, RateBounds, Service, ServiceMode, SignalSpec, Stale, Targets,
    prometheus, signals,
};
use crate::rate::Rate;
use crate::rules::Rule;
use crate::rules::error::{KeyPath, Place, Report, quoted};
use crate::rules::file::{Field, Located, RawFile};

/// Longest name of a service.
const NAME_MAX: usize = 63;

/// Time between two decisions where the file says nothing.
const INTERVAL: Duration = Duration::from_secs(5);
/// From decision to enforcement where the file says nothing: each replica looks once a second.
const PROPAGATION: Duration = Duration::from_secs(1);
/// Hold and decay where the file says nothing.
const STALE: Duration = Duration::from_secs(600);
/// The error target where the file says nothing.
const ERRORS: f64 = 0.05;
/// The lowest limit where the file says nothing: this part of the highest, and at least [`MIN_LOWEST`].
const MIN_PART: f64 = 20.0;
/// Requests per second below which a limit tells next to nothing of the service.
const MIN_LOWEST: f64 = 0.2;

/// Compiles the services of all files together, and the Prometheus that they ask.
pub(in crate::rules) fn compile(
    files: &[RawFile],
    rules: &[Rule],
    report: &mut Report,
) -> (Vec<Service>, Option<PrometheusServer>) {
    let (server, is_named) = prometheus::compile(files, report);
    let mut compiler = Compiler {
        names: None,
        rules,
        files,
        by_name: HashMap::new(),
        governed_by: HashMap::new(),
        server: server.as_ref(),
        is_named,
        services: Vec::new(),
        report,
    };
    for file in files {
        let root = KeyPath::file(&file.name);
        let list = root.word("services");
        for (index, raw) in file.services.iter() {
            let label = raw.name.value().map(String::as_str).unwrap_or_default();
            compiler.service(file, raw, &list.item(index, label));
        }
    }
    (compiler.services, server)
}

struct Compiler<'c, 'f> {
    /// Made with the first service: most rule files have none.
    names: Option<Names<'f>>,
    rules: &'f [Rule],
    files: &'f [RawFile],
    /// Where each name stands.
    by_name: HashMap<&'f str, String>,
    /// The service that governs a rule: its name and where it stands.
    governed_by: HashMap<usize, (&'f str, String)>,
    server: Option<&'c PrometheusServer>,
    /// Whether some file names a Prometheus, be it wrongly.
    is_named: bool,
    services: Vec<Service>,
    report: &'c mut Report,
}

// === impl Compiler ===

impl<'f> Compiler<'_, 'f> {
    fn service(&mut self, file: &'f RawFile, raw: &'f RawService, path: &KeyPath<'_>) {
        let place = format!("{}:{}", file.name, raw.place.line);
        let name = self.name(raw, &place, path);
        let governs = self.governs(raw, name.unwrap_or_default(), &place, path);
        let ceiling = gate::compile(raw, &governs, !raw.governs.is_wrong, self.rules, path, self.report);
        let bounds = self.bounds(raw, &ceiling, path);
        let start = self.within(&raw.start, "start", bounds, path);
        let targets = self.targets(raw);
        let mode = raw.mode.value().copied().unwrap_or_default();
        let latency = targets.and_then(|targets| targets.latency);
        let source = self.source(raw, mode, latency, path);
        let interval = raw.interval.value().copied().unwrap_or(INTERVAL);
        self.deadline(raw, interval, path);
        let stale = self.stale(raw, bounds, path);
        let law = match &raw.law {
            Field::Given(law) => Some(law.value.clone()),
            Field::Absent => Some(LawNumbers::default()),
            Field::Wrong => None,
        };
        self.thin(raw, bounds, path);
        let (Some(name), Some(bounds), Some(start), Some(targets), Some(source), Some(stale), Some(law)) =
            (name, bounds, start, targets, source, stale, law)
        else {
            return;
        };
        self.services.push(Service {
            index: self.services.len(),
            name: name.into(),
            mode,
            governs,
            gate: raw.gate.value().copied().unwrap_or_default(),
            bounds,
            start,
            targets,
            source,
            interval,
            scrape_interval: raw.scrape_interval.value().copied().flatten(),
            propagation: raw.propagation.value().copied().unwrap_or(PROPAGATION),
            flush: raw.signals.value().and_then(|raw| raw.flush.value().copied()).unwrap_or_default(),
            stale,
            brittle: raw.brittle.is_true(),
            scale_rules: raw.scale_rules.is_true(),
            law,
            place: place.into(),
        });
    }

    fn name(&mut self, raw: &'f RawService, place: &str, path: &KeyPath<'_>) -> Option<&'f str> {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        let name = match &raw.name {
            Field::Given(name) => name,
            Field::Absent => {
                let text = "a service without a name: logs, metrics and commands call it by it";
                self.report.mistake(path, raw.place, text);
                return None;
            }
            Field::Wrong => return None,
        };
        let path = path.word("name");
        if name.value.len() > NAME_MAX || !name.value.bytes().all(is_letter) {
            let text = format!(
                "'{}' is no name of a service: write 1 to {NAME_MAX} of a-z, 0-9, _ and -",
                quoted(&name.value)
            );
            self.report.mistake(&path, name.place, text);
            return None;
        }
        if let Some(earlier) = self.by_name.get(name.value.as_str()) {
            let text = format!("{earlier} has a service '{}' already; give each its own name", name.value);
            self.report.mistake(&path, name.place, text);
            return None;
        }
        self.by_name.insert(&name.value, place.to_owned());
        Some(&name.value)
    }

    fn governs(&mut self, raw: &RawService, name: &'f str, place: &str, path: &KeyPath<'_>) -> Box<[usize]> {
        let list = path.word("governs");
        if raw.governs.items.is_empty() && !raw.governs.is_wrong {
            let text = "governs names no rule, so nothing would be charged to the gate; name at least one, as in \
                        governs: [ { domain: shop, descriptor: [ { user: } ] } ]";
            self.report.mistake(path, raw.place, text);
        }
        let names = self.names.get_or_insert_with(|| Names::of(self.files, self.rules));
        let mut governs: Vec<usize> = Vec::new();
        let mut places: Vec<(usize, String, Place)> = Vec::new();
        for (index, governed) in raw.governs.iter() {
            let label = governed.label();
            let path = list.item(index, &label);
            for rule in names.resolve(governed, &path, self.report) {
                if governs.contains(&rule) {
                    let text = format!("{} is named already; once is enough", names.place(rule));
                    self.report.warning(&path, governed.place, text);
                    continue;
                }
                if let Some((other, other_place)) = self.governed_by.get(&rule) {
                    let text = format!(
                        "{} is governed by the service '{other}' ({other_place}) already; a rule has one gate at most",
                        names.place(rule)
                    );
                    self.report.mistake(&path, governed.place, text);
                    continue;
                }
                self.governed_by.insert(rule, (name, place.to_owned()));
                governs.push(rule);
                places.push((index, label.clone(), governed.place));
            }
        }
        for (rule, (index, label, place)) in governs.iter().zip(places) {
            for doubt in names.doubts(*rule, &governs) {
                self.report.warning(&list.item(index, &label), place, doubt);
            }
        }
        governs.into()
    }

    fn bounds(&mut self, raw: &RawService, ceiling: &Ceiling<'_>, path: &KeyPath<'_>) -> Option<RateBounds> {
        let path = path.word("bounds");
        let (min, max, place) = match &raw.bounds {
            Field::Given(bounds) => (&bounds.value.min, &bounds.value.max, bounds.place),
            Field::Absent => (&Field::Absent, &Field::Absent, raw.place),
            Field::Wrong => return None,
        };
        let max = match (max, ceiling) {
            (Field::Given(max), Ceiling::Rule(rule, limit)) if max.value > *limit => {
                let text = format!(
                    "{} is above the {limit} of {}, which is the gate; write {limit} at most, or raise the rule's limit",
                    max.value, rule.place
                );
                self.report.mistake(&path.word("max"), max.place, text);
                return None;
            }
            (Field::Given(max), _) => max.value,
            (Field::Absent, Ceiling::Rule(_, limit)) => *limit,
            (Field::Absent, Ceiling::Open) => {
                let (what, right) = match raw.bounds {
                    Field::Absent => ("bounds.max", "as in bounds: { max: 500/s }"),
                    _ => ("max", "such as 500/s"),
                };
                let text = format!(
                    "{what} is missing: write the rate that a healthy service is known to carry, or the static limit \
                     of today, {right}"
                );
                self.report.mistake(&path, place, text);
                return None;
            }
            (Field::Absent, Ceiling::Unknown) | (Field::Wrong, _) => return None,
        };
        let (min, place) = match min {
            Field::Given(min) => (min.value, min.place),
            Field::Absent => (Rate::from_per_second((max.per_second() / MIN_PART).max(MIN_LOWEST)), place),
            Field::Wrong => return None,
        };
        let Some(checked) = RateBounds::new(min, max) else {
            let text = format!("the lowest limit {min} is not below the highest {max}; write a min below it");
            self.report.mistake(&path.word("min"), place, text);
            return None;
        };
        if min.millis() > max.millis() / 2 {
            let text = format!(
                "{min} is more than half of {max}, so there is little room to adapt; a 20th of the highest is usual"
            );
            self.report.warning(&path.word("min"), place, text);
        }
        Some(checked)
    }

    /// A rate inside the bounds; the highest where there is none.
    fn within(
        &mut self,
        field: &Field<Rate>,
        word: &str,
        bounds: Option<RateBounds>,
        path: &KeyPath<'_>,
    ) -> Option<Rate> {
        let bounds = bounds?;
        let given = match field {
            Field::Given(given) => given,
            Field::Absent => return Some(bounds.max),
            Field::Wrong => return None,
        };
        if bounds.clamp(given.value) == given.value {
            return Some(given.value);
        }
        let RateBounds { min, max } = bounds;
        let text = format!("{} is outside the bounds; write a rate from {min} to {max}", given.value);
        self.report.mistake(&path.word(word), given.place, text);
        None
    }

    fn targets(&mut self, raw: &RawService) -> Option<Targets> {
        let targets = match &raw.targets {
            Field::Given(targets) => &targets.value,
            Field::Absent => return Some(Targets { errors: ERRORS, latency: None }),
            Field::Wrong => return None,
        };
        if targets.errors.is_wrong() || targets.latency.is_wrong() {
            return None;
        }
        let errors = targets.errors.value().copied().unwrap_or(ERRORS);
        Some(Targets { errors, latency: targets.latency.value().copied() })
    }

    /// Where the numbers come from: `Some(None)` where none are needed, `None` where there was a mistake.
    fn source(
        &mut self,
        raw: &RawService,
        mode: ServiceMode,
        latency: Option<LatencyTarget>,
        path: &KeyPath<'_>,
    ) -> Option<Option<SignalSpec>> {
        let needed = mode != ServiceMode::Off && !raw.mode.is_wrong();
        match &raw.signals {
            Field::Given(signals) => {
                let spec = signals::compile(signals, latency, &path.word("signals"), self.report);
                if needed && !self.is_named {
                    let text = "no file names a Prometheus to ask: write prometheus: { url: http://prometheus:9090 } \
                                at the root of one, or set mode: off";
                    self.report.mistake(path, raw.place, text);
                }
                spec.map(Some)
            }
            Field::Absent if needed => {
                let text = "signals is missing: say where the numbers come from, as in signals: { preset: envoy, \
                            cluster: inventory }, or set mode: off";
                self.report.mistake(path, raw.place, text);
                None
            }
            Field::Absent => Some(None),
            Field::Wrong => None,
        }
    }

    /// A question that takes as long as the interval would leave none for an answer.
    fn deadline(&mut self, raw: &RawService, interval: Duration, path: &KeyPath<'_>) {
        let Some(server) = self.server.filter(|server| server.timeout >= interval) else { return };
        let place = raw.interval.given().map_or(raw.place, |given| given.place);
        let text = format!(
            "the interval of {interval:?} is not above the timeout of prometheus, {:?} ({}); lengthen the one or \
             shorten the other",
            server.timeout, server.place
        );
        if !raw.interval.is_wrong() {
            self.report.mistake(&path.word("interval"), place, text);
        }
    }

    fn stale(&mut self, raw: &RawService, bounds: Option<RateBounds>, path: &KeyPath<'_>) -> Option<Stale> {
        let path = path.word("stale");
        let raw = match &raw.stale {
            Field::Given(raw) => &raw.value,
            Field::Absent => return Some(Stale { hold: STALE, decay: STALE, toward: bounds?.max }),
            Field::Wrong => return None,
        };
        let toward = match &raw.toward {
            Field::Given(given) => match given.value {
                None => Field::Absent,
                Some(value) => Field::Given(Located { value, place: given.place }),
            },
            Field::Absent => Field::Absent,
            Field::Wrong => Field::Wrong,
        };
        let toward = self.within(&toward, "toward", bounds, &path);
        if raw.hold.is_wrong() || raw.decay.is_wrong() {
            return None;
        }
        let time = |field: &Field<Duration>| field.value().copied().unwrap_or(STALE);
        Some(Stale { hold: time(&raw.hold), decay: time(&raw.decay), toward: toward? })
    }

    /// At its floor a service must still answer now and then, or its recovery shows nowhere.
    fn thin(&mut self, raw: &RawService, bounds: Option<RateBounds>, path: &KeyPath<'_>) {
        let Some((bounds, scrape)) = bounds.zip(raw.scrape_interval.value().copied().flatten()) else { return };
        let requests = bounds.min.per_second() * scrape.as_secs_f64();
        if requests < 1.0 {
            let text = format!(
                "at the lowest limit {} there are {requests:.2} requests in a scrape interval of {scrape:?}, so a \
                 recovery would hardly show; a min of {} gives one",
                bounds.min,
                Rate::from_per_second(1.0 / scrape.as_secs_f64())
            );
            let place = raw.bounds.given().map_or(raw.place, |given| given.place);
            self.report.warning(&path.word("bounds"), place, text);
        }
    }
}
