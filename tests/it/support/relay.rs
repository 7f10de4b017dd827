//! A relay between a store and its Redis that can hold answers back and cut connections: so the test, and no clock, says
//! how long a call is under way.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::redis::Redis;

/// A running relay; it ends when dropped, and its connections with it.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    answers: watch::Sender<Passing>,
    cuts: watch::Sender<u32>,
    connections: Arc<AtomicU32>,
    server: JoinHandle<()>,
}

/// How many more answers may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    All,
    Some(usize),
}

// === impl Relay ===

impl Relay {
    /// A relay to `redis` that lets everything pass.
    pub(crate) async fn to(redis: &Redis) -> Relay {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answers, cuts) = (watch::Sender::new(Passing::All), watch::Sender::new(0));
        let connections = Arc::new(AtomicU32::new(0));
        let server = {
            let (answers, cuts, made) = (answers.clone(), cuts.clone(), Arc::clone(&connections));
            tokio::spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    made.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(relayed(client, target, answers.clone(), cuts.subscribe()));
                }
            })
        };
        Relay { address, answers, cuts, connections, server }
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Holds answers back from now on. Calls still reach Redis and are made.
    pub(crate) fn hold(&self) {
        self.answers.send_replace(Passing::Some(0));
    }

    /// Lets one answer pass of those that are held back.
    pub(crate) fn let_one_pass(&self) {
        self.answers.send_modify(|passing| {
            if let Passing::Some(count) = passing {
                *count += 1;
            }
        });
    }

    /// Lets all answers pass again.
    pub(crate) fn release(&self) {
        self.answers.send_replace(Passing::All);
    }

    /// Cuts all connections; answers that were held back are lost. New connections are taken.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn relayed(
    client: TcpStream,
    target: SocketAddr,
    answers: watch::Sender<Passing>,
    mut cuts: watch::Receiver<u32>,
) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    // Whichever end closes first, or the cut, ends both directions.
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        _ = pass_back(from_server, to_client, answers) => {}
        _ = cuts.changed() => {}
    }
}

/// Passes answers back one by one: lines, and the bulk strings that some announce.
async fn pass_back(
    server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    answers: watch::Sender<Passing>,
) -> io::Result<()> {
    let (mut server, mut gate) = (BufReader::new(server), answers.subscribe());
    loop {
        let mut answer = Vec::new();
        if server.read_until(b'\n', &mut answer).await? == 0 {
            return Ok(());
        }
        let length = std::str::from_utf8(&answer).ok().and_then(|line| line.trim_end().strip_prefix('$')?.parse().ok());
        if let Some(length) = length {
            let _: usize = length;
            let begin = answer.len();
            answer.resize(begin + length + 2, 0);
            server.read_exact(&mut answer[begin..]).await?;
        }
        if gate.wait_for(|passing| *passing != Passing::Some(0)).await.is_err() {
            return Ok(());
        }
        answers.send_if_modified(|passing| {
            if let Passing::Some(count) = passing {
                *count -= 1;
            }
            false
        });
        client.write_all(&answer).await?;
    }
}
