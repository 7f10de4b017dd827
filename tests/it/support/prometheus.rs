//! A real Prometheus of the test's own.
//!
//! It scrapes what its configuration says, or has a history from the start: samples of the test's making, which a test
//! needn't wait for.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidegate::clock::{Clock, SystemClock};
use tidegate::demo::ports::HeldPort;

use super::client::Http;
use super::process::Process;
use super::{PATIENCE, eventually, program};

/// A running Prometheus; killed when dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Process,
    folder: TempDir,
    http: Http,
    /// Held, so that nobody else is given it before it is started or while it is away.
    _port: HeldPort,
}

/// Samples of the past and of the near future, so that none is missing however long a test takes.
#[derive(Debug)]
pub(crate) struct History {
    step: Duration,
    past: i64,
    text: String,
}

/// `test`, as Prometheus wants passwords, with the least work that bcrypt takes: on a busy machine the usual work is longer
/// than a question waits.
const PASSWORD_HASH: &str = "$2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a";

/// Samples before the present unless a test wants more, and after it.
const PAST: i64 = 70;
const FUTURE: i64 = 30;

// === impl History ===

impl History {
    /// A history with a sample each `step`.
    pub(crate) fn with_step(step: Duration) -> History {
        History::reaching_back(step, PAST)
    }

    /// One that begins so many steps before the present.
    pub(crate) fn reaching_back(step: Duration, past: i64) -> History {
        History { step, past, text: String::new() }
    }

    /// Adds a series whose sample `index` steps from the present (before it: negative) is that text, or missing.
    pub(crate) fn series(&mut self, series: &str, sample: impl Fn(i64) -> Option<String>) {
        let now = SystemClock.now().as_micros() as f64 / 1e6;
        for index in -self.past..=FUTURE {
            let at = now + self.step.as_secs_f64() * index as f64;
            if let Some(sample) = sample(index) {
                writeln!(self.text, "{series} {sample} {at:.3}").unwrap();
            }
        }
    }

    /// Adds a counter that rises by so much a second.
    pub(crate) fn counter(&mut self, series: &str, per_second: f64) {
        let (per_step, past) = (per_second * self.step.as_secs_f64(), self.past);
        self.series(series, |index| Some((per_step * (index + past) as f64).to_string()));
    }

    /// Writes it where a Prometheus finds it; false where there is no promtool.
    fn write(&self, folder: &Path) -> bool {
        let Some(promtool) = program("promtool", None, "REQUIRE_PROMETHEUS") else { return false };
        let file = folder.join("history");
        std::fs::write(&file, format!("{}# EOF\n", self.text)).unwrap();
        let mut command = Command::new(promtool);
        command.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&file).arg(folder.join("data"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        true
    }
}

/// The command that starts one with the configuration in that folder.
fn command(binary: &Path, folder: &Path, address: SocketAddr) -> Command {
    let mut command = Command::new(binary);
    command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
    command.arg(format!("--web.listen-address={address}"));
    command
}

// === impl Prometheus ===

impl Prometheus {
    /// A Prometheus with this configuration, once it is ready; `None` where there is none to start, see [`program`].
    pub(crate) async fn start(configuration: &str) -> Option<Prometheus> {
        Prometheus::start_in(TempDir::new().unwrap(), configuration, None).await
    }

    /// One that scrapes nothing and has a history.
    pub(crate) async fn with_history(history: &History) -> Option<Prometheus> {
        let folder = TempDir::new().unwrap();
        if !history.write(folder.path()) {
            return None;
        }
        Prometheus::start_in(folder, "{}", None).await
    }

    /// One that wants TLS, and the password `test` of a user `reader`. What it is certified by is
    /// `support/certificates/ca.pem`.
    pub(crate) async fn guarded() -> Option<Prometheus> {
        let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/certificates");
        let web = format!(
            "tls_server_config: {{cert_file: '{}', key_file: '{}'}}\nbasic_auth_users: {{reader: {PASSWORD_HASH}}}\n",
            certificates.join("server.pem").display(),
            certificates.join("server.key").display(),
        );
        Prometheus::start_in(TempDir::new().unwrap(), "{}", Some(&web)).await
    }

    async fn start_in(folder: TempDir, configuration: &str, web: Option<&str>) -> Option<Prometheus> {
        let binary = program("prometheus", None, "REQUIRE_PROMETHEUS")?;
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, configuration).unwrap();
        // It can't be told to choose a port itself.
        let port = HeldPort::any().unwrap();
        let mut command = command(&binary, folder.path(), port.address());
        if let Some(web) = web {
            let file = folder.path().join("web.yml");
            std::fs::write(&file, web).unwrap();
            command.arg(format!("--web.config.file={}", file.display()));
        }
        let (mut process, http) = (Process::spawn("prometheus", &mut command), Http::new(port.address()));
        eventually("prometheus is ready", PATIENCE, async || {
            assert!(process.exit_status().is_none(), "prometheus ended: {}", process.stderr());
            if web.is_some() {
                // Our client here speaks no TLS; Prometheus says itself when it listens.
                return process.stderr().contains("Server is ready").then_some(());
            }
            let ready = http::Request::get("/-/ready").body(bytes::Bytes::new()).expect("is well formed");
            (http.send(ready).await.ok()?.status == 200).then_some(())
        })
        .await;
        Some(Prometheus { process, folder, http, _port: port })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it where it is: it takes connections, and answers nothing.
    pub(crate) fn pause(&mut self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self) {
        self.process.resume();
    }

    /// Starts it again where it was after it was killed, with nothing in its store.
    pub(crate) async fn start_again_empty(&mut self) {
        let binary = program("prometheus", None, "REQUIRE_PROMETHEUS").expect("was there before");
        std::fs::remove_dir_all(self.folder.path().join("data")).unwrap();
        self.process = Process::spawn("prometheus", &mut command(&binary, self.folder.path(), self.http.address()));
        eventually("prometheus is ready again", PATIENCE, async || {
            assert!(self.process.exit_status().is_none(), "prometheus ended: {}", self.process.stderr());
            let ready = http::Request::get("/-/ready").body(bytes::Bytes::new()).expect("is well formed");
            (self.http.send(ready).await.ok()?.status == 200).then_some(())
        })
        .await;
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
