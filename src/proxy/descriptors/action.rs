//! What each action makes of a request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::Described;
use crate::proxy::bootstrap::model::{Action, AddressRange, Metadata, MetadataKey, MetadataSource, Template};
use crate::proxy::matching::headers_match;
use crate::proxy::query;

/// What an action says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This key and value.
    Entry(String, String),
    /// Nothing, and that is allowed: the other entries stay.
    Skip,
    /// Nothing: there is no descriptor.
    Drop,
}

// === impl Action ===

impl Action {
    pub(super) fn entry(&self, request: Described<'_>) -> Outcome {
        let head = request.record.request;
        let address = request.record.downstream_remote_address.map(|address| address.ip().to_canonical());
        match self {
            Action::SourceCluster => Outcome::of("source_cluster", Some(request.node_cluster.to_owned())),
            Action::DestinationCluster => Outcome::of("destination_cluster", Some(request.routed_cluster.to_owned())),
            Action::RequestHeaders { header, key, skip_if_absent } => {
                let value = head.as_ref().and_then(|head| head.first(header));
                Outcome::or_skip(key, value.map(text), *skip_if_absent)
            }
            Action::QueryParameters { name, key, skip_if_absent } => {
                let value = head.as_ref().and_then(|head| query::first_decoded(head.query(), name));
                Outcome::or_skip(key, value.map(|value| text(&value)), *skip_if_absent)
            }
            Action::RemoteAddress => Outcome::of("remote_address", address.map(|address| address.to_string())),
            Action::MaskedRemoteAddress { v4_prefix, v6_prefix } => {
                let network = |address: IpAddr| {
                    let length = if address.is_ipv4() { *v4_prefix } else { *v6_prefix };
                    format!("{}/{length}", masked(address, length))
                };
                Outcome::of("masked_remote_address", address.map(network))
            }
            Action::GenericKey { key, value } => Outcome::of(key, value.render(request)),
            Action::HeaderValueMatch { key, value, expect_match, headers } => {
                let matches = head.as_ref().is_some_and(|head| headers_match(headers, head));
                Outcome::if_true(matches == *expect_match, key, value, request)
            }
            Action::QueryParameterValueMatch { key, value, expect_match, query_parameters } => {
                let all = |head| query_parameters.iter().all(|matcher| matcher.matches_decoded(head));
                Outcome::if_true(head.as_ref().is_some_and(all) == *expect_match, key, value, request)
            }
            Action::Metadata { key, metadata_key, default_value, source, skip_if_absent } => {
                let metadata = match source {
                    MetadataSource::Dynamic => Some(request.record.dynamic_metadata),
                    MetadataSource::RouteEntry => request.record.route_metadata,
                    MetadataSource::ClusterEntry => request.record.cluster_metadata,
                };
                let found = metadata.and_then(|metadata| metadata_value(metadata, metadata_key));
                let texts = [found.and_then(Value::as_str), Some(default_value)];
                let value = texts.into_iter().flatten().find(|text| !text.is_empty());
                Outcome::or_skip(key, value.map(str::to_owned), *skip_if_absent)
            }
            Action::RemoteAddressMatch { key, value, ranges, invert_match } => {
                let Some(address) = address else { return Outcome::Drop };
                let is_inside = ranges.iter().any(|range| range.contains(address));
                Outcome::if_true(is_inside != *invert_match, key, value, request)
            }
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn of(key: &str, value: Option<String>) -> Outcome {
        Outcome::or_skip(key, value, false)
    }

    fn or_skip(key: &str, value: Option<String>, skip_if_absent: bool) -> Outcome {
        match value {
            Some(value) => Outcome::Entry(key.to_owned(), value),
            None if skip_if_absent => Outcome::Skip,
            None => Outcome::Drop,
        }
    }

    fn if_true(holds: bool, key: &str, value: &Template, request: Described<'_>) -> Outcome {
        Outcome::of(key, if holds { value.render(request) } else { None })
    }
}

// === impl Template ===

impl Template {
    /// The text; `None` if it is empty and so is its default.
    fn render(&self, request: Described<'_>) -> Option<String> {
        match self {
            Template::Literal(text) => Some(text.clone()),
            Template::Formatted { format, default_value } => {
                [format.render_text(request.record), default_value.clone()].into_iter().find(|text| !text.is_empty())
            }
        }
    }
}

// === impl AddressRange ===

impl AddressRange {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && masked(self.address, self.prefix_length) == masked(address, self.prefix_length)
    }
}

/// The value at a key of metadata.
pub(super) fn metadata_value<'m>(metadata: &'m Metadata, key: &MetadataKey) -> Option<&'m Value> {
    let (first, rest) = key.path.split_first()?;
    let mut value = metadata.get(&key.namespace)?.get(first)?;
    for segment in rest {
        value = value.as_object()?.get(segment)?;
    }
    Some(value)
}

/// The first address of the network of that prefix.
fn masked(address: IpAddr, prefix_length: u8) -> IpAddr {
    let prefix_length = u32::from(prefix_length);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix_length)).unwrap_or_default();
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix_length)).unwrap_or_default();
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// A protobuf text is UTF-8; bytes that are none become replacement characters.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
