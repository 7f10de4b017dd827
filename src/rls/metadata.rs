//! The `dynamic_metadata` of an answer, which Envoy puts under the filter's namespace for logs and later filters.
//!
//! Two parts. `tidegate` is ours and only there when there is something to say: `never_passes` lists the positions of
//! descriptors whose hits are more than their limit can ever hold, so that nobody retries them; `gate` names the adaptive
//! service whose limit refused the request (the first of them). The rest is the reference's (its `RESPONSE_DYNAMIC_METADATA`): the question as it came, and `metadata`, merged from the rules that
//! passed, the first value of a key winning and nested maps merged. Nothing is merged into a rule: each answer has its
//! own copy.

use pbjson_types::value::Kind;
use pbjson_types::{ListValue, Struct, Value};
use serde_json::Value as Json;

use crate::limiter::Answer;
use crate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::proto::envoy::service::ratelimit::v3::RateLimitRequest;

/// The metadata of an answer, or `None` where there is nothing to say. `with_request` asks for the reference's part.
#[must_use]
pub fn metadata(request: &RateLimitRequest, answer: &Answer, with_request: bool) -> Option<Struct> {
    let mut fields = Struct::default();
    if with_request {
        describe(&mut fields, request);
        let merged = merged(answer);
        if !merged.fields.is_empty() {
            insert(&mut fields, "metadata", Kind::StructValue(merged));
        }
    }
    let never = answer.decision.statuses.iter().enumerate().filter(|(_, status)| status.never);
    let never: Vec<Value> = never.map(|(index, _)| number(index as f64)).collect();
    let mut own = Struct::default();
    if !never.is_empty() {
        insert(&mut own, "never_passes", Kind::ListValue(ListValue { values: never }));
    }
    if let Some(service) = answer.decision.statuses.iter().find_map(|status| status.gate) {
        let name = answer.snapshot.rules.services()[service].name.to_string();
        insert(&mut own, "gate", Kind::StringValue(name));
    }
    if !own.fields.is_empty() {
        insert(&mut fields, "tidegate", Kind::StructValue(own));
    }
    (!fields.fields.is_empty()).then_some(fields)
}

fn describe(fields: &mut Struct, request: &RateLimitRequest) {
    insert(fields, "domain", Kind::StringValue(request.domain.clone()));
    let descriptors = request.descriptors.iter().map(described).collect();
    insert(fields, "descriptors", Kind::ListValue(ListValue { values: descriptors }));
    if request.hits_addend > 0 {
        insert(fields, "hitsAddend", Kind::NumberValue(f64::from(request.hits_addend)));
    }
}

fn described(descriptor: &RateLimitDescriptor) -> Value {
    let mut fields = Struct::default();
    let entries = descriptor.entries.iter().map(|entry| text(format!("{}={}", entry.key, entry.value))).collect();
    insert(&mut fields, "entries", Kind::ListValue(ListValue { values: entries }));
    if let Some(limit) = &descriptor.limit {
        let limit = format!("requests_per_unit:{} unit:{}", limit.requests_per_unit, limit.unit().as_str_name());
        insert(&mut fields, "limit", Kind::StringValue(limit));
    }
    if let Some(hits) = &descriptor.hits_addend {
        insert(&mut fields, "hitsAddend", Kind::NumberValue(hits.value as f64));
    }
    Value { kind: Some(Kind::StructValue(fields)) }
}

/// What the rules that said OK have to say, in the order of the descriptors.
fn merged(answer: &Answer) -> Struct {
    let mut merged = serde_json::Map::new();
    let rules = answer.snapshot.rules.rules();
    for metadata in answer.decision.passed.iter().filter_map(|rule| rules[*rule].metadata.as_ref()) {
        merge(&mut merged, metadata);
    }
    structure(merged)
}

fn merge(into: &mut serde_json::Map<String, Json>, from: &serde_json::Map<String, Json>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (None, _) => {
                into.insert(key.clone(), value.clone());
            }
            (Some(Json::Object(into)), Json::Object(from)) => merge(into, from),
            (Some(_), _) => {}
        }
    }
}

fn structure(map: serde_json::Map<String, Json>) -> Struct {
    Struct { fields: map.into_iter().map(|(key, json)| (key, value(json))).collect() }
}

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        // JSON numbers that no double can hold don't come from rule files; NaN would be refused by Envoy.
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(value).collect() }),
        Json::Object(map) => Kind::StructValue(structure(map)),
    };
    Value { kind: Some(kind) }
}

fn text(text: String) -> Value {
    Value { kind: Some(Kind::StringValue(text)) }
}

fn number(number: f64) -> Value {
    Value { kind: Some(Kind::NumberValue(number)) }
}

fn insert(fields: &mut Struct, key: &str, kind: Kind) {
    fields.fields.insert(key.to_owned(), Value { kind: Some(kind) });
}
