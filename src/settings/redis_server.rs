//! The settings of a Redis: where it is, or who knows, who we are there, and how it is spoken to.
//!
//! There may be two: the main one, and one for limits per second. What belongs to each is read by its group of keys;
//! timeouts, calls and the files of TLS are common.

use std::path::PathBuf;
use std::time::Duration;

use super::identity::identity;
use super::meaning::Reader;
use super::redis_url::{PORT, RedisAddress, RedisCredentials, RedisSentinels, RedisUrl, Secret};
use super::{RedisServer, RedisSettings};
use crate::counters::redis::{NameCheck, Tls};

const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The port that a sentinel has where none is named.
const SENTINEL_PORT: u16 = 26_379;

/// Most sentinels, of which all are asked at once, or nodes of a cluster.
const ADDRESSES_MAX: usize = 100;

/// How Redis is deployed.
#[derive(Clone, Copy)]
enum Type {
    Single,
    Sentinel,
    Cluster,
}

/// What is set for another type than the one that is chosen.
struct Stray {
    place: String,
    belongs_to: &'static str,
}

/// The keys of one server.
#[derive(Clone, Copy)]
struct Group(&'static str);

const MAIN: Group = Group("store.redis");
const PER_SECOND: Group = Group("store.redis.per_second");

/// The Redis store's settings, if there is an address. All are checked in any case.
pub(super) fn redis(read: &mut Reader<'_>) -> Option<RedisSettings> {
    let connect_timeout = read.duration("store.redis.connect_timeout", TIMEOUT_MIN..=TIMEOUT_MAX);
    let response_timeout = read.duration("store.redis.response_timeout", TIMEOUT_MIN..=TIMEOUT_MAX);
    let batch_max = read.whole("store.redis.batch_max", 1..=128);
    let calls_in_flight = read.whole("store.redis.calls_in_flight", 1..=64);
    let health_follows_connection = read.switch("store.redis.health_follows_connection");
    let tls = tls(read);
    let main = MAIN.server(read, "store.redis.tls.enabled", &tls);
    let per_second = PER_SECOND.server(read, "store.redis.per_second.tls_enabled", &tls);
    if main.is_none() && per_second.is_some() {
        let place = read.place(&PER_SECOND.key("url"));
        read.conflict(format!("{place} is set, but store.redis.url is empty; set the address of the main Redis too"));
    }
    let main = main?;
    Some(RedisSettings {
        main,
        per_second,
        connect_timeout,
        response_timeout,
        batch_max,
        calls_in_flight,
        health_follows_connection,
    })
}

/// How TLS is spoken where it is.
fn tls(read: &mut Reader<'_>) -> Tls {
    let ca_file = read.optional("store.redis.tls.ca_file").map(PathBuf::from);
    let server_name = read.optional("store.redis.tls.server_name");
    let name_check =
        if read.switch("store.redis.tls.verify_hostname") { NameCheck::Checked } else { NameCheck::Skipped };
    let identity = identity(read, "store.redis.tls", true);
    Tls { ca_file, identity, server_name, name_check }
}

// === impl Group ===

impl Group {
    fn key(self, name: &str) -> String {
        format!("{}.{name}", self.0)
    }

    fn optional(self, read: &mut Reader<'_>, name: &str) -> Option<String> {
        read.optional(&self.key(name))
    }

    /// The server, if there is one.
    fn server(self, read: &mut Reader<'_>, tls_enabled: &str, tls: &Tls) -> Option<RedisServer> {
        let is_enabled = read.switch(tls_enabled);
        let url = self.url(read);
        let username = self.optional(read, "username");
        let password = self.optional(read, "password").map(Secret::new);
        let password_file = self.optional(read, "password_file").map(PathBuf::from);
        let Some(url) = url else {
            // Without a main server there is no Redis, and what is said of it is nothing wrong.
            let lone = ["username", "password", "password_file"].into_iter();
            let lone = lone.map(|name| self.key(name)).find(|key| read.optional(key).is_some());
            if let Some(key) = lone.filter(|_| self.0 == PER_SECOND.0) {
                let (place, url) = (read.place(&key), self.key("url"));
                read.conflict(format!("{place} is set, but {url} is empty; set the address of that Redis"));
            }
            return None;
        };
        // A password of its own replaces the URL's user and password; a user alone, only the URL's user.
        let credentials = match (username, password) {
            (username, Some(password)) => RedisCredentials { username, password: Some(password) },
            (Some(username), None) => {
                RedisCredentials { username: Some(username), password: url.credentials().password.clone() }
            }
            (None, None) => url.credentials().clone(),
        };
        if password_file.is_some() && credentials.password.is_some() {
            self.two_passwords(read, "password_file");
        }
        let is_tls = is_enabled || url.is_tls();
        if is_tls && matches!(url.address(), RedisAddress::Unix { .. }) {
            let place = read.place(tls_enabled);
            read.conflict(format!("{place} is true, but the address of Redis is a path; TLS needs a host and a port"));
        }
        Some(RedisServer { url: url.with_credentials(credentials), tls: is_tls.then(|| tls.clone()), password_file })
    }

    fn two_passwords(self, read: &mut Reader<'_>, name: &str) {
        let place = read.place(&self.key(name));
        read.conflict(format!("{place} names a file, but there is a password besides it; keep one of the two"));
    }

    /// Where it is, if that is said.
    fn url(self, read: &mut Reader<'_>) -> Option<RedisUrl> {
        let types = [("single", Type::Single), ("sentinel", Type::Sentinel), ("cluster", Type::Cluster)];
        let deployment = read.choice(&self.key("type"), &types);
        let parse = |text: &str| if text.is_empty() { Ok(None) } else { RedisUrl::parse(text).map(Some) };
        let url = read.parsed(&self.key("url"), parse);
        let (chosen, others) = match deployment {
            Type::Single => ("single", vec!["sentinel", "cluster"]),
            Type::Sentinel => ("sentinel", vec!["cluster"]),
            Type::Cluster => ("cluster", vec!["sentinel"]),
        };
        let stray = others.into_iter().find_map(|other| self.set_for(read, other));
        if let Some(Stray { place, belongs_to }) = stray {
            let key = self.key("type");
            read.conflict(format!("{place} is set, but {key} is {chosen}; set it to {belongs_to}"));
        }
        match (deployment, url) {
            (Type::Single, url) => url,
            (Type::Sentinel | Type::Cluster, Some(_)) => {
                let (place, key) = (read.place(&self.key("url")), self.key("type"));
                let who = if chosen == "cluster" { "nodes" } else { "sentinels" };
                read.conflict(format!(
                    "{place} is set, but {key} is {chosen}; leave it empty: the {who} say where Redis is"
                ));
                None
            }
            (Type::Sentinel, None) => self.behind_sentinels(read),
            (Type::Cluster, None) => self.in_cluster(read),
        }
    }

    /// The first setting that is set for another type.
    fn set_for(self, read: &mut Reader<'_>, belongs_to: &'static str) -> Option<Stray> {
        let texts: &[&str] =
            if belongs_to == "sentinel" { &["master", "username", "password", "password_file"] } else { &[] };
        let mut texts = texts.iter().map(|name| self.key(&format!("{belongs_to}.{name}")));
        let addresses = self.key(&format!("{belongs_to}.addresses"));
        let first = texts.find(|key| read.optional(key).is_some());
        let first = first.or_else(|| (!read.texts(&addresses).is_empty()).then_some(addresses));
        first.map(|key| Stray { place: read.place(&key), belongs_to })
    }

    fn in_cluster(self, read: &mut Reader<'_>) -> Option<RedisUrl> {
        let mistakes = read.mistakes();
        let Some(nodes) = self.addresses(read, "cluster.addresses", PORT) else {
            if read.mistakes() == mistakes {
                let (place, addresses) = (read.place(&self.key("type")), self.key("cluster.addresses"));
                read.conflict(format!(
                    "{place} is cluster, which takes {addresses}; set the address of a node or more"
                ));
            }
            return None;
        };
        Some(RedisUrl::at(RedisAddress::Cluster { nodes }))
    }

    fn behind_sentinels(self, read: &mut Reader<'_>) -> Option<RedisUrl> {
        let (master, addresses) =
            (self.optional(read, "sentinel.master"), self.addresses(read, "sentinel.addresses", SENTINEL_PORT));
        let username = self.optional(read, "sentinel.username");
        let password = self.optional(read, "sentinel.password").map(Secret::new);
        let password_file = self.optional(read, "sentinel.password_file").map(PathBuf::from);
        if password.is_some() && password_file.is_some() {
            self.two_passwords(read, "sentinel.password_file");
        }
        let (Some(master), Some(addresses)) = (master, addresses) else {
            let (place, master, addresses) =
                (read.place(&self.key("type")), self.key("sentinel.master"), self.key("sentinel.addresses"));
            read.conflict(format!("{place} is sentinel, which takes {master} and {addresses}; set both"));
            return None;
        };
        // A URL in its place would be shown, and with it a password.
        if master.contains(['@', ':', '/']) || master.contains(char::is_whitespace) {
            let place = read.place(&self.key("sentinel.master"));
            read.conflict(format!(
                "{place} is no name that sentinels give a master: it has no @, colon, slash or blank"
            ));
            return None;
        }
        let credentials = RedisCredentials { username, password };
        let sentinels = RedisSentinels { master, addresses, credentials, password_file };
        Some(RedisUrl::at(RedisAddress::Sentinel(Box::new(sentinels))))
    }

    /// Several addresses; `None` if there are none.
    fn addresses(self, read: &mut Reader<'_>, name: &str, default_port: u16) -> Option<Vec<(String, u16)>> {
        let texts = read.texts(&self.key(name));
        let parsed: Result<Vec<_>, _> = texts.iter().map(|text| RedisUrl::parse_host(text, default_port)).collect();
        match parsed {
            Ok(addresses) if addresses.len() <= ADDRESSES_MAX => {
                Some(addresses).filter(|addresses| !addresses.is_empty())
            }
            _ => {
                // What is wrong isn't repeated: it may be an address with a password.
                let place = read.place(&self.key(name));
                read.conflict(format!(
                    "{place} must be 1 to {ADDRESSES_MAX} times host:port, without user and password"
                ));
                None
            }
        }
    }
}
