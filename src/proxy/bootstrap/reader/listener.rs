//! Listeners.

use super::super::model::Listener;
use super::super::value::Value;
use super::{Surroundings, http, values};

/// Envoy's default of `per_connection_buffer_limit_bytes`, of listeners and clusters.
pub(super) const BUFFER_LIMIT_BYTES: u32 = 1 << 20;

/// The connection manager's type, the only one that a filter chain may hold.
const HTTP: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// One element of `listeners`.
pub(super) fn read(value: &Value<'_>, surroundings: &Surroundings<'_>) -> Option<Listener> {
    value.object(|listener| {
        let name = listener.optional_text("name");
        let address = listener.required("address").and_then(|value| values::address(&value));
        let stat_prefix = listener.optional_text("stat_prefix");
        let per_connection_buffer_limit_bytes =
            listener.count("per_connection_buffer_limit_bytes", 1..=u32::MAX, BUFFER_LIMIT_BYTES);
        let chains = listener.required_list("filter_chains", |chain| {
            chain.object(|chain| {
                chain.optional_text("name");
                let filters = chain.required_list("filters", |filter| network_filter(&filter, surroundings));
                single(filters)
            })
        });
        if let [_, _, ..] = &chains[..] {
            listener.value.mistake("has several filter_chains; tidegate-proxy knows a single one");
        }
        let (address, http) = (address?, chains.into_iter().next().flatten()?);
        let name = name.unwrap_or_else(|| address.to_string());
        Some(Listener { name, address, stat_prefix, per_connection_buffer_limit_bytes, http })
    })?
}

fn single<T>(items: Vec<T>) -> Option<T> {
    items.into_iter().next()
}

fn network_filter(value: &Value<'_>, surroundings: &Surroundings<'_>) -> Option<super::super::model::HttpConnections> {
    value.object(|filter| {
        filter.required_text("name");
        let mut config = filter.required("typed_config")?.open()?;
        let result = match config.type_name() {
            Some(HTTP) => http::read(&mut config, surroundings),
            Some(other) => {
                config.unknown_type(other, &[HTTP]);
                None
            }
            None => None,
        };
        config.finish();
        result
    })?
}
