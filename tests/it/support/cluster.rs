//! A Redis Cluster: real processes on ports of their own, with a password, put together by the commands that
//! `redis-cli --cluster` sends.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value};
use tidegate::counters::any::{AnyStore, InRedis};
use tidegate::counters::redis::cluster::{SLOTS, Topology};
use tidegate::counters::redis::lanes::{Lane, halves};
use tidegate::counters::redis::{Address, Connector, RedisStore, Server, SlotStore, Timeouts, Tls};
use tidegate::counters::spread::{InCluster, Reach, SpreadStore};
use tidegate::key::CounterKey;
use tokio_util::task::TaskTracker;

use super::redis::Redis;
use super::redis_tls;
use super::store::{BATCH, reached, server};
use super::{PATIENCE, eventually};

/// Masters with equal shares of the slots, and their replicas.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    masters: usize,
    /// How its clients speak, if over TLS.
    tls: Option<Tls>,
}

/// A process of a cluster.
pub(crate) struct Node {
    pub(crate) redis: Redis,
    /// Where it speaks TLS, if it does: to clients, and to the other nodes.
    tls_port: Option<u16>,
    id: String,
}

/// How long a node may be silent, in milliseconds, until others think it dead, where no test waits for that.
const PATIENT_MS: u32 = 15_000;

/// The password of all nodes.
pub(crate) const PASSWORD: &str = "cluster-secret";

// === impl Cluster ===

impl Cluster {
    /// So many masters, and the same number of replicas or none, once all agree that all is well. `None` where there is
    /// no Redis.
    pub(crate) async fn start(masters: usize, with_replicas: bool) -> Option<Cluster> {
        let mut nodes = Vec::new();
        for _ in 0..if with_replicas { 2 * masters } else { masters } {
            // Where nobody is to take over, nodes that are held up together are not to think each other dead.
            nodes.push(Node::start(if with_replicas { 5_000 } else { PATIENT_MS }, None).await?);
        }
        Some(Cluster { nodes, masters, tls: None }.put_together().await)
    }

    /// Masters that speak TLS, to each other as well, each of which shows one of these certificates. Only tests ask them
    /// in the clear.
    pub(crate) async fn start_over_tls(certificates: &[&str]) -> Option<Cluster> {
        let mut nodes = Vec::new();
        for certificate in certificates {
            nodes.push(Node::start(PATIENT_MS, Some(certificate)).await?);
        }
        let tls = Tls { ca_file: Some(redis_tls::file("ca.pem")), ..Tls::default() };
        Some(Cluster { masters: nodes.len(), nodes, tls: Some(tls) }.put_together().await)
    }

    /// The same nodes, once they are a cluster.
    async fn put_together(self) -> Cluster {
        let Cluster { masters, .. } = self;
        let cluster = self;
        for (number, node) in cluster.nodes.iter().enumerate() {
            node.tell(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1)).await;
        }
        let slot = |share: usize| share * usize::from(SLOTS) / masters;
        for (number, node) in cluster.masters().iter().enumerate() {
            node.tell(&format!("CLUSTER ADDSLOTSRANGE {} {}", slot(number), slot(number + 1) - 1)).await;
        }
        for node in &cluster.nodes[1..] {
            let (port, bus) = (node.port(), node.redis.other_port());
            cluster.nodes[0].tell(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}")).await;
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
        cluster
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
        let named = self.nodes.iter().rev().take(2).map(|node| ("127.0.0.1".to_owned(), node.port()));
        let address = Address::Cluster(named.collect());
        Server { address, tls: self.tls.clone(), password: Some(PASSWORD.to_owned()), ..server(0) }
    }

    /// The same as the reference service's variable has it.
    pub(crate) fn reference_url(&self) -> String {
        let addresses = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port()));
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
            migrate.arg("127.0.0.1").arg(to.port()).arg("").arg(0).arg(30_000);
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
    let redis = Redis::start_with_two_ports(|bus| {
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()];
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
    /// One that others may think dead when nothing was heard of it for so many milliseconds, and that speaks TLS if it is
    /// given a certificate to show.
    async fn start(node_timeout: u32, certificate: Option<&str>) -> Option<Node> {
        let redis = Redis::start_with_more_ports(1 + usize::from(certificate.is_some()), |ports| {
            let (bus, node_timeout) = (ports[0].to_string(), node_timeout.to_string());
            let arguments = [
                ["--cluster-enabled", "yes"],
                ["--cluster-port", &bus],
                ["--cluster-node-timeout", &node_timeout],
                ["--repl-diskless-sync-delay", "0"],
                ["--requirepass", PASSWORD],
                ["--masterauth", PASSWORD],
            ];
            let mut arguments: Vec<String> = arguments.concat().into_iter().map(str::to_owned).collect();
            if let Some(certificate) = certificate {
                arguments.extend(redis_tls::arguments(ports[1], certificate));
                // Whom a node calls wants to see a certificate for clients.
                let [shown, key] =
                    ["client-rsa.pem", "client-pkcs1.key"].map(|name| redis_tls::file(name).display().to_string());
                let among_nodes = [
                    ["--tls-auth-clients", "no"],
                    ["--tls-cluster", "yes"],
                    ["--tls-replication", "yes"],
                    ["--tls-client-cert-file", &shown],
                    ["--tls-client-key-file", &key],
                ];
                arguments.extend(among_nodes.concat().into_iter().map(str::to_owned));
            }
            arguments
        })
        .await?;
        let tls_port = certificate.map(|_| redis.more_ports()[1]);
        let mut node = Node { redis, tls_port, id: String::new() };
        let text = node.ask("CLUSTER MYID").await;
        node.id = text.lines().map(str::trim).find(|line| line.len() == 40).expect("a node has an id").to_owned();
        Some(node)
    }

    /// Where clients find it.
    pub(crate) fn port(&self) -> u16 {
        self.tls_port.unwrap_or_else(|| self.redis.port())
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
        // The package's own patience is half a second, and a node that moves keys answers nobody meanwhile.
        let patient = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE));
        let patient = patient.set_response_timeout(Some(PATIENCE));
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
    }
}
