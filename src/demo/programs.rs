//! The processes of the demo: which programs they are, how they are started, and when they are ready.
//!
//! Each is started in a process group of its own, so that Ctrl-C reaches this process alone and it ends the others in
//! order; and tethered to it, so that they don't outlive it when it can't.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::configuration::Addresses;
use super::ports::HeldPort;
use crate::bench::system::cores::Cores;
use crate::bench::system::folder::Folder;
use crate::bench::system::http::Http;
use crate::bench::system::interrupt::Interrupt;
use crate::bench::system::process::{Process, announced};
use crate::bench::system::program::{path_of, tethered};
use crate::bench::system::redis_server::RedisServer;
use crate::bench::system::{PATIENCE, SystemError};

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    tidegate: PathBuf,
    shop: PathBuf,
    proxy: ProxyProgram,
}

/// The proxy.
#[derive(Clone, Debug)]
pub enum ProxyProgram {
    /// `tidegate-proxy`.
    Bundled(PathBuf),
    /// A real Envoy.
    Envoy(PathBuf),
}

/// Everything but the proxy; it ends when dropped.
#[derive(Debug)]
pub struct Services {
    /// Where the proxy is to be.
    pub addresses: Addresses,
    /// Where the inventory's plant can be read.
    pub control: SocketAddr,
    _processes: Vec<Process>,
    pub(super) redis: Option<RedisServer>,
    tidegates: usize,
    _ports: Vec<HeldPort>,
}

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    _process: Process,
    _folder: Folder,
}

/// Listeners of the proxy for which there are ports.
const LISTENERS_MAX: usize = 4;

/// Of Tidegate, where there is a Redis that they can share.
const REPLICAS: usize = 2;

/// What differs from Tidegate's defaults. A demo on a busy machine shouldn't fail open because of a slow moment.
const SETTINGS: [(&str, &str); 7] = [
    ("TIDEGATE_GRPC_HOST", "127.0.0.1"),
    ("TIDEGATE_GRPC_PORT", "0"),
    ("TIDEGATE_HTTP_HOST", "127.0.0.1"),
    ("TIDEGATE_HTTP_PORT", "0"),
    ("TIDEGATE_ADMIN_PORT", "0"),
    ("TIDEGATE_DEBUG_PORT", "0"),
    ("TIDEGATE_STORE_DEADLINE", "1s"),
];

// === impl Programs ===

impl Programs {
    /// The programs beside this one, and the proxy that is asked for.
    ///
    /// # Errors
    /// When one is missing.
    pub fn find(envoy: bool) -> anyhow::Result<Programs> {
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let beside = |name: &str, otherwise: &str| {
            let path = own.with_file_name(name);
            if !path.is_file() {
                bail!("{name} should be at {}; `cargo build --bins` puts it there{otherwise}", path.display());
            }
            Ok(path)
        };
        let proxy = if envoy {
            let installed = Path::new(".tools/envoy/envoy");
            let found = if installed.is_file() { Ok(installed.to_owned()) } else { path_of("envoy") };
            ProxyProgram::Envoy(found.context("`make tools` installs Envoy into .tools/")?)
        } else {
            ProxyProgram::Bundled(beside("tidegate-proxy", "; --envoy uses a real Envoy instead")?)
        };
        Ok(Programs { tidegate: beside("tidegate", "")?, shop: beside("tidegate-shop", "")?, proxy })
    }

    /// What the proxy is called.
    #[must_use]
    pub fn proxy_name(&self) -> &'static str {
        match self.proxy {
            ProxyProgram::Bundled(_) => "tidegate-proxy",
            ProxyProgram::Envoy(_) => "envoy",
        }
    }

    /// Starts Redis, Tidegate and the shop. The rules are a file or a folder of them. A runtime must be at hand.
    ///
    /// # Errors
    /// When one doesn't start, or an interrupt comes.
    pub fn start_services(&self, rules: &Path, interrupt: &Interrupt) -> anyhow::Result<Services> {
        let ports = (0..=LISTENERS_MAX).map(|_| HeldPort::any()).collect::<Result<Vec<_>, _>>();
        let ports = ports.context("cannot find free ports")?;
        let (admin, listeners) = ports.split_first().context("an admin port was asked for")?;
        let listeners: Vec<SocketAddr> = listeners.iter().map(HeldPort::address).collect();
        let proxy = format!("http://{}", listeners[0]);

        let redis = match path_of("redis-server") {
            // The system places everything: this is no measurement of single cores.
            Ok(_) => Some(RedisServer::start(&Cores::Free { reason: "a demo" }, interrupt)?),
            Err(_) => None,
        };
        let (mut processes, tidegates) = self.start_tidegates(rules, redis.as_ref(), interrupt)?;
        let mut shop = |arguments: &[&str]| {
            let (process, address, control) = self.start_shop(arguments, interrupt)?;
            processes.push(process);
            Ok::<_, SystemError>((address, control))
        };
        let (user, _) = shop(&["user"])?;
        let (inventory, control) = shop(&["inventory", "--control", "127.0.0.1:0"])?;
        let (order, _) = shop(&["order", "--user-url", &proxy, "--inventory-url", &proxy])?;
        let clusters = BTreeMap::from([
            ("user_service", vec![user]),
            ("inventory_service", vec![inventory]),
            ("order_service", vec![order]),
            ("tidegate", tidegates.clone()),
        ]);
        Ok(Services {
            addresses: Addresses { listeners, admin: admin.address(), clusters },
            control: control.context("the inventory has a control port")?,
            _processes: processes,
            redis,
            tidegates: tidegates.len(),
            _ports: ports,
        })
    }

    /// Starts the proxy with a bootstrap, and waits until an order can be made through it.
    ///
    /// # Errors
    /// When it doesn't start or doesn't serve in time, or an interrupt comes.
    pub fn start_proxy(&self, bootstrap: &Value, at: &Addresses, interrupt: &Interrupt) -> anyhow::Result<Proxy> {
        self.start_proxy_for(bootstrap, at, "/orders/create/0/0", interrupt)
    }

    /// The same for a proxy that serves something else: it waits until that path is answered with 200.
    pub(super) fn start_proxy_for(
        &self,
        bootstrap: &Value,
        at: &Addresses,
        path: &str,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Proxy> {
        let folder = Folder::new()?;
        let file = folder.write("bootstrap.json", &bootstrap.to_string())?;
        let mut command = match &self.proxy {
            ProxyProgram::Bundled(path) => own_group(path),
            ProxyProgram::Envoy(path) => {
                let mut command = own_group(path);
                command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
                command
            }
        };
        let mut process = Process::start(self.proxy_name(), command.arg("--config-path").arg(&file))?;
        self.wait_for(at.admin, "/ready", &mut process, interrupt)?;
        self.wait_for(at.listeners[0], path, &mut process, interrupt)?;
        Ok(Proxy { _process: process, _folder: folder })
    }

    /// Waits until a GET through the proxy is answered with 200.
    fn wait_for(
        &self,
        address: SocketAddr,
        path: &str,
        process: &mut Process,
        interrupt: &Interrupt,
    ) -> Result<(), SystemError> {
        let started = Instant::now();
        loop {
            process.check()?;
            if Http::connect(address).and_then(|mut http| http.get(path)).is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                let program = self.proxy_name().to_owned();
                return Err(SystemError::Late { program, what: "serve", waited: PATIENCE });
            }
            interrupt.step()?;
        }
    }

    /// Starts a service of the shop: where it listens, and where the inventory's plant can be changed.
    pub(super) fn start_shop(
        &self,
        arguments: &[&str],
        interrupt: &Interrupt,
    ) -> Result<(Process, SocketAddr, Option<SocketAddr>), SystemError> {
        let mut command = own_group(&self.shop);
        command.args(arguments).args(["--listen", "127.0.0.1:0"]);
        let mut process = Process::start("tidegate-shop", &mut command)?;
        let address = process.wait_for(interrupt, |text| announced("listening", text))?;
        let control = match arguments[0] {
            "inventory" => Some(process.wait_for(interrupt, |text| announced("control", text))?),
            _ => None,
        };
        Ok((process, address, control))
    }

    /// Starts replicas of Tidegate over that Redis, or one in memory. The rules are a file or a folder of them.
    pub(super) fn start_tidegates(
        &self,
        rules: &Path,
        redis: Option<&RedisServer>,
        interrupt: &Interrupt,
    ) -> anyhow::Result<(Vec<Process>, Vec<SocketAddr>)> {
        let rules = rules.canonicalize().with_context(|| format!("cannot find the rules {}", rules.display()))?;
        let (mut processes, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..if redis.is_some() { REPLICAS } else { 1 } {
            let (process, grpc) = self.start_tidegate(&rules, redis, None, interrupt)?;
            processes.push(process);
            addresses.push(grpc);
        }
        Ok((processes, addresses))
    }

    /// Starts one, on that port for Envoy if it is to be a certain one.
    pub(super) fn start_tidegate(
        &self,
        rules: &Path,
        redis: Option<&RedisServer>,
        grpc: Option<SocketAddr>,
        interrupt: &Interrupt,
    ) -> Result<(Process, SocketAddr), SystemError> {
        let mut command = own_group(&self.tidegate);
        // What the surroundings happen to set must not steer it.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TIDEGATE_RULES_PATHS", rules).envs(SETTINGS);
        if let Some(redis) = redis {
            command.env("TIDEGATE_STORE_REDIS_URL", redis.url());
        }
        if let Some(grpc) = grpc {
            command.env("TIDEGATE_GRPC_PORT", grpc.port().to_string());
        }
        let mut process = Process::start("tidegate", &mut command)?;
        let (grpc, http) =
            process.wait_for(interrupt, |text| Some((announced("grpc", text)?, announced("http", text)?)))?;
        self.wait_for(http, "/healthcheck", &mut process, interrupt)?;
        Ok((process, grpc))
    }
}

/// A command in a process group of its own, tethered to this process.
pub(super) fn own_group(program: &Path) -> Command {
    let mut command = tethered(program);
    command.process_group(0);
    command
}

// === impl Services ===

impl Services {
    /// How Tidegate runs, for people.
    #[must_use]
    pub fn tidegate(&self) -> String {
        match self.redis {
            Some(_) => format!("{} replicas over one Redis", self.tidegates),
            None => "1 replica, in memory (redis-server is not installed)".to_owned(),
        }
    }

    /// What the plant says of itself.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn plant(&self) -> Result<Value, SystemError> {
        let (_, body) = Http::connect(self.control)?.get("/plant")?;
        Ok(serde_json::from_str(&body).unwrap_or_default())
    }

    /// Waits until the inventory has nothing to do, so that no stage inherits another's queue.
    ///
    /// # Errors
    /// When it takes too long, or an interrupt comes.
    pub fn wait_until_idle(&self, interrupt: &Interrupt) -> Result<(), SystemError> {
        let started = Instant::now();
        while self.plant()?["in_service"] != 0 {
            if started.elapsed() > PATIENCE {
                let program = "the inventory".to_owned();
                return Err(SystemError::Late { program, what: "finish its queue", waited: PATIENCE });
            }
            interrupt.step()?;
        }
        Ok(())
    }

    /// Gives the inventory so many workers.
    ///
    /// # Errors
    /// When it can't be asked, or refuses.
    pub fn set_workers(&self, workers: u64) -> Result<(), SystemError> {
        set_plant(self.control, &json!({ "workers": workers }))
    }
}

/// Changes a plant whose control port that is.
pub(super) fn set_plant(control: SocketAddr, fields: &Value) -> Result<(), SystemError> {
    match Http::connect(control)?.put("/plant", &fields.to_string())? {
        (200, _) => Ok(()),
        (_, answer) => {
            Err(SystemError::Answer { program: "the inventory".to_owned(), answer, wanted: "its new settings" })
        }
    }
}
