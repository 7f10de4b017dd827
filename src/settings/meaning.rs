//! From one text per key to what the program uses.
//!
//! Each line of [`settings`] names a key and what it may be. A value that is wrong is noted as a mistake and its
//! default read in its stead, so that the walk goes on and finds the others; the settings that come out of such a
//! walk are never used.

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use config::ValueKind;

use super::error::{Note, SettingsError};
use super::grpc_tls;
use super::log::{LogFilter, LogFormat, LogSettings};
use super::metrics;
use super::redis_server;
use super::schema::{self, Kind};
use super::sources::Layer;
use super::text::{self, Parsed};
use super::trace;
use super::xds;
use super::{
    AdminSettings, DebugSettings, GrpcSettings, HttpSettings, MemorySettings, ResponseSettings, RulesSettings,
    RuntimeSettings, Settings, ShutdownSettings, StoreKind, StoreSettings,
};
use crate::rules::{Algorithm, Compatibility, Defaults};
use crate::window::{Charging, Precision};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Longest key prefix, in bytes: every key of every counter carries it.
const KEY_PREFIX_BYTES_MAX: usize = 64;

/// Most paths of rules.
const PATHS_MAX: usize = 1_000;

/// The settings that the merged layers mean. Where `errors` has grown, they must not be used.
pub(super) fn settings(
    merged: &Layer,
    defaults: &Layer,
    notes: &mut Vec<Note>,
    errors: &mut Vec<SettingsError>,
) -> Settings {
    let mut read = Reader { merged, defaults, notes, errors };
    let Ports { grpc, http, admin, debug } = ports(&mut read);
    Settings {
        grpc,
        http,
        admin,
        debug,
        rules: rules(&mut read),
        store: store(&mut read),
        response: response(&mut read),
        shadow_mode: read.switch("shadow_mode"),
        quota_mode: read.switch("quota_mode"),
        near_limit_ratio: read.parsed("near_limit_ratio", text::ratio),
        metrics: metrics::metrics(&mut read),
        tracing: trace::tracing(&mut read),
        log: LogSettings {
            filter: read.parsed("log.level", LogFilter::parse),
            format: read.choice("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
        },
        shutdown: ShutdownSettings {
            delay: read.duration("shutdown.delay", Duration::ZERO..=10 * MINUTE),
            timeout: read.duration("shutdown.timeout", Duration::ZERO..=HOUR),
        },
        runtime: RuntimeSettings { workers: NonZeroUsize::new(read.whole("runtime.workers", 0..=1_024)) },
    }
}

/// The ports, of which no two may be the same.
struct Ports {
    grpc: GrpcSettings,
    http: HttpSettings,
    admin: AdminSettings,
    debug: DebugSettings,
}

fn ports(read: &mut Reader<'_>) -> Ports {
    let mistakes = read.errors.len();
    let (grpc, http, admin, debug) = (grpc(read), http(read), admin(read), debug(read));
    // After a mistake a default may stand in for what was meant.
    if read.errors.len() == mistakes {
        let named = |name: &'static str, host: &str, port: u16| (name, host.to_owned(), port);
        let all = [
            named("grpc", &grpc.host, grpc.port),
            named("http", &http.host, http.port),
            named("admin", &admin.host, admin.port),
            named("debug", &debug.host, debug.port),
        ];
        // With a socket the gRPC port takes none of these.
        let all = &all[usize::from(grpc.unix_socket.is_some())..];
        for (index, one) in all.iter().enumerate() {
            all[index + 1..].iter().for_each(|other| apart(read, one, other));
        }
    }
    Ports { grpc, http, admin, debug }
}

/// Notes a mistake if two ports can't be had at once.
fn apart(read: &mut Reader<'_>, one: &(&str, String, u16), other: &(&str, String, u16)) {
    let ((name, host, port), (other_name, other_host, other_port)) = (one, other);
    if *port == 0 || port != other_port || !hosts_overlap(host, other_host) {
        return;
    }
    let (place, other_place) = (read.place(&format!("{name}.port")), read.place(&format!("{other_name}.port")));
    read.conflict(format!(
        "{place} and {other_place} are both {port}, on hosts that overlap; set {name}.port or {other_name}.port to \
         another port, or to 0 for any free one"
    ));
}

/// Whether one port can't be had on both hosts for certain. What names stand for is known when they are resolved, so
/// of these only the same name counts; the rest is found when the ports are bound.
fn hosts_overlap(one: &str, other: &str) -> bool {
    let address = |host: &str| host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    // `::` listens on IPv4 as well.
    let is_any = |host: &str| address(host) == Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    if is_any(one) || is_any(other) {
        return true;
    }
    match (address(one), address(other)) {
        (Some(IpAddr::V4(one)), Some(IpAddr::V4(other))) => {
            one == other || one.is_unspecified() || other.is_unspecified()
        }
        (Some(one), Some(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

fn grpc(read: &mut Reader<'_>) -> GrpcSettings {
    GrpcSettings {
        host: read.parsed("grpc.host", text::host),
        port: read.whole("grpc.port", 0..=u16::MAX),
        unix_socket: read.parsed("grpc.unix_socket", unix_socket),
        connections_max: read.whole("grpc.connections_max", 1..=1_000_000),
        streams_per_connection_max: read.whole("grpc.streams_per_connection_max", 1..=100_000),
        request_bytes_max: read.size("grpc.request_bytes_max", KIB..=64 * MIB),
        handshake_timeout: read.duration("grpc.handshake_timeout", 100 * MILLISECOND..=5 * MINUTE),
        connection_age: read.duration_or_never("grpc.connection_age", 8_760 * HOUR),
        connection_age_grace: read.duration("grpc.connection_age_grace", SECOND..=168 * HOUR),
        keepalive_interval: read.duration_or_never("grpc.keepalive_interval", 24 * HOUR),
        keepalive_timeout: read.duration("grpc.keepalive_timeout", 100 * MILLISECOND..=10 * MINUTE),
        reflection: read.switch("grpc.reflection"),
        tls: grpc_tls::port(read),
    }
}

/// A path that fits into the address of a socket (unix(7)).
fn unix_socket(text: &str) -> Parsed<Option<PathBuf>> {
    const BYTES_MAX: usize = 107;
    match text.len() {
        0 => Ok(None),
        1..=BYTES_MAX if !text.contains('\0') => Ok(Some(PathBuf::from(text))),
        _ => Err(format!("a path of at most {BYTES_MAX} bytes")),
    }
}

fn http(read: &mut Reader<'_>) -> HttpSettings {
    HttpSettings {
        host: read.parsed("http.host", text::host),
        port: read.whole("http.port", 0..=u16::MAX),
        connections_max: read.whole("http.connections_max", 1..=1_000_000),
        request_bytes_max: read.size("http.request_bytes_max", KIB..=64 * MIB),
        header_timeout: read.duration("http.header_timeout", 100 * MILLISECOND..=5 * MINUTE),
    }
}

fn admin(read: &mut Reader<'_>) -> AdminSettings {
    AdminSettings { host: read.parsed("admin.host", text::host), port: read.whole("admin.port", 0..=u16::MAX) }
}

fn debug(read: &mut Reader<'_>) -> DebugSettings {
    DebugSettings { host: read.parsed("debug.host", text::host), port: read.whole("debug.port", 0..=u16::MAX) }
}

fn rules(read: &mut Reader<'_>) -> RulesSettings {
    let algorithms = [
        ("sliding_window", Algorithm::SlidingWindow),
        ("fixed_window", Algorithm::FixedWindow),
        ("token_bucket", Algorithm::TokenBucket),
    ];
    let precision = |text: &str| {
        let ticks = text::whole(text, &(1..=1_024_u32))?;
        Precision::try_new(ticks).ok_or_else(|| "a whole number from 1 to 1024".to_owned())
    };
    let charging =
        read.choice("rules.defaults.charging", &[("all_or_nothing", Charging::AllOrNothing), ("each", Charging::Each)]);
    let compatibility = [("none", Compatibility::Off), ("envoyproxy", Compatibility::Envoyproxy)];
    let compatibility = read.choice("compatibility", &compatibility);
    let stops = read.switch("store.stop_increment_when_over") && compatibility == Compatibility::Envoyproxy;
    RulesSettings {
        source: xds::source(read),
        needed_for_health: read.switch("rules.needed_for_health"),
        paths: read.paths("rules.paths"),
        reload_interval: read.duration("rules.reload_interval", 50 * MILLISECOND..=HOUR),
        merge_domains: read.switch("rules.merge_domains"),
        defaults: Defaults {
            algorithm: read.choice("rules.defaults.algorithm", &algorithms),
            precision: read.parsed("rules.defaults.precision", precision),
            charging: if stops && charging == Charging::Each { Charging::OnlyOver } else { charging },
            compatibility,
        },
    }
}

fn store(read: &mut Reader<'_>) -> StoreSettings {
    /// The word in `store.kind`.
    #[derive(Clone, Copy)]
    enum Asked {
        Auto,
        Memory,
        Redis,
    }

    let asked = read.choice("store.kind", &[("auto", Asked::Auto), ("memory", Asked::Memory), ("redis", Asked::Redis)]);
    let redis = redis_server::redis(read);
    let kind = match (asked, redis) {
        (Asked::Memory, _) | (Asked::Auto, None) => StoreKind::Memory,
        (Asked::Auto | Asked::Redis, Some(redis)) => StoreKind::Redis(Box::new(redis)),
        (Asked::Redis, None) => {
            let place = read.place("store.kind");
            read.conflict(format!("{place} is redis, but store.redis.url is empty; set it to the address of Redis"));
            StoreKind::Memory
        }
    };
    StoreSettings {
        kind,
        deadline: read.duration("store.deadline", MILLISECOND..=10 * SECOND),
        key_prefix: read.parsed("store.key_prefix", key_prefix),
        over_limit_memory: over_limit_memory(read),
        expiry_jitter_max_s: read.whole("store.expiry_jitter_max_s", 0..=31_536_000),
        memory: MemorySettings { keys_max: read.whole("store.memory.keys_max", 1..=100_000_000) },
    }
}

/// As the reference, whose memory takes no less than half a mebibyte.
fn over_limit_memory(read: &mut Reader<'_>) -> Option<usize> {
    let bytes = read.size("store.over_limit_memory", 0..=4_096 * MIB);
    let (profile, _) = text_at(read.merged, "compatibility");
    (bytes > 0 && profile == "envoyproxy").then(|| bytes.max(MIB / 2))
}

fn response(read: &mut Reader<'_>) -> ResponseSettings {
    let header = |text: &str| match http::HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("a header name such as RateLimit-Limit".to_owned()),
    };
    ResponseSettings {
        headers_enabled: read.switch("response.headers_enabled"),
        limit_header: read.parsed("response.limit_header", header),
        remaining_header: read.parsed("response.remaining_header", header),
        reset_header: read.parsed("response.reset_header", header),
        dynamic_metadata: read.switch("response.dynamic_metadata"),
    }
}

/// Braces would choose the slot of all keys on Redis Cluster; blanks would trouble the tools that list keys.
fn key_prefix(text: &str) -> Parsed<String> {
    let wrong = |c: char| c == '{' || c == '}' || c.is_whitespace() || c.is_control();
    if text.len() > KEY_PREFIX_BYTES_MAX || text.contains(wrong) {
        return Err(format!("at most {KEY_PREFIX_BYTES_MAX} bytes of text without braces and blanks"));
    }
    Ok(text.to_owned())
}

/// Reads keys one by one and collects what is wrong with them.
pub(super) struct Reader<'r> {
    merged: &'r Layer,
    defaults: &'r Layer,
    notes: &'r mut Vec<Note>,
    errors: &'r mut Vec<SettingsError>,
}

impl Reader<'_> {
    pub(super) fn parsed<T>(&mut self, path: &str, parse: impl Fn(&str) -> Parsed<T>) -> T {
        let (value, place) = text_at(self.merged, path);
        parse(value).unwrap_or_else(|right| {
            let secret = schema::find(path).is_none_or(|key| key.kind == Kind::Secret);
            let value = if secret { None } else { Some(value.to_owned()) };
            self.errors.push(SettingsError::Invalid { place: place.to_owned(), value, right });
            let (default, _) = text_at(self.defaults, path);
            parse(default).expect("a test reads every default")
        })
    }

    pub(super) fn whole<N>(&mut self, path: &str, range: RangeInclusive<N>) -> N
    where
        N: TryFrom<u64> + PartialOrd + Display,
    {
        self.parsed(path, |text| text::whole(text, &range))
    }

    pub(super) fn duration(&mut self, path: &str, range: RangeInclusive<Duration>) -> Duration {
        self.parsed(path, |text| text::duration(text, &range))
    }

    /// A duration of which 0 means that the thing is off.
    pub(super) fn duration_or_never(&mut self, path: &str, max: Duration) -> Option<Duration> {
        Some(self.duration(path, Duration::ZERO..=max)).filter(|duration| !duration.is_zero())
    }

    pub(super) fn size(&mut self, path: &str, range: RangeInclusive<usize>) -> usize {
        self.parsed(path, |text| text::size(text, &range))
    }

    pub(super) fn switch(&mut self, path: &str) -> bool {
        self.parsed(path, text::switch)
    }

    pub(super) fn choice<T: Copy>(&mut self, path: &str, words: &[(&str, T)]) -> T {
        self.parsed(path, |text| text::choice(text, words))
    }

    /// A text of which the empty one means none.
    pub(super) fn optional(&mut self, path: &str) -> Option<String> {
        let (value, _) = text_at(self.merged, path);
        Some(value.to_owned()).filter(|text| !text.is_empty())
    }

    /// Several texts, as they are written.
    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        match self.merged.value(path) {
            Some((ValueKind::Array(values), _)) => values.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    }

    fn paths(&mut self, path: &str) -> Vec<PathBuf> {
        let Some((ValueKind::Array(values), place)) = self.merged.value(path) else {
            return Vec::new();
        };
        let paths: Vec<PathBuf> = values.iter().map(|value| PathBuf::from(value.to_string())).collect();
        if !(1..=PATHS_MAX).contains(&paths.len()) || paths.iter().any(|path| path.as_os_str().is_empty()) {
            self.errors.push(SettingsError::Invalid {
                place: place.to_owned(),
                value: Some(values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
                right: format!("1 to {PATHS_MAX} paths of files or directories, none of them empty"),
            });
        }
        paths
    }

    pub(super) fn place(&self, path: &str) -> String {
        self.merged.place(path).unwrap_or(path).to_owned()
    }

    /// Where the default of a key is: its place if nobody has set it.
    pub(super) fn default_place(&self, path: &str) -> Option<&str> {
        self.defaults.place(path)
    }

    /// How many mistakes there are so far.
    pub(super) fn mistakes(&self) -> usize {
        self.errors.len()
    }

    /// Takes back those of the mistakes found after so many others whose place is forgiven, and gives them.
    pub(super) fn forgive(&mut self, after: usize, is_forgiven: impl Fn(&str) -> bool) -> Vec<SettingsError> {
        let is_forgiven =
            |error: &SettingsError| matches!(error, SettingsError::Invalid { place, .. } if is_forgiven(place));
        let mut found = self.errors.split_off(after);
        let forgiven = found.extract_if(.., |error| is_forgiven(error)).collect();
        self.errors.append(&mut found);
        forgiven
    }

    /// Notes something that stops nothing.
    pub(super) fn note(&mut self, sentence: String) {
        self.notes.push(Note::new(sentence));
    }

    pub(super) fn conflict(&mut self, sentence: String) {
        self.errors.push(SettingsError::Conflict(sentence));
    }
}

/// A key's text and place. The sources give every key but lists as text, and the defaults have every key.
fn text_at<'l>(layer: &'l Layer, path: &str) -> (&'l str, &'l str) {
    match layer.value(path) {
        Some((ValueKind::String(text), place)) => (text, place),
        _ => unreachable!("{path} is not in the built-in defaults or no text: a test reads every default"),
    }
}
