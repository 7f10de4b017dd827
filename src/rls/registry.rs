//! The gRPC services beside the rate limit service: health and reflection.
//!
//! Health is real: the empty name, the service's own name and `ratelimit` (what the reference service answers to, and
//! gateways ask for) all say SERVING only while [`Health`] does.

use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::health::Health;

/// The names under which health is asked for.
const HEALTH_NAMES: [&str; 3] = ["", "ratelimit", "envoy.service.ratelimit.v3.RateLimitService"];

/// Everything that `proto/` describes, as reflection serves it.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Everything on the gRPC port that isn't the rate limit service.
#[derive(Clone, Debug)]
pub struct SideServices(pub(super) Routes);

/// Tells gRPC health what to say.
#[derive(Clone, Debug)]
pub struct Reporter(HealthReporter);

/// The descriptors built into this program can't be read.
#[derive(Debug, Error)]
#[error("the descriptors for reflection cannot be read: {0}")]
pub struct DescriptorError(#[from] tonic_reflection::server::Error);

/// Health, which says NOT_SERVING until it is told otherwise by the [`Reporter`], and reflection where it is wanted.
///
/// # Errors
/// When the descriptors built into this program can't be read.
pub fn services(reflection: bool) -> Result<(SideServices, Reporter), DescriptorError> {
    let reporter = HealthReporter::new();
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    let mut routes = Routes::new(health);
    if reflection {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        routes = routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?);
    }
    Ok((SideServices(routes.prepare()), Reporter(reporter)))
}

/// Makes gRPC health say what `health` says now.
pub async fn announce(health: &Health, reporter: &Reporter) {
    let status = if health.is_serving() { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in HEALTH_NAMES {
        reporter.0.set_service_status(name, status).await;
    }
}

/// Keeps gRPC health in step with `health`, until `stop` is cancelled.
pub async fn follow(health: Health, reporter: Reporter, stop: CancellationToken) {
    let mut watch = health.watch();
    loop {
        announce(&health, &reporter).await;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = watch.changed() => if changed.is_err() { return },
        }
    }
}
