//! A real Prometheus of the test's own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::client::Http;
use super::process::Process;
use super::{PATIENCE, eventually, program};

/// A running Prometheus; killed when dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    _process: Process,
    _folder: TempDir,
    http: Http,
}

// === impl Prometheus ===

impl Prometheus {
    /// A Prometheus with this configuration, once it is ready; `None` where there is none to start, see [`program`].
    pub(crate) async fn start(configuration: &str) -> Option<Prometheus> {
        const ATTEMPTS: usize = 5;
        let binary = program("prometheus", None, "REQUIRE_PROMETHEUS")?;
        for _ in 0..ATTEMPTS {
            let folder = TempDir::new().unwrap();
            let file = folder.path().join("prometheus.yml");
            std::fs::write(&file, configuration).unwrap();
            // It can't be told to choose a port itself.
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address: SocketAddr = listener.local_addr().unwrap();
            drop(listener);
            let mut command = Command::new(&binary);
            command.arg(format!("--config.file={}", file.display()));
            command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
            command.arg(format!("--web.listen-address={address}"));
            let (mut process, http) = (Process::spawn("prometheus", &mut command), Http::new(address));
            let is_ready = eventually("prometheus is ready or ends", PATIENCE, async || {
                if process.exit_status().is_some() {
                    return Some(false);
                }
                let ready = http::Request::get("/-/ready").body(bytes::Bytes::new()).expect("is well formed");
                (http.send(ready).await.ok()?.status == 200).then_some(true)
            })
            .await;
            if is_ready {
                return Some(Prometheus { _process: process, _folder: folder, http });
            }
            println!("prometheus ended, perhaps since {address} was taken meanwhile: {}", process.stderr());
        }
        panic!("prometheus did not start in {ATTEMPTS} attempts");
    }

    /// A Prometheus that scrapes a proxy's admin interface every second.
    pub(crate) async fn of_proxy(admin: SocketAddr) -> Option<Prometheus> {
        Prometheus::start(&format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 900ms }}\nscrape_configs:\n  - job_name: proxy\n    \
             metrics_path: /stats/prometheus\n    static_configs: [ {{ targets: [ \"{admin}\" ] }} ]\n"
        ))
        .await
    }

    /// Where it serves.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.http.address())
    }

    /// The series that an instant query finds now; it must be one that Prometheus understands.
    pub(crate) async fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.http.get(&format!("/api/v1/query?query={encoded}")).await.json();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}
