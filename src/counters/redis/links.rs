//! Connections beside the request path to the nodes of a Redis Cluster: one for each that is asked.
//!
//! A connection is made by a task of its own, so that whoever gives up waiting for it does not end it, and a node that is
//! a black hole holds nobody up who asks another. Several may ask on one at once; the package keeps their answers apart.
//!
//! Who asks gives up at his deadline, before it shows that the node has fallen silent. So each connection is asked for a
//! sign of life every second; one that gives none is forgotten, and the map that led there doubted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::greeting::send;
use super::link::{Connector, load_script};
use super::redirect::Node;

/// The connections. Clones share them.
#[derive(Clone)]
pub(super) struct Links {
    connector: Connector,
    links: Arc<Mutex<Vec<Link>>>,
    links_max: usize,
}

/// A connection on which the script is known, or the sentence why there is none.
pub(super) type Connecting = Shared<BoxFuture<'static, Result<MultiplexedConnection, String>>>;

struct Link {
    node: Node,
    since: Instant,
    connecting: Connecting,
    /// Asks for signs of life as long as the link is known.
    _watch: AbortOnDropHandle<()>,
}

/// Time between two questions for a sign of life.
const LIFE_INTERVAL: Duration = Duration::from_secs(1);

/// Time after an attempt that failed in which there is no other.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

// === impl Links ===

impl Links {
    /// No connection, and room for so many: the oldest goes when there are more.
    pub(super) fn new(connector: Connector, links_max: usize) -> Links {
        Links { connector, links: Arc::default(), links_max }
    }

    /// The connection to a node, made if there is none.
    pub(super) fn to(&self, node: &Node) -> Connecting {
        let mut links = self.lock();
        if let Some(link) = links.iter().find(|link| link.node == *node && !link.is_spent()) {
            return link.connecting.clone();
        }
        links.retain(|link| link.node != *node);
        if links.len() >= self.links_max {
            links.remove(0);
        }
        let connecting = connect(self.connector.clone(), node.clone());
        let watch = watch(Arc::downgrade(&self.links), self.connector.clone(), node.clone(), connecting.clone());
        let watch = AbortOnDropHandle::new(tokio::spawn(watch));
        links.push(Link { node: node.clone(), since: Instant::now(), connecting: connecting.clone(), _watch: watch });
        connecting
    }

    /// Makes the next one who asks that node connect anew.
    pub(super) fn forget(&self, node: &Node) {
        self.lock().retain(|link| link.node != *node);
    }

    /// Drops all of them.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Link>> {
        lock(&self.links)
    }
}

fn lock(links: &Mutex<Vec<Link>>) -> MutexGuard<'_, Vec<Link>> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks a connection for signs of life until there is none.
async fn watch(links: Weak<Mutex<Vec<Link>>>, connector: Connector, node: Node, connecting: Connecting) {
    // Who asks is told why there is no connection.
    let Ok(mut connection) = connecting.await else { return };
    loop {
        sleep(LIFE_INTERVAL).await;
        // The connection waits for an answer as long as the settings say. What it answers doesn't matter.
        if let Err(error) = send(&mut connection, &redis::cmd("PING")).await
            && (error.code().is_none() || error.is_timeout())
        {
            break;
        }
    }
    connector.doubt();
    if let Some(links) = links.upgrade() {
        // This ends the task that runs here: nothing comes after it.
        lock(&links).retain(|link| link.node != node);
    }
}

fn connect(connector: Connector, node: Node) -> Connecting {
    let made = tokio::spawn(async move {
        let connected = reach(&connector, node).await;
        if connected.is_err() {
            // Who asked may have given up before this is known.
            connector.doubt();
        }
        connected
    });
    made.map(|made| made.unwrap_or_else(|error| Err(error.to_string()))).boxed().shared()
}

async fn reach(connector: &Connector, node: Node) -> Result<MultiplexedConnection, String> {
    let mut connection = connector.connect_beside_at(Some(node)).await.map_err(|error| error.to_string())?;
    load_script(&mut connection).await.map_err(|error| error.to_string())?;
    Ok(connection)
}

// === impl Link ===

impl Link {
    /// Whether it failed, and long enough ago to try again.
    fn is_spent(&self) -> bool {
        self.since.elapsed() >= RETRY_PAUSE && self.connecting.peek().is_some_and(Result::is_err)
    }
}
