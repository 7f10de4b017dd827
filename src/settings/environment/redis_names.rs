//! The reference service's names for Redis.

use config::ValueKind;

use super::Environment;
use crate::settings::error::{Note, SettingsError};
use crate::settings::redis_url::{RedisAddress, RedisUrl};
use crate::settings::sources::Layer;
use crate::settings::text::switch;

/// Sets the keys that the reference's `REDIS_` variables mean.
pub(super) fn layer(
    environment: &Environment,
    layer: &mut Layer,
    notes: &mut Vec<Note>,
    errors: &mut Vec<SettingsError>,
) {
    let of_type = |name: &str| environment.get("REDIS_TYPE").is_some_and(|text| text.eq_ignore_ascii_case(name));
    match environment.get("REDIS_URL") {
        Some(text) if of_type("sentinel") => sentinels(text, layer, errors),
        Some(text) => match with_socket_type(text, environment.get("REDIS_SOCKET_TYPE")) {
            Ok(url) => layer.set("store.redis.url", "REDIS_URL", ValueKind::String(url)),
            Err(right) => errors.push(SettingsError::Invalid {
                place: "REDIS_SOCKET_TYPE".to_owned(),
                value: environment.get("REDIS_SOCKET_TYPE").map(str::to_owned),
                right: right.to_owned(),
            }),
        },
        None => {}
    }
    match environment.get("REDIS_SENTINEL_AUTH") {
        Some(text) if of_type("sentinel") => {
            authenticate(text, "REDIS_SENTINEL_AUTH", "store.redis.sentinel", layer);
        }
        Some(_) => notes.push(Note::new("REDIS_SENTINEL_AUTH is left alone: REDIS_TYPE is not sentinel".to_owned())),
        None => {}
    }
    if let Some(text) = environment.get("REDIS_AUTH") {
        authenticate(text, "REDIS_AUTH", "store.redis", layer);
    }
    identity(environment, layer, notes);
}

/// `password` or `user:password`.
fn authenticate(text: &str, variable: &str, group: &str, layer: &mut Layer) {
    let (username, password) = text.split_once(':').unwrap_or(("", text));
    layer.set(&format!("{group}.username"), variable, ValueKind::String(username.to_owned()));
    layer.set(&format!("{group}.password"), variable, ValueKind::String(password.to_owned()));
}

/// `master,host:port[,host:port…]`.
fn sentinels(text: &str, layer: &mut Layer, errors: &mut Vec<SettingsError>) {
    match text.split_once(',') {
        Some((master, addresses)) if !master.trim().is_empty() => {
            let addresses = addresses.split(',').map(|address| address.trim().into()).collect();
            layer.set("store.redis.sentinel.master", "REDIS_URL", ValueKind::String(master.trim().to_owned()));
            layer.set("store.redis.sentinel.addresses", "REDIS_URL", ValueKind::Array(addresses));
        }
        _ => errors.push(SettingsError::Invalid {
            place: "REDIS_URL".to_owned(),
            value: None,
            right:
                "the master's name and the sentinels' addresses, as in master,host:port,host:port, since REDIS_TYPE \
                    is sentinel"
                    .to_owned(),
        }),
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
fn with_socket_type(url: &str, socket_type: Option<&str>) -> Result<String, &'static str> {
    let is_path = url.starts_with('/') || url.starts_with("unix://");
    // A name alone may be a host's or a file's: the type decides.
    let is_network = url.contains(':')
        && matches!(RedisUrl::parse(url).as_ref().map(RedisUrl::address), Ok(RedisAddress::Tcp { .. }));
    match socket_type {
        Some("unix") if is_network => Err("tcp, since REDIS_URL names a host and a port"),
        Some("unix") if !is_path && !url.contains("://") => Ok(format!("unix://{url}")),
        Some("tcp") if is_path => Err("unix, since REDIS_URL names a path"),
        None | Some("unix" | "tcp") => Ok(url.to_owned()),
        Some(_) => Err("unix or tcp"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, value};

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
}
