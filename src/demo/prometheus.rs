//! A Prometheus of the run's own, which scrapes proxies every second.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use tokio::time::Instant;

use super::ports::HeldPort;
use super::programs::own_group;
use crate::bench::system::folder::Folder;
use crate::bench::system::http::Http;
use crate::bench::system::interrupt::Interrupt;
use crate::bench::system::process::Process;
use crate::bench::system::program::path_of;
use crate::bench::system::{PATIENCE, SystemError};

/// A running Prometheus; it ends when dropped.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    process: Process,
    folder: Folder,
    _port: HeldPort,
}

/// Where it is, if it is installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    path_of("prometheus").ok()
}

/// Its files.
const CONFIGURATION: &str = "prometheus.json";
const DATA: &str = "data";

/// A Prometheus with the files in that folder, once it is ready.
fn launched(folder: &Folder, address: SocketAddr, interrupt: &Interrupt) -> Result<Process, SystemError> {
    let mut command = own_group(&path_of("prometheus")?);
    command.arg(format!("--config.file={}", folder.path().join(CONFIGURATION).display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join(DATA).display()));
    command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
    let mut process = Process::start("prometheus", &mut command)?;
    let started = Instant::now();
    let is_ready =
        || Http::connect(address).and_then(|mut http| http.get("/-/ready")).is_ok_and(|(status, _)| status == 200);
    while !is_ready() {
        process.check()?;
        if started.elapsed() > PATIENCE {
            let program = "prometheus".to_owned();
            return Err(SystemError::Late { program, what: "serve", waited: PATIENCE });
        }
        interrupt.step()?;
    }
    Ok(process)
}

// === impl Prometheus ===

impl Prometheus {
    /// A Prometheus that is ready, and scrapes the admin interfaces of these proxies, by name of the job.
    ///
    /// # Errors
    /// When it is not installed or doesn't start, or an interrupt comes.
    pub fn start(proxies: &[(&str, SocketAddr)], interrupt: &Interrupt) -> Result<Prometheus, SystemError> {
        let port = HeldPort::any().map_err(SystemError::file("find a free port"))?;
        let (folder, address) = (Folder::new()?, port.address());
        let jobs = proxies.iter().map(|(name, proxy)| {
            json!({
                "job_name": name,
                "metrics_path": "/stats/prometheus",
                "static_configs": [{ "targets": [proxy.to_string()] }],
            })
        });
        let configuration = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "900ms" },
            "scrape_configs": jobs.collect::<Vec<_>>(),
        });
        folder.write(CONFIGURATION, &configuration.to_string())?;
        let process = launched(&folder, address, interrupt)?;
        Ok(Prometheus { address, process, folder, _port: port })
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it where it is: it takes connections, and answers nothing.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Starts it again where it was after it was killed, with nothing in its store.
    ///
    /// # Errors
    /// When it doesn't start, or an interrupt comes.
    pub fn start_again_empty(&mut self, interrupt: &Interrupt) -> Result<(), SystemError> {
        std::fs::remove_dir_all(self.folder.path().join(DATA))
            .map_err(SystemError::file("empty Prometheus's store"))?;
        self.process = launched(&self.folder, self.address, interrupt)?;
        Ok(())
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
