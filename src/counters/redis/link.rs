//! Connections to Redis, made anew when they break. [`Connector`] is their factory.
//!
//! The request path's socket is ours (`socket`, `tls`), and so are all that know TLS or sentinels. The redis package
//! greets the server on it (user, password, database) and asks what is asked once (the script, the server's memory);
//! then the request path has the socket to itself (`line`). What is asked beside it has a connection of the package's,
//! made by deadpool-redis where that can (`pooled`). A connection of the request path counts as made when Redis has taken
//! the script: from then on `EVALSHA` finds it, and a server that only accepts and says nothing isn't mistaken for one
//! that works.

use std::fmt;
use std::future::{Future, pending};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{RedisError, Value};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::greeting::{Credentials, Greeted, GreetingError, greet, send};
use super::handshakes::{Handshakes, Place};
use super::lanes::Lane;
use super::line::Broken;
use super::nodes::Nodes;
use super::pooled::Plain;
use super::redirect::{LaneEnd, Node, Redirect};
use super::route::Route;
use super::script;
use super::sentinel::{Sentinels, Watch};
use super::socket::{self, Lent, Socket};
use crate::metrics::Metrics;
use crate::tls::Tls;

/// A Redis server, and who we are there.
#[derive(Clone)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    /// How it is spoken to over TLS, if it is.
    pub tls: Option<Tls>,
    /// The number of the database.
    pub database: u32,
    /// The user of Redis's access lists; `None` for the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// A file with the password, read at each connect, so that it can change while the service runs.
    pub password_file: Option<PathBuf>,
}

/// Where a Redis server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
    /// Wherever sentinels say that the master is.
    Sentinel(Box<Sentinels>),
    /// Wherever the nodes of a cluster say; host and port of those that are asked first.
    Cluster(Vec<(String, u16)>),
}

/// A socket on the way to being a connection.
pub(super) struct Connected {
    pub(super) socket: Box<dyn Socket>,
    /// Ends when the sentinels name another master, with its address; never where nobody is asked.
    pub(super) moved: BoxFuture<'static, (String, u16)>,
    /// Where a lane of a cluster ends.
    pub(super) end: Option<LaneEnd>,
}

/// Makes connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    server: Arc<Server>,
    timeouts: Timeouts,
    finder: Finder,
    handshakes: Handshakes,
    told: Arc<Told>,
    /// How many connections of the request path are open.
    open: Arc<watch::Sender<usize>>,
}

/// How the server is found.
#[derive(Clone, Debug)]
enum Finder {
    /// It is where its address says.
    Fixed,
    /// Sentinels know.
    Sentinels(Watch),
    /// The nodes of its cluster know.
    Cluster(Route),
}

/// What the log was told of the server. Each core has a connection of its own; one line is enough for all of them.
#[derive(Debug, Default)]
struct Told {
    up: AtomicBool,
    failures: AtomicU32,
    evicts: AtomicBool,
}

/// Times of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Time in which a connection must be made and the script taken.
    pub connect: Duration,
    /// Time in which Redis must answer a call; past it the connection counts as broken.
    pub response: Duration,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectorError {
    /// The file with the password can't be read.
    #[error("the password file {} cannot be read: {reason}", path.display())]
    PasswordFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Nothing was heard in time.
    #[error("{address}: no connection within {} ms", after.as_millis())]
    Timeout {
        /// Where Redis was looked for, without secrets.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server, or the way to it, said no.
    #[error("{address}: {reason}")]
    Refused {
        /// Where Redis was looked for, without secrets.
        address: String,
        /// What it said.
        reason: String,
    },
}

// === impl Connector ===

impl Connector {
    /// A factory of connections to `server`; of a cluster, to the node with records and gates, which is where
    /// [`Lane::RECORDS`] is. Nothing is connected yet.
    #[must_use]
    pub fn new(server: Server, timeouts: Timeouts) -> Connector {
        let server = Arc::new(server);
        let finder = match &server.address {
            Address::Sentinel(sentinels) => {
                Finder::Sentinels(Watch::new((**sentinels).clone(), server.tls.clone(), timeouts.connect))
            }
            Address::Cluster(named) => {
                Finder::Cluster(Route::new(Nodes::new(Arc::clone(&server), named, timeouts.connect)))
            }
            Address::Tcp(..) | Address::Unix(_) => Finder::Fixed,
        };
        let (handshakes, told, open) = (Handshakes::default(), Arc::default(), Arc::default());
        Connector { server, timeouts, finder, handshakes, told, open }
    }

    /// How many connections of the request path are open, those of all cores together.
    #[must_use]
    pub fn open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// Takes note of a connection of the request path that is open now.
    pub(super) fn note_opened(&self) {
        self.open.send_modify(|open| *open += 1);
    }

    /// Takes note of one that is not any more.
    pub(super) fn note_closed(&self) {
        self.open.send_modify(|open| *open = open.saturating_sub(1));
    }

    /// The same, whose redirects in a cluster are counted.
    #[must_use]
    pub fn counted(self, metrics: &Metrics) -> Connector {
        let finder = match self.finder {
            Finder::Cluster(route) => Finder::Cluster(route.counted(metrics)),
            other => other,
        };
        Connector { finder, ..self }
    }

    /// The ways of all lanes of a cluster, by number; `None` if this leads to none.
    #[must_use]
    pub fn lanes(&self) -> Option<[Connector; Lane::COUNT]> {
        let Finder::Cluster(route) = &self.finder else { return None };
        Some(Lane::all().map(|lane| Connector { finder: Finder::Cluster(route.of(lane)), ..self.clone() }))
    }

    /// The same for keys that lie in slots of their own; `None` if this leads to no cluster.
    pub(super) fn to_any_slot(&self) -> Option<Connector> {
        let Finder::Cluster(route) = &self.finder else { return None };
        Some(Connector { finder: Finder::Cluster(route.to_any_slot()), ..self.clone() })
    }

    /// The node that serves a slot of the cluster, as far as is known. The error is a sentence.
    pub(super) async fn node_of(&self, slot: u16) -> Result<Node, String> {
        match &self.finder {
            Finder::Cluster(route) => route.node_of(slot).await.map_err(|reason| self.refused(&reason).to_string()),
            Finder::Fixed | Finder::Sentinels(_) => Err("it is no cluster".to_owned()),
        }
    }

    /// The map of the cluster was found wrong.
    pub(super) fn doubt(&self) {
        if let Finder::Cluster(route) = &self.finder {
            route.doubt();
        }
    }

    /// What stands between the braces of the keys where this leads; nothing outside of clusters.
    pub(crate) fn tag(&self) -> &'static str {
        if let Finder::Cluster(route) = &self.finder { route.lane().tag() } else { "" }
    }

    /// Counts a call that a node of a cluster has redirected, and tells the log if that is news.
    pub(super) fn tell_redirected(&self, redirect: &Redirect) {
        if let Finder::Cluster(route) = &self.finder {
            route.note(redirect);
        }
    }

    /// Tells the log that a connection was made, unless it knows.
    pub(super) fn tell_up(&self) {
        self.told.failures.store(0, Ordering::Relaxed);
        if !self.told.up.swap(true, Ordering::Relaxed) {
            tracing::info!(address = self.address(), "connected to Redis");
        }
    }

    /// Tells the log that a connection broke, unless it knows.
    pub(super) fn tell_broken(&self, error: &Broken) {
        if self.told.up.swap(false, Ordering::Relaxed) {
            tracing::warn!(address = self.address(), %error, "the connection to Redis broke, connecting anew");
        }
    }

    /// Tells the log that an attempt failed: ever more seldom while the server stays away.
    pub(super) fn tell_failed(&self, error: &ConnectorError) {
        let failures = self.told.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures.is_power_of_two() {
            tracing::warn!(%error, failures, "Redis cannot be reached, trying again");
        }
    }

    /// Where Redis is looked for, without user and password.
    #[must_use]
    pub fn address(&self) -> String {
        self.server.address.to_string()
    }

    /// Warns once of a Redis that may drop counters when its memory is full: their limits would begin anew. A server
    /// that doesn't say (its access list forbids it) is taken at its word.
    async fn tell_evicts(&self, connection: &mut impl ConnectionLike) {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let Ok(Value::BulkString(text)) = send(connection, &info).await else { return };
        let text = String::from_utf8_lossy(&text);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let policy = field("maxmemory_policy").unwrap_or("noeviction").trim();
        let evicts = field("maxmemory").is_some_and(|bytes| bytes.trim() != "0") && policy != "noeviction";
        if evicts && !self.told.evicts.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                address = self.address(),
                policy,
                "this Redis drops keys when its memory is full, and limits begin anew then: noeviction is strict"
            );
        }
    }

    /// Time in which Redis must answer a call.
    pub(crate) fn patience(&self) -> Duration {
        self.timeouts.response
    }

    /// Makes one connection whose server has the script; of a cluster to the node `to`, if one is named.
    pub(super) async fn connect(&self, to: Option<Node>) -> Result<Connected, ConnectorError> {
        self.in_time(async {
            let (to, _place) = self.turn(to).await?;
            let Connected { socket, moved, end } = self.socket(to).await?;
            let socket = Arc::new(Mutex::new(socket));
            let Greeted { mut connection, task } = self.greet(Lent(Arc::clone(&socket))).await?;
            let asked = async {
                self.check_role(&mut connection).await?;
                load_script(&mut connection).await.map_err(|error| self.refused(&error))?;
                self.tell_evicts(&mut connection).await;
                Ok(())
            };
            tokio::select! {
                asked = asked => asked?,
                // It ends only with its connection.
                () = task => return Err(self.refused(&"the connection ended")),
            }
            drop(connection);
            // The package's connection is gone, and what it was lent with it.
            let socket = Arc::into_inner(socket).ok_or_else(|| self.refused(&"the socket is still in use"))?;
            Ok(Connected { socket: socket.into_inner().unwrap_or_else(PoisonError::into_inner), moved, end })
        })
        .await
    }

    /// Makes one connection of the package's own, for what is asked beside the request path: several may ask on it at
    /// once, and it has a task of its own on the runtime of the caller, which ends with the last clone, or when the
    /// sentinels name another master: what is asked then fails.
    pub(crate) async fn connect_beside(&self) -> Result<MultiplexedConnection, ConnectorError> {
        self.connect_beside_at(None).await
    }

    /// The same; of a cluster to the node `to`, if one is named.
    pub(super) async fn connect_beside_at(&self, to: Option<Node>) -> Result<MultiplexedConnection, ConnectorError> {
        self.in_time(async {
            if let Some(plain) = Plain::of(&self.server.address).filter(|_| self.server.tls.is_none()) {
                let settings = self.server.credentials().settings(self.server.database).await;
                let settings = settings.map_err(|error| self.unknown(error))?;
                return plain.connect(settings, self.timeouts).await.map_err(|error| self.refused(&error));
            }
            let Connected { socket, moved, .. } = self.socket(to).await?;
            let Greeted { mut connection, task } = self.greet(socket).await?;
            drop(tokio::spawn(async move {
                tokio::select! {
                    () = task => {}
                    _ = moved => {}
                }
            }));
            self.check_role(&mut connection).await?;
            Ok(connection)
        })
        .await
    }

    /// The node of a cluster to connect to, and a place among those who do.
    async fn turn(&self, to: Option<Node>) -> Result<(Option<Node>, Option<Place>), ConnectorError> {
        let Finder::Cluster(route) = &self.finder else { return Ok((None, None)) };
        let node = match to {
            Some(node) => node,
            None => route.master().await.map_err(|reason| self.refused(&reason))?,
        };
        // What is left is for the handshake, also for who goes ahead without a place.
        let place = self.handshakes.place(&node, self.timeouts.connect / 3).await;
        Ok((Some(node), Some(place)))
    }

    async fn socket(&self, to: Option<Node>) -> Result<Connected, ConnectorError> {
        let (tls, time) = (self.server.tls.as_ref(), self.timeouts.connect);
        let opened = match (&self.finder, &self.server.address) {
            (Finder::Sentinels(watch), _) => {
                let (host, port) = watch.master().await.map_err(|reason| self.refused(&reason))?;
                let opened = socket::open_tcp(&host, port, tls, time).await;
                let named = Address::Tcp(host.clone(), port);
                let opened = opened.map_err(|error| self.refused(&format!("{named}, which they name: {error}")))?;
                let moved = watch.clone().moved((host, port));
                return Ok(Connected { socket: opened, moved: Box::pin(moved), end: None });
            }
            (Finder::Cluster(route), _) => {
                let node = match to {
                    Some(node) => node,
                    None => route.master().await.map_err(|reason| self.refused(&reason))?,
                };
                let lane = route.lane();
                let opened = socket::open_tcp(&node.0, node.1, tls, time).await.map_err(|error| {
                    let named = Address::Tcp(node.0.clone(), node.1);
                    self.refused(&format!("{named}, which serves slot {}: {error}", lane.slot()))
                })?;
                return Ok(Connected { socket: opened, moved: Box::pin(pending()), end: Some(LaneEnd { lane, node }) });
            }
            (Finder::Fixed, Address::Tcp(host, port)) => socket::open_tcp(host, *port, tls, time).await,
            (Finder::Fixed, Address::Unix(path)) => socket::open_unix(path).await,
            (Finder::Fixed, Address::Sentinel(_) | Address::Cluster(_)) => {
                unreachable!("whoever is found through others has a finder")
            }
        };
        Ok(Connected { socket: opened.map_err(|error| self.refused(&error))?, moved: Box::pin(pending()), end: None })
    }

    /// Tells the server on a new socket who we are.
    async fn greet(
        &self,
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Greeted, ConnectorError> {
        let greeted = greet(socket, self.server.credentials(), self.server.database, self.timeouts.response).await;
        greeted.map_err(|error| self.unknown(error))
    }

    fn unknown(&self, error: GreetingError) -> ConnectorError {
        match error {
            GreetingError::PasswordFile { path, reason } => ConnectorError::PasswordFile { path, reason },
            GreetingError::Redis(error) => self.refused(&error),
        }
    }

    /// Asks a server that sentinels have named whether it is a master: they may be a moment behind. One that doesn't say
    /// (its access list forbids it) is taken at their word.
    async fn check_role(&self, connection: &mut MultiplexedConnection) -> Result<(), ConnectorError> {
        if !matches!(self.finder, Finder::Sentinels(_)) {
            return Ok(());
        }
        let Ok(Value::Array(role)) = send(connection, &redis::cmd("ROLE")).await else { return Ok(()) };
        match role.first() {
            Some(Value::BulkString(role)) if role != b"master" => {
                let role = String::from_utf8_lossy(role);
                Err(self.refused(&format!("the server that they name is a {role}, not the master yet")))
            }
            _ => Ok(()),
        }
    }

    async fn in_time<T>(
        &self,
        connected: impl Future<Output = Result<T, ConnectorError>>,
    ) -> Result<T, ConnectorError> {
        let after = self.timeouts.connect;
        timeout(after, connected)
            .await
            .unwrap_or_else(|_| Err(ConnectorError::Timeout { address: self.address(), after }))
    }

    fn refused(&self, reason: &dyn fmt::Display) -> ConnectorError {
        ConnectorError::Refused { address: self.address(), reason: reason.to_string() }
    }
}

/// Gives Redis the script.
pub(super) async fn load_script(connection: &mut impl ConnectionLike) -> Result<(), RedisError> {
    let mut load = redis::cmd("SCRIPT");
    load.arg("LOAD").arg(script::SCRIPT);
    send(connection, &load).await.map(drop)
}

// === impl Server ===

impl Server {
    /// Who we are there.
    pub(super) fn credentials(&self) -> Credentials<'_> {
        Credentials {
            username: self.username.as_deref(),
            password: self.password.as_deref(),
            password_file: self.password_file.as_deref(),
        }
    }
}

impl fmt::Debug for Server {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

// === impl Address ===

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Sentinel(sentinels) => write!(f, "{sentinels}"),
            Address::Cluster(named) => {
                let named: Vec<String> =
                    named.iter().map(|(host, port)| Address::Tcp(host.clone(), *port).to_string()).collect();
                write!(f, "the cluster of {}", named.join(", "))
            }
        }
    }
}
