//! The settings of a Redis: where it is, or who knows, who we are there, and how it is spoken to.

use std::path::PathBuf;
use std::time::Duration;

use super::RedisSettings;
use super::meaning::Reader;
use super::redis_url::{RedisAddress, RedisCredentials, RedisSentinels, RedisUrl, Secret};
use crate::counters::redis::{Identity, NameCheck, Tls};

const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The port that a sentinel has where none is named.
const SENTINEL_PORT: u16 = 26_379;

/// Most sentinels: all are asked at once.
const SENTINELS_MAX: usize = 100;

/// How Redis is deployed.
#[derive(Clone, Copy)]
enum Type {
    Single,
    Sentinel,
}

/// The Redis store's settings, if there is an address. All are checked in any case.
pub(super) fn redis(read: &mut Reader<'_>) -> Option<RedisSettings> {
    let url = url(read);
    let username = read.optional("store.redis.username");
    let password = read.optional("store.redis.password").map(Secret::new);
    let password_file = read.optional("store.redis.password_file").map(PathBuf::from);
    let connect_timeout = read.duration("store.redis.connect_timeout", TIMEOUT_MIN..=TIMEOUT_MAX);
    let response_timeout = read.duration("store.redis.response_timeout", TIMEOUT_MIN..=TIMEOUT_MAX);
    let batch_max = read.whole("store.redis.batch_max", 1..=128);
    let calls_in_flight = read.whole("store.redis.calls_in_flight", 1..=64);
    let (is_enabled, tls) = tls(read);

    let url = url?;
    // A password of its own replaces the URL's user and password; a user alone, only the URL's user.
    let credentials = match (username, password) {
        (username, Some(password)) => RedisCredentials { username, password: Some(password) },
        (Some(username), None) => {
            RedisCredentials { username: Some(username), password: url.credentials().password.clone() }
        }
        (None, None) => url.credentials().clone(),
    };
    if password_file.is_some() && credentials.password.is_some() {
        let place = read.place("store.redis.password_file");
        read.conflict(format!("{place} names a file, but there is a password besides it; keep one of the two"));
    }
    let is_tls = is_enabled || url.is_tls();
    if is_tls && matches!(url.address(), RedisAddress::Unix { .. }) {
        let place = read.place("store.redis.tls.enabled");
        read.conflict(format!("{place} is true, but the address of Redis is a path; TLS needs a host and a port"));
    }
    let tls = is_tls.then_some(tls);
    let url = url.with_credentials(credentials);
    Some(RedisSettings { url, tls, password_file, connect_timeout, response_timeout, batch_max, calls_in_flight })
}

/// Where Redis is, if that is said.
fn url(read: &mut Reader<'_>) -> Option<RedisUrl> {
    let deployment = read.choice("store.redis.type", &[("single", Type::Single), ("sentinel", Type::Sentinel)]);
    let url =
        read.parsed("store.redis.url", |text| if text.is_empty() { Ok(None) } else { RedisUrl::parse(text).map(Some) });
    let sentinels = sentinels(read);
    match (deployment, url, sentinels) {
        (Type::Single, url, None) => url,
        (Type::Single, url, Some(place)) => {
            read.conflict(format!("{place} is set, but store.redis.type is single; set it to sentinel"));
            url
        }
        (Type::Sentinel, Some(_), _) => {
            let place = read.place("store.redis.url");
            read.conflict(format!(
                "{place} is set, but store.redis.type is sentinel; leave it empty: the sentinels say where Redis is"
            ));
            None
        }
        (Type::Sentinel, None, _) => behind_sentinels(read),
    }
}

/// The place of the first setting of sentinels that is set.
fn sentinels(read: &mut Reader<'_>) -> Option<String> {
    const TEXTS: [&str; 4] = [
        "store.redis.sentinel.master",
        "store.redis.sentinel.username",
        "store.redis.sentinel.password",
        "store.redis.sentinel.password_file",
    ];
    let addresses = !read.texts("store.redis.sentinel.addresses").is_empty();
    let first = addresses.then_some("store.redis.sentinel.addresses");
    let first = TEXTS.into_iter().find(|path| read.optional(path).is_some()).or(first);
    first.map(|path| read.place(path))
}

fn behind_sentinels(read: &mut Reader<'_>) -> Option<RedisUrl> {
    let (master, addresses) = (read.optional("store.redis.sentinel.master"), addresses(read));
    let username = read.optional("store.redis.sentinel.username");
    let password = read.optional("store.redis.sentinel.password").map(Secret::new);
    let password_file = read.optional("store.redis.sentinel.password_file").map(PathBuf::from);
    if password.is_some() && password_file.is_some() {
        let place = read.place("store.redis.sentinel.password_file");
        read.conflict(format!("{place} names a file, but there is a password besides it; keep one of the two"));
    }
    let (Some(master), Some(addresses)) = (master, addresses) else {
        let place = read.place("store.redis.type");
        read.conflict(format!(
            "{place} is sentinel, which takes store.redis.sentinel.master and store.redis.sentinel.addresses; set both"
        ));
        return None;
    };
    let credentials = RedisCredentials { username, password };
    let sentinels = RedisSentinels { master, addresses, credentials, password_file };
    Some(RedisUrl::at(RedisAddress::Sentinel(Box::new(sentinels))))
}

/// The sentinels' addresses; `None` if there are none.
fn addresses(read: &mut Reader<'_>) -> Option<Vec<(String, u16)>> {
    let texts = read.texts("store.redis.sentinel.addresses");
    let parsed: Result<Vec<_>, _> = texts.iter().map(|text| RedisUrl::parse_host(text, SENTINEL_PORT)).collect();
    match parsed {
        Ok(addresses) if addresses.len() <= SENTINELS_MAX => Some(addresses).filter(|addresses| !addresses.is_empty()),
        _ => {
            // What is wrong isn't repeated: it may be an address with a password.
            let place = read.place("store.redis.sentinel.addresses");
            read.conflict(format!("{place} must be 1 to {SENTINELS_MAX} times host:port, without user and password"));
            None
        }
    }
}

/// Whether TLS is asked for, and how it would be spoken.
fn tls(read: &mut Reader<'_>) -> (bool, Tls) {
    let is_enabled = read.switch("store.redis.tls.enabled");
    let ca_file = read.optional("store.redis.tls.ca_file").map(PathBuf::from);
    let certificate_file = read.optional("store.redis.tls.certificate_file").map(PathBuf::from);
    let key_file = read.optional("store.redis.tls.key_file").map(PathBuf::from);
    let server_name = read.optional("store.redis.tls.server_name");
    let name_check =
        if read.switch("store.redis.tls.verify_hostname") { NameCheck::Checked } else { NameCheck::Skipped };
    let identity = match (certificate_file, key_file) {
        (Some(certificate_file), Some(key_file)) => Some(Identity { certificate_file, key_file }),
        (None, None) => None,
        (Some(_), None) => {
            let place = read.place("store.redis.tls.certificate_file");
            read.conflict(format!("{place} names a certificate, but store.redis.tls.key_file is empty; set both"));
            None
        }
        (None, Some(_)) => {
            let place = read.place("store.redis.tls.key_file");
            read.conflict(format!("{place} names a key, but store.redis.tls.certificate_file is empty; set both"));
            None
        }
    };
    (is_enabled, Tls { ca_file, identity, server_name, name_check })
}
