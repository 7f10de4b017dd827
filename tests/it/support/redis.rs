//! A real `redis-server` of the test's own: nothing is saved, and it can be stopped and started again on its port.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use tempfile::TempDir;
use tidegate::demo::ports::HeldPort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::process::Process;
use super::{PATIENCE, eventually, program};

/// A Redis on a port of its own; killed when dropped. Its ports are held all the while, so that nobody else is given one
/// before it is started or while it is away.
#[derive(Debug)]
pub(crate) struct Redis {
    port: HeldPort,
    more_ports: Vec<HeldPort>,
    folder: TempDir,
    process: Option<Process>,
    arguments: Vec<String>,
}

// === impl Redis ===

impl Redis {
    /// An empty Redis that answers; `None` where there is none to start, see [`program`].
    pub(crate) async fn start() -> Option<Redis> {
        Redis::start_with(|_| Vec::new()).await
    }

    /// The same with further arguments, made from the port that it gets.
    pub(crate) async fn start_with(arguments: impl Fn(u16) -> Vec<String>) -> Option<Redis> {
        let mut redis = Redis::stopped()?;
        redis.arguments = arguments(redis.port());
        redis.start_again().await;
        Some(redis)
    }

    /// One with another port of its own, which the arguments are made from; see [`Redis::other_port`].
    pub(crate) async fn start_with_two_ports(arguments: impl Fn(u16) -> Vec<String>) -> Option<Redis> {
        Redis::start_with_more_ports(1, |ports| arguments(ports[0])).await
    }

    /// The same with so many.
    pub(crate) async fn start_with_more_ports(
        count: usize,
        arguments: impl Fn(&[u16]) -> Vec<String>,
    ) -> Option<Redis> {
        let mut redis = Redis::stopped()?;
        redis.more_ports = std::iter::repeat_with(|| HeldPort::any().unwrap()).take(count).collect();
        redis.arguments = arguments(&redis.more_ports());
        redis.start_again().await;
        Some(redis)
    }

    /// The same as [`Redis::start`] for tests that have no runtime.
    pub(crate) fn start_blocking() -> Option<Redis> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Redis::start())
    }

    /// A new connection that blocks.
    pub(crate) fn connect_blocking(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// A Redis yet to be started: its address is known and nothing listens there.
    pub(crate) fn stopped() -> Option<Redis> {
        program("redis-server", None, "REQUIRE_REDIS")?;
        let (port, folder) = (HeldPort::any().unwrap(), TempDir::new().unwrap());
        Some(Redis { port, more_ports: Vec::new(), folder, process: None, arguments: Vec::new() })
    }

    /// Starts it on its port, with what was saved when it was stopped.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.starts().await, "redis-server ended at start");
    }

    /// Starts it; `false` if it ends at once.
    async fn starts(&mut self) -> bool {
        assert!(self.process.is_none(), "it runs already");
        let mut command = Command::new(program("redis-server", None, "REQUIRE_REDIS").expect("was there before"));
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
        let address = self.port.address();
        command.arg(address.port().to_string()).arg("--dir").arg(self.folder.path()).args(&self.arguments);
        let process = self.process.insert(Process::spawn("redis-server", &mut command));
        eventually("redis-server answers a PING or ends", PATIENCE, async || {
            if process.exit_status().is_some() {
                return Some(false);
            }
            // Only its own word counts: whoever else has the port may speak Redis too.
            let ready = process.stdout().contains("Ready to accept connections");
            // One with a password says that it wants it.
            let answer = ask(address, "PING").await?;
            (ready && (answer == "+PONG" || answer.starts_with("-NOAUTH"))).then_some(true)
        })
        .await
    }

    /// Kills it: connections break, and everything that it held is lost.
    pub(crate) fn stop(&mut self) {
        self.process = None;
        // There is one only if it was saved before.
        drop(std::fs::remove_file(self.folder.path().join("dump.rdb")));
    }

    /// Stops it where it is: its connections stay open, and nothing is answered.
    pub(crate) fn pause(&mut self) {
        self.process.as_mut().expect("it runs").pause();
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self) {
        self.process.as_mut().expect("it runs").resume();
    }

    /// Kills it when it has saved what it holds, which is there when it is started again.
    pub(crate) async fn stop_saved(&mut self) {
        assert_eq!(self.ask("SAVE").await, "+OK");
        self.process = None;
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port.address().port()
    }

    /// The other of its two ports.
    pub(crate) fn other_port(&self) -> u16 {
        self.more_ports[0].address().port()
    }

    /// Its ports besides the first.
    pub(crate) fn more_ports(&self) -> Vec<u16> {
        self.more_ports.iter().map(|port| port.address().port()).collect()
    }

    /// Its first line of an answer to an inline command.
    pub(crate) async fn ask(&self, command: &str) -> String {
        ask(self.port.address(), command).await.expect("Redis answers")
    }

    /// Its whole answer, a bulk string, to an inline command.
    pub(crate) async fn ask_all(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.port.address()).await.unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Its whole answer to an inline command of somebody who knows its password. It is asked again when the connection
    /// breaks: a server that becomes master or replica is made to close those of all its clients.
    pub(crate) async fn ask_as(&self, password: &str, command: &str) -> String {
        eventually("Redis answers", PATIENCE, async || ask_as(self.port(), password, command).await).await
    }

    /// How often each command was called by a client or a script, by its own count. INFO and PING are left out: tests
    /// ask the one, an idle store the other.
    pub(crate) async fn calls(&self) -> BTreeMap<String, u64> {
        let text = self.ask_all("INFO commandstats").await;
        let counts = text.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        });
        counts.filter(|(name, _)| !["info", "ping", "quit"].contains(&name.as_str())).collect()
    }

    /// How many script calls it has seen.
    pub(crate) async fn script_calls(&self) -> u64 {
        self.calls().await.get("evalsha").copied().unwrap_or(0)
    }

    /// Its address as settings take it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }
}

/// A port that was free a moment ago, for addresses where nobody is found. Who is to listen holds its port instead.
pub(crate) fn free_port() -> u16 {
    HeldPort::any().unwrap().address().port()
}

/// The whole answer of whoever listens on that port to an inline command; `None` if it can't be reached, or has closed the
/// connection before it had answered both what is asked and the password.
pub(crate) async fn ask_as(port: u16, password: &str, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    stream.write_all(format!("AUTH {password}\r\n{command}\r\n").as_bytes()).await.ok()?;
    // Sentinels know no QUIT.
    stream.shutdown().await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    (answer.iter().filter(|byte| **byte == b'\n').count() > 1).then(|| String::from_utf8_lossy(&answer).into_owned())
}

/// What lies under a key of any bytes, asked again as [`Redis::ask_as`] does.
pub(crate) async fn value_of(redis: &Redis, password: &str, key: &[u8]) -> Option<Vec<u8>> {
    let client = ::redis::Client::open(format!("redis://:{password}@127.0.0.1:{}", redis.port())).unwrap();
    eventually("Redis tells what it holds", PATIENCE, async || {
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        ::redis::cmd("GET").arg(key).query_async(&mut connection).await.ok()
    })
    .await
}

/// The first line that a Redis answers to an inline command; `None` if it can't be reached.
async fn ask(address: SocketAddr, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).await.ok()?;
    Some(String::from_utf8_lossy(&answer[..length]).lines().next()?.to_owned())
}

#[tokio::test]
async fn a_redis_comes_back_empty_on_its_port() {
    let Some(mut redis) = Redis::start().await else { return };
    let address = redis.port.address();
    assert_eq!(ask(address, "SET a 1").await.as_deref(), Some("+OK"));
    redis.stop();
    assert_eq!(ask(address, "GET a").await, None);
    redis.start_again().await;
    assert_eq!(ask(address, "GET a").await.as_deref(), Some("$-1"));
}
