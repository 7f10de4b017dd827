//! The first 24 bytes of a connection.
//!
//! They are read here, under the handshake's time limit, so that a client that says nothing, stops half way or speaks
//! something else is seen for what it is before the HTTP/2 server has it. The server wants to read them too:
//! [`AuthorityIo::after_preface`](super::authority::AuthorityIo::after_preface) gives them back first.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::authority::PREFACE;

/// What a connection began with.
#[derive(Debug)]
pub enum Greeting<T> {
    /// HTTP/2's preface, which was taken from the connection.
    Http2(T),
    /// Something else.
    Other(T),
    /// Nothing, or a part of the preface, and then the end.
    Nothing,
}

/// Reads until it is clear how the connection begins.
///
/// # Errors
/// When the connection breaks.
pub async fn greet<T: AsyncRead + Unpin>(mut stream: T) -> io::Result<Greeting<T>> {
    let mut seen = [0; PREFACE.len()];
    let mut count = 0;
    while count < seen.len() {
        match stream.read(&mut seen[count..]).await? {
            0 => return Ok(Greeting::Nothing),
            more => count += more,
        }
        if seen[..count] != PREFACE[..count] {
            return Ok(Greeting::Other(stream));
        }
    }
    Ok(Greeting::Http2(stream))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::super::authority::AuthorityIo;
    use super::*;

    #[tokio::test]
    async fn a_preface_in_pieces_is_one_and_is_read_again() {
        let (mut client, server) = duplex(5);
        let sent = tokio::spawn(async move {
            for byte in PREFACE {
                client.write_all(&[*byte]).await.unwrap();
            }
            client.write_all(b"more").await.unwrap();
        });
        let Greeting::Http2(server) = greet(server).await.unwrap() else { panic!("it is the preface") };
        let mut greeted = AuthorityIo::after_preface(server);
        let mut all = Vec::new();
        greeted.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [PREFACE.as_slice(), b"more"].concat());
        sent.await.unwrap();
    }

    #[tokio::test]
    async fn anything_else_is_seen_at_its_first_wrong_byte() {
        for wrong in ["GET / HTTP/1.1", "PRI * HTTP/1", "\u{16}\u{3}"] {
            let (mut client, server) = duplex(64);
            client.write_all(wrong.as_bytes()).await.unwrap();
            assert!(matches!(greet(server).await.unwrap(), Greeting::Other(_)), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn an_end_before_the_preface_s_is_nothing() {
        for begun in ["", "PRI * HT"] {
            let (mut client, server) = duplex(64);
            client.write_all(begun.as_bytes()).await.unwrap();
            drop(client);
            assert!(matches!(greet(server).await.unwrap(), Greeting::Nothing), "{begun:?}");
        }
    }
}
