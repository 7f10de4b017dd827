//! The service behind Envoy: it answers every request with 200, the path as its body and the request's header
//! `x-cost` as its own, which is how a test says what an answer cost.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A running upstream; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    server: JoinHandle<()>,
}

// === impl Upstream ===

impl Upstream {
    pub(crate) async fn start() -> Upstream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    // A client that goes away ends its connection, nothing more.
                    drop(connection.serve_connection(TokioIo::new(stream), service_fn(echo)).await);
                });
            }
        });
        Upstream { address, server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(request.uri().path().to_owned().into()));
    if let Some(cost) = request.headers().get("x-cost") {
        response.headers_mut().insert("x-cost", cost.clone());
    }
    Ok(response)
}
