//! The stages of the story: what protects the shop in each of them.

use clap::ValueEnum;
use serde::Serialize;

use super::load::profile::SHARES;

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
    /// The same, and the number follows what the service can bear
    Adaptive,
}

// === impl Stage ===

impl Stage {
    /// All of them, in the order in which they are told.
    pub const ALL: [Stage; 5] =
        [Stage::PassThrough, Stage::OutlierDetection, Stage::LocalLimit, Stage::GlobalLimit, Stage::Adaptive];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stage::PassThrough => "pass-through",
            Stage::OutlierDetection => "outlier detection",
            Stage::LocalLimit => "local limit",
            Stage::GlobalLimit => "global limit",
            Stage::Adaptive => "adaptive",
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
            Stage::Adaptive => "adaptive.yaml",
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
            Stage::Adaptive => {
                "Tidegate asks Prometheus how the inventory is and moves its limit. Meanwhile the inventory loses half of \
                 its workers, and gets them back."
            }
        }
    }

    /// How many times the length of a stage it takes. A limit that learns needs more time than one that is known.
    #[must_use]
    pub const fn lengths(self) -> u32 {
        match self {
            Stage::Adaptive => 3,
            _ => 1,
        }
    }

    /// The shares of its time for the calm before, the overload, and the calm after it.
    #[must_use]
    pub const fn shares(self) -> [f64; 3] {
        match self {
            Stage::Adaptive => [0.1, 0.8, 0.1],
            _ => SHARES,
        }
    }

    /// When the inventory's workers change, in shares of its time, and which share of them it has from then on.
    #[must_use]
    pub const fn workers(self) -> &'static [(f64, f64)] {
        match self {
            Stage::Adaptive => &[(0.35, 0.5), (0.62, 1.0)],
            _ => &[],
        }
    }
}
