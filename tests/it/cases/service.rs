//! The service as a case wants it: from rule texts to answers, all that the program has between its files and its
//! sockets.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tidegate::clock::Clock;
use tidegate::counters::any::AnyStore;
use tidegate::decision::ProcessModes;
use tidegate::limiter::{Limiter, LimiterOptions};
use tidegate::metrics::Metrics;
use tidegate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tidegate::rls::headers::HeaderNames;
use tidegate::rls::message::PREFIX;
use tidegate::rls::{RlsOptions, RlsService};
use tidegate::rules::{Algorithm, Compatibility, Defaults, Options, SourceFile, load};
use tidegate::table::{TableWriter, limit_table};
use tidegate::window::{Charging, Precision};
use tokio::time::Instant;
use tonic::Code;

use super::case::{Profile, Rules, Settings};

/// Near-limit ratio where a case says nothing: the reference's default.
const NEAR_LIMIT_RATIO: f32 = 0.8;

/// So much that no key of a short window is gone before its case has ended.
const EXPIRY_JITTER_S: u32 = 86_400;

/// Far more than a decision takes on a busy machine.
const TIME_TO_ANSWER: Duration = Duration::from_secs(20);

/// A service with rules of its own.
pub(super) struct Service {
    rls: RlsService<AnyStore>,
    writer: TableWriter,
    options: Options,
    metrics: Metrics,
}

// === impl Service ===

impl Service {
    /// A service without rules that counts in `store`, under keys that begin with `key_prefix`.
    pub(super) fn new(
        settings: &Settings,
        profile: Profile,
        store: AnyStore,
        clock: Arc<dyn Clock>,
        key_prefix: &str,
    ) -> Service {
        let metrics = Metrics::new(Metrics::SERIES_MAX);
        let near_limit_ratio = settings.near_limit_ratio.unwrap_or(NEAR_LIMIT_RATIO);
        let (writer, table) = limit_table(metrics.clone(), near_limit_ratio);
        let modes = ProcessModes {
            shadow_mode: settings.shadow_mode.unwrap_or_default(),
            quota_mode: settings.quota_mode.unwrap_or_default(),
        };
        let options = LimiterOptions {
            key_prefix: key_prefix.as_bytes().into(),
            modes,
            near_limit_ratio,
            clock,
            expiry_jitter_max_s: settings.expiry_jitter.unwrap_or(EXPIRY_JITTER_S),
        };
        let limiter = Limiter::new(table, store, metrics.clone(), Arc::new(options));
        let headers = settings.headers.clone().map(|[limit, remaining, reset]| HeaderNames { limit, remaining, reset });
        let dynamic_metadata = settings.dynamic_metadata.unwrap_or_default();
        let options = RlsOptions { decision_time_max: TIME_TO_ANSWER, headers, dynamic_metadata };
        let rls = RlsService::new(limiter, metrics.clone(), Arc::new(options));
        Service { rls, writer, options: load_options(settings, profile), metrics }
    }

    /// Puts `rules` in force, or says all that is wrong with them.
    pub(super) fn load(&mut self, rules: &Rules) -> Result<(), String> {
        let texts = rules.texts().iter().enumerate();
        let sources: Vec<SourceFile> =
            texts.map(|(index, text)| SourceFile { name: format!("{index}.yaml"), text: text.clone() }).collect();
        let (rules, _) = load(&sources, &self.options).map_err(|errors| errors.to_string())?;
        self.writer.publish(rules);
        Ok(())
    }

    /// Asks, as a gRPC caller does. An error is its code's name and its text.
    pub(super) async fn ask(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, String> {
        let deadline = Instant::now() + TIME_TO_ANSWER;
        match self.rls.call_message(&request.encode_to_vec(), deadline).await {
            Ok(answer) => Ok(RateLimitResponse::decode(&answer[PREFIX..]).expect("an answer is a message")),
            Err(status) => Err(format!("{} {}", code_name(status.code()), status.message())),
        }
    }

    /// The value of a series in the exposition, 0 where it isn't shown. `series` is the line before the value, or for
    /// a rule's series `total_hits domain level level`.
    pub(super) fn metric(&self, series: &str) -> u64 {
        let mut words = series.split(' ');
        let mut name = words.next().unwrap_or_default().to_owned();
        if let Some(domain) = words.next() {
            let keys = words.enumerate().map(|(index, level)| format!(",key{}=\"{level}\"", index + 1));
            let keys: String = keys.collect();
            name = format!("ratelimit_service_rate_limit_{name}{{domain=\"{domain}\"{keys}}}");
        }
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(self.metrics.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode_registry(&mut text, &registry).expect("a String takes everything");
        let value = text.lines().filter_map(|line| line.rsplit_once(' ')).find(|(series, _)| *series == name);
        value.map_or(0, |(_, value)| value.parse().unwrap_or_else(|error| panic!("{name} {value}: {error}")))
    }
}

fn load_options(settings: &Settings, profile: Profile) -> Options {
    let algorithm = settings
        .algorithm
        .as_deref()
        .map(|name| Algorithm::from_name(name).unwrap_or_else(|| panic!("there is no algorithm '{name}'")));
    let charging = match settings.charging.as_deref() {
        None => Charging::default(),
        Some("all_or_nothing") => Charging::AllOrNothing,
        Some("each") if settings.stop_increment_when_over == Some(true) => Charging::OnlyOver,
        Some("each") => Charging::Each,
        Some(name) => panic!("there is no charging '{name}'"),
    };
    let precision = settings.precision.map_or(Precision::DEFAULT, |ticks| {
        Precision::try_new(ticks).unwrap_or_else(|| panic!("there is no precision of {ticks} ticks"))
    });
    let compatibility = match profile {
        Profile::Own => Compatibility::Off,
        Profile::Envoyproxy => Compatibility::Envoyproxy,
    };
    let defaults = Defaults { algorithm: algorithm.unwrap_or_default(), precision, charging, compatibility };
    Options { defaults, merge_domains: settings.merge_domains.unwrap_or_default() }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        _ => "another code",
    }
}
