//! Where the gRPC port listens: on a TCP address, or on a socket in the file system for an Envoy on the same machine.
//!
//! A socket's file outlives a process that was killed. Where nobody listens on it any more it is replaced; where
//! somebody does, or it is no socket, nothing is touched. At the end it is removed, unless it is another's by then.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A port that accepts connections.
#[derive(Debug)]
pub struct Listening(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(SocketFile, UnixListener),
}

/// A connection that came in.
#[derive(Debug)]
pub enum Arrived {
    /// From an address.
    Tcp(TcpStream, SocketAddr),
    /// From a process of this machine.
    Unix(UnixStream),
}

/// The same, on its way from one runtime to another.
#[derive(Debug)]
pub(super) enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A socket's file, removed at the end.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and number of the file, which tell it from one that another process puts in its place.
    identity: (u64, u64),
}

// === impl Listening ===

impl Listening {
    /// Listens at this path.
    ///
    /// # Errors
    /// When somebody else does, when the path is taken by what is no socket, and when the system says no.
    pub fn bind_unix(path: &Path) -> io::Result<Listening> {
        if is_left_over(path)? {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        let identity = identity(path)?;
        Ok(Listening(Kind::Unix(SocketFile { path: path.to_owned(), identity }, listener)))
    }

    /// Waits for a connection. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// When the system says no, such as out of file descriptors.
    pub async fn accept(&self) -> io::Result<Arrived> {
        match &self.0 {
            Kind::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Arrived::Tcp(stream, peer)),
            Kind::Unix(_, listener) => listener.accept().await.map(|(stream, _)| Arrived::Unix(stream)),
        }
    }
}

impl From<TcpListener> for Listening {
    fn from(listener: TcpListener) -> Listening {
        Listening(Kind::Tcp(listener))
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => write!(f, "?"),
            },
            Kind::Unix(file, _) => write!(f, "unix:{}", file.path.display()),
        }
    }
}

/// Whether the path has a socket that nobody listens on. What is no socket is left to `bind` to complain of.
fn is_left_over(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One that is listened on and not answered must not keep us waiting: its queue may be full.
    socket.set_nonblocking(true)?;
    let connected = socket.connect(&SockAddr::unix(path)?);
    Ok(connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

// === impl Arrived ===

impl Arrived {
    /// Takes the connection from its runtime.
    pub(super) fn detach(self) -> io::Result<Detached> {
        match self {
            Arrived::Tcp(stream, _) => {
                // Answers are single small writes; waiting to join them would cost the caller's deadline.
                stream.set_nodelay(true)?;
                stream.into_std().map(Detached::Tcp)
            }
            Arrived::Unix(stream) => stream.into_std().map(Detached::Unix),
        }
    }

    /// From where, if from an address.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Arrived::Tcp(_, peer) => Some(*peer),
            Arrived::Unix(_) => None,
        }
    }
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Whoever starts next replaces it if this fails.
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port");
        // As a process leaves it that was killed: the file stays when its listener is gone.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listening = Listening::bind_unix(&path).expect("nobody listens there any more");
        let refused = Listening::bind_unix(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        let (asked, arrived) = tokio::join!(UnixStream::connect(&path), listening.accept());
        assert!(asked.is_ok() && matches!(arrived, Ok(Arrived::Unix(_))), "it still listens");
    }

    #[tokio::test]
    async fn one_whose_queue_is_full_is_in_use_and_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port");
        let hung = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        hung.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        hung.listen(0).unwrap();
        let waiting: Vec<Socket> = (0..3)
            .map(|_| {
                let caller = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
                caller.set_nonblocking(true).unwrap();
                drop(caller.connect(&SockAddr::unix(&path).unwrap()));
                caller
            })
            .collect();
        assert_eq!(Listening::bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(waiting);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        Listening::bind_unix(&path).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[tokio::test]
    async fn the_file_goes_with_the_port_unless_it_is_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port");
        drop(Listening::bind_unix(&path).unwrap());
        assert!(!path.exists());
        let first = Listening::bind_unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = Listening::bind_unix(&path).unwrap();
        drop(first);
        assert!(path.exists(), "it is the second's");
    }
}
