//! The generator's own HTTP/2 client: just enough of RFC 9113 for unary gRPC calls, at a tenth of a server's cost.
//!
//! A library's client costs as much a call as a server, and then the generator is what a run measures. Here a request
//! is a copy of bytes prepared once for the connection, with stream number and key digits patched in, and an answer is
//! read where it lies in the socket's buffer:
//!
//! ```text
//! request: HEADERS head | HPACK block, all indexed | DATA head | gRPC prefix | message with patched digits
//! answer:  HEADERS  (status)   DATA (first field: the overall code)   HEADERS (grpc-status, end of stream)
//! ```
//!
//! No sockets in here: [`Connection`] takes bytes and gives bytes, so that it can be tried with any.

mod answer;
mod connection;
mod fields;
mod requests;
#[cfg(test)]
mod tests;

pub use answer::{Failure, Outcome};
pub use connection::{Connection, ConnectionError};
pub use requests::Shape;

/// A call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it was due, in nanoseconds from the start of the run. In a closed loop that is when it was sent.
    pub due_ns: u64,
    /// When it was sent: a time before the first byte left.
    pub sent_ns: u64,
    /// The number of its first descriptor's key.
    pub key: u64,
    /// How many times a server has given it back unread, so that it was sent anew.
    pub returns: u8,
}
