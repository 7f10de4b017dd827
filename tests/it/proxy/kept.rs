//! A client's connection that is kept from request to request.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::PATIENCE;

/// A connection in HTTP/1.1.
#[derive(Debug)]
pub(super) struct Kept {
    stream: BufReader<TcpStream>,
}

// === impl Kept ===

impl Kept {
    pub(super) async fn open(address: SocketAddr) -> Kept {
        Kept { stream: BufReader::new(TcpStream::connect(address).await.unwrap()) }
    }

    /// Sends bytes as they are.
    pub(super) async fn send(&mut self, bytes: &str) {
        self.stream.get_mut().write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Sends a request and reads its answer, see [`Kept::answer`].
    pub(super) async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
        self.answer().await
    }

    /// Reads an answer: its status, what it says of the connection, and its body.
    pub(super) async fn answer(&mut self) -> String {
        timeout(PATIENCE, self.read()).await.expect("it is answered")
    }

    async fn read(&mut self) -> String {
        let (mut status, mut connection, mut length) = (String::new(), "kept".to_owned(), 0);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await.unwrap_or_default() == 0 {
                return "the end".to_owned();
            }
            let lower = line.trim().to_ascii_lowercase();
            if status.is_empty() {
                status = lower.split(' ').nth(1).unwrap_or_default().to_owned();
            } else if let Some(value) = lower.strip_prefix("connection: ") {
                connection = value.to_owned();
            } else if let Some(value) = lower.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if lower.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        format!("{status} {connection} {:?}", String::from_utf8_lossy(&body))
    }

    /// Waits until the other side has closed it, having said nothing more.
    pub(super) async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // A reset is an end as well.
        drop(timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("it is closed"));
        rest.is_empty()
    }
}
