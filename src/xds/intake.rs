//! What an answer of the server comes to: rules in force, or a refusal that names every mistake. It computes and blocks, so
//! it runs where that is allowed.
//!
//! It is what a reload is for files: the same compiler, the same table, the same metrics, and a bad set never replaces a
//! good one. An answer that holds what is in force already, as each new connection brings, changes nothing.

use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::time::Instant;

use super::answer::Answer;
use super::protocol::Verdict;
use super::refusals::{Refusals, Telling};
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
    refusals: Refusals,
}

/// What became of an answer.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) verdict: Verdict,
    /// How many answers in a row were refused before this one, if it is.
    pub(super) refused_before: u32,
    /// Whether it told rules, right ones or wrong.
    pub(super) had_rules: bool,
}

/// Why an answer is refused.
struct Refused {
    why: String,
    had_rules: bool,
}

/// What stands for the version of an answer that can't be read.
const UNKNOWN_VERSION: &str = "unknown";

/// Longest reason that is sent to the server, in bytes: it logs it.
const REASON_BYTES_MAX: usize = 8 << 10;

// === impl Intake ===

impl Intake {
    pub(super) fn new(options: Options, writer: TableWriter, metrics: Metrics) -> Intake {
        let fingerprints = foldhash::fast::RandomState::default();
        let refusals = Refusals::new(Instant::now());
        Intake { options, writer, metrics, fingerprints, in_force: None, refusals }
    }

    /// Puts an answer in force, or says why not. A panic is a refusal too: what is told next may be right.
    pub(super) fn take(&mut self, answer: &Answer) -> Taken {
        self.judge(&answer.named.version, |intake, version| intake.load(answer, version))
    }

    fn judge(&mut self, version: &str, load: impl FnOnce(&mut Intake, &str) -> Result<(), Refused>) -> Taken {
        let version = super::shown(version, super::VERSION_SHOWN_MAX);
        let loaded = catch_unwind(AssertUnwindSafe(|| load(self, &version))).unwrap_or_else(|_| {
            self.metrics.totals().config_load_error.increment();
            Err(Refused { why: "internal error".to_owned(), had_rules: false })
        });
        let Err(Refused { why, had_rules }) = loaded else {
            self.refusals.end();
            self.metrics.totals().config_rejected.set(0);
            self.metrics.xds_accepted(&version);
            return Taken { verdict: Verdict::Accepted, refused_before: 0, had_rules: true };
        };
        let refused_before = self.refuse(&version, &why);
        Taken { verdict: Verdict::Refused(bounded(why)), refused_before, had_rules }
    }

    /// Takes note of an answer that can't even be refused on its stream: which it was is not known.
    pub(super) fn refuse_unread(&mut self, why: &str) {
        self.metrics.totals().xds_refused_unreadable.increment();
        self.refuse(UNKNOWN_VERSION, why);
    }

    /// Counts a refusal and tells the log, if it is time: how many were before it in a row.
    fn refuse(&mut self, version: &str, why: &str) -> u32 {
        self.metrics.totals().config_rejected.set(1);
        let (refused_before, telling) = self.refusals.add(self.fingerprints.hash_one(why), Instant::now());
        match telling {
            Telling::Known | Telling::Withheld => {}
            Telling::Told { withheld: 0 } => {
                tracing::error!(version, "rules from the xDS server are refused, those in force stay: {why}");
            }
            Telling::Told { withheld } => tracing::error!(
                version,
                "rules from the xDS server are refused, those in force stay ({withheld} refusals before were not told): \
                 {why}"
            ),
        }
        refused_before
    }

    fn load(&mut self, answer: &Answer, version: &str) -> Result<(), Refused> {
        let totals = self.metrics.totals();
        let read = answer.decode().and_then(|answer| resources(&answer).map(|resources| (answer, resources)));
        let (answer, resources) = read.map_err(|why| {
            totals.xds_refused_unreadable.increment();
            Refused { why, had_rules: false }
        })?;
        let seen = self.fingerprint(&answer);
        if self.in_force == Some(seen) {
            totals.config_load_success.increment();
            tracing::debug!(version, "the xDS server told the rules that are in force");
            return Ok(());
        }
        let (rules, warnings) = load_resources(&resources, &self.options).map_err(|errors| {
            totals.xds_refused_rules.increment();
            totals.config_load_error.increment();
            Refused { why: errors.to_string(), had_rules: true }
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
    fn answer(domains: &[(&str, i32)]) -> Answer {
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
        DiscoveryResponse { type_url: TYPE_URL.to_owned(), resources, ..DiscoveryResponse::default() }.into()
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
        let Taken { verdict: Verdict::Refused(why), refused_before: 0, had_rules: true } =
            intake.take(&answer(&[("a", 0), ("b", 3)]))
        else {
            panic!("it should be refused, for the first time");
        };
        assert!(why.contains("xDS resource a: descriptors[0](k).rate_limit.unit: invalid rate limit unit"), "{why}");
        assert_eq!(intake.take(&answer(&[("a", 0), ("b", 3)])).refused_before, 1);
        let totals = metrics.totals();
        assert_eq!((generation(&table), totals.config_rejected.get(), totals.config_load_error.get()), (1, 1, 2));
        let unreadable = intake.take(&DiscoveryResponse::default().into());
        assert_eq!((unreadable.refused_before, unreadable.had_rules), (2, false), "whatever was refused before");
        assert_eq!((totals.xds_refused_unreadable.get(), totals.xds_refused_rules.get()), (1, 2));
        assert_eq!(totals.config_load_error.get(), 2, "the reference service counts mistakes in rules alone");
        intake.refuse_unread("of its answer: nonsense");
        assert_eq!((totals.xds_refused_unreadable.get(), totals.config_rejected.get()), (2, 1));
        intake.take(&answer(&[("a", 3)]));
        assert_eq!((generation(&table), totals.config_rejected.get()), (1, 0));
    }

    #[test]
    fn a_panic_is_a_refusal_and_what_comes_next_is_taken() {
        let (mut intake, table, metrics) = intake();
        let taken = intake.judge("1", |_, _| panic!("a defect"));
        assert_eq!(taken.verdict, Verdict::Refused("internal error".to_owned()));
        assert!(!taken.had_rules);
        assert_eq!((metrics.totals().config_load_error.get(), metrics.totals().config_rejected.get()), (1, 1));
        assert_eq!(intake.take(&answer(&[("a", 3)])).verdict, Verdict::Accepted);
        assert_eq!(generation(&table), 1);
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
