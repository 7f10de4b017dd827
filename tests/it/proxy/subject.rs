//! One of the two proxies, started from a file as its users start it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::client::Http;
use crate::support::process::Process;
use crate::support::{PATIENCE, envoy, eventually};

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Envoy,
    Ours,
}

/// A running proxy; killed when dropped.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) process: Process,
    pub(super) admin: Http,
    listeners: HashMap<String, SocketAddr>,
    folder: TempDir,
}

// === impl Subject ===

impl Subject {
    /// Starts it with that file and these arguments, which both know; `None` if it isn't installed.
    pub(super) async fn start(
        kind: Kind,
        arguments: &[&str],
        config: impl FnOnce(&TempDir) -> Value,
    ) -> Option<Subject> {
        let folder = TempDir::new().unwrap();
        let (file, admin) = (folder.path().join("config.json"), folder.path().join("admin"));
        std::fs::write(&file, config(&folder).to_string()).unwrap();
        let mut command = match kind {
            Kind::Envoy => {
                let mut command = Command::new(envoy::binary()?);
                command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
                command.args(["--file-flush-interval-msec", "50"]);
                command
            }
            Kind::Ours => Command::new(env!("CARGO_BIN_EXE_tidegate-proxy")),
        };
        command.args(arguments).arg("-c").arg(&file).arg("--admin-address-path").arg(&admin);
        let mut process = Process::spawn(&format!("{kind:?}"), &mut command);
        let (admin, listeners) = envoy::live(&mut process, &admin).await;
        Some(Subject { kind, process, admin, listeners, folder })
    }

    /// Where that listener is.
    pub(super) fn address(&self, listener: &str) -> SocketAddr {
        self.listeners[listener]
    }

    /// The lines of its access log, once there are that many.
    pub(super) async fn log_lines(&self, count: usize) -> Vec<String> {
        self.lines_of("access.log", count).await
    }

    /// The same of another log in its folder.
    pub(super) async fn lines_of(&self, file: &str, count: usize) -> Vec<String> {
        let path = self.folder.path().join(file);
        eventually(&format!("{count} requests are logged"), PATIENCE, async || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            // What follows the last line break is still being written.
            let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            let lines: Vec<String> = whole.map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
        .await
    }

    /// Every counter and gauge, by name.
    pub(super) async fn statistics(&self) -> HashMap<String, u64> {
        let answer = self.admin.get("/stats?format=json").await.json();
        let stats = answer["stats"].as_array().expect("a list");
        stats.iter().filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["value"].as_u64()?))).collect()
    }

    /// One counter or gauge; 0 while it isn't there.
    pub(super) async fn statistic(&self, name: &str) -> u64 {
        self.statistics().await.get(name).copied().unwrap_or_default()
    }
}
