//! The processes of a comparison: for each protection a proxy and an inventory, and what they share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::protection::{Protection, rules};
use super::scenario::{PER_WORKER, Stretch};
use crate::bench::system::SystemError;
use crate::bench::system::cores::Cores;
use crate::bench::system::folder::Folder;
use crate::bench::system::interrupt::Interrupt;
use crate::bench::system::process::Process;
use crate::bench::system::redis_server::RedisServer;
use crate::demo::adaptive::{self, rules_with};
use crate::demo::configuration::{Addresses, with_addresses};
use crate::demo::ports::HeldPort;
use crate::demo::programs::{Programs, Proxy, set_plant};
use crate::demo::prometheus::Prometheus;

/// Everything of one scenario; it ends when dropped.
#[derive(Debug)]
pub struct Stacks {
    stacks: Vec<Stack>,
    pub(in crate::demo) tidegates: Vec<Process>,
    pub(in crate::demo) redis: RedisServer,
    pub(in crate::demo) prometheus: Prometheus,
    /// With the rules.
    pub(in crate::demo) folder: Folder,
}

/// One protection with its proxy and its inventory.
#[derive(Debug)]
pub struct Stack {
    /// What protects it.
    pub protection: Protection,
    /// Where the proxy listens.
    pub listener: SocketAddr,
    control: SocketAddr,
    _proxy: Proxy,
    _inventory: Process,
    _ports: [HeldPort; 2],
}

/// The service whose limit adapts.
const SERVICE: &str = "inventory";

// === impl Stacks ===

impl Stacks {
    /// Starts everything for these protections, with the files in that folder.
    ///
    /// # Errors
    /// When a file or a program is missing or wrong, or an interrupt comes.
    pub fn start(
        programs: &Programs,
        config: &Path,
        protections: &[Protection],
        interrupt: &Interrupt,
    ) -> anyhow::Result<Stacks> {
        let path = config.join("envoy/adaptive.yaml");
        let shipped = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let shipped: Value = crate::demo::configuration::parse(&path.display().to_string(), &shipped)?;
        let redis = RedisServer::start(&Cores::Free { reason: "no measurement of single cores" }, interrupt)?;
        let mut ports = Vec::new();
        for _ in protections {
            let port = || HeldPort::any().context("cannot find a free port");
            ports.push([port()?, port()?]);
        }
        let adaptive = protections.iter().zip(&ports).filter(|(protection, _)| **protection == Protection::Adaptive);
        let jobs: Vec<_> = adaptive.map(|(_, [_, admin])| ("adaptive", admin.address())).collect();
        let prometheus = Prometheus::start(&jobs, interrupt)?;
        let folder = Folder::new()?;
        for (name, text) in rules(&rules_with(&config.join("rules/adaptive.yaml"), &prometheus.url())?) {
            folder.write(&name, &text)?;
        }
        let (tidegates, grpc) = programs.start_tidegates(folder.path(), Some(&redis), interrupt)?;
        let service_time = format!("{}", (1_000.0 / PER_WORKER) as u64);
        let mut stacks = Vec::new();
        for (protection, ports) in protections.iter().zip(ports) {
            let arguments = ["inventory", "--control", "127.0.0.1:0", "--service-time-ms", &service_time];
            let (inventory, address, control) = programs.start_shop(&arguments, interrupt)?;
            let [listener, admin] = [&ports[0], &ports[1]].map(HeldPort::address);
            let addresses = Addresses {
                listeners: vec![listener],
                admin,
                clusters: BTreeMap::from([("inventory_service", vec![address]), ("tidegate", grpc.clone())]),
            };
            let bootstrap = protection.bootstrap(shipped.clone());
            let bootstrap = with_addresses("adaptive.yaml", bootstrap, &addresses)?;
            stacks.push(Stack {
                protection: *protection,
                listener,
                control: control.context("the inventory has a control port")?,
                _proxy: programs.start_proxy_for(&bootstrap, &addresses, "/inventory/0", interrupt)?,
                _inventory: inventory,
                _ports: ports,
            });
        }
        Ok(Stacks { stacks, tidegates, redis, prometheus, folder })
    }

    /// The protections.
    #[must_use]
    pub fn all(&self) -> &[Stack] {
        &self.stacks
    }

    /// Lets all inventories work as in that stretch.
    ///
    /// # Errors
    /// When one can't be asked.
    pub fn enter(&self, stretch: &Stretch) -> Result<(), SystemError> {
        let fields = json!({ "workers": stretch.workers, "error_ratio": if stretch.is_broken { 1.0 } else { 0.0 } });
        self.stacks.iter().try_for_each(|stack| set_plant(stack.control, &fields))
    }

    /// The adaptive limit now, in requests a second.
    ///
    /// # Errors
    /// When Redis can't be asked.
    pub fn limit(&self) -> anyhow::Result<Option<f64>> {
        adaptive::limit(&self.redis, SERVICE)
    }

    /// What Tidegate has said of the service so far: time of day in seconds, and the sentence.
    #[must_use]
    pub fn told(&self) -> Vec<(f64, String)> {
        let said: Vec<String> = self.tidegates.iter().map(Process::logged).collect();
        let mut told: Vec<(f64, String)> = said.iter().flat_map(|text| text.lines()).filter_map(told).collect();
        told.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        told
    }
}

/// A line of the log that is about the service.
fn told(line: &str) -> Option<(f64, String)> {
    let begins = format!(" {SERVICE}: ");
    let at = line.find(&begins)? + begins.len();
    let sentence = line[at..].split(" service=").next()?;
    Some((time_of_day(line)?, sentence.to_owned()))
}

/// The time of day of a line, in seconds: `2026-01-02T03:04:05.6Z  INFO …`.
fn time_of_day(line: &str) -> Option<f64> {
    let (_, time) = line.split_once('T')?;
    let (time, _) = time.split_once('Z')?;
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    Some(parts.next()?? * 3_600.0 + parts.next()?? * 60.0 + parts.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_the_service_is_read_from_the_log() {
        let line = "2026-11-21T23:06:39.310014Z  INFO tidegate::control::governor: inventory: 400 → 54.6/s (cut): \
                    61 % errors service=\"inventory\" action=\"cut\"";
        let (at, sentence) = told(line).unwrap();
        assert!((at - 83_199.310_014).abs() < 1e-6, "{at}");
        assert_eq!(sentence, "400 → 54.6/s (cut): 61 % errors");
        assert_eq!(told("2026-11-21T23:06:39Z  INFO tidegate::app: stopping"), None);
        assert_eq!(told("  try    curl inventory: x"), None);
    }
}
