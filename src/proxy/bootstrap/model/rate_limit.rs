//! `rate_limits[]`: what a request is described by towards a rate limit service.

use std::net::IpAddr;

use http::HeaderName;

use super::FractionalPercent;
use crate::proxy::access_log::Format;
use crate::proxy::matching::{HeaderMatcher, QueryParameterMatcher};
use crate::proxy::request::HeaderKey;

/// One element: it makes one descriptor.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// `stage`, 0 to 10; default 0. Only the filter of the same stage sends it. `None` in filter and per-route
    /// configuration, where there is no such field: every stage.
    pub stage: Option<u32>,
    /// `disable_key`: the share of requests for which it is on, from the runtime key
    /// `ratelimit.KEY.http_filter_enabled`; default all.
    pub enabled: FractionalPercent,
    /// Whether `disable_key` is there: local rate limits pass over such an element.
    pub has_disable_key: bool,
    /// `actions`, in the order of the descriptor's entries; at least one.
    pub actions: Vec<Action>,
    /// `limit`: a limit that goes along with the descriptor.
    pub limit: Option<LimitOverride>,
    /// `hits_addend`. Only in filter or per-route configuration; the reader leaves it out of a route's own
    /// `rate_limits`, where Envoy ignores it, and warns.
    pub hits_addend: Option<HitsAddend>,
    /// `apply_on_stream_done`: sent when the stream ends, and not before; default no.
    pub apply_on_stream_done: bool,
    /// `x_ratelimit_option`
    pub x_ratelimit_option: XRateLimitOption,
}

/// `actions[]`: it makes one entry, none, or drops the descriptor.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `source_cluster`: `node.cluster`.
    SourceCluster,
    /// `destination_cluster`: the routed cluster.
    DestinationCluster,
    /// `request_headers`: the first value of a header.
    RequestHeaders {
        /// `header_name`
        header: HeaderKey,
        /// `descriptor_key`
        key: String,
        /// Whether the entry alone is left out when the header is absent; default no: the descriptor is dropped.
        skip_if_absent: bool,
    },
    /// `query_parameters`: the first value of a query parameter, decoded.
    QueryParameters {
        /// `query_parameter_name`
        name: String,
        /// `descriptor_key`
        key: String,
        /// As of `request_headers`.
        skip_if_absent: bool,
    },
    /// `remote_address`: the client's address.
    RemoteAddress,
    /// `masked_remote_address`: its network.
    MaskedRemoteAddress {
        /// `v4_prefix_mask_len`, 0 to 32; default 32.
        v4_prefix: u8,
        /// `v6_prefix_mask_len`, 0 to 128; default 128.
        v6_prefix: u8,
    },
    /// `generic_key`: a fixed text.
    GenericKey {
        /// `descriptor_key`; default `generic_key`.
        key: String,
        /// `descriptor_value`
        value: Template,
    },
    /// `header_value_match`: a fixed text if headers match.
    HeaderValueMatch {
        /// `descriptor_key`; default `header_match`.
        key: String,
        /// `descriptor_value`
        value: Template,
        /// `expect_match`: whether all must match, or not all of them; default yes.
        expect_match: bool,
        /// `headers`; at least one.
        headers: Vec<HeaderMatcher>,
    },
    /// `query_parameter_value_match`: a fixed text if query parameters match.
    QueryParameterValueMatch {
        /// `descriptor_key`; default `query_match`.
        key: String,
        /// `descriptor_value`
        value: Template,
        /// As of `header_value_match`.
        expect_match: bool,
        /// `query_parameters`; at least one.
        query_parameters: Vec<QueryParameterMatcher>,
    },
    /// `metadata`: a text in metadata.
    Metadata {
        /// `descriptor_key`
        key: String,
        /// `metadata_key`
        metadata_key: MetadataKey,
        /// `default_value`, when there is no such text; empty: none.
        default_value: String,
        /// `source`; default DYNAMIC.
        source: MetadataSource,
        /// As of `request_headers`.
        skip_if_absent: bool,
    },
    /// `remote_address_match`: a text if the client's address is in a range.
    RemoteAddressMatch {
        /// `descriptor_key`; default `remote_address_match`.
        key: String,
        /// `descriptor_value`, always with command operators.
        value: Template,
        /// The ranges of `address_matcher`; at least one.
        ranges: Vec<AddressRange>,
        /// `invert_match`: whether it must be in none of them; default no.
        invert_match: bool,
    },
}

/// The value of an entry that a configuration spells out.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// This text, per cent signs and all.
    Literal(String),
    /// Command operators, with missing parts empty.
    Formatted {
        /// The format.
        format: Format,
        /// `default_value`, when the formatted text is empty; empty itself: the descriptor is dropped.
        default_value: String,
    },
}

/// `metadata_key`: a namespace and the keys within.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataKey {
    /// `key`: the namespace.
    pub namespace: String,
    /// `path[].key`; at least one.
    pub path: Vec<String>,
}

/// Whose metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataSource {
    /// `DYNAMIC`: what filters said of the request.
    #[default]
    Dynamic,
    /// `ROUTE_ENTRY`: the route's own.
    RouteEntry,
    /// `CLUSTER_ENTRY`: the routed cluster's own.
    ClusterEntry,
}

/// A CIDR range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// `address_prefix`
    pub address: IpAddr,
    /// `prefix_len`, in bits; default 0.
    pub prefix_length: u8,
}

/// `limit`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitOverride {
    /// `dynamic_metadata`: `{requests_per_unit, unit}` found there; none if it isn't.
    DynamicMetadata(MetadataKey),
    /// `rate_limit`: this one.
    Static {
        /// `requests_per_unit`
        requests_per_unit: u32,
        /// `unit`
        unit: RateLimitUnit,
    },
}

/// `envoy.type.v3.RateLimitUnit`; the numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitUnit {
    /// Not said; the service decides.
    Unknown = 0,
    /// 1 s.
    Second = 1,
    /// 60 s.
    Minute = 2,
    /// 3600 s.
    Hour = 3,
    /// 24 h.
    Day = 4,
    /// 30 days.
    Month = 5,
    /// 365 days.
    Year = 6,
}

/// `hits_addend`
#[derive(Clone, Debug, PartialEq)]
pub struct HitsAddend {
    /// How many.
    pub hits: Hits,
    /// `is_negative_hits`: given back instead of charged; default no.
    pub is_negative: bool,
}

/// How many hits a descriptor has.
#[derive(Clone, Debug, PartialEq)]
pub enum Hits {
    /// `number`, 0 to 1,000,000,000.
    Number(u64),
    /// `format`: exactly one command operator, whose value is the number; anything else drops the descriptor.
    Format(Format),
}

/// `x_ratelimit_option`: whether the status of this descriptor speaks in `x-ratelimit-*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XRateLimitOption {
    /// As the filter says.
    #[default]
    Unspecified,
    /// `OFF`: never.
    Off,
    /// `DRAFT_VERSION_03`: always.
    DraftVersion03,
}

/// `grpc_service.initial_metadata[]`: a header of each call.
#[derive(Clone, Debug, PartialEq)]
pub struct InitialMetadata {
    /// Its name.
    pub name: HeaderName,
    /// Its value, with command operators.
    pub value: Format,
}

// === impl RateLimitUnit ===

impl RateLimitUnit {
    /// The unit of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<RateLimitUnit> {
        RateLimitUnit::NAMES.iter().find(|(known, _)| *known == name).map(|(_, unit)| *unit)
    }

    /// Every unit with its name.
    pub const NAMES: [(&'static str, RateLimitUnit); 7] = [
        ("UNKNOWN", RateLimitUnit::Unknown),
        ("SECOND", RateLimitUnit::Second),
        ("MINUTE", RateLimitUnit::Minute),
        ("HOUR", RateLimitUnit::Hour),
        ("DAY", RateLimitUnit::Day),
        ("MONTH", RateLimitUnit::Month),
        ("YEAR", RateLimitUnit::Year),
    ];
}
