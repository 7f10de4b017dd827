//! The program `tidegate-demo`: what it prints and writes, and that it leaves nothing behind, however it ends.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidegate::demo::stage::Stage;

use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, envoy, eventually, program};

/// Starting eight programs on a busy machine takes its time.
const RUN_MAX: Duration = Duration::from_secs(400);

/// A run in a folder of its own, which its processes can be told by.
struct Run {
    process: Process,
    folder: TempDir,
}

// === impl Run ===

impl Run {
    /// With a real Envoy.
    fn start(arguments: &[&str]) -> Run {
        Run::start_with(&[&["--envoy"], arguments].concat())
    }

    fn start_with(arguments: &[&str]) -> Run {
        Run::spawn(Command::new(env!("CARGO_BIN_EXE_tidegate-demo")), arguments)
    }

    fn spawn(mut command: Command, arguments: &[&str]) -> Run {
        let folder = TempDir::new().unwrap();
        command.arg("--output").arg(folder.path().join("page.html")).args(arguments);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("TMPDIR", folder.path());
        Run { process: Process::spawn("tidegate-demo", &mut command), folder }
    }

    /// The ids of the processes that it started and that still run: they inherit its folder for temporary files, were
    /// told of a file in it, or, as Redis, which writes its title over its environment, work in it.
    fn children(&self) -> Vec<u32> {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let ids =
            std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let names_it = |id: &u32| {
            let read = |what: &str| std::fs::read(format!("/proc/{id}/{what}")).unwrap_or_default();
            let place = std::fs::read_link(format!("/proc/{id}/cwd")).unwrap_or_default();
            let text = [read("cmdline"), read("environ"), place.into_os_string().into_encoded_bytes()].concat();
            *id != self.process.id() && String::from_utf8_lossy(&text).contains(&folder)
        };
        ids.filter(names_it).collect()
    }

    async fn is_under_way(&self) {
        eventually("the load has begun", RUN_MAX, async || self.process.stderr().contains(" of 600 s").then_some(()))
            .await;
        // Redis, the shop's three and the proxy. Tidegate is started with an empty environment.
        assert!(self.children().len() >= 5, "{:?}", self.children());
    }

    async fn leaves_nothing(&self) {
        let port = self.tidegate_port();
        eventually("all that it started has ended", PATIENCE, async || {
            let tidegate = std::net::TcpStream::connect(("127.0.0.1", port));
            (self.children().is_empty() && tidegate.is_err()).then_some(())
        })
        .await;
    }

    fn tidegate_port(&self) -> u16 {
        let said = self.process.stderr();
        let line = said.lines().find(|line| line.trim_start().starts_with("tidegate ")).expect("it says where");
        let address =
            line.split_whitespace().nth(1).and_then(|address| address.trim_end_matches(',').rsplit(':').next());
        address.and_then(|port| port.parse().ok()).expect("a port")
    }
}

fn can_run() -> bool {
    envoy::binary().is_some() && Redis::stopped().is_some()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().all(|entry| entry.file_name() == "page.html")
}

/// A run of all stages, to its end: the table, the page, and nothing left behind.
async fn tells_every_stage(mut run: Run, proxy: &str) {
    let ended = run.process.wait(RUN_MAX).await;
    assert!(ended.status.success(), "{}", ended.stderr);
    let results: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(results["proxy"], proxy);
    let stages = results["stages"].as_array().unwrap();
    assert_eq!(stages.len(), Stage::ALL.len());
    assert!(results["tidegate"].as_str().unwrap().starts_with("2 replicas"), "{}", results["tidegate"]);
    for (stage, expected) in stages.iter().zip(Stage::ALL) {
        assert_eq!(stage["stage"], serde_json::to_value(expected).unwrap());
        let during = &stage["during"];
        let kinds = ["good", "refused", "overloaded", "ejected", "shed", "timed_out", "failed", "unsent"];
        let all: u64 = kinds.iter().map(|kind| during[*kind].as_u64().unwrap()).sum();
        assert_eq!(during["offered"], all, "every call has one outcome");
        assert_eq!(stage["points"].as_array().unwrap().len(), 56);
        let limited = [Stage::LocalLimit, Stage::GlobalLimit].contains(&expected);
        assert_eq!(stage["limit"].is_f64(), limited, "{stage}");
        if expected == Stage::Adaptive {
            // Too short to tell what the limit does; it is seen, and so are the workers that go and come back.
            let points = stage["points"].as_array().unwrap();
            let limit = points.last().unwrap()["limit"].as_f64();
            assert!(limit.is_some_and(|limit| (20.0..=400.0).contains(&limit)), "{stage}");
            let could: BTreeSet<u64> = points.iter().map(|point| point["capacity"].as_f64().unwrap() as u64).collect();
            assert_eq!(could, BTreeSet::from([100, 200]));
            assert!(stage["capacity"].as_f64().unwrap() < 200.0, "{stage}");
        } else {
            assert_eq!(during["refused"].as_u64().unwrap() > 0, limited, "{during}");
        }
        // Each is announced before it begins.
        assert!(ended.stderr.contains(&format!("] {}: ", expected.name())), "{}", ended.stderr);
    }
    // On a busy machine it may be too slow before it is too full.
    let [full, slow] = ["overloaded", "timed_out"].map(|kind| stages[0]["during"][kind].as_u64().unwrap());
    assert!(full + slow > 0, "pass-through overloads the inventory: {}", stages[0]["during"]);
    let page = std::fs::read_to_string(run.folder.path().join("page.html")).unwrap();
    assert!(page.ends_with("</html>\n") && page.contains("global limit"));
    assert!(is_empty(run.folder.path()), "it removes its files");
    run.leaves_nothing().await;
}

#[tokio::test]
async fn a_run_tells_every_stage_in_a_table_and_on_a_page_and_leaves_nothing() {
    if !can_run() || program("prometheus", None, "REQUIRE_PROMETHEUS").is_none() {
        return;
    }
    tells_every_stage(Run::start(&["--length", "3s", "--json"]), "envoy").await;
}

/// The same with the proxy that is beside it.
#[tokio::test]
async fn a_run_without_envoy_tells_every_stage_with_the_bundled_proxy() {
    if Redis::stopped().is_none() || program("prometheus", None, "REQUIRE_PROMETHEUS").is_none() {
        return;
    }
    tells_every_stage(Run::start_with(&["--length", "3s", "--json"]), "tidegate-proxy").await;
}

#[tokio::test]
async fn without_redis_one_tidegate_counts_in_memory() {
    if envoy::binary().is_none_or(|envoy| !envoy.starts_with(env!("CARGO_MANIFEST_DIR"))) {
        println!("skipped: Envoy is not in .tools/, and here PATH has nothing");
        return;
    }
    let nothing = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-demo"));
    // Neither redis-server nor setpriv.
    command.env("PATH", nothing.path());
    let mut run = Run::spawn(command, &["--envoy", "--stages", "global_limit", "--length", "2s", "--json"]);
    let ended = run.process.wait(RUN_MAX).await;
    assert!(ended.status.success(), "{}", ended.stderr);
    let results: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(results["tidegate"], "1 replica, in memory (redis-server is not installed)");
    assert!(results["stages"][0]["during"]["refused"].as_u64().unwrap() > 0, "{}", results["stages"][0]["during"]);
    run.leaves_nothing().await;
}

#[tokio::test]
async fn being_asked_to_end_ends_everything_that_a_run_has_started() {
    if !can_run() {
        return;
    }
    let mut run = Run::start(&["--stages", "global_limit", "--length", "600s"]);
    run.is_under_way().await;
    run.process.terminate();
    ends_everything(run).await;
}

/// As Ctrl-C does it.
#[tokio::test]
async fn an_interrupt_from_the_keyboard_ends_everything_with_the_bundled_proxy() {
    if Redis::stopped().is_none() {
        return;
    }
    let run = Run::start_with(&["--stages", "global_limit", "--length", "600s"]);
    run.is_under_way().await;
    let interrupted = Command::new("sh").args(["-c", &format!("kill -INT {}", run.process.id())]).status();
    assert!(interrupted.unwrap().success(), "it still runs");
    ends_everything(run).await;
}

/// A run that was asked to end does, with all that it has started, and says so.
async fn ends_everything(mut run: Run) {
    let ended = run.process.wait(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(130), "{}", ended.stderr);
    assert!(ended.stderr.contains("interrupted; everything that was started has been ended"), "{}", ended.stderr);
    assert!(is_empty(run.folder.path()), "it removes its files");
    run.leaves_nothing().await;
}

#[tokio::test]
async fn what_a_run_has_started_does_not_outlive_it_when_it_is_killed() {
    if !can_run() || Command::new("setpriv").arg("--version").output().is_err() {
        return;
    }
    let mut run = Run::start(&["--stages", "pass_through", "--length", "600s"]);
    run.is_under_way().await;
    run.process.kill();
    run.leaves_nothing().await;
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_said_before_anything_is_started() {
    let folder = TempDir::new().unwrap();
    let run = |config: &Path, output: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-demo"));
        command.arg("--config").arg(config).args(["--envoy", "--output"]).arg(folder.path().join(output));
        Process::spawn("tidegate-demo", &mut command)
    };
    let ended = run(folder.path(), "page.html").wait(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(69));
    assert!(ended.stderr.contains("pass_through.yaml") && ended.stderr.contains("--config"), "{}", ended.stderr);

    let ended = run(folder.path(), "no/such/folder.html").wait(PATIENCE).await;
    assert!(ended.stderr.contains("no/such/folder.html"), "{}", ended.stderr);
}
