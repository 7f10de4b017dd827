//! Whether a silent client is still there: it is asked by HTTP/2's PING, and whoever says nothing in time is gone.

use std::future::{pending, poll_fn};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use super::pace::Turns;

/// Ends when a client that was silent for `interval`, or up to half longer, has said nothing for `time` more after it
/// was asked. Never without an interval.
pub async fn lost(pings: Option<PingPong>, turns: &Turns, interval: Option<Duration>, time: Duration) {
    let (Some(mut pings), Some(interval)) = (pings, interval) else { return pending().await };
    loop {
        // Looking now and then is cheaper than noting when each read was.
        if is_heard(turns, interval / 2).await || is_heard(turns, interval / 2).await {
            continue;
        }
        // It fails where the last one has no answer yet: then that is waited for.
        drop(pings.send_ping(Ping::opaque()));
        let answered = timeout(time, poll_fn(|context| pings.poll_pong(context))).await;
        match answered {
            Ok(Ok(_)) => {}
            // The connection ends, and says why itself.
            Ok(Err(_)) => pending().await,
            Err(_) if turns.take_heard() => {}
            Err(_) => return,
        }
    }
}

/// Whether the client was heard within `time` from now.
async fn is_heard(turns: &Turns, time: Duration) -> bool {
    turns.take_heard();
    sleep(time).await;
    turns.take_heard()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::io::duplex;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::super::pace::Line;
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);
    const TIME: Duration = Duration::from_secs(20);

    /// A server that asks for signs of life, and a client that must be polled to give them.
    async fn asked() -> (JoinHandle<()>, Arc<Turns>, h2::client::Connection<tokio::io::DuplexStream, Bytes>) {
        let (near, far) = duplex(1 << 16);
        let (client, server) = tokio::join!(h2::client::handshake(near), h2::server::handshake(far));
        let ((requests, client), mut server) = (client.unwrap(), server.unwrap());
        // Without it the client would go.
        std::mem::forget(requests);
        let (pings, turns) = (server.ping_pong(), Turns::new(&Line::default()));
        drop(tokio::spawn(async move { while let Some(Ok(_)) = server.accept().await {} }));
        let asking = {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move { lost(pings, &turns, Some(INTERVAL), TIME).await })
        };
        (asking, turns, client)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_lost_in_time() {
        let begun = Instant::now();
        let (asking, _, _silent) = asked().await;
        asking.await.unwrap();
        let took = begun.elapsed();
        assert!(took >= INTERVAL + TIME && took <= INTERVAL * 3 / 2 + TIME + Duration::from_millis(10), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_when_asked_is_not() {
        let (asking, _, client) = asked().await;
        drop(tokio::spawn(client));
        sleep(INTERVAL * 20).await;
        assert!(!asking.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_something_now_and_then_is_not_asked() {
        let (asking, turns, _silent) = asked().await;
        for _ in 0..100 {
            sleep(INTERVAL / 3).await;
            turns.hear();
        }
        assert!(!asking.is_finished());
    }
}
