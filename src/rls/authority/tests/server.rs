//! A real server behind the adapter: that the need is real, that the cure cures, and that a connection stays one.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::time::timeout;

use super::*;

const RST_STREAM: u8 = 0x3;

/// What came back on a stream.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The first byte of the header block: 0x88 is the static index of `:status: 200`.
    Answered(u8),
    /// The error code.
    Reset(u32),
}

/// The authority and the `x-tag` of each request that reached the handler.
type Requests = Arc<Mutex<Vec<(Option<String>, String)>>>;

const OK: Outcome = Outcome::Answered(0x88);
const PROTOCOL_ERROR: Outcome = Outcome::Reset(1);

/// Serves one connection with hyper's HTTP/2 server.
async fn serve<T: AsyncRead + AsyncWrite + Unpin>(connection: T, requests: Requests) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let tag = request.headers().get("x-tag").map(|tag| tag.to_str().unwrap().to_owned());
        let authority = request.uri().authority().map(ToString::to_string);
        requests.lock().unwrap().push((authority, tag.unwrap_or_default()));
        async { Ok::<_, Infallible>(http::Response::new(Empty::<bytes::Bytes>::new())) }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A client that goes away is an error to the server, and the expected end here.
    drop(server.serve_connection(TokioIo::new(connection), service).await);
}

/// A client's connection, and its writer of header blocks.
struct Connection {
    reads: ReadHalf<DuplexStream>,
    writes: WriteHalf<DuplexStream>,
    encoder: ::hpack::Encoder<'static>,
    /// Of the next request.
    stream: u32,
    /// What is to be sent with the next request.
    unsent: Vec<u8>,
}

impl Connection {
    fn new(io: DuplexStream) -> Self {
        let (reads, writes) = split(io);
        let unsent = [&PREFACE[..], &frame(SETTINGS, 0, 0, &[])].concat();
        Self { reads, writes, encoder: ::hpack::Encoder::default(), stream: 1, unsent }
    }

    /// Sends a request, and waits for its outcome.
    async fn call(&mut self, authority: &str, tag: &str) -> Outcome {
        // As Envoy's encoder does: the best form, with Huffman, inserted into the table.
        let flags = ::hpack::Encoder::BEST_FORMAT | ::hpack::Encoder::HUFFMAN_VALUE | ::hpack::Encoder::WITH_INDEXING;
        let mut block = Vec::new();
        for (name, value) in
            [(":method", "POST"), (":scheme", "http"), (":path", "/p"), (":authority", authority), ("x-tag", tag)]
        {
            self.encoder.encode((name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags), &mut block).unwrap();
        }
        let stream = self.stream;
        self.stream += 2;
        let mut bytes = std::mem::take(&mut self.unsent);
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
        // Reading goes on while writing: a server that can't write does not read either.
        let exchange = async { tokio::join!(self.writes.write_all(&bytes), outcome(&mut self.reads, stream)) };
        let (written, outcome) = timeout(Duration::from_secs(30), exchange).await.expect("the server stands still");
        written.unwrap();
        outcome
    }
}

/// Reads frames up to the outcome of this stream.
async fn outcome(reads: &mut ReadHalf<DuplexStream>, stream: u32) -> Outcome {
    loop {
        let mut head = [0; HEAD_LENGTH];
        reads.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; Head::read(&head).unwrap().length];
        reads.read_exact(&mut payload).await.unwrap();
        let is_ours = head.ends_with(&stream.to_be_bytes());
        match head[3] {
            HEADERS if is_ours => return Outcome::Answered(payload[0]),
            RST_STREAM if is_ours => return Outcome::Reset(u32::from_be_bytes(payload.try_into().unwrap())),
            _ => {}
        }
    }
}

#[tokio::test]
async fn without_the_adapter_the_server_resets_these_streams() {
    let requests = Requests::default();
    let (near, far) = duplex(64 * 1024);
    let server = tokio::spawn(serve(far, requests.clone()));
    let mut connection = Connection::new(near);
    for name in REFUSED {
        assert_eq!(connection.call(name, "t").await, PROTOCOL_ERROR, "{name}");
    }
    assert_eq!(connection.call("ratelimit", "t").await, OK);
    assert_eq!(requests.lock().unwrap().len(), 1, "nothing else reached the handler");
    server.abort();
}

#[tokio::test]
async fn with_the_adapter_every_name_is_answered() {
    // Narrow pipes deliver every block in pieces.
    for width in [64 * 1024, 61, 5] {
        let requests = Requests::default();
        let (near, far) = duplex(width);
        let server = tokio::spawn(serve(AuthorityIo::new(far), requests.clone()));
        let mut connection = Connection::new(near);
        // Each twice: the second time by indices into the table.
        for name in REFUSED.into_iter().chain(["ratelimit", "[::1]:80", "é"]) {
            for tag in ["first", "first", "second"] {
                assert_eq!(connection.call(name, tag).await, OK, "{name}");
                let (authority, seen_tag) = requests.lock().unwrap().pop().unwrap();
                let harmless = "x".repeat(name.len());
                let expected = if Authority::try_from(name).is_ok() { name } else { &harmless };
                assert_eq!((authority.as_deref(), &seen_tag[..]), (Some(expected), tag));
            }
        }
        server.abort();
    }
}

#[tokio::test]
async fn both_tables_stay_in_step_when_entries_are_evicted() {
    let requests = Requests::default();
    let (near, far) = duplex(64 * 1024);
    let server = tokio::spawn(serve(AuthorityIo::new(far), requests.clone()));
    let mut connection = Connection::new(near);
    for round in 0..200 {
        // New names of changing length push older ones out; every third call repeats the one before.
        let name = format!("outbound|{}||{}", round / 3, "s".repeat(round / 3 * 7));
        let tag = format!("tag-{}", round / 2);
        assert_eq!(connection.call(&name, &tag).await, OK);
        let seen = requests.lock().unwrap().pop().unwrap();
        assert_eq!(seen, (Some("x".repeat(name.len())), tag));
    }
    server.abort();
}

#[tokio::test]
async fn a_frame_cut_short_is_handed_on_at_the_end() {
    let (mut near, far) = duplex(1024);
    let mut io = AuthorityIo::new(far);
    let stream = [&PREFACE[..], &[0, 0, 9, HEADERS, END_HEADERS, 0, 0, 0, 1, 0x82]].concat();
    near.write_all(&stream).await.unwrap();
    near.shutdown().await.unwrap();
    let mut read = Vec::new();
    io.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, stream);
}

#[tokio::test]
async fn a_reader_with_little_room_reads_everything_in_order() {
    let (mut near, far) = duplex(4096);
    let mut io = AuthorityIo::new(far);
    let refused = frame(HEADERS, END_HEADERS, 1, b"\x41\x03a|b\x82");
    let rest = frame(DATA, END_STREAM, 1, b"message");
    near.write_all(&[&PREFACE[..], &refused, &rest].concat()).await.unwrap();
    near.shutdown().await.unwrap();
    let mut read = Vec::new();
    loop {
        let mut room = [0; 3];
        match io.read(&mut room).await.unwrap() {
            0 => break,
            count => read.extend_from_slice(&room[..count]),
        }
    }
    assert_eq!(read, [&PREFACE[..], &frame(HEADERS, END_HEADERS, 1, b"\x41\x03xxx\x82"), &rest].concat());
}

#[tokio::test]
async fn writes_and_their_end_go_through() {
    let (mut near, far) = duplex(1024);
    let mut io = AuthorityIo::new(far);
    io.write_all(b"answer").await.unwrap();
    io.shutdown().await.unwrap();
    let mut read = Vec::new();
    near.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"answer");
    assert_eq!(io.is_write_vectored(), io.get_ref().is_write_vectored());
}
