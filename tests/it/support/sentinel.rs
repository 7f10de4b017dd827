//! A master with a replica, and three sentinels that watch them: real processes, with passwords of their own.

use std::process::Command;

use tempfile::TempDir;
use tidegate::counters::redis::{Address, Sentinels, Server};

use super::process::Process;
use super::redis::{Redis, free_port};
use super::store::server;
use super::{PATIENCE, eventually, program};

/// The servers and those who watch them.
pub(crate) struct Trio {
    pub(crate) master: Redis,
    pub(crate) replica: Redis,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    port: u16,
    _folder: TempDir,
    process: Process,
}

/// The name by which the master is watched.
pub(crate) const MASTER: &str = "counters";

/// The servers' password, and the sentinels'.
pub(crate) const SERVERS_PASSWORD: &str = "servers-secret";
pub(crate) const SENTINELS_PASSWORD: &str = "sentinels-secret";

// === impl Trio ===

impl Trio {
    /// All six of them, once every sentinel knows the others and the replica. `None` where there is no Redis.
    pub(crate) async fn start() -> Option<Trio> {
        let known =
            || vec!["--requirepass".into(), SERVERS_PASSWORD.into(), "--masterauth".into(), SERVERS_PASSWORD.into()];
        let master = Redis::start_with(|_| known()).await?;
        let of = ["--replicaof".to_owned(), "127.0.0.1".to_owned(), master.port().to_string()];
        let replica = Redis::start_with(|_| [known(), of.to_vec()].concat()).await?;
        eventually("the replica follows its master", PATIENCE, async || {
            replica.ask_as(SERVERS_PASSWORD, "INFO replication").await.contains("master_link_status:up").then_some(())
        })
        .await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Sentinel::start(master.port()).await);
        }
        let trio = Trio { master, replica, sentinels };
        for sentinel in &trio.sentinels {
            eventually("a sentinel knows the others", PATIENCE, async || {
                let text = sentinel.about_master().await?;
                let field = |name: &str| text.lines().skip_while(|line| *line != name).nth(2).map(str::to_owned);
                (field("num-slaves")? == "1" && field("num-other-sentinels")? == "2").then_some(())
            })
            .await;
        }
        Some(trio)
    }

    /// The master, wherever the sentinels say it is.
    pub(crate) fn server(&self) -> Server {
        let sentinels = Sentinels {
            master: MASTER.to_owned(),
            addresses: self.sentinels.iter().map(|sentinel| ("127.0.0.1".to_owned(), sentinel.port)).collect(),
            username: None,
            password: Some(SENTINELS_PASSWORD.to_owned()),
            password_file: None,
        };
        let address = Address::Sentinel(Box::new(sentinels));
        Server { address, password: Some(SERVERS_PASSWORD.to_owned()), ..server(0) }
    }

    /// The same as the reference service's variable has it.
    pub(crate) fn reference_url(&self) -> String {
        let addresses = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port));
        [vec![MASTER.to_owned()], addresses.collect()].concat().join(",")
    }

    /// Has a sentinel make the replica the master, although the master is well.
    pub(crate) async fn fail_over(&self) {
        let sentinel = &self.sentinels[0];
        let answer =
            super::redis::ask_as(sentinel.port, SENTINELS_PASSWORD, &format!("SENTINEL FAILOVER {MASTER}")).await;
        assert!(answer.is_some_and(|answer| answer.contains("+OK")));
    }
}

// === impl Sentinel ===

impl Sentinel {
    /// One that watches that master. Its port may be taken by somebody before it is there itself.
    async fn start(master: u16) -> Sentinel {
        const ATTEMPTS: usize = 5;
        for _ in 0..ATTEMPTS {
            let mut sentinel = Sentinel::launch(master);
            let process = &mut sentinel.process;
            let watches =
                eventually("a sentinel watches its master or ends", PATIENCE, async || match process.exit_status() {
                    Some(_) => Some(false),
                    None => process.stdout().contains("+monitor").then_some(true),
                });
            if watches.await {
                return sentinel;
            }
            println!("port {} was taken meanwhile; trying another", sentinel.port);
        }
        panic!("a sentinel did not start in {ATTEMPTS} attempts");
    }

    fn launch(master: u16) -> Sentinel {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let file = folder.path().join("sentinel.conf");
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.path().display()),
            format!("requirepass {SENTINELS_PASSWORD}"),
            format!("sentinel monitor {MASTER} 127.0.0.1 {master} 2"),
            format!("sentinel auth-pass {MASTER} {SERVERS_PASSWORD}"),
            format!("sentinel down-after-milliseconds {MASTER} 1000"),
            format!("sentinel failover-timeout {MASTER} 5000"),
            format!("sentinel sentinel-pass {SENTINELS_PASSWORD}"),
        ];
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let mut command = Command::new(program("redis-server", None, "REQUIRE_REDIS").expect("was there before"));
        command.arg(file).arg("--sentinel");
        Sentinel { port, _folder: folder, process: Process::spawn("sentinel", &mut command) }
    }

    async fn about_master(&self) -> Option<String> {
        super::redis::ask_as(self.port, SENTINELS_PASSWORD, &format!("SENTINEL MASTER {MASTER}")).await
    }
}
