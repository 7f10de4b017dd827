//! A Redis Cluster: real processes on ports of their own, with a password, put together by the commands that
//! `redis-cli --cluster` sends.

use std::cell::Cell;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tidegate::counters::any::{AnyStore, InRedis};
use tidegate::counters::redis::cluster::{SLOTS, Topology};
use tidegate::counters::redis::lanes::{Lane, halves};
use tidegate::counters::redis::{Address, Connector, RedisStore, Server, SlotStore, Timeouts};
use tidegate::counters::spread::{InCluster, Reach, SpreadStore};
use tidegate::key::CounterKey;
use tokio_util::task::TaskTracker;

use super::redis::{Redis, free_port};
use super::store::{BATCH, reached, server};
use super::{PATIENCE, eventually};

/// Masters with equal shares of the slots, and their replicas.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    masters: usize,
}

/// A process of a cluster.
pub(crate) struct Node {
    pub(crate) redis: Redis,
    bus: u16,
    id: String,
}

/// The password of all nodes.
pub(crate) const PASSWORD: &str = "cluster-secret";

// === impl Cluster ===

impl Cluster {
    /// So many masters, and the same number of replicas or none, once all agree that all is well. `None` where there is
    /// no Redis.
    pub(crate) async fn start(masters: usize, with_replicas: bool) -> Option<Cluster> {
        let mut nodes = Vec::new();
        for _ in 0..if with_replicas { 2 * masters } else { masters } {
            nodes.push(Node::start().await?);
        }
        let cluster = Cluster { nodes, masters };
        for (number, node) in cluster.nodes.iter().enumerate() {
            node.tell(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1)).await;
        }
        let slot = |share: usize| share * usize::from(SLOTS) / masters;
        for (number, node) in cluster.masters().iter().enumerate() {
            node.tell(&format!("CLUSTER ADDSLOTSRANGE {} {}", slot(number), slot(number + 1) - 1)).await;
        }
        for node in &cluster.nodes[1..] {
            cluster.nodes[0].tell(&format!("CLUSTER MEET 127.0.0.1 {} {}", node.redis.port(), node.bus)).await;
        }
        for node in &cluster.nodes {
            eventually("a node knows all the others", PATIENCE, async || {
                let text = node.ask("CLUSTER NODES").await;
                (text.matches(" connected").count() == cluster.nodes.len() && !text.contains("handshake")).then_some(())
            })
            .await;
        }
        for (replica, master) in cluster.nodes[masters..].iter().zip(cluster.masters()) {
            replica.tell(&format!("CLUSTER REPLICATE {}", master.id)).await;
        }
        for node in &cluster.nodes {
            eventually("a node finds that all is well", PATIENCE, async || {
                let text = node.ask("CLUSTER INFO").await;
                let replicas = node.ask("CLUSTER NODES").await.matches("slave").count();
                let follows = !node.ask("INFO replication").await.contains("master_link_status:down");
                let all_known = replicas == cluster.nodes.len() - masters;
                (text.contains("cluster_state:ok") && all_known && follows).then_some(())
            })
            .await;
        }
        Some(cluster)
    }

    /// Those that were masters at the start.
    pub(crate) fn masters(&self) -> &[Node] {
        &self.nodes[..self.masters]
    }

    /// Kills a master.
    pub(crate) fn stop(&mut self, master: usize) {
        self.nodes[master].redis.stop();
    }

    /// Has a master hang: its connections stay open, and nothing is answered.
    pub(crate) fn pause(&mut self, master: usize) {
        self.nodes[master].redis.pause();
    }

    /// The replica that a master had at the start.
    pub(crate) fn replica(&self, master: usize) -> &Node {
        &self.nodes[self.masters + master]
    }

    /// How it is connected to: by way of two nodes.
    pub(crate) fn server(&self) -> Server {
        let named = self.nodes.iter().rev().take(2).map(|node| ("127.0.0.1".to_owned(), node.redis.port()));
        Server { address: Address::Cluster(named.collect()), password: Some(PASSWORD.to_owned()), ..server(0) }
    }

    /// The same as the reference service's variable has it.
    pub(crate) fn reference_url(&self) -> String {
        let addresses = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.redis.port()));
        addresses.collect::<Vec<_>>().join(",")
    }

    pub(crate) fn connector(&self) -> Connector {
        Connector::new(self.server(), Timeouts { connect: PATIENCE, response: PATIENCE })
    }

    /// A core's store whose lanes all have reached their node.
    pub(crate) async fn store(&self) -> AnyStore {
        store(&self.connector()).await
    }

    /// The number of the master that serves a slot, as the first master has it.
    pub(crate) async fn owner(&self, slot: u16) -> usize {
        let mut asked = redis::cmd("CLUSTER");
        let map: Value = asked.arg("SLOTS").query_async(&mut self.nodes[0].connect().await).await.unwrap();
        let map = Topology::read(&map, "127.0.0.1").unwrap();
        let (_, port) = map.master(slot).expect("all slots are served");
        self.nodes.iter().position(|node| node.redis.port() == port).unwrap()
    }

    /// Moves a slot with its keys to another master, as `redis-cli --cluster reshard` does; says how many keys went.
    pub(crate) async fn move_slot(&self, slot: u16, to: usize) -> usize {
        let (from, to) = (&self.nodes[self.owner(slot).await], &self.nodes[to]);
        to.tell(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id)).await;
        from.tell(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id)).await;
        let mut connection = from.connect().await;
        let mut moved = 0;
        loop {
            let mut some = redis::cmd("CLUSTER");
            some.arg("GETKEYSINSLOT").arg(slot).arg(2);
            let keys: Vec<Vec<u8>> = some.query_async(&mut connection).await.unwrap();
            if keys.is_empty() {
                break;
            }
            moved += keys.len();
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(to.redis.port()).arg("").arg(0).arg(30_000);
            migrate.arg("AUTH").arg(PASSWORD).arg("KEYS").arg(keys);
            // A key that has gone meanwhile is no key to move.
            let _: String = migrate.query_async(&mut connection).await.unwrap();
        }
        // The target first is the rule; the source first leaves a moment in which each names the other.
        let first = if slot.is_multiple_of(2) { [to, from] } else { [from, to] };
        for node in first.into_iter().chain(self.masters()) {
            node.tell(&format!("CLUSTER SETSLOT {slot} NODE {}", to.id)).await;
        }
        moved
    }
}

/// A core's store over a cluster whose lanes all have reached their node.
pub(crate) async fn store(connector: &Connector) -> AnyStore {
    AnyStore::Redis(in_cluster(connector).await)
}

/// The same, for whoever puts something in front.
pub(crate) async fn in_cluster(connector: &Connector) -> InRedis {
    let (lanes, slots) = connector.lanes().zip(SlotStore::new(connector)).expect("it leads to a cluster");
    let lanes = lanes.map(|lane| RedisStore::start(lane, BATCH, &TaskTracker::new()));
    for lane in &lanes {
        reached(lane).await;
    }
    InRedis::Spread(SpreadStore::new(Reach::Cluster(Box::new(InCluster { lanes, slots })), None))
}

/// A node with all slots, for anybody, and the way to it: a cluster of one refuses what lies in two slots as one of
/// many does.
pub(crate) async fn alone() -> Option<(Redis, Connector)> {
    let redis = Redis::start_with(|_| {
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()];
        arguments.map(str::to_owned).to_vec()
    })
    .await?;
    assert_eq!(redis.ask("CLUSTER ADDSLOTSRANGE 0 16383").await, "+OK");
    eventually("it finds that all is well", PATIENCE, async || {
        redis.ask_all("CLUSTER INFO").await.contains("cluster_state:ok").then_some(())
    })
    .await;
    let server = Server { address: Address::Cluster(vec![("127.0.0.1".to_owned(), redis.port())]), ..server(0) };
    Some((redis, Connector::new(server, Timeouts { connect: PATIENCE, response: PATIENCE })))
}

/// What a counter's key is called in a cluster.
pub(crate) fn tagged(key: &CounterKey) -> Vec<u8> {
    let (before, after) = halves(key.as_bytes());
    [before, Lane::of(key).tag().as_bytes(), after].concat()
}

// === impl Node ===

impl Node {
    async fn start() -> Option<Node> {
        let bus = Cell::new(0);
        let redis = Redis::start_with(|_| {
            bus.set(free_port());
            let bus = bus.get().to_string();
            let arguments = [
                ["--cluster-enabled", "yes"],
                ["--cluster-port", &bus],
                ["--cluster-node-timeout", "5000"],
                ["--repl-diskless-sync-delay", "0"],
                ["--requirepass", PASSWORD],
                ["--masterauth", PASSWORD],
            ];
            arguments.concat().into_iter().map(str::to_owned).collect()
        })
        .await?;
        let mut node = Node { redis, bus: bus.get(), id: String::new() };
        let text = node.ask("CLUSTER MYID").await;
        node.id = text.lines().map(str::trim).find(|line| line.len() == 40).expect("a node has an id").to_owned();
        Some(node)
    }

    /// Its whole answer to an inline command.
    pub(crate) async fn ask(&self, command: &str) -> String {
        self.redis.ask_as(PASSWORD, command).await
    }

    /// Has it do something.
    async fn tell(&self, command: &str) {
        let answer = self.ask(command).await;
        assert_eq!(answer.matches("+OK").count(), 2, "{command}: {answer}");
    }

    async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://:{PASSWORD}@127.0.0.1:{}", self.redis.port())).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}
