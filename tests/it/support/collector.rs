//! A collector of traces: OTLP over HTTP and over gRPC on one port, over TLS if it is asked to. It keeps what it takes,
//! and answers as it is told to.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use prost::Message;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate::proto::opentelemetry::proto::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tidegate::proto::opentelemetry::proto::common::v1::KeyValue;
use tidegate::proto::opentelemetry::proto::common::v1::any_value::Value;
use tidegate::proto::opentelemetry::proto::trace::v1::Span;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tonic::server::UnaryService;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::{PATIENCE, eventually};

const HTTP_PATH: &str = "/v1/traces";
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A running collector; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    server: JoinHandle<()>,
}

/// A span, the attributes of the process that made it, and the headers of the request that brought it.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) span: Span,
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) headers: HeaderMap,
}

/// What a collector says to a request instead of taking it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// An HTTP status, with a `Retry-After`.
    Http(u16, Option<&'static str>),
    /// A gRPC status.
    Grpc(Code),
    /// It takes all spans but so many.
    Partial(i64),
    /// It says nothing at all, over HTTP.
    Silence,
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Taken>,
    requests: usize,
    refusals: VecDeque<Refusal>,
}

// === impl Taken ===

impl Taken {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.span.name == name
    }

    /// The attribute of that name as text; several with commas between.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        value(&self.span.attributes, key)
    }

    /// The same of the process.
    pub(crate) fn resource(&self, key: &str) -> Option<String> {
        value(&self.resource, key)
    }
}

fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(written(attribute.value.as_ref()?.value.as_ref()?))
}

fn written(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::ArrayValue(array) => {
            let values = array.values.iter().map(|value| written(value.value.as_ref().expect("a value")));
            values.collect::<Vec<_>>().join(",")
        }
    }
}

// === impl Collector ===

impl Collector {
    /// A collector on a port of its own.
    pub(crate) async fn start() -> Collector {
        Collector::start_with(None).await
    }

    /// One that speaks TLS with the certificate of the gRPC port's tests.
    pub(crate) async fn start_tls() -> Collector {
        let file =
            |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/certificates/port").join(name);
        let certificate = CertificateDer::from_pem_file(file("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut configuration = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        configuration.alpn_protocols = vec![b"h2".to_vec()];
        Collector::start_with(Some(TlsAcceptor::from(Arc::new(configuration)))).await
    }

    async fn start_with(acceptor: Option<TlsAcceptor>) -> Collector {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Received::default()));
        let shared = Arc::clone(&received);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
                connections.spawn(async move {
                    match acceptor {
                        None => serve(stream, shared).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        Collector { address, received, server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says this to the next request, after what was ordered before.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.received.lock().unwrap().refusals.push_back(refusal);
    }

    /// Requests so far, with those that were refused.
    pub(crate) fn requests(&self) -> usize {
        self.received.lock().unwrap().requests
    }

    /// The spans so far.
    pub(crate) fn spans(&self) -> Vec<Taken> {
        self.received.lock().unwrap().spans.clone()
    }

    /// The spans, once one of them is so.
    pub(crate) async fn spans_with(&self, what: &str, is_so: impl Fn(&Taken) -> bool) -> Vec<Taken> {
        let what = format!("the collector has {what}");
        eventually(&what, PATIENCE, async || Some(self.spans()).filter(|spans| spans.iter().any(&is_so))).await
    }

    /// The first span of that name.
    pub(crate) async fn span(&self, name: &str) -> Taken {
        let spans = self.spans_with(&format!("a span {name}"), |taken| taken.is(name)).await;
        spans.into_iter().find(|taken| taken.is(name)).expect("was waited for")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, received: Arc<Mutex<Received>>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&received)));
    // A client that goes away ends its connection, nothing more.
    drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(
    request: Request<Incoming>,
    received: Arc<Mutex<Received>>,
) -> Result<Response<tonic::body::Body>, Infallible> {
    let content_type = request.headers()["content-type"].to_str().unwrap().to_owned();
    let headers = request.headers().clone();
    match (request.uri().path(), content_type.as_str()) {
        (HTTP_PATH, "application/x-protobuf") => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let exported = ExportTraceServiceRequest::decode(body).unwrap();
            match take(&received, headers, exported) {
                Err(Refusal::Silence) => std::future::pending().await,
                taken => Ok(answer_http(taken)),
            }
        }
        (GRPC_PATH, "application/grpc") => {
            let mut grpc = tonic::server::Grpc::new(Messages::default());
            Ok(grpc.unary(Export { received, headers }, request).await)
        }
        other => panic!("nobody exports spans to {other:?}"),
    }
}

fn answer_http(taken: Result<ExportTraceServiceResponse, Refusal>) -> Response<tonic::body::Body> {
    let mut response = Response::new(tonic::body::Body::default());
    match taken {
        Ok(taken) => *response.body_mut() = tonic::body::Body::new(Full::new(Bytes::from(taken.encode_to_vec()))),
        Err(Refusal::Http(status, after)) => {
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().extend(after.map(|after| (http::header::RETRY_AFTER, after.parse().unwrap())));
        }
        Err(other) => panic!("{other:?} is no answer over HTTP"),
    }
    response
}

/// How messages are written and read.
type Messages = ProstCodec<ExportTraceServiceResponse, ExportTraceServiceRequest>;

/// The method that takes spans over gRPC.
struct Export {
    received: Arc<Mutex<Received>>,
    headers: HeaderMap,
}

impl UnaryService<ExportTraceServiceRequest> for Export {
    type Response = ExportTraceServiceResponse;
    type Future = Ready<Result<tonic::Response<ExportTraceServiceResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<ExportTraceServiceRequest>) -> Self::Future {
        let taken = take(&self.received, self.headers.clone(), request.into_inner());
        std::future::ready(match taken {
            Ok(taken) => Ok(tonic::Response::new(taken)),
            Err(Refusal::Grpc(code)) => Err(Status::new(code, "not now")),
            Err(other) => panic!("{other:?} is no answer over gRPC"),
        })
    }
}

fn take(
    received: &Mutex<Received>,
    headers: HeaderMap,
    exported: ExportTraceServiceRequest,
) -> Result<ExportTraceServiceResponse, Refusal> {
    let mut received = received.lock().unwrap();
    received.requests += 1;
    let rejected_spans = match received.refusals.pop_front() {
        None => 0,
        Some(Refusal::Partial(rejected)) => rejected,
        Some(refusal) => return Err(refusal),
    };
    for of_process in exported.resource_spans {
        let resource = of_process.resource.unwrap_or_default().attributes;
        for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            received.spans.push(Taken { span, resource: resource.clone(), headers: headers.clone() });
        }
    }
    let partial = ExportTracePartialSuccess { rejected_spans, error_message: "too many".to_owned() };
    Ok(ExportTraceServiceResponse { partial_success: (rejected_spans > 0).then_some(partial) })
}
