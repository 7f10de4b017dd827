//! `tidegate-bench overload`: that a whole run, however short, leaves nothing out and nothing behind, and that an
//! attacker is one. What is measured is no matter here.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidegate::bench::overload::attack::{Deeds, Kind};

use crate::support::bench::Noop;
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, eventually};

/// A run starts some sixty processes one after the other, in a build without optimisation.
const RUN_PATIENCE: Duration = Duration::from_secs(240);

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// What a run has put into the folder for temporary files and not removed.
fn left_behind(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("tidegate-")).collect()
}

#[tokio::test]
async fn a_run_measures_every_case_and_writes_its_files() {
    if Redis::stopped().is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"));
    command.args(["overload", "--smoke", "--server", env!("CARGO_BIN_EXE_tidegate")]);
    command.args(["--output", "docs/report.md", "--json", "all.json"]);
    command.env("TMPDIR", folder.path()).current_dir(folder.path());
    let ended = Process::spawn("tidegate-bench overload", &mut command).wait(RUN_PATIENCE).await;
    assert!(ended.status.success(), "{}", ended.stderr);

    let json = std::fs::read_to_string(folder.path().join("all.json")).unwrap();
    let results: Value = serde_json::from_str(&json).unwrap();
    let fairness = &results["fairness"];
    assert!(fairness["alone"][0]["sent"].as_u64() > Some(0), "{fairness}");
    let cases = list(&fairness["cases"]);
    let kinds: Vec<&Value> = cases.iter().map(|case| &case["kind"]).collect();
    assert_eq!(kinds, Kind::ALL.map(Kind::name));
    for case in &cases {
        let round = &case["rounds"][0];
        assert!(round["honest"]["sent"].as_u64() > Some(0) && round["control"]["sent"].as_u64() > Some(0), "{case}");
        assert_eq!(round["deeds"]["ready"], true, "{case}");
        assert!(round["memory"]["peak"].as_u64() > Some(0), "{case}");
    }
    let stores = list(&results["surges"]);
    assert_eq!(stores.iter().map(|store| &store["store"]).collect::<Vec<_>>(), ["memory", "redis"]);
    for store in &stores {
        for load in ["peak", "closed", "open"] {
            let surge = &store[load][0];
            assert!(surge["load"]["sent"].is_u64() && surge["recovery"]["looked_ms"].is_f64(), "{load} of {store}");
        }
    }

    let report = std::fs::read_to_string(folder.path().join("docs/report.md")).unwrap();
    let judged = list(&results["judged"]);
    assert_eq!(judged.len(), 3 * Kind::ALL.len() + 4 * 2 * stores.len());
    for judged in judged {
        let what = judged["what"].as_str().unwrap();
        assert!(report.contains(what) && ended.stdout.contains(what), "{what} is missing in:\n{report}");
    }
    assert!(report.contains("This was a short run"), "{report}");
    assert!(left_behind(folder.path()).is_empty(), "{:?}", left_behind(folder.path()));
}

#[tokio::test]
async fn each_kind_of_hostile_client_gets_to_what_it_is_there_for() {
    let noop = Noop::start(1).await;
    for kind in Kind::ALL {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"));
        command.args(["attack", kind.name(), "--connections", "2", "--target", &noop.address.to_string()]);
        let mut attacker = Process::spawn("tidegate-bench attack", &mut command);
        let deeds = eventually("it is ready", PATIENCE, async || {
            Deeds::last_of(&attacker.stdout()).filter(|deeds| deeds.ready)
        })
        .await;
        let calls = matches!(kind, Kind::Resets | Kind::Unread | Kind::Streams);
        assert!(deeds.streams > 0 || !calls, "{kind:?}: {deeds:?}");
        assert!(attacker.exit_status().is_none(), "{kind:?} goes on");
    }
}

#[tokio::test]
async fn an_attacker_goes_for_no_other_machine() {
    // The address of an interface of this machine that isn't loopback, if it has one: no packet leaves it.
    let Ok(socket) = std::net::UdpSocket::bind(("0.0.0.0", 0)) else { return };
    let Ok(()) = socket.connect(("192.0.2.1", 9)) else { return };
    let Ok(own) = socket.local_addr() else { return };
    let Ok(listener) = std::net::TcpListener::bind((own.ip(), 0)) else { return };
    if own.ip().is_loopback() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"));
    command.args(["attack", "resets", "--target", &listener.local_addr().unwrap().to_string()]);
    let ended = Process::spawn("tidegate-bench attack", &mut command).wait(PATIENCE).await;
    assert!(!ended.status.success() && ended.stderr.contains("another machine"), "{}", ended.stderr);
}
