//! The gRPC port: one runtime per core, sockets dealt to them by count.
//!
//! Each worker is a thread with a current-thread runtime of its own: no work is stolen, no wake-up crosses cores and
//! nothing is shared on the request path but the table of rules. Measured, that is 1.5 to 1.7 times one
//! multi-thread runtime. One acceptor hands each new connection to the worker that has the fewest: Envoy opens few
//! connections, one for each of its workers, and `SO_REUSEPORT` would deal them by hash.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, ConnectionLimits, Core};
use super::listening::{Arrived, Detached, Listening};
use super::pace::Line;
use super::places::{self, Place, Places};
use super::router::Router;
use super::tls::Acceptor;
use crate::counters::CounterStore;
use crate::metrics::Metrics;

/// Limits of the port.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at once. For one more the longest idle is closed.
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
    places: Places,
}

#[derive(Debug)]
struct Worker {
    sockets: mpsc::Sender<Dealt>,
    connections: Arc<AtomicUsize>,
    thread: JoinHandle<bool>,
}

/// Counts one connection of a worker for as long as it lives.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

type Dealt = (Detached, Counted, Place);

/// Accepted sockets that may wait for a worker's attention.
const SOCKETS_WAITING_MAX: usize = 256;

// === impl Workers ===

impl Workers {
    /// Starts `count` workers, which speak TLS over TCP if there is an acceptor, and end when `stop` is cancelled and
    /// their calls are answered. `router` is called once on each worker's own runtime.
    ///
    /// # Errors
    /// When a thread or a runtime can't be made.
    pub fn start<S, F>(
        count: usize,
        limits: ServerLimits,
        acceptor: Option<Acceptor>,
        metrics: Metrics,
        stop: &CancellationToken,
        router: F,
    ) -> io::Result<Workers>
    where
        S: CounterStore + Clone,
        F: Fn(&TaskTracker) -> Router<S> + Clone + Send + 'static,
    {
        let start_one = |index: usize| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(31).build()?;
            let (sockets, incoming) = mpsc::channel(SOCKETS_WAITING_MAX);
            let connections = Arc::new(AtomicUsize::new(0));
            let work = {
                let (acceptor, stop, router) = (acceptor.clone(), stop.clone(), router.clone());
                move || runtime.block_on(work(incoming, limits, acceptor, stop, router))
            };
            let thread = std::thread::Builder::new().name(format!("rls-{index}")).spawn(work)?;
            Ok(Worker { sockets, connections, thread })
        };
        let workers = (0..count.max(1)).map(start_one).collect::<io::Result<_>>()?;
        let places = Places::new(limits.connections_max, limits.connection.streams_max, count.max(1), metrics);
        Ok(Workers { workers, places })
    }

    /// Accepts connections and deals them out, until `stop` is cancelled; then the port is closed. The workers' own
    /// `stop` is to be cancelled after that.
    pub async fn accept(&self, listening: Listening, stop: CancellationToken) {
        let mut failing = false;
        let mut ticks = interval(places::TICK);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {
                    self.places.tick();
                    continue;
                }
                accepted = listening.accept() => accepted,
            };
            match accepted {
                Ok(arrived) => {
                    failing = false;
                    self.take(arrived).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "connections cannot be accepted; told once until it goes on");
                    }
                    // Out of file descriptors, most likely: some will be closed soon.
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = sleep(Duration::from_millis(100)) => {}
                    }
                }
            }
        }
        // Who was let in by the system before the stop is answered too.
        while let Some(Ok(arrived)) = listening.accept().now_or_never() {
            self.take(arrived).await;
        }
    }

    /// Deals a new connection out, or closes it if there is no place for it.
    async fn take(&self, arrived: Arrived) {
        let Some(place) = self.places.take() else { return };
        let peer = arrived.peer();
        if let Err(error) = self.deal(arrived, place).await {
            tracing::debug!(%error, ?peer, "a connection broke while it was dealt");
        }
    }

    async fn deal(&self, arrived: Arrived, place: Place) -> io::Result<()> {
        let peer = arrived.peer();
        let stream = arrived.detach()?;
        // A worker that ended, which none should, has the fewest connections of all.
        let working = self.workers.iter().filter(|worker| !worker.sockets.is_closed());
        let Some(worker) = working.min_by_key(|worker| worker.load()) else {
            tracing::debug!(?peer, "a connection came while the service was stopping");
            return Ok(());
        };
        let counted = Counted::new(&worker.connections);
        drop(worker.sockets.send((stream, counted, place)).await);
        Ok(())
    }

    /// Waits for the workers to end. Says whether all of them did so within the drain time.
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
    mut incoming: mpsc::Receiver<Dealt>,
    limits: ServerLimits,
    acceptor: Option<Acceptor>,
    stop: CancellationToken,
    router: F,
) -> bool
where
    S: CounterStore + Clone,
    F: Fn(&TaskTracker) -> Router<S>,
{
    let (tasks, background) = (TaskTracker::new(), TaskTracker::new());
    let router = router(&background);
    let core = Core { stop: stop.clone(), tasks: tasks.clone(), line: Line::default() };
    // It ends with the runtime: connections take turns until the last has ended.
    drop(tokio::spawn(core.line.clone().call()));
    let serve = |(stream, counted, place): Dealt| {
        let (router, limits, core) = (router.clone(), limits.connection, core.clone());
        let served = match stream {
            Detached::Tcp(stream) => TcpStream::from_std(stream).map(|stream| {
                let served = connection::serve(stream, acceptor.clone(), router, limits, place, core);
                Either::Left(served)
            }),
            // In a box, since there are few: the future of every other connection would have room for it.
            Detached::Unix(stream) => UnixStream::from_std(stream).map(|stream| {
                let served = connection::speak(stream, router, limits, place, core);
                Either::Right(Box::pin(served))
            }),
        };
        match served {
            Ok(served) => drop(tasks.spawn(served.map(|()| drop(counted)))),
            Err(error) => tracing::debug!(%error, "a connection broke while it was dealt"),
        }
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            dealt = incoming.recv() => match dealt {
                Some(dealt) => serve(dealt),
                None => break,
            },
        }
    }
    // What was dealt before the stop is answered too.
    incoming.close();
    while let Some(dealt) = incoming.recv().await {
        serve(dealt);
    }
    tasks.close();
    timeout(limits.drain_timeout, tasks.wait()).await.is_ok()
}

// === impl Counted ===

impl Counted {
    fn new(connections: &Arc<AtomicUsize>) -> Counted {
        connections.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(connections))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
