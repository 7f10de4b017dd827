//! The scripted upstream in HTTP/2: the last segment of a request's path says how it behaves, and it may misbehave in
//! ways that only this protocol has.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::accepting::Accepting;

/// Bytes of a large answer, more than a window of the protocol's default holds.
const LARGE_BYTES: usize = 300_000;

/// A running upstream; it ends when dropped.
#[derive(Debug)]
pub(super) struct ScriptedHttp2 {
    seen: Arc<Mutex<Seen>>,
    server: Accepting,
}

#[derive(Debug, Default)]
struct Seen {
    heads: Vec<String>,
    counts: HashMap<String, usize>,
    connections: usize,
}

/// What becomes of the connection after a request.
enum After {
    Nothing,
    /// It ends when its streams have, and takes no new ones.
    GoAway,
    /// It says that it has done nothing with its last stream, and ends.
    Abrupt,
    /// The socket is closed.
    Close,
}

// === impl ScriptedHttp2 ===

impl ScriptedHttp2 {
    pub(super) async fn start() -> ScriptedHttp2 {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let server = Accepting::start({
            let seen = Arc::clone(&seen);
            move |stream| serve(stream, Arc::clone(&seen))
        })
        .await;
        ScriptedHttp2 { seen, server }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The head of the last request, pseudo-headers first, the others sorted.
    pub(super) fn last_head(&self) -> String {
        self.seen.lock().unwrap().heads.last().cloned().unwrap_or_default()
    }

    /// How many requests had that path.
    pub(super) fn count(&self, path: &str) -> usize {
        self.seen.lock().unwrap().counts.get(path).copied().unwrap_or_default()
    }

    /// How many connections there have been.
    pub(super) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<Seen>>) -> Option<()> {
    seen.lock().unwrap().connections += 1;
    let mut connection: Connection<TcpStream, Bytes> = h2::server::handshake(stream).await.ok()?;
    let mut streams = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted.ok()?;
        let path = request.uri().path().to_owned();
        let count = {
            let mut seen = seen.lock().unwrap();
            seen.heads.push(head(&request));
            let count = seen.counts.entry(path.clone()).or_default();
            *count += 1;
            *count
        };
        let behaviour = path.rsplit('/').next().unwrap_or_default().to_owned();
        let after = match behaviour.as_str() {
            "goaway" => After::GoAway,
            "abrupt" if count == 1 => After::Abrupt,
            "close" => After::Close,
            _ => After::Nothing,
        };
        match after {
            After::Nothing => {}
            After::GoAway => connection.graceful_shutdown(),
            After::Abrupt => {
                connection.abrupt_shutdown(Reason::NO_ERROR);
                continue;
            }
            After::Close => return None,
        }
        streams.spawn(behave(behaviour, count, request, respond));
    }
    Some(())
}

async fn behave(
    behaviour: String,
    count: usize,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Option<()> {
    let ok = |name: &'static str| Response::builder().header("x-from", name).body(()).unwrap();
    if request.method() == Method::HEAD {
        // The end of an answer without a body may come behind its head.
        let mut body = respond.send_response(ok("upstream"), behaviour != "late-end").ok()?;
        return if behaviour == "late-end" { body.send_data(Bytes::new(), true).ok() } else { Some(()) };
    }
    match behaviour.as_str() {
        "reset" => respond.send_reset(Reason::INTERNAL_ERROR),
        "cancel" => respond.send_reset(Reason::CANCEL),
        "refused" => respond.send_reset(Reason::REFUSED_STREAM),
        "refused-once" if count == 1 => respond.send_reset(Reason::REFUSED_STREAM),
        "cut-head" => {
            let mut body = respond.send_response(ok("cut"), false).ok()?;
            body.send_reset(Reason::INTERNAL_ERROR);
        }
        "cut" => {
            let mut body = respond.send_response(ok("cut"), false).ok()?;
            body.send_data(Bytes::from_static(b"abc"), false).ok()?;
            // What was sent must have left before the reset takes it back.
            body.reserve_capacity(LARGE_BYTES);
            std::future::poll_fn(|context| body.poll_capacity(context)).await?.ok()?;
            body.send_reset(Reason::INTERNAL_ERROR);
        }
        "never" => {
            std::future::poll_fn(|context| respond.poll_reset(context)).await.ok()?;
        }
        "large" => {
            let mut body = respond.send_response(ok("large"), false).ok()?;
            send(&mut body, Bytes::from(vec![b'x'; LARGE_BYTES])).await?;
        }
        "echo" => {
            let mut echoed = read(request.into_body()).await?;
            let mut body = respond.send_response(ok("echo"), false).ok()?;
            send(&mut body, Bytes::from(std::mem::take(&mut echoed))).await?;
        }
        "trailers" => {
            let mut body = respond.send_response(ok("trailers"), false).ok()?;
            body.send_data(Bytes::from_static(b"before the trailers"), false).ok()?;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-trailer", HeaderValue::from_static("last"));
            body.send_trailers(trailers).ok()?;
        }
        "unavailable" => {
            let answer = Response::builder().header("grpc-status", "14").body(()).unwrap();
            respond.send_response(answer, true).ok()?;
        }
        "unavailable-last" => {
            let mut body = respond.send_response(ok("trailers"), false).ok()?;
            let status = (http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("14"));
            body.send_trailers(HeaderMap::from_iter([status])).ok()?;
        }
        "503" => {
            let answer = Response::builder().status(503).body(()).unwrap();
            respond.send_response(answer, true).ok()?;
        }
        _ => {
            let mut body = respond.send_response(ok("upstream"), false).ok()?;
            body.send_data(Bytes::from_static(b"hello"), true).ok()?;
        }
    }
    Some(())
}

fn head(request: &Request<RecvStream>) -> String {
    let mut headers: Vec<String> = request
        .headers()
        .iter()
        // The HTTP library says it of requests without a body, see docs/proxy.md.
        .filter(|(name, value)| !(name.as_str() == "content-length" && value.as_bytes() == b"0"))
        .map(|(name, value)| match name.as_str() {
            "x-request-id" | "x-envoy-expected-rq-timeout-ms" => format!("{name}: some"),
            _ => format!("{name}: {}", value.to_str().unwrap_or("?")),
        })
        .collect();
    headers.sort();
    let uri = request.uri();
    let (scheme, authority) = (uri.scheme_str().unwrap_or("-"), uri.authority().map_or("-", |it| it.as_str()));
    format!("{} {scheme} {authority} {} | {}", request.method(), uri.path(), headers.join(" | "))
}

async fn read(mut body: RecvStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        body.flow_control().release_capacity(piece.len()).ok()?;
        read.extend_from_slice(&piece);
    }
    Some(read)
}

/// Sends all of it, as fast as the windows allow, and ends the stream.
async fn send(body: &mut SendStream<Bytes>, mut content: Bytes) -> Option<()> {
    if content.is_empty() {
        return body.send_data(content, true).ok();
    }
    while !content.is_empty() {
        body.reserve_capacity(content.len());
        let room = std::future::poll_fn(|context| body.poll_capacity(context)).await?.ok()?;
        let piece = content.split_to(room.min(content.len()));
        body.send_data(piece, content.is_empty()).ok()?;
    }
    Some(())
}
