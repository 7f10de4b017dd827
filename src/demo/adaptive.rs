//! What the last stage has besides the others: Tidegates that ask a Prometheus, and a look at the limit they set.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, bail};

use super::programs::{Programs, Services};
use super::prometheus::Prometheus;
use crate::bench::system::folder::Folder;
use crate::bench::system::interrupt::Interrupt;
use crate::bench::system::process::Process;
use crate::bench::system::redis_server::RedisServer;
use crate::key::CounterKey;
use crate::window::gate::GateState;

/// Tidegates with adaptive limits, and their Prometheus; they end when dropped.
#[derive(Debug)]
pub struct Adaptive {
    /// Where the Tidegates are.
    pub tidegates: Vec<SocketAddr>,
    _processes: Vec<Process>,
    _prometheus: Prometheus,
    _folder: Folder,
}

/// The Prometheus that the shipped rules name, where this run's own is put in.
const PROMETHEUS_URL: &str = "http://prometheus:9090";

/// Tidegate's own default for keys in Redis.
const KEY_PREFIX: &[u8] = b"tidegate:";

/// The text of a rule file, with another Prometheus in the place of the one that it names.
///
/// # Errors
/// When it names none.
pub fn rules_with(path: &Path, prometheus: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !text.contains(PROMETHEUS_URL) {
        bail!(
            "{}: prometheus.url should be {PROMETHEUS_URL}, which the run puts its own in the place of",
            path.display()
        );
    }
    Ok(text.replace(PROMETHEUS_URL, prometheus))
}

/// The limit of a service's gate now, in requests a second; `None` while it has none.
///
/// # Errors
/// When Redis can't be asked.
pub fn limit(redis: &RedisServer, service: &str) -> anyhow::Result<Option<f64>> {
    let state = redis.get(CounterKey::gate(KEY_PREFIX, service).as_bytes())?;
    let state = state.and_then(|bytes| GateState::decode(&bytes));
    Ok(state.map(|state| state.governed.limit.per_second()))
}

// === impl Adaptive ===

impl Adaptive {
    /// Starts them over the services' Redis, with that rule file.
    ///
    /// # Errors
    /// When one doesn't start, or an interrupt comes.
    pub fn start(
        programs: &Programs,
        rules: &Path,
        services: &Services,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Adaptive> {
        let prometheus = Prometheus::start(&[("proxy", services.addresses.admin)], interrupt)?;
        let folder = Folder::new()?;
        let file = folder.write("adaptive.yaml", &rules_with(rules, &prometheus.url())?)?;
        let (processes, tidegates) = programs.start_tidegates(&file, services.redis.as_ref(), interrupt)?;
        Ok(Adaptive { tidegates, _processes: processes, _prometheus: prometheus, _folder: folder })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rules_take_another_prometheus_and_others_are_told_why_not() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules");
        let text = rules_with(&folder.join("adaptive.yaml"), "http://127.0.0.1:1").unwrap();
        assert!(text.contains("url: http://127.0.0.1:1\n") && !text.contains(PROMETHEUS_URL));
        let error = rules_with(&folder.join("app_edge.yaml"), "http://127.0.0.1:1").unwrap_err().to_string();
        assert!(error.contains("app_edge.yaml") && error.contains(PROMETHEUS_URL), "{error}");
    }
}
