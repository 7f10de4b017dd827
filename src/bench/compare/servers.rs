//! The servers of a section: started when a case first needs them, ended with the section.
//!
//! Between its turns a server stands idle. That costs next to nothing, and starting one anew for every round would
//! measure a process that has just begun. Each Tidegate over Redis has a Redis of its own, so that no case finds
//! another's keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::plan::Server;
use super::rules_file::{DOMAIN, Rules};
use crate::bench::system::cores::{Cores, Place};
use crate::bench::system::folder::Folder;
use crate::bench::system::http::Http;
use crate::bench::system::interrupt::Interrupt;
use crate::bench::system::process::{Process, announced};
use crate::bench::system::redis_server::RedisServer;
use crate::bench::system::{PATIENCE, SystemError};

/// Where programs are and where they run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The service.
    pub tidegate: PathBuf,
    /// This program: baseline and load generator.
    pub bench: PathBuf,
    /// Which core each gets.
    pub cores: Cores,
    /// What `--target` names.
    pub other: Option<String>,
    /// What Tidegate is set to besides its defaults.
    pub settings: &'static [(&'static str, &'static str)],
    /// Raised when all must end.
    pub interrupt: Interrupt,
}

/// The running servers of a section.
#[derive(Debug)]
pub struct Servers<'a> {
    programs: &'a Programs,
    running: Vec<(Server, Running)>,
}

/// One case's processes; they end when dropped.
#[derive(Debug)]
pub struct Running {
    /// Where calls go; several for replicas.
    pub addresses: Vec<String>,
    /// Where the first process speaks HTTP.
    http: Option<SocketAddr>,
    processes: Vec<Process>,
    redis: Option<RedisServer>,
    _folder: Option<Folder>,
}

/// Descriptors of one call by which counters are made.
const COUNTERS_PER_CALL: usize = 100;

// === impl Programs ===

impl Programs {
    /// This program and the service: `tidegate`, or the one beside this program.
    ///
    /// # Errors
    /// When the service isn't there.
    pub fn find(
        tidegate: Option<&Path>,
        settings: &'static [(&'static str, &'static str)],
        interrupt: &Interrupt,
    ) -> Result<Programs, SystemError> {
        let bench = std::env::current_exe().map_err(SystemError::file("find this program's own file"))?;
        let tidegate = tidegate.map_or_else(|| bench.with_file_name("tidegate"), Path::to_owned);
        // The working directory may be another one where it is started.
        let tidegate = tidegate.canonicalize().map_err(|source| SystemError::Start {
            program: format!(
                "{} (--server names another; `cargo build --release --bins` makes it)",
                tidegate.display()
            ),
            source,
        })?;
        Ok(Programs { tidegate, bench, cores: Cores::find(), other: None, settings, interrupt: interrupt.clone() })
    }

    /// Starts a server.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, server: &Server) -> Result<Running, SystemError> {
        match server {
            Server::Baseline => self.start_baseline(Place::Server),
            Server::Other => Ok(Running {
                addresses: self.other.clone().into_iter().collect(),
                http: None,
                processes: Vec::new(),
                redis: None,
                _folder: None,
            }),
            Server::Memory { rules, runtimes } => self.start_tidegate(&rules.text(), *runtimes, 1, None),
            Server::Redis { replicas } => {
                let redis = RedisServer::start(&self.cores, &self.interrupt)?;
                self.start_tidegate(&Rules::few().text(), 1, *replicas, Some(redis))
            }
        }
    }

    /// Starts Tidegate with those rules, in memory or over that Redis.
    ///
    /// # Errors
    /// When it does not start, or isn't healthy in time.
    pub fn start_tidegate(
        &self,
        rules: &str,
        runtimes: usize,
        replicas: usize,
        redis: Option<RedisServer>,
    ) -> Result<Running, SystemError> {
        let folder = Folder::new()?;
        let rules = folder.write("rules.yaml", rules)?;
        let mut running =
            Running { addresses: Vec::new(), http: None, processes: Vec::new(), redis, _folder: Some(folder) };
        for _ in 0..replicas {
            let mut command = self.tidegate_command(&rules, runtimes, running.redis.as_ref());
            let mut process = Process::start("tidegate", &mut command)?;
            let (grpc, http) =
                process.wait_for(&self.interrupt, |text| Some((announced("grpc", text)?, announced("http", text)?)))?;
            running.processes.push(process);
            running.addresses.push(grpc.to_string());
            running.http.get_or_insert(http);
            self.wait_until_healthy(http)?;
        }
        Ok(running)
    }

    /// Starts the bare server there.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_baseline(&self, place: Place) -> Result<Running, SystemError> {
        let mut command = self.cores.command(place, &self.bench);
        command.args(["noop", "--listen", "127.0.0.1:0"]);
        let mut process = Process::start("tidegate-bench noop", &mut command)?;
        let address = process.wait_for(&self.interrupt, |text| {
            let whole_lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            whole_lines.map(str::trim).find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
        })?;
        Ok(Running { addresses: vec![address], http: None, processes: vec![process], redis: None, _folder: None })
    }

    fn tidegate_command(&self, rules: &Path, runtimes: usize, redis: Option<&RedisServer>) -> Command {
        let place = if runtimes > 1 { Place::Both } else { Place::Server };
        let mut command = self.cores.command(place, &self.tidegate);
        // What the surroundings happen to set must not steer it.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TIDEGATE_RULES_PATHS", rules);
        command.env("TIDEGATE_RUNTIME_WORKERS", runtimes.to_string());
        command.envs(self.settings.iter().copied());
        if let Some(redis) = redis {
            command.env("TIDEGATE_STORE_REDIS_URL", redis.url());
        }
        command
    }

    /// A server over Redis is healthy once it has reached it.
    fn wait_until_healthy(&self, address: SocketAddr) -> Result<(), SystemError> {
        let started = tokio::time::Instant::now();
        while Http::connect(address)?.get("/healthcheck")?.0 != 200 {
            if started.elapsed() > PATIENCE {
                let program = "tidegate".to_owned();
                return Err(SystemError::Late { program, what: "become healthy", waited: PATIENCE });
            }
            self.interrupt.step()?;
        }
        Ok(())
    }
}

/// What differs from Tidegate's defaults: ports of the system's choice, no reading of rules meanwhile, room for all
/// counters, and patience where a closed loop of 256 calls makes each of them wait.
pub const SETTINGS: [(&str, &str); 8] = [
    ("TIDEGATE_GRPC_HOST", "127.0.0.1"),
    ("TIDEGATE_GRPC_PORT", "0"),
    ("TIDEGATE_HTTP_HOST", "127.0.0.1"),
    ("TIDEGATE_HTTP_PORT", "0"),
    ("TIDEGATE_DEBUG_PORT", "0"),
    ("TIDEGATE_RULES_RELOAD_INTERVAL", "1h"),
    ("TIDEGATE_STORE_DEADLINE", "10s"),
    ("TIDEGATE_STORE_MEMORY_KEYS_MAX", "4000000"),
];

// === impl Servers ===

impl<'a> Servers<'a> {
    /// None yet.
    #[must_use]
    pub fn new(programs: &'a Programs) -> Servers<'a> {
        Servers { programs, running: Vec::new() }
    }

    /// The processes that answer as `server`, started now if they aren't there yet.
    ///
    /// # Errors
    /// When they don't start.
    pub fn get(&mut self, server: &Server) -> Result<&mut Running, SystemError> {
        let at = match self.running.iter().position(|(known, _)| known == server) {
            Some(at) => at,
            None => {
                self.running.push((server.clone(), self.programs.start(server)?));
                self.running.len() - 1
            }
        };
        Ok(&mut self.running[at].1)
    }

    /// The ids of all processes, Redis included.
    #[must_use]
    pub fn all_ids(&self) -> Vec<u32> {
        self.running
            .iter()
            .flat_map(|(_, running)| running.server_ids().into_iter().chain(running.redis_id()))
            .collect()
    }
}

// === impl Running ===

impl Running {
    /// The ids of the server's processes; none if we did not start it.
    #[must_use]
    pub fn server_ids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }

    /// Lines that the server's processes have written, on both outputs.
    #[must_use]
    pub fn lines_written(&self) -> usize {
        self.processes.iter().map(|process| process.said().lines().count() + process.logged().lines().count()).sum()
    }

    /// The id of its Redis.
    #[must_use]
    pub fn redis_id(&self) -> Option<u32> {
        self.redis().map(RedisServer::id)
    }

    /// Its Redis.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisServer> {
        self.redis.as_ref()
    }

    /// Hits each of the first `count` counters of the rule for `key` once, in order, and returns the last answer's
    /// body.
    ///
    /// # Errors
    /// When an answer isn't OK, or an interrupt comes.
    pub fn hit_each(
        &self,
        http: &mut Http,
        key: &str,
        count: usize,
        interrupt: &Interrupt,
    ) -> Result<String, SystemError> {
        let digits = Rules::digits(count);
        let mut last = String::new();
        for first in (0..count).step_by(COUNTERS_PER_CALL) {
            interrupt.check()?;
            let numbers = first..count.min(first + COUNTERS_PER_CALL);
            let (status, body) = http.post("/json", &call(key, numbers, digits))?;
            if status != 200 {
                let answer = format!("status {status}: {}", body.chars().take(200).collect::<String>());
                return Err(SystemError::Answer { program: "tidegate".to_owned(), answer, wanted: "200" });
            }
            last = body;
        }
        Ok(last)
    }

    /// A connection to its HTTP port.
    ///
    /// # Errors
    /// When it can't be reached.
    ///
    /// # Panics
    /// When it is no Tidegate.
    pub fn http(&self) -> Result<Http, SystemError> {
        Http::connect(self.http.expect("every Tidegate has an HTTP port"))
    }
}

/// A call that asks about these numbers, one descriptor each.
fn call(key: &str, numbers: std::ops::Range<usize>, digits: usize) -> String {
    let descriptor = |number: usize| format!(r#"{{"entries":[{{"key":"{key}","value":"{number:0digits$}"}}]}}"#);
    let descriptors: Vec<String> = numbers.map(descriptor).collect();
    format!(r#"{{"domain":"{DOMAIN}","descriptors":[{}]}}"#, descriptors.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_makes_counters_is_one_that_the_service_reads() {
        let request = crate::web::request::read_request(call("key", 7..9, 5).as_bytes()).unwrap();
        assert_eq!((request.domain.as_str(), request.descriptors.len()), (DOMAIN, 2));
        assert_eq!(request.descriptors[1].entries[0].value, "00008");
    }
}
