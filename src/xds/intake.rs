//! What an answer of the server comes to: rules in force, or a refusal that names every mistake. It computes and blocks, so
//! it runs where that is allowed.
//!
//! It is what a reload is for files: the same compiler, the same table, the same metrics, and a bad set never replaces a
//! good one. An answer that holds what is in force already, as each new connection brings, changes nothing.

use std::hash::BuildHasher;

use super::protocol::Verdict;
use super::resources::resources;
use crate::metrics::Metrics;
use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
use crate::rules::{Options, load_resources};
use crate::table::TableWriter;

/// Takes answers.
#[derive(Debug)]
pub(super) struct Intake {
    options: Options,
    writer: TableWriter,
    metrics: Metrics,
    fingerprints: foldhash::fast::RandomState,
    in_force: Option<u64>,
    /// What was refused last, and how many times in a row.
    refused: Option<(u64, u32)>,
}

/// What became of an answer.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) verdict: Verdict,
    /// How many times in a row this very answer was refused before.
    pub(super) refused_before: u32,
}

/// Longest reason that is sent to the server, in bytes: it logs it.
const REASON_BYTES_MAX: usize = 8 << 10;

// === impl Intake ===

impl Intake {
    pub(super) fn new(options: Options, writer: TableWriter, metrics: Metrics) -> Intake {
        let fingerprints = foldhash::fast::RandomState::default();
        Intake { options, writer, metrics, fingerprints, in_force: None, refused: None }
    }

    /// Puts an answer in force, or says why not.
    pub(super) fn take(&mut self, answer: &DiscoveryResponse) -> Taken {
        let version = super::shown(&answer.version_info, super::VERSION_SHOWN_MAX);
        let seen = self.fingerprint(answer);
        match self.load(answer, seen, &version) {
            Ok(()) => {
                self.refused = None;
                self.metrics.totals().config_rejected.set(0);
                self.metrics.xds_accepted(&version);
                Taken { verdict: Verdict::Accepted, refused_before: 0 }
            }
            Err(reason) => {
                let before = self.refused.filter(|(refused, _)| *refused == seen).map_or(0, |(_, times)| times);
                self.refused = Some((seen, before.saturating_add(1)));
                self.metrics.totals().config_rejected.set(1);
                if before == 0 {
                    tracing::error!(version, "rules from the xDS server are refused, those in force stay: {reason}");
                }
                Taken { verdict: Verdict::Refused(bounded(reason)), refused_before: before }
            }
        }
    }

    fn load(&mut self, answer: &DiscoveryResponse, seen: u64, version: &str) -> Result<(), String> {
        let totals = self.metrics.totals();
        let resources = resources(answer).inspect_err(|_| totals.xds_refused_unreadable.increment())?;
        if self.in_force == Some(seen) {
            totals.config_load_success.increment();
            tracing::debug!(version, "the xDS server told the rules that are in force");
            return Ok(());
        }
        let (rules, warnings) = load_resources(&resources, &self.options).map_err(|errors| {
            totals.xds_refused_rules.increment();
            totals.config_load_error.increment();
            errors.to_string()
        })?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let (domains, count) = (rules.domains().count(), rules.rules().len());
        let generation = self.writer.publish(rules).0;
        totals.config_load_success.increment();
        self.in_force = Some(seen);
        match domains {
            0 => tracing::info!(version, generation, "the xDS server has no rules: nothing is limited"),
            _ => tracing::info!(version, generation, domains, rules = count, "rules from the xDS server are in force"),
        }
        Ok(())
    }

    /// Tells an answer's resources from others, whatever their order, version and nonce.
    fn fingerprint(&self, answer: &DiscoveryResponse) -> u64 {
        let mut each: Vec<u64> =
            answer.resources.iter().map(|any| self.fingerprints.hash_one((&any.type_url, &any.value))).collect();
        each.sort_unstable();
        self.fingerprints.hash_one((&answer.type_url, each))
    }
}

/// A reason that a server can log.
fn bounded(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or_default();
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

#[cfg(test)]
mod tests {
    use pbjson_types::Any;
    use prost::Message;

    use super::super::resources::TYPE_URL;
    use super::*;
    use crate::proto::ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitDescriptor, RateLimitPolicy};
    use crate::table::{LimitTable, limit_table};

    fn intake() -> (Intake, LimitTable, Metrics) {
        let metrics = Metrics::default();
        let (writer, table) = limit_table(metrics.clone(), 0.8);
        (Intake::new(Options::default(), writer, metrics.clone()), table, metrics)
    }

    /// An answer with a domain of one rule each; `unit` is a number of the enum.
    fn answer(domains: &[(&str, i32)]) -> DiscoveryResponse {
        let resource = |(domain, unit): &(&str, i32)| {
            let rate_limit = Some(RateLimitPolicy { unit: *unit, requests_per_unit: 3, ..RateLimitPolicy::default() });
            let descriptor = RateLimitDescriptor { key: "k".to_owned(), rate_limit, ..RateLimitDescriptor::default() };
            let config = RateLimitConfig {
                name: (*domain).to_owned(),
                domain: (*domain).to_owned(),
                descriptors: vec![descriptor],
            };
            Any { type_url: TYPE_URL.to_owned(), value: config.encode_to_vec().into() }
        };
        let resources = domains.iter().map(resource).collect();
        DiscoveryResponse { type_url: TYPE_URL.to_owned(), resources, ..DiscoveryResponse::default() }
    }

    fn generation(table: &LimitTable) -> u64 {
        table.load().map_or(0, |snapshot| snapshot.generation.0)
    }

    #[test]
    fn what_is_in_force_already_is_accepted_and_changes_nothing_in_any_order() {
        let (mut intake, table, metrics) = intake();
        assert_eq!(intake.take(&answer(&[("a", 3), ("b", 3)])).verdict, Verdict::Accepted);
        assert_eq!(intake.take(&answer(&[("b", 3), ("a", 3)])).verdict, Verdict::Accepted);
        assert_eq!((generation(&table), metrics.totals().config_load_success.get()), (1, 2));
        assert_eq!(intake.take(&answer(&[("b", 3)])).verdict, Verdict::Accepted);
        assert_eq!(generation(&table), 2);
    }

    #[test]
    fn a_refused_set_changes_nothing_and_is_counted_by_what_was_wrong() {
        let (mut intake, table, metrics) = intake();
        intake.take(&answer(&[("a", 3)]));
        let Taken { verdict: Verdict::Refused(why), refused_before: 0 } = intake.take(&answer(&[("a", 0), ("b", 3)]))
        else {
            panic!("it should be refused, for the first time");
        };
        assert!(why.contains("xDS resource a: descriptors[0](k).rate_limit.unit: invalid rate limit unit"), "{why}");
        assert_eq!(intake.take(&answer(&[("a", 0), ("b", 3)])).refused_before, 1);
        let totals = metrics.totals();
        assert_eq!((generation(&table), totals.config_rejected.get(), totals.config_load_error.get()), (1, 1, 2));
        intake.take(&DiscoveryResponse::default());
        assert_eq!((totals.xds_refused_unreadable.get(), totals.xds_refused_rules.get()), (1, 2));
        assert_eq!(totals.config_load_error.get(), 2, "the reference service counts mistakes in rules alone");
        intake.take(&answer(&[("a", 3)]));
        assert_eq!((generation(&table), totals.config_rejected.get()), (1, 0));
    }

    #[test]
    fn no_resources_unload_everything() {
        let (mut intake, table, _) = intake();
        intake.take(&answer(&[("a", 3)]));
        assert_eq!(intake.take(&answer(&[])).verdict, Verdict::Accepted);
        assert!(table.load().unwrap().rules.is_empty());
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let long = bounded("é".repeat(REASON_BYTES_MAX));
        assert!(long.len() <= REASON_BYTES_MAX + '…'.len_utf8() && long.ends_with('…'));
    }
}
