//! From environment variables to a layer.
//!
//! Two vocabularies: `TIDEGATE_` with a key's path, and the names of envoyproxy/ratelimit, so that a deployment can change
//! its image and nothing else. A name that means nothing here stops no start: what could be ours or the reference's is
//! told, since it may be a slip or belong to another version; all others are not looked at. A few of the reference's names
//! ask for something that Tidegate doesn't have and whose absence would be noticed late (counting in another place): these
//! are refused unless they say what is the case anyway.
//!
//! The environment is an argument. Nothing here reads the process's own, so that tests hand in maps.

mod left_alone;
mod metrics;
#[cfg(test)]
mod page;
mod redis_names;

use std::collections::BTreeMap;

use config::ValueKind;

use super::error::{Note, SettingsError, quoted};
use super::schema::{self, Kind};
use super::sources::Layer;

/// Variables by name, those with an empty text left out.
#[derive(Debug)]
pub(super) struct Environment {
    variables: BTreeMap<String, String>,
}

/// A name of the reference service for one of our keys.
struct Alias {
    variable: &'static str,
    path: &'static str,
    /// The reference's text in our way of writing.
    translate: fn(&str) -> String,
}

const fn alias(variable: &'static str, path: &'static str, translate: fn(&str) -> String) -> Alias {
    Alias { variable, path, translate }
}

const ALIASES: &[Alias] = &[
    alias("GRPC_UDS", "grpc.unix_socket", same),
    alias("GRPC_HOST", "grpc.host", same),
    alias("GRPC_PORT", "grpc.port", whole),
    alias("GRPC_SERVER_USE_TLS", "grpc.tls.enabled", same),
    alias("GRPC_SERVER_TLS_CERT", "grpc.tls.certificate_file", same),
    alias("GRPC_SERVER_TLS_KEY", "grpc.tls.key_file", same),
    alias("GRPC_CLIENT_TLS_CACERT", "grpc.tls.client_ca_file", same),
    alias("GRPC_CLIENT_TLS_SAN", "grpc.tls.client_name", same),
    alias("GRPC_MAX_CONNECTION_AGE", "grpc.connection_age", same),
    alias("GRPC_MAX_CONNECTION_AGE_GRACE", "grpc.connection_age_grace", same),
    alias("HOST", "http.host", same),
    alias("PORT", "http.port", whole),
    alias("DEBUG_HOST", "debug.host", same),
    alias("DEBUG_PORT", "debug.port", whole),
    alias("MERGE_DOMAIN_CONFIG", "rules.merge_domains", same),
    alias("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "rules.needed_for_health", same),
    alias("CONFIG_TYPE", "rules.source", same),
    alias("CONFIG_GRPC_XDS_SERVER_URL", "rules.xds.server", same),
    alias("CONFIG_GRPC_XDS_NODE_ID", "rules.xds.node_id", same),
    alias("CONFIG_GRPC_XDS_NODE_METADATA", "rules.xds.node_metadata", same),
    alias("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "rules.xds.headers", same),
    alias("FORCE_START_WITHOUT_INITIAL_CONFIG", "rules.xds.start_without_rules", same),
    alias("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "rules.xds.message_bytes_max", |text| {
        within(&whole(text), 64 << 10, 1 << 30)
    }),
    alias("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "rules.xds.backoff.initial", same),
    alias("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "rules.xds.backoff.max", same),
    alias("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", "rules.xds.backoff.factor", same),
    alias("XDS_CLIENT_BACKOFF_JITTER", "rules.xds.backoff.jitter", same),
    alias("CONFIG_GRPC_XDS_SERVER_USE_TLS", "rules.xds.tls.enabled", same),
    alias("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "rules.xds.tls.ca_file", same),
    alias("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "rules.xds.tls.certificate_file", same),
    alias("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "rules.xds.tls.key_file", same),
    alias("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "rules.xds.tls.server_name", same),
    alias("CACHE_KEY_PREFIX", "store.key_prefix", same),
    alias("REDIS_TIMEOUT", "store.redis.connect_timeout", same),
    alias("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "store.redis.health_follows_connection", same),
    alias("REDIS_TLS_CACERT", "store.redis.tls.ca_file", same),
    alias("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "store.redis.tls.verify_hostname", redis_names::inverted),
    alias("EXPIRATION_JITTER_MAX_SECONDS", "store.expiry_jitter_max_s", from_zero),
    alias("LOCAL_CACHE_SIZE_IN_BYTES", "store.over_limit_memory", from_zero),
    alias("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", "store.stop_increment_when_over", same),
    alias("LIMIT_RESPONSE_HEADERS_ENABLED", "response.headers_enabled", same),
    alias("LIMIT_LIMIT_HEADER", "response.limit_header", same),
    alias("LIMIT_REMAINING_HEADER", "response.remaining_header", same),
    alias("LIMIT_RESET_HEADER", "response.reset_header", same),
    alias("RESPONSE_DYNAMIC_METADATA", "response.dynamic_metadata", same),
    alias("SHADOW_MODE", "shadow_mode", same),
    alias("QUOTA_MODE", "quota_mode", same),
    alias("NEAR_LIMIT_RATIO", "near_limit_ratio", same),
    alias("USE_STATSD", "metrics.statsd.enabled", same),
    alias("STATSD_HOST", "metrics.statsd.host", same),
    alias("STATSD_PORT", "metrics.statsd.port", whole),
    alias("STATSD_PROTOCOL", "metrics.statsd.protocol", same),
    alias("STATS_FLUSH_INTERVAL", "metrics.statsd.flush_interval", same),
    alias("EXTRA_TAGS", "metrics.statsd.tags", same),
    alias("USE_PROMETHEUS", "metrics.prometheus.enabled", same),
    alias("PROMETHEUS_ADDR", "metrics.prometheus.address", same),
    alias("PROMETHEUS_PATH", "metrics.prometheus.path", same),
    alias("PROMETHEUS_MAPPER_YAML", "metrics.prometheus.mapping", same),
    alias("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", "metrics.prometheus.response_time_as_milliseconds", same),
    alias("TRACING_ENABLED", "tracing.enabled", same),
    alias("TRACING_SERVICE_NAME", "tracing.service_name", same),
    alias("TRACING_SERVICE_NAMESPACE", "tracing.service_namespace", same),
    alias("TRACING_SERVICE_INSTANCE_ID", "tracing.service_instance_id", same),
    alias("TRACING_EXPORTER_PROTOCOL", "tracing.protocol", same),
    alias("TRACING_SAMPLING_RATE", "tracing.sampling_rate", same),
    alias("OTEL_RESOURCE_ATTRIBUTES", "tracing.resource_attributes", same),
    // Of each pair the one for traces alone comes later and wins.
    alias("OTEL_EXPORTER_OTLP_ENDPOINT", "tracing.endpoint", for_traces),
    alias("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "tracing.endpoint", same),
    alias("OTEL_EXPORTER_OTLP_HEADERS", "tracing.headers", same),
    alias("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "tracing.headers", same),
    alias("OTEL_EXPORTER_OTLP_TIMEOUT", "tracing.timeout", |text| milliseconds(&within(text, 10, 60_000))),
    alias("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "tracing.timeout", |text| milliseconds(&within(text, 10, 60_000))),
    alias("OTEL_EXPORTER_OTLP_CERTIFICATE", "tracing.tls.ca_file", same),
    alias("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "tracing.tls.ca_file", same),
    alias("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "tracing.tls.certificate_file", same),
    alias("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "tracing.tls.certificate_file", same),
    alias("OTEL_EXPORTER_OTLP_CLIENT_KEY", "tracing.tls.key_file", same),
    alias("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "tracing.tls.key_file", same),
    alias("OTEL_BSP_MAX_QUEUE_SIZE", "tracing.queue_max", |text| within(text, 2, 100_000)),
    alias("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "tracing.batch_max", |text| within(text, 1, 10_000)),
    alias("OTEL_BSP_SCHEDULE_DELAY", "tracing.export_interval", |text| milliseconds(&within(text, 10, 3_600_000))),
    alias("LOG_LEVEL", "log.level", level),
    alias("LOG_FORMAT", "log.format", str::to_lowercase),
];

/// A name of the reference that is refused where it asks for what we don't have.
struct Refused {
    variable: &'static str,
    /// Whether the text says what is the case anyway.
    is_so_anyway: fn(&str) -> bool,
    right: &'static str,
}

const fn refused(variable: &'static str, is_so_anyway: fn(&str) -> bool, right: &'static str) -> Refused {
    Refused { variable, is_so_anyway, right }
}

const REFUSED: &[Refused] = &[refused(
    "BACKEND_TYPE",
    |text| text.eq_ignore_ascii_case("redis"),
    "redis, the only one of its backends known here",
)];

// === impl Environment ===

impl Environment {
    pub(super) fn new(variables: impl Iterator<Item = (String, String)>) -> Environment {
        Environment { variables: variables.filter(|(_, value)| !value.is_empty()).collect() }
    }

    /// The layer that these variables make. Mistakes and remarks go to `errors` and `notes`.
    pub(super) fn layer(&self, notes: &mut Vec<Note>, errors: &mut Vec<SettingsError>) -> Layer {
        let mut layer = Layer::default();
        self.reference_names(&mut layer, notes, errors);
        for (name, value) in self.variables.range(schema::PREFIX.to_owned()..) {
            if !name.starts_with(schema::PREFIX) {
                break;
            }
            if name == super::FILE_VARIABLE {
                continue;
            }
            if is_service_link(name, value) {
                notes.push(service_link_note(name));
                continue;
            }
            match schema::find_variable(name) {
                Some(key) => {
                    if let Some(other) = layer.place(key.path) {
                        notes.push(Note::new(format!("both {name} and {other} are set: {name} holds")));
                    }
                    layer.set(key.path, name, written(key.kind, value));
                }
                None => notes.push(Note::new(format!(
                    "{} is left alone, because no setting has that name{}",
                    quoted(name),
                    schema::suggest_variable(name)
                ))),
            }
        }
        layer
    }

    /// The layer of what these variables mean where nothing else is `written`, here or in a file.
    pub(super) fn implied(&self, written: &Layer) -> Layer {
        redis_names::implied(self, written)
    }

    /// The part of the layer that comes from names of the reference service.
    fn reference_names(&self, layer: &mut Layer, notes: &mut Vec<Note>, errors: &mut Vec<SettingsError>) {
        for Alias { variable, path, translate } in ALIASES {
            match self.get(variable) {
                Some(value) if is_service_link(variable, value) => {
                    notes.push(service_link_note(variable));
                }
                Some(value) => layer.set(path, variable, ValueKind::String(translate(value))),
                None => {}
            }
        }
        self.runtime_directory(layer);
        redis_names::layer(self, layer, notes, errors);
        self.metrics(layer, notes, errors);
        left_alone::note(self, notes);
        for Refused { variable, is_so_anyway, right } in REFUSED {
            if let Some(value) = self.get(variable).filter(|value| !is_so_anyway(value)) {
                errors.push(SettingsError::Invalid {
                    place: (*variable).to_owned(),
                    value: Some(value.to_owned()),
                    right: (*right).to_owned(),
                });
            }
        }
    }

    /// The three variables that together name the directory of rules.
    fn runtime_directory(&self, layer: &mut Layer) {
        const NAMES: [&str; 3] = ["RUNTIME_ROOT", "RUNTIME_SUBDIRECTORY", "RUNTIME_APPDIRECTORY"];

        let Some(place) = NAMES.into_iter().find(|name| self.get(name).is_some()) else {
            return;
        };
        let [root, subdirectory, app] = NAMES.map(|name| self.get(name));
        // The defaults are the reference's.
        let root = root.unwrap_or("/srv/runtime_data/current").trim_end_matches('/');
        let app = app.unwrap_or("config").trim_matches('/');
        let parts = [Some(root), subdirectory.map(|part| part.trim_matches('/')), Some(app)];
        let path = parts.into_iter().flatten().collect::<Vec<_>>().join("/");
        layer.set("rules.paths", place, ValueKind::Array(vec![path.into()]));
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

/// The text of a variable in the form that its kind has in a layer.
fn written(kind: Kind, value: &str) -> ValueKind {
    match kind {
        Kind::Texts => ValueKind::Array(value.split(',').map(|part| part.trim().into()).collect()),
        Kind::Word | Kind::Text | Kind::Secret => ValueKind::String(value.to_owned()),
    }
}

/// Whether this is one of the variables by which Kubernetes tells a pod of the services in its namespace. A service
/// called `tidegate` or `tidegate-grpc` makes `TIDEGATE_PORT` or even `TIDEGATE_GRPC_PORT`, with values such as
/// `tcp://10.0.0.7:8081`; without this look every pod of such a deployment would refuse to start.
fn is_service_link(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

    let is_address = PROTOCOLS.iter().any(|protocol| {
        let scheme = value.split_once("://").map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(protocol))
    });
    // `…_PORT_8081_TCP_ADDR` and its like.
    let of_one_port = || {
        name.match_indices("_PORT_").any(|(at, separator)| {
            let mut parts = name[at + separator.len()..].split('_');
            parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
                && parts.next().is_some_and(|protocol| PROTOCOLS.contains(&protocol))
        })
    };
    name.ends_with("_PORT") && is_address
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || of_one_port()
}

fn service_link_note(name: &str) -> Note {
    Note::new(format!("{} looks like a variable that Kubernetes sets for a service: left alone", quoted(name)))
}

fn same(text: &str) -> String {
    text.to_owned()
}

/// A whole number as Go reads it with base 0: `0x1f90` and `017620` too. Anything else stays as it is, to be refused
/// by name.
fn whole(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => return text.to_owned(),
    };
    match u64::from_str_radix(digits, radix) {
        Ok(number) if !digits.starts_with('+') => number.to_string(),
        _ => text.to_owned(),
    }
}

/// A number of which the reference takes all below 1 for none.
fn from_zero(text: &str) -> String {
    match text.strip_prefix('-') {
        Some(digits) if digits.parse::<u64>().is_ok() => "0".to_owned(),
        _ => whole(text),
    }
}

/// A whole number of milliseconds, which OpenTelemetry writes bare. Anything else is to be refused by name.
fn milliseconds(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { format!("{text}ms") } else { text.to_owned() }
}

/// A number as others bound it, or the nearest that we take. What is no number stays, to be refused by name.
fn within(text: &str, least: u64, most: u64) -> String {
    match text.parse::<u64>() {
        Ok(number) => number.clamp(least, most).to_string(),
        Err(_) => text.to_owned(),
    }
}

/// An endpoint for all kinds of data as the one for traces.
fn for_traces(text: &str) -> String {
    format!("{}/v1/traces", text.trim_end_matches('/'))
}

/// The reference's levels, in any case, as ours.
fn level(text: &str) -> String {
    let lower = text.to_lowercase();
    match lower.as_str() {
        "panic" | "fatal" => "error".to_owned(),
        "warning" => "warn".to_owned(),
        _ => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sources;
    use super::*;

    /// The layer's text for a key, the notes and the errors.
    pub(super) fn read(variables: &[(&str, &str)], path: &str) -> (Option<String>, Vec<String>, Vec<String>) {
        let (mut notes, mut errors) = (Vec::new(), Vec::new());
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::new(variables);
        let written = environment.layer(&mut notes, &mut errors);
        let layer = sources::merge([written.clone(), environment.implied(&written)]);
        let value = layer.value(path).map(|(value, _)| value.to_string());
        (value, notes.iter().map(Note::to_string).collect(), errors.iter().map(SettingsError::to_string).collect())
    }

    pub(super) fn value(variables: &[(&str, &str)], path: &str) -> Option<String> {
        let (value, notes, errors) = read(variables, path);
        assert_eq!((notes, errors), (vec![], vec![]), "{variables:?}");
        value
    }

    #[test]
    fn every_alias_and_every_key_has_its_variable() {
        for Alias { variable, path, translate } in ALIASES {
            assert!(schema::find(path).is_some(), "{variable}");
            assert_eq!(value(&[(variable, "7")], path), Some(translate("7")), "{variable}");
        }
        for key in schema::KEYS.iter().filter(|key| key.kind != Kind::Texts) {
            assert_eq!(value(&[(&key.variable(), "7")], key.path).as_deref(), Some("7"), "{}", key.path);
        }
    }

    #[test]
    fn our_name_wins_over_the_references_and_a_note_says_so() {
        let (port, notes, _) = read(&[("GRPC_PORT", "1"), ("TIDEGATE_GRPC_PORT", "2")], "grpc.port");
        assert_eq!(port.as_deref(), Some("2"));
        assert_eq!(notes, ["both TIDEGATE_GRPC_PORT and GRPC_PORT are set: TIDEGATE_GRPC_PORT holds"]);
    }

    #[test]
    fn unknown_names_are_told_with_our_prefix_and_ignored_without() {
        let (_, notes, errors) = read(&[("TIDEGATE_GRPC_PROT", "1"), ("GRPC_PROT", "1"), ("PATH", "x")], "grpc.port");
        assert_eq!(
            (notes.as_slice(), errors),
            (
                ["\"TIDEGATE_GRPC_PROT\" is left alone, because no setting has that name; \
                  did you mean TIDEGATE_GRPC_PORT?"
                    .to_owned()]
                .as_slice(),
                vec![]
            )
        );
        assert_eq!(value(&[("TIDEGATE_SETTINGS", "x"), ("TIDEGATE_GRPC_PROT", "")], "grpc.port"), None);
    }

    #[test]
    fn what_kubernetes_sets_for_services_stops_nothing() {
        let links = [
            ("TIDEGATE_PORT", "tcp://10.0.0.7:8081"),
            ("TIDEGATE_GRPC_PORT", "tcp://10.0.0.7:8081"),
            ("TIDEGATE_SERVICE_HOST", "10.0.0.7"),
            ("TIDEGATE_SERVICE_PORT_GRPC", "8081"),
            ("TIDEGATE_PORT_8081_TCP", "tcp://10.0.0.7:8081"),
            ("TIDEGATE_PORT_8081_TCP_ADDR", "10.0.0.7"),
            ("GRPC_PORT", "tcp://10.0.0.8:1"),
        ];
        let (port, notes, errors) = read(&links, "grpc.port");
        assert_eq!((port, errors), (None, vec![]));
        assert_eq!(notes.len(), links.len());
    }

    #[test]
    fn the_runtime_directory_is_joined_from_its_three_parts() {
        let path = |variables: &[(&str, &str)]| {
            let (settings, _) = super::super::Settings::load(None, variables.iter().copied()).unwrap();
            settings.rules.paths[0].to_str().unwrap().to_owned()
        };
        let root = ("RUNTIME_ROOT", "/data/");
        let subdirectory = ("RUNTIME_SUBDIRECTORY", "ratelimit");
        assert_eq!(path(&[root, subdirectory]), "/data/ratelimit/config");
        assert_eq!(path(&[root, ("RUNTIME_APPDIRECTORY", "c")]), "/data/c");
        assert_eq!(path(&[subdirectory]), "/srv/runtime_data/current/ratelimit/config");
        assert_eq!(path(&[("RUNTIME_APPDIRECTORY", "c")]), "/srv/runtime_data/current/c");
        assert_eq!(path(&[("RUNTIME_APPDIRECTORY", "")]), "config/rules.yaml");
    }

    #[test]
    fn numbers_levels_and_formats_are_read_as_the_reference_reads_them() {
        assert_eq!(value(&[("PORT", "0x1f90")], "http.port").as_deref(), Some("8080"));
        assert_eq!(value(&[("PORT", "017620")], "http.port").as_deref(), Some("8080"));
        assert_eq!(value(&[("PORT", "0x+1")], "http.port").as_deref(), Some("0x+1"));
        assert_eq!(value(&[("PORT", "0é")], "http.port").as_deref(), Some("0é"));
        for (written, meant) in [("PANIC", "error"), ("Warning", "warn"), ("TRACE", "trace")] {
            assert_eq!(value(&[("LOG_LEVEL", written)], "log.level").as_deref(), Some(meant));
        }
        assert_eq!(value(&[("LOG_FORMAT", "JSON")], "log.format").as_deref(), Some("json"));
    }

    #[test]
    fn tls_on_the_port_takes_all_that_it_needs() {
        let load = |variables: &[(&str, &str)]| super::super::Settings::load(None, variables.iter().copied());
        let on = [("GRPC_SERVER_USE_TLS", "true"), ("GRPC_SERVER_TLS_CERT", "/c.pem")];
        let key = ("GRPC_SERVER_TLS_KEY", "/k.pem");
        let (settings, _) = load(&[on[0], on[1], key, ("GRPC_SERVER_TLS_CA_CERT", "/ca.pem")]).unwrap();
        let tls = settings.grpc.tls.unwrap();
        assert_eq!((tls.certificate_file.to_str(), tls.key_file.to_str()), (Some("/c.pem"), Some("/k.pem")));
        assert_eq!(tls.clients, None, "Envoy Gateway's variable asks for nothing in the reference service");
        let (settings, _) = load(&[on[1], key]).unwrap();
        assert_eq!(settings.grpc.tls, None, "files alone switch nothing on");
        let errors = load(&[on[0], ("GRPC_CLIENT_TLS_SAN", "envoy")]).unwrap_err().to_string();
        for missing in ["grpc.tls.certificate_file", "grpc.tls.key_file", "grpc.tls.client_ca_file"] {
            assert!(errors.contains(&format!("{missing} is empty")), "{errors}");
        }
    }

    #[test]
    fn what_we_cannot_do_is_refused_and_what_changes_nothing_is_not() {
        let harmless =
            [("BACKEND_TYPE", "redis"), ("CONFIG_TYPE", "FILE"), ("REDIS_TYPE", "SINGLE"), ("USE_STATSD", "false")];
        assert_eq!(value(&harmless, "grpc.port"), None);
        let asking = [("BACKEND_TYPE", "memcache")];
        let (_, _, errors) = read(&asking, "grpc.port");
        assert_eq!(errors.len(), asking.len());
        assert_eq!(
            errors[0],
            "BACKEND_TYPE is \"memcache\", but must be redis, the only one of its backends known here"
        );
    }
}
