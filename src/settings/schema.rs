//! The table of all keys.
//!
//! Environment names are made from this table and found in it: with a rule alone, `TIDEGATE_STORE_REDIS_BATCH_MAX`
//! could be `store.redis.batch.max` as well. Unknown names are compared with it to say what was probably meant. What
//! a value may be is not here but where it becomes a type ([`super::meaning`]); a test holds the two, and
//! `config/settings.yaml`, to the same keys.

/// A key and how its value is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
}

/// How a value is written, as far as the sources must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number, a duration, a switch, a name out of a list: anything whose text YAML may take for a number.
    Word,
    /// Free text. YAML must see text, since `1e3` would come back as `1000.0`.
    Text,
    /// Several texts; in the environment with commas between.
    Texts,
    /// Free text that is never shown.
    Secret,
}

const fn key(path: &'static str, kind: Kind) -> Key {
    Key { path, kind }
}

/// All keys, in the order of `config/settings.yaml`.
pub(super) const KEYS: &[Key] = &[
    key("compatibility", Kind::Word),
    key("grpc.host", Kind::Text),
    key("grpc.port", Kind::Word),
    key("grpc.unix_socket", Kind::Text),
    key("grpc.connections_max", Kind::Word),
    key("grpc.streams_per_connection_max", Kind::Word),
    key("grpc.request_bytes_max", Kind::Word),
    key("grpc.handshake_timeout", Kind::Word),
    key("grpc.connection_age", Kind::Word),
    key("grpc.connection_age_grace", Kind::Word),
    key("grpc.keepalive_interval", Kind::Word),
    key("grpc.keepalive_timeout", Kind::Word),
    key("grpc.reflection", Kind::Word),
    key("grpc.tls.enabled", Kind::Word),
    key("grpc.tls.certificate_file", Kind::Text),
    key("grpc.tls.key_file", Kind::Text),
    key("grpc.tls.client_ca_file", Kind::Text),
    key("grpc.tls.client_name", Kind::Text),
    key("http.host", Kind::Text),
    key("http.port", Kind::Word),
    key("http.connections_max", Kind::Word),
    key("http.request_bytes_max", Kind::Word),
    key("http.header_timeout", Kind::Word),
    key("admin.host", Kind::Text),
    key("admin.port", Kind::Word),
    key("debug.host", Kind::Text),
    key("debug.port", Kind::Word),
    key("rules.source", Kind::Word),
    key("rules.paths", Kind::Texts),
    key("rules.reload_interval", Kind::Word),
    key("rules.merge_domains", Kind::Word),
    key("rules.defaults.algorithm", Kind::Word),
    key("rules.defaults.precision", Kind::Word),
    key("rules.defaults.charging", Kind::Word),
    key("rules.needed_for_health", Kind::Word),
    key("rules.xds.server", Kind::Text),
    key("rules.xds.node_id", Kind::Text),
    key("rules.xds.node_metadata", Kind::Text),
    key("rules.xds.headers", Kind::Secret),
    key("rules.xds.start_without_rules", Kind::Word),
    key("rules.xds.message_bytes_max", Kind::Word),
    key("rules.xds.connect_timeout", Kind::Word),
    key("rules.xds.keepalive_interval", Kind::Word),
    key("rules.xds.keepalive_timeout", Kind::Word),
    key("rules.xds.backoff.initial", Kind::Word),
    key("rules.xds.backoff.max", Kind::Word),
    key("rules.xds.backoff.factor", Kind::Word),
    key("rules.xds.backoff.jitter", Kind::Word),
    key("rules.xds.tls.enabled", Kind::Word),
    key("rules.xds.tls.ca_file", Kind::Text),
    key("rules.xds.tls.certificate_file", Kind::Text),
    key("rules.xds.tls.key_file", Kind::Text),
    key("rules.xds.tls.server_name", Kind::Text),
    key("store.kind", Kind::Word),
    key("store.deadline", Kind::Word),
    key("store.key_prefix", Kind::Text),
    key("store.expiry_jitter_max_s", Kind::Word),
    key("store.stop_increment_when_over", Kind::Word),
    key("store.over_limit_memory", Kind::Word),
    key("store.memory.keys_max", Kind::Word),
    key("store.redis.type", Kind::Word),
    key("store.redis.url", Kind::Secret),
    key("store.redis.username", Kind::Secret),
    key("store.redis.password", Kind::Secret),
    key("store.redis.password_file", Kind::Text),
    key("store.redis.connect_timeout", Kind::Word),
    key("store.redis.response_timeout", Kind::Word),
    key("store.redis.batch_max", Kind::Word),
    key("store.redis.calls_in_flight", Kind::Word),
    key("store.redis.health_follows_connection", Kind::Word),
    key("store.redis.sentinel.master", Kind::Text),
    key("store.redis.sentinel.addresses", Kind::Texts),
    key("store.redis.sentinel.username", Kind::Secret),
    key("store.redis.sentinel.password", Kind::Secret),
    key("store.redis.sentinel.password_file", Kind::Text),
    key("store.redis.cluster.addresses", Kind::Texts),
    key("store.redis.tls.enabled", Kind::Word),
    key("store.redis.tls.ca_file", Kind::Text),
    key("store.redis.tls.certificate_file", Kind::Text),
    key("store.redis.tls.key_file", Kind::Text),
    key("store.redis.tls.server_name", Kind::Text),
    key("store.redis.tls.verify_hostname", Kind::Word),
    key("store.redis.per_second.type", Kind::Word),
    key("store.redis.per_second.url", Kind::Secret),
    key("store.redis.per_second.username", Kind::Secret),
    key("store.redis.per_second.password", Kind::Secret),
    key("store.redis.per_second.password_file", Kind::Text),
    key("store.redis.per_second.tls_enabled", Kind::Word),
    key("store.redis.per_second.sentinel.master", Kind::Text),
    key("store.redis.per_second.sentinel.addresses", Kind::Texts),
    key("store.redis.per_second.sentinel.username", Kind::Secret),
    key("store.redis.per_second.sentinel.password", Kind::Secret),
    key("store.redis.per_second.sentinel.password_file", Kind::Text),
    key("store.redis.per_second.cluster.addresses", Kind::Texts),
    key("response.headers_enabled", Kind::Word),
    key("response.limit_header", Kind::Text),
    key("response.remaining_header", Kind::Text),
    key("response.reset_header", Kind::Text),
    key("response.dynamic_metadata", Kind::Word),
    key("shadow_mode", Kind::Word),
    key("quota_mode", Kind::Word),
    key("near_limit_ratio", Kind::Word),
    key("metrics.series_max", Kind::Word),
    key("metrics.statsd.enabled", Kind::Word),
    key("metrics.statsd.host", Kind::Text),
    key("metrics.statsd.port", Kind::Word),
    key("metrics.statsd.protocol", Kind::Word),
    key("metrics.statsd.dialect", Kind::Word),
    key("metrics.statsd.tags", Kind::Text),
    key("metrics.statsd.rewrites", Kind::Texts),
    key("metrics.statsd.flush_interval", Kind::Word),
    key("metrics.prometheus.enabled", Kind::Word),
    key("metrics.prometheus.address", Kind::Text),
    key("metrics.prometheus.path", Kind::Text),
    key("metrics.prometheus.mapping", Kind::Text),
    key("metrics.prometheus.response_time_as_milliseconds", Kind::Word),
    key("tracing.enabled", Kind::Word),
    key("tracing.service_name", Kind::Text),
    key("tracing.service_namespace", Kind::Text),
    key("tracing.service_instance_id", Kind::Text),
    key("tracing.resource_attributes", Kind::Text),
    key("tracing.sampling_rate", Kind::Word),
    key("tracing.descriptor_values", Kind::Word),
    key("tracing.protocol", Kind::Word),
    key("tracing.endpoint", Kind::Secret),
    key("tracing.headers", Kind::Secret),
    key("tracing.timeout", Kind::Word),
    key("tracing.tls.ca_file", Kind::Text),
    key("tracing.tls.certificate_file", Kind::Text),
    key("tracing.tls.key_file", Kind::Text),
    key("tracing.queue_max", Kind::Word),
    key("tracing.batch_max", Kind::Word),
    key("tracing.export_interval", Kind::Word),
    key("log.level", Kind::Text),
    key("log.format", Kind::Word),
    key("shutdown.delay", Kind::Word),
    key("shutdown.timeout", Kind::Word),
    key("runtime.workers", Kind::Word),
];

/// What our own variables begin with.
pub(super) const PREFIX: &str = "TIDEGATE_";

/// Longest name that is compared with the table, in characters: comparing costs its length squared, and no key is
/// half as long.
const COMPARED_MAX: usize = 80;

// === impl Key ===

impl Key {
    /// The variable that sets this key.
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.path.to_ascii_uppercase().replace('.', "_"))
    }
}

/// The key of that path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The key that the variable sets.
pub(super) fn find_variable(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.variable() == name)
}

/// Whether the path is one to which keys belong, such as `store.redis`.
pub(super) fn is_group(path: &str) -> bool {
    keys_of(path).next().is_some()
}

/// The groups, each once for every key in it: `store` and `store.redis` for `store.redis.url`.
fn groups() -> impl Iterator<Item = &'static str> {
    KEYS.iter().flat_map(|key| key.path.match_indices('.').map(|(at, _)| &key.path[..at]))
}

/// The keys of a group and of the groups in it.
fn keys_of(group: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.path.strip_prefix(group).is_some_and(|rest| rest.starts_with('.')))
}

/// A key of the group as an example for messages; an empty text if there is no such group.
pub(super) fn example_of(group: &str) -> &'static str {
    // A number or a word shows best what a setting is.
    let best = keys_of(group).find(|key| key.kind == Kind::Word).or_else(|| keys_of(group).next());
    best.map_or("", |key| key.path)
}

/// Whether what was written in place of the group may be a password.
pub(super) fn holds_secrets(group: &str) -> bool {
    keys_of(group).any(|key| key.kind == Kind::Secret)
}

/// "; did you mean x?" with the path, of a key or a group, that is most like the written one, or nothing if none is
/// like it.
pub(super) fn suggest_path(written: &str) -> String {
    let known = || KEYS.iter().map(|key| key.path).chain(groups());
    // What stands outside its group is recognised by its last part.
    let outside = |path: &&str| path.rsplit('.').next().is_some_and(|last| last == written);
    match known().find(outside) {
        Some(path) => hint(path),
        None => suggest(written, known().map(str::to_owned)),
    }
}

/// The same for a variable.
pub(super) fn suggest_variable(written: &str) -> String {
    let names = KEYS.iter().map(Key::variable).chain([super::FILE_VARIABLE.to_owned()]);
    suggest(written, names)
}

fn suggest(written: &str, known: impl Iterator<Item = String>) -> String {
    let written: String = written.chars().take(COMPARED_MAX).collect();
    let nearest = known.map(|name| (strsim::damerau_levenshtein(&written, &name), name)).min();
    match nearest {
        // More than a third of the letters wrong is no likeness any more.
        Some((distance, name)) if distance * 3 <= name.len() => hint(&name),
        _ => String::new(),
    }
}

fn hint(name: &str) -> String {
    format!("; did you mean {name}?")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_keys_share_a_variable() {
        let names: BTreeSet<String> = KEYS.iter().map(Key::variable).collect();
        assert_eq!(names.len(), KEYS.len());
        assert!(!names.contains(super::super::FILE_VARIABLE));
    }

    #[test]
    fn a_path_is_a_key_or_a_group_but_never_both() {
        assert!(KEYS.iter().all(|key| !is_group(key.path)));
        assert!(is_group("store.redis"));
        assert!(!is_group("store.red"));
    }

    #[test]
    fn a_slip_of_the_finger_finds_its_key_and_nonsense_finds_none() {
        assert_eq!(suggest_path("grpc.prot"), "; did you mean grpc.port?");
        assert_eq!(suggest_path("keys_max"), "; did you mean store.memory.keys_max?");
        assert_eq!(suggest_variable("TIDEGATE_HTTP_PROT"), "; did you mean TIDEGATE_HTTP_PORT?");
        assert_eq!(suggest_path("grcp"), "; did you mean grpc?");
        assert_eq!(suggest_path("store.redsi"), "; did you mean store.redis?");
        assert_eq!(suggest_path("redis"), "; did you mean store.redis?");
        assert_eq!(suggest_path("banana"), "");
        assert_eq!(suggest_path(&"x".repeat(1 << 20)), "");
    }
}
