//! What the tests share: the servers they run against and the clients they ask with.
//!
//! Everything is real (redis-server, Envoy, our own program as cargo built it), listens on a port or socket that the
//! system chose, writes to a temporary directory of its own, and is killed by its process id when dropped. So tests
//! run beside each other and beside whatever else the machine does.

pub(crate) mod bench;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod collector;
pub(crate) mod envoy;
pub(crate) mod frames;
pub(crate) mod pauses;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod redis_tls;
pub(crate) mod relay;
pub(crate) mod sentinel;
pub(crate) mod shop;
pub(crate) mod store;
pub(crate) mod tidegate;
pub(crate) mod upstream;
pub(crate) mod xds;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

/// How long anything may take that only a broken program fails to do. Long, because it costs nothing when all is
/// well, two busy cores are slow, and a sentinel that was held up decides nothing for half a minute.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Asks `probe` until it has an answer, and fails the test when it has none within `deadline`.
///
/// The only place in the tests that sleeps: everything else waits for a condition through this.
pub(crate) async fn eventually<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(started.elapsed() < deadline, "within {deadline:?} it should have happened that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The path of a program that tests may have to do without: `preferred` if it exists, else the first of that name in
/// `PATH`. Where there is none the test prints so and is skipped, unless the environment variable `required_by` is 1.
pub(crate) fn program(name: &str, preferred: Option<PathBuf>, required_by: &str) -> Option<PathBuf> {
    let in_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).map(|folder| folder.join(name)).collect::<Vec<_>>());
    let found = preferred.into_iter().chain(in_path).find(|candidate| candidate.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os(required_by).is_none_or(|value| value != "1"),
            "{name} is not installed and {required_by}=1 demands it; `make tools` installs it"
        );
        println!("skipped: {name} is not installed; `make tools` installs it");
    }
    found
}
