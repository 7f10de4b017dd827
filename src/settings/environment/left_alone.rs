//! Names of the reference service that do nothing here, each with the reason: whoever sets one reads it in the log.
//!
//! None of them stops the start. What would be dangerous to leave alone, since it would be noticed late, is refused
//! instead (`REFUSED`). `docs/environment.md` has all names, and a test holds it to what is done with them.

use super::Environment;
use crate::settings::error::Note;

/// A name, and why it is left alone.
pub(super) type LeftAlone = (&'static str, &'static str);

const MEMCACHE: &str = "counters are in Redis or in memory";
const TRACING: &str = "nothing is traced yet";

pub(super) const LEFT_ALONE: &[LeftAlone] = &[
    (
        "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL",
        "it has no effect in the reference service; rules.xds.backoff says when the server is tried again",
    ),
    ("RUNTIME_IGNOREDOTFILES", "files and folders that begin with a dot are never read"),
    ("RUNTIME_WATCH_ROOT", "the rules' files and folders themselves are looked at, every rules.reload_interval"),
    ("REDIS_PERSECOND_TIMEOUT", "both servers take store.redis.connect_timeout"),
    ("MEMCACHE_HOST_PORT", MEMCACHE),
    ("MEMCACHE_SRV", MEMCACHE),
    ("MEMCACHE_SRV_REFRESH", MEMCACHE),
    ("MEMCACHE_MAX_IDLE_CONNS", MEMCACHE),
    ("MEMCACHE_TLS", MEMCACHE),
    ("MEMCACHE_TLS_CLIENT_CERT", MEMCACHE),
    ("MEMCACHE_TLS_CLIENT_KEY", MEMCACHE),
    ("MEMCACHE_TLS_CACERT", MEMCACHE),
    ("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", MEMCACHE),
    ("TRACING_ENABLED", TRACING),
    ("TRACING_SERVICE_NAME", TRACING),
    ("TRACING_SERVICE_NAMESPACE", TRACING),
    ("TRACING_SERVICE_INSTANCE_ID", TRACING),
    ("TRACING_EXPORTER_PROTOCOL", TRACING),
    ("TRACING_SAMPLING_RATE", TRACING),
    (
        "GRPC_SERVER_TLS_CA_CERT",
        "it is no name of the reference's; GRPC_CLIENT_TLS_CACERT asks for client certificates",
    ),
];

/// Notes which of the names are set.
pub(super) fn note(environment: &Environment, notes: &mut Vec<Note>) {
    for (name, why) in LEFT_ALONE.iter().filter(|(name, _)| environment.get(name).is_some()) {
        notes.push(Note::new(format!("{name} is left alone: {why}")));
    }
}
