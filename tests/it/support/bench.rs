//! The program `tidegate-bench`, run to its end, and servers for it to be held against.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

use super::process::{Ended, Process};
use super::{PATIENCE, eventually};

/// Runs `tidegate-bench` with these arguments to its end.
pub(crate) async fn bench(arguments: &[&str]) -> Ended {
    spawn(arguments).wait(PATIENCE).await
}

/// Runs `tidegate-bench` with these arguments, which must succeed, and `--json`; its report.
pub(crate) async fn bench_json(arguments: &[&str]) -> serde_json::Value {
    let ended = bench(&[arguments, &["--json"]].concat()).await;
    assert!(ended.status.success(), "{arguments:?} ended with {}: {}", ended.status, ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error} in {}", ended.stdout))
}

fn spawn(arguments: &[&str]) -> Process {
    Process::spawn("tidegate-bench", Command::new(env!("CARGO_BIN_EXE_tidegate-bench")).args(arguments))
}

/// The baseline; killed when dropped.
#[derive(Debug)]
pub(crate) struct Noop {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

// === impl Noop ===

impl Noop {
    pub(crate) async fn start(runtimes: usize) -> Noop {
        let process = spawn(&["noop", "--listen", "127.0.0.1:0", "--runtimes", &runtimes.to_string()]);
        let address = eventually("the baseline says where it listens", PATIENCE, async || {
            let stdout = process.stdout();
            let line = stdout.split_inclusive('\n').find(|line| line.ends_with('\n'))?;
            Some(line.trim().strip_prefix("listening on ")?.parse().expect("an address"))
        })
        .await;
        Noop { process, address }
    }
}

/// A server that answers OK after a while, whatever the caller's deadline is; it ends when dropped.
#[derive(Debug)]
pub(crate) struct LateServer {
    pub(crate) address: SocketAddr,
    server: JoinHandle<()>,
}

// === impl LateServer ===

impl LateServer {
    pub(crate) async fn start(delay: Duration) -> LateServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, delay));
            }
        });
        LateServer { address, server }
    }
}

impl Drop for LateServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Serves until the client goes away.
async fn serve(stream: TcpStream, delay: Duration) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut calls = JoinSet::new();
    while let Some(Ok((_, respond))) = connection.accept().await {
        calls.spawn(answer(respond, delay));
    }
}

async fn answer(mut respond: SendResponse<Bytes>, delay: Duration) -> Result<(), h2::Error> {
    let mut pace = interval(delay);
    // The first tick comes at once.
    pace.tick().await;
    pace.tick().await;
    let head = Response::builder().header("content-type", "application/grpc").body(()).expect("it is well-formed");
    let mut stream = respond.send_response(head, false)?;
    // A message of two bytes: overall_code is OK.
    stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("it is well-formed"));
    stream.send_trailers(trailers)
}
