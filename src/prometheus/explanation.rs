//! What a service comes to, for who checks rule files: its bounds, its gate, the rules under it, and the queries as they
//! will be sent.

use std::fmt::Write;
use std::time::Duration;

use super::Queries;
use crate::rules::RuleSet;
use crate::rules::service::{LatencyTarget, Service, ServiceGate, ServiceMode};
use crate::signal::Windows;

/// The scrape interval that windows are shown for where it is to be measured: Prometheus's usual one.
pub const SCRAPE_USUAL: Duration = Duration::from_secs(15);

/// The lengths of the windows at this scrape interval, where no change of the limit shortens them.
#[must_use]
pub fn windows_at(scrape: Duration) -> Windows {
    Windows {
        newest: scrape * 2 + Duration::from_secs(1),
        fast: (scrape * 3).max(Duration::from_secs(15)),
        slow: (scrape * 8).max(Duration::from_secs(60)),
        long: Duration::from_secs(300),
    }
}

/// A service of `rules` in several lines of text.
#[must_use]
pub fn explanation(rules: &RuleSet, service: &Service, windows: &Windows) -> String {
    let mut text = String::new();
    write(&mut text, rules, service, windows).expect("writing to a string does not fail");
    text.truncate(text.trim_end().len());
    text
}

fn write(text: &mut String, rules: &RuleSet, service: &Service, windows: &Windows) -> std::fmt::Result {
    let Service { name, bounds, start, mode, place, .. } = service;
    writeln!(text, "service {name} ({}, {place})", mode.name())?;
    writeln!(text, "  limit: {} to {}, starting at {start}", bounds.min, bounds.max)?;
    let burst = |rate: f64| rate.max(1.0);
    let beside = match service.gate {
        ServiceGate::Bucket => "",
        ServiceGate::Rule if service.gate_is_rule() => {
            ", in the place of the rule's own counter unless the whole process is in shadow or quota mode"
        }
        ServiceGate::Rule => ", beside the rule's own counter until the mode is enforce",
    };
    writeln!(
        text,
        "  gate: a token bucket of one second, {} requests at most ({} at the lowest limit){beside}",
        burst(bounds.max.per_second()),
        burst(bounds.min.per_second())
    )?;
    for rule in service.governs.iter().filter_map(|index| rules.rules().get(*index)) {
        writeln!(text, "  governs: {} {} ({})", rule.domain, rule.path.join("."), rule.place)?;
    }
    write!(text, "  targets: {}% failed", percent(service.targets.errors))?;
    if let Some(LatencyTarget { above, at_most }) = service.targets.latency {
        write!(text, ", {}% slower than {above:?}", percent(at_most))?;
    }
    writeln!(text)?;
    if !service.law.is_empty() {
        let numbers =
            service.law.iter().map(|(constant, number)| format!("{} {}", constant.name(), constant.shown(*number)));
        writeln!(text, "  law: {}, which is not what was measured", numbers.collect::<Vec<_>>().join(", "))?;
    }
    let (Some(signals), true) = (&service.source, *mode != ServiceMode::Off) else {
        return writeln!(text, "  asks nothing");
    };
    let scrape = windows.newest.saturating_sub(Duration::from_secs(1)) / 2;
    writeln!(
        text,
        "  asks every {:?}, at a scrape interval of {scrape:?} for windows of {:?}, {:?}, {:?} and {:?}; for the first:",
        service.interval, windows.newest, windows.fast, windows.slow, windows.long
    )?;
    writeln!(text, "{}", indented(&Queries::of(signals, service, windows).newest))?;
    writeln!(text, "  (the longer windows without newest and series)")
}

fn indented(query: &str) -> String {
    query.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// A share in hundredths, without the noise of binary fractions.
fn percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::law::Constants;
    use crate::rules::service::LawConstant;
    use crate::rules::{Options, SourceFile, load};

    #[test]
    fn the_example_is_explained_with_its_queries() {
        let text = include_str!("../../config/adaptive.yaml").to_owned();
        let (rules, _) = load(&[SourceFile { name: "adaptive.yaml".to_owned(), text }], &Options::default()).unwrap();
        let explained: Vec<String> =
            rules.services().iter().map(|service| explanation(&rules, service, &windows_at(SCRAPE_USUAL))).collect();
        insta::assert_snapshot!(explained.join("\n\n"));
    }

    #[test]
    fn a_number_of_the_law_that_was_set_is_shown() {
        let text = include_str!("../../config/adaptive.yaml").replace("# law: {", "law: { step: 0.05,");
        let (rules, _) = load(&[SourceFile { name: "adaptive.yaml".to_owned(), text }], &Options::default()).unwrap();
        let explained = explanation(&rules, &rules.services()[1], &windows_at(SCRAPE_USUAL));
        assert!(explained.contains("\n  law: step 0.05, memory 60s, which is not what was measured\n"), "{explained}");
    }

    #[test]
    fn each_number_of_the_law_is_documented_as_it_is_and_reads_back_as_itself() {
        let documented = include_str!("../../docs/adaptive.md").lines().flat_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [names, values] = [1, 2].map(|cell| cells.get(cell).copied().unwrap_or_default().split(", "));
            names.filter_map(|name| name.strip_prefix('`')?.strip_suffix('`')).zip(values).collect::<Vec<_>>()
        });
        let is_constant = |name: &str| LawConstant::ALL.iter().any(|constant| constant.name() == name);
        let numbers: Vec<String> =
            documented.filter(|(name, _)| is_constant(name)).map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(numbers.len(), LawConstant::ALL.len(), "{numbers:?}");
        let law = format!("law: {{ {} }}", numbers.join(", "));
        let text = include_str!("../../config/adaptive.yaml").replace("# law: { memory: 60s }", &law);
        let (rules, _) = load(&[SourceFile { name: "adaptive.yaml".to_owned(), text }], &Options::default()).unwrap();
        let service = &rules.services()[1];
        assert_eq!(Constants::with(&service.law), Constants::default());
        let explained = explanation(&rules, service, &windows_at(SCRAPE_USUAL));
        for number in numbers {
            assert!(explained.contains(&number.replace(": ", " ")), "{number} is shown otherwise in {explained}");
        }
    }
}
