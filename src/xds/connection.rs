//! A connection to the server: socket, TLS where it is spoken, HTTP/2, one stream.
//!
//! The files of TLS are read for each connection, so a renewed certificate is shown with the next one. That the other end
//! is dead is noticed twice: the system asks whether the machine is there, after half a minute of silence, and HTTP/2
//! asks whether the server is. The second may not be asked often: servers in Go (grpc-go, so Envoy Gateway too) take more
//! than one ping in five minutes for an attack and close the connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pbjson_types::value::Kind;
use pbjson_types::{Struct, Value};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};
use tower_service::Service;

use super::answer::{Answer, AnswerCodec};
use super::heard::Heard;
use super::protocol::Ask;
use super::resources::TYPE_URL;
use super::{XdsAddress, XdsServer, shown};
use crate::connect;
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::discovery::v3::DiscoveryRequest;
use crate::proto::google::rpc;

/// An open stream: what is asked goes out by `asks`, and what is told comes by `answers`, which first has to come itself:
/// servers open their side with the first answer. It ends when dropped, and its connection with it.
pub(super) struct Opened {
    pub(super) asks: Asks,
    pub(super) answers: Answers,
    /// Cancelled when the first byte has come: HTTP/2 begins with some of the server's.
    pub(super) heard: CancellationToken,
    _connection: DropGuard,
}

/// Where requests go.
pub(super) struct Asks {
    sender: mpsc::Sender<DiscoveryRequest>,
    node: Node,
}

/// Where answers come from.
pub(super) struct Answers {
    state: AnswersState,
    message_bytes_max: usize,
    why_ended: WhyEnded,
}

/// Why there is no next answer. Either way the stream is over; the reason is a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The server or the way to it is gone.
    Lost(String),
    /// There is one that can't be read so far that it could be refused on the stream.
    Unreadable(String),
}

/// Why the connection ended, once it has: the streams on it know less.
type WhyEnded = Arc<OnceLock<String>>;

/// HTTP/2 over a connection, which ends with the guard.
struct Spoken {
    sender: SendRequest<Body>,
    guard: DropGuard,
    heard: CancellationToken,
    why_ended: WhyEnded,
}

enum AnswersState {
    /// Until the server's side is open.
    Opening(Pin<Box<dyn Future<Output = Result<Streaming<Bytes>, Status>> + Send>>),
    Open(Box<Streaming<Bytes>>),
}

/// The call.
const PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// Requests that wait to be sent: one is answered before the next is made.
const ASKS_MAX: usize = 2;

/// Silence after which the system asks whether the other machine is there; how often then; how many times in vain.
const PROBES: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// Most characters of what a server says that a sentence repeats.
const SHOWN_MAX: usize = 200;

/// gRPC's code for "what you sent is wrong".
const INVALID_ARGUMENT: i32 = 3;

/// Connects and begins the call. Nothing is asked yet.
pub(super) async fn open(server: &XdsServer) -> Result<Opened, String> {
    let connected = timeout(server.connect_timeout, connect(server)).await;
    let Spoken { sender, guard, heard, why_ended } = connected
        .unwrap_or_else(|_| Err("it could not be connected to in time (rules.xds.connect_timeout)".to_owned()))?;
    let address = &server.address;
    // A zone means something on this machine alone, and stands in no URI.
    let host = address.host.split_once('%').map_or(address.host.as_str(), |(host, _)| host);
    let authority = XdsAddress { host: host.to_owned(), port: address.port };
    let origin: Uri = format!("http{}://{authority}", if server.tls.is_some() { "s" } else { "" })
        .parse()
        .map_err(|_| format!("{address} is no address"))?;
    let mut client = Grpc::with_origin(Calls(sender), origin).max_decoding_message_size(server.message_bytes_max);
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let asked = stream::unfold(asked, |mut asked| async { asked.recv().await.map(|ask| (ask, asked)) });
    let mut call = tonic::Request::new(asked);
    *call.metadata_mut() = MetadataMap::from_headers(server.headers.0.clone());
    let opening = Box::pin(async move {
        client.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
        let called = client.streaming(call, PathAndQuery::from_static(PATH), AnswerCodec).await;
        called.map(tonic::Response::into_inner)
    });
    let state = AnswersState::Opening(opening);
    let answers = Answers { state, message_bytes_max: server.message_bytes_max, why_ended };
    Ok(Opened { asks: Asks { sender: asks, node: node(server) }, answers, heard, _connection: guard })
}

async fn connect(server: &XdsServer) -> Result<Spoken, String> {
    let host = server.address.host.as_str();
    let sentence = |error: io::Error| error.to_string();
    let socket = connect::tcp(host, server.address.port, server.connect_timeout).await.map_err(sentence)?;
    if let Err(error) = probed(&socket) {
        tracing::debug!(%error, "TCP does not probe the xDS server; HTTP/2 does later");
    }
    match &server.tls {
        None => speak(socket, server).await,
        Some(tls) => {
            let sealed = tls.seal_for(Some("h2"), socket, host).await.map_err(sentence)?;
            speak(sealed, server).await
        }
    }
}

fn probed(socket: &TcpStream) -> rustix::io::Result<()> {
    let (idle, interval, count) = PROBES;
    socket.set_nodelay(true).ok();
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, idle)?;
    sockopt::set_tcp_keepintvl(socket, interval)?;
    sockopt::set_tcp_keepcnt(socket, count)
}

/// Begins HTTP/2. The connection is driven by a task, until the guard is dropped.
async fn speak(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    server: &XdsServer,
) -> Result<Spoken, String> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_timeout(server.keepalive_timeout);
    builder.keep_alive_interval(server.keepalive_interval).keep_alive_while_idle(true);
    let heard = CancellationToken::new();
    let socket = Heard::new(socket, heard.clone());
    let (sender, connection) = builder.handshake(TokioIo::new(socket)).await.map_err(|error| chain(&error))?;
    let (end, why_ended) = (CancellationToken::new(), WhyEnded::default());
    let (ended, why) = (end.clone(), Arc::clone(&why_ended));
    tokio::spawn(async move {
        tokio::select! {
            done = connection => if let Err(error) = done {
                why.get_or_init(|| chain(&error));
            },
            () = ended.cancelled() => {}
        }
    });
    Ok(Spoken { sender, guard: end.drop_guard(), heard, why_ended })
}

fn node(server: &XdsServer) -> Node {
    let text = |text: &String| Value { kind: Some(Kind::StringValue(text.clone())) };
    let fields = server.node_metadata.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let metadata = (!server.node_metadata.is_empty()).then_some(Struct { fields });
    Node { id: server.node_id.clone(), metadata }
}

/// An error and what it came from, as one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        source = error.source();
    }
    shown(&sentence, SHOWN_MAX)
}

// === impl Asks ===

impl Asks {
    /// Sends a request. Whether the stream still stands shows in its answers.
    pub(super) async fn send(&self, ask: Ask) {
        let Ask { version, nonce, refusal } = ask;
        let request = DiscoveryRequest {
            version_info: version,
            // Servers may read it of the first request alone, or of each.
            node: Some(self.node.clone()),
            resource_names: Vec::new(),
            type_url: TYPE_URL.to_owned(),
            response_nonce: nonce,
            error_detail: refusal.map(|message| rpc::Status { code: INVALID_ARGUMENT, message, details: Vec::new() }),
        };
        drop(self.sender.send(request).await);
    }
}

// === impl Answers ===

impl Answers {
    /// The next answer; an error where the stream has ended. Nothing is lost if it is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Answer, NoAnswer> {
        loop {
            match &mut self.state {
                AnswersState::Opening(opening) => {
                    let opened = opening.await;
                    self.state = AnswersState::Open(Box::new(opened.map_err(|status| self.sentence(&status))?));
                }
                AnswersState::Open(answers) => {
                    return match answers.message().await {
                        Ok(Some(answer)) => Answer::read(answer).map_err(NoAnswer::Unreadable),
                        Ok(None) => Err(NoAnswer::Lost("it ended the stream".to_owned())),
                        Err(status) => Err(self.sentence(&status)),
                    };
                }
            }
        }
    }

    fn sentence(&self, status: &Status) -> NoAnswer {
        match status.code() {
            Code::OutOfRange => NoAnswer::Unreadable(format!(
                "its answer has more bytes than are read: raise rules.xds.message_bytes_max, which is {}",
                self.message_bytes_max
            )),
            Code::Unimplemented => {
                NoAnswer::Lost("it serves no rules there (AggregatedDiscoveryService is not known to it)".to_owned())
            }
            code => {
                let source = std::error::Error::source(status).map(chain).filter(|source| !source.is_empty());
                let message = self.why_ended.get().cloned().or(source);
                let message = message.unwrap_or_else(|| shown(status.message(), SHOWN_MAX));
                NoAnswer::Lost(format!("the stream ended: {message} ({code:?})"))
            }
        }
    }
}

/// HTTP/2 as the generated client calls it.
struct Calls(SendRequest<Body>);

impl Service<Request<Body>> for Calls {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
