//! A bootstrap of `config/envoy/`, with the addresses of this run in the place of those in the file.
//!
//! Nothing else is changed: limits, timeouts and filters are the file's. It is written out as JSON, which every YAML
//! reader takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use thiserror::Error;

/// Where everything is in this run.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Where the proxy's listeners bind, in the file's order.
    pub listeners: Vec<SocketAddr>,
    /// Where the proxy's admin interface binds.
    pub admin: SocketAddr,
    /// Endpoints of the clusters, by name.
    pub clusters: BTreeMap<&'static str, Vec<SocketAddr>>,
}

/// Why a file can't be used.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    /// It is no YAML.
    #[error("{file} is no YAML: {source}")]
    Yaml {
        /// The file's name.
        file: String,
        /// What the parser said.
        source: serde_yaml::Error,
    },
    /// Parts of it are not as this program needs them, all of them.
    #[error("{file} cannot be used: {}", mistakes.join("; "))]
    Parts {
        /// The file's name.
        file: String,
        /// One sentence each.
        mistakes: Vec<String>,
    },
}

/// A file's text as a value.
///
/// # Errors
/// When it is no YAML.
pub fn parse(file: &str, text: &str) -> Result<Value, ConfigurationError> {
    serde_yaml::from_str(text).map_err(|source| ConfigurationError::Yaml { file: file.to_owned(), source })
}

/// Puts addresses into a bootstrap.
///
/// # Errors
/// When it has listeners or clusters for which there is no address.
pub fn with_addresses(file: &str, mut bootstrap: Value, addresses: &Addresses) -> Result<Value, ConfigurationError> {
    let mut mistakes = Vec::new();
    bootstrap["admin"]["address"] = socket(addresses.admin);
    match bootstrap["static_resources"]["listeners"].as_array_mut() {
        Some(listeners) if !listeners.is_empty() && listeners.len() <= addresses.listeners.len() => {
            for (listener, address) in listeners.iter_mut().zip(&addresses.listeners) {
                listener["address"] = socket(*address);
            }
        }
        _ => mistakes.push(format!(
            "static_resources.listeners should be a list of 1 to {} listeners",
            addresses.listeners.len()
        )),
    }
    for cluster in bootstrap["static_resources"]["clusters"].as_array_mut().into_iter().flatten() {
        let name = cluster["name"].as_str().unwrap_or_default().to_owned();
        let Some(endpoints) = addresses.clusters.get(name.as_str()) else {
            let known: Vec<&str> = addresses.clusters.keys().copied().collect();
            mistakes
                .push(format!("static_resources.clusters: the cluster {name:?} should be one of {}", known.join(", ")));
            continue;
        };
        let endpoint = |address: &SocketAddr| json!({ "endpoint": { "address": socket(*address) } });
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        cluster["type"] = json!("STATIC");
        cluster["load_assignment"] = json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] });
    }
    if mistakes.is_empty() { Ok(bootstrap) } else { Err(ConfigurationError::Parts { file: file.to_owned(), mistakes }) }
}

/// The rate of the first token bucket in a bootstrap, in requests a second: what a local limit lets through.
#[must_use]
pub fn token_rate(value: &Value) -> Option<f64> {
    match value {
        Value::Object(fields) => match fields.get("token_bucket") {
            Some(bucket) => {
                let tokens = bucket.get("tokens_per_fill").map_or(Some(1.0), Value::as_f64)?;
                let seconds: f64 = bucket["fill_interval"].as_str()?.strip_suffix('s')?.parse().ok()?;
                (seconds > 0.0).then_some(tokens / seconds)
            }
            None => fields.values().find_map(token_rate),
        },
        Value::Array(elements) => elements.iter().find_map(token_rate),
        _ => None,
    }
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        Addresses {
            listeners: vec![at(1)],
            admin: at(2),
            clusters: [("inventory_service", vec![at(3)]), ("tidegate", vec![at(4), at(5)])].into(),
        }
    }

    #[test]
    fn only_addresses_are_changed() {
        let text = "static_resources:\n  listeners:\n  - name: a\n    address: x\n    other: kept\n  clusters:\n  \
                    - name: tidegate\n    type: STRICT_DNS\n    connect_timeout: 1s\n";
        let file = parse("a.yaml", text).unwrap();
        let changed = with_addresses("a.yaml", file, &addresses()).unwrap();
        let resources = &changed["static_resources"];
        assert_eq!(resources["listeners"][0]["other"], "kept");
        assert_eq!(resources["listeners"][0]["address"]["socket_address"]["port_value"], 1);
        assert_eq!(resources["clusters"][0]["connect_timeout"], "1s");
        let endpoints = &resources["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"];
        let ports: Vec<_> = endpoints
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["endpoint"]["address"]["socket_address"]["port_value"].clone())
            .collect();
        assert_eq!(ports, [4, 5]);
    }

    #[test]
    fn every_part_without_an_address_is_named() {
        let file = parse("a.yaml", "static_resources: { clusters: [{ name: a }, { name: b }] }").unwrap();
        let error = with_addresses("a.yaml", file, &addresses()).unwrap_err().to_string();
        for part in ["a.yaml", "listeners", "\"a\"", "\"b\"", "inventory_service, tidegate"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(parse("b.yaml", "a: [").unwrap_err().to_string().starts_with("b.yaml is no YAML"));
    }

    #[test]
    fn a_token_bucket_is_found_however_deep_it_is() {
        let bucket = json!({ "a": [{ "token_bucket": { "tokens_per_fill": 9, "fill_interval": "0.05s" } }] });
        assert_eq!(token_rate(&bucket), Some(180.0));
        assert_eq!(token_rate(&json!({ "token_bucket": { "fill_interval": "0.5s" } })), Some(2.0));
        assert_eq!(token_rate(&json!({ "a": 1 })), None);
    }
}
