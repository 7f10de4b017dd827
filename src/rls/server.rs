//! The gRPC port: one runtime per core, sockets dealt to them by count.
//!
//! Each worker is a thread with a current-thread runtime of its own: no work is stolen, no wake-up crosses cores and
//! nothing is shared on the request path but the table of rules. Measured, that is 1.5 to 1.7 times one
//! multi-thread runtime. One acceptor hands each new connection to the worker that has the fewest: Envoy opens few
//! connections, one for each of its workers, and `SO_REUSEPORT` would deal them by hash.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, ConnectionLimits};
use super::router::Router;
use crate::counters::CounterStore;
use crate::metrics::Metrics;

/// Limits of the port.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at once; more are closed as they come.
    pub connections_max: usize,
    /// What holds for each of them.
    pub connection: ConnectionLimits,
    /// Time that a worker gives its connections to end at shutdown.
    pub drain_timeout: Duration,
}

/// The worker threads of the port.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    limits: ServerLimits,
    metrics: Metrics,
}

#[derive(Debug)]
struct Worker {
    sockets: mpsc::Sender<std::net::TcpStream>,
    connections: Arc<AtomicUsize>,
    thread: JoinHandle<bool>,
}

/// Counts one connection for as long as it lives.
struct Counted(Arc<AtomicUsize>);

/// Accepted sockets that may wait for a worker's attention.
const SOCKETS_WAITING_MAX: usize = 256;

// === impl Workers ===

impl Workers {
    /// Starts `count` workers. `router` is called once on each worker's own runtime.
    ///
    /// # Errors
    /// When a thread or a runtime can't be made.
    pub fn start<S, F>(
        count: usize,
        limits: ServerLimits,
        metrics: Metrics,
        stop: &CancellationToken,
        router: F,
    ) -> io::Result<Workers>
    where
        S: CounterStore + Clone,
        F: Fn(&TaskTracker) -> Router<S> + Clone + Send + 'static,
    {
        let start_one = |index: usize| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (sockets, incoming) = mpsc::channel(SOCKETS_WAITING_MAX);
            let connections = Arc::new(AtomicUsize::new(0));
            let work = {
                let (stop, connections, router) = (stop.clone(), Arc::clone(&connections), router.clone());
                move || runtime.block_on(work(incoming, connections, limits, stop, router))
            };
            let thread = std::thread::Builder::new().name(format!("rls-{index}")).spawn(work)?;
            Ok(Worker { sockets, connections, thread })
        };
        let workers = (0..count.max(1)).map(start_one).collect::<io::Result<_>>()?;
        Ok(Workers { workers, limits, metrics })
    }

    /// Accepts connections and deals them out, until `stop` is cancelled; then the port is closed.
    pub async fn accept(&self, listener: TcpListener, stop: CancellationToken) {
        let mut full = false;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: some will be closed soon.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let connections: usize = self.workers.iter().map(Worker::load).sum();
            self.metrics.totals().grpc_connections.set(connections as u64);
            if connections >= self.limits.connections_max {
                if !std::mem::replace(&mut full, true) {
                    let connections_max = self.limits.connections_max;
                    tracing::warn!(connections_max, "too many connections: more are closed as they come");
                }
                continue;
            }
            full = false;
            if let Err(error) = self.deal(stream, peer).await {
                tracing::debug!(%error, %peer, "a connection broke while it was dealt");
            }
        }
    }

    async fn deal(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        // Answers are single small writes; waiting to join them would cost the caller's deadline.
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let worker = self.workers.iter().min_by_key(|worker| worker.load()).expect("there is at least one worker");
        worker.connections.fetch_add(1, Ordering::Relaxed);
        if worker.sockets.send(stream).await.is_err() {
            worker.connections.fetch_sub(1, Ordering::Relaxed);
            tracing::debug!(%peer, "a connection came while the service was stopping");
        }
        Ok(())
    }

    /// Waits for the workers to end, which they do when `stop` was cancelled and their calls are answered. Says
    /// whether all of them did so within the drain time.
    pub async fn join(self) -> bool {
        let threads: Vec<_> = self.workers.into_iter().map(|worker| worker.thread).collect();
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).fold(true, |all, joined| all & matches!(joined, Ok(true)))
        });
        joined.await.unwrap_or(false)
    }
}

// === impl Worker ===

impl Worker {
    fn load(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A worker's life: serves the sockets it is dealt, then waits for them to end. Says whether they did in time.
async fn work<S, F>(
    mut incoming: mpsc::Receiver<std::net::TcpStream>,
    connections: Arc<AtomicUsize>,
    limits: ServerLimits,
    stop: CancellationToken,
    router: F,
) -> bool
where
    S: CounterStore + Clone,
    F: Fn(&TaskTracker) -> Router<S>,
{
    let (tasks, background) = (TaskTracker::new(), TaskTracker::new());
    let router = router(&background);
    let serve = |stream: std::net::TcpStream| {
        let counted = Counted(Arc::clone(&connections));
        match TcpStream::from_std(stream) {
            Ok(stream) => {
                let served = connection::serve(stream, router.clone(), limits.connection, stop.clone(), tasks.clone());
                tasks.spawn(async move {
                    served.await;
                    drop(counted);
                });
            }
            Err(error) => tracing::debug!(%error, "a connection broke while it was dealt"),
        }
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            stream = incoming.recv() => match stream {
                Some(stream) => serve(stream),
                None => break,
            },
        }
    }
    // What was accepted before the stop is answered too.
    while let Ok(stream) = incoming.try_recv() {
        serve(stream);
    }
    tasks.close();
    timeout(limits.drain_timeout, tasks.wait()).await.is_ok()
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
