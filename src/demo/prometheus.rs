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
    _process: Process,
    _folder: Folder,
    _port: HeldPort,
}

/// Where it is, if it is installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    path_of("prometheus").ok()
}

// === impl Prometheus ===

impl Prometheus {
    /// A Prometheus that is ready, and scrapes the admin interfaces of these proxies, by name of the job.
    ///
    /// # Errors
    /// When it is not installed or doesn't start, or an interrupt comes.
    pub fn start(proxies: &[(&str, SocketAddr)], interrupt: &Interrupt) -> Result<Prometheus, SystemError> {
        let program = path_of("prometheus")?;
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
        let file = folder.write("prometheus.json", &configuration.to_string())?;
        let mut command = own_group(&program);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
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
        Ok(Prometheus { address, _process: process, _folder: folder, _port: port })
    }

    /// Where it serves.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
