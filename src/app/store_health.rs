//! The store's part in health: down until every core has reached Redis, and afterwards as it was asked for.
//!
//! By default Redis may go away later without a word in health: limits have their failure policy, and a process that is
//! restarted because of it answers no better. Whoever would rather have such a replica out of rotation asks for health
//! to follow its connections (`store.redis.health_follows_connection`); it does as long as a Redis has none at all.

use futures_util::future::select_all;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::health::{Component, Health};

/// Reports the store as reached when `count` stores have been, and then whether each Redis of `connections` has one, until
/// `stop`. Without `connections` nothing is said after the start.
pub(super) async fn follow(
    receivers: mpsc::Receiver<watch::Receiver<bool>>,
    count: usize,
    connections: Vec<watch::Receiver<usize>>,
    health: Health,
    stop: CancellationToken,
) {
    let following = async {
        if reached(receivers, count).await {
            health.up(Component::Store);
            follow_connections(connections, &health).await;
        }
    };
    tokio::select! {
        () = following => {}
        () = stop.cancelled() => {}
    }
}

/// Waits until all have been reached; `false` if one never will be.
async fn reached(mut receivers: mpsc::Receiver<watch::Receiver<bool>>, count: usize) -> bool {
    for _ in 0..count {
        let Some(mut reached) = receivers.recv().await else { return false };
        if reached.wait_for(|reached| *reached).await.is_err() {
            return false;
        }
    }
    true
}

/// Says that the store is down while a Redis has no connection.
async fn follow_connections(mut connections: Vec<watch::Receiver<usize>>, health: &Health) {
    while !connections.is_empty() {
        let mut all_open = true;
        for open in &mut connections {
            all_open &= *open.borrow_and_update() > 0;
        }
        if all_open {
            health.up(Component::Store);
        } else {
            health.down(Component::Store);
        }
        let changed = select_all(connections.iter_mut().map(|open| Box::pin(open.changed())));
        if changed.await.0.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn health_follows_the_connections_of_each_redis_once_all_stores_were_reached() {
        let health = Health::new(&[Component::Store]);
        let (sender, receivers) = mpsc::channel(1);
        let (reached, receiver) = watch::channel(false);
        sender.send(receiver).await.unwrap();
        let (main, per_second) = (watch::Sender::new(1), watch::Sender::new(0));
        let stop = CancellationToken::new();
        let connections = vec![main.subscribe(), per_second.subscribe()];
        let task = tokio::spawn(follow(receivers, 1, connections, health.clone(), stop.clone()));
        let mut state = health.watch();
        assert!(!health.is_serving());
        let per_second_is_open = || per_second.send_replace(2);
        per_second_is_open();
        reached.send_replace(true);
        state.wait_for(|state| state.is_serving()).await.unwrap();
        per_second.send_replace(0);
        state.wait_for(|state| !state.is_serving()).await.unwrap();
        per_second_is_open();
        state.wait_for(|state| state.is_serving()).await.unwrap();
        main.send_replace(0);
        state.wait_for(|state| !state.is_serving()).await.unwrap();
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_said_after_the_start_unless_it_was_asked_for() {
        let health = Health::new(&[Component::Store]);
        let (sender, receivers) = mpsc::channel(1);
        let reached = watch::Sender::new(true);
        sender.send(reached.subscribe()).await.unwrap();
        follow(receivers, 1, Vec::new(), health.clone(), CancellationToken::new()).await;
        assert!(health.is_serving(), "it ends, and what it said stays");
    }
}
