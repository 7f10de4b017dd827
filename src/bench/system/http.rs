//! A connection to a server's `/json` that is kept open: for what has to be charged exactly, call by call.
//!
//! The load generator draws its keys at random. Filling a store with a million counters, each hit once, needs an order,
//! and its speed doesn't matter; so plain HTTP/1.1 does, one request after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{PATIENCE, SystemError};

/// One kept-open connection.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

/// Largest answer that is read. One descriptor's part has about 200 bytes.
const BODY_BYTES_MAX: usize = 4 << 20;

// === impl Http ===

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(address: SocketAddr) -> Result<Http, SystemError> {
        let failed = || SystemError::file(format!("connect to http://{address}"));
        let stream = TcpStream::connect(address).map_err(failed())?;
        stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(PATIENCE))).map_err(failed())?;
        Ok(Http { address, stream: BufReader::new(stream) })
    }

    /// The status and body of the answer to a GET.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn get(&mut self, path: &str) -> Result<(u16, String), SystemError> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        self.exchange(head.as_bytes())
    }

    /// The status and body of the answer to a POST of JSON.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn post(&mut self, path: &str, body: &str) -> Result<(u16, String), SystemError> {
        self.send("POST", path, body)
    }

    /// The status and body of the answer to a PUT of JSON.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn put(&mut self, path: &str, body: &str) -> Result<(u16, String), SystemError> {
        self.send("PUT", path, body)
    }

    fn send(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, String), SystemError> {
        let (host, length) = (self.address, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n");
        self.exchange(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes())
    }

    fn exchange(&mut self, request: &[u8]) -> Result<(u16, String), SystemError> {
        let failed = || SystemError::file(format!("ask http://{}", self.address));
        self.stream.get_mut().write_all(request).map_err(failed())?;
        let (mut status, mut length, mut line) = (None, 0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).map_err(failed())?;
            match (line.trim_end(), status) {
                ("", None) => return Err(self.strange(&line, "a status line")),
                ("", Some(status)) => {
                    let mut body = vec![0; length];
                    self.stream.read_exact(&mut body).map_err(failed())?;
                    return Ok((status, String::from_utf8_lossy(&body).into_owned()));
                }
                (first, None) => {
                    let number = first.split(' ').nth(1).and_then(|number| number.parse().ok());
                    status = Some(number.ok_or_else(|| self.strange(first, "a status line"))?);
                }
                (header, Some(_)) => {
                    let (name, value) = header.split_once(':').unwrap_or_default();
                    if name.eq_ignore_ascii_case("content-length") {
                        let number = value.trim().parse().ok().filter(|length| *length <= BODY_BYTES_MAX);
                        length = number.ok_or_else(|| self.strange(header, "a length of at most 4 MiB"))?;
                    }
                }
            }
        }
    }

    fn strange(&self, answer: &str, wanted: &'static str) -> SystemError {
        SystemError::Answer { program: format!("http://{}", self.address), answer: answer.to_owned(), wanted }
    }
}
