//! From the settings of a Redis to the one that connections are made to.

use crate::counters::redis::{Address, Sentinels, Server};
use crate::settings::{RedisAddress, RedisCredentials, RedisSettings};

/// The server that these settings mean.
pub(super) fn server(redis: &RedisSettings) -> Server {
    let credentials = redis.url.credentials();
    Server {
        address: match redis.url.address() {
            RedisAddress::Tcp { host, port } => Address::Tcp(host.clone(), *port),
            RedisAddress::Unix { path } => Address::Unix(path.clone()),
            RedisAddress::Sentinel(sentinels) => Address::Sentinel(Box::new(Sentinels {
                master: sentinels.master.clone(),
                addresses: sentinels.addresses.clone(),
                username: sentinels.credentials.username.clone(),
                password: exposed(&sentinels.credentials),
                password_file: sentinels.password_file.clone(),
            })),
        },
        tls: redis.tls.clone(),
        database: redis.url.database(),
        username: credentials.username.clone(),
        password: exposed(credentials),
        password_file: redis.password_file.clone(),
    }
}

fn exposed(credentials: &RedisCredentials) -> Option<String> {
    credentials.password.as_ref().map(|password| password.expose().to_owned())
}
