//! HTTP/2 frame by frame, for clients that do what no client should.

use std::net::SocketAddr;

use prost::Message;
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Kinds of frames.
pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

/// Flags of frames.
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// SETTINGS_INITIAL_WINDOW_SIZE.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a client says first, with one setting.
pub(crate) fn greeting(setting: u16, value: u32) -> Vec<u8> {
    let payload = [&setting.to_be_bytes()[..], &value.to_be_bytes()].concat();
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &payload)].concat()
}

/// A header, spelled out and kept in no table. Name and value are shorter than 127 bytes.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    assert!(name.len() < 127 && value.len() < 127);
    [vec![0], text(name), text(value)].concat()
}

/// The headers of a rate limit call.
pub(crate) fn call_fields() -> Vec<u8> {
    let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", path),
        field(":authority", "ratelimit"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ]
    .concat()
}

/// The headers of a call on that stream.
pub(crate) fn call_head(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &call_fields())
}

/// A whole call on that stream.
pub(crate) fn call(stream: u32, request: &RateLimitRequest) -> Vec<u8> {
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    let body = [&[0], &length.to_be_bytes()[..], &message[..]].concat();
    [call_head(stream), frame(DATA, END_STREAM, stream, &body)].concat()
}

/// The number of a client's stream, counted from 0.
pub(crate) fn stream_number(index: u32) -> u32 {
    2 * index + 1
}

/// A connection on which HTTP/2 has begun, with one setting.
pub(crate) async fn connect(address: SocketAddr, setting: u16, value: u32) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&greeting(setting, value)).await?;
    Ok(stream)
}

/// Reads frames until one ends that stream, and gives back its kind.
pub(crate) async fn until_ended(connection: &mut TcpStream, stream: u32) -> std::io::Result<u8> {
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        connection.read_exact(&mut payload).await?;
        let (kind, flags) = (head[3], head[4]);
        let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let ends = kind == RST_STREAM || (matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0);
        if of == stream && ends {
            return Ok(kind);
        }
    }
}
