//! What a format prints of a record.
//!
//! Bytes and not text: a header's value may be any bytes, and a log says them as they came. What is missing is `-`, or
//! nothing where the format says so; a response flag is never missing, it is `-` then.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Map, Number, Value};

use super::format::{Format, HeaderChoice, LineFormat, MetadataPath, Operator, Piece};
use super::{Field, Record};
use crate::proxy::bootstrap::model::Metadata;
use crate::proxy::request::HeaderKey;

/// A value that is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rendered {
    /// A text.
    Text(Vec<u8>),
    /// A value that has a type in JSON.
    Json(Value),
}

// === impl LineFormat ===

impl LineFormat {
    /// The line of a record.
    #[must_use]
    pub fn render_line(&self, record: &Record<'_>) -> Vec<u8> {
        match self {
            LineFormat::Text(format) => format.render(record),
            LineFormat::Json(format) => format.render_line(record),
        }
    }
}

// === impl Format ===

impl Format {
    /// What it prints of a record.
    #[must_use]
    pub fn render(&self, record: &Record<'_>) -> Vec<u8> {
        let mut line = Vec::with_capacity(256);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => line.extend_from_slice(text.as_bytes()),
                Piece::Operator(operator, length) => match operator.render(record, *length) {
                    Some(value) => line.extend_from_slice(&value.into_bytes()),
                    None if self.omit_empty_values => {}
                    None => line.push(b'-'),
                },
            }
        }
        line
    }

    /// The same as text; bytes that are none become replacement characters.
    #[must_use]
    pub fn render_text(&self, record: &Record<'_>) -> String {
        String::from_utf8_lossy(&self.render(record)).into_owned()
    }

    /// The value of a format that is a single operator, with its type; `None` if it is missing or the format is
    /// anything else.
    #[must_use]
    pub fn render_value(&self, record: &Record<'_>) -> Option<Value> {
        let [Piece::Operator(operator, length)] = &self.pieces[..] else { return None };
        Some(match operator.render(record, *length)? {
            Rendered::Text(text) => Value::String(String::from_utf8_lossy(&text).into_owned()),
            Rendered::Json(value) => value,
        })
    }
}

// === impl Rendered ===

impl Rendered {
    fn text(text: &str) -> Rendered {
        Rendered::Text(text.as_bytes().to_vec())
    }

    fn number(number: u64) -> Rendered {
        Rendered::Json(Value::from(number))
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Rendered::Text(text) => text,
            Rendered::Json(Value::String(text)) => text.into_bytes(),
            Rendered::Json(value) => value.to_string().into_bytes(),
        }
    }

    /// At most `length` bytes of a text.
    fn cut(self, length: Option<usize>) -> Rendered {
        match (self, length) {
            (value, None) => value,
            (value, Some(length)) => {
                let mut bytes = value.into_bytes();
                bytes.truncate(length);
                Rendered::Text(bytes)
            }
        }
    }
}

// === impl Operator ===

impl Operator {
    /// The value, at most so many bytes of it; `None` if it is missing.
    pub(super) fn render(&self, record: &Record<'_>, length: Option<usize>) -> Option<Rendered> {
        let value = match self {
            Operator::Field(field) => field.render(record)?,
            Operator::StartTime(format) => {
                let mut text = String::new();
                format.write(record.start_time, &mut text);
                Rendered::Text(text.into_bytes())
            }
            Operator::RequestHeader(choice) => {
                let request = record.request.as_ref()?;
                choice.find(|key| request.first(key).map(<[u8]>::to_vec))?
            }
            Operator::ResponseHeader(choice) => {
                let headers = record.response_headers?;
                choice.find(|key| response_header(headers, key))?
            }
            Operator::ResponseTrailer(choice) => {
                let trailers = record.response_trailers?;
                choice.find(|key| response_header(trailers, key))?
            }
            Operator::DynamicMetadata(path) => path.find(record.dynamic_metadata)?,
            Operator::RouteMetadata(path) => path.find(record.route_metadata?)?,
            Operator::ClusterMetadata(path) => path.find(record.cluster_metadata?)?,
        };
        Some(value.cut(length))
    }
}

fn response_header(headers: &HeaderMap, key: &HeaderKey) -> Option<Vec<u8>> {
    match key {
        HeaderKey::Header(name) => Some(headers.get(name)?.as_bytes().to_vec()),
        // An answer has none of a request's pseudo-headers; `host` is a header there like any other.
        HeaderKey::Authority => Some(headers.get(http::header::HOST)?.as_bytes().to_vec()),
        HeaderKey::Method | HeaderKey::Scheme | HeaderKey::Path => None,
    }
}

// === impl HeaderChoice ===

impl HeaderChoice {
    fn find(&self, get: impl Fn(&HeaderKey) -> Option<Vec<u8>>) -> Option<Rendered> {
        get(&self.name).or_else(|| get(self.alternative.as_ref()?)).map(Rendered::Text)
    }
}

// === impl MetadataPath ===

impl MetadataPath {
    fn find(&self, metadata: &Metadata) -> Option<Rendered> {
        let namespace = metadata.get(&self.namespace)?;
        let Some((first, keys)) = self.keys.split_first() else {
            return Some(Rendered::Json(Value::Object(namespace.iter().map(|(k, v)| (k.clone(), plain(v))).collect())));
        };
        let mut value = namespace.get(first)?;
        for key in keys {
            value = value.as_object()?.get(key)?;
        }
        match value {
            Value::Null => None,
            Value::String(text) => Some(Rendered::text(text)),
            value => Some(Rendered::Json(plain(value))),
        }
    }
}

/// The value with its numbers as protobuf prints them: a whole one without a point.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(number)),
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| (key.clone(), plain(value)));
            Value::Object(pairs.collect::<Map<String, Value>>())
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

fn whole(number: &Number) -> Number {
    /// Past this a double has no fractions, and may not have all whole numbers.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < EXACT_MAX => Number::from(float as i64),
        _ => number.clone(),
    }
}

// === impl Field ===

impl Field {
    fn render(self, record: &Record<'_>) -> Option<Rendered> {
        Some(match self {
            Field::ResponseCode => Rendered::number(record.response_code.unwrap_or_default().into()),
            Field::ResponseCodeDetails => joined(record.response_code_details?),
            Field::ConnectionTerminationDetails => Rendered::text(record.connection_termination_details?),
            Field::ResponseFlags => flags(record, |names| names.0),
            Field::ResponseFlagsLong => flags(record, |names| names.1),
            Field::Protocol => Rendered::text(record.protocol?.name()),
            Field::BytesReceived => Rendered::number(record.bytes_received),
            Field::BytesSent => Rendered::number(record.bytes_sent),
            Field::Duration => milliseconds(record.duration?),
            Field::RequestDuration => milliseconds(record.request_duration?),
            Field::RequestTxDuration => milliseconds(record.request_tx_duration?),
            Field::ResponseDuration => milliseconds(record.response_duration?),
            Field::ResponseTxDuration => milliseconds(record.response_tx_duration?),
            Field::UpstreamHost => address(record.upstream_host?),
            // Only of a connection that there is.
            Field::UpstreamRemoteAddress => address(record.upstream_local_address.and(record.upstream_host)?),
            Field::UpstreamRemoteAddressWithoutPort => host(record.upstream_local_address.and(record.upstream_host)?),
            Field::UpstreamRemotePort => port(record.upstream_local_address.and(record.upstream_host)?),
            Field::UpstreamLocalAddress => address(record.upstream_local_address?),
            Field::UpstreamLocalAddressWithoutPort => host(record.upstream_local_address?),
            Field::UpstreamLocalPort => port(record.upstream_local_address?),
            Field::UpstreamCluster => not_empty(record.upstream_cluster)?,
            Field::UpstreamTransportFailureReason => {
                joined(record.upstream_transport_failure_reason.filter(|reason| !reason.is_empty())?)
            }
            Field::UpstreamRequestAttemptCount => Rendered::number(record.upstream_request_attempt_count.into()),
            Field::DownstreamRemoteAddress => address(record.downstream_remote_address?),
            Field::DownstreamRemoteAddressWithoutPort => host(record.downstream_remote_address?),
            Field::DownstreamRemotePort => port(record.downstream_remote_address?),
            Field::DownstreamDirectRemoteAddress => address(record.downstream_direct_remote_address?),
            Field::DownstreamDirectRemoteAddressWithoutPort => host(record.downstream_direct_remote_address?),
            Field::DownstreamDirectRemotePort => port(record.downstream_direct_remote_address?),
            Field::DownstreamLocalAddress => address(record.downstream_local_address?),
            Field::DownstreamLocalAddressWithoutPort => host(record.downstream_local_address?),
            Field::DownstreamLocalPort => port(record.downstream_local_address?),
            Field::RouteName => not_empty(record.route_name)?,
            // TLS is not spoken, and virtual clusters are refused at load.
            Field::VirtualClusterName | Field::RequestedServerName => return None,
            Field::ConnectionId => Rendered::number(record.connection_id?),
            Field::StreamId => not_empty(record.stream_id)?,
        })
    }
}

fn flags(record: &Record<'_>, name: fn((&'static str, &'static str)) -> &'static str) -> Rendered {
    if record.response_flags.is_empty() {
        return Rendered::text("-");
    }
    let names: Vec<&str> = record.response_flags.iter().map(|flag| name(flag.names())).collect();
    Rendered::Text(names.join(",").into_bytes())
}

/// A text whose blanks don't break the columns of a log.
fn joined(text: &str) -> Rendered {
    Rendered::Text(text.replace(|letter: char| letter.is_ascii_whitespace(), "_").into_bytes())
}

fn not_empty(text: Option<&str>) -> Option<Rendered> {
    text.filter(|text| !text.is_empty()).map(Rendered::text)
}

fn milliseconds(time: Duration) -> Rendered {
    Rendered::number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn address(address: SocketAddr) -> Rendered {
    Rendered::Text(address.to_string().into_bytes())
}

fn host(address: SocketAddr) -> Rendered {
    Rendered::Text(address.ip().to_string().into_bytes())
}

fn port(address: SocketAddr) -> Rendered {
    Rendered::number(address.port().into())
}

#[cfg(test)]
mod tests;
