//! From an answer of the server to resources as rules read them, or one sentence why it is none.
//!
//! What is wrong here is wrong with the encoding or with its size; what rules say is judged by the rules
//! ([`load_resources`](crate::rules::load_resources)).

use std::collections::HashMap;

use pbjson_types::value::Kind;
use pbjson_types::{Any, Struct, Value};
use prost::Message;
use serde_json::{Map, Value as Json};

use super::measure::{LEVELS_MAX, Measured, PARTS_MAX, TEXT_BYTES_MAX, measure};
use super::shown;
use super::wire::{UNREADABLE, Unreadable};
use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
use crate::proto::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use crate::rules::{Resource, ResourceDescriptor, ResourceLimit};

/// What resources of rules are called.
pub(super) const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// Most characters of a foreign name that a sentence repeats.
const SHOWN_MAX: usize = 100;

/// The resources of an answer, in an order that is theirs and not the server's: that is random from answer to answer.
pub(super) fn resources(answer: &DiscoveryResponse) -> Result<Vec<Resource>, String> {
    if answer.type_url != TYPE_URL {
        return Err(format!("the answer is of the type {:?}, and {TYPE_URL} was asked for", foreign(&answer.type_url)));
    }
    let all = &answer.resources;
    let mut parts = 0;
    for (index, any) in all.iter().enumerate() {
        let number = index + 1;
        is_asked_for(any).map_err(|why| format!("resource {number}: {why}"))?;
        let measured = measure(&any.value).map_err(|Unreadable| format!("resource {number}: {UNREADABLE}"))?;
        let Measured { parts: more, levels, text_bytes } = measured;
        if levels > LEVELS_MAX {
            return Err(format!("the descriptors of resource {number} nest more than {LEVELS_MAX} deep"));
        }
        if text_bytes > TEXT_BYTES_MAX {
            return Err(format!(
                "resource {number}: a name, key or value of {text_bytes} bytes; {TEXT_BYTES_MAX} are read at most"
            ));
        }
        parts += more;
        if parts > PARTS_MAX {
            return Err(format!(
                "more than {PARTS_MAX} descriptors in all, or fewer with long paths or much metadata; split them over \
                 several services"
            ));
        }
    }
    let mut decoded = Vec::with_capacity(all.len());
    for (index, any) in all.iter().enumerate() {
        decoded.push((decode(any).map_err(|why| format!("resource {}: {why}", index + 1))?, &any.value));
    }
    // Of those with one name and one domain nobody knows which was meant first, but each replica takes the same.
    decoded.sort_by(|(a, a_bytes), (b, b_bytes)| (&a.name, &a.domain, a_bytes).cmp(&(&b.name, &b.domain, b_bytes)));
    Ok(decoded.into_iter().map(|(config, _)| resource(config)).collect())
}

fn is_asked_for(any: &Any) -> Result<(), String> {
    match any.type_url == TYPE_URL {
        true => Ok(()),
        false => Err(format!("it is of the type {:?}, and {TYPE_URL} was asked for", foreign(&any.type_url))),
    }
}

fn decode(any: &Any) -> Result<RateLimitConfig, String> {
    RateLimitConfig::decode(any.value.clone()).map_err(|error| format!("it cannot be decoded: {error}"))
}

fn foreign(text: &str) -> String {
    shown(text, SHOWN_MAX)
}

fn resource(config: RateLimitConfig) -> Resource {
    let RateLimitConfig { name, domain, descriptors } = config;
    Resource { name, domain, descriptors: descriptors.into_iter().map(descriptor).collect() }
}

/// As deep as [`LEVELS_MAX`] at most: it was measured.
fn descriptor(descriptor: RateLimitDescriptor) -> ResourceDescriptor {
    ResourceDescriptor {
        key: descriptor.key,
        value: descriptor.value,
        rate_limit: descriptor.rate_limit.map(limit),
        descriptors: descriptor.descriptors.into_iter().map(self::descriptor).collect(),
        shadow_mode: descriptor.shadow_mode,
        detailed_metric: descriptor.detailed_metric,
        quota_mode: descriptor.quota_mode,
        metadata: descriptor.metadata.map(structure),
    }
}

fn limit(policy: RateLimitPolicy) -> ResourceLimit {
    let unit = match RateLimitUnit::try_from(policy.unit) {
        Ok(unit) => unit.as_str_name().to_owned(),
        Err(_) => policy.unit.to_string(),
    };
    ResourceLimit {
        unit,
        requests_per_unit: policy.requests_per_unit,
        unlimited: policy.unlimited,
        name: policy.name,
        replaces: policy.replaces.into_iter().map(|replaced| replaced.name).collect(),
    }
}

fn structure(structure: Struct) -> Map<String, Json> {
    let fields: HashMap<String, Value> = structure.fields;
    fields.into_iter().map(|(key, value)| (key, json(value))).collect()
}

/// What JSON has no number for becomes the text that proto3 JSON has for it, as in files.
fn json(value: Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(value),
        Some(Kind::NumberValue(number)) if number.is_nan() => Json::from("NaN"),
        Some(Kind::NumberValue(number)) if number.is_infinite() => {
            Json::from(if number > 0.0 { "Infinity" } else { "-Infinity" })
        }
        Some(Kind::NumberValue(number)) => Json::from(number),
        Some(Kind::StringValue(text)) => Json::String(text),
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(inner)) => Json::Object(structure(inner)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any(config: &RateLimitConfig) -> Any {
        Any { type_url: TYPE_URL.to_owned(), value: config.encode_to_vec().into() }
    }

    fn answer(resources: Vec<Any>) -> DiscoveryResponse {
        DiscoveryResponse { type_url: TYPE_URL.to_owned(), resources, ..DiscoveryResponse::default() }
    }

    fn config(name: &str) -> RateLimitConfig {
        RateLimitConfig { name: name.to_owned(), domain: name.to_owned(), descriptors: Vec::new() }
    }

    #[test]
    fn the_servers_order_does_not_matter() {
        let configs = ["b", "a", "c"].map(|name| any(&config(name)));
        let mut reversed = configs.to_vec();
        reversed.reverse();
        assert_eq!(resources(&answer(configs.to_vec())), resources(&answer(reversed)));
    }

    #[test]
    fn what_is_foreign_or_broken_is_named_by_its_position() {
        let foreign = Any { type_url: "type.googleapis.com/x".to_owned(), value: Default::default() };
        let told = resources(&answer(vec![any(&config("a")), foreign])).unwrap_err();
        assert!(told.starts_with("resource 2: it is of the type \"type.googleapis.com/x\""), "{told}");
        let broken = Any { type_url: TYPE_URL.to_owned(), value: vec![0x0a, 0xff].into() };
        let told = resources(&answer(vec![broken])).unwrap_err();
        assert!(told.starts_with("resource 1: it cannot be decoded: "), "{told}");
        let told = resources(&DiscoveryResponse::default()).unwrap_err();
        assert!(told.contains("the answer is of the type \"\""), "{told}");
    }

    #[test]
    fn too_much_is_refused_before_it_is_decoded() {
        let mut wide = config("wide");
        wide.descriptors = vec![RateLimitDescriptor::default(); PARTS_MAX];
        assert!(resources(&answer(vec![any(&wide)])).is_ok());
        let told = resources(&answer(vec![
            any(&wide),
            any(&RateLimitConfig { descriptors: vec![RateLimitDescriptor::default()], ..config("one") }),
        ]));
        assert!(told.unwrap_err().contains("more than 300000 descriptors"));
        let mut long = config("long");
        long.descriptors = vec![RateLimitDescriptor { key: "k".repeat(8_193), ..RateLimitDescriptor::default() }];
        let told = resources(&answer(vec![any(&long)])).unwrap_err();
        assert_eq!(told, "resource 1: a name, key or value of 8193 bytes; 8192 are read at most");
    }

    #[test]
    fn a_unit_without_a_name_is_its_number() {
        let policy = RateLimitPolicy { unit: 99, ..RateLimitPolicy::default() };
        assert_eq!(limit(policy).unit, "99");
        let policy = RateLimitPolicy { unit: RateLimitUnit::Week.into(), ..RateLimitPolicy::default() };
        assert_eq!(limit(policy).unit, "WEEK");
    }

    proptest! {
        #[test]
        fn any_bytes_are_resources_or_a_sentence(bytes in prop::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let garbled = Any { type_url: TYPE_URL.to_owned(), value: bytes.into() };
            if let Err(why) = resources(&answer(vec![garbled])) {
                prop_assert!(why.starts_with("resource 1: ") || why.contains("of resource 1 nest"), "{why}");
            }
        }
    }
}
