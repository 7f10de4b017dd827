//! Listeners and the HTTP connection manager.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{HttpFilter, RouteConfiguration};
use crate::proxy::access_log::LineFormat;

/// `listeners[]`: an address, and the HTTP connection manager behind it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `name`; the address as text if not said.
    pub name: String,
    /// Where to listen. Port 0: any free one.
    pub address: SocketAddr,
    /// `stat_prefix`: what statistics call it; `None`: by its address, with underscores for colons.
    pub stat_prefix: Option<String>,
    /// `per_connection_buffer_limit_bytes`; default 1 MiB.
    pub per_connection_buffer_limit_bytes: u32,
    /// The only filter of the only filter chain.
    pub http: HttpConnections,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`, the connection manager
#[derive(Clone, Debug)]
pub struct HttpConnections {
    /// `stat_prefix`: the label of its statistics; never empty.
    pub stat_prefix: String,
    /// `codec_type`; default AUTO.
    pub codec_type: Codec,
    /// `route_config`, inline.
    pub route_config: RouteConfiguration,
    /// `http_filters`, in their order; the last is the router and no other is.
    pub http_filters: Vec<HttpFilter>,
    /// `access_log`
    pub access_log: Vec<AccessLog>,
    /// `request_timeout`: from the request's first byte to its last, else 408; default none.
    pub request_timeout: Option<Duration>,
    /// `request_headers_timeout`: for the headers to arrive; default none.
    pub request_headers_timeout: Option<Duration>,
    /// `stream_idle_timeout`: a stream without any byte either way; default 5 min.
    pub stream_idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.idle_timeout`: a connection without any stream; default 1 h.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`; default none.
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_headers_count`; default 100. More: 431.
    pub max_headers_count: u32,
    /// `common_http_protocol_options.max_requests_per_connection`; default any number.
    pub max_requests_per_connection: Option<u32>,
    /// `max_request_headers_kb`, 1 to 8192; default 60. More: 431.
    pub max_request_headers_kb: u32,
    /// `drain_timeout`: between GOAWAY (or `connection: close`) and the end; default 5 s.
    pub drain_timeout: Duration,
    /// `delayed_close_timeout`: for the client to read the last answer; default 1 s, 0 for none.
    pub delayed_close_timeout: Duration,
    /// `use_remote_address`: whether the peer is the client, so that x-forwarded-for is appended to and the other
    /// x-envoy headers from outside are not believed; default no.
    pub use_remote_address: bool,
    /// `xff_num_trusted_hops`: how many proxies before us to believe; default 0.
    pub xff_num_trusted_hops: u32,
    /// `skip_xff_append`; default no.
    pub skip_xff_append: bool,
    /// `generate_request_id`; default yes.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`: keep an x-request-id of a client from outside; default no.
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`; default no.
    pub always_set_request_id_in_response: bool,
    /// `server_name`: the value of the `server` header; default `envoy`.
    pub server_name: String,
    /// `http2_protocol_options` towards clients.
    pub http2: Http2Settings,
}

/// `codec_type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// By the connection's first bytes.
    #[default]
    Auto,
    /// HTTP/1.1 and 1.0 only.
    Http1,
    /// HTTP/2 with prior knowledge only.
    Http2,
}

/// `Http2ProtocolOptions`: the ones that are acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Settings {
    /// `max_concurrent_streams`, 1 to 2^31 - 1; default 1024.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size`, 65,535 to 2^31 - 1; default 16 MiB.
    pub initial_stream_window_size: u32,
    /// `initial_connection_window_size`, 65,535 to 2^31 - 1; default 24 MiB.
    pub initial_connection_window_size: u32,
}

/// `access_log[]`: where lines go, and how they look.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where.
    pub sink: AccessLogSink,
    /// How; Envoy's default format if nothing is said.
    pub format: LineFormat,
}

/// Where access log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogSink {
    /// Appended to that file.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

// === impl Http2Settings ===

impl Default for Http2Settings {
    fn default() -> Http2Settings {
        Http2Settings {
            max_concurrent_streams: 1024,
            initial_stream_window_size: 16 << 20,
            initial_connection_window_size: 24 << 20,
        }
    }
}
