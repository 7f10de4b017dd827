//! Bodies that one side doesn't take: what the proxy takes of them is bounded, and nobody else waits. And bodies that
//! come in parts: each part goes on at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::accepting::Accepting;
use super::config::{bootstrap, cluster, listener, route, with};
use super::stage::{Places, Stage};
use super::subject::Kind;
use crate::support::{PATIENCE, eventually};

/// Bytes of a large body.
const LARGE: usize = 256 << 20;
/// What sockets (each side's buffers on both connections) and the proxy may hold of it.
const HELD_MAX: usize = 128 << 20;
/// What the proxy alone may have more in memory than before.
const OWN_MAX_KIB: u64 = 16 << 10;
/// Requests of others during which nothing may move before it counts as standing still.
const OTHERS: usize = 20;

/// An upstream of one large answer, or one that reads nothing of a request before it is told to.
struct Large {
    server: Accepting,
    /// Bytes of bodies that it has sent, or read.
    moved: Arc<AtomicUsize>,
    may_read: Arc<Notify>,
}

impl Large {
    async fn start() -> Large {
        let (moved, may_read) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let server = Accepting::start({
            let (moved, may_read) = (Arc::clone(&moved), Arc::clone(&may_read));
            move |stream| serve(stream, Arc::clone(&moved), Arc::clone(&may_read))
        })
        .await;
        Large { server, moved, may_read }
    }

    fn moved(&self) -> usize {
        self.moved.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, moved: Arc<AtomicUsize>, may_read: Arc<Notify>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    if head.starts_with(b"GET") {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.ok()?;
        return send(&mut stream, &moved).await;
    }
    if head.starts_with(b"POST /large/deaf ") {
        may_read.notified().await;
    }
    let length = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())?;
    let mut piece = vec![0; 64 << 10];
    let mut read = 0;
    while read < length {
        read += stream.read(&mut piece).await.ok().filter(|bytes| *bytes > 0)?;
        moved.store(read, Ordering::Relaxed);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nread").await.ok()
}

/// Sends the large body and counts what the socket has taken of it.
async fn send(stream: &mut TcpStream, sent: &AtomicUsize) -> Option<()> {
    let piece = vec![b'x'; 64 << 10];
    for _ in 0..LARGE / piece.len() {
        stream.write_all(&piece).await.ok()?;
        sent.fetch_add(piece.len(), Ordering::Relaxed);
    }
    Some(())
}

fn config(places: &Places<'_>, large: SocketAddr) -> Value {
    let routes = [with(route("/large", "large"), &json!({ "route": { "timeout": "0s" } })), route("/", "up")];
    let clusters = [cluster("up", &[places.upstream]), cluster("large", &[large])];
    bootstrap(&[listener("main", places.folder, &[], &routes)], &clusters)
}

/// The count, once it doesn't move any more while others are served.
async fn standing(stage: &mut Stage, count: impl Fn() -> usize) -> usize {
    eventually("some of it has been taken", PATIENCE, async || (count() > 0).then_some(())).await;
    let (mut last, mut same) = (0, 0);
    while same < OTHERS {
        assert_eq!(stage.get("/hello").await, 200, "others are served");
        let now = count();
        assert!(now < HELD_MAX, "{now} bytes of {LARGE} were taken, and nobody reads them");
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

async fn read_to_end(stream: &mut TcpStream) -> usize {
    let mut piece = vec![0; 256 << 10];
    let mut all = 0;
    loop {
        match timeout(PATIENCE, stream.read(&mut piece)).await.expect("it goes on") {
            Ok(0) | Err(_) => return all,
            Ok(bytes) => all += bytes,
        }
    }
}

#[tokio::test]
async fn of_an_answer_that_its_client_does_not_read_a_bounded_part_is_taken() {
    let large = Large::start().await;
    let config = |places: &Places<'_>| config(places, large.server.address());
    let Some(mut stage) = Stage::start(Kind::Ours, config).await else { return };
    assert_eq!(stage.get("/hello").await, 200);
    let before = stage.subject.process.resident_kib();
    let mut client = TcpStream::connect(stage.subject.address("main")).await.unwrap();
    client.write_all(b"GET /large HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    standing(&mut stage, || large.moved()).await;
    let more = stage.subject.process.resident_kib().saturating_sub(before);
    assert!(more < OWN_MAX_KIB, "the proxy holds {more} KiB more than before");
    // It was not given up: who begins to read gets all of it.
    assert!(read_to_end(&mut client).await > LARGE, "the body and its head");
    assert_eq!(large.moved(), LARGE);
}

#[tokio::test]
async fn of_a_request_that_its_upstream_does_not_read_a_bounded_part_is_taken() {
    let large = Large::start().await;
    let config = |places: &Places<'_>| config(places, large.server.address());
    let Some(mut stage) = Stage::start(Kind::Ours, config).await else { return };
    assert_eq!(stage.get("/hello").await, 200);
    let before = stage.subject.process.resident_kib();
    let mut client = TcpStream::connect(stage.subject.address("main")).await.unwrap();
    let head = format!("POST /large/deaf HTTP/1.1\r\nhost: test\r\ncontent-length: {LARGE}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let sending = tokio::spawn({
        let sent = Arc::clone(&sent);
        async move {
            send(&mut client, &sent).await.expect("all of it is taken in the end");
            client
        }
    });
    standing(&mut stage, || sent.load(Ordering::Relaxed)).await;
    let more = stage.subject.process.resident_kib().saturating_sub(before);
    assert!(more < OWN_MAX_KIB, "the proxy holds {more} KiB more than before");
    assert_eq!(large.moved(), 0, "the upstream has read nothing so far");
    large.may_read.notify_one();
    let mut client = timeout(PATIENCE, sending).await.expect("it goes on").unwrap();
    let mut status = [0; 12];
    timeout(PATIENCE, client.read_exact(&mut status)).await.expect("it is answered").unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    assert_eq!(large.moved(), LARGE);
}

#[tokio::test]
async fn the_first_bytes_of_a_request_reach_upstream_before_the_rest_is_sent() {
    let large = Large::start().await;
    let config = |places: &Places<'_>| config(places, large.server.address());
    let Some(stage) = Stage::start(Kind::Ours, config).await else { return };
    let mut client = TcpStream::connect(stage.subject.address("main")).await.unwrap();
    client.write_all(b"POST /large/part HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nfirst").await.unwrap();
    eventually("upstream has the first bytes", PATIENCE, async || (large.moved() == 5).then_some(())).await;
    client.write_all(b" last").await.unwrap();
    let mut status = [0; 12];
    timeout(PATIENCE, client.read_exact(&mut status)).await.expect("it is answered").unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    assert_eq!(large.moved(), 10);
}
