//! Our own program, started as its users start it: environment variables in, addresses on standard output.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tidegate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse, rate_limit_response::Code};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::client::Http;
use super::process::{Ended, Process};
use super::redis::Redis;
use super::{PATIENCE, eventually};

/// What to start: rule files, settings, arguments.
#[derive(Debug)]
pub(crate) struct Launch {
    rules: Rules,
    settings: Vec<(String, String)>,
    arguments: Vec<OsString>,
    folder: Option<PathBuf>,
    files: Option<u32>,
    program: PathBuf,
}

/// A folder of rule files; removed when dropped.
#[derive(Debug)]
pub(crate) struct Rules {
    folder: TempDir,
}

/// A running Tidegate; killed when dropped.
#[derive(Debug)]
pub(crate) struct Tidegate {
    process: Process,
    rules: Rules,
    grpc: Option<SocketAddr>,
    http: SocketAddr,
}

// === impl Rules ===

impl Rules {
    /// A folder with these files, given as (name, text).
    pub(crate) fn new(files: &[(&str, &str)]) -> Rules {
        let rules = Rules { folder: TempDir::new().unwrap() };
        for (name, text) in files {
            rules.write(name, text);
        }
        rules
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file the way editors and deployment tools do: beside, then renamed over the old one.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let unfinished = self.path().join(format!(".{name}.new"));
        std::fs::write(&unfinished, text).unwrap();
        std::fs::rename(unfinished, self.path().join(name)).unwrap();
    }
}

// === impl Launch ===

impl Launch {
    /// Tidegate with these rule files, given as (name, text). It keeps counters in memory.
    pub(crate) fn new(files: &[(&str, &str)]) -> Launch {
        Launch::with(Rules::new(files))
    }

    /// Tidegate with the rules in that folder.
    pub(crate) fn with(rules: Rules) -> Launch {
        let program = env!("CARGO_BIN_EXE_tidegate").into();
        let launch = Launch { rules, settings: Vec::new(), arguments: Vec::new(), folder: None, files: None, program };
        launch
            .setting("TIDEGATE_GRPC_HOST", "127.0.0.1")
            .setting("TIDEGATE_GRPC_PORT", "0")
            .setting("TIDEGATE_HTTP_HOST", "127.0.0.1")
            .setting("TIDEGATE_HTTP_PORT", "0")
            .setting("TIDEGATE_ADMIN_PORT", "0")
            .setting("TIDEGATE_DEBUG_PORT", "0")
            // A busy machine must not look like a lost Redis; tests of deadlines set their own.
            .setting("TIDEGATE_STORE_DEADLINE", "10s")
            .setting("TIDEGATE_STORE_REDIS_RESPONSE_TIMEOUT", "20s")
    }

    /// Sets an environment variable; a later one of the same name wins.
    pub(crate) fn setting(mut self, name: &str, value: impl ToString) -> Launch {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts it in that folder instead of the checkout's.
    pub(crate) fn in_folder(mut self, folder: &Path) -> Launch {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Starts the program at that path, which is ours by another name.
    pub(crate) fn program(mut self, program: PathBuf) -> Launch {
        self.program = program;
        self
    }

    /// Starts it with that soft limit on open files.
    pub(crate) fn files(mut self, files: u32) -> Launch {
        self.files = Some(files);
        self
    }

    /// Keeps counters in that Redis.
    pub(crate) fn redis(self, redis: &Redis) -> Launch {
        self.setting("TIDEGATE_STORE_REDIS_URL", redis.url())
    }

    /// Starts it, and returns when it has said all that it says at the start.
    pub(crate) async fn start(self) -> Tidegate {
        let mut process = self.spawn();
        let (grpc, http) = eventually("tidegate says where it listens", PATIENCE, async || {
            assert!(process.exit_status().is_none(), "tidegate ended at start: {}", process.stderr());
            let stdout = process.stdout();
            // The last of the lines, which come one by one.
            listening("try", &stdout)?;
            let grpc = listening("grpc", &stdout)?;
            let is_socket = grpc.starts_with("unix:");
            Some(((!is_socket).then(|| address(grpc)), address(listening("http", &stdout)?)))
        })
        .await;
        Tidegate { process, rules: self.rules, grpc, http }
    }

    /// Runs it to its end, which must come by itself.
    pub(crate) async fn run(self) -> Ended {
        self.spawn().wait(PATIENCE).await
    }

    /// Has it check the rules instead of serving them.
    pub(crate) async fn check(mut self) -> Ended {
        self.arguments = vec!["check".into(), self.rules.path().into()];
        self.run().await
    }

    /// Starts it, whether or not it will serve.
    pub(crate) fn spawn(&self) -> Process {
        let mut command = match self.files {
            None => Command::new(&self.program),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -S -n {files}; exec \"$0\" \"$@\"")]).arg(&self.program);
                shell
            }
        };
        // What the surroundings of the test happen to set must not steer it.
        command.env_clear();
        command.env("TIDEGATE_RULES_PATHS", self.rules.path());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.args(&self.arguments);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        Process::spawn("tidegate", &mut command)
    }
}

/// Where the line of the start-up text whose first word is `name` says that it listens, once that line is whole.
fn listening<'t>(name: &str, stdout: &'t str) -> Option<&'t str> {
    let whole_lines = stdout.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let mut words =
        whole_lines.map(str::split_whitespace).find_map(|mut words| (words.next()? == name).then_some(words))?;
    Some(words.next().unwrap_or_default())
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} should be an address"))
}

/// The address on the line of the start-up text whose first word is `name`.
fn listener(name: &str, stdout: &str) -> Option<SocketAddr> {
    listening(name, stdout).map(address)
}

// === impl Tidegate ===

impl Tidegate {
    /// Tidegate with these rule files and counters in that Redis, once it serves.
    pub(crate) async fn serving(redis: &Redis, files: &[(&str, &str)]) -> Tidegate {
        let tidegate = Launch::new(files).redis(redis).start().await;
        tidegate.becomes(ServingStatus::Serving).await;
        tidegate
    }

    pub(crate) fn grpc_address(&self) -> SocketAddr {
        self.grpc.expect("it listens on TCP")
    }

    pub(crate) fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where operators of adaptive limits are served; rules must name a service.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        listener("admin", &self.process.stdout()).expect("the start-up text names the operators' port")
    }

    /// Where Prometheus is listened for, if it is asked for.
    pub(crate) fn prometheus_address(&self) -> SocketAddr {
        listener("prom", &self.process.stdout()).expect("a listener for Prometheus was asked for")
    }

    /// Where the debug port is served.
    pub(crate) fn debug_address(&self) -> SocketAddr {
        listener("debug", &self.process.stdout()).expect("the start-up text names the debug port")
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    /// Waits until it has logged these words. A line is read some time after it was written.
    pub(crate) async fn logs(&self, words: &str) {
        let what = format!("the log has {words:?}");
        eventually(&what, PATIENCE, async || self.log().contains(words).then_some(())).await;
    }

    /// Waits until it has logged these words, and asserts that it has once. What would repeat them must have happened.
    pub(crate) async fn logs_once(&self, words: &str) {
        self.logs(words).await;
        assert_eq!(self.log().matches(words).count(), 1, "{words:?} is told once: {}", self.log());
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A client of its rate limit service, with a connection of its own that is made at the first call.
    pub(crate) fn grpc(&self) -> RateLimitServiceClient<Channel> {
        RateLimitServiceClient::new(self.channel())
    }

    /// A client of its HTTP port.
    pub(crate) fn http(&self) -> Http {
        Http::new(self.http)
    }

    /// Its answer to one call, which must be one.
    pub(crate) async fn ask(&self, request: RateLimitRequest) -> RateLimitResponse {
        self.grpc().should_rate_limit(request).await.unwrap_or_else(|status| panic!("{status}")).into_inner()
    }

    /// The code of its answer to one call.
    pub(crate) async fn code(&self, request: RateLimitRequest) -> Code {
        self.ask(request).await.overall_code()
    }

    /// Its answer to a call in JSON on the HTTP port.
    pub(crate) async fn json(&self, body: &serde_json::Value) -> super::client::Answer {
        self.http().post("/json", body.to_string()).await
    }

    /// What gRPC health says of the rate limit service; `None` when it can't be asked.
    pub(crate) async fn health(&self) -> Option<ServingStatus> {
        let request = HealthCheckRequest { service: "ratelimit".to_owned() };
        let answer = HealthClient::new(self.channel()).check(request).await.ok()?;
        Some(answer.into_inner().status())
    }

    /// Waits until gRPC health says `status`.
    pub(crate) async fn becomes(&self, status: ServingStatus) {
        let what = format!("health becomes {status:?}");
        eventually(&what, PATIENCE, async || (self.health().await? == status).then_some(())).await;
    }

    /// Ends it as an orchestrator does, and gives back its rules for the next one.
    pub(crate) async fn stop(mut self) -> Rules {
        self.process.terminate();
        let ended = self.process.wait(PATIENCE).await;
        assert!(ended.status.success(), "tidegate ended with {}: {}", ended.status, ended.stderr);
        self.rules
    }

    /// A connection of its own to the gRPC port, made at the first call.
    pub(crate) fn channel(&self) -> Channel {
        let endpoint =
            Endpoint::from_shared(format!("http://{}", self.grpc_address())).expect("an address is a valid authority");
        endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect_lazy()
    }
}

/// A folder laid out as Kubernetes mounts a ConfigMap: `<file>` is a link to `..data/<file>`, and `..data` a link to a
/// folder of the present version, which an update replaces in one step.
#[derive(Debug)]
pub(crate) struct ConfigMap {
    root: PathBuf,
    version: u32,
}

// === impl ConfigMap ===

impl ConfigMap {
    /// A mounted ConfigMap of one file, in the folder of `rules`.
    pub(crate) fn mount(rules: &Rules, name: &str, text: &str) -> ConfigMap {
        let mut mounted = ConfigMap { root: rules.path().to_owned(), version: 0 };
        mounted.update(name, text);
        std::os::unix::fs::symlink(Path::new("..data").join(name), mounted.root.join(name)).unwrap();
        mounted
    }

    /// Puts a new version in the place of the old one, and removes the old one.
    pub(crate) fn update(&mut self, name: &str, text: &str) {
        let old = self.root.join(format!("..version_{}", self.version));
        self.version += 1;
        let new = format!("..version_{}", self.version);
        std::fs::create_dir(self.root.join(&new)).unwrap();
        std::fs::write(self.root.join(&new).join(name), text).unwrap();
        std::os::unix::fs::symlink(&new, self.root.join("..data_tmp")).unwrap();
        std::fs::rename(self.root.join("..data_tmp"), self.root.join("..data")).unwrap();
        if old.exists() {
            std::fs::remove_dir_all(old).unwrap();
        }
    }
}
