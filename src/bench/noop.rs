//! `tidegate-bench noop`: the baseline, a bare tonic server that answers OK without looking.
//!
//! It is what a Rust gRPC service costs before it does anything: tonic's own transport and generated service, with
//! nothing set, on one current-thread runtime for each core that it shall use. Sockets are dealt in turn, so that with
//! several runtimes none is idle.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use clap::Args;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::cli::{Failure, Verdict, print};
use super::traffic::must_be;
use crate::cli::ExitStatus;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::settings::text;

/// Accepted sockets that may wait for a runtime's attention.
const SOCKETS_WAITING_MAX: usize = 256;

/// The flags of `noop`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Where to listen; port 0 lets the system choose one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", value_parser = parse_listen)]
    listen: SocketAddr,
    /// Runtimes, each on a thread of its own
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_runtimes)]
    runtimes: usize,
}

/// Answers OK.
#[derive(Clone, Copy, Debug)]
struct Noop;

type Sockets = mpsc::Receiver<std::net::TcpStream>;

/// Serves until SIGTERM or SIGINT; says on standard output where.
///
/// # Errors
/// When the port is taken or the operating system refuses.
pub fn run(arguments: &Arguments) -> Result<Verdict, Failure> {
    crate::open_files::raise();
    let system = |error: io::Error| Failure::new(ExitStatus::OperatingSystem, error);
    let mut runtimes = Vec::new();
    for index in 0..arguments.runtimes {
        let (sender, sockets) = mpsc::channel(SOCKETS_WAITING_MAX);
        let runtime = runtime().map_err(system)?;
        let work = move || runtime.block_on(serve(sockets));
        std::thread::Builder::new().name(format!("noop-{index}")).spawn(work).map_err(system)?;
        runtimes.push(sender);
    }
    runtime().map_err(system)?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
        let taken = |error| {
            let text = format!("--listen {}: {error}; choose another port, or 0", arguments.listen);
            Failure { status: ExitStatus::Unavailable, text }
        };
        let listener = TcpListener::bind(arguments.listen).await.map_err(taken)?;
        print(&format_args!("listening on {}", listener.local_addr().map_err(system)?));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            never = deal(&listener, &runtimes) => never.map(|never| match never {}).map_err(system)?,
        }
        // The runtimes end with the process: whoever stops a baseline waits for no answers.
        Ok(Verdict::Holds)
    })
}

/// Accepts connections and deals them to the runtimes in turn.
async fn deal(listener: &TcpListener, runtimes: &[mpsc::Sender<std::net::TcpStream>]) -> io::Result<Infallible> {
    loop {
        for runtime in runtimes {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            // One that is gone answers no more, and its connections end: no measurement survives that unnoticed.
            drop(runtime.send(socket.into_std()?).await);
        }
    }
}

async fn serve(mut sockets: Sockets) {
    let incoming = futures_util::stream::poll_fn(move |context| {
        sockets.poll_recv(context).map(|socket| socket.map(TcpStream::from_std))
    });
    let served = Server::builder().add_service(RateLimitServiceServer::new(Noop)).serve_with_incoming(incoming).await;
    if let Err(error) = served {
        eprintln!("tidegate-bench: the baseline stopped serving: {error}");
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn parse_listen(written: &str) -> Result<SocketAddr, String> {
    written.parse().map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8081".to_owned())
}

fn parse_runtimes(written: &str) -> Result<usize, String> {
    must_be(text::whole(written, &(1..=1_024)))
}

// === impl Noop ===

#[tonic::async_trait]
impl RateLimitService for Noop {
    async fn should_rate_limit(
        &self,
        _request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        Ok(Response::new(RateLimitResponse { overall_code: Code::Ok.into(), ..RateLimitResponse::default() }))
    }
}
