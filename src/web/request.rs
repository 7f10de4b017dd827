//! Reads a `RateLimitRequest` in proto3 JSON.
//!
//! Types of our own, because the generated reader deviates from the mapping that callers of the reference service may
//! rely on: it refuses `null` (which stands for the default), whole numbers written `2.0`, and numbers of enums that
//! have no name, such as the override's 7, which means a week. A field is known under its own name and under its lower
//! camel case, must not come twice, and an unknown one is an error. See
//! <https://protobuf.dev/programming-guides/json/>.

use std::fmt;
use std::marker::PhantomData;

use pbjson_types::{UInt32Value, UInt64Value};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Unexpected, Visitor};

use crate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor as descriptor;
use crate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use crate::proto::envoy::r#type::v3::RateLimitUnit;

/// Reads a request in proto3 JSON.
///
/// # Errors
/// When the text is no JSON, or not that of a `RateLimitRequest`.
pub fn read_request(text: &[u8]) -> Result<RateLimitRequest, serde_json::Error> {
    serde_json::from_slice::<Object<Request>>(text).map(|Object(request)| request.into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Request {
    domain: Option<String>,
    descriptors: Option<Vec<Object<Descriptor>>>,
    #[serde(alias = "hits_addend")]
    hits_addend: Option<Number<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Descriptor {
    entries: Option<Vec<Object<Entry>>>,
    limit: Option<Object<Override>>,
    #[serde(alias = "hits_addend")]
    hits_addend: Option<Number<u64>>,
    #[serde(alias = "is_negative_hits")]
    is_negative_hits: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Override {
    #[serde(alias = "requests_per_unit")]
    requests_per_unit: Option<Number<u32>>,
    unit: Option<UnitNumber>,
    #[serde(alias = "unit_multiplier")]
    unit_multiplier: Option<Number<u32>>,
}

/// A message: a JSON object, and no list of its fields, which a derived reader would take too.
struct Object<T>(T);

/// A whole number, written as a number or as text.
struct Number<T>(T);

/// The number of an override's unit, written as a number or by name.
struct UnitNumber(i32);

impl From<Request> for RateLimitRequest {
    fn from(request: Request) -> RateLimitRequest {
        RateLimitRequest {
            domain: request.domain.unwrap_or_default(),
            descriptors: messages(request.descriptors),
            hits_addend: request.hits_addend.map_or(0, |Number(hits)| hits),
        }
    }
}

impl From<Descriptor> for RateLimitDescriptor {
    fn from(descriptor: Descriptor) -> RateLimitDescriptor {
        RateLimitDescriptor {
            entries: messages(descriptor.entries),
            limit: descriptor.limit.map(|Object(limit)| limit.into()),
            hits_addend: descriptor.hits_addend.map(|Number(value)| UInt64Value { value }),
            is_negative_hits: descriptor.is_negative_hits.unwrap_or_default(),
        }
    }
}

impl From<Entry> for descriptor::Entry {
    fn from(entry: Entry) -> descriptor::Entry {
        descriptor::Entry { key: entry.key.unwrap_or_default(), value: entry.value.unwrap_or_default() }
    }
}

impl From<Override> for descriptor::RateLimitOverride {
    fn from(limit: Override) -> descriptor::RateLimitOverride {
        descriptor::RateLimitOverride {
            requests_per_unit: limit.requests_per_unit.map_or(0, |Number(requests)| requests),
            unit: limit.unit.map_or(0, |UnitNumber(unit)| unit),
            unit_multiplier: limit.unit_multiplier.map(|Number(value)| UInt32Value { value }),
        }
    }
}

fn messages<T, M: From<T>>(list: Option<Vec<Object<T>>>) -> Vec<M> {
    list.unwrap_or_default().into_iter().map(|Object(message)| message.into()).collect()
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Object<T>, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number<T>, D::Error> {
        struct NumberVisitor<T>(PhantomData<T>);

        impl<T: TryFrom<u64>> Visitor<'_> for NumberVisitor<T> {
            type Value = Number<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number of {} bits from 0 up", 8 * size_of::<T>())
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Number<T>, E> {
                T::try_from(number).map(Number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Number<T>, E> {
                // The smallest float that no longer fits; the largest below it converts exactly.
                const END: f64 = 18_446_744_073_709_551_616.0;
                if number.fract() == 0.0 && (0.0..END).contains(&number) {
                    self.visit_u64(number as u64)
                } else {
                    Err(E::invalid_value(Unexpected::Float(number), &self))
                }
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Number<T>, E> {
                let is_bare = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
                let number = is_bare.then(|| serde_json::from_str::<serde_json::Number>(text).ok()).flatten();
                match number.as_ref().map(|number| (number.as_u64(), number.as_f64())) {
                    Some((Some(number), _)) => self.visit_u64(number),
                    Some((None, Some(number))) => self.visit_f64(number),
                    Some((None, None)) | None => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(NumberVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for UnitNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<UnitNumber, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i32),
            Name(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(UnitNumber(number)),
            Written::Name(name) => match RateLimitUnit::from_str_name(&name) {
                Some(unit) => Ok(UnitNumber(unit as i32)),
                None => Err(D::Error::custom(format_args!("there is no unit {name:?}, try SECOND, MINUTE or HOUR"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<RateLimitRequest> {
        read_request(text.as_bytes()).ok()
    }

    fn full() -> RateLimitRequest {
        RateLimitRequest {
            domain: "shop".to_owned(),
            descriptors: vec![RateLimitDescriptor {
                entries: vec![descriptor::Entry { key: "user".to_owned(), value: "ä\u{1f30a}".to_owned() }],
                limit: Some(descriptor::RateLimitOverride {
                    requests_per_unit: 5,
                    unit: RateLimitUnit::Hour as i32,
                    unit_multiplier: Some(UInt32Value { value: 2 }),
                }),
                hits_addend: Some(UInt64Value { value: u64::MAX }),
                is_negative_hits: true,
            }],
            hits_addend: 3,
        }
    }

    #[test]
    fn what_the_generated_code_writes_is_read() {
        assert_eq!(read(&serde_json::to_string(&full()).unwrap()), Some(full()));
    }

    #[test]
    fn fields_are_known_by_both_their_names() {
        let original = r#"{"domain":"shop","hits_addend":3,"descriptors":[{"entries":[{"key":"user","value":"ä🌊"}],
            "limit":{"requests_per_unit":5,"unit":3,"unit_multiplier":2},"hits_addend":"18446744073709551615",
            "is_negative_hits":true}]}"#;
        assert_eq!(read(original), Some(full()));
    }

    #[test]
    fn null_is_the_default() {
        let nulls = r#"{"domain":null,"hitsAddend":null,"descriptors":[{"entries":null,"limit":null,"hitsAddend":null,
            "isNegativeHits":null},{"entries":[{"key":null,"value":null}],
            "limit":{"requestsPerUnit":null,"unit":null,"unitMultiplier":null}}]}"#;
        let absent = r#"{"descriptors":[{},{"entries":[{}],"limit":{}}]}"#;
        assert_eq!(read(nulls), read(absent));
        assert!(read(nulls).is_some());
    }

    #[test]
    fn hits_are_numbers_or_text_and_never_anything_else() {
        let hits = |text: &str| {
            let request = read(&format!(r#"{{"descriptors":[{{"hitsAddend":{text}}}]}}"#))?;
            request.descriptors[0].hits_addend.map(|hits| hits.value)
        };
        for (text, expected) in [("0", 0), ("7", 7), ("\"7\"", 7), ("7.0", 7), ("7e1", 70), ("\"7e1\"", 70)] {
            assert_eq!(hits(text), Some(expected), "{text}");
        }
        assert_eq!(hits("18446744073709551615"), Some(u64::MAX));
        for text in
            ["-1", "\"-1\"", "1.5", "1e300", "18446744073709551616", "\"\"", "\" 7\"", "\"7x\"", "\"\\\"7\\\"\""]
        {
            assert_eq!(hits(text), None, "{text}");
        }
        for text in ["true", "[7]", "{}", "\"NaN\""] {
            assert_eq!(hits(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_that_does_not_fit_its_field_is_refused() {
        assert!(read(r#"{"hitsAddend":4294967295}"#).is_some());
        assert!(read(r#"{"hitsAddend":4294967296}"#).is_none());
    }

    #[test]
    fn a_unit_is_a_name_or_any_number() {
        let unit = |text: &str| {
            let request = read(&format!(r#"{{"descriptors":[{{"limit":{{"unit":{text}}}}}]}}"#))?;
            Some(request.descriptors[0].limit?.unit)
        };
        assert_eq!(unit("\"YEAR\""), Some(6));
        assert_eq!(unit("7"), Some(7));
        assert_eq!(unit("99"), Some(99));
        assert_eq!(unit("\"year\""), None);
        assert_eq!(unit("\"WEEK\""), None);
        assert_eq!(unit("2147483648"), None);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let texts = [
            "",
            " ",
            "null",
            "[]",
            r#"["shop"]"#,
            r#"{"domain":"shop"} x"#,
            r#"{"domain":"shop","domain":"shop"}"#,
            r#"{"hitsAddend":1,"hits_addend":1}"#,
            r#"{"unknown":1}"#,
            r#"{"domain":1}"#,
            r#"{"descriptors":{}}"#,
            r#"{"descriptors":[null]}"#,
            r#"{"descriptors":[[]]}"#,
            r#"{"descriptors":[{"entries":[["user","a"]]}]}"#,
            r#"{"descriptors":[{"entries":[{"key":"a","value":"b","more":1}]}]}"#,
        ];
        for text in texts {
            assert!(read(text).is_none(), "{text}");
        }
        assert!(read_request(b"{\"domain\":\"\xff\"}").is_err());
    }
}
