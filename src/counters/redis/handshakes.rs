//! How many connections of the request path are being made to one node of a Redis Cluster at once.
//!
//! Each worker has one for each lane, and all begin at the same moment: at the start, and when a node has failed. A node has
//! one thread, on which each handshake, over TLS above all, holds up the decisions of everybody else. So they come a few at
//! a time, each node for itself: one that is a black hole holds up nobody who connects to another. It is no promise: who
//! has waited too long goes ahead, so that nobody is kept from asking where his slot is now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::redirect::Node;

/// The handshakes of this process with a cluster. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Handshakes {
    /// Nodes that somebody is connecting to now.
    nodes: Arc<Mutex<HashMap<Node, Weak<Semaphore>>>>,
}

/// A handshake's place, until it is dropped; none for who has waited too long.
#[derive(Debug)]
pub(super) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Handshakes with one node that are under way at once.
const AT_ONCE_MAX: usize = 8;

// === impl Handshakes ===

impl Handshakes {
    /// Waits for a place at a node, at most so long.
    pub(super) async fn place(&self, node: &Node, patience: Duration) -> Place {
        let acquired = timeout(patience, self.places(node).acquire_owned()).await;
        Place { _permit: acquired.ok().and_then(Result::ok) }
    }

    fn places(&self, node: &Node) -> Arc<Semaphore> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = nodes.get(node).and_then(Weak::upgrade) {
            return places;
        }
        nodes.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
        nodes.insert(node.clone(), Arc::downgrade(&places));
        places
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn node(port: u16) -> Node {
        ("n".to_owned(), port)
    }

    /// As many places at a node as there are.
    async fn all(handshakes: &Handshakes, node: &Node) -> Vec<Place> {
        let mut places = Vec::new();
        for _ in 0..AT_ONCE_MAX {
            places.push(handshakes.place(node, PATIENCE).await);
        }
        places
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_has_few_places_and_each_that_is_left_is_taken_by_who_waits() {
        let (handshakes, one, two) = (Handshakes::default(), node(1), node(2));
        let began = Instant::now();
        let mut places = all(&handshakes, &one).await;
        let other = handshakes.place(&two, PATIENCE).await;
        assert!(other._permit.is_some() && began.elapsed().is_zero(), "another node's places are its own");
        let mut next = std::pin::pin!(handshakes.place(&one, PATIENCE));
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        places.pop();
        assert!(next.await._permit.is_some() && began.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_too_long_goes_ahead() {
        let (handshakes, one) = (Handshakes::default(), node(1));
        let _held = all(&handshakes, &one).await;
        let began = Instant::now();
        assert!(handshakes.place(&one, PATIENCE).await._permit.is_none());
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test]
    async fn nodes_that_nobody_connects_to_are_forgotten() {
        let handshakes = Handshakes::default();
        for port in 1..=100 {
            drop(handshakes.place(&node(port), PATIENCE).await);
        }
        assert_eq!(handshakes.nodes.lock().unwrap().len(), 1);
    }
}
