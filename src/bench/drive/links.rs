//! The sockets: made, watched, read and written without ever blocking, except in the one wait for all of them.
//!
//! epoll by rustix, since only `epoll_pwait2` (Linux 5.11) waits to the microsecond: a wait in whole milliseconds, as
//! event loops offer it, would be most of what an open loop measures.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::super::client::{Connection, Shape};
use super::super::target::Server;
use super::Loss;

/// Sockets that one wait reports at most; the others are reported by the next.
const EVENTS_MAX: usize = 512;

/// A connection and its socket.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    pub(super) connection: Connection,
    /// Whose connection it is.
    pub(super) slot: usize,
    /// Whether a call was answered on it.
    pub(super) proven: bool,
    /// Whether it is in the list of those to be looked at in this turn.
    pub(super) touched: bool,
    connecting: bool,
    /// Whether the wait ends when the socket takes more.
    watches_output: bool,
    /// Tells its events from those of the link that had its place before.
    generation: u32,
}

/// All links, each at a place that it keeps.
pub(super) struct Links {
    epoll: OwnedFd,
    links: Vec<Option<Link>>,
    free: Vec<usize>,
    generation: u32,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
}

/// Bytes of one read; enough for what a kernel holds for a busy connection.
const BUFFER_BYTES: usize = 256 * 1024;

// === impl Links ===

impl Links {
    /// No links yet.
    pub(super) fn new() -> io::Result<Links> {
        Ok(Links {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            links: Vec::new(),
            free: Vec::new(),
            generation: 0,
            events: Vec::with_capacity(EVENTS_MAX),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Starts a connection to the server; its place.
    pub(super) fn open(&mut self, server: &Server, shape: &Shape, slot: usize) -> io::Result<usize> {
        let (stream, connecting) = connect(server.address)?;
        self.generation = self.generation.wrapping_add(1);
        let link = Link {
            stream,
            connection: Connection::new(shape, &server.name),
            slot,
            proven: false,
            touched: false,
            connecting,
            watches_output: true,
            generation: self.generation,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.links.push(None);
            self.links.len() - 1
        });
        let data = epoll::EventData::new_u64(u64::from(link.generation) << 32 | place as u64);
        epoll::add(&self.epoll, &link.stream, data, epoll::EventFlags::IN | epoll::EventFlags::OUT)?;
        self.links[place] = Some(link);
        Ok(place)
    }

    /// Closes a link's socket and gives its place free.
    pub(super) fn close(&mut self, place: usize) -> Option<Link> {
        let link = self.links.get_mut(place)?.take()?;
        self.free.push(place);
        // Closing the socket ends the watch as well; nobody else holds it.
        Some(link)
    }

    /// The link at that place.
    pub(super) fn get(&mut self, place: usize) -> Option<&mut Link> {
        self.links.get_mut(place)?.as_mut()
    }

    /// Places, of which some may be empty.
    pub(super) fn places(&self) -> usize {
        self.links.len()
    }

    /// Waits until a socket has something to say, or the time is over. Appends the places of those that have.
    pub(super) fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let data = { event.data }.u64();
            let (place, generation) = ((data & 0xffff_ffff) as usize, (data >> 32) as u32);
            let link = self.links.get(place).and_then(Option::as_ref);
            if link.is_some_and(|link| link.generation == generation) {
                ready.push(place);
            }
        }
        Ok(())
    }

    /// Reads once from that link, and hands it with the bytes to `each`. Level-triggered: what is left ends the next
    /// wait at once.
    pub(super) fn read<T>(
        &mut self,
        place: usize,
        each: impl FnOnce(&mut Link, &[u8]) -> Result<T, Loss>,
    ) -> Result<Option<T>, Loss> {
        let Some(link) = self.links.get_mut(place).and_then(Option::as_mut) else { return Ok(None) };
        if link.connecting {
            // One that failed says why.
            if let Some(error) = link.stream.take_error()? {
                return Err(error.into());
            }
            if link.stream.peer_addr().is_err() {
                return Ok(None);
            }
            link.connecting = false;
        }
        match link.stream.read(&mut self.buffer) {
            Ok(0) => Err(Loss::Closed),
            Ok(length) => each(link, &self.buffer[..length]).map(Some),
            Err(error) if is_later(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the link's connection has to send, as far as the socket takes it.
    pub(super) fn write(&mut self, place: usize) -> Result<(), Loss> {
        let Some(link) = self.links.get_mut(place).and_then(Option::as_mut) else { return Ok(()) };
        if link.connecting {
            return Ok(());
        }
        let output = link.connection.output();
        if !output.is_empty() {
            match link.stream.write(output) {
                Ok(length) if length == output.len() => output.clear(),
                Ok(length) => drop(output.drain(..length)),
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let watches_output = !output.is_empty();
        if watches_output != link.watches_output {
            link.watches_output = watches_output;
            let flags =
                if watches_output { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            let data = epoll::EventData::new_u64(u64::from(link.generation) << 32 | place as u64);
            epoll::modify(&self.epoll, &link.stream, data, flags).map_err(io::Error::from)?;
        }
        Ok(())
    }
}

/// Starts to connect; says whether that is still under way.
fn connect(address: SocketAddr) -> io::Result<(TcpStream, bool)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    let connecting = match rustix::net::connect(&socket, &address) {
        Ok(()) => false,
        Err(Errno::INPROGRESS) => true,
        Err(error) => return Err(error.into()),
    };
    let stream = TcpStream::from(socket);
    // Requests are written in one piece and must not wait for an acknowledgement of the last.
    stream.set_nodelay(true)?;
    Ok((stream, connecting))
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
