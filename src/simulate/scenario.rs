//! A scenario file: what `tidegate simulate` is told of a service. config/simulate/inventory.yaml shows every key.
//!
//! The law is the scenario's own `service`, or that of a service in the rule files; then the scenario's says nothing.

use serde_yaml::{Mapping, Value};

use super::fields::{Fields, Group, name, number, rate, rate_from_zero, seed, share, switch};
use super::plant::{Course, Fault, FaultKind, MetricsTerms, ServiceTerms, ServiceTime};
use super::run::Scenario;
use super::tried::{Over, Tried};
use crate::control::law::{Constants, Law, StaleTerms};
use crate::rules::service::{Service, ServiceMode};

/// Longest run, in milliseconds: a day.
const LENGTH_MAX_MS: u64 = 86_400_000;

/// A scenario and the name of its service.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The service's name.
    pub name: String,
    /// The scenario.
    pub scenario: Scenario,
    /// What was assumed, one sentence each.
    pub notes: Vec<String>,
}

/// Reads a scenario, for its own service or for one of the rule files.
///
/// # Errors
/// Every mistake, one sentence each.
pub fn read(file: &str, text: &str, service: Option<(&Service, Over)>) -> Result<Named, Vec<String>> {
    let root = match serde_yaml::from_str::<Value>(text) {
        Ok(Value::Mapping(root)) => root,
        Ok(Value::Null) => Mapping::new(),
        Ok(_) => return Err(vec![format!("{file} must hold keys and values at its top")]),
        Err(error) => return Err(vec![format!("{file} cannot be read as YAML: {error}")]),
    };
    let mut fields = Fields::new(file, text);
    let mut root = Group::new(String::new(), root);
    let mut metrics = fields.group(&mut root, "metrics");
    let given = metrics.has("scrape_interval");
    let given = given.then(|| fields.seconds(&mut metrics, "scrape_interval", 1_000..=60_000, 5.0));
    let is_passed_over = service.is_some() && root.has("service");
    let mut own = fields.group(&mut root, "service");
    let mut notes = Vec::new();
    let (name, mode, law, slow_above) = match service {
        None => {
            let read = read_service(&mut fields, &mut own);
            fields.done(own);
            read
        }
        Some((service, over)) => {
            let Tried { name, law, slow_above, notes: assumed } = Tried::of(service, given, over);
            notes = assumed;
            if is_passed_over {
                notes.push(format!("the service of {file} is passed over"));
            }
            (Some(name), ServiceMode::Enforce, Some(law), slow_above)
        }
    };
    let mut plant = fields.group(&mut root, "plant");
    let terms = read_plant(&mut fields, &mut plant, slow_above);
    fields.done(plant);
    let demand = match root.has("demand") {
        true => fields.course(&mut root, "demand", rate_from_zero),
        false => fields.required(&mut root, "demand", rate_from_zero).map(Course::constant),
    };
    let scrape = given.or(law.as_ref().map(|law| law.scrape)).unwrap_or(5.0);
    let metrics_terms = read_metrics(&mut fields, &mut metrics, scrape);
    fields.done(metrics);
    let mut run = fields.group(&mut root, "run");
    let length = fields.seconds(&mut run, "length", 60_000..=LENGTH_MAX_MS, 1_200.0);
    let mut disturbance = fields.group(&mut run, "disturbance");
    let from = fields.seconds(&mut disturbance, "from", 0..=LENGTH_MAX_MS, 0.0);
    let until = fields.seconds(&mut disturbance, "until", 0..=LENGTH_MAX_MS, length);
    if !(from < until && until <= length) {
        let sentence = format!("is from {from} s until {until} s, but must end after its begin and within {length} s");
        fields.mistake("run.disturbance", &sentence);
    }
    fields.done(disturbance);
    let seed = fields.value(&mut run, "seed", seed).unwrap_or(1);
    fields.done(run);
    fields.done(root);
    match (name, law, terms, demand) {
        (Some(name), Some(law), Some(service), Some(demand)) if fields.mistakes.is_empty() => {
            let length = length as u32;
            let disturbance = (from, until);
            let scenario = Scenario { law, mode, service, metrics: metrics_terms, demand, length, disturbance, seed };
            Ok(Named { name, scenario, notes })
        }
        _ => Err(fields.mistakes),
    }
}

type ReadService = (Option<String>, ServiceMode, Option<Law>, f64);

fn read_service(fields: &mut Fields, group: &mut Group) -> ReadService {
    let service_name = fields.required(group, "name", name);
    let mode = fields.value(group, "mode", mode).unwrap_or(ServiceMode::Enforce);
    let mut bounds = fields.group(group, "bounds");
    let max = fields.required(&mut bounds, "max", rate);
    let min = fields.value(&mut bounds, "min", rate).or(max.map(|max| (max / 20.0).max(0.2)));
    fields.done(bounds);
    if let (Some(min), Some(max)) = (min, max)
        && min >= max
    {
        fields.mistake("service.bounds", &format!("has min {min}/s, but that must be below max, which is {max}/s"));
    }
    let start = fields.value(group, "start", rate).or(max);
    let mut targets = fields.group(group, "targets");
    let errors = fields.value(&mut targets, "errors", target).unwrap_or(0.05);
    let has_latency = targets.has("latency");
    let mut latency = fields.group(&mut targets, "latency");
    let at_most = has_latency.then(|| fields.required(&mut latency, "at_most", share_within)).flatten();
    if has_latency && !latency.has("above") {
        fields.mistake("service.targets.latency.above", "is missing");
    }
    let slow_above = fields.seconds(&mut latency, "above", 1..=600_000, 0.25);
    fields.done(latency);
    fields.done(targets);
    let interval = fields.seconds(group, "interval", 1_000..=60_000, 5.0);
    let scrape = fields.seconds(group, "scrape_interval", 1_000..=60_000, 5.0);
    let propagation = fields.seconds(group, "propagation", 0..=60_000, 1.0);
    let flush = fields.seconds(group, "flush", 0..=60_000, 0.0);
    let mut stale = fields.group(group, "stale");
    let hold = fields.seconds(&mut stale, "hold", 1..=LENGTH_MAX_MS, 600.0);
    let decay = fields.seconds(&mut stale, "decay", 1..=LENGTH_MAX_MS, 600.0);
    let toward = fields.value(&mut stale, "toward", rate).or(max);
    fields.done(stale);
    for (key, rate) in [("service.start", start), ("service.stale.toward", toward)] {
        if let (Some(rate), Some(min), Some(max)) = (rate, min, max)
            && min < max
            && !(min..=max).contains(&rate)
        {
            fields.mistake(key, &format!("is {rate}/s, but must lie within the bounds, {min}/s to {max}/s"));
        }
    }
    let brittle = fields.value(group, "brittle", switch).unwrap_or(false);
    let law = match (min, max, start, toward) {
        (Some(min), Some(max), Some(start), Some(toward)) => Some(Law {
            min,
            max,
            start,
            errors,
            latency: at_most,
            interval,
            scrape,
            flush,
            propagation,
            stale: StaleTerms { hold, decay, toward },
            brittle,
            fingerprint: 0,
            constants: Constants::default(),
        }),
        _ => None,
    };
    (service_name, mode, law, slow_above)
}

fn read_plant(fields: &mut Fields, group: &mut Group, slow_above: f64) -> Option<ServiceTerms> {
    let capacity = match group.has("capacity") {
        true => fields.course(group, "capacity", rate_from_zero),
        false => fields.required(group, "capacity", rate_from_zero).map(Course::constant),
    };
    let errors = fields.course(group, "errors", share).unwrap_or_else(|| Course::constant(0.002));
    let queue = fields.seconds(group, "queue", 0..=600_000, 0.3);
    let deadline = fields.seconds(group, "deadline", 1..=600_000, 2.0);
    let mut work = fields.group(group, "work");
    let median = fields.seconds(&mut work, "median", 1..=60_000, 0.05);
    let sigma = fields.value(&mut work, "sigma", sigma).unwrap_or(0.5);
    fields.done(work);
    let collapse = fields.value(group, "collapse", number).unwrap_or(0.0);
    let is_silent = fields.value(group, "silent", switch).unwrap_or(false);
    let is_metastable = fields.value(group, "metastable", switch).unwrap_or(false);
    let retries = fields.value(group, "retries", share).unwrap_or(0.0);
    let work = ServiceTime { median, sigma };
    capacity.map(|capacity| ServiceTerms {
        capacity,
        errors,
        queue,
        deadline,
        work,
        slow_above,
        collapse,
        is_silent,
        is_metastable,
        retries,
    })
}

fn read_metrics(fields: &mut Fields, group: &mut Group, scrape: f64) -> MetricsTerms {
    let ingestion = fields.seconds(group, "ingestion", 0..=60_000, 0.3);
    let lost = fields.value(group, "lost", share).unwrap_or(0.01);
    let mut faults = Vec::new();
    for (index, value) in fields.list(group, "faults").into_iter().enumerate() {
        let place = format!("metrics.faults[{index}]");
        let Value::Mapping(keys) = value else {
            fields.mistake(&place, "must be such as { from: 6m, until: 8m, kind: unreachable }");
            continue;
        };
        let mut fault = Group::new(place, keys);
        let from = fields.seconds(&mut fault, "from", 0..=LENGTH_MAX_MS, 0.0);
        let until = fields.seconds(&mut fault, "until", 0..=LENGTH_MAX_MS, f64::INFINITY);
        let kind = fields.required(&mut fault, "kind", fault_kind);
        fields.done(fault);
        faults.extend(kind.map(|kind| Fault { from, until, kind }));
    }
    let mut resets = Group::new("metrics".to_owned(), Mapping::new());
    let mut instants = Vec::new();
    for (index, value) in fields.list(group, "resets").into_iter().enumerate() {
        let key = format!("resets[{index}]");
        resets = resets.with(&key, value);
        instants.push(fields.seconds(&mut resets, &key, 0..=LENGTH_MAX_MS, 0.0));
    }
    MetricsTerms { scrape, ingestion, lost, faults, resets: instants }
}

fn mode(value: &Value) -> Result<ServiceMode, &'static str> {
    match value {
        // YAML 1.1 reads a bare `off` as false, and so do some editors.
        Value::Bool(false) => Ok(ServiceMode::Off),
        Value::String(word) if word == "off" => Ok(ServiceMode::Off),
        Value::String(word) if word == "observe" => Ok(ServiceMode::Observe),
        Value::String(word) if word == "enforce" => Ok(ServiceMode::Enforce),
        _ => Err("off, observe or enforce"),
    }
}

fn fault_kind(value: &Value) -> Result<FaultKind, &'static str> {
    match value.as_str() {
        Some("unreachable") => Ok(FaultKind::Unreachable),
        Some("not_a_number") => Ok(FaultKind::NotANumber),
        Some("gap") => Ok(FaultKind::Gap),
        _ => Err("unreachable, not_a_number or gap"),
    }
}

fn target(value: &Value) -> Result<f64, &'static str> {
    const RIGHT: &str = "a share from 0.1% to 50%";
    let target = share(value).map_err(|_| RIGHT)?;
    if (0.001..=0.5).contains(&target) { Ok(target) } else { Err(RIGHT) }
}

fn share_within(value: &Value) -> Result<f64, &'static str> {
    const RIGHT: &str = "a share above 0% and below 100%";
    let share = share(value).map_err(|_| RIGHT)?;
    if share > 0.0 && share < 1.0 { Ok(share) } else { Err(RIGHT) }
}

fn sigma(value: &Value) -> Result<f64, &'static str> {
    const RIGHT: &str = "a number from 0.01 to 3";
    let sigma = number(value).map_err(|_| RIGHT)?;
    if (0.01..=3.0).contains(&sigma) { Ok(sigma) } else { Err(RIGHT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_scenario_and_says_the_defaults() {
        let text = include_str!("../../config/simulate/inventory.yaml");
        let named = read("inventory.yaml", text, None).unwrap();
        assert_eq!(
            (named.name.as_str(), named.scenario.length, named.scenario.disturbance),
            ("inventory", 1_200, (300.0, 660.0))
        );
        assert_eq!(named.scenario.service.capacity.at(630.0), 375.0);
        let least = "service: { name: inventory, bounds: { max: 1000/s }, targets: { latency: { above: 250ms, at_most: 10% } } }\n\
                     plant: { capacity: 500/s }\ndemand: 420/s\n";
        let defaults = read("least.yaml", least, None).unwrap().scenario;
        assert_eq!(defaults.law, named.scenario.law);
        let plant = ServiceTerms {
            collapse: 0.3,
            retries: 0.2,
            capacity: named.scenario.service.capacity.clone(),
            ..defaults.service
        };
        assert_eq!(plant, named.scenario.service);
        assert_eq!(defaults.metrics, named.scenario.metrics);
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place() {
        let text = "service:\n  name: Inventory\n  bounds: { min: 20/s, max: 10/s }\n  targets: { errors: 80% }\n  intervall: 5s\n\
                    plant:\n  capacity:\n    - { to: fast }\n    - { at: 5m, to: 1/s }\n    - { at: 4m, to: 1/s }\n\
                    metrics: { faults: [ { kind: broken } ], resets: [ soon ] }\nrun: { length: 1s }\n";
        let mistakes = read("s.yaml", text, None).unwrap_err();
        for told in [
            "s.yaml:2: service.name is \"Inventory\", but must be a name of 1 to 63 of a-z, 0-9, _ and -",
            "s.yaml:3: service.bounds has min 20/s, but that must be below max, which is 10/s",
            "s.yaml:4: service.targets.errors is \"80%\", but must be a share from 0.1% to 50%",
            "s.yaml:5: service.intervall is not a key of a scenario; did you mean interval?",
            "s.yaml:7: plant.capacity[0].to is \"fast\", but must be a rate from 0 to 1000000000/s, such as 500/s, 30/m or 1000/h",
            "s.yaml:7: plant.capacity[2] is at 240 s, but the entry before is at 300 s; put them in order",
            "s.yaml: demand is missing",
            "s.yaml:11: metrics.faults[0].kind is \"broken\", but must be unreachable, not_a_number or gap",
        ] {
            assert!(mistakes.iter().any(|mistake| mistake == told), "{told}\nis not in\n{}", mistakes.join("\n"));
        }
        assert_eq!(mistakes.len(), 10, "{}", mistakes.join("\n"));
    }
}
