//! Names of the reference service that do nothing here, each with the reason: whoever sets one reads it in the log.
//!
//! None of them stops the start. What would be dangerous to leave alone, since it would be noticed late, is refused
//! instead (`REFUSED`). `docs/environment.md` has all names, and a test holds it to what is done with them.

use super::Environment;
use crate::settings::error::Note;

/// A name, and why it is left alone.
pub(super) type LeftAlone = (&'static str, &'static str);

const MEMCACHE: &str = "counters are in Redis or in memory";
const SENT_PLAIN: &str = "spans are sent uncompressed, which every collector takes";
const SCHEME: &str = "the endpoint's http:// or https:// says it";
const SAMPLER: &str = "TRACING_SAMPLING_RATE says it, as in the reference";
const PROTOCOL: &str = "TRACING_EXPORTER_PROTOCOL says it, as in the reference";

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
    ("OTEL_EXPORTER_OTLP_COMPRESSION", SENT_PLAIN),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", SENT_PLAIN),
    ("OTEL_EXPORTER_OTLP_INSECURE", SCHEME),
    ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", SCHEME),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", PROTOCOL),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", PROTOCOL),
    ("OTEL_SERVICE_NAME", "TRACING_SERVICE_NAME says it, as in the reference"),
    ("OTEL_TRACES_SAMPLER", SAMPLER),
    ("OTEL_TRACES_SAMPLER_ARG", SAMPLER),
    ("OTEL_PROPAGATORS", "W3C trace context and B3 are both read"),
    ("OTEL_BSP_EXPORT_TIMEOUT", "tracing.timeout is for one attempt, and a batch is tried for a minute"),
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
