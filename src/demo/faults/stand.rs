//! The processes, and the hands that break and mend them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::fault::Fault;
use crate::bench::system::interrupt::Interrupt;
use crate::bench::system::process::{Process, announced};
use crate::demo::compare::protection::Protection;
use crate::demo::compare::stacks::Stacks;
use crate::demo::programs::Programs;

/// Everything that can be broken; it ends when dropped.
#[derive(Debug)]
pub struct Stand<'a> {
    programs: &'a Programs,
    interrupt: &'a Interrupt,
    stacks: Stacks,
    /// Where the replica listened that was killed, with its place.
    killed: Option<(usize, SocketAddr)>,
    /// Who answers in Prometheus's place.
    impostor: Option<JoinHandle<()>>,
}

/// How long a replica may take to tell its metrics, and most that is read of them, in bytes.
const ANSWERED_IN: Duration = Duration::from_secs(1);
const METRICS_BYTES_MAX: u64 = 4 << 20;

/// How long a leader is waited for, longer than a lease; and how often it is looked for one.
const LEADS_WITHIN: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);

// === impl Stand ===

impl<'a> Stand<'a> {
    /// Starts everything, with the files in that folder. A runtime must be at hand.
    ///
    /// # Errors
    /// When a file or a program is missing or wrong, or an interrupt comes.
    pub fn start(programs: &'a Programs, config: &Path, interrupt: &'a Interrupt) -> anyhow::Result<Stand<'a>> {
        let stacks = Stacks::start(programs, config, &[Protection::Adaptive], interrupt)?;
        Ok(Stand { programs, interrupt, stacks, killed: None, impostor: None })
    }

    /// Where clients ask.
    #[must_use]
    pub fn listener(&self) -> SocketAddr {
        self.stacks.all()[0].listener
    }

    /// The limits that can be seen now, in requests a second: the gate's in Redis, and what each replica tells.
    #[must_use]
    pub fn limits(&self) -> Vec<f64> {
        let told = |replica| metric(replica, "tidegate_adaptive_limit{service=\"inventory\"}");
        let gate = self.stacks.limit().ok().flatten();
        gate.into_iter().chain(self.stacks.tidegates.iter().filter_map(told)).collect()
    }

    /// Breaks it.
    ///
    /// # Errors
    /// When it can't be broken.
    pub fn inflict(&mut self, fault: Fault) -> anyhow::Result<()> {
        let stacks = &mut self.stacks;
        match fault {
            Fault::PrometheusStalled => stacks.prometheus.pause(),
            Fault::PrometheusGone => stacks.prometheus.kill(),
            Fault::PrometheusErrors => {
                stacks.prometheus.kill();
                let listener = std::net::TcpListener::bind(stacks.prometheus.address())?;
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                let router = Router::new().fallback(async || StatusCode::SERVICE_UNAVAILABLE);
                self.impostor = Some(tokio::spawn(async move { drop(axum::serve(listener, router).await) }));
            }
            Fault::LeaderKilled => self.kill(true)?,
            Fault::FollowerKilled => self.kill(false)?,
            Fault::RedisRestarted => {
                stacks.redis.stop(true)?;
                stacks.redis.start_again(self.interrupt)?;
            }
            Fault::RedisEmptied => {
                stacks.redis.stop(false)?;
                stacks.redis.start_again(self.interrupt)?;
            }
            Fault::RedisGone => stacks.redis.stop(false)?,
        }
        Ok(())
    }

    /// Mends it.
    ///
    /// # Errors
    /// When something doesn't start again, or an interrupt comes.
    pub fn mend(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::PrometheusStalled => self.stacks.prometheus.resume(),
            Fault::PrometheusGone => self.stacks.prometheus.start_again_empty(self.interrupt)?,
            Fault::PrometheusErrors => {
                self.impostor.take().into_iter().for_each(|impostor| impostor.abort());
                self.stacks.prometheus.start_again_empty(self.interrupt)?;
            }
            Fault::LeaderKilled | Fault::FollowerKilled => {
                let Some((place, grpc)) = self.killed.take() else { return Ok(()) };
                let Stacks { redis, folder, tidegates, .. } = &mut self.stacks;
                let (process, _) =
                    self.programs.start_tidegate(folder.path(), Some(redis), Some(grpc), self.interrupt)?;
                tidegates[place] = process;
            }
            Fault::RedisRestarted | Fault::RedisEmptied => {}
            Fault::RedisGone => self.stacks.redis.start_again(self.interrupt)?,
        }
        Ok(())
    }

    /// The place of the replica that decides. After a fault nobody may for as long as a lease lasts.
    fn leader(&self) -> anyhow::Result<usize> {
        let begun = Instant::now();
        let leads = |replica: &Process| metric(replica, "tidegate_adaptive_leader") == Some(1.0);
        loop {
            if let Some(place) = self.stacks.tidegates.iter().position(leads) {
                return Ok(place);
            }
            ensure!(begun.elapsed() < LEADS_WITHIN, "nobody has decided for {LEADS_WITHIN:?}");
            self.interrupt.check()?;
            std::thread::sleep(LOOK);
        }
    }

    /// Kills the replica that decides, or another.
    fn kill(&mut self, leads: bool) -> anyhow::Result<()> {
        let leader = self.leader()?;
        let tidegates = &mut self.stacks.tidegates;
        let place = if leads { leader } else { (leader + 1) % tidegates.len() };
        let replica = &mut tidegates[place];
        let grpc = announced("grpc", &replica.said()).context("a replica says where it listens")?;
        replica.kill();
        self.killed = Some((place, grpc));
        Ok(())
    }
}

impl Drop for Stand<'_> {
    fn drop(&mut self) {
        if let Some(impostor) = &self.impostor {
            impostor.abort();
        }
    }
}

/// A number that a replica tells, if it can be asked.
fn metric(replica: &Process, name: &str) -> Option<f64> {
    let text = metrics(announced("http", &replica.said())?).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Everything that a replica tells. In HTTP/1.0, where a body comes in one piece and ends with the connection.
fn metrics(replica: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&replica, ANSWERED_IN)?;
    stream.set_read_timeout(Some(ANSWERED_IN))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.take(METRICS_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
