//! The HTTP connection manager.

use std::time::Duration;

use super::super::model::{Codec, FilterConfig, Http2Settings, HttpConnections, HttpFilter};
use super::super::object::Object;
use super::{Surroundings, access_log, filter, route};

/// Options of HTTP that listeners and clusters share.
#[derive(Debug)]
pub(super) struct CommonOptions {
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_connection_duration: Option<Duration>,
    pub(super) max_requests_per_connection: Option<u32>,
    pub(super) max_headers_count: u32,
}

const MINUTE: Duration = Duration::from_secs(60);

/// The fields of the message.
pub(super) fn read(object: &mut Object<'_>, surroundings: &Surroundings<'_>) -> Option<HttpConnections> {
    const CODECS: [(&str, Codec); 3] = [("AUTO", Codec::Auto), ("HTTP1", Codec::Http1), ("HTTP2", Codec::Http2)];
    let stat_prefix = object.required_text("stat_prefix");
    let http_filters = object.list("http_filters", |value| filter::read(&value, surroundings));
    check_order(object, &http_filters);
    let route_config =
        object.required("route_config").and_then(|value| route::read(&value, &http_filters, surroundings));
    let options = object.get("common_http_protocol_options");
    let options = options.and_then(|value| value.object(|it| common_options(it, true))).unwrap_or_default();
    let connections = HttpConnections {
        stat_prefix,
        codec_type: object.choice("codec_type", &CODECS, Codec::Auto),
        route_config: route_config?,
        http_filters,
        access_log: object.list("access_log", |value| access_log::read(&value)),
        request_timeout: object.timeout("request_timeout", None),
        request_headers_timeout: object.timeout("request_headers_timeout", None),
        stream_idle_timeout: object.timeout("stream_idle_timeout", Some(5 * MINUTE)),
        idle_timeout: options.idle_timeout,
        max_connection_duration: options.max_connection_duration,
        max_headers_count: options.max_headers_count,
        max_requests_per_connection: options.max_requests_per_connection,
        max_request_headers_kb: object.count("max_request_headers_kb", 1..=8192, 60),
        drain_timeout: object.duration("drain_timeout", Duration::from_secs(5)),
        delayed_close_timeout: object.duration("delayed_close_timeout", Duration::from_secs(1)),
        use_remote_address: object.boolean("use_remote_address", false),
        xff_num_trusted_hops: object.count("xff_num_trusted_hops", 0..=u32::MAX, 0),
        skip_xff_append: object.boolean("skip_xff_append", false),
        generate_request_id: object.boolean("generate_request_id", true),
        preserve_external_request_id: object.boolean("preserve_external_request_id", false),
        always_set_request_id_in_response: object.boolean("always_set_request_id_in_response", false),
        server_name: object.optional_text("server_name").unwrap_or_else(|| "envoy".to_owned()),
        http2: object.object("http2_protocol_options", http2_settings).unwrap_or_default(),
    };
    Some(connections)
}

/// The router answers, so it stands at the end and only there.
fn check_order(object: &Object<'_>, filters: &[HttpFilter]) {
    let is_router = |filter: &HttpFilter| matches!(filter.config, FilterConfig::Router(_));
    match filters.split_last() {
        Some((last, before)) if is_router(last) => {
            if before.iter().any(is_router) {
                object.value.mistake("http_filters has a router before its last filter; it ends the chain");
            }
            if last.disabled {
                object.value.mistake("http_filters ends with a router that is disabled; nothing else could answer");
            }
        }
        _ => object.value.mistake("http_filters must end with the router (envoy.filters.http.router)"),
    }
}

/// `HttpProtocolOptions`; of clusters without a bound on headers.
pub(super) fn common_options(object: &mut Object<'_>, of_listener: bool) -> CommonOptions {
    let default = CommonOptions::default();
    let max_headers_count = if of_listener { object.optional_count("max_headers_count", 1..=u32::MAX) } else { None };
    let max_requests = object.optional_count("max_requests_per_connection", 0..=u32::MAX);
    CommonOptions {
        idle_timeout: object.timeout("idle_timeout", default.idle_timeout),
        max_connection_duration: object.timeout("max_connection_duration", None),
        max_requests_per_connection: max_requests.filter(|requests| *requests > 0),
        max_headers_count: max_headers_count.unwrap_or(default.max_headers_count),
    }
}

/// `Http2ProtocolOptions`
pub(super) fn http2_settings(object: &mut Object<'_>) -> Http2Settings {
    const MAX: u32 = i32::MAX as u32;
    let default = Http2Settings::default();
    Http2Settings {
        max_concurrent_streams: object.count("max_concurrent_streams", 1..=MAX, default.max_concurrent_streams),
        initial_stream_window_size: object.count(
            "initial_stream_window_size",
            65_535..=MAX,
            default.initial_stream_window_size,
        ),
        initial_connection_window_size: object.count(
            "initial_connection_window_size",
            65_535..=MAX,
            default.initial_connection_window_size,
        ),
    }
}

// === impl CommonOptions ===

impl Default for CommonOptions {
    fn default() -> CommonOptions {
        CommonOptions {
            idle_timeout: Some(60 * MINUTE),
            max_connection_duration: None,
            max_requests_per_connection: None,
            max_headers_count: 100,
        }
    }
}
