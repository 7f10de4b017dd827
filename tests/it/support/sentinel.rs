//! A master with a replica, and three sentinels that watch them: real processes, with passwords of their own.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::counters::redis::{Address, Sentinels, Server};
use tidegate::demo::ports::HeldPort;

use super::process::Process;
use super::redis::Redis;
use super::store::server;
use super::{PATIENCE, eventually, program};

/// The servers and those who watch them.
pub(crate) struct Trio {
    pub(crate) master: Redis,
    pub(crate) replica: Redis,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    port: HeldPort,
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
    /// All five of them, once every sentinel knows the others and the replica. A master that says nothing for so long is
    /// taken for dead; long where it isn't to die, so that it isn't for being held up. `None` where there is no Redis.
    pub(crate) async fn start(down_after: Duration) -> Option<Trio> {
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
            sentinels.push(Sentinel::start(master.port(), down_after).await);
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
            addresses: self.sentinels.iter().map(|sentinel| ("127.0.0.1".to_owned(), sentinel.port())).collect(),
            username: None,
            password: Some(SENTINELS_PASSWORD.to_owned()),
            password_file: None,
        };
        let address = Address::Sentinel(Box::new(sentinels));
        Server { address, password: Some(SERVERS_PASSWORD.to_owned()), ..server(0) }
    }

    /// The same as the reference service's variable has it.
    pub(crate) fn reference_url(&self) -> String {
        let addresses = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port()));
        [vec![MASTER.to_owned()], addresses.collect()].concat().join(",")
    }

    /// Has a sentinel make the replica the master, although the master is well. It is asked again while it finds the
    /// replica not fit, as it does for a while when either was held up.
    pub(crate) async fn fail_over(&self) {
        let command = format!("SENTINEL FAILOVER {MASTER}");
        eventually("the sentinel begins", PATIENCE, async || {
            let answer = super::redis::ask_as(self.sentinels[0].port(), SENTINELS_PASSWORD, &command).await?;
            // The first is for the password.
            (answer.matches("+OK").count() == 2).then_some(())
        })
        .await;
    }
}

// === impl Sentinel ===

impl Sentinel {
    /// One that watches that master.
    async fn start(master: u16, down_after: Duration) -> Sentinel {
        let mut sentinel = Sentinel::launch(master, down_after);
        let process = &mut sentinel.process;
        eventually("a sentinel watches its master", PATIENCE, async || {
            assert!(process.exit_status().is_none(), "it ended at start: {}", process.stdout());
            process.stdout().contains("+monitor").then_some(())
        })
        .await;
        sentinel
    }

    fn launch(master: u16, down_after: Duration) -> Sentinel {
        let (held, folder) = (HeldPort::any().unwrap(), TempDir::new().unwrap());
        let port = held.address().port();
        let file = folder.path().join("sentinel.conf");
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.path().display()),
            format!("requirepass {SENTINELS_PASSWORD}"),
            format!("sentinel monitor {MASTER} 127.0.0.1 {master} 2"),
            format!("sentinel auth-pass {MASTER} {SERVERS_PASSWORD}"),
            format!("sentinel down-after-milliseconds {MASTER} {}", down_after.as_millis()),
            format!("sentinel failover-timeout {MASTER} 5000"),
            format!("sentinel sentinel-pass {SENTINELS_PASSWORD}"),
        ];
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let mut command = Command::new(program("redis-server", None, "REQUIRE_REDIS").expect("was there before"));
        command.arg(file).arg("--sentinel");
        Sentinel { port: held, _folder: folder, process: Process::spawn("sentinel", &mut command) }
    }

    fn port(&self) -> u16 {
        self.port.address().port()
    }

    async fn about_master(&self) -> Option<String> {
        super::redis::ask_as(self.port(), SENTINELS_PASSWORD, &format!("SENTINEL MASTER {MASTER}")).await
    }
}
