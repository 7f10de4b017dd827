//! The reference service's names for Redis.

use config::ValueKind;

use super::Environment;
use crate::settings::error::{Note, SettingsError};
use crate::settings::redis_url::{RedisAddress, RedisUrl};
use crate::settings::sources::Layer;
use crate::settings::text::switch;

/// The names and the keys of one server.
struct Server {
    /// What its variables begin with.
    prefix: &'static str,
    /// Its group of keys.
    group: &'static str,
    /// The key that switches TLS on.
    tls: &'static str,
}

const MAIN: Server = Server { prefix: "REDIS_", group: "store.redis", tls: "store.redis.tls.enabled" };
const PER_SECOND: Server =
    Server { prefix: "REDIS_PERSECOND_", group: "store.redis.per_second", tls: "store.redis.per_second.tls_enabled" };

/// The switch of the second server.
const HAS_PER_SECOND: &str = "REDIS_PERSECOND";

/// Where the reference looks for the second server when nothing is said.
const PER_SECOND_URL: &str = "/var/run/nutcracker/ratelimitpersecond.sock";

/// What the reference's other names for Redis ask for, by the end of the name, and why that is left alone.
const LEFT_ALONE: &[(&str, &str)] = &[
    ("POOL_SIZE", "each worker has one connection, with up to store.redis.calls_in_flight calls under way"),
    ("POOL_ON_EMPTY_BEHAVIOR", "there is no pool; a decision waits for its answer until store.deadline"),
    ("POOL_ON_EMPTY_WAIT_DURATION", "there is no pool; a decision waits for its answer until store.deadline"),
    ("PIPELINE_WINDOW", "decisions that come while calls are under way leave together, without a timer"),
    ("PIPELINE_LIMIT", "decisions that leave together are bounded by store.redis.batch_max"),
    ("CLUSTER_PIPELINE_PARALLELISM", "all nodes of a cluster that a decision touches are asked at once"),
    ("STARTUP_INITIAL_INTERVAL", "the service starts without Redis, and tries again after 50ms to 2s"),
    ("STARTUP_MAX_INTERVAL", "the service starts without Redis, and tries again after 50ms to 2s"),
    ("STARTUP_MAX_ELAPSED_TIME", "the service starts without Redis and never gives up"),
];

/// Sets the keys that the reference's `REDIS_` variables mean.
pub(super) fn layer(
    environment: &Environment,
    layer: &mut Layer,
    notes: &mut Vec<Note>,
    errors: &mut Vec<SettingsError>,
) {
    Names { server: &MAIN, environment, layer }.read(notes, errors);
    match environment.get(HAS_PER_SECOND).map(|text| (text, switch(text))) {
        Some((_, Ok(true))) => Names { server: &PER_SECOND, environment, layer }.read(notes, errors),
        Some((text, Err(right))) => errors.push(SettingsError::Invalid {
            place: HAS_PER_SECOND.to_owned(),
            value: Some(text.to_owned()),
            right,
        }),
        Some((_, Ok(false))) | None => {}
    }
    identity(environment, layer, notes);
}

/// What the switch of the second server means where nobody has written where that is, in the environment or in a file.
pub(super) fn implied(environment: &Environment, written: &Layer) -> Layer {
    let mut layer = Layer::default();
    let key = |name: &str| format!("{}.{name}", PER_SECOND.group);
    let is_on = environment.get(HAS_PER_SECOND).is_some_and(|text| switch(text) == Ok(true));
    // Nodes and sentinels have addresses of their own, and the lack of these is a mistake that is told.
    let is_single = text(written, &key("type")).is_none_or(|deployment| deployment.eq_ignore_ascii_case("single"));
    if is_on && is_single && text(written, &key("url")).is_none() {
        layer.set(&key("url"), HAS_PER_SECOND, ValueKind::String(PER_SECOND_URL.to_owned()));
    }
    layer
}

/// What is written under a key; an empty text counts as none.
fn text<'l>(layer: &'l Layer, path: &str) -> Option<&'l str> {
    match layer.value(path) {
        Some((ValueKind::String(text), _)) => Some(text.as_str()).filter(|text| !text.is_empty()),
        _ => None,
    }
}

/// Reads the variables of one server.
struct Names<'e> {
    server: &'static Server,
    environment: &'e Environment,
    layer: &'e mut Layer,
}

// === impl Names ===

impl<'e> Names<'e> {
    fn read(&mut self, notes: &mut Vec<Note>, errors: &mut Vec<SettingsError>) {
        let is_type = |wanted: &str| self.get("TYPE").is_some_and(|text| text.eq_ignore_ascii_case(wanted));
        let (of_sentinels, of_cluster) = (is_type("sentinel"), is_type("cluster"));
        if let Some(text) = self.get("TYPE") {
            self.set("type", "TYPE", text.to_lowercase());
        }
        if let Some(text) = self.get("TLS") {
            let name = self.name("TLS");
            self.layer.set(self.server.tls, &name, ValueKind::String(text.to_owned()));
        }
        match self.get("URL") {
            Some(text) if of_sentinels => self.sentinels(text, errors),
            Some(text) if of_cluster => self.set_texts("cluster.addresses", text),
            Some(text) => match with_socket_type(text, self.get("SOCKET_TYPE"), &self.name("URL")) {
                Ok(url) => self.set("url", "URL", url),
                Err(right) => errors.push(SettingsError::Invalid {
                    place: self.name("SOCKET_TYPE"),
                    value: self.get("SOCKET_TYPE").map(str::to_owned),
                    right,
                }),
            },
            None => {}
        }
        if let Some(text) = self.get("AUTH") {
            self.authenticate(text, "AUTH", "");
        }
        match self.get("SENTINEL_AUTH") {
            Some(text) if of_sentinels => self.authenticate(text, "SENTINEL_AUTH", "sentinel."),
            Some(_) => {
                let (name, deployment) = (self.name("SENTINEL_AUTH"), self.name("TYPE"));
                notes.push(Note::new(format!("{name} is left alone: {deployment} is not sentinel")));
            }
            None => {}
        }
        for (end, why) in LEFT_ALONE.iter().filter(|(end, _)| self.get(end).is_some()) {
            notes.push(Note::new(format!("{} is left alone: {why}", self.name(end))));
        }
    }

    fn name(&self, end: &str) -> String {
        format!("{}{end}", self.server.prefix)
    }

    fn get(&self, end: &str) -> Option<&'e str> {
        self.environment.get(&self.name(end))
    }

    fn set(&mut self, key: &str, end: &str, value: String) {
        self.layer.set(&format!("{}.{key}", self.server.group), &self.name(end), ValueKind::String(value));
    }

    /// Sets what stands between commas.
    fn set_texts(&mut self, key: &str, text: &str) {
        let texts = text.split(',').map(|part| part.trim().into()).collect();
        self.layer.set(&format!("{}.{key}", self.server.group), &self.name("URL"), ValueKind::Array(texts));
    }

    /// `password` or `user:password`.
    fn authenticate(&mut self, text: &str, end: &str, group: &str) {
        let (username, password) = text.split_once(':').unwrap_or(("", text));
        self.set(&format!("{group}username"), end, username.to_owned());
        self.set(&format!("{group}password"), end, password.to_owned());
    }

    /// `master,host:port[,host:port…]`.
    fn sentinels(&mut self, text: &str, errors: &mut Vec<SettingsError>) {
        match text.split_once(',') {
            Some((master, addresses)) if !master.trim().is_empty() => {
                self.set_texts("sentinel.addresses", addresses);
                self.set("sentinel.master", "URL", master.trim().to_owned());
            }
            _ => errors.push(SettingsError::Invalid {
                place: self.name("URL"),
                value: None,
                right: format!(
                    "the master's name and the sentinels' addresses, as in master,host:port,host:port, since {} is \
                     sentinel",
                    self.name("TYPE")
                ),
            }),
        }
    }
}

/// The client certificate. The reference leaves one alone that lacks its key, or a key without its certificate.
fn identity(environment: &Environment, layer: &mut Layer, notes: &mut Vec<Note>) {
    const NAMES: [[&str; 3]; 2] = [
        ["REDIS_TLS_CLIENT_CERT", "TIDEGATE_STORE_REDIS_TLS_CERTIFICATE_FILE", "store.redis.tls.certificate_file"],
        ["REDIS_TLS_CLIENT_KEY", "TIDEGATE_STORE_REDIS_TLS_KEY_FILE", "store.redis.tls.key_file"],
    ];
    let is_set = |names: &[&str; 3]| environment.get(names[0]).or(environment.get(names[1])).is_some();
    let is_pair = NAMES.iter().all(is_set);
    for [theirs, _, path] in NAMES {
        match environment.get(theirs) {
            Some(file) if is_pair => layer.set(path, theirs, ValueKind::String(file.to_owned())),
            Some(_) => {
                let [[certificate, ..], [key, ..]] = NAMES;
                notes.push(Note::new(format!(
                    "{theirs} is set alone, and a client certificate takes both {certificate} and {key}: left alone"
                )));
            }
            None => {}
        }
    }
}

/// The reference's switch that leaves names unverified, as ours that verifies them.
pub(super) fn inverted(text: &str) -> String {
    switch(text).map_or_else(|_| text.to_owned(), |is_on| (!is_on).to_string())
}

/// The reference's address in a form of ours. There a missing type means `unix`; here the address says it itself, and
/// the type must only not contradict.
fn with_socket_type(url: &str, socket_type: Option<&str>, variable: &str) -> Result<String, String> {
    let is_path = url.starts_with('/') || url.starts_with("unix://");
    // A name alone may be a host's or a file's: the type decides.
    let is_network = url.contains(':')
        && matches!(RedisUrl::parse(url).as_ref().map(RedisUrl::address), Ok(RedisAddress::Tcp { .. }));
    match socket_type {
        Some("unix") if is_network => Err(format!("tcp, since {variable} names a host and a port")),
        Some("unix") if !is_path && !url.contains("://") => Ok(format!("unix://{url}")),
        Some("tcp") if is_path => Err(format!("unix, since {variable} names a path")),
        None | Some("unix" | "tcp") => Ok(url.to_owned()),
        Some(_) => Err("unix or tcp".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, value};
    use super::LEFT_ALONE;
    use crate::settings::redis_url::RedisAddress;
    use crate::settings::{Settings, StoreKind};

    #[test]
    fn the_socket_type_makes_a_path_and_contradicts_nothing() {
        let url = |url, kind| value(&[("REDIS_URL", url), ("REDIS_SOCKET_TYPE", kind)], "store.redis.url");
        assert_eq!(url("redis:6379", "tcp").as_deref(), Some("redis:6379"));
        assert_eq!(url("/run/r.sock", "").as_deref(), Some("/run/r.sock"));
        assert_eq!(url("/run/r.sock", "unix").as_deref(), Some("/run/r.sock"));
        assert_eq!(url("r.sock", "unix").as_deref(), Some("unix://r.sock"));
        assert_eq!(url("redis", "unix").as_deref(), Some("unix://redis"));
        assert_eq!(url("redis", "tcp").as_deref(), Some("redis"));
        for (url, kind) in [("u:hunter2@redis:6379", "udp"), ("redis:6379", "unix"), ("/run/r.sock", "tcp")] {
            let (_, _, errors) = read(&[("REDIS_URL", url), ("REDIS_SOCKET_TYPE", kind)], "store.redis.url");
            assert_eq!(errors.len(), 1);
            assert!(errors[0].starts_with("REDIS_SOCKET_TYPE is ") && !errors[0].contains("hunter2"), "{errors:?}");
        }
    }

    #[test]
    fn tls_is_what_the_references_variables_say() {
        let set = [
            ("REDIS_TLS", "t"),
            ("REDIS_TLS_CACERT", "/ca.pem"),
            ("REDIS_TLS_CLIENT_CERT", "/c.pem"),
            ("REDIS_TLS_CLIENT_KEY", "/k.pem"),
            ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "TRUE"),
        ];
        for (path, expected) in [
            ("store.redis.tls.enabled", "t"),
            ("store.redis.tls.ca_file", "/ca.pem"),
            ("store.redis.tls.certificate_file", "/c.pem"),
            ("store.redis.tls.key_file", "/k.pem"),
            ("store.redis.tls.verify_hostname", "false"),
        ] {
            assert_eq!(value(&set, path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_left_alone_and_said() {
        let (file, notes, errors) = read(&[("REDIS_TLS_CLIENT_CERT", "/c.pem")], "store.redis.tls.certificate_file");
        assert_eq!((file, errors), (None, vec![]));
        assert_eq!(
            notes,
            ["REDIS_TLS_CLIENT_CERT is set alone, and a client certificate takes both REDIS_TLS_CLIENT_CERT and \
              REDIS_TLS_CLIENT_KEY: left alone"]
        );
    }

    #[test]
    fn sentinels_come_with_the_url_and_their_own_password() {
        let set = [
            ("REDIS_TYPE", "Sentinel"),
            ("REDIS_URL", "mymaster, a:1,b:2"),
            ("REDIS_SENTINEL_AUTH", "watcher:hunter2"),
            ("REDIS_AUTH", "other"),
        ];
        for (path, expected) in [
            ("store.redis.type", "sentinel"),
            ("store.redis.sentinel.master", "mymaster"),
            ("store.redis.sentinel.username", "watcher"),
            ("store.redis.sentinel.password", "hunter2"),
            ("store.redis.password", "other"),
        ] {
            assert_eq!(value(&set, path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(value(&set, "store.redis.url"), None);
        for url in ["hunter2", ",a:1"] {
            let (_, _, errors) = read(&[("REDIS_TYPE", "sentinel"), ("REDIS_URL", url)], "store.redis.url");
            assert_eq!(errors.len(), 1);
            assert!(errors[0].starts_with("REDIS_URL") && !errors[0].contains("hunter2"), "{errors:?}");
        }
    }

    #[test]
    fn the_nodes_of_a_cluster_come_with_the_url() {
        let load = |variables: &[(&str, &str)]| {
            let loaded = crate::settings::Settings::load(None, variables.iter().copied());
            loaded.map(|(settings, _)| settings.store.kind).map_err(|errors| errors.to_string())
        };
        let set = [("REDIS_TYPE", "CLUSTER"), ("REDIS_URL", "a:1, b"), ("REDIS_AUTH", "u:hunter2")];
        let StoreKind::Redis(redis) = load(&set).unwrap() else { panic!("no Redis") };
        let nodes = vec![("a".to_owned(), 1), ("b".to_owned(), 6_379)];
        assert_eq!(redis.main.url.address(), &RedisAddress::Cluster { nodes });
        assert_eq!(redis.main.url.credentials().username.as_deref(), Some("u"));
        assert_eq!(redis.main.url.to_string(), "cluster://***@a:1,b:6379/0");
        for (variables, told) in [
            (vec![set[0], ("REDIS_URL", "redis://u:hunter2@a")], "REDIS_URL must be 1 to 100 times host:port"),
            (vec![set[0]], "REDIS_TYPE is cluster, which takes store.redis.cluster.addresses"),
            (vec![("TIDEGATE_STORE_REDIS_CLUSTER_ADDRESSES", "a:1")], "store.redis.type is single; set it to cluster"),
        ] {
            let errors = load(&variables).unwrap_err();
            assert!(errors.contains(told) && !errors.contains("hunter2"), "{errors}");
        }
    }

    #[test]
    fn the_second_server_counts_only_if_it_is_switched_on() {
        let set = [
            ("REDIS_PERSECOND_URL", "second:1"),
            ("REDIS_PERSECOND_SOCKET_TYPE", "tcp"),
            ("REDIS_PERSECOND_AUTH", "u:p"),
            ("REDIS_PERSECOND_TLS", "true"),
            ("REDIS_PERSECOND", "true"),
        ];
        for (path, expected) in [
            ("store.redis.per_second.url", "second:1"),
            ("store.redis.per_second.username", "u"),
            ("store.redis.per_second.tls_enabled", "true"),
        ] {
            assert_eq!(value(&set, path).as_deref(), Some(expected), "{path}");
            assert_eq!(value(&set[..4], path), None, "{path}");
        }
        let path = "store.redis.per_second.url";
        let (_, _, errors) = read(&[("REDIS_PERSECOND", "x")], path);
        assert_eq!(errors, ["REDIS_PERSECOND is \"x\", but must be true or false"]);
    }

    #[test]
    fn the_references_own_path_of_the_second_server_holds_only_where_nobody_wrote_another() {
        let load = |file: &str, variables: &[(&str, &str)]| {
            let always = [("REDIS_PERSECOND", "true"), ("REDIS_URL", "main:1")];
            let variables = always.iter().chain(variables).copied();
            let (settings, notes) = Settings::load(Some(("s.yaml", file)), variables).map_err(|e| e.to_string())?;
            assert_eq!(notes.len(), 0, "{notes:?}");
            let StoreKind::Redis(redis) = settings.store.kind else { return Err("no Redis".to_owned()) };
            Ok(redis.per_second.map(|server| server.url.to_string()))
        };
        let of_reference = Ok(Some("unix:///var/run/nutcracker/ratelimitpersecond.sock/0".to_owned()));
        let in_file = "store: {redis: {per_second: {url: 'redis://file:2'}}}";
        assert_eq!(load("", &[]), of_reference);
        assert_eq!(load("store: {redis: {per_second: {url: ''}}}", &[]), of_reference);
        assert_eq!(load(in_file, &[]), Ok(Some("redis://file:2/0".to_owned())));
        for name in ["REDIS_PERSECOND_URL", "TIDEGATE_STORE_REDIS_PER_SECOND_URL"] {
            assert_eq!(
                load(in_file, &[(name, "redis://environment:3")]),
                Ok(Some("redis://environment:3/0".to_owned()))
            );
            assert_eq!(load("", &[(name, "redis://environment:3")]), Ok(Some("redis://environment:3/0".to_owned())));
        }
        let nodes = "store: {redis: {per_second: {type: cluster, cluster: {addresses: ['node:4']}}}}";
        assert_eq!(load(nodes, &[]), Ok(Some("cluster://node:4/0".to_owned())));
        let lacking = load("", &[("REDIS_PERSECOND_TYPE", "CLUSTER")]).unwrap_err();
        assert!(lacking.contains("takes store.redis.per_second.cluster.addresses"), "{lacking}");
    }

    #[test]
    fn what_has_no_meaning_here_is_left_alone_and_said() {
        let names =
            LEFT_ALONE.iter().flat_map(|(end, _)| ["REDIS_", "REDIS_PERSECOND_"].map(|start| [start, end].concat()));
        let names: Vec<String> = names.chain(["REDIS_PERSECOND".to_owned()]).collect();
        let set: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let (url, notes, errors) = read(&set, "store.redis.url");
        assert_eq!((url, errors), (None, vec![]));
        assert_eq!(notes.len(), 2 * LEFT_ALONE.len());
        assert!(notes[0].starts_with("REDIS_POOL_SIZE is left alone: "), "{notes:?}");
        let (_, notes, _) = read(&set[1..2], "store.redis.url");
        assert_eq!(notes, Vec::<String>::new(), "the second server is not switched on");
    }
}
