//! Values that several messages share.

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue};

use super::super::model::{AppendAction, FractionalPercent, HeaderMutations, HeaderValueOption, Metadata};
use super::super::object::Object;
use super::super::value::Value;
use super::runtime::Runtime;
use crate::proxy::access_log::Format;

/// A host, as a value that is still to be read, and a port.
pub(super) type HostAndPort<'n> = (Value<'n>, u16);

/// `socket_address` of an address.
pub(super) fn socket_address<'n>(address: &Value<'n>) -> Option<HostAndPort<'n>> {
    let read = address.object(|address| {
        address.required_object("socket_address", |socket| {
            socket.choice("protocol", &[("TCP", ())], ());
            let host = socket.required("address");
            let port = socket.required("port_value").and_then(|port| port.count(0..=65_535));
            Some((host?, u16::try_from(port?).ok()?))
        })
    });
    read.flatten().flatten()
}

/// An address to listen on.
pub(super) fn address(address: &Value<'_>) -> Option<SocketAddr> {
    let (host, port) = socket_address(address)?;
    Some(SocketAddr::new(host.ip_address()?, port))
}

/// `numerator` and `denominator`.
pub(super) fn fractional_percent(value: &Value<'_>) -> Option<FractionalPercent> {
    const DENOMINATORS: [(&str, u32); 3] = [("HUNDRED", 100), ("TEN_THOUSAND", 10_000), ("MILLION", 1_000_000)];
    value.object(|percent| {
        let numerator = percent.count("numerator", 0..=u32::MAX, 0);
        FractionalPercent::of(numerator, percent.choice("denominator", &DENOMINATORS, 100))
    })
}

/// `default_value` and `runtime_key`.
pub(super) fn runtime_percent(value: &Value<'_>, runtime: &Runtime<'_>) -> Option<FractionalPercent> {
    value.object(|percent| {
        let default = percent.required("default_value").and_then(|value| fractional_percent(&value));
        let key = percent.optional_text("runtime_key");
        key.and_then(|key| runtime.share(&key)).or(default)
    })?
}

/// `filter_metadata` of a metadata.
pub(super) fn metadata(value: &Value<'_>) -> Option<Metadata> {
    value.object(|metadata| {
        let namespaces = metadata.get("filter_metadata").map(|value| value.entries()).unwrap_or_default();
        let pairs = namespaces.into_iter().filter_map(|(name, value)| match value.json() {
            serde_json::Value::Object(map) => Some((name.to_owned(), map)),
            _ => {
                value.mistake("a namespace of metadata is a map");
                None
            }
        });
        pairs.collect()
    })
}

/// The four fields by which a route configuration, virtual host or route changes headers.
pub(super) fn header_mutations(object: &mut Object<'_>) -> HeaderMutations {
    HeaderMutations {
        request_headers_to_add: headers_to_add(object, "request_headers_to_add"),
        request_headers_to_remove: object.list("request_headers_to_remove", |value| header_name(&value)),
        response_headers_to_add: headers_to_add(object, "response_headers_to_add"),
        response_headers_to_remove: object.list("response_headers_to_remove", |value| header_name(&value)),
    }
}

/// A list of headers to add.
pub(super) fn headers_to_add(object: &mut Object<'_>, name: &'static str) -> Vec<HeaderValueOption> {
    object.list(name, |value| header_value_option(&value))
}

fn header_value_option(value: &Value<'_>) -> Option<HeaderValueOption> {
    const ACTIONS: [(&str, AppendAction); 4] = [
        ("APPEND_IF_EXISTS_OR_ADD", AppendAction::AppendIfExistsOrAdd),
        ("ADD_IF_ABSENT", AppendAction::AddIfAbsent),
        ("OVERWRITE_IF_EXISTS_OR_ADD", AppendAction::OverwriteIfExistsOrAdd),
        ("OVERWRITE_IF_EXISTS", AppendAction::OverwriteIfExists),
    ];
    value.object(|option| {
        let header = option.required("header").and_then(|header| header_value(&header));
        let append_action = match option.one_of(&["append_action", "append"]) {
            Some(("append", value)) => match value.boolean() {
                Some(false) => AppendAction::OverwriteIfExistsOrAdd,
                _ => AppendAction::AppendIfExistsOrAdd,
            },
            Some((_, value)) => value.choice(&ACTIONS).unwrap_or_default(),
            None => AppendAction::default(),
        };
        let keep_empty_value = option.boolean("keep_empty_value", false);
        let (name, value) = header?;
        Some(HeaderValueOption { name, value, append_action, keep_empty_value })
    })?
}

/// `key` and `value` of a header, the value with command operators.
pub(super) fn header_value(value: &Value<'_>) -> Option<(HeaderName, Format)> {
    value.object(|header| {
        let name = header.required("key").and_then(|key| header_name(&key));
        let value = match header.get("value") {
            None => Some(Format::default()),
            Some(value) => value.text().and_then(|text| header_format(&value, text)),
        };
        Some((name?, value?))
    })?
}

fn header_format(value: &Value<'_>, text: &str) -> Option<Format> {
    if HeaderValue::from_str(text).is_err() {
        value.mistake("has a character that no header's value can have");
        return None;
    }
    format(value).map(|format| format.omit_empty_values(true))
}

/// A format string.
pub(super) fn format(value: &Value<'_>) -> Option<Format> {
    match Format::parse(value.text()?) {
        Ok(format) => Some(format),
        Err(error) => {
            value.mistake(error.to_string());
            None
        }
    }
}

/// The name of a header that may be changed: no pseudo-header, and not `host`.
pub(super) fn header_name(value: &Value<'_>) -> Option<HeaderName> {
    let text = value.word()?;
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) if name == http::header::HOST => value.mistake("'host' can't be changed by way of headers"),
        Ok(name) => return Some(name),
        Err(_) if text.starts_with(':') => {
            value.mistake(format!("'{text}' is a pseudo-header, which can't be changed"))
        }
        Err(_) => value.mistake(format!("'{text}' is no header's name")),
    }
    None
}
