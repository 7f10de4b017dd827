//! How this process runs: what is written, and what is meant.
//!
//! Three layers lie over each other: the defaults, the operator's file, the environment. The defaults are
//! `config/settings.yaml` itself, embedded: the annotated file that an operator reads is the one that holds. From
//! there two steps, each in its own files:
//!
//! ```text
//! text ── sources, environment ── one text per key, and its place ── meaning ── Settings
//!            (schema: all keys)                                        (text, redis_url, log: one value each)
//! ```
//!
//! The first step knows keys and no meanings, the second meanings and no sources. A [`Settings`] has been checked
//! whole: nobody downstream looks again whether a port is one. Nothing here touches a file, the environment or a
//! clock; [`Settings::load`] is a function of its arguments.

mod environment;
mod error;
mod grpc_tls;
mod identity;
mod log;
mod meaning;
mod metrics;
mod profile;
mod redis_server;
mod redis_url;
mod schema;
mod sources;
pub(crate) mod text;
mod trace;
mod xds;
mod yaml;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use error::{Note, SettingsError, SettingsErrors};
pub use log::{LogFilter, LogFormat, LogSettings};
pub use metrics::{ListenAddress, MetricsSettings, PrometheusSettings};
pub use redis_url::{RedisAddress, RedisCredentials, RedisSentinels, RedisUrl, Secret};
pub use xds::{RuleSource, XdsSettings};
pub(crate) use yaml::lines;

use crate::counters::redis::Tls;
use crate::rls::tls::PortTls;
use crate::rules::Defaults;
use crate::trace::TraceOptions;
use environment::Environment;
use sources::Layer;

/// The variable that names the operator's file where the command line doesn't.
pub const FILE_VARIABLE: &str = "TIDEGATE_SETTINGS";

/// The annotated file with all keys and their defaults.
pub const DEFAULTS: &str = include_str!("../../config/settings.yaml");

/// Everything that an operator can set. Bounds and defaults of each field stand in `config/settings.yaml`, under the
/// key of the same name, and have been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The port that Envoy calls.
    pub grpc: GrpcSettings,
    /// The port for people and probes.
    pub http: HttpSettings,
    /// The port for operators of adaptive limits.
    pub admin: AdminSettings,
    /// The port that shows the rules in force and their counts.
    pub debug: DebugSettings,
    /// What is limited.
    pub rules: RulesSettings,
    /// Where counters live.
    pub store: StoreSettings,
    /// What an answer carries besides the decision.
    pub response: ResponseSettings,
    /// Whether every rule only counts.
    pub shadow_mode: bool,
    /// Whether every rule is a quota.
    pub quota_mode: bool,
    /// Share of a limit above which hits are near it, 0 to 1. As coarse as the reference's, which multiplies in 32
    /// bits.
    pub near_limit_ratio: f32,
    /// Metrics.
    pub metrics: MetricsSettings,
    /// How calls are traced, if they are.
    pub tracing: Option<TraceOptions>,
    /// Logging.
    pub log: LogSettings,
    /// The end.
    pub shutdown: ShutdownSettings,
    /// Threads.
    pub runtime: RuntimeSettings,
}

/// The gRPC port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcSettings {
    /// IP address (without brackets) or name to listen on.
    pub host: String,
    /// TCP port; 0 for any free one.
    pub port: u16,
    /// Path of a socket to listen on instead.
    pub unix_socket: Option<PathBuf>,
    /// Most connections at a time.
    pub connections_max: usize,
    /// Most calls at a time on one connection.
    pub streams_per_connection_max: u32,
    /// Largest request message, in bytes.
    pub request_bytes_max: usize,
    /// Longest wait for a connection's HTTP/2 preface.
    pub handshake_timeout: Duration,
    /// Age at which a connection is asked to end, to be varied by 10 % by chance; `None` for never.
    pub connection_age: Option<Duration>,
    /// How long calls may then still run.
    pub connection_age_grace: Duration,
    /// Silence after which a connection is probed; `None` for never.
    pub keepalive_interval: Option<Duration>,
    /// Longest wait for the probe's answer.
    pub keepalive_timeout: Duration,
    /// Whether reflection is served.
    pub reflection: bool,
    /// How TLS is spoken, if it is.
    pub tls: Option<PortTls>,
}

/// The HTTP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// IP address (without brackets) or name to listen on.
    pub host: String,
    /// TCP port; 0 for any free one.
    pub port: u16,
    /// Most connections at a time.
    pub connections_max: usize,
    /// Largest request body, in bytes.
    pub request_bytes_max: usize,
    /// Longest wait for a request's head.
    pub header_timeout: Duration,
}

/// The port for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// IP address (without brackets) or name to listen on.
    pub host: String,
    /// TCP port; 0 for any free one.
    pub port: u16,
}

/// The debug port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugSettings {
    /// IP address (without brackets) or name to listen on.
    pub host: String,
    /// TCP port; 0 for any free one.
    pub port: u16,
}

/// Rules.
#[derive(Clone, Debug, PartialEq)]
pub struct RulesSettings {
    /// Where they come from.
    pub source: RuleSource,
    /// Whether health says no while no domain has any.
    pub needed_for_health: bool,
    /// Files, and directories, which are read with everything below them; at least one.
    pub paths: Vec<PathBuf>,
    /// How often they are looked at.
    pub reload_interval: Duration,
    /// Whether two files, or two resources, may speak of one domain.
    pub merge_domains: bool,
    /// What applies where a file or a rule says nothing.
    pub defaults: Defaults,
}

/// The counter store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Which store.
    pub kind: StoreKind,
    /// Longest wait of one decision.
    pub deadline: Duration,
    /// What all keys begin with: at most 64 bytes, without braces, blanks and control characters.
    pub key_prefix: String,
    /// Seconds, less than which chance adds to the expiry of keys that envoyproxy/ratelimit shares.
    pub expiry_jitter_max_s: u32,
    /// Bytes in which counters that are over are remembered; `None` for not at all.
    pub over_limit_memory: Option<usize>,
    /// The memory store's bounds.
    pub memory: MemorySettings,
}

/// Which store holds the counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// This process's memory.
    Memory,
    /// Redis.
    Redis(Box<RedisSettings>),
}

/// The memory store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// Most counters.
    pub keys_max: usize,
}

/// The Redis store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where counters are, and records.
    pub main: RedisServer,
    /// Where counters with a window of one second are, if they are apart.
    pub per_second: Option<RedisServer>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for an answer before its connection is given up.
    pub response_timeout: Duration,
    /// Most decisions in one call.
    pub batch_max: usize,
    /// Most calls under way on one connection.
    pub calls_in_flight: usize,
    /// Whether health says no while there is no connection, after the start too.
    pub health_follows_connection: bool,
}

/// One Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisServer {
    /// Server and credentials: the URL's, or those of `username` and `password` where these are set.
    pub url: RedisUrl,
    /// How it is spoken to over TLS, if it is.
    pub tls: Option<Tls>,
    /// File with the password, to be read at each connect; the URL then holds none.
    pub password_file: Option<PathBuf>,
}

/// What an answer carries besides the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseSettings {
    /// Whether the three headers are sent.
    pub headers_enabled: bool,
    /// The limit's header, as written; a valid HTTP header name, as the next two.
    pub limit_header: String,
    /// The header of what is left.
    pub remaining_header: String,
    /// The header of the seconds until then.
    pub reset_header: String,
    /// Whether dynamic metadata holds the question and the rules' metadata; `tidegate.never_passes` is sent in any
    /// case.
    pub dynamic_metadata: bool,
}

/// The end of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// How long to serve on while health says no.
    pub delay: Duration,
    /// How long calls may then still run.
    pub timeout: Duration,
}

/// Threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Worker threads; `None` for one per core.
    pub workers: Option<NonZeroUsize>,
}

// === impl Settings ===

impl Settings {
    /// Reads the settings: defaults, over them the operator's file (its name for messages, and its text), over that
    /// the environment. With them come notes for the log: nothing wrong, but worth knowing.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load<N, V>(
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (N, V)>,
    ) -> Result<(Settings, Vec<Note>), SettingsErrors>
    where
        N: Into<String>,
        V: Into<String>,
    {
        let (mut errors, mut notes) = (Vec::new(), Vec::new());
        let defaults = Layer::from_file("the built-in defaults", DEFAULTS, &mut errors);
        let operators = file.map(|(name, text)| Layer::from_file(name, text, &mut errors)).unwrap_or_default();
        let environment = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
        let environment = Environment::new(environment);
        let variables = environment.layer(&mut notes, &mut errors);
        let written = sources::merge([operators.clone(), variables.clone()]);
        let implied = environment.implied(&written);
        let mut merged = sources::merge([defaults.clone(), operators.clone(), variables.clone(), implied.clone()]);
        if let Some(profile) = profile::layer(&merged, &written) {
            merged = sources::merge([defaults.clone(), profile, operators, variables, implied]);
        }
        let settings = meaning::settings(&merged, &defaults, &mut notes, &mut errors);
        match SettingsErrors::try_new(errors) {
            None => Ok((settings, notes)),
            Some(errors) => Err(errors),
        }
    }
}

impl Default for Settings {
    /// The built-in defaults.
    fn default() -> Settings {
        let (settings, _notes) = Settings::load(None, [("", ""); 0]).expect("a test loads the built-in defaults");
        settings
    }
}

/// The process's variables (`std::env::vars_os()`) as text. Bytes that are none become U+FFFD, so that a variable of
/// somebody else's can't stop the process and one of ours is refused with its name.
pub fn as_text(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    let text = |os: OsString| os.to_string_lossy().into_owned();
    variables.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// The operator's file as the environment names it; an empty name counts as none.
#[must_use]
pub fn file_in(environment: &[(String, String)]) -> Option<PathBuf> {
    let named = environment.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
    named.map(|(_, value)| PathBuf::from(value))
}

#[cfg(test)]
mod tests;
