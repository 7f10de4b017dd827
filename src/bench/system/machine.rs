//! What a run was made on: figures without it mean nothing to others.

use std::process::Command;

use serde::Serialize;

/// The machine and the versions.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The operating system's kernel.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// This package's version.
    pub tidegate: String,
    /// What redis-server says of itself.
    pub redis: String,
    /// The compiler at hand, which need not be the one that built the program.
    pub rustc: String,
    /// Whether this program was built with optimisation.
    pub optimised: bool,
}

// === impl Machine ===

impl Machine {
    /// The machine that this runs on.
    #[must_use]
    pub fn here() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory = field(&read("/proc/meminfo"), "MemTotal").and_then(|value| {
            let kib = value.split_whitespace().next()?.parse::<u64>().ok()?;
            Some(kib / 1_024)
        });
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            memory_mib: memory.unwrap_or_default(),
            tidegate: env!("CARGO_PKG_VERSION").to_owned(),
            redis: said_by("redis-server", "--version").as_deref().and_then(redis_version).unwrap_or_else(unknown),
            rustc: said_by("rustc", "--version").unwrap_or_else(unknown),
            optimised: !cfg!(debug_assertions),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned());
    values.next()
}

/// The first line that a program prints when asked so.
fn said_by(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok().filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(|line| line.trim().to_owned())
}

/// `7.0.15` of `Redis server v=7.0.15 sha=… malloc=jemalloc-5.3.0 bits=64 build=…`.
fn redis_version(line: &str) -> Option<String> {
    line.split_whitespace().find_map(|word| word.strip_prefix("v=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_fields_are_read_from_what_programs_print() {
        assert_eq!(redis_version("Redis server v=7.0.15 sha=0:0 bits=64").as_deref(), Some("7.0.15"));
        assert_eq!(field("processor\t: 0\nmodel name\t: A B\nmodel name\t: C", "model name").as_deref(), Some("A B"));
        assert_eq!(field("", "model name"), None);
    }
}
