//! The hostile clients themselves.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::frames::{self, GARBAGE_KINDS, ROUNDS_MAX, STREAMS};
use super::{Counts, Kind};
use crate::bench::cli::Failure;
use crate::bench::client::{Call, Outcome, Shape};
use crate::bench::compare::rules_file::DOMAIN;
use crate::bench::drive::{Observer, Pace, Plan, drive};
use crate::bench::keys::KeyChoice;
use crate::bench::message::{Message, Question};
use crate::bench::target::Server;
use crate::cli::ExitStatus;

/// Calls under way on each connection of [`Kind::Streams`].
const CALLS: usize = 1_000;

/// How long they may wait: longer than the server makes them.
const CALL_TIME: Duration = Duration::from_secs(10);

/// An attacker attacks until it is killed, but no longer than this.
const ATTACK_MAX: Duration = Duration::from_secs(3_600);

/// The pause of a client whose connection is refused.
const PAUSE: Duration = Duration::from_millis(10);

/// Connections that are being made at once, where there are to be many.
const CONNECTING_MAX: usize = 64;

/// How often an idle client tries to connect.
const ATTEMPTS: usize = 20;

/// Does what that kind does.
pub(super) async fn attack(
    kind: Kind,
    server: &Server,
    connections: usize,
    counts: &Arc<Counts>,
) -> Result<(), Failure> {
    match kind {
        Kind::Streams => return call_without_end(server, connections, counts).await,
        Kind::Idle => idle(server.address, connections, counts).await,
        Kind::Resets | Kind::Unread | Kind::Garbage => {
            let mut clients = JoinSet::new();
            for number in 0..connections as u64 {
                clients.spawn(again_and_again(kind, server.address, number, Arc::clone(counts)));
            }
            // None of them ends.
            clients.join_all().await;
        }
    }
    std::future::pending().await
}

/// Attacks, is cut off, and connects again.
async fn again_and_again(kind: Kind, address: SocketAddr, number: u64, counts: Arc<Counts>) -> Infallible {
    // Each connection of garbage is of another way than the one before.
    let mut way = number % GARBAGE_KINDS;
    loop {
        match connect(address).await {
            Ok(stream) => {
                counts.connected();
                // Being cut off is what it must expect.
                drop(send_without_end(kind, way, stream, &counts).await);
                counts.ended();
                tokio::task::yield_now().await;
            }
            Err(_) => sleep(PAUSE).await,
        }
        way = (way + 1) % GARBAGE_KINDS;
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&frames::greeting()).await?;
    Ok(stream)
}

/// Sends rounds as fast as they are taken, until the connection breaks.
async fn send_without_end(kind: Kind, way: u64, stream: TcpStream, counts: &Counts) -> io::Result<()> {
    let (mut reading, mut writing) = stream.into_split();
    let read = async {
        if kind == Kind::Unread {
            return std::future::pending().await;
        }
        let mut buffer = [0; 4_096];
        while reading.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    let write = async {
        for round in 0..ROUNDS_MAX {
            let (bytes, streams) = match kind {
                Kind::Resets => (frames::resets(round), u64::from(STREAMS)),
                Kind::Garbage => (frames::garbage(way, round), frames::garbage_streams(way)),
                Kind::Unread | Kind::Streams | Kind::Idle => (frames::calls(round), u64::from(STREAMS)),
            };
            writing.write_all(&bytes).await?;
            counts.sent(streams, bytes.len());
            // The others of this attacker have a turn, too.
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}

/// Connects so often, and says nothing more.
async fn idle(address: SocketAddr, connections: usize, counts: &Arc<Counts>) {
    let (places, tried) = (Arc::new(Semaphore::new(CONNECTING_MAX)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let (places, tried, counts) = (Arc::clone(&places), Arc::clone(&tried), Arc::clone(counts));
        clients.spawn(async move {
            // Nobody closes the semaphore.
            let place = places.acquire().await.ok();
            let connected = connect_in_the_end(address).await;
            drop(place);
            connected.iter().for_each(|_| counts.connected());
            if tried.fetch_add(1, Ordering::Relaxed) + 1 == connections {
                counts.is_ready();
            }
            let Some(mut stream) = connected else { return };
            let mut buffer = [0; 64];
            while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
            counts.ended();
        });
    }
    clients.join_all().await;
}

/// A connection that the server has taken note of; `None` when it can't be had.
async fn connect_in_the_end(address: SocketAddr) -> Option<TcpStream> {
    for _ in 0..ATTEMPTS {
        let connected = async {
            let mut stream = connect(address).await?;
            // The server's own settings: from now on it has the connection.
            stream.read_exact(&mut [0; 9]).await?;
            Ok::<_, io::Error>(stream)
        };
        match connected.await {
            Ok(stream) => return Some(stream),
            Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => return None,
            Err(_) => sleep(PAUSE).await,
        }
    }
    None
}

/// Keeps [`CALLS`] calls under way on each connection: well-behaved, but for their number.
async fn call_without_end(server: &Server, connections: usize, counts: &Arc<Counts>) -> Result<(), Failure> {
    let question =
        Question { domain: DOMAIN.to_owned(), key: "key".to_owned(), descriptors: 1, hits: 1, keys: KeyChoice::Hot };
    let plan = Plan {
        servers: vec![server.clone()],
        connections,
        calls_max: CALLS,
        pace: Pace::Closed,
        warm_up: Duration::ZERO,
        duration: ATTACK_MAX,
        patience: CALL_TIME,
        shape: Shape { message: Message::new(&question)?, deadline: CALL_TIME },
        keys: question.keys,
        descriptors: 1,
        seed: 1,
    };
    let bytes = plan.shape.message.bytes().len();
    let mut observer = Counting { counts: Arc::clone(counts), bytes };
    (0..connections).for_each(|_| counts.connected());
    let driven = tokio::task::spawn_blocking(move || drive(&plan, &mut observer)).await;
    driven.map_err(|error| Failure::new(ExitStatus::OperatingSystem, error))??;
    Ok(())
}

/// Counts calls as they end.
struct Counting {
    counts: Arc<Counts>,
    bytes: usize,
}

impl Observer for Counting {
    fn ended(&mut self, _call: &Call, _at_ns: u64, _outcome: Outcome) {
        self.counts.sent(1, self.bytes);
        self.counts.is_ready();
    }

    fn unsent(&mut self, _due_ns: u64) {}
}
