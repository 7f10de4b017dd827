//! The scripted upstream: the last segment of a request's path says how it behaves. It notes what it was sent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::accepting::Accepting;

/// Longer than any test's time limits, shorter than its patience.
const NEVER: Duration = Duration::from_secs(20);

/// A running upstream; it ends when dropped.
#[derive(Debug)]
pub(super) struct Scripted {
    seen: Arc<Mutex<Seen>>,
    server: Accepting,
}

#[derive(Debug, Default)]
struct Seen {
    heads: Vec<String>,
    counts: HashMap<String, usize>,
    /// Answered instead of what the path says, while it is there.
    status: Option<u16>,
}

// === impl Scripted ===

impl Scripted {
    pub(super) async fn start() -> Scripted {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let server = Accepting::start({
            let seen = Arc::clone(&seen);
            move |stream| serve(stream, Arc::clone(&seen))
        })
        .await;
        Scripted { seen, server }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The heads of all requests so far, one text each.
    pub(super) fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().heads.clone()
    }

    /// How many requests had that path.
    pub(super) fn count(&self, path: &str) -> usize {
        self.seen.lock().unwrap().counts.get(path).copied().unwrap_or_default()
    }

    /// From now on every answer has that status; `None`: what the path says.
    pub(super) fn answer_all(&self, status: Option<u16>) {
        self.seen.lock().unwrap().status = status;
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut buffer = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut buffer).await {
        let path = head.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok())
            .unwrap_or_default();
        let (count, status) = {
            let mut seen = seen.lock().unwrap();
            seen.heads.push(head);
            let count = seen.counts.entry(path.clone()).or_default();
            *count += 1;
            (*count, seen.status)
        };
        let behaviour = path.rsplit('/').next().unwrap_or_default();
        let behaviour = status.map_or(behaviour.to_owned(), |status| status.to_string());
        while buffer.len() < length {
            if read_more(&mut stream, &mut buffer).await.is_none() {
                return;
            }
        }
        buffer.drain(..length.min(buffer.len()));
        if behave(&mut stream, &behaviour, count).await.is_none() {
            return;
        }
    }
}

/// Answers; `None` when the connection is over.
async fn behave(stream: &mut TcpStream, behaviour: &str, count: usize) -> Option<()> {
    match behaviour {
        "reset" => {
            stream.set_zero_linger().ok()?;
            None
        }
        "close" => None,
        "garbage" => {
            stream.write_all(b"this is no HTTP at all\r\n\r\n").await.ok()?;
            wait_for_end(stream).await;
            None
        }
        "never" => {
            wait_for_end(stream).await;
            None
        }
        "cut" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await.ok()?;
            None
        }
        "cut-head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await.ok()?;
            None
        }
        "cut-chunks" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await.ok()?;
            None
        }
        "stall" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await.ok()?;
            wait_for_end(stream).await;
            None
        }
        "until-close" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end").await.ok()?;
            None
        }
        "slow" => {
            // Nothing more comes, so this waits, or sees the other side go.
            drop(timeout(Duration::from_millis(400), stream.peek(&mut [0])).await);
            answer(stream, 200, "", "slow").await
        }
        "third-time" if !count.is_multiple_of(3) => answer(stream, 503, "", "not yet").await,
        "limited" => answer(stream, 429, "x-envoy-ratelimited: true\r\n", "limited").await,
        "big-head" => {
            let header = format!("x-big: {}\r\n", "a".repeat(70_000));
            answer(stream, 200, &header, "big").await
        }
        "cost" => answer(stream, 200, "x-cost: 7\r\n", "cost").await,
        grpc if grpc.starts_with("grpc-") => {
            let status = grpc.trim_start_matches("grpc-");
            answer(stream, 200, &format!("grpc-status: {status}\r\n"), "").await
        }
        other => match other.parse::<u16>() {
            Ok(status) => answer(stream, status, "", &format!("status {status}")).await,
            Err(_) => answer(stream, 200, "x-from: upstream\r\n", "hello").await,
        },
    }
}

async fn answer(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> Option<()> {
    let head = format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.ok()
}

async fn wait_for_end(stream: &mut TcpStream) {
    let mut rest = [0; 1024];
    let read_on = async { while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {} };
    drop(timeout(NEVER, read_on).await);
}

async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 4);
            return Some(head);
        }
        read_more(stream, buffer).await?;
    }
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    (stream.read_buf(buffer).await.ok()? > 0).then_some(())
}
