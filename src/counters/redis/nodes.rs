//! The nodes of a Redis Cluster: who is known, and which of them serves a slot.
//!
//! Several are asked at once for their map and their configuration epoch: the masters of the last map, then those of the
//! settings. As soon as more than half of those asked have answered, the map of the highest epoch holds, as among
//! themselves: a node that was cut off has the map of before. What all lanes and cores need is asked once for all of
//! them, whoever of them goes away meanwhile (`single_flight`). A map that is wrong all the same costs a redirect: the node
//! that it names knows better. Whoever finds it wrong says so; then all wait for one new map.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::time::timeout;

use super::cluster::Topology;
use super::greeting::{Greeted, greet, send};
use super::link::{Address, Server};
use super::redirect::Node;
use super::single_flight::SingleFlight;
use super::socket;

/// What is known of a cluster. Clones share it.
#[derive(Clone)]
pub(super) struct Nodes {
    server: Arc<Server>,
    /// The nodes that the settings name.
    named: Arc<[Node]>,
    /// Time in which a node must answer.
    patience: Duration,
    maps: Arc<SingleFlight<Arc<Topology>>>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// The last map, until somebody finds it wrong.
    at_hand: Option<Arc<Topology>>,
    /// Masters of the last map.
    learned: Vec<Node>,
    /// How often nodes were asked: others each time, if there are many.
    turn: usize,
}

/// What one node says.
struct Said {
    epoch: u64,
    topology: Topology,
}

/// An answer younger than this isn't asked for again: nodes are asked so often at most, however many doubt the map.
const FRESH: Duration = Duration::from_millis(500);

/// Most nodes that are asked at once.
const ASKED_MAX: usize = 8;

/// Most masters that are remembered besides the nodes of the settings.
const LEARNED_MAX: usize = 256;

// === impl Nodes ===

impl Nodes {
    pub(super) fn new(server: Arc<Server>, named: &[Node], connect_timeout: Duration) -> Nodes {
        // A node that is a black hole must leave time for the one that is looked for.
        let patience = connect_timeout / 3;
        let maps = Arc::new(SingleFlight::new(FRESH));
        Nodes { server, named: named.into(), patience, maps, known: Arc::default() }
    }

    /// The master that serves a slot. The error is a sentence.
    pub(super) async fn master(&self, slot: u16) -> Result<Node, String> {
        let topology = self.maps.answer(|| self.clone().ask_anew()).await?;
        let master = topology.master(slot).map(|(host, port)| (host.to_owned(), port));
        master.ok_or_else(|| format!("no node serves slot {slot}; {} of 16384 slots are served", topology.served()))
    }

    /// The same, by the last map if nobody has found that wrong.
    pub(super) async fn likely_master(&self, slot: u16) -> Result<Node, String> {
        let at_hand = self.known().at_hand.clone();
        match at_hand.as_ref().and_then(|topology| topology.master(slot)) {
            Some((host, port)) => Ok((host.to_owned(), port)),
            None => self.master(slot).await,
        }
    }

    /// The last map was found wrong.
    pub(super) fn doubt(&self) {
        self.known().at_hand = None;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_anew(self) -> Result<Arc<Topology>, String> {
        let nodes = self.known().next(&self.named);
        let topology = Arc::new(self.ask_several(nodes).await?);
        let mut known = self.known();
        known.learned = topology.masters(LEARNED_MAX);
        known.at_hand = Some(Arc::clone(&topology));
        Ok(topology)
    }

    async fn ask_several(&self, nodes: Vec<Node>) -> Result<Topology, String> {
        let enough = nodes.len() / 2 + 1;
        let mut asked: FuturesUnordered<_> = nodes.iter().map(|node| self.ask(node)).collect();
        let (mut answers, mut reasons): (Vec<Said>, Vec<String>) = (Vec::new(), Vec::new());
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(said) => answers.push(said),
                Err(reason) => reasons.push(reason),
            }
            if answers.len() >= enough {
                break;
            }
        }
        latest(answers).ok_or_else(|| reasons.join("; "))
    }

    async fn ask(&self, (host, port): &Node) -> Result<Said, String> {
        let asked = timeout(self.patience, self.exchange(host, *port)).await;
        let after = self.patience.as_millis();
        asked.unwrap_or_else(|_| Err(format!("no answer within {after} ms"))).map_err(|reason| {
            let address = Address::Tcp(host.clone(), *port);
            format!("node {address}: {reason}")
        })
    }

    async fn exchange(&self, host: &str, port: u16) -> Result<Said, String> {
        let socket = socket::open_tcp(host, port, self.server.tls.as_ref(), self.patience)
            .await
            .map_err(|error| error.to_string())?;
        let Greeted { mut connection, task } =
            greet(socket, self.server.credentials(), 0, self.patience).await.map_err(|error| error.to_string())?;
        let asking = async {
            let (mut slots, mut info) = (redis::cmd("CLUSTER"), redis::cmd("CLUSTER"));
            slots.arg("SLOTS");
            info.arg("INFO");
            let slots = send(&mut connection, &slots).await.map_err(|error| error.to_string())?;
            // An access list may forbid it: then the map counts for what it is.
            let epoch = send(&mut connection, &info).await.ok().and_then(|info| epoch(&info)).unwrap_or(0);
            Ok(Said { epoch, topology: Topology::read(&slots, host)? })
        };
        tokio::select! {
            said = asking => said,
            () = task => Err("the connection ended".to_owned()),
        }
    }
}

impl fmt::Debug for Nodes {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("named", &self.named).finish_non_exhaustive()
    }
}

// === impl Known ===

impl Known {
    /// Whom to ask next.
    fn next(&mut self, named: &[Node]) -> Vec<Node> {
        let mut nodes = self.learned.clone();
        nodes.extend(named.iter().filter(|node| !self.learned.contains(node)).cloned());
        if nodes.len() > ASKED_MAX {
            let begin = (self.turn * ASKED_MAX) % nodes.len();
            nodes.rotate_left(begin);
            nodes.truncate(ASKED_MAX);
        }
        self.turn = self.turn.wrapping_add(1) % LEARNED_MAX;
        nodes
    }
}

/// What was said in the highest epoch; among equals, what says most.
fn latest(answers: Vec<Said>) -> Option<Topology> {
    let best = answers.into_iter().max_by_key(|said| (said.epoch, said.topology.served()));
    best.map(|said| said.topology)
}

/// The cluster's configuration epoch as a node knows it, from its answer to `CLUSTER INFO`.
fn epoch(info: &Value) -> Option<u64> {
    let Value::BulkString(text) = info else { return None };
    let text = std::str::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        ("n".to_owned(), port)
    }

    fn said(epoch: u64, port: i64, last: i64) -> Said {
        let master = Value::Array(vec![Value::BulkString(b"n".to_vec()), Value::Int(port)]);
        let range = Value::Array(vec![Value::Int(0), Value::Int(last), master]);
        Said { epoch, topology: Topology::read(&Value::Array(vec![range]), "n").unwrap() }
    }

    #[test]
    fn the_highest_epoch_holds_and_among_equals_the_fuller_map() {
        let master = |answers| latest(answers).and_then(|map: Topology| Some(map.master(0)?.1));
        assert_eq!(master(vec![said(2, 1, 16_383), said(3, 2, 9), said(1, 3, 16_383)]), Some(2));
        assert_eq!(master(vec![said(2, 1, 10), said(2, 2, 16_383), said(2, 3, 9)]), Some(2));
        assert_eq!(master(Vec::new()), None);
    }

    #[test]
    fn each_node_of_many_has_its_turn_and_few_are_asked_all() {
        let mut known = Known::default();
        assert_eq!(known.next(&[node(1), node(2)]), [node(1), node(2)]);
        known.learned = (1..=20).map(node).collect();
        let named: Vec<Node> = (20..=22).map(node).collect();
        let mut asked: Vec<Node> = (0..22).flat_map(|_| known.next(&named)).collect();
        assert_eq!(asked.len(), 22 * ASKED_MAX);
        asked.sort();
        asked.dedup();
        assert_eq!(asked, (1..=22).map(node).collect::<Vec<_>>());
    }

    #[test]
    fn the_epoch_is_that_of_the_cluster() {
        let info = |text: &str| epoch(&Value::BulkString(text.into()));
        assert_eq!(info("cluster_state:ok\r\ncluster_current_epoch:7\r\ncluster_my_epoch:3\r\n"), Some(7));
        assert_eq!(info("cluster_state:ok\r\n"), None);
        assert_eq!(epoch(&Value::Nil), None);
    }
}
