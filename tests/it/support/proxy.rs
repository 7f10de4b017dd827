//! A proxy, real or bundled, with one of the bootstraps that are shipped in `config/envoy/`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::demo::configuration::{self, Addresses};
use tidegate::demo::ports::HeldPort;

use super::client::Http;
use super::process::Process;
use super::tidegate::Tidegate;
use super::{PATIENCE, envoy, eventually};

/// The proxies that read the same files.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Envoy,
    Bundled,
}

/// A running proxy; killed when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Process,
    pub(crate) http: Http,
    _folder: TempDir,
    _ports: Ports,
}

/// Where a proxy will be, known before it is.
#[derive(Debug)]
pub(crate) struct Ports {
    listener: HeldPort,
    admin: HeldPort,
}

/// The text of a file in `config/`.
pub(crate) fn shipped(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(file)).unwrap()
}

// === impl Ports ===

impl Ports {
    pub(crate) fn any() -> Ports {
        Ports { listener: HeldPort::any().unwrap(), admin: HeldPort::any().unwrap() }
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.address()
    }
}

// === impl Proxy ===

impl Proxy {
    /// A proxy with that file, in front of user, inventory and order, once it serves; `None` where there is none.
    pub(crate) async fn start(
        kind: Kind,
        file: &str,
        ports: Ports,
        services: [SocketAddr; 3],
        tidegates: &[&Tidegate],
    ) -> Option<Proxy> {
        let binary = match kind {
            Kind::Envoy => envoy::binary()?,
            Kind::Bundled => env!("CARGO_BIN_EXE_tidegate-proxy").into(),
        };
        let (listener, admin) = (ports.listener.address(), ports.admin.address());
        let mut bootstrap = bootstrap(file, listener, admin, services, tidegates);
        patient(&mut bootstrap);
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("bootstrap.json");
        std::fs::write(&path, bootstrap.to_string()).unwrap();
        let mut command = Command::new(binary);
        command.arg("--config-path").arg(path);
        if matches!(kind, Kind::Envoy) {
            command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
        }
        let mut proxy = Proxy {
            process: Process::spawn("proxy", &mut command),
            http: Http::new(listener),
            _folder: folder,
            _ports: ports,
        };
        let ready = || http::Request::get("/ready").body(bytes::Bytes::new()).expect("is well formed");
        eventually("the proxy is ready", PATIENCE, async || {
            assert!(proxy.process.exit_status().is_none(), "the proxy ended at start: {}", proxy.process.stderr());
            (Http::new(admin).send(ready()).await.ok()?.status == 200).then_some(())
        })
        .await;
        Some(proxy)
    }
}

/// The file with the addresses of this test.
fn bootstrap(
    file: &str,
    listener: SocketAddr,
    admin: SocketAddr,
    [user, inventory, order]: [SocketAddr; 3],
    tidegates: &[&Tidegate],
) -> Value {
    let addresses = Addresses {
        listeners: vec![listener],
        admin,
        clusters: [
            ("user_service", vec![user]),
            ("inventory_service", vec![inventory]),
            ("order_service", vec![order]),
            ("tidegate", tidegates.iter().map(|tidegate| tidegate.grpc_address()).collect()),
        ]
        .into(),
    };
    let text = shipped(&format!("envoy/{file}"));
    configuration::with_addresses(file, configuration::parse(file, &text).unwrap(), &addresses).unwrap()
}

/// As in every test here: slow must not look like allowed.
fn patient(value: &mut Value) {
    if value["domain"] == "app_edge" {
        value["timeout"] = json!("10s");
        value["failure_mode_deny"] = json!(true);
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(patient),
        Value::Array(elements) => elements.iter_mut().for_each(patient),
        _ => {}
    }
}
