//! A `redis-server` of the run's own: a free port, a folder of its own, nothing saved.

use std::net::{Ipv4Addr, TcpListener};

use super::SystemError;
use super::cores::{Cores, Place};
use super::folder::Folder;
use super::interrupt::Interrupt;
use super::process::Process;
use super::program::path_of;

/// A running Redis; killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: u16,
    folder: Folder,
    cores: Cores,
}

/// Ports that are tried: another process may take one between our looking and Redis's listening.
const ATTEMPTS: usize = 5;

// === impl RedisServer ===

impl RedisServer {
    /// An empty Redis that answers, on the core of generator and Redis.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(cores: &Cores, interrupt: &Interrupt) -> Result<RedisServer, SystemError> {
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match RedisServer::start_once(cores, interrupt) {
                Err(error @ SystemError::Ended { .. }) => failure = Some(error),
                result => return result,
            }
        }
        Err(failure.expect("the last attempt failed"))
    }

    fn start_once(cores: &Cores, interrupt: &Interrupt) -> Result<RedisServer, SystemError> {
        let folder = Folder::new()?;
        let port = free_port().map_err(SystemError::file("find a free port"))?;
        let process = launched(cores, port, &folder, interrupt)?;
        Ok(RedisServer { process, port, folder, cores: cores.clone() })
    }

    /// Kills it: connections break. What it held is there when it is started again, if it is to be saved.
    ///
    /// # Errors
    /// When it can't be saved.
    pub fn stop(&mut self, saved: bool) -> Result<(), SystemError> {
        if saved {
            let _: () = ::redis::cmd("SAVE").query(&mut self.connect()?)?;
        }
        self.process.kill();
        Ok(())
    }

    /// Starts it again on its port, once it was stopped.
    ///
    /// # Errors
    /// When it does not start, as when somebody else has taken the port.
    pub fn start_again(&mut self, interrupt: &Interrupt) -> Result<(), SystemError> {
        self.process = launched(&self.cores, self.port, &self.folder, interrupt)?;
        // What was saved is held again, and would come back another time.
        drop(std::fs::remove_file(self.folder.path().join("dump.rdb")));
        Ok(())
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its address as settings take it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A new connection that blocks.
    ///
    /// # Errors
    /// When it can't be reached.
    pub fn connect(&self) -> Result<::redis::Connection, SystemError> {
        Ok(::redis::Client::open(self.url())?.get_connection()?)
    }

    /// The bytes at a key, if there are any.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, SystemError> {
        Ok(::redis::cmd("GET").arg(key).query(&mut self.connect()?)?)
    }

    /// Script calls that it has served so far.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn script_calls(&self) -> Result<u64, SystemError> {
        let text: String = ::redis::cmd("INFO").arg("commandstats").query(&mut self.connect()?)?;
        Ok(calls_of("evalsha", &text))
    }
}

/// A `redis-server` on that port that answers, with what was saved in that folder.
fn launched(cores: &Cores, port: u16, folder: &Folder, interrupt: &Interrupt) -> Result<Process, SystemError> {
    let mut command = cores.command(Place::Load, path_of("redis-server")?);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
    command.arg("--dir").arg(folder.path());
    let mut process = Process::start("redis-server", &mut command)?;
    // Only its own word counts: whoever else has the port may speak Redis too.
    process.wait_for(interrupt, |text| text.contains("Ready to accept connections").then_some(()))?;
    Ok(process)
}

/// The `calls` of a command in what `INFO commandstats` says; 0 for one that was never called.
fn calls_of(command: &str, statistics: &str) -> u64 {
    let prefix = format!("cmdstat_{command}:");
    let line = statistics.lines().find_map(|line| line.trim().strip_prefix(&prefix)).unwrap_or_default();
    line.split(',').find_map(|field| field.strip_prefix("calls=")?.parse().ok()).unwrap_or_default()
}

/// A port that was free a moment ago. Redis can't be told to choose one itself.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_a_command_are_read_from_its_statistics() {
        let text = "# Commandstats\r\ncmdstat_evalsha:calls=41,usec=7,usec_per_call=0.1\r\ncmdstat_eval:calls=3\r\n";
        assert_eq!(calls_of("evalsha", text), 41);
        assert_eq!(calls_of("eval", text), 3);
        assert_eq!(calls_of("get", text), 0);
    }
}
