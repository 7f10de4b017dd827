//! Spans in the words of the OpenTelemetry protocol.

use bytes::Bytes;
use prost::Message;

use super::span::{Attribute, Kind, Span, Value};
use crate::proto::opentelemetry::proto::collector::trace::v1::ExportTraceServiceRequest;
use crate::proto::opentelemetry::proto::common::v1::any_value::Value as WireValue;
use crate::proto::opentelemetry::proto::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use crate::proto::opentelemetry::proto::resource::v1::Resource;
use crate::proto::opentelemetry::proto::trace::v1::span::SpanKind;
use crate::proto::opentelemetry::proto::trace::v1::status::StatusCode;
use crate::proto::opentelemetry::proto::trace::v1::{ResourceSpans, ScopeSpans, Span as WireSpan, Status};

/// The W3C flag of a trace that is recorded.
const SAMPLED: u32 = 1;
/// It is known whether a span's parent is another process's.
const HAS_IS_REMOTE: u32 = 1 << 8;
/// It is.
const IS_REMOTE: u32 = 1 << 9;

/// The message that hands these spans of a process over.
#[must_use]
pub(super) fn request(resource: &[(String, String)], spans: &[Span]) -> Bytes {
    let attributes = resource.iter().map(|(key, value)| text(key, value)).collect();
    let scope = InstrumentationScope { name: "tidegate".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let spans = spans.iter().map(span).collect();
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
        }],
    };
    request.encode_to_vec().into()
}

fn span(span: &Span) -> WireSpan {
    let parent = span.parent.map_or(0, |parent| HAS_IS_REMOTE | if parent.is_remote { IS_REMOTE } else { 0 });
    let kind = match span.kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
    };
    WireSpan {
        trace_id: span.trace.bytes().to_vec(),
        span_id: span.id.bytes().to_vec(),
        trace_state: span.state.clone(),
        parent_span_id: span.parent.map(|parent| parent.id.bytes().to_vec()).unwrap_or_default(),
        flags: SAMPLED | parent,
        name: span.name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: span.start_unix_nanos,
        end_time_unix_nano: span.end_unix_nanos,
        attributes: span.attributes.iter().map(attribute).collect(),
        status: span.error.as_ref().map(|error| Status { message: error.clone(), code: StatusCode::Error.into() }),
    }
}

fn attribute(attribute: &Attribute) -> KeyValue {
    let value = match &attribute.value {
        Value::Text(text) => WireValue::StringValue(text.clone()),
        Value::Number(number) => WireValue::IntValue(*number),
        Value::Flag(flag) => WireValue::BoolValue(*flag),
        Value::Texts(texts) => {
            let value = |text: &String| AnyValue { value: Some(WireValue::StringValue(text.clone())) };
            WireValue::ArrayValue(ArrayValue { values: texts.iter().map(value).collect() })
        }
    };
    KeyValue { key: attribute.key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(WireValue::StringValue(value.to_owned())) }) }
}
