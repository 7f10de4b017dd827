//! A server that tells rules by xDS, with the behaviour of go-control-plane's snapshot cache, which Envoy Gateway uses.
//!
//! A node has no snapshot until it is given one, and is told nothing, not even headers, until then. A request opens a
//! watch, and closes when it is answered: at once if the node's snapshot has another version than the request names, else
//! with the next snapshot. So a refused snapshot is told again at once. Requests with an old nonce are passed over.
//! Versions are counted from 1, by each server anew.

use std::collections::HashMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt, stream};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use pbjson_types::Any;
use prost::Message;
use rustls::ServerConfig;
use tidegate::proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use tidegate::proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tidegate::proto::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::{PATIENCE, eventually};

/// What resources of rules are called.
pub(crate) const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// A running server; it ends when dropped, and its connections with it.
#[derive(Debug)]
pub(crate) struct SnapshotServer {
    address: SocketAddr,
    snapshots: watch::Sender<HashMap<String, Snapshot>>,
    asked: Arc<Mutex<Vec<DiscoveryRequest>>>,
    calls: Arc<Mutex<Vec<MetadataMap>>>,
    connections: watch::Sender<u32>,
    paused: watch::Sender<bool>,
    server: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Snapshot {
    version: u64,
    resources: Vec<Any>,
}

/// The service of one server.
#[derive(Clone)]
struct Snapshots {
    snapshots: watch::Receiver<HashMap<String, Snapshot>>,
    asked: Arc<Mutex<Vec<DiscoveryRequest>>>,
    calls: Arc<Mutex<Vec<MetadataMap>>>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

// === impl SnapshotServer ===

impl SnapshotServer {
    /// A server on a port of the system's choice, without TLS.
    pub(crate) async fn start() -> SnapshotServer {
        SnapshotServer::start_at((Ipv4Addr::LOCALHOST, 0).into(), None).await
    }

    /// A server at that address, over TLS if it is to be.
    pub(crate) async fn start_at(address: SocketAddr, tls: Option<ServerConfig>) -> SnapshotServer {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (snapshots, seen) = watch::channel(HashMap::new());
        let (connections, paused) = (watch::Sender::new(0), watch::Sender::new(false));
        let (asked, calls) = (Arc::default(), Arc::default());
        let service = Snapshots { snapshots: seen, asked: Arc::clone(&asked), calls: Arc::clone(&calls) };
        let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let (counted, pauses) = (connections.clone(), paused.clone());
        let server = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                counted.send_modify(|connections| *connections += 1);
                let (service, acceptor, pauses) = (service.clone(), acceptor.clone(), pauses.subscribe());
                tasks.spawn(pausing(pauses, async move {
                    match acceptor {
                        None => serve(socket, service).await,
                        Some(acceptor) => {
                            let Ok(sealed) = acceptor.accept(socket).await else { return };
                            // As servers in Go do: without a word about HTTP/2 there is none.
                            if sealed.get_ref().1.alpn_protocol() == Some(b"h2") {
                                serve(sealed, service).await;
                            }
                        }
                    }
                }));
            }
        });
        SnapshotServer { address, snapshots, asked, calls, connections, paused, server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives a node its next snapshot.
    pub(crate) fn tell(&self, node: &str, configs: &[RateLimitConfig]) {
        let resources = configs.iter().map(any).collect();
        self.tell_resources(node, resources);
    }

    /// The same of whatever resources.
    pub(crate) fn tell_resources(&self, node: &str, resources: Vec<Any>) {
        self.snapshots.send_modify(|snapshots| {
            let version = snapshots.get(node).map_or(0, |snapshot| snapshot.version) + 1;
            snapshots.insert(node.to_owned(), Snapshot { version, resources });
        });
    }

    /// Everything that was asked so far.
    pub(crate) fn asked(&self) -> Vec<DiscoveryRequest> {
        self.asked.lock().unwrap().clone()
    }

    /// The headers of the calls so far.
    pub(crate) fn calls(&self) -> Vec<MetadataMap> {
        self.calls.lock().unwrap().clone()
    }

    /// The first request that satisfies `is_meant`.
    pub(crate) async fn is_asked(&self, what: &str, is_meant: impl Fn(&DiscoveryRequest) -> bool) -> DiscoveryRequest {
        eventually(what, PATIENCE, async || self.asked().into_iter().find(&is_meant)).await
    }

    /// Waits until the version was accepted.
    pub(crate) async fn is_accepted(&self, version: &str) {
        let is_meant = |request: &DiscoveryRequest| {
            request.version_info == version && !request.response_nonce.is_empty() && request.error_detail.is_none()
        };
        self.is_asked(&format!("version {version} is accepted"), is_meant).await;
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> u32 {
        *self.connections.borrow()
    }

    /// Stops it where it is, or lets it go on: its sockets stay open, and nobody answers.
    pub(crate) fn pause(&self, is_paused: bool) {
        self.paused.send_replace(is_paused);
    }

    /// Ends it, and frees its address.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.server.abort();
        drop((&mut self.server).await);
        self.address
    }
}

impl Drop for SnapshotServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Does nothing while it is paused.
async fn pausing(mut pauses: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            is_over = async { pauses.wait_for(|paused| *paused).await.is_err() } => if is_over { return work.await },
            () = work.as_mut() => return,
        }
        // Without its server there is no more pause.
        drop(pauses.wait_for(|paused| !paused).await);
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, service: Snapshots) {
    let service = TowerToHyperService::new(AggregatedDiscoveryServiceServer::new(service));
    // Who goes away in the middle is no mistake of the server.
    drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await);
}

// === impl Snapshots ===

#[tonic::async_trait]
impl AggregatedDiscoveryService for Snapshots {
    type StreamAggregatedResourcesStream = Answers;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Answers>, Status> {
        self.calls.lock().unwrap().push(request.metadata().clone());
        let (sender, mut answers) = mpsc::channel(1);
        tokio::spawn(watched(self.clone(), request.into_inner(), sender));
        // Servers in Go send their headers with the first answer.
        let first = answers.recv().await.ok_or_else(|| Status::unavailable("the stream is over"))?;
        let rest = stream::unfold(answers, |mut answers| async { answers.recv().await.map(|next| (next, answers)) });
        Ok(Response::new(Box::pin(stream::iter([Ok(first)]).chain(rest.map(Ok)))))
    }
}

/// One stream.
async fn watched(
    mut service: Snapshots,
    mut requests: Streaming<DiscoveryRequest>,
    answers: mpsc::Sender<DiscoveryResponse>,
) -> Option<()> {
    let (mut node, mut open, mut nonce) = (String::new(), None, 0_u64);
    loop {
        tokio::select! {
            request = requests.message() => {
                let request = request.ok()??;
                service.asked.lock().unwrap().push(request.clone());
                if !request.response_nonce.is_empty() && request.response_nonce != nonce.to_string() {
                    continue;
                }
                if let Some(told) = &request.node {
                    node.clone_from(&told.id);
                }
                open = Some(request);
            }
            changed = service.snapshots.changed() => changed.ok()?,
        }
        let Some(request) = &open else { continue };
        let Some(snapshot) = service.snapshots.borrow_and_update().get(&node).cloned() else { continue };
        if request.version_info == snapshot.version.to_string() {
            continue;
        }
        open = None;
        nonce += 1;
        let answer = DiscoveryResponse {
            version_info: snapshot.version.to_string(),
            resources: snapshot.resources,
            type_url: TYPE_URL.to_owned(),
            nonce: nonce.to_string(),
        };
        answers.send(answer).await.ok()?;
    }
}

// === resources ===

/// A resource as it is told.
pub(crate) fn any(config: &RateLimitConfig) -> Any {
    Any { type_url: TYPE_URL.to_owned(), value: config.encode_to_vec().into() }
}

/// The rules of a domain, which is its name too.
pub(crate) fn domain(domain: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitConfig {
    RateLimitConfig { name: domain.to_owned(), domain: domain.to_owned(), descriptors }
}

/// A level with a limit; an empty value is any.
pub(crate) fn limited(key: &str, value: &str, unit: RateLimitUnit, requests_per_unit: u32) -> RateLimitDescriptor {
    RateLimitDescriptor {
        key: key.to_owned(),
        value: value.to_owned(),
        rate_limit: Some(RateLimitPolicy { unit: unit.into(), requests_per_unit, ..RateLimitPolicy::default() }),
        ..RateLimitDescriptor::default()
    }
}
