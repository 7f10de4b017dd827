//! What is broken.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Fault {
    /// Prometheus takes connections and answers nothing (SIGSTOP), then goes on
    PrometheusStalled,
    /// Prometheus is killed, and started again with an empty store
    PrometheusGone,
    /// In Prometheus's place somebody answers 503
    PrometheusErrors,
    /// The replica that decides is killed, and started again
    LeaderKilled,
    /// The replica that doesn't decide is killed, and started again
    FollowerKilled,
    /// Redis is killed and started again at once, with its data
    RedisRestarted,
    /// Redis is killed and started again at once, empty
    RedisEmptied,
    /// Redis is killed, and started again when the fault ends, empty
    RedisGone,
}

// === impl Fault ===

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 8] = [
        Fault::PrometheusStalled,
        Fault::PrometheusGone,
        Fault::PrometheusErrors,
        Fault::LeaderKilled,
        Fault::FollowerKilled,
        Fault::RedisRestarted,
        Fault::RedisEmptied,
        Fault::RedisGone,
    ];

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fault::PrometheusStalled => "Prometheus stalls",
            Fault::PrometheusGone => "Prometheus is killed, comes back empty",
            Fault::PrometheusErrors => "Prometheus answers 503",
            Fault::LeaderKilled => "the leader is killed",
            Fault::FollowerKilled => "the other replica is killed",
            Fault::RedisRestarted => "Redis restarts with its data",
            Fault::RedisEmptied => "Redis restarts empty",
            Fault::RedisGone => "Redis is gone",
        }
    }
}
