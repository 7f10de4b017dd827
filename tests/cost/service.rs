//! The service under measurement: rules, what is asked, and the parts between rules and port as the program puts
//! them together.

use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::SystemClock;
use tidegate::counters::any::{AnyStore, InRedis};
use tidegate::counters::memory::{MemoryLimits, MemoryStore};
use tidegate::decision::ProcessModes;
use tidegate::limiter::{Limiter, LimiterOptions};
use tidegate::metrics::Metrics;
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tidegate::rls::{RlsOptions, RlsService};
use tidegate::rules::{Options, SourceFile, load};
use tidegate::table::limit_table;
use tokio::runtime::Runtime;

use crate::support::client::descriptor;
use crate::support::redis::Redis;
use crate::support::store::redis_store;

/// A rule for each of the descriptors asked about, none of which is ever over its limit.
const RULES: &str = "\
domain: shop
descriptors:
  - { key: user, rate_limit: { unit: hour, requests_per_unit: 4000000000 } }
  - { key: path, value: /v1/orders, rate_limit: { unit: hour, requests_per_unit: 4000000000 } }
  - { key: tenant, rate_limit: { unit: hour, requests_per_unit: 4000000000 } }
  - { key: plan, value: free, descriptors: [ { key: region, rate_limit: { unit: hour, requests_per_unit: 4000000000 } } ] }
";

/// Longest time of a decision. A machine that is slower than this measures nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime as each core has one.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Counters in memory.
pub(crate) fn memory() -> AnyStore {
    AnyStore::Memory(Arc::new(MemoryStore::new(SystemClock, MemoryLimits::default())))
}

/// Counters in that Redis, asked from that runtime.
pub(crate) fn in_redis(redis: &Redis, runtime: &Runtime) -> AnyStore {
    AnyStore::Redis(InRedis::One(runtime.block_on(redis_store(redis))))
}

/// A limiter over `store` by the rules above.
pub(crate) fn limiter(store: AnyStore, metrics: &Metrics) -> Limiter<AnyStore> {
    let (mut writer, table) = limit_table(metrics.clone(), 0.8);
    let source = SourceFile { name: "rules.yaml".to_owned(), text: RULES.to_owned() };
    let (rules, _) = load(&[source], &Options::default()).unwrap();
    writer.publish(rules);
    let options = LimiterOptions {
        key_prefix: b"tg:".as_slice().into(),
        modes: ProcessModes { shadow_mode: false, quota_mode: false },
        near_limit_ratio: 0.8,
        clock: Arc::new(SystemClock),
        expiry_jitter_max_s: 0,
    };
    Limiter::new(table, store, metrics.clone(), Arc::new(options))
}

/// The rate limit service over `store`.
pub(crate) fn service(store: AnyStore) -> RlsService<AnyStore> {
    let metrics = Metrics::new(100);
    let options = RlsOptions { decision_time_max: PATIENCE, headers: None, dynamic_metadata: false };
    RlsService::new(limiter(store, &metrics), metrics, Arc::new(options))
}

/// A question of one to four descriptors, each of which has a rule.
pub(crate) fn question(descriptors: usize) -> RateLimitRequest {
    let all = [
        descriptor(&[("user", "4c1f9a52-7a30-4c7e-9d5e-0f6a1b2c3d4e")]),
        descriptor(&[("path", "/v1/orders")]),
        descriptor(&[("tenant", "acme")]),
        descriptor(&[("plan", "free"), ("region", "eu-central-1")]),
    ];
    let descriptors = all.into_iter().take(descriptors).collect();
    RateLimitRequest { domain: "shop".to_owned(), descriptors, hits_addend: 0 }
}
