//! What stands before the inventory: five bootstraps of the proxy, made of the one that is shipped.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What protects an inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Protection {
    /// Tidegate's adaptive limit, circuit breakers behind it
    Adaptive,
    /// A static limit at the adaptive one's max
    StaticMax,
    /// A static limit tuned to what the service can do when it is well
    StaticTuned,
    /// The proxy's circuit breakers
    Breakers,
    /// Envoy's adaptive concurrency filter
    AdaptiveConcurrency,
}

/// Upper bound of the adaptive limit, and the static limit "at max", in requests a second: twice the capacity.
pub const MAX: u32 = 200;

/// The static limit that is tuned: 95 % of the capacity, as in the other stages of the demo.
pub const TUNED: u32 = 95;

/// Windows in which static limits are said, a second: whole seconds would let all of it come at once.
const WINDOWS: u32 = 5;

/// The filter that calls Tidegate.
const RATE_LIMIT_FILTER: &str = "envoy.filters.http.ratelimit";

// === impl Protection ===

impl Protection {
    /// All of them.
    pub const ALL: [Protection; 5] = [
        Protection::Adaptive,
        Protection::StaticMax,
        Protection::StaticTuned,
        Protection::Breakers,
        Protection::AdaptiveConcurrency,
    ];

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Protection::Adaptive => "adaptive limit",
            Protection::StaticMax => "static limit at max",
            Protection::StaticTuned => "static limit, tuned",
            Protection::Breakers => "circuit breakers",
            Protection::AdaptiveConcurrency => "adaptive concurrency",
        }
    }

    /// Whether the bundled proxy has it.
    #[must_use]
    pub const fn is_in_bundled_proxy(self) -> bool {
        !matches!(self, Protection::AdaptiveConcurrency)
    }

    /// The domain that its proxy asks Tidegate about.
    #[must_use]
    pub const fn domain(self) -> Option<&'static str> {
        match self {
            Protection::Adaptive => Some("adaptive"),
            Protection::StaticMax => Some("static_max"),
            Protection::StaticTuned => Some("static_tuned"),
            Protection::Breakers | Protection::AdaptiveConcurrency => None,
        }
    }

    const fn has_breakers(self) -> bool {
        matches!(self, Protection::Adaptive | Protection::Breakers)
    }

    /// The shipped bootstrap of the adaptive stage with this protection, and nothing but the inventory behind it.
    #[must_use]
    pub fn bootstrap(self, mut shipped: Value) -> Value {
        let resources = &mut shipped["static_resources"];
        if let Some(clusters) = resources["clusters"].as_array_mut() {
            clusters.retain(|cluster| {
                cluster["name"] == "inventory_service" || (cluster["name"] == "tidegate" && self.domain().is_some())
            });
            for cluster in clusters.iter_mut().filter_map(Value::as_object_mut) {
                if !self.has_breakers() {
                    cluster.remove("circuit_breakers");
                }
            }
        }
        let manager = &mut resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
        let host = &mut manager["route_config"]["virtual_hosts"][0];
        if let Some(routes) = host["routes"].as_array_mut() {
            routes.retain(|route| route["match"]["prefix"] == "/inventory");
            for route in routes.iter_mut().filter(|_| self.domain().is_none()) {
                route["route"].as_object_mut().map(|route| route.remove("rate_limits"));
            }
        }
        if let Some(filters) = manager["http_filters"].as_array_mut() {
            match self.domain() {
                Some(domain) => {
                    let limits = filters.iter_mut().filter(|filter| filter["name"] == RATE_LIMIT_FILTER);
                    limits.for_each(|filter| filter["typed_config"]["domain"] = json!(domain));
                }
                None => filters.retain(|filter| filter["name"] != RATE_LIMIT_FILTER),
            }
            if self == Protection::AdaptiveConcurrency {
                filters.insert(0, adaptive_concurrency());
            }
        }
        shipped
    }
}

/// As Envoy's documentation has it, but for the status: clients that are refused are told so, and not that all is lost.
fn adaptive_concurrency() -> Value {
    json!({
        "name": "envoy.filters.http.adaptive_concurrency",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency",
            "gradient_controller_config": {
                "sample_aggregate_percentile": { "value": 90 },
                "concurrency_limit_params": { "concurrency_update_interval": "0.1s" },
                "min_rtt_calc_params": { "jitter": { "value": 10 }, "interval": "60s", "request_count": 50 },
            },
            "enabled": { "default_value": true, "runtime_key": "adaptive_concurrency.enabled" },
            "concurrency_limit_exceeded_status": { "code": "TooManyRequests" },
        },
    })
}

/// The rule files of all protections, by name: those with static limits, and the shipped one of the adaptive stage with
/// bounds for the inventory of this comparison.
#[must_use]
pub fn rules(adaptive: &str) -> Vec<(String, String)> {
    let fixed = |domain: &str, limit: u32| {
        let (window, requests) = (1_000 / WINDOWS, limit / WINDOWS);
        let text = format!(
            "domain: {domain}\nsubsets:\n  - entries: [ {{ key: service, value: inventory_service }} ]\n    \
             rate_limit: {{ window: {window}ms, requests_per_unit: {requests} }}\n"
        );
        (format!("{domain}.yaml"), text)
    };
    let shipped = "bounds: { min: 20/s, max: 400/s }";
    let bounds = format!("bounds: {{ min: {}/s, max: {MAX}/s }}", MAX / 20);
    vec![
        ("adaptive.yaml".to_owned(), adaptive.replace(shipped, &bounds)),
        fixed("static_max", MAX),
        fixed("static_tuned", TUNED),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Options, SourceFile, load};

    fn shipped(file: &str) -> String {
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(file)).unwrap()
    }

    #[test]
    fn each_protection_is_the_only_one() {
        let shipped: Value = serde_yaml::from_str(&shipped("envoy/adaptive.yaml")).unwrap();
        for protection in Protection::ALL {
            let text = protection.bootstrap(shipped.clone()).to_string();
            assert_eq!(text.contains("circuit_breakers"), protection.has_breakers(), "{protection:?}");
            assert_eq!(text.contains(RATE_LIMIT_FILTER), protection.domain().is_some(), "{protection:?}");
            assert_eq!(text.contains("rate_limits"), protection.domain().is_some(), "{protection:?}");
            let filter = protection == Protection::AdaptiveConcurrency;
            assert_eq!(text.contains("http.adaptive_concurrency"), filter, "{protection:?}");
            assert!(!text.contains("order_service") && !text.contains("user_service"), "{protection:?}");
            if let Some(domain) = protection.domain() {
                assert!(text.contains(&format!("\"domain\":\"{domain}\"")), "{protection:?}");
            }
        }
    }

    #[test]
    fn the_rules_are_rules_and_say_the_limits() {
        let files = rules(&shipped("rules/adaptive.yaml"));
        let files: Vec<SourceFile> = files.into_iter().map(|(name, text)| SourceFile { name, text }).collect();
        let (rules, _) = load(&files, &Options::default()).unwrap();
        let bounds = rules.services()[0].bounds;
        assert_eq!((bounds.min.per_second(), bounds.max.per_second()), (10.0, f64::from(MAX)));
        assert_eq!((MAX % WINDOWS, TUNED % WINDOWS), (0, 0), "no request is lost to rounding");
        assert_eq!(rules.rules().len(), 3);
    }
}
