//! What a Prometheus says of a service, asked as the controller asks it: a real one wherever there is a claim about
//! numbers, one of the test's own where it must lie or stall.

mod check;
mod doubts;
mod figures;
mod live;
mod servers;
mod web;

use std::net::SocketAddr;
use std::time::Duration;

use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::prometheus::PrometheusSource;
use tidegate::rules::service::Service;
use tidegate::rules::{Options, RuleSet, SourceFile, load};
use tidegate::signal::Windows;

/// One rule, governed by the service that a test is about.
const RULES: &str = "
domain: d
descriptors: [{key: a, rate_limit: {unit: second, requests_per_unit: 9}}]
";

/// A rule file with a service of these words, and a Prometheus of these.
fn text(prometheus: &str, words: &str) -> String {
    let service =
        format!("{{name: s, governs: [{{domain: d, descriptor: [{{a: }}]}}], bounds: {{max: 500/s}}, {words}}}");
    format!("{RULES}prometheus: {{{prometheus}}}\nservices:\n- {service}\n")
}

fn rules(prometheus: &str, words: &str) -> RuleSet {
    let text = text(prometheus, words);
    match load(&[SourceFile { name: "rules.yaml".to_owned(), text }], &Options::default()) {
        Ok((rules, _)) => rules,
        Err(errors) => panic!("{words}: {errors}"),
    }
}

/// A source and the service to ask it about.
fn source(prometheus: &str, words: &str) -> (PrometheusSource, Service) {
    let rules = rules(prometheus, words);
    let source = PrometheusSource::new(rules.prometheus().unwrap()).unwrap();
    (source, rules.services()[0].clone())
}

fn at(address: SocketAddr) -> String {
    format!("url: 'http://{address}'")
}

fn now() -> Timestamp {
    SystemClock.now()
}

/// The windows at a scrape interval of so many seconds.
fn windows(scrape: u64) -> Windows {
    tidegate::prometheus::windows_at(Duration::from_secs(scrape))
}
