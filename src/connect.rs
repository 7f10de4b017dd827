//! A connection to a server by its name, which may have several addresses.
//!
//! The addresses are tried in the order in which the system gives them, and the next as soon as the one before has failed.
//! One that is a black hole would use up the time of the others: so the next is tried as well when a share of the time is
//! over, and the first that takes the connection has it (as in RFC 8305). All at once would be as quick, and a connection
//! too many for each address every time.
//!
//! How long it may take altogether is the caller's: what comes after the connection, TLS for one, counts in the same time.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Longest time for which an address is tried alone: what RFC 8305 recommends.
const ALONE_MAX: Duration = Duration::from_millis(250);

/// Connects to whichever address of `host`, an IP address or a name, takes it first. Of `time`, which the caller has for
/// everything, each address but the last has a share for itself.
///
/// # Errors
/// When the name has no address, or none of them takes the connection; each that was tried is named with its reason.
pub async fn tcp(host: &str, port: u16, time: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.take(ADDRESSES_MAX).collect();
    first(&addresses, time, TcpStream::connect).await.map_err(|failures| sentence(host, failures))
}

/// The first of these that `connect` reaches, or why each could not be.
async fn first<C, T>(
    addresses: &[SocketAddr],
    time: Duration,
    connect: impl Fn(SocketAddr) -> C,
) -> Result<T, Vec<(SocketAddr, io::Error)>>
where
    C: Future<Output = io::Result<T>>,
{
    let alone = (time / (u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1))).min(ALONE_MAX);
    let (mut under_way, mut failures) = (FuturesUnordered::new(), Vec::new());
    let mut rest = addresses.iter().copied();
    while let Some(address) = rest.next() {
        let connecting = connect(address);
        under_way.push(async move { (address, connecting.await) });
        // The last is waited for as long as the caller does.
        let is_last = rest.len() == 0;
        let mut turn_is_over = pin!(sleep(alone));
        loop {
            tokio::select! {
                ended = under_way.next() => match ended {
                    Some((_, Ok(connection))) => return Ok(connection),
                    Some((address, Err(error))) => {
                        failures.push((address, error));
                        if !is_last {
                            break;
                        }
                    }
                    None => break,
                },
                () = turn_is_over.as_mut(), if !is_last => break,
            }
        }
    }
    Err(failures)
}

/// Why nothing was reached. What is named by its address needn't be told it again.
fn sentence(host: &str, mut failures: Vec<(SocketAddr, io::Error)>) -> io::Error {
    let is_address = host.parse::<IpAddr>().is_ok();
    match failures.pop() {
        None => io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        Some((_, error)) if is_address && failures.is_empty() => error,
        Some(last) => {
            let kind = last.1.kind();
            failures.push(last);
            let each: Vec<String> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
            io::Error::new(kind, each.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;

    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;

    use super::*;

    const TIME: Duration = Duration::from_millis(300);

    /// What an address does with who comes.
    #[derive(Clone, Copy)]
    enum Does {
        Takes { after_ms: u64 },
        Refuses,
        Nothing,
    }
    use Does::{Nothing, Refuses, Takes};

    fn address(number: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], u16::try_from(number).unwrap()))
    }

    /// Which address was reached, or what is said of all; how long it took, and when each was tried.
    async fn reached(does: &[Does]) -> (Result<usize, String>, u128, Vec<u128>) {
        let began = Instant::now();
        let tried = Mutex::new(Vec::new());
        let addresses: Vec<SocketAddr> = (0..does.len()).map(address).collect();
        let connected = first(&addresses, TIME, |address| {
            tried.lock().unwrap().push(began.elapsed().as_millis());
            async move {
                match does[usize::from(address.port())] {
                    Takes { after_ms } => sleep(Duration::from_millis(after_ms)).await,
                    Refuses => return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "no")),
                    Nothing => pending().await,
                }
                Ok(usize::from(address.port()))
            }
        });
        let connected = connected.await.map_err(|failures| sentence("redis.example", failures).to_string());
        (connected, began.elapsed().as_millis(), tried.into_inner().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_tried_in_turn_and_only_as_far_as_needed() {
        assert_eq!(reached(&[Takes { after_ms: 1 }, Takes { after_ms: 1 }]).await, (Ok(0), 1, vec![0]));
        assert_eq!(reached(&[Refuses, Refuses, Takes { after_ms: 1 }]).await, (Ok(2), 1, vec![0, 0, 0]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_black_hole_leaves_time_for_the_others_and_the_quickest_has_it() {
        assert_eq!(reached(&[Nothing, Takes { after_ms: 1 }]).await, (Ok(1), 101, vec![0, 100]));
        assert_eq!(reached(&[Takes { after_ms: 200 }, Takes { after_ms: 150 }]).await, (Ok(0), 200, vec![0, 100]));
        assert_eq!(reached(&[Nothing, Refuses, Takes { after_ms: 1 }]).await, (Ok(2), 76, vec![0, 75, 75]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_is_waited_for_although_the_others_have_failed() {
        assert_eq!(reached(&[Takes { after_ms: 5_000 }, Refuses]).await, (Ok(0), 5_000, vec![0, 100]));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_were_tried_are_named() {
        let (reached, _, _) = reached(&[Refuses, Refuses]).await;
        assert_eq!(reached, Err("10.0.0.1:0: no; 10.0.0.1:1: no".to_owned()));
        assert_eq!(sentence("redis.example", Vec::new()).to_string(), "the name has no address");
    }

    #[tokio::test]
    async fn what_is_called_by_its_address_is_reached_or_not_told_it_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(tcp("127.0.0.1", port, TIME).await.is_ok());
        assert!(tcp("localhost", port, TIME).await.is_ok());
        // It has a port, so that nobody else gets that, and doesn't listen.
        let deaf = TcpSocket::new_v4().unwrap();
        deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = tcp("127.0.0.1", deaf.local_addr().unwrap().port(), TIME).await.unwrap_err();
        assert!(
            error.kind() == io::ErrorKind::ConnectionRefused && !error.to_string().contains("127.0.0.1"),
            "{error}"
        );
    }
}
