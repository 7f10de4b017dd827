//! The stages of the story: what protects the shop in each of them.

use clap::ValueEnum;
use serde::Serialize;

/// What stands between the load and the fragile service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing
    PassThrough,
    /// The proxy leaves out hosts that fail
    OutlierDetection,
    /// The proxy itself lets so many through
    LocalLimit,
    /// All proxies together let so many through, by Tidegate's decision
    GlobalLimit,
}

// === impl Stage ===

impl Stage {
    /// All of them, in the order in which they are told.
    pub const ALL: [Stage; 4] = [Stage::PassThrough, Stage::OutlierDetection, Stage::LocalLimit, Stage::GlobalLimit];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stage::PassThrough => "pass-through",
            Stage::OutlierDetection => "outlier detection",
            Stage::LocalLimit => "local limit",
            Stage::GlobalLimit => "global limit",
        }
    }

    /// Its file below `config/envoy/`.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Stage::PassThrough => "pass_through.yaml",
            Stage::OutlierDetection => "outlier_detection.yaml",
            Stage::LocalLimit => "local_limit.yaml",
            Stage::GlobalLimit => "global_limit.yaml",
        }
    }

    /// What happens in it, for who watches.
    #[must_use]
    pub const fn story(self) -> &'static str {
        match self {
            Stage::PassThrough => {
                "Nothing protects the inventory. Waiting requests slow it down, so it does less the more it is asked."
            }
            Stage::OutlierDetection => {
                "The proxy stops using hosts that fail. Where there is one host, that is all or nothing."
            }
            Stage::LocalLimit => {
                "Each proxy lets a fixed number through. Right for one proxy, and as long as there is one."
            }
            Stage::GlobalLimit => {
                "Tidegate counts for all proxies in one Redis: the same limit however many there are."
            }
        }
    }
}
